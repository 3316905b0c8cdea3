"""Materials as people have them: names, packings and file forms that decide which values come out."""

from __future__ import annotations

import struct
import zlib

import cv2
import imagecodecs
import numpy as np
import OpenEXR
import pytest
from PIL import Image as PillowImage

from common.errors import UserError
from dataset import load_material
from maps.images import read_image
from tests.support.cases import FULL, NONE, H, P, W, X, Y, Z, check, stack, tiff, write
from tests.support.map_images import folder  # noqa: F401  # fixture

# ruff: noqa: F811  # fixtures are imported

# --- packings ------------------------------------------------------------------------------------------------------

ORM = stack("occlusion", "roughness", "metallic")
GLTF = stack(FULL, "roughness", "metallic")
PACKINGS = {
    "mat_occlusion_roughness_metallic": ("occlusion", "roughness", "metallic"),
    "mat_OcclusionRoughMetal": ("occlusion", "roughness", "metallic"),
    "mat_occlusionroughnessmetallic": ("occlusion", "roughness", "metallic"),
    "mat_ORM": ("occlusion", "roughness", "metallic"),
    "mat_ARM": ("occlusion", "roughness", "metallic"),
    "mat-rma": ("roughness", "metallic", "occlusion"),
    "mat_MRA": ("metallic", "roughness", "occlusion"),
    "mat_MRAO": ("metallic", "roughness", "occlusion"),
    "mat_ao_met_rough": ("occlusion", "metallic", "roughness"),
    "mat_RoughnessMetallicAO": ("roughness", "metallic", "occlusion"),
    "mat_metalRoughness": (FULL, "roughness", "metallic"),
    "mat_roughnessMetallic": (FULL, "roughness", "metallic"),
    "mat_Metallic_Roughness": (NONE, "roughness", "metallic"),
    "mat_METALLIC-ROUGHNESS": (FULL, "roughness", "metallic"),
    "mat_Metallic-mat_Roughness": (FULL, "roughness", "metallic"),
    "mat_rough_ao_1k": ("roughness", "occlusion", NONE),
    "mat_ao_rough": ("occlusion", "roughness", NONE),
}


PACKINGS |= {
    "mat_AO_R_M": ("occlusion", "roughness", "metallic"),
    "mat-r-m-ao": ("roughness", "metallic", "occlusion"),
    "mat_metal_and_rough_with_ao": ("metallic", "roughness", "occlusion"),
    "mat_4K_ORDp": ("occlusion", "roughness", "displacement"),
}


@pytest.mark.parametrize("name", PACKINGS)
def test_packings(folder, name):
    maps = [entry for entry in PACKINGS[name] if isinstance(entry, str)]
    check(write(folder, mat_BaseColor="diffuse", **{name: stack(*PACKINGS[name])}), "diffuse", *maps)


@pytest.mark.parametrize("name", ["m_ao_gloss_metal", "m_OcclusionSmoothnessMetallic", "m_SmoothnessMetallic"])
def test_gloss_in_a_packing_is_inverted(folder, name):
    gloss = 255 - P["roughness"]
    planes = (gloss, "metallic", NONE) if name == "m_SmoothnessMetallic" else ("occlusion", gloss, "metallic")
    maps = [entry for entry in planes if isinstance(entry, str)]
    check(write(folder, m_bc="diffuse", **{name: stack(*planes)}), "diffuse", "roughness", *maps)


def test_gltf_keeps_occlusion_in_red(folder):
    check(write(folder, m_albedo="diffuse", m_metallicRoughness=ORM), "diffuse", "occlusion", "roughness", "metallic")


def test_a_packing_yields_to_files_of_their_own(folder):
    files = {"b_rough_ao": stack("metallic", "specular", NONE), "b_rough": "roughness", "b_ao": "occlusion"}
    material = write(folder, b_diff="diffuse", **files)
    check(material, "diffuse", "roughness", "occlusion")
    assert len(material.warnings) == 2 and all("b_rough_ao.png" in note for note in material.warnings)


def test_a_grey_file_is_no_packing(folder):
    check(write(folder, rusty_metal_rough="roughness"), "roughness")


def test_unity(folder):
    smooth = 255 - P["roughness"]
    mask = write(folder, d_BaseMap="diffuse", d_MaskMap=stack("metallic", "occlusion", NONE, smooth))
    check(mask, "diffuse", "metallic", "occlusion", "roughness")
    (folder / "d_MaskMap.png").rename(folder / "d_MetallicSmoothness.png")
    check(load_material(folder), "diffuse", "metallic", "roughness")


@pytest.mark.parametrize("name", ["q_Gloss", "q_Smoothness", "q_glossiness"])
def test_gloss_is_the_inverse_of_roughness(folder, name):
    check(write(folder, q_Albedo="diffuse", **{name: 255 - P["roughness"]}), "diffuse", "roughness")
    material = write(folder, q_Roughness="roughness", **{name: "metallic"})
    check(material, "diffuse", "roughness")
    assert len(material.warnings) == 1 and name in material.warnings[0]


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workflow", ["METALNESS", "SPECULAR"])
def test_a_workflow_at_the_end_of_all_names(folder, workflow):
    names = {"COL": "diffuse", "METALNESS": "metallic", "ROUGHNESS": "roughness", "NRM": "normal"}
    files = {f"Gold002_{short}_2K_{workflow}": name for short, name in names.items()}
    check(write(folder, **files), *names.values())


@pytest.mark.parametrize("material_name", ["Stone_001", "T_Metal", "Wrought", "Rough_Wood", "Display", "Watercolor"])
@pytest.mark.parametrize(
    "names",
    [
        ("BC", "N", "R", "M", "H", "AO"), ("D", "NM", "rgh", "mtl", "hgt", "OCC"),
        ("COL", "NORM", "ROUGH", "MET", "DISP", "occ"), ("alb", "nor", "rou", "m", "h", "ao"),
    ],
    ids=str,
)  # fmt: skip
def test_short_names(folder, material_name, names):
    maps = ("diffuse", "normal", "roughness", "metallic", "displacement", "occlusion")
    check(write(folder, **{f"{material_name}_{short}": name for short, name in zip(names, maps)}), *maps)


def test_short_name_beside_a_packing(folder):
    check(write(folder, T_Metal_D="diffuse", T_Metal_ORM=ORM), "diffuse", "occlusion", "roughness", "metallic")


@pytest.mark.parametrize(
    "layer",
    ["Coat", "ClearCoat", "sheen", "subsurface", "transmission", "Scattering", "fuzz", "Flake", "detail", "Micro"],
)  # fmt: skip
def test_maps_of_another_layer(folder, layer):
    material = write(folder, m_Base_color="diffuse", m_roughness="roughness", **{f"m_{layer}_roughness": "metallic"})
    check(material, "diffuse", "roughness")
    assert len(material.warnings) == 1 and f"m_{layer}_roughness.png" in material.warnings[0]


def test_a_coat_may_be_a_material(folder):
    check(write(folder, Winter_Coat_Color="diffuse", Winter_Coat_Roughness="roughness"), "diffuse", "roughness")


def test_a_preview_is_no_map(folder):
    names = {"Color": "diffuse", "Metalness": "metallic", "NormalGL": "normal"}
    files = {f"Metal055A_1K-PNG_{word}": name for word, name in names.items()}
    material = write(folder, Metal055A=P["diffuse"][::-1], **files)
    check(material, *names.values())
    assert len(material.warnings) == 1 and "Metal055A.png" in material.warnings[0]


def test_the_colour_of_a_game_material(folder):
    material = write(folder, rock="diffuse", rock_n="normal", rock_s="specular")
    check(material, "diffuse", "normal")
    assert any("rock_s.png" in note for note in material.warnings)


@pytest.mark.parametrize(
    "name",
    ["world_space_normals", "WSNormal", "NormalOS", "object_space_normal", "BentNormal", "DetailNormal",
     "detail_normal", "micro_normal", "IDColor", "SpecularTint"],
)  # fmt: skip
def test_normals_and_colours_of_other_kinds(folder, name):
    material = write(folder, m_basecolor="diffuse", m_normal="normal", m_spec="specular", **{f"m_{name}": "diffuse"})
    check(material, "diffuse", "normal", "specular")
    assert len(material.warnings) == 1 and f"m_{name}.png" in material.warnings[0]


def test_base_is_a_colour_only_where_no_other_word_is(folder):
    check(write(folder, low_normal_base="normal", low_ao_base="occlusion"), "normal", "occlusion")
    check(write(folder, w_Base="diffuse", w_spec_col="specular"), "diffuse", "normal", "occlusion", "specular")


def test_a_material_called_arm_is_no_packing(folder):
    check(write(folder, robot_arm="diffuse", robot_arm_n="normal", robot_arm_ARM=ORM),
          "diffuse", "normal", "occlusion", "roughness", "metallic")  # fmt: skip


def test_a_preview_is_no_packing(folder):
    files = {f"Metal_Rough_01_{word}": name for word, name in {"Color": "diffuse", "Normal": "normal"}.items()}
    check(write(folder, Metal_Rough_01=P["diffuse"][::-1], **files), "diffuse", "normal")
    for path in folder.iterdir():
        path.unlink()
    check(write(folder, w_diffuse="diffuse", w_diffuse_normal="normal", w_diffuse_ao="occlusion"),
          "diffuse", "normal", "occlusion")  # fmt: skip


def test_a_file_without_a_word_is_the_colour_where_no_other_is(folder):
    material = write(folder, rock="diffuse", rock_n="normal", rock_r="roughness")
    check(material, "diffuse", "normal", "roughness")
    assert len(material.warnings) == 1 and "rock.png" in material.warnings[0]


# --- alpha ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["glass_ColorAlpha", "glass_BaseColor_Opacity", "glass_DiffuseAlpha", "glass_albedo"])
def test_colour_with_alpha(folder, name):
    material = write(folder, glass_Roughness="roughness", **{name: stack("diffuse", "opacity")})
    check(material, "diffuse", "roughness", "opacity")
    assert len(material.warnings) == 1 and "alpha is taken as opacity" in material.warnings[0]


def test_two_maps_in_one_file(folder):
    check(write(folder, w_albedo="diffuse", w_NormalHeight=stack("normal", "displacement")),
          "diffuse", "normal", "displacement")  # fmt: skip
    with pytest.raises(UserError, match=r"w_NormalHeight\.png.*--maps"):
        write(folder, w_NormalHeight="normal")


def test_normals_of_two_channels(folder):
    for name, pixels in (("x in alpha", stack(FULL, Y, FULL, X)), ("x in alpha, red empty", stack(NONE, Y, Y, X)),
                         ("blue empty", stack(X, Y, NONE)), ("blue full", stack(X, Y, FULL))):  # fmt: skip
        material = write(folder, w_albedo="diffuse", w_normal=pixels)
        check(material, "diffuse", "normal", tolerance=1)
        assert len(material.warnings) == 1 and "two channels" in material.warnings[0], name
    noise = np.random.default_rng(5).integers(247, 256, (H, W)).astype(np.uint8)
    for pixels in (stack(Y, Y, Y, X), stack(noise, Y, noise, X)):
        check(write(folder, w_normal=pixels), "diffuse", "normal", tolerance=1)
    flat = stack(FULL // 2, Y, FULL, "displacement")  # grooves along x, with their height in alpha
    assert np.array_equal(write(folder, w_normal=flat).stored(0, "normal")[..., :2], flat[..., :2])
    (folder / "w_normal.png").unlink()
    PillowImage.fromarray(stack(X, Y, NONE)).save(folder / "w_normal.jpg", quality=90)  # blue is not quite empty
    decoded = load_material(folder).stored(0, "normal").astype(int)
    assert (decoded[..., 2] > 127).all() and np.abs(decoded[..., :2] - P["normal"][..., :2]).mean() < 16
    (folder / "w_normal.jpg").unlink()
    material = write(folder, w_normal=stack(FULL // 2, FULL // 2, FULL))
    assert material.warnings == [] and (material.stored(3, "normal") == (127, 127, 255)).all()


def test_normals_of_grey_and_alpha(folder):
    material = write(folder, w_normal=stack(X, Y))
    check(material, "normal", tolerance=1)
    assert len(material.warnings) == 1 and "two channels" in material.warnings[0]


@pytest.mark.parametrize("names", ["RG", "XY", "XYZ"])
@pytest.mark.parametrize("signed", [True, False])
def test_normals_of_two_channels_in_exr(folder, names, signed):
    planes = [(entry / 127.5 - 1 if signed else entry / 255).astype(np.float32) for entry in (X, Y, Z)]
    channels = dict(zip(names, planes))
    OpenEXR.File({"type": OpenEXR.scanlineimage}, channels).write(str(folder / "w_normal.exr"))
    found = np.round(load_material(folder).stored(0, "normal") / 257)
    assert np.abs(found - P["normal"]).max() <= 1


@pytest.mark.parametrize("kind", ["P", "RGB"])
def test_transparency_of_a_png_is_alpha(folder, kind):
    picture = PillowImage.fromarray(P["diffuse"]).quantize(16).convert(kind)
    hidden = 3 if kind == "P" else picture.getpixel((0, 0))
    picture.save(folder / "w_albedo.png", transparency=hidden)
    material = load_material(folder)
    opaque = material.stored(0, "opacity")[..., 0] == 255
    assert 0 < opaque.mean() < 1
    assert np.array_equal(material.stored(0, "diffuse")[opaque], np.asarray(picture.convert("RGB"))[opaque])
    assert len(material.warnings) == 1 and "alpha" in material.warnings[0]


# --- file forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "jif", "dib", "icb", "vda", "apng", "unknown", ""])
def test_other_endings(folder, suffix):
    kind = {"jfif": "JPEG", "jpe": "JPEG", "jif": "JPEG", "dib": "BMP", "icb": "TGA", "vda": "TGA"}.get(suffix, "PNG")
    with (folder / f"w_roughness{'.' if suffix else ''}{suffix}").open("wb") as stream:
        PillowImage.fromarray(P["roughness"]).save(stream, kind, **({"quality": 95} if kind == "JPEG" else {}))
    check(load_material(folder), "roughness", tolerance=4)


@pytest.mark.parametrize("kind", ["dds", "gif", "avif", "webp", "jp2", "tga", "jxl", "hdr"])
def test_other_formats(folder, kind):
    path, pixels = folder / f"w_albedo.{kind}", P["diffuse"]
    if kind == "hdr":
        path.write_bytes(cv2.imencode(".hdr", pixels[..., ::-1].astype(np.float32) / 255)[1].tobytes())
    elif kind == "jxl":
        path.write_bytes(imagecodecs.jpegxl_encode(pixels, lossless=True))
    else:
        PillowImage.fromarray(pixels).save(path, **({"quality": 100} if kind in ("avif", "webp") else {}))
    decoded = read_image(path).pixels.astype(float) * (255 if kind == "hdr" else 1)
    assert decoded.shape == pixels.shape
    assert np.abs(decoded - pixels).mean() < (8 if kind in ("gif", "avif", "webp") else 3)


@pytest.mark.parametrize("code, plain", [(72, 71), (75, 74), (78, 77)])
def test_srgb_dds(tmp_path, code, plain):
    pixels = np.dstack([P["diffuse"], P["specular"]])
    kind = {71: "DXT1", 74: "DXT3", 77: "DXT5"}[plain]
    PillowImage.fromarray(pixels).save(tmp_path / "a.dds", pixel_format=kind)
    payload = (tmp_path / "a.dds").read_bytes()
    extended = payload[:84] + b"DX10" + payload[88:128] + struct.pack("<5I", code, 3, 0, 1, 0) + payload[128:]
    (tmp_path / "b.dds").write_bytes(extended)
    assert np.array_equal(read_image(tmp_path / "b.dds").pixels, read_image(tmp_path / "a.dds").pixels)


@pytest.mark.parametrize("code", [61, 87, 88, 91, 93])
def test_uncompressed_dds(tmp_path, code):
    pixels = P["roughness"][..., None] if code == 61 else stack("diffuse", "specular")[..., [2, 1, 0, 3]]
    head = struct.pack("<7I44xII4s5I", 124, 0x1007, H, W, pixels.size, 0, 1, 32, 4, b"DX10", *[0] * 5)
    payload = b"DDS " + head + struct.pack("<5I", 0x1000, 0, 0, 0, 0) + struct.pack("<5I", code, 3, 0, 1, 0)
    (tmp_path / "a.dds").write_bytes(payload + pixels.tobytes())
    image = read_image(tmp_path / "a.dds")
    assert np.array_equal(image.pixels, pixels if code == 61 else P["diffuse"])
    assert (image.alpha is not None) == (code in (87, 91))


@pytest.mark.parametrize("size", [(H, W), (5, 7), (1, 1), (300, 513)])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_jpeg_xl_sizes(tmp_path, size, depth):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(depth).max + 1, (*size, 3), depth)
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(pixels, lossless=True))
    assert np.array_equal(read_image(tmp_path / "a.jxl").pixels, pixels)
    with pytest.raises(UserError, match=f"{size[1]}x{size[0]}") if size != (1, 1) else pytest.raises(UserError):
        read_image(tmp_path / "a.jxl", max_pixels=size[0] * size[1] - 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_tiff_orientation(tmp_path, orientation, channels, depth):
    upright = np.random.default_rng(1).integers(0, np.iinfo(depth).max + 1, (5, 7, channels), depth)
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
        6: upright[:, ::-1].swapaxes(0, 1)[:, :], 7: upright[::-1, ::-1].swapaxes(0, 1),
        8: upright[::-1].swapaxes(0, 1),
    }[orientation]  # fmt: skip
    stored = np.ascontiguousarray(stored if channels > 1 else stored[..., 0])
    tags = {338: 2} if channels == 4 else {}
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(stored, tags, orientation, 1 if channels == 1 else 2))
    image = read_image(path)
    assert np.array_equal(image.pixels, upright[..., :3] if channels > 1 else upright)
    assert (image.alpha is not None) == (channels == 4)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_tiff_without_photometric(tmp_path, depth):
    pixels = np.random.default_rng(2).integers(0, np.iinfo(depth).max + 1, (5, 7), depth)
    (tmp_path / "a.tif").write_bytes(tiff(pixels, {}, photometric=None))
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels[..., 0], pixels)


def test_signed_tiff_is_refused(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(P["roughness"], {339: 2}))
    with pytest.raises(UserError, match="SampleFormat 2"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_premultiplied_alpha_is_undone(tmp_path, depth):
    top = np.iinfo(depth).max
    alpha = (64 + P["specular"][..., None] // 2).astype(float) / 255
    stored = np.concatenate([P["diffuse"] / 255 * alpha, alpha], axis=2) * top
    (tmp_path / "a.tif").write_bytes(tiff(np.round(stored).astype(depth), {338: 1}, photometric=2))
    found = read_image(tmp_path / "a.tif").pixels / top * 255
    assert np.abs(found - P["diffuse"]).max() <= 2.1


def test_a_codec_that_is_not_there_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    path.write_bytes(imagecodecs.tiff_encode(P["diffuse"].astype(np.uint16) * 257, compression="zstd"))
    assert np.array_equal(read_image(path).pixels, P["diffuse"].astype(np.uint16) * 257)
    monkeypatch.setitem(__import__("sys").modules, "imagecodecs", None)
    with pytest.raises(UserError, match=r"Zstandard.*pip install"):
        read_image(path)


@pytest.mark.parametrize("place", [(5, 4), (-3, -2), (0, 0), (20, 30)])
def test_exr_windows(tmp_path, place):
    """The picture is the display window: 0 where nothing is stored, cut where more is."""
    stored = np.random.default_rng(3).random((12, 16), np.float32) + 1
    header = {"type": OpenEXR.scanlineimage, "displayWindow": ((0, 0), (W - 1, H - 1)),
              "dataWindow": ((place[0], place[1]), (place[0] + 15, place[1] + 11))}  # fmt: skip
    OpenEXR.File(header, {"Y": stored}).write(str(tmp_path / "a.exr"))
    wanted = np.zeros((H + 60, W + 60), np.float32)
    wanted[30 + place[1] : 42 + place[1], 30 + place[0] : 46 + place[0]] = stored
    assert np.array_equal(read_image(tmp_path / "a.exr").pixels[..., 0], wanted[30 : 30 + H, 30 : 30 + W])


@pytest.mark.parametrize("low, high", [(0, 0.05), (0.48, 0.52), (-2, 3), (0, 1)])
def test_float_heights_keep_their_steps(folder, low, high):
    heights = (P["displacement"] / 255 * (high - low) + low).astype(np.float32)
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"Y": heights}).write(str(folder / "w_displacement.exr"))
    material = load_material(folder)
    start, end = material.value_range["displacement"]
    found = np.round(material.texels(0)[..., 10].numpy() * 255) / 255 * (end - start) + start  # an 8-bit decode
    assert np.abs(found - heights).max() < 0.005 * (high - low)


def test_an_animation_does_not_hide_the_picture(tmp_path):
    pixels = np.random.default_rng(4).integers(0, 65536, (H, W, 3), np.uint16)
    payload = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    control = b"acTL" + struct.pack(">II", 1, 0)
    chunk = struct.pack(">I", 8) + control + struct.pack(">I", zlib.crc32(control))
    (tmp_path / "a.png").write_bytes(payload[:33] + chunk + payload[33:])
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, pixels)


def test_a_folder_above_the_maps(folder):
    (folder / "textures").mkdir()
    (folder / "wall.blend").write_bytes(b"BLENDER")
    PillowImage.fromarray(P["diffuse"]).save(folder / "textures" / "wall_albedo.png")
    with pytest.raises(UserError, match=r"textures.*give that folder"):
        load_material(folder)
