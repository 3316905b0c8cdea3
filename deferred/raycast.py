"""Casts rays at meshes: finds the first triangle that each ray of a camera hits, with Embree or with numpy."""

from __future__ import annotations

import numpy as np

from common.errors import UserError
from deferred.meshes import ADVICE, Mesh
from deferred.scene import Camera, Hits

CASTERS = ("auto", "embree", "own")
CANDIDATES = 1 << 20  # pairs of a ray and a triangle that are tested together; some 200 MB
EDGE = 1e-9  # tolerance of barycentric coordinates: no ray may pass between two triangles that share an edge


class MeshGeometry:
    """A mesh as a Geometry.

    caster: embree, own (numpy), or auto: embree if it can be imported. Both find the same hits; Embree is faster for
    many triangles. Raises: UserError for embree if it is not installed.
    """

    def __init__(self, mesh: Mesh, caster: str = "auto"):
        self.mesh = mesh
        self.find = self._embree(caster) if caster != "own" else None

    def _embree(self, caster: str):
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
        TriangleMesh(scene, self.mesh.vertices.astype(np.float32), self.mesh.triangles.astype(np.int32))

        def find(camera: Camera) -> np.ndarray:
            rays = camera.rays().reshape(-1, 3).astype(np.float32)
            origins = np.broadcast_to(camera.position.astype(np.float32), rays.shape).copy()
            return np.asarray(scene.run(origins, rays)).reshape(camera.height, camera.width)

        return find

    def trace(self, camera: Camera) -> Hits:
        nearest = self.find(camera) if self.find else first_triangles(self.mesh, camera)
        mask = nearest >= 0
        corners = self.mesh.triangles[nearest[mask]]
        rays = camera.rays()[mask]
        distance, weights = intersect(self.mesh.vertices[corners], camera.position, rays)
        weights = weights.clip(0, 1)
        weights /= weights.sum(axis=1, keepdims=True)

        def blended(values: np.ndarray) -> np.ndarray:
            return np.einsum("nk,nkc->nc", weights, values[corners])

        normals = blended(self.mesh.normals)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12, None)
        uv = blended(self.mesh.uv)
        outside = (uv < 0) | (uv > 1)  # uv beyond the texture repeat it; a border at exactly 1 stays
        uv[outside] %= 1.0
        found = [np.full((*mask.shape, size), np.nan) for size in (2, 3, 3)]
        for array, values in zip(found, (uv, camera.position + distance[:, None] * rays, normals)):
            array[mask] = values
        return Hits(*found)


def intersect(corners: np.ndarray, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (N,) and barycentric coordinates (N, 3) where rays hit the planes of triangles; not finite if parallel.

    Source: Möller and Trumbore 1997.

    Args:
        corners: (N, 3, 3), the triangle of each ray. rays: (N, 3).
    """
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    p = np.cross(rays, second)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / np.einsum("nc,nc->n", first, p)
        to_origin = origin - corners[:, 0]
        b = np.einsum("nc,nc->n", to_origin, p) * inverse
        q = np.cross(to_origin, first)
        c = np.einsum("nc,nc->n", rays, q) * inverse
        distance = np.einsum("nc,nc->n", second, q) * inverse
    return distance, np.stack([1 - b - c, b, c], axis=1)


def first_triangles(mesh: Mesh, camera: Camera) -> np.ndarray:
    """(H, W) int64: the triangle that each pixel's ray hits first, -1 for none.

    Each triangle is tested against the pixels in its bounding box on the image. The whole mesh must be in front of the
    camera.
    """
    right, up, back = camera.axes
    local = (mesh.vertices - camera.position) @ np.stack([right, up, -back], axis=1)
    x = camera.focal * local[:, 0] / local[:, 2] + 0.5 * camera.width
    y = 0.5 * camera.height - camera.focal * local[:, 1] / local[:, 2]
    boxes = []  # for each axis: the first pixel whose centre may be inside, and the last one + 1
    for place, size in ((x, camera.width), (y, camera.height)):
        of_triangle = place[mesh.triangles]
        boxes.append(np.floor(of_triangle.min(axis=1) - 0.5).astype(np.int64).clip(0, size))
        boxes.append((np.floor(of_triangle.max(axis=1) - 0.5).astype(np.int64) + 2).clip(0, size))
    left, end_x, top, end_y = boxes
    counts = (end_x - left) * (end_y - top)
    rays = camera.rays().reshape(-1, 3)
    depth = np.full(camera.height * camera.width, np.inf)
    nearest = np.full(depth.size, -1, np.int64)
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + CANDIDATES)))
        triangle = np.repeat(np.arange(start, stop), counts[start:stop])
        place = np.arange(len(triangle)) - np.repeat(ends[start:stop] - counts[start:stop] - before, counts[start:stop])
        across = (end_x - left)[triangle]
        pixel = (top[triangle] + place // across) * camera.width + left[triangle] + place % across
        distance, weights = intersect(mesh.vertices[mesh.triangles[triangle]], camera.position, rays[pixel])
        inside = (weights >= -EDGE).all(axis=1) & (distance > 0)
        triangle, pixel, distance = triangle[inside], pixel[inside], distance[inside]
        order = np.argsort(-distance, kind="stable")  # the nearest last: a pixel keeps its last write
        triangle, pixel, distance = triangle[order], pixel[order], distance[order]
        best, chosen = np.full(depth.size, np.inf), np.full(depth.size, -1, np.int64)
        best[pixel], chosen[pixel] = distance, triangle
        closer = best < depth
        depth[closer], nearest[closer] = best[closer], chosen[closer]
        start = stop
    return nearest.reshape(camera.height, camera.width)
