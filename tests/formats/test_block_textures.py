"""Grids of BC1 blocks as files: other people's decoders read what was trained, and all of it comes back to the bit."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from configs import LAYOUTS
from describe.folder import describe_folder
from describe.numpy_decoder import decode, read_texture
from formats.dds import BlockTexture, Texture, decode_block_dds, encode_block_dds, encode_dds, read_block_dds
from formats.manifest import MANIFEST, NETWORK
from formats.network_file import parse_info, read_network
from formats.textures import read_export, write_export
from model import NeuralTexture
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.exports import both_refuse, edit_manifest, made, make_model, manifest_json, reseal, run
from tests.support.texture_files import dds_mips, independent_decode

# Sides and levels: whole blocks, cut blocks, levels of 2x2 and 1x1, no level below, odd sides with mips after them
SHAPES = [(24, 3), (16, 5), (20, 3), (7, 1), (6, 2), (2, 2), (1, 1), (13, 1), (40, 4), (28, 2), (5, 1)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")


def bc1(side: int, levels: int, interpolation="linear") -> GridSpec:
    return GridSpec(side, levels, 0, 4, interpolation, "bc1")


MIXED = (bc1(20, 3, "learned"), GridSpec(6, 2, 4, 16), bc1(6, 2), bc1(5, 1))


def empty_levels(side: int, mips: int) -> list[bytes]:
    return [bytes(8 * math.ceil((side >> mip) / 4) ** 2) for mip in range(mips)]


@pytest.fixture
def mixed(make_material, tmp_path):
    """(folder, model, material's record) of an export with three grids of blocks and one of words."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    model, material = made(MIXED, make_material)
    write_export(folder, model, material, {"psnr": {"all": 30.0}})
    return folder, model, material


def trained_levels(model: NeuralTexture, index: int) -> list[np.ndarray]:
    """The features of a grid by the reference, the finest level first: (R, R, 3) float64."""
    return reference.of_model(model).grids[index].levels[::-1]


def all_features(model: NeuralTexture, index: int) -> torch.Tensor:
    """Every feature of every block, also of texels that lie beyond a level."""
    texel = torch.arange(model.grids[index].n_texels)
    return model._fetch(index, texel, None)


# --- readers ---------------------------------------------------------------------------------------------------------


@every_shape
def test_three_decoders_read_what_was_trained(shape, make_material, tmp_path):
    """Pillow and texture2ddecoder round the thirds down, the reference leaves them as they are."""
    grid = bc1(*shape)
    model, material = made((grid,), make_material)
    write_export(tmp_path, model, material)
    payload, mips = (tmp_path / "hash_grid_0.dds").read_bytes(), len(grid.mip_sizes)
    want = [(level + 0.5) * 765 for level in trained_levels(model, 0)]
    whole = [np.round(level) for level in want]
    assert all(np.abs(one - other).max() < 1e-6 for one, other in zip(want, whole))
    header, shown = dds_mips(payload, mips)
    assert header == {"dxgi": 71, "width": grid.max_resolution, "height": grid.max_resolution}
    parsed = reference.parse_dds(payload)
    blocks = decode_block_dds(payload, 71).levels
    assert len(shown) == len(parsed["levels"]) == len(blocks) == mips
    for mip, thirds in enumerate(whole):
        side = grid.max_resolution >> mip
        assert np.array_equal(shown[mip][..., :3], thirds // 3) and (shown[mip][..., 3:] == 255).all()
        assert np.array_equal(independent_decode("bc1", blocks[mip].tobytes(), side, side), thirds // 3)
        np.testing.assert_allclose(parsed["levels"][mip] * 3, thirds, rtol=0, atol=1e-9)
    assert max(np.ptp(level) for level in whole) > 300  # something to be wrong about


@every_shape
def test_an_export_is_read_back_to_the_bit(shape, make_material, tmp_path):
    grid = bc1(*shape, "learned")
    model, material = made((grid,), make_material)
    write_export(tmp_path, model, material)
    exported = read_export(tmp_path)
    assert exported.model.grids == (grid,)
    assert torch.equal(all_features(exported.model, 0), all_features(model, 0))
    for lod in range(model.num_lods):
        size = max(22 >> lod, 1), max(14 >> lod, 1)
        assert torch.equal(exported.model.decode(lod, *size), model.decode(lod, *size))
    again = tmp_path / "again"
    again.mkdir()
    write_export(again, exported.model, material)
    assert all((again / path.name).read_bytes() == path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


def test_header_fields(make_material, tmp_path):
    """Microsoft, "DDS_HEADER", "DDS_HEADER_DXT10" and "Programming Guide for DDS": a side of 6 has 2 blocks a row."""
    write_export(tmp_path, *made((bc1(6, 2),), make_material))
    payload = (tmp_path / "hash_grid_0.dds").read_bytes()
    header = reference.parse_dds(payload)
    caps, height, width, pixel_format, mip_count, linear_size = 0x1, 0x2, 0x4, 0x1000, 0x20000, 0x80000
    assert header["dwFlags"] == caps | height | width | pixel_format | mip_count | linear_size
    assert (header["dwWidth"], header["dwHeight"], header["dwMipMapCount"]) == (6, 6, 3)
    assert header["dwPitchOrLinearSize"] == 4 * 8 and header["ddspf.dwFourCC"] == int.from_bytes(b"DX10", "little")
    assert (header["dxgiFormat"], header["resourceDimension"], header["arraySize"]) == (71, 3, 1)
    assert header["miscFlags2"] == 3  # DDS_ALPHA_MODE_OPAQUE
    assert len(payload) == 148 + 8 * (4 + 1 + 1)


def test_mips_past_the_trained_ones_show_the_coarsest_of_these(make_material, tmp_path):
    """A ramp from left to right, red against green: halved, and close to what it was."""
    model, material = made((bc1(28, 2),), make_material)
    with torch.no_grad():
        level = model.level(0, 0)
        for by, bx in np.ndindex(4, 4):
            ends = [[0.1 + 0.2 * bx + x, 0.9 - 0.2 * bx - x, 0.5] for x in (0, 0.15)]
            level[by, bx, :6] = torch.tensor(ends).view(-1) - 0.5
            level[by, bx, 6:] = torch.arange(16) % 4 / 3 - 0.5
    write_export(tmp_path, model, material)
    levels = reference.parse_dds((tmp_path / "hash_grid_0.dds").read_bytes())["levels"]
    assert [len(level) for level in levels] == [28, 14, 7, 3, 1]
    want = levels[1]
    for mip in (2, 3, 4):
        side = len(levels[mip])
        want = want[: 2 * side, : 2 * side].reshape(side, 2, side, 2, 3).mean(axis=(1, 3))
        assert np.sqrt(np.mean((levels[mip] - want) ** 2)) < 10, mip  # of three values in equal steps BC1 shows two
        assert mip == 4 or np.ptp(want[..., 0]) > 80 < np.ptp(want[..., 1])


@pytest.mark.parametrize("grid", [bc1(28, 2), bc1(24, 3)], ids=["28x2", "24x3"])
def test_mips_past_the_trained_ones_are_never_read(grid, make_material, tmp_path):
    model, material = made((grid,), make_material)
    write_export(tmp_path, model, material)
    path = tmp_path / "hash_grid_0.dds"
    before = decode(read_texture(tmp_path, model.form), 1, 11, 7)
    texture = read_block_dds(path, 71)
    side, levels = grid.max_resolution, [level.tobytes() for level in texture.levels]
    assert len(levels) > grid.n_levels
    levels[grid.n_levels :] = [b"\x5a" * len(level) for level in levels[grid.n_levels :]]
    path.write_bytes(encode_block_dds(side, side, 71, levels))
    reseal(tmp_path)
    assert torch.equal(all_features(read_export(tmp_path).model, 0), all_features(model, 0))
    assert (decode(read_texture(tmp_path, model.form), 1, 11, 7) == before).all()


def test_large_grids_are_converted_in_parts(make_material, tmp_path, monkeypatch):
    monkeypatch.setattr("formats.block_textures.CHUNK", 7)
    model, material = made((bc1(24, 3),), make_material)
    write_export(tmp_path, model, material)
    assert torch.equal(all_features(read_export(tmp_path).model, 0), all_features(model, 0))
    damage_block(tmp_path / "hash_grid_0.dds", 20)
    reseal(tmp_path)
    with pytest.raises(Exception, match="mip 0: of those from 14 on, block 6 has three colours"):
        read_export(tmp_path)


# --- what is told about them -----------------------------------------------------------------------------------------


def test_the_manifest_says_how_to_decode(mixed):
    folder, model, _ = mixed
    manifest = manifest_json(folder)
    assert manifest["version"] == 1 and manifest["dds_layout"] == "packed"
    first, words, second, third = manifest["grids"]
    assert first == {
        "files": ["hash_grid_0.dds"], "format": "BC1_UNORM", "max_resolution": 20, "base_resolution": 5, "n_levels": 3,
        "features": 3, "quantize_bits": 0, "save_bits": 4, "interpolation": "learned", "storage": "bc1", "mips": 5,
        "unorm_to_feature": {"scale": 1.0, "offset": -0.5},
    }  # fmt: skip
    assert not {"storage", "unorm_to_feature"} & set(words)
    assert (second["n_levels"], second["mips"], third["mips"]) == (2, 3, 1)
    read = read_export(folder)
    assert read.manifest.form == model.form and manifest["decoder"]["layers"][0] == [16, 32]
    network = 32 * (32 * 16 + 16 * 16)
    blocks = {20: 25, 10: 9, 5: 4, 6: 4}
    finest = 64 * (blocks[20] + blocks[6] + blocks[5]) + 16 * 36
    every = 64 * (25 + 9 + 4 + 1 + 1 + 4 + 1 + 1 + 4) + 16 * (36 + 9 + 1)
    rates = manifest["rates"]
    assert rates["grids"] == pytest.approx(finest / (22 * 14), abs=1e-6)
    assert rates["all_mips"] == pytest.approx((every + network) / (22 * 14), abs=1e-6)
    assert rates == {name: round(rate, 6) for name, rate in model.bits_per_texel(22, 14).items()}
    sizes = sum((folder / name).stat().st_size for name in manifest["files"])
    assert manifest["bytes_on_disk"] == sizes and (folder / "hash_grid_0.dds").stat().st_size == 148 + 8 * 40


def test_rates_of_a_model_that_is_not_rounded():
    """22 float32 numbers a block, of whole blocks: 2 x 2 of them for 6 x 6 texels."""
    model = NeuralTexture([bc1(6, 1)], DecoderSpec(2, 16, 1), 5, quantized=False)
    assert model.bits_per_texel(22, 14)["grids"] == 4 * 22 * 32 / (22 * 14)


def test_the_network_file_says_it_too(mixed):
    info, *_ = read_network(mixed[0] / NETWORK)
    assert info.tolist() == [4, 5, 3, 3, 0, 4, 3, 2, 4, 4, 16, 3, 2, 3, 0, 4, 5, 1, 3, 0, 4, 2, 16, 1, 16]
    form = parse_info(info, "x").reference_form(5)
    assert [grid.storage for grid in form.grids] == ["bc1", "packed", "bc1", "bc1"]


@pytest.mark.parametrize("grid", [[2, 3, 2, 0, 4], [2, 3, 12, 0, 4], [2, 3, 3, 0, 8], [2, 3, 3, 4, 4], [2, 3, 0, 0, 4]])
def test_no_other_numbers_mean_blocks(grid, refused):
    with refused("impossible"):
        parse_info(np.array([1, *grid, 2, 16, 1, 16], np.int32), "x")


def test_the_description(mixed):
    folder = mixed[0]
    text = "\n".join(describe_folder(folder).lines)
    assert "grid 0  20 x 20 to 5 x 5, 3 levels  3 features in BC1, 4 bits a texel    learned  mips 0 to 2" in text
    assert "BC1_UNORM   Unity, Godot, three.js on desktops, as it is: not sRGB" in text
    assert "grid 2, grid 3: no multiple of 4 texels, which Direct3D 11 and WebGL refuse" in text
    grids = 8 * (25 + 9 + 4 + 1 + 1 + 4 + 1 + 1 + 4) + 2 * (36 + 9 + 1)
    assert f"grids {grids}, network" in text and "BC1_UNORM, 20 x 20, 5 mips, DX10 header" in text
    (folder / MANIFEST).unlink()
    result = describe_folder(folder)
    assert not result.problems and "blocks, all levels" in "\n".join(result.lines)


def test_whole_blocks_are_not_warned_of(make_material, tmp_path):
    write_export(tmp_path, *made((bc1(8, 2),), make_material))
    assert "Direct3D 11" not in "\n".join(describe_folder(tmp_path).lines)


@pytest.mark.parametrize("manifest", [True, False], ids=["with manifest", "without"])
def test_images_are_those_of_the_reference(manifest, make_material, tmp_path):
    """Linear grids and no waves of texels: the form that is assumed without a manifest."""
    folder, out = tmp_path / "files", tmp_path / "out"
    folder.mkdir()
    material = make_material(24, 24)
    model = make_model((bc1(12, 2), bc1(6, 1)), DecoderSpec(2, 16, 1), material)
    write_export(folder, model, material.hashed_record)
    if not manifest:
        (folder / MANIFEST).unlink()
    assert run("--load_dir", folder, "--out_dir", out, "--images") == 0
    texture = reference.load_export(folder, material.num_lods)
    for lod, (width, height) in enumerate(material.lod_sizes):
        want = np.clip(reference.decode(texture, lod, width, height)[..., 6], 0, 1) * 255
        with Image.open(out / "images" / f"roughness_lod{lod}.png") as image:
            assert np.abs(np.asarray(image) - want).max() < 0.51 and (np.ptp(want) > 20 or lod > 2)


# --- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_they_look_the_same_in_every_layout(layout, mixed, tmp_path):
    folder, model, _ = mixed
    other = tmp_path / layout
    assert run("--load_dir", folder, "--out_dir", other, "--dds_layout", layout) == 0
    for index in (0, 2, 3):
        name = f"hash_grid_{index}.dds"
        assert (other / name).read_bytes() == (folder / name).read_bytes()
    words, entries = manifest_json(other)["grids"][1], manifest_json(other)["grids"]
    assert [entries[i] for i in (0, 2, 3)] == [manifest_json(folder)["grids"][i] for i in (0, 2, 3)]
    assert ("unorm_to_feature" in words) == (layout in ("filterable", "bgra4"))
    exported = read_export(other)
    assert torch.equal(all_features(exported.model, 2), all_features(model, 2))
    assert torch.equal(exported.model.codes(1), model.codes(1)) and not describe_folder(other).problems


@pytest.mark.parametrize("layout", ["filterable", "bgra4"])
def test_the_reference_decodes_them_beside_channels(layout, make_material, tmp_path):
    model, material = made(MIXED, make_material)
    write_export(tmp_path, model, material, layout=layout)
    texture = reference.load_export(
        tmp_path, model.num_lods, [grid.interpolation for grid in MIXED], 0, "leaky_relu", layout
    )
    want = reference.decode(texture, 0, 22, 14)
    np.testing.assert_allclose(model.decode(0, 22, 14).numpy(), want, rtol=0, atol=2e-5)


# --- damage ----------------------------------------------------------------------------------------------------------


def damage_block(path: Path, number: int) -> None:
    """Make a block of a DDS file one of three colours: its end points trade places."""
    payload = bytearray(path.read_bytes())
    at = 148 + 8 * number
    payload[at : at + 8] = struct.pack("<HHI", 5, 1000, 0x1B)
    path.write_bytes(payload)


@pytest.mark.parametrize(("number", "place"), [(0, "mip 0: block 0"), (24, "mip 0: block 24"), (33, "mip 1: block 8")])
def test_blocks_of_three_colours_are_refused(number, place, mixed, refused):
    """25 blocks of mip 0, then 9 of mip 1: what training never writes, and where index 3 is transparent."""
    folder, model, _ = mixed
    damage_block(folder / "hash_grid_0.dds", number)
    with refused("hash_grid_0.dds", "hash"):
        read_export(folder)
    both_refuse(folder, model.form, refused, "hash_grid_0.dds", place, "three colours")


@pytest.mark.parametrize(("side", "mips"), [(24, 5), (20, 3), (20, 1), (16, 5), (40, 6)])
def test_textures_of_another_size_are_refused(side, mips, mixed, refused):
    folder, model, _ = mixed
    (folder / "hash_grid_0.dds").write_bytes(encode_block_dds(side, side, 71, empty_levels(side, mips)))
    both_refuse(folder, model.form, refused, "hash_grid_0.dds", "(20, 20, 5)", f"({side}, {side}, {mips})")


@pytest.mark.parametrize("payload", [
    encode_dds(Texture(tuple(np.zeros((20 >> k, 20 >> k, 4), np.uint8) for k in range(5)))),
    encode_block_dds(20, 20, 72, empty_levels(20, 5)),  # BC1_UNORM_SRGB
    encode_block_dds(20, 20, 80, empty_levels(20, 5)),  # BC4_UNORM
], ids=["R8G8B8A8", "sRGB", "BC4"])  # fmt: skip
def test_other_formats_are_refused(payload, mixed, refused):
    folder, model, _ = mixed
    (folder / "hash_grid_0.dds").write_bytes(payload)
    both_refuse(folder, model.form, refused, "hash_grid_0.dds", "BC1_UNORM", "found DXGI format")


def test_words_are_not_read_from_blocks(mixed, refused):
    folder, model, _ = mixed
    (folder / "hash_grid_1.dds").write_bytes((folder / "hash_grid_2.dds").read_bytes())
    both_refuse(folder, model.form, refused, "hash_grid_1.dds", "R8G8B8A8_UNORM", "found DXGI format 71")


@pytest.mark.parametrize("length", [-1, -8, 147, 148, 0])
def test_cut_files_are_refused(length, mixed, refused):
    folder, model, _ = mixed
    path = folder / "hash_grid_2.dds"
    path.write_bytes(path.read_bytes()[:length])
    both_refuse(folder, model.form, refused, "hash_grid_2.dds")


def test_longer_files_are_refused(mixed, refused):
    folder, model, _ = mixed
    path = folder / "hash_grid_2.dds"
    path.write_bytes(path.read_bytes() + bytes(8))
    both_refuse(folder, model.form, refused, "hash_grid_2.dds", "found more")


@pytest.mark.parametrize("change", [
    {"storage": "packed"}, {"storage": "bc7"}, {"storage": ["bc1"]}, {"storage": None}, {"save_bits": 8},
    {"quantize_bits": 4}, {"features": 4}, {"mips": 4}, {"format": "BC1_UNORM_SRGB"}, {"max_resolution": 24},
    {"unorm_to_feature": {"scale": 0.9375, "offset": -0.46875}}, {"files": ["hash_grid_0.dds", "hash_grid_0_p1.dds"]},
    {"storage": ...}, {"unorm_to_feature": ...},
], ids=str)  # fmt: skip
def test_a_manifest_that_contradicts_itself(change, mixed, refused):
    def change_first(manifest):
        entry = {**manifest["grids"][0], **change}
        manifest["grids"][0] = {key: value for key, value in entry.items() if value is not ...}

    edit_manifest(mixed[0], change_first)
    with refused(MANIFEST):
        read_export(mixed[0])


def test_words_are_not_declared_blocks(mixed, refused):
    edit_manifest(mixed[0], lambda manifest: manifest["grids"][1].update(storage="bc1"))
    with refused(MANIFEST, "4 bits a texel"):
        read_export(mixed[0])


def test_block_textures_have_all_their_blocks():
    payload = encode_block_dds(6, 6, 71, [bytes(32), bytes(8)])
    texture = decode_block_dds(payload, 71)
    assert isinstance(texture, BlockTexture) and (texture.width, texture.height) == (6, 6)
    assert [level.shape for level in texture.levels] == [(4, 8), (1, 8)]
    with pytest.raises(ValueError, match="32 bytes"):
        encode_block_dds(6, 6, 71, [bytes(8)])
