"""Latent mode basis: starts as PCA of the day, never falls below it, and goes out in every form."""

from __future__ import annotations

import dataclasses
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.lightmap import SMALL
from lightmap import checkpoints
from lightmap.baselines import Choice, Pca
from lightmap.basis import SizeChoice, bands, choose_shape, lamp_texels, shipped_bytes, start_from_pca
from lightmap.basis_step import sine_slopes
from lightmap.compressor import Compressor, bilinear_neighbours, render
from lightmap.data import load_day
from lightmap.evaluation import draw_sample
from lightmap.exports import onnx_bytes, script_bytes, write_exports
from lightmap.options import make_options, parse_args, parse_size
from lightmap.rendering import from_checkpoint, from_exports
from lightmap.sample_scene import Scene
from lightmap.shape import Shape
from lightmap.siren import DaySiren
from lightmap.summary import build_report
from lightmap.target import ABOVE, BELOW, RUNS, TRIAL_TEXELS, TargetSearch, part_of
from lightmap.trainer import Trainer
from lightmap.training import train
from tests.support.lightmap_days import (
    LAMP_AT,
    LAMP_LIGHT,
    LAMP_SIDE,
    TINY,
    StopsLater,
    moving_frames,
    save_frames,
    scene,
    tiny,
    write_lamp_day,
)

CPU = torch.device("cpu")
QUICK = {"epochs": 4, "batch_size": 4096, "samples_per_epoch": 100_000}
DOCUMENTED = ("--hidden_f1 32 --hidden_f2 64 --latent_dim 32", "--latent_dim 16 --hidden_f1 16 --hidden_f2 32")


def trainer_of(day, **values) -> Trainer:
    torch.set_num_threads(1)
    return Trainer(make_options({**QUICK, **values}), day, CPU, say=lambda _: None)


# --- options and sizes -----------------------------------------------------------------------------------------------


def test_the_default_is_basis_and_the_documented_flags_mean_f1():
    assert make_options({}).latent_mode == make_options({"latent_dim": 6}).latent_mode == "basis"
    for flags in DOCUMENTED:
        options = make_options(parse_args(flags.split()))
        assert options.latent_mode == "f1" and options.layers_f2 == 4 and options.latent_scale == 1
    assert make_options(SMALL).hidden_f2 == 32 and make_options({"latent_mode": "f1"}).latent_dim == 32
    assert [parse_size("--bytes", text) for text in ("", "1500", "200k", "1.5M")] == [0, 1500, 200_000, 1_500_000]


def test_flags_that_do_not_go_together_end_in_one_line(refused):
    for flags, words in (
        ("--latent_mode basis --hidden_f1 16", ("--hidden_f1", "--latent_mode f1")),
        ("--lr_grid 0.1", ("--lr_grid", "direct")),
        ("--bytes 20k --target_psnr 30", ("--bytes and --target_psnr",)),
        ("--bytes 20k --hidden_f1 16", ("--bytes", "f1")),
        ("--target_psnr 30 --latent_mode direct", ("--target_psnr", "direct")),
        ("--bytes much", ("--bytes much", "200k")), ("--bytes=-5k", ("--bytes",)),
        ("--engine fused", ("--engine fused", "basis")),
    ):  # fmt: skip
        with refused(*words):
            make_options(parse_args(flags.split()))
    for flags in ({}, {"latent_dim": 3, "latent_scale": 2}):
        with refused("--bytes 100", "at least"):
            trainer_of(scene()[0], bytes="100", **flags)


def test_size_is_kept_and_buys_quality():
    day, _ = scene()
    sizes = {}
    for n_bytes in (3_000, 8_000, 25_000):
        trainer = trainer_of(day, bytes=str(n_bytes))
        sizes[n_bytes] = trainer.best_db
        assert shipped_bytes(trainer.shape) <= n_bytes
        stored = trainer.model.grid.numel() + 2 * sum(value.numel() for value in trainer.model.f2.parameters())
        assert shipped_bytes(trainer.shape) == stored
    assert sizes[3_000] + 2 < sizes[8_000] < sizes[25_000] - 2
    usual = choose_shape(make_options({}), day)
    assert usual.height * usual.width * day.n_frames > 4 * usual.latent_dim * np.prod(usual.latent_size)
    sizes = SizeChoice(make_options({}), day)
    front = sizes.front()
    assert len(front) > 5 and front == sorted(front)
    errors = [sizes.error(scale, channels) for _, channels, scale in front]
    assert all(larger < smaller for smaller, larger in zip(errors, errors[1:]))
    assert all(size == shipped_bytes(sizes.shape(channels, scale)) for size, channels, scale in front)
    assert choose_shape(make_options({"latent_dim": 40}), day).latent_dim == 40  # more than are measured
    given = choose_shape(make_options({"hidden_f2": 500, "layers_f2": 3}), day)  # more bytes than all else takes
    assert (given.hidden_f2, given.layers_f2) == (500, 3)
    given = choose_shape(make_options({"latent_dim": 3, "latent_scale": 2, "hidden_f2": 7, "layers_f2": 2}), day)
    assert (given.latent_dim, given.latent_scale, given.hidden_f2, given.layers_f2) == (3, 2, 7, 2)


def test_a_target_is_met_from_short_runs_and_corrected_by_whole_ones(tmp_path, monkeypatch):
    day, said = load_day(save_frames(tmp_path / "data", moving_frames(24, 18, 22))), []
    given = {"data_dir": str(tmp_path / "data"), "target_psnr": 36.0, "report": "none", "epochs": 1,
             "samples_per_epoch": 20_000, "batch_size": 2048, "out_dir": str(tmp_path / "out")}  # fmt: skip
    torch.set_num_threads(1)
    assert train(given, said.append, True) == 0
    found = checkpoints.load(tmp_path / "out" / "best.ckpt")
    assert found.held_out_db >= 36 - BELOW and any(line.startswith("target   36 dB") for line in said)
    whole = trainer_of(day, latent_dim=12)  # what ends far above takes more
    assert shipped_bytes(found.model.shape) < shipped_bytes(whole.shape) and found.held_out_db < whole.best_db


@pytest.mark.parametrize("trial_is_off", [-1.5, 0.0, 1.5])
@pytest.mark.parametrize("target", [22.0, 30.0, 38.0, 90.0])
def test_whole_runs_correct_what_short_ones_say(target, trial_is_off):
    day, said = scene()[0], []
    search = TargetSearch(make_options({"target_psnr": target}), day, CPU, said.append)

    def truth(n: int) -> float:
        return search.pca[n] + 2 + 0.05 * n  # what training adds

    search._trial = lambda n, *_: truth(n) - search.pca[n] + trial_is_off
    search._trainer = lambda n: search.runs.setdefault(n, SimpleNamespace(best_db=truth(n)))
    trainer = search.first()
    while trainer:
        trainer = search.again(trainer)
    best = next(n for n, run in search.runs.items() if run is search.best())
    good = [n for n in range(len(search.front)) if truth(n) >= target - BELOW]
    assert len(search.runs) <= RUNS and (best in good or not good)
    assert not good or truth(best) <= target + ABOVE or best == good[0]
    assert any("the best there are" in line for line in said) == (not good)


def test_trials_of_a_large_day_see_strips_of_it():
    day, _ = scene()
    assert part_of(day) is day
    large = dataclasses.replace(day, height=4096, width=4096, frames=None, mask=torch.ones(1 << 24, dtype=torch.bool))
    rows = part_of(large).mask.view(4096, 4096)[:, 0]
    assert 0.5 < float(rows.sum()) * 4096 / TRIAL_TEXELS < 4.5 and not rows[0] and int(rows.sum()) >= 64


# --- training --------------------------------------------------------------------------------------------------------


def test_start_is_pca_and_training_gains_on_it(tmp_path):
    day, _ = scene()
    trainer = trainer_of(day, latent_dim=5, latent_scale=1)
    pca, sample, size = Pca.of(day), draw_sample(day, 1 << 15), shipped_bytes(trainer.shape)
    same = pca.rebuilt(Choice(5, 1), pca.weight_maps({Choice(5, 1)})[1], torch.arange(day.texels))
    model = Compressor(trainer.shape)
    start_from_pca(model, day, CPU)
    with torch.no_grad():
        assert (model.f2(model.latents(torch.arange(day.texels))) - same).abs().max() < 0.02
    before, rival = trainer.best_db, pca.best_at([size], sample, None)[size]["psnr_hours"]
    assert trainer.train(tmp_path, quiet=True)
    assert trainer.best_db > before + 1 and trainer.best_db > rival + 2
    loaded = checkpoints.load(tmp_path / "best.ckpt")
    for value in loaded.model.f2.state_dict().values():
        assert torch.equal(value, value.half().float())  # what is measured is what a file of float16 holds


def still_frames(size: int, other: float) -> np.ndarray:
    """24 frames that are the scene's noon, but for one at the hour `other`."""
    noon, once = (Scene(size).light(hour).clip(0, 1) * 255 for hour in (12, other))
    return np.stack([once if index == 7 else noon for index in range(24)]).astype(np.uint8)


EXTREME_DAYS = {
    "still": still_frames(24, 12), "one hour": still_frames(40, 22), "black": np.zeros((24, 9, 14, 3), np.uint8),
    "dark": moving_frames() // 100, "noise": np.random.default_rng(1).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8),
    "one texel": moving_frames(24, 1, 1), "two frames": moving_frames(2),
    "one bright texel": np.pad(np.full((24, 1, 1, 3), 255, np.uint8), ((0, 0), (5, 3), (8, 5), (0, 0))),
}  # fmt: skip


@pytest.mark.parametrize("name", EXTREME_DAYS)
def test_no_day_ends_below_pca_in_as_many_bytes(tmp_path, name):
    day = load_day(save_frames(tmp_path / "data", EXTREME_DAYS[name]), say=lambda _: None)
    trainer = trainer_of(day, epochs=1, samples_per_epoch=2048, batch_size=256)
    assert trainer.train(tmp_path, quiet=True)
    report = build_report(checkpoints.load(tmp_path / "best.ckpt").model, draw_sample(day, 1000), None,
                          checkpoints.describe_day(day), {})  # fmt: skip
    own = report["forms"]["basis"]
    assert own["bytes"] == shipped_bytes(trainer.shape) and own["psnr_hours"] >= 11
    rival = own["pca_at_equal_bytes"]
    assert rival is None or own["psnr_hours"] >= rival["psnr_hours"]


def test_float32_is_taken_where_float16_costs_quality_and_counted(tmp_path):
    day = load_day(save_frames(tmp_path / "data", EXTREME_DAYS["one hour"]))
    trainer = trainer_of(day, epochs=1, samples_per_epoch=2048)
    assert trainer.train(tmp_path, quiet=True) and trainer.shape.weight_bits == 32
    whole = trainer.model.grid.numel() + 4 * sum(value.numel() for value in trainer.model.f2.parameters())
    assert shipped_bytes(trainer.shape) == whole
    write_exports(tmp_path / "out", trainer.model, checkpoints.describe_day(day))
    with np.load(tmp_path / "out" / "day.npz") as archive:
        assert archive["weights"].dtype == np.float32
    a, b = (from_checkpoint(path) for path in (tmp_path / "last.ckpt", tmp_path / "out" / "day.npz"))
    assert np.abs(a.encoded(6.5) - b.encoded(6.5)).max() < 1e-6
    assert json.loads((tmp_path / "out" / "f2_meta.json").read_text())["shape"]["weight_bits"] == 32
    for n_bytes in (whole - 1, whole - 900, whole // 2):  # fewer neurons, float16, fewer channels
        assert shipped_bytes(trainer_of(day, bytes=str(n_bytes)).shape) <= n_bytes
    assert trainer_of(day, bytes=str(whole - 1)).shape.weight_bits == 32


def test_days_of_before_have_float16(tmp_path, refused):
    """Files of versions that knew no other: their shapes do not say so."""
    folder = tiny("basis", 1)
    with np.load(folder / "day.npz") as archive:
        parts = {name: archive[name] for name in archive.files}
    info = json.loads(parts["info"].tobytes())
    del info["shape"]["weight_bits"]
    np.savez_compressed(tmp_path / "day.npz", **{**parts, "info": np.frombuffer(json.dumps(info).encode(), np.uint8)})
    for name in ("best.ckpt", "last.ckpt"):
        payload = torch.load(folder / name, weights_only=True)
        payload["shape"] = json.dumps(info["shape"])
        torch.save(payload, tmp_path / name)
    assert parts["weights"].dtype == np.float16
    assert checkpoints.load(tmp_path / "best.ckpt").model.shape.weight_bits == 16
    for name in ("day.npz", "best.ckpt"):
        assert np.array_equal(from_checkpoint(tmp_path / name).light(7.7), from_checkpoint(folder / name).light(7.7))
    again = {"data_dir": str(folder / "data"), "out_dir": str(tmp_path), "resume": True, "report": "none"}
    assert train(again, lambda _: None, True) == 0
    info["shape"]["weight_bits"] = 8
    np.savez_compressed(tmp_path / "day.npz", **{**parts, "info": np.frombuffer(json.dumps(info).encode(), np.uint8)})
    with refused("day.npz", "weight_bits"):
        from_checkpoint(tmp_path / "day.npz")


def test_a_rate_that_is_too_high_leaves_what_was_before(tmp_path):
    trainer = trainer_of(scene()[0], lr=1.0, epochs=1, samples_per_epoch=40_000)
    before = trainer.best_db
    assert trainer.train(tmp_path, quiet=True) and trainer.best_db >= before
    found = checkpoints.load(tmp_path / "best.ckpt")
    assert found.held_out_db >= before


def test_every_latent_step_brings_texels_closer():
    """Also where a latent is read by many texels, at an odd size."""
    day, _ = scene()
    trainer = trainer_of(day, latent_scale=3, latent_dim=4)
    engine = trainer.engine

    def errors():
        with torch.no_grad():
            return torch.cat([engine._errors(band).sum()[None] for band in bands(trainer.shape, day.mask, CPU)]).sum()

    with torch.no_grad():
        engine._solve_last_layer()
        before = float(errors())
        engine._move_latents()
    assert float(errors()) < before * 0.999


def test_bands_read_what_the_model_reads():
    shape = Shape(11, 7, "basis", 2, 3, 8, 1, 1, 4, 1, 1, 30.0, 5.0, 4)
    mask = torch.rand(77, generator=torch.Generator().manual_seed(0)) > 0.2
    values = torch.arange(77.0)
    neighbours, weights = bilinear_neighbours(torch.arange(77), (11, 7), shape.latent_size)
    want = torch.zeros(12).index_add_(0, neighbours[mask].flatten(), (weights * values[:, None])[mask].flatten())
    got = torch.cat([band.gathered(values[band.texels][:, None])[:, 0] for band in bands(shape, mask, CPU, 30)])
    assert torch.allclose(got, want, atol=1e-3)


def test_slopes_are_the_derivatives_of_the_sines():
    net = DaySiren(3, 5, 2, 4, 5.0, torch.Generator().manual_seed(0)).requires_grad_(False)
    z = torch.rand(6, 3, generator=torch.Generator().manual_seed(1))
    sines, slopes = net.sines(z), sine_slopes(net, z)
    for channel in range(3):
        moved = z.clone()
        moved[:, channel] += 1e-3
        assert torch.allclose((net.sines(moved) - sines) / 1e-3, slopes[:, channel], atol=2e-2)


def test_a_lamp_comes_back_within_a_tenth(tmp_path):
    day = load_day(write_lamp_day(tmp_path / "data"))
    assert len(lamp_texels(day)) == LAMP_SIDE**2
    trainer = trainer_of(day)
    assert trainer.shape.latent_scale == 1 and trainer.train(tmp_path, quiet=True)
    found, (row, column) = from_checkpoint(tmp_path / "best.ckpt"), LAMP_AT
    for hour in (0, 6.5, 12):
        lamp = found.light(hour)[row : row + LAMP_SIDE, column : column + LAMP_SIDE]
        assert np.abs(lamp / LAMP_LIGHT - 1).max() < 0.1
    assert not len(lamp_texels(scene()[0]))


def test_a_day_with_lamps_fits_into_few_bytes_with_a_note(tmp_path):
    day, said = load_day(write_lamp_day(tmp_path / "data"), say=lambda _: None), []
    shape = choose_shape(make_options({"bytes": "3k"}), day, said.append)
    assert shape.latent_scale > 1 and shipped_bytes(shape) <= 3000 and "lamps" in said[0]
    assert choose_shape(make_options({"bytes": "8k"}), day, said.append).latent_scale == 1 and len(said) == 1


def test_masked_texels_do_not_count(tmp_path):
    day, _ = scene()
    mask = (torch.arange(4096) % 64 < 32) & (torch.arange(4096) >= 64)
    noise = torch.randint(256, day.frames.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    masked = dataclasses.replace(day, mask=mask, frames=torch.where(mask[:, None, None], day.frames, noise))
    for scale in (1, 2):
        trainer = trainer_of(masked, latent_scale=scale, epochs=1)
        assert trainer.train(tmp_path, quiet=True) and trainer.best_db > 27


@pytest.mark.parametrize("scale", [1, 2])
def test_resumed_run_has_the_bits_of_one_that_was_never_stopped(tmp_path, scale, monkeypatch):
    data = save_frames(tmp_path / "data", moving_frames())
    given = {"data_dir": str(data), "latent_scale": scale, "epochs": 3, "batch_size": 256, "samples_per_epoch": 1024,
             "report": "none"}  # fmt: skip

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train({**given, "out_dir": str(whole)}, lambda _: None, True) == 0
    first = Trainer(make_options({**given, "out_dir": str(parts)}), load_day(data), CPU, say=lambda _: None)
    assert not first.train(parts, StopsLater(), quiet=True)
    assert 0 < first.iteration < first.total
    again = {"data_dir": str(data), "out_dir": str(parts), "resume": True, "report": "none"}
    # a later version that would choose otherwise
    monkeypatch.setattr("lightmap.trainer.choose_shape", lambda *_: pytest.fail("the shape is that of the run"))
    monkeypatch.setattr("lightmap.trainer.start_day", lambda *_: pytest.fail("the run has its state"))
    assert train(again, lambda _: None, True) == 0
    for name in ("last.ckpt", "best.ckpt"):
        a, b = checkpoints.load(whole / name), checkpoints.load(parts / name)
        assert a.step == b.step and a.held_out_db == b.held_out_db
        assert all(torch.equal(value, b.model.state_dict()[key]) for key, value in a.model.state_dict().items())


@pytest.mark.parametrize("frames", [1, 2, 5, 100])
def test_days_of_few_and_many_frames(tmp_path, frames):
    day = load_day(save_frames(tmp_path / "data", moving_frames(frames)), say=lambda _: None)
    trainer = trainer_of(day, epochs=1, samples_per_epoch=2048, batch_size=256)
    assert trainer.train(tmp_path, quiet=True) and trainer.best_db > 24
    write_exports(tmp_path / "out", trainer.model, checkpoints.describe_day(day))
    found = from_checkpoint(tmp_path / "out" / "day.npz")
    images = [found.encoded(hour) for hour in (0.0, 12.0 / frames, 24.0 / frames)]
    texels, hours = torch.arange(day.texels), torch.full((day.texels,), 12.0 / frames)
    assert (trainer.model(texels, hours) - torch.from_numpy(images[1]).view(-1, 3)).abs().max() < 1e-5
    assert np.abs((images[0] + images[2]) / 2 - images[1]).max() < 1e-5  # between two frames: their blend


# --- exports ---------------------------------------------------------------------------------------------------------


def test_the_day_in_one_file_is_the_checkpoint():
    folder = tiny("basis", 2, "npy")
    whole, day = from_checkpoint(folder / "best.ckpt"), from_checkpoint(folder / "day.npz")
    for hours in (0.0, 7.7, 23.9):
        assert np.abs(whole.encoded(hours) - day.encoded(hours)).max() < 1e-5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = from_exports(folder / "latent_map.npy", folder / "f2_state_dict.pt")
    assert np.array_equal(whole.light(7.7), parts.light(7.7))
    meta = json.loads((folder / "f2_meta.json").read_text())
    assert meta["f2"]["frames"] == 24 and meta["shape"]["latent_mode"] == "basis" and "day.npz" in meta["sha256"]


@pytest.mark.parametrize("mode", ["basis", "f1"])
def test_torchscript_asks_for_no_gradients(tmp_path, mode):
    folder = tiny(mode, 1)
    model = checkpoints.load(folder / "best.ckpt").model
    inputs = model.f2.sizes[0] + (mode == "basis")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.load(str(folder / "f2_ts.pt"))
    assert script(torch.rand(4, inputs)).numpy().shape == (4, 3)
    assert all(value.requires_grad for value in model.f2.parameters())  # the model itself goes on training


@pytest.mark.parametrize("frames", [1, 2, 24])
def test_script_and_onnx_take_latents_and_hours(frames):
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install onnxruntime")
    import io

    f2 = checkpoints.load(tiny("basis", 1) / "best.ckpt").model.f2
    f2 = f2 if frames == 24 else DaySiren(5, 4, 1, frames, 5.0, torch.Generator().manual_seed(0))
    z = torch.rand(50, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    session = runtime.InferenceSession(onnx_bytes(f2), providers=["CPUExecutionProvider"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.load(io.BytesIO(script_bytes(f2)))
    for hours in (0.0, 0.25, 12.5, 23.75, 24.0, -1.0, 49.5):
        want = render(f2, z, hours, 0)
        x = torch.cat([z, torch.full((50, 1), hours)], dim=1)
        assert (script(x) - want).abs().max() < 2e-5, hours
        assert np.abs(session.run(None, {"latent_and_time": x.numpy()})[0] - want.numpy()).max() < 2e-5, hours


def test_damaged_days_end_in_one_line(tmp_path, refused):
    good = (tiny("basis", 1) / "day.npz").read_bytes()
    path = tmp_path / "day.npz"
    with np.load(tiny("basis", 1) / "day.npz") as archive:
        parts = {name: archive[name] for name in archive.files}
    for change in ({"codes": parts["codes"][1:]}, {"weights": parts["weights"][1:]}, {"codes": None},
                   {"codes": parts["codes"].astype(np.int64)}):  # fmt: skip
        np.savez_compressed(path, **{name: value for name, value in {**parts, **change}.items() if value is not None})
        with refused("day.npz"):
            from_checkpoint(path)
    path.write_bytes(good[: len(good) // 2])
    with refused("day.npz"):
        from_checkpoint(path)


def test_a_state_with_another_basis_is_refused(refused, tmp_path):
    state = torch.load(tiny("basis", 1) / "f2_state_dict.pt", weights_only=True)
    state["basis"] = state["basis"][:, 1:].clone()
    torch.save(state, tmp_path / "f2_state_dict.pt")
    with refused("f2_state_dict.pt", "basis"):
        from_exports(tiny("basis", 1) / "latent_map.npy", tmp_path / "f2_state_dict.pt")


def test_models_of_before_have_no_frames():
    options = make_options({**TINY, "latent_mode": "f1"})
    values = dataclasses.asdict(options.shape(9, 14))
    del values["frames"]  # as checkpoints of earlier versions hold it
    from lightmap.compressor import shape_from

    assert shape_from(values).frames == 0 and Compressor(shape_from(values)).f2.sizes[-1] == 3
    with pytest.raises(ValueError, match="frames"):
        shape_from({**values, "latent_mode": "basis"})
