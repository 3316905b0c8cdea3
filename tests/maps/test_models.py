"""glTF models as sources: the maps of a material are those of its images, times its numbers."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from PIL import Image as PillowImage

from common.errors import UserError
from dataset import load_material
from maps.extras import Extras
from maps.gltf.materials import labels_of
from maps.gltf.source import ModelSource, open_model
from maps.images import read_image
from maps.mips import linear_to_srgb, srgb_to_linear
from maps.read_maps import read_maps, recognised_maps
from tests.support.models import encoded, gltf, normals, orm_images, pixels, textures, whole, write_model
from tests.support.paths import ROOT

PILLAR = ROOT / "data" / "pillar.glb"


def base(index: int = 0, **more) -> dict:
    return {"pbrMetallicRoughness": {"baseColorTexture": {"index": index}, **more}}


def maps_of(tmp_path, material, *images, **options):
    return read_maps(write_model(tmp_path, [material], [encoded(image) for image in images]), **options)


# --- fidelity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["glb", "data", "files"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_same_maps_as_a_folder_with_the_same_images(form, dtype, tmp_path):
    names = ("wood_albedo.png", "wood_nor_gl.png", "wood_orm.png")
    codes = [pixels(3, 1, dtype=dtype), normals(2).astype(dtype) * (257 if dtype == np.uint16 else 1), pixels(3, 3)]
    images = dict(zip(names, map(encoded, codes)))
    folder = tmp_path / "wood"
    folder.mkdir()
    for name, payload in images.items():
        (folder / name).write_bytes(payload)
    document = {"materials": [whole()], "textures": textures(3)}
    if form == "glb":
        path = write_model(tmp_path, [whole()], list(images.values()))
    else:
        path = tmp_path / "m.gltf" if form == "data" else folder / "m.gltf"
        files = {} if form == "data" else {"images": [{"uri": name.replace("_", "%5f")} for name in names]}
        path.write_text(gltf({**document, **files}, images if form == "data" else None))
    ours, theirs = load_material(path), load_material(folder)
    assert ours.present == theirs.present == ("diffuse", "normal", "roughness", "occlusion", "metallic")
    assert ours.sha256 == theirs.sha256 and ours.warnings == theirs.warnings == []
    assert (ours.file_color_space, ours.file_bit_depth) == (theirs.file_color_space, theirs.file_bit_depth)
    assert ours.file_color_space["diffuse"] == "srgb" and ours.normal_convention == "gl"
    assert ours.codes8.equal(theirs.codes8) and ours.codes16.equal(theirs.codes16)  # mips too
    assert ours.source_bytes == theirs.source_bytes
    assert (ours.name, ours.origin) == ("Wood", (path.name, "Wood", 0)) and theirs.origin is None
    if form == "files":
        assert list(ours.files.values()) == list(theirs.files.values())


def test_channels_are_where_gltf_has_them(tmp_path):
    orm = pixels(3, 5)
    found = maps_of(tmp_path, whole(), pixels(), normals(), orm).arrays
    assert [np.array_equal(found[name][..., 0], orm[..., channel]) for name, channel in
            (("occlusion", 0), ("roughness", 1), ("metallic", 2))] == [True] * 3  # fmt: skip


def test_a_grey_packed_image_is_the_same_in_each_channel(tmp_path):
    grey = pixels(1)
    found = maps_of(tmp_path, {"pbrMetallicRoughness": {"metallicRoughnessTexture": {"index": 0}}}, grey).arrays
    assert np.array_equal(found["roughness"], grey) and np.array_equal(found["metallic"], grey)


def test_webp_and_jpeg(tmp_path):
    codes = pixels(3)
    texture = {"source": 0, "extensions": {"EXT_texture_webp": {"source": 1}}}
    path = write_model(tmp_path, [base()], [encoded(normals()), encoded(codes, "WEBP")], textures=[texture])
    assert np.array_equal(read_maps(path).arrays["diffuse"], codes)
    path = write_model(tmp_path, [base()], [encoded(codes, "JPEG")])
    assert np.abs(read_maps(path).arrays["diffuse"].astype(int) - codes).mean() < 60


def test_images_shared_by_textures_are_decoded_once(tmp_path, monkeypatch):
    import maps.read_maps as module

    decoded = []
    monkeypatch.setattr(module, "read_image", lambda path, *rest: decoded.append(path.name) or read_image(path, *rest))
    material = {**whole(), "emissiveTexture": {"index": 3}, "emissiveFactor": [1, 1, 1]}
    path = write_model(tmp_path, [material], orm_images(), textures=[*textures(3), {"source": 2}])
    read_maps(path)
    assert sorted(decoded) == ["image_0", "image_1", "image_2"]


# --- factors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_base_colour_is_multiplied_as_light(dtype, tmp_path):
    codes, factor, top = pixels(3, dtype=dtype), np.array([1.0, 0.5, 0.02]), np.iinfo(dtype).max
    found = maps_of(tmp_path, base(baseColorFactor=[*factor, 0.5]), codes)
    wanted = linear_to_srgb(srgb_to_linear(codes / top) * factor) * top
    assert found.arrays["diffuse"].dtype == dtype and "opacity" not in found.arrays  # OPAQUE
    assert np.abs(found.arrays["diffuse"] - wanted).max() <= 0.5 + 1e-6
    assert np.array_equal(found.arrays["diffuse"][..., 0], codes[..., 0])


def test_a_grey_base_colour_gets_the_colour_of_its_factor(tmp_path):
    found = maps_of(tmp_path, base(baseColorFactor=[1, 0, 0.5, 1]), pixels(1)).arrays["diffuse"]
    assert np.array_equal(found[..., :1], pixels(1)) and not found[..., 1].any() and found[..., 2].any()


def test_roughness_and_metallic_have_factors_of_their_own(tmp_path):
    codes = pixels(3)
    pbr = {"metallicRoughnessTexture": {"index": 0}, "roughnessFactor": 0.25, "metallicFactor": 0}
    found = maps_of(tmp_path, {"pbrMetallicRoughness": pbr}, codes).arrays
    assert np.abs(found["roughness"][..., 0] - codes[..., 1] * 0.25).max() <= 0.5 and not found["metallic"].any()


def test_occlusion_strength(tmp_path):
    codes = pixels(3)
    found = maps_of(tmp_path, {"occlusionTexture": {"index": 0, "strength": 0.25}}, codes).arrays["occlusion"]
    assert np.abs(found[..., 0] - 255 * (1 + 0.25 * (codes[..., 0] / 255 - 1))).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("scale", [0.5, 2, -1, 0])
def test_normal_scale(scale, tmp_path):
    codes = normals()
    found = maps_of(tmp_path, {"normalTexture": {"index": 0, "scale": scale}}, codes)
    vectors = (codes / 127.5 - 1) * [scale, scale, 1]
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    assert np.abs(found.arrays["normal"] - (vectors * 0.5 + 0.5) * 255).max() <= 0.5 + 1e-3
    assert found.convention == "gl"


def emissive(factor, strength=None) -> dict:
    more = {"extensions": {"KHR_materials_emissive_strength": {"emissiveStrength": strength}}} if strength else {}
    return {"emissiveTexture": {"index": 0}, "emissiveFactor": factor, **more}


def test_emission_up_to_1_stays_in_the_files_codes(tmp_path):
    codes = pixels(3)
    found = maps_of(tmp_path, emissive([1, 0.5, 0.25]), codes)
    wanted = linear_to_srgb(srgb_to_linear(codes / 255) * [1, 0.5, 0.25]) * 255
    assert np.abs(found.arrays["emissive"] - wanted).max() <= 0.5 + 1e-6
    assert "emissive" not in found.color_space and "emissive" not in found.log_scale


def test_emission_above_1_is_kept_as_light(tmp_path):
    codes = pixels(3)
    material = load_material(write_model(tmp_path, [emissive([1, 0.5, 0], 8)], [encoded(codes)]))
    light = srgb_to_linear(codes / 255) * [8, 4, 0]
    low, high = material.value_range["emissive"]
    assert (low, material.file_color_space["emissive"]) == (0, "linear") and high == pytest.approx(light.max())
    from maps.ranges import to_units

    kept = to_units(material.stored(0, "emissive") / 65535, (low, high), material.log_scale["emissive"])
    assert np.abs(kept - light).max() < 1e-3 * high and np.abs(kept - light)[light < 0.1].max() < 1e-4


def test_emission_without_a_factor_is_dark(tmp_path):
    material = {**base(), "emissiveTexture": {"index": 0}}
    found = maps_of(tmp_path, material, pixels())
    assert "emissive" not in found.arrays and "its factor is 0" in found.notes[0]


# --- opacity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("cutoff", "factor"),
    [(0.5, 1), (None, 1), (0.25, 1), (0.9, 0.95), (0, 1), (1, 1), (1.5, 1), (float(np.nextafter(150 / 255, 1)), 1)],
)
def test_an_alpha_test_passes_what_it_passed(cutoff, factor, dtype, tmp_path):
    codes, top = pixels(4, size=(64, 9)), np.iinfo(dtype).max
    codes[0, :, 3] = np.arange(96, 160)  # around the middle
    codes = codes.astype(dtype) * (1 if dtype == np.uint8 else 257)
    more = {} if cutoff is None else {"alphaCutoff": cutoff}
    material = {**base(baseColorFactor=[1, 1, 1, factor]), "alphaMode": "MASK", **more}
    found = maps_of(tmp_path, material, codes).arrays["opacity"]
    passes = codes[..., 3:] / top * factor >= (0.5 if cutoff is None else cutoff)
    assert np.array_equal(found / top >= 0.5, passes)
    if cutoff in (0.5, None):
        assert np.array_equal(found, codes[..., 3:])


def test_blending_keeps_alpha_times_its_factor(tmp_path):
    codes = pixels(4)
    found = maps_of(tmp_path, {**base(baseColorFactor=[1, 1, 1, 0.5]), "alphaMode": "BLEND"}, codes).arrays
    assert np.abs(found["opacity"] - codes[..., 3:] * 0.5).max() <= 0.5
    assert np.array_equal(found["diffuse"], codes[..., :3])


@pytest.mark.parametrize("mode", [{}, {"alphaMode": "OPAQUE"}])
def test_an_opaque_material_has_no_opacity(mode, tmp_path):
    found = maps_of(tmp_path, {**base(baseColorFactor=[1, 1, 1, 0.5]), **mode}, pixels(4))
    assert list(found.arrays) == ["diffuse"] and "its alpha channel varies and is not used" in found.notes[0]


def test_an_alpha_of_one_value_is_an_opacity_too(tmp_path):
    codes = pixels(4)
    codes[..., 3] = 102
    material = {**base(), "alphaMode": "BLEND"}
    assert (maps_of(tmp_path, material, codes).arrays["opacity"] == 102).all()
    codes[..., 3] = 255
    assert "opacity" not in maps_of(tmp_path, material, codes).arrays
    assert "opacity" not in maps_of(tmp_path, material, codes[..., :3]).arrays


def test_extra_maps_none_leaves_opacity_and_emission_out(tmp_path):
    material = {**base(), **emissive([1, 1, 1]), "alphaMode": "MASK"}
    assert list(maps_of(tmp_path, material, pixels(4)).arrays) == ["diffuse", "opacity", "emissive"]
    assert list(maps_of(tmp_path, material, pixels(4), extras=Extras(auto=False)).arrays) == ["diffuse"]


# --- places, and what is passed through ------------------------------------------------------------------------------


def test_maps_at_another_place_are_left_as_they_are(tmp_path):
    material = whole()
    material["occlusionTexture"] = {"index": 2, "texCoord": 1}
    moved = {"KHR_texture_transform": {"offset": [0.5, 0], "rotation": 0.25, "scale": [2, 3]}}
    material["pbrMetallicRoughness"]["baseColorTexture"]["extensions"] = moved
    found = maps_of(tmp_path, material, pixels(), normals(), pixels())
    assert list(found.arrays) == ["normal", "roughness", "metallic"]  # five channels against three and one
    assert [note.split(":")[1].strip() for note in found.notes] == ["baseColorTexture", "occlusionTexture"]
    assert "offset [0.5, 0.0], rotation 0.25, scale [2.0, 3.0]" in found.notes[0] and "uv set 1" in found.notes[1]


def test_one_transform_for_all_leaves_the_images_as_they_are(tmp_path):
    moved = {"extensions": {"KHR_texture_transform": {"scale": [2, 2], "texCoord": 1}}}
    material = whole()
    for info in (*material["pbrMetallicRoughness"].values(), material["normalTexture"], material["occlusionTexture"]):
        info.update(moved)
    images = pixels(), normals(), pixels()
    found = maps_of(tmp_path, material, *images)
    assert len(found.arrays) == 5 and found.notes == [] and np.array_equal(found.arrays["diffuse"], images[0])
    assert ModelSource(tmp_path / "m.glb").plan.placement == (1, (0, 0), 0, (2, 2))


def test_what_is_not_trained_is_named(tmp_path):
    coat = {"clearcoatFactor": 1, "clearcoatTexture": {"index": 0}, "clearcoatNormalTexture": {"index": 0}}
    material = {**base(), "extensions": {"KHR_materials_clearcoat": coat, "KHR_materials_ior": {"ior": 1.4}}}
    [note] = maps_of(tmp_path, material, pixels()).notes
    assert "KHR_materials_clearcoat" in note and "'clearcoatTexture', 'clearcoatNormalTexture' passed through" in note


def test_edges_that_do_not_repeat_are_named(tmp_path):
    path = write_model(tmp_path, [base()], [encoded(pixels())], textures=[{"source": 0, "sampler": 0}],
                       samplers=[{"wrapS": 33071, "wrapT": 10497}])  # fmt: skip
    assert "clamp to the edge" in read_maps(path).notes[0]


def test_factors_outside_of_their_range_are_clipped_with_a_note(tmp_path):
    found = maps_of(tmp_path, base(baseColorFactor=[3, 1, 1, 1]), pixels())
    assert np.array_equal(found.arrays["diffuse"], pixels()) and "clipped" in found.notes[0]


def test_ktx2_without_the_package_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "opengl_basisu", None)
    header = b"\xabKTX 20\xbb\r\n\x1a\n" + np.array([0, 1, 8, 8, 0, 0, 1, 1, 1], "<u4").tobytes() + bytes(64)
    texture = {"extensions": {"KHR_texture_basisu": {"source": 0}}}
    path = write_model(tmp_path, [base()], [header], textures=[texture])
    with pytest.raises(UserError, match=r"m\.glb: image 0 .*pip install -r requirements/ktx2"):
        read_maps(path)


KTX2 = (  # 12 x 8 texels of UASTC, without supercompression, by Basis Universal 2.10
    "q0tUWCAyMLsNChoKAAAAAAEAAAAMAAAACAAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAaAAAACwAAACUAAAALAAAAAAAAAAAAAAAAAAAAAAAAADAAAAAAAAAAGAA"
    "AAAAAAAAYAAAAAAAAAAsAAAAAAAAAAIAKACmAQIAAwMAABAAAAAAAAAAAAB/AwAAAAAAAAAA/////x8AAABLVFh3cml0ZXIAQmFzaXMgVW5pdmVyc2FsIDIu"
    "MTAAAAQAAAB/fwAAKJHIm4KBgsUQIlR2mLrd/iiRyFtqg5rXESJUdpi63f7PkiYBVKEMd5mhTlWBKtV/KJHonIJ5GccQIlR2mLrd/iiRaHzie3HXESJUdpi6"
    "3f4okehndnn15RIiVHaYut3+"
)


@pytest.mark.parametrize("cut", [0, 1, 40, 200])
def test_ktx2_with_the_package(cut, tmp_path):
    pytest.importorskip("opengl_basisu", reason="needs pip install -r requirements/ktx2.txt")
    payload = base64.b64decode(KTX2)
    texture = {"extensions": {"KHR_texture_basisu": {"source": 0}}}
    material = {**base(), "alphaMode": "BLEND"}
    path = write_model(tmp_path, [material], [payload[: len(payload) - cut]], textures=[texture])
    if cut:
        with pytest.raises(UserError, match=r"m\.glb: image 0 .*cannot be decoded"):
            read_maps(path)
        return
    found = read_maps(path).arrays
    y, x = np.mgrid[:8, :12]
    wanted = np.stack([x * 20, y * 30, (x + y) * 12, 255 - x * 8], axis=-1)
    off = np.abs(np.dstack([found["diffuse"], found["opacity"]]).astype(int) - wanted)
    assert off.max() < 30 and off.mean() < 6


# --- which material --------------------------------------------------------------------------------------------------


def test_every_material_has_a_label_of_its_own(tmp_path):
    names = ["Wood", None, "Wood", "  ", "a/b\nc", "Wood#2", "x" * 500]
    materials = [{"name": name} if name is not None else {} for name in names]
    path = write_model(tmp_path, materials, [])
    labels = labels_of(open_model(path))
    assert labels[:6] == ["Wood", "material_1", "Wood#2", "material_3", "a/bc", "Wood#2#5"] and len(set(labels)) == 7
    assert len(labels[6]) == 80


def test_the_material_is_chosen_by_name(tmp_path):
    images = [encoded(pixels(3, seed)) for seed in (1, 2)]
    path = write_model(tmp_path, [base(0), {"name": "plain"}, {**base(1), "name": "Rust"}], images)
    assert np.array_equal(read_maps(path, material="Rust").arrays["diffuse"], pixels(3, 2))
    assert load_material(path, material="material_0").origin == ("m.glb", "material_0", 0)
    for name, words in (("", "choose with --material NAME"), ("Rus", "did you mean 'Rust'"), ("plain", "no textures")):
        with pytest.raises(UserError, match=words):
            read_maps(path, material=name)


def test_the_only_material_with_textures_needs_no_name(tmp_path):
    path = write_model(tmp_path, [{"name": "plain"}, {**base(), "name": "Rust"}], [encoded(pixels())])
    assert load_material(path).name == "Rust"


def test_a_folder_has_no_materials_and_a_model_no_maps_by_hand(tmp_path):
    path = write_model(tmp_path, [base()], [encoded(pixels())])
    with pytest.raises(UserError, match=r"--material Wood: expected a \.glb or \.gltf file"):
        read_maps(tmp_path, material="Wood")
    with pytest.raises(UserError, match="--maps: expected a folder"):
        read_maps(path, by_hand="diffuse=a.png")
    with pytest.raises(UserError, match=r"found m\.glb; give the model itself"):
        read_maps(tmp_path)


def test_a_model_that_changes_is_read_again(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(pixels(3, 1)))
    path = tmp_path / "m.gltf"
    path.write_text(gltf({"materials": [base()], "textures": textures(1), "images": [{"uri": "a.png"}]}))
    first = read_maps(path).arrays["diffuse"]
    (tmp_path / "a.png").write_bytes(encoded(pixels(3, 2, (20, 3))))
    assert read_maps(path).arrays["diffuse"].shape == (3, 20, 3) != first.shape
    path.write_text(gltf({"materials": [base(baseColorFactor=[0, 0, 0, 1])], "textures": textures(1),
                          "images": [{"uri": "a.png"}]}))  # fmt: skip
    assert not read_maps(path).arrays["diffuse"].any()


# --- the sample ------------------------------------------------------------------------------------------------------


def test_the_sample_model():
    lines = recognised_maps(PILLAR, material="Bricks")
    assert any("roughness in G, occlusion in R, metallic in B" in line for line in lines)
    bricks, ivy = load_material(PILLAR, material="Bricks"), load_material(PILLAR, material="Ivy")
    assert bricks.present == ("diffuse", "normal", "roughness", "occlusion", "metallic", "emissive")
    assert bricks.value_range["emissive"][1] > 1.5 and (bricks.width, bricks.height) == (512, 512)
    leaves = load_material(ROOT / "data" / "test_leaves")
    seen = leaves.stored(0, "opacity")[..., 0] > 0  # of a folder, what is hidden is filled
    for name in ("diffuse", "normal", "roughness", "opacity"):
        assert np.array_equal(ivy.stored(0, name)[seen], leaves.stored(0, name)[seen]), name
    assert not ivy.stored(0, "metallic").any()
    assert PILLAR.stat().st_size < 3e6


def test_the_sample_model_is_what_its_script_makes(tmp_path):
    from data import make_test_model as script

    assert script.main(["--out", str(tmp_path / "p.glb")]) == 0
    made, kept = (open_model(path) for path in (tmp_path / "p.glb", PILLAR))
    assert [repr(m) for m in made.entries("materials")] == [repr(m) for m in kept.entries("materials")]
    for index in range(7):
        pictures = [np.asarray(PillowImage.open(m.image(index).open())).astype(int) for m in (made, kept)]
        assert pictures[0].shape == pictures[1].shape and np.abs(pictures[0] - pictures[1]).max() <= 2


def test_the_sample_model_is_a_closed_and_outward_surface():
    trimesh = pytest.importorskip("trimesh")
    scene = trimesh.load(PILLAR, process=False)
    assert sum(len(mesh.faces) for mesh in scene.geometry.values()) == 576
    for mesh in scene.geometry.values():
        outward = np.einsum("ij,ij->i", mesh.face_normals, mesh.vertex_normals[mesh.faces].mean(axis=1))
        assert (outward > 0.9).all()
