"""mips.py: colour spaces, and the mips of a Material against a slow reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dataset import Material
from maps.channels import MAPS
from maps.mips import linear_to_srgb, mip_chain, mip_sizes, srgb_to_linear
from tests.support.map_images import randoms, reference_shrink

# ---- colour ----


def test_srgb_is_iec_61966_2_1():
    def decode(v):  # the standard's own words, one value at a time
        return v / 12.92 if v <= 0.04045 else math.pow((v + 0.055) / 1.055, 2.4)

    codes = np.arange(256) / 255
    expected = np.array([decode(v) for v in codes])
    np.testing.assert_allclose(srgb_to_linear(codes), expected, rtol=1e-12)
    np.testing.assert_allclose(linear_to_srgb(expected), codes, rtol=1e-6, atol=1e-9)
    single = torch.from_numpy(codes).float()
    np.testing.assert_allclose(srgb_to_linear(single).numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(single)).numpy(), codes, atol=1e-6)
    assert srgb_to_linear(codes.astype(np.float32)).dtype == np.float32
    assert abs(srgb_to_linear(np.array(0.5)) - 0.5**2.2) > 0.003  # not a power of 2.2


@pytest.mark.parametrize("convert", [srgb_to_linear, linear_to_srgb])
def test_srgb_gradient_is_finite(convert):
    values = torch.tensor([-0.5, 0.0, 0.001, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(convert, values)


# ---- mips ----


def test_mip_sizes():
    assert mip_sizes(1, 1) == [(1, 1)]
    assert mip_sizes(5, 7) == [(5, 7), (2, 3), (1, 1)]
    assert mip_sizes(640, 384)[:3] == [(640, 384), (320, 192), (160, 96)]
    assert mip_sizes(8, 1) == [(8, 1), (4, 1), (2, 1), (1, 1)]
    for width, height in [(1, 1), (2, 2), (3, 9), (640, 384), (4096, 4095)]:
        assert len(mip_sizes(width, height)) == math.floor(math.log2(max(width, height))) + 1


def reference_chain(codes, kind):
    """Real-valued codes of every LOD from 1, in float64."""
    top = np.iinfo(codes.dtype).max if kind != "linear" else 1  # in code units ties stay ties
    level = codes / top
    if kind == "srgb":
        level = np.vectorize(lambda v: v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4)(level)
    if kind == "normal":
        level = 2 * level - 1
    height, width = codes.shape[:2]
    while height > 1 or width > 1:
        height, width = max(1, height // 2), max(1, width // 2)
        level = reference_shrink(level, height, width)
        stored = level
        if kind == "srgb":
            stored = np.vectorize(lambda v: 12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055)(level)
        if kind == "normal":
            length = np.linalg.norm(level, axis=-1, keepdims=True)
            stored = np.where(length > 1e-6, level / np.maximum(length, 1e-6), [0, 0, 1]) * 0.5 + 0.5
        yield stored * top


KINDS = {"srgb": "diffuse", "normal": "normal", "linear": "roughness"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (7, 5), (8, 8), (16, 4), (1, 9), (9, 1), (13, 32), (45, 27)], ids=str)
def test_mips_equal_the_reference(size, dtype, kind):
    width, height = size
    name = KINDS[kind]
    codes = randoms((height, width, MAPS[name]), dtype, seed=width)
    if kind == "normal":  # point out of the surface: float32 cannot tell the direction of vectors that cancel out
        codes[..., 2] |= 3 << (dtype(0).itemsize * 8 - 2)
    material = Material.from_arrays("m", {name: codes})
    assert np.array_equal(material.stored(0, name), codes)
    levels = list(reference_chain(codes, kind))
    assert len(levels) == material.num_lods - 1
    for lod, expected in enumerate(levels, start=1):
        got = material.stored(lod, name)
        assert got.shape == (*material.lod_sizes[lod][::-1], MAPS[name]) and got.dtype == dtype
        if kind == "linear" and width & (width - 1) == height & (height - 1) == 0:
            assert np.array_equal(got, np.floor(expected + 0.5))  # float32 is exact here
        # 0.5 is the rounding; the rest is float32 against float64: worst seen 0.009 of a 16-bit code, twice that
        assert np.abs(got - expected).max() <= 0.5 + (0.02 if dtype == np.uint16 else 1e-3)


def test_mips_of_a_level_in_several_bands():
    """Rows so long that a level is made in bands of two; an odd height, so that bands share a source row."""
    width = 2**17
    codes = randoms((11, 2 * width, 1), np.uint8)
    got = Material.from_arrays("m", {"roughness": codes}).stored(1, "roughness")
    for first in (0, 1000, width - 100):  # the columns of an even width are independent
        part = codes[:, 2 * first : 2 * first + 200].astype(np.float64)
        assert np.abs(got[:, first : first + 100] - reference_shrink(part, 5, 100)).max() <= 0.5 + 1e-3


def test_halves_round_up_and_levels_do_not_add_rounding():
    codes = np.array([[0, 1, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]], np.uint8)[..., None]
    material = Material.from_arrays("m", {"roughness": codes})
    assert material.stored(1, "roughness")[..., 0].tolist() == [[1, 1], [0, 0]]  # 0.5, 0.5, 0, 0.25
    assert material.stored(2, "roughness").tolist() == [[[0]]]  # 5/16; from the rounded level it would be 1


def test_diffuse_is_averaged_in_linear_light():
    codes = np.zeros((2, 2, 3), np.uint8)
    codes[0] = 255
    material = Material.from_arrays("m", {"diffuse": codes})
    assert material.stored(1, "diffuse").tolist() == [[[188, 188, 188]]]  # half the light of white
    linear = Material.from_arrays("m", {"diffuse": codes}, color_space={"diffuse": "linear"})
    assert linear.stored(1, "diffuse").tolist() == [[[128, 128, 128]]]


@pytest.mark.parametrize("name, code", [("diffuse", 201), ("roughness", 201)])
def test_constant_map_stays_constant(name, code):
    for dtype, scale in ((np.uint8, 1), (np.uint16, 257)):
        codes = np.full((37, 22, MAPS[name]), code * scale, dtype)
        material = Material.from_arrays("m", {name: codes})
        for lod in range(material.num_lods):
            assert (material.stored(lod, name) == code * scale).all()


def test_normals():
    left, right = [0, 128, 128], [255, 127, 127]  # opposite to each other: the sum is the zero vector
    material = Material.from_arrays("m", {"normal": np.array([[left, right]], np.uint8)})
    assert material.stored(1, "normal").tolist() == [[[128, 128, 255]]]
    tilted = np.array([[[255, 128, 128], [128, 255, 128]]], np.uint8)
    x, y, z = (Material.from_arrays("m", {"normal": tilted}).stored(1, "normal")[0, 0] / 255 * 2 - 1).tolist()
    assert x == y and abs(math.hypot(x, y, z) - 1) < 0.01


@pytest.mark.parametrize("flat", [(128, 128, 255), (127, 127, 255), (128, 128, 128), (127, 128, 127)])
def test_a_flat_normal_stays_flat(flat):
    codes = np.broadcast_to(np.uint8(flat), (8, 4, 3)).copy()
    for _, texels in list(mip_chain(codes, "normal"))[1:]:
        assert np.abs(texels.astype(int) - flat).max() <= 1


def test_a_flat_half_stays_flat_beside_normals():
    codes = np.full((8, 8, 3), 128, np.uint8)
    codes[:, 4:] = (200, 128, 230)
    wanted = np.uint8([(128, 128, 128), (200, 128, 230)])
    level = list(mip_chain(codes, "normal"))[1][1].reshape(4, 4, 3)
    assert np.array_equal(level[:, :2], np.broadcast_to(wanted[0], (4, 2, 3)))
    assert np.abs(level[:, 2:].astype(int) - wanted[1]).max() <= 2
