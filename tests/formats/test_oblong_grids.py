"""Grids of [width, height] in files: layouts, containers, other readers, and what a manifest or a header says."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch

from configs import LAYOUTS
from describe.folder import describe_folder
from describe.numpy_decoder import decode, read_texture
from formats.dds import decode_block_dds, read_dds
from formats.manifest import MANIFEST, NETWORK, read_manifest
from formats.network_file import parse_info, read_network
from formats.textures import read_export, write_export
from formats.tsnc import tsnc_problem
from shape import DecoderSpec, GridSpec, ModelForm
from tests.support import reference
from tests.support.bc1_decoders import decode_bc1
from tests.support.exports import edit_manifest, make_model, manifest_json, reseal, run
from tests.support.shader_cases import uploads
from tests.support.texture_files import dds_mips, independent_decode, ktx2_levels

SIZE = (46, 10)


def bc1(size, levels: int, interpolation="linear", finest_lods=1) -> GridSpec:
    return GridSpec(size, levels, 0, 4, interpolation, "bc1", finest_lods)


# Wide and high, with mips after the trained ones in which one side stays 1, a level of one row, whole and cut blocks.
MIXED = (GridSpec((24, 4), 3, 4, 32, "learned"), bc1((40, 12), 3), GridSpec((6, 14), 2, 4, 8), bc1((5, 18), 1))
LINEAR = (GridSpec((24, 4), 3, 4, 32), bc1((40, 12), 3), GridSpec((3, 14), 1, 4, 64))


def written(folder, grids, make_material, layout="packed"):
    folder.mkdir()
    material = make_material(*SIZE)
    model = make_model(grids, DecoderSpec(2, 16, 1, int(grids is MIXED)), material)
    write_export(folder, model, material.hashed_record, layout=layout)
    return model


@pytest.fixture
def mixed(make_material, tmp_path):
    """(folder, model) of an export of all four kinds of grids."""
    return tmp_path / "mixed", written(tmp_path / "mixed", MIXED, make_material)


def sizes_down_to_one(size) -> list[tuple[int, int]]:
    width, height = size
    return [(max(width >> mip, 1), max(height >> mip, 1)) for mip in range(max(size).bit_length())]


# --- round trips and other readers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_is_read_back(layout, make_material, tmp_path):
    """By the toolkit to the bit, by the reference to rounding; the chain of each file goes down to 1x1."""
    model = written(tmp_path / "files", MIXED, make_material, layout)
    exported = read_export(tmp_path / "files")
    assert exported.model.grids == MIXED and exported.manifest.form == model.form
    for lod in range(model.num_lods):
        size = max(SIZE[0] >> lod, 1), max(SIZE[1] >> lod, 1)
        assert torch.equal(exported.model.decode(lod, *size), model.decode(lod, *size))
    texture = reference.load_export(
        tmp_path / "files", model.num_lods, [grid.interpolation for grid in MIXED], 1, "leaky_relu", layout
    )
    want = reference.decode(texture, 0, *SIZE)
    np.testing.assert_allclose(model.decode(0, *SIZE).numpy(), want, rtol=0, atol=2e-5)
    for entry, grid in zip(manifest_json(tmp_path / "files")["grids"], MIXED):
        if grid.storage == "packed":
            for name in entry["files"]:
                levels = read_dds(tmp_path / "files" / name).levels
                assert [level.shape[1::-1] for level in levels] == sizes_down_to_one(grid.size)
    assert not describe_folder(tmp_path / "files").problems


@pytest.mark.parametrize("shape", [((40, 12), 3), ((4, 64), 3), ((5, 18), 1), ((2, 26), 2), ((16, 1), 1)], ids=str)
def test_other_decoders_read_the_blocks(shape, make_material, tmp_path):
    """Pillow and texture2ddecoder round the thirds down."""
    model = written(tmp_path / "files", (bc1(*shape),), make_material)
    payload = (tmp_path / "files" / "hash_grid_0.dds").read_bytes()
    sizes = sizes_down_to_one(shape[0]) if shape[1] > 1 else [shape[0]]
    header, shown = dds_mips(payload, len(sizes))
    assert (header["width"], header["height"]) == shape[0] and len(shown) == len(sizes)
    blocks = decode_block_dds(payload, 71).levels
    trained = reference.of_model(model).grids[0].levels[::-1]
    for mip, level in enumerate(trained):
        thirds = np.round((level + 0.5) * 765)
        assert np.array_equal(shown[mip][..., :3], thirds // 3)
        assert np.array_equal(independent_decode("bc1", blocks[mip].tobytes(), *sizes[mip]), thirds // 3)
    for mip in range(len(trained), len(sizes)):  # of what was trained: the mean of a level's texels is kept
        assert shown[mip].shape[1::-1] == sizes[mip]
        assert np.abs(shown[mip][..., :3].mean((0, 1)) - shown[mip - 1][..., :3].mean((0, 1))).max() < 60


@pytest.mark.parametrize("form", ["ktx2", "rgba8", "astc"])
def test_other_containers(form, mixed, tmp_path):
    folder, _ = mixed
    out = tmp_path / "out"
    assert run("--load_dir", folder, "--out_dir", out, "--latents_format", form) == 0
    for index, grid in enumerate(MIXED):
        mips = len(grid.mip_sizes)
        stored = (folder / f"hash_grid_{index}.dds").read_bytes()
        if form == "ktx2":
            header, levels = ktx2_levels((out / f"hash_grid_{index}.ktx2").read_bytes(), mips)
            assert b"".join(levels) == stored[148:] and (header["width"], header["height"]) == grid.size
        elif form == "rgba8" and grid.compressed:
            found = reference.parse_dds((out / f"hash_grid_{index}_rgba8.dds").read_bytes())["levels"]
            for level, blocks, (width, height) in zip(found, uploads(stored, as_blocks=True), grid.mip_sizes):
                assert np.array_equal(level[..., :3], decode_bc1(blocks, "nearest")[:height, :width])
        elif grid.compressed:
            header, levels = ktx2_levels((out / f"hash_grid_{index}_astc.ktx2").read_bytes(), mips)
            assert (header["width"], header["height"]) == grid.size and len(levels) == mips


def test_numpy_decodes_them_without_a_model(mixed):
    folder, model = mixed
    texture = read_texture(folder, model.form)
    for lod in range(model.num_lods):
        size = max(SIZE[0] >> lod, 1), max(SIZE[1] >> lod, 1)
        np.testing.assert_allclose(decode(texture, lod, *size), model.decode(lod, *size).numpy(), atol=2e-6)


# --- what is told about them -----------------------------------------------------------------------------------------


def test_the_manifest_has_width_and_height_and_squares_a_number(mixed, make_material, tmp_path):
    first, second, third, _ = manifest_json(mixed[0])["grids"]
    assert (first["max_resolution"], first["base_resolution"]) == ([24, 4], [6, 1])
    assert (second["max_resolution"], second["base_resolution"], second["mips"]) == ([40, 12], [10, 3], 6)
    assert third["max_resolution"] == [6, 14]
    written(tmp_path / "square", (GridSpec((8, 8), 2, 4, 32),), make_material)
    (square,) = manifest_json(tmp_path / "square")["grids"]
    assert (square["max_resolution"], square["base_resolution"]) == (8, 4)
    info = read_network(mixed[0] / NETWORK)[0]
    assert [grid.base_width for grid in parse_info(info, "x").grids] == [6, 10, 3, 5]


@pytest.mark.parametrize("found", [[24], [24, 4, 1], [24, 0], [24, "4"], [24, 4.0], [24, 99999], [24, 3], [4, 24], 24,
                                   [8, 8], None, {"width": 24}], ids=str)  # fmt: skip
def test_other_sizes_in_a_manifest_are_refused_in_one_line(found, mixed, capsys):
    edit_manifest(mixed[0], lambda manifest: manifest["grids"][0].update(max_resolution=found))
    assert run("--load_dir", mixed[0], "--out_dir", mixed[0].parent / "out", "--images") == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1 and MANIFEST in message


def test_a_texture_of_another_height_is_refused(mixed, make_material, tmp_path, capsys):
    written(tmp_path / "other", (GridSpec((24, 8), 3, 4, 32, "learned"), *MIXED[1:]), make_material)
    (mixed[0] / "hash_grid_0.dds").write_bytes((tmp_path / "other" / "hash_grid_0.dds").read_bytes())
    reseal(mixed[0])
    assert run("--load_dir", mixed[0], "--out_dir", tmp_path / "out", "--images") == 2
    message = capsys.readouterr().err
    assert "(4, 24, 4, 5)" in message and "(8, 24, 4, 5)" in message


def test_the_description(mixed):
    text = "\n".join(describe_folder(mixed[0]).lines)
    assert "grid 0  24 x 4 to 6 x 1, 3 levels" in text and "grid 3  5 x 18, 1 level" in text
    assert "grid 3: no multiple of 4 texels" in text and "BC1_UNORM, 40 x 12, 6 mips" in text


# --- without a manifest ----------------------------------------------------------------------------------------------


@pytest.fixture
def bare(make_material, tmp_path):
    """(folder, model) of files without a manifest, in the form that is assumed for them."""
    folder = tmp_path / "bare"
    model = written(folder, LINEAR, make_material)
    (folder / MANIFEST).unlink()
    return folder, model


def test_heights_are_those_of_the_headers(bare, tmp_path, capsys):
    folder, model = bare
    result = describe_folder(folder)
    assert not result.problems and "grid 0  24 x 4 to 6 x 1, 3 levels" in "\n".join(result.lines)
    assert run("--load_dir", folder, "--out_dir", tmp_path / "out", "--images") == 0
    assert "size 48 x 8: twice grid 0" in capsys.readouterr().out
    form = model.form
    found = decode(read_texture(folder, form), 0, 48, 8)
    want = reference.decode(reference.load_export(folder, model.num_lods), 0, 48, 8)
    np.testing.assert_allclose(found, want, atol=2e-6)


@pytest.mark.parametrize("height", [3, 8])
def test_heights_that_cannot_be_are_one_line(height, bare, tmp_path, capsys):
    path = bare[0] / "hash_grid_0.dds"
    payload = bytearray(path.read_bytes())
    struct.pack_into("<I", payload, 12, height)
    path.write_bytes(payload)
    assert run("--load_dir", bare[0], "--out_dir", tmp_path / "out", "--images") == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1 and "hash_grid_0.dds" in message
    assert any("hash_grid_0.dds" in problem for problem in describe_folder(bare[0]).problems)


def test_intels_sample_knows_squares_alone():
    fine, half = bc1((64, 32), 4), bc1((32, 16), 3, finest_lods=2)
    form = ModelForm((fine, fine, half, half), DecoderSpec(0, 64, 2, 0, "leaky_relu", 0.0), 7)
    assert "square planes, found 64x32" in tsnc_problem(form)


def test_a_manifest_is_the_same_when_it_is_written_again(mixed, tmp_path):
    exported = read_export(mixed[0])
    (tmp_path / "again").mkdir()
    write_export(tmp_path / "again", exported.model, exported.manifest.material)
    one, other = (json.loads((folder / MANIFEST).read_text()) for folder in (mixed[0], tmp_path / "again"))
    assert one == other and read_manifest(tmp_path / "again").form == exported.model.form
