"""export.py --describe: what it says of our files and of the ancestor's, and what it finds wrong."""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import replace

import numpy as np
import pytest

import export
from common.errors import run_command
from dataset import Constant, Material
from describe.folder import ENGINES, describe_folder
from formats.dds import FORMAT_NAMES, encode_block_dds, read_dds_info
from formats.manifest import MANIFEST, NETWORK
from formats.textures import write_export
from maps.channels import map_size
from shape import DecoderSpec, GridSpec
from tests.support.exports import FILES, edit_manifest, make_model, npz, reseal
from tests.support.exports import npy as npy_bytes


def cells(lines, start: str) -> list[str]:
    """The words of the only line that begins with `start`."""
    found = [line for line in lines if line.strip().startswith(start)]
    assert len(found) == 1, (start, lines)
    return found[0].split()


def test_everything_of_an_export(shipped):
    folder = shipped[0]
    result = describe_folder(folder)
    text = "\n".join(result.lines)
    assert not result.problems
    assert "made, 12 x 10, 4 LODs" in result.lines[0]
    assert cells(result.lines, "diffuse")[:6] == ["diffuse", "channels", "0", "to", "2", "srgb"]
    assert cells(result.lines, "roughness")[:4] == ["roughness", "channel", "6", "linear"]
    assert "grid 0  6 x 6 to 3 x 3, 2 levels  8 features of 8 bits in words of 64  learned  mips 0 to 1 trained" in text
    assert "grid 1  3 x 3, 1 level            4 features of 4 bits in words of 16  linear   mip 0 trained" in text
    assert "R8G8B8A8_UNORM  Unreal, Unity, Godot, three.js" in text
    assert "R8G8_UNORM      Unity, three.js; not Godot (luminance and alpha)" in text and "--dds_layout rgba8" in text
    assert set(ENGINES) == {*FORMAT_NAMES.values(), "BC1_UNORM", "ASTC_6x6_UNORM"}
    assert "64 -> 16 -> 16 (11 of the outputs are used)" in text and "1280 float32" in text
    words = (36 + 9 + 1) * 8 + 9 * 2
    assert f"in memory  {words + 1280 * 4} bytes: grids {words}, network 5120" in text
    disk = sum((folder / name).stat().st_size for name in FILES)
    assert f"on disk    {disk} bytes" in text
    bpp = (36 * 64 + 9 * 16 + 1280 * 32) / 120
    assert f"LOD 0      {bpp:.3f} bpp" in text
    assert "LOD 0  all 31.50" in text
    assert cells(result.lines, "trained at")[2:6] == ["texel", "centres", "and", "whole"]
    assert cells(result.lines, "hash_grid_1.dds")[:6] == [
        "hash_grid_1.dds", "sha256", "ok", f"{(folder / 'hash_grid_1.dds').stat().st_size}", "bytes", "R8G8_UNORM,",
    ]  # fmt: skip
    assert text.count("sha256 ok") == len(FILES)


def test_constants_and_conventions_are_told(make_material, tmp_path):
    material = make_material(8, 8, present=("diffuse", "normal"))
    material.normal_convention = "dx"
    model = make_model([GridSpec(4, 1, 8, 32)], DecoderSpec(1, 16, 1, 0, "hard_swish"), material)
    model.constants = {5: Constant(255, 8)}
    write_export(tmp_path, model, material.hashed_record)
    text = "\n".join(describe_folder(tmp_path).lines)
    assert "normal z 255" in text and "convention dx" in text and "hard_swish" in text
    assert "none: exported without an evaluation" in text


def test_extra_maps_are_told(tmp_path):
    arrays = {name: np.random.default_rng(0).integers(0, 256, (8, 8, map_size(name)), dtype=np.uint8)
              for name in ("diffuse", "opacity", "emissive", "thickness")}  # fmt: skip
    material = Material.from_arrays("leaf", arrays, value_range={"thickness": (-0.5, 3.0)})
    model = make_model([GridSpec(4, 1, 8, 32)], DecoderSpec(1, 16, 1, outputs=16), material)
    record = material.hashed_record
    bright = {"value_range": (0.0, 50.0), "log_scale": 0.05, "bit_depth": 16}
    maps = tuple(replace(m, **bright) if m.name == "emissive" else m for m in record.maps)
    write_export(tmp_path, model, replace(record, maps=maps))
    lines = describe_folder(tmp_path).lines
    assert cells(lines, "opacity")[:5] == ["opacity", "channel", "11", "linear", "8"]
    assert cells(lines, "emissive")[:5] == ["emissive", "channels", "12", "to", "14"]
    text = "\n".join(lines)
    assert "0 to 1 is 0 to 50 in the file, as log2(1 + value / 0.05)" in text
    assert "named by --extra_map, 0 to 1 is -0.5 to 3 in the file" in text
    assert cells(lines, "thickness")[:3] == ["thickness", "channel", "15"] and text.count("--extra_map") == 1
    assert "(16 of the outputs are used)" in text


def test_filtered_positions_are_told(make_material, tmp_path):
    material = make_material(8, 8)
    model = make_model([GridSpec(4, 1, 8, 32)], DecoderSpec(1, 16, 1), material)
    write_export(tmp_path, model, material.hashed_record, positions="filtered")
    assert "positions filtered" in " ".join(cells(describe_folder(tmp_path).lines, "trained at"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "deleted"])
def test_the_file_that_differs_is_named(name, damage, folder, capsys):
    path = folder / name
    payload = bytearray(path.read_bytes())
    payload[-2] ^= 1
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes({"flipped": bytes(payload), "cut": bytes(payload[:-1]), "empty": b""}[damage])
    result = describe_folder(folder)
    assert len(result.problems) == 1 and name in result.problems[0]
    assert run_command(lambda: export.main(["--describe", str(folder)])) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1 and name in err
    assert (out.count("sha256 ok") == len(FILES) - 1 and "MISSING" in out) or "DIFFERS" in out


def test_files_of_another_texture_with_fitting_hashes(folder, make_material, tmp_path):
    other = make_model([GridSpec(6, 2, 8, 64), GridSpec(3, 1, 2, 16)], DecoderSpec(3, 32, 1), make_material(12, 10))
    (tmp_path / "other").mkdir()
    write_export(tmp_path / "other", other, make_material(12, 10).hashed_record)
    (folder / NETWORK).write_bytes((tmp_path / "other" / NETWORK).read_bytes())
    reseal(folder)
    problems = describe_folder(folder).problems
    assert len(problems) == 2 and "other grids" in problems[0] and "weights" in problems[1]


@pytest.mark.parametrize("change", [
    lambda m: m.pop("grids"), lambda m: m.pop("rates"), lambda m: m["material"].pop("width"),
    lambda m: m["grids"][0].pop("features"), lambda m: m["decoder"].update(layers=[]), lambda m: m.update(files=[1]),
    lambda m: m["rates"].update(bpp="x"), lambda m: m.update(version=99), lambda m: m.update(metrics=7),
    lambda m: m["grids"][0].update(n_levels="2"), lambda m: m["grids"][0].update(n_levels=10**9),
    lambda m: m["grids"][0].update(base_resolution=10**9), lambda m: m["files"].update({"../x": {}}),
])  # fmt: skip
def test_a_manifest_that_makes_no_sense_is_one_line(change, folder, capsys):
    edit_manifest(folder, change)
    assert run_command(lambda: export.main(["--describe", str(folder)])) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_missing_entry_is_named(folder, capsys):
    edit_manifest(folder, lambda m: m.pop("grids"))
    assert run_command(lambda: export.main(["--describe", str(folder)])) == 2
    assert "(no entry 'grids')" in capsys.readouterr().err


# --- the ancestor's files --------------------------------------------------------------------------------------------


def ancestor_dds(width: int, height: int, dx10: bool) -> bytes:
    """One level of R8G8B8A8 as the ancestor writes it: with a DX10 header, in older versions with masks instead."""
    pixel_format = (32, 0x4, int.from_bytes(b"DX10", "little"), 0, 0, 0, 0, 0)
    if not dx10:
        pixel_format = (32, 0x41, 0, 32, 0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    head = struct.pack("<7I44x8I5I", 124, 0x100F, height, width, width * 4, 0, 1, *pixel_format, 0x1000, 0, 0, 0, 0)
    return b"DDS " + head + (struct.pack("<5I", 28, 3, 0, 1, 0) if dx10 else b"") + bytes(width * height * 4)


@pytest.fixture
def ancestor(tmp_path):
    """Two grids, 8 features of 4 bits and 4 of 8, the finest levels alone; no manifest."""
    info = [2, 16, 3, 8, 4, 32, 4, 3, 4, 8, 32, 12, 64, 2, 16]
    inputs = 48  # 24 waves + 12 features + LOD, padded
    weights = np.zeros(64 * inputs + 64 * 64 + 16 * 64, np.float32)
    members = {"info.npy": npy_bytes(np.array(info, np.int32)), "network.npy": npy_bytes(weights)}
    (tmp_path / NETWORK).write_bytes(npz(members))
    (tmp_path / "hash_grid_0.dds").write_bytes(ancestor_dds(64, 64, True))
    (tmp_path / "hash_grid_1.dds").write_bytes(ancestor_dds(16, 16, False))
    return tmp_path


def test_the_ancestors_files(ancestor, capsys):
    assert export.main(["--describe", str(ancestor)]) == 0
    text = capsys.readouterr().out
    assert "64 x 64 to 16 x 16, 3 levels  8 features of 4 bits" in text and "the first 4 of 8 features" in text
    assert "16 x 16 to 4 x 4, 3 levels    4 features of 8 bits" in text and "all 4 features" in text
    assert "48 -> 64 -> 64 -> 16" in text and "48: 24 triangle waves, 12 features" in text
    assert "R8G8B8A8_UNORM, 64 x 64, 1 mip, DX10 header" in text
    assert "R8G8B8A8_UNORM, 16 x 16, 1 mip, no DX10 header" in text
    assert "not in these files" in text


def test_an_export_without_its_manifest(folder):
    (folder / MANIFEST).unlink()
    result = describe_folder(folder)
    text = "\n".join(result.lines)
    assert not result.problems and "words, all levels" in text and "others that only a manifest can tell" in text


def test_ancestors_files_that_do_not_fit(ancestor):
    (ancestor / "hash_grid_1.dds").unlink()
    (ancestor / "hash_grid_0.dds").write_bytes(ancestor_dds(32, 64, True)[:-1])
    problems = "; ".join(describe_folder(ancestor).problems)
    assert "hash_grid_1.dds is not there" in problems and "32 x 64" in problems and "header asks for" in problems


@pytest.mark.parametrize("info", [
    [1, 16, 2**31 - 1, 4, 8, 32, 12, 64, 2, 16], [1, 16, 3, 4, 8, 32, 12, 0, 2, 16],
    [1, -1, 3, 4, 8, 32, 12, 64, 2, 16], [1, 16, 0, 4, 8, 32, 12, 64, 2, 16], [1, 16, 3, 4, 8, 32, 12, 64, 9999, 16],
    [2, 1], [],
], ids=str)  # fmt: skip
def test_impossible_info_is_one_line(info, tmp_path, refused):
    members = {"info.npy": npy_bytes(np.array(info, np.int32)), "network.npy": npy_bytes(np.zeros(9, np.float32))}
    (tmp_path / NETWORK).write_bytes(npz(members))
    with refused(NETWORK):
        describe_folder(tmp_path)


# --- other folders ---------------------------------------------------------------------------------------------------


def test_any_dds_is_told_by_its_header(tmp_path):
    (tmp_path / "colour.dds").write_bytes(encode_block_dds(5, 3, 99, [bytes(32), bytes(16), bytes(16)]))
    info = read_dds_info(tmp_path / "colour.dds")
    assert (info.width, info.height, info.mips, info.format) == (5, 3, 3, "BC7_UNORM_SRGB")
    assert info.bytes == info.expected_bytes == 148 + 64
    assert "BC7_UNORM_SRGB, 5 x 3, 3 mips" in "\n".join(describe_folder(tmp_path).lines)
    assert info.counts_mips and info.header == "DX10 header"
    payload = bytearray((tmp_path / "colour.dds").read_bytes())
    payload[128:132] = struct.pack("<I", 10)
    (tmp_path / "colour.dds").write_bytes(payload)
    info = read_dds_info(tmp_path / "colour.dds")
    assert info.format == "DXGI format 10" and info.expected_bytes is None


def test_command_refuses_what_it_cannot_do(tmp_path, refused, folder):
    with refused("nowhere"):
        export.main(["--describe", str(tmp_path / "nowhere")])
    (tmp_path / "empty").mkdir()
    with refused("found none of them"):
        export.main(["--describe", str(tmp_path / "empty")])
    with refused("--load_dir"):
        export.main(["--describe", str(folder), "--load_dir", str(folder)])
    with refused("--out_dir"):
        export.main(["--describe", str(folder), "--images"])
    with refused("--out_dir"):
        export.main(["--load_dir", str(folder), "--images"])
    with refused("--load_dir or --describe"):
        export.main(["--out_dir", str(folder)])
    (tmp_path / "empty" / "x.dds").write_bytes(b"DDS " + bytes(50))
    with refused("x.dds"):
        export.main(["--describe", str(tmp_path / "empty")])


def test_describing_and_decoding_at_once(folder, tmp_path, capsys):
    assert export.main(["--describe", str(folder), "--images", "--out_dir", str(tmp_path / "out")]) == 0
    assert "sha256 ok" in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "images").glob("*.png"))) == 8


def test_a_run_folder_stands_for_its_checkpoint(folder, tmp_path, capsys):
    for iteration in (20, 100):
        checkpoint = tmp_path / "run" / "models" / f"train_result_{iteration}"
        shutil.copytree(folder, checkpoint)
        (checkpoint / "model.pth").write_bytes(b"")
    assert export.main(["--describe", str(tmp_path / "run")]) == 0
    assert "train_result_100: made" in capsys.readouterr().out
    assert export.main(["--describe", str(tmp_path / "run"), "--load_iter", "20"]) == 0
    assert "train_result_20: made" in capsys.readouterr().out


def test_names_cannot_reach_the_terminal_as_they_are(folder, capsys):
    edit_manifest(folder, lambda manifest: manifest["material"].update(name="a\x1b[2Jb\nc"))
    assert json.loads((folder / MANIFEST).read_text())["material"]["name"] == "a\x1b[2Jb\nc"
    export.main(["--describe", str(folder)])
    assert "\x1b" not in capsys.readouterr().out
