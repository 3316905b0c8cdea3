"""Forms of files whose values depend on what the file is for: premultiplied data, DDS of several pictures, BC6H."""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np
import OpenEXR
import pytest
from PIL import Image as PillowImage

from common.errors import UserError
from dataset import load_material
from maps.images import read_image
from tests.support.cases import H, P, W, stack, tiff
from tests.support.map_images import folder  # noqa: F401  # fixture

# ruff: noqa: F811  # fixtures are imported


def write_exr(path, pixels):
    planes = {name: np.ascontiguousarray(pixels[..., c]) for c, name in enumerate("RGBA")}
    OpenEXR.File({"type": OpenEXR.scanlineimage}, planes).write(str(path))


ALPHA = 64 + P["specular"] // 2


@pytest.mark.parametrize("kind", ["exr", "tif"])
@pytest.mark.parametrize("by_hand", ["", "occlusion=w_x.{}:r,roughness=w_x.{}:g,metallic=w_x.{}:b"])
def test_data_with_alpha_is_not_divided_by_it(folder, kind, by_hand):
    packed = stack("occlusion", "roughness", "metallic", ALPHA)
    path = folder / f"w_{'x' if by_hand else 'ORM'}.{kind}"
    if kind == "exr":
        write_exr(path, packed.astype(np.float32) / 255)
    else:
        path.write_bytes(tiff(packed.astype(np.uint16) * 257, {338: 1}, photometric=2))
    material = load_material(folder, by_hand=by_hand.replace("{}", kind))
    for name in ("occlusion", "roughness", "metallic"):
        found = material.stored(0, name)[..., 0] / 257
        assert np.abs(found - P[name]).max() <= 0.51, name


def test_normal_and_height_in_an_exr(folder):
    write_exr(folder / "w_NormalHeight.exr", stack("normal", ALPHA).astype(np.float32) / 255)
    material = load_material(folder)
    assert np.abs(material.stored(0, "normal") / 257 - P["normal"]).max() <= 0.51
    low, high = material.value_range["displacement"]
    assert np.abs((material.stored(0, "displacement")[..., 0] / 65535 * (high - low) + low) * 255 - ALPHA).max() < 0.51


def test_a_colour_in_an_exr_is_divided_by_its_alpha(folder):
    colours = P["diffuse"].astype(np.float32) / 255
    alpha = ALPHA[..., None].astype(np.float32) / 255
    write_exr(folder / "w_albedo.exr", np.concatenate([colours * alpha, alpha], axis=2))
    assert np.abs(load_material(folder).stored(0, "diffuse") / 257 - P["diffuse"]).max() <= 0.51


def dds(pixels, caps=0, depth=0, extended=None, payload=None):
    """An uncompressed RGBA DDS file; extended: the five fields of its DX10 header."""
    pixels = np.ascontiguousarray(pixels)
    masks = (0x41, 0, 32, 0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    masks = (4, int.from_bytes(b"DX10", "little"), *[0] * 5) if extended else masks
    head = struct.pack("<7I44xI7I5I", 124, 0x1007, H, W, 0, depth, 1, 32, *masks, 0x1000, caps, 0, 0, 0)
    return b"DDS " + head + (struct.pack("<5I", *extended) if extended else b"") + (payload or pixels.tobytes())


@pytest.mark.parametrize(
    "word, fields",
    [
        ("cubemap", {"caps": 0xFE00}), ("cubemap", {"extended": (28, 3, 4, 1, 0)}),
        ("volume", {"caps": 0x200000, "depth": 4}), ("volume", {"extended": (28, 4, 0, 1, 0), "depth": 4}),
        ("6 pictures", {"extended": (28, 3, 0, 6, 0)}),
    ],
)  # fmt: skip
def test_a_dds_of_several_pictures_is_noted(folder, word, fields):
    first = stack("diffuse", np.full((H, W), 255, np.uint8))
    pictures = np.concatenate([first, *[first[::-1]] * 5])
    (folder / "w_albedo.dds").write_bytes(dds(pictures, **fields))
    material = load_material(folder)
    assert np.array_equal(material.stored(0, "diffuse"), P["diffuse"])
    assert len(material.warnings) == 1 and word in material.warnings[0] and "w_albedo.dds" in material.warnings[0]


def test_a_dds_of_one_picture_is_not_noted(folder):
    first = stack("diffuse", np.full((H, W), 255, np.uint8))
    for fields in ({}, {"extended": (28, 3, 0, 1, 0)}):
        (folder / "w_albedo.dds").write_bytes(dds(first, **fields))
        assert load_material(folder).warnings == []


@pytest.mark.parametrize("code", [95, 96])
@pytest.mark.parametrize("size", [(H, W), (22, 30)])
def test_bc6h_is_float(tmp_path, monkeypatch, code, size):
    blocks = np.random.default_rng(0).integers(0, 256, H * W, np.uint8).tobytes()
    wanted = imagecodecs.bcn_decode(blocks, 6 if code == 95 else -6, shape=(H, W, 3)).astype(np.float32)
    file = bytearray(dds(P["diffuse"], extended=(code, 3, 0, 1, 0), payload=blocks))
    struct.pack_into("<2I", file, 12, *size)
    (tmp_path / "a.dds").write_bytes(file)
    image = read_image(tmp_path / "a.dds")
    assert image.is_float and np.array_equal(image.pixels, wanted[: size[0], : size[1]]) and image.note == ""
    (tmp_path / "b.dds").write_bytes(file[:-20])
    with pytest.raises(UserError, match="decoded"):
        read_image(tmp_path / "b.dds")
    monkeypatch.setitem(__import__("sys").modules, "imagecodecs", None)
    assert "clipped" in read_image(tmp_path / "a.dds").note


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["j2k", "jp2"])
def test_grey_and_alpha_in_jpeg_2000(tmp_path, monkeypatch, depth, kind):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(depth).max + 1, (H, W, 2)).astype(depth)
    path = tmp_path / f"a.{kind}"
    path.write_bytes(imagecodecs.jpeg2k_encode(pixels, reversible=True, level=0, codecformat=kind))
    image = read_image(path)
    assert np.array_equal(image.pixels, pixels[..., :1]) and np.array_equal(image.alpha, pixels[..., 1:])
    monkeypatch.setitem(__import__("sys").modules, "imagecodecs", None)
    if depth is np.uint8:
        assert np.array_equal(read_image(path).alpha, pixels[..., 1:])
    else:
        with pytest.raises(UserError, match="pip install"):
            read_image(path)


def test_a_picture_of_grey_and_alpha_in_jpeg_2000_is_a_map(folder):
    PillowImage.fromarray(stack("roughness", ALPHA)).save(folder / "w_roughness.jp2", irreversible=False)
    material = load_material(folder)
    assert np.array_equal(material.stored(0, "roughness")[..., 0], P["roughness"])
