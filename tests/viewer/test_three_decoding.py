"""viewer/three: what its materials decode is what the toolkit decodes, and its text is the exporter's."""

from __future__ import annotations

import base64
import functools
import re

import numpy as np
import pytest

from shaders.export import shader_source
from shaders.languages import number_text
from shaders.weights import trained_precision
from tests.support.three_cases import CASES, entry_of, exported_case, values_of
from tests.support.three_pages import Gltf, load, open_three, read, said, scene_of
from viewer import three_module

PARTS = {  # expression -> the maps that it shows, and their first channels
    "vec4( ntPixel.base, ntPixel.opacity )": {"diffuse": 0, "opacity": 3},
    "vec4( ntPixel.normal, ntPixel.roughness )": {"normal": 0, "roughness": 3},
    "vec4( ntPixel.emissive, ntPixel.occlusion )": {"emissive": 0, "occlusion": 3},
    "vec4( ntPixel.metallic )": {"metallic": 0},
}
ASTC = "WEBGL_compressed_texture_astc"
WITHOUT = """(extension) => {
    const { extensions } = kit.renderer, { has } = extensions;
    extensions.has = (name) => name !== extension && has(name);
}"""


def scene(name: str, **options) -> Gltf:
    return scene_of(functools.partial(entry_of, name, **options))


def assert_decodes(browser, exported, lods=(0, 1, 2), codes=1.0) -> None:
    """Every texel of these LODs, within so many codes of 8 bits; light above 1 within so many hundredths of it."""
    material = exported.manifest.material
    sizes = [dict(zip(("width", "height"), material.lod_size(lod))) for lod in lods]
    wanted = [values_of(exported, lod) for lod in lods]
    for expression, places in PARTS.items():
        for lod, want, got in zip(lods, wanted, read(browser, expression, *sizes)):
            for name, first in places.items():
                if name in want:
                    off = np.abs(got[..., first : first + want[name].shape[2]] - want[name])
                    off /= np.maximum(1, 2.55 * want[name])
                    assert off.max() <= codes / 255, (name, lod, off.max() * 255)


def test_the_module_of_decoders_is_up_to_date(capsys):
    assert three_module.main(["--check"]) == 0, "python -m viewer.three_module"


@pytest.mark.parametrize("name", [name for name in CASES if name != "astc blocks"])
def test_texels(name, browser):
    open_three(browser)
    load(browser, scene(name))
    exported = exported_case(name)
    lods = (0, 1) if name == "odd blocks" else (0, 1, 2)  # of LOD 2, 3x2 of 12x10, pixels have a fractional LOD
    # BC1: GPUs round its thirds in their ways, which moves a random material by a code or two
    assert_decodes(browser, exported, lods, 3 if "blocks" in name else 1)
    assert said(browser) == []


@pytest.mark.parametrize("has", [True, False])
def test_blocks_as_they_are_and_decoded(has, browser):
    """ASTC 6x6, of any side, on a GPU that takes it and on one that does not; there texels are rounded to 8 bits."""
    open_three(browser)
    if not browser.tab.evaluate(f"kit.renderer.extensions.has('{ASTC}')") and has:
        pytest.skip("this Chromium does not take ASTC")
    if not has:
        browser.tab.evaluate(WITHOUT, ASTC)
    load(browser, scene("astc blocks"))
    assert_decodes(browser, exported_case("astc blocks"), (0, 1), 3)
    uniforms = "Object.values(kit.meshes()[0].material.neural.texture.uniforms(kit.renderer))"
    formats = browser.tab.evaluate(f"{uniforms}.map(({{ value }}) => value.format)")[:2]
    assert formats == [37812 if has else 1023] * 2 and said(browser) == []  # COMPRESSED_RGBA_ASTC_6x6_KHR, RGBAFormat


@pytest.mark.parametrize("name", ["learned", "dots"])
def test_weights_in_a_texture(name, browser):
    """Where a GPU has too few uniforms for a network."""
    open_three(browser)
    browser.tab.evaluate("kit.renderer.capabilities.maxFragmentUniforms = 64")
    load(browser, scene(name))
    assert_decodes(browser, exported_case(name), (0,))
    names = browser.tab.evaluate("Object.keys(kit.meshes()[0].material.neural.texture.uniforms(kit.renderer))")
    assert "ntWeightTable" in names and said(browser) == []


@pytest.mark.parametrize("name", CASES)
def test_the_text_is_the_exporters(name, browser):
    """Apart from comments, and from weights that are in plain uniforms, not in a block."""
    open_three(browser)
    exported, views, layout = exported_case(name), [], CASES[name][4]
    model, material, manifest = exported.model, exported.manifest.material, exported.manifest
    entry = entry_of(name, lambda payload: views.append(base64.b64encode(payload).decode()) or len(views) - 1)
    got = browser.tab.evaluate("([entry, views]) => kit.decoderOf(entry, views)", [entry, views])
    precision = trained_precision(model)
    arrays = arrays_of(name)
    more = {"layers": arrays, "positions": manifest.positions, "precision": precision}
    kind = "float32" if precision == 32 else "auto"
    want = shader_source(model, material, "essl", "buffer", kind, layout, **more)
    want = re.sub(r"layout\(std140\) uniform NtWeights \{ (.*;) \};", r"uniform \1", want)
    assert without_comments(got) == without_comments(want)


def without_comments(text: str) -> list[str]:
    return [line for line in re.sub(r"//.*", "", text).splitlines() if line.strip()]


def arrays_of(name: str) -> dict[str, tuple[str, int]]:
    """Texture -> (array, layer), of the cases whose textures are layers of arrays."""
    planes = {"blocks": [("ntGrid0", 0), ("ntGrid1", 0)], "odd blocks": [("ntGrid0", 0), ("ntGrid1", 1)],
              "astc blocks": [("ntGrid0", 0), ("ntGrid1", 0), ("ntGrid2", 1), ("ntGrid4", 2)]}  # fmt: skip
    many = [f"ntGrid{grid}{f'Plane{plane}' if plane else ''}" for grid in range(3) for plane in range(4)]
    if name == "many":
        return {one: ("ntBlocks0", layer) for layer, one in enumerate(many)}
    found: dict[str, tuple[str, int]] = {}
    for one, array in planes.get(name, []):
        found[one] = (f"ntBlocks{array}", sum(other == f"ntBlocks{array}" for other, _ in found.values()))
    return found


def test_other_meanings_of_values(browser):
    """Normals whose green points down, and a colour that was trained in linear light."""
    open_three(browser)
    for options in ({"convention": "dx"}, {"linear": True}):
        exported = exported_case("linear", **options)
        load(browser, scene("linear", **options))
        sizes = [{"width": 16, "height": 12}]
        (base,), (normal,) = (read(browser, f"vec4( ntPixel.{name}, 1.0 )", *sizes) for name in ("base", "normal"))
        want = values_of(exported, 0)
        assert np.abs(base[..., :3] - want["diffuse"]).max() < 1 / 255
        down = "convention" in options
        up = np.where([False, down, False], 1 - want["normal"], want["normal"])
        assert np.abs(normal[..., :3] - up).max() < 1 / 255


def test_numbers_as_text(browser):
    """As Python writes them, over the whole range of float32."""
    open_three(browser)
    random = np.random.default_rng(1).integers(0, 2**32, 4000, dtype=np.uint32).view(np.float32)
    chosen = np.array([0, -0.0, 1, 0.1, 1e-4, 9.9999e-5, 123456789, 999999999.5, 1e9, 1e-38, 1e-40, 16384], np.float32)
    numbers = np.concatenate([random[np.isfinite(random)], chosen]).astype(float).tolist()
    got = browser.tab.evaluate("(numbers) => numbers.map(kit.preamble.numberText)", numbers)
    want = [number_text(value) for value in numbers]
    assert [np.float32(text) for text in got] == [np.float32(text) for text in want]
    assert np.mean([a == b for a, b in zip(got, want)]) > 0.99  # but for ties in the ninth digit
