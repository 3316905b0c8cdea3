"""Device functions of the network: forward, backward, gradients of the weights.

One packed array holds all weights, padded for tl.dot: the first layer (H0, K), then (NP, NP) for each further hidden
layer, then (16, NP). NP is the padded width of the hidden layers; H0 equals it, or 16 without hidden layers. GROUPS has
seven numbers per group of inputs: a stack of grids (-1: the position) and its first corner, a second stack (-1: none)
and its first corner, columns per stack, columns of the group, and its first column in the first layer. Stacks (see
plan.stacks) are numbered as in GRIDS and in the tuples `parameters`, `stamps`, `distance` and `gradients`.
"""

import triton
import triton.language as tl

from engine.cuda.blocks.samples import gather_blocks, scatter_blocks
from engine.cuda.inputs import MOST_LODS, apart, gather, look_at, position_inputs, scatter, side_by_side
from engine.cuda.maths import activate, activate_back, operand, product, rounded_activation

LEVELS = 2 * (MOST_LODS + 1)  # numbers of a grid in `levels`, see plan.lod_levels
PADDED_OUTPUTS = tl.constexpr(16)
GROUP = tl.constexpr(7)  # numbers of a group in GROUPS
# numbers of a stack in GRIDS: columns of a texel, bits, learned, lazy, moves, first grid, side of a block (0: of words)
GRID = tl.constexpr(7)


@triton.jit
def zeros(ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    return tl.zeros((ROWS, COLUMNS), tl.float32)


@triton.jit
def tile(STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Offsets of a matrix, (ROWS, COLUMNS)."""
    return tl.arange(0, ROWS)[:, None] * STRIDE + tl.arange(0, COLUMNS)[None, :]


@triton.jit
def piece_inputs(
    parameters, stamps, distance, levels, lod, u, v, seed, iteration, strength,
    INDEX: tl.constexpr, CORNER: tl.constexpr, WIDTH: tl.constexpr, GRIDS: tl.constexpr, QUANTIZED: tl.constexpr,
    NOISY: tl.constexpr,
):  # fmt: skip
    """The columns of one grid in a group of inputs, (samples, WIDTH); zeros without a grid."""
    if INDEX < 0:
        return zeros(u.shape[0], WIDTH)
    else:
        FIRST: tl.constexpr = GRIDS[GRID * INDEX + 5]
        if GRIDS[GRID * INDEX + 6]:
            return gather_blocks(
                parameters[INDEX], stamps[INDEX], distance[INDEX], levels + FIRST * LEVELS, lod, u, v, seed,
                iteration, strength, FIRST, GRIDS[GRID * INDEX + 6], CORNER, WIDTH, GRIDS[GRID * INDEX],
                GRIDS[GRID * INDEX + 2], GRIDS[GRID * INDEX + 3], QUANTIZED, NOISY,
            )  # fmt: skip
        return gather(
            parameters[INDEX], stamps[INDEX], distance[INDEX], levels + FIRST * LEVELS, lod, u, v, seed, iteration,
            strength, FIRST, CORNER, WIDTH, GRIDS[GRID * INDEX], GRIDS[GRID * INDEX + 1], GRIDS[GRID * INDEX + 2],
            GRIDS[GRID * INDEX + 3], QUANTIZED, NOISY,
        )  # fmt: skip


@triton.jit
def group_inputs(
    columns, parameters, stamps, distance, levels, lod, u, v, lod_value, seed, iteration, strength,
    A: tl.constexpr, CORNER_A: tl.constexpr, B: tl.constexpr, CORNER_B: tl.constexpr, PIECE: tl.constexpr,
    WIDTH: tl.constexpr, GRIDS: tl.constexpr, TEXEL_WAVES: tl.constexpr, QUANTIZED: tl.constexpr, NOISY: tl.constexpr,
):  # fmt: skip
    """One group of inputs, (samples, WIDTH)."""
    if A < 0:
        return position_inputs(columns, levels, lod, u, v, lod_value, WIDTH, TEXEL_WAVES)
    x = piece_inputs(parameters, stamps, distance, levels, lod, u, v, seed, iteration, strength, A, CORNER_A, PIECE,
                     GRIDS, QUANTIZED, NOISY)  # fmt: skip
    if PIECE < WIDTH:
        x = side_by_side(x, piece_inputs(parameters, stamps, distance, levels, lod, u, v, seed, iteration, strength, B,
                                         CORNER_B, PIECE, GRIDS, QUANTIZED, NOISY))  # fmt: skip
    if PIECE * 2 < WIDTH:
        x = side_by_side(x, zeros(u.shape[0], PIECE * 2))
    if PIECE * 4 < WIDTH:
        x = side_by_side(x, zeros(u.shape[0], PIECE * 4))
    if PIECE * 8 < WIDTH:
        x = side_by_side(x, zeros(u.shape[0], PIECE * 8))
    return x


@triton.jit
def forward(
    weights, activations, columns, parameters, stamps, distance, levels, lod, u, v, lod_value, far_lod, blend, seed,
    iteration, strength,
    GRIDS: tl.constexpr, GROUPS: tl.constexpr, N_GROUPS: tl.constexpr, K: tl.constexpr, H0: tl.constexpr,
    NP: tl.constexpr, LAYERS: tl.constexpr, HARD_SWISH: tl.constexpr, SLOPE: tl.constexpr, TEXEL_WAVES: tl.constexpr,
    QUANTIZED: tl.constexpr, ACTIVATIONS: tl.constexpr, NOISY: tl.constexpr, BLENDED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Runs the network on samples. BLENDED: on inputs blended between `lod` and `far_lod`. ACTIVATIONS: rounded as
    rounded_activation does.

    Returns: decoded (samples, 16), the groups of inputs, and per hidden layer the argument `seen` of activate_back.
    """
    z = zeros(u.shape[0], H0)
    inputs = ()
    for g in tl.static_range(N_GROUPS):
        if BLENDED and (TEXEL_WAVES or GROUPS[GROUP * g] >= 0):  # other inputs are the same at both LODs
            x = zeros(u.shape[0], GROUPS[GROUP * g + 5])
            for look in tl.range(0, 2, num_stages=1):
                at, share = look_at(look, lod, far_lod, blend)
                x += share[:, None] * group_inputs(
                    columns, parameters, stamps, distance, levels, at, u, v, lod_value, seed, iteration, strength,
                    GROUPS[GROUP * g], GROUPS[GROUP * g + 1], GROUPS[GROUP * g + 2], GROUPS[GROUP * g + 3],
                    GROUPS[GROUP * g + 4], GROUPS[GROUP * g + 5], GRIDS, TEXEL_WAVES, QUANTIZED, NOISY,
                )  # fmt: skip
        else:
            x = group_inputs(
                columns, parameters, stamps, distance, levels, lod, u, v, lod_value, seed, iteration, strength,
                GROUPS[GROUP * g], GROUPS[GROUP * g + 1], GROUPS[GROUP * g + 2], GROUPS[GROUP * g + 3],
                GROUPS[GROUP * g + 4], GROUPS[GROUP * g + 5], GRIDS, TEXEL_WAVES, QUANTIZED, NOISY,
            )  # fmt: skip
        if ACTIVATIONS:
            x, _ = rounded_activation(x, activations, 0)
        x = operand(x, PRECISION)
        w = tl.load(weights + GROUPS[GROUP * g + 6] + tile(K, H0, GROUPS[GROUP * g + 5]))
        z = product(x, tl.trans(w), z, PRECISION)
        inputs = inputs + (x,)
    seen = ()
    for layer in tl.static_range(LAYERS):
        h = activate(z, HARD_SWISH, SLOPE)
        if ACTIVATIONS:
            h, _ = rounded_activation(h, activations, layer + 1)
        h = operand(h, PRECISION)
        seen = seen + (z if HARD_SWISH or ACTIVATIONS else h,)
        if layer == LAYERS - 1:
            w = tl.load(weights + H0 * K + layer * NP * NP + tile(NP, PADDED_OUTPUTS, NP))
            z = product(h, tl.trans(w), zeros(u.shape[0], PADDED_OUTPUTS), PRECISION)
        else:
            w = tl.load(weights + H0 * K + layer * NP * NP + tile(NP, NP, NP))
            z = product(h, tl.trans(w), zeros(u.shape[0], NP), PRECISION)
    return z, inputs, seen


@triton.jit
def weight_gradient(upstream, inputs, sum, partial, first, STRIDE: tl.constexpr, ROWS: tl.constexpr,
                    COLUMNS: tl.constexpr, IN_MEMORY: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """sum + upstream^T inputs. IN_MEMORY: the product is added to the program's `partial` instead; `first`: stored."""
    if IN_MEMORY:
        place = partial + tile(STRIDE, ROWS, COLUMNS)
        before = tl.load(place, mask=tl.full((ROWS, COLUMNS), 1, tl.int1) & (first == 0), other=0.0)
        tl.store(place, product(tl.trans(upstream), inputs, before, PRECISION))
        return sum
    else:
        return product(tl.trans(upstream), inputs, sum, PRECISION)


@triton.jit
def start_sums(GROUPS: tl.constexpr, N_GROUPS: tl.constexpr, H0: tl.constexpr, NP: tl.constexpr,
               LAYERS: tl.constexpr, IN_MEMORY: tl.constexpr):  # fmt: skip
    """Zeros for the sums of `backward`: from the last layer to the second, then the groups of the first."""
    sums = ()
    for i in tl.static_range(LAYERS):
        if IN_MEMORY:  # only one side is compiled
            sums = sums + (0.0,)
        elif i == 0:
            sums = sums + (zeros(PADDED_OUTPUTS, NP),)
        else:
            sums = sums + (zeros(NP, NP),)
    for g in tl.static_range(N_GROUPS):
        if IN_MEMORY:  # noqa: SIM108  # only one side is compiled
            sums = sums + (0.0,)
        else:
            sums = sums + (zeros(H0, GROUPS[GROUP * g + 5]),)
    return sums


@triton.jit
def store_sums(
    partial, sums, GROUPS: tl.constexpr, N_GROUPS: tl.constexpr, K: tl.constexpr, H0: tl.constexpr, NP: tl.constexpr,
    LAYERS: tl.constexpr,
):  # fmt: skip
    """Stores a program's sums in the layout of the packed weights."""
    for i in tl.static_range(LAYERS):
        place = partial + H0 * K + (LAYERS - 1 - i) * NP * NP
        if i == 0:
            tl.store(place + tile(NP, PADDED_OUTPUTS, NP), sums[i])
        else:
            tl.store(place + tile(NP, NP, NP), sums[i])
    for g in tl.static_range(N_GROUPS):
        tl.store(partial + GROUPS[GROUP * g + 6] + tile(K, H0, GROUPS[GROUP * g + 5]), sums[LAYERS + g])


@triton.jit
def backward(
    upstream, inputs, seen, sums, weights, activations, partial, first, gradients, levels, lod, u, v, far_lod, blend,
    alive,
    GRIDS: tl.constexpr, GROUPS: tl.constexpr, N_GROUPS: tl.constexpr, K: tl.constexpr, H0: tl.constexpr,
    NP: tl.constexpr, LAYERS: tl.constexpr, HARD_SWISH: tl.constexpr, SLOPE: tl.constexpr, IN_MEMORY: tl.constexpr,
    FIXED_POINT: tl.constexpr, ACTIVATIONS: tl.constexpr, BLENDED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Adds the gradient of the weights to `sums` (or `partial`) and scatters that of the grids. Returns the sums."""
    new = ()
    upstream = operand(upstream, PRECISION)
    for i in tl.static_range(LAYERS):
        z = seen[LAYERS - 1 - i]
        if ACTIVATIONS:
            h, inside = rounded_activation(activate(z, HARD_SWISH, SLOPE), activations, LAYERS - i)
            h = operand(h, PRECISION)
        else:
            h = operand(activate(z, HARD_SWISH, SLOPE), PRECISION) if HARD_SWISH else z
        OFFSET = H0 * K + (LAYERS - 1 - i) * NP * NP
        if i == 0:
            new = new + (weight_gradient(upstream, h, sums[i], partial + OFFSET, first, NP, PADDED_OUTPUTS, NP,
                                         IN_MEMORY, PRECISION),)  # fmt: skip
            w = tl.load(weights + OFFSET + tile(NP, PADDED_OUTPUTS, NP))
        else:
            new = new + (weight_gradient(upstream, h, sums[i], partial + OFFSET, first, NP, NP, NP, IN_MEMORY,
                                         PRECISION),)  # fmt: skip
            w = tl.load(weights + OFFSET + tile(NP, NP, NP))
        upstream = product(upstream, w, zeros(u.shape[0], NP), PRECISION)
        upstream = activate_back(upstream, z, HARD_SWISH, SLOPE)
        if ACTIVATIONS:
            upstream *= inside
        upstream = operand(upstream, PRECISION)
    for g in tl.static_range(N_GROUPS):
        new = new + (weight_gradient(upstream, inputs[g], sums[LAYERS + g], partial + GROUPS[GROUP * g + 6], first, K,
                                     H0, GROUPS[GROUP * g + 5], IN_MEMORY, PRECISION),)  # fmt: skip
        group_backward(
            upstream, weights + GROUPS[GROUP * g + 6], gradients, levels, lod, u, v, far_lod, blend, alive,
            GROUPS[GROUP * g], GROUPS[GROUP * g + 1], GROUPS[GROUP * g + 2], GROUPS[GROUP * g + 3],
            GROUPS[GROUP * g + 4], GROUPS[GROUP * g + 5], GRIDS, K, H0, FIXED_POINT, BLENDED, PRECISION,
        )  # fmt: skip
    return new


@triton.jit
def scatter_look(
    by_input, gradients, levels, lod, u, v, alive,
    INDEX: tl.constexpr, CORNER: tl.constexpr, WIDTH: tl.constexpr, GRIDS: tl.constexpr, FIXED_POINT: tl.constexpr,
):  # fmt: skip
    """Scatters the gradient of one grid's columns in a group at whole LODs."""
    place = levels + GRIDS[GRID * INDEX + 5] * LEVELS
    if GRIDS[GRID * INDEX + 6]:
        scatter_blocks(gradients[INDEX], by_input, place, lod, u, v, alive, GRIDS[GRID * INDEX + 6], CORNER, WIDTH,
                       GRIDS[GRID * INDEX], GRIDS[GRID * INDEX + 2], FIXED_POINT)  # fmt: skip
    else:
        scatter(gradients[INDEX], by_input, place, lod, u, v, alive, CORNER, WIDTH, GRIDS[GRID * INDEX],
                GRIDS[GRID * INDEX + 2], FIXED_POINT)  # fmt: skip


@triton.jit
def piece_backward(
    by_input, gradients, levels, lod, u, v, far_lod, blend, alive,
    INDEX: tl.constexpr, CORNER: tl.constexpr, WIDTH: tl.constexpr, GRIDS: tl.constexpr, FIXED_POINT: tl.constexpr,
    BLENDED: tl.constexpr,
):  # fmt: skip
    """Scatters the gradient of one grid's columns in a group, if there is a grid and it is trained."""
    if INDEX >= 0:  # noqa: SIM102
        if GRIDS[GRID * INDEX + 4]:
            if BLENDED:
                for look in tl.range(0, 2, num_stages=1):
                    at, share = look_at(look, lod, far_lod, blend)
                    scatter_look(by_input * share[:, None], gradients, levels, at, u, v, alive & (share > 0), INDEX,
                                 CORNER, WIDTH, GRIDS, FIXED_POINT)  # fmt: skip
            else:
                scatter_look(by_input, gradients, levels, lod, u, v, alive, INDEX, CORNER, WIDTH, GRIDS, FIXED_POINT)


@triton.jit
def group_backward(
    upstream, weights, gradients, levels, lod, u, v, far_lod, blend, alive,
    A: tl.constexpr, CORNER_A: tl.constexpr, B: tl.constexpr, CORNER_B: tl.constexpr, PIECE: tl.constexpr,
    WIDTH: tl.constexpr, GRIDS: tl.constexpr, K: tl.constexpr, H0: tl.constexpr, FIXED_POINT: tl.constexpr,
    BLENDED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Scatters the gradient of one group of inputs."""
    if A >= 0:
        w = tl.load(weights + tile(K, H0, WIDTH))
        x = product(upstream, w, zeros(u.shape[0], WIDTH), PRECISION)
        if PIECE * 8 < WIDTH:
            x, _ = apart(x)
        if PIECE * 4 < WIDTH:
            x, _ = apart(x)
        if PIECE * 2 < WIDTH:
            x, _ = apart(x)
        if PIECE < WIDTH:
            x, other = apart(x)
            piece_backward(other, gradients, levels, lod, u, v, far_lod, blend, alive, B, CORNER_B, PIECE, GRIDS,
                           FIXED_POINT, BLENDED)  # fmt: skip
        piece_backward(x, gradients, levels, lod, u, v, far_lod, blend, alive, A, CORNER_A, PIECE, GRIDS, FIXED_POINT,
                       BLENDED)  # fmt: skip
