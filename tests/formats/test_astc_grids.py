"""Grids of ASTC 6x6 blocks as files: an independent decoder reads what was trained, and all comes back to the bit."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blocks import parameters_of
from describe.folder import describe_folder
from describe.numpy_decoder import decode, read_texture
from formats import astc as astc_file
from formats.manifest import MANIFEST, NETWORK
from formats.network_file import parse_info, read_network
from formats.textures import read_export, write_export
from shape import BLOCKS, DecoderSpec, GridSpec
from tests.support import reference
from tests.support.exports import both_refuse, edit_manifest, made, make_model, manifest_json, run
from tests.support.texture_files import ktx2_levels

texture2ddecoder = pytest.importorskip("texture2ddecoder", reason="reads ASTC; in requirements-test.txt")

# Sides and levels: whole blocks, cut blocks, levels of 2x2 and 1x1, no level below, odd sides, no squares
SHAPES = [(36, 3), (24, 3), (16, 5), (20, 3), (7, 1), (2, 2), (1, 1), (13, 1), ((40, 12), 3), ((3, 18), 1)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def astc(size, levels: int, interpolation="linear") -> GridSpec:
    return GridSpec(size, levels, 0, 6, interpolation, "astc6x6")


MIXED = (astc(20, 3, "learned"), GridSpec(6, 2, 4, 16), astc(6, 2), GridSpec(8, 2, 0, 4, storage="bc1"), astc(5, 1))


@pytest.fixture
def mixed(make_material, tmp_path):
    """(folder, model, material's record) of an export with grids of ASTC, of BC1 and of words."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    model, material = made(MIXED, make_material)
    write_export(folder, model, material, {"psnr": {"all": 30.0}})
    return folder, model, material


@every_shape
def test_an_independent_decoder_reads_what_was_trained(shape, make_material, tmp_path):
    """texture2ddecoder rounds to 8 bits."""
    grid = astc(*shape)
    model, material = made((grid,), make_material)
    write_export(tmp_path, model, material)
    header, levels = ktx2_levels((tmp_path / "hash_grid_0.ktx2").read_bytes(), len(grid.mip_sizes))
    assert header == {"vk": 165, "width": grid.size[0], "height": grid.size[1]}
    trained = [(level + 0.5) * 255 for level in reference.of_model(model).grids[0].levels[::-1]]
    for level, (width, height), want in zip(levels, grid.mip_sizes, trained):
        bgra = np.frombuffer(texture2ddecoder.decode_astc(bytes(level), width, height, 6, 6), np.uint8)
        assert np.abs(bgra.reshape(height, width, 4)[..., 2::-1] - want).max() < 0.5 + 1e-4
        assert (bgra[3::4] == 255).all()
    assert max(np.ptp(level) for level in trained) > 100  # something to be wrong about


@every_shape
def test_an_export_is_read_back_to_the_bit(shape, make_material, tmp_path):
    grid = astc(*shape, "learned")
    model, material = made((grid,), make_material)
    write_export(tmp_path, model, material)
    exported = read_export(tmp_path)
    assert exported.model.grids == (grid,)
    texture = read_texture(tmp_path, model.form)
    for lod in range(model.num_lods):
        size = max(22 >> lod, 1), max(14 >> lod, 1)
        assert torch.equal(exported.model.decode(lod, *size), model.decode(lod, *size))
        np.testing.assert_allclose(decode(texture, lod, *size), model.decode(lod, *size), rtol=0, atol=1e-5)
    again = tmp_path / "again"
    again.mkdir()
    write_export(again, exported.model, material)
    assert all((again / path.name).read_bytes() == path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


def test_what_is_told_about_them(mixed):
    folder, _, _ = mixed
    manifest = manifest_json(folder)
    assert manifest["grids"][0] == {
        "files": ["hash_grid_0.ktx2"], "format": "ASTC_6x6_UNORM", "max_resolution": 20, "base_resolution": 5,
        "n_levels": 3, "features": 3, "quantize_bits": 0, "save_bits": 6, "interpolation": "learned",
        "storage": "astc6x6", "mips": 5, "unorm_to_feature": {"scale": 1.0, "offset": -0.5},
    }  # fmt: skip
    finest = 128 * (16 + 1 + 1) + 16 * 36 + 64 * 4
    assert manifest["rates"]["grids"] == pytest.approx(finest / (22 * 14), abs=1e-6)
    info, *_ = read_network(folder / NETWORK)
    assert info[1:6].tolist() == [5, 3, 3, 0, 6]
    form = parse_info(info, "x").reference_form(5)
    assert [grid.storage for grid in form.grids] == [grid.storage for grid in MIXED]
    described = describe_folder(folder)
    text = "\n".join(described.lines)
    assert not described.problems and "3 features in ASTC 6x6, 3.556 bits a texel" in text
    assert "ASTC_6x6_UNORM, 20 x 20, 5 mips, KTX2" in text and "ASTC_6x6_UNORM  phones, in three.js" in text
    (folder / MANIFEST).unlink()
    described = describe_folder(folder)
    assert not described.problems and "blocks, all levels" in "\n".join(described.lines)


@pytest.mark.parametrize("manifest", [True, False], ids=["with manifest", "without"])
def test_images_are_those_of_the_reference(manifest, make_material, tmp_path):
    folder, out = tmp_path / "files", tmp_path / "out"
    folder.mkdir()
    material = make_material(24, 24)
    model = make_model((astc(12, 2), astc(7, 1)), DecoderSpec(2, 16, 1), material)
    write_export(folder, model, material.hashed_record)
    if not manifest:
        (folder / MANIFEST).unlink()
    assert run("--load_dir", folder, "--out_dir", out, "--images") == 0
    texture = reference.of_model(model)
    for lod, (width, height) in enumerate(material.lod_sizes):
        want = np.clip(reference.decode(texture, lod, width, height)[..., 6], 0, 1) * 255
        with Image.open(out / "images" / f"roughness_lod{lod}.png") as image:
            assert np.abs(np.asarray(image) - want).max() < 0.51 and (np.ptp(want) > 20 or lod > 2)


def test_other_formats_of_the_same_texels(mixed, tmp_path, capsys):
    folder, model, _ = mixed
    out = tmp_path / "out"
    assert run("--load_dir", folder, "--out_dir", out, "--latents_format", "rgba8") == 0
    trained = reference.of_model(model).grids
    for index in (0, 2, 3, 4):
        finest = first_texels(out / f"hash_grid_{index}_rgba8.dds")
        want = (trained[index].levels[-1] + 0.5) * 255
        assert np.abs(finest[..., :3] - want).max() < 0.5 + 1e-4
    assert run("--load_dir", folder, "--out_dir", out, "--latents_format", "ktx2") == 0
    assert {path.name for path in out.glob("*.ktx2")} == {"hash_grid_1.ktx2", "hash_grid_3.ktx2"}
    assert run("--load_dir", folder, "--out_dir", out, "--latents_format", "astc") == 0
    assert (out / "hash_grid_3_astc.ktx2").is_file() and not (out / "hash_grid_0_astc.ktx2").exists()


def test_ktx_1(mixed, tmp_path):
    """By the fields of the specification: the same blocks, each level after its size."""
    folder, _, _ = mixed
    out = tmp_path / "out"
    assert run("--load_dir", folder, "--out_dir", out, "--latents_format", "ktx") == 0
    assert {path.name for path in out.iterdir()} == {f"hash_grid_{index}.ktx" for index in (0, 2, 4)}
    for index in (0, 2, 4):
        payload = (out / f"hash_grid_{index}.ktx").read_bytes()
        assert payload[:12] == bytes.fromhex("AB4B5458203131BB0D0A1A0A")
        fields = struct.unpack_from("<13I", payload, 12)
        side, mips = MIXED[index].max_resolution, len(MIXED[index].mip_sizes)
        assert fields[:12] == (0x04030201, 0, 1, 0, 0x93B4, 0x1908, side, side, 0, 0, 1, mips)
        assert payload[68:90] == b"KTXorientation\0S=r,T=d" and fields[12] % 4 == 0
        at, levels = 64 + fields[12], []
        while at < len(payload):
            (size,) = struct.unpack_from("<I", payload, at)
            levels.append(payload[at + 4 : at + 4 + size])
            at += 4 + size
        _, stored = ktx2_levels((folder / f"hash_grid_{index}.ktx2").read_bytes(), mips)
        assert levels == list(map(bytes, stored)) and at == len(payload)


def first_texels(path: Path) -> np.ndarray:
    """The finest level of an R8G8B8A8 file."""
    payload = path.read_bytes()
    height, width = struct.unpack_from("<2I", payload, 12)
    return np.frombuffer(payload, np.uint8, 4 * width * height, 148).reshape(height, width, 4)


def test_grids_of_astc_alone_do_not_become_astc_of_bc1(make_material, tmp_path, capsys):
    write_export(tmp_path, *made((astc(6, 1),), make_material))
    assert run("--load_dir", tmp_path, "--out_dir", tmp_path / "out", "--latents_format", "astc") == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1 and "found ASTC 6x6" in message


# --- damage ----------------------------------------------------------------------------------------------------------


def darker_second_end_point() -> bytes:
    """A block which decoders take for another one: white and then black, not in the order that they ask for."""
    block, ends = BLOCKS["astc6x6"], np.array([[[79, 79, 79], [0, 0, 0]]], np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(astc_file, "_darker", lambda ends: np.zeros(len(ends), bool))
        return astc_file.encode(parameters_of(block, ends, np.zeros((1, 36), np.uint8))).tobytes()


@pytest.mark.parametrize(
    "block", [b"\x48" + bytes(15), b"\xfc\xfd" + b"\xff" * 14, darker_second_end_point()],
    ids=["another mode", "void extent", "end points"],
)  # fmt: skip
def test_blocks_that_are_never_written_are_refused(block, mixed, refused):
    folder, model, _ = mixed
    path = folder / "hash_grid_0.ktx2"
    payload = bytearray(path.read_bytes())
    at = struct.unpack_from("<Q", payload, 80)[0]
    payload[at + 32 : at + 48] = block
    path.write_bytes(payload)
    with refused("hash_grid_0.ktx2", "hash"):
        read_export(folder)
    both_refuse(folder, model.form, refused, "hash_grid_0.ktx2", "mip 0: block 2 is of another mode")


@pytest.mark.parametrize("length", [-1, -16, 200, 79, 0])
def test_cut_and_longer_files_are_refused(length, mixed, refused):
    folder, model, _ = mixed
    path = folder / "hash_grid_2.ktx2"
    payload = path.read_bytes()
    path.write_bytes(payload[:length])
    both_refuse(folder, model.form, refused, "hash_grid_2.ktx2")
    path.write_bytes(payload + bytes(16))
    both_refuse(folder, model.form, refused, "hash_grid_2.ktx2", "bytes for 6x6, 3 mips")


@pytest.mark.parametrize(("at", "value", "words"), [
    (12, 157, "ASTC_6x6_UNORM"), (20, 24, "hash_grid_0"), (20, 0, "impossible size"), (40, 30, "impossible size"),
    (44, 2, "supercompressed"), (36, 6, "another kind"), (80, 1 << 30, "bytes for 20x20"), (88, 16, "mip 0"),
    (0, 0, "KTX2 file"),
])  # fmt: skip
def test_headers_that_do_not_fit_are_refused(at, value, words, mixed, refused):
    folder, model, _ = mixed
    path = folder / "hash_grid_0.ktx2"
    payload = bytearray(path.read_bytes())
    payload[at : at + 4] = struct.pack("<I", value)
    path.write_bytes(payload)
    both_refuse(folder, model.form, refused, "hash_grid_0.ktx2", words)


@pytest.mark.parametrize("change", [
    {"storage": "packed"}, {"storage": "bc1"}, {"save_bits": 4}, {"features": 4}, {"format": "BC1_UNORM"},
    {"files": ["hash_grid_0.dds"]}, {"max_resolution": 24},
], ids=str)  # fmt: skip
def test_a_manifest_that_contradicts_itself(change, mixed, refused):
    edit_manifest(mixed[0], lambda manifest: manifest["grids"][0].update(change))
    with refused(MANIFEST):
        read_export(mixed[0])
