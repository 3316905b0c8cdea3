"""Sizes that the grids of a plan may have: the material's proportions, so that texels per feature are the same on both
axes, and sides that can be halved often.

The longer side of a grid may be off its proportion by STRETCH, which changes the texels per feature by as much and
hardly the PSNR: with it the sizes lie as close together as those of squares. Grids of a square material are squares.
"""

from __future__ import annotations

import math

from configs import Size
from shape import exact_halvings
from training.rates import Row

SIDE_UNIT = 4  # texels of a block
HIGHEST_SIDE = 16384  # of a grid
# Of the bits in grids, that a fine grid at the row's scale may take. With at most 0.93 plans just above a row's rate
# had another size, and PSNR fell before it rose: data/test 32.4 dB at 4.15 bpp, 32.2 at 4.2, 32.5 at 4.3, 33.2 at 4.45.
# With 0.976 it is too much: data/test at 2.1 bpp 29.6 dB, 29.8 with another size.
LEAST_SHARE, MOST_SHARE = 0.45, 0.97
# Where a texel has words of LONG_WORD bits the half side is so much better that a small coarse grid has to do.
# data/test near 8.37 bpp, `balanced`, LODs 0 to 4: 512 texels with a coarse grid of 64² 39.45, 37.2, 36.3, 36.0 and
# 37.4 dB, 464 with 227² 38.34, 36.8, 38.2, 39.2 and 33.4; at 8.27 bpp 512 with 36² 38.96 at LOD 0. Rock058 likewise
# 41.66, 40.8, 40.8, 41.1 and 43.3 against 40.93, 40.2, 42.2, 44.5 and 38.7.
LONG_WORD, MOST_SHARE_OF_LONG = 32, 0.995
# Largest side of a square grid's coarsest level, which all smaller LODs share; of others the root of its texels. With
# 15 the sizes to choose from are so far apart that the shares of the bits miss their aim: 0.1 to 0.6 dB less at 3.5 and
# 20 bpp.
MOST_BASE = 39
ENOUGH_BASE = 8  # texels along the shorter side of a coarsest level, from which on it is small enough in any case
LEAST_COARSE = 4  # texels along a square's side; a smaller coarse grid is left out
STRETCH = 0.08
MOST_SIDES = 64  # longer sides to try with a shorter one
# Of a size near the row's scale, unless it is a square. Rock058 as 1000 x 250 texels at 5 bpp: a fine grid of 500 x 125
# has one level and ends at 37.27 dB, LOD 4 at 34.4; 500 x 124 at 37.38 and 35.8, 504 x 120 at 37.03 and 38.1.
FEWEST_HALVINGS = 2


def fine_sizes(row: Row, most_texels: float, width: int, height: int) -> list[Size]:
    """Sizes to try for a fine grid, for which all the bits in grids would buy `most_texels`.

    At half the material's side a texel has one of two places between grid texels along that axis, which a network
    learns better than many places: 0.3 to 0.5 dB. The whole side is never tried: the network would see one place only
    and decode the others badly (Rock058, 10 bpp: 31.0 dB at random positions, 36.0 with a grid of 960), and float32 may
    round that place to either side.
    """
    unit = _unit(row)
    # coarse planes are not larger than fine ones: half the side fits only where they can take the rest of the bits
    equal = math.prod(row.fine) / (math.prod(row.fine) + math.prod(row.coarse))
    least = LEAST_SHARE if row.latents == "packed" else max(LEAST_SHARE, equal)
    half = _half(row, width, height)
    most = MOST_SHARE_OF_LONG if math.prod(row.fine) >= LONG_WORD else MOST_SHARE
    if half and least <= math.prod(half) / most_texels <= most:
        return [half]
    shorter, longer = sorted((width, height))
    aspect = longer / shorter
    ideal = math.sqrt(most_texels * row.fine_share / aspect)  # of the shorter side
    low, high = ideal * 0.9, max(ideal * 1.1, ideal + 1)
    if aspect > 1:  # at least one multiple of what the side has to be halved by is among them, besides the whole side
        reach = max(unit, 1 << _halvings(ideal, aspect))
        low, high = min(low, ideal - reach), max(high, ideal + reach)
    sizes = [
        (short, long)
        for short in range(max(math.ceil(low), 1), min(math.floor(high), HIGHEST_SIDE) + 1)
        for long in _long_sides(short, aspect, max(unit, 1 << _halvings(short, aspect)))
        if short % unit == 0 and short != shorter and long != longer and halves_often((short, long))
    ]
    return _turned(sizes, width, height)


def _half(row: Row, width: int, height: int) -> Size | None:
    """The row's scale times the material's size; where that is not whole, or halves too seldom for a grid that is no
    square, the nearest size that has it on one axis. None where there is neither."""
    unit, exact = _unit(row), (row.scale * width, row.scale * height)
    if not row.scale:
        return None
    if all(side % unit == 0 for side in exact):
        half = int(exact[0]), int(exact[1])
        if width == height or halves_often(half) or exact_halvings(half) >= FEWEST_HALVINGS:
            return half
    step = max(unit, 1 << FEWEST_HALVINGS)
    near = tuple(max(round(side / step), 1) * step for side in exact)
    return near if width != height and (near[0] == exact[0] or near[1] == exact[1]) else None


def coarse_sizes(row: Row, texels: float, width: int, height: int) -> list[Size]:
    """Sizes to try for a coarse grid of some `texels`; the last is (0, 0), none."""
    unit, aspect = _unit(row), max(width, height) / min(width, height)
    exact = round(math.sqrt(max(texels, 0) / aspect))
    sizes = [
        (short, long)
        for short in range(max(exact - 3, 1), exact + 4)
        if short % unit == 0
        for long in _nearest(_long_sides(short, aspect, unit), texels / short)
        if short * long >= LEAST_COARSE**2
    ]
    return [*_turned(sizes, width, height), (0, 0)]


def halves_often(size: Size) -> bool:
    """Whether a size can be halved down to MOST_BASE squared texels or fewer, or to ENOUGH_BASE rows or columns."""
    halvings = exact_halvings(size)
    base = size[0] >> halvings, size[1] >> halvings
    return math.prod(base) <= MOST_BASE**2 or min(base) <= ENOUGH_BASE


def stretch(size: Size, width: int, height: int) -> float:
    """How far a size is from the material's proportions: 0 where it has them, 0.01 where a side is 1 % longer."""
    (short, long), (shorter, longer) = sorted(size), sorted((width, height))
    return abs(math.log(long * shorter / (short * longer)))


def _unit(row: Row) -> int:
    """What sides are multiples of: planes of BC1 have whole blocks, which Direct3D and WebGL ask for. Nothing asks for
    those of ASTC."""
    return SIDE_UNIT if row.latents == "bc1" else 1


def _halvings(short: float, aspect: float) -> int:
    """How often a size with this shorter side has to be halved, see `halves_often`."""
    return math.ceil(math.log2(max(min(short * math.sqrt(aspect) / MOST_BASE, short / ENOUGH_BASE), 1)))


def _long_sides(short: int, aspect: float, unit: int) -> range:
    """The multiples of `unit` that can go with a shorter side: as far from its proportion as STRETCH, or as half a step
    of the shorter side would be."""
    if aspect == 1:
        return range(short, short + 1)
    share = max(STRETCH, unit / 2 / short)
    low, high = max(short * aspect * (1 - share), short), min(short * aspect * (1 + share), HIGHEST_SIDE)
    step = unit * max(math.ceil((high - low) / unit / MOST_SIDES), 1)
    return range(math.ceil(low / step) * step, math.floor(high) + 1, step)


def _nearest(sides: range, wanted: float) -> list[int]:
    """The two of `sides` around a wanted one."""
    if not sides:
        return []
    below = min(max(math.floor((wanted - sides.start) / sides.step), 0), len(sides) - 1)
    return list(sides[below : below + 2])


def _turned(sizes: list[Size], width: int, height: int) -> list[Size]:
    """(shorter, longer) sides as (width, height)."""
    return [(long, short) if width > height else (short, long) for short, long in sizes]
