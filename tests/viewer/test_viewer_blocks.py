"""Pages with grids of BC1 and ASTC blocks, in a headless Chromium, with the extensions of WebGL that take them, and
without these."""

from __future__ import annotations

import base64
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset import load_material
from formats.textures import write_export
from model import NeuralTexture
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.astc_decoders import seen_astc
from tests.support.bc1_decoders import ROUNDINGS, decode_bc1
from tests.support.browser import Browser
from tests.support.exports import make_model
from tests.support.runs import save_maps
from tests.support.shader_cases import astc, bc1, uploads
from tests.support.viewer_pages import make_export, save_viewer

SIZE = 32
FORMS = {  # the third grid of `mixed` has no whole blocks, so WebGL does not take it
    "linear": ([bc1(32, 6), bc1(16, 3)], DecoderSpec(0, 16, 2, 0, "hard_swish")),
    "learned": ([bc1(16, 5, "learned"), bc1(8, 1)], DecoderSpec(0, 16, 1, 3, "hard_swish")),
    "many": ([*[bc1(16, 2)] * 8, *[bc1(8, 1)] * 8], DecoderSpec(0, 16, 1)),  # more than the 16 textures of WebGL
    "tsnc": (
        [bc1(32, 4), bc1(32, 4), *[replace(bc1(16, 3), finest_lods=2)] * 2], DecoderSpec(0, 16, 2, negative_slope=0.0),
    ),
    "rectangles": (  # one without whole blocks
        [bc1((32, 8), 4), bc1((32, 8), 4), bc1((6, 20), 2), GridSpec((4, 24), 2, 4, 16, "learned")],
        DecoderSpec(2, 16, 1, 1),
    ),
    "mixed": ([GridSpec(16, 2, 4, 16), bc1(20, 3), bc1(6, 2), bc1(20, 3)], DecoderSpec(2, 16, 1)),
    "astc": (
        [astc((20, 12), 3), bc1((20, 12), 3), astc((20, 12), 3), astc(7, 1, "learned"), GridSpec(8, 2, 4, 16)],
        DecoderSpec(2, 16, 1),
    ),
}
FILTERED = ("linear",)  # said to be trained at any position
EXTENSION = "(name) => gl.getExtension(name)"
READ_TEXELS = """([name, layer, mip, side]) => {
    const { gl } = nt, program = gl.createProgram();
    const { texture } = nt.view.loaded.gpu.textures.find((each) => each.name === name);
    for (const [type, text] of [
        [gl.VERTEX_SHADER, `void main() {
            gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0); }`],
        [gl.FRAGMENT_SHADER, `precision highp float;
            uniform highp sampler2DArray grid;
            uniform ivec2 at;
            out vec4 texel;
            void main() { texel = texelFetch(grid, ivec3(gl_FragCoord.xy, at.x), at.y); }`],
    ]) {
        const shader = gl.createShader(type);
        gl.shaderSource(shader, "#version 300 es\\n" + text);
        gl.compileShader(shader);
        gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.uniform2i(gl.getUniformLocation(program, "at"), layer, mip);
    gl.activeTexture(gl.TEXTURE0);
    const target = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, target);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, side, side);
    gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, target, 0);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, texture);
    gl.viewport(0, 0, side, side);
    gl.disable(gl.CULL_FACE);
    gl.bindVertexArray(null);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    const texels = new Uint8Array(4 * side * side);
    gl.readPixels(0, 0, side, side, gl.RGBA, gl.UNSIGNED_BYTE, texels);
    return [gl.getError(), btoa(String.fromCharCode(...texels))];
}"""


@dataclass
class Shown:
    model: NeuralTexture
    folder: Path
    pages: dict[str, Path]  # with blocks uploaded, and without


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> dict[str, Shown]:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("blocks")
    maps = save_maps(root / "maps", SIZE, SIZE, present=("diffuse", "normal", "metallic"))
    material = load_material(maps)
    result = {}
    for name, (grids, decoder) in FORMS.items():
        model = make_model(grids, decoder, material, seed=3)
        model.start_biases([0.5] * 11)
        (root / name).mkdir()
        positions = "filtered" if name in FILTERED else "centres"
        write_export(root / name, model, material.hashed_record, positions=positions)
        page, phone = root / f"{name}.html", root / f"{name}_phone.html"
        assert save_viewer("--load_dir", root / name, "--viewer", page, "--data_dir", maps) == 0
        text = page.read_text(encoding="utf-8")
        assert text.count(EXTENSION) == 1
        phone.write_text(text.replace(EXTENSION, "() => null"), encoding="utf-8")
        result[name] = Shown(model, root / name, {"blocks": page, "decoded": phone})
    return result


def as_seen(one: Shown, rounding: str) -> reference.Texture:
    """The reference with the features that the page sees, whose thirds the GPU rounds so; those of blocks that the GPU
    does not take are rounded to the nearest."""
    texture = reference.of_model(one.model)
    for index, spec in enumerate(one.model.grids):
        if spec.storage == "astc6x6":
            levels = texture.grids[index].levels
            texture.grids[index].levels = [seen_astc(level, rounding) / 255 - 0.5 for level in levels]
        elif spec.compressed:
            levels = uploads((one.folder / f"hash_grid_{index}.dds").read_bytes(), True)[: spec.n_levels][::-1]
            sizes = [spec.level_size(level) for level in range(spec.n_levels)]
            own = "nearest" if any(side % 4 for side in spec.size) else rounding
            images = [decode_bc1(blocks, own)[:down, :across] for blocks, (across, down) in zip(levels, sizes)]
            texture.grids[index].levels = [image / 255 - 0.5 for image in images]
    return texture


def codes_at(texture: reference.Texture, uv: np.ndarray, lod: float) -> np.ndarray:
    """(n, 11) 8-bit codes."""
    return np.round(np.clip(reference.forward(texture, uv, np.full(len(uv), lod)), 0, 1) * 255)


def page_codes(browser: Browser, lod: int) -> np.ndarray:
    """(n, 7) codes of the maps that there are."""
    maps = [browser.read(name, lod) for name in ("diffuse", "normal", "metallic")]
    return np.concatenate(maps, axis=2).reshape(-1, 7)


def off_by(got: np.ndarray, want: np.ndarray) -> float:
    """0 where all codes agree but for a few whose halves were rounded to the other side."""
    off = np.abs(got - want)
    return off.max() if off.max() > 1 or (off > 0).mean() > 0.01 + 1 / off.size else 0


@pytest.mark.parametrize("way", ["blocks", "decoded"])
@pytest.mark.parametrize("name", FORMS)
def test_texels_are_those_of_the_numpy_decoder(name, way, shown, browser):
    """To the code, with the thirds that the page sees: Chromium's SwiftShader rounds them down."""
    one = shown[name]
    browser.open(one.pages[way])
    textures = {rounding: as_seen(one, rounding) for rounding in (ROUNDINGS if way == "blocks" else ["nearest"])}
    worst = dict.fromkeys(textures, 0.0)
    for lod in range(6):
        side = SIZE >> lod
        y, x = np.mgrid[:side, :side].reshape(2, -1)
        uv, got = (np.stack([x, y], axis=1) + 0.5) / side, page_codes(browser, lod)
        assert lod > 1 or got.std() > 5
        for rounding, texture in textures.items():
            want = codes_at(texture, uv, lod)[:, [0, 1, 2, 3, 4, 5, 8]]
            worst[rounding] = max(worst[rounding], off_by(got, want))
    assert min(worst.values()) == 0, worst
    assert browser.said == []


def test_the_upload_is_what_was_trained(shown, browser):
    """Every texel and mip of Chromium's own BC upload, to the last integer: the model's thirds, rounded down. The third
    grid, which WebGL does not take, is decoded by the page and rounded to the nearest."""
    one = shown["mixed"]
    browser.open(one.pages["blocks"])
    for index, array, layer, rounding in ((1, 0, 0, "down"), (2, 1, 0, "nearest"), (3, 0, 1, "down")):
        spec, levels = one.model.grids[index], reference.of_model(one.model).grids[index].levels[::-1]
        for mip, level in enumerate(levels):
            side = spec.max_resolution >> mip
            thirds = np.round((level + 0.5) * 765)
            error, data = browser.tab.evaluate(READ_TEXELS, [f"ntBlocks{array}", layer, mip, side])
            texels = np.frombuffer(base64.b64decode(data), np.uint8).reshape(side, side, 4)
            assert error == 0 and (texels[..., 3] == 255).all()
            np.testing.assert_array_equal(texels[..., :3], (thirds + (rounding == "nearest")) // 3)


@pytest.mark.parametrize("way", ["blocks", "decoded"])
def test_astc_blocks_are_what_was_trained(way, shown, browser):
    """Every texel and mip of ASTC 6x6 of any size, to the last integer: of Chromium's own upload, and decoded by the
    page, which rounds to the nearest."""
    one = shown["astc"]
    browser.open(one.pages[way])
    if way == "blocks" and not browser.tab.evaluate("nt.gl.getExtension('WEBGL_compressed_texture_astc') !== null"):
        pytest.skip("this Chromium does not take ASTC")
    for index, array, layer in ((0, 0, 0), (2, 0, 1), (3, 2, 0)):
        for mip, level in enumerate(reference.of_model(one.model).grids[index].levels[::-1]):
            height, width, _ = level.shape
            error, data = browser.tab.evaluate(READ_TEXELS, [f"ntBlocks{array}", layer, mip, max(width, height)])
            texels = np.frombuffer(base64.b64decode(data), np.uint8).reshape(-1, max(width, height), 4)[:height, :width]
            assert error == 0 and (texels[..., 3] == 255).all()
            wanted = seen_astc(level, "nearest" if way == "decoded" else "as SwiftShader")
            np.testing.assert_array_equal(texels[..., :3], wanted)


def magnified(browser: Browser, **look) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of the flat view inside the material, over 4 a texel, and where they lie: (n, 3) codes, (n, 2) uv."""
    browser.tab.evaluate("nt.set", {"shape": "flat", "show": "diffuse", "compare": "decoded", **look})
    stage = browser.tab.locator("#canvas").bounding_box()
    picture = browser.screenshot(clip=stage)
    texel = 0.94 * min(stage["width"], stage["height"]) / SIZE
    assert texel > 4
    height, width, _ = picture.shape
    y, x = np.mgrid[:height, :width]
    uv = (np.stack([x, y], axis=2) + 0.5 - [stage["width"] / 2, stage["height"] / 2]) / (texel * SIZE) + 0.5
    inside = (uv > 0.02).all(axis=2) & (uv < 0.98).all(axis=2)
    return picture[inside], uv[inside]


def blended_codes(texture: reference.Texture, uv: np.ndarray, lod: float) -> np.ndarray:
    """(n, 11) 8-bit codes of four texels of both LODs around, decoded at their centres and blended."""
    result = np.zeros((len(uv), 11))
    for level, share in ((int(lod), 1 - lod % 1), (int(lod) + 1, lod % 1)):
        side = SIZE >> level
        corner, weight = np.divmod(uv * side - 0.5, 1)
        for offset in np.ndindex(2, 2):
            parts = np.where(np.array(offset) == 1, weight, 1 - weight).prod(axis=1, keepdims=True)
            centre = ((corner + offset) % side + 0.5) / side
            result += share * parts * reference.forward(texture, centre, np.full(len(uv), float(level)))
    return np.round(np.clip(result, 0, 1) * 255)


def test_any_position_is_one_filtered_decode(shown, browser):
    """Magnified, every pixel of the screen: what the sampler returns there, decoded once."""
    one = shown["linear"]
    browser.open(one.pages["blocks"])
    got, uv = magnified(browser)  # as it is shown at first
    wanted = [codes_at(as_seen(one, rounding), uv, 0)[:, :3] for rounding in ROUNDINGS]
    assert min(np.percentile(np.abs(got - want), 99) for want in wanted) <= 1 and got.std() > 20
    nearest, _ = magnified(browser, sampling="nearest")
    assert min(np.percentile(np.abs(nearest - want), 99) for want in wanted) > 3
    assert browser.said == []


@pytest.mark.parametrize("lod", [0, 0.5])
def test_any_position_blends_decodes_where_the_network_knows_texel_centres(lod, shown, browser):
    one = shown["tsnc"]
    browser.open(one.pages["blocks"])
    assert browser.tab.evaluate("nt.state.sampling") == "nearest"
    got, uv = magnified(browser, sampling="anywhere", autoLod=False, lod=lod)
    textures = [as_seen(one, rounding) for rounding in ROUNDINGS]
    off = min(np.percentile(np.abs(got - blended_codes(texture, uv, lod)[:, :3]), 99) for texture in textures)
    once = min(np.percentile(np.abs(got - codes_at(texture, uv, lod)[:, :3]), 99) for texture in textures)
    assert off <= 1 < once and got.std() > 4
    assert browser.said == []


def test_the_source_is_filtered_as_the_decoder_s_textures(shown, browser):
    """Along the footprints of a tilted plane, where the material was trained at any position. Else at the LOD of their
    longer axis, which leaves less of it; at that of their shorter one, 0 here, it would alias."""
    contrasts = {}
    for name, look in (("linear", {"autoLod": True}), ("many", {"autoLod": True}), ("linear", {"autoLod": False})):
        browser.open(shown[name].pages["blocks"])
        browser.tab.evaluate("nt.camera.yaw = 1.25; nt.camera.pitch = 0")
        look = {**look, "shape": "plane", "show": "diffuse", "compare": "source", "tiling": 8, "sampling": "anywhere"}
        browser.tab.evaluate("nt.set", look)
        picture = browser.screenshot(clip=browser.tab.locator("#canvas").bounding_box())
        y, x = (length // 2 for length in picture.shape[:2])
        contrasts[name, look["autoLod"]] = picture[y - 40 : y + 40, x - 15 : x + 15].std(axis=(0, 1)).mean()
        assert browser.said == []
    assert 1.2 * contrasts["many", True] < contrasts["linear", True] < 0.93 * contrasts["linear", False], contrasts


def test_materials_are_shown_where_they_were_trained(shown, browser, tmp_path):
    """At first; what the user chooses stays while the next material was trained at the same positions."""
    for name in ("linear", "many", "tsnc"):
        shutil.copytree(shown[name].folder, tmp_path / "batch" / name)
    page = tmp_path / "page.html"
    assert save_viewer("--load_dir", tmp_path / "batch", "--viewer", page, "--viewer_source", 0) == 0
    browser.open(page)
    sampling = lambda: browser.tab.evaluate("nt.state.sampling")  # noqa: E731
    assert sampling() == "anywhere" and "one decode" in browser.tab.inner_text("#facts")
    browser.tab.evaluate("nt.chooseMaterial(1)")
    assert sampling() == "nearest" and "four decodes" in browser.tab.inner_text("#facts")
    browser.tab.evaluate("nt.set", {"sampling": "linear"})
    browser.tab.evaluate("nt.chooseMaterial(2)")
    assert sampling() == "linear" and browser.said == []


def test_one_page_of_blocks_and_words(shown, browser, tmp_path):
    """Each material has the decoder that reads its textures."""
    maps = save_maps(tmp_path / "maps", SIZE, SIZE, present=("diffuse", "normal", "metallic"))
    make_export(tmp_path / "batch" / "words", maps)
    for name in FORMS:
        shutil.copytree(shown[name].folder, tmp_path / "batch" / name)
    page = tmp_path / "page.html"
    assert save_viewer("--load_dir", tmp_path / "batch", "--viewer", page, "--viewer_source", 0) == 0
    browser.open(page)
    cores = ["filterable", "mixed", "mixed, rectangles", "packed"]
    assert sorted(browser.tab.evaluate("Object.keys(nt.data.cores)")) == cores
    found = {}
    for index, name in enumerate(sorted([*FORMS, "words"])):
        browser.tab.evaluate(f"nt.chooseMaterial({index})")
        assert browser.tab.inner_text("#name") == name
        found[name] = page_codes(browser, 0)
    for name, one in shown.items():
        browser.open(one.pages["blocks"])
        np.testing.assert_array_equal(found[name], page_codes(browser, 0))
    assert found["words"].std() > 1 and browser.said == []
