"""A model of four materials and its viewer pages. Its networks return what their features hold: nothing is trained.

Four squares that face +z stand in a row: Wall; Leaf, whose right half is a hole; Plastic, without textures; Glass, half
transparent. Behind Leaf and Glass there is more of the Wall.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dataset import load_material
from formats.textures import write_export
from maps.gltf.container import Model
from maps.gltf.materials import Placement
from maps.gltf.meshes import read_scene
from tests.support.browser import Browser
from tests.support.leaf_pages import SIDE, copying_model
from tests.support.mesh_models import MeshModel
from tests.support.models import normals

WALL = Placement(0, (0.25, 0.0), np.pi / 2, (1.0, 0.5))  # where the wall's textures are read
PLACES = {"Wall": (-3, 0), "Leaf": (-1, 0), "Plastic": (1, 0), "Glass": (3, 0)}  # x and z of each square's middle
BEHIND = [(-1, -1), (3, -1)]  # of more squares of the wall
SCALE = 0.9  # half the side of a square
TOO_BLUE = 40  # codes by which the decoded wall is off


def wall_codes() -> np.ndarray:
    """(SIDE, SIDE, 3): red grows with x, green with y."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.stack([4 * x, 4 * y, np.full_like(x, 60)], axis=2).astype(np.uint8)


def leaf_codes() -> np.ndarray:
    """(SIDE, SIDE, 4): green, opaque on the left."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.stack([2 * y, 120 + y, 0 * x, 255 * (x < SIDE // 2)], axis=2).astype(np.uint8)


def glass_codes() -> np.ndarray:
    """(SIDE, SIDE, 4): blue, half transparent, its red with a pattern."""
    x = np.arange(SIDE)[None, :].repeat(SIDE, axis=0)
    return np.stack([40 + x % 2, 60 + 0 * x, 200 + 0 * x, 128 + 0 * x], axis=2).astype(np.uint8)


def make_model(path: Path) -> Path:
    """Write the .gltf."""
    moved = {"KHR_texture_transform": {"offset": WALL.offset, "rotation": WALL.rotation, "scale": WALL.scale}}
    plain = {"baseColorFactor": [0.8, 0.02, 0.02, 1.0], "metallicFactor": 0.0}

    def colour(index: int, **more) -> dict:
        return {"pbrMetallicRoughness": {"baseColorTexture": {"index": index, **more}, "metallicFactor": 0.0}}

    model = MeshModel(materials=[
        {"name": "Wall", **colour(0, extensions=moved), "normalTexture": {"index": 1, "extensions": moved}},
        {"name": "Leaf", **colour(2), "alphaMode": "MASK", "doubleSided": True},
        {"name": "Plastic", "pbrMetallicRoughness": plain},
        {"name": "Glass", **colour(3), "alphaMode": "BLEND"},
    ])  # fmt: skip
    for codes in (wall_codes(), normals(size=(SIDE, SIDE)), leaf_codes(), glass_codes()):
        model.texture(codes)
    meshes = [model.mesh(model.quad(material=index)) for index in range(4)]
    where = [*zip(meshes, PLACES.values()), *((meshes[0], place) for place in BEHIND)]
    for mesh, (x, z) in where:
        model.node(mesh=mesh, translation=[x, 0, z], scale=[SCALE] * 3)
    return model.save(path)


def make_exports(path: Path, folder: Path) -> Path:
    """Exports of the textured materials in sub-folders. All decode what the source holds, but the wall is too blue."""
    for name in ("Wall", "Leaf", "Glass"):
        material = load_material(path, material=name)
        arrays = {each: material.file_codes(0, each).copy() for each in material.present}
        if name == "Wall":
            arrays["diffuse"][..., 2] += TOO_BLUE
        (folder / name).mkdir(parents=True)
        write_export(folder / name, copying_model(arrays), material.hashed_record)
    return folder


class Stage:
    """Where points of the model are on the canvas."""

    def __init__(self, path: Path, browser: Browser):
        points = np.concatenate([part.triangles.positions for part in read_scene(Model(path)).parts])
        self._middle = (points.min(axis=0) + points.max(axis=0)) / 2
        self._radius = np.linalg.norm(points - self._middle, axis=1).max()
        self.box = browser.tab.locator("#canvas").bounding_box()
        self._browser = browser

    def at(self, name: str, u: float, v: float) -> tuple[float, float]:
        """CSS pixels from the canvas's top left of a point of a square, u to the right and v down, 0 to 1."""
        return self.place((PLACES[name][0] + SCALE * (2 * u - 1), SCALE * (1 - 2 * v), PLACES[name][1]))

    def place(self, point: tuple[float, float, float]) -> tuple[float, float]:
        width, height = self.box["width"], self.box["height"]
        matrix = np.array(self._browser.tab.evaluate(f"nt.camera.matrix({width / height}, false)")).reshape(4, 4).T
        x, y, _, w = matrix @ [*(np.array(point) - self._middle) / self._radius, 1]
        return (x / w / 2 + 0.5) * width, (0.5 - y / w / 2) * height


def set_view(browser: Browser, yaw: float = 0.0, pitch: float = 0.0, distance: float = 3.9, **view) -> None:
    browser.tab.evaluate(
        "([camera, view]) => { Object.assign(nt.camera, camera); nt.set(view); }",
        [{"yaw": yaw, "pitch": pitch, "distance": distance}, view],
    )
