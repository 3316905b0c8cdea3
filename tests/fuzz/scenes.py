"""The reader of models' triangles that `python -m tests.fuzz` feeds."""

from __future__ import annotations

import copy
import random

import numpy as np

from maps.gltf.container import Model
from maps.gltf.meshes import read_scene
from tests.fuzz.base import Reader
from tests.fuzz.inputs import EXTREMES, json_bytes, mutate_tree
from tests.support.mesh_models import MeshModel
from tests.support.models import normals, pixels
from viewer.scene import Models

KEYS = ("bufferView", "byteOffset", "byteLength", "byteStride", "count", "componentType", "type", "buffer", "mesh",
        "mode", "indices", "material", "POSITION", "NORMAL", "TANGENT", "TEXCOORD_0", "scene")  # fmt: skip


def rich() -> dict:
    """A document with something of everything that is read."""
    moved = {"KHR_texture_transform": {"offset": [0.5, 0.0], "rotation": 0.1, "scale": [2, 2]}}
    model = MeshModel(materials=[
        {"normalTexture": {"index": 0, "extensions": moved}, "doubleSided": True},
        {"pbrMetallicRoughness": {"baseColorFactor": [1, 0.5, 0.2, 0.3], "metallicFactor": 0.2}, "alphaMode": "BLEND"},
    ])  # fmt: skip
    model.texture(normals())
    model.texture(pixels())
    points = np.random.default_rng(0).integers(-100, 100, (9, 3))
    sparse = {"count": 2, "indices": {"bufferView": model.view(b"\1\0\4\0"), "componentType": 5123},
              "values": {"bufferView": model.view(bytes([1, 2, 3, 4, 5, 6]))}}  # fmt: skip
    strip = {"attributes": {"POSITION": model.accessor(points, "i1", normalized=True, sparse=sparse)}, "mode": 5}
    fan = {"attributes": {"POSITION": model.accessor(points, "i2")}, "mode": 6, "material": 1,
           "indices": model.accessor([0, 3, 5, 7], "u2")}  # fmt: skip
    rows = np.arange(60, dtype="<f4").reshape(10, 6)
    view = model.view(rows.tobytes(), byteStride=24)
    position = model.add("accessors", bufferView=view, byteOffset=12, componentType=5126, type="VEC3", count=10)
    meshes = [model.mesh(model.quad(material=0), strip), model.mesh(fan, {"attributes": {"POSITION": position}})]
    model.node(False, mesh=meshes[1], matrix=np.eye(4).reshape(-1).tolist())
    model.node(mesh=meshes[0], children=[0, 2], rotation=[0, 0.6, 0, 0.8], scale=[1, -1, 2])
    model.node(False, mesh=meshes[0], translation=[1, 2, 3], skin=0)
    return model.document


class SceneReader(Reader):
    """A .gltf with meshes: its nodes, accessors and materials, read and packed as the viewer page does."""

    memory_mib = 256

    def prepare(self) -> None:
        self.tree = rich()

    def run(self, rng: random.Random) -> None:
        tree = self.other_values(rng) if rng.random() < 0.6 else mutate_tree(self.tree, rng)
        path = self.write("m.gltf", json_bytes(tree))
        try:
            model = Model(path)
            Models(lambda payload: 0)._describe(model, read_scene(model))
        finally:
            path.unlink()

    def other_values(self, rng: random.Random) -> dict:
        """The document with numbers of our choice where it counts or refers to something."""
        tree = copy.deepcopy(self.tree)
        places = list(_objects(tree))
        for _ in range(rng.choice((1, 1, 2, 4))):
            entry = rng.choice(places)
            known = [key for key in KEYS if key in entry]
            key = rng.choice(known or KEYS)
            entry[key] = rng.choice((-1, rng.randrange(12), rng.choice((5121, 5123, 5126)), rng.choice(EXTREMES)))
        return tree


def _objects(tree):
    """All objects of a document."""
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _objects(part)
