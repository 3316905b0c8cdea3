"""glb.py: the document by hand and by trimesh, the geometry by its own derivatives."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
from PIL import Image

from maps.record import MapRecord, MaterialRecord
from transcode.glb import encode_glb, plane, sphere
from transcode.textures import gltf_maps


def make_maps(width=6, height=4, names=("diffuse", "normal", "roughness", "occlusion", "metallic", "displacement")):
    random = np.random.default_rng(0)
    channels = {"diffuse": 3, "normal": 3}
    return {n: random.integers(0, 256, (height, width, channels.get(n, 1)), dtype=np.uint8) for n in names}


def parse(payload: bytes) -> tuple[dict, bytes]:
    """(document, binary chunk) of a GLB, its framing checked (glTF 2.0, 4.4)."""
    magic, version, length = struct.unpack_from("<4sII", payload)
    assert (magic, version, length) == (b"glTF", 2, len(payload)) and length % 4 == 0
    size, kind = struct.unpack_from("<I4s", payload, 12)
    assert kind == b"JSON" and size % 4 == 0
    document = json.loads(payload[20 : 20 + size])
    binary_size, kind = struct.unpack_from("<I4s", payload, 20 + size)
    assert kind == b"BIN\0" and 28 + size + binary_size == length
    assert document["buffers"] == [{"byteLength": binary_size}]
    return document, payload[28 + size :]


def picture(document: dict, binary: bytes, texture: dict) -> np.ndarray:
    image = document["images"][document["textures"][texture["index"]]["source"]]
    assert image["mimeType"] == "image/png"
    view = document["bufferViews"][image["bufferView"]]
    with Image.open(io.BytesIO(binary[view["byteOffset"] :][: view["byteLength"]])) as opened:
        return np.asarray(opened)


def test_textures_are_where_gltf_looks_for_them():
    maps = make_maps()
    document, binary = parse(encode_glb("brick", maps))
    (material,) = document["materials"]
    pbr = material["pbrMetallicRoughness"]
    assert material["name"] == "brick" and (pbr["metallicFactor"], pbr["roughnessFactor"]) == (1, 1)
    assert np.array_equal(picture(document, binary, pbr["baseColorTexture"]), maps["diffuse"])
    assert np.array_equal(picture(document, binary, material["normalTexture"]), maps["normal"])
    packed = picture(document, binary, pbr["metallicRoughnessTexture"])
    assert material["occlusionTexture"] == pbr["metallicRoughnessTexture"] and len(document["images"]) == 3
    for channel, name in enumerate(("occlusion", "roughness", "metallic")):
        assert np.array_equal(packed[..., channel], maps[name][..., 0])
    assert document["samplers"][0]["wrapS"] == document["samplers"][0]["wrapT"] == 10497


def test_missing_maps():
    document, binary = parse(encode_glb("x", make_maps(names=("roughness",))))
    material = document["materials"][0]
    pbr = material["pbrMetallicRoughness"]
    assert pbr["metallicFactor"] == 0 and "baseColorTexture" not in pbr
    assert "normalTexture" not in material and "occlusionTexture" not in material
    packed = picture(document, binary, pbr["metallicRoughnessTexture"])
    assert (packed[..., 0] == 255).all() and (packed[..., 2] == 0).all()
    document, _ = parse(encode_glb("x", make_maps(names=("displacement",))))
    assert not {"textures", "images", "samplers"} & set(document)
    document, _ = parse(encode_glb("x", make_maps(names=("occlusion",))))
    assert "metallicRoughnessTexture" not in document["materials"][0]["pbrMetallicRoughness"]


def test_accessors_lie_inside_the_buffer_and_are_aligned():
    document, binary = parse(encode_glb("x", make_maps(3, 5)))
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        size = 2 if accessor["componentType"] == 5123 else 4
        assert accessor["count"] * width[accessor["type"]] * size == view["byteLength"] and view["byteOffset"] % 4 == 0
        assert view["byteOffset"] + view["byteLength"] <= len(binary)
    for mesh in document["meshes"]:
        (primitive,) = mesh["primitives"]
        assert set(primitive["attributes"]) == {"POSITION", "NORMAL", "TANGENT", "TEXCOORD_0"}
        position = document["accessors"][primitive["attributes"]["POSITION"]]
        view = document["bufferViews"][position["bufferView"]]
        values = np.frombuffer(binary, np.float32, 3 * position["count"], view["byteOffset"]).reshape(-1, 3)
        assert position["min"] == values.min(axis=0).tolist() and position["max"] == values.max(axis=0).tolist()


@pytest.mark.parametrize("mesh", [plane(1.5), sphere(2)], ids=["plane", "sphere"])
def test_normals_and_tangents_follow_from_positions_and_uv(mesh):
    """Outward faces; along u the surface goes where the tangent points, against v where cross(normal, tangent) does."""
    triangles = mesh["indices"].reshape(-1, 3).astype(int)
    position, normal, uv = (mesh[name][triangles].astype(np.float64) for name in ("POSITION", "NORMAL", "TEXCOORD_0"))
    tangent = mesh["TANGENT"][triangles].astype(np.float64)
    edges = position[:, 1:] - position[:, :1]
    face = np.cross(edges[:, 0], edges[:, 1])
    assert (np.linalg.norm(face, axis=1) > 1e-6).all()
    assert ((face[:, None] * normal).sum(axis=2) > 0).all()
    assert (mesh["TANGENT"][:, 3] == 1).all()
    np.testing.assert_allclose(np.linalg.norm(mesh["NORMAL"], axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(mesh["TANGENT"][:, :3], axis=1), 1, atol=1e-6)
    steps = uv[:, 1:] - uv[:, :1]  # solve edges = du * P_u + dv * P_v
    along = np.linalg.solve(steps, edges)
    middle = tangent[..., :3].mean(axis=1)
    up = np.cross(normal.mean(axis=1), middle)
    for derivative, direction in ((along[:, 0], middle), (-along[:, 1], up)):
        cosine = (derivative * direction).sum(axis=1)
        cosine /= np.linalg.norm(derivative, axis=1) * np.linalg.norm(direction, axis=1)
        assert np.median(cosine) > 0.999 and cosine.min() > 0.6  # next to a pole a triangle covers all directions


@pytest.mark.parametrize(("width", "height", "repeats"), [(8, 8, 2), (8, 4, 1), (4, 8, 4), (64, 1, 1)])
def test_the_sphere_keeps_texels_square(width, height, repeats):
    document, binary = parse(encode_glb("x", make_maps(width, height)))
    accessor = document["accessors"][document["meshes"][1]["primitives"][0]["attributes"]["TEXCOORD_0"]]
    view = document["bufferViews"][accessor["bufferView"]]
    uv = np.frombuffer(binary, np.float32, 2 * accessor["count"], view["byteOffset"]).reshape(-1, 2)
    assert uv.max(axis=0).tolist() == [repeats, 1] and uv.min() == 0


def test_maps_as_gltf_wants_them():
    maps = make_maps()
    records = tuple(MapRecord(n, "linear", "linear", convention="dx") for n in maps)
    result = gltf_maps(maps, MaterialRecord("made", 1, 1, records))
    assert np.array_equal(result["normal"][..., 1], 255 - maps["normal"][..., 1])
    assert np.array_equal(result["normal"][..., [0, 2]], maps["normal"][..., [0, 2]])
    assert np.array_equal(result["diffuse"], maps["diffuse"])  # test_transcode.py: test_a_linear_exr_...
    records = tuple(MapRecord(n, "srgb", "srgb", convention="gl") for n in maps)
    result = gltf_maps(maps, MaterialRecord("made", 1, 1, records))
    assert all(np.array_equal(result[name], maps[name]) for name in maps)


def test_trimesh_reads_it():
    trimesh = pytest.importorskip("trimesh", reason="not installed (pip install -r requirements-test.txt)")
    maps = make_maps(8, 4)
    scene = trimesh.load(io.BytesIO(encode_glb("brick", maps)), file_type="glb", process=False)
    assert set(scene.geometry) == {"plane", "sphere"}
    ball = scene.geometry["sphere"]
    assert ball.area == pytest.approx(4 * np.pi, rel=0.01) and ball.volume == pytest.approx(4 / 3 * np.pi, rel=0.01)
    assert scene.geometry["plane"].area == pytest.approx(2 * 4)
    material = ball.visual.material
    assert material.name == "brick"
    assert np.array_equal(np.asarray(material.baseColorTexture), maps["diffuse"])
    assert np.array_equal(np.asarray(material.normalTexture), maps["normal"])
    assert np.array_equal(np.asarray(material.metallicRoughnessTexture)[..., 1], maps["roughness"][..., 0])


# --- opacity and emission --------------------------------------------------------------------------------------------


def leaf(width=32, height=16) -> np.ndarray:
    """A disc of opacity with an edge of one texel."""
    y, x = np.mgrid[:height, :width]
    edge = np.clip(6.5 - np.hypot(x - width / 2, y - height / 2), 0, 1)
    return np.rint(edge * 255).astype(np.uint8)[..., None]


def test_a_mask_is_cut_out_and_a_veil_is_blended():
    maps = {**make_maps(32, 16, ("diffuse", "roughness")), "opacity": leaf()}
    document, binary = parse(encode_glb("leaf", maps))
    (material,) = document["materials"]
    assert (material["alphaMode"], material["alphaCutoff"], material["doubleSided"]) == ("MASK", 0.5, True)
    colour = picture(document, binary, material["pbrMetallicRoughness"]["baseColorTexture"])
    assert np.array_equal(colour, np.dstack([maps["diffuse"], maps["opacity"]]))
    veil = np.tile(np.arange(60, 220, 5, dtype=np.uint8)[:, None], (16, 1, 1))
    document, _ = parse(encode_glb("veil", {**maps, "opacity": veil}))
    assert document["materials"][0]["alphaMode"] == "BLEND" and "alphaCutoff" not in document["materials"][0]
    document, _ = parse(encode_glb("wall", make_maps()))
    assert not {"alphaMode", "doubleSided", "emissiveTexture", "extensions"} & set(document["materials"][0])
    assert "extensionsUsed" not in document


def test_opacity_without_colour_is_on_white():
    document, binary = parse(encode_glb("leaf", {"opacity": leaf()}))
    colour = picture(document, binary, document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"])
    assert (colour[..., :3] == 255).all() and np.array_equal(colour[..., 3:], leaf())


@pytest.mark.parametrize("strength", [1.0, 50.0])
def test_light_above_1_takes_the_extension(strength):
    maps = {**make_maps(), "emissive": make_maps(names=("normal",))["normal"]}
    document, binary = parse(encode_glb("lamp", maps, strength))
    (material,) = document["materials"]
    assert np.array_equal(picture(document, binary, material["emissiveTexture"]), maps["emissive"])
    assert material["emissiveFactor"] == [1, 1, 1]
    name = "KHR_materials_emissive_strength"
    if strength > 1:
        assert material["extensions"] == {name: {"emissiveStrength": strength}} and document["extensionsUsed"] == [name]
        assert "extensionsRequired" not in document
    else:
        assert "extensions" not in material and "extensionsUsed" not in document


def test_trimesh_reads_leaves_that_glow():
    trimesh = pytest.importorskip("trimesh", reason="not installed (pip install -r requirements-test.txt)")
    maps = {**make_maps(32, 16), "opacity": leaf(), "emissive": make_maps(32, 16, ("normal",))["normal"]}
    scene = trimesh.load(io.BytesIO(encode_glb("leaf", maps, 50.0)), file_type="glb", process=False)
    material = scene.geometry["plane"].visual.material
    assert (material.alphaMode, material.alphaCutoff, material.doubleSided) == ("MASK", 0.5, True)
    assert np.array_equal(np.asarray(material.baseColorTexture), np.dstack([maps["diffuse"], maps["opacity"]]))
    assert np.array_equal(np.asarray(material.emissiveTexture), maps["emissive"])
    assert list(material.emissiveFactor) == [1, 1, 1]
