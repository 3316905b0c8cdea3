"""Decoded normals are unit vectors where the source's are; otherwise they stay as they are."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from dataset import UNIT_NORMALS_TOLERANCE, Constant, Material, normal_length_error
from engine.cpu.decoder import decode_lod
from formats.manifest import material_to_json
from formats.textures import read_export
from metrics import file_space
from metrics.decoded_maps import decode_in_file_space, to_8_bit
from metrics.evaluate import evaluate_model
from metrics.file_space import file_value, in_file_space, unit_normals
from model import NeuralTexture
from shape import DecoderSpec, GridSpec
from tests.support.exports import edit_manifest
from tests.support.runs import (
    _offline,  # noqa: F401  # autouse
    checkpoint_of,
    quick,
    save_maps,
)
from training.checkpoint import load_checkpoint


def sphere(width, height, dtype=np.uint8, length=1.0, seed=0):
    """(H, W, 3) codes of random normals of the upper half, all of one length."""
    vectors = np.random.default_rng(seed).normal(size=(height, width, 3))
    vectors[..., 2] = np.abs(vectors[..., 2]) + 0.2
    vectors *= length / np.linalg.norm(vectors, axis=2, keepdims=True)
    return ((vectors * 0.5 + 0.5) * np.iinfo(dtype).max).round().astype(dtype)


def plain_unit(value, fixed=()):
    """One normal, scalars only."""
    n = [2 * float(v) - 1 for v in value]
    length = math.sqrt(sum(n[axis] ** 2 for axis in range(3) if axis not in fixed))
    room = math.sqrt(1 - sum(n[axis] ** 2 for axis in fixed))
    for axis in range(3):
        if axis not in fixed:
            n[axis] = n[axis] / length * room if length > 1e-6 else room * (axis == 2)
    return [(x + 1) / 2 for x in n]


# --- the step ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 5, 777])
def test_unit_normals_are_those_of_the_definition(n):
    values = torch.rand(n, 3) * 1.4 - 0.2
    before = values.clone()
    result = unit_normals(values)
    assert torch.equal(values, before) and result.shape == (n, 3)
    expected = torch.tensor([plain_unit(value) for value in values.tolist()]).reshape(n, 3)
    assert torch.allclose(result, expected, atol=1e-6)
    assert torch.allclose((result * 2 - 1).norm(dim=1), torch.ones(n), atol=1e-6)


@pytest.mark.parametrize("value, expected", [
    ((0.5, 0.5, 0.5), (0.5, 0.5, 1)), ((0.5, 0.5, 0.5 + 1e-8), (0.5, 0.5, 1)), ((0.5, 0.5, 0.4), (0.5, 0.5, 0)),
    ((1, 0.5, 0.5), (1, 0.5, 0.5)), ((0.5, 0.8, 0.9), (0.5, 0.8, 0.9)), ((3, 0.5, 0.5), (1, 0.5, 0.5)),
])  # fmt: skip
def test_special_vectors(value, expected):
    assert torch.allclose(unit_normals(torch.tensor([value])), torch.tensor([expected]), atol=1e-6)


@pytest.mark.parametrize("fixed", [{0: 128 / 255}, {1: 0.75}, {0: 0.3, 1: 0.6}])
def test_the_other_axes_share_what_a_constant_leaves(fixed):
    values = torch.rand(200, 3)
    for axis, value in fixed.items():
        values[:, axis] = value
    result = unit_normals(values, fixed)
    expected = torch.tensor([plain_unit(value, tuple(fixed)) for value in values.tolist()])
    assert torch.allclose(result, expected, atol=1e-6)
    assert torch.equal(result[:, list(fixed)], values[:, list(fixed)])
    nothing = unit_normals(torch.full((1, 3), 0.5), {0: 0.5})
    assert torch.allclose(nothing, torch.tensor([[0.5, 0.5, 1.0]]))


@pytest.mark.parametrize("fixed", [{2: 1.0}, {2: 0.9}, {0: 0.5, 1: 0.5, 2: 1.0}, {0: 1.0}, {0: 1.0, 1: 1.0}])
def test_a_constant_z_or_one_that_leaves_no_length_is_left_alone(fixed):
    values = torch.rand(20, 3)
    assert torch.equal(unit_normals(values, fixed), values)


@pytest.mark.parametrize("shape", [(7, 5, 11), (1, 1, 11), (3, 11)], ids=str)
@pytest.mark.parametrize("at_a_time", [1, 4, 10**6])
def test_the_step_is_per_texel_and_touches_normals_only(monkeypatch, shape, at_a_time):
    """Bands of rows, single texels and whole images give the same."""
    monkeypatch.setattr(file_space, "TEXELS_AT_A_TIME", at_a_time)
    material = Material.from_arrays("made", {"normal": sphere(4, 4)}).record
    decoded = torch.rand(shape)
    result = in_file_space(decoded.clone(), material, {})
    expected = decoded.clone().reshape(-1, 11)
    expected[:, 3:6] = unit_normals(expected[:, 3:6])
    assert torch.equal(result, expected.reshape(shape))
    sliced = in_file_space(torch.stack([decoded, decoded], dim=-1)[..., 0], material, {})
    assert torch.equal(result, sliced), "also where the values do not lie one after the other"


def test_constants_come_last():
    material = Material.from_arrays("made", {"normal": sphere(4, 4)}).record
    decoded = torch.rand(6, 5, 11)
    result = in_file_space(decoded.clone(), material, {3: Constant(128, 8)})
    assert (result[..., 3] == np.float32(128 / 255)).all()
    assert torch.allclose((result[..., 3:6] * 2 - 1).norm(dim=2), torch.ones(6, 5), atol=1e-6)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_file_value_of_a_constant_is_that_of_material_texels(bits):
    top = 2**bits - 1
    for code in {0, 1, 2, 3, 9, 10, 11, 50, 127, 200, 254, 255, 256, 1000, 30000, 65534, 65535} & set(range(top + 1)):
        codes = np.full((3, 2, 3), code, f"uint{bits}")
        material = Material.from_arrays("made", {"diffuse": codes}, linear_color=True)
        (entry,) = material.record.maps
        value = file_value(material.constants[0], entry)
        assert torch.tensor(value) == material.texels(0)[0, 0, 0]
        assert bits == 16 or value == code / 255  # 8 bits survive the way through 16 bits of linear light


# --- where it applies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("length", [1.0, 0.997, 0.99, 0.95, 0.5])
@pytest.mark.parametrize("size", [(1, 1), (3, 7), (40, 600)], ids=str)
def test_the_length_error_is_measured(dtype, length, size):
    codes = sphere(*size, dtype, length)
    vectors = codes / np.iinfo(dtype).max * 2 - 1
    expected = np.abs(np.linalg.norm(vectors, axis=2) - 1).mean()
    assert normal_length_error(codes) == pytest.approx(expected, abs=2e-7)
    unit = Material.from_arrays("made", {"normal": codes}).unit_normals
    assert unit == (expected <= UNIT_NORMALS_TOLERANCE)
    assert size == (1, 1) or unit == (length > 0.996)


def test_what_is_recorded():
    with_normals = Material.from_arrays("made", {"normal": sphere(5, 5)}).record
    assert with_normals.maps[0].unit_normals is True and json.dumps(material_to_json(with_normals, {}))
    flattened = sphere(5, 5)
    flattened[..., 2] = 255  # two channels and a filler
    assert Material.from_arrays("made", {"normal": flattened}).record.maps[0].unit_normals is False
    material = Material.from_arrays("made", {"roughness": np.zeros((2, 2), np.uint8)})
    assert not material.unit_normals and "unit_normals" not in material_to_json(material.record, {})["maps"][0]


def test_normals_of_another_length_and_old_manifests_are_left_alone():
    model = NeuralTexture([GridSpec(4, 2, 8, 32)], DecoderSpec(2, 16, 1), 3)
    for length, unrecorded in ((0.9, {}), (1.0, {"unit_normals": None})):
        material = Material.from_arrays("made", {"normal": sphere(5, 4, length=length)}).record
        material = replace(material, maps=(replace(material.maps[0], **unrecorded),))
        assert torch.equal(decode_in_file_space(model, material, 0, NeuralTexture.decode), model.decode(0, 5, 4))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run on 21 x 13 unit normals and a diffuse."""
    folder = save_maps(tmp_path_factory.mktemp("maps") / "made", 21, 13, ("diffuse",))
    PillowImage.fromarray(sphere(21, 13)).save(folder / "made_normal.png")
    return quick("--data_dir", folder, "--save_dir", tmp_path_factory.mktemp("out"), "--max_iter", 25)


def test_a_run_ships_and_scores_unit_normals(run):
    exported = read_export(checkpoint_of(run, 25))
    material = exported.manifest.material
    assert [entry.unit_normals for entry in material.maps] == [None, True]
    raw = exported.model.decode(0, 21, 13)
    assert ((raw[..., 3:6] * 2 - 1).norm(dim=2) - 1).abs().mean() > 0.05, "there was something to do"
    for lod in range(material.num_lods):
        decoded = decode_in_file_space(exported.model, material, lod, decode_lod)
        assert ((decoded[..., 3:6] * 2 - 1).norm(dim=2) - 1).abs().max() < 1e-5
    quick("--mode", "infer", "--load_dir", run)
    with PillowImage.open(run / "infer" / "normal_lod0.png") as picture:
        vectors = np.array(picture) / 255 * 2 - 1
    assert np.abs(np.linalg.norm(vectors, axis=2) - 1).max() < 0.008  # rounding to 8 bits: at most sqrt(3) / 255
    source = Material.from_arrays("made", {"normal": sphere(21, 13), "diffuse": np.zeros((13, 21, 3), np.uint8)})
    unit = torch.tensor(decode_in_file_space(exported.model, material, 0, decode_lod)[..., 3:6].clamp(0, 1).numpy())
    mse = (((unit * 255 + 0.5).floor() / 255 - source.texels(0)[..., 3:6]).double() ** 2).mean().item()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["psnr"]["normal"] == pytest.approx(-10 * math.log10(mse), abs=1e-4)


def test_the_evaluation_follows_the_source(run):
    model = load_checkpoint(run).model
    arrays = {"normal": sphere(21, 13), "diffuse": np.zeros((13, 21, 3), np.uint8)}
    seen = {}
    for name, codes in (("unit", arrays["normal"]), ("short", sphere(21, 13, length=0.8))):
        lods = []
        evaluate_model(
            model, Material.from_arrays("made", {**arrays, "normal": codes}), 0, with_ssim=False, with_lpips=False,
            with_flip=False, decode=decode_lod, on_lod=lambda lod, decoded, source, lods=lods: lods.append(decoded),
        )  # fmt: skip
        seen[name] = lods[0]
    assert (seen["short"]["normal"] == to_8_bit(decode_lod(model, 0, 21, 13))[..., 3:6]).all()
    vectors = seen["unit"]["normal"] / 255 * 2 - 1
    assert np.abs(np.linalg.norm(vectors, axis=2) - 1).max() < 0.008  # rounding to 8 bits: at most sqrt(3) / 255


@pytest.mark.parametrize("flag", ["yes", 1, None, [True]])
def test_a_damaged_flag_is_refused(folder, refused, flag):
    edit_manifest(folder, lambda manifest: manifest["material"]["maps"][0].update(unit_normals=flag))
    with refused("manifest.json", "damaged"):
        read_export(folder)


@pytest.mark.parametrize("length", [1.0, 0.9])
def test_the_flag_decides_over_the_source(length, tmp_path):
    maps = save_maps(tmp_path / "maps", 16, 12)
    PillowImage.fromarray(sphere(16, 12, length=length)).save(next(maps.glob("*normal*")))
    for flag, unit in (("auto", length == 1.0), ("always", True), ("never", False)):
        run = quick("--data_dir", maps, "--save_dir", tmp_path / flag, "--max_iter", 20, "--unit_normals", flag)
        decoded = read_export(checkpoint_of(run, 20))
        assert decoded.manifest.material.map("normal").unit_normals is unit
        quick("--mode", "infer", "--load_dir", run)
        codes = np.asarray(PillowImage.open(next((run / "infer").glob("normal*0.png"))), dtype=np.float64)
        lengths = np.linalg.norm(codes / 127.5 - 1, axis=2)
        assert bool(np.abs(lengths - 1).max() < 0.01) is unit
