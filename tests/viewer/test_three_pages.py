"""viewer/three as its users have it: the package, the example page, a folder of export.py, and the guide's lines."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from PIL import Image as PillowImage

import export
from formats.textures import write_export
from shaders.weights import weight_bytes
from tests.support.three_cases import entry_of, exported_case, values_of
from tests.support.three_pages import MODULE, Gltf, open_three, read, said

TRIED = "(url) => kit.loadFolder(url).then(() => null, (error) => error.message)"


def test_the_package_has_what_it_names():
    package = json.loads((MODULE / "package.json").read_text(encoding="utf-8"))
    assert package["type"] == "module" and "dependencies" not in package
    assert set(package["peerDependencies"]) == {"three"}
    files = {path.name for path in MODULE.iterdir() if path.is_file()}
    assert package["exports"]["."].removeprefix("./") in files
    for path in MODULE.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        imported = re.findall(r'^(?:import|export) .*?from "(.*?)";', text, re.MULTILINE | re.DOTALL)
        assert all(name == "three" or name.removeprefix("./") in files for name in imported), path.name
        assert len(text.splitlines()) < 500 or path.name == "decoder.js"
        assert "http" not in text, path.name


def test_the_example_shows_a_model(browser, tmp_path):
    """Its script is at most 30 lines, and nothing but the model and three.js is asked for."""
    page = (MODULE / "example.html").read_text(encoding="utf-8")
    script = re.search(r'<script type="module">\n(.*?)</script>', page, re.DOTALL)[1]
    assert len(script.strip().splitlines()) <= 30
    gltf = Gltf()
    gltf.entries.append(entry_of("linear", gltf.add))
    gltf.plane({}, {"index": 0})
    gltf.document["nodes"][0]["translation"] = [50, -20, 7]  # the camera turns to where the model is
    (tmp_path / "plane.glb").write_bytes(gltf.glb())
    browser.tab.set_viewport_size({"width": 160, "height": 120})
    open_three(browser, tmp_path, path="/neural/example.html?model=/files/plane.glb")
    browser.tab.wait_for_function("document.querySelector('p').textContent === ''")
    browser.tab.wait_for_timeout(300)  # until the picture is composed
    seen = np.asarray(PillowImage.open(io.BytesIO(browser.tab.screenshot())).convert("RGB"))
    assert said(browser) == [] and seen[55:65, 75:85].max(axis=2).min() > 60 and seen[:10, 120:].max() < 60


@pytest.mark.parametrize(
    ("name", "layout"),
    [("linear", "packed"), ("linear", "rgba8"), ("linear", "filterable"), ("astc blocks", "packed")],
)
def test_a_folder_of_the_exporter(name, layout, browser, tmp_path):
    """On a plane of three.js's own, whose v points up; with DDS files, and with KTX2 files beside them."""
    exported = exported_case(name)
    (tmp_path / "run").mkdir()
    write_export(tmp_path / "run", exported.model, exported.manifest.material, {}, layout=layout)
    flags = ["--load_dir", str(tmp_path / "run"), "--out_dir", str(tmp_path / "out"), "--dds_layout", layout]
    assert export.main([*flags, "--shader", "essl", "--weights", "buffer"]) == 0
    open_three(browser, tmp_path)
    browser.tab.evaluate("kit.loadFolder('/files/out')")
    (got,) = read(browser, "vec4( ntPixel.normal, ntPixel.occlusion )", {"width": 16, "height": 12})
    want = values_of(exported, 0)
    codes = 1 if name == "linear" else 3  # GPUs round what lies between colours in their ways
    assert np.abs(got - np.concatenate([want["normal"], want["occlusion"]], axis=2)).max() < codes / 255
    assert said(browser) == []


def test_damaged_texture_files(browser, tmp_path):
    """One line that names the file."""
    exported = exported_case("astc blocks")
    write_export(tmp_path, exported.model, exported.manifest.material, {})
    (tmp_path / "decoder_weights.bin").write_bytes(weight_bytes(exported.model, "auto"))
    open_three(browser, tmp_path)
    assert browser.tab.evaluate(TRIED, "/files/") is None
    ktx2, dds = ((tmp_path / name).read_bytes() for name in ("hash_grid_0.ktx2", "hash_grid_3.dds"))
    at = int.from_bytes(ktx2[80:88], "little")
    for file, expected, payload in (
        ("hash_grid_0.ktx2", "header", ktx2[:100]),
        ("hash_grid_0.ktx2", "KTX2", b"?" + ktx2[1:]),
        ("hash_grid_0.ktx2", "format", put(ktx2, 12, 157)),  # 4x4
        ("hash_grid_0.ktx2", "width", put(ktx2, 20, 15)),
        ("hash_grid_0.ktx2", "scheme", put(ktx2, 44, 2)),
        ("hash_grid_0.ktx2", "mip 1", put(ktx2, 40, 1)),
        ("hash_grid_0.ktx2", "mip 0", put(ktx2, 80, 2**31)),
        ("hash_grid_0.ktx2", "mip 1", put(ktx2, 112, 1)),
        ("hash_grid_0.ktx2", "mip 0", ktx2[: at + 16]),
        ("", "ASTC", put(ktx2, at, 0)),
        ("hash_grid_3.dds", "header", dds[:100]),
        ("hash_grid_3.dds", "format", put(dds, 128, 71)),
    ):
        name = "hash_grid_3.dds" if payload[:4] == b"DDS " else "hash_grid_0.ktx2"
        (tmp_path / name).write_bytes(payload)
        said = browser.tab.evaluate(TRIED, "/files/")
        assert said and file in said and expected in said, (expected, said)
        assert "\n" not in said and len(said) < 240
        (tmp_path / name).write_bytes(dds if name.endswith("dds") else ktx2)


def put(payload: bytes, at: int, number: int) -> bytes:
    """A file with another number of four bytes."""
    return payload[:at] + number.to_bytes(4, "little") + payload[at + 4 :]


def test_folders_that_are_none(browser, tmp_path):
    open_three(browser, tmp_path)
    manifest = {"format": "neural-texture", "version": 1, "grids": [{"files": ["../x.dds"]}]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert "404" in browser.tab.evaluate(TRIED, "/files/none/")
    assert "expected names of DDS and KTX2 files" in browser.tab.evaluate(TRIED, "/files/")
