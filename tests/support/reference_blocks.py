"""The part of tests/support/reference.py about one block of a grid: what its parameters are rounded to."""

from __future__ import annotations

import math
import struct

import numpy as np


def spec_end_points() -> list[int]:
    """What the 80 stored end points of ASTC stand for, 0 to 255: 16 of each quint. Khronos Data Format 1.3, chapter 23,
    "Color Endpoint Unquantization": of a quint D and four bits d c b a, A is a nine times, B is dcb0000dc, C is 13."""
    values = []
    for quint in range(5):
        for low in range(16):
            d, c, b, a = map(int, f"{low:04b}")
            t = (quint * 13 + int(f"{d}{c}{b}0000{d}{c}", 2)) ^ (0b111111111 * a)
            values.append((0b10000000 & (0b111111111 * a)) | (t >> 2))
    return values


def widened(code: int, top: int) -> float:
    """A code of as many bits as `top` has, as 8 bits: its highest bits once more below them."""
    bits = format(code, f"0{top.bit_length()}b")
    return int((bits + bits)[:8], 2) / 255


# by storage: side of a block, largest codes of R, G, B of an end point, what a code of an end point stands for, and
# what those of a weight do: of ASTC two bits three times, and 1 more above 32
END_POINTS = [value / 255 for value in sorted(spec_end_points())]
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


# --- files -----------------------------------------------------------------------------------------------------------


def spec_quints(word: int) -> tuple[int, int, int]:
    """The quints of 7 bits. Khronos Data Format 1.3, chapter 23, "Integer Sequence Encoding"."""
    q6, q5, q4, q3, q2, q1, q0 = map(int, f"{word:07b}")
    if (q2, q1, q6, q5) == (1, 1, 0, 0):
        return 4, 4, 4 * q0 + 2 * (q4 & (1 - q0)) + (q3 & (1 - q0))
    if (q2, q1) == (1, 1):
        last, c = 4, (q4, q3, 1 - q6, 1 - q5, q0)
    else:
        last, c = 2 * q6 + q5, (q4, q3, q2, q1, q0)
    high, low = 2 * c[0] + c[1], 4 * c[2] + 2 * c[3] + c[4]
    return (high, 4, last) if low == 5 else (low, high, last)


def astc_block(stored: bytes) -> np.ndarray:
    """The (6, 6, 3) texels of a block of ASTC 6x6 as grids have them, 0..255, exactly."""
    bits = f"{int.from_bytes(stored, 'little'):0128b}"[::-1]
    assert bits[:17] == "00010000100000001" and bits[55] == "0", "another mode"
    number = lambda first, count: int(bits[first : first + count][::-1], 2)  # noqa: E731
    values = []
    for at in (17, 36):
        word = number(at + 4, 3) + 8 * number(at + 11, 2) + 32 * number(at + 17, 2)
        lows = (number(at, 4), number(at + 7, 4), number(at + 13, 4))
        values += [spec_end_points()[16 * quint + low] for quint, low in zip(spec_quints(word), lows)]
    first, second = np.array(values[::2]), np.array(values[1::2])
    assert sum(second) >= sum(first), "the colours are swapped and contracted"
    places = [BLOCKS["astc6x6"][3][2 * int(bits[126 - 2 * texel]) + int(bits[127 - 2 * texel])] for texel in range(36)]
    return np.array([(1 - place) * first + place * second for place in places]).reshape(6, 6, 3)


def astc_level(stored: bytes, width: int, height: int) -> np.ndarray:
    """Blocks of ASTC 6x6, row by row, as (H, W, 3) float64 in 0..255."""
    row = 16 * math.ceil(width / 6)
    rows = [stored[at : at + row] for at in range(0, len(stored), row)]
    assert len(stored) == row * math.ceil(height / 6)
    images = [np.hstack([astc_block(blocks[k : k + 16]) for k in range(0, row, 16)]) for blocks in rows]
    return np.vstack(images)[:height, :width]


def astc_levels(payload: bytes) -> list[np.ndarray]:
    """The mips of a KTX2 file of such blocks, (H, W, 3) in 0..255. Khronos, KTX File Format Specification 2.0."""
    vk_format, _, width, height, depth, layers, faces, mips, scheme = struct.unpack_from("<9I", payload, 12)
    assert (vk_format, depth, layers, faces, scheme) == (165, 0, 0, 1, 0)
    levels = []
    for mip in range(mips):
        at, size, _ = struct.unpack_from("<3Q", payload, 80 + 24 * mip)
        levels.append(astc_level(payload[at : at + size], max(width >> mip, 1), max(height >> mip, 1)))
    return levels
