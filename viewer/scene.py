"""The models that the materials of a page come from: triangles as the GPU takes them, and numbers of materials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError, explain_os_error
from maps.gltf.container import Model
from maps.gltf.materials import Factors, factors_of, labels_of
from maps.gltf.meshes import Part, Scene, Triangles, read_scene, summary
from maps.gltf.source import open_model
from maps.record import Origin

# as model.js has it
VERTEX = np.dtype([("position", "<f4", 3), ("normal", "<u4"), ("tangent", "<u4"), ("uv", "<f4", 2)])


class Models:
    """The models of a page.

    Args:
        add_blob: stores bytes in the page, and returns the number by which the scripts find them.
    """

    def __init__(self, add_blob: Callable[[bytes], int]):
        self.described: list[dict[str, Any]] = []  # JSON-ready
        self._add_blob = add_blob
        self._found: dict[Path, int | str] = {}  # index into described, or why there is none

    def place_of(self, path: Path, origin: Origin) -> tuple[dict[str, int] | None, str]:
        """Where a material lies.

        Returns: ({"index" in `described`, "material" in that model}, ""), or (None, why the model is not shown).
        """
        path = path.resolve()
        if path not in self._found:
            self._found[path] = self._read(path)
        found = self._found[path]
        if isinstance(found, str):
            return None, found
        labels = labels_of(open_model(path))
        if origin.material not in labels:
            return None, f"{path.name} has no material {origin.material:.80} any more"
        material = labels.index(origin.material)
        if not any(part["material"] == material and part["placed"] for part in self.described[found]["parts"]):
            label = origin.material[:80]
            return None, f"no triangles in the scene of {path.name} have {label} and its texture coordinates"
        return {"index": found, "material": material}, ""

    def _read(self, path: Path) -> int | str:
        try:
            model = open_model(path)
            self.described.append(self._describe(model, read_scene(model)))
        except (UserError, OSError) as error:
            return str(error) if isinstance(error, UserError) else explain_os_error(error) or str(error)
        return len(self.described) - 1

    def _describe(self, model: Model, scene: Scene) -> dict[str, Any]:
        """A model as the scripts read it: its middle at 0, within a sphere of radius 1."""
        points = [part.triangles.positions for part in scene.parts]
        low, high = (edge(np.stack([edge(each, axis=0) for each in points]), axis=0) for edge in (np.min, np.max))
        middle = (low + high) / 2
        radius = max(np.linalg.norm(each - middle, axis=1).max() for each in points) or 1.0
        materials = sorted({part.material for part in scene.parts if part.material is not None})
        labels, notes = labels_of(model), []
        numbers = {"-1": _factors_to_json(Factors(), "no material")}
        for index in materials:
            try:
                factors = factors_of(model, index)
            except UserError:
                factors = Factors()
                notes.append(f"{labels[index]} is not as glTF has materials, and drawn white")
            numbers[str(index)] = _factors_to_json(factors, labels[index])
        return {
            "name": model.path.name,
            "summary": "; ".join([summary(scene), *notes]),
            "extent": ((high - low) / 2 / radius).tolist(),
            "materials": numbers,
            "parts": [self._part(part, middle, radius) for part in scene.parts],
        }

    def _part(self, part: Part, middle: np.ndarray, radius: float) -> dict[str, Any]:
        triangles, wide = part.triangles, len(part.triangles.positions) > 1 << 16
        indices = triangles.corners.astype("<u4" if wide else "<u2")
        return {
            "material": -1 if part.material is None else part.material,
            "placed": part.placed,
            "vertices": self._add_blob(pack_vertices(triangles, middle, radius)),
            "indices": self._add_blob(indices.tobytes()),
            "wide": wide,
            "count": indices.size,
        }


def pack_vertices(triangles: Triangles, middle: np.ndarray, radius: float) -> bytes:
    """Vertices as VERTEX has them: directions of 10 bits a component, and 2 bits for the sign of the tangents."""
    packed = np.zeros(len(triangles.positions), VERTEX)
    packed["position"] = (triangles.positions - middle) / radius
    packed["normal"] = _ten_bits(triangles.normals)
    packed["tangent"] = _ten_bits(triangles.tangents[:, :3]) | (triangles.tangents[:, 3].astype(int) & 3) << 30
    packed["uv"] = triangles.uv
    return packed.tobytes()


def _ten_bits(vectors: np.ndarray) -> np.ndarray:
    """(N, 3) vectors of length 1 in 30 bits: GL's INT_2_10_10_10_REV, normalised."""
    x, y, z = (np.round(vectors * 511).astype(int) & 1023).T
    return x | y << 10 | z << 20


def _factors_to_json(factors: Factors, label: str) -> dict[str, Any]:
    return {
        "name": label,
        "base": list(factors.base),
        "roughness": factors.roughness,
        "metallic": factors.metallic,
        "emitted": list(factors.emitted),
        "mode": factors.alpha_mode,
        "cutoff": factors.cutoff,
        "double_sided": factors.double_sided,
    }
