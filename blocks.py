"""Block-compressed grids: parameters <-> features of texels (design.md, section 5).

A block of a BlockShape has parameters in [-0.5, 0.5]: both end points (R, G, B of the first, then of the second) and
a weight for each texel, row by row. An end point p stands for the colour p + 0.5, a weight w for the place w + 0.5
between them. Rounding takes them to the codes that files hold, of which expand_codes makes 0 to 255 and
BlockShape.places the place, in parts of the last one. The feature of a texel is the value that a decoder returns, less
0.5:

    feature = ((last - place) e0 + place e1) / (255 last) - 0.5,   e0 and e1 in 0..255

The sum is a whole number: swapping the end points and mirroring places, as files need, leaves a feature as it is to
the bit. A decoder of ASTC rounds it to 16 bits.
Sources: Microsoft, "Texture Block Compression in Direct3D 11", BC1; Khronos Data Format 1.3, 18.1 and 23.
The bits of the blocks are in formats/bc1.py and formats/astc.py.
"""

from __future__ import annotations

import numpy as np
import torch
from torchtyping import TensorType

from shape import BLOCK_FEATURES as FEATURES
from shape import BLOCKS, BlockShape

BC1 = BLOCKS["bc1"]
WEIGHT = 2 * FEATURES  # first of the weights among the parameters; texel t is column t % side of row t // side
# Both end points start around a quarter and three quarters of the range, weights around the middle.
INITIAL_END_POINT, INITIAL_SPREAD, INITIAL_WEIGHT_SPREAD = 0.25, 0.1, 0.3
SHORTEST = 1e-6  # squared length of e1 - e0 below which a weight cannot move its texel

Parameters = TensorType["blocks", "parameters"]
LevelBlocks = TensorType["down", "across", "parameters"]
Features = TensorType["n", FEATURES]
PerParameter = TensorType["parameters"]
Groups = TensorType["texels", 2, "groups"]  # int64: x and y of the texels that belong together
Places = TensorType["n"]  # int64: of a texel in its block


def top_codes(block: BlockShape, device: torch.device | str = "cpu") -> PerParameter:
    """The largest code of each parameter."""
    tops = [*block.levels, *block.levels] + [block.highest] * block.texels
    return torch.tensor(tops, dtype=torch.float32, device=device)


def rounding_steps(block: BlockShape, device: torch.device | str = "cpu") -> PerParameter:
    """The distance between two codes of each parameter: of BC1 1/31, 1/63, 1/31 twice, then 1/3."""
    return 1 / top_codes(block, device)


def initial_parameters(block: BlockShape, n_blocks: int, generator: torch.Generator) -> Parameters:
    """What a grid starts from: end points -0.25 and 0.25, each +- 0.1, and weights +- 0.3."""
    spread = torch.rand(n_blocks, block.parameters, generator=generator).sub_(0.5).mul_(2)
    spread[:, :WEIGHT] *= INITIAL_SPREAD
    spread[:, WEIGHT:] *= INITIAL_WEIGHT_SPREAD
    spread[:, :FEATURES] -= INITIAL_END_POINT
    spread[:, FEATURES:WEIGHT] += INITIAL_END_POINT
    return spread


# --- rounding ------------------------------------------------------------------------------------------------------


def end_point_codes(block: BlockShape, end_points: Features) -> Features:
    """Codes of end points, of R, G and B from 0 to BlockShape.levels: floor((p + 0.5) * top + 0.5), saturated; NaN
    becomes 0."""
    top = torch.tensor(block.levels, dtype=end_points.dtype, device=end_points.device)
    codes = torch.nan_to_num((end_points + 0.5) * top + 0.5, nan=0.0).floor()
    return torch.minimum(codes.clamp_(min=0), top)


def expand_codes(block: BlockShape, codes: Features) -> Features:
    """Codes of R, G, B -> 0..255. Of BC1 by repeating their highest bits below them: v << 3 | v >> 2, of G v << 2 |
    v >> 4. Of ASTC, whose 80 codes are here in order, near v * 255 / 79: what section 23.15 makes of a quint and 4
    bits."""
    whole = codes.to(torch.int32)
    if block is not BC1:
        return (3 * whole + ((57 * whole + 36 + 272 * (whole >= 40)) >> 8)).to(codes.dtype)
    shifts = ((3, 2), (2, 4), (3, 2))
    parts = [(whole[..., c] << up) | (whole[..., c] >> down) for c, (up, down) in enumerate(shifts)]
    return torch.stack(parts, dim=-1).to(codes.dtype)


def weight_codes(block: BlockShape, weights: TensorType) -> TensorType:
    """Codes 0..3 of weights of any shape: floor((w + 0.5) * 3 + 0.5), saturated; NaN becomes 0."""
    return torch.nan_to_num((weights + 0.5) * block.highest + 0.5, nan=0.0).floor().clamp_(0, block.highest)


def places_of(block: BlockShape, codes: TensorType) -> TensorType:
    """BlockShape.places of codes of any shape."""
    if block.places[-1] == block.highest:
        return codes
    return torch.tensor(block.places, dtype=codes.dtype, device=codes.device)[codes.long()]


class _BlockFeatures(torch.autograd.Function):
    """Features of texels from the parameters of their blocks; rounding passes gradients unchanged (straight-through).

    In both cases the feature is e0 + place (e1 - e0), and its derivatives are those with e0, e1 and place as they are
    after rounding.
    """

    @staticmethod
    def forward(ctx, block, parameters, place, quantized):
        first, second = parameters[:, :FEATURES], parameters[:, FEATURES:WEIGHT]
        weight = parameters.gather(1, place[:, None] + WEIGHT)
        if quantized:
            first, second = (expand_codes(block, end_point_codes(block, end)) for end in (first, second))
            k, last = places_of(block, weight_codes(block, weight)), block.places[-1]
            features = ((last - k) * first + k * second) / block.white - 0.5
            share, span = k / last, (second - first) / 255
        else:
            share, span = weight + 0.5, second - first
            features = first + share * span
        ctx.save_for_backward(place, share, span)
        ctx.n_parameters = block.parameters
        return features

    @staticmethod
    def backward(ctx, upstream):
        place, share, span = ctx.saved_tensors
        gradient = upstream.new_zeros(len(place), ctx.n_parameters)
        gradient[:, :FEATURES] = (1 - share) * upstream
        gradient[:, FEATURES:WEIGHT] = share * upstream
        gradient.scatter_(1, place[:, None] + WEIGHT, (upstream * span).sum(dim=1, keepdim=True))
        return None, gradient, None, None


def block_features(block: BlockShape, parameters: Parameters, place: Places, quantized: bool = True) -> Features:
    """Features (n, 3) of one texel of each block; with `quantized` as a decoder of the file returns them, less 0.5."""
    return _BlockFeatures.apply(block, parameters, place, quantized)

def parameters_of(block: BlockShape, ends: np.ndarray, codes: np.ndarray) -> Parameters:
    """Parameters of blocks from the codes of both their end points (blocks, 2, 3) and of their weights (blocks,
    texels)."""
    colours = torch.from_numpy(ends.astype(np.float32)) / torch.tensor(block.levels, dtype=torch.float32)
    weights = torch.from_numpy(codes.astype(np.float32)) / block.highest
    return torch.cat([colours.reshape(len(ends), WEIGHT), weights], dim=1) - 0.5


# --- the constraint at the border of the texture -------------------------------------------------------------------


def border_groups(size: tuple[int, int], device: torch.device | str = "cpu") -> list[Groups]:
    """Texels of a level, (width, height) of at least 2x2, that are tied together: opposite borders without their ends,
    then corners."""
    right, bottom = size[0] - 1, size[1] - 1
    row, column = torch.arange(1, right, device=device), torch.arange(1, bottom, device=device)
    corners = (torch.tensor([0, last], device=device) for last in (right, bottom))
    return [
        torch.stack([torch.stack([torch.full_like(column, x), column]) for x in (0, right)]),
        torch.stack([torch.stack([row, torch.full_like(row, y)]) for y in (0, bottom)]),
        torch.cartesian_prod(*corners)[:, :, None],
    ]


def tie_borders(block: BlockShape, level: LevelBlocks, size: tuple[int, int], strength: float) -> None:
    """Move the texels on opposite borders of one level, and its four corners, towards their common mean, in place.

    Only weights move, since a block's end points belong to its other texels too: each by what brings its texel closest
    to the mean, times `strength`.
    """
    side = block.side
    for group in border_groups(size, level.device):
        x, y = group[:, 0], group[:, 1]
        column = WEIGHT + y % side * side + x % side
        parameters = level[y // side, x // side]
        first, span = parameters[..., :FEATURES], parameters[..., FEATURES:WEIGHT] - parameters[..., :FEATURES]
        weight = parameters.gather(2, column[..., None])
        features = first + (weight + 0.5) * span
        length = (span * span).sum(dim=2, keepdim=True)
        wanted = ((features.mean(dim=0) - features) * span).sum(dim=2, keepdim=True)
        moved = torch.where(length > SHORTEST, weight + strength * wanted / length.clamp(min=SHORTEST), weight)
        level[y // side, x // side, column] = moved[..., 0].clamp_(-0.5, 0.5)
