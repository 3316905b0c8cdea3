"""BC1 as GPUs return it: the format leaves the rounding of the thirds open, and vendors differ.

Sources: the rules of Direct3D 10 (down) and Direct3D 9 (to the nearest); for AMD and NVIDIA the formulas in R.
Geldreich's rgbcx, which were found by reading back from their GPUs; for llvmpipe what it returned here.
"""

from __future__ import annotations

import numpy as np


def expanded(codes: np.ndarray) -> np.ndarray:
    """(..., 3) codes of 5, 6, 5 bits -> 0..255 by bit replication."""
    red, green, blue = np.moveaxis(codes, -1, 0)
    return np.stack([red << 3 | red >> 2, green << 2 | green >> 4, blue << 3 | blue >> 2], axis=-1)


def _plain(third):
    """Of the form third(a, b, k): 8-bit end points, k thirds from a to b."""
    return lambda a, b, k: third(expanded(a), expanded(b), k)


def _nvidia(a: np.ndarray, b: np.ndarray, k: int) -> np.ndarray:
    if k == 2:
        return _nvidia(b, a, 1)
    mixed = (2 * a + b if k == 1 else 3 * (b if k == 3 else a)) * 22 // 8
    one, other = expanded(a)[..., 1], expanded(b)[..., 1]
    apart = other - one
    mixed[..., 1] = (256 * one + np.trunc(apart / 4).astype(int) + 128 + 80 * apart) // 256 if k == 1 else (
        other if k == 3 else one
    )
    return mixed


# Of codes (..., 3) of both end points and k in 0..3: the colour k thirds from the first to the second, 0..255.
ROUNDINGS = {
    "exact": _plain(lambda a, b, k: ((3 - k) * a + k * b) / 3),
    "down": _plain(lambda a, b, k: ((3 - k) * a + k * b) // 3),
    "nearest": _plain(lambda a, b, k: ((3 - k) * a + k * b + 1) // 3),
    "amd": _plain(lambda a, b, k: ((64, 43, 21, 0)[k] * a + (0, 21, 43, 64)[k] * b + 32) // 64),
    "nvidia": _nvidia,
    "llvmpipe": _plain(lambda a, b, k: a + ((0, 85, 170, 256)[k] * (b - a) >> 8)),
}


def decode_bc1(blocks: np.ndarray, rounding: str) -> np.ndarray:
    """(rows, columns, 8) uint8 blocks of four colours -> (4 rows, 4 columns, 3) float64 in 0..255."""
    rows, columns, _ = blocks.shape
    words = np.ascontiguousarray(blocks).view("<u2").astype(int)
    ends = [np.stack([word >> 11, word >> 5 & 63, word & 31], axis=-1) for word in (words[..., 0], words[..., 1])]
    indices = words[..., 2] | words[..., 3] << 16
    colours = np.stack([ROUNDINGS[rounding](*ends, k) for k in (0, 3, 1, 2)])  # index 0, 1, 2, 3
    image = np.empty((rows, 4, columns, 4, 3))
    for texel in range(16):
        index = indices >> 2 * texel & 3
        image[:, texel // 4, :, texel % 4] = np.take_along_axis(colours, index[None, ..., None], axis=0)[0]
    return image.reshape(4 * rows, 4 * columns, 3)
