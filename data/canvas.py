"""What the sample materials are made of: a periodic texel grid with its patterns, filters and normals.

Lengths are in tile units: 1024 to the side of the tile, so one unit is one texel of an image of that size. x runs
right, y runs down, height runs towards the viewer. Images are (N, N) or (N, N, 3) float32; everything wraps around.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence

import numpy as np

TILE = 1024.0


class Canvas:
    """A periodic texel grid: coordinates, random patterns and filters that wrap around in both axes."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        axis = ((np.arange(size) + 0.5) * (TILE / size)).astype(np.float32)
        self.x, self.y = np.meshgrid(axis, axis)
        self.fx = np.fft.rfftfreq(size, 1 / size).astype(np.float32)[None, :]  # cycles per tile
        self.fy = np.fft.fftfreq(size, 1 / size).astype(np.float32)[:, None]

    def rng(self, name: str) -> np.random.Generator:
        """A random stream of its own for each pattern, so that adding one leaves the others as they were."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def filtered(self, image: np.ndarray, response: np.ndarray) -> np.ndarray:
        """Multiply the spectrum of (N, N) `image` by (N, N//2+1) `response`."""
        return np.fft.irfft2(np.fft.rfft2(image) * response, s=image.shape).astype(np.float32)

    def blur(self, image: np.ndarray, sigma: float) -> np.ndarray:
        """Gaussian of standard deviation `sigma` tile units."""
        return self.filtered(image, np.exp(-2 * (np.pi * sigma / TILE) ** 2 * (self.fx**2 + self.fy**2)))

    def noise(self, name: str, low: float, high: float, slope: float = 1.0, tall: float = 1.0) -> np.ndarray:
        """(N, N) noise, mean 0, deviation 1, amplitude f^-slope per octave from `low` to `high` cycles per tile.

        `tall` > 1 draws the pattern out vertically by that factor.
        """
        radius = np.hypot(self.fx, self.fy * tall)
        radius[0, 0] = np.inf  # the mean is left out
        band = radius ** (-1 - slope) / (1 + (low / radius) ** 8) / (1 + (radius / high) ** 6)
        field = self.filtered(self.rng(name).standard_normal((self.size, self.size), np.float32), band)
        return field / (field.std() + 1e-12)

    @functools.cache  # noqa: B019  # a canvas lives as long as the picture on it
    def kept_noise(self, name: str, low: float, high: float, slope: float = 1.0) -> np.ndarray:
        """`noise`, made once for all parts that it is cut for."""
        return self.noise(name, low, high, slope)

    def cells(self, name: str, across: int, wobble: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Worley noise of `across` squared cells, their borders bent by about `wobble` tile units.

        Returns: distance to the nearest and to the second nearest seed (tile units), a random number 0..1 per cell.
        """
        step, points = TILE / across, self.rng(name).random((across, across, 3), np.float32)
        x = self.x + wobble * self.noise(name + " wobble x", across, across * 16)
        y = self.y + wobble * self.noise(name + " wobble y", across, across * 16)
        column, row = np.floor(x / step).astype(int), np.floor(y / step).astype(int)
        first = second = number = np.full(x.shape, np.inf, np.float32)
        for j in (-1, 0, 1):
            for i in (-1, 0, 1):
                point = points[(row + j) % across, (column + i) % across]
                away = np.hypot((column + i + point[..., 0]) * step - x, (row + j + point[..., 1]) * step - y)
                second = np.minimum(second, np.maximum(first, away))
                number = np.where(away < first, point[..., 2], number)
                first = np.minimum(first, away)
        return first, second, number

    def offset(self, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
        """Vector from the nearest copy of the point (x, y) to each texel, -512..512."""
        return (self.x - x + TILE / 2) % TILE - TILE / 2, (self.y - y + TILE / 2) % TILE - TILE / 2

    def drip(self, source: np.ndarray, length: float) -> np.ndarray:
        """Each source texel runs down the wall and fades over `length` tile units; same units as `source`."""
        step = TILE / self.size / length
        return self.filtered(source, np.fft.fft(step * np.exp(-step * np.arange(self.size)))[:, None])


def ramp(start: float, stop: float, value: np.ndarray) -> np.ndarray:
    """Smoothstep: 0 at `start`, 1 at `stop` (which may be the smaller one)."""
    t = np.clip((value - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


def gradient(palette: Sequence[str], position: np.ndarray) -> np.ndarray:
    """(N, N, 3) sRGB colours 0..1 along a palette of hex codes spread evenly over position 0..1."""
    stops, colours = np.linspace(0, 1, len(palette)), np.array([list(bytes.fromhex(code)) for code in palette]) / 255
    return np.stack([np.interp(position, stops, colours[:, k]) for k in range(3)], -1).astype(np.float32)


def occlusion(canvas: Canvas, height: np.ndarray) -> np.ndarray:
    """Ambient occlusion 0..1 (1 is open): how far each texel lies below its surroundings, over several radii."""
    buried = np.zeros_like(height)
    for sigma, weight in ((1.5, 0.16), (3.0, 0.3), (6.0, 0.45), (12.0, 0.6), (24.0, 0.6)):  # grain shades little
        buried += np.maximum(canvas.blur(height, sigma) - height, 0) * (weight / sigma)
    return np.exp(-buried)


def normals(canvas: Canvas, height: np.ndarray) -> np.ndarray:
    """(N, N, 3) unit normals, OpenGL convention (green towards the top of the image), from wrapped differences."""
    step = 2 * TILE / canvas.size
    right, down = ((np.roll(height, -1, axis) - np.roll(height, 1, axis)) / step for axis in (1, 0))
    vector = np.stack([-right, down, np.ones_like(height)], -1)
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)
