"""Device functions that turn the parameters of blocks into features; the formulas are those of blocks.py.

SIDE, the texels of a block's side, tells its shape (shape.BlockShape) to the compiler: 4 is BC1, 6 is ASTC 6x6.
"""

import triton
import triton.language as tl

from engine.cuda.maths import DRIFT_SIZE, STREAM_NOISE, clamp_feature, hash_uniform, numbered_key

FEATURES = tl.constexpr(3)
COLUMNS = tl.constexpr(4)  # of a texel's features, the last one 0: tl.arange knows powers of two alone
WEIGHT = tl.constexpr(6)  # first of the weights among the parameters


@triton.jit
def quotient(x, BY: tl.constexpr):
    """x // BY of whole numbers from 0 on: a shift where BY is BC1's, since a division would mind the sign."""
    if BY == 4:
        return x >> 2
    elif BY == 16:
        return x >> 4
    else:
        return x // BY


@triton.jit
def remainder(x, BY: tl.constexpr):
    """x % BY of whole numbers from 0 on."""
    if BY == 4 or BY == 16:  # Triton has no `in`
        return x & (BY - 1)
    else:
        return x % BY


@triton.jit
def block_texels(SIDE: tl.constexpr):
    """Numbers of the texels of a block, (texels,); tl.arange knows powers of two alone, so those of ASTC 6x6 are 64, of
    which the last 28 do not exist."""
    if SIDE == 4:
        return tl.arange(0, 16)
    else:
        return tl.arange(0, 64)


@triton.jit
def code_of(value, top):
    """The nearest of the codes 0 to `top` of parameters."""
    return tl.minimum(tl.maximum(tl.floor((value + 0.5) * top + 0.5), 0.0), top)


@triton.jit
def rounded_end(value, channel, SIDE: tl.constexpr):
    """End points as a texture returns them, 0 to 255. BC1: codes of 5, 6, 5 bits, then their highest bits again."""
    if SIDE == 4:
        green = channel == 1
        code = code_of(value, tl.where(green, 63.0, 31.0)).to(tl.int32)
        return tl.where(green, (code << 2) | (code >> 4), (code << 3) | (code >> 2)).to(tl.float32)
    else:
        code = code_of(value, 79.0).to(tl.int32)
        return (3 * code + ((57 * code + 36 + tl.where(code >= 40, 272, 0)) >> 8)).to(tl.float32)


@triton.jit
def rounded_weight(value, SIDE: tl.constexpr):
    """Places from the first end point to the second: 0, 1, 2, 3 in BC1, in ASTC 6x6 0, 21, 43, 64."""
    code = code_of(value, 3.0)
    if SIDE == 4:
        return code
    else:
        return 21.0 * code + tl.where(code >= 2, 1.0, 0.0)


@triton.jit
def end_noise(strength, channel, SIDE: tl.constexpr):
    """The strength of the noise times the step between two codes of end points."""
    if SIDE == 4:
        return tl.where(channel == 1, strength * (1.0 / 63), strength * (1.0 / 31))
    else:
        return strength * (1.0 / 79)


@triton.jit
def between(first, second, place, SIDE: tl.constexpr):
    """(last - place) first + place second, from 0 to 1, with the bits of the reference's division by 255 last.

    For each sum of BC1, 0 to 765, the product with 1/765 has them. For most of ASTC 6x6, 0 to 16320, that with 1/16320
    has others; the first two terms of 1/16320 = 2**-14 (1 + 2**-8 + 2**-16 + ...) round nothing, and the rest is small.
    """
    if SIDE == 4:
        return ((3.0 - place) * first + place * second) * (1.0 / 765)
    else:
        sum = (64.0 - place) * first + place * second
        return sum * (257.0 / (1 << 22)) + sum * (1.0 / (16320 * (1 << 16)))


@triton.jit
def parameter(
    parameters, unit, column, moved, index, key, noise,
    SIDE: tl.constexpr, LAZY: tl.constexpr, QUANTIZED: tl.constexpr, NOISY: tl.constexpr,
):  # fmt: skip
    """Parameters of units before rounding, with training noise.

    index: that of the block's first parameter in its grid; noise: the strength times the step of this column.
    """
    PARAMETERS: tl.constexpr = WEIGHT + SIDE * SIDE
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
    GRID: tl.constexpr, SIDE: tl.constexpr, LAZY: tl.constexpr, QUANTIZED: tl.constexpr, NOISY: tl.constexpr,
):  # fmt: skip
    """Both end points of blocks by channel, and the places of some of their texels between them.

    After rounding end points are 0 to 255 and places as of rounded_weight; in a model that is not quantised end points
    are as they are, -0.5 to 0.5, and places 0 to 1. The last channel means nothing.

    Args (of shapes that can be broadcast): block: of a grid; plane: of the stack (plan.stacks) whose first grid is
        GRID, with `units` blocks to a grid; channel: 0 to 3; texel: of a block.
    """
    unit = block + plane * units
    if LAZY:  # noqa: SIM108  # only one side is compiled
        moved = tl.load(distance + plane * DRIFT_SIZE + (tl.load(stamps + unit) & (DRIFT_SIZE - 1)))
    else:
        moved = 0.0
    index = block.to(tl.uint32) * (WEIGHT + SIDE * SIDE)
    key = numbered_key(seed, iteration, (plane + (STREAM_NOISE + GRID)).to(tl.uint32)) if NOISY else 0
    noise = end_noise(strength, channel, SIDE)
    first = parameter(parameters, unit, channel, moved, index, key, noise, SIDE, LAZY, QUANTIZED, NOISY)
    second = parameter(parameters, unit, channel + FEATURES, moved, index, key, noise, SIDE, LAZY, QUANTIZED, NOISY)
    noise = strength * (1.0 / 3)
    place = parameter(parameters, unit, texel + WEIGHT, moved, index, key, noise, SIDE, LAZY, QUANTIZED, NOISY)
    if QUANTIZED:
        return rounded_end(first, channel, SIDE), rounded_end(second, channel, SIDE), rounded_weight(place, SIDE)
    else:
        return first, second, place + 0.5


@triton.jit
def block_feature(
    parameters, stamps, distance, texel, plane, units, channel, seed, iteration, strength,
    GRID: tl.constexpr, SIDE: tl.constexpr, LAZY: tl.constexpr, QUANTIZED: tl.constexpr, NOISY: tl.constexpr,
):  # fmt: skip
    """Features of texels as a decoder of the file returns them, less 0.5; those of the last channel are 0.

    texel: (..., 1, 1), block after block; plane: (1, ..., planes, 1); channel: (1, ..., 1, COLUMNS).
    """
    first, second, place = rounded_block(
        parameters, stamps, distance, quotient(texel, SIDE * SIDE), plane, units, channel,
        remainder(texel, SIDE * SIDE), seed, iteration, strength, GRID, SIDE, LAZY, QUANTIZED, NOISY,
    )  # fmt: skip
    if QUANTIZED:  # noqa: SIM108  # only one side is compiled
        value = between(first, second, place, SIDE) - 0.5
    else:
        value = first + place * (second - first)
    return tl.where(channel < FEATURES, value, 0.0)


@triton.jit
def texel_places(block, channel, SIDE: tl.constexpr):
    """Offsets of the gradients of texels: block (n, 1) and channel (1, COLUMNS) -> (n, texels, COLUMNS) as of
    block_texels, below 0 for texels that do not exist."""
    texel = block_texels(SIDE)[None, :]
    place = block.to(tl.int64) * (SIDE * SIDE * COLUMNS) + texel * COLUMNS
    if SIDE != 4:
        place = tl.where(texel < SIDE * SIDE, place, -COLUMNS)
    return place[:, :, None] + channel[:, None, :]


@triton.jit
def clear_texels(by_texel, block, mask, SIDE: tl.constexpr):
    """Set the gradients of the texels of blocks to 0; block and mask: (n, 1)."""
    channel = tl.arange(0, COLUMNS)[None, :]
    place = texel_places(block, channel, SIDE)
    tl.store(by_texel + place, tl.zeros_like(place).to(by_texel.dtype.element_ty), mask=mask[:, :, None] & (place >= 0))
