"""The viewer page's WebGPU renderer in a headless Chromium: texels of export.py --images, pictures of WebGL 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dataset import load_material
from formats.textures import read_export
from tests.support.browser import Browser, open_browser
from tests.support.runs import save_maps
from tests.support.viewer_pages import images_of, make_export, save_viewer

MATERIALS = {"learned": (32, 16), "reference": (17, 28)}
MAPS = ("diffuse", "normal", "roughness", "metallic")
VIEWS = [  # what nt.set gets, besides what start() has set
    {"shape": "sphere"},
    {"shape": "sphere", "compare": "error", "show": "roughness", "errorScale": 128},
    {"shape": "plane", "compare": "split", "tiling": 2},
    {"shape": "cube", "show": "normal", "sampling": "anywhere"},
    {"shape": "flat", "show": "diffuse", "sampling": "linear", "autoLod": False, "lod": 1},
    {"shape": "plane", "compare": "source", "sampling": "linear", "autoLod": False, "lod": 2},
]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """{name: (maps, export, page)} of two materials."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("webgpu")
    materials = {}
    for seed, (name, size) in enumerate(MATERIALS.items()):
        maps = save_maps(root / "data" / name, *size, present=MAPS, seed=seed)
        folder, page = make_export(root / name, maps, name == "learned"), root / f"{name}.html"
        assert save_viewer("--load_dir", folder, "--viewer", page, "--data_dir", maps) == 0
        materials[name] = (maps, folder, page)
    return materials


@pytest.fixture(scope="module")
def browser(tmp_path_factory, shown):
    with open_browser(tmp_path_factory.mktemp("profile"), "--enable-unsafe-webgpu") as opened:
        opened.open(shown["reference"][2])
        opened.tab.set_viewport_size({"width": 770, "height": 170})
        if not opened.tab.evaluate("nt.offerRenderers()"):
            pytest.skip("this Chromium has no WebGPU adapter")
        opened.said.clear()
        yield opened


def start(browser: Browser, page: Path, renderer: str = "webgpu") -> None:
    browser.open(page)
    browser.tab.evaluate("nt.chooseRenderer", renderer)
    assert browser.tab.evaluate("nt.view.renderer.name") == renderer


def changed_page(page: Path, folder: Path, before: str, after: str) -> Path:
    text = page.read_text(encoding="utf-8")
    assert before in text
    (folder / "page.html").write_text(text.replace(before, after), encoding="utf-8")
    return folder / "page.html"


def stage(browser: Browser) -> np.ndarray:
    return browser.screenshot(clip=browser.tab.locator("#stage").bounding_box())


def take_pictures(browser: Browser, renderer: str, views) -> list[np.ndarray]:
    browser.tab.evaluate("nt.chooseRenderer", renderer)
    assert browser.tab.evaluate("nt.view.renderer.name") == renderer
    basis = {"compare": "decoded", "show": "lit", "tiling": 1, "autoLod": True, "lod": 0, "sampling": "nearest"}
    pictures = []
    for view in views:
        browser.tab.evaluate("nt.set", {**basis, **view})
        pictures.append(stage(browser))
    return pictures


def assert_same_texels(browser: Browser, images: dict) -> None:
    """Every map at LOD 0, 2 and the last, every texel, to one code."""
    last = max(lod for _, lod in images)
    for (name, lod), want in images.items():
        if lod in (0, 2, last):
            off = np.abs(browser.read(name, lod) - want)
            few = (off > 0).mean() < 0.01 + 1 / off.size
            assert off.max() <= 1 and few, f"{name}, LOD {lod}: {off.max()} codes off"


def assert_same_pictures(got: np.ndarray, want: np.ndarray) -> None:
    """Two codes of 255, but for one pixel in 200: at edges of texels and shapes rasterisers may choose differently."""
    off = np.abs(got - want).max(axis=2)
    share = (off > 2).mean()
    assert share < 0.005 and off.mean() < 0.1, f"{share:.4f} of the pixels differ, mean {off.mean():.3f}"


@pytest.mark.parametrize("name", MATERIALS)
def test_texels_are_those_of_the_images(name, shown, browser, tmp_path):
    maps, folder, page = shown[name]
    start(browser, page)
    assert_same_texels(browser, images_of(tmp_path, read_export(folder)))
    source = load_material(maps)
    for map_name in source.present:
        for lod in (0, 2):
            off = np.abs(browser.read(map_name, lod, "source") - source.file_codes(lod, map_name).astype(int))
            assert off.max() <= (0 if lod == 0 else 12 if map_name == "normal" else 2), f"{map_name}, LOD {lod}"
    assert browser.said == []


def test_pictures_are_those_of_webgl(shown, browser):
    start(browser, shown["reference"][2], renderer="webgl")
    want = take_pictures(browser, "webgl", VIEWS)
    got = take_pictures(browser, "webgpu", VIEWS)
    for view, one, other in zip(VIEWS, got, want):
        height, width, _ = other.shape
        assert other[height // 4 : -height // 4, width // 3 : -width // 3].std() > 5, view
        assert_same_pictures(one, other)
    (again,) = take_pictures(browser, "webgl", VIEWS[:1])  # and back
    assert_same_pictures(again, want[0])
    with pytest.raises(AssertionError):
        assert_same_pictures(got[0], want[2])
    assert browser.said == []
    assert {url.split(":")[0] for url in browser.asked} <= {"file", "data", "blob"}


def test_the_choice_and_the_inspector(shown, browser):
    start(browser, shown["reference"][2], renderer="webgl")
    tab = browser.tab
    assert tab.locator("#renderer input").count() == 0  # nobody has looked for an adapter
    tab.evaluate("nt.set", {"shape": "flat", "autoLod": False, "lod": 0})
    found = {}
    for name in ("webgl", "webgpu"):
        if name == "webgpu":
            tab.click("#renderers summary")
            tab.check("#renderer input[value=webgpu]", force=True)
            tab.wait_for_function("nt.view.renderer.name === 'webgpu'")
        found[name] = []
        for x, y in ((0.5, 0.5), (0.52, 0.7)):  # of the canvas
            tab.evaluate("([x, y]) => nt.inspect(x * canvas.clientWidth, y * canvas.clientHeight)", [x, y])
            found[name].append((tab.inner_text("#texel-note"), tab.inner_text("#texel")))
        tab.evaluate("nt.inspect(2, 2)")
        found[name].append(tab.inner_text("#texel-note"))
        assert tab.inner_text("#renderer-name") == ("WebGPU" if name == "webgpu" else "WebGL 2")
    assert "of LOD 0" in found["webgl"][0][0] and found["webgl"][0][0] != found["webgl"][1][0]
    assert [note if isinstance(note, str) else note[0] for note in found["webgl"]] == [
        note if isinstance(note, str) else note[0] for note in found["webgpu"]
    ]
    for one, other in zip(found["webgl"][:2], found["webgpu"][:2]):
        rows = [[row for row in table.splitlines()[1:] if "no such" not in row] for _, table in (one, other)]
        codes = [[int(row.split("\t")[2]) for row in table] for table in rows]
        assert len(codes[0]) == 8 and np.abs(np.subtract(*codes)).max() <= 1
    assert tab.evaluate("nt.measureFrame()") > 0
    assert browser.said == []


def test_a_wrong_mip_is_caught(shown, browser, tmp_path):
    before, after = "textureLoad(ntGrid0, texel, mip)", "textureLoad(ntGrid0, texel / 2, mip + 1)"
    page = changed_page(shown["reference"][2], tmp_path, before, after)
    start(browser, page)
    images = images_of(tmp_path / "images", read_export(shown["reference"][1]))
    with pytest.raises(AssertionError):
        assert_same_texels(browser, images)


def test_a_lost_device(shown, browser):
    """WebGL 2 goes on, and WebGPU can be chosen again."""
    start(browser, shown["reference"][2])
    (got,) = take_pictures(browser, "webgpu", VIEWS[:1])
    browser.tab.evaluate("nt.view.renderer.device.destroy()")
    browser.tab.wait_for_function("nt.view.renderer.name === 'webgl' && nt.view.loaded")
    assert_same_pictures(stage(browser), got)
    assert_same_pictures(take_pictures(browser, "webgpu", VIEWS[:1])[0], got)


def test_without_webgl(shown, browser, tmp_path):
    page = changed_page(shown["reference"][2], tmp_path, 'surface.getContext("webgl2",', 'surface.getContext("none",')
    browser.open(page)
    assert browser.tab.evaluate("nt.view.renderer.name") == "webgpu"
    assert stage(browser).std() > 5 and browser.read("roughness", 0).std() > 1
