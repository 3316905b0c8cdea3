"""Triangle meshes: loading them, a built-in torus, and textures as albedo."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.arrays import read_array
from common.errors import UserError, brief, quote, what_is_wrong
from common.files import parse_json

ADVICE = "pip install -r requirements/deferred.txt"
MAX_TRIANGLES = 5_000_000
UV_OUTSIDE = 1e-3  # by which uv coordinates of exporters overshoot a picture


@dataclass(frozen=True)
class Mesh:
    """vertices, normals: (V, 3) float64, normals of unit length, (0, 3) where nothing is shaded; uv: (V, 2), v down;
    triangles: (T, 3) int64."""

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


def load_mesh(path: Path, transform: str = "") -> tuple[Mesh, np.ndarray | None]:
    """A mesh of any format that trimesh reads, moved and scaled into the unit sphere, and its (H, W, 3) uint8 texture,
    None if it has none.

    transform: of --mesh_transform, before that. Raises: UserError.
    """
    loaded = _read(path, "mesh")
    try:
        mesh, texture = _mesh_of(loaded), _own_texture(loaded)
    except Exception as error:  # its properties are computed from what the file holds, and can raise any exception
        raise _unreadable(path, error) from error
    mesh = _moved(_checked(path, mesh), transform)
    used = mesh.vertices[np.unique(mesh.triangles)]
    centre = 0.5 * (used.min(axis=0) + used.max(axis=0))
    radius = np.linalg.norm(used - centre, axis=1).max()
    return replace(mesh, vertices=(mesh.vertices - centre) / radius), texture


def load_placed_mesh(path: Path, transform: str = "") -> Mesh:
    """A mesh where its file has it, or --mesh_transform puts it, for the cameras that are there too. Raises: UserError.

    Its uv coordinates must lie in one picture of 0 to 1: on photographs a repeated texture would have to look the same
    at two places.
    """
    loaded = _read(path, "scene")
    try:
        parts = [part for part in loaded.dump() if hasattr(part, "faces")]
        pictures = {_own_texture(part).tobytes() for part in parts if _own_texture(part) is not None}
        meshes = [_mesh_of(part, shaded=False) for part in parts]
    except Exception as error:  # as above
        raise _unreadable(path, error) from error
    if len(pictures) > 1:
        raise UserError(f"--mesh {quote(path)}: expected one texture, found {len(pictures)} with uv coordinates of "
                        "their own; export it with a single one, or bake them into one in a modelling program"
                        )  # fmt: skip
    mesh = _checked(path, _joined(meshes))
    low, high = mesh.uv[np.unique(mesh.triangles)].min(axis=0), mesh.uv[np.unique(mesh.triangles)].max(axis=0)
    if low.min() < -UV_OUTSIDE or high.max() > 1 + UV_OUTSIDE:
        kind = "UDIM tiles or a repeated texture"
        raise UserError(f"--mesh {quote(path)}: expected uv coordinates in 0 to 1, found u {low[0]:g} to {high[0]:g} "
                        f"and v {low[1]:g} to {high[1]:g}: {kind}; unwrap it into one picture, or bake it into one"
                        )  # fmt: skip
    return _moved(replace(mesh, uv=mesh.uv.clip(0, 1)), transform)


def _moved(mesh: Mesh, transform: str) -> Mesh:
    """A mesh after the matrix of --mesh_transform; a mirrored one has its triangles wound the other way."""
    if not transform:
        return mesh
    matrix = read_matrix(transform)
    linear = matrix[:3, :3]
    normals = mesh.normals @ np.linalg.inv(linear)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12, None)
    triangles = mesh.triangles[:, ::-1] if np.linalg.det(linear) < 0 else mesh.triangles
    return Mesh(mesh.vertices @ linear.T + matrix[:3, 3], normals, mesh.uv, np.ascontiguousarray(triangles))


def read_matrix(given: str) -> np.ndarray:
    """(4, 4) of --mesh_transform: JSON, or a file: .json, .npy, or a text file of rows. Raises: UserError."""
    flag = f"--mesh_transform {quote(given)}" if len(given) < 200 else "--mesh_transform"
    path = Path(given)
    try:
        if given.lstrip().startswith("["):
            value: Any = parse_json(given)
        elif path.suffix == ".npy":
            value = read_array(path)
        elif path.suffix == ".json":
            value = parse_json(path.read_bytes())
            value = value.get("applied_transform", value.get("transform_matrix")) if isinstance(value, dict) else value
        else:
            value = [[float(word) for word in line.replace(",", " ").split()]
                     for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]  # fmt: skip
        matrix = np.array(value, np.float64)
    except OSError as error:
        raise UserError(f"{flag}: expected a file or [[...], [...], [...], [...]], but it cannot be opened "
                        f"({error.strerror}); check the path") from error  # fmt: skip
    except (ValueError, TypeError) as error:
        raise UserError(f"{flag}: expected 4 rows of 4 numbers, found something else ({brief(str(error))}); write "
                        "[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]] or the like") from error  # fmt: skip
    if matrix.shape == (3, 4):
        matrix = np.concatenate([matrix, [[0.0, 0.0, 0.0, 1.0]]])
    good = matrix.shape == (4, 4) and np.isfinite(matrix).all() and np.array_equal(matrix[3], (0, 0, 0, 1))
    if not good or not abs(np.linalg.det(matrix[:3, :3])) > 1e-300:
        raise UserError(f"{flag}: expected 4 rows of 4 numbers that can be inverted, the last 0, 0, 0, 1, found "
                        f"{brief(matrix.tolist(), 120)}; it takes the mesh to the cameras' world")  # fmt: skip
    return matrix


def _read(path: Path, force: str):
    """trimesh's mesh or scene of a file. Raises: UserError."""
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
        return trimesh.load(path, force=force)
    except Exception as error:  # its readers can raise any exception for a damaged file
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"--mesh {quote(path)}: trimesh cannot read it ({what_is_wrong(error)}); save it as .obj or .glb")


def _mesh_of(loaded, shaded: bool = True) -> Mesh:
    """What trimesh has loaded; uv is empty, (0, 2), where the file has none.

    shaded: whether normals are wanted, which take trimesh a minute for 100 000 triangles where there is no SciPy.
    """
    vertices = np.array(loaded.vertices, np.float64)
    uv = getattr(loaded.visual, "uv", None)
    uv = np.empty((0, 2)) if uv is None or len(uv) != len(vertices) else np.array(uv, np.float64)[:, :2]
    uv[:, 1] = 1 - uv[:, 1]  # trimesh has v up, as OBJ files have
    normals = np.array(loaded.vertex_normals, np.float64) if shaded else np.empty((0, 3))
    return Mesh(vertices, normals, uv, np.array(loaded.faces, np.int64).reshape(-1, 3))


def _joined(meshes: list[Mesh]) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    if not meshes:
        return Mesh(np.empty((0, 3)), np.empty((0, 3)), np.empty((0, 2)), np.empty((0, 3), np.int64))
    triangles = [mesh.triangles + start for mesh, start in zip(meshes, starts)]
    return Mesh(*(np.concatenate([getattr(mesh, name) for mesh in meshes]) for name in ("vertices", "normals", "uv")),
                np.concatenate(triangles))  # fmt: skip


def _checked(path: Path, mesh: Mesh) -> Mesh:
    """The mesh. Raises: UserError unless it has triangles with uv coordinates, and a size."""
    triangles = len(mesh.triangles)
    if len(mesh.uv) != len(mesh.vertices) or not triangles:
        found = f"{len(mesh.vertices)} vertices and {triangles} triangles without them" if triangles else "no triangles"
        raise UserError(f"--mesh {quote(path)}: expected triangles with uv coordinates, found {found}; unwrap it in a "
                        "modelling program (docs/deferred.md names some)")  # fmt: skip
    if triangles > MAX_TRIANGLES:
        raise UserError(f"--mesh {quote(path)}: expected at most {MAX_TRIANGLES} triangles, found {triangles}; "
                        "simplify it")  # fmt: skip
    if not (np.isfinite(mesh.vertices).all() and np.isfinite(mesh.uv).all()):
        raise UserError(f"--mesh {quote(path)}: expected finite coordinates, found NaN or infinity; export it again")
    used = mesh.vertices[np.unique(mesh.triangles)]
    if not (used != used[0]).any():
        raise UserError(f"--mesh {quote(path)}: expected an object with a size, found all vertices in one place")
    return mesh


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
