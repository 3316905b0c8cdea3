"""Device functions that gather features from stacks of grids of BC1 blocks, and scatter their gradients.

A stack (plan.stacks) is a number of grids of the same shape that lie one behind the other in memory, planes of one
texture as it were. What they have in common is computed once.
"""

import triton
import triton.language as tl

from engine.cuda.blocks.maths import COLUMNS, FEATURES, TEXELS, block_feature
from engine.cuda.inputs import MOST_LODS, corner_texels, locate, settle
from engine.cuda.maths import add_gradient


@triton.jit
def gather_blocks(
    parameters, stamps, distance, levels, lod, u, v, seed, iteration, strength,
    GRID: tl.constexpr, CORNER: tl.constexpr, WIDTH: tl.constexpr, F: tl.constexpr, LEARNED: tl.constexpr,
    LAZY: tl.constexpr, QUANTIZED: tl.constexpr, NOISY: tl.constexpr,
):  # fmt: skip
    """Inputs of the network from one stack, (samples, WIDTH): see inputs.gather. F: columns of its texels."""
    PLANES: tl.constexpr = F // COLUMNS
    units = tl.load(levels + 2 * MOST_LODS)
    if LEARNED:
        COUNT: tl.constexpr = WIDTH // F
        texel = corner_texels(levels, lod, u, v, CORNER, COUNT, True)[:, :, None, None]
        plane, channel = tl.arange(0, PLANES)[None, None, :, None], tl.arange(0, COLUMNS)[None, None, None, :]
        value = block_feature(parameters, stamps, distance, texel, plane, units, channel, seed, iteration, strength,
                              GRID, LAZY, QUANTIZED, NOISY)  # fmt: skip
    else:
        x0, x1, row0, row1, wx, wy = locate(levels, lod, u, v, True)
        plane, channel = tl.arange(0, PLANES)[None, :, None], tl.arange(0, COLUMNS)[None, None, :]
        value = tl.zeros((u.shape[0], PLANES, COLUMNS), tl.float32)
        for corner in tl.static_range(4):
            texel = ((row1 if corner // 2 else row0) + (x1 if corner % 2 else x0))[:, None, None]
            weight = (wy if corner // 2 else 1 - wy) * (wx if corner % 2 else 1 - wx)
            value += weight[:, None, None] * block_feature(
                parameters, stamps, distance, texel, plane, units, channel, seed, iteration, strength, GRID, LAZY,
                QUANTIZED, NOISY,
            )  # fmt: skip
    return settle(tl.reshape(value, (u.shape[0], WIDTH)))


@triton.jit
def scatter_blocks(
    gradients, upstream, levels, lod, u, v, alive,
    CORNER: tl.constexpr, WIDTH: tl.constexpr, F: tl.constexpr, LEARNED: tl.constexpr, FIXED_POINT: tl.constexpr,
):  # fmt: skip
    """The gradient of `gather_blocks` by the features of texels. alive: (samples,), which ones exist."""
    PLANES: tl.constexpr = F // COLUMNS
    units = tl.load(levels + 2 * MOST_LODS).to(tl.int64)
    if LEARNED:
        COUNT: tl.constexpr = WIDTH // F
        texel = corner_texels(levels, lod, u, v, CORNER, COUNT, True)[:, :, None, None]
        plane, channel = tl.arange(0, PLANES)[None, None, :, None], tl.arange(0, COLUMNS)[None, None, None, :]
        value = tl.reshape(upstream, (u.shape[0], COUNT, PLANES, COLUMNS))
        place = (plane * units * TEXELS + texel) * COLUMNS + channel
        mask = alive[:, None, None, None] & (channel < FEATURES) & (place >= 0)
        add_gradient(gradients + place, value, mask, FIXED_POINT)
    else:
        x0, x1, row0, row1, wx, wy = locate(levels, lod, u, v, True)
        plane, channel = tl.arange(0, PLANES)[None, :, None], tl.arange(0, COLUMNS)[None, None, :]
        value = tl.reshape(upstream, (u.shape[0], PLANES, COLUMNS))
        for corner in tl.static_range(4):
            texel = ((row1 if corner // 2 else row0) + (x1 if corner % 2 else x0))[:, None, None]
            weight = (wy if corner // 2 else 1 - wy) * (wx if corner % 2 else 1 - wx)
            place = (plane * units * TEXELS + texel) * COLUMNS + channel
            mask = alive[:, None, None] & (channel < FEATURES) & (place >= 0)
            add_gradient(gradients + place, value * weight[:, None, None], mask, FIXED_POINT)
