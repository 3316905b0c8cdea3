"""glTF models for tests: documents with their images, as .glb, as .gltf with files, or with data URIs."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from common.opencv import import_opencv
from maps.images import encode_png

SIZE = (12, 8)  # width, height: neither square nor a power of two


def pixels(channels: int = 3, seed: int = 0, size: tuple[int, int] = SIZE, dtype: type = np.uint8) -> np.ndarray:
    """(H, W, C) codes that hold every part of the range."""
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top + 1, (size[1], size[0], channels), dtype=dtype)


def normals(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) codes of unit normals."""
    vectors = np.random.default_rng(seed).normal(0, 0.4, (size[1], size[0], 3)) * [1, 1, 0] + [0, 0, 1]
    return np.round((vectors / np.linalg.norm(vectors, axis=2, keepdims=True) * 0.5 + 0.5) * 255).astype(np.uint8)


def encoded(codes: np.ndarray, kind: str = "PNG") -> bytes:
    """An image file."""
    if codes.dtype == np.uint16 and codes.shape[2] == 4:
        return import_opencv("a test").imencode(".png", codes[..., [2, 1, 0, 3]])[1].tobytes()
    if kind == "PNG":
        return encode_png(codes)
    stream = io.BytesIO()
    PillowImage.fromarray(codes).save(stream, kind, lossless=True)
    return stream.getvalue()


def glb(
    document: Mapping[str, Any], images: Sequence[bytes] = (), text: bytes | None = None, blob: bytes = b""
) -> bytes:
    """A .glb file whose images lie in its buffer; `images` of the document are added to, or made.

    Args:
        text: the JSON, in place of the document's.
        blob: the buffer of a document without `images`.
    """
    document = dict(document)
    if images:
        entries = [dict(entry) for entry in document.get("images", [{}] * len(images))]
        views = []
        for entry, payload in zip(entries, images):
            entry.setdefault("bufferView", len(views))
            views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": len(payload)})
            blob += payload + b"\0" * (-len(payload) % 4)
        document = {"bufferViews": views, "buffers": [{"byteLength": len(blob)}], **document, "images": entries}
    text = json.dumps({"asset": {"version": "2.0"}, **document}).encode() if text is None else text
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(blob), b"BIN\0") + blob if blob else b""
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def gltf(document: Mapping[str, Any], images: Mapping[str, bytes] | None = None) -> str:
    """A .gltf file; `images` are put into it as data URIs."""
    entries = [{"uri": "data:image/png;base64," + base64.b64encode(payload).decode()} for payload in
               (images or {}).values()]  # fmt: skip
    return json.dumps({"asset": {"version": "2.0"}, **({"images": entries} if images else {}), **document})


def textures(count: int) -> list[dict[str, int]]:
    """One for each image."""
    return [{"source": index} for index in range(count)]


def whole(name: str = "Wood", first: int = 0, **more: Any) -> dict[str, Any]:
    """A material with base colour, normal and an ORM image, from image `first` on."""
    return {
        "name": name,
        "pbrMetallicRoughness": {
            "baseColorTexture": {"index": first}, "metallicRoughnessTexture": {"index": first + 2},
        },
        "normalTexture": {"index": first + 1}, "occlusionTexture": {"index": first + 2}, **more,
    }  # fmt: skip


def write_model(
    folder: Path, materials: Sequence[Mapping[str, Any]], images: Sequence[bytes], name: str = "m.glb", **more: Any
) -> Path:
    """A .glb file with these materials, and a texture for each image."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(glb({"materials": list(materials), "textures": textures(len(images)), **more}, images))
    return path


def orm_images(seed: int = 0, size: tuple[int, int] = SIZE) -> list[bytes]:
    """Images for `whole`."""
    return [encoded(pixels(3, seed, size)), encoded(normals(seed, size)), encoded(pixels(3, seed + 1, size))]
