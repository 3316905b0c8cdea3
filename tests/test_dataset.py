"""dataset.py: names -> maps, files -> values, mips against a slow reference, and what a Material answers."""

from __future__ import annotations

import io
import math
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image as PillowImage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset import Material, load_material
from errors import UserError
from map_files import CHANNELS, MAPS, find_maps, get_texture_config, map_slice, recognise
from mips import linear_to_srgb, mip_sizes, srgb_to_linear

ARM = ("occlusion", "roughness", "metallic")

FILE_NAMES = {
    # ambientCG
    "Bricks001_1K-JPG_Color.jpg": "diffuse",
    "Bricks001_1K-JPG_AmbientOcclusion.jpg": "occlusion",
    "Bricks001_1K-JPG_Displacement.jpg": "displacement",
    "Bricks001_1K-JPG_NormalGL.jpg": "normal",
    "Bricks001_1K-JPG_NormalDX.jpg": "normal",
    "Bricks001_1K-JPG_Roughness.jpg": "roughness",
    "Bricks001_1K-JPG_Metalness.jpg": "metallic",
    "Metal055A_4K-PNG_Color.png": "diffuse",
    "Bricks001_1K-JPG_Emission.jpg": None,
    "Bricks001_1K-JPG_Opacity.jpg": None,
    "Bricks001.png": None,
    "ambientCG_Bricks001_Color.jpg": "diffuse",
    # the sample materials of this project
    "Facade005_albedo.jpg": "diffuse",
    "Facade005_metallic.jpg": "metallic",
    "Facade005_displacement.jpg": "displacement",
    "Metal055A_albedo.jpg": "diffuse",
    "Metal055A_roughness.jpg": "roughness",
    "Metal055A_normal.jpg": "normal",
    "Metal055A_metallic.jpg": "metallic",
    "Rock058_ao.jpg": "occlusion",
    # Poly Haven
    "brick_wall_001_diff_1k.jpg": "diffuse",
    "brick_wall_001_diffuse_4k.png": "diffuse",
    "brick_wall_001_nor_gl_1k.exr": "normal",
    "brick_wall_001_nor_dx_1k.exr": "normal",
    "brick_wall_001_rough_1k.exr": "roughness",
    "brick_wall_001_ao_1k.jpg": "occlusion",
    "brick_wall_001_arm_1k.jpg": ARM,
    "brick_wall_001_disp_1k.png": "displacement",
    "brick_wall_001_spec_1k.jpg": "specular",
    "brick_wall_001_col_1_1k.jpg": "diffuse",
    "brick_wall_001_col_03_1k.jpg": "diffuse",
    "brick_wall_001_bump_1k.jpg": None,
    "brick_wall_001_mask_1k.png": None,
    "metal_plate_metal_1k.jpg": "metallic",
    "metal_plate_rough_1k.jpg": "roughness",
    "metal_plate_diff_1k.jpg": "diffuse",
    "metal_plate_bump_1k.jpg": None,
    "rough_plaster_brick_02_diff_1k.jpg": "diffuse",
    "rough_plaster_brick_02_nor_gl_1k.jpg": "normal",
    "rough_plaster_brick_02_bump_1k.jpg": None,
    "rough_plaster_brick_02_rough_1k.jpg": "roughness",
    "leather_arm_chair_ao_2k.png": "occlusion",
    # Quixel
    "xyz_2K_Albedo.jpg": "diffuse",
    "xyz_2K_AO.jpg": "occlusion",
    "xyz_2K_Displacement.exr": "displacement",
    "xyz_2K_Normal.jpg": "normal",
    "xyz_2K_Roughness.jpg": "roughness",
    "xyz_2K_Specular.jpg": "specular",
    "xyz_2K_Metalness.jpg": "metallic",
    "xyz_2K_Cavity.jpg": None,
    "xyz_2K_Gloss.jpg": None,
    "xyz_2K_Fuzz.jpg": None,
    "xyz_2K_Bump.jpg": None,
    # Substance, glTF
    "mat_Base_Color.png": "diffuse",
    "mat_BaseColor.png": "diffuse",
    "mat_basecolor.png": "diffuse",
    "mat_BaseColor.1001.png": "diffuse",
    "mat_Normal_OpenGL.png": "normal",
    "mat_Normal_DirectX.png": "normal",
    "mat_Ambient_Occlusion.png": "occlusion",
    "mat_Mixed_AO.png": "occlusion",
    "mat_Height.png": "displacement",
    "mat_Metallic.png": "metallic",
    "mat_specularlevel.png": "specular",
    "mat_specular_color.png": "specular",
    "mat_emissive_color.png": None,
    "mat_OcclusionRoughnessMetallic.png": ARM,
    "mat_metallicRoughness.png": (None, "roughness", "metallic"),
    "mat_Metallic_Roughness.png": "roughness",
    "T_Wall_ORM.tga": ARM,
    "wall-rma.png": ("roughness", "metallic", "occlusion"),
    # words inside other words, and materials that are called like maps
    "TextureGroupA_Albedo.png": "diffuse",
    "Chaos_Metallic.png": "metallic",
    "Chaos_Metal.png": "metallic",
    "Chaos.png": None,
    "Rough_Wood_Albedo.png": "diffuse",
    "wood_color_ao.png": "occlusion",
    "Wood_Rough_Color_4k.png": "diffuse",
    "Colorado_Normal.png": "normal",
    "Colony_Cavity.png": None,
    "Disposable_Roughness.png": "roughness",
    "Normandy_Color.png": "diffuse",
    "Special_Height.png": "displacement",
    "Farm_Normal.png": "normal",
    "Format_Color.png": "diffuse",
    "Protocol.png": None,
    "Columns_rgb.png": None,
    "Metallica_Albedo.png": "diffuse",
    "Roughness_Painted_Metal.png": "roughness",
    "Curaçao_Bump.png": None,
    "Wood_Color_Curaçao.png": "diffuse",
    "Wood_Color_Curac\u0327ao.png": "diffuse",  # the same name as macOS stores it
    # spelling: cases, separators, camelCase, nothing around the word, keywords inside words as a last resort
    "BRICK_ALBEDO.PNG": "diffuse",
    "brick.normal.png": "normal",
    "brick-roughness (2).png": "roughness",
    "brickAlbedo.png": "diffuse",
    "BrickAOMap.png": "occlusion",
    "brickalbedo.png": "diffuse",
    "brickao.png": "occlusion",
    "brickroughness01.png": "roughness",
    "rough_normalgl.png": "normal",
    "albedo.png": "diffuse",
    "AO.png": "occlusion",
    "occlusion": "occlusion",
    "Metal/wood_albedo.png": "diffuse",
    "Albedo_Rocks/stone.png": None,
}


def randoms(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def write(path, pixels):
    """An 8-bit image, or a 16-bit PNG."""
    if pixels.dtype == np.uint16:
        Path(path).write_bytes(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())
    else:
        PillowImage.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(path)


def write_exr(path, pixels):
    planes = np.moveaxis(pixels.astype(np.float32), 2, 0).copy()
    OpenEXR.File({"type": OpenEXR.scanlineimage}, dict(zip("RGB" if len(planes) == 3 else "Y", planes))).write(
        str(path)
    )


def failure(call, *arguments):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message and "expected" in message and "found" in message and ";" in message
    return message


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "Wood"
    path.mkdir()
    return path


# ---- names ----


def test_table_is_as_long_as_promised():
    assert len(FILE_NAMES) >= 60


@pytest.mark.parametrize("file_name", FILE_NAMES)
def test_recognise(file_name):
    assert recognise(file_name) == FILE_NAMES[file_name]


def test_canonical_order():
    assert CHANNELS == 11
    assert [(map_slice(name).start, map_slice(name).stop) for name in MAPS] == [
        *((0, 3), (3, 6), (6, 7), (7, 8), (8, 9), (9, 10), (10, 11))
    ]
    config = get_texture_config()
    assert list(config) == ["diffuse", "normal", "roughness", "occlusion", "metallic", "specular", "displacement"]
    for name, (channels, keywords) in config.items():
        assert channels == MAPS[name]
        assert all(recognise(f"thing_{keyword}.png") == name for keyword in keywords)


def test_find_maps(folder):
    for name in ("b_rough_1k.jpg", "b_diff_1k.jpg", "b_preview.jpg", "b_nor_gl_1k.exr", ".b_ao.png", "._b_ao.png"):
        (folder / name).write_bytes(b"content does not matter here")
    for name in ("b.blend", "b_ao.txt", "b_ao.usdc", "b_ao"):
        (folder / name).write_bytes(b"")
    (folder / "old_ao.png").mkdir()
    (folder / "textures").mkdir()
    (folder / "textures" / "b_ao.png").write_bytes(b"")
    sources, convention, notes = find_maps(folder)
    assert sources == {
        "diffuse": (folder / "b_diff_1k.jpg", None),
        "normal": (folder / "b_nor_gl_1k.exr", None),
        "roughness": (folder / "b_rough_1k.jpg", None),
    }
    assert list(sources) == ["diffuse", "normal", "roughness"]
    assert convention == "gl"
    assert len(notes) == 1 and "b_preview.jpg" in notes[0]


@pytest.mark.parametrize(
    "name, convention",
    [
        *(("a_NormalGL.png", "gl"), ("a_NormalDX.png", "dx"), ("a_nor_gl_1k.png", "gl"), ("a_nor_dx_1k.png", "dx")),
        *(("a_Normal_OpenGL.png", "gl"), ("a_Normal_DirectX.png", "dx"), ("a_normalgl.png", "gl")),
        *(("a_normal_ogl.png", "gl"), ("a_normal.png", "unknown"), ("angled_normal.png", "unknown")),
    ],
)
def test_normal_convention(folder, name, convention):
    (folder / name).write_bytes(b"")
    assert find_maps(folder)[1] == convention


@pytest.mark.parametrize("gl, dx", [("a_NormalGL.jpg", "a_NormalDX.jpg"), ("a_nor_gl_1k.exr", "a_nor_dx_1k.exr")])
def test_opengl_normal_is_taken(folder, gl, dx):
    for name in (gl, dx):
        (folder / name).write_bytes(b"")
    sources, convention, notes = find_maps(folder)
    assert sources == {"normal": (folder / gl, None)} and convention == "gl"
    assert len(notes) == 1 and gl in notes[0] and dx in notes[0]


@pytest.mark.parametrize("pair", [("a_NormalGL.jpg", "a_Normal.jpg"), ("a_NormalGL.jpg", "a_NormalGL.png")])
def test_other_pairs_of_normals_are_an_error(folder, pair):
    for name in pair:
        (folder / name).write_bytes(b"")
    message = failure(find_maps, folder)
    assert "normal" in message and all(name in message for name in pair)


def test_two_files_for_one_map(folder):
    for name in ("a_albedo.png", "a_Color.jpg", "a_rough.png"):
        (folder / name).write_bytes(b"")
    message = failure(find_maps, folder)
    assert "diffuse" in message and "a_albedo.png" in message and "a_Color.jpg" in message
    assert "a_rough.png" not in message


def test_packed_and_own_files(folder):
    for name in ("a_arm_1k.png", "a_rough_1k.png", "a_diff_1k.png"):
        (folder / name).write_bytes(b"")
    sources, _, notes = find_maps(folder)
    assert sources["occlusion"] == (folder / "a_arm_1k.png", 0)
    assert sources["roughness"] == (folder / "a_rough_1k.png", None)
    assert sources["metallic"] == (folder / "a_arm_1k.png", 2)
    assert len(notes) == 1 and "roughness" in notes[0] and "a_arm_1k.png" in notes[0]
    (folder / "a_orm.png").write_bytes(b"")
    message = failure(find_maps, folder)
    assert "occlusion" in message and "a_arm_1k.png" in message and "a_orm.png" in message


def test_folder_errors(folder, tmp_path):
    assert "empty" in failure(load_material, folder)
    assert "No such file" in failure(load_material, tmp_path / "nowhere")
    (folder / "readme.txt").write_text("hello")
    assert "Not a directory" in failure(load_material, folder / "readme.txt")
    (folder / "thing\n'1'.png").write_bytes(b"")
    message = failure(load_material, folder)
    assert "readme.txt" in message and "thing\\n'1'.png" in message


def test_image_formats_that_are_not_read_are_named(folder):
    for name in ("a_albedo.png", "a_normal.dds", "photo.gif"):
        (folder / name).write_bytes(b"")
    notes = find_maps(folder)[2]
    assert len(notes) == 1 and "a_normal.dds" in notes[0]


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


def reference_shrink(values, height, width):
    """Area average by brute force: cut every texel into equal pieces, then average whole blocks of pieces."""
    for axis, size in ((0, height), (1, width)):
        pieces = np.repeat(values, math.lcm(values.shape[axis], size) // values.shape[axis], axis=axis)
        blocks = np.split(pieces, size, axis=axis)
        values = np.stack([block.mean(axis=axis) for block in blocks], axis=axis)
    return values


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
        {"gloss": np.zeros((4, 4, 1), np.uint8)},
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
    (folder / "b_rma.png").rename(folder / "b_metallicRoughness.png")
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
    pixels[0, 0] = 7
    pixels[1, 2, 1] = -1
    write_exr(folder / "a_albedo.exr", pixels)
    write_exr(folder / "a_rough.exr", pixels[..., :1])
    material = load_material(folder)
    np.testing.assert_allclose(material.texels(0)[..., :3].numpy(), pixels.clip(0, 1), atol=0.501 / 65535)
    first, second = material.warnings
    assert "a_albedo.exr" in first and "2 texels" in first
    assert "a_rough.exr" in second and "1 texels" in second


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
