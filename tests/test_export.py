"""export.py and manifest.py: what is written decodes to the same bits, here and elsewhere; damage is one line."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import os
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

import export
from dataset import MAPS, Material, linear_to_srgb, map_slice
from dds import Texture, encode_dds
from errors import UserError, run_command
from export import (
    MAX_NETWORK_BYTES,
    decode_in_file_space,
    encode_network,
    grid_textures,
    network_info,
    parse_info,
    read_export,
    read_network,
    read_textures,
    save_images,
    to_8_bit,
    write_export,
)
from manifest import MANIFEST, NETWORK, describe_material, read_manifest
from model import DecoderSpec, GridSpec, NeuralTexture
from quantize import QUANTIZE_BITS, SAVE_BITS

PAIRS = [(q, s) for q in QUANTIZE_BITS for s in SAVE_BITS if q <= s]
SIZES = {(64, 64): (16, 5, 6, 2), (40, 24): (20, 3, 5, 1), (1, 1): (1, 1, 1, 1)}  # two grids' resolutions and levels


def make_model(grids, decoder, material: Material, seed=0) -> NeuralTexture:
    """Random features, some of them outside the codes' range, and outputs on both sides of 0 and of 1."""
    model = NeuralTexture(
        grids, decoder, material.num_lods, present_channels=material.present_channels.tolist(), seed=seed
    )
    with torch.no_grad():
        for parameters in model.grid_parameters:
            parameters.uniform_(-0.6, 0.6)
    return model


def assert_same_decodes(one: NeuralTexture, other: NeuralTexture, width: int, height: int):
    for lod in range(one.num_lods):
        size = max(width >> lod, 1), max(height >> lod, 1)
        a, b = one.decode(lod, *size), other.decode(lod, *size)
        assert torch.equal(a.view(torch.int32), b.view(torch.int32))
        np.testing.assert_array_equal(to_8_bit(a), to_8_bit(b))


@contextlib.contextmanager
def limited_memory(extra_bytes=400 << 20):
    """Let this process take `extra_bytes` more address space and no more, where the system can do that."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + extra_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_the_memory_limit_limits():
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc")
    with limited_memory(), pytest.raises(MemoryError):
        np.ones(100_000_000)


# --- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(("quantize_bits", "save_bits"), PAIRS)
def test_an_export_decodes_to_the_same_bits(quantize_bits, save_bits, size, make_material, tmp_path):
    """Read back by the toolkit: bit for bit. By the reference, from DDS and npz alone: to float32 rounding."""
    material = make_material(*size)
    first, first_levels, second, second_levels = SIZES[size]
    grids = [
        GridSpec(first, first_levels, quantize_bits, save_bits),
        GridSpec(second, second_levels, min(4, quantize_bits), save_bits),
    ]
    model = make_model(grids, DecoderSpec(12, 16, 2), material)
    write_export(tmp_path, model, describe_material(material))
    exported = read_export(tmp_path)
    assert exported.model.grids == model.grids and exported.model.num_lods == material.num_lods
    for index in range(2):
        assert torch.equal(exported.model.codes(index), model.codes(index))
    for one, other in zip(exported.model.weights, model.weights):
        assert torch.equal(one, other)
    assert_same_decodes(model, exported.model, *size)

    texture = reference.load_export(tmp_path, material.num_lods)
    for lod, (width, height) in enumerate(material.lod_sizes):
        want = reference.decode(texture, lod, width, height)
        np.testing.assert_allclose(model.decode(lod, width, height).numpy(), want, rtol=0, atol=2e-5)
        assert want[..., material.present_channels].any() and not want[..., 7:].any()


OTHER_FORMS = {
    "learned": ([GridSpec(12, 2, 4, 32, "learned")], DecoderSpec(5, 32, 2, 3)),
    "mixed": (
        [GridSpec(10, 2, 8, 16), GridSpec(6, 2, 2, 64, "learned"), GridSpec(1, 1, 16, 16)], DecoderSpec(3, 16, 1, 1),
    ),
    "linear with texel waves": ([GridSpec(8, 4, 8, 32)], DecoderSpec(3, 16, 2, 9)),
    "no waves, no hidden layer": ([GridSpec(8, 1, 1, 8)], DecoderSpec(0, 16, 0)),
    "sixteen grids": ([GridSpec(2, 2, 8, 8)] * 16, DecoderSpec(12, 64, 4)),
    "another leak": ([GridSpec(8, 2, 8, 16)], DecoderSpec(3, 16, 2, 0, 0.25)),
}  # fmt: skip


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_other_forms_survive_too(form, make_material, tmp_path):
    material = make_material(23, 9, present=("normal", "displacement"))
    model = make_model(*OTHER_FORMS[form], material)
    write_export(tmp_path, model, describe_material(material))
    exported = read_export(tmp_path)
    assert exported.model.grids == model.grids and exported.model.decoder == model.decoder
    assert_same_decodes(model, exported.model, 23, 9)
    exported_again = tmp_path / "again"
    exported_again.mkdir()
    write_export(exported_again, exported.model, exported.manifest["material"])
    assert sorted(path.read_bytes() for path in exported_again.iterdir()) == sorted(
        path.read_bytes() for path in tmp_path.iterdir() if path.is_file()
    )


@pytest.mark.parametrize("form", ["learned", "mixed", "linear with texel waves"])
def test_the_reference_decodes_other_forms_with_what_the_manifest_says(form, make_material, tmp_path):
    material = make_material(23, 9)
    model = make_model(*OTHER_FORMS[form], material)
    manifest = write_export(tmp_path, model, describe_material(material))
    interpolations = [grid["interpolation"] for grid in manifest["grids"]]
    texture = reference.load_export(
        tmp_path, manifest["material"]["num_lods"], interpolations, manifest["decoder"]["n_texel_frequencies"]
    )
    uv = np.random.default_rng(0).random((500, 2)).astype(np.float32)
    for lod in range(material.num_lods):
        got = model(torch.from_numpy(uv), torch.full((500,), lod)).detach().numpy()
        want = reference.forward(texture, uv, np.full(500, lod))
        near = np.zeros(500, bool)  # on the lines between texels `learned` jumps, and the last bit decides
        for grid in texture.grids:
            for level in grid.levels:
                p = uv.astype(np.float64) * len(level) - 0.5
                near |= (np.abs(p - np.round(p)) < 1e-5).any(axis=1)
        assert near.mean() < 0.05
        np.testing.assert_allclose(got[~near], want[~near], rtol=0, atol=5e-5)


def test_only_quantised_models_are_exported(make_material, tmp_path):
    material = make_material(8, 8)
    model = NeuralTexture([GridSpec(4, 1, 8, 32)], DecoderSpec(2, 16, 1), 4, quantized=False)
    with pytest.raises(ValueError, match="quantised"):
        write_export(tmp_path, model, describe_material(material))
    assert not list(tmp_path.iterdir())


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """(folder, model, material) of one small export: a grid with two planes, one with R8G8 texels; 12x10, two maps."""
    torch.set_num_threads(1)
    random = np.random.default_rng(4)
    arrays = {"diffuse": random.integers(0, 256, (10, 12, 3), dtype=np.uint8),
              "roughness": random.integers(0, 256, (10, 12, 1), dtype=np.uint8)}  # fmt: skip
    material = Material.from_arrays("made", arrays)
    grids = [GridSpec(6, 2, 8, 64, "learned"), GridSpec(3, 1, 4, 16)]
    torch.manual_seed(8)
    model = make_model(grids, DecoderSpec(3, 16, 1, 3), material)
    folder = tmp_path_factory.mktemp("shipped")
    write_export(folder, model, describe_material(material), {"psnr": {"all": 31.5}})
    return folder, model, material


FILES = ["hash_grid_0.dds", "hash_grid_0_p1.dds", "hash_grid_1.dds", NETWORK]


@pytest.fixture
def folder(shipped, tmp_path):
    """A copy of the export to be damaged."""
    return Path(shutil.copytree(shipped[0], tmp_path / "copy"))


def edit_manifest(folder: Path, change) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def reseal(folder: Path) -> None:
    """Make the manifest's sizes and hashes fit the files, as someone with bad intentions would."""

    def change(manifest):
        for name in manifest["files"]:
            if (folder / name).exists():
                payload = (folder / name).read_bytes()
                manifest["files"][name] = {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}

    edit_manifest(folder, change)


def test_nothing_but_the_promised_files(shipped):
    assert sorted(path.name for path in shipped[0].iterdir()) == sorted([*FILES, MANIFEST])


def test_info_by_hand(shipped):
    folder, model, _ = shipped
    info, network = read_network(folder / NETWORK)
    # grids; base resolution, levels, features, quantize_bits, save_bits of each; frequencies, neurons, layers, outputs
    assert info.tolist() == [2, 3, 2, 8, 8, 64, 3, 1, 4, 4, 16, 3, 16, 1, 16]
    assert info.dtype == np.int32 and network.dtype == np.float32
    # 2*3 waves + 4*8 features + 4 + LOD = 43, padded to 48, + 2*3 texel waves padded to 16
    assert len(network) == 16 * 64 + 16 * 16
    want = [float(w) for weight in model.weights for row in weight.tolist() for w in row]
    assert network.tolist() == want
    with np.load(folder / NETWORK, allow_pickle=False) as archive:
        assert sorted(archive.files) == ["info", "network"]
        np.testing.assert_array_equal(archive["info"], info)
        np.testing.assert_array_equal(archive["network"], network)
    parsed = reference.parse_npz((folder / NETWORK).read_bytes())
    np.testing.assert_array_equal(parsed["info"], info)
    np.testing.assert_array_equal(parsed["network"], network)


def test_planes_and_levels_of_the_textures(shipped):
    """64-bit words are two planes: bytes 0 to 3 in the first, 4 to 7 in _p1. The finest level is mip 0."""
    folder, model, _ = shipped
    planes = [reference.parse_dds((folder / name).read_bytes()) for name in FILES[:3]]
    assert [plane["dxgiFormat"] for plane in planes] == [28, 28, 49]
    assert [[level.shape for level in plane["levels"]] for plane in planes] == [
        [(6, 6, 4), (3, 3, 4)], [(6, 6, 4), (3, 3, 4)], [(3, 3, 2)],
    ]  # fmt: skip
    codes = model.codes(0).numpy()
    for mip, first, resolution in ((0, 9, 6), (1, 0, 3)):
        for y, x in ((0, 0), (0, 1), (resolution - 1, 1)):
            word = reference.pack_word(codes[first + y * resolution + x], 8, 64)
            assert planes[0]["levels"][mip][y, x].tobytes() == word[:4]
            assert planes[1]["levels"][mip][y, x].tobytes() == word[4:]
    codes = model.codes(1).numpy()
    assert planes[2]["levels"][0][2, 1].tobytes() == reference.pack_word(codes[2 * 3 + 1], 4, 16)
    assert [texture.dxgi_format for texture in grid_textures(model, 0)] == [28, 28]


@pytest.mark.parametrize(("save_bits", "files", "name"), [
    (8, ["hash_grid_0.dds"], "R8_UNORM"), (16, ["hash_grid_0.dds"], "R8G8_UNORM"),
    (32, ["hash_grid_0.dds"], "R8G8B8A8_UNORM"), (64, ["hash_grid_0.dds", "hash_grid_0_p1.dds"], "R8G8B8A8_UNORM"),
])  # fmt: skip
def test_files_of_each_word_size(save_bits, files, name, make_material, tmp_path):
    material = make_material(4, 4)
    model = make_model([GridSpec(4, 3, 8, save_bits)], DecoderSpec(1, 16, 1), material)
    manifest = write_export(tmp_path, model, describe_material(material))
    assert manifest["grids"][0]["files"] == files and manifest["grids"][0]["format"] == name
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*files, NETWORK, MANIFEST])
    data = sum((tmp_path / file).stat().st_size - 148 for file in files)
    assert data == (16 + 4 + 1) * save_bits // 8  # a word costs what save_bits says


def test_manifest_by_hand(shipped):
    folder, _, material = shipped

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"), parse_constant=refuse)
    assert manifest == read_manifest(folder) and manifest["format"] == "neural-texture" and manifest["version"] == 1

    assert set(manifest["files"]) == set(FILES)
    for name, entry in manifest["files"].items():
        payload = (folder / name).read_bytes()
        assert entry == {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    assert manifest["bytes_on_disk"] == sum((folder / name).stat().st_size for name in FILES)

    described = manifest["material"]
    assert (described["name"], described["width"], described["height"], described["num_lods"]) == ("made", 12, 10, 4)
    assert [(entry["map"], entry["channels"], entry["color_space"]) for entry in described["maps"]] == [
        ("diffuse", [0, 1, 2], "srgb"), ("roughness", [6], "linear"),
    ]  # fmt: skip
    pixels = b"".join(material.stored(0, name).tobytes() for name in ("diffuse", "roughness"))
    assert described["sha256"] == hashlib.sha256(pixels).hexdigest()

    first, second = manifest["grids"]
    assert first == {
        "files": FILES[:2], "format": "R8G8B8A8_UNORM", "max_resolution": 6, "base_resolution": 3, "n_levels": 2,
        "features": 8, "quantize_bits": 8, "save_bits": 64, "interpolation": "learned",
    }  # fmt: skip
    assert second == {
        "files": FILES[2:3], "format": "R8G8_UNORM", "max_resolution": 3, "base_resolution": 3, "n_levels": 1,
        "features": 4, "quantize_bits": 4, "save_bits": 16, "interpolation": "linear",
    }  # fmt: skip

    decoder = manifest["decoder"]
    assert decoder["layers"] == [[16, 64], [16, 16]]
    assert (decoder["activation"], decoder["negative_slope"], decoder["biases"]) == ("leaky_relu", 0.01, False)
    assert (decoder["n_frequencies"], decoder["n_texel_frequencies"]) == (3, 3)
    assert (decoder["outputs"], decoder["padded_outputs"]) == (11, 16)
    counts = [(group["first"], group["count"]) for group in decoder["inputs"]]
    # waves of uv | 4 texels of 8 features | 4 features | LOD | ones | texel waves | ones
    assert counts == [(0, 6), (6, 32), (38, 4), (42, 1), (43, 5), (48, 6), (54, 10)]

    rates, texels, network = manifest["rates"], 12 * 10, 32 * (16 * 64 + 16 * 16)
    assert rates["grids"] == pytest.approx((36 * 64 + 9 * 16) / texels)
    assert rates["network"] == pytest.approx(network / texels)
    assert rates["bpp"] == pytest.approx((36 * 64 + 9 * 16 + network) / texels)
    assert rates["all_mips"] == pytest.approx(((36 + 9) * 64 + 9 * 16 + network) / texels)
    assert manifest["metrics"] == {"psnr": {"all": 31.5}}


@pytest.mark.parametrize("decoder", [DecoderSpec(2, 16, 0), DecoderSpec(12, 64, 2), DecoderSpec(0, 16, 1, 8)], ids=str)
def test_decoder_inputs_of_the_manifest_fill_the_first_layer(decoder, make_material, tmp_path):
    material = make_material(8, 8)
    model = make_model([GridSpec(4, 1, 8, 32, "learned"), GridSpec(2, 1, 8, 8)], decoder, material)
    described = write_export(tmp_path, model, describe_material(material))["decoder"]
    position = 0
    for group in described["inputs"]:
        assert group["first"] == position and group["count"] > 0
        position += group["count"]
    assert position == described["layers"][0][1] == model.weights[0].shape[1]


def test_strange_names_are_kept(make_material, tmp_path):
    material = make_material(4, 4)
    material.name = "größe \"x\"\n材质"
    material.files["diffuse"] = "\\weird\u2028.png"
    model = make_model([GridSpec(4, 1, 8, 32)], DecoderSpec(1, 16, 1), material)
    write_export(tmp_path, model, describe_material(material))
    described = read_export(tmp_path).manifest["material"]
    assert described["name"] == material.name and described["maps"][0]["file"] == material.files["diffuse"]


# --- images ----------------------------------------------------------------------------------------------------------


def test_8_bit_rounding():
    values = torch.tensor([-1.0, -0.001, 0.0, 0.499 / 255, 0.5 / 255, 1 / 255, 254.5 / 255, 1.0, 1.5, float("inf")])
    assert to_8_bit(values).tolist() == [0, 0, 0, 0, 1, 1, 255, 255, 255, 255]


def test_images_hold_the_decoded_values(shipped, tmp_path):
    folder, model, material = shipped
    paths = save_images(tmp_path / "images", read_export(folder))
    assert len(paths) == 2 * 4 and all(path.is_file() for path in paths)
    for lod, (width, height) in enumerate(material.lod_sizes):
        decoded = model.decode(lod, width, height).numpy().astype(np.float64)
        for name in material.present:
            with Image.open(tmp_path / "images" / f"{name}_lod{lod}.png") as picture:
                assert picture.size == (width, height) and picture.mode == ("RGB" if MAPS[name] == 3 else "L")
                pixels = np.asarray(picture).reshape(height, width, -1)
            want = np.floor(np.clip(decoded[..., map_slice(name)], 0, 1) * 255 + 0.5)
            # the toolkit rounds in float32, which may go the other way at a tie
            assert np.abs(pixels - want).max() <= 1 and (pixels == want).mean() > 0.99


def test_linear_colour_is_encoded_again_in_images(tmp_path):
    random = np.random.default_rng(0)
    arrays = {"diffuse": random.integers(0, 256, (6, 5, 3), dtype=np.uint8),
              "roughness": random.integers(0, 256, (6, 5, 1), dtype=np.uint8)}  # fmt: skip
    material = Material.from_arrays("linear", arrays, linear_color=True)
    model = make_model([GridSpec(4, 2, 8, 32)], DecoderSpec(2, 16, 1), material)
    write_export(tmp_path, model, describe_material(material))
    exported = read_export(tmp_path)
    decoded, shown = model.decode(0, 5, 6), decode_in_file_space(exported.model, exported.manifest["material"], 0)
    torch.testing.assert_close(shown[..., :3], linear_to_srgb(decoded[..., :3]))
    assert torch.equal(shown[..., 3:], decoded[..., 3:])
    assert not torch.allclose(shown[..., :3], decoded[..., :3])


# --- the command -----------------------------------------------------------------------------------------------------


def test_command_decodes_an_export(folder, tmp_path, capsys):
    assert export.main(["--load_dir", str(folder), "--out_dir", str(tmp_path / "out"), "--images"]) == 0
    assert len(list((tmp_path / "out" / "images").glob("*.png"))) == 8
    assert "8 images" in capsys.readouterr().out


def test_command_refuses_what_it_cannot_do(folder, tmp_path, refused, capsys):
    out = ["--out_dir", str(tmp_path / "out")]
    with refused("--images"):
        export.main(["--load_dir", str(folder), *out])
    with refused("nowhere"):
        export.main(["--load_dir", str(tmp_path / "nowhere"), *out])
    with refused("--load_dir"):
        export.main(out)
    (folder / NETWORK).unlink()
    assert run_command(lambda: export.main(["--load_dir", str(folder), *out, "--images"])) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


# --- damaged files ---------------------------------------------------------------------------------------------------


def _flip(path: Path) -> None:
    payload = bytearray(path.read_bytes())
    payload[len(payload) * 2 // 3] ^= 1
    path.write_bytes(payload)


def _become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE = {
    "flipped bit": _flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "extended": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "empty": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
    "a folder": _become_a_folder,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_named(name, damage, folder, refused):
    DAMAGE[damage](folder / name)
    with refused(name):
        read_export(folder)


@pytest.mark.parametrize("damage", ["halved", "empty", "deleted", "a folder"])
def test_a_damaged_manifest_is_named(damage, folder, refused):
    DAMAGE[damage](folder / MANIFEST)
    with refused(MANIFEST):
        read_export(folder)


@pytest.mark.parametrize("damage", ["truncated", "halved", "extended", "empty", "deleted", "a folder"])
@pytest.mark.parametrize("name", FILES)
def test_damaged_files_with_fitting_hashes_are_named(name, damage, folder, refused):
    """The parsers are reached, and say the same."""
    if (name, damage) == (NETWORK, "extended"):
        pytest.skip("a zip file may carry bytes behind its end")
    DAMAGE[damage](folder / name)
    if (folder / name).is_file():
        reseal(folder)
    with refused(name), limited_memory():
        read_export(folder)


def test_files_that_do_not_fit_each_other_are_refused(shipped, folder, refused):
    _, model, material = shipped
    random = np.random.default_rng(0)

    def texture(*shapes):
        return encode_dds(Texture(tuple(random.integers(0, 256, shape, dtype=np.uint8) for shape in shapes)))

    others = {
        "hash_grid_0.dds": [texture((12, 12, 4), (6, 6, 4)), texture((6, 6, 4)), texture((6, 6, 2), (3, 3, 2)),
                            texture((6, 6, 4), (3, 3, 4), (1, 1, 4)), texture((6, 3, 4), (3, 1, 4))],
        "hash_grid_0_p1.dds": [texture((6, 6, 4)), texture((3, 3, 4), (1, 1, 4)), texture((6, 6, 1), (3, 3, 1))],
        "hash_grid_1.dds": [texture((3, 3, 4)), texture((3, 3, 1)), texture((3, 3, 2), (1, 1, 2))],
    }  # fmt: skip
    for name, payloads in others.items():
        kept = (folder / name).read_bytes()
        for payload in payloads:
            (folder / name).write_bytes(payload)
            reseal(folder)
            with refused(name):
                read_export(folder)
        (folder / name).write_bytes(kept)
    for grids, decoder in [
        ([GridSpec(6, 2, 8, 64), GridSpec(3, 1, 4, 16)], DecoderSpec(3, 32, 1, 3)),  # other widths
        ([GridSpec(6, 2, 8, 64), GridSpec(3, 1, 4, 16)], DecoderSpec(3, 16, 2, 3)),
        ([GridSpec(6, 2, 8, 64)], DecoderSpec(3, 16, 1, 3)),  # other grids
        ([GridSpec(6, 2, 8, 64, "learned"), GridSpec(3, 1, 4, 8)], DecoderSpec(3, 16, 1, 3)),
    ]:
        (folder / NETWORK).write_bytes(encode_network(make_model(grids, decoder, material)))
        reseal(folder)
        with refused():
            read_export(folder)
    (folder / NETWORK).write_bytes(encode_network(model))
    reseal(folder)
    read_export(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_the_manifest_does_not_list_is_not_trusted(name, folder, refused):
    """Without its hash a damaged texture would pass for a good one."""
    edit_manifest(folder, lambda manifest: manifest["files"].pop(name))
    with refused():
        read_export(folder)


@pytest.mark.parametrize(
    "name",
    ["../victim.dds", "/etc/passwd", "sub/file.dds", "..", ".", "", "a\0b", "two\nlines.dds", "x" * 300, "\ud800.dds",
     "..\\victim.dds", "C:\\victim.dds", "missing.dds"],
    ids=lambda name: repr(name)[:20],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(name, folder, refused):
    """With the right size and hash of a file that exists, so that nothing but the name is wrong."""
    (folder.parent / "victim.dds").write_bytes(b"victim")
    (folder / "sub").mkdir()
    (folder / "sub" / "file.dds").write_bytes(b"victim")
    entry = {"bytes": 6, "sha256": hashlib.sha256(b"victim").hexdigest()}
    edit_manifest(folder, lambda manifest: manifest["files"].update({name: entry}))
    with refused():
        read_export(folder)


@pytest.mark.parametrize("files", [None, [], "x", 5, {"x": 5}, {"hash_grid_0.dds": None}, {}], ids=str)
def test_absurd_file_lists_are_refused(files, folder, refused):
    edit_manifest(folder, lambda manifest: manifest.update(files=files))
    with refused():
        read_export(folder)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "5", '"neural-texture"', "{", '{"format": "neural-texture"', "\ufeff{}", "[" * 100_000,
     '{"format": "other", "version": 1}', '{"format": "neural-texture"}', '{"format": "neural-texture", "version": 2}',
     '{"format": "neural-texture", "version": "1"}', '{"format": "neural-texture", "version": 1}',
     '{"format": "neural-texture", "version": ' + "9" * 5000 + "}",
     '{"format": "neural-texture", "version": "' + "a\\n" * 5000 + '"}',
     '{"format": ["neural-texture"], "version": 1}'],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_other_json_is_refused(text, folder, refused):
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    with refused(MANIFEST), limited_memory():
        read_export(folder)


@pytest.mark.parametrize("payload", [b"\xff\xfe{}", b"\x80", b"{}" + b" " * (2 << 20)], ids=["utf-16", "odd", "large"])
def test_other_bytes_are_refused(payload, folder, refused):
    (folder / MANIFEST).write_bytes(payload)
    with refused(MANIFEST):
        read_export(folder)


ABSURD = [None, True, -1, 0, 2, 2.5, 10**30, -(10**30), "", "x\ny", "../x", [], [1], {}, {"x": 1}]


def leaves(value, path=()):
    """Every place in a JSON value, containers as well."""
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from leaves(value[key], (*path, key))


def same_texture(one: NeuralTexture, other: NeuralTexture) -> bool:
    return (
        (one.grids, one.decoder, one.num_lods) == (other.grids, other.decoder, other.num_lods)
        and all(torch.equal(one.codes(index), other.codes(index)) for index in range(len(one.grids)))
        and all(torch.equal(a, b) for a, b in zip(one.weights, other.weights))
    )


@pytest.mark.parametrize("part", ["material", "grids", "decoder", "rates", "bytes_on_disk", "metrics", "files"])
def test_absurd_manifest_values_are_refused_or_change_nothing(part, shipped, folder):
    """Whatever is put in whatever place: one clear line, or the very same texture; never another one, never a crash."""
    _, model, _ = shipped
    original = json.loads((folder / MANIFEST).read_text())
    n_refused, wrong = 0, []
    for path in leaves(original):
        if path[0] != part:
            continue
        for value in [None, 10**30, "removed"] if {"inputs", "layers"} & set(path) else [*ABSURD, "removed"]:
            manifest = copy.deepcopy(original)
            parent = manifest
            for key in path[:-1]:
                parent = parent[key]
            if value == "removed":
                del parent[path[-1]]
            else:
                parent[path[-1]] = value
            (folder / MANIFEST).write_text(json.dumps(manifest))
            try:
                exported = read_export(folder)
            except UserError as error:
                n_refused += 1
                if len(str(error).splitlines()) != 1:
                    wrong.append((path, value, str(error)))
            except Exception as error:
                wrong.append((path, value, repr(error)))
            else:
                if not same_texture(exported.model, model):
                    wrong.append((path, value, "is another texture"))
    assert not wrong, f"{len(wrong)} such as {wrong[:5]}"
    assert n_refused or part in ("rates", "bytes_on_disk", "metrics")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("material", "width"), 0), (("material", "width"), 10**9), (("material", "height"), "10"),
        (("material", "height"), 10.0), (("material", "num_lods"), 5), (("material", "num_lods"), 10**12),
        (("material", "maps"), []),
        (("material", "maps", 0, "map"), "normal"), (("material", "maps", 0, "map"), "lava"),
        (("material", "maps", 1, "channels"), [7]), (("material", "maps", 1, "channels"), [10**12]),
        (("material", "maps", 0, "color_space"), "hsv"), (("material", "maps", 0, "file_color_space"), ["srgb"]),
        (("grids",), []), (("grids",), 10**12), (("grids", 0, "interpolation"), "cubic"),
        (("grids", 0, "interpolation"), "linear"), (("decoder", "n_texel_frequencies"), 10**12),
        (("decoder", "n_texel_frequencies"), -3), (("decoder", "n_texel_frequencies"), 12),
        (("decoder", "n_texel_frequencies"), "3"), (("decoder",), None),
    ],
    ids=str,
)  # fmt: skip
def test_manifest_values_that_decoding_needs_are_checked(path, value, folder, refused):
    def change(manifest):
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    edit_manifest(folder, change)
    with refused(), limited_memory():
        read_export(folder)


def test_materials_larger_than_any_that_is_read_are_not_decoded(folder, tmp_path, refused):
    """images.MAX_PIXELS bounds what can be trained on; LOD 0 of what this manifest claims would take 189 GB."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("no way to limit the memory here")
    edit_manifest(folder, lambda manifest: manifest["material"].update(width=65536, height=65536, num_lods=17))
    with limited_memory(), refused():
        save_images(tmp_path / "images", read_export(folder))


# --- network_data.npz ------------------------------------------------------------------------------------------------


def npy(array=None, *, header: str | None = None, data: bytes = b"", version=(1, 0)) -> bytes:
    """The bytes of a .npy file; `header` and `data` for those that numpy would not write."""
    if array is not None:
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.asarray(array), allow_pickle=True)
        return stream.getvalue()
    text = (header + "\n").encode("latin1")
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text + data


def npz(members, compression=zipfile.ZIP_STORED, level=None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression, compresslevel=level) as archive:
        for name, payload in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, payload)
    return stream.getvalue()


def describe(descr, shape, fortran=False) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


GOOD_INFO = npy(np.array([1, 2, 1, 1, 8, 8, 0, 16, 0, 16], np.int32))
GOOD_NETWORK = npy(np.zeros(16 * 16, np.float32))


def only_network(payload: bytes) -> bytes:
    return npz({"info.npy": GOOD_INFO, "network.npy": payload})


def with_central_field(payload: bytes, offset: int, value: bytes, member=1) -> bytes:
    """Overwrite a field of a member's central directory entry (PKWARE APPNOTE 4.3.12)."""
    at = -1
    for _ in range(member + 1):
        at = payload.index(b"PK\x01\x02", at + 1)
    return payload[: at + offset] + value + payload[at + offset + len(value) :]


HEADERS = {
    "unbalanced": "{'descr': '<f4', 'fortran_order': False, 'shape': (256,",
    "open string": "{'descr': '<f4",
    "empty": "",
    "not a dict": "[1, 2, 3]",
    "a call": "{'descr': '<f4', 'fortran_order': False, 'shape': __import__('os').getpid()}",
    "extra key": "{'descr': '<f4', 'fortran_order': False, 'shape': (256,), 'x': 1}",
    "missing key": "{'descr': '<f4', 'shape': (256,)}",
    "dtype of nothing": describe("<q9", "(256,)"),
    "dtype a number": describe(5, "(256,)"),
    "dtype without size": describe("|V0", "(1000000000000,)"),
    "dtype with shape": describe([("a", "<f4", (1 << 40,))], "(1,)"),
    "objects": describe("|O", "(256,)"),
    "nested objects": describe([("a", "|O")], "(128,)"),
    "10**12 elements": describe("<f4", "(1000000000000,)"),
    "10**30 elements": describe("<f4", f"({10**30},)"),
    "10**30 times nothing": describe("<f4", f"(0, {10**30})"),
    "negative": describe("<f4", "(-256,)"),
    "negative twice": describe("<f4", "(-16, -16)"),
    "shape of floats": describe("<f4", "(256.0,)"),
    "shape of booleans": describe("<f4", "(True,)"),
    "many dimensions": describe("<f4", "(" + "1, " * 200 + "256)"),
    "one more": describe("<f4", "(257,)"),
    "one fewer": describe("<f4", "(255,)"),
    "minus signs": "-" * 5000 + "1",
    "brackets": "[" * 5000,
    "null bytes": "\0" * 64,
    "latin": "\xff" * 64,
    "long": describe("<f4", "(256,)") + " " * 60_000,
}  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_hostile_array_headers_are_refused(header, tmp_path, refused):
    path = tmp_path / NETWORK
    data = b"" if "nothing" in header or "without" in header else bytes(1024)
    path.write_bytes(only_network(npy(header=HEADERS[header], data=data)))
    with refused(NETWORK), limited_memory():
        read_network(path)


ARRAYS = {
    "float64": np.zeros(256), "float16": np.zeros(256, np.float16), "big-endian": np.zeros(256, ">f4"),
    "2-D": np.zeros((16, 16), np.float32), "0-D": np.float32(1), "integers": np.zeros(256, np.int32),
    "NaN": np.full(256, np.nan, np.float32), "infinite": np.full(256, -np.inf, np.float32),
    "text": np.array(["x"] * 256), "objects": np.array([None, {}], object), "complex": np.zeros(128, np.complex64),
    "record": np.zeros(256, [("a", "<f4")]), "time": np.zeros(256, "datetime64[s]"),
}  # fmt: skip


@pytest.mark.parametrize("array", ARRAYS)
def test_other_arrays_are_refused(array, tmp_path, refused):
    path = tmp_path / NETWORK
    path.write_bytes(only_network(npy(ARRAYS[array])))
    with refused(NETWORK):
        read_network(path)
    path.write_bytes(npz({"info.npy": npy(ARRAYS[array]), "network.npy": GOOD_NETWORK}))
    if array != "integers":
        with refused(NETWORK):
            read_network(path)


def test_pickles_are_not_opened(tmp_path, refused):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    path = tmp_path / NETWORK
    path.write_bytes(only_network(npy(np.array([Trap()], object))))
    with refused(NETWORK):
        read_network(path)
    assert not (tmp_path / "trapped").exists()


MEMBERS = {
    "none": {},
    "info alone": {"info.npy": GOOD_INFO},
    "network alone": {"network.npy": GOOD_NETWORK},
    "one more": {"info.npy": GOOD_INFO, "network.npy": GOOD_NETWORK, "extra.npy": GOOD_INFO},
    "info twice": [("info.npy", GOOD_INFO), ("info.npy", GOOD_INFO), ("network.npy", GOOD_NETWORK)],
    "other case": {"Info.npy": GOOD_INFO, "network.npy": GOOD_NETWORK},
    "no suffix": {"info": GOOD_INFO, "network": GOOD_NETWORK},
    "a path": {"../info.npy": GOOD_INFO, "network.npy": GOOD_NETWORK},
    "lines": {"info.npy\n": GOOD_INFO, "network.npy": GOOD_NETWORK},
    "many": {f"{i}.npy": b"" for i in range(2000)},
    "long": {"n" * 60_000: GOOD_INFO, "network.npy": GOOD_NETWORK},
    "not npy": {"info.npy": b"hello", "network.npy": GOOD_NETWORK},
    "empty": {"info.npy": b"", "network.npy": GOOD_NETWORK},
    "version 9": {"info.npy": GOOD_INFO[:6] + b"\x09\0" + GOOD_INFO[8:], "network.npy": GOOD_NETWORK},
    "version 0": {"info.npy": GOOD_INFO[:6] + b"\0\0" + GOOD_INFO[8:], "network.npy": GOOD_NETWORK},
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("members", MEMBERS)
def test_other_members_are_refused(members, tmp_path, refused):
    path = tmp_path / NETWORK
    path.write_bytes(npz(MEMBERS[members]))
    with refused(NETWORK) as caught:
        read_network(path)
    assert len(str(caught.value)) < len(str(path)) + 1000, "the message is as long as the attacker likes"


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_archives_are_read_or_refused(compression, tmp_path):
    path = tmp_path / NETWORK
    path.write_bytes(npz({"info.npy": GOOD_INFO, "network.npy": GOOD_NETWORK}, compression))
    try:
        info, network = read_network(path)
    except UserError:
        assert compression != zipfile.ZIP_STORED
    else:
        assert len(info) == 10 and len(network) == 256


@pytest.mark.parametrize("method", [8, 9, 12, 14, 93, 99, 65535])
def test_data_of_another_compression_method_is_refused(method, tmp_path, refused):
    """Stored bytes that the archive calls deflated, bzip2, LZMA, ...: the decompressors raise errors of their own."""
    path = tmp_path / NETWORK
    payload = only_network(GOOD_NETWORK)
    payload = with_central_field(payload, 10, struct.pack("<H", method))
    local = payload.index(b"PK\x03\x04", 1)
    path.write_bytes(payload[: local + 8] + struct.pack("<H", method) + payload[local + 10 :])
    with refused(NETWORK), limited_memory():
        read_network(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compressed_data_is_refused(compression, tmp_path, refused):
    path = tmp_path / NETWORK
    payload = npz({"info.npy": GOOD_INFO, "network.npy": GOOD_NETWORK}, compression)
    data = payload.index(b"network.npy") + len(b"network.npy")
    for junk in (b"\xff" * 8, b"\x00" * 8, b"\x07" + b"\x80" * 7):
        path.write_bytes(payload[:data] + junk + payload[data + 8 :])
        with refused(NETWORK), limited_memory():
            read_network(path)


def test_encrypted_members_are_refused(tmp_path, refused):
    path = tmp_path / NETWORK
    payload = with_central_field(only_network(GOOD_NETWORK), 8, b"\x01\0")
    local = payload.index(b"PK\x03\x04", 1)
    path.write_bytes(payload[: local + 6] + b"\x01\0" + payload[local + 8 :])
    with refused(NETWORK):
        read_network(path)


def test_a_member_that_claims_to_be_large_is_not_unpacked(tmp_path, refused):
    path = tmp_path / NETWORK
    for claim in (MAX_NETWORK_BYTES + 1, 2**32 - 2):
        path.write_bytes(with_central_field(only_network(GOOD_NETWORK), 24, struct.pack("<I", claim)))
        with refused(NETWORK), limited_memory(100 << 20):
            read_network(path)


def test_a_zip_bomb_is_refused(tmp_path, refused):
    """200 MB of zeros in 200 kB, once as what it is, once claiming to be 1 kB."""
    bomb = npy(header=describe("<f4", "(50000000,)"), data=bytes(200_000_000))
    payload = npz({"info.npy": GOOD_INFO, "network.npy": bomb}, zipfile.ZIP_DEFLATED, 1)
    del bomb
    assert len(payload) < 2_000_000
    path = tmp_path / NETWORK
    path.write_bytes(payload)
    with refused(NETWORK), limited_memory(100 << 20):
        read_network(path)
    path.write_bytes(with_central_field(payload, 24, struct.pack("<I", 1024)))
    with refused(NETWORK), limited_memory(300 << 20):
        read_network(path)


# --- info ------------------------------------------------------------------------------------------------------------

GOOD = [2, 3, 2, 8, 8, 64, 3, 1, 4, 4, 16, 3, 16, 1, 16]  # of `shipped`
INFOS = {
    "empty": [], "one": [1], "no grids": [0, 3, 16, 1, 16], "minus one grid": [-1, *GOOD[1:]], "too short": GOOD[:-1],
    "too long": [*GOOD, 16], "2**31 grids": [2**31 - 1, *GOOD[1:]], "17 grids": [17, *GOOD[1:6] * 17, *GOOD[-4:]],
    "no texels": [2, 0, *GOOD[2:]], "negative size": [2, -3, *GOOD[2:]], "huge size": [2, 2**30, *GOOD[2:]],
    "large size": [2, 2**17, *GOOD[2:]], "no levels": [2, 3, 0, *GOOD[3:]], "minus one level": [2, 3, -1, *GOOD[3:]],
    "least levels": [2, 3, -(2**31), *GOOD[3:]], "many levels": [2, 3, 10_000, *GOOD[3:]],
    "31 levels": [2, 1, 31, *GOOD[3:]],
    "no features": [2, 3, 2, 0, 8, 0, *GOOD[6:]], "negative bits": [2, 3, 2, -8, -8, 64, *GOOD[6:]],
    "3 bits": [2, 3, 2, 8, 3, 24, *GOOD[6:]], "32 bits": [2, 3, 2, 2, 32, 64, *GOOD[6:]],
    "128-bit words": [2, 3, 2, 16, 8, 128, *GOOD[6:]], "features that do not fill": [2, 3, 2, 7, 8, 64, *GOOD[6:]],
    "negative waves": [*GOOD[:-4], -3, 16, 1, 16], "many waves": [*GOOD[:-4], 2**30, 16, 1, 16],
    "no neurons": [*GOOD[:-4], 3, 0, 1, 16], "many neurons": [*GOOD[:-4], 3, 2**31 - 1, 1, 16],
    "negative layers": [*GOOD[:-4], 3, 16, -1, 16], "many layers": [*GOOD[:-4], 3, 16, 2**31 - 1, 16],
    "11 outputs": [*GOOD[:-4], 3, 16, 1, 11], "many outputs": [*GOOD[:-4], 3, 16, 1, 2**31 - 16],
}  # fmt: skip


@pytest.mark.parametrize("info", INFOS)
def test_impossible_infos_are_refused(info, shipped, folder, refused):
    """By the whole reader, and by the one that a checkpoint uses, which has no hashes to rely on."""
    network = reference.parse_npz((folder / NETWORK).read_bytes())["network"]
    (folder / NETWORK).write_bytes(npz({"info.npy": npy(np.array(INFOS[info], np.int32)), "network.npy": npy(network)}))
    reseal(folder)
    with refused(), limited_memory():
        read_export(folder)
    with refused(), limited_memory():
        read_textures(folder, 4, interpolations=["learned", "linear"], n_texel_frequencies=3)


def test_a_good_info_is_parsed(shipped):
    grids, decoder = parse_info(np.array(GOOD, np.int32), "info")
    assert network_info(shipped[1]).tolist() == GOOD
    assert list(grids[1].values()) == [3, 1, 4, 4, 16] and list(decoder.values()) == [3, 16, 1, 16]


# --- random damage ---------------------------------------------------------------------------------------------------

changes = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4)


def damaged(payload: bytes, edits, cut: int) -> bytes:
    result = bytearray(payload)
    for offset, value in edits:
        result[offset % len(result)] = value
    return bytes(result[: len(result) - cut]) if cut else bytes(result)


def one_line_or_fine(read, *arguments):
    try:
        return read(*arguments)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        return None


@pytest.fixture(scope="module")
def scratch(shipped, tmp_path_factory):
    """A copy for hypothesis, which puts every file back itself."""
    return Path(shutil.copytree(shipped[0], tmp_path_factory.mktemp("scratch") / "copy"))


@settings(max_examples=60, deadline=None)
@given(edits=changes, cut=st.sampled_from([0, 0, 0, 1, 100]))
def test_random_damage_to_the_manifest(edits, cut, shipped, scratch):
    original = (shipped[0] / MANIFEST).read_bytes()
    (scratch / MANIFEST).write_bytes(damaged(original, edits, cut))
    try:
        exported = one_line_or_fine(read_export, scratch)
        if exported is not None:
            assert exported.model.codes(0).equal(shipped[1].codes(0))
    finally:
        (scratch / MANIFEST).write_bytes(original)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(FILES), edits=changes, cut=st.sampled_from([0, 0, 0, 1, 100]), sealed=st.booleans())
def test_random_damage_to_the_other_files(name, edits, cut, sealed, shipped, scratch):
    """Sealed: with the hash of the damaged file in the manifest. Not sealed: refused unless no byte changed."""
    original = (shipped[0] / name).read_bytes()
    payload = damaged(original, edits, cut)
    (scratch / name).write_bytes(payload)
    try:
        if sealed:
            reseal(scratch)
        exported = one_line_or_fine(read_export, scratch)
        if not sealed:
            assert (exported is not None) == (payload == original)
    finally:
        (scratch / name).write_bytes(original)
        shutil.copy(shipped[0] / MANIFEST, scratch / MANIFEST)


@settings(max_examples=60, deadline=None)
@given(edits=changes, cut=st.sampled_from([0, 0, 0, 1, 30]), deflated=st.booleans())
@example(edits=[(0, 0)], cut=0, deflated=True)
def test_random_damage_to_the_network(edits, cut, deflated, scratch):
    """Directly, and closer: damage to a short file hits its headers more often."""
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    path = scratch / "short.npz"
    path.write_bytes(damaged(npz({"info.npy": GOOD_INFO, "network.npy": GOOD_NETWORK}, method), edits, cut))
    one_line_or_fine(read_network, path)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(-2, 70), st.integers(-(2**31), 2**31 - 1)), max_size=20), st.booleans())
def test_random_infos(numbers, prefixed):
    if prefixed:
        numbers = (GOOD[: max(0, 15 - len(numbers))] + numbers)[:15]
    one_line_or_fine(parse_info, np.array(numbers, np.int32), "info")


@settings(max_examples=60, deadline=None)
@given(text=st.text("{}()[]'\",:<f4 shapedescr_FTlaue0-9\n\\", max_size=80), keep=st.integers(0, 70))
def test_random_array_headers(text, keep, scratch):
    path = scratch / "header.npz"
    path.write_bytes(only_network(npy(header=describe("<f4", "(256,)")[:keep] + text, data=bytes(1024))))
    one_line_or_fine(read_network, path)
