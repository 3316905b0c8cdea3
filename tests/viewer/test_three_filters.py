"""viewer/three: how its materials filter, against blends of what the toolkit decodes."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from tests.support.three_cases import entry_of, exported_case, taken, values_of
from tests.support.three_pages import load, open_three, read, said, scene_of

BASE = "vec4( ntPixel.base, ntPixel.roughness )"
NORMAL = "vec4( ntPixel.normal, ntPixel.occlusion )"
VIEWS = [
    {"width": 24, "height": 24, "left": 0.1, "right": 0.35, "top": 0.4, "bottom": 0.65},  # magnified
    {"width": 11, "height": 11},  # between LOD 0 and 1
    {"width": 13, "height": 13, "left": -0.6, "right": 1.4, "top": 0.3, "bottom": 2.3},  # across the edges
    {"width": 1, "height": 1, "left": -3, "right": 5, "top": 0, "bottom": 8},  # beyond the last LOD
]


def positions(view) -> tuple[np.ndarray, float]:
    """uv of each pixel, (height, width, 2), and the LOD of all of them, for 16x16 texels."""
    left, right = view.get("left", 0), view.get("right", 1)
    top, bottom = view.get("top", 0), view.get("bottom", 1)
    u = left + (np.arange(view["width"]) + 0.5) / view["width"] * (right - left)
    v = top + (np.arange(view["height"]) + 0.5) / view["height"] * (bottom - top)
    lod = np.log2(max(16 * (right - left) / view["width"], 16 * (bottom - top) / view["height"]))
    return np.stack(np.meshgrid(u, v), axis=2), float(np.clip(lod, 0, 4))


def bilinear(texels: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Texels that repeat, filtered at uv as a sampler does."""
    size = np.array(texels.shape[1::-1])
    corner = np.floor(uv * size - 0.5).astype(int)
    weight = uv * size - 0.5 - corner
    total = 0
    for x, y in ((0, 0), (1, 0), (0, 1), (1, 1)):
        share = np.abs(1 - x - weight[..., 0]) * np.abs(1 - y - weight[..., 1])
        at = (corner + [x, y]) % size
        total = total + share[..., None] * texels[at[..., 1], at[..., 0]]
    return total


def trilinear(exported, name: str, view) -> np.ndarray:
    uv, lod = positions(view)
    finer = int(lod)
    levels = [bilinear(values_of(exported, level)[name], uv) for level in (finer, min(finer + 1, 4))]
    return levels[0] + (lod - finer) * (levels[1] - levels[0])


def sixteen_texels(exported, name: str, view) -> np.ndarray:
    """The finer LOD and, in place of the coarser one, means of its texels; from 7/8 on gradually the coarser one."""
    uv, lod = positions(view)
    texels = values_of(exported, int(lod))[name]
    height, width = texels.shape[:2]
    coarser = texels.reshape(height // 2, 2, width // 2, 2, -1).mean(axis=(1, 3))
    own = max(8 * (lod % 1) - 7, 0)
    coarser = own * values_of(exported, int(lod) + 1)[name] + (1 - own) * coarser
    fine = bilinear(texels, uv)
    return fine + (lod % 1) * (bilinear(coarser, uv) - fine)


FAR = {  # the plane, from -4 to 5 in u and v
    "POSITION": [[-9, 9, 0], [9, 9, 0], [-9, -9, 0], [9, -9, 0]], "TEXCOORD_0": [[-4, -4], [5, -4], [-4, 5], [5, 5]],
}  # fmt: skip


def scene(name: str, **options):
    return scene_of(functools.partial(entry_of, name, **options), **FAR)


@pytest.mark.parametrize("name", ["learned", "filterable"])
def test_four_decodes_are_the_samplers_filter(name, browser):
    """Light is blended, not its sRGB codes; normals as they are stored."""
    exported = exported_case(name)
    open_three(browser)
    load(browser, scene(name), filter="four")
    for expression, colour in ((BASE, "diffuse"), (NORMAL, "normal")):
        for view, got in zip(VIEWS, read(browser, expression, *VIEWS)):
            want = trilinear(exported, colour, view)
            assert np.abs(got[..., :3] - want).max() < 2 / 255, (view, colour)  # pixels lie within 1/16 of one
    assert said(browser) == []


def test_sixteen_decodes_average_the_finer_lod(browser):
    """The choice of the plugin for decodes at centres; a coarser LOD is never read between two that halve."""
    exported = exported_case("learned")
    open_three(browser)
    load(browser, scene("learned"))
    between = {"width": 3, "height": 3, "left": -0.1, "right": 1.1, "top": 0, "bottom": 1.2}  # LOD 2 and 3
    nearly = {"width": 17, "height": 17, "left": -0.5, "right": 1.5, "top": -0.5, "bottom": 1.5}  # LOD 0.91
    views = [*VIEWS, between, nearly]
    for view, got in zip(views, read(browser, NORMAL, *views)):
        fits = positions(view)[1] < 4
        want = sixteen_texels(exported, "normal", view) if fits else trilinear(exported, "normal", view)
        assert np.abs(got[..., :3] - want).max() < 2 / 255, view
        if 0 < positions(view)[1] < 4:  # the case tells the two filters apart
            assert np.abs(want - trilinear(exported, "normal", view)).max() > 5 / 255
    assert said(browser) == []


def test_sizes_that_do_not_halve_take_both_lods(browser):
    exported = exported_case("linear")  # 16x12: LOD 2 is 4x3
    open_three(browser)
    load(browser, scene("linear"))
    view = {"width": 3, "height": 2}
    got = read(browser, NORMAL, view)[0]
    uv, _ = positions(view)
    lod = float(np.log2(max(16 / 3, 12 / 2)))
    levels = [bilinear(values_of(exported, level)["normal"], uv) for level in (2, 3)]
    assert np.abs(got[..., :3] - (levels[0] + (lod - 2) * (levels[1] - levels[0]))).max() < 2 / 255


@pytest.mark.parametrize(("name", "codes"), [("linear", 2), ("learned", 2), ("filterable", 4), ("blocks", 5)])
def test_one_decode_where_the_pixel_lies(name, codes, browser):
    """Samplers blend features with weights of 8 bits."""
    exported = exported_case(name, positions="filtered")
    open_three(browser)
    load(browser, scene(name, positions="filtered"))
    views = VIEWS[:1] if name == "linear" else VIEWS[:2]  # its texels are 16x12, and so are others' LODs
    for view, got in zip(views, read(browser, NORMAL, *views)):
        uv, lod = positions(view)
        flat = torch.from_numpy(uv.reshape(-1, 2).astype(np.float32))
        decoded = exported.model(flat % 1, torch.full((len(flat),), lod)).detach()
        want = taken(exported, decoded)["normal"].reshape(*uv.shape[:2], 3)
        assert np.abs(got[..., :3] - want).max() < codes / 255


def test_the_nearest_texel(browser):
    exported = exported_case("learned")
    open_three(browser)
    load(browser, scene("learned"), filter="nearest")
    views = [{**view, "left": view.get("left", 0) + 0.003, "right": view.get("right", 1) + 0.003} for view in VIEWS[:2]]
    views = [{**view, "top": view.get("top", 0) + 0.005, "bottom": view.get("bottom", 1) + 0.005} for view in views]
    for view, got in zip(views, read(browser, NORMAL, *views)):  # no pixel on a border of texels
        uv, lod = positions(view)
        texels = values_of(exported, round(lod))["normal"]
        at = np.floor(uv * texels.shape[0]).astype(int)
        assert np.abs(got[..., :3] - texels[at[..., 1], at[..., 0]]).max() < 1 / 255


def test_stochastic_texels_are_the_filter_in_the_mean(browser):
    exported, view = exported_case("learned"), VIEWS[1]
    open_three(browser)
    load(browser, scene("learned"), filter="stochastic")
    frames = np.stack(read(browser, NORMAL, *[view] * 96))[..., :3]
    want = trilinear(exported, "normal", view)
    texels = np.concatenate([values_of(exported, lod)["normal"].reshape(-1, 3) for lod in (0, 1)])
    off = np.abs(frames[:2].reshape(-1, 1, 3) - texels).max(axis=2).min(axis=1)
    assert off.max() < 1 / 255  # each is a texel
    assert (np.ptp(frames, axis=0).max(axis=2) > 1 / 255).mean() > 0.95  # new in each frame
    assert np.abs(frames.mean(axis=0) - want).mean() < 0.2 * np.abs(frames - want).mean()
    assert said(browser) == []


def test_the_noise_is_blue(browser):
    """Each rank once; texels below any rank are spread: little of their spectrum is at low frequencies."""
    open_three(browser)
    ranks = np.array(browser.tab.evaluate("kit.voidAndCluster(32)")).reshape(32, 32)
    assert sorted(ranks.ravel()) == list(range(1024))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32)))
    low = (frequency > 0) & (frequency < 0.15)
    white = np.random.default_rng(0).permutation(1024).reshape(32, 32)
    for share in (0.1, 0.5, 0.8):
        power, usual = (np.abs(np.fft.fft2(table < share * 1024)) ** 2 for table in (ranks, white))
        assert power[low].mean() < 0.15 * usual[low].mean(), share
