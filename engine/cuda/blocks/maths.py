"""Device functions that turn the parameters of BC1 blocks into features; the formulas are those of blocks.py."""

import triton
import triton.language as tl

from engine.cuda.maths import DRIFT_SIZE, clamp_feature, hash_uniform

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
def moved_since(stamps, distance, block, LAZY: tl.constexpr):
    """How far blocks of a lazy grid have moved along their directions since their last update."""
    if LAZY:
        return tl.load(distance + (tl.load(stamps + block) & (DRIFT_SIZE - 1)))
    else:
        return 0.0


@triton.jit
def parameter(
    parameters, block, column, moved, key, noise, LAZY: tl.constexpr, QUANTIZED: tl.constexpr, NOISY: tl.constexpr
):  # fmt: skip
    """Parameters of blocks before rounding, with training noise. noise: the strength times the step of this column."""
    if LAZY:
        record = parameters + block.to(tl.int64) * (2 * PARAMETERS) + column
        value = clamp_feature(tl.load(record) - tl.load(record + PARAMETERS) * moved, QUANTIZED)
    else:
        value = tl.load(parameters + block.to(tl.int64) * PARAMETERS + column)
    if QUANTIZED:  # noqa: SIM102  # two constants
        if NOISY:
            index = block.to(tl.uint32) * PARAMETERS + column.to(tl.uint32)
            value += (hash_uniform(index, key) - 0.5) * noise
    return value


@triton.jit
def end_points(
    parameters, block, channel, moved, key, strength, LAZY: tl.constexpr, QUANTIZED: tl.constexpr, NOISY: tl.constexpr
):  # fmt: skip
    """Both end points of blocks, 0 to 255 after rounding; as they are, -0.5 to 0.5, in a grid that is not quantised.

    channel: 0 to 3, of which the last one means nothing.
    """
    noise = tl.where(channel == 1, strength * (1.0 / 63), strength * (1.0 / 31))
    first = parameter(parameters, block, channel, moved, key, noise, LAZY, QUANTIZED, NOISY)
    second = parameter(parameters, block, channel + FEATURES, moved, key, noise, LAZY, QUANTIZED, NOISY)
    if QUANTIZED:
        return rounded_end(first, channel), rounded_end(second, channel)
    else:
        return first, second


@triton.jit
def place_between(
    parameters, block, texel, moved, key, strength, LAZY: tl.constexpr, QUANTIZED: tl.constexpr, NOISY: tl.constexpr
):  # fmt: skip
    """Place of texels 0 to 15 of blocks between their end points: 0 to 3 after rounding, else from 0 to 1."""
    value = parameter(parameters, block, texel + WEIGHT, moved, key, strength * (1.0 / 3), LAZY, QUANTIZED, NOISY)
    if QUANTIZED:
        return rounded_weight(value)
    else:
        return value + 0.5


@triton.jit
def block_feature(
    parameters, stamps, distance, texel, channel, key, strength, LAZY: tl.constexpr, QUANTIZED: tl.constexpr,
    NOISY: tl.constexpr,
):  # fmt: skip
    """Features of texels as a decoder of the file returns them, less 0.5: (..., COLUMNS).

    texel: (..., 1), block after block; channel: (1, ..., COLUMNS).
    """
    block = texel >> 4
    moved = moved_since(stamps, distance, block, LAZY)
    first, second = end_points(parameters, block, channel, moved, key, strength, LAZY, QUANTIZED, NOISY)
    place = place_between(parameters, block, texel & 15, moved, key, strength, LAZY, QUANTIZED, NOISY)
    if QUANTIZED:
        sum = (3.0 - place) * first + place * second
        value = tl.div_rn(sum, tl.zeros_like(sum) + 765.0) - 0.5
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
