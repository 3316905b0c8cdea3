"""The part of tests/support/reference.py about one block of a grid: what its parameters are rounded to."""

from __future__ import annotations

import math

import numpy as np


def spec_end_points() -> list[int]:
    """What the 80 codes of ASTC's end points stand for, 0 to 255, in order. Khronos Data Format 1.3, chapter 23, "Color
    Endpoint Unquantization": of a quint D and four bits d c b a, A is a nine times, B is dcb0000dc, C is 13."""
    values = []
    for quint in range(5):
        for low in range(16):
            d, c, b, a = map(int, f"{low:04b}")
            t = (quint * 13 + int(f"{d}{c}{b}0000{d}{c}", 2)) ^ (0b111111111 * a)
            values.append((0b10000000 & (0b111111111 * a)) | (t >> 2))
    return sorted(values)


def widened(code: int, top: int) -> float:
    """A code of as many bits as `top` has, as 8 bits: its highest bits once more below them."""
    bits = format(code, f"0{top.bit_length()}b")
    return int((bits + bits)[:8], 2) / 255


# by storage: side of a block, largest codes of R, G, B of an end point, what a code of an end point stands for, and
# what those of a weight do: of ASTC two bits three times, and 1 more above 32
END_POINTS = [value / 255 for value in spec_end_points()]
BLOCKS = {
    "bc1": (4, [31, 63, 31], widened, [0, 1 / 3, 2 / 3, 1]),
    "astc6x6": (6, [79, 79, 79], lambda code, top: END_POINTS[code], [0, 21 / 64, 43 / 64, 1]),
}


def tops_of(storage: str) -> list[int]:
    """The largest code of each parameter of a block."""
    side, tops, _, _ = BLOCKS[storage]
    return tops * 2 + [3] * side**2


def rounding_steps(storage: str) -> np.ndarray:
    """The distance between two codes of each parameter, float32."""
    return np.array([1 / top for top in tops_of(storage)], np.float32)


def rounded_block(storage: str, parameters) -> list[float]:
    """A block's parameters -> both end points, 0 to 1 as an 8-bit texture returns them, and places 0 to 1."""
    _, _, end_point, places = BLOCKS[storage]
    values: list[float] = []
    for p, top in zip(parameters, tops_of(storage)):
        steps_up = math.floor((np.float32(p) + np.float32(0.5)) * np.float32(top) + np.float32(0.5))
        code = min(max(steps_up, 0), top)
        values.append(places[code] if len(values) >= 6 else end_point(code, top))
    return values
