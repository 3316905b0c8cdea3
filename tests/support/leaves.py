"""A leaf texture as foliage artists make it: serrated leaves on thin stems, anti-aliased, over black."""

from __future__ import annotations

import cv2
import numpy as np

FINER = 4  # samples along each side of a texel
LEAVES = (  # centre, length, angle; in sizes of the texture, radians
    (0.24, 0.28, 0.36, 0.4), (0.72, 0.24, 0.33, -0.7), (0.28, 0.74, 0.34, 2.6), (0.74, 0.72, 0.38, 3.7),
    (0.50, 0.50, 0.26, 1.6), (0.50, 0.12, 0.20, -1.4), (0.52, 0.86, 0.22, 1.2), (0.12, 0.52, 0.19, 3.3),
    (0.88, 0.48, 0.20, 0.3),
)  # fmt: skip
TEETH = 22  # along each side of a leaf


def leaf_maps(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """opacity (size, size), diffuse and normal (size, size, 3), roughness (size, size), all uint8.

    Colour under transparent texels is black, as a render over black leaves it; at the edges it is that of the leaf.
    """
    random = np.random.default_rng(seed)
    fine = size * FINER
    mask = np.zeros((fine, fine), np.uint8)
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    color, height = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
    grain = cv2.GaussianBlur(random.standard_normal((size, size)).astype(np.float32), (0, 0), 1.2)
    for index, (cx, cy, length, angle) in enumerate(LEAVES):
        along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        outline = _outline() * length @ np.stack([along, across]) + (cx, cy)
        cv2.fillPoly(mask, [np.round(outline * fine * 16).astype(np.int32)], 255, shift=4)
        stem = np.stack([np.array([cx, cy]) - along * length * s + across * length * 0.15 * (s - 0.5) ** 2
                         for s in np.linspace(0.5, 0.95, 20)])  # fmt: skip
        cv2.polylines(mask, [np.round(stem * fine).astype(np.int32)], False, 255, thickness=max(1, round(fine / 300)))
        u = ((x - cx) * along[0] + (y - cy) * along[1]) / length
        v = ((x - cx) * across[0] + (y - cy) * across[1]) / length
        veins = np.exp(-((v / 0.012) ** 2)) + 0.7 * np.exp(-((((u - 1.2 * np.abs(v)) * 12) % 1 - 0.5) / 0.08) ** 2)
        green = np.array([0.16 + 0.015 * index, 0.38 - 0.015 * index, 0.10])
        inside = (np.abs(u) < 1) & (np.abs(v) < 0.5)
        shade = (1 + 0.5 * veins + 0.12 * grain + 0.3 * u)[..., None]
        color[inside] = (green * shade)[inside]
        height[inside] = (0.004 * veins - 0.05 * v**2 + 0.0006 * grain)[inside]
    opacity = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA)
    color[opacity == 0] = 0
    slope = np.gradient(height, 1 / size)
    normal = np.stack([-slope[1], slope[0], np.ones_like(height)], axis=2)
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    normal[opacity == 0] = (0, 0, 1)
    roughness = np.where(opacity > 0, 0.55 - 0.2 * color.mean(axis=2) + 0.05 * grain, 0)
    diffuse = np.where(opacity[..., None] > 0, 1.055 * np.clip(color, 0, 1) ** (1 / 2.4) - 0.055, 0)
    codes = {"opacity": opacity / 255, "diffuse": diffuse, "normal": normal / 2 + 0.5, "roughness": roughness}
    return {name: np.round(np.clip(values, 0, 1) * 255).astype(np.uint8) for name, values in codes.items()}


def _outline() -> np.ndarray:
    """(points, 2) of a leaf along x from -0.5 to 0.6, with teeth."""
    place = np.linspace(0, 1, TEETH * 8 + 1)
    width = 0.4 * np.sin(np.pi * place**0.8) * (1 - 0.35 * place) * (1 + 0.14 * ((place * TEETH) % 1 - 0.5))
    side = np.stack([place * 1.1 - 0.5, width], axis=1)
    return np.concatenate([side, side[::-1] * (1, -1)])
