"""Device functions that turn samples into inputs of the network: drawing, surrounding texels, features, waves.

The inputs form groups of 16, 32 or 64 columns, one matrix product each (engine/cuda/plan.py chooses them). Group 0 is
the position: waves, LOD, texel waves and a constant 1, whose weight is the bias. Every other group holds the inputs
from one grid, or a part of them; fewer than 16 columns are interleaved with those of another grid, or with zeros.
"""

import triton
import triton.language as tl

from engine.cuda.blocks.maths import quotient, remainder
from engine.cuda.maths import (
    DRIFT_SIZE,
    STREAM_FRACTION,
    STREAM_LOD,
    STREAM_NOISE,
    STREAM_TEXEL,
    add_gradient,
    clamp_feature,
    hash_uniform,
    round_feature,
    stream_key,
)

MOST_LODS = tl.constexpr(16)
# kinds of columns of the position group: plan.WAVE and so on
WAVE = tl.constexpr(1.0)
TEXEL_WAVE = tl.constexpr(2.0)
LOD = tl.constexpr(3.0)
ONE = tl.constexpr(4.0)
# places in POSITIONS, see plan.SamplePositions
ANYWHERE = tl.constexpr(0)
WHOLE = tl.constexpr(1)
SCALE = tl.constexpr(2)


@triton.jit
def draw_lod(slot, seed, iteration, boundaries):
    """The LODs of uint32 slots of a batch, and the last LOD there is, int32. boundaries: (MOST_LODS,) float32, padded
    with 2."""
    share = hash_uniform(slot, stream_key(seed, iteration, STREAM_LOD))
    limits = tl.load(boundaries + tl.arange(0, MOST_LODS))
    return tl.sum((share[:, None] >= limits[None, :]).to(tl.int32), axis=1), tl.sum((limits < 2).to(tl.int32), axis=0)


@triton.jit
def draw(slot, seed, iteration, boundaries, lod_sizes, lod_offsets):
    """engine/sampling.TexelSampler.draw for uint32 slots of a batch.

    boundaries: see draw_lod; lod_sizes: (LODs, 2) int32 width, height; lod_offsets: int64.
    Returns: index of the texel int64, lod int32, u, v float32.
    """
    texel_key = stream_key(seed, iteration, STREAM_TEXEL)
    lod, _ = draw_lod(slot, seed, iteration, boundaries)
    width, height = tl.load(lod_sizes + 2 * lod), tl.load(lod_sizes + 2 * lod + 1)
    wide, high = width.to(tl.float32), height.to(tl.float32)
    x = (hash_uniform(slot * 2, texel_key) * wide).to(tl.int32)
    y = (hash_uniform(slot * 2 + 1, texel_key) * high).to(tl.int32)
    u = tl.div_rn(x.to(tl.float32) + 0.5, wide)
    v = tl.div_rn(y.to(tl.float32) + 0.5, high)
    texel = tl.load(lod_offsets + lod) + y.to(tl.int64) * width + x
    return texel, lod, u, v


@triton.jit
def draw_anywhere(slot, seed, iteration, boundaries, POSITIONS: tl.constexpr):
    """engine/sampling.FilteredSampler.draw_positions for uint32 slots of a batch: lod, u, v float32."""
    texel_key = stream_key(seed, iteration, STREAM_TEXEL)
    u, v = hash_uniform(slot * 2, texel_key), hash_uniform(slot * 2 + 1, texel_key)
    lod, last = draw_lod(slot, seed, iteration, boundaries)
    drawn = hash_uniform(slot, stream_key(seed, iteration, STREAM_FRACTION))
    fraction = tl.maximum(drawn - POSITIONS[WHOLE], 0.0) * POSITIONS[SCALE]
    return lod.to(tl.float32) + tl.where(lod < last, fraction, 0.0), u, v


@triton.jit
def around(lod):
    """The two whole LODs around LODs of the material, int32, and the share of the second. Of a whole one, both are it:
    what is read of the second then costs nothing."""
    first, share = tl.floor(lod), lod - tl.floor(lod)
    near = first.to(tl.int32)
    return near, near + (share > 0).to(tl.int32), share


@triton.jit
def look_at(look, lod, far_lod, blend):
    """The LODs of the first or second look (0 or 1, the same for all) of samples between two, and its shares.

    Both go through one loop that is not unrolled: side by side they would need twice the registers, and spill.
    """
    return tl.where(look == 0, lod, far_lod), tl.where(look == 0, 1 - blend, blend)


@triton.jit
def draw_look(look, seed, iteration, batch, boundaries, lod_sizes, lod_offsets, POSITIONS: tl.constexpr):
    """Looks of the samples of a batch at whole LODs: one of each, or two where samples may lie between two LODs.

    look: (n,) int32, number of the look; those of a sample follow each other. Returns: lod int32, u, v, and whether
    there is such a look.
    """
    if POSITIONS[SCALE] > 0:
        slot, second = look // 2, look % 2 == 1
        position, u, v = draw_anywhere(slot.to(tl.uint32), seed, iteration, boundaries, POSITIONS)
        near, far, share = around(position)
        return tl.where(second, far, near), u, v, (slot < batch) & ((share > 0) | ~second)
    if POSITIONS[ANYWHERE] > 0:
        position, u, v = draw_anywhere(look.to(tl.uint32), seed, iteration, boundaries, POSITIONS)
        lod = position.to(tl.int32)
    else:
        _, lod, u, v = draw(look.to(tl.uint32), seed, iteration, boundaries, lod_sizes, lod_offsets)
    return lod, u, v, look < batch


@triton.jit
def level_size(levels, index):
    """Width and height, int32, of levels in a table of plan.level_entry."""
    size = tl.load(levels + 2 * index)
    return size & 0xFFFF, size >> 16


@triton.jit
def neighbours(u, v, width, height):
    """Texels around positions of images: p = uv * size - 0.5 with repeat addressing, u and v in [0, 1].

    Returns: columns x0, x1 and rows y0, y1 int32, weights of x1 and y1.
    """
    px, py = u * width.to(tl.float32) - 0.5, v * height.to(tl.float32) - 0.5
    left, top = tl.floor(px), tl.floor(py)
    wx, wy = px - left, py - top
    x0, y0 = left.to(tl.int32), top.to(tl.int32)
    x1, y1 = x0 + 1, y0 + 1
    x1 = tl.where(x1 == width, 0, x1)
    y1 = tl.where(y1 == height, 0, y1)
    x0 = tl.where(x0 < 0, x0 + width, x0)
    y0 = tl.where(y0 < 0, y0 + height, y0)
    return x0, x1, y0, y1, wx, wy


@triton.jit
def locate(levels, lod, u, v, SIDE: tl.constexpr):
    """The texels around samples in a grid, see neighbours.

    levels: (LODs, 2) int32, see plan.level_entry. Returns: columns x0 and x1, the first texels of rows y0 and y1
    (int32, below 2**31), weights of x1 and y1. A texel's number is the sum of its column and its row, also in a grid of
    blocks, whose texels are numbered block after block (shape.GridSpec). SIDE: of its blocks; 0: there are none.
    """
    width, height = level_size(levels, lod)
    first = tl.load(levels + 2 * lod + 1)
    x0, x1, y0, y1, wx, wy = neighbours(u, v, width, height)
    if SIDE:
        TEXELS: tl.constexpr = SIDE * SIDE
        stride = quotient(width + (SIDE - 1), SIDE) * TEXELS  # texels of a row of blocks
        x0 = quotient(x0, SIDE) * TEXELS + remainder(x0, SIDE)
        x1 = quotient(x1, SIDE) * TEXELS + remainder(x1, SIDE)
        row0 = quotient(y0, SIDE) * stride + remainder(y0, SIDE) * SIDE
        row1 = quotient(y1, SIDE) * stride + remainder(y1, SIDE) * SIDE
        return x0, x1, first + row0, first + row1, wx, wy
    return x0, x1, first + y0 * width, first + y1 * width, wx, wy


@triton.jit
def feature(
    parameters, stamps, distance, texel, f, key, noise,
    F: tl.constexpr, BITS: tl.constexpr, LAZY: tl.constexpr, QUANTIZED: tl.constexpr, NOISY: tl.constexpr,
):  # fmt: skip
    """Features f of texels as the exported file holds them, with training noise added before rounding.

    texel: (..., 1); f: (1, ..., F). Records of a lazy grid: see engine/cuda/adam.py. noise: strength / 2**BITS.
    """
    if LAZY:
        record = parameters + texel.to(tl.int64) * (2 * F) + f
        moved = tl.load(distance + (tl.load(stamps + texel) & (DRIFT_SIZE - 1)))
        value = clamp_feature(tl.load(record) - tl.load(record + F) * moved, QUANTIZED)
    else:
        value = tl.load(parameters + texel.to(tl.int64) * F + f)
    if QUANTIZED:
        if NOISY:
            index = texel.to(tl.uint32) * F + f.to(tl.uint32)
            value += (hash_uniform(index, key) - 0.5) * noise
        value = round_feature(value, BITS)
    return value


@triton.jit
def corner_texels(levels, lod, u, v, CORNER: tl.constexpr, COUNT: tl.constexpr, SIDE: tl.constexpr):
    """Texels CORNER .. CORNER + COUNT of the four around each sample, (samples, COUNT) int32."""
    x0, x1, row0, row1, _, _ = locate(levels, lod, u, v, SIDE)
    corner = (CORNER + tl.arange(0, COUNT))[None, :]
    row = tl.where(corner // 2 == 1, row1[:, None], row0[:, None])
    return row + tl.where(corner % 2 == 1, x1[:, None], x0[:, None])


@triton.jit
def settle(x):
    """x itself, but computed: Triton 3.9 fails on a matrix product of a merely reshaped tensor (sm_90)."""
    return x + 0.0


@triton.jit
def gather(
    parameters, stamps, distance, levels, lod, u, v, seed, iteration, strength,
    GRID: tl.constexpr, CORNER: tl.constexpr, WIDTH: tl.constexpr, F: tl.constexpr, BITS: tl.constexpr,
    LEARNED: tl.constexpr, LAZY: tl.constexpr, QUANTIZED: tl.constexpr, NOISY: tl.constexpr,
):  # fmt: skip
    """Inputs of the network from one grid, (samples, WIDTH).

    Linear: the blended features, WIDTH = F. Learned: those of WIDTH / F surrounding texels from CORNER on.
    """
    if NOISY:
        key, noise = stream_key(seed, iteration, STREAM_NOISE + GRID), strength * (1.0 / (1 << BITS))
    else:
        key, noise = 0, 0.0
    if LEARNED:
        COUNT: tl.constexpr = WIDTH // F
        texel = corner_texels(levels, lod, u, v, CORNER, COUNT, 0)[:, :, None]
        f = tl.arange(0, F)[None, None, :]
        value = feature(parameters, stamps, distance, texel, f, key, noise, F, BITS, LAZY, QUANTIZED, NOISY)
        return settle(tl.reshape(value, (u.shape[0], WIDTH)))
    else:
        x0, x1, row0, row1, wx, wy = locate(levels, lod, u, v, 0)
        f = tl.arange(0, F)[None, :]
        value = tl.zeros((u.shape[0], F), tl.float32)
        for corner in tl.static_range(4):
            texel = ((row1 if corner // 2 else row0) + (x1 if corner % 2 else x0))[:, None]
            weight = (wy if corner // 2 else 1 - wy) * (wx if corner % 2 else 1 - wx)
            value += weight[:, None] * feature(
                parameters, stamps, distance, texel, f, key, noise, F, BITS, LAZY, QUANTIZED, NOISY
            )
        return value


@triton.jit
def scatter(
    gradients, upstream, levels, lod, u, v, alive,
    CORNER: tl.constexpr, WIDTH: tl.constexpr, F: tl.constexpr, LEARNED: tl.constexpr, FIXED_POINT: tl.constexpr,
):  # fmt: skip
    """The gradient of `gather`, which passes straight through the rounding. alive: (samples,), which ones exist."""
    if LEARNED:
        COUNT: tl.constexpr = WIDTH // F
        texel = corner_texels(levels, lod, u, v, CORNER, COUNT, 0)[:, :, None]
        f = tl.arange(0, F)[None, None, :]
        value = tl.reshape(upstream, (u.shape[0], COUNT, F))
        mask = alive[:, None, None] & (texel >= 0) & (f < F)
        add_gradient(gradients + texel.to(tl.int64) * F + f, value, mask, FIXED_POINT)
    else:
        x0, x1, row0, row1, wx, wy = locate(levels, lod, u, v, 0)
        f = tl.arange(0, F)[None, :]
        mask = alive[:, None] & (f < F)
        for corner in tl.static_range(4):
            texel = (row1 if corner // 2 else row0) + (x1 if corner % 2 else x0)
            weight = (wy if corner // 2 else 1 - wy) * (wx if corner % 2 else 1 - wx)
            place = gradients + texel.to(tl.int64)[:, None] * F + f
            add_gradient(place, upstream * weight[:, None], mask, FIXED_POINT)


@triton.jit
def touched_units(levels, lod, u, v, corner, SIDE: tl.constexpr):
    """The texels around samples, one `corner` (0 to 3) of each, or their blocks; and which of them repeat the block of
    an earlier corner."""
    x0, x1, row0, row1, _, _ = locate(levels, lod, u, v, SIDE)
    texel = tl.where(corner // 2 == 1, row1, row0) + tl.where(corner % 2 == 1, x1, x0)
    if SIDE:
        TEXELS: tl.constexpr = SIDE * SIDE
        across = (corner % 2 == 1) & (quotient(x0, TEXELS) == quotient(x1, TEXELS))
        down = (corner // 2 == 1) & (quotient(row0, TEXELS) == quotient(row1, TEXELS))
        return quotient(texel, TEXELS), across | down
    return texel, corner < 0


@triton.jit
def side_by_side(a, b):
    """Two (n, w) interleaved as (n, 2 w): a0 b0 a1 b1 ..., which only needs two columns in the same thread."""
    return settle(tl.reshape(tl.join(a, b), (a.shape[0], 2 * a.shape[1])))


@triton.jit
def apart(x):
    """The inverse of side_by_side."""
    return tl.split(tl.reshape(x, (x.shape[0], x.shape[1] // 2, 2)))


@triton.jit
def position_inputs(columns, levels, lod, u, v, lod_value, WIDTH: tl.constexpr, TEXEL_WAVES: tl.constexpr):
    """The position group, (samples, WIDTH). columns: (4, WIDTH) float32: factors of u and v, shift, kind.

    levels: of grid 0, whose texels are the unit of the texel waves. lod_value: LOD / (LODs - 1).
    """
    c = tl.arange(0, WIDTH)
    of_u, of_v = tl.load(columns + c)[None, :], tl.load(columns + WIDTH + c)[None, :]
    shift, kind = tl.load(columns + 2 * WIDTH + c)[None, :], tl.load(columns + 3 * WIDTH + c)[None, :]
    x = u[:, None] * of_u + v[:, None] * of_v + shift
    part = x - tl.floor(x)
    value = tl.where(kind == WAVE, 4 * tl.abs(part - 0.5) - 1, 0.0)
    if TEXEL_WAVES:
        width, height = level_size(levels, lod)
        x = (u * width.to(tl.float32) - 0.5)[:, None] * of_u + (v * height.to(tl.float32) - 0.5)[:, None] * of_v
        value = tl.where(kind == TEXEL_WAVE, 2 * (x - tl.floor(x)) - 1, value)
    value = tl.where(kind == LOD, lod_value[:, None], value)
    return tl.where(kind == ONE, 1.0, value)
