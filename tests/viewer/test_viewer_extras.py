"""Extra maps in the viewer: a leaf with holes that are tested or blended, and light that it emits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metrics.file_space import in_file_space
from tests.support.browser import Browser
from tests.support.leaf_pages import PALE, SIDE, Leaf, leaf_arrays, light_of, make_leaf
from tests.support.viewer_pages import changed_page

MAPS = ("diffuse", "opacity", "emissive", "thickness")
LIT = {"shape": "flat", "show": "lit", "autoLod": False, "lod": 0, "holes": "blend", "background": "white"}
RAW_LIGHT = (  # what is emitted alone, 1/64 of it, without tone mapping
    ("vec3 light = shade(base, n, toEye, uSun, roughness, occlusion, metallic, specular);", "vec3 light = vec3(0.0);"),
    ("return linearToSrgb(toneMap(light));", "return light / 64.0;"),
)


@pytest.fixture(scope="module")
def leaf(tmp_path_factory) -> Leaf:
    torch.set_num_threads(1)
    return make_leaf(tmp_path_factory.mktemp("leaf"))


@pytest.fixture(scope="module")
def pale_leaf(tmp_path_factory) -> Leaf:
    """Without light, of one pale colour, and black where it is transparent."""
    torch.set_num_threads(1)
    opacity = leaf_arrays()["opacity"]
    diffuse = ((opacity > 0) * np.array(PALE)).astype(np.uint8)
    return make_leaf(tmp_path_factory.mktemp("pale"), diffuse=diffuse, emissive=None)


def picture(browser: Browser, **view) -> np.ndarray:
    """The canvas as (H, W, 3) codes, of the leaf lit but for what `view` says."""
    browser.tab.evaluate("nt.set", {**LIT, **view})
    return browser.screenshot(clip=browser.tab.locator("#canvas").bounding_box())


# --- maps ------------------------------------------------------------------------------------------------------------


def assert_decoded(browser: Browser, leaf: Leaf) -> None:
    model, material = leaf.exported.model, leaf.exported.manifest.material
    for lod in (0, 2, 6):
        values = in_file_space(model.decode(lod, *material.lod_size(lod)), material, model.constants)
        want = np.floor(values.clamp(0, 1).numpy() * 255 + 0.5)
        for entry in material.maps:
            got = browser.read(entry.name, lod)
            assert np.abs(got - want[..., list(entry.channels)]).max() <= 1, f"{entry.name}, LOD {lod}"


def test_texels_of_extra_maps(leaf, browser):
    browser.open(leaf.page)
    assert_decoded(browser, leaf)
    for name in MAPS:
        np.testing.assert_array_equal(browser.read(name, 0), leaf.arrays[name])
        for lod in range(leaf.material.num_lods):  # also of LODs that are no plain averages
            want = leaf.material.file_codes(lod, name)
            np.testing.assert_array_equal(browser.read(name, lod, "source"), want, f"{name}, LOD {lod}")
    assert browser.said == []


def test_mistakes_are_caught(leaf, browser, tmp_path):
    change = ("decoded[10], decoded[11])", "decoded[10], decoded[15])")
    browser.open(changed_page(leaf.page, tmp_path, change))
    with pytest.raises(AssertionError, match="opacity"):
        assert_decoded(browser, leaf)


def test_each_map_is_a_view(leaf, browser):
    """The named map too; holes and background belong to the lit view alone."""
    browser.open(leaf.page)
    labels = browser.tab.evaluate("[...document.querySelectorAll('#show span')].map((span) => span.textContent)")
    assert labels == ["Lit", "Diffuse", "Opacity", "Emissive", "Thickness"]
    for name in MAPS:
        browser.tab.evaluate("nt.set", {**LIT, "show": name})
        got, want = browser.flat_texels(SIDE, SIDE), leaf.arrays[name]
        assert np.abs(got - want).max() <= 1, name  # one channel is shown as grey
    assert browser.said == []


def test_the_inspector_lists_extra_channels(leaf, pale_leaf, browser):
    browser.open(leaf.page)
    browser.tab.evaluate("nt.set", {"shape": "flat", "sampling": "nearest"})
    box = browser.tab.locator("#canvas").bounding_box()
    browser.tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    browser.tab.wait_for_function("document.querySelectorAll('#texel tr').length === 17")
    rows = [row.split("\t") for row in browser.tab.inner_text("#texel").splitlines()[1:]]
    names = ["opacity", "emissive r", "emissive g", "emissive b", "thickness"]
    assert [row[0].strip() for row in rows[11:]] == names
    x, y = (int(part) for part in browser.tab.inner_text("#texel-note").split(")")[0][1:].split(", "))
    want = [code for name in ("opacity", "emissive", "thickness") for code in leaf.arrays[name][y, x].tolist()]
    assert [int(row[2]) for row in rows[11:]] == want
    browser.open(pale_leaf.page)
    browser.tab.evaluate("nt.inspect(200, 100)")
    browser.tab.wait_for_function("document.querySelectorAll('#texel tr').length === 14")  # no emissive map


# --- holes -----------------------------------------------------------------------------------------------------------


def fringe(browser: Browser, **view) -> int:
    """By how many codes the silhouette before white is darker than the leaf where it is opaque; 0: by none."""
    seen = picture(browser, **view)
    covered = (seen < 250).any(axis=2)
    inner = covered.copy()
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):  # at least 8 pixels from the silhouette: two texels
        for far in range(1, 9):
            inner &= np.roll(covered, step * far, axis)
    edge = covered & ~inner
    assert inner.sum() > 2000 and edge.sum() > 500
    return int(max(0, (seen[inner].min(axis=0) - seen[edge].min(axis=0)).max()))


@pytest.mark.parametrize(
    ("holes", "sampling"), [("blend", "nearest"), ("blend", "linear"), ("blend", "anywhere"), ("test", "linear")]
)
def test_no_dark_fringe_before_white(holes, sampling, pale_leaf, browser):
    browser.open(pale_leaf.page)
    assert fringe(browser, holes=holes, sampling=sampling) <= 2
    assert fringe(browser, holes=holes, sampling=sampling, lod=1) <= 2
    assert browser.said == []


def test_straight_colours_would_have_one(pale_leaf, browser, tmp_path):
    """Colours blended whatever their opacity: the edge takes up the black beside it."""
    browser.open(changed_page(pale_leaf.page, tmp_path, ("share * coverage(texel)", "share")))
    assert fringe(browser, sampling="linear") > 4
    assert fringe(browser, sampling="linear", holes="test") > 40


def test_the_background_is_seen_through_holes(leaf, browser):
    browser.open(leaf.page)
    opacity = leaf.arrays["opacity"][..., 0]
    seen = {}
    for background in ("white", "black", "checker"):
        browser.tab.evaluate("nt.set", {**LIT, "background": background})
        seen[background] = browser.flat_texels(SIDE, SIDE)
    assert (seen["white"][opacity == 0] == 255).all() and (seen["black"][opacity == 0] == 0).all()
    assert set(np.unique(seen["checker"][opacity == 0])) == {115, 166}
    for background in ("black", "checker"):
        np.testing.assert_array_equal(seen[background][opacity == 255], seen["white"][opacity == 255])
    part = (opacity > 60) & (opacity < 200)
    assert (seen["white"][part] > seen["black"][part]).all()
    # light is mixed: white is 1, black is 0
    linear = [np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for c in (seen["white"][part] / 255,
              seen["black"][part] / 255)]  # fmt: skip
    assert np.abs(linear[0] - linear[1] - (1 - opacity[part][:, None] / 255)).max() < 0.01
    corner = picture(browser, background="white")[2:6, 2:6]
    assert (corner == 255).all()  # beside the shape too


def test_the_alpha_test_has_a_threshold(leaf, browser):
    browser.open(leaf.page)
    opacity = leaf.arrays["opacity"][..., 0] / 255
    for threshold in (0.5, 0.1, 0.9):
        browser.tab.evaluate("nt.set", {**LIT, "holes": "test", "threshold": threshold})
        got = (browser.flat_texels(SIDE, SIDE) < 250).any(axis=2)
        np.testing.assert_array_equal(got, opacity >= threshold, f"threshold {threshold}")
    assert (opacity >= 0.1).sum() > (opacity >= 0.9).sum() + 50


# --- light -----------------------------------------------------------------------------------------------------------


def test_light_is_that_of_the_file(leaf, browser, tmp_path):
    """Up to 50 in the file's units; the exposure halves and doubles it."""
    browser.open(changed_page(leaf.page, tmp_path, *RAW_LIGHT))
    light = light_of(leaf.arrays["emissive"])
    inside = leaf.arrays["opacity"][..., 0] == 255
    assert light[inside].max() == pytest.approx(50)
    for stops in (0, -2, 3):
        browser.tab.evaluate("nt.set", {**LIT, "exposure": stops})
        got = browser.flat_texels(SIDE, SIDE)[inside]
        want = np.clip(light[inside] * 2.0**stops / 64, 0, 1) * 255
        assert np.abs(got - want).max() <= 1, stops


def test_light_shines(leaf, browser):
    browser.open(leaf.page)
    browser.tab.evaluate("nt.set", LIT)
    spots = leaf.arrays["emissive"][..., 0] > 0
    seen = browser.flat_texels(SIDE, SIDE)
    assert seen[spots].min() > 200 and seen[spots][..., 0].max() == 255


# --- the panel -------------------------------------------------------------------------------------------------------


def test_controls_are_where_they_are_needed(leaf, pale_leaf, tmp_path, browser):
    opaque = make_leaf(tmp_path / "opaque", opacity=None, emissive=None)
    bare = make_leaf(tmp_path / "bare", opacity=None, emissive=None, thickness=None)
    hidden = "[...document.querySelectorAll('#opacity, #exposure-row')].map((part) => part.hidden)"
    for one, want, shape in (
        (leaf, [False, False], "plane"), (pale_leaf, [False, True], "plane"), (opaque, [True, True], "sphere"),
        (bare, [True, True], "sphere"),
    ):  # fmt: skip
        browser.open(one.page)
        assert browser.tab.evaluate(hidden) == want
        assert browser.tab.evaluate("nt.state.shape") == shape
    browser.open(leaf.page)
    for selector, name, value in (
        ("#holes input[value=test]", "holes", "test"), ("#background input[value=black]", "background", "black"),
    ):  # fmt: skip
        browser.tab.check(selector, force=True)
        assert browser.tab.evaluate(f"nt.state.{name}") == value
    browser.tab.fill("#threshold", "0.75")
    browser.tab.fill("#exposure", "-3")
    assert browser.tab.evaluate("[nt.state.threshold, nt.state.exposure]") == [0.75, -3]
    assert browser.tab.inner_text("#exposure-value") == "-3 EV"
    browser.tab.click("#reset")
    assert browser.tab.evaluate("[nt.state.threshold, nt.state.exposure]") == [0.5, 0]
    assert browser.said == []


def test_an_opaque_material_ignores_the_background(tmp_path, browser):
    bare = make_leaf(tmp_path / "bare", opacity=None, emissive=None, thickness=None)
    browser.open(bare.page)
    pictures = [picture(browser, background=background, exposure=stops) for background, stops in
                (("white", 0), ("black", 4))]  # fmt: skip
    np.testing.assert_array_equal(*pictures)
