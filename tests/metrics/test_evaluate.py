"""evaluate.py: scores by bands of rows are those of whole images, and --eval_metrics chooses among them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

import train
from configs import make_config
from dataset import Material
from engine.cpu.decoder import decode_lod
from maps.channels import MAPS, map_slice
from metrics import decoded_maps, flip, tiles
from metrics import scores as metrics
from metrics.decoded_maps import decode_in_file_space, decode_maps, to_8_bit
from metrics.evaluate import evaluate_model, metric_options, prepare_metrics
from model import NeuralTexture, build_model
from tests.support.runs import (
    _offline,  # noqa: F401  # autouse
    newest_run,
    quick,
    save_maps,
)


@pytest.fixture
def narrow(monkeypatch):
    """Bands of a few rows everywhere."""
    monkeypatch.setattr(decoded_maps, "DECODE_CHUNK", 150)
    monkeypatch.setattr(tiles, "TILE_VALUES", 200)
    monkeypatch.setattr(flip, "TILE_VALUES", 1000)


def material_of(width, height, depths, linear_color=False, constants=None, unit_normals=False):
    """Waves and noise; `depths`: map name -> 8 or 16; `constants`: canonical channel -> code."""
    random = np.random.default_rng(4)
    y, x = np.mgrid[:height, :width]
    arrays = {}
    for name, bits in depths.items():
        waves = [0.5 + 0.3 * np.sin((1 + c) * x / 5 + y / 7) + random.normal(0, 0.05, (height, width))
                 for c in range(MAPS[name])]  # fmt: skip
        codes = np.stack(waves, axis=2).clip(0, 1) * (2**bits - 1)
        if name == "normal" and unit_normals:
            vectors = np.stack([*waves[:2], np.full((height, width), 1.5)], axis=2) - 0.5
            vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
            codes = (vectors + 1) / 2 * (2**bits - 1)
        arrays[name] = codes.round().astype(f"uint{bits}")
        for channel, code in (constants or {}).items():
            if channel in range(11)[map_slice(name)]:
                arrays[name][..., channel - map_slice(name).start] = code
    return Material.from_arrays("made", arrays, linear_color=linear_color)


def model_of(material):
    config = make_config({"n_neurons": 16, "n_frequencies": 4, "seed": 3})
    present = material.present_channels.tolist()
    model = build_model(config, material.width, material.height, present, material.constants)
    with torch.no_grad():
        for weight in model.weights:
            weight.mul_(2)  # past both ends of [0, 1] here and there
    return model


CASES = [  # arguments of material_of
    (45, 37, {"diffuse": 8, "normal": 8, "roughness": 8}),
    (45, 37, {"diffuse": 8, "normal": 16, "displacement": 16}),
    (33, 20, {"diffuse": 8, "occlusion": 8}, True),
    (1, 70, {"diffuse": 16, "metallic": 8}),
    (1, 1, {"normal": 8}),  # one texel: all of it is constant
    (41, 23, {"diffuse": 8, "normal": 8, "displacement": 16}, True, {1: 77, 10: 12345}, True),
    (33, 20, {"diffuse": 16, "normal": 16, "metallic": 8}, False, {2: 30001, 3: 33333, 8: 255}),
    (23, 35, {"diffuse": 16, "roughness": 16}, True, {0: 999, 6: 1}),
]


@pytest.mark.parametrize("decode", [NeuralTexture.decode, decode_lod])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_bands_score_as_whole_images(case, decode, narrow):
    material = material_of(*case)
    model = model_of(material)
    got = evaluate_model(model, material, 7, decode=decode)
    top = got["lods"][0]
    assert (got["iteration"], got["psnr"], got["error_share"]) == (7, top["psnr"], top["error_share"])
    for lod, (width, height) in enumerate(material.lod_sizes):
        whole = decode_in_file_space(model, material.record, lod, decode)
        assert whole.shape == (height, width, 11)
        want = metrics.evaluate_lod(
            whole, material.texels(lod), material.present, exact=model.constants, with_flip=lod == 0
        )
        scores = got["lods"][lod]
        assert (scores["lod"], scores["width"], scores["height"]) == (lod, width, height)
        for metric in ("psnr", "ssim", "flip", "lpips", "error_share"):
            assert scores[metric] == pytest.approx(want[metric], abs=1e-6), (lod, metric)
        assert scores.get("normal_degrees") == pytest.approx(want.get("normal_degrees"), abs=1e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_decoded_maps_are_the_rounded_image(case, narrow):
    material = material_of(*case)
    model = model_of(material)
    for lod, (width, height) in enumerate(material.lod_sizes):
        maps = decode_maps(model, material.record, lod, decode_lod)
        whole = to_8_bit(decode_in_file_space(model, material.record, lod, decode_lod))
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
    evaluate_model(model_of(material), material, 1, decode=decode_lod, on_lod=lambda *arguments: seen.append(arguments))
    assert [lod for lod, _, _ in seen] == [0, 1, 2, 3]
    for lod, decoded, source in seen:
        assert {name: codes.dtype for name, codes in decoded.items()} == dict.fromkeys(material.present, np.uint8)
        for name in material.present:
            assert (source[name] == material.file_codes(lod, name)).all()
        assert source["displacement"].dtype == np.uint16


def test_scores_need_no_hash_of_the_material(monkeypatch):
    material = material_of(12, 9, {"diffuse": 8, "normal": 8})
    monkeypatch.setattr(Material, "sha256", property(lambda self: pytest.fail("all of LOD 0 was hashed")))
    evaluate_model(model_of(material), material, 0, decode=decode_lod)


def test_bands_keep_constants_and_unit_normals(narrow):
    """Against the definitions, not against the same step on the whole image."""
    constants = {0: 200, 6: 77, 10: 12345}
    maps = {"diffuse": 8, "normal": 8, "roughness": 8, "displacement": 16}
    material = material_of(41, 23, maps, linear_color=True, constants=constants, unit_normals=True)
    assert material.unit_normals and list(material.constants) == [0, 6, 10]
    model = model_of(material)
    for lod in range(material.num_lods):
        decoded = decode_maps(model, material.record, lod, decode_lod)
        assert (decoded["diffuse"][..., 0] == 200).all() and (decoded["roughness"] == 77).all()
        assert (decoded["displacement"] == round(12345 / 257)).all()
        length = np.linalg.norm(decoded["normal"] / 255 * 2 - 1, axis=2)
        assert np.abs(length - 1).max() < 0.008  # rounding to 8 bits: at most sqrt(3) / 255
    for scores in evaluate_model(model, material, 0, decode=decode_lod, with_lpips=False)["lods"]:
        assert scores["psnr"]["roughness"] == scores["psnr"]["displacement"] == metrics.MAX_PSNR_DB
        assert scores["error_share"]["roughness"] == scores["error_share"]["displacement"] == 0
        assert sum(scores["error_share"].values()) == pytest.approx(1)


def test_what_is_exact_belongs_to_one_channel():
    """Its own value takes the place of a code in every metric, and in no other channel or map."""
    source = {"normal": np.full((13, 12, 3), 40000, np.uint16), "metallic": np.full((13, 12, 1), 7, np.uint8)}
    codes = {"normal": np.full((13, 12, 3), 156, np.uint8), "metallic": np.full((13, 12, 1), 7, np.uint8)}
    kept = {name: image.copy() for name, image in codes.items()}
    miss = (156 / 255 - 40000 / 65535) ** 2
    value = 40000 / 65535
    for exact, missed in (({}, 3), ({0: 0.3}, 3), ({4: value}, 2), (dict.fromkeys((3, 4, 5), value), 0)):
        scores = metrics.evaluate_maps(codes, source, exact=exact)
        want = -10 * np.log10(miss * missed / 3) if missed else metrics.MAX_PSNR_DB
        assert scores["psnr"]["normal"] == pytest.approx(want, abs=1e-3), exact
        assert scores["error_share"] == {"normal": float(missed > 0), "metallic": 0.0}
        assert (scores["normal_degrees"] < 1e-5) == (missed in (0, 3)), "equal channels have the source's direction"
        assert scores["ssim"]["metallic"] == pytest.approx(1)
    assert metrics.evaluate_maps(codes, source, exact={8: 1.0})["psnr"]["metallic"] < 1
    assert all((codes[name] == kept[name]).all() for name in codes)


# --- --eval_metrics ------------------------------------------------------------------------------------------------


def test_options():
    everything = {"with_ssim": True, "with_flip": True, "with_lpips": True}
    assert metric_options("all") == metric_options("lpips") == everything
    assert metric_options("all", ending=False) == {"with_ssim": True, "with_flip": False, "with_lpips": False}
    assert not any(metric_options("psnr").values()) and not any(metric_options("psnr", ending=False).values())


def test_weights_are_downloaded_only_when_asked_for(monkeypatch):
    asked = []
    reason = "LPIPS is left out: no server"
    monkeypatch.setattr("metrics.evaluate.download_lpips_weights", lambda: asked.append(1) or reason)
    assert prepare_metrics("psnr") == [] and prepare_metrics("all")[0].startswith("LPIPS is left out: switched off")
    assert asked == []
    assert prepare_metrics("lpips")[0] == "LPIPS is left out: no server" and asked == [1]


def test_psnr_alone_from_training_to_infer(tmp_path, capsys):
    maps = save_maps(tmp_path / "maps", 24, 16)
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 6, "--eval_interval", 3,
                "--eval_metrics", "psnr", quiet=False)  # fmt: skip
    assert run == newest_run(tmp_path / "out") and "left out" not in capsys.readouterr().out
    lods = json.loads((run / "metrics.json").read_text())["lods"]
    for scores in lods:
        assert None not in scores["psnr"].values() and scores["normal_degrees"] >= 0
        assert {*scores["ssim"].values(), *scores["lpips"].values(), *scores["flip"].values()} == {None}
    assert len(list((run / "media").glob("*.png"))) == 3
    assert train.main(["--mode", "infer", "--load_dir", str(run)]) == 0
    assert json.loads((run / "infer" / "metrics.json").read_text())["lods"] == lods, "as the run was told"
    assert train.main(["--mode", "infer", "--load_dir", str(run), "--eval_metrics", "all"]) == 0
    full = json.loads((run / "infer" / "metrics.json").read_text())["lods"]
    assert [scores["psnr"] for scores in full] == [scores["psnr"] for scores in lods]
    assert full[0]["ssim"]["all"] is not None and full[0]["flip"]["diffuse"] is not None
    assert full[1]["flip"]["diffuse"] is None, "FLIP is of LOD 0 alone"
    assert "LPIPS is left out" in capsys.readouterr().out


# --- --picture_lod -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lod, size", [(0, (3 * 20, 12)), (1, (3 * 10, 6)), (15, (3, 1))])
def test_pictures_are_of_one_lod(tmp_path, capsys, lod, size):
    maps = save_maps(tmp_path / "maps", 20, 12)
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 2, "--eval_metrics", "psnr",
                "--picture_lod", lod, quiet=False)  # fmt: skip
    pictures = list((run / "media").glob("*.png"))
    assert len(pictures) == 3
    for path in pictures:
        with PillowImage.open(path) as picture:
            assert picture.size == size
    said = capsys.readouterr().out
    assert ("error x8)" in said) == (lod == 0) and (f"error x8, LOD {min(lod, 4)})" in said) == (lod > 0)
