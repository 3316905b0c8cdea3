"""Device functions that gather features from stacks of grids of blocks, and scatter their gradients.

A stack (plan.stacks) is a number of grids of the same shape that lie one behind the other in memory, planes of one
texture as it were. What they have in common is computed once.
"""

import triton
import triton.language as tl

from engine.cuda.blocks.maths import COLUMNS, FEATURES, block_feature
from engine.cuda.inputs import MOST_LODS, corner_texels, locate, settle
from engine.cuda.maths import add_gradient


@triton.jit
def stack_columns(PLANES: tl.constexpr):
    """Planes (1, 1, planes, 1) and channels (1, 1, 1, COLUMNS) of a stack; before them go samples and corners."""
    return tl.arange(0, PLANES)[None, None, :, None], tl.arange(0, COLUMNS)[None, None, None, :]


@triton.jit
def corner_weights(levels, lod, u, v, SIDE: tl.constexpr):
    """Bilinear weights of the four texels around samples, (samples, 4, 1, 1)."""
    _, _, _, _, wx, wy = locate(levels, lod, u, v, SIDE)
    corner = tl.arange(0, 4)[None, :]
    wx, wy = wx[:, None], wy[:, None]
    weight = tl.where(corner // 2 == 1, wy, 1 - wy) * tl.where(corner % 2 == 1, wx, 1 - wx)
    return weight[:, :, None, None]


@triton.jit
def gather_blocks(
    parameters, stamps, distance, levels, lod, u, v, seed, iteration, strength,
    GRID: tl.constexpr, SIDE: tl.constexpr, CORNER: tl.constexpr, WIDTH: tl.constexpr, F: tl.constexpr,
    LEARNED: tl.constexpr, LAZY: tl.constexpr, QUANTIZED: tl.constexpr, NOISY: tl.constexpr,
):  # fmt: skip
    """Inputs of the network from one stack, (samples, WIDTH): see inputs.gather. F: columns of its texels."""
    COUNT: tl.constexpr = WIDTH // F if LEARNED else 4
    plane, channel = stack_columns(F // COLUMNS)
    texel = corner_texels(levels, lod, u, v, CORNER, COUNT, SIDE)[:, :, None, None]
    value = block_feature(
        parameters, stamps, distance, texel, plane, tl.load(levels + 2 * MOST_LODS), channel, seed, iteration, strength,
        GRID, SIDE, LAZY, QUANTIZED, NOISY,
    )  # fmt: skip
    if not LEARNED:
        value = tl.sum(value * corner_weights(levels, lod, u, v, SIDE), axis=1)
    return settle(tl.reshape(value, (u.shape[0], WIDTH)))


@triton.jit
def scatter_blocks(
    gradients, upstream, levels, lod, u, v, alive,
    SIDE: tl.constexpr, CORNER: tl.constexpr, WIDTH: tl.constexpr, F: tl.constexpr, LEARNED: tl.constexpr,
    FIXED_POINT: tl.constexpr,
):  # fmt: skip
    """The gradient of `gather_blocks` by the features of texels. alive: (samples,), which ones exist."""
    COUNT: tl.constexpr = WIDTH // F if LEARNED else 4
    plane, channel = stack_columns(F // COLUMNS)
    texel = corner_texels(levels, lod, u, v, CORNER, COUNT, SIDE)[:, :, None, None]
    value = tl.reshape(upstream, (u.shape[0], COUNT if LEARNED else 1, F // COLUMNS, COLUMNS))
    if not LEARNED:
        value = value * corner_weights(levels, lod, u, v, SIDE)
    units = tl.load(levels + 2 * MOST_LODS).to(tl.int64)
    place = (plane * units * (SIDE * SIDE) + texel) * COLUMNS + channel
    mask = alive[:, None, None, None] & (channel < FEATURES) & (place >= 0)
    add_gradient(gradients + place, value, mask, FIXED_POINT)
