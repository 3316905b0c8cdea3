"""dataset.load_material: files -> values, packed, grey, resized and float maps, one line for what cannot be read."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from common.errors import UserError
from dataset import load_material
from maps.channels import CHANNELS
from tests.support.map_images import (
    ARM,
    failure,
    folder,  # noqa: F401  # fixture
    randoms,
    reference_shrink,
    write,
    write_exr,
)

# ruff: noqa: F811  # fixtures are imported

# ---- loading ----


def test_load_material(folder):
    diffuse, rough = randoms((5, 7, 3), seed=1), randoms((5, 7), seed=2)
    normal = randoms((5, 7, 3), np.uint16, seed=3)
    write(folder / "wood_albedo.png", diffuse)
    write(folder / "wood_normal_gl.png", normal)
    write(folder / "wood_roughness.tif", rough)
    write(folder / "sphere.png", rough)
    material = load_material(folder)
    assert (material.name, material.width, material.height, material.num_lods) == ("Wood", 7, 5, 3)
    assert material.present == ("diffuse", "normal", "roughness")
    assert material.normal_convention == "gl"
    assert material.bit_depth == {"diffuse": 8, "normal": 16, "roughness": 8}
    assert material.files["normal"] == "wood_normal_gl.png"
    for name, codes in (("diffuse", diffuse), ("normal", normal), ("roughness", rough[..., None])):
        assert np.array_equal(material.stored(0, name), codes)
    assert len(material.warnings) == 1 and "sphere.png" in material.warnings[0]
    used = ("wood_albedo.png", "wood_normal_gl.png", "wood_roughness.tif")
    assert material.source_bytes == sum((folder / name).stat().st_size for name in used)


def test_name_of_the_current_folder(folder, monkeypatch):
    write(folder / "albedo.png", randoms((2, 2, 3)))
    monkeypatch.chdir(folder)
    assert load_material(".").name == "Wood"


def test_broken_file_is_named(folder):
    write(folder / "wood_albedo.png", randoms((5, 7, 3)))
    (folder / "wood_normal.png").write_bytes(b"")
    assert "wood_normal.png" in failure(load_material, folder)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_broken_link_is_not_silently_left_out(folder):
    write(folder / "wood_albedo.png", randoms((5, 7, 3)))
    (folder / "wood_normal.png").symlink_to(folder / "gone.png")
    with pytest.raises(UserError, match=r"wood_normal\.png"):
        load_material(folder)


def test_max_pixels_reaches_the_reader(folder):
    write(folder / "wood_albedo.png", randoms((5, 7, 3)))
    assert "7x5" in failure(lambda: load_material(folder, max_pixels=34))


def test_packed_channels(folder):
    arm, diffuse, rough = randoms((5, 7, 3), seed=1), randoms((5, 7, 3), seed=2), randoms((5, 7), seed=3)
    write(folder / "b_diff.png", diffuse)
    write(folder / "b_arm.png", arm)
    material = load_material(folder)
    assert material.present == ("diffuse", "roughness", "occlusion", "metallic")
    for channel, name in enumerate(ARM):
        assert np.array_equal(material.stored(0, name)[..., 0], arm[..., channel])
        assert material.files[name] == f"b_arm.png:{'RGB'[channel]}"
    assert material.source_bytes == sum((folder / n).stat().st_size for n in ("b_diff.png", "b_arm.png"))
    assert material.warnings == []
    write(folder / "b_rough.png", rough)
    material = load_material(folder)
    assert np.array_equal(material.stored(0, "roughness")[..., 0], rough)
    assert np.array_equal(material.stored(0, "metallic")[..., 0], arm[..., 2])
    assert len(material.warnings) == 1 and "b_rough.png" in material.warnings[0]
    write(folder / "b_arm.png", rough)
    assert "b_arm.png" in failure(load_material, folder)


def test_rma_and_gltf_channels(folder):
    pixels = randoms((2, 3, 3))
    write(folder / "b_rma.png", pixels)
    material = load_material(folder)
    for channel, name in enumerate(("roughness", "metallic", "occlusion")):
        assert np.array_equal(material.stored(0, name)[..., 0], pixels[..., channel])
    (folder / "b_rma.png").unlink()
    pixels[..., 0] = 255  # glTF leaves R free
    write(folder / "b_metallicRoughness.png", pixels)
    material = load_material(folder)
    assert material.present == ("roughness", "metallic")
    assert np.array_equal(material.stored(0, "metallic")[..., 0], pixels[..., 2])


def test_grey_and_rgb_files_of_other_maps(folder):
    grey, colours = randoms((5, 7)), randoms((5, 7, 3), seed=4)
    write(folder / "a_albedo.png", grey)
    write(folder / "a_roughness.png", np.repeat(grey[..., None], 3, axis=2))
    write(folder / "a_specular.png", colours)
    material = load_material(folder)
    assert np.array_equal(material.stored(0, "diffuse"), np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(material.stored(0, "roughness")[..., 0], grey)
    mean = np.floor(colours.sum(axis=2).astype(int) / 3 + 0.5)
    assert np.array_equal(material.stored(0, "specular")[..., 0], mean)
    assert len(material.warnings) == 1 and "a_specular.png" in material.warnings[0]
    write(folder / "a_normal.png", grey)
    assert "a_normal.png" in failure(load_material, folder)


def test_mean_of_white_16_bit_rgb_does_not_overflow(folder):
    write(folder / "a_height.png", np.full((2, 2, 3), 65535, np.uint16))
    assert (load_material(folder).stored(0, "displacement") == 65535).all()


def test_resized_to_the_first_map(folder):
    write(folder / "a_albedo.png", randoms((8, 16, 3)))
    ramp = np.repeat(np.linspace(20, 220, 32)[None], 16, axis=0).round().astype(np.uint8)  # twice as large
    write(folder / "a_roughness.png", ramp)
    flat = np.full((3, 5, 3), (128, 200, 220), np.uint8)  # smaller, other shape, not of unit length
    write(folder / "a_normal.png", flat)
    material = load_material(folder)
    assert (material.width, material.height) == (16, 8)
    pairs = ramp.astype(float).reshape(16, 16, 2).mean(axis=2)[:8]
    assert np.abs(material.stored(0, "roughness")[..., 0] - pairs)[:, 1:-1].max() <= 1
    normal, rough = material.warnings
    assert "a_normal.png" in normal and "5x3" in normal and "16x8" in normal
    assert "a_roughness.png" in rough and "32x16" in rough and "16x8" in rough
    vector = flat[0, 0] / 127.5 - 1
    expected = np.floor((vector / np.linalg.norm(vector) * 0.5 + 0.5) * 255 + 0.5)
    assert (material.stored(0, "normal") == expected).all()


def test_resize_does_not_alias(folder):
    write(folder / "a_albedo.png", randoms((16, 16, 3)))
    stripes = np.tile(np.uint8([0, 255, 255, 0]), (64, 16))  # every fourth gap between texels lies in white
    write(folder / "a_ao.png", stripes)
    got = load_material(folder).stored(0, "occlusion").astype(int)
    assert np.abs(got[:, 1:-1] - 127.5).max() < 1


# ---- float files ----


def test_float_diffuse_is_linear(folder):
    pixels = np.random.default_rng(5).random((4, 6, 3)).astype(np.float32)
    write_exr(folder / "a_albedo.exr", pixels)
    material = load_material(folder, linear_color=True)  # nothing to decode
    assert material.color_space == material.file_color_space == {"diffuse": "linear"}
    assert material.bit_depth == {"diffuse": 16} and material.warnings == []
    np.testing.assert_allclose(material.texels(0)[..., :3].numpy(), pixels, atol=0.501 / 65535)
    np.testing.assert_allclose(
        material.texels(1)[..., :3].numpy(), reference_shrink(pixels.astype(float), 2, 3), atol=1.01 / 65535
    )
    assert material.to_file_space(torch.full((2, CHANNELS), 0.3)).tolist() == torch.full((2, CHANNELS), 0.3).tolist()


def test_float_values_outside_are_clipped_and_counted(folder):
    pixels = np.full((4, 6, 3), 0.5, np.float32)
    pixels[0, 0] = 1.001
    pixels[1, 2, 1] = -1
    write_exr(folder / "a_albedo.exr", pixels)
    write_exr(folder / "a_rough.exr", 7 * pixels[..., :1])
    material = load_material(folder)
    np.testing.assert_allclose(material.texels(0)[..., :3].numpy(), pixels.clip(0, 1), atol=0.501 / 65535)
    first, second = material.warnings
    assert "a_albedo.exr" in first and "2 texels" in first
    assert "a_rough.exr" in second and "24 texels" in second


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("tilt, spread", [(0, 0), (0, 0.4), (0.8, 0.5)])
def test_float_normals(folder, signed, tilt, spread):
    rng = np.random.default_rng(6)
    vectors = np.dstack([rng.normal(tilt, spread, (6, 4, 2)), np.ones((6, 4))])
    assert not spread or vectors.min() < -0.1
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    write_exr(folder / "a_nor_gl.exr", vectors if signed else vectors * 0.5 + 0.5)
    material = load_material(folder)
    np.testing.assert_allclose(material.texels(0)[..., 3:6].numpy(), vectors * 0.5 + 0.5, atol=0.51 / 65535)
    assert material.value_range["normal"] == ((-1.0, 1.0) if signed else (0.0, 1.0))
    assert material.warnings == []


@pytest.mark.parametrize("low, high", [(-0.25, 3.75), (0.2, 0.7), (5.0, 5.0)])
def test_float_displacement_keeps_its_range(folder, low, high):
    heights = np.linspace(low, high, 24).reshape(4, 6, 1).astype(np.float32)
    write_exr(folder / "a_disp.exr", heights)
    material = load_material(folder)
    fits = low >= 0 and high <= 1
    assert material.value_range["displacement"] == ((0.0, 1.0) if fits else (low, high))
    assert len(material.warnings) == (0 if fits else 1)
    start, end = material.value_range["displacement"]
    undone = material.texels(0)[..., 10:].numpy() * (end - start) + start
    np.testing.assert_allclose(undone, heights, atol=0.51 * max(end - start, 1e-9) / 65535 + 1e-6)


def test_nan_in_a_map_is_named(folder):
    write_exr(folder / "a_disp.exr", np.full((2, 2, 1), np.nan))
    assert "a_disp.exr" in failure(load_material, folder)
