"""The model on the viewer page, drawn by a headless Chromium."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataset import load_material
from formats.textures import write_export
from tests.support.leaf_pages import copying_model
from tests.support.mesh_models import MeshModel
from tests.support.shown_models import (
    SIDE,
    TOO_BLUE,
    WALL,
    Stage,
    leaf_codes,
    make_exports,
    make_model,
    set_view,
    wall_codes,
)
from tests.support.viewer_pages import changed_page, save_viewer

SHARP = {"autoLod": False, "lod": 0, "sampling": "nearest"}
LARGE = {"width": 900, "height": 420}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The model, its exports, and the page of all of them."""
    folder = tmp_path_factory.mktemp("shown")
    path = make_model(folder / "row.gltf")
    make_exports(path, folder / "batch")
    assert save_viewer("--load_dir", folder / "batch", "--viewer", folder / "page.html", "--data_dir", path) == 0
    return path, folder / "batch", folder / "page.html"


@pytest.fixture
def stage(made, browser):
    """The page, open, the camera in front of the model; one that is open already is taken back to its start."""
    browser.tab.set_viewport_size(LARGE)
    if browser.tab.url != made[2].as_uri():
        browser.open(made[2])
    browser.said.clear()
    browser.tab.evaluate("document.activeElement.blur(); nt.chooseMaterial(0)")
    set_view(browser, **SHARP, shape="model", show="lit", compare="decoded", light=40, threshold=0.5)
    return Stage(made[0], browser)


def pictured(browser, stage: Stage) -> np.ndarray:
    return browser.screenshot(clip=stage.box)


def pixel(picture: np.ndarray, place: tuple[float, float]) -> list[int]:
    return picture[int(place[1]), int(place[0])].tolist()


def wall_texel(u: float, v: float) -> tuple[int, int]:
    """x and y of the texel at a point of a square of the wall."""
    [uv] = WALL.moved(np.array([[u, v]]))
    x, y = (np.floor((uv - np.floor(uv)) * SIDE)).astype(int)
    return int(x), int(y)


def near(got: list[int], want, most: int = 2) -> bool:
    return max(abs(a - int(b)) for a, b in zip(got, want)) <= most


def test_the_page_opens_on_the_model(made, stage, browser):
    """Each material is decoded with its own network; holes show what is behind them, at its place."""
    browser.open(made[2])
    assert browser.tab.evaluate("nt.state.shape") == "model"
    set_view(browser, **SHARP, show="diffuse")
    picture = pictured(browser, stage)
    x, y = wall_texel(0.3, 0.6)
    assert near(pixel(picture, stage.at("Wall", 0.3, 0.6)), wall_codes()[y, x] + [0, 0, TOO_BLUE], 10)
    assert near(pixel(picture, stage.at("Leaf", 0.25, 0.6)), leaf_codes()[int(0.6 * SIDE), SIDE // 4][:3], 10)
    behind = pixel(picture, stage.at("Leaf", 0.75, 0.5))
    assert 90 <= behind[2] <= 110, behind  # the wall's blue
    red, green, blue = pixel(picture, stage.at("Plastic", 0.5, 0.5))
    assert red == green == blue  # nothing to show
    assert "Without a neural texture here, in plain colours: Plastic." in browser.tab.inner_text("#shape-note")
    set_view(browser, show="lit")
    red, green, blue = pixel(pictured(browser, stage), stage.at("Plastic", 0.5, 0.5))
    assert red > 150 and max(green, blue) < 0.6 * red
    assert browser.tab.inner_text("#status") == "" and browser.said == []


def test_tiles_make_the_same_picture(stage, browser):
    """In one draw, or after a small preview in many; nothing of the preview is left anywhere."""
    pictures = []
    for cost in (1e-9, 0.5):
        browser.tab.evaluate("nt.settled()")
        browser.tab.evaluate(f"nt.view.cost = {cost}; nt.set({{}})")
        pictures.append(pictured(browser, stage))
        assert (browser.tab.evaluate("nt.view.timing.tiles") > 1) == (cost > 1e-6)
    np.testing.assert_array_equal(*pictures)


def test_comparisons(stage, browser):
    """What decodes right looks like its source, lit; the wall is off in blue, in split and error views too."""
    pictures = {}
    for compare in ("decoded", "source", "split"):
        set_view(browser, compare=compare, show="lit")
        pictures[compare] = pictured(browser, stage)
    places = {name: stage.at(name, 0.3, 0.3) for name in ("Wall", "Leaf", "Plastic", "Glass")}
    x, y = (int(value) for value in places["Leaf"])
    parts = [pictures[compare][y - 8 : y + 8, x - 8 : x + 8] for compare in ("decoded", "source")]
    assert np.abs(parts[0] - parts[1]).max() <= 3 and parts[0].std() > 1
    walls = [pixel(pictures[compare], places["Wall"]) for compare in ("decoded", "source", "split")]
    assert walls[0][2] > walls[1][2] + 15 and walls[2] == walls[0]
    right = np.s_[60:, int(stage.box["width"] / 2) + 20 :]  # without labels and divider
    np.testing.assert_array_equal(pictures["split"][right], pictures["source"][right])
    assert np.abs(pictures["split"][right] - pictures["decoded"][right]).max() > 15
    assert len(set(pixel(pictures["source"], places["Plastic"]))) == 1  # it has no source
    set_view(browser, compare="error", show="diffuse", errorScale=128)
    errors = pictured(browser, stage)
    assert near(pixel(errors, places["Leaf"]), (0, 0, 10))
    error = TOO_BLUE / np.sqrt(3) / 128
    stops = np.array([[0, 0, 0.04], [0.34, 0.06, 0.43], [0.73, 0.21, 0.33], [0.98, 0.56, 0.04], [0.99, 1, 0.64]]) * 255
    want = [np.interp(error, np.linspace(0, 1, 5), stop) for stop in stops.T]
    assert near(pixel(errors, places["Wall"]), want, 3)
    assert browser.said == []


def test_the_inspector_knows_the_material(made, stage, browser):
    """A click on the leaf, on the wall through the leaf's hole, on a part without a texture, and beside the model."""
    def looked(place: tuple[float, float]) -> tuple[str, dict[str, int]]:
        browser.tab.evaluate("([x, y]) => nt.inspect(x, y)", list(place))
        rows = [row.split("\t") for row in browser.tab.inner_text("#texel").splitlines()[1:]]
        codes = {row[0].strip(): int(row[2]) for row in rows if row[1][0].isdigit()}
        return browser.tab.inner_text("#texel-note"), codes

    note, codes = looked(stage.at("Leaf", 20.5 / SIDE, 40.5 / SIDE))
    assert note.startswith("Leaf: (20, 40) of LOD 0")
    assert [codes[f"diffuse {c}"] for c in "rgb"] + [codes["opacity"]] == leaf_codes()[40, 20].tolist()
    note, codes = looked(stage.at("Wall", 0.3, 0.6))
    x, y = wall_texel(0.3, 0.6)
    assert note.startswith(f"Wall: ({x}, {y}) of LOD 0")
    assert [codes[f"diffuse {c}"] for c in "rgb"] == (wall_codes()[y, x] + [0, 0, TOO_BLUE]).tolist()
    assert looked(stage.at("Leaf", 0.75, 0.5))[0].startswith("Wall: (")
    assert looked(stage.at("Plastic", 0.5, 0.5))[0] == "Plastic: no neural texture."
    assert browser.tab.locator("#texel").is_hidden()
    assert looked((3, 3))[0].startswith("Click or tap")
    # the arrows move within the material that was clicked
    looked(stage.at("Leaf", 20.5 / SIDE, 40.5 / SIDE))
    browser.tab.click("#texel-move button >> nth=0")
    browser.tab.wait_for_function("document.querySelector('#texel-note').textContent.startsWith('Leaf: (19, 40)')")
    assert browser.tab.inner_text("#name") == "Glass"  # the material that is described is another


def test_glass_is_blended(made, browser, tmp_path):
    """Half of it, half of what is behind it, as the page shows each of them alone."""
    browser.tab.set_viewport_size(LARGE)
    colours = []
    for page, threshold in ((made[2], 0.5), (changed_page(made[2], tmp_path, ('"BLEND"', '"MASK"')), 0.5), (None, 0.9)):
        if page is not None:
            browser.open(page)
        set_view(browser, **SHARP, threshold=threshold)
        stage = Stage(made[0], browser)
        colours.append(np.array(pixel(pictured(browser, stage), stage.at("Glass", 0.4, 0.5))))
    both, front, behind = colours
    assert np.abs(front - behind).max() > 40
    assert np.abs(both - (128 * front + 127 * behind) / 255).max() <= 2


def test_the_back_of_a_part(stage, browser):
    """Glass and wall have one side, the leaf has two."""
    set_view(browser, yaw=np.pi, show="diffuse")
    picture = pictured(browser, stage)
    assert near(pixel(picture, stage.at("Leaf", 0.25, 0.6)), leaf_codes()[int(0.6 * SIDE), SIDE // 4][:3], 10)
    background = pixel(picture, (5, stage.box["height"] / 2))
    assert near(pixel(picture, stage.at("Wall", 0.5, 0.5)), background, 25)


LIMITS = {
    "the decoder needs": ("if (needed > units)", 'if (material.name === "Leaf" || needed > units)'),
    "the memory of this GPU is full": ("gl.getError() === gl.OUT_OF_MEMORY", 'material.name === "Leaf"'),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_what_a_gpu_cannot_take_is_plain(limit, made, browser, tmp_path):
    """The others are decoded, and one line says why."""
    browser.open(changed_page(made[2], tmp_path, LIMITS[limit]))
    browser.tab.evaluate("nt.settled()")
    assert f"Leaf is in plain colours: {limit}" in browser.tab.inner_text("#shape-note")
    assert browser.tab.evaluate("nt.scene.loaded.size") == 2 and browser.said == []


def test_one_material_of_a_model(made, browser, tmp_path):
    """The page of a single run has the whole model, too."""
    page = tmp_path / "page.html"
    assert save_viewer("--load_dir", made[1] / "Leaf", "--viewer", page, "--data_dir", made[0]) == 0
    browser.tab.set_viewport_size(LARGE)
    browser.open(page)
    set_view(browser, **SHARP, show="diffuse")
    stage = Stage(made[0], browser)
    picture = pictured(browser, stage)
    assert near(pixel(picture, stage.at("Leaf", 0.25, 0.6)), leaf_codes()[int(0.6 * SIDE), SIDE // 4][:3], 10)
    assert len(set(pixel(picture, stage.at("Wall", 0.5, 0.5)))) == 1
    assert "in plain colours: Wall, Plastic, Glass." in browser.tab.inner_text("#shape-note")
    assert browser.said == []


def test_keys_controls_and_other_shapes(stage, browser):
    tab = browser.tab
    tab.focus("#canvas")
    assert tab.locator("#threshold-row").is_visible() and tab.locator("#tiling-row").is_hidden()
    for key, shape in (("1", "sphere"), ("5", "model"), ("4", "flat"), ("5", "model")):
        tab.keyboard.press(key)
        assert tab.evaluate("nt.state.shape") == shape
    maps = tab.evaluate("[...document.querySelectorAll('#show input')].map((input) => input.value)")
    assert maps == ["lit", "diffuse", "normal", "opacity"]
    tab.keyboard.press("PageDown")
    tab.wait_for_function("document.querySelector('#name').textContent === 'Leaf'")
    assert tab.evaluate("nt.scene.loaded.size") == 3 and tab.evaluate("nt.state.shape") == "model"
    tab.evaluate("nt.camera.pan(0.5, 0.2)")
    tab.keyboard.press("1")
    assert tab.evaluate("nt.camera.target") == [0, 0, 0]
    assert browser.said == []


def test_a_lost_context_comes_back(made, stage, browser):
    """Once when everything is there, and once while the model's materials are loaded."""
    picture = pictured(browser, stage)
    for moment in (None, 60):
        if moment is not None:
            browser.open(made[2])
        browser.tab.evaluate("""async (moment) => {
            const loss = nt.gl.getExtension("WEBGL_lose_context");
            const pause = (ms) => new Promise((done) => setTimeout(done, ms));
            await pause(moment);
            loss.loseContext();
            await pause(50);
            loss.restoreContext();
        }""", moment or 0)  # fmt: skip
        done = "nt.scene.loaded.size === 3 && document.querySelector('#status').textContent === ''"
        browser.tab.wait_for_function(done)
        set_view(browser, **SHARP)
        np.testing.assert_array_equal(pictured(browser, stage), picture)
    assert picture.std() > 10 and browser.said == []


def tilted(folder: Path) -> tuple[Path, Path]:
    """Two materials whose normals lean along u, and against v; a square of each as it is, and one whose uv is mirrored.

    Returns: the model, and the exports.
    """
    grey = {"baseColorFactor": [0.5, 0.5, 0.5, 1.0], "metallicFactor": 0.0}
    model = MeshModel(materials=[{"name": name, "pbrMetallicRoughness": grey, "normalTexture": {"index": index}} for
                                 index, name in enumerate("UV")])  # fmt: skip
    for normal in ((0.6, 0, 0.8), (0, 0.6, 0.8)):
        model.texture(np.full((SIDE, SIDE, 3), np.round((np.array(normal) * 0.5 + 0.5) * 255), np.uint8))
    for index, mirror in enumerate(([-1, 1], [1, -1])):
        for column, factors in enumerate(([1, 1], mirror)):
            quad = model.quad(material=index)
            uv = np.array([[0, 0], [0, 1], [1, 1], [1, 0]]) * factors
            quad["attributes"]["TEXCOORD_0"] = model.accessor(uv)
            model.node(mesh=model.mesh(quad), translation=[2.5 * column, 2.5 * index, 0])
    path = model.save(folder / "tilted.gltf")
    for name in "UV":
        material = load_material(path, material=name)
        (folder / "batch" / name).mkdir(parents=True)
        arrays = {each: material.file_codes(0, each) for each in material.present}
        write_export(folder / "batch" / name, copying_model(arrays), material.hashed_record)
    return path, folder / "batch"


def test_normals_lean_as_the_texture_lies(browser, tmp_path):
    """glTF: x of a normal map along u, y against v. Light comes from the right, and the sky is above."""
    path, batch = tilted(tmp_path)
    assert save_viewer("--load_dir", batch, "--viewer", tmp_path / "page.html", "--data_dir", path) == 0
    browser.tab.set_viewport_size(LARGE)
    browser.open(tmp_path / "page.html")
    seen = {}
    for compare in ("decoded", "source"):
        set_view(browser, **SHARP, light=80, compare=compare)
        stage = Stage(path, browser)
        picture = pictured(browser, stage)
        places = {"u": (0, 0), "u mirrored": (2.5, 0), "v": (0, 2.5), "v mirrored": (2.5, 2.5)}
        seen[compare] = {name: sum(pixel(picture, stage.place((*place, 0)))) for name, place in places.items()}
        assert seen[compare]["u"] > seen[compare]["u mirrored"] + 60
        assert seen[compare]["v"] > seen[compare]["v mirrored"] + 60
    assert all(abs(seen["decoded"][name] - seen["source"][name]) <= 6 for name in places)
