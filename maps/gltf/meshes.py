"""The triangles of a model's scene, as they stand in the world: one part for each material.

Nodes are applied, and meshes that several nodes show are there several times. Skins and morph targets keep the pose
that the nodes give. trimesh would read most of this, but it is not among the packages that the toolkit needs, opens
files beside the model by itself, and merges and drops vertices.

Source: Khronos, "glTF 2.0 Specification", section 3.7; KHR_texture_transform.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from common.errors import UserError, brief, counted
from maps.gltf.accessors import Accessors, listed
from maps.gltf.container import Model
from maps.gltf.materials import Placement, plan_of
from maps.gltf.nodes import placed_meshes

MAX_TRIANGLES = 1_000_000  # in a scene: some 50 MB
MAX_PRIMITIVES = 20_000  # in a scene, each as often as it is shown; half a millisecond each
MAX_NUMBER = 1e15  # of a position or uv: products of such numbers are far from overflowing
STRIP, FAN, TRIANGLES = 5, 6, 4  # modes of a primitive; the others are points and lines


class Triangles(NamedTuple):
    """Triangles with a row of each array per vertex. Front faces are counter-clockwise."""

    positions: np.ndarray  # (N, 3) float64
    normals: np.ndarray  # (N, 3), of length 1
    tangents: np.ndarray  # (N, 4): the direction of u; -1 in the last column where u and v are mirrored; zeros: none
    uv: np.ndarray  # (N, 2), where the material reads its textures
    corners: np.ndarray  # (T, 3) int64

    def moved(self, matrix: np.ndarray) -> Triangles:
        """The same seen through a (4, 4) matrix."""
        linear = matrix[:3, :3]
        side = -1.0 if np.linalg.det(linear) < 0 else 1.0
        cofactors = np.stack([np.cross(linear[a - 2], linear[a - 1]) for a in range(3)])  # exists for any matrix
        return Triangles(
            self.positions @ linear.T + matrix[:3, 3],
            unit(self.normals @ (side * cofactors.T)),
            np.concatenate([unit(self.tangents[:, :3] @ linear.T), side * self.tangents[:, 3:]], axis=1),
            self.uv,
            self.corners if side > 0 else self.corners[:, ::-1],
        )


@dataclass
class Part:
    """All triangles of one material."""

    material: int | None  # its index; None: glTF's default material
    placed: bool  # whether all have the uv set that its textures are read at
    triangles: Triangles


@dataclass
class Scene:
    """What a model shows."""

    parts: list[Part]
    notes: list[str] = field(default_factory=list)  # what is not as a viewer of glTF would show it

    @property
    def n_triangles(self) -> int:
        return sum(len(part.triangles.corners) for part in self.parts)


def read_scene(model: Model) -> Scene:
    """The default scene of a model.

    Raises: UserError for one that cannot be shown: too large, compressed, empty, or not as glTF has it.
    """
    return _Reader(model).scene()


class _Reader:
    """Reads the primitives of one scene, each once."""

    def __init__(self, model: Model):
        self.model, self.document = model, model.document()
        self.accessors = Accessors(model, self.document)
        self.meshes = listed(model, self.document, "meshes")
        self.notes: dict[str, None] = {}
        self._plans: dict[int, tuple[Placement, bool]] = {}
        self._read: dict[tuple[int, int], tuple[Triangles, bool]] = {}

    def scene(self) -> Scene:
        shown = [
            (mesh, number, primitive, matrix)
            for node, mesh, matrix in placed_meshes(self.model, self.document)
            for number, primitive in enumerate(self._primitives(node, mesh))
        ]
        self._check_size([(primitive, f"meshes[{mesh}]") for mesh, _, primitive, _ in shown])
        found: dict[tuple[int | None, bool], list[Triangles]] = {}
        for mesh, number, primitive, matrix in shown:
            if primitive.get("mode", TRIANGLES) not in (TRIANGLES, STRIP, FAN):
                self.notes["points and lines are left out"] = None
                continue
            triangles, placed = self._primitive(mesh, number, primitive)
            moved = triangles.moved(matrix)
            self._check_numbers(moved.positions, f"meshes[{mesh}]")
            found.setdefault((primitive.get("material"), placed), []).append(moved)
        parts = [Part(*key, _merged(group)) for key, group in found.items() if sum(len(t.corners) for t in group)]
        if not parts:
            raise self.model.refusal("there are no triangles in its scene", "give another model")
        return Scene(parts, list(self.notes))

    def _primitives(self, node: Mapping[str, Any], mesh: Any) -> list[Mapping[str, Any]]:
        """The primitives of a node's mesh; notes what is not shown of it."""
        model = self.model
        entry = self.meshes[model.number(mesh, "a node: index into meshes", 0, len(self.meshes) - 1)]
        primitives = entry.get("primitives")
        if not isinstance(primitives, list) or not all(isinstance(each, Mapping) for each in primitives):
            raise model.refusal(f"meshes[{mesh}]: expected a list of primitives, found {brief(primitives)}")
        if node.get("skin") is not None:
            self.notes["skins are in the pose that the nodes give"] = None
        if "EXT_mesh_gpu_instancing" in _mapping(node.get("extensions")):
            self.notes["instances of EXT_mesh_gpu_instancing are left out but for one"] = None
        for primitive in primitives:
            if "KHR_draco_mesh_compression" in _mapping(primitive.get("extensions")):
                raise model.refusal("its meshes are compressed with Draco (KHR_draco_mesh_compression), which is not "
                                    "read", "export the model without compression")  # fmt: skip
            if primitive.get("targets"):
                self.notes["morph targets are not applied"] = None
            if "COLOR_0" in _mapping(primitive.get("attributes")):
                self.notes["colours of vertices are not shown"] = None
        return primitives

    def _check_size(self, primitives: list[tuple[Mapping[str, Any], str]]) -> None:
        """Raise UserError for a scene with too many triangles, before any is read."""
        if len(primitives) > MAX_PRIMITIVES:
            found = f"expected at most {MAX_PRIMITIVES} primitives in its scene, found {len(primitives)}"
            raise self.model.refusal(found, "join meshes of one material")
        total = 0
        for primitive, where in primitives:
            index = primitive.get("indices")
            if index is None:
                index = _mapping(primitive.get("attributes")).get("POSITION")
            count = self.accessors.count(index, where)
            total += count // 3 if primitive.get("mode", TRIANGLES) == TRIANGLES else count
        if total > MAX_TRIANGLES:
            found = f"expected at most {MAX_TRIANGLES} triangles in its scene, found {total}"
            raise self.model.refusal(found, "export the model with fewer")

    def _check_numbers(self, values: np.ndarray, where: str) -> None:
        """Raise UserError for positions or texture coordinates that are far too large, or none."""
        if not (np.abs(values) < MAX_NUMBER).all():  # of what is no number, too
            found = f"expected numbers below {MAX_NUMBER:g} once they are placed, found others, or none"
            raise self.model.refusal(f"{where}: {found}")

    def _primitive(self, mesh: int, number: int, primitive: Mapping[str, Any]) -> tuple[Triangles, bool]:
        """The triangles of a primitive where its mesh has them, and whether they have the uv set of the material."""
        if (mesh, number) not in self._read:
            self._read[mesh, number] = self._triangles(primitive, f"meshes[{mesh}].primitives[{number}]")
        return self._read[mesh, number]

    def _triangles(self, primitive: Mapping[str, Any], where: str) -> tuple[Triangles, bool]:
        attributes = _mapping(primitive.get("attributes"))
        placement, bent = self._plan(primitive.get("material"))
        uv_set = f"TEXCOORD_{placement.tex_coord}"
        wanted = {"POSITION": "VEC3", "NORMAL": "VEC3", "TANGENT": "VEC4", uv_set: "VEC2"}
        rows = {
            name: self.accessors.rows(attributes.get(name), f"{where}.{name}", kind)
            for name, kind in wanted.items()
            if name in attributes or name == "POSITION"
        }
        if len({each.count for each in rows.values()}) > 1:
            found = ", ".join(f"{name} {each.count}" for name, each in rows.items())
            raise self.model.refusal(f"{where}: expected attributes of one count, found {found}")
        corners = self._corners(primitive, rows["POSITION"].count, where)
        smooth = "NORMAL" in rows
        if smooth:
            used, corners = np.unique(corners, return_inverse=True)
            corners = corners.reshape(-1, 3)
        else:  # flat: no vertex is shared
            used, corners = corners.reshape(-1), np.arange(corners.size).reshape(-1, 3)
        positions = rows["POSITION"].numbers(used)
        self._check_numbers(positions, f"{where}.POSITION")
        normals = unit(rows["NORMAL"].numbers(used)) if smooth else _flat_normals(positions, corners)
        placed = uv_set in rows
        uv = placement.moved(rows[uv_set].numbers(used)) if placed else np.zeros((len(used), 2))
        self._check_numbers(uv, f"{where}.{uv_set}")
        triangles = Triangles(positions, normals, np.zeros((len(used), 4)), uv, corners)
        if placed and bent:
            given = rows["TANGENT"].numbers(used) if smooth and "TANGENT" in rows else None
            triangles = with_tangents(triangles) if given is None else triangles._replace(tangents=_signed(given))
        return triangles, placed

    def _corners(self, primitive: Mapping[str, Any], count: int, where: str) -> np.ndarray:
        """(T, 3) indices of vertices; triangles that are lines or points are left out."""
        if primitive.get("indices") is None:
            indices = np.arange(count)
        else:
            indices = self.accessors.indices(primitive["indices"], f"{where}.indices")
        if len(indices) and indices.max() >= count:
            raise self.model.refusal(f"{where}: expected indices below {count}, found {indices.max()}")
        mode = primitive.get("mode", TRIANGLES)
        if mode == TRIANGLES:
            corners = indices[: len(indices) // 3 * 3].reshape(-1, 3)
        elif mode == STRIP:
            first = np.arange(max(len(indices) - 2, 0))
            corners = indices[first[:, None] + np.where(first[:, None] % 2, [0, 2, 1], [0, 1, 2])]
        else:
            corners = np.stack([indices[1:-1], indices[2:], np.full(max(len(indices) - 2, 0), indices[0])], axis=1)
        a, b, c = corners.T
        return corners[(a != b) & (b != c) & (c != a)]

    def _plan(self, material: Any) -> tuple[Placement, bool]:
        """Where a material reads its textures, and whether one of them is of normals."""
        if material is None:
            return Placement(), False
        material = self.model.number(material, "a primitive: index into materials", 0,
                                     len(self.model.entries("materials")) - 1)  # fmt: skip
        if material not in self._plans:
            try:
                plan = plan_of(self.model, material)
                bent = any(slot.name == "normalTexture" for slot in plan.slots)
                self._plans[material] = plan.placement, bent
            except UserError:  # a material that glTF does not allow is drawn without textures
                self._plans[material] = Placement(), False
        return self._plans[material]


def unit(vectors: np.ndarray) -> np.ndarray:
    """(N, 3) vectors made of length 1; those without a direction point along z."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        size = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.where((size > 1e-30) & np.isfinite(size), vectors / size, [0.0, 0.0, 1.0])


def _flat_normals(positions: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The normal of the triangle of each vertex, where no triangles share one."""
    a, b, c = (positions[corner] for corner in corners.T)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.repeat(unit(np.cross(b - a, c - a)), 3, axis=0)


def _signed(tangents: np.ndarray) -> np.ndarray:
    """Tangents of length 1 whose last column is 1 or -1."""
    return np.concatenate([unit(tangents[:, :3]), np.where(tangents[:, 3:] < 0, -1.0, 1.0)], axis=1)


def with_tangents(triangles: Triangles) -> Triangles:
    """The same with tangents along u: the mean of the triangles around a vertex, as large as these are.

    A vertex between a triangle whose uv is mirrored and one whose is not becomes two.
    """
    positions, corners, uv = triangles.positions, triangles.corners, triangles.uv
    a, b, c = corners.T
    with np.errstate(invalid="ignore", over="ignore"):
        along, across = positions[b] - positions[a], positions[c] - positions[a]
        (du1, dv1), (du2, dv2) = (uv[b] - uv[a]).T, (uv[c] - uv[a]).T
        turned = du1 * dv2 - du2 * dv1  # positive: u, v and the normal are left-handed, since v runs down
        sign = np.where(turned > 0, -1.0, 1.0)
        direction = -sign[:, None] * (along * dv2[:, None] - across * dv1[:, None])  # times the area in uv
        area = np.linalg.norm(np.cross(along, across), axis=1, keepdims=True)
    direction = np.where(np.isfinite(area) & (turned != 0)[:, None], unit(direction) * area, 0.0)
    keys = 2 * corners + (sign > 0)[:, None]
    kept, corners = np.unique(keys, return_inverse=True)
    corners, which = corners.reshape(-1, 3), kept >> 1
    sums = [np.bincount(corners.reshape(-1), np.repeat(direction[:, k], 3), len(kept)) for k in range(3)]
    normals, tangents = triangles.normals[which], np.stack(sums, axis=1)
    tangents = tangents - normals * (tangents * normals).sum(axis=1, keepdims=True)
    handed = np.where(kept & 1, 1.0, -1.0)[:, None]
    tangents = np.concatenate([unit(tangents), handed], axis=1)
    return Triangles(positions[which], normals, tangents, uv[which], corners)


def _merged(group: list[Triangles]) -> Triangles:
    """Several lists of triangles as one."""
    starts = np.cumsum([0, *(len(each.positions) for each in group[:-1])])
    columns = [np.concatenate(column) for column in list(zip(*group))[:4]]
    return Triangles(*columns, np.concatenate([each.corners + start for each, start in zip(group, starts)]))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def summary(scene: Scene) -> str:
    """What a scene holds, for people."""
    materials = counted(len({part.material for part in scene.parts}), "material")
    return "; ".join([f"{counted(scene.n_triangles, 'triangle')} of {materials}", *scene.notes])
