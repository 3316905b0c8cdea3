"""The kernels that take Adam's steps: of dense grids, of lazy grids, and of the network.

A grid is `dense` if a batch touches much of it: every iteration reads and writes all its parameters. It is `lazy` if a
batch touches little of it. By the maths of engine/cpu/src/adam.h, a texel without a gradient moves along a fixed
direction, by a distance that depends only on the iteration of its last update, so it can wait until it is read. The
record of a texel is F parameters and F directions, moment1 / (sqrt(moment2) + small); `moments` holds both moments.

What holds for texels here holds for the blocks of a grid of blocks (F = 22 of BC1, 42 of ASTC 6x6), whose parameters
have their gradients from engine/cuda/blocks/kernels.py. UNIT is the power of two from F on.

Memory traffic per parameter, from the layouts: dense 16 bytes read and 16 written every iteration, gradient included;
lazy 20 read and 20 written, and 8 more per texel, for touched texels alone.
"""

import triton
import triton.language as tl

from engine.cuda.blocks.maths import clear_texels
from engine.cuda.inputs import draw_look, level_size, touched_units
from engine.cuda.maths import DRIFT_SIZE, clamp_feature, gradient_value, operand, round_row

# Columns of the table; the last is 1 where the next iteration has rounded weights.
SMALL, NETWORK_STEP, GRID_STEPS = tl.constexpr(0), tl.constexpr(2), tl.constexpr(3)


@triton.jit
def now_of(progress):
    """The number of this iteration, counted from 1."""
    return tl.load(progress) + 1


@triton.jit
def direction(one, two, small):
    """Adam's direction, rounded as in GridBuffers.load, so that a resumed run has the bits of one never stopped."""
    return tl.div_rn(one, tl.sqrt_rn(two) + small)


@triton.jit(do_not_specialize=["count"])
def dense_kernel(
    progress, table, count, parameters, moments, gradients,
    GRID: tl.constexpr, TABLE: tl.constexpr, QUANTIZED: tl.constexpr, FIXED_POINT: tl.constexpr, BETA1: tl.constexpr,
    BETA2: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adam's step for a dense grid, whose gradient is cleared. moments: (2, count)."""
    row = table + tl.load(progress + 1) * TABLE
    small, size = tl.load(row + SMALL), tl.load(row + GRID_STEPS + GRID)
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = index < count
    gradient = gradient_value(tl.load(gradients + index, mask=mask, other=0), FIXED_POINT)
    one = tl.load(moments + index, mask=mask, other=0.0) * BETA1 + gradient * (1 - BETA1)
    two = tl.load(moments + count + index, mask=mask, other=0.0) * BETA2 + gradient * gradient * (1 - BETA2)
    value = tl.load(parameters + index, mask=mask, other=0.0) - size * direction(one, two, small)
    tl.store(parameters + index, clamp_feature(value, QUANTIZED), mask=mask)
    tl.store(moments + index, one, mask=mask)
    tl.store(moments + count + index, two, mask=mask)
    tl.store(gradients + index, tl.zeros((BLOCK,), gradients.dtype.element_ty), mask=mask)


@triton.jit
def bring_up(records, moments, stamps, distance, fading, texel, f, mask, now, F: tl.constexpr,
             QUANTIZED: tl.constexpr):  # fmt: skip
    """Texels (n, 1) of a lazy grid at iteration `now`: parameters and both moments, each (n, F). Writes nothing."""
    record, moment = records + texel.to(tl.int64) * (2 * F) + f, moments + texel.to(tl.int64) * (2 * F) + f
    stamp = tl.load(stamps + texel, mask=mask, other=0)
    age = tl.maximum(now - stamp, 0)
    moved = tl.load(distance + (stamp & (DRIFT_SIZE - 1)), mask=mask, other=0.0)
    moved = tl.where(age > 0, moved, 0.0)
    value = tl.load(record, mask=mask, other=0.0) - tl.load(record + F, mask=mask, other=0.0) * moved
    one = tl.load(moment, mask=mask, other=0.0) * tl.load(fading + age, mask=mask, other=0.0)
    two = tl.load(moment + F, mask=mask, other=0.0) * tl.load(fading + DRIFT_SIZE + age, mask=mask, other=0.0)
    return clamp_feature(value, QUANTIZED), one, two


@triton.jit
def keep(records, moments, texel, f, mask, value, one, two, small, F: tl.constexpr):
    """Write texels back, with their new directions."""
    record, moment = records + texel.to(tl.int64) * (2 * F) + f, moments + texel.to(tl.int64) * (2 * F) + f
    tl.store(record, value, mask=mask)
    tl.store(record + F, direction(one, two, small), mask=mask)
    tl.store(moment, one, mask=mask)
    tl.store(moment + F, two, mask=mask)


@triton.jit(do_not_specialize=["batch"])
def touched_kernel(
    progress, table, batch, boundaries, lod_sizes, lod_offsets, levels, records, moments, stamps, distance, fading,
    gradients, by_texel,
    GRID: tl.constexpr, TABLE: tl.constexpr, F: tl.constexpr, UNIT: tl.constexpr, SIDE: tl.constexpr,
    QUANTIZED: tl.constexpr, FIXED_POINT: tl.constexpr, BETA1: tl.constexpr, BETA2: tl.constexpr,
    LOOKS: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """Adam's step for the texels of a lazy grid that this iteration's samples touch, whose gradients are cleared.

    Several samples may touch a texel. The one that first raises its stamp to this iteration updates it, so no list of
    touched texels is needed; gradients are complete before this kernel starts.
    """
    row = table + tl.load(progress + 1) * TABLE
    small, size = tl.load(row + SMALL), tl.load(row + GRID_STEPS + GRID)
    now, seed = now_of(progress), tl.load(progress + 2).to(tl.uint32)
    read = tl.arange(0, 4 * LOOKS)
    look, corner = tl.program_id(0) * LOOKS + read // 4, read % 4
    lod, u, v, alive = draw_look(look, seed, (now - 1).to(tl.uint32), batch, boundaries, lod_sizes, lod_offsets,
                                 POSITIONS)  # fmt: skip
    texel, again = touched_units(levels, lod, u, v, corner, SIDE)
    alive = alive & ~again if SIDE else alive
    # texels that another program is updating are read as well, but masked out
    before = tl.atomic_max(stamps + texel, now, mask=alive, sem="relaxed")
    mine = alive & (before < now)
    f = tl.arange(0, UNIT)[None, :]
    texel, mask = texel[:, None], mine[:, None] & (f < F)
    record, moment = records + texel.to(tl.int64) * (2 * F) + f, moments + texel.to(tl.int64) * (2 * F) + f
    age = tl.where(mine, now - before, 0)
    moved = tl.load(distance + (before & (DRIFT_SIZE - 1)), mask=mine, other=0.0)[:, None]
    fade1 = tl.load(fading + age, mask=mine, other=0.0)[:, None]
    fade2 = tl.load(fading + DRIFT_SIZE + age, mask=mine, other=0.0)[:, None]
    place = gradients + texel.to(tl.int64) * F + f
    gradient = gradient_value(tl.load(place, mask=mask, other=0), FIXED_POINT)
    value = tl.load(record, mask=mask, other=0.0) - tl.load(record + F, mask=mask, other=0.0) * moved
    one = tl.load(moment, mask=mask, other=0.0) * fade1 + gradient * (1 - BETA1)
    two = tl.load(moment + F, mask=mask, other=0.0) * fade2 + gradient * gradient * (1 - BETA2)
    value = clamp_feature(value, QUANTIZED) - size * direction(one, two, small)
    keep(records, moments, texel, f, mask, clamp_feature(value, QUANTIZED), one, two, small, F)
    tl.store(place, tl.zeros((4 * LOOKS, UNIT), gradients.dtype.element_ty), mask=mask)
    if SIDE:
        clear_texels(by_texel, texel, mine[:, None], SIDE)


@triton.jit
def sweep(progress, table, at, alive, records, moments, stamps, distance, fading, TABLE: tl.constexpr, F: tl.constexpr,
          UNIT: tl.constexpr, QUANTIZED: tl.constexpr):  # fmt: skip
    """Brings texels `at` (n,), each of them once, up to the current iteration."""
    now = tl.load(progress)
    small = tl.load(table + tl.maximum(tl.load(progress + 1) - 1, 0) * TABLE + SMALL)
    f = tl.arange(0, UNIT)[None, :]
    texel = at[:, None]
    behind = alive & (tl.load(stamps + at, mask=alive, other=0) < now)
    mask = behind[:, None] & (f < F)
    value, one, two = bring_up(records, moments, stamps, distance, fading, texel, f, mask, now, F, QUANTIZED)
    keep(records, moments, texel, f, mask, value, one, two, small, F)
    tl.debug_barrier()
    tl.store(stamps + at, now + tl.zeros_like(at), mask=behind)


@triton.jit(do_not_specialize=["count"])
def sweep_kernel(
    progress, table, count, records, moments, stamps, distance, fading,
    TABLE: tl.constexpr, F: tl.constexpr, UNIT: tl.constexpr, QUANTIZED: tl.constexpr, TEXELS: tl.constexpr,
):  # fmt: skip
    """Brings every texel of a lazy grid up to the current iteration; the caller clears the distances."""
    at = tl.program_id(0) * TEXELS + tl.arange(0, TEXELS)
    sweep(progress, table, at, at < count, records, moments, stamps, distance, fading, TABLE, F, UNIT, QUANTIZED)


@triton.jit
def lerp(a, b, weight):
    """torch.lerp, which is exact at the nearer end."""
    return tl.where(weight < 0.5, a + weight * (b - a), b - (b - a) * (1 - weight))


@triton.jit
def border_texels(records, moments, stamps, distance, fading, texel, f, mask, now, F: tl.constexpr,
                  QUANTIZED: tl.constexpr, LAZY: tl.constexpr):  # fmt: skip
    if LAZY:
        return bring_up(records, moments, stamps, distance, fading, texel, f, mask, now, F, QUANTIZED)
    else:
        value = tl.load(records + texel.to(tl.int64) * F + f, mask=mask, other=0.0)
        return value, value, value


@triton.jit
def keep_border(records, moments, stamps, texel, f, mask, value, one, two, now, small, F: tl.constexpr,
                LAZY: tl.constexpr):  # fmt: skip
    if LAZY:
        keep(records, moments, texel, f, mask, value, one, two, small, F)
        tl.store(stamps + texel + tl.zeros_like(f), now + tl.zeros_like(texel + f), mask=mask & (f == 0))
    else:
        tl.store(records + texel.to(tl.int64) * F + f, value, mask=mask)


@triton.jit(do_not_specialize=["interval", "strength"])
def border_kernel(
    progress, table, interval, strength, levels, records, moments, stamps, distance, fading,
    TABLE: tl.constexpr, F: tl.constexpr, QUANTIZED: tl.constexpr, LAZY: tl.constexpr, TEXELS: tl.constexpr,
):  # fmt: skip
    """model.sync_wrap_boundary every `interval` iterations. levels: (n, 2), see plan.level_entry.

    Programs: (levels, blocks of TEXELS rows and columns). Sides are tied without their ends, so that they share no
    texel with the corners.
    """
    now = tl.load(progress)
    if now % interval == 0:
        small = tl.load(table + tl.maximum(tl.load(progress + 1) - 1, 0) * TABLE + SMALL)
        width, height = level_size(levels, tl.program_id(0))
        first = tl.load(levels + 2 * tl.program_id(0) + 1)
        right, bottom = width - 1, (height - 1) * width
        image = (width > 1) & (height > 1)
        f = tl.arange(0, F)[None, :]
        at = (1 + tl.program_id(1) * TEXELS + tl.arange(0, TEXELS))[:, None]
        for side in tl.static_range(2):
            inside = image & (at < (height if side == 0 else width) - 1) & (f < F)
            near = first + (at * width if side == 0 else at)
            far = near + (right if side == 0 else bottom)
            a, a1, a2 = border_texels(records, moments, stamps, distance, fading, near, f, inside, now, F, QUANTIZED,
                                      LAZY)  # fmt: skip
            b, b1, b2 = border_texels(records, moments, stamps, distance, fading, far, f, inside, now, F, QUANTIZED,
                                      LAZY)  # fmt: skip
            mean = (a + b) * 0.5
            tl.debug_barrier()  # every stamp has been read
            keep_border(records, moments, stamps, near, f, inside, lerp(a, mean, strength), a1, a2, now, small, F, LAZY)
            keep_border(records, moments, stamps, far, f, inside, lerp(b, mean, strength), b1, b2, now, small, F, LAZY)
        corner = tl.arange(0, 4)[:, None]
        texel = first + (corner % 2) * right + (corner // 2) * bottom
        features = F * image.to(tl.int32) * (tl.program_id(1) == 0).to(tl.int32)
        ends = (corner >= 0) & (f < features)
        c, c1, c2 = border_texels(records, moments, stamps, distance, fading, texel, f, ends, now, F, QUANTIZED,
                                  LAZY)  # fmt: skip
        mean = (tl.sum(c, axis=0) * 0.25)[None, :] + tl.zeros_like(c)
        tl.debug_barrier()
        keep_border(records, moments, stamps, texel, f, ends, lerp(c, mean, strength), c1, c2, now, small, F, LAZY)


@triton.jit(do_not_specialize=["n_partials"])
def network_kernel(
    progress, table, partials, n_partials, weights, moments1, moments2, packed, rows, input_map,
    TABLE: tl.constexpr, SIZE: tl.constexpr, INPUTS: tl.constexpr, ONE: tl.constexpr, PARTS: tl.constexpr,
    BETA1: tl.constexpr, BETA2: tl.constexpr, PACKED: tl.constexpr, WEIGHT_BITS: tl.constexpr,
):  # fmt: skip
    """Adam's step for one row of one layer per program, which also packs the row for the other kernels.

    rows: (n, 4) int32: offset of the row in `weights`, number of inputs, offset in `packed`, 1 for the first layer plus
    2 for a row that stays as it is.
    input_map: packed column of each input of the first layer; -1: unused, and without a gradient.
    ONE: the packed column that all constant inputs of 1 share; its weight is the sum of theirs.
    PACKED: the precision of `operand` to which packed weights are rounded, after WEIGHT_BITS of round_row.
    """
    line = table + tl.load(progress + 1) * TABLE
    small, size = tl.load(line + SMALL), tl.load(line + NETWORK_STEP)
    description = rows + 4 * tl.program_id(0)
    place, n_inputs = tl.load(description), tl.load(description + 1)
    packed_place, kind_of_row = tl.load(description + 2), tl.load(description + 3)
    is_first, moves = kind_of_row & 1, 1 - (kind_of_row >> 1)
    index = tl.arange(0, INPUTS)
    mask = index < n_inputs
    column = tl.load(input_map + index, mask=index < n_inputs * is_first, other=-1)
    column = column * is_first + index * (1 - is_first)
    used = mask & (column >= 0)
    part = tl.arange(0, PARTS)
    gradient = tl.zeros((INPUTS,), tl.float32)
    for start in tl.range(0, n_partials, PARTS):
        from_part = (start + part).to(tl.int64)[:, None] * SIZE + packed_place + column[None, :]
        found = tl.load(partials + from_part, mask=(start + part < n_partials)[:, None] & used[None, :], other=0.0)
        gradient += tl.sum(found, axis=0)
    gradient *= moves.to(tl.float32)
    at = place + index
    one = tl.load(moments1 + at, mask=mask, other=0.0) * BETA1 + gradient * (1 - BETA1)
    two = tl.load(moments2 + at, mask=mask, other=0.0) * BETA2 + gradient * gradient * (1 - BETA2)
    value = tl.load(weights + at, mask=mask, other=0.0) - size * direction(one, two, small)
    tl.store(weights + at, value, mask=mask)
    tl.store(moments1 + at, one, mask=mask)
    tl.store(moments2 + at, two, mask=mask)
    if WEIGHT_BITS < 32:
        rounds = tl.load(line + TABLE - 1) > 0
        value = tl.where(rounds, round_row(tl.where(mask, value, 0.0), WEIGHT_BITS), value)
    one_column = ONE * is_first - 2 * (1 - is_first)  # -2: of no other layer
    shared = used & (column == one_column)
    kind: tl.constexpr = packed.dtype.element_ty
    tl.store(packed + packed_place + column, operand(value, PACKED).to(kind), mask=used & (column != one_column))
    # summed in float64, so that plan.pack gets the same bits in another order
    bias = tl.sum(tl.where(shared, value, 0.0).to(tl.float64), axis=0).to(tl.float32)
    if one_column >= 0:
        tl.store(packed + packed_place + ONE, operand(bias, PACKED).to(kind))


@triton.jit(do_not_specialize=["n_partials", "batch"])
def advance_kernel(
    progress, grid_steps, losses, n_partials, loss_sum, batch, drift, distance, directions,
    N_GRIDS: tl.constexpr, SWEEP: tl.constexpr, LOSSES: tl.constexpr,
):  # fmt: skip
    """Ends an iteration: adds its loss, updates the distances of texels without a gradient, and counts it.

    grid_steps: (rows, N_GRIDS) float64, Adam's step sizes. drift: (N_GRIDS, 1024) float64, and distance the same as
    float32: by the stamp of a texel. directions: (1024,) float64, the factor of a direction after so many iterations.
    """
    iteration, row = tl.load(progress), tl.load(progress + 1)
    now = iteration + 1
    part = tl.arange(0, LOSSES)
    found = tl.load(losses + part, mask=part < n_partials, other=0.0)
    mean = tl.sum(found.to(tl.float64), axis=0) / batch.to(tl.float64)
    tl.store(loss_sum, tl.load(loss_sum) + mean)
    stamp = tl.arange(0, DRIFT_SIZE)
    age = (now - stamp) & (DRIFT_SIZE - 1)
    share = tl.where((age >= 1) & (age <= SWEEP) & (age <= now), tl.load(directions + age), 0.0)
    for grid in tl.static_range(N_GRIDS):
        place = drift + grid * DRIFT_SIZE + stamp
        moved = tl.load(place) + tl.load(grid_steps + row * N_GRIDS + grid) * share
        moved = tl.where(age == 0, 0.0, moved)
        tl.store(place, moved)
        tl.store(distance + grid * DRIFT_SIZE + stamp, moved.to(tl.float32))
    tl.debug_barrier()
    tl.store(progress, now)
    tl.store(progress + 1, row + 1)
