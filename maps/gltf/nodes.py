"""The nodes of a model's scene: which meshes it shows, and where.

Source: Khronos, "glTF 2.0 Specification", sections 3.5.2 and 3.5.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from common.errors import brief
from maps.gltf.accessors import listed
from maps.gltf.container import Model

MAX_NODES = 200_000  # of a scene; several seconds' work


def placed_meshes(model: Model, document: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], int, np.ndarray]]:
    """The meshes of the default scene, the first one where none is named.

    Yields: a node, the index of its mesh, and the (4, 4) float64 matrix from the mesh to the world, for column vectors.
    Raises: UserError for nodes that are no trees, for too many of them, and for what is no matrix.
    """
    scenes, nodes = listed(model, document, "scenes"), listed(model, document, "nodes")
    if not scenes:
        raise model.refusal("it has no scene, so that nothing says where its meshes are")
    scene = scenes[model.number(document.get("scene", 0), "scene", 0, len(scenes) - 1)]
    waiting = [(index, "the scene", np.eye(4)) for index in reversed(_indices(model, scene.get("nodes", []), "scenes"))]
    seen = set()
    while waiting:
        index, parent, above = waiting.pop()
        index = model.number(index, f"{parent}: index into nodes", 0, len(nodes) - 1)
        if index in seen:
            raise model.refusal(f"nodes[{index}]: expected one parent, found several, or a circle")
        seen.add(index)
        if len(seen) > MAX_NODES:
            raise model.refusal(f"expected at most {MAX_NODES} nodes in a scene, found more", "split the model")
        node, where = nodes[index], f"nodes[{index}]"
        matrix = above @ _local(model, node, where)
        waiting += [(child, where, matrix) for child in reversed(_indices(model, node.get("children", []), where))]
        if node.get("mesh") is not None:
            yield node, node["mesh"], matrix


def _indices(model: Model, values: Any, where: str) -> list[Any]:
    if not isinstance(values, list):
        raise model.refusal(f"{where}: expected a list of nodes, found {brief(values)}")
    return values


def _local(model: Model, node: Mapping[str, Any], where: str) -> np.ndarray:
    """The (4, 4) matrix of a node, from its own matrix or from translation, rotation and scale."""
    matrix = np.eye(4)
    if node.get("matrix") is not None:
        return np.array(_numbers(model, node["matrix"], 16, f"{where}: matrix")).reshape(4, 4).T
    moves = {name: node.get(name) for name in ("translation", "rotation", "scale")}
    if moves["rotation"] is not None:
        x, y, z, w = _numbers(model, moves["rotation"], 4, f"{where}: rotation")
        size = math.sqrt(x * x + y * y + z * z + w * w)
        if not size > 1e-9:
            raise model.refusal(f"{where}: rotation: expected a quaternion of length 1, found {size:g}")
        x, y, z, w = (part / size for part in (x, y, z, w))
        matrix[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    if moves["scale"] is not None:
        matrix[:3, :3] *= _numbers(model, moves["scale"], 3, f"{where}: scale")
    if moves["translation"] is not None:
        matrix[:3, 3] = _numbers(model, moves["translation"], 3, f"{where}: translation")
    return matrix


def _numbers(model: Model, values: Any, count: int, where: str) -> list[float]:
    """`count` finite numbers."""
    right = isinstance(values, list) and len(values) == count
    if not right or not all(type(value) in (int, float) and abs(value) < 1e15 for value in values):
        raise model.refusal(f"{where}: expected {count} numbers, found {brief(values)}")
    return values
