"""formats/ktx2.py and --latents_format: the textures of grids as KTX2, with the levels of the DDS files."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from configs import LAYOUTS
from formats.dds import encode_block_dds
from formats.export import save_ktx2
from formats.ktx2 import encode_ktx2, ktx2_from_dds
from formats.manifest import MANIFEST
from formats.textures import read_export, write_export
from shape import DecoderSpec, GridSpec
from tests.support.exports import make_model, manifest_json, run
from tests.support.paths import ROOT
from tests.support.texture_files import ktx2_levels

VK_FORMATS = {"BC1_UNORM": 131, "R8_UNORM": 9, "R8G8_UNORM": 16, "R8G8B8A8_UNORM": 37, "B4G4R4A4_UNORM": 1000340000}


def bc1(side: int, levels: int) -> GridSpec:
    return GridSpec(side, levels, 0, 4, "linear", "bc1")


def write(folder, grids, make_material, layout="packed"):
    folder.mkdir()
    material = make_material(22, 14)
    write_export(folder, make_model(grids, DecoderSpec(2, 16, 1), material), material.hashed_record, layout=layout)
    return folder


@pytest.fixture
def exported(make_material, tmp_path):
    return write(tmp_path / "exported", (bc1(20, 3), GridSpec(6, 2, 4, 16), bc1(6, 2)), make_material)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ktx2_files_have_the_same_levels(layout, make_material, tmp_path):
    """R8, R8G8, R8G8B8A8, B4G4R4A4 and BC1, against the rules of the specification."""
    grids = (bc1(20, 3), GridSpec(6, 2, 4, 8), GridSpec(3, 1, 4, 16), GridSpec(7, 1, 4, 64), bc1(7, 1))
    source, out = write(tmp_path / "source", grids, make_material, layout), tmp_path / "out"
    assert run("--load_dir", source, "--out_dir", out, "--latents_format", "ktx2") == 0
    entries = manifest_json(source)["grids"]
    names = [name for entry in entries for name in entry["files"]]
    assert sorted(path.name for path in out.iterdir()) == sorted(name.replace(".dds", ".ktx2") for name in names)
    for entry in entries:
        for name in entry["files"]:
            payload = (source / name).read_bytes()
            header, levels = ktx2_levels((out / name).with_suffix(".ktx2").read_bytes(), entry["mips"])
            side = entry["max_resolution"]
            assert header == {"vk": VK_FORMATS[entry["format"]], "width": side, "height": side}
            assert b"".join(levels) == payload[148:] and len(levels) == entry["mips"]


def test_ktx2_stands_beside_the_dds(exported, tmp_path):
    """Of an export in its own folder, and with another layout in another one; the export stays what it was."""
    folder, out = exported, tmp_path / "out"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run("--load_dir", folder, "--out_dir", folder, "--latents_format", "ktx2") == 0
    assert {path.name: path.read_bytes() for path in folder.glob("*.[!k]*")} == before
    assert len(list(folder.glob("*.ktx2"))) == 3
    assert run("--load_dir", folder, "--out_dir", out, "--latents_format", "ktx2", "--dds_layout", "bgra4") == 0
    assert {path.name for path in out.glob("*.ktx2")} == {
        "hash_grid_0.ktx2", "hash_grid_1_bgra4_0_3.ktx2", "hash_grid_2.ktx2",
    }  # fmt: skip
    read_export(out)


def test_without_a_manifest_there_is_no_ktx2(exported, tmp_path, capsys):
    (exported / MANIFEST).unlink()
    assert run("--load_dir", exported, "--out_dir", tmp_path / "o", "--images", "--latents_format", "ktx2") == 2
    assert MANIFEST in capsys.readouterr().err and not (tmp_path / "o").exists()


def test_ktx_parse_reads_them(exported, tmp_path):
    """The library with which three.js reads KTX2."""
    parser = ROOT / ".tools/node_modules/three/examples/jsm/libs/ktx-parse.module.js"
    if not parser.is_file() or not shutil.which("node"):
        pytest.skip("no node, or no three.js in .tools")
    save_ktx2(tmp_path / "k", read_export(exported), say=lambda line: None)
    script = (
        f"import {{read}} from {str(parser)!r}; import fs from 'fs';"
        "for (const name of process.argv.slice(1)) { const t = read(new Uint8Array(fs.readFileSync(name)));"
        "console.log([t.vkFormat, t.pixelWidth, t.pixelHeight, t.typeSize, t.dataFormatDescriptor[0].colorModel,"
        "t.dataFormatDescriptor[0].samples.length, ...t.levels.map(l => Buffer.from(l.levelData).toString('hex'))]"
        ".join(' ')); }"
    )
    files = [tmp_path / "k" / f"hash_grid_{index}.ktx2" for index in (0, 1)]
    command = ["node", "--input-type=module", "-e", script, *map(str, files)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    known = (["131", "20", "20", "1", "128", "1"], ["16", "6", "6", "1", "1", "2"])
    for index, (line, fields) in enumerate(zip(lines, known)):
        words = line.split()
        assert words[:6] == fields
        assert bytes.fromhex("".join(words[6:])) == (exported / f"hash_grid_{index}.dds").read_bytes()[148:]


def test_other_dds_files_do_not_become_ktx2(refused):
    with refused("x.dds", "98"):
        ktx2_from_dds(encode_block_dds(4, 4, 98, [bytes(16)]), "x.dds")
    with pytest.raises(ValueError, match="mip 0 must be 32 bytes, got"):
        encode_ktx2(8, 8, "bc1", False, [bytes(31)])
    with pytest.raises(ValueError, match="mip 0 must be 9 bytes, got"):
        encode_ktx2(3, 3, "r8", False, [bytes(12)])
    with pytest.raises(ValueError, match="r8"):
        encode_ktx2(4, 4, "r8", True, [bytes(16)])
