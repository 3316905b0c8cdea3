"""Renders the sample: boxes on the ground under a soft sun, the sky, and two lamps at night, at any time of day.

    python sample_scene.py --out_dir data/sample --size 256
    python -m lightmap.sample_scene --out_dir lightmap/data/sample --size 256

Writes tod_00.png to tod_23.png, and as ground truth between them half_hours/tod_00.png (00:30) to tod_23.png (23:30).
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
import argparse
from collections.abc import Sequence

import numpy as np

from common.arrays import write_array
from common.errors import UserError, quote, run_command
from common.files import make_folder, write_bytes
from common.knobs import OneLineParser
from maps.images import encode_png

HOURS = 24
SUNRISE, SUNSET = 6.0, 18.0  # hours; the lamps are on at night
SUN_SAMPLES, SKY_SAMPLES = 16, 64
SUN_RADIUS = 0.03  # tangent of half the opening angle, larger than the real sun's for penumbrae of several texels
SUN_TILT = -0.45  # how far to the south the sun's path leans
SUN, SKY, LAMP = np.float32([1.0, 0.93, 0.80]), np.float32([0.30, 0.40, 0.55]), np.float32([1.0, 0.62, 0.28])
NIGHT_SKY = 0.06  # share of the sky's light at noon
FORMATS = ("png", "png16", "npy")
FAR = np.float32(1e6)
STRIP_TEXELS = 1 << 15  # texels that are shaded together, small enough for the caches

# x0, y0, x1, y1 on the ground (0 to 1, y down) and height
BOXES = np.float32([
    [0.15, 0.18, 0.35, 0.36, 0.22], [0.58, 0.14, 0.70, 0.44, 0.14], [0.22, 0.62, 0.42, 0.72, 0.10],
    [0.66, 0.62, 0.84, 0.80, 0.30],
])  # fmt: skip
LAMPS = np.float32([[0.47, 0.33, 0.16], [0.53, 0.80, 0.20]])  # x, y, height


class Scene:
    """The scene's lightmap, seen from above, of size x size texels."""

    def __init__(self, size: int):
        self.size = size
        axis = (np.arange(size, dtype=np.float32) + 0.5) / size
        x, y = (plane.ravel() for plane in np.meshgrid(axis, axis))
        inside = (x >= BOXES[:, :1]) & (x < BOXES[:, 2:3]) & (y >= BOXES[:, 1:2]) & (y < BOXES[:, 3:4])
        z = np.where(inside, BOXES[:, 4:], 0).max(axis=0)
        self.points = np.stack([x, y, z + np.float32(1e-4)])  # just above the surface, which must not shadow itself
        self.tint = np.where(z > 0, np.float32([[0.85], [0.80], [0.78]]), np.float32([[0.74], [0.76], [0.70]]))
        self.sky = self._open_to(_hemisphere(SKY_SAMPLES))
        self.lamps = self._lamps()

    def light(self, t: float) -> np.ndarray:
        """Light at an hour: (size, size, 3) float32, linear, not clipped; the brightest of the day is a little above 1.

        t: hours, any real number; the day repeats.
        """
        t = t % HOURS
        angle = np.pi * (t - SUNRISE) / (SUNSET - SUNRISE)
        height = max(np.sin(angle), 0.0) if SUNRISE <= t < SUNSET else 0.0
        light = SKY[:, None] * (NIGHT_SKY + (1 - NIGHT_SKY) * np.float32(height)) * self.sky
        if height > 0:
            towards = np.array([np.cos(angle), SUN_TILT, np.sin(angle)])
            warmth = np.float32([1.0, 1 - 0.35 * (1 - height), 1 - 0.7 * (1 - height)])  # redder near the horizon
            cosine = np.float32(towards[2] / np.linalg.norm(towards))
            light = light + (SUN * warmth)[:, None] * cosine * self._open_to(_disc(towards))
        else:
            light = light + self.lamps
        return (light * self.tint).T.reshape(self.size, self.size, 3).astype(np.float32)

    def _open_to(self, directions: np.ndarray) -> np.ndarray:
        """The share of (n, 3) directions in which no box blocks each point."""
        parts = np.arange(STRIP_TEXELS, self.points.shape[1], STRIP_TEXELS)
        strips = np.split(self.points, parts, axis=1)
        count = np.float32(len(directions))
        return np.concatenate([sum(~_blocked(strip, d) for d in directions) / count for strip in strips], axis=0)

    def _lamps(self) -> np.ndarray:
        """Light of the lamps at each point, (3, n): inverse square law, Lambert, hard shadows."""
        total = np.zeros_like(self.points)
        for lamp in LAMPS:
            to_lamp = lamp[:, None] - self.points
            square = (to_lamp**2).sum(axis=0)
            cosine = np.maximum(to_lamp[2], 0) / np.sqrt(square)
            lit = ~_blocked(self.points, to_lamp, reach=np.float32(1))
            total += LAMP[:, None] * (np.float32(0.028) * cosine / square * lit)
        return total


def _blocked(points: np.ndarray, direction: np.ndarray, reach: np.float32 = FAR) -> np.ndarray:
    """Whether a box lies between (3, n) points and points + reach * direction; the direction is (3,) or (3, n)."""
    direction = np.float32(direction).reshape(3, -1)
    safe = np.where(np.abs(direction) < 1e-9, np.float32(1e-9), direction)
    inverse = 1 / safe
    hit = np.zeros(points.shape[1], bool)
    for x0, y0, x1, y1, top in BOXES:
        enter, leave = np.float32(0), reach
        for axis, (low, high) in enumerate(((x0, x1), (y0, y1), (np.float32(0), top))):
            a, b = (low - points[axis]) * inverse[axis], (high - points[axis]) * inverse[axis]
            enter, leave = np.maximum(enter, np.minimum(a, b)), np.minimum(leave, np.maximum(a, b))
        hit |= enter < leave
    return hit


def _spiral(count: int) -> np.ndarray:
    """(count, 2) points spread evenly over the unit disc: Vogel's spiral."""
    radius, angle = np.sqrt((np.arange(count) + 0.5) / count), np.arange(count) * np.pi * (3 - np.sqrt(5))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _hemisphere(count: int) -> np.ndarray:
    """(count, 3) directions above the horizon, distributed as the cosine of their zenith angle (Malley's method)."""
    disc = _spiral(count)
    return np.column_stack([disc, np.sqrt(1 - (disc**2).sum(axis=1))])


def _disc(towards: np.ndarray) -> np.ndarray:
    """(SUN_SAMPLES, 3) directions to points on the sun's disc."""
    towards = towards / np.linalg.norm(towards)
    across = np.cross(towards, [0.0, 1.0, 0.0])
    across /= np.linalg.norm(across)
    disc = _spiral(SUN_SAMPLES) * SUN_RADIUS
    return towards + disc[:, :1] * across + disc[:, 1:] * np.cross(towards, across)


def write_day(folder: Path, size: int, kind: str = "png", half_hours: bool = True) -> None:
    """Write the frames of the hours, and of the half-hours into half_hours/.

    kind: png and png16 are clipped to [0, 1]; npy is float32 and ten times brighter, like an HDR bake.
    """
    scene = Scene(size)
    for shift, target in ((0.0, folder), *([(0.5, folder / "half_hours")] if half_hours else [])):
        make_folder(target)
        for hour in range(HOURS):
            light, path = scene.light(hour + shift), target / f"tod_{hour:02}.{kind[:3]}"
            if kind == "npy":
                write_array(path, light * np.float32(10))
                continue
            top, dtype = (255, np.uint8) if kind == "png" else (65535, np.uint16)
            write_bytes(path, encode_png((light.clip(0, 1) * top + 0.5).astype(dtype)))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = OneLineParser(
        prog="sample_scene.py", description="Write the lightmaps of a small scene, hour by hour.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--out_dir", type=Path, required=True, help="folder that receives the images")
    parser.add_argument("--size", type=int, default=256, help="width and height in texels, 8 to 8192")
    parser.add_argument("--format", choices=FORMATS, default="png", help="8-bit, 16-bit, or float32 of high range")
    parser.add_argument("--no_half_hours", action="store_true", help="leave out the ground truth at half-hours")
    arguments = parser.parse_args(argv)
    if not 8 <= arguments.size <= 8192:
        raise UserError(f"--size: expected 8 to 8192 texels, got {arguments.size}")
    write_day(arguments.out_dir, arguments.size, arguments.format, not arguments.no_half_hours)
    print(f"{quote(arguments.out_dir)}: {HOURS} frames of {arguments.size}x{arguments.size}, {arguments.format}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
