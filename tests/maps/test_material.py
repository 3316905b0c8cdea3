"""dataset.Material: the flat chain, what it answers, linear colour, and its size as PNG files."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from dataset import Material
from maps.channels import CHANNELS, MAPS, map_slice
from maps.mips import srgb_to_linear
from tests.support.map_images import randoms

# ---- the flat chain and what a material answers ----


def full_material(width=7, height=5, **options):
    arrays = {
        "diffuse": randoms((height, width, 3), np.uint8, 1),
        "normal": randoms((height, width, 3), np.uint16, 2),
        "roughness": randoms((height, width), np.uint8, 3),
        "metallic": randoms((height, width, 1), np.uint16, 4),
        "displacement": randoms((height, width, 1), np.uint8, 5),
    }
    return Material.from_arrays("m", dict(reversed(arrays.items())), **options), arrays


def test_flat_index_of_a_wide_image():
    width, height = 640, 384
    y, x = np.mgrid[:height, :width]
    codes = np.stack([x, y, x * 7 + y], axis=-1).astype(np.uint16)
    material = Material.from_arrays("m", {"diffuse": codes}, color_space={"diffuse": "linear"})
    assert material.lod_offsets[:3] == [0, 640 * 384, 640 * 384 + 320 * 192]
    assert material.num_texels == sum(w * h for w, h in material.lod_sizes) == material.codes16.shape[0]
    for u, v in [(0.999, 0.25), (0.3, 0.999), (0.0, 0.5)]:
        column, row = int(u * width), int(v * height)  # u is x / width, v is y / height
        value = material.gather(torch.tensor([row * width + column]))[0] * 65535
        assert value.round().tolist() == [column, row, column * 7 + row]
    level = material.gather(torch.tensor([material.lod_offsets[1] + 3 * 320 + 319]))[0] * 65535
    assert level.round().tolist() == [639, 7, 4476]  # means of x 638, 639 and y 6, 7; halves up


@pytest.mark.parametrize("linear_color", [False, True])
def test_gather_equals_texels(linear_color):
    material, arrays = full_material(linear_color=linear_color)
    assert material.present == ("diffuse", "normal", "roughness", "metallic", "displacement")
    assert material.present_channels.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 10]
    assert material.present_channels.dtype == torch.int64
    for lod, (width, height) in enumerate(material.lod_sizes):
        order = torch.randperm(width * height, generator=torch.Generator().manual_seed(lod))
        got = material.gather(order + material.lod_offsets[lod])
        assert got.dtype == torch.float32 and got.shape == (width * height, 9)
        values = torch.zeros(width * height, CHANNELS)
        values[:, material.present_channels] = got
        values = material.to_file_space(values)
        texels = material.texels(lod)
        assert texels.shape == (height, width, CHANNELS) and texels.dtype == torch.float32
        expected = texels.reshape(-1, CHANNELS)[order]
        assert torch.equal(values[:, 3:], expected[:, 3:])
        if linear_color:  # texels rounds the encoded diffuse to the 8 bits of the file
            assert (values[:, :3] - expected[:, :3]).abs().max() <= 0.5 / 255 + 1e-5
        else:
            assert torch.equal(values, expected)
    for name, codes in arrays.items():
        top = np.float32(np.iinfo(codes.dtype).max)
        got = material.texels(0)[..., map_slice(name)].numpy()
        assert np.array_equal(got, codes.reshape(5, 7, -1).astype(np.float32) / top)
    assert not material.texels(0)[..., map_slice("occlusion")].any()


def test_extremes_are_exactly_0_and_1():
    for dtype in (np.uint8, np.uint16):
        codes = np.array([[0, np.iinfo(dtype).max]], dtype)
        values = Material.from_arrays("m", {"roughness": codes}).gather(torch.tensor([0, 1]))
        assert values.tolist() == [[0.0], [1.0]]


def test_gather_order_does_not_depend_on_the_bit_depths():
    for deep in (("diffuse",), ("roughness",), ("normal", "displacement"), tuple(MAPS)):
        arrays = {}
        for name, channels in MAPS.items():
            start = map_slice(name).start
            dtype = np.uint16 if name in deep else np.uint8
            unit = 257 if name in deep else 1
            arrays[name] = (np.arange(start, start + channels) * 20 * unit).astype(dtype).reshape(1, 1, channels)
        material = Material.from_arrays("m", arrays)
        got = material.gather(torch.tensor([0]))[0] * 255
        assert got.round().tolist() == [20 * channel for channel in range(CHANNELS)]


@pytest.mark.parametrize("lod", [0, 1])
def test_rows_limit_stored_and_texels(lod):
    material, _ = full_material(width=9, height=12)
    for rows in (slice(2, 5), slice(4, 99), slice(None, 1), slice(3, 3)):
        assert torch.equal(material.texels(lod, rows), material.texels(lod)[rows])
        for name in material.present:
            assert np.array_equal(material.stored(lod, name, rows), material.stored(lod, name)[rows])


def test_stored_keeps_type_and_facts():
    material, arrays = full_material()
    for name, codes in arrays.items():
        assert np.array_equal(material.stored(0, name), codes.reshape(5, 7, -1))
        assert material.stored(0, name).dtype == codes.dtype
    assert material.bit_depth == {"diffuse": 8, "normal": 16, "roughness": 8, "metallic": 16, "displacement": 8}
    assert material.file_bit_depth == material.bit_depth
    assert material.color_space["diffuse"] == "srgb" and material.color_space["roughness"] == "linear"
    assert set(material.value_range.values()) == {(0.0, 1.0)}
    texels = 5 * 7 + 3 * 2 + 1
    assert material.nbytes == texels * (3 + 1 + 1) + 2 * texels * (3 + 1)
    moved = material.to("cpu")
    assert moved is not material and torch.equal(moved.gather(torch.arange(4)), material.gather(torch.arange(4)))


def test_a_chain_costs_four_thirds():
    material = Material.from_arrays("m", {"diffuse": np.zeros((256, 256, 3), np.uint8)})
    assert material.nbytes <= 256 * 256 * 3 * 4 / 3


@pytest.mark.parametrize(
    "arrays",
    [
        {"diffuse": np.zeros((4, 4, 1), np.uint8)},
        {"roughness": np.zeros((4, 4, 3), np.uint8)},
        {"sheen": np.zeros((4, 4, 3), np.uint8)},
        {"sheen": np.zeros((4, 4, 1), np.uint8), "thickness": np.zeros((4, 4, 1), np.uint8)},
        {"roughness": np.zeros((4, 4), np.float32)},
        {"roughness": np.zeros((0, 4), np.uint8)},
        {"roughness": np.zeros((4, 4), np.uint8), "metallic": np.zeros((4, 5), np.uint8)},
        {},
    ],
)
def test_from_arrays_rejects(arrays):
    with pytest.raises(ValueError, match="expected"):
        Material.from_arrays("m", arrays)


# ---- linear colour ----


@pytest.mark.parametrize("size", [(256, 1), (5, 7), (32, 16)], ids=str)
def test_linear_color(size):
    width, height = size
    codes = randoms((height, width, 3))
    codes[0, :, 0] = np.arange(width)  # for 256 texels: every code there is
    plain = Material.from_arrays("m", {"diffuse": codes})
    linear = Material.from_arrays("m", {"diffuse": codes}, linear_color=True)
    assert plain.color_space == plain.file_color_space == linear.file_color_space == {"diffuse": "srgb"}
    assert linear.color_space == {"diffuse": "linear"}
    assert linear.bit_depth == {"diffuse": 16} and linear.file_bit_depth == {"diffuse": 8}
    assert torch.equal(linear.texels(0), plain.texels(0))  # 16 bits of linear light carry 8 bits of sRGB
    values = linear.gather(torch.arange(width * height))
    expected = srgb_to_linear(codes.reshape(-1, 3).astype(np.float64) / 255)
    np.testing.assert_allclose(values.numpy(), expected, atol=0.51 / 65535)
    for lod in range(1, linear.num_lods):
        assert (linear.texels(lod) - plain.texels(lod)).abs().max() <= 1.001 / 255
    full = torch.zeros(width * height, CHANNELS)
    full[:, :3], full[:, 3:] = values, 0.25
    back = linear.to_file_space(full)
    np.testing.assert_allclose(back[:, :3].numpy(), codes.reshape(-1, 3) / 255, atol=13 * 0.51 / 65535)
    assert torch.equal(back[:, 3:], full[:, 3:])
    assert torch.equal(plain.to_file_space(full), full)


# ---- sizes ----


def test_png_bytes_of_a_large_material_is_scaled_up_from_bands(monkeypatch):
    random = np.random.default_rng(0)
    y, x = np.mgrid[:150, :400]
    waves = 128 + 60 * np.sin(x / 9 + y / 7) + random.normal(0, 4, (150, 400))
    arrays = {"roughness": waves.astype(np.uint8), "normal": np.stack([waves] * 3, axis=2).astype(np.uint16) * 257}
    whole = Material.from_arrays("whole", arrays).png_bytes()
    monkeypatch.setattr("dataset.PNG_SAMPLE_TEXELS", 150 * 400)
    assert Material.from_arrays("limit", arrays).png_bytes() == whole
    monkeypatch.setattr("dataset.PNG_SAMPLE_TEXELS", 150 * 400 - 1)
    torch.set_num_threads(2)
    sampled = Material.from_arrays("sampled", arrays).png_bytes()  # the last band has 6 rows
    assert sampled != whole and sampled == pytest.approx(whole, rel=0.05)


def test_png_bytes_counts_real_files():
    material, arrays = full_material(width=30, height=20)
    total = 0
    for codes in arrays.values():
        if codes.ndim == 3 and codes.shape[2] == 3 and codes.dtype == np.uint16:
            total += len(cv2.imencode(".png", codes)[1])
        else:
            stream = io.BytesIO()
            PillowImage.fromarray(codes.reshape(20, 30, -1).squeeze()).save(stream, "PNG")
            total += stream.tell()
    assert abs(material.png_bytes() - total) <= 8  # OpenCV here sees R and B swapped
    decoded, _ = full_material(width=30, height=20, linear_color=True)
    assert decoded.png_bytes() == material.png_bytes()  # of the file's values, not of the decoded ones
