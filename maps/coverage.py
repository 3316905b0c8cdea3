"""What opacity means for mips: other maps count where they are covered, and an alpha test passes as many texels.

Colour under transparent texels is invisible, but filters reach it and bits would be spent on it. So texels without
coverage are filled from their neighbours, LOD after LOD from the smallest to the largest: the pull of Gortler et al.
1996, "The Lumigraph", section 3.4; the push is the mip chain itself, averaged with coverage as weight.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from maps.mips import Kind, area_averages, encode_level, mip_chain, mip_sizes, round_to_codes, undirected

ALPHA_TEST = 0.5  # a texel whose opacity is at least this passes, as in glTF by default
# A map is a mask where this share of its texels has an opacity of at most NEAR or at least 1 - NEAR. Anti-aliased leaf
# silhouettes have 0.95 at 512 x 512 and 0.8 at 64 x 64, a gradient from 0 to 1 has 0.2.
MASK_SHARE, NEAR = 0.75, 0.1
# The least distance from ALPHA_TEST that the trained opacity of a mask has, in LOD 0 and in the others. A decoded value
# that is off by less passes the test where the source does. data/test_leaves at 5 bpp, `balanced`: on the wrong side
# are 0.036 % of the texels of LOD 0 and 0.05 % of LOD 3; without margins 0.164 and 0.95, with 0.05 in all LODs 0.053
# and 0.34, and then coverage of LOD 5 is 2.8 % off. LOD 0 of the opacity has 38.8, 39.7 and 39.4 dB.
MARGIN, LOD_MARGIN = 0.08, 0.1
ROWS_OF_TEXELS = 2**18  # texels in the bands of rows that are worked on at a time


class Coverage:
    """The opacity of one material as the weight of its other maps.

    Args:
        opacity: (H, W, 1) uint8 or uint16.
    """

    def __init__(self, opacity: np.ndarray):
        self.opacity = opacity
        self.empty = self._empty_texels()  # per LOD (H, W): no texel of LOD 0 under it has coverage

    def weights(self, rows: slice) -> np.ndarray:
        """(rows, W, 1) float32 in [0, 1]: opacity, 0 where 8 bits round it to 0."""
        codes = self.opacity[rows]
        top = np.iinfo(codes.dtype).max
        return np.where(codes >= _least(codes.dtype), codes * np.float32(1 / top), np.float32(0))

    def _empty_texels(self) -> list[np.ndarray]:
        covered = self.opacity[..., 0] >= _least(self.opacity.dtype)
        levels = [covered]
        for _ in mip_sizes(covered.shape[1], covered.shape[0])[1:]:
            covered = _any_of_two(_any_of_two(covered).T).T
            levels.append(covered)
        return [~level for level in levels]

    def fill(self, levels: Sequence[np.ndarray], kind: Kind) -> None:
        """Give the empty texels of a map's LODs the colours around them, bilinear between those of the next LOD, across
        the borders too.

        Args:
            levels: (H, W, C) codes of every LOD, averaged with `weights`; overwritten.
            kind: as of mips.encode_level; normals stay unit vectors.
        """
        for lod in reversed(range(len(levels) - 1)):
            level, empty = levels[lod], self.empty[lod]
            band = max(1, ROWS_OF_TEXELS // level.shape[1])
            for first in range(0, len(level), band):
                rows = slice(first, min(first + band, len(level)))
                if empty[rows].any():
                    np.copyto(level[rows], _enlarged(levels[lod + 1], level, rows, kind), where=empty[rows, :, None])


def coverage_of(opacity: np.ndarray) -> Coverage | None:
    """The coverage that an opacity map (H, W, 1) is; None where it is the same everywhere and weights nothing."""
    first = opacity[0, 0, 0]
    return None if all((rows == first).all() for _, rows in _bands(opacity)) else Coverage(opacity)


def opacity_chain(codes: np.ndarray, averaged: bool = False) -> Iterator[tuple[int, np.ndarray]]:
    """mips.mip_chain of an opacity map as it is trained. The LODs of a mask pass an alpha test as often as LOD 0.

    Area averages alone let thin parts fall below the test, and foliage vanishes with distance (Castano 2010, "Computing
    Alpha Mipmaps"). Each LOD's averages are scaled so that the share of texels at or above ALPHA_TEST is the nearest to
    that of LOD 0 which they allow. Where fewer pass, opacity is multiplied and clipped to 1, as by Castano; where more
    pass, transparency is, so that opaque texels stay opaque. Then values keep a margin from the test, also in LOD 0:
    what the file says there is in `texels_near_test`.

    Maps that are not a mask, see MASK_SHARE, keep their averages: glass is not an opening, and a scale would change how
    it looks. averaged: so does every LOD but the first of a mask, for what is to look as with the mips that renderers
    make of textures.
    """
    if not is_mask(codes):
        yield from mip_chain(codes, "linear")
        return
    height, width, channels = codes.shape
    dtype, index, top = codes.dtype, 0, float(np.iinfo(codes.dtype).max)
    passing = share_passing(codes)
    averages = area_averages(lambda part: codes[part].astype(np.float32), width, height)
    for level in itertools.chain([codes], averages):
        if averaged and level is not codes:
            yield index, round_to_codes(level, dtype).reshape(-1, channels)
            index += level.shape[0] * level.shape[1]
            continue
        threshold = top * ALPHA_TEST if level is codes else _threshold(level, passing, top)
        for first, rows in _bands(level):
            margin = MARGIN if level is codes else LOD_MARGIN
            scaled = _apart(_move_to_test(rows.astype(np.float32), threshold, top), top, margin)
            yield index + first * level.shape[1], round_to_codes(scaled, dtype).reshape(-1, channels)
        index += level.shape[0] * level.shape[1]


def texels_near_test(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(flat indices, ascending; codes) of the texels of an opacity map (H, W, 1) that `opacity_chain` moves from the
    alpha test in LOD 0; None without any."""
    if not is_mask(codes):
        return None
    top, places = float(np.iinfo(codes.dtype).max), []
    for first, rows in _bands(codes):
        values = rows.ravel().astype(np.float32)
        places.append(first * codes.shape[1] + np.flatnonzero(_apart(values, top, MARGIN) != values))
    index = np.concatenate(places)
    return (index, codes.ravel()[index]) if len(index) else None


def passes(codes: np.ndarray) -> np.ndarray:
    """Where integer codes of an opacity map pass an alpha test at ALPHA_TEST."""
    return codes >= math.ceil(np.iinfo(codes.dtype).max * ALPHA_TEST)


def share_passing(codes: np.ndarray) -> float:
    """Share of the texels that pass an alpha test: the coverage that a renderer sees."""
    return float(sum(np.count_nonzero(passes(rows)) for _, rows in _bands(codes)) / codes.size)


def is_mask(codes: np.ndarray) -> bool:
    """Whether an opacity map (H, W, 1) says where there is something, rather than how much light passes."""
    top = np.iinfo(codes.dtype).max
    low, high = math.floor(top * NEAR), math.ceil(top * (1 - NEAR))
    decided = sum(np.count_nonzero((rows <= low) | (rows >= high)) for _, rows in _bands(codes))
    return bool(decided >= MASK_SHARE * codes.size)


def _threshold(level: np.ndarray, passing: float, top: float) -> float:
    """The value at or above which the share `passing` of a level's texels lies, as nearly as they allow; the middle of
    those that do it, or the alpha test's own if it is one of them."""
    values = level.ravel()
    wanted = passing * len(values)
    place = len(values) - min(max(round(wanted), 1), len(values))
    at = np.partition(values, place)[place]
    fewer, more = values > at, values >= at
    if abs(np.count_nonzero(more) - wanted) <= abs(np.count_nonzero(fewer) - wanted):
        lower, upper = np.max(values, where=~more, initial=0), at
    else:
        lower, upper = at, np.min(values, where=fewer, initial=top)
    test = top * ALPHA_TEST
    return test if lower < test <= upper else (float(lower) + float(upper)) / 2


def _move_to_test(values: np.ndarray, threshold: float, top: float) -> np.ndarray:
    """Values in code units, scaled so that `threshold` comes to ALPHA_TEST; 0 stays 0 and `top` stays `top`."""
    test = top * ALPHA_TEST
    if threshold == test:
        return values
    if threshold < test:
        return np.minimum(values * np.float32(test / threshold), np.float32(top))
    return np.maximum(top - (top - values) * np.float32((top - test) / (top - threshold)), np.float32(0))


def _apart(values: np.ndarray, top: float, margin: float) -> np.ndarray:
    """Values in code units that are at least `margin` from the alpha test, on the side where they were."""
    low, high = np.float32(top * (ALPHA_TEST - margin)), np.float32(top * (ALPHA_TEST + margin))
    return np.where(values < top * ALPHA_TEST, np.minimum(values, low), np.maximum(values, high))


def _least(dtype: np.dtype) -> int:
    """The smallest code that 8 bits do not round to 0."""
    return math.ceil(np.iinfo(dtype).max / 510)


def _bands(texels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, rows) of an image, a band at a time."""
    band = max(1, ROWS_OF_TEXELS // texels.shape[1])
    return ((first, texels[first : first + band]) for first in range(0, len(texels), band))


def _any_of_two(rows: np.ndarray) -> np.ndarray:
    """Half as many rows of bools: whether one of those under it is True, of the two, or the three of an odd number."""
    if len(rows) == 1:
        return rows
    count = len(rows) // 2
    either = rows[0 : 2 * count : 2] | rows[1 : 2 * count : 2]
    return either | rows[2::2] if len(rows) % 2 else either


def _enlarged(coarse: np.ndarray, level: np.ndarray, rows: slice, kind: Kind) -> np.ndarray:
    """Codes of some rows of `level`, bilinear between the texels of the LOD after it, which repeats at its borders."""
    top = np.iinfo(level.dtype).max
    if kind == "normal" and (short := undirected(coarse)).any():
        coarse = np.concatenate([coarse, short.astype(coarse.dtype) * top], axis=2)
    above, below, down = _neighbours(len(level), len(coarse), rows)
    left, right, along = _neighbours(level.shape[1], coarse.shape[1], slice(None))
    lines = coarse[above].astype(np.float32)
    lines += (coarse[below] - lines) * down[:, None, None]
    values = lines[:, left]
    values += (lines[:, right] - values) * along[:, None]
    channels = level.shape[2]
    mostly = values[..., channels:] > top / 2 if values.shape[2] > channels else False
    return encode_level(values[..., :channels], "normal" if kind == "normal" else "linear", level.dtype, mostly)


def _neighbours(size: int, coarse: int, part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For some texels of an axis the two texels of the coarser LOD around each centre, and how far it is from one to
    the other."""
    position = (np.arange(size, dtype=np.float64)[part] + 0.5) * (coarse / size) - 0.5
    before = np.floor(position)
    first = before.astype(np.int64)
    return first % coarse, (first + 1) % coarse, (position - before).astype(np.float32)
