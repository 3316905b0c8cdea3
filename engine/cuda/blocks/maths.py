"""Device functions that turn the parameters of BC1 blocks into features; the formulas are those of blocks.py."""

import triton
import triton.language as tl

from engine.cuda.maths import DRIFT_SIZE, STREAM_NOISE, clamp_feature, hash_uniform, numbered_key

FEATURES = tl.constexpr(3)
COLUMNS = tl.constexpr(4)  # of a texel's features, the last one 0: tl.arange knows powers of two alone
TEXELS = tl.constexpr(16)  # of a block
WEIGHT = tl.constexpr(6)  # first of the weights among the parameters
PARAMETERS = tl.constexpr(22)


@triton.jit
def rounded_end(value, channel):
    """End points as an 8-bit texture returns them, 0 to 255: codes of 5, 6, 5 bits, then their highest bits again."""
    green = channel == 1
    top = tl.where(green, 63.0, 31.0)
    code = tl.minimum(tl.maximum(tl.floor((value + 0.5) * top + 0.5), 0.0), top).to(tl.int32)
    return tl.where(green, (code << 2) | (code >> 4), (code << 3) | (code >> 2)).to(tl.float32)


@triton.jit
def rounded_weight(value):
    """Places from the first end point to the second, 0 to 3."""
    return tl.minimum(tl.maximum(tl.floor((value + 0.5) * 3.0 + 0.5), 0.0), 3.0)


@triton.jit
def parameter(
    parameters, unit, column, moved, index, key, noise, LAZY: tl.constexpr, QUANTIZED: tl.constexpr,
    NOISY: tl.constexpr,
):  # fmt: skip
    """Parameters of units before rounding, with training noise.

    index: that of the block's first parameter in its grid; noise: the strength times the step of this column.
    """
    if LAZY:
        record = parameters + unit.to(tl.int64) * (2 * PARAMETERS) + column
        value = clamp_feature(tl.load(record) - tl.load(record + PARAMETERS) * moved, QUANTIZED)
    else:
        value = tl.load(parameters + unit.to(tl.int64) * PARAMETERS + column)
    if QUANTIZED:  # noqa: SIM102  # two constants
        if NOISY:
            value += (hash_uniform(index + column.to(tl.uint32), key) - 0.5) * noise
    return value


@triton.jit
def rounded_block(
    parameters, stamps, distance, block, plane, units, channel, texel, seed, iteration, strength,
    GRID: tl.constexpr, LAZY: tl.constexpr, QUANTIZED: tl.constexpr, NOISY: tl.constexpr,
):  # fmt: skip
    """Both end points of blocks by channel, and the places of some of their texels between them.

    After rounding end points are 0 to 255 and places 0 to 3; in a model that is not quantised end points are as they
    are, -0.5 to 0.5, and places 0 to 1. The last channel means nothing.

    Args (of shapes that can be broadcast): block: of a grid; plane: of the stack (plan.stacks) whose first grid is
        GRID, with `units` blocks to a grid; channel: 0 to 3; texel: 0 to 15.
    """
    unit = block + plane * units
    if LAZY:  # noqa: SIM108  # only one side is compiled
        moved = tl.load(distance + plane * DRIFT_SIZE + (tl.load(stamps + unit) & (DRIFT_SIZE - 1)))
    else:
        moved = 0.0
    index = block.to(tl.uint32) * PARAMETERS
    key = numbered_key(seed, iteration, (plane + (STREAM_NOISE + GRID)).to(tl.uint32)) if NOISY else 0
    noise = tl.where(channel == 1, strength * (1.0 / 63), strength * (1.0 / 31))
    first = parameter(parameters, unit, channel, moved, index, key, noise, LAZY, QUANTIZED, NOISY)
    second = parameter(parameters, unit, channel + FEATURES, moved, index, key, noise, LAZY, QUANTIZED, NOISY)
    noise = strength * (1.0 / 3)
    place = parameter(parameters, unit, texel + WEIGHT, moved, index, key, noise, LAZY, QUANTIZED, NOISY)
    if QUANTIZED:
        return rounded_end(first, channel), rounded_end(second, channel), rounded_weight(place)
    else:
        return first, second, place + 0.5


@triton.jit
def block_feature(
    parameters, stamps, distance, texel, plane, units, channel, seed, iteration, strength,
    GRID: tl.constexpr, LAZY: tl.constexpr, QUANTIZED: tl.constexpr, NOISY: tl.constexpr,
):  # fmt: skip
    """Features of texels as a decoder of the file returns them, less 0.5; those of the last channel are 0.

    texel: (..., 1, 1), block after block; plane: (1, ..., planes, 1); channel: (1, ..., 1, COLUMNS).
    """
    first, second, place = rounded_block(
        parameters, stamps, distance, texel >> 4, plane, units, channel, texel & 15, seed, iteration, strength, GRID,
        LAZY, QUANTIZED, NOISY,
    )  # fmt: skip
    if QUANTIZED:
        # a product, since for each of the 766 sums it has the bits of the reference's division
        value = ((3.0 - place) * first + place * second) * (1.0 / 765) - 0.5
    else:
        value = first + place * (second - first)
    return tl.where(channel < FEATURES, value, 0.0)


@triton.jit
def texel_places(block, channel):
    """Offsets of the gradients of texels: block (n, 1) and channel (1, COLUMNS) -> (n, TEXELS, COLUMNS)."""
    texel = tl.arange(0, TEXELS)[None, :]
    place = block.to(tl.int64) * (TEXELS * COLUMNS) + texel * COLUMNS
    return place[:, :, None] + channel[:, None, :]


@triton.jit
def clear_texels(by_texel, block, mask):
    """Set the gradients of the texels of blocks to 0; block and mask: (n, 1)."""
    channel = tl.arange(0, COLUMNS)[None, :]
    place = texel_places(block, channel)
    tl.store(by_texel + place, tl.zeros_like(place).to(by_texel.dtype.element_ty), mask=mask[:, :, None] & (place >= 0))
