"""Ranges of activations of 8 bits in network_data.npz, manifest.json and checkpoints, and runs that have them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from describe.bare_files import parse_assumptions, read_bare_files
from describe.folder import describe_folder
from describe.numpy_decoder import decode, read_texture
from formats.manifest import MANIFEST, NETWORK, read_manifest
from formats.network_file import read_network
from formats.textures import read_export, read_textures, write_export
from maps.record import MapRecord, MaterialRecord
from model import NeuralTexture
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.exports import edit_manifest, npy, npz, reseal
from tests.support.runs import (
    _offline,  # noqa: F401  # autouse
    checkpoint_of,
    payload,
    quick,
    refusal,
    save_maps,
)

MAPS = ("diffuse", "roughness")
MATERIAL = MaterialRecord("made", 16, 16, tuple(MapRecord(name, "linear", "linear", 8, f"{name}.png") for name in MAPS))
GOOD = [[-1.0, 1.0], [-0.25, 3.0]]


def model_of(activation_bits=8, weight_bits=8) -> NeuralTexture:
    decoder = DecoderSpec(2, 16, 1, weight_bits=weight_bits, activation_bits=activation_bits)
    model = NeuralTexture([GridSpec(8, 3, 4, 32)], decoder, 5, present_channels=(0, 1, 2, 6))
    if activation_bits == 8:
        model.activation_ranges.copy_(torch.tensor(GOOD))
    return model


@pytest.fixture
def folder(tmp_path):
    write_export(tmp_path, model_of(), MATERIAL)
    return tmp_path


def test_ranges_are_read_back(folder):
    model, read = model_of(), read_export(folder).model
    assert torch.equal(read.activation_ranges, model.activation_ranges) and read.form == model.form
    assert torch.equal(read.decode(0, 16, 16), model.decode(0, 16, 16))
    assert np.array_equal(decode(read_texture(folder, model.form), 0, 16, 16), model.decode(0, 16, 16).numpy())
    arrays = reference.parse_npz((folder / NETWORK).read_bytes())
    assert arrays["activation_ranges"].tolist() == [-1, 1, -0.25, 3] and len(arrays) == 4
    manifest = read_manifest(folder)
    assert manifest.activation_ranges == ((-1, 1), (-0.25, 3))
    stored = sum(array.nbytes for name, array in arrays.items() if name != "info")
    assert manifest.rates["network"] == pytest.approx(stored * 8 / 256, abs=1e-6)
    description = describe_folder(folder)
    assert description.problems == [] and "-0.25 to 3" in "\n".join(description.lines)


@pytest.mark.parametrize("weight_bits", [32, 8])
def test_others_say_nothing_of_it(weight_bits, tmp_path):
    write_export(tmp_path, model_of(32, weight_bits), MATERIAL)
    assert "activation_" not in (tmp_path / MANIFEST).read_text()
    assert "activation_ranges" not in reference.parse_npz((tmp_path / NETWORK).read_bytes())
    assert read_export(tmp_path).model.activation_ranges is None
    assert "in ranges" not in "\n".join(describe_folder(tmp_path).lines)


def test_files_without_a_manifest(folder):
    (folder / MANIFEST).unlink()
    bare = read_bare_files(folder, parse_assumptions(""))
    assert np.array_equal(decode(bare.texture, 0, 16, 16), model_of().decode(0, 16, 16).numpy())


# --- damaged ---------------------------------------------------------------------------------------------------------

BROKEN = {
    "none": None,
    "a number": 3.0,
    "a layer less": GOOD[:1],
    "a layer more": [*GOOD, [-1.0, 1.0]],
    "three numbers": [[-1.0, 1.0], [-0.25, 3.0, 4.0]],
    "pairs of others": [[-1.0, 1.0, -0.25], [3.0]],
    "another range of inputs": [[-1.0, 2.0], GOOD[1]],
    "upside down": [GOOD[0], [3.0, -0.25]],
    "empty": [GOOD[0], [0.0, 0.0]],
    "above 0": [GOOD[0], [0.5, 3.0]],
    "infinite": [GOOD[0], [-0.25, float("inf")]],
    "no number": [GOOD[0], [float("nan"), 3.0]],
    "too large": [GOOD[0], [-0.25, 1e9]],
    "words": [GOOD[0], ["-0.25", "3"]],
    "whole numbers": [GOOD[0], [0, True]],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_manifest_with_broken_ranges_is_refused(name, folder, refused):
    edit_manifest(folder, lambda manifest: manifest["decoder"].update(activation_ranges=BROKEN[name]))
    with refused(MANIFEST):
        read_manifest(folder)


@pytest.mark.parametrize(("bits", "weights"), [(16, 8), (True, 8), ("8", 8), (8, 16), (8, 32), (32, 8)])
def test_a_manifest_with_impossible_bits_is_refused(bits, weights, folder, refused):
    edit_manifest(folder, lambda manifest: manifest["decoder"].update(activation_bits=bits, weight_bits=weights))
    with refused(MANIFEST):
        read_manifest(folder)


NUMBERS = [number for pair in GOOD for number in pair]
BROKEN_ARRAYS = {
    "float64": np.array(NUMBERS),
    "a pair less": np.array(NUMBERS[:2], np.float32),
    "a number more": np.array([*NUMBERS, 1], np.float32),
    "empty": np.zeros(0, np.float32),
    "no number": np.array([*NUMBERS[:3], np.nan], np.float32),
    "infinite": np.array([*NUMBERS[:3], np.inf], np.float32),
    "upside down": np.array([-1, 1, 3, -0.25], np.float32),
    "other inputs": np.array([-1, 1.5, -0.25, 3], np.float32),
}


@pytest.mark.parametrize("name", BROKEN_ARRAYS)
def test_a_network_with_broken_ranges_is_refused(name, folder, refused):
    with np.load(folder / NETWORK) as arrays:
        members = {f"{key}.npy": npy(arrays[key]) for key in arrays.files if key != "activation_ranges"}
    (folder / NETWORK).write_bytes(npz({**members, "activation_ranges.npy": npy(BROKEN_ARRAYS[name])}))
    with refused(NETWORK):
        read_network(folder / NETWORK)


def test_the_two_files_of_an_export_agree(folder, tmp_path, refused):
    edit_manifest(folder, lambda manifest: manifest["decoder"].update(activation_ranges=[GOOD[0], [-0.5, 3.0]]))
    assert any("ranges" in problem for problem in describe_folder(folder).problems)
    other = tmp_path / "other"
    other.mkdir()
    write_export(other, model_of(32), MATERIAL)
    (folder / NETWORK).write_bytes((other / NETWORK).read_bytes())
    reseal(folder)
    with refused(NETWORK):
        read_textures(folder, model_of().form)


def test_a_network_that_32_bits_cannot_hold_is_refused(folder, refused):
    """A range so narrow that activations leave it by more than there are numbers."""
    with np.load(folder / NETWORK) as arrays:
        members = {f"{key}.npy": npy(arrays[key]) for key in arrays.files}
        members["network_scales.npy"] = npy(arrays["network_scales"] * np.float32(2**40))
    members["activation_ranges.npy"] = npy(np.array([-1, 1, 0, 2**-20], np.float32))
    (folder / NETWORK).write_bytes(npz(members))
    with refused(NETWORK):
        read_textures(folder, model_of().form)


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["cpu", "torch"])
def test_a_run_measures_what_numpy_decodes(engine, tmp_path):
    maps = save_maps(tmp_path / "maps", 12, 12)
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "runs", "--max_iter", 30, "--shader_precision", 8,
                "--weight_round_start", 0.5, "--engine", engine, "--refine", 2 * (engine == "cpu"))  # fmt: skip
    config = json.loads((run / "config.json").read_text())
    assert (config["activation_bits"], config["weight_bits"]) == (8, 8)
    folder = checkpoint_of(run, 30)
    saved, export = payload(folder), read_export(folder)
    assert torch.equal(saved["activation_ranges"], export.model.activation_ranges)
    decoded = np.rint(np.clip(decode(read_texture(folder, export.model.form), 0, 12, 12), 0, 1) * 255)
    measured = json.loads((run / "metrics.json").read_text())["psnr"]
    for name, channels in (("diffuse", [0, 1, 2]), ("roughness", [6])):
        wanted = np.asarray(PillowImage.open(maps / f"made_{name}.png")).reshape(12, 12, -1)
        error = ((decoded[..., channels] - wanted) ** 2).mean() / 255**2
        assert measured[name] == pytest.approx(-10 * np.log10(error), abs=1e-3)


def test_checkpoints_with_broken_ranges_are_refused(tmp_path, capsys):
    maps = save_maps(tmp_path / "maps", 6, 6)
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "runs", "--max_iter", 3, "--activation_bits", 8)
    path = checkpoint_of(run, 3) / "model.pth"
    for ranges in (torch.tensor([[-1.0, 1.0]] * 2), torch.zeros(3, 2), torch.zeros(3, 2).double(), 5):
        broken = {**payload(path.parent), "activation_ranges": ranges}
        torch.save(broken, path)
        assert "model.pth" in refusal(capsys, "--mode", "infer", "--load_dir", run)


REFUSED = {
    "weights of 16 bits": (["--activation_bits", 8, "--weight_bits", 16], "weight_bits"),
    "features of 16 bits": (["--activation_bits", 8, "--quantize_bits", 16], "quantize_bits"),
    "floats": (["--activation_bits", 8, "--quantize", "False"], "--quantize"),
    "a contradiction": (["--shader_precision", 8, "--activation_bits", 32], "--shader_precision"),
    "the sample of Intel": (["--activation_bits", 8, "--decoder", "tsnc", "--latents", "bc1"], "--decoder tsnc"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_flags_that_do_not_go_together(name, tmp_path, capsys):
    flags, named = REFUSED[name]
    assert named in refusal(capsys, "--data_dir", tmp_path, *flags)


def test_a_run_of_floats_has_no_whole_numbers(tmp_path, capsys):
    maps = save_maps(tmp_path / "maps", 6, 6)
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "runs", "--max_iter", 3, "--weight_bits", 8)
    line = refusal(capsys, "--mode", "infer", "--load_dir", run, "--data_dir", maps, "--shader_precision", 8)
    assert "--activation_bits 8" in line and "32" in line and "train" in line


def test_decoders_with_other_bits_are_refused():
    with pytest.raises(ValueError, match="activation_bits"):
        DecoderSpec(activation_bits=16)
    with pytest.raises(ValueError, match="weight_bits 8"):
        DecoderSpec(activation_bits=8)
    assert dataclasses.replace(DecoderSpec(weight_bits=8), activation_bits=8).activation_bits == 8
