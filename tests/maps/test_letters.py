"""Names that end with letters: initials of packings, single letters that may mean several things, cut channels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PillowImage

from dataset import load_material
from tests.support.cases import FULL, NONE, P, check, stack, write
from tests.support.map_images import folder  # noqa: F401  # fixture

# ruff: noqa: F811  # fixtures are imported

SMOOTH = 255 - P["roughness"]


def test_a_letter_before_the_last_word(folder):
    """R_AO is packed where its channels differ, else the last word counts; a note says so."""
    packed = write(folder, wall_D="diffuse", wall_R_AO=stack("roughness", "occlusion", NONE))
    check(packed, "diffuse", "roughness", "occlusion")
    assert len(packed.warnings) == 1 and "wall_R_AO.png" in packed.warnings[0] and "--maps" in packed.warnings[0]
    grey = write(folder, wall_R_AO="occlusion")
    check(grey, "diffuse", "occlusion")
    assert len(grey.warnings) == 1 and "--maps" in grey.warnings[0]


@pytest.mark.parametrize("name, map_name", [("Door_BaseColor_R", "diffuse"), ("Door_BC_M", "diffuse")])
def test_a_letter_behind_a_colour(folder, name, map_name):
    material = write(folder, Door_Normal="normal", **{name: map_name})
    check(material, "normal", map_name)
    assert len(material.warnings) == 1 and "--maps" in material.warnings[0]
    material = write(folder, Door_Normal="normal", **{name: stack("diffuse", "specular")})
    other = {"R": "roughness", "M": "metallic"}[name[-1]]
    assert set(material.present) == {"normal", "diffuse", other} and "--maps" in material.warnings[0]
    assert np.array_equal(material.stored(0, other)[..., 0], P["specular"])


def test_two_sides_are_two_files_for_one_map(folder):
    from common.errors import UserError

    with pytest.raises(UserError, match="one file for diffuse, found"):
        write(folder, Door_BaseColor_R="diffuse", Door_BaseColor_L="diffuse")


def test_a_letter_behind_a_scalar(folder):
    material = write(folder, Door_Normal="normal", Door_AO_R="occlusion")
    check(material, "normal", "occlusion")
    assert len(material.warnings) == 1 and "--maps" in material.warnings[0]
    check(write(folder, Door_AO_R=stack("occlusion", "roughness", NONE)), "normal", "occlusion", "roughness")


INITIALS = {
    "MAS": ("metallic", "occlusion", SMOOTH),
    "MOS": ("metallic", "occlusion", NONE, SMOOTH),
    "MODS": ("metallic", "occlusion", "diffuse", SMOOTH),
    "MADS": ("metallic", "occlusion", NONE, SMOOTH),
    "MAES": ("metallic", "occlusion", NONE, SMOOTH),
    "MOHS": ("metallic", "occlusion", "displacement", SMOOTH),
    "SMO": (SMOOTH, "metallic", "occlusion"),
    "MRS": ("metallic", "roughness", "specular"),
    "SRM": ("specular", "roughness", "metallic"),
    "MRAH": ("metallic", "roughness", "occlusion", "displacement"),
    "MetallicAOSmoothness": ("metallic", "occlusion", NONE, SMOOTH),
    "metallic_ao_smoothness": ("metallic", "occlusion", SMOOTH),
    "AOMetallicSmoothness": ("occlusion", "metallic", SMOOTH),
    "MetallicOcclusionSmoothness": ("metallic", "occlusion", NONE, SMOOTH),
}


@pytest.mark.parametrize("name", INITIALS)
def test_initials(folder, name):
    planes = [NONE if isinstance(entry, str) and entry == "diffuse" else entry for entry in INITIALS[name]]
    maps = {entry if isinstance(entry, str) else "roughness" for entry in planes if entry is not NONE}
    check(write(folder, wall_Albedo="diffuse", **{f"wall_{name}": stack(*planes)}), "diffuse", *maps)


@pytest.mark.parametrize("name", ["wall_D_A", "wall_BC_A", "wall_BCA"])
def test_alpha_by_a_letter(folder, name):
    check(write(folder, wall_N="normal", **{name: stack("diffuse", "opacity")}), "normal", "diffuse", "opacity")


@pytest.mark.parametrize("letter", ["A", "B", "C", "b"])
def test_a_coloured_file_is_the_colour_where_no_other_is(folder, letter):
    files = {"wall_N": "normal", "wall_R": "roughness"}
    material = write(folder, **files, **{f"wall_{letter}": "diffuse"})
    check(material, "normal", "roughness", "diffuse")
    assert len(material.warnings) == 1 and "--maps" in material.warnings[0]
    material = write(folder, **files, **{f"wall_{letter}": "displacement"})  # a bump map, or alpha
    check(material, "normal", "roughness")
    assert len(material.warnings) == 1 and f"wall_{letter}.png" in material.warnings[0]


def test_channels_cut_out_of_a_file(folder):
    check(write(folder, **{"m_baseColor@channels=RGB": "diffuse", "m_baseColor@channels=A": "specular",
                           "m_metallicRoughness@channels=G": "roughness", "m_metallicRoughness@channels=B": "metallic",
                           "m_occlusion@channels=R": "occlusion"}),
          "diffuse", "roughness", "metallic", "occlusion")  # fmt: skip


@pytest.mark.parametrize("channel", ["R", "G", "B", "A"])
def test_a_channel_of_a_file_without_a_word_is_noted(folder, channel):
    material = write(folder, m_baseColor="diffuse", **{f"gltf_embedded_1@channels={channel}": "roughness"})
    check(material, "diffuse")
    assert len(material.warnings) == 1 and "gltf_embedded_1" in material.warnings[0]


def test_a_coloured_glow_is_no_gloss(folder):
    material = write(folder, rock_d="diffuse", rock_g="diffuse")
    check(material, "diffuse")
    assert len(material.warnings) == 1 and "rock_g.png" in material.warnings[0]
    check(write(folder, rock_g=SMOOTH), "diffuse", "roughness")


def test_a_mean_of_channels_has_a_way_out(folder):
    material = write(folder, wall_D="diffuse", wall_M=stack(FULL, "metallic", NONE))
    assert len(material.warnings) == 1 and "--maps metallic=" in material.warnings[0]


def test_packings_of_single_sources(folder):
    check(write(folder, T_x_4K_D="diffuse", T_x_4K_ORT=stack("occlusion", "roughness", FULL)),
          "diffuse", "occlusion", "roughness")  # fmt: skip
    (folder / "T_x_4K_ORT.png").unlink()
    check(write(folder, T_x_4K_DpRA=stack("displacement", "roughness", "occlusion")),
          "diffuse", "displacement", "roughness", "occlusion")  # fmt: skip
    (folder / "T_x_4K_DpRA.png").unlink()
    check(write(folder, T_x_ddna=stack("normal", SMOOTH)), "diffuse", "normal", "roughness")


def test_textures_of_a_game_are_noted_where_their_letters_say_other_things(folder):
    material = write(folder, rock="diffuse", rock_n="normal")
    PillowImage.fromarray(P["metallic"]).save(folder / "rock_m.dds")
    (folder / "rock_height.vtf").write_bytes(b"VTF\0")
    material = load_material(folder)
    check(material, "diffuse", "normal", "metallic")
    assert any("rock_m.dds" in note and "--maps" in note for note in material.warnings)
    assert any("rock_height.vtf" in note and "convert" in note for note in material.warnings)


@pytest.mark.parametrize("name", ["wall_AO(R)_Rough(G)_Metal(B)", "wall_R-AO_G-Rough_B-Metal", "wall_AO (r) Rough (g)"])
def test_channels_that_the_name_says(folder, name):
    maps = ("occlusion", "roughness", "metallic")[: 2 if name.endswith("(g)") else 3]
    check(write(folder, wall_Color="diffuse", **{name: stack(*maps, *[NONE] * (3 - len(maps)))}), "diffuse", *maps)


def test_the_mask_map_in_words(folder):
    packed = stack("metallic", "occlusion", NONE, SMOOTH)
    material = write(folder, wall_Color="diffuse", wall_MetallicOcclusionDetailSmoothness=packed)
    check(material, "diffuse", "metallic", "occlusion", "roughness")


def test_a_word_of_the_material_before_a_letter_is_no_map(folder):
    material = write(folder, Smooth_Stone_N="normal", Smooth_Stone_S="specular", Smooth_Stone_C="diffuse")
    check(material, "normal", "diffuse")
    assert len(material.warnings) == 2


def test_one_channel_of_a_packing_in_a_file_of_its_own(folder):
    channels = {"wall_ORM_R": "occlusion", "wall_ORM_G": "roughness", "wall_ORM_B": "metallic"}
    material = write(folder, wall_D="diffuse", **channels)
    check(material, "diffuse", *channels.values())
    assert len(material.warnings) == 3 and all("--maps" in note for note in material.warnings)
    for name in channels:
        (folder / f"{name}.png").unlink()
    packed = write(folder, door_ORM_R=stack(*channels.values()))  # of the right door
    check(packed, "diffuse", *channels.values())


@pytest.mark.parametrize("name", ["wall_Roughness_G", "wall_Roughness_A", "wall_Roughness_B"])
def test_a_letter_does_not_turn_a_keyword_over(folder, name):
    check(write(folder, wall_D="diffuse", **{name: "roughness"}), "diffuse", "roughness")


def test_a_letter_of_alpha_counts_behind_a_colour_only(folder):
    files = {"wall_Metallic_A": "metallic", "wall_Normal_A": "normal", "wall_ORM_A": stack(*["occlusion"] * 3)}
    material = write(folder, wall_BC_A="diffuse", **files)
    assert set(material.present) == {"diffuse", "normal", "metallic", "occlusion", "roughness"}


@pytest.mark.parametrize("name", ["MAO", "AOM", "RAO", "AOR"])
def test_a_letter_joined_with_occlusion(folder, name):
    other = {"M": "metallic", "R": "roughness"}[name.strip("AO")]
    planes = ("occlusion", other) if name.startswith("AO") else (other, "occlusion")
    check(write(folder, wall_D="diffuse", **{f"wall_{name}": stack(*planes, NONE)}), "diffuse", *planes)
    check(write(folder, **{f"wall_{name}": "occlusion"}), "diffuse", "occlusion")


def test_g_behind_another_map(folder):
    material = write(folder, wall_D="diffuse", wall_AO_G="occlusion", wall_Normal_G="normal")
    check(material, "diffuse", "occlusion", "normal")
    assert len(material.warnings) == 2 and all("--maps" in note for note in material.warnings)
