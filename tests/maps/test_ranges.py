"""ranges.py, and light above 1 from a file to the codes of a Material and its mips."""

from __future__ import annotations

import math

import cv2
import numpy as np
import OpenEXR
import pytest
import torch

from dataset import Material, load_material
from maps.ranges import LIGHT, choose_log_scale, from_units, has_units, to_units
from tests.support.map_images import reference_shrink, write, write_exr

HIGH = 50.0


def glow(height=16, width=24, high=HIGH, seed=0):
    """Light over four decades, dark in places, with the maximum `high`."""
    light = np.exp(np.random.default_rng(seed).normal(0, 1.5, (height, width, 3))).astype(np.float32)
    light[:, :2] = 0
    return light * np.float32(high / light.max())


def decoded(material, name, lod=0):
    """The material's codes as light, by the definition in MapRecord, one value at a time."""
    entry = material.record.map(name)
    high, s = entry.value_range[1], entry.log_scale
    return np.vectorize(lambda code: s * (2 ** (code / 65535 * math.log2(1 + high / s)) - 1))(
        material.stored(lod, name)
    )


@pytest.mark.parametrize("kind", [np.float32, np.float64, "torch"])
@pytest.mark.parametrize(
    "span, scale", [((0.0, 50.0), 0.25), ((0.0, 1e30), 2.0), ((-3.0, 5.0), None), ((7.0, 7.0), None)]
)
def test_units_are_as_the_record_defines_them(kind, span, scale):
    t = np.array([-1, 0, 1e-4, 0.1, 0.5, 0.9, 1, 3])
    values = torch.from_numpy(t).float() if kind == "torch" else t.astype(kind)
    clipped = t.clip(0, 1)
    want = span[0] + clipped * (span[1] - span[0])
    if scale:
        want = scale * (2 ** (clipped * math.log2(1 + span[1] / scale)) - 1)
    units = to_units(values, span, scale)
    assert type(units) is type(values) and units.dtype == values.dtype
    np.testing.assert_allclose(units, want, rtol=1e-4)
    assert float(units.max()) <= span[1] * (1 + 1e-6)
    back = from_units(units, span, scale)
    np.testing.assert_allclose(back, clipped if span[0] < span[1] else 0 * clipped, atol=2e-6)


def test_the_scale_follows_the_light():
    light = glow()
    scale = choose_log_scale(light, HIGH)
    assert math.log2(scale).is_integer()
    assert choose_log_scale(4 * light, 4 * HIGH) == 4 * scale  # in any unit the same codes
    lit = light[light > HIGH / 1000].astype(np.float64)
    typical = {s: np.exp(np.log((1 + s / lit) * np.log1p(HIGH / s)).mean()) for s in (scale / 2, scale, 2 * scale)}
    assert min(typical, key=typical.get) == scale


@pytest.mark.parametrize("high", [1.05, 3.0, 50.0, 1000.0])
def test_black_stays_dark_beside_bright_light(high):
    """Without its limit the scale of nothing but bright light would be about as large as the light."""
    scale = choose_log_scale(np.linspace(high / 2, high, 50, dtype=np.float32), high)
    near_black = to_units(np.array([1e-3]), (0, high), scale)[0]
    assert near_black <= 1.01e-3 * max(1, high / 50)
    assert near_black >= 0.4e-3 * max(1, high / 50)  # no smaller than need be


def test_which_maps_have_units():
    assert has_units("emissive", (0, 50)) and has_units("displacement", (-1, 1)) and has_units("diffuse", (0.0, 3.0))
    assert not has_units("displacement", (0, 1)) and not has_units("normal", (-1.0, 1.0))


@pytest.mark.parametrize("word, name", [("albedo", "diffuse"), ("emissive", "emissive")])
def test_light_above_1_is_kept(tmp_path, word, name):
    light = glow()
    write_exr(tmp_path / f"a_{word}.exr", light)
    write(tmp_path / "a_rough.png", np.full((16, 24, 1), 7, np.uint8))
    material = load_material(tmp_path)
    entry = material.record.map(name)
    assert entry.value_range == (0.0, pytest.approx(HIGH, rel=1e-6)) and entry.log_scale > 0
    assert (entry.color_space, entry.bit_depth) == ("linear", 16)
    np.testing.assert_allclose(decoded(material, name), light, rtol=5e-4, atol=1e-4)
    (note,) = material.warnings
    assert f"a_{word}.exr" in note and "50" in note and "log2" in note


@pytest.mark.parametrize("word, name", [("albedo", "diffuse"), ("emissive", "emissive")])
def test_a_radiance_file_is_light_too(tmp_path, word, name):
    light = glow()
    (tmp_path / f"a_{word}.hdr").write_bytes(cv2.imencode(".hdr", light[..., ::-1])[1].tobytes())
    write(tmp_path / "a_rough.png", np.full((16, 24, 1), 7, np.uint8))
    material = load_material(tmp_path)
    assert material.value_range[name][1] == pytest.approx(HIGH, rel=0.01)
    peak = light.max(axis=2, keepdims=True)  # a Radiance pixel has one exponent, and 8 bits for each colour
    assert (np.abs(decoded(material, name) - light) <= 0.01 * peak + 1e-4).all()


def test_light_up_to_1_stays_as_it_was(tmp_path):
    light = glow(high=1.0)
    write_exr(tmp_path / "a_albedo.exr", light)
    material = load_material(tmp_path)
    entry = material.record.map("diffuse")
    assert entry.value_range == (0.0, 1.0) and entry.log_scale is None and material.warnings == []
    assert (material.stored(0, "diffuse") == np.floor(light * np.float32(65535) + 0.5)).all()


def test_broken_light_is_clipped_and_counted(tmp_path):
    light = glow()
    light[5, 5, 0], light[6, 6], light[7, 7, 2], light[8, 8, 1] = np.nan, np.inf, -np.inf, -3
    write_exr(tmp_path / "a_albedo.exr", light)
    material = load_material(tmp_path)
    found = decoded(material, "diffuse")
    high = light[np.isfinite(light)].max()
    assert found[5, 5, 0] == 0 and found[7, 7, 2] == 0 and found[8, 8, 1] == 0
    np.testing.assert_allclose(found[6, 6], high, rtol=1e-5)
    text = " ".join(material.warnings)
    assert "3 texels of diffuse were NaN or infinite" in text and "1 texels of diffuse lay outside" in text


@pytest.mark.parametrize("colour", [(50, 50, 50), (50, 2, 0.5)])
def test_a_constant_light(tmp_path, colour):
    write_exr(tmp_path / "a_albedo.exr", np.full((6, 5, 3), colour, np.float32))
    material = load_material(tmp_path)
    assert list(material.constants) == [0, 1, 2]
    for lod in range(material.num_lods):
        np.testing.assert_allclose(decoded(material, "diffuse", lod) / colour, 1, rtol=2e-4)


def test_other_maps_stay_within_0_and_1(tmp_path):
    write_exr(tmp_path / "a_rough.exr", glow()[..., :1])
    material = load_material(tmp_path)
    assert material.value_range == {"roughness": (0.0, 1.0)} and material.log_scale == {}
    assert "were clipped" in material.warnings[0]


def test_deeper_light_needs_its_range():
    with pytest.raises(ValueError, match="value_range"):
        Material.from_arrays("m", {"emissive": np.zeros((2, 2, 3), np.uint16)}, log_scale={"emissive": 1.0})


@pytest.mark.parametrize("height, width", [(16, 24), (7, 5), (1, 9)])
def test_mips_average_light(height, width):
    light = glow(height, width)
    light[-1, -1] = HIGH
    span, scale = (0.0, HIGH), 0.25
    codes = np.floor(from_units(light.astype(np.float64), span, scale) * 65535 + 0.5).astype(np.uint16)
    material = Material.from_arrays("m", {"emissive": codes, "occlusion": codes[..., 0]},
                                    value_range={"emissive": span}, log_scale={"emissive": scale})  # fmt: skip
    assert "emissive" in LIGHT and material.record.map("emissive").log_scale == scale
    want = decoded(material, "emissive")
    for lod, (w, h) in enumerate(material.lod_sizes[1:], 1):
        want = reference_shrink(want, h, w)
        np.testing.assert_allclose(decoded(material, "emissive", lod), want, rtol=1e-3, atol=1e-4)
    plain = Material.from_arrays("m", {"occlusion": codes[..., 0]})
    for lod in range(plain.num_lods):  # a map beside it is averaged as before
        assert (plain.stored(lod, "occlusion") == material.stored(lod, "occlusion")).all()


def test_light_is_resized_as_light(tmp_path):
    light = np.zeros((8, 8, 3), np.float32)
    light[2:4, 2:4] = HIGH  # two texels wide: half of the size leaves about one
    write_exr(tmp_path / "a_albedo.exr", light)
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"Y": np.full((4, 4), 0.5, np.float32)}).write(
        str(tmp_path / "a_rough.exr")
    )
    material = load_material(tmp_path, size="4x4")
    assert decoded(material, "diffuse").mean() == pytest.approx(light.mean(), rel=0.05)
