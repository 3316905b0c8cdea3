"""export.py --viewer without a browser: what the page carries, that it is whole and refers to nothing, bad input."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from dataset import load_material
from formats.dds_layouts import grid_textures
from formats.textures import read_export
from shaders.export import shader_source
from shaders.weights import weight_bytes
from tests.support.exports import edit_manifest, reseal
from tests.support.runs import leftovers, quick, refusal, save_maps
from tests.support.viewer_pages import make_export, save_viewer
from viewer.page import SCRIPTS, SHADERS, SOURCE_BYTES, VIEWER
from viewer.source import encode_source

HOSTILE = "</script><script>alert('x')</script> \"quoted\" <!-- & é ✓ \u2028 \udcff"


class Page(HTMLParser):
    """The page as a browser reads it: title, scripts by id, attributes that could load something."""

    def __init__(self, text: str):
        super().__init__()
        self.title, self.scripts, self.code, self.links, self._open, self.tags = "", {}, [], [], None, []
        self.feed(text.replace("\r", "\n"))  # what a browser does with it

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        self._open = (tag, values.get("id"))

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        tag, name = self._open or (None, None)
        if tag == "title":
            self.title += data
        elif tag == "script":
            self.scripts[name] = self.scripts.get(name, "") + data

    @property
    def data(self) -> dict:
        return json.loads(self.scripts["page-data"])

    def blob(self, index: int) -> bytes:
        return base64.b64decode(self.scripts[f"blob-{index}"], validate=True)


def read_page(path: Path) -> Page:
    return Page(path.read_bytes().decode("utf-8"))


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """(maps, export, page) of one material with its source."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("viewer")
    maps = save_maps(root / "maps", 24, 16)
    folder = make_export(root / "made", maps)
    assert save_viewer("--load_dir", folder, "--viewer", root / "page.html", "--data_dir", maps) == 0
    return maps, folder, root / "page.html"


# --- the page ------------------------------------------------------------------------------------------------------


def test_the_page_carries_the_export(one):
    _, folder, path = one
    exported, page = read_export(folder), read_page(path)
    (material,) = page.data["materials"]
    levels = [texture.levels for g in range(2) for texture in grid_textures(exported.model, g)]
    for entry, chain in zip(material["textures"], levels):
        assert page.blob(entry["blob"]) == b"".join(level.tobytes() for level in chain)
        assert entry["sizes"] == [[level.shape[1], level.shape[0]] for level in chain]
    assert page.blob(material["weights"]["blob"]) == weight_bytes(exported.model)
    before, after = material["preamble"]
    text = shader_source(exported.model, exported.manifest.material, "essl", "buffer")
    assert before + page.data["cores"]["packed"] + after == text  # one decoder, not a second one
    assert material["rates"] == exported.manifest.rates and material["metrics"]["psnr"]["all"] == 31.5


def test_the_source_is_lossless(one):
    maps, _, path = one
    page, source = read_page(path), load_material(maps)
    embedded = page.data["materials"][0]["source"]
    assert (embedded["lod"], embedded["width"], embedded["height"]) == (0, 24, 16)
    for entry in embedded["maps"]:
        codes = source.file_codes(0, entry["map"])
        image = np.asarray(PillowImage.open(io.BytesIO(page.blob(entry["blobs"][0]))))
        np.testing.assert_array_equal(image[..., : codes.shape[2]], codes)


def test_the_page_refers_to_nothing_and_is_small(one):
    path = one[2]
    text, page = path.read_text(encoding="utf-8"), read_page(path)
    blobs = sum(len(text) for name, text in page.scripts.items() if name and name.startswith("blob-"))
    assert path.stat().st_size < 160_000 + blobs
    assert [link for link in page.links if not link.startswith("data:")] == []
    assert not set(page.tags) & {"iframe", "object", "embed", "base", "img", "audio", "video"}
    assert "default-src 'none'" in text  # the browser holds the page to it
    code = page.scripts[None] + (VIEWER / "style.css").read_text()
    loading = ("http:", "https:", "fetch(", "XMLHttpRequest", "import(", "@import", "url(", "WebSocket")
    for word in (*loading, "eval(", "innerHTML"):
        assert word not in code, word


def test_the_parts_fit_together(one):
    page = read_page(one[2])
    ids = set(re.findall(r'id="([\w-]+)"', (VIEWER / "page.html").read_text(encoding="utf-8")))
    scripts = {name: (VIEWER / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS}
    used = {name for text in scripts.values() for name in re.findall(r'(?:byId|choices|check|bind)\("([\w-]+)"', text)}
    assert used <= ids, used - ids
    assert {path.stem for path in VIEWER.glob("*.js")} == {name for name in SCRIPTS if "/" not in name}
    endings = (".vert", ".frag", ".glsl")
    assert {path.name for path in VIEWER.iterdir() if path.suffix in endings} == set(SHADERS)
    assert set(page.data["shaders"]) == set(SHADERS)
    assert "</script" not in "".join(scripts.values())
    uniforms = set(re.findall(r"uniform [\w ]+ (u\w+)", "".join(page.data["shaders"].values())))
    asked = set(re.findall(r'at\("(u\w+)"\)', "".join(scripts.values())))
    assert asked <= uniforms, asked - uniforms


def test_hostile_names(folder, tmp_path):
    edit_manifest(folder, lambda m: m["material"].update(name=HOSTILE))
    assert save_viewer("--load_dir", folder, "--viewer", tmp_path / "page.html") == 0
    page = read_page(tmp_path / "page.html")
    assert page.tags.count("script") == 2 + sum(name is not None and name.startswith("blob-") for name in page.scripts)
    name = page.data["materials"][0]["name"]
    assert name.startswith("</script><script>alert('x')</script> \"quoted\" <!-- & é ✓") and name.isprintable()
    assert page.title.startswith("</script><script>")
    assert "alert('x')" not in page.scripts[None]


def test_twice_the_same(one, tmp_path):
    maps, folder, path = one
    assert save_viewer("--load_dir", folder, "--viewer", tmp_path / "again.html", "--data_dir", maps) == 0
    assert (tmp_path / "again.html").read_bytes() == path.read_bytes()


# --- the source ----------------------------------------------------------------------------------------------------


def test_a_source_is_as_large_as_there_is_room(make_material):
    material = make_material(64, 40)
    whole = encode_source(material, None, 10**9)
    assert whole.lod == 0 and encode_source(material, None, whole.n_bytes) == whole
    assert encode_source(material, None, whole.n_bytes - 1).lod == 1
    assert encode_source(material, None, 10) is None
    assert encode_source(material, 0, 10**9) is None
    assert [encode_source(material, side, 0).lod for side in (64, 63, 16)] == [0, 1, 2]  # asked for: whatever it costs


def test_the_materials_of_a_page_share_16_mb(one, tmp_path, monkeypatch):
    maps, folder, _ = one
    whole = encode_source(load_material(maps), None, SOURCE_BYTES)
    assert whole.lod == 0 and SOURCE_BYTES == 16_000_000
    for name in ("a", "b"):
        shutil.copytree(folder, tmp_path / "batch" / name)
        shutil.copytree(maps, tmp_path / "data" / name)
    flags = ("--load_dir", tmp_path / "batch", "--data_dir", tmp_path / "data", "--viewer", tmp_path / "page.html")
    for room, lod in ((2 * whole.n_bytes, 0), (2 * whole.n_bytes - 2, 1)):
        monkeypatch.setattr("viewer.page.SOURCE_BYTES", room)
        assert save_viewer(*flags) == 0
        assert [m["source"]["lod"] for m in read_page(tmp_path / "page.html").data["materials"]] == [lod, lod]


def test_sixteen_bits_are_rounded_to_eight(tmp_path):
    material = load_material(save_maps(tmp_path, 24, 16, present=("roughness", "metallic"), deep=("roughness",)))
    found = encode_source(material, None, 10**9)
    image = np.asarray(PillowImage.open(io.BytesIO(found.images["roughness"][0])))[..., :1].astype(int)
    codes = material.file_codes(0, "roughness")
    assert codes.dtype == np.uint16 and np.abs(image - codes / 257).max() <= 0.5


def test_sources_that_are_not_the_material_s(one, tmp_path, capsys):
    _, folder, _ = one
    other = save_maps(tmp_path / "other", 24, 16, seed=9)
    flags = ("--load_dir", folder, "--viewer", tmp_path / "p.html")
    line = refusal(capsys, *flags, "--data_dir", other, command="export")
    assert "--data_dir" in line and "trained on" in line
    line = refusal(capsys, *flags, "--data_dir", tmp_path / "no", command="export")
    assert str(tmp_path / "no") in line
    assert not (tmp_path / "p.html").exists()
    assert save_viewer("--load_dir", folder, "--viewer", tmp_path / "p.html") == 0
    assert "not known" in capsys.readouterr().out
    (material,) = read_page(tmp_path / "p.html").data["materials"]
    assert material["source"] is None and "--data_dir" in material["source_note"]


def test_max_pixels_of_the_source(one, tmp_path, capsys):
    maps, folder, _ = one
    flags = ("--load_dir", folder, "--viewer", tmp_path / "p.html", "--data_dir", maps)
    for most in (0, 24 * 16 - 1):
        assert "--max_pixels" in refusal(capsys, *flags, "--max_pixels", most, command="export")
    assert save_viewer(*flags, "--max_pixels", 24 * 16) == 0


# --- runs and batches ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, Path]:
    """(save_dir, run) with checkpoints at 3 and 6."""
    root = tmp_path_factory.mktemp("run")
    maps = save_maps(root / "maps")
    flags = ("--data_dir", maps, "--save_dir", root / "outputs", "--max_iter", 6, "--eval_interval", 3)
    return maps, quick(*flags, "--eval_metrics", "psnr")


def test_a_run_brings_its_source(run, tmp_path, capsys):
    _, folder = run
    assert save_viewer("--load_dir", folder, "--viewer", tmp_path / "new" / "page.html") == 0
    (material,) = read_page(tmp_path / "new" / "page.html").data["materials"]
    assert material["source"]["lod"] == 0 and len(material["metrics"]["lods"]) == material["num_lods"]
    assert not leftovers(tmp_path)
    line = refusal(capsys, "--load_dir", folder, "--load_iter", 5, "--viewer", tmp_path / "p.html", command="export")
    assert "--load_iter 5" in line


def test_a_source_is_read_as_the_run_read_it(tmp_path):
    maps = save_maps(tmp_path / "maps")
    diffuse = next(path.name for path in sorted(maps.iterdir()) if "diffuse" in path.name)
    flags = ("--data_dir", maps, "--maps", f"diffuse={diffuse},normal=none", "--size", "8x8", "--max_iter", 2)
    folder = quick(*flags, "--save_dir", tmp_path / "outputs", "--eval_interval", 2, "--eval_metrics", "psnr")
    assert save_viewer("--load_dir", folder, "--viewer", tmp_path / "page.html") == 0
    (material,) = read_page(tmp_path / "page.html").data["materials"]
    assert (material["source"]["width"], material["source"]["height"]) == (8, 8)


def test_a_batch_folder(run, one, tmp_path, capsys):
    """Exports, folders of runs, one of them broken, and folders that are something else."""
    batch = tmp_path / "batch"
    shutil.copytree(one[1], batch / "alpha")
    shutil.copytree(run[1].parent, batch / "beta")
    shutil.copytree(one[1], batch / "broken")
    edit_manifest(batch / "broken", lambda m: m["material"].update(width=0))
    (batch / "notes").mkdir()
    assert save_viewer("--load_dir", batch, "--viewer", tmp_path / "page.html") == 1
    said = capsys.readouterr().out
    assert "broken: left out" in said and "2 materials" in said
    materials = read_page(tmp_path / "page.html").data["materials"]
    assert [material["name"] for material in materials] == ["alpha", "beta"]
    assert [material["source"] is None for material in materials] == [True, False]
    for material in materials:
        assert material["thumbnail"].startswith("data:image/jpeg;base64,") and len(material["thumbnail"]) < 8000
    shutil.rmtree(batch / "broken")
    data = tmp_path / "data"
    shutil.copytree(one[0], data / "alpha")
    shutil.copytree(run[0], data / "beta")
    sources = ("--data_dir", data, "--viewer_source", 8)
    assert save_viewer("--load_dir", batch, "--viewer", tmp_path / "page.html", *sources) == 0
    materials = read_page(tmp_path / "page.html").data["materials"]
    assert [(m["source"]["width"], m["source"]["lod"]) for m in materials] == [(6, 2), (8, 1)]


def test_with_other_exports(one, tmp_path):
    _, folder, _ = one
    flags = ("--load_dir", folder, "--out_dir", tmp_path / "out", "--shader", "essl")
    assert save_viewer(*flags, "--viewer", tmp_path / "page.html") == 0
    assert (tmp_path / "page.html").is_file() and (tmp_path / "out" / "decoder.es.glsl").is_file()


def test_unwritable_pages_and_missing_folders(one, tmp_path, capsys):
    _, folder, _ = one
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    page = tmp_path / "page.html"
    for flags, words in [
        (("--load_dir", folder, "--viewer", tmp_path), ["--viewer", "found a folder"]),
        (("--load_dir", folder, "--viewer", tmp_path / "file" / "page.html"), ["file"]),
        (("--load_dir", folder, "--viewer", "/proc/none/page.html"), ["/proc/none"]),
        (("--load_dir", tmp_path / "none", "--viewer", page), ["--load_dir", "no such folder"]),
        (("--load_dir", tmp_path / "empty", "--viewer", page), ["--load_dir", "manifest.json"]),
        (("--load_dir", folder, "--viewer", page, "--viewer_source", "-1"), ["--viewer_source", "-1"]),
        (("--load_dir", folder, "--viewer", page, "--viewer_source", "big"), ["--viewer_source", "big"]),
        (("--load_dir", folder, "--out_dir", tmp_path, "--data_dir", folder), ["--data_dir", "--viewer"]),
        (("--viewer", page), ["--load_dir"]),
    ]:
        line = refusal(capsys, *flags, command="export")
        assert all(word in line for word in words), line
    assert not page.exists()


def test_damaged_exports(folder, tmp_path, capsys):
    (folder / "hash_grid_0.dds").write_bytes(b"DDS ")
    line = refusal(capsys, "--load_dir", folder, "--viewer", tmp_path / "p.html", command="export")
    assert "hash_grid_0.dds" in line
    reseal(folder)
    assert "hash_grid_0.dds" in refusal(capsys, "--load_dir", folder, "--viewer", tmp_path / "p.html", command="export")
    assert not (tmp_path / "p.html").exists()
