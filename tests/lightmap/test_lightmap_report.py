"""The report of a day: what it measures on, PCA, block compression, errors of light, and which form it names."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from lightmap import checkpoints, page
from lightmap.baselines import Choice, Pca
from lightmap.block_frames import block_forms, block_scores, missing_codec
from lightmap.compressor import Compressor
from lightmap.data import Day, Encoding, codes_of, load_day, load_half_hours, unit
from lightmap.evaluation import LightError, blended, draw_sample, score, stack_of, stored
from lightmap.report_text import describe_report
from lightmap.shape import Shape
from lightmap.summary import Report, build_report, evaluation_sample, front, ranked, winner
from lightmap.training import train
from tests.support.lightmap_days import TINY, halved, moving_frames, save_frames, scene, scene_folder


def random_day(height: int, width: int, count: int = 4, hdr: bool = False, seed: int = 0) -> Day:
    """A day of smooth noise; HDR light has a peak of 60 over 4x4 texels in one frame."""
    random = np.random.default_rng(seed)
    frames = random.random((count, height, width, 3)).cumsum(axis=1).cumsum(axis=2)
    frames = (frames / frames.max()).astype(np.float32)
    if not hdr:
        frames, encoding = (frames * 255).astype(np.uint8), Encoding()
    else:
        frames[1, 4:8, 4:8] = 60
        encoding = Encoding(True, float(np.median(frames)), 60.0)
    codes = np.stack([codes_of(frame, encoding) for frame in frames], axis=1)
    mask = torch.ones(height * width, dtype=torch.bool)
    return Day(height, width, torch.from_numpy(codes), mask, encoding, 32 if hdr else 8, ("a",) * count, 1000)


def model_of(day: Day, **changes) -> Compressor:
    shape = Shape(day.height, day.width, "f1", 3, 1, 8, 8, 2, 8, 2, 1, 30.0, 30.0)
    return Compressor(dataclasses.replace(shape, **changes), torch.Generator().manual_seed(0)).eval()


def report_on(day: Day, **changes) -> dict:
    facts = checkpoints.describe_day(day)
    return build_report(model_of(day, **changes), evaluation_sample(day, "quick"), None, facts, {})


# --- the sample ------------------------------------------------------------------------------------------------------


def test_a_small_day_is_measured_on_every_texel_of_its_mask_once():
    day = random_day(9, 14)
    mask = torch.zeros(9, 14, dtype=torch.bool)
    mask[3:, 1:] = True
    sample = draw_sample(dataclasses.replace(day, mask=mask.flatten()), 10_000)
    assert sorted(sample.texels.tolist()) == mask.flatten().nonzero()[:, 0].tolist()
    y, x = sample.blocks // 14, sample.blocks % 14
    assert (y // 4 == y[:, :1] // 4).all() and (x // 4 == x[:, :1] // 4).all()  # a block each
    assert len(sample.bright) == 0


def test_a_large_day_is_measured_on_whole_blocks_everywhere():
    day = random_day(200, 120, 1)
    sample, again = draw_sample(day, 1600), draw_sample(day, 1600)
    assert len(sample.texels) == 1600 and torch.equal(sample.texels, again.texels) and bool(sample.inside.all())
    assert {int(texel) // 120 // 50 for texel in sample.texels} == {0, 1, 2, 3}
    sparse = torch.zeros(200 * 120, dtype=torch.bool)
    sparse[::37] = True
    found = draw_sample(dataclasses.replace(day, mask=sparse), 100).texels
    assert 60 < len(found) <= 100 and bool(sparse[found].all())


def test_half_hours_of_the_sample_are_those_of_the_files():
    day, half = scene()
    sample = draw_sample(day, 320)
    few = load_half_hours(scene_folder(), day, sample.texels)
    assert torch.equal(few.codes, half.codes[sample.texels]) and len(few.codes) == 320
    assert np.array_equal(few.image(7).reshape(-1, 3)[sample.texels], unit(few.codes)[:, 7])


# --- PCA -------------------------------------------------------------------------------------------------------------


def test_pca_with_all_components_is_exact_and_counts_its_bytes():
    day = random_day(5, 8)
    pca, sample = Pca.of(day), draw_sample(day, 100)
    choice = Choice(12, 1)
    rebuilt = pca.rebuilt(choice, pca.weight_maps({choice})[1], sample.texels)
    assert (rebuilt - stack_of(day, sample.texels)).abs().max() < 0.02  # its weights have 8 bits
    assert pca.bytes_of(Choice(3, 2)) == 3 * 4 * 3 + 4 * (12 * 4 + 6)
    stack = stack_of(day, sample.texels)
    assert torch.allclose(blended(stack)[:, 9:], (stack[:, 9:] + stack[:, :3]) / 2)
    assert pca.best_at([10], sample, None) == {10: None}


def test_pca_at_lower_resolution_is_that_of_averaged_weights(monkeypatch):
    """Against one average pooling of all weights; strips that cut through the cells must not matter."""
    monkeypatch.setattr("lightmap.baselines.STRIP", 5 * 11)
    day = random_day(23, 11)
    pca, texels = Pca.of(day), torch.arange(23 * 11)
    choices = {Choice(2, 2), Choice(4, 3), Choice(1, 10)}
    maps = pca.weight_maps(choices)
    for choice in choices:
        weights = ((stack_of(day, texels) - pca.mean) @ pca.basis[:, : choice.rank]).view(1, 23, 11, -1)
        pooled = torch.nn.functional.avg_pool2d(weights.permute(0, 3, 1, 2), choice.scale, ceil_mode=True,
                                                count_include_pad=False)[0].flatten(1).T  # fmt: skip
        step = (pooled.amax(dim=0) - pooled.amin(dim=0)) / 255
        assert ((maps[choice.scale][:, : choice.rank] - pooled).abs() <= 0.51 * step + 1e-6).all()
        assert len(pca.rebuilt(choice, maps[choice.scale], texels)) == len(texels)


def test_pca_takes_the_best_of_what_fits():
    day, half = scene()
    sample = draw_sample(day, 2048)
    pca, few = Pca.of(day), half.only(sample.texels)
    found = pca.best_at([4000, 60_000], sample, few)
    for budget, best in found.items():
        assert best["bytes"] <= budget
        for choice in pca.choices(budget):
            alone = pca.rebuilt(choice, pca.weight_maps({choice})[choice.scale], sample.texels)
            assert score(alone, None, None, sample, None)["psnr_hours"] <= best["psnr_hours"] + 1e-4
    assert found[60_000]["psnr_hours"] > found[4000]["psnr_hours"] + 10


# --- forms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"latent_scale": 2}, {"latent_mode": "direct", "latent_scale": 2}], ids=str)
def test_forms_decode_as_the_whole_latent_map_does(changes):
    """Maps of which a report makes a few texels only, against the quantisation of all."""
    from lightmap.compressor import upsample
    from lightmap.forms import forms_of
    from lightmap.quantised import quantise_model

    day = random_day(9, 14)
    model, size, texels = model_of(day, **changes), (9, 14), torch.tensor([0, 5, 77, 125, 30])
    forms, whole = forms_of(model, checkpoints.describe_day(day), True), model.compute_latent_map()
    stored_map = quantise_model(model)
    want = {"latent_f32_f2": upsample(whole, size, model.shape.latent_size, texels),
            "latent_q8_f2": upsample(stored_map.dequantised(), size, stored_map.latent_size, texels)}  # fmt: skip
    if model.shape.latent_mode == "f1":
        half = halved(whole, model.shape.latent_size, size)
        want["latent_q8_half_f2"] = upsample(half.dequantised(), size, half.latent_size, texels)
        assert forms["latent_q8_half_f2"].bytes == half.codes.size + forms["latent_q8_f2"].bytes - stored_map.codes.size
    for name, latents in want.items():
        assert torch.allclose(forms[name].build(texels)[1], latents, atol=2e-5), name


def test_ranking_front_and_winner():
    rows = {
        "files": {"bytes": 50, "memory_bytes": 400, "psnr_hours": None, "exact": True, "runtime": False},
        "big": {"bytes": 90, "memory_bytes": 90, "psnr_hours": 60.0, "runtime": True},
        "good": {"bytes": 40, "memory_bytes": 40, "psnr_hours": 45.0, "runtime": True},
        "twin": {"bytes": 41, "memory_bytes": 41, "psnr_hours": 45.0, "runtime": True},
        "late": {"bytes": 3, "memory_bytes": 80, "psnr_hours": 44.0, "runtime": False},
        "poor": {"bytes": 20, "memory_bytes": 20, "psnr_hours": 30.0, "runtime": True},
        "unknown": {"bytes": 2, "memory_bytes": 2, "psnr_hours": None, "runtime": True},
    }
    ranking = ranked(rows)
    assert ranking == ["files", "big", "good", "twin", "late", "poor", "unknown"]
    assert front(rows) == ["files", "good", "late"]
    assert winner(rows, 91) == "big" and winner(rows, 90) == "good"
    assert winner(rows, 41) == "good" and winner(rows, 20) is None


# --- block compression -----------------------------------------------------------------------------------------------


def needs_codec():
    if missing_codec():
        pytest.skip(f"{missing_codec()}; pip install -r requirements/lightmap.txt")


@pytest.mark.parametrize("form", [0, 1])
def test_blocks_decode_as_an_independent_decoder_has_them(form):
    """Whole frames, encoded at once and decoded by texture2ddecoder, against the blocks of the report."""
    needs_codec()
    decoder = pytest.importorskip("texture2ddecoder", reason="pip install texture2ddecoder")
    from transcode.codecs import encode_blocks

    day = random_day(10, 13)
    form = block_forms(day)[form]
    found = block_scores(form, draw_sample(day, 1000), None)
    squares = []
    for frame in range(day.n_frames):
        codes = np.rint(day.image(frame) * 255).astype(np.uint8)
        payload = encode_blocks(form.codec, codes)
        assert len(payload) * day.n_frames == form.bytes_of(day)
        back = np.frombuffer(getattr(decoder, f"decode_{form.codec}")(payload, 16, 12), np.uint8).reshape(12, 16, 4)
        squares.append(((back[:10, :13, 2::-1].astype(float) - codes) / 255) ** 2)
    assert found["psnr_hours"] == pytest.approx(-10 * np.log10(np.mean(squares)), abs=0.02)


def test_bc6h_keeps_a_lamp_and_masked_texels_do_not_count():
    needs_codec()
    day = random_day(12, 16, hdr=True)
    mask = torch.ones(12, 16, dtype=torch.bool)
    mask[:, 10:] = False
    day = dataclasses.replace(day, mask=mask.flatten())
    sample = draw_sample(day, 1000)
    rows = {form.name: block_scores(form, sample, None) for form in block_forms(day)}
    assert list(rows) == ["bc6h", "bc7_log", "bc1_log"]
    for row in rows.values():
        assert row["light"]["brightest"]["light"] == pytest.approx(60, rel=1e-3)
    assert rows["bc6h"]["light"]["brightest"]["relative_error"] < 0.02
    assert rows["bc6h"]["psnr_hours"] > rows["bc1_log"]["psnr_hours"] + 3


def test_without_an_encoder_bytes_are_known_and_quality_is_not(monkeypatch):
    monkeypatch.setattr("lightmap.summary.missing_codec", lambda: "this codec needs the package x")
    report = report_on(random_day(9, 14))
    assert report["rivals"]["bc7"]["bytes"] == 3 * 4 * 16 * 4 and report["rivals"]["bc7"]["psnr_hours"] is None
    text = describe_report(report)
    assert "needs the package x; pip install -r requirements/lightmap.txt" in text
    assert report["ranking"][-1] in ("bc1", "bc7") and report["better_rival"] not in ("bc1", "bc7")


# --- light -----------------------------------------------------------------------------------------------------------


def test_errors_of_light_are_those_of_plain_numpy():
    day = random_day(8, 8, hdr=True)
    texels = torch.arange(64)
    source = stack_of(day, texels)
    decoded = stored(source + 0.05 * torch.randn(source.shape, generator=torch.Generator().manual_seed(0)), 32)
    found = LightError(day)
    found.add(decoded[:20], source[:20], texels[:20])
    found.add(decoded[20:], source[20:], texels[20:])
    result = found.result()
    x, d = (day.encoding.decode(part.numpy()).astype(float) for part in (source, decoded))
    floor = 0.01 * day.encoding.scale
    assert result["floor"] == pytest.approx(floor)
    assert result["relative_rmse"] == pytest.approx(np.sqrt(((d - x) ** 2).mean()) / x.mean())
    relative = np.abs(d - x) / np.maximum(x, floor)
    assert result["mean_relative_error"] == pytest.approx(relative.mean())
    lit = x >= floor
    stops = np.abs(np.log2(np.maximum(d[lit], floor) / x[lit]))
    assert result["mean_stops"] == pytest.approx(stops.mean()) and result["worst_stops"] == pytest.approx(stops.max())
    worst = result["worst_texel"]
    row, column = np.unravel_index(relative.argmax(), relative.shape)
    assert (worst["x"], worst["y"]) == (row % 8, row // 8) and worst["hour"] == day.times()[column // 3]
    assert worst["channel"] == "RGB"[column % 3] and worst["light"] == pytest.approx(x[row, column])


def test_a_lamp_outside_of_the_sample_is_measured(monkeypatch):
    day = random_day(64, 64, hdr=True)
    sample = draw_sample(day, 256)
    lamp = {(y * 64 + x) for y in range(4, 8) for x in range(4, 8)}
    assert not lamp & set(sample.texels.tolist()) and lamp <= set(sample.bright.tolist())
    stack, bright = stack_of(day, sample.texels), stack_of(day, sample.bright)
    light = score(stack, None, bright * 0.9, sample, None)["light"]
    assert light["mean_relative_error"] == 0
    assert light["brightest"]["light"] == pytest.approx(60, rel=1e-3) and light["brightest"]["relative_error"] > 0.2
    assert light["worst_texel"]["relative_error"] >= light["brightest"]["relative_error"]


def test_figures_of_high_range_say_what_they_are_of():
    report = report_on(random_day(9, 14, hdr=True))
    text = describe_report(report)
    assert report["values"].startswith("log encoding of light") and report["values"] in text
    assert "in linear light" in text and "stops" in text and "60 ->" in text and "counts as dark" in text
    scores = page._scores(report)
    assert "stops" in scores["light"] and all(form["mean_stops"] is not None for form in scores["forms"][1:])
    assert "- dB" not in text and "half" not in text.replace("half size", "")  # no half-hours are known


def test_pages_show_reports_of_the_version_before():
    forms = {"f1_f2": {"bytes": 5, "of_png": 0.5, "psnr_hours": 30.0, "psnr_half_hours": None}}
    scores = page._scores({"psnr_hours": 31.0, "psnr_half_hours": None, "forms": forms})
    assert scores["forms"][0]["title"] == "F1 + F2, float32" and scores["forms"][0]["of_files"] == 0.5
    assert page._scores({"forms": 3}) is None and page._scores(None) is None


class Count:
    calls = 0

    def __call__(self):
        self.calls += 1


def test_progress_is_counted_in_advance():
    day = random_day(9, 14, hdr=True)
    for whole in (False, True):
        maker, count = Report(model_of(day), draw_sample(day, 100), None, checkpoints.describe_day(day), whole), Count()
        maker.build({}, count)
        assert count.calls == maker.ticks


def test_a_quick_report_agrees_with_a_full_one(monkeypatch):
    monkeypatch.setattr("lightmap.summary.missing_codec", lambda: "this codec needs the package x")
    day, half = scene()
    model, facts = model_of(day), checkpoints.describe_day(day)
    quick = draw_sample(day, 1024)
    few = build_report(model, quick, half.only(quick.texels), facts, {})
    whole = evaluation_sample(day, "full")
    full = build_report(model, whole, half.only(whole.texels), facts, {}, whole=True)
    assert full["ssim_hours"] is not None and few["ssim_hours"] is None
    for key in ("psnr_hours", "psnr_half_hours"):
        assert few[key] == pytest.approx(full[key], abs=0.5)
        assert full[key] == pytest.approx(full["forms"]["f1_f2"][key], abs=1e-3)


# --- runs ------------------------------------------------------------------------------------------------------------


def run(folder, data, **changes) -> int:
    given = {**TINY, "epochs": 1, "data_dir": str(data), "out_dir": str(folder), **changes}
    return train(given, lambda _: None, True)


def test_a_folder_with_a_run_is_refused_and_overwrite_leaves_nothing_of_it(tmp_path, refused):
    data, out = save_frames(tmp_path / "data", moving_frames()), tmp_path / "out"
    assert run(out, data, compute_latent=True, report="none") == 0
    assert not (out / "report.json").exists()
    for name in ("notes.txt", "tensorboard/events.out.tfevents.1.old"):
        (out / name).write_text("mine")
    made = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with refused("out", "best.ckpt", "--resume", "--overwrite"):
        run(out, data)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == made
    with refused("--resume --overwrite"):
        run(out, data, resume=True, overwrite=True)
    (tmp_path / "few").mkdir()
    with refused("found 0"):  # what is wrong is found before anything is removed
        run(out, tmp_path / "few", overwrite=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == made
    assert run(out, data, overwrite=True) == 0
    left = {path.name for path in out.iterdir()}
    assert left == {"best.ckpt", "last.ckpt", "report.json", "tensorboard", "notes.txt"}
    assert not (out / "tensorboard" / "events.out.tfevents.1.old").exists()


def test_jpeg_days_are_compared_with_their_own_bytes(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for index, frame in enumerate(moving_frames()):
        PillowImage.fromarray(frame).save(data / f"tod_{index:02}.jpg", quality=90)
    assert run(tmp_path / "out", data) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    size = sum(path.stat().st_size for path in data.iterdir())
    assert report["files"] == {"kind": "JPEG", "bytes": size} and report["rivals"]["files"]["bytes"] == size
    form = report["forms"]["f1_f2"]
    assert form["of_files"] == pytest.approx(form["file_bytes"] / size)
    assert report["export"].endswith(f"--ckpt {tmp_path}/out/best.ckpt --out_dir {tmp_path}/out")
    assert load_day(data, lambda _: None).file_bytes == size


def test_one_frame_trains_and_is_reported(tmp_path):
    data = save_frames(tmp_path / "data", moving_frames(1))
    assert run(tmp_path / "out", data, compute_latent=True) == 0
    assert (tmp_path / "out" / "viewer.html").is_file()


# --- what is written in parts, and the benchmark ---------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"latent_scale": 2}], ids=str)
def test_a_latent_map_written_in_parts_is_the_file_that_numpy_writes(tmp_path, changes, monkeypatch):
    from lightmap import compressor, exports

    model = model_of(random_day(9, 14), **changes)
    whole = compressor.upsample(model.compute_latent_map(), (9, 14), model.shape.latent_size).view(9, 14, 3)
    np.save(tmp_path / "want.npy", whole.numpy())
    monkeypatch.setattr(compressor, "CHUNK", 25)
    exports.write_latent_map(tmp_path / "got.npy", model)
    want, got = ((tmp_path / name).read_bytes() for name in ("want.npy", "got.npy"))
    assert got[:128] == want[:128] and len(got) == len(want)
    assert np.allclose(np.load(tmp_path / "got.npy"), whole, atol=1e-6)


def test_the_benchmark_s_days_are_named_and_their_gates_can_be_missed(refused):
    from bench.lightmap import DAYS, chosen_days, day_gates, passed

    assert chosen_days("all") == list(DAYS) and chosen_days("256, defaults;512 HDR, defaults") == [
        "256, defaults", "512 HDR, defaults",
    ]  # fmt: skip
    with refused("--days", "256, defaults", "nothing"):
        chosen_days("nothing")
    report = report_on(random_day(9, 14))
    form = next(iter(report["forms"].values()))
    form["pca_at_equal_bytes"] = {"psnr_hours": 20.0}
    for psnr, memory, expected in ((21.0, 10, [True, True]), (19.0, 10, [True, False]), (21.0, 10**6, [False, True])):
        form.update(psnr_hours=psnr, memory_bytes=memory)
        assert [passed(gate) for gate in day_gates("x", report)] == expected
