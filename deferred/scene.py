"""Renders views of an object, with image, uv map and directions: cameras, light, and the built-in sphere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Albedo = Callable[[np.ndarray], np.ndarray]  # (N, 2) uv -> (N, 3) colours in [0, 1]


@dataclass(frozen=True)
class Hits:
    """What the rays of a view hit: (H, W, ...) float64 arrays, NaN where a ray hits nothing.

    uv: (H, W, 2) in [0, 1]; points, normals: (H, W, 3), the normals of unit length.
    """

    uv: np.ndarray
    points: np.ndarray
    normals: np.ndarray


class Geometry(Protocol):
    """An object inside the unit sphere."""

    def trace(self, camera: Camera) -> Hits:
        """What the rays of a camera hit."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at the origin.

    position: (3,); fov: of the image's height, in radians; height, width: in pixels; up: unit vector.
    """

    position: np.ndarray
    fov: float
    height: int
    width: int
    up: tuple[float, float, float] = (0.0, 1.0, 0.0)

    @property
    def axes(self) -> np.ndarray:
        """(3, 3): rows are the unit vectors right, up and backwards (from the origin to the camera)."""
        back = self.position / np.linalg.norm(self.position)
        helper = np.array(self.up)
        if abs(back @ helper) > 0.9999:  # straight from above any other axis will do
            helper = np.eye(3)[2 - np.abs(helper)[::-1].argmin()]
        right = np.cross(helper, back)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(back, right), back])

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return 0.5 * self.height / math.tan(0.5 * self.fov)

    def rays(self) -> np.ndarray:
        """(H, W, 3): unit directions through the pixel centres."""
        right, up, back = self.axes
        x = (np.arange(self.width) + 0.5 - 0.5 * self.width) / self.focal
        y = (0.5 * self.height - np.arange(self.height) - 0.5) / self.focal
        rays = x[None, :, None] * right + y[:, None, None] * up - back
        return rays / np.linalg.norm(rays, axis=2, keepdims=True)


@dataclass(frozen=True)
class Light:
    """One distant light and Phong's model (Phong 1975); colours are clipped to [0, 1].

    direction: (3,) unit vector to the light.
    """

    direction: np.ndarray
    ambient: float = 0.25
    diffuse: float = 0.65
    specular: float = 0.5
    exponent: float = 4.0

    def shade(self, albedo: np.ndarray, normals: np.ndarray, to_camera: np.ndarray) -> np.ndarray:
        """(N, 3) colours of surface points from their albedo and unit vectors, all (N, 3)."""
        cosine = normals @ self.direction
        mirrored = 2 * cosine[:, None] * normals - self.direction
        glossy = np.einsum("nc,nc->n", mirrored, to_camera).clip(0, None) ** self.exponent
        matte = albedo * (self.ambient + self.diffuse * cosine.clip(0, None))[:, None]
        return (matte + self.specular * np.where(cosine > 0, glossy, 0)[:, None]).clip(0, 1)


def render_view(
    geometry: Geometry, albedo: Albedo, light: Light, camera: Camera
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (H, W, 3) in [0, 1], uv (H, W, 2) float32, unit vectors from the surface to the camera (H, W, 3) float32.

    Off the surface the image is black, and uv and vectors are NaN.
    """
    hits = geometry.trace(camera)
    mask = np.isfinite(hits.uv[..., 0])
    to_camera = camera.position - hits.points
    to_camera /= np.linalg.norm(to_camera, axis=2, keepdims=True)
    image = np.zeros((camera.height, camera.width, 3))
    image[mask] = light.shade(albedo(hits.uv[mask]), hits.normals[mask], to_camera[mask])
    return image, hits.uv.astype(np.float32), to_camera.astype(np.float32)


# --- cameras -------------------------------------------------------------------------------------------------------


def camera_positions(
    path: str, count: int, distance: float, elevations: tuple[float, float], turns: float, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """(3,) positions at `distance` from the origin.

    path: "random" draws azimuth and elevation; "orbit" makes `turns` around the object while rising and sinking once.

    Args:
        elevations: lowest and highest, in radians above the horizon.
    """
    low, high = elevations
    for index in range(count):
        if path == "random":
            azimuth, elevation = random.uniform(0, 2 * math.pi), random.uniform(low, high)
        else:
            share = index / count
            azimuth = 2 * math.pi * turns * share
            elevation = low + (high - low) * (0.5 - 0.5 * math.cos(2 * math.pi * share))
        across = math.cos(elevation)
        yield distance * np.array([math.sin(azimuth) * across, math.sin(elevation), math.cos(azimuth) * across])


def turn_upright(up: np.ndarray) -> np.ndarray:
    """(3, 3): the shortest rotation that takes +y to the unit vector `up`."""
    x, y, z = up
    if y < -1 + 1e-12:
        return np.diag([1.0, -1.0, -1.0])
    skew = np.array([[0, x, 0], [-x, 0, -z], [0, z, 0]])  # of the cross product of +y and up, after Rodrigues
    return np.eye(3) + skew + skew @ skew / (1 + y)


# --- a sphere ------------------------------------------------------------------------------------------------------


class Sphere:
    """The unit sphere, with longitude as u and the angle from the top as v."""

    def trace(self, camera: Camera) -> Hits:
        rays = camera.rays()
        along = rays @ camera.position
        root = along**2 - (camera.position @ camera.position - 1)
        with np.errstate(invalid="ignore"):
            distance = -along - np.sqrt(root)  # NaN beside the sphere
        points = camera.position + distance[..., None] * rays
        u = (np.arctan2(points[..., 0], points[..., 2]) / (2 * math.pi)) % 1.0
        v = np.arccos(points[..., 1].clip(-1, 1)) / math.pi
        return Hits(np.stack([u, v], axis=2), points, points.copy())


def sample_albedo(uv: np.ndarray) -> np.ndarray:
    """A checker board of 8 by 4 fields over waves of colour: (N, 2) uv -> (N, 3)."""
    u, v = uv[:, 0], uv[:, 1]
    checker = (np.floor(8 * u) + np.floor(4 * v)) % 2 - 0.5
    phases = np.array([0.0, 2.1, 4.2])
    waves = np.sin(2 * math.pi * (6 * u[:, None] + 3 * v[:, None]) + phases)
    return 0.45 + 0.25 * checker[:, None] + 0.2 * waves
