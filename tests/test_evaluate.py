"""evaluate.py: scores by bands of rows are those of whole images, and --eval_metrics chooses among them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from runs import newest_run, offline, quick, save_maps

import export
import metrics
import train
from configs import make_config
from dataset import MAPS, Material, map_slice
from engine.cpu.decoder import decode_lod
from evaluate import evaluate_model, metric_options, missing_metrics
from export import decode_in_file_space, decode_maps, to_8_bit
from manifest import describe_material
from model import NeuralTexture, build_model


@pytest.fixture(autouse=True, scope="module")
def _offline():
    with offline():
        yield


@pytest.fixture
def narrow(monkeypatch):
    """Bands of a few rows everywhere."""
    monkeypatch.setattr(export, "DECODE_CHUNK", 150)
    monkeypatch.setattr(metrics, "TILE_VALUES", 200)
    monkeypatch.setattr(metrics, "FLIP_TILE_VALUES", 1000)


def material_of(width, height, depths, linear_color=False):
    """Waves and noise; `depths`: map name -> 8 or 16."""
    random = np.random.default_rng(4)
    y, x = np.mgrid[:height, :width]
    arrays = {}
    for name, bits in depths.items():
        waves = [0.5 + 0.3 * np.sin((1 + c) * x / 5 + y / 7) + random.normal(0, 0.05, (height, width))
                 for c in range(MAPS[name])]  # fmt: skip
        codes = np.stack(waves, axis=2).clip(0, 1) * (2**bits - 1)
        arrays[name] = codes.round().astype(f"uint{bits}")
    return Material.from_arrays("made", arrays, linear_color=linear_color)


def model_of(material):
    config = make_config({"n_neurons": 16, "n_frequencies": 4, "seed": 3})
    model = build_model(config, material.width, material.height, material.present_channels.tolist())
    with torch.no_grad():
        for weight in model.weights:
            weight.mul_(2)  # past both ends of [0, 1] here and there
    return model


CASES = [
    ((45, 37), {"diffuse": 8, "normal": 8, "roughness": 8}, False),
    ((45, 37), {"diffuse": 8, "normal": 16, "displacement": 16}, False),
    ((33, 20), {"diffuse": 8, "occlusion": 8}, True),
    ((1, 70), {"diffuse": 16, "metallic": 8}, False),
    ((1, 1), {"normal": 8}, False),
]


@pytest.mark.parametrize("decode", [NeuralTexture.decode, decode_lod])
@pytest.mark.parametrize("size, depths, linear_color", CASES, ids=str)
def test_bands_score_as_whole_images(size, depths, linear_color, decode, narrow):
    material = material_of(*size, depths, linear_color)
    model = model_of(material)
    got = evaluate_model(model, material, 7, decode=decode)
    assert (got["iteration"], got["psnr"]) == (7, got["lods"][0]["psnr"])
    for lod, (width, height) in enumerate(material.lod_sizes):
        whole = decode_in_file_space(model, describe_material(material), lod, decode)
        assert whole.shape == (height, width, 11)
        want = metrics.evaluate_lod(whole, material.texels(lod), material.present, with_flip=lod == 0)
        scores = got["lods"][lod]
        assert (scores["lod"], scores["width"], scores["height"]) == (lod, width, height)
        for metric in ("psnr", "ssim", "flip", "lpips"):
            assert scores[metric] == pytest.approx(want[metric], abs=1e-6), (lod, metric)
        assert scores.get("normal_degrees") == pytest.approx(want.get("normal_degrees"), abs=1e-6)


@pytest.mark.parametrize("size, depths, linear_color", CASES, ids=str)
def test_decoded_maps_are_the_rounded_image(size, depths, linear_color, narrow):
    material = material_of(*size, depths, linear_color)
    model = model_of(material)
    for lod, (width, height) in enumerate(material.lod_sizes):
        maps = decode_maps(model, describe_material(material), lod)
        whole = to_8_bit(decode_in_file_space(model, describe_material(material), lod))
        assert tuple(maps) == material.present
        for name, pixels in maps.items():
            assert pixels.dtype == np.uint8 and pixels.shape == (height, width, MAPS[name])
            assert (pixels == whole[..., map_slice(name)]).all()


@pytest.mark.parametrize("decode", [NeuralTexture.decode, decode_lod])
@pytest.mark.parametrize("rows", [slice(0, 1), slice(5, 12), slice(18, 23), slice(None), slice(7, 7)], ids=str)
def test_rows_are_rows_of_the_whole(decode, rows):
    material = material_of(31, 23, {"diffuse": 8})
    model = model_of(material)
    part = decode(model, 0, 31, 23, rows=rows)
    torch.testing.assert_close(part, decode(model, 0, 31, 23)[rows], rtol=0, atol=1e-6)


def test_pictures_get_the_maps_of_each_lod():
    material = material_of(12, 9, {"diffuse": 8, "displacement": 16})
    seen = []
    evaluate_model(model_of(material), material, 1, on_lod=lambda *arguments: seen.append(arguments))
    assert [lod for lod, _, _ in seen] == [0, 1, 2, 3]
    for lod, decoded, source in seen:
        assert {name: codes.dtype for name, codes in decoded.items()} == dict.fromkeys(material.present, np.uint8)
        for name in material.present:
            assert (source[name] == material.file_codes(lod, name)).all()
        assert source["displacement"].dtype == np.uint16


# --- --eval_metrics ------------------------------------------------------------------------------------------------


def test_options():
    everything = {"with_ssim": True, "with_flip": True, "with_lpips": True}
    assert metric_options("all") == metric_options("lpips") == everything
    assert metric_options("all", ending=False) == {"with_ssim": True, "with_flip": False, "with_lpips": False}
    assert not any(metric_options("psnr").values()) and not any(metric_options("psnr", ending=False).values())


def test_weights_are_downloaded_only_when_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr("evaluate.download_lpips_weights", lambda: asked.append(1) or "LPIPS is left out: no server")
    assert missing_metrics("psnr") == [] and missing_metrics("all")[0].startswith("LPIPS is left out: switched off")
    assert asked == []
    assert missing_metrics("lpips")[0] == "LPIPS is left out: no server" and asked == [1]


def test_psnr_alone_from_training_to_infer(tmp_path, capsys):
    maps = save_maps(tmp_path / "maps", 24, 16)
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 6, "--eval_interval", 3,
                "--eval_metrics", "psnr", quiet=False)  # fmt: skip
    assert run == newest_run(tmp_path / "out") and "left out" not in capsys.readouterr().out
    lods = json.loads((run / "metrics.json").read_text())["lods"]
    for scores in lods:
        assert None not in scores["psnr"].values() and scores["normal_degrees"] >= 0
        assert {*scores["ssim"].values(), *scores["lpips"].values(), *scores["flip"].values()} == {None}
    assert len(list((run / "media").iterdir())) == 3
    assert train.main(["--mode", "infer", "--load_dir", str(run)]) == 0
    assert json.loads((run / "infer" / "metrics.json").read_text())["lods"] == lods, "as the run was told"
    assert train.main(["--mode", "infer", "--load_dir", str(run), "--eval_metrics", "all"]) == 0
    full = json.loads((run / "infer" / "metrics.json").read_text())["lods"]
    assert [scores["psnr"] for scores in full] == [scores["psnr"] for scores in lods]
    assert full[0]["ssim"]["all"] is not None and full[0]["flip"]["diffuse"] is not None
    assert full[1]["flip"]["diffuse"] is None, "FLIP is of LOD 0 alone"
    assert "LPIPS is left out" in capsys.readouterr().out
