"""The viewer page in a headless Chromium: its texels are those of export.py --images, and the console is silent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from dataset import load_material
from engine.cpu.decoder import decode_lod
from formats.textures import read_export
from metrics.evaluate import evaluate_model
from shape import GridSpec
from tests.support.browser import Browser
from tests.support.exports import edit_manifest
from tests.support.runs import save_maps
from tests.support.viewer_pages import changed_page, images_of, make_export, save_viewer

MATERIALS = ("constants", "learned", "linear_color", "reference", "wide")  # sorted, as the page lists them
WIDE_GRIDS = [GridSpec((64, 8), 4, 2, 16, "learned"), GridSpec((16, 2), 1, 8, 32)]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """{name: (maps, export)} of these materials, and the page with all of them."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("browser")
    everything = ("diffuse", "normal", "roughness", "occlusion", "metallic", "specular", "displacement")
    sizes = {"constants": (12, 20), "learned": (32, 16), "linear_color": (17, 9), "reference": (32, 32),
             "wide": (128, 16)}  # fmt: skip
    materials = {}
    for index, name in enumerate(MATERIALS):
        present = everything if name == "reference" else ("diffuse", "normal", "metallic")
        maps = save_maps(root / "data" / name, *sizes[name], present=present, seed=index)
        if name == "constants":
            make_constant(maps)
        form = {"learned": name in ("learned", "wide"), "linear_color": name == "linear_color"}
        folder = make_export(root / "batch" / name, maps, **form, grids=WIDE_GRIDS if name == "wide" else ())
        materials[name] = (maps, folder)
    page = root / "page.html"
    assert save_viewer("--load_dir", root / "batch", "--viewer", page, "--data_dir", root / "data") == 0
    return materials, page


@pytest.fixture(scope="module")
def alone(shown, tmp_path_factory):
    """(export, page) of the material with all maps."""
    maps, folder = shown[0]["reference"]
    page = tmp_path_factory.mktemp("alone") / "page.html"
    assert save_viewer("--load_dir", folder, "--viewer", page, "--data_dir", maps) == 0
    return folder, page


def make_constant(maps: Path) -> None:
    """Unit normals with y of one value, and a metallic of one value."""
    random = np.random.default_rng(7)
    normal = np.zeros((20, 12, 3))
    angle = random.uniform(0.3, 2.8, (20, 12))
    normal[..., 0], normal[..., 2], normal[..., 1] = np.cos(angle), np.sin(angle), 0.0
    PillowImage.fromarray((normal * 127.5 + 127.5).round().astype(np.uint8)).save(maps / "made_normal.png")
    PillowImage.fromarray(np.full((20, 12), 37, np.uint8)).save(maps / "made_metallic.png")


def assert_same_texels(browser: Browser, images: dict) -> None:
    """Every map and LOD, every texel, to one code: two computations may round a half to both sides."""
    for (name, lod), want in images.items():
        got = browser.read(name, lod)
        assert got.shape == want.shape
        off = np.abs(got - want)
        assert off.max() <= 1 and (off > 0).mean() < 0.01 + 1 / off.size, f"{name}, LOD {lod}: {off.max()} codes off"


@pytest.mark.parametrize("name", MATERIALS)
def test_texels_are_those_of_the_images(name, shown, browser, tmp_path):
    materials, page = shown
    maps, folder = materials[name]
    browser.open(page)
    browser.tab.evaluate(f"nt.chooseMaterial({MATERIALS.index(name)})")
    assert browser.tab.inner_text("#name") == name
    exported = read_export(folder)
    images = images_of(tmp_path, exported)
    assert_same_texels(browser, images)
    assert (np.concatenate([image.ravel() for image in images.values()]) > 0).mean() > 0.3
    if name == "constants":
        normal = exported.manifest.material.map("normal")
        assert normal.unit_normals and set(exported.model.constants) == {4, 8}
        assert (browser.read("metallic", 0) == 37).all()
    source = load_material(maps, linear_color=name == "linear_color")
    for map_name in source.present:
        for lod in range(source.num_lods):
            got, want = browser.read(map_name, lod, "source"), source.file_codes(lod, map_name).astype(int)
            assert np.abs(got - want).max() <= (lod > 0), f"{map_name}, LOD {lod}"
    assert browser.said == []


def test_weights_from_a_texture(alone, browser, tmp_path):
    """What a GPU with small uniform blocks gets."""
    browser.open(changed_page(alone[1], tmp_path, ("gl.getParameter(gl.MAX_UNIFORM_BLOCK_SIZE)", "0")))
    assert_same_texels(browser, images_of(tmp_path / "images", read_export(alone[0])))


@pytest.mark.parametrize("block", ["as it is", "0"])
@pytest.mark.parametrize(("bits", "activations"), [(16, 32), (8, 32), (8, 8)])
def test_narrow_weights(bits, activations, block, shown, browser, tmp_path):
    """Embedded as wide as they are in the network file, and float32 in a uniform block or a texture; of a network of
    whole numbers words there."""
    maps = shown[0]["learned"][0]
    folder = make_export(
        tmp_path / "export", maps, learned=True, weight_bits=bits, activation_bits=activations
    )  # fmt: skip
    assert save_viewer("--load_dir", folder, "--viewer", tmp_path / "made.html", "--viewer_source", 0) == 0
    page = tmp_path / "made.html"
    if block == "0":
        page = changed_page(page, tmp_path, ("gl.getParameter(gl.MAX_UNIFORM_BLOCK_SIZE)", "0"))
    browser.open(page)
    exported = read_export(folder)
    assert exported.model.decoder.weight_bits == bits
    said = browser.tab.evaluate("nt.view.loaded.network")
    assert f"weights of {bits} bits" in said and ("activations of 8" in said) == (activations == 8)
    assert_same_texels(browser, images_of(tmp_path / "images", exported))
    assert browser.said == []


def test_a_lost_context_comes_back(alone, browser):
    browser.open(alone[1])
    stage = browser.tab.locator("#stage").bounding_box()
    picture, codes = browser.screenshot(clip=stage), browser.read("roughness", 0)
    browser.tab.evaluate("""async () => {
        const loss = nt.gl.getExtension("WEBGL_lose_context");
        loss.loseContext();
        await new Promise((resolve) => setTimeout(resolve, 300));
        loss.restoreContext();
    }""")
    browser.tab.wait_for_function("document.querySelector('#status').textContent === ''")
    np.testing.assert_array_equal(browser.screenshot(clip=stage), picture)
    np.testing.assert_array_equal(browser.read("roughness", 0), codes)
    assert browser.said == []


def test_a_loss_before_the_first_picture(alone, browser, tmp_path):
    lossy = """const first = chooseMaterial(0), loss = gl.getExtension("WEBGL_lose_context");
        loss.loseContext();
        setTimeout(() => loss.restoreContext(), 50);
        await first;"""
    browser.tab.goto(changed_page(alone[1], tmp_path, ("await chooseMaterial(0);", lossy)).as_uri())
    assert "driver has stopped" in browser.tab.evaluate("nt.ready.catch((error) => error.message)")
    browser.tab.wait_for_function("nt.view.loaded")
    browser.tab.evaluate("nt.settled()")
    assert browser.tab.inner_text("#status") == "" and browser.read("roughness", 0).std() > 1


# Loses the context `count` times in a call of the function `point` of WebGL, each time before or after what it does.
LOSE = """async ([point, count]) => {
    const { gl } = nt, loss = gl.getExtension("WEBGL_lose_context"), plain = gl[point];
    const loading = !nt.drawing.includes(point), once = point === "blitFramebuffer";  // a frame
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const event = (name) => new Promise((resolve) => gl.canvas.addEventListener(name, resolve, { once: true }));
    for (let i = 0; i < count; i++) {
        while (!loading && !nt.view.loaded) await pause(1);
        const lost = event("webglcontextlost"), restored = event("webglcontextrestored");
        let calls = once ? 0 : i % 3;
        gl[point] = (...values) => {
            const hit = calls-- === 0;
            if (hit && i % 2) loss.loseContext();
            const result = plain.apply(gl, values);
            if (hit && i % 2 === 0) loss.loseContext();
            return result;
        };
        const waits = loading ? [nt.chooseMaterial(0)] : [nt.settled(), nt.readMap("normal", 1), nt.inspect(200, 50)];
        nt.set({ light: i, compare: "split" });
        await lost;
        gl[point] = plain;
        await Promise.allSettled(waits);
        await pause(i % 4 * 5);
        loss.restoreContext();
        await restored;
    }
    while (!nt.view.loaded) await pause(1);
    await nt.settled();
}"""
DRAWING = (
    "drawElements", "drawArrays", "fenceSync", "clientWaitSync", "readPixels", "getBufferSubData", "blitFramebuffer",
)  # fmt: skip
LOADING = ("linkProgram", "getProgramParameter", "texSubImage2D", "texSubImage3D", "bufferData")


@pytest.mark.parametrize("point", [*DRAWING, *LOADING])
def test_a_loss_in_the_middle_of_something(point, alone, browser, tmp_path):
    """108 losses. Every wait ends, and the page shows the same as before when the context is back."""
    cheap = ("NtMaterial m = ntDecode(uv, lod);", "NtMaterial m; m.diffuse = m.normal = vec3(uv, lod);")  # to compile
    browser.open(changed_page(alone[1], tmp_path, cheap))
    browser.tab.set_viewport_size({"width": 450, "height": 120})
    codes = browser.read("diffuse", 0)
    browser.tab.evaluate(f"nt.drawing = {list(DRAWING)}")
    browser.tab.evaluate(LOSE, [point, 9])
    np.testing.assert_array_equal(browser.read("diffuse", 0), codes)
    assert codes.std() > 1 and browser.said == []


MISTAKES = {
    "wrong mip": ("texelFetch(ntGrid0, texel, mip)", "texelFetch(ntGrid0, texel / 2, mip + 1)"),
    "half-texel shift": ("+ floor(gl_FragCoord.xy) + 0.5)", "+ floor(gl_FragCoord.xy))"),
    "swapped channels": ("vec4(decoded[0], decoded[1],", "vec4(decoded[1], decoded[0],"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_caught(what, alone, browser, tmp_path):
    browser.open(changed_page(alone[1], tmp_path, MISTAKES[what]))
    images = images_of(tmp_path / "images", read_export(alone[0]))
    with pytest.raises(AssertionError):
        assert_same_texels(browser, images)


def test_every_view_draws_and_says_nothing(alone, browser):
    browser.open(alone[1])
    stage = browser.tab.locator("#stage").bounding_box()
    views = [(shape, "decoded", "lit") for shape in ("sphere", "plane", "cube", "flat")]
    views += [("flat", compare, "diffuse") for compare in ("decoded", "source", "split", "error")]
    seen = {}
    for view in [*views, ("cube", "error", "lit"), ("sphere", "decoded", "normal")]:
        browser.tab.evaluate("nt.set", dict(zip(("shape", "compare", "show"), view)))
        seen[view] = picture = browser.screenshot(clip=stage)
        height, width, _ = picture.shape
        assert picture[height // 4 : -height // 4, width // 3 : -width // 3].std() > 5, view
    keys = list(seen)
    for index, one in enumerate(keys):
        for other in keys[:index]:
            assert np.abs(seen[one] - seen[other]).mean() > 0.5, f"{one} looks like {other}"
    flat = {compare: seen["flat", compare, "diffuse"] for compare in ("source", "split")}
    third = flat["split"].shape[1] // 3
    assert np.abs(flat["split"] - flat["source"])[60:-60, -third:].mean() < 0.01  # the right side of a split
    assert np.abs(flat["split"] - flat["source"])[60:-60, :third].mean() > 1
    assert browser.said == []
    assert {url.split(":")[0] for url in browser.asked} <= {"file", "data", "blob"}


def test_the_flat_view_shows_the_texels(alone, browser, tmp_path):
    """A screenshot: what is on the screen is the map, the right way up."""
    browser.open(alone[1])
    browser.tab.evaluate("nt.set", {"shape": "flat", "show": "diffuse", "autoLod": False, "lod": 0})
    want = images_of(tmp_path, read_export(alone[0]))["diffuse", 0]
    assert np.abs(browser.flat_texels(32, 32) - want).max() <= 1


def test_without_webgl(alone, browser, tmp_path):
    """One sentence says what is missing."""
    browser.said.clear()
    page = changed_page(alone[1], tmp_path, ('surface.getContext("webgl2",', 'surface.getContext("none",'))
    browser.tab.goto(page.as_uri())
    browser.tab.evaluate("nt.ready")
    assert browser.tab.inner_text("#status").startswith("This page needs WebGL 2, which this browser does not offer")
    assert browser.said == []


def psnr(squared_errors) -> float:
    return -10 * np.log10(np.mean(squared_errors) / 255**2)


def test_the_error_is_that_of_the_manifest(tmp_path, browser):
    """Of an 8-bit, a 16-bit and, with --linear_color, an sRGB map: at LOD 0 the page compares what metrics compare."""
    maps = save_maps(tmp_path / "maps", 48, 32, present=("diffuse", "normal", "roughness"), deep=("roughness",))
    folder = make_export(tmp_path / "made", maps, linear_color=True)
    exported, material = read_export(folder), load_material(maps, linear_color=True)
    options = {"with_ssim": False, "with_lpips": False, "with_flip": False}
    scores = evaluate_model(exported.model, material, 0, decode=decode_lod, **options)
    edit_manifest(folder, lambda manifest: manifest.update(metrics=scores))
    assert save_viewer("--load_dir", folder, "--viewer", tmp_path / "page.html", "--data_dir", maps) == 0
    browser.open(tmp_path / "page.html")
    rows = [line.split("\t") for line in browser.tab.inner_text("#psnr").splitlines()]
    shown = dict(zip(rows[0][1:], map(float, rows[1][1:])))
    errors = {name: browser.read(name, 0) - browser.read(name, 0, "source") for name in material.present}
    seen = {name: psnr(error**2) for name, error in errors.items()}
    seen["all"] = psnr(np.concatenate([error.reshape(-1) ** 2 for error in errors.values()]))
    assert set(shown) == set(seen) and all(abs(seen[name] - shown[name]) < 0.02 for name in seen), (shown, seen)
    # and the error view has the colours of those errors
    view = {"shape": "flat", "show": "diffuse", "compare": "error", "autoLod": False, "lod": 0, "errorScale": 128}
    browser.tab.evaluate("nt.set", view)
    picture, error = browser.flat_texels(48, 32), np.sqrt((errors["diffuse"] ** 2).mean(axis=2)) / 128
    stops = np.array([[0, 0, 0.04], [0.34, 0.06, 0.43], [0.73, 0.21, 0.33], [0.98, 0.56, 0.04], [0.99, 1, 0.64]]) * 255
    want = np.stack([np.interp(error, np.linspace(0, 1, 5), stop) for stop in stops.T], axis=2)
    assert np.abs(picture - want).max() < 4 and want.std() > 20


def test_the_start_says_what_it_does(alone, browser):
    browser.open(alone[1])
    said = browser.tab.evaluate("""async () => {
        const status = document.querySelector("#status"), said = [];
        new MutationObserver(() => said.push(status.textContent)).observe(status, { childList: true });
        await nt.chooseMaterial(0);
        await nt.settled();
        await new Promise((resolve) => setTimeout(resolve));
        return said;
    }""")
    assert said[0] == "compiling the decoder of reference and reading its source maps; some drivers take seconds"
    assert "drawing" in said and said[-1] == ""


def test_inspector_keys_and_switches(alone, browser):
    browser.open(alone[1])
    tab = browser.tab
    tab.evaluate("nt.set", {"shape": "flat", "autoLod": False, "lod": 0})
    stage = tab.locator("#canvas").bounding_box()
    side = 0.94 * min(stage["width"], stage["height"])
    middle = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    tab.mouse.click(middle[0] + side * (3.5 / 32 - 0.5), middle[1] + side * (28.5 / 32 - 0.5))  # texel (3, 28) of 32
    tab.wait_for_function("document.querySelectorAll('#texel tr').length === 12")
    assert "(3, 28) of LOD 0" in tab.inner_text("#texel-note")
    rows = [row.split("\t") for row in tab.inner_text("#texel").splitlines()[1:]]
    codes = [int(row[2]) for row in rows]
    maps = ["diffuse", "normal", "roughness", "occlusion", "metallic", "specular", "displacement"]
    assert codes == [code for name in maps for code in browser.read(name, 0)[28, 3].tolist()]
    source = [code for name in maps for code in browser.read(name, 0, "source")[28, 3].tolist()]
    assert [int(row[3]) for row in rows] == source
    assert [int(row[4]) for row in rows] == [a - b for a, b in zip(codes, source)]
    tab.click("#texel-move button >> nth=0")
    tab.wait_for_function("document.querySelector('#texel-note').textContent.includes('(2, 28)')")
    tab.focus("#canvas")
    for key, name, want in [
        ("1", "shape", "sphere"), ("m", "show", "diffuse"), ("M", "show", "lit"), ("c", "compare", "source"),
        ("]", "lod", 0.5), ("a", "autoLod", True), (".", "tiling", 2**0.25), ("n", "sampling", "linear"),
        ("r", "tiling", 1),
    ]:  # fmt: skip
        tab.keyboard.press(key)
        assert tab.evaluate(f"nt.state.{name}") == want, key
    before = tab.evaluate("nt.camera.yaw")
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate("nt.camera.yaw") != before
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    for theme in ("dark", "light"):
        tab.keyboard.press("t")
        assert tab.evaluate("document.documentElement.dataset.theme") == theme
    tab.keyboard.press("t")
    assert tab.evaluate("nt.measureFrame()") > 0
    assert browser.said == []
