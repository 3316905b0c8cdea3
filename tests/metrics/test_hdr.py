"""Maps with more than 8 bits and with units of their own: their scores, and their files."""

from __future__ import annotations

import json
import math
import shutil
import subprocess

import numpy as np
import pytest

import export
import train
from dataset import Material
from engine.cpu.decoder import decode_lod
from formats.export import save_images
from formats.textures import read_export, write_export
from maps.channels import map_slice
from maps.exr import encode_exr, read_exr
from maps.images import read_image
from maps.ranges import from_units, to_units
from maps.record import MapRecord, MaterialRecord
from metrics.decoded_maps import decode_in_file_space, decode_maps
from metrics.evaluate import evaluate_model
from metrics.hdr import deep_scores, unit_lines
from shape import DecoderSpec, GridSpec
from tests.support.exports import make_model
from tests.support.map_images import write_exr
from tests.support.paths import ROOT
from tests.support.runs import _offline, quick, save_maps  # noqa: F401  # the first is a fixture, autouse

HIGH, SCALE = 50.0, 0.25
LIGHT = MapRecord("emissive", "linear", "linear", 16, value_range=(0.0, HIGH), log_scale=SCALE)
HEIGHT = MapRecord("displacement", "linear", "linear", 16, value_range=(-2.0, 6.0))


def record(*maps):
    return MaterialRecord("m", 8, 8, maps)


def codes_of(light):
    return np.round(from_units(np.asarray(light, np.float64), (0, HIGH), SCALE) * 65535).astype(np.uint16)


def deep_material(**options):
    """One map of each kind: 8 bits, 16 bits, light above 1, heights in units of their own."""
    rng = np.random.default_rng(3)
    arrays = {
        "diffuse": rng.integers(0, 256, (12, 20, 3), np.uint8),
        "roughness": rng.integers(0, 65536, (12, 20, 1), np.uint16),
        "displacement": rng.integers(0, 65536, (12, 20, 1), np.uint16),
        "emissive": codes_of(np.exp(rng.normal(0, 1.2, (12, 20, 3))).clip(0, HIGH)),
    }
    ranges = {"displacement": HEIGHT.value_range, "emissive": (0.0, HIGH)}
    return Material.from_arrays("m", arrays, value_range=ranges, log_scale={"emissive": SCALE}, **options)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """An export of it."""
    material, folder = deep_material(), tmp_path_factory.mktemp("deep") / "export"
    folder.mkdir()
    model = make_model([GridSpec(8, 3, 8, 32)], DecoderSpec(2, 16, 1, outputs=16), material)
    write_export(folder, model, material.hashed_record)
    return folder, material


# --- scores --------------------------------------------------------------------------------------------------------


def test_relative_error_and_peak_are_of_light():
    light = np.zeros((4, 4, 3))
    light[0], light[1, 0] = 2.0, HIGH  # 15 of 48 values are lit, and the median of all is a dark one
    wrong = light * 1.03
    wrong[1, 0], wrong[2, 0] = 0.9 * HIGH, 0.1
    scores = deep_scores({"emissive": codes_of(wrong)}, {"emissive": codes_of(light)}, record(LIGHT))
    found = scores["light"]["emissive"]
    assert found["floor"] == pytest.approx(0.05)
    assert found["relative_error_lit"] == pytest.approx(0.03, abs=1e-3)
    assert found["relative_error"] == 0
    assert found["peak"] == pytest.approx(0.9, abs=1e-3)
    assert found["space"] == "log2(1 + x / 0.25) / log2(1 + 50 / 0.25)"
    (line, last) = unit_lines(scores)
    assert "3.00%" in line and "peak 90.0%" in line and "log2" in line and "16 bits" in last


def test_dark_texels_are_compared_with_the_floor():
    light, wrong = np.zeros((4, 4, 3)), np.full((4, 4, 3), 0.01)
    scores = deep_scores({"emissive": codes_of(wrong)}, {"emissive": codes_of(light)}, record(LIGHT))
    found = scores["light"]["emissive"]
    assert found["relative_error"] == pytest.approx(0.2, rel=0.01)
    assert found["relative_error_lit"] is None and found["peak"] is None


def test_heights_are_compared_in_their_units():
    source = np.full((4, 4, 1), 20000, np.uint16)
    decoded = source + np.uint16(50)
    decoded[0, 0] += 100
    scores = deep_scores({"displacement": decoded}, {"displacement": source}, record(HEIGHT))
    want = {"median_error": 50 * 8 / 65535, "worst_error": 150 * 8 / 65535}
    assert scores["units"]["displacement"] == pytest.approx(want, rel=1e-3)
    assert "light" not in scores and "displacement in the file's units" in unit_lines(scores)[0]


def test_16_bit_maps_are_not_rounded_to_8(shipped):
    """The same decode twice: banding of 8 bits costs PSNR, and is not in psnr16."""
    folder, material = shipped
    model = read_export(folder).model
    scores = evaluate_model(model, material, 0, decode=decode_lod, with_ssim=False, with_lpips=False, with_flip=False)
    for lod in range(2):
        values = decode_in_file_space(model, material.record, lod, decode_lod).double().clip(0, 1).numpy()
        found = scores["lods"][lod]
        assert list(found["psnr16"]) == ["roughness", "displacement", "emissive"]
        for name, psnr in found["psnr16"].items():
            source = material.stored(lod, name) / 65535
            error = ((np.round(values[..., map_slice(name)] * 65535) / 65535 - source) ** 2).mean()
            assert psnr == pytest.approx(-10 * math.log10(error), abs=1e-4), name
            error = ((decode_maps(model, material.record, lod, decode_lod)[name] / 255 - source) ** 2).mean()
            assert found["psnr"][name] == pytest.approx(-10 * math.log10(error), abs=1e-4), "PSNR is as it was"
        assert list(found["light"]) == ["emissive"] and list(found["units"]) == ["displacement"]


def test_8_bit_materials_have_no_new_keys():
    material = Material.from_arrays("m", {"diffuse": np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)})
    model = make_model([GridSpec(8, 3, 8, 32)], DecoderSpec(2, 16, 1), material)
    scores = evaluate_model(model, material, 0, decode=decode_lod, with_ssim=False, with_lpips=False, with_flip=False)
    assert not {"psnr16", "light", "units"} & {key for lod in scores["lods"] for key in lod}
    assert unit_lines(scores["lods"][0]) == []


def test_an_8_bit_map_can_have_units():
    heights = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    material = Material.from_arrays("m", {"displacement": heights}, value_range={"displacement": (-2.0, 6.0)})
    model = make_model([GridSpec(8, 3, 8, 32)], DecoderSpec(2, 16, 1), material)
    scores = evaluate_model(model, material, 0, decode=decode_lod, with_ssim=False, with_lpips=False, with_flip=False)
    decoded = decode_in_file_space(model, material.record, 0, decode_lod)[..., map_slice("displacement")]
    error = np.abs(to_units(decoded.numpy(), (-2.0, 6.0)) - (heights[..., None] / 255 * 8 - 2))
    found = scores["lods"][0]["units"]["displacement"]
    assert found == pytest.approx({"median_error": np.median(error), "worst_error": error.max()}, abs=2e-4)
    assert "psnr16" not in scores["lods"][0]


# --- files ---------------------------------------------------------------------------------------------------------


def test_images_of_maps_with_units_are_exr(shipped, tmp_path):
    folder, material = shipped
    exported = read_export(folder)
    paths = save_images(tmp_path, exported, say=lambda _: None)
    names = {path.name for path in paths}
    assert {"diffuse_lod0.png", "roughness_lod0.png", "displacement_lod0.exr", "emissive_lod3.exr"} <= names
    assert len(names) == 4 * material.num_lods
    decoded = decode_in_file_space(exported.model, exported.manifest.material, 0, decode_lod).double()
    for name, relative in (("emissive", 1e-3), ("displacement", 1e-4)):
        entry = material.record.map(name)
        want = to_units(decoded[..., map_slice(name)], entry.value_range, entry.log_scale).numpy()
        found = read_image(tmp_path / f"{name}_lod0.exr").pixels
        np.testing.assert_allclose(found, want, rtol=relative, atol=2e-4)
        assert want.max() > 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("half, top", [(True, 50), (False, 50), (True, 1e6)])
def test_exr_files_keep_what_they_are_given(tmp_path, channels, half, top):
    values = (np.random.default_rng(1).random((5, 7, channels)) * top).astype(np.float32)
    (tmp_path / "a.exr").write_bytes(encode_exr(values, half))
    found = read_exr(tmp_path / "a.exr", 2**20).pixels
    exact = not half or top > 65504
    np.testing.assert_allclose(found, values, rtol=0 if exact else 2**-11)
    assert exact or (found != values).any()


def test_another_program_reads_the_exr(tmp_path):
    three = ROOT / ".tools/node_modules/three"
    if not (three / "examples/jsm/loaders/EXRLoader.js").is_file() or not shutil.which("node"):
        pytest.skip("needs node and three.js")
    rng = np.random.default_rng(1)
    values = {"a": rng.random((37, 20, 3)) * 50, "b": rng.random((37, 20, 1)) - 3}
    script = f"""
        import fs from 'fs'; import {{ EXRLoader }} from '{three}/examples/jsm/loaders/EXRLoader.js';
        import {{ FloatType }} from '{three}/build/three.module.js';
        for (const path of process.argv.slice(1)) {{
            const bytes = fs.readFileSync(path), loader = new EXRLoader().setDataType(FloatType);
            const image = loader.parse(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
            console.log(JSON.stringify([image.height, image.width, Array.from(image.data)]));
        }}"""
    for name, pixels in values.items():
        (tmp_path / f"{name}.exr").write_bytes(encode_exr(pixels, half=name == "a"))
    command = ["node", "--input-type=module", "-e", script, *(str(tmp_path / f"{name}.exr") for name in values)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    for line, pixels in zip(printed, values.values()):
        height, width, data = json.loads(line)
        rgba = np.reshape(data, (height, width, -1))[::-1]  # its rows run upward
        np.testing.assert_allclose(rgba[..., : pixels.shape[2]], pixels, rtol=2**-11)


def test_from_a_folder_to_images(tmp_path, capsys):
    """A run on light above 1: its notes, summary, metrics, description and pictures."""
    maps = save_maps(tmp_path / "maps", 24, 16, ("roughness",))
    light = np.exp(np.random.default_rng(3).normal(0, 1, (16, 24, 3)))
    write_exr(maps / "made_diffuse.exr", light * (HIGH / light.max()))
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 40, "--eval_metrics", "psnr",
                quiet=False)  # fmt: skip
    said = capsys.readouterr().out
    assert "diffuse reaches 50" in said and "diffuse in the file's units: median error" in said
    scores = json.loads((run / "metrics.json").read_text())["lods"][0]["light"]["diffuse"]
    assert 0 < scores["peak"] <= 1.001 and scores["floor"] == pytest.approx(0.05)
    assert "in the file's units" in (run / "metrics.txt").read_text()
    assert train.main(["--mode", "infer", "--load_dir", str(run)]) == 0
    assert (run / "infer" / "diffuse_lod0.exr").is_file() and not list((run / "infer").glob("diffuse*.png"))
    out = tmp_path / "exported"
    assert export.main(["--load_dir", str(run), "--out_dir", str(out), "--images"]) == 0
    shown = read_image(out / "images" / "diffuse_lod0.exr").pixels
    assert shown.max() == pytest.approx(scores["peak"] * HIGH, rel=2e-3)
    assert np.array_equal(shown, read_image(run / "infer" / "diffuse_lod0.exr").pixels)
    capsys.readouterr()
    assert export.main(["--describe", str(out)]) == 0
    assert "as log2(1 + value / " in capsys.readouterr().out
