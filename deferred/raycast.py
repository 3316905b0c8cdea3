"""Casts rays from one point at a mesh: finds the first triangle that each of them hits, with Embree or with numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from common.errors import UserError
from deferred.meshes import ADVICE, Mesh
from deferred.scene import Camera, Hits

CASTERS = ("auto", "embree", "own")
BAND = 1 << 19  # rays that are cast together; some 100 MB
CANDIDATES = 1 << 20  # pairs of a ray and a triangle that are tested together; some 200 MB
EDGE = 1e-9  # tolerance of barycentric coordinates: no ray may pass between two triangles that share an edge
MAX_CELLS = 2048  # along a side of the grid that sorts rays
NEAR = 1e-12  # of a mesh's distance: what is nearer to the plane of the camera is cut off


@dataclass(frozen=True)
class FirstHits:
    """What each of N rays hits first.

    triangles: (N,) int64, -1 for a ray that hits nothing. weights: (N, 3), barycentric; distance: (N,), in lengths of
    the ray; both NaN where nothing is hit.
    """

    triangles: np.ndarray
    weights: np.ndarray
    distance: np.ndarray


class MeshGeometry:
    """A mesh as a Geometry.

    caster: embree, own (numpy), or auto: embree if it can be imported. Both find the same hits; Embree is faster for
    many triangles. Raises: UserError for embree if it is not installed.
    """

    def __init__(self, mesh: Mesh, caster: str = "auto"):
        self.mesh = mesh
        # float32 is what Embree has: around the mesh's own centre it is fine enough, wherever in the world that is
        self.centre = 0.5 * (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0))
        self.find = self._embree(caster) if caster != "own" else None

    def _embree(self, caster: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
        try:
            from embreex import rtcore_scene
            from embreex.mesh_construction import TriangleMesh
        except ImportError as error:
            if caster == "embree":
                raise UserError(
                    f"--caster embree: embreex is not installed; {ADVICE}, or leave the flag out"
                ) from error
            return None
        scene = rtcore_scene.EmbreeScene()
        TriangleMesh(scene, (self.mesh.vertices - self.centre).astype(np.float32), self.mesh.triangles.astype(np.int32))

        def find(origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
            origins = np.broadcast_to((origin - self.centre).astype(np.float32), rays.shape).copy()
            return np.asarray(scene.run(origins, rays.astype(np.float32)))

        return find

    def cast(self, origin: np.ndarray, rays: np.ndarray) -> FirstHits:
        """What (N, 3) rays from one point hit; a ray with NaN hits nothing."""
        found = FirstHits(np.full(len(rays), -1, np.int64), np.full((len(rays), 3), np.nan), np.full(len(rays), np.nan))
        for start in range(0, len(rays), BAND):
            usable = start + np.flatnonzero(np.isfinite(rays[start : start + BAND]).all(axis=1))
            if not len(usable):
                continue
            cast = rays[usable].astype(np.float64)
            nearest = self.find(origin, cast) if self.find else first_triangles(self.mesh, origin, cast)
            hit = nearest >= 0
            usable, nearest = usable[hit], nearest[hit]
            corners = self.mesh.vertices[self.mesh.triangles[nearest]]
            distance, weights = intersect(corners, origin, cast[hit])
            weights = weights.clip(0, 1)
            found.triangles[usable], found.distance[usable] = nearest, distance
            found.weights[usable] = weights / weights.sum(axis=1, keepdims=True)
        return found

    def blended(self, values: np.ndarray, hits: FirstHits, mask: np.ndarray) -> np.ndarray:
        """(M, C) values of the vertices, (V, C), at those hits that the (N,) mask selects."""
        return np.einsum("nk,nkc->nc", hits.weights[mask], values[self.mesh.triangles[hits.triangles[mask]]])

    def trace(self, camera: Camera) -> Hits:
        rays = camera.rays()
        hits = self.cast(camera.position, rays.reshape(-1, 3))
        mask = hits.triangles >= 0
        normals = self.blended(self.mesh.normals, hits, mask)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12, None)
        uv = self.blended(self.mesh.uv, hits, mask)
        outside = (uv < 0) | (uv > 1)  # uv beyond the texture repeat it; a border at exactly 1 stays
        uv[outside] %= 1.0
        found = [np.full((*rays.shape[:2], size), np.nan) for size in (2, 3, 3)]
        points = camera.position + hits.distance[mask, None] * rays.reshape(-1, 3)[mask]
        for array, values in zip(found, (uv, points, normals)):
            array.reshape(-1, array.shape[2])[mask] = values
        return Hits(*found)


def intersect(corners: np.ndarray, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (N,) and barycentric coordinates (N, 3) where rays hit the planes of triangles; not finite if parallel.

    Source: Möller and Trumbore 1997.

    Args:
        corners: (N, 3, 3), the triangle of each ray. rays: (N, 3).
    """
    return _solve(*_planes(corners, origin), rays)


def _planes(corners: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What of `intersect` does not depend on the ray: (T, 3, 3) vectors to multiply it with, and (T,) numerators.

    The triple products of the source, turned so that the ray is a factor of its own.
    """
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    to_origin = origin - corners[:, 0]
    q = np.cross(to_origin, first)
    vectors = np.stack([np.cross(second, first), np.cross(second, to_origin), q], axis=1)
    return vectors, np.einsum("nc,nc->n", second, q)


def _solve(vectors: np.ndarray, numerators: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    below, b, c = np.einsum("nkc,nc->kn", vectors, rays)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse = 1 / below
        b, c, distance = b * inverse, c * inverse, numerators * inverse
    return distance, np.stack([1 - b - c, b, c], axis=1)


# --- the caster in numpy -------------------------------------------------------------------------------------------


def first_triangles(mesh: Mesh, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """(N,) int64: the triangle that each of (N, 3) rays from one point hits first, -1 for none.

    Around the point stands a cube. The rays through a face are sorted into a grid on it, and each triangle is tested
    against those in the cells under the bounding box of its picture on the face: exact for any lens, and for a mesh
    all around the camera.
    """
    nearest, depth = np.full(len(rays), -1, np.int64), np.full(len(rays), np.inf)
    forward = rays.sum(axis=0)  # the first face looks along the rays: those of most cameras pass through it alone
    turn = _turn_to(forward if np.linalg.norm(forward) > 0 else np.array([0.0, 0.0, 1.0]))
    local, vertices = rays @ turn.T, (mesh.vertices - origin) @ turn.T
    axis = np.abs(local).argmax(axis=1)
    positive = np.take_along_axis(local, axis[:, None], axis=1)[:, 0] > 0
    for number in (2, 0, 1):
        for sign in (1.0, -1.0):
            mine = np.flatnonzero((axis == number) & (positive == (sign > 0)))
            if len(mine):
                others = [other for other in range(3) if other != number]
                place = local[mine][:, others] / (sign * local[mine][:, number, None])
                boxes = _pictures(vertices[:, others], sign * vertices[:, number], mesh.triangles)
                _search(mesh, origin, rays, mine, place, boxes, nearest, depth)
    return nearest


def _turn_to(forward: np.ndarray) -> np.ndarray:
    """(3, 3): rows are an orthonormal set whose last vector is along `forward`."""
    forward = forward / np.linalg.norm(forward)
    helper = np.eye(3)[np.abs(forward).argmin()]
    right = np.cross(helper, forward)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


def _pictures(across: np.ndarray, along: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounding boxes, (T, 2) lowest and highest, of the triangles' pictures on a face at distance 1; empty (inf, -inf)
    for triangles behind the camera.

    across, along: (V, 2) and (V,), the vertices' coordinates on the face and towards it.
    """
    near = NEAR * np.abs(along).max(initial=0)
    in_front = along > near
    place = across / np.where(in_front, along, np.inf)[:, None]
    ahead = in_front[triangles]
    low, high = np.full((len(triangles), 2), np.inf), np.full((len(triangles), 2), -np.inf)
    whole = ahead.all(axis=1)
    corners = place[triangles[whole]]
    low[whole], high[whole] = corners.min(axis=1), corners.max(axis=1)
    cut = np.flatnonzero(ahead.any(axis=1) & ~whole)
    for one, two in ((0, 1), (1, 2), (2, 0)):  # of a triangle through the plane of the camera, the part in front of it
        a, b = triangles[cut, one], triangles[cut, two]
        crosses = in_front[a] != in_front[b]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (near - along[a]) / (along[b] - along[a])
            edge = (across[a] + share[:, None] * (across[b] - across[a])) / max(near, np.finfo(float).tiny)
        for usable, points in ((in_front[a], place[a]), (crosses, edge)):
            rows = cut[usable]
            low[rows], high[rows] = np.fmin(low[rows], points[usable]), np.fmax(high[rows], points[usable])
    return low, high


def _search(mesh: Mesh, origin: np.ndarray, rays: np.ndarray, mine: np.ndarray, place: np.ndarray,
            boxes: tuple[np.ndarray, np.ndarray], nearest: np.ndarray, depth: np.ndarray) -> None:  # fmt: skip
    """Test triangles against the rays of one face, and write the nearest of each ray and its distance.

    mine: (M,) which rays; place: (M, 2) where they pass through the face.
    """
    start, end = place.min(axis=0), place.max(axis=0)
    extent = (end - start).clip(1e-9, None)
    side = np.sqrt(len(mine) / extent.prod())  # cells to the unit: about one for each ray
    cells = np.ceil(extent * side).clip(1, MAX_CELLS).astype(np.int64)

    def cell_of(values: np.ndarray) -> np.ndarray:
        return np.floor((values - start) / extent * cells).clip(-1, cells).astype(np.int64)

    low, high = boxes
    margin = 1e-9 * extent  # rounding must not keep a ray from its triangle
    seen = np.flatnonzero(((low <= end + margin) & (high >= start - margin)).all(axis=1))
    low, high = (cell_of(edge).clip(0, cells - 1) for edge in (low[seen] - margin, high[seen] + margin))
    at = cell_of(place).clip(0, cells - 1)
    index = at[:, 1] * cells[0] + at[:, 0]
    mine = mine[np.argsort(index, kind="stable")]
    first = np.concatenate([[0], np.cumsum(np.bincount(index, minlength=cells.prod()))])  # of each cell's rays
    table = np.zeros((cells[1] + 1, cells[0] + 1), np.int64)  # rays above and to the left
    table[1:, 1:] = np.diff(first).reshape(cells[1], cells[0]).cumsum(axis=0).cumsum(axis=1)
    counts = (table[high[:, 1] + 1, high[:, 0] + 1] - table[low[:, 1], high[:, 0] + 1]
              - table[high[:, 1] + 1, low[:, 0]] + table[low[:, 1], low[:, 0]])  # fmt: skip
    kept = counts > 0
    seen, low, high, ends = seen[kept], low[kept], high[kept], np.cumsum(counts[kept])
    position = 0
    while position < len(seen):
        before = ends[position - 1] if position else 0
        stop = max(position + 1, int(np.searchsorted(ends, before + CANDIDATES)))
        part = slice(position, stop)
        rows, owner = _ranges(low[part, 1], high[part, 1] + 1)
        pairs, of_row = _ranges(first[rows * cells[0] + low[part, 0][owner]],
                                first[rows * cells[0] + high[part, 0][owner] + 1])  # fmt: skip
        _keep_nearest(mesh, origin, rays, seen[part], owner[of_row], mine[pairs], nearest, depth)
        position = stop


def _ranges(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All whole numbers of the ranges from starts to ends, and which range each is from."""
    lengths = ends - starts
    owner = np.repeat(np.arange(len(starts)), lengths)
    return np.arange(len(owner)) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths), owner


def _keep_nearest(mesh: Mesh, origin: np.ndarray, rays: np.ndarray, triangles: np.ndarray, owner: np.ndarray,
                  ray: np.ndarray, nearest: np.ndarray, depth: np.ndarray) -> None:  # fmt: skip
    """Test pairs of a triangle, by its place in `triangles`, and a ray; write those that are nearer than before."""
    vectors, numerators = _planes(mesh.vertices[mesh.triangles[triangles]], origin)
    distance, weights = _solve(vectors[owner], numerators[owner], rays[ray])
    hit = (weights >= -EDGE).all(axis=1) & (distance > 0) & (distance < depth[ray])
    owner, ray, distance = owner[hit], ray[hit], distance[hit]
    order = np.argsort(-distance, kind="stable")  # the nearest last: a ray keeps its last write
    depth[ray[order]], nearest[ray[order]] = distance[order], triangles[owner[order]]
