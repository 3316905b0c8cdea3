"""What lies in a .glb or .gltf, read by itself: the JSON, the values of accessors, and the images. Nothing is checked.

Source: Khronos, "glTF 2.0 Specification", sections 3.6 and 4.4.
"""

from __future__ import annotations

import base64
import json
import struct
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np

COMPONENTS = {5120: "i1", 5121: "u1", 5122: "i2", 5123: "u2", 5125: "u4", 5126: "f4"}
SIZES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Read:
    """A model, its buffers, and what is in them."""

    def __init__(self, path: Path):
        self.path, payload, self.blob = path, path.read_bytes(), b""
        if payload[:4] == b"glTF":
            length = struct.unpack_from("<I", payload, 12)[0]
            self.blob = payload[28 + length :]
            payload = payload[20 : 20 + length]
        self.document: dict[str, Any] = json.loads(payload)

    def entries(self, kind: str) -> list[dict[str, Any]]:
        return self.document.get(kind, [])

    def uri(self, uri: str) -> bytes:
        """The bytes behind a uri."""
        if uri.startswith("data:"):
            return base64.b64decode(uri.partition(",")[2])
        return (self.path.parent / urllib.parse.unquote(uri)).read_bytes()

    def view(self, index: int) -> bytes:
        view = self.document["bufferViews"][index]
        buffer = self.document["buffers"][view["buffer"]]
        payload = self.uri(buffer["uri"]) if "uri" in buffer else self.blob
        offset = view.get("byteOffset", 0)
        assert offset + view["byteLength"] <= buffer["byteLength"] <= len(payload)
        return payload[offset : offset + view["byteLength"]]

    def accessor(self, index: int) -> np.ndarray:
        """Its (count, components) values."""
        accessor = self.document["accessors"][index]
        dtype = np.dtype("<" + COMPONENTS[accessor["componentType"]])
        count, components = accessor["count"], SIZES[accessor["type"]]
        if "bufferView" in accessor:
            values = self._values(accessor, count, components, dtype)
        else:
            values = np.zeros((count, components), dtype)
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            kind = np.dtype("<" + COMPONENTS[sparse["indices"]["componentType"]])
            places = self._values(sparse["indices"], sparse["count"], 1, kind)[:, 0]
            values[places] = self._values(sparse["values"], sparse["count"], components, dtype)
        return values

    def _values(self, where: dict[str, Any], count: int, components: int, dtype: np.dtype) -> np.ndarray:
        view, offset = self.document["bufferViews"][where["bufferView"]], where.get("byteOffset", 0)
        stride = view.get("byteStride", components * dtype.itemsize)
        payload = self.view(where["bufferView"])
        return np.ndarray((count, components), dtype, payload, offset, (stride, dtype.itemsize)).copy()

    def image(self, index: int) -> bytes:
        """The file of an image."""
        image = self.document["images"][index]
        return self.uri(image["uri"]) if "uri" in image else self.view(image["bufferView"])

    def resolved(self, info: dict[str, Any]) -> dict[str, Any]:
        """A textureInfo with what it refers to in place of indices, but for names."""
        texture = dict(self.document["textures"][info["index"]])
        texture["source"] = self.image(texture["source"])
        if "sampler" in texture:
            texture["sampler"] = self.document["samplers"][texture["sampler"]]
        return {**info, "index": texture}
