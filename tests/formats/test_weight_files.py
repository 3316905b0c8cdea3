"""network_data.npz with weights of 16 and 8 bits: written, read, described, and refused where it is damaged."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from describe.bare_files import parse_assumptions, read_bare_files
from describe.folder import describe_folder
from describe.numpy_decoder import decode, read_texture
from formats.manifest import MANIFEST, NETWORK, read_manifest
from formats.network_file import read_network
from formats.textures import read_export, read_textures, write_export
from maps.record import MapRecord, MaterialRecord
from model import NeuralTexture
from quantize import round_weights
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.exports import GOOD_INFO, edit_manifest, limited_memory, npy, npz, reseal

MAPS = ("diffuse", "roughness")
MATERIAL = MaterialRecord("made", 13, 6, tuple(MapRecord(name, "linear", "linear", 8, f"{name}.png") for name in MAPS))
FORMS = {
    "no layers": ([GridSpec(3, 1, 4, 16)], DecoderSpec(2, 16, 0)),
    "one layer": ([GridSpec(6, 2, 4, 32), GridSpec(5, 1, 8, 8)], DecoderSpec(0, 16, 1)),
    "learned": (
        [GridSpec(6, 2, 2, 8, "learned"), GridSpec(3, 1, 4, 32)], DecoderSpec(0, 48, 2, 3, "hard_swish"),
    ),
}  # fmt: skip
every_width = pytest.mark.parametrize("bits", [32, 16, 8])
every_form = pytest.mark.parametrize("form", FORMS)


def model_of(form: str, bits: int) -> NeuralTexture:
    grids, decoder = FORMS[form]
    return NeuralTexture(grids, dataclasses.replace(decoder, weight_bits=bits), 4, present_channels=(0, 1, 2, 6))


@every_form
@every_width
def test_exported_weights_are_read_back(bits, form, tmp_path):
    model = model_of(form, bits)
    write_export(tmp_path, model, MATERIAL)
    read = read_export(tmp_path).model
    assert read.form == model.form
    for mine, theirs in zip(read.weights, model.weights):
        assert torch.equal(mine, round_weights(theirs, bits))
    assert torch.equal(read.decode(0, 13, 6), model.decode(0, 13, 6))
    plain = decode(read_texture(tmp_path, model.form), 0, 13, 6, slice(0, 6))
    assert np.abs(plain - model.decode(0, 13, 6).numpy()).max() < 1e-5
    again = tmp_path / "again"
    again.mkdir()
    write_export(again, read, MATERIAL)
    assert (again / NETWORK).read_bytes() == (tmp_path / NETWORK).read_bytes()
    assert (again / MANIFEST).read_bytes() == (tmp_path / MANIFEST).read_bytes()


@every_form
@every_width
def test_rates_count_what_is_stored(bits, form, tmp_path):
    manifest = write_export(tmp_path, model_of(form, bits), MATERIAL)
    arrays = reference.parse_npz((tmp_path / NETWORK).read_bytes())
    stored = sum(array.nbytes for name, array in arrays.items() if name != "info")
    assert manifest.rates["network"] == pytest.approx(stored * 8 / (13 * 6), abs=1e-6)
    text = "\n".join(describe_folder(tmp_path).lines)
    assert f"network {stored}" in text and {32: "float32", 16: "float16", 8: "int8"}[bits] in text
    assert describe_folder(tmp_path).problems == []


@every_width
def test_a_manifest_names_another_width_than_32(bits, tmp_path):
    write_export(tmp_path, model_of("one layer", bits), MATERIAL)
    assert ("weight_bits" in (tmp_path / MANIFEST).read_text()) == (bits != 32)
    assert read_manifest(tmp_path).form.decoder.weight_bits == bits


@every_width
def test_files_without_a_manifest(bits, tmp_path):
    model = NeuralTexture([GridSpec(8, 3, 4, 32)], DecoderSpec(2, 16, 1, weight_bits=bits), 5)
    write_export(tmp_path, model, dataclasses.replace(MATERIAL, width=16, height=16))
    (tmp_path / MANIFEST).unlink()
    bare = read_bare_files(tmp_path, parse_assumptions(""))
    found = decode(bare.texture, 0, 16, 16, slice(0, 16))
    assert np.abs(found - model.decode(0, 16, 16).numpy()).max() < 1e-5
    assert {32: "float32", 16: "float16", 8: "int8"}[bits] in "\n".join(describe_folder(tmp_path).lines)


# --- damaged ---------------------------------------------------------------------------------------------------------

INT8, SCALES = np.full(256, 127, np.int8), np.full(16, 0.5, np.float32)
HALF = np.zeros(256, np.float16)


def changed(array: np.ndarray, **values) -> np.ndarray:
    """A copy with other values at some places, `at_3=7`."""
    copy = array.copy()
    for place, value in values.items():
        copy[int(place[3:])] = value
    return copy


DAMAGED = {
    "int8 alone": {"network_int8": INT8},
    "scales alone": {"network_scales": SCALES},
    "two widths": {"network_half": HALF, "network_int8": INT8, "network_scales": SCALES},
    "floats beside halves": {"network": HALF.astype(np.float32), "network_half": HALF},
    "floats called halves": {"network_half": HALF.astype(np.float32)},
    "halves called floats": {"network": HALF},
    "floats called int8": {"network_int8": INT8.astype(np.float32), "network_scales": SCALES},
    "half scales": {"network_int8": INT8, "network_scales": SCALES.astype(np.float16)},
    "a scale less": {"network_int8": INT8, "network_scales": SCALES[1:]},
    "a scale more": {"network_int8": INT8, "network_scales": np.append(SCALES, SCALES[:1])},
    "a weight less": {"network_int8": INT8[1:], "network_scales": SCALES},
    "no weights": {"network_int8": INT8[:0], "network_scales": SCALES[:0]},
    "a scale that is no number": {"network_int8": INT8, "network_scales": changed(SCALES, at_3=np.nan)},
    "an infinite scale": {"network_int8": INT8, "network_scales": changed(SCALES, at_3=np.inf)},
    "a scale too large": {"network_int8": INT8, "network_scales": changed(SCALES, at_3=3e38)},
    "a negative scale": {"network_int8": INT8, "network_scales": changed(SCALES, at_3=-0.5)},
    "-128": {"network_int8": changed(INT8, at_7=-128), "network_scales": SCALES},
    "a row below 127": {"network_int8": np.minimum(INT8, 126), "network_scales": SCALES},
    "a scale of 24 bits": {"network_int8": changed(INT8, at_1=45), "network_scales": changed(SCALES, at_0=1 / 3)},
    "an infinite half": {"network_half": changed(HALF, at_9=np.inf)},
    "a half that is no number": {"network_half": changed(HALF, at_9=np.nan)},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_networks_are_refused(name, tmp_path, refused):
    path = tmp_path / NETWORK
    arrays = {f"{array}.npy": npy(values) for array, values in DAMAGED[name].items()}
    path.write_bytes(npz({"info.npy": GOOD_INFO, **arrays}))
    with refused(NETWORK), limited_memory():
        read_network(path)


def test_good_networks_are_read(tmp_path):
    path = tmp_path / NETWORK
    for arrays, wanted, bits in (
        ({"network_int8": changed(INT8, at_1=-5), "network_scales": SCALES}, 63.5, 8),
        ({"network_half": changed(HALF, at_0=63.5)}, 63.5, 16),
    ):
        path.write_bytes(npz({"info.npy": GOOD_INFO, **{f"{name}.npy": npy(a) for name, a in arrays.items()}}))
        info, network, found, _ = read_network(path)
        assert (network.dtype, len(network), found, len(info)) == (np.float32, 256, bits, 10)
        assert network[0] == wanted
    assert network.max() == wanted


@pytest.mark.parametrize(("said", "held"), [(8, 16), (16, 8), (32, 8), (8, 32)])
def test_another_width_than_the_manifest_says(said, held, tmp_path, refused):
    for bits in (said, held):
        (tmp_path / str(bits)).mkdir()
        write_export(tmp_path / str(bits), model_of("one layer", bits), MATERIAL)
    folder = tmp_path / str(said)
    shutil.copy(tmp_path / str(held) / NETWORK, folder / NETWORK)
    with refused(NETWORK):
        read_textures(folder, model_of("one layer", said).form)
    reseal(folder)
    with refused(NETWORK):
        read_export(folder)
    assert any("bits" in problem for problem in describe_folder(folder).problems)


@pytest.mark.parametrize("value", [7, 64, "8", 8.0, True, None])
def test_a_manifest_with_an_impossible_width_is_refused(value, tmp_path, refused):
    write_export(tmp_path, model_of("one layer", 8), MATERIAL)
    edit_manifest(tmp_path, lambda manifest: manifest["decoder"].update(weight_bits=value))
    with refused(MANIFEST):
        read_manifest(tmp_path)
