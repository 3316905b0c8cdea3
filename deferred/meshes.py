"""Triangle meshes: loading them, a built-in torus, and textures as albedo."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError, quote, what_is_wrong

ADVICE = "pip install -r requirements/deferred.txt"
MAX_TRIANGLES = 5_000_000


@dataclass(frozen=True)
class Mesh:
    """vertices, normals: (V, 3) float64, normals of unit length; uv: (V, 2), v down; triangles: (T, 3) int64."""

    vertices: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    triangles: np.ndarray


def torus(rings: int = 48, sides: int = 24, thickness: float = 0.35) -> Mesh:
    """A torus around the y axis whose outermost circle has radius 1; u goes around the axis, v around the tube."""
    u, v = np.meshgrid(np.linspace(0, 1, rings + 1), np.linspace(0, 1, sides + 1), indexing="ij")
    around, tube = 2 * math.pi * u, 2 * math.pi * v
    out = np.stack([np.sin(around), np.zeros_like(around), np.cos(around)], axis=-1)
    normals = np.cos(tube)[..., None] * out + np.sin(tube)[..., None] * np.array([0.0, 1.0, 0.0])
    vertices = (1 - thickness) * out + thickness * normals
    index = np.arange((rings + 1) * (sides + 1)).reshape(rings + 1, sides + 1)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    triangles = np.concatenate([np.stack(corners, axis=-1).reshape(-1, 3) for corners in ((a, b, c), (a, c, d))])
    parts = (vertices.reshape(-1, 3), normals.reshape(-1, 3), np.stack([u, v], axis=-1).reshape(-1, 2))
    return Mesh(*parts, triangles)


def load_mesh(path: Path) -> tuple[Mesh, np.ndarray | None]:
    """A mesh of any format that trimesh reads, moved and scaled into the unit sphere, and its (H, W, 3) uint8 texture,
    None if it has none. Raises: UserError."""
    try:
        import trimesh
    except ImportError as error:
        raise UserError(
            f"--mesh {quote(path)}: loading meshes needs trimesh, which is not installed; {ADVICE}"
        ) from error
    logging.getLogger("trimesh").setLevel(logging.ERROR)  # it warns about missing optional packages
    if not path.is_file():
        raise UserError(
            f"--mesh {quote(path)}: no such file; give an .obj, .glb, .ply or another mesh with uv coordinates"
        )
    try:
        loaded = trimesh.load(path, force="mesh")
        vertices = np.array(loaded.vertices, np.float64)
        triangles = np.array(loaded.faces, np.int64).reshape(-1, 3)
        uv = getattr(loaded.visual, "uv", None)
        texture = _own_texture(loaded)
    except Exception as error:  # its readers can raise any exception for a damaged file
        raise UserError(
            f"--mesh {quote(path)}: trimesh cannot read it ({what_is_wrong(error)}); save it as .obj or .glb"
        ) from error
    if uv is None or len(uv) != len(vertices) or not len(triangles):
        found = (
            f"{len(vertices)} vertices and {len(triangles)} triangles without them"
            if len(triangles)
            else "no triangles"
        )
        raise UserError(f"--mesh {quote(path)}: expected triangles with uv coordinates, found {found}; unwrap it in a "
                        "modelling program")  # fmt: skip
    if len(triangles) > MAX_TRIANGLES:
        raise UserError(
            f"--mesh {quote(path)}: expected at most {MAX_TRIANGLES} triangles, found {len(triangles)}; simplify it"
        )
    uv = np.array(uv, np.float64)
    if not (np.isfinite(vertices).all() and np.isfinite(uv).all()):
        raise UserError(f"--mesh {quote(path)}: expected finite coordinates, found NaN or infinity; export it again")
    used = vertices[np.unique(triangles)]
    centre = 0.5 * (used.min(axis=0) + used.max(axis=0))
    radius = np.linalg.norm(used - centre, axis=1).max()
    if not radius > 0:
        raise UserError(f"--mesh {quote(path)}: expected an object with a size, found all vertices in one place")
    normals = np.array(loaded.vertex_normals, np.float64)
    uv[:, 1] = 1 - uv[:, 1]  # trimesh has v up, as OBJ files have
    return Mesh((vertices - centre) / radius, normals, uv, triangles), texture


def _own_texture(loaded) -> np.ndarray | None:
    material = getattr(loaded.visual, "material", None)
    for name in ("baseColorTexture", "image"):
        picture = getattr(material, name, None)
        if picture is not None:
            pixels = np.asarray(picture.convert("RGB"))
            if (pixels != pixels[0, 0]).any():  # without a texture trimesh makes a grey one
                return pixels
    return None


class TextureAlbedo:
    """Albedo from an (H, W, 3) uint8 image, sampled bilinearly with repeat addressing."""

    def __init__(self, pixels: np.ndarray):
        self.values = pixels.astype(np.float64) / 255

    def __call__(self, uv: np.ndarray) -> np.ndarray:
        height, width = self.values.shape[:2]
        place = uv * (width, height) - 0.5
        corner = np.floor(place).astype(np.int64)
        share = place - corner
        total = np.zeros((len(uv), 3))
        for dx in (0, 1):
            for dy in (0, 1):
                weight = (share[:, 0] if dx else 1 - share[:, 0]) * (share[:, 1] if dy else 1 - share[:, 1])
                total += weight[:, None] * self.values[(corner[:, 1] + dy) % height, (corner[:, 0] + dx) % width]
        return total
