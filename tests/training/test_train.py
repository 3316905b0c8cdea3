"""train.py: a run from maps to files, what it says and leaves behind, and what --mode infer makes of it."""

from __future__ import annotations

import contextlib
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

import export
import train
from common.errors import one_line, run_command
from common.run_folder import new_stamped_folder
from configs import make_config, to_dict
from dataset import load_material
from engine.cpu.decoder import decode_lod
from formats.textures import read_export
from maps.channels import MAPS, map_slice
from metrics.decoded_maps import decode_in_file_space, to_8_bit
from metrics.evaluate import evaluate_model
from metrics.filtered import filtered_psnr
from tests.support.runs import (
    QUICK,
    _offline,  # noqa: F401  # autouse
    checkpoint_of,
    differences,
    leftovers,
    newest_run,
    quick,
    save_maps,
    tree,
)
from training.checkpoint import load_checkpoint

WIDTH, HEIGHT = 48, 32
PRESENT = ("diffuse", "normal", "roughness", "displacement")


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return save_maps(tmp_path_factory.mktemp("maps"), WIDTH, HEIGHT, PRESENT, deep=("displacement",))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, maps):
    """(run folder, what it printed) of 40 iterations with a checkpoint and an evaluation at 20, and then infer."""
    save_dir = tmp_path_factory.mktemp("outputs")
    flags = ["--data_dir", maps, "--save_dir", save_dir, "--max_iter", 40, "--save_interval", 20, "--eval_interval", 20]
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        run = quick(*flags, quiet=False)
        assert train.main(["--mode", "infer", "--load_dir", str(run)]) == 0
    return run, stream.getvalue()


def pictures(folder, lod, present=PRESENT):
    """Map name -> (H, W, C) values in [0, 1], float64, of the PNG files of one LOD, read by Pillow."""
    return {name: picture(folder / f"{name}_lod{lod}.png") for name in present}


def picture(path):
    pixels = np.asarray(PillowImage.open(path))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return pixels.astype(np.float64) / (255 if pixels.dtype == np.uint8 else 65535)


def psnr_by_hand(decoded, source):
    """PSNR of everything and per map, from {name: (H, W, C)}; all channels count the same."""
    errors = {name: ((decoded[name] - source[name]) ** 2).mean(axis=(0, 1)) for name in source}
    errors["all"] = np.concatenate(list(errors.values()))
    return {name: -10 * np.log10(error.mean()) for name, error in errors.items()}


# --- what a run leaves behind --------------------------------------------------------------------------------------


def test_layout(finished):
    run, _ = finished
    exported = ["hash_grid_0.dds", "hash_grid_1.dds", "manifest.json", "model.pth", "network_data.npz"]
    files = {name for name in tree(run) if not name.endswith("/") and not name.startswith("infer/")}
    assert files == {
        *("config.json", "metrics.json", "metrics.txt", "run.lock", "media/thumbnail.jpg"),
        *(f"media/{name}.png" for name in PRESENT),
        *(f"models/train_result_{i}/{name}" for i in (20, 40) for name in exported),
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d(-\d+)?", run.name)
    assert {path.name for path in run.parent.iterdir()} == {run.name, "tensorboard"}
    events, = (run.parent / "tensorboard" / run.name).iterdir()
    assert events.name.startswith("events.out.tfevents.") and events.stat().st_size > 1000
    assert leftovers(run.parent) == []


def test_infer_writes_images_and_metrics(finished):
    run, _ = finished
    lods = max(WIDTH, HEIGHT).bit_length()
    files = {name for name in tree(run / "infer") if not name.endswith("/") and not name.startswith("compare/")}
    assert files == {"metrics.json", "metrics.txt", *(f"{m}_lod{lod}.png" for m in PRESENT for lod in range(lods))}
    for lod in range(lods):
        for name, values in pictures(run / "infer", lod).items():
            assert values.shape == (max(HEIGHT >> lod, 1), max(WIDTH >> lod, 1), MAPS[name])
    assert json.loads((run / "infer" / "metrics.json").read_text()) == json.loads((run / "metrics.json").read_text())


def test_config_json_is_the_resolved_configuration(finished, maps):
    run, _ = finished
    config = json.loads((run / "config.json").read_text())
    grids, environment = config.pop("resolved_grids"), config.pop("environment")
    assert make_config(config).max_iter == 40 and config["data_dir"] == str(maps)
    assert list(config) == list(to_dict(make_config({})))
    assert [grid["max_resolution"] for grid in grids] == [24, 6]
    assert all(value is not None for grid in grids for value in grid.values())
    assert {"python", "torch", "machine", "threads"} <= set(environment)
    assert differences(to_dict(load_checkpoint(run).config), config) == []


def test_metrics_equal_recomputation_by_hand(finished, maps):
    run, _ = finished
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["iteration"] == 40
    source = {name: picture(maps / f"made_{name}.png") for name in PRESENT}
    by_hand = psnr_by_hand(pictures(run / "infer", 0), source)
    filtered = filtered_psnr(load_checkpoint(run).model, load_material(maps))
    assert metrics["psnr_filtered"] == pytest.approx(filtered, abs=1e-3)
    assert metrics["psnr"] == metrics["lods"][0]["psnr"]
    assert metrics["psnr"] == pytest.approx(by_hand, abs=1e-4)  # float32 images; worst seen 1.1e-5, of 16-bit texels
    material = load_material(maps)
    for lod, scores in enumerate(metrics["lods"]):
        texels = material.texels(lod).numpy().astype(np.float64)
        source = {name: texels[..., map_slice(name)] for name in PRESENT}
        assert scores["psnr"] == pytest.approx(psnr_by_hand(pictures(run / "infer", lod), source), abs=1e-4)
        assert (scores["lod"], scores["width"], scores["height"]) == (lod, *material.lod_sizes[lod])


def test_ssim_equals_torchmetrics_on_the_pictures(finished, maps):
    from torchmetrics.functional.image import structural_similarity_index_measure

    run, _ = finished
    lods = json.loads((run / "metrics.json").read_text())["lods"]
    decoded, scores = pictures(run / "infer", 0), lods[0]["ssim"]
    for name in PRESENT:
        pair = (decoded[name], picture(maps / f"made_{name}.png"))
        pair = [torch.from_numpy(values).permute(2, 0, 1)[None] for values in pair]
        by_hand = structural_similarity_index_measure(*pair, data_range=1.0)
        assert scores[name] == pytest.approx(float(by_hand), abs=1e-4)  # float32 against float64
    assert scores["all"] == pytest.approx(np.mean([scores[name] for name in PRESENT]))
    assert lods[1]["ssim"]["all"] is not None and lods[2]["ssim"]["all"] is None  # 24x16, then 12x8: below the window
    assert all(scores["lpips"]["all"] is None for scores in lods)


def test_mean_angle_and_flip_are_there(finished):
    run, _ = finished
    scores = json.loads((run / "metrics.json").read_text())["lods"][0]
    assert 0 < scores["normal_degrees"] < 90 and 0 < scores["flip"]["diffuse"] < 1


def test_pictures_show_decoded_source_and_error(finished, maps):
    run, _ = finished
    for folder in (run / "media", run / "infer" / "compare"):
        assert {path.name for path in folder.glob("*.png")} == {f"{name}.png" for name in PRESENT}
        strip = np.asarray(PillowImage.open(folder / "diffuse.png")).astype(int)
        assert strip.shape == (HEIGHT, 3 * WIDTH, 3)
        decoded, source, error = np.split(strip, 3, axis=1)
        assert (decoded == np.asarray(PillowImage.open(run / "infer" / "diffuse_lod0.png"))).all()
        assert (source == np.asarray(PillowImage.open(maps / "made_diffuse.png"))).all()
        assert (error == np.minimum(abs(decoded - source) * 8, 255)).all()


def test_manifest_names_the_evaluation_and_the_rates(finished):
    run, _ = finished
    manifest = json.loads((checkpoint_of(run, 40) / "manifest.json").read_text())
    assert manifest["metrics"] == json.loads((run / "metrics.json").read_text())
    grids = (24 * 24 + 6 * 6) * 32 / (WIDTH * HEIGHT)
    assert manifest["rates"]["grids"] == pytest.approx(grids, abs=1e-6)
    weights = sum(outputs * inputs for outputs, inputs in manifest["decoder"]["layers"])
    assert manifest["rates"]["bpp"] == pytest.approx(grids + weights * 32 / (WIDTH * HEIGHT), abs=1e-6)
    names = ("hash_grid_0.dds", "hash_grid_1.dds", "network_data.npz")
    assert manifest["bytes_on_disk"] == sum((checkpoint_of(run, 40) / name).stat().st_size for name in names)


def test_what_it_says(finished):
    run, said = finished
    assert said.count("configuration, all of it in") == 1
    assert len(re.findall(r"^  max_iter +40$", said, re.MULTILINE)) == 1 and "groups_backend" not in said
    metrics = json.loads((run / "metrics.json").read_text())
    manifest = json.loads((checkpoint_of(run, 40) / "manifest.json").read_text())
    for name, value in metrics["psnr"].items():
        assert f"{value:.2f}" in said and (name == "all" or f"{name} {value:.2f}" in said)
    assert f"{manifest['rates']['bpp']:.2f} bpp" in said
    for words in ("BC7", "PNG", "time", "tensorboard --logdir", str(checkpoint_of(run, 40)), "LPIPS is left out"):
        assert words in said
    assert said.count("LPIPS is left out") == 2  # once per command
    assert "infer" in said.splitlines()[-1]


def test_tensorboard(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = finished
    events = EventAccumulator(str(run.parent / "tensorboard" / run.name)).Reload()
    metrics = json.loads((run / "metrics.json").read_text())
    lods = range(len(metrics["lods"]))
    expected = {"Loss/train", "Noise/strength", "LearningRate/network", "LearningRate/grid_0", "LearningRate/grid_1"}
    expected |= {f"PSNR/LOD{lod}" for lod in lods} | {"SSIM/LOD0", "SSIM/LOD1", "PSNR/filtered"}
    tags = set(events.Tags()["scalars"])
    assert expected <= tags and not tags & {"SSIM/LOD2", "LPIPS/LOD0"}
    per_map = {tag for tag in tags - expected if re.search("(?i)psnr", tag)}
    assert {re.split(r"\W", tag)[-1] for tag in per_map} == set(PRESENT)
    for lod in lods:
        last = events.Scalars(f"PSNR/LOD{lod}")[-1]
        assert last.step == 40 and last.value == pytest.approx(metrics["lods"][lod]["psnr"]["all"], rel=1e-6)
    assert [event.step for event in events.Scalars("Loss/train")] == [20, 25, 40]
    assert [event.step for event in events.Scalars("PSNR/LOD0")] == [20, 40]
    noise = [event.value for event in events.Scalars("Noise/strength")]
    assert noise == pytest.approx([1 - 20 / 32, 1 - 25 / 32, 0])
    rate = [event.value for event in events.Scalars("LearningRate/network")]
    assert rate[0] == pytest.approx(0.01) and rate[-1] == pytest.approx(0.01 * 0.01)
    images = events.Tags()["images"]
    for name in PRESENT:
        assert [tag for tag in images if tag.startswith(name) and "decoded" in tag]
        assert [tag for tag in images if tag.startswith(name) and "source" in tag]
        assert [tag for tag in images if tag.startswith(name) and "error" in tag]
    shown, = (tag for tag in images if tag.startswith("diffuse") and "decoded" in tag)
    picture_shown = PillowImage.open(io.BytesIO(events.Images(shown)[-1].encoded_image_string))
    assert (np.asarray(picture_shown) == np.asarray(PillowImage.open(run / "infer" / "diffuse_lod0.png"))).all()


# --- exporting again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("iteration", [20, 40])
def test_exporting_again_gives_the_same_bytes(finished, tmp_path, iteration):
    run, _ = finished
    out = tmp_path / "new" / "folder"
    assert export.main(["--load_dir", str(run), "--load_iter", str(iteration), "--out_dir", str(out)]) == 0
    shipped = tree(checkpoint_of(run, iteration))
    shipped.pop("model.pth")
    assert tree(out) == shipped


def test_exported_images_are_those_of_infer(finished, tmp_path, capsys):
    run, _ = finished
    assert export.main(["--load_dir", str(run), "--out_dir", str(tmp_path / "a"), "--images"]) == 0
    assert export.main(["--load_dir", str(tmp_path / "a"), "--out_dir", str(tmp_path / "b"), "--images", "yes"]) == 0
    inferred = {k: v for k, v in tree(run / "infer").items() if "_lod" in k}
    assert tree(tmp_path / "a" / "images") == tree(tmp_path / "b" / "images") == inferred
    assert len(inferred) == len(PRESENT) * max(WIDTH, HEIGHT).bit_length()
    assert f"{len(inferred)} images" in capsys.readouterr().out


# --- other kinds of runs -------------------------------------------------------------------------------------------


def check_export(run, maps, present, linear_color=False):
    """The files decode to what the model in memory decodes to, and to what metrics.json says of the maps."""
    checkpoint = load_checkpoint(run)
    exported = read_export(checkpoint.path)
    material = load_material(maps, linear_color=linear_color)
    assert material.present == present
    for lod in range(material.num_lods):
        pair = [decode_in_file_space(m, material.record, lod, decode_lod) for m in (checkpoint.model, exported.model)]
        assert (to_8_bit(pair[0]) == to_8_bit(pair[1])).all(), lod
    metrics = json.loads((run / "metrics.json").read_text())
    decoded = {name: to_8_bit(pair_of_lod_0(exported, material)[..., map_slice(name)]) / 255 for name in present}
    source = {name: picture(maps / f"made_{name}.png") for name in present}
    with np.errstate(divide="ignore"):
        by_hand = {name: min(value, 100.0) for name, value in psnr_by_hand(decoded, source).items()}
    assert metrics["psnr"] == pytest.approx(by_hand, abs=1e-5)
    assert leftovers(run.parent) == []
    return exported


def pair_of_lod_0(exported, material):
    return decode_in_file_space(exported.model, material.record, 0, decode_lod)


@pytest.mark.parametrize("quantize_bits, save_bits", [(8, 32), (4, 64), (2, 16), (1, 8), (16, 64)])
def test_quantize_bits(tmp_path, quantize_bits, save_bits):
    maps = save_maps(tmp_path / "maps", 20, 12)
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 10, "--n_hidden_layers", 1,
                "--quantize", "True", "--quantize_bits", quantize_bits, "--save_bits", save_bits)  # fmt: skip
    exported = check_export(run, maps, ("diffuse", "normal", "roughness"))
    for grid in exported.model.grids:
        assert (grid.quantize_bits, grid.features) == (quantize_bits, save_bits // quantize_bits)


@pytest.mark.parametrize(
    "width, height, present",
    [(1, 1, ("diffuse",)), (5, 7, ("normal", "occlusion")), (64, 3, tuple(MAPS)), (33, 17, ("metallic",))],
)
def test_sizes_and_maps(tmp_path, width, height, present):
    maps = save_maps(tmp_path / "maps", width, height, present)
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 6)
    check_export(run, maps, present)
    assert train.main(["--mode", "infer", "--load_dir", str(run)]) == 0
    assert len(json.loads((run / "infer" / "metrics.json").read_text())["lods"]) == max(width, height).bit_length()


def test_linear_color(tmp_path):
    maps = save_maps(tmp_path / "maps", 24, 16)
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 10, "--linear_color")
    exported = check_export(run, maps, ("diffuse", "normal", "roughness"), linear_color=True)
    entry = exported.manifest.material.maps[0]
    assert (entry.name, entry.color_space, entry.file_color_space) == ("diffuse", "linear", "srgb")
    assert train.main(["--mode", "infer", "--load_dir", str(run)]) == 0
    linear = exported.model.decode(0, 24, 16)[..., :3].clamp(0, 1).double().numpy()
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    assert abs(pictures(run / "infer", 0, ["diffuse"])["diffuse"] - encoded).max() < 0.51 / 255
    source = {name: picture(maps / f"made_{name}.png") for name in ("diffuse", "normal", "roughness")}
    by_hand = psnr_by_hand(pictures(run / "infer", 0, source), source)
    assert json.loads((run / "infer" / "metrics.json").read_text())["psnr"] == pytest.approx(by_hand, abs=1e-5)


GRIDS = """
hash_grid_configs:
  - {max_resolution: 24, n_levels: 3, quantize_bits: 8, save_bits: 64, interpolation: learned, learning_rate: 0.05}
  - {max_resolution: 8, quantize_bits: 1, save_bits: 8}
  - {n_levels: 1, quantize_bits: 2}
max_iter: 10
texture_loss_weights: {normal: 0.5, roughness: 0}
"""


def test_grids_from_a_config_file(tmp_path):
    maps = save_maps(tmp_path / "maps", 24, 16)
    (tmp_path / "my.yaml").write_text(GRIDS)
    run = quick("--config", tmp_path / "my.yaml", "--data_dir", maps, "--save_dir", tmp_path / "out", "--save_bits", 16)
    exported = check_export(run, maps, ("diffuse", "normal", "roughness"))
    keys = ("max_resolution", "n_levels", "quantize_bits", "save_bits", "interpolation")
    assert [[getattr(grid, key) for key in keys] for grid in exported.model.grids] == [
        [24, 3, 8, 64, "learned"], [8, 4, 1, 8, "linear"], [3, 1, 2, 16, "linear"],
    ]  # fmt: skip
    assert (checkpoint_of(run, 10) / "hash_grid_0_p1.dds").is_file()
    assert exported.manifest.form.decoder.n_texel_frequencies == 3
    assert train.main(["--mode", "infer", "--load_dir", str(run)]) == 0


def test_without_quantisation_only_the_model_is_saved(tmp_path, capsys):
    maps = save_maps(tmp_path / "maps", 24, 16)
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 10, "--quantize", "False")
    assert [path.name for path in checkpoint_of(run, 10).iterdir()] == ["model.pth"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert train.main(["--mode", "infer", "--load_dir", str(run)]) == 0
    assert json.loads((run / "infer" / "metrics.json").read_text()) == metrics
    codes = load_checkpoint(run).model.grid_parameters[0].detach() * 16
    assert (codes - codes.round()).abs().max() > 0.1, "nothing is rounded"
    by_hand = evaluate_model(load_checkpoint(run).model, load_material(maps), 10, decode=decode_lod)
    assert by_hand["psnr"] == pytest.approx(metrics["psnr"])
    capsys.readouterr()


@pytest.mark.parametrize(
    "name", ["with space", "it's \"quoted\"", "two\nlines", "größe 材质", "-dash", "100%", "{a} $HOME;#", "a.b_lod0"]
)
def test_odd_folder_names(tmp_path, name):
    maps = save_maps(tmp_path / name / "maps", 8, 8)
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        run = quick("--data_dir", maps, "--save_dir", tmp_path / name / "out", "--max_iter", 3, quiet=False)
        assert train.main(["--mode", "infer", "--load_dir", str(run)]) == 0
        assert export.main(["--load_dir", str(run), "--out_dir", str(tmp_path / name / "export"), "--images"]) == 0
    assert one_line(str(maps)) in stream.getvalue()
    assert json.loads((run / "config.json").read_text(encoding="utf-8"))["data_dir"] == str(maps)
    assert (run / "infer" / "diffuse_lod3.png").is_file()


def test_a_folder_name_that_is_not_utf8(tmp_path):
    """Archives made on other systems unpack to such names; Python carries them as lone surrogates."""
    maps = save_maps(tmp_path / b"caf\xe9".decode("utf-8", "surrogateescape"), 8, 8)
    flags = [*QUICK, "--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 3]
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")):  # strict, as sys.stdout is
        assert run_command(lambda: train.main([str(flag) for flag in flags])) == 0
        run = newest_run(tmp_path / "out")
        assert run_command(lambda: train.main(["--mode", "infer", "--load_dir", str(run)])) == 0
    assert json.loads((run / "config.json").read_text(encoding="utf-8"))["data_dir"] == str(maps)


def test_run_folders_of_one_second_are_unique(tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda pattern: "2026-01-31-12-00-00")
    names = [new_stamped_folder(tmp_path / "a" / "b").name for _ in range(3)]
    assert names == ["2026-01-31-12-00-00", "2026-01-31-12-00-00-2", "2026-01-31-12-00-00-3"]
