"""BC7 blocks of mode 6 encoded anew, so that an opaque image decodes to alpha 255 at every texel.

Of an opaque image ISPC Texture Compressor encodes most blocks without alpha, or exactly. In its blocks of mode 6 alpha
can become 254: an endpoint has one lowest bit for red, green, blue and alpha together, and the encoder chooses it for
the colour alone. Here that bit is 1 in both endpoints; a longer search for endpoints and indices makes up for it.
Source: Khronos, "Data Format Specification" 1.3, BPTC compressed texture image formats.
"""

from __future__ import annotations

import numpy as np

CHUNK = 1 << 11  # blocks at a time, with some KB each for the distances of 16 texels to 16 colours
PASSES = 2  # of fitting endpoints to indices and choosing indices for endpoints; a third gains 0.01 dB
# Where a search starts: the encoder's indices, which reach from 0 to 15, scaled to reach from `low` to `high`. On four
# albedo maps at 46 to 52 dB, PSNR changes least by +0.07 dB (veryfast), +0.03 (basic) and +0.01 (slow).
_NARROWER = [(low, high) for low in range(6) for high in range(15, 9, -1)]
_FEW = [(0, 15), (1, 15), (0, 14), (1, 14), (2, 13), (3, 12), (4, 11)]
_SOME = [*_FEW, (2, 14), (1, 13), (3, 13), (2, 12), (5, 10)]
STARTS = {"veryfast": _FEW, "basic": _SOME, "slow": _NARROWER}  # by profile of the encoder

_WEIGHTS = np.array([0, 4, 9, 13, 17, 21, 26, 30, 34, 38, 43, 47, 51, 55, 60, 64])  # 64ths of endpoint 1, per index
_MODE, _MODE_BITS = 1 << 6, 0x7F
_ALPHA = 0x7FFF << 49  # alphas of 127 and the lowest bit of endpoint 0; bit 0 of the upper half is that of endpoint 1
_RGB_SHIFTS = np.array([[7, 21, 35], [14, 28, 42]], np.uint64)  # of endpoint 0 and 1
_INDEX_SHIFTS = np.array([1, *range(4, 64, 4)], np.uint64)  # in the upper half; the first index lacks its top bit


def opaque_blocks(blocks: bytes, pixels: np.ndarray, profile: str) -> bytes:
    """The blocks of an opaque image with those of mode 6 encoded anew.

    Args:
        pixels: (H, W, 3 or 4) uint8, the image; both sides are multiples of 4.
        profile: of the encoder; those that are not in STARTS search as 'basic' does.
    """
    halves = np.frombuffer(blocks, "<u8").reshape(-1, 2).copy()
    wanted = np.flatnonzero(halves[:, 0] & np.uint64(_MODE_BITS) == _MODE)
    height, width = pixels.shape[:2]
    texels = pixels[..., :3].reshape(height // 4, 4, width // 4, 4, 3).swapaxes(1, 2).reshape(-1, 16, 3)
    starts = STARTS.get(profile, STARTS["basic"])
    for first in range(0, len(wanted), CHUNK):
        part = wanted[first : first + CHUNK]
        halves[part] = _search(texels[part].astype(np.float32), _indices(halves[part, 1]), starts)
    return halves.tobytes()


def _indices(high: np.ndarray) -> np.ndarray:
    """(n, 16) indices in the upper halves of mode 6 blocks."""
    indices = (high[:, None] >> _INDEX_SHIFTS) & np.uint64(15)
    indices[:, 0] &= np.uint64(7)
    return indices.astype(np.intp)


def _search(texels: np.ndarray, encoded: np.ndarray, starts: list[tuple[int, int]]) -> np.ndarray:
    """(n, 2) halves of the best mode 6 blocks found for (n, 16, 3) texels from their (n, 16) `encoded` indices."""
    least = np.full(len(texels), np.inf, np.float32)
    best_ends, best_indices = np.empty((len(texels), 2, 3), np.int64), np.empty_like(encoded)
    for low, high in starts:
        indices = np.rint(low + encoded * ((high - low) / 15)).astype(np.intp)
        for _ in range(PASSES):
            ends = _endpoints(texels, indices)
            weights = _WEIGHTS[:, None]
            colours = (ends[:, None, 0] * (64 - weights) + ends[:, None, 1] * weights + 32 >> 6).astype(np.float32)
            # squared distances less the texel's own square, which does not depend on the index
            distances = (colours**2).sum(axis=2)[:, None] - 2 * texels @ colours.swapaxes(1, 2)
            indices = distances.argmin(axis=2)
            errors = np.take_along_axis(distances, indices[..., None], axis=2).sum(axis=(1, 2))
            better = errors < least
            least[better], best_ends[better], best_indices[better] = errors[better], ends[better], indices[better]
    return _packed(best_ends, best_indices)


def _endpoints(texels: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """(n, 2, 3) odd endpoints from 1 to 255 with nearly the least squared error that these indices allow."""
    weight = _WEIGHTS[indices].astype(np.float32)[..., None] / 64
    # the error of endpoints p and q is a p^2 + 2 b p q + c q^2 - 2 (d p + e q) + a constant
    a, b, c = ((1 - weight) ** 2).sum(axis=1), (weight * (1 - weight)).sum(axis=1), (weight**2).sum(axis=1)
    d, e = ((1 - weight) * texels).sum(axis=1), (weight * texels).sum(axis=1)
    determinant = a * c - b * b
    flat = determinant < 1e-4  # all indices are equal
    ideal = np.where(flat, texels.mean(axis=1), (c * d - b * e) / np.where(flat, 1, determinant))
    least, ends = np.full(d.shape, np.inf, np.float32), np.empty((len(d), 2, 3), np.int64)
    for step in (-2, 0, 2):
        first = _odd(ideal + step)
        second = np.where(c > 1e-6, _odd((e - b * first) / np.maximum(c, 1e-6)), first)
        error = a * first**2 + 2 * b * first * second + c * second**2 - 2 * (d * first + e * second)
        better = error < least
        least[better] = error[better]
        ends[:, 0][better], ends[:, 1][better] = first[better], second[better]
    return ends


def _odd(values: np.ndarray) -> np.ndarray:
    """The nearest odd numbers from 1 to 255."""
    return np.clip(np.floor(values / 2), 0, 127) * 2 + 1


def _packed(ends: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """(n, 2) halves of opaque mode 6 blocks."""
    swapped = indices[:, 0] > 7  # its top bit must be 0: the same colours the other way round
    ends = np.where(swapped[:, None, None], ends[:, ::-1], ends).astype(np.uint64) >> np.uint64(1)
    indices = np.where(swapped[:, None], 15 - indices, indices).astype(np.uint64)
    low = np.bitwise_or.reduce(ends << _RGB_SHIFTS, axis=(1, 2)) | np.uint64(_MODE | _ALPHA)
    high = np.bitwise_or.reduce(indices << _INDEX_SHIFTS, axis=1) | np.uint64(1)
    return np.stack([low, high], axis=1)
