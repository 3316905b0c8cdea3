"""The sample material in data/test_leaves: ivy with glowing buds on nothing: opacity, and emission far above 1.

Everything is drawn with OVERSAMPLING² samples a texel, part over part from the back to the front (`Layers.draw`): each
part brings its coverage, colour, relief and glow. The texels are averages: colours weighted by coverage and in linear
light, so that an edge has the colour of the leaf and not that of the ground. Where nothing is drawn, colour is black
and alpha 0, as exporters of foliage leave it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data.canvas import TILE, Canvas, gradient, occlusion, ramp
from maps.mips import linear_to_srgb, srgb_to_linear

OVERSAMPLING = 2
PEAK = 50.0  # of the emission, linear; the same in every size and seed
STEMS = 4  # across the tile
LOBES = ((0, 1.0, 0.27), (50, 0.76, 0.25), (-50, 0.76, 0.25), (108, 0.45, 0.3), (-108, 0.45, 0.3))
#        degrees from the midrib, length, half width in lengths of the lobe


@dataclasses.dataclass(frozen=True)
class Window:
    """A part of the canvas around a point, which may reach over the borders: samples there, and where they lie."""

    index: tuple[np.ndarray, np.ndarray]  # rows and columns of the samples, for indexing
    x: np.ndarray  # tile units from the point
    y: np.ndarray
    step: float  # tile units between samples

    def relief(self, height: np.ndarray) -> np.ndarray:
        """(h, w, 3) normals of (h, w) heights, not of unit length: x right, y up."""
        down, right = np.gradient(height, self.step)
        return np.stack([-right, down, np.ones_like(height)], axis=-1)


class Layers:
    """The picture under construction, one sample each: coverage, linear colour, normal, roughness, glow and depth."""

    def __init__(self, canvas: Canvas) -> None:
        size = (canvas.size, canvas.size)
        self.canvas = canvas
        self.alpha, self.depth = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self.roughness = np.ones(size, np.float32)
        self.albedo, self.glow = np.zeros((*size, 3), np.float32), np.zeros((*size, 3), np.float32)
        self.normal = np.zeros((*size, 3), np.float32)
        self.normal[..., 2] = 1

    def window(self, x: float, y: float, reach: float) -> Window:
        """The samples within `reach` tile units of the point, at most the whole tile."""
        step = TILE / self.canvas.size
        reach = min(reach, TILE / 2 - step)
        columns, rows = (np.arange(int((at - reach) // step), int((at + reach) // step) + 1) for at in (x, y))
        dx, dy = np.meshgrid((columns + 0.5) * step - x, (rows + 0.5) * step - y)
        size = self.canvas.size
        return Window(np.ix_(rows % size, columns % size), dx.astype(np.float32), dy.astype(np.float32), step)

    def draw(self, window: Window, inside: np.ndarray, albedo, normal: np.ndarray, roughness, depth: float) -> None:
        """Lay a part over the rest.

        Args:
            inside: (h, w) distance within its outline, tile units.
            albedo: (h, w, 3) sRGB. normal: (h, w, 3), of any length. roughness: a number or (h, w).
            depth: tile units towards the viewer, for the shade on what lies behind.
        """
        mask = np.clip(inside / window.step + 0.5, 0, 1)
        at = window.index
        self.alpha[at] += mask * (1 - self.alpha[at])
        share = mask / np.maximum(self.alpha[at], 1e-6)  # of what is seen: the ground has no colour of its own
        self.albedo[at] += share[..., None] * (srgb_to_linear(np.clip(albedo, 0, 1)) - self.albedo[at])
        unit = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
        self.normal[at] += share[..., None] * (unit - self.normal[at])
        self.roughness[at] += share * (roughness - self.roughness[at])
        self.glow[at] *= 1 - mask[..., None]  # what lies behind
        self.depth[at] += mask * (depth - self.depth[at])


# --- parts -----------------------------------------------------------------------------------------------------------


def draw_leaf(layers: Layers, x: float, y: float, size: float, angle: float, depth: float, rng) -> None:
    """An ivy leaf whose stalk ends at (x, y); it points along `angle` (0 is right, clockwise) for `size` tile units."""
    window = layers.window(x, y, 1.1 * size)
    cosine, sine = np.cos(angle), np.sin(angle)
    along, across = window.x * cosine + window.y * sine, window.y * cosine - window.x * sine
    bend = rng.normal(0, 0.12)
    across = across + bend * along * np.abs(along) / size
    inside, vein, rib = _outline(along, across, size)
    canvas, at = layers.canvas, window.index
    fine, broad = canvas.kept_noise("fine", 30, 300, 0.6)[at], canvas.kept_noise("broad", 4, 40, 1.2)[at]
    inside = inside + 0.6 * broad
    tilt = rng.normal(0, 0.16, 2)
    puff = 0.045 * size * (1 - np.exp(-np.maximum(inside, 0) / (0.09 * size)))
    height = (puff - 1.6 * rib - 0.8 * vein + 0.35 * fine + tilt[0] * window.x + tilt[1] * window.y
              - 0.0011 * (along**2 + across**2) * rng.uniform(0.3, 1.2))  # fmt: skip
    age = rng.random()  # young leaves are lighter, old ones dark; a few turn
    palette = (("2a3a12", "56702a", "8fa544"), ("16301b", "2c5230", "4f7a3f"), ("12261c", "1f4230", "3a6243"))[
        0 if age < 0.25 else 1 if age < 0.7 else 2
    ]
    tone = 0.38 + 0.09 * broad + 0.06 * fine + rng.uniform(-0.12, 0.12) + 0.25 * ramp(0.02, 0.2, inside / size)
    albedo = gradient(palette, tone)
    turning = ramp(0.35, -0.1, inside / (0.12 * size) + 0.35 * broad) * (rng.random() < 0.3)
    albedo += 0.8 * turning[..., None] * (gradient(("4a1f16", "7d3a20"), 0.5 + 0.2 * broad) - albedo)
    veins = np.clip(0.75 * rib + 0.38 * vein, 0, 1)[..., None]
    albedo += veins * (gradient(("8fa06a", "c2c795"), 0.5 + 0.2 * fine) - albedo)
    roughness = np.clip(0.42 + 0.12 * rng.random() + 0.05 * fine + 0.18 * veins[..., 0] + 0.2 * turning, 0, 1)
    layers.draw(window, inside, albedo, window.relief(height), roughness, depth)


def _outline(along: np.ndarray, across: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(distance inside the five lobes in tile units, fine veins 0..1, ribs 0..1) of a leaf at the origin."""
    total, rib, vein, nearest = 0.0, 0.0, np.zeros_like(along), np.full_like(along, -np.inf)
    for degrees, length, width in LOBES:
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        p, q = along * cosine + across * sine, across * cosine - along * sine
        length = length * size
        t = np.clip(p / length, 0, 1)
        half = width * length * 1.75 * t**0.62 * (1 - t) ** 0.78
        lobe = half - np.abs(q) - np.maximum(p - length, 0) - np.maximum(-p, 0)
        total = total + np.exp(np.clip(lobe / (0.045 * size), -60, 60))
        thick = 0.013 * size * (1 - 0.85 * t)
        rib = np.maximum(rib, ramp(1.5, 0.4, np.abs(q) / thick) * (p > 0) * (t < 0.97))
        phase = (p - 0.75 * np.abs(q)) / (0.115 * size)
        side = ramp(0.13, 0.03, np.abs(phase - np.round(phase))) * (p > 0.1 * length)
        vein = np.where(lobe > nearest, side * ramp(1.1, 0.5, np.abs(q) / np.maximum(half, 1e-3)), vein)
        nearest = np.maximum(nearest, lobe)
    return 0.045 * size * np.log(np.maximum(total, 1e-20)), vein, rib


def draw_stroke(layers: Layers, points: np.ndarray, radius: float, depth: float) -> None:
    """A round twig through (n, 2) points, tile units."""
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        length = np.hypot(x1 - x0, y1 - y0)
        window = layers.window((x0 + x1) / 2, (y0 + y1) / 2, length / 2 + 2 * radius)
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        across = window.y * ux - window.x * uy
        beyond = np.maximum(np.abs(window.x * ux + window.y * uy) - length / 2, 0)
        away = np.hypot(across, beyond)
        slope = np.clip(across / radius, -0.95, 0.95)
        up = np.sqrt(1 - slope**2)
        normal = np.stack([-slope * uy, -slope * ux, up], axis=-1)  # y up
        bark = layers.canvas.kept_noise("fine", 30, 300, 0.6)[window.index]
        albedo = gradient(("33261a", "5d4630", "87704c"), 0.25 + 0.4 * up + 0.12 * bark)
        layers.draw(window, radius - away, albedo, normal, 0.82 + 0.04 * bark, depth)


def draw_bud(layers: Layers, x: float, y: float, radius: float, light: float, depth: float) -> None:
    """A berry that glows from within, `light` in its middle, and makes what lies around it shine a little."""
    window = layers.window(x, y, 5 * radius)
    at = window.index
    away = np.hypot(window.x, window.y) / radius
    halo = 0.016 * light * np.exp(-((away / 2.1) ** 2)) * (away < 4.8)
    layers.glow[at] += (halo * layers.alpha[at])[..., None] * np.array([1, 0.62, 0.2], np.float32)
    up = np.sqrt(np.clip(1 - away**2, 0.04, 1))
    normal = np.stack([window.x / radius, -window.y / radius, up], axis=-1)
    albedo = gradient(("6b2a12", "c8641e", "f2b04a"), up)
    layers.draw(window, (1 - away) * radius, albedo, normal, 0.28, depth)
    body = (away < 1.1) * np.clip((1 - away) * radius / window.step + 0.5, 0, 1)
    colours = [np.exp(-((away / spread) ** 2)) for spread in (1.05, 0.8, 0.58)]  # pale within, red at the rim
    layers.glow[at] += light * body[..., None] * np.stack(colours, axis=-1) * np.array([1, 0.72, 0.36], np.float32)


# --- the plant -------------------------------------------------------------------------------------------------------


def grow(layers: Layers) -> None:
    """Stems that leave the tile where they enter it, with leaves and buds in turn on either side."""
    rng = layers.canvas.rng("ivy")
    leaves, buds = [], []
    for stem in range(STEMS):
        centre, swing, phase = (stem + 0.5) * TILE / STEMS, rng.uniform(18, 46), rng.uniform(0, 2 * np.pi)
        y = np.linspace(0, TILE, 65)
        x = centre + swing * np.sin(2 * np.pi * y / TILE + phase) + 9 * np.sin(6 * np.pi * y / TILE + 2 * phase)
        draw_stroke(layers, np.stack([x, y], axis=1), 4.6, 6)
        for node, at in enumerate(range(rng.integers(0, 6), 64, 6)):
            side = 1 if node % 2 else -1
            base = np.array([x[at], y[at]])
            angle = np.pi / 2 - side * rng.uniform(0.35, 1.15)  # downwards, and outwards
            tip = base + rng.uniform(24, 44) * np.array([np.cos(angle - side * 0.5), np.sin(angle - side * 0.5)])
            leaves.append((rng.uniform(10, 60), tip, rng.uniform(88, 152), angle + rng.normal(0, 0.15), base))
            if rng.random() < 0.42:
                buds.append((base + np.array([-side * rng.uniform(10, 26), rng.uniform(-14, 14)]), base))
    for depth, tip, size, angle, base in sorted(leaves, key=lambda leaf: leaf[0]):
        middle = (base + tip) / 2 + rng.normal(0, 3, 2)
        draw_stroke(layers, np.array([base, middle, tip]), 2.4, depth - 3)
        draw_leaf(layers, *tip, size, angle, depth, rng)
    for index, (at, base) in enumerate(buds):
        draw_stroke(layers, np.array([base, at]), 2.0, 62)
        berries = [at, *(at + np.clip(rng.normal(0, 11, (rng.integers(1, 4), 2)), -15, 15))]
        for berry in berries[1:]:
            draw_stroke(layers, np.array([at, berry]), 1.6, 62)
        for number, berry in enumerate(berries):
            light = float(np.exp(rng.uniform(np.log(3), np.log(40)))) if index + number else PEAK
            draw_bud(layers, *berry, rng.uniform(10, 15), light, 70)


def make_maps(size: int, seed: int) -> dict[str, np.ndarray]:
    """All maps by file name part: Albedo (N, N, 4) with alpha as opacity, NormalGL (N, N, 3) and Roughness (N, N), 0..1
    float32; Emissive (N, N, 3) float16, linear, with one PEAK."""
    canvas = Canvas(size * OVERSAMPLING, seed)
    layers = Layers(canvas)
    grow(layers)
    shade = 1 - 0.75 * (1 - occlusion(canvas, layers.depth))
    alpha = _texels(layers.alpha)
    covered = np.where(alpha > 0.5 / 255, alpha, np.inf)  # nothing is left where alpha is rounded to 0

    def of_covered(image: np.ndarray) -> np.ndarray:
        weight = layers.alpha if image.ndim == 2 else layers.alpha[..., None]
        return _texels(image * weight) / (covered if image.ndim == 2 else covered[..., None])

    albedo = linear_to_srgb(of_covered(layers.albedo * shade[..., None]))
    normal = of_covered(layers.normal) + np.array([0, 0, 1e-3], np.float32)
    glow = _texels(layers.glow)
    glow = np.where(alpha[..., None] > 0.5 / 255, glow * (PEAK / glow.max()), 0)
    return {
        "Albedo": np.dstack([albedo, alpha]),
        "NormalGL": normal / np.linalg.norm(normal, axis=-1, keepdims=True) * 0.5 + 0.5,
        "Roughness": of_covered(layers.roughness) + (alpha <= 0.5 / 255),
        "Emissive": glow.astype(np.float16),
    }


def _texels(samples: np.ndarray) -> np.ndarray:
    """(N, N, ...) means of OVERSAMPLING² samples each."""
    size = len(samples) // OVERSAMPLING
    return samples.reshape(size, OVERSAMPLING, size, OVERSAMPLING, *samples.shape[2:]).mean(axis=(1, 3))
