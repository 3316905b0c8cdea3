"""ASTC 6x6 as decoders return it, which keep 8 bits of a texel."""

from __future__ import annotations

import numpy as np


def seen_astc(level: np.ndarray, rounding: str) -> np.ndarray:
    """Features of a level as texels in 0..255: "exact", rounded to the "nearest", or "as SwiftShader" rounds.

    Source of the last: Arm's astc-encoder, which it contains. Of 16 bits the highest 11 are kept, as the mantissa of
    a half, which takes some values a little above n + 0.5 to n.
    """
    parts = np.round((level + 0.5) * 16320).astype(int)
    if rounding == "exact":
        return parts / 64
    if rounding == "nearest":
        return (parts + 32) // 64
    words = (257 * parts + 32) // 64
    steps = 2.0 ** (np.floor(np.log2(np.maximum(words, 1))) - 10)
    halves = np.where(words == 65535, 1, np.floor(words / steps) * steps / 65536)
    return np.floor(halves * 255 + 0.5)
