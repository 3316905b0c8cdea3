"""The kernels of grids of blocks: gradients of their parameters, and ties of their borders.

The training kernel adds up the gradients of the features of texels, COLUMNS to a texel. Between samples and parameters
lies nothing but the rounded block, which is the same for all samples of an iteration: the gradients of its parameters
are sums over its texels.
"""

import triton
import triton.language as tl

from engine.cuda.adam import sweep
from engine.cuda.blocks.maths import (
    COLUMNS,
    FEATURES,
    WEIGHT,
    block_texels,
    clear_texels,
    quotient,
    remainder,
    rounded_block,
    texel_places,
)
from engine.cuda.inputs import draw_look, touched_units
from engine.cuda.maths import gradient_value

SHORTEST = tl.constexpr(1e-6)  # blocks.SHORTEST


@triton.jit(do_not_specialize=["count"])
def gradient_kernel(
    progress, table, count, boundaries, lod_sizes, lod_offsets, levels, parameters, stamps, distance, by_texel,
    gradients,
    GRID: tl.constexpr, SIDE: tl.constexpr, TABLE: tl.constexpr, TOUCHED: tl.constexpr, LAZY: tl.constexpr,
    QUANTIZED: tl.constexpr, FIXED_POINT: tl.constexpr, UNITS: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """Gradients of the parameters of blocks (blocks, parameters) from those of their texels.

    TOUCHED: of the blocks that the iteration's `count` samples touch; a block that several samples touch is computed
    and stored several times. Otherwise of all `count` blocks, and the gradients of the texels are cleared.
    """
    iteration, seed = tl.load(progress).to(tl.uint32), tl.load(progress + 2).to(tl.uint32)
    strength = tl.load(table + tl.load(progress + 1) * TABLE + 1)
    at = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    if TOUCHED:
        look, corner = at // 4, at % 4
        lod, u, v, alive = draw_look(look, seed, iteration, count, boundaries, lod_sizes, lod_offsets, POSITIONS)
        at, again = touched_units(levels, lod, u, v, corner, SIDE)
        alive = (alive & ~again)[:, None]
        block = at[:, None]
    else:
        alive = (at < count)[:, None]
        block = tl.where(alive, at[:, None], 0)
    channel, texel = tl.arange(0, COLUMNS)[None, :], block_texels(SIDE)[None, :]
    # what is read for a texel that does not exist belongs to the last one, and counts nowhere
    read = texel if SIDE == 4 else tl.minimum(texel, SIDE * SIDE - 1)
    first, second, share = rounded_block(
        parameters, stamps, distance, block, tl.zeros_like(block), 0, channel, read, seed, iteration, strength, GRID,
        SIDE, LAZY, QUANTIZED, True,
    )  # fmt: skip
    span = tl.where(channel < FEATURES, second - first, 0.0)
    if QUANTIZED:
        share, span = share * (1.0 / 3 if SIDE == 4 else 1.0 / 64), span * (1.0 / 255)
    place = texel_places(block, channel, SIDE)
    mask = alive[:, :, None] & (channel < FEATURES)[:, None, :] & (place >= 0)
    upstream = gradient_value(tl.load(by_texel + place, mask=mask, other=0), FIXED_POINT)
    of_ends, of_block = alive & (channel < FEATURES), gradients + block.to(tl.int64) * (WEIGHT + SIDE * SIDE)
    tl.store(of_block + channel, tl.sum(upstream * (1 - share)[:, :, None], axis=1), mask=of_ends)
    tl.store(of_block + FEATURES + channel, tl.sum(upstream * share[:, :, None], axis=1), mask=of_ends)
    tl.store(of_block + WEIGHT + texel, tl.sum(upstream * span[:, None, :], axis=2), mask=alive & (texel < SIDE * SIDE))
    if not TOUCHED:
        clear_texels(by_texel, block, alive, SIDE)


@triton.jit(do_not_specialize=["count", "interval"])
def listed_kernel(
    progress, table, count, interval, listed, records, moments, stamps, distance, fading,
    TABLE: tl.constexpr, F: tl.constexpr, UNIT: tl.constexpr, QUANTIZED: tl.constexpr, TEXELS: tl.constexpr,
):  # fmt: skip
    """Brings the `listed` blocks of a lazy grid, those at the borders, up to date before tie_kernel."""
    if tl.load(progress) % interval == 0:
        at = tl.program_id(0) * TEXELS + tl.arange(0, TEXELS)
        alive = at < count
        block = tl.load(listed + at, mask=alive, other=0)
        sweep(progress, table, block, alive, records, moments, stamps, distance, fading, TABLE, F, UNIT,
              QUANTIZED)  # fmt: skip


@triton.jit(do_not_specialize=["count", "interval", "strength"])
def tie_kernel(
    progress, count, interval, strength, groups, records,
    SIDE: tl.constexpr, STRIDE: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """blocks.tie_borders every `interval` iterations. Each texel is in one group, and moves its own weight alone.

    groups: (count, 4) int32, texels that belong together; -1: none. records: STRIDE numbers to a block, up to date.
    """
    if tl.load(progress) % interval == 0:
        group = (tl.program_id(0) * GROUPS + tl.arange(0, GROUPS))[:, None]
        texel = tl.load(groups + 4 * group + tl.arange(0, 4)[None, :], mask=group < count, other=-1)
        mask = texel >= 0
        members = tl.maximum(tl.sum(mask.to(tl.float32), axis=1), 1.0)[:, None]
        block = records + quotient(texel, SIDE * SIDE).to(tl.int64) * STRIDE
        column = WEIGHT + remainder(texel, SIDE * SIDE)
        weight = tl.load(block + column, mask=mask, other=0.0)
        length, wanted = tl.zeros_like(weight), tl.zeros_like(weight)
        for channel in tl.static_range(FEATURES):
            first = tl.load(block + channel, mask=mask, other=0.0)
            span = tl.load(block + FEATURES + channel, mask=mask, other=0.0) - first
            feature = tl.where(mask, first + (weight + 0.5) * span, 0.0)
            mean = tl.sum(feature, axis=1)[:, None] / members
            length += span * span
            wanted += (mean - feature) * span
        moved = tl.where(length > SHORTEST, weight + strength * wanted / tl.maximum(length, SHORTEST), weight)
        tl.store(block + column, tl.minimum(tl.maximum(moved, -0.5), 0.5), mask=mask)
