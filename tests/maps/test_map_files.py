"""maps/names.py: names -> maps, and the folders that hold them."""

from __future__ import annotations

import pytest

from dataset import load_material
from maps.channels import CHANNELS, MAPS, map_slice
from maps.folder import find_maps
from maps.keywords import get_texture_config
from maps.names import recognise
from tests.support.map_images import (
    ARM,
    failure,
    folder,  # noqa: F401  # fixture
)

# ruff: noqa: F811  # fixtures are imported

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
    "xyz_2K_Gloss.jpg": "1 - roughness",
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
    "mat_metallicRoughness.png": ARM,
    "mat_Metallic_Roughness.png": ARM,
    "T_Wall_ORM.tga": ARM,
    "wall-rma.png": ("roughness", "metallic", "occlusion"),
    # words inside other words, and materials that are called like maps
    "TextureGroupA_Albedo.png": "diffuse",
    "Chaos_Metallic.png": "metallic",
    "Chaos_Metal.png": "metallic",
    "Chaos.png": None,
    "Rough_Wood_Albedo.png": "diffuse",
    "wood_color_ao.png": ("diffuse", "occlusion in alpha"),
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


def test_table_is_as_long_as_promised():
    assert len(FILE_NAMES) >= 60


def maps_of(file_name):
    """A map name, the maps of R, G and B, or None."""
    parts = recognise(file_name).parts
    said = [("1 - " if part.inverted else "") + part.map + " in alpha" * (part.channels == "A") for part in parts]
    return None if not said else said[0] if len(said) == 1 else tuple(said)


@pytest.mark.parametrize("file_name", FILE_NAMES)
def test_recognise(file_name):
    assert maps_of(file_name) == FILE_NAMES[file_name]


def test_canonical_order():
    assert CHANNELS == 11
    assert [(map_slice(name).start, map_slice(name).stop) for name in MAPS] == [
        *((0, 3), (3, 6), (6, 7), (7, 8), (8, 9), (9, 10), (10, 11))
    ]
    config = get_texture_config()
    assert list(config) == ["diffuse", "normal", "roughness", "occlusion", "metallic", "specular", "displacement"]
    for name, (channels, keywords) in config.items():
        assert channels == MAPS[name]
        assert all(maps_of(f"thing_{keyword}.png") == name for keyword in keywords)


def test_find_maps(folder):
    for name in ("b_rough_1k.jpg", "b_diff_1k.jpg", "b_preview.jpg", "b_nor_gl_1k.exr", ".b_ao.png", "._b_ao.png"):
        (folder / name).write_bytes(b"content does not matter here")
    for name in ("b.blend", "b_ao.txt", "b_ao.usdc", "b_ao"):
        (folder / name).write_bytes(b"")
    (folder / "old_ao.png").mkdir()
    (folder / "textures").mkdir()
    (folder / "textures" / "b_ao.png").write_bytes(b"")
    sources, convention, notes, _ = find_maps(folder)
    assert {name: source.path for name, source in sources.items()} == {
        "diffuse": folder / "b_diff_1k.jpg",
        "normal": folder / "b_nor_gl_1k.exr",
        "roughness": folder / "b_rough_1k.jpg",
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
    sources, convention, notes, _ = find_maps(folder)
    assert list(sources) == ["normal"] and sources["normal"].path == folder / gl and convention == "gl"
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
    sources, _, notes, _ = find_maps(folder)
    assert sources["occlusion"].label == "a_arm_1k.png:R"
    assert sources["roughness"].label == "a_rough_1k.png"
    assert sources["metallic"].label == "a_arm_1k.png:B"
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
    for name in ("a_albedo.png", "a_normal.ktx2", "photo.heic"):
        (folder / name).write_bytes(b"")
    notes = find_maps(folder)[2]
    assert len(notes) == 1 and "a_normal.ktx2" in notes[0] and "convert" in notes[0]
