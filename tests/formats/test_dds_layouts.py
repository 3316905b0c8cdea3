"""--dds_layout: features with a channel each are the features of the codes, in files that other readers understand."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

from configs import LAYOUTS
from describe.folder import describe_folder
from describe.numpy_decoder import decode, read_texture
from formats.dds import Texture, encode_dds, read_dds
from formats.dds_layouts import check_layout, full_chain, grid_file_names, grid_textures, stored_bits, unorm_to_feature
from formats.export import save_images
from formats.manifest import MANIFEST, NETWORK
from formats.textures import read_export, write_export
from quantize import features_from_codes
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.exports import edit_manifest, make_model, reseal, run

FOUR_BITS = (GridSpec(12, 3, 4, 32), GridSpec(6, 2, 4, 8, "learned"))
# per layout: grids that it can hold, with 1, 2, 4, 8 and 16 features
GRIDS = {
    "filterable": [FOUR_BITS, (GridSpec(10, 2, 2, 32), GridSpec(5, 1, 8, 8)), (GridSpec(3, 1, 1, 8),)],
    "bgra4": [FOUR_BITS, (GridSpec(8, 4, 4, 64),), (GridSpec(3, 1, 4, 16),)],
}
CASES = [(layout, grids) for layout, choices in GRIDS.items() for grids in choices]
CASE_IDS = [f"{layout}-{'-'.join(str(grid.features) for grid in grids)}" for layout, grids in CASES]
every_case = pytest.mark.parametrize(("layout", "grids"), CASES, ids=CASE_IDS)


def made(grids, make_material):
    material = make_material(14, 10, present=("diffuse", "roughness"))
    return make_model(grids, DecoderSpec(2, 16, 1), material), material.hashed_record


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_channel_gives_exactly_the_feature_of_its_code(bits):
    """In the sampler's float32, for every code."""
    codes = np.arange(2**bits)
    assert 255 % (2**bits - 1) == 0
    stored = codes * (255 // (2**bits - 1))
    t = stored.astype(np.float32) / np.float32(255)
    affine = unorm_to_feature(GridSpec(4, 1, bits, 8))
    want = features_from_codes(torch.from_numpy(codes), bits).numpy()
    np.testing.assert_allclose(t * np.float32(affine["scale"]) + np.float32(affine["offset"]), want, rtol=0, atol=6e-8)
    np.testing.assert_allclose(stored / 255 * affine["scale"] + affine["offset"], want, rtol=0, atol=1e-15)
    n = 2**bits
    np.testing.assert_allclose((stored / 255 - 0.5) * (n - 1) / n, want, rtol=0, atol=1e-15)  # design.md, section 5


@every_case
def test_what_is_written_is_read_back(layout, grids, make_material, tmp_path):
    model, material = made(grids, make_material)
    manifest = write_export(tmp_path, model, material, layout=layout)
    assert {path.name for path in tmp_path.iterdir()} == set(manifest.files) | {MANIFEST}
    exported = read_export(tmp_path)
    assert exported.manifest.layout == layout and tuple(exported.model.grids) == grids
    for index in range(len(grids)):
        assert torch.equal(exported.model.codes(index), model.codes(index))
        assert np.ptp(model.codes(index).numpy()) == 2 ** grids[index].quantize_bits - 1
    assert not describe_folder(tmp_path).problems


@every_case
def test_another_reader_finds_the_features(layout, grids, make_material, tmp_path):
    """From the files and the manifest's numbers alone: feature f is in channel f % 4 of file f // 4."""
    model, material = made(grids, make_material)
    write_export(tmp_path, model, material, layout=layout)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    top = {"filterable": 255, "bgra4": 15}[layout]
    for index, (entry, grid) in enumerate(zip(manifest["grids"], grids)):
        planes = [reference.parse_dds((tmp_path / name).read_bytes()) for name in entry["files"]]
        assert entry["format"] == {28: "R8G8B8A8_UNORM", 49: "R8G8_UNORM", 61: "R8_UNORM", 115: "B4G4R4A4_UNORM"}[
            planes[0]["dxgiFormat"]
        ]
        to_feature = entry["unorm_to_feature"]
        features = features_from_codes(model.codes(index), grid.quantize_bits).numpy()
        for mip in range(grid.n_levels):
            channels = np.concatenate([plane["levels"][mip] for plane in planes], axis=2)
            assert not channels[:, :, grid.features :].any()  # what B4G4R4A4 has and the grid has not
            got = channels[:, :, : grid.features] / top * to_feature["scale"] + to_feature["offset"]
            start = grid.level_offset(grid.n_levels - 1 - mip)
            want = features[start : start + got.shape[0] * got.shape[1]].reshape(got.shape)
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-7)
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_chains_are_full_and_the_padding_is_never_read(layout, make_material, tmp_path):
    """Sides that become odd, and a grid of one level; the numpy decoder, too, ignores what lies in mips of no level."""
    model, material = made((GridSpec(28, 3, 4, 32), GridSpec(5, 1, 4, 8), GridSpec(4, 3, 4, 16)), make_material)
    write_export(tmp_path, model, material, layout=layout)
    want = [model.codes(index) for index in range(3)]
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert [(entry["mips"], entry["n_levels"]) for entry in manifest["grids"]] == [(5, 3), (1, 1), (3, 3)]
    lods = [decode(read_texture(tmp_path, model.form), lod, 14, 10) for lod in (0, 3)] if layout == "packed" else []
    for entry in manifest["grids"]:
        for name in entry["files"]:
            texture = read_dds(tmp_path / name)
            side = entry["max_resolution"]
            assert [len(level) for level in texture.levels] == [side >> mip for mip in range(entry["mips"])]
            trained = texture.levels[: entry["n_levels"]]
            padded = [np.full_like(level, 15) for level in texture.levels[entry["n_levels"] :]]  # filterable: no code
            (tmp_path / name).write_bytes(encode_dds(Texture((*trained, *padded), texture.bits)))
    reseal(tmp_path)
    assert all(torch.equal(read_export(tmp_path).model.codes(index), want[index]) for index in range(3))
    if lods:
        again = read_texture(tmp_path, model.form)
        assert all((decode(again, lod, 14, 10) == image).all() for lod, image in zip((0, 3), lods))


def test_files_of_the_trained_levels_alone_are_read(make_material, tmp_path):
    """As earlier versions wrote them, with a manifest that does not count mips."""
    model, material = made(FOUR_BITS, make_material)
    write_export(tmp_path, model, material)
    for index, name in enumerate(("hash_grid_0.dds", "hash_grid_1.dds")):
        levels, n_levels = read_dds(tmp_path / name).levels, FOUR_BITS[index].n_levels
        assert len(levels) > n_levels
        (tmp_path / name).write_bytes(encode_dds(Texture(levels[:n_levels])))
    edit_manifest(tmp_path, lambda manifest: [entry.pop("mips") for entry in manifest["grids"]])
    reseal(tmp_path)
    assert torch.equal(read_export(tmp_path).model.codes(0), model.codes(0))
    assert not describe_folder(tmp_path).problems
    assert decode(read_texture(tmp_path, model.form), 1, 7, 5).shape == (5, 7, 11)


@pytest.mark.parametrize(("word", "left"), [(8, 3), (16, 2), (32, 0), (64, 0)])
def test_rgba8_has_the_word_in_front(word, left, make_material, tmp_path):
    """R8G8 is luminance and alpha to Godot; in R8G8B8A8 the bytes are where the decoder looks for them."""
    grid = GridSpec(6, 2, 4, word)
    model, material = made((grid,), make_material)
    for layout in ("packed", "rgba8"):
        (tmp_path / layout).mkdir()
        write_export(tmp_path / layout, model, material, layout=layout)
    names = grid_file_names(0, grid, "rgba8")
    assert names == grid_file_names(0, grid)
    for name in names:
        wide, packed = (reference.parse_dds((tmp_path / layout / name).read_bytes()) for layout in ("rgba8", "packed"))
        assert wide["dxgiFormat"] == 28 and len(wide["levels"]) == 3
        for one, other in zip(wide["levels"], packed["levels"]):
            assert one.shape[2] == 4 and (one[..., : 4 - left] == other).all() and (one[..., 4 - left :] == 255).all()
        with Image.open(tmp_path / "rgba8" / name) as picture:
            assert picture.mode == "RGBA" and (np.asarray(picture) == wide["levels"][0]).all()
    exported = read_export(tmp_path / "rgba8")
    assert torch.equal(exported.model.codes(0), model.codes(0))
    assert exported.manifest.rates["grids"] == pytest.approx(36 * max(word, 32) / 140, abs=1e-6)
    both = [read_texture(tmp_path / layout, model.form, layout) for layout in ("packed", "rgba8")]
    one, other = (decode(texture, 0, 14, 10) for texture in both)
    assert (one == other).all() and not describe_folder(tmp_path / "rgba8").problems


def test_pillow_shows_the_features(make_material, tmp_path):
    model, material = made(FOUR_BITS, make_material)
    write_export(tmp_path, model, material, layout="filterable")
    codes = model.codes(0).numpy()[-144:].reshape(12, 12, 8)  # the finest level
    for first, name in ((0, "hash_grid_0_features_0_3.dds"), (4, "hash_grid_0_features_4_7.dds")):
        with Image.open(tmp_path / name) as picture:
            assert picture.mode == "RGBA" and picture.size == (12, 12)
            np.testing.assert_array_equal(np.asarray(picture), codes[:, :, first : first + 4] * 17)


def test_names_and_sizes():
    wide, narrow = GridSpec(4, 1, 4, 64), GridSpec(4, 1, 4, 8)
    assert grid_file_names(0, wide) == ["hash_grid_0.dds", "hash_grid_0_p1.dds"]
    assert grid_file_names(3, wide, "filterable") == [
        f"hash_grid_3_features_{first}_{first + 3}.dds" for first in (0, 4, 8, 12)
    ]
    assert grid_file_names(0, narrow, "bgra4") == ["hash_grid_0_bgra4_0_1.dds"]
    assert grid_file_names(0, GridSpec(4, 1, 8, 8), "filterable") == ["hash_grid_0_features_0_0.dds"]
    assert [stored_bits(wide, layout) for layout in ("packed", "filterable", "bgra4")] == [64, 128, 64]
    assert [stored_bits(narrow, layout) for layout in ("packed", "filterable", "bgra4")] == [8, 16, 16]


def test_the_rates_are_those_of_the_files(make_material, tmp_path):
    model, material = made(FOUR_BITS, make_material)
    network = sum(weight.numel() for weight in model.weights) * 32
    for layout, bits in (("packed", (32, 8)), ("filterable", (64, 16)), ("bgra4", (32, 16))):
        folder = tmp_path / layout
        folder.mkdir()
        rates = write_export(folder, model, material, layout=layout).rates
        assert rates["bpp"] == pytest.approx((144 * bits[0] + 36 * bits[1] + network) / 140, abs=1e-6)
        text = "\n".join(describe_folder(folder).lines)
        words = ((144 + 36 + 9 + 1) * bits[0] + (36 + 9 + 1) * bits[1]) // 8
        assert f"grids, {layout}" in text and f"grids {words}, network {network // 8}" in text
        textures = [texture for index in (0, 1) for texture in grid_textures(model, index, layout)]
        channels = sum(level.size for texture in textures for level in full_chain(texture).levels)
        assert words == (channels // 2 if layout == "bgra4" else channels)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def four_bits(make_material, tmp_path):
    folder = tmp_path / "four_bits"
    folder.mkdir()
    write_export(folder, *made(FOUR_BITS, make_material), {"psnr": {"all": 30.0}})
    return folder


def test_the_command_widens_small_words_and_back(make_material, tmp_path):
    first, wide, back = (tmp_path / name for name in ("first", "wide", "back"))
    first.mkdir()
    write_export(first, *made((GridSpec(6, 2, 4, 16),), make_material))
    assert run("--load_dir", first, "--out_dir", wide, "--dds_layout", "rgba8", "--shader", "essl") == 0
    text = (wide / "decoder.es.glsl").read_text()
    assert "hash_grid_0.dds, R8G8B8A8_UNORM, 6x6, 3 mips, the first 2 are read" in text and "texelFetch" in text
    assert run("--load_dir", wide, "--out_dir", back, "--dds_layout", "packed") == 0
    assert all((back / path.name).read_bytes() == path.read_bytes() for path in first.iterdir())


@pytest.mark.parametrize("layout", ["filterable", "bgra4"])
def test_an_export_in_another_layout_and_back(layout, four_bits, tmp_path):
    other, back = tmp_path / "other", tmp_path / "back"
    shaders = ["--shader", "hlsl,essl"]
    assert run("--load_dir", four_bits, "--out_dir", other, "--dds_layout", layout, *shaders) == 0
    assert not (other / "hash_grid_0.dds").exists()
    assert "ntGrid0.SampleLevel(ntSampler, uv, lod)" in (other / "decoder.hlsl").read_text()
    assert run("--load_dir", other, "--out_dir", tmp_path / "same", *shaders) == 0  # the layout of the export
    assert (tmp_path / "same" / "decoder.hlsl").read_bytes() == (other / "decoder.hlsl").read_bytes()
    assert run("--load_dir", other, "--out_dir", back, "--dds_layout", "packed") == 0
    assert {path.name: path.read_bytes() for path in back.iterdir()} == {
        path.name: path.read_bytes() for path in four_bits.iterdir()
    }
    one, two = (save_images(tmp_path / folder.name / "images", read_export(folder)) for folder in (four_bits, other))
    assert [path.name for path in one] == [path.name for path in two]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--dds_layout", "bgra4"], ["--dds_layout bgra4", "4-bit", "8-bit", "packed or filterable or rgba8"]),
        (["--dds_layout", "rgba"], ["--dds_layout", "got rgba", "filterable"]),
    ],
    ids=str,
)
def test_bad_layouts_are_one_line(flags, words, folder, tmp_path, capsys):
    assert run("--load_dir", folder, "--out_dir", tmp_path / "o", *flags) == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1 and all(word in message for word in words), message
    assert not (tmp_path / "o").exists()


def test_16_bits_fit_no_channel(refused):
    for layout in ("filterable", "bgra4"):
        with refused(f"--dds_layout {layout}", "16-bit", "grid 1", "use packed"):
            check_layout([GridSpec(4, 1, 4, 32), GridSpec(4, 1, 16, 32)], layout)


def test_two_layouts_do_not_share_a_folder(four_bits, capsys):
    before = {path.name: path.read_bytes() for path in four_bits.iterdir()}
    assert run("--load_dir", four_bits, "--out_dir", four_bits, "--dds_layout", "bgra4") == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1 and "--out_dir" in message and "packed" in message
    assert {path.name: path.read_bytes() for path in four_bits.iterdir()} == before
    assert run("--load_dir", four_bits, "--out_dir", four_bits, "--dds_layout", "packed") == 0


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_value_that_no_code_makes(make_material, tmp_path, refused):
    model, material = made(FOUR_BITS, make_material)
    write_export(tmp_path, model, material, layout="filterable")
    path = tmp_path / "hash_grid_0_features_0_3.dds"
    payload = bytearray(path.read_bytes())
    payload[-5] += 1 if payload[-5] < 255 else -1  # before the four bytes of the untrained mip
    path.write_bytes(payload)
    with refused(path.name, "hash"):
        read_export(tmp_path)
    reseal(tmp_path)
    with refused(path.name, "4-bit code", "mip 2"):
        read_export(tmp_path)


@pytest.mark.parametrize("layout", ["filterable", "bgra4", "rows", 7, None])
def test_a_manifest_with_another_layout(layout, folder, refused):
    edit_manifest(folder, lambda manifest: manifest.update(dds_layout=layout))
    with refused(str(folder)):
        read_export(folder)


def test_a_manifest_older_than_the_layouts(folder):
    edit_manifest(folder, lambda manifest: manifest.pop("dds_layout"))
    assert read_export(folder).model.grids[0].features == 8
    assert "grids, packed" in "\n".join(describe_folder(folder).lines)


def test_a_file_of_another_format(make_material, tmp_path, refused):
    """R8G8 and B4G4R4A4 have texels of the same size: the header decides."""
    model, material = made((GridSpec(3, 1, 8, 16),), make_material)
    write_export(tmp_path, model, material, layout="filterable")
    path = tmp_path / "hash_grid_0_features_0_1.dds"
    payload = bytearray(path.read_bytes())
    payload[128] = 115
    path.write_bytes(payload)
    reseal(tmp_path)
    with refused(path.name):
        read_export(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, NETWORK, MANIFEST])
