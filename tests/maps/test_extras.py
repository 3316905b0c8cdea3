"""Opacity, emission and one map that the user names, as folders have them; canonical maps are what they were."""

from __future__ import annotations

import cv2
import numpy as np
import OpenEXR
import pytest

from common.errors import UserError
from configs import make_config
from dataset import load_material
from maps.channels import canonical, channel_count, map_channels
from maps.extras import Extras, extra_map, named_map
from maps.read_maps import recognised_maps
from tests.support.cases import FULL, NONE, H, P, W, check, stack, write
from tests.support.map_images import folder  # noqa: F401  # fixture

# ruff: noqa: F811  # fixtures are imported

MASKED = np.where(np.hypot(*np.mgrid[-12:12, -16:16]) < 10, 255, 0).astype(np.uint8)


def test_channels_follow_the_canonical_ones():
    assert [list(map_channels(name)) for name in ("opacity", "emissive", "thickness")] == [[11], [12, 13, 14], [15]]
    assert canonical(["thickness", "emissive", "diffuse", "opacity"]) == ["diffuse", "opacity", "emissive", "thickness"]
    assert channel_count(["diffuse", "displacement"]) == 11 and channel_count(["diffuse", "opacity"]) == 16


OPACITY = ("leaf_opacity", "leaf_Alpha_2k", "T_Leaf_Opacity", "leaf-opacity-map", "Leaf_AlphaMask", "leaf_opacitymask",
           "leaf_transparency", "leaf_cutout")  # fmt: skip
EMISSIVE = ("lamp_emissive", "Lamp_Emission", "lamp_emissive_color", "T_Lamp_Emit", "lamp_glow_4K",
            "lamp_EmissionColor")  # fmt: skip


@pytest.mark.parametrize("name", OPACITY)
def test_opacity_in_a_file_of_its_own(folder, name):
    material = write(folder, leaf_albedo=stack("diffuse", "roughness"), leaf_rough="roughness", **{name: "opacity"})
    check(material, "diffuse", "roughness", "opacity")
    assert material.channels == 16 and material.file_color_space["opacity"] == "linear"
    assert any("leaf_albedo.png: its alpha channel varies and is not used" in note for note in material.warnings)


@pytest.mark.parametrize("name", EMISSIVE)
def test_emission(folder, name):
    material = write(folder, lamp_albedo="diffuse", **{name: "emissive"})
    check(material, "diffuse", "emissive")
    assert material.file_color_space["emissive"] == "srgb" and not material.warnings


def test_a_grey_emission_is_repeated_and_a_float_one_is_linear(folder):
    material = write(folder, lamp_albedo="diffuse", lamp_emissive="roughness")
    assert (material.stored(0, "emissive") == P["roughness"][..., None]).all()
    (folder / "lamp_emissive.png").unlink()
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": np.float32(P["emissive"]) / 255}).write(
        str(folder / "lamp_emissive.exr")
    )
    material = load_material(folder)
    assert material.file_color_space["emissive"] == "linear" and material.bit_depth["emissive"] == 16
    assert np.abs(material.stored(0, "emissive") / 65535 - P["emissive"] / 255).max() < 1e-4


def test_alpha_of_the_diffuse_is_opacity_unless_it_is_another_map(folder):
    check(write(folder, leaf_albedo=stack("diffuse", "opacity")), "diffuse", "opacity")
    check(write(folder, leaf_albedo=stack("diffuse", FULL)), "diffuse")
    (folder / "leaf_albedo.png").unlink()
    check(write(folder, leaf_AlbedoRoughness=stack("diffuse", "roughness")), "diffuse", "roughness")


def test_premultiplied_colour_is_divided_by_the_opacity_beside_it(folder):
    alpha = np.float32(P["opacity"]) / 255
    colour = np.float32(P["diffuse"]) / 255 * alpha[..., None]
    pixels = {"RGBA": np.dstack([colour, alpha])}
    OpenEXR.File({"type": OpenEXR.scanlineimage}, pixels).write(str(folder / "leaf_albedo.exr"))
    material = load_material(folder)
    assert np.abs(material.stored(0, "diffuse") / 65535 - P["diffuse"] / 255).max() < 1e-3
    assert np.abs(material.stored(0, "opacity")[..., 0] / 65535 - alpha).max() < 1e-4


@pytest.mark.parametrize(("name", "pixels", "opaque"), [
    ("leaf_mask", MASKED, True), ("leaf_mask", P["roughness"], False), ("leaf_mask", stack(MASKED, NONE, FULL), False),
    ("leaf_detail_mask", MASKED, False), ("leaf_id", MASKED, False), ("leaf_glow_tint", MASKED, False),
])  # fmt: skip
def test_a_mask_is_opacity_where_it_is_black_and_white_and_of_nothing_else(folder, name, pixels, opaque):
    material = write(folder, leaf_albedo="diffuse", **{name: pixels})
    assert set(material.present) == {"diffuse", *(["opacity"] if opaque else [])}
    assert opaque or any(name in note for note in material.warnings)


def test_none_leaves_them_out_and_says_so(folder):
    before = write(folder, leaf_albedo="diffuse", leaf_roughness="roughness")
    write(folder, leaf_emissive="emissive", leaf_opacity="opacity")
    material = load_material(folder, extras=Extras(auto=False))
    assert material.present == before.present and material.sha256 == before.sha256 and material.channels == 11
    assert [note for note in material.warnings if "--extra_maps auto" in note] == material.warnings
    assert len(material.warnings) == 2
    write(folder, leaf_albedo=stack("diffuse", "opacity"))
    (folder / "leaf_opacity.png").unlink()
    material = load_material(folder, extras=Extras(auto=False))
    assert any("not used; --extra_maps auto takes it as opacity" in note for note in material.warnings)


def test_a_map_of_any_name(folder):
    files = {"leaf_thickness": "thickness", "leaf_clearcoat_roughness": "roughness"}
    write(folder, leaf_albedo="diffuse", leaf_height="displacement", **files)
    assert any("--extra_map NAME" in note for note in load_material(folder).warnings)
    for name, file in (("thickness", "leaf_thickness"), ("clearcoat_roughness", "leaf_clearcoat_roughness")):
        material = load_material(folder, extras=Extras(named=name))
        assert material.present[-1] == name and material.channels == 16
        assert (material.stored(0, name)[..., 0] == P[files[file]]).all()


def test_the_height_of_a_second_layer_is_not_that_of_the_first(folder):
    with pytest.raises(UserError, match="one file for displacement"):
        write(folder, leaf_albedo="diffuse", leaf_height="displacement", leaf_height2="metallic")
    material = load_material(folder, extras=Extras(named="height2"))
    assert (material.stored(0, "displacement")[..., 0] == P["displacement"]).all()
    assert (material.stored(0, "height2")[..., 0] == P["metallic"]).all()


def test_by_hand(folder):
    write(folder, a="diffuse", b="opacity", c="emissive", d="thickness")
    named = "diffuse=a.png,opacity=b.png,emissive=c.png,thickness=d.png"
    check(load_material(folder, by_hand=named, extras=Extras(named="thickness")),
          "diffuse", "opacity", "emissive", "thickness")  # fmt: skip
    material = load_material(folder, by_hand="diffuse=a.png,emissive=c.png:g")
    assert (material.stored(0, "emissive") == P["emissive"][..., 1:2]).all()
    with pytest.raises(UserError, match=r"--maps: unknown map 'thickness'.*--extra_map NAME"):
        load_material(folder, by_hand=named)
    write(folder, a=stack("diffuse", "opacity"))
    check(load_material(folder, by_hand="diffuse=a.png,opacity=none"), "diffuse")


def test_two_files_for_an_extra_map_are_left_out_with_a_note(folder):
    material = write(folder, leaf_albedo="diffuse", leaf_opacity="opacity", leaf_alpha="opacity")
    check(material, "diffuse")
    assert any("--maps opacity=FILE" in note for note in material.warnings)


def test_the_listing_names_them(folder):
    write(folder, leaf_albedo=stack("diffuse", "opacity"), leaf_emissive="emissive", leaf_sheen="thickness")
    lines = recognised_maps(folder, extras=Extras(named="sheen"))
    files = {"leaf_albedo": "diffuse, opacity in A", "leaf_emissive": "emissive", "leaf_sheen": "sheen"}
    for file, held in files.items():
        assert any(line.startswith(f"{file}.png") and f"  {held}  " in line for line in lines)


@pytest.mark.parametrize(("words", "name", "is_it"), [
    ("leaf thickness 2k", "thickness", True), ("leaf clear coat", "clearcoat", True), ("sheen", "sheen", True),
    ("leaf height 2", "height2", True), ("leaf height 2048", "height2", False), ("leaf sheens", "sheen", False),
    ("thickness roughness", "thickness", False),
])  # fmt: skip
def test_words_of_a_named_map(words, name, is_it):
    assert named_map(words.split(), name) == is_it


def test_the_last_word_says_it():
    assert extra_map(["glow", "wall", "opacity"], lambda: False) == "opacity"
    assert extra_map(["alpha", "wall", "bump"], lambda: True) == ""
    assert extra_map([], lambda: True) == ""


def test_of_a_configuration_and_of_a_material():
    assert Extras.of(make_config({})) == Extras() and Extras().names == ["opacity", "emissive"]
    assert Extras.of(make_config({"extra_maps": "none", "extra_map": "sheen"})) == Extras(False, "sheen")
    assert Extras.among(["diffuse"]) == Extras(False) and Extras.among(["diffuse", "opacity", "x"]) == Extras(True, "x")


@pytest.mark.parametrize("name", ["Thick", "opacity", "diffuse", "gloss", "all", "a b", "é", "x" * 33, "2nd"])
def test_names_that_the_map_cannot_have(name):
    with pytest.raises(UserError, match="--extra_map: expected a name such as thickness"):
        make_config({"extra_map": name})


def test_loss_weights_of_extra_maps():
    chosen = {"extra_map": "sheen", "texture_loss_weights": {"opacity": 4, "sheen": 0.5}}
    weights = make_config(chosen).texture_loss_weights
    assert weights["opacity"] == 4 and weights["sheen"] == 0.5 and weights["diffuse"] == 1 and "emissive" not in weights
    with pytest.raises(UserError, match="unknown map 'sheen'"):
        make_config({"texture_loss_weights": {"sheen": 1}})


def test_sizes_and_pictures_of_another_size(folder):
    write(folder, leaf_albedo="diffuse")
    cv2.imwrite(str(folder / "leaf_opacity.png"), cv2.resize(P["opacity"], (2 * W, 2 * H)))
    material = load_material(folder)
    assert material.stored(0, "opacity").shape == (H, W, 1)
    assert any("opacity resized" in note for note in material.warnings)
