"""LDR-FLIP, the difference that an eye sees when two images alternate, in bands of rows on all threads.

Source: Andersson et al. 2020, "FLIP: A Difference Evaluator for Alternating Images"; its numbers are in CAPITALS below.
NVIDIA's package flip-evaluator computes the same to 4e-6 a texel, in 13 times the time and with Python's lock held:
19 of the 62 s of a run at 4096 x 4096. The tests compare with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from common.opencv import import_opencv
from maps.mips import srgb_to_linear
from metrics.tiles import MapImage, map_values, sum_of_tiles

PIXELS_PER_DEGREE = 0.7 * 3840 / 0.7 * math.pi / 180  # 0.7 m before a screen 0.7 m wide, of 3840 pixels
ACHROMATIC, RED_GREEN = 0.0047, 0.0053  # contrast sensitivity, in degrees squared: exp(-(pi x)^2 / b)
BLUE_YELLOW = ((34.1, 0.04), (13.5, 0.025))  # (weight, b) of a sum of two
DETECTOR_DEGREES = 0.082  # width of the edge and point detectors
COLOUR_POWER, FEATURE_POWER = 0.7, 0.5
KNEE, KNEE_ERROR = 0.4, 0.95  # colour differences above KNEE of the largest are squeezed into KNEE_ERROR to 1
CIE_DELTA = 6 / 29  # of CIELAB's cube root
HALO = math.ceil(3 * math.sqrt(0.04 / (2 * math.pi**2)) * PIXELS_PER_DEGREE)  # 10 rows that the widest filter reaches
DETECTOR_DEVIATION = 0.5 * DETECTOR_DEGREES * PIXELS_PER_DEGREE  # pixels
TILE_VALUES = 2**21  # of an image in one band, about 70 bytes each; larger than other metrics' for the wide halo

# Linear sRGB -> XYZ over the white point -> a luminance and two chroma axes, YCxCz without the constant of Y
_XYZ = np.array([
    [10135552 / 24577794, 8788810 / 24577794, 4435075 / 24577794],
    [2613072 / 12288897, 8788810 / 12288897, 887015 / 12288897],
    [1425312 / 73733382, 8788810 / 73733382, 70074185 / 73733382],
])  # fmt: skip
TO_WHITE = _XYZ / _XYZ.sum(axis=1, keepdims=True)
TO_OPPONENT = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]], np.float64) @ TO_WHITE
FROM_OPPONENT = np.linalg.inv(TO_OPPONENT)

Plane = np.ndarray  # (rows, width) float32


class _Seen(NamedTuple):
    """What the eye makes of an image."""

    lightness: Plane
    chroma: tuple[Plane, Plane]  # both with Hunt's adjustment
    edges: Plane
    points: Plane


def flip(decoded: MapImage, source: MapImage) -> float:
    """Mean LDR-FLIP error of two sRGB images (H, W, 3) at 67 pixels per degree; any size, 0 is identical.

    Raises: UserError without OpenCV.
    """
    import_opencv("FLIP")

    def measure(rows: slice, own: slice) -> np.ndarray:
        seen = (_see(map_values(image, rows).clip(0, 1)) for image in (source, decoded))
        return _difference(*seen)[own].sum(dtype=np.float64)

    return float(sum_of_tiles(measure, decoded, HALO, TILE_VALUES) / (decoded.shape[0] * decoded.shape[1]))


def _see(image: np.ndarray) -> _Seen:
    """An image (rows, width, 3) of sRGB values in [0, 1] after the eye's filters."""
    cv2 = import_opencv("FLIP")

    def filtered(plane: Plane, across: np.ndarray, down: np.ndarray) -> Plane:
        return cv2.sepFilter2D(plane, -1, across, down, borderType=cv2.BORDER_REPLICATE)

    opponent = cv2.split(cv2.transform(srgb_to_linear(image).astype(np.float32), TO_OPPONENT.astype(np.float32)))
    smooth = [sum(np.float32(share) * filtered(plane, kernel, kernel) for share, kernel in kernels)
              for plane, kernels in zip(opponent, SENSITIVITY)]  # fmt: skip
    shown = cv2.transform(cv2.merge(smooth), FROM_OPPONENT.astype(np.float32)).clip(0, 1)
    luminance, (blur, edge, point) = opponent[0] * np.float32(1 / 116), DETECTORS
    edges, points = (
        _length(filtered(luminance, kernel, blur), filtered(luminance, blur, kernel)) for kernel in (edge, point)
    )
    return _Seen(*_hunt_lab(cv2.split(shown)), edges, points)


def _hunt_lab(linear: Sequence[Plane]) -> tuple[Plane, tuple[Plane, Plane]]:
    """CIELAB of linear sRGB planes, chroma times a hundredth of the lightness: (lightness, chroma)."""
    white = (sum(np.float32(factor) * plane for factor, plane in zip(row, linear)) for row in TO_WHITE)
    x, y, z = (
        np.where(value > CIE_DELTA**3, np.cbrt(value), value * np.float32(1 / (3 * CIE_DELTA**2)) + np.float32(4 / 29))
        for value in white
    )
    lightness = 116 * y - 16
    adjusted = np.float32(0.01) * lightness
    return lightness, (adjusted * (500 * (x - y)), adjusted * (200 * (y - z)))


def _length(x: Plane, y: Plane) -> Plane:
    return np.sqrt(x * x + y * y)  # the last bits of cv2.magnitude depend on where in memory the planes lie


def _distance(one: tuple[Plane, tuple[Plane, Plane]], other: tuple[Plane, tuple[Plane, Plane]]) -> Plane:
    """HyAB: city blocks between lightness and chroma, Euclidean within chroma."""
    (lightness, chroma), (other_lightness, other_chroma) = one, other
    return np.abs(lightness - other_lightness) + _length(*(a - b for a, b in zip(chroma, other_chroma)))


def _difference(one: _Seen, other: _Seen) -> Plane:
    """FLIP of each texel, 0 to 1."""
    colour = _distance(one[:2], other[:2]) ** np.float32(COLOUR_POWER)
    knee = KNEE * LARGEST
    colour = np.where(
        colour < knee,
        colour * np.float32(KNEE_ERROR / knee),
        (colour - np.float32(knee)) * np.float32((1 - KNEE_ERROR) / (LARGEST - knee)) + np.float32(KNEE_ERROR),
    )
    feature = np.maximum(np.abs(one.edges - other.edges), np.abs(one.points - other.points))
    return colour ** (1 - (feature * np.float32(1 / math.sqrt(2))) ** np.float32(FEATURE_POWER))


# --- constants that follow -----------------------------------------------------------------------------------------


def _sensitivity(*terms: tuple[float, float]) -> list[tuple[float, np.ndarray]]:
    """A filter as (share, kernel of one axis) of each of its Gaussians, from (weight, b); the shares add up to 1."""
    distance = np.arange(-HALO, HALO + 1) / PIXELS_PER_DEGREE
    kernels = [np.exp(-((math.pi * distance) ** 2) / b) for _, b in terms]
    totals = [weight * math.sqrt(math.pi / b) * kernel.sum() ** 2 for (weight, b), kernel in zip(terms, kernels)]
    return [(total / sum(totals), (kernel / kernel.sum()).astype(np.float32))
            for total, kernel in zip(totals, kernels)]  # fmt: skip


def _detectors() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A Gaussian and its first and second derivative, of one axis; positive and negative weights add up to 1 each."""
    radius = math.ceil(3 * DETECTOR_DEVIATION)
    x = np.arange(-radius, radius + 1) / DETECTOR_DEVIATION
    gaussian = np.exp(-(x**2) / 2)

    def balanced(kernel: np.ndarray) -> np.ndarray:
        return np.where(kernel > 0, kernel / kernel[kernel > 0].sum(), -kernel / kernel[kernel < 0].sum())

    kernels = gaussian / gaussian.sum(), balanced(-x * gaussian), balanced((x**2 - 1) * gaussian)
    return tuple(kernel.astype(np.float32) for kernel in kernels)


def _largest() -> float:
    """The colour difference of pure green and pure blue, which nothing exceeds."""
    green, blue = (_hunt_lab([np.float64(value) for value in colour]) for colour in ((0, 1, 0), (0, 0, 1)))
    return float(_distance(green, blue) ** COLOUR_POWER)


SENSITIVITY = _sensitivity((1, ACHROMATIC)), _sensitivity((1, RED_GREEN)), _sensitivity(*BLUE_YELLOW)
DETECTORS = _detectors()
LARGEST = _largest()
