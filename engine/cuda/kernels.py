"""The kernels that compute samples: one fused training step, and decoding.

Each program works through several blocks of samples. For a block it draws texels and LODs, gathers features, runs the
network forward, takes the loss, runs the network backward and scatters the gradients of the grids; no value of a sample
is written to memory. The gradient of the weights stays in registers over all blocks of a program (for wide networks in
a slab of memory per program) and is written once; engine/cuda/adam.py adds up the programs' parts in a fixed order.

Costs of one sample, computed from the shapes and not measured; F features per texel, 4 bytes each:

  read     the target: one byte per 8-bit channel, two per 16-bit one, in 1 or 2 sectors of 32 bytes;
           4 texels of each grid: 16 F bytes, twice that and 4 stamps for a lazy grid
  added    4 F atomics to float32 per grid (int64 with --deterministic)
  weights  4 bytes each (2 in bf16) for the forward and again for the backward pass, once per block of samples, from L1
  compute  3 multiply-adds per weight

For 4096², 9 channels, two learned grids of 8 features and 2 x 64 neurons: 9 + 512 bytes read, 256 bytes added, the same
again for Adam's records of texels that are seen once, and 3 x 11 000 multiply-adds. Two hashes draw the position, and
one the noise of each feature.

With --positions filtered a target is four texels of the material. Of a model of linear grids half of the samples lie
between two LODs (sampling.whole_lod_share), and read and add at both of them; the network runs once for each sample.
"""

import triton
import triton.language as tl

from engine import sample_loss
from engine.cuda.inputs import ANYWHERE, SCALE, around, draw, draw_anywhere, look_at, neighbours
from engine.cuda.network import PADDED_OUTPUTS, backward, forward, start_sums, store_sums

COVERAGE_FLOOR = tl.constexpr(sample_loss.COVERAGE_FLOOR)
END, ROOM = tl.constexpr(sample_loss.END), tl.constexpr(sample_loss.ROOM)
LIGHT_GAIN = tl.constexpr(sample_loss.LIGHT_GAIN)


@triton.jit
def stored_codes(codes8, codes16, column, texel, COLUMNS8: tl.constexpr, COLUMNS16: tl.constexpr):
    """What the material stores at texels (samples,), as float32 (samples, 16); 0 for outputs without a column (-1)."""
    row = texel[:, None]
    found = tl.zeros((texel.shape[0], PADDED_OUTPUTS), tl.float32)
    if COLUMNS8:
        mask = (column >= 0) & (column < COLUMNS8) & (row >= 0)
        found = tl.load(codes8 + row * COLUMNS8 + column, mask=mask, other=0).to(tl.float32)
    if COLUMNS16:
        deep = (column >= COLUMNS8) & (row >= 0)
        code = tl.load(codes16 + row * COLUMNS16 + (column - COLUMNS8), mask=deep, other=0).to(tl.int32) & 0xFFFF
        found = tl.where(deep, code.to(tl.float32), found)
    return found


@triton.jit
def values_of(codes, column, COLUMNS8: tl.constexpr, COLUMNS16: tl.constexpr):
    """Values in [0, 1] that stored_codes stand for."""
    unit = tl.zeros_like(codes) + 255.0
    if COLUMNS16:
        unit = tl.where(column < COLUMNS8, unit, 65535.0)
    return tl.div_rn(codes, unit)


@triton.jit
def bilinear_codes(
    codes8, codes16, column, lod_sizes, lod_offsets, lod, u, v, COLUMNS8: tl.constexpr, COLUMNS16: tl.constexpr
):
    """stored_codes between the texels of whole LODs."""
    width, height = tl.load(lod_sizes + 2 * lod), tl.load(lod_sizes + 2 * lod + 1)
    x0, x1, y0, y1, wx, wy = neighbours(u, v, width, height)
    first = tl.load(lod_offsets + lod)
    found = tl.zeros((u.shape[0], PADDED_OUTPUTS), tl.float32)
    for corner in tl.static_range(4):
        texel = first + (y1 if corner // 2 else y0).to(tl.int64) * width + (x1 if corner % 2 else x0)
        weight = (wy if corner // 2 else 1 - wy) * (wx if corner % 2 else 1 - wx)
        found += weight[:, None] * stored_codes(codes8, codes16, column, texel, COLUMNS8, COLUMNS16)
    return found


@triton.jit
def filtered_codes(
    codes8, codes16, column, lod_sizes, lod_offsets, lod, u, v, far_lod, blend,
    BLENDED: tl.constexpr, COLUMNS8: tl.constexpr, COLUMNS16: tl.constexpr,
):  # fmt: skip
    """stored_codes at any position: what values_of makes of them is dataset.Material.filtered."""
    if not BLENDED:
        return bilinear_codes(codes8, codes16, column, lod_sizes, lod_offsets, lod, u, v, COLUMNS8, COLUMNS16)
    found = tl.zeros((u.shape[0], PADDED_OUTPUTS), tl.float32)
    for look in tl.range(0, 2, num_stages=1):
        at, share = look_at(look, lod, far_lod, blend)
        codes = bilinear_codes(codes8, codes16, column, lod_sizes, lod_offsets, at, u, v, COLUMNS8, COLUMNS16)
        found += share[:, None] * codes
    return found


@triton.jit(do_not_specialize=["batch"])
def step_kernel(
    progress, table, batch,  # (iteration, row of the table, seed) int32; (rows, TABLE) float32
    boundaries, lod_sizes, lod_offsets, codes8, codes16, target_columns, channel_weights, light,
    given_uv, given_lod, given_upstream, given_out,
    weights, activations, columns, parameters, stamps, distance, levels, gradients, partials, losses,
    MODE: tl.constexpr,  # train | measure (the loss, without noise) | given (samples and their upstream gradient)
    TABLE: tl.constexpr, BLOCK: tl.constexpr, NUM_LODS: tl.constexpr, COLUMNS8: tl.constexpr, COLUMNS16: tl.constexpr,
    GRIDS: tl.constexpr, GROUPS: tl.constexpr, N_GROUPS: tl.constexpr, K: tl.constexpr, H0: tl.constexpr,
    NP: tl.constexpr, LAYERS: tl.constexpr, HARD_SWISH: tl.constexpr, SLOPE: tl.constexpr, TEXEL_WAVES: tl.constexpr,
    QUANTIZED: tl.constexpr, ACTIVATIONS: tl.constexpr, SIZE: tl.constexpr, IN_MEMORY: tl.constexpr,
    FIXED_POINT: tl.constexpr, PRECISION: tl.constexpr, POSITIONS: tl.constexpr, COVERAGE: tl.constexpr,
    LIGHT: tl.constexpr,
):  # fmt: skip
    """One iteration of training up to the gradients.

    Gradients of the grids are added to `gradients`. Each program leaves its gradient of the weights in a row of
    `partials` (programs, SIZE), and the summed loss of its samples in `losses` (programs,).
    COVERAGE: the output that says how much a sample counts in the others; -1: none. See SampleLoss.
    LIGHT: whether any of `light` (PADDED_OUTPUTS), that of a SampleLoss, is not 0.
    """
    iteration, seed = tl.load(progress).to(tl.uint32), tl.load(progress + 2).to(tl.uint32)
    strength = tl.load(table + tl.load(progress + 1) * TABLE + 1)
    program = tl.program_id(0)
    partial = partials + program.to(tl.int64) * SIZE
    loss = tl.zeros((BLOCK,), tl.float32)
    sums = start_sums(GROUPS, N_GROUPS, H0, NP, LAYERS, IN_MEMORY)
    for block in tl.range(program, tl.cdiv(batch, BLOCK), tl.num_programs(0), num_stages=1, disable_licm=True):
        slot = block * BLOCK + tl.arange(0, BLOCK)
        alive = slot < batch
        if MODE == "given":
            u = tl.load(given_uv + 2 * slot, mask=alive, other=0.0)
            v = tl.load(given_uv + 2 * slot + 1, mask=alive, other=0.0)
            u, v = u - tl.floor(u), v - tl.floor(v)
            lod = tl.load(given_lod + slot, mask=alive, other=0)
        elif POSITIONS[ANYWHERE] > 0:
            lod, u, v = draw_anywhere(slot.to(tl.uint32), seed, iteration, boundaries, POSITIONS)
        else:
            texel, lod, u, v = draw(slot.to(tl.uint32), seed, iteration, boundaries, lod_sizes, lod_offsets)
        lod_value = tl.div_rn(lod.to(tl.float32), tl.zeros_like(u) + (NUM_LODS - 1 if NUM_LODS > 1 else 1))
        if POSITIONS[SCALE] > 0:
            lod, far_lod, blend = around(lod)
        else:
            lod = lod.to(tl.int32)
            far_lod, blend = lod, u
        decoded, inputs, seen = forward(
            weights, activations, columns, parameters, stamps, distance, levels, lod, u, v, lod_value, far_lod, blend,
            seed, iteration, strength, GRIDS, GROUPS, N_GROUPS, K, H0, NP, LAYERS, HARD_SWISH, SLOPE, TEXEL_WAVES,
            QUANTIZED, ACTIVATIONS, MODE != "measure", POSITIONS[SCALE] > 0, PRECISION,
        )  # fmt: skip
        output = tl.arange(0, PADDED_OUTPUTS)[None, :]
        if MODE == "given":
            place = slot[:, None] * PADDED_OUTPUTS + output
            upstream = tl.load(given_upstream + place, mask=alive[:, None] & (output < PADDED_OUTPUTS), other=0.0)
            tl.store(given_out + place, decoded, mask=alive[:, None] & (output < PADDED_OUTPUTS))
        else:
            column = tl.load(target_columns + output)
            if POSITIONS[ANYWHERE] > 0:
                codes = filtered_codes(codes8, codes16, column, lod_sizes, lod_offsets, lod, u, v, far_lod, blend,
                                       POSITIONS[SCALE] > 0, COLUMNS8, COLUMNS16)  # fmt: skip
            else:
                codes = stored_codes(codes8, codes16, column, texel, COLUMNS8, COLUMNS16)
            wanted = values_of(codes, column, COLUMNS8, COLUMNS16)
            share = tl.load(channel_weights + output)
            if COVERAGE >= 0 and MODE == "train":
                covered = tl.sum(tl.where(output == COVERAGE, wanted, 0.0), axis=1)[:, None]
                share *= tl.where(output == COVERAGE, 1.0, COVERAGE_FLOOR + (1 - COVERAGE_FLOOR) * covered)
            error = tl.where(alive[:, None] & (share != 0), decoded - wanted, 0.0)
            if LIGHT:
                scale = tl.load(light + output)
                error = tl.where((scale > 0) & (wanted < END) & (error < 0), tl.minimum(error + ROOM, 0.0), error)
                if MODE == "train":
                    square = wanted * wanted
                    share *= tl.where(scale > 0, scale * (1 + LIGHT_GAIN * square * square), 1.0)
            if COVERAGE >= 0:
                own = output == COVERAGE
                below = own & (wanted < END) & (error < 0)
                above = own & (wanted > 1 - END) & (error > 0)
                error = tl.where(below, tl.minimum(error + ROOM, 0.0), error)
                error = tl.where(above, tl.maximum(error - ROOM, 0.0), error)
            loss += tl.sum(error * error * share, axis=1)
            upstream = error * share * (2.0 / batch.to(tl.float32))
        if MODE != "measure":
            sums = backward(
                upstream, inputs, seen, sums, weights, activations, partial, block == program, gradients, levels, lod,
                u, v, far_lod, blend, alive, GRIDS, GROUPS, N_GROUPS, K, H0, NP, LAYERS, HARD_SWISH, SLOPE, IN_MEMORY,
                FIXED_POINT, ACTIVATIONS, POSITIONS[SCALE] > 0, PRECISION,
            )  # fmt: skip
        if IN_MEMORY:  # only one side is compiled
            tl.debug_barrier()  # other threads than those that wrote a sum may read it for the next block
    tl.store(losses + program, tl.sum(loss, axis=0))
    if MODE != "measure":  # noqa: SIM102
        if not IN_MEMORY:
            store_sums(partial, sums, GROUPS, N_GROUPS, K, H0, NP, LAYERS)


@triton.jit(do_not_specialize=["first", "count", "lod", "width", "height"])
def decode_kernel(
    first, count, lod, width, height, samples_uv, samples_lod, out,
    weights, activations, columns, parameters, stamps, distance, levels,
    GIVEN: tl.constexpr, BLENDED: tl.constexpr, BLOCK: tl.constexpr, NUM_LODS: tl.constexpr, GRIDS: tl.constexpr,
    GROUPS: tl.constexpr, N_GROUPS: tl.constexpr, K: tl.constexpr, H0: tl.constexpr, NP: tl.constexpr,
    LAYERS: tl.constexpr, HARD_SWISH: tl.constexpr, SLOPE: tl.constexpr, TEXEL_WAVES: tl.constexpr,
    QUANTIZED: tl.constexpr, ACTIVATIONS: tl.constexpr, PRECISION: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Decodes texels first .. first + count of an image, or with GIVEN samples, into out (count, CHANNELS).

    BLENDED: LODs may be fractional, and the inputs at the two nearest are blended; otherwise LODs are whole numbers.
    """
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    alive = index < count
    far, blend = index, tl.zeros((BLOCK,), tl.float32)
    if GIVEN:
        u = tl.load(samples_uv + 2 * index, mask=alive, other=0.0)
        v = tl.load(samples_uv + 2 * index + 1, mask=alive, other=0.0)
        u, v = u - tl.floor(u), v - tl.floor(v)
        sample_lod = tl.load(samples_lod + index, mask=alive, other=0.0)
        lower = tl.minimum(tl.maximum(tl.floor(sample_lod), 0.0), NUM_LODS - 1.0)
        near = lower.to(tl.int32)
        if BLENDED:
            far = tl.minimum(near + 1, NUM_LODS - 1)
            blend = tl.minimum(tl.maximum(sample_lod - lower, 0.0), 1.0)
        else:
            sample_lod = lower
    else:
        texel = tl.where(alive, first + index, 0)
        wide, high = width.to(tl.float32), height.to(tl.float32)
        u = tl.div_rn((texel % width).to(tl.float32) + 0.5, tl.zeros((BLOCK,), tl.float32) + wide)
        v = tl.div_rn((texel // width).to(tl.float32) + 0.5, tl.zeros((BLOCK,), tl.float32) + high)
        near = tl.zeros((BLOCK,), tl.int32) + lod
        sample_lod = near.to(tl.float32)
    lod_value = tl.div_rn(sample_lod, tl.zeros_like(u) + (NUM_LODS - 1 if NUM_LODS > 1 else 1))
    decoded, _, _ = forward(
        weights, activations, columns, parameters, stamps, distance, levels, near, u, v, lod_value, far, blend, 0, 0,
        0.0, GRIDS, GROUPS, N_GROUPS, K, H0, NP, LAYERS, HARD_SWISH, SLOPE, TEXEL_WAVES, QUANTIZED, ACTIVATIONS, False,
        BLENDED, PRECISION,
    )  # fmt: skip
    output = tl.arange(0, PADDED_OUTPUTS)[None, :]
    place = index.to(tl.int64)[:, None] * CHANNELS + output
    tl.store(out + place, decoded, mask=alive[:, None] & (output < CHANNELS))
