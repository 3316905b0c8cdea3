"""A .glb with one material on a plane and a sphere, for Blender and any glTF viewer.

Source: Khronos, "glTF 2.0 Specification": 3.9 materials, 3.7.2 meshes, 4.4 GLB.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from maps.coverage import ALPHA_TEST, is_mask
from maps.images import encode_png

GENERATOR = "neural texture toolkit"
SPHERE_SEGMENTS, SPHERE_RINGS = 96, 48
GAP = 0.125  # radii of the sphere from x = 0 to the plane, and to the sphere

_FLOAT, _UINT16 = 5126, 5123
_VERTICES, _INDICES = 34962, 34963  # buffer view targets
_REPEAT, _LINEAR, _LINEAR_MIPMAP_LINEAR = 10497, 9729, 9987
_STRENGTH = "KHR_materials_emissive_strength"
_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}

Maps = Mapping[str, np.ndarray]  # name -> (H, W, C) uint8
Mesh = dict[str, np.ndarray]


def encode_glb(name: str, maps: Maps, emissive_strength: float = 1.0) -> bytes:
    """The bytes of a .glb file.

    The plane has the aspect ratio of the texture; the sphere repeats it around the equator so that texels are nearly
    square.

    Args:
        name: of the material.
        maps: of one size, (H, W, 3) diffuse (sRGB), normal (x right, y up) and emissive (sRGB), (H, W, 1) roughness,
            occlusion, metallic and opacity; any of them may be missing, others are ignored.
        emissive_strength: what the light of `emissive` is multiplied by; above 1 it takes an extension, which programs
            may not know (KHR_materials_emissive_strength).
    """
    height, width = next(iter(maps.values())).shape[:2]
    builder = _Builder()
    material = {"name": name, **_material(builder, maps)}
    extensions = {}
    if "emissive" in maps and emissive_strength > 1:
        extensions = {"extensionsUsed": [_STRENGTH]}
        material["extensions"] = {_STRENGTH: {"emissiveStrength": emissive_strength}}
    aspect = width / height
    nodes = [("plane", plane(aspect), -aspect - GAP), ("sphere", sphere(max(round(2 / aspect), 1)), 1 + GAP)]
    document = {
        "asset": {"version": "2.0", "generator": GENERATOR},
        **extensions,
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "nodes": [{"name": n, "mesh": i, "translation": [x, 0, 0]} for i, (n, _, x) in enumerate(nodes)],
        "meshes": [{"name": n, "primitives": [builder.primitive(mesh)]} for n, mesh, _ in nodes],
        "materials": [material],
        **builder.content(),
    }
    text = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary = builder.binary()
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _material(builder: _Builder, maps: Maps) -> dict[str, Any]:
    pbr: dict[str, Any] = {"roughnessFactor": 1, "metallicFactor": 1 if "metallic" in maps else 0}
    material: dict[str, Any] = {"pbrMetallicRoughness": pbr}
    if {"diffuse", "opacity"} & set(maps):
        pbr["baseColorTexture"] = {"index": builder.texture("diffuse", base_colour(maps))}
    if "normal" in maps:
        material["normalTexture"] = {"index": builder.texture("normal", maps["normal"])}
    if {"occlusion", "roughness", "metallic"} & set(maps):
        texture = builder.texture("occlusion_roughness_metallic", packed_orm(maps))
        if "occlusion" in maps:
            material["occlusionTexture"] = {"index": texture}  # R
        if {"roughness", "metallic"} & set(maps):
            pbr["metallicRoughnessTexture"] = {"index": texture}  # G, B
    if "emissive" in maps:
        material["emissiveTexture"] = {"index": builder.texture("emissive", maps["emissive"])}
        material["emissiveFactor"] = [1, 1, 1]
    if "opacity" in maps:
        cutout = is_mask(maps["opacity"])
        material |= {"alphaMode": "MASK", "alphaCutoff": ALPHA_TEST} if cutout else {"alphaMode": "BLEND"}
        material["doubleSided"] = True  # a leaf has two sides, and through holes the inside is seen
    return material


def base_colour(maps: Maps) -> np.ndarray:
    """(H, W, 3) uint8 diffuse, or (H, W, 4) with the opacity as alpha; white where there is no diffuse."""
    if "opacity" not in maps:
        return maps["diffuse"]
    opacity = maps["opacity"]
    colour = maps["diffuse"] if "diffuse" in maps else np.full((*opacity.shape[:2], 3), 255, np.uint8)
    return np.dstack([colour, opacity])


def packed_orm(maps: Maps) -> np.ndarray:
    """(H, W, 3) uint8: occlusion, roughness, metallic in R, G, B; 255, 255 and 0 where there is no such map."""
    height, width = next(iter(maps.values())).shape[:2]
    packed = np.empty((height, width, 3), np.uint8)
    for channel, (name, neutral) in enumerate((("occlusion", 255), ("roughness", 255), ("metallic", 0))):
        packed[..., channel] = maps[name][..., 0] if name in maps else neutral
    return packed


# --- meshes ----------------------------------------------------------------------------------------------------------


def plane(aspect: float) -> Mesh:
    """A rectangle of height 2 that faces +z. Tangents point along u; their w is 1: v runs down, y of normals up."""
    u, v = (axis.ravel() for axis in np.meshgrid([0.0, 1.0], [0.0, 1.0]))
    flat = np.zeros_like(u)
    return {
        "POSITION": _vectors((2 * u - 1) * aspect, 1 - 2 * v, flat),
        "NORMAL": _vectors(flat, flat, flat + 1),
        "TANGENT": _vectors(flat + 1, flat, flat, flat + 1),
        "TEXCOORD_0": _vectors(u, v),
        "indices": np.array([0, 2, 3, 0, 3, 1], np.uint16),
    }


def sphere(repeats: int) -> Mesh:
    """A unit sphere whose poles are on the y axis; u runs `repeats` times around it, v from the north pole down."""
    u, v = np.meshgrid(np.arange(SPHERE_SEGMENTS + 1) / SPHERE_SEGMENTS, np.arange(SPHERE_RINGS + 1) / SPHERE_RINGS)
    u, v = u.ravel(), v.ravel()
    longitude, colatitude = 2 * math.pi * u, math.pi * v
    radius, zero = np.sin(colatitude), np.zeros_like(u)
    normal = _vectors(radius * np.sin(longitude), np.cos(colatitude), radius * np.cos(longitude))
    row = SPHERE_SEGMENTS + 1
    corner = (np.arange(SPHERE_RINGS)[:, None] * row + np.arange(SPHERE_SEGMENTS)).ravel()  # upper left of each quad
    lower = np.stack([corner, corner + row, corner + row + 1], axis=1)[: -SPHERE_SEGMENTS]  # flat at the south pole
    upper = np.stack([corner, corner + row + 1, corner + 1], axis=1)[SPHERE_SEGMENTS:]  # and at the north pole
    return {
        "POSITION": normal,
        "NORMAL": normal,
        "TANGENT": _vectors(np.cos(longitude), zero, -np.sin(longitude), zero + 1),
        "TEXCOORD_0": _vectors(u * repeats, v),
        "indices": np.concatenate([lower, upper]).astype(np.uint16).ravel(),
    }


def _vectors(*columns: np.ndarray) -> np.ndarray:
    return np.stack(columns, axis=1).astype(np.float32)


# --- buffers ---------------------------------------------------------------------------------------------------------


class _Builder:
    """Collects the binary chunk and the lists of the document that point into it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._lists: dict[str, list] = {"accessors": [], "bufferViews": [], "images": [], "textures": []}

    def _add(self, kind: str, entry: dict[str, Any]) -> int:
        self._lists[kind].append(entry)
        return len(self._lists[kind]) - 1

    def _view(self, payload: bytes, **options: Any) -> int:
        view = self._add("bufferViews", {"buffer": 0, "byteOffset": self._size, "byteLength": len(payload), **options})
        self._parts += [payload, bytes(-len(payload) % 4)]
        self._size += len(payload) + -len(payload) % 4
        return view

    def texture(self, name: str, pixels: np.ndarray) -> int:
        view = self._view(encode_png(pixels, quick=True))
        image = self._add("images", {"name": name, "bufferView": view, "mimeType": "image/png"})
        return self._add("textures", {"name": name, "sampler": 0, "source": image})

    def primitive(self, mesh: Mesh) -> dict[str, Any]:
        attributes = {name: self._accessor(values, name) for name, values in mesh.items() if name != "indices"}
        return {"attributes": attributes, "indices": self._accessor(mesh["indices"], "indices"), "material": 0}

    def _accessor(self, values: np.ndarray, name: str) -> int:
        target = _INDICES if name == "indices" else _VERTICES
        entry = {
            "bufferView": self._view(values.tobytes(), target=target),
            "componentType": _UINT16 if values.dtype == np.uint16 else _FLOAT,
            "count": len(values),
            "type": _TYPES[values.shape[1] if values.ndim == 2 else 1],
        }
        if name == "POSITION":
            entry |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        return self._add("accessors", entry)

    def binary(self) -> bytes:
        return b"".join(self._parts)

    def content(self) -> dict[str, Any]:
        lists = {name: entries for name, entries in self._lists.items() if entries}  # glTF has no empty arrays
        if "textures" in lists:
            sampler = {"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR, "wrapS": _REPEAT, "wrapT": _REPEAT}
            lists["samplers"] = [sampler]
        return {**lists, "buffers": [{"byteLength": self._size}]}
