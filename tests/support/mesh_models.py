"""glTF models with meshes for tests: documents whose buffers and images are data URIs."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.models import encoded

KINDS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
COMPONENTS = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}


class MeshModel:
    """A document to which arrays, images, primitives and nodes are added."""

    def __init__(self, **document: Any):
        self.document: dict[str, Any] = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": []}], **document}

    def add(self, kind: str, **entry: Any) -> int:
        """Returns: the index of a new entry."""
        self.document.setdefault(kind, []).append(entry)
        return len(self.document[kind]) - 1

    def view(self, payload: bytes, **more: Any) -> int:
        """A buffer of its own, and a view of all of it."""
        uri = "data:application/octet-stream;base64," + base64.b64encode(payload).decode()
        buffer = self.add("buffers", uri=uri, byteLength=len(payload))
        return self.add("bufferViews", buffer=buffer, byteLength=len(payload), **more)

    def accessor(self, values: Any, dtype: str = "f4", **more: Any) -> int:
        """(N,) or (N, columns) numbers, tightly packed."""
        values = np.ascontiguousarray(values, "<" + dtype)
        columns = values.shape[1] if values.ndim == 2 else 1
        kind = next(name for name, width in KINDS.items() if width == columns)
        entry = {"bufferView": self.view(values.tobytes()), "componentType": COMPONENTS[dtype], "type": kind}
        return self.add("accessors", **entry, count=len(values), **more)

    def texture(self, codes: np.ndarray) -> int:
        """A texture of (H, W, C) codes."""
        uri = "data:image/png;base64," + base64.b64encode(encoded(codes)).decode()
        return self.add("textures", source=self.add("images", uri=uri))

    def mesh(self, *primitives: Mapping[str, Any]) -> int:
        return self.add("meshes", primitives=list(primitives))

    def node(self, in_scene: bool = True, **entry: Any) -> int:
        index = self.add("nodes", **entry)
        if in_scene:
            self.document["scenes"][0]["nodes"].append(index)
        return index

    def quad(self, **more: Any) -> dict[str, Any]:
        """A primitive: a square from -1 to 1 that faces +z, its uv from 0 to 1, u to the right and v down."""
        corners = np.array([[-1, 1], [-1, -1], [1, -1], [1, 1]])
        attributes = {"POSITION": self.accessor(np.c_[corners, np.zeros(4)]), "NORMAL": self.accessor([[0, 0, 1]] * 4),
                      "TEXCOORD_0": self.accessor(np.c_[corners[:, 0] + 1, 1 - corners[:, 1]] / 2)}  # fmt: skip
        return {"attributes": attributes, "indices": self.accessor([0, 1, 2, 0, 2, 3], "u1"), **more}

    def save(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.document), encoding="utf-8")
        return path
