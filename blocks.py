"""Block-compressed grids: parameters <-> BC1 blocks of 4x4 texels (design.md, section 5).

A block has BLOCK_PARAMETERS parameters in [-0.5, 0.5]: both end points (R, G, B of the first, then of the second) and
a weight for each texel, row by row. An end point p stands for the colour p + 0.5, a weight w for the place w + 0.5
between them. Rounding takes colours to 5, 6 and 5 bits, expanded to 8 by repeating their highest bits, and places to 0,
1/3, 2/3 or 1. The feature of a texel is the value that a decoder returns, less 0.5:

    feature = ((3 - k) e0 + k e1) / 765 - 0.5,   e0 and e1 in 0..255, k in 0..3

The sum is a whole number: swapping the end points and mirroring k, as files need, leaves a feature as it is to the bit.
Source of the format: Microsoft, "Texture Block Compression in Direct3D 11", BC1; Khronos Data Format 1.3, 18.1.
"""

from __future__ import annotations

import numpy as np
import torch
from torchtyping import TensorType

from shape import BLOCK_FEATURES as FEATURES
from shape import BLOCK_PARAMETERS
from shape import BLOCK_SIDE as SIDE
from shape import BLOCK_TEXELS as TEXELS

WEIGHT = 2 * FEATURES  # first of the weights among the parameters; texel t is column t % 4 of row t // 4
BLOCK_BYTES = 8
LEVELS = (31, 63, 31)  # largest code of R, G, B: 5, 6, 5 bits
THIRDS = 3  # largest code of a weight
# Both end points start around a quarter and three quarters of the range, weights around the middle.
INITIAL_END_POINT, INITIAL_SPREAD, INITIAL_WEIGHT_SPREAD = 0.25, 0.1, 0.3
SHORTEST = 1e-6  # squared length of e1 - e0 below which a weight cannot move its texel

Parameters = TensorType["blocks", BLOCK_PARAMETERS]
LevelBlocks = TensorType["down", "across", BLOCK_PARAMETERS]
Features = TensorType["n", FEATURES]
Groups = TensorType["texels", 2, "groups"]  # int64: x and y of the texels that belong together
Places = TensorType["n"]  # int64, 0..15: of a texel in its block


def rounding_steps(device: torch.device | str = "cpu") -> TensorType[BLOCK_PARAMETERS]:
    """The distance between two codes of each parameter: 1/31, 1/63, 1/31 twice, then 1/3."""
    steps = [1 / level for level in (*LEVELS, *LEVELS)] + [1 / THIRDS] * TEXELS
    return torch.tensor(steps, dtype=torch.float32, device=device)


def initial_parameters(n_blocks: int, generator: torch.Generator) -> Parameters:
    """What a grid starts from: end points -0.25 and 0.25, each +- 0.1, and weights +- 0.3."""
    spread = torch.rand(n_blocks, BLOCK_PARAMETERS, generator=generator).sub_(0.5).mul_(2)
    spread[:, :WEIGHT] *= INITIAL_SPREAD
    spread[:, WEIGHT:] *= INITIAL_WEIGHT_SPREAD
    spread[:, :FEATURES] -= INITIAL_END_POINT
    spread[:, FEATURES:WEIGHT] += INITIAL_END_POINT
    return spread


# --- rounding ------------------------------------------------------------------------------------------------------


def end_point_codes(end_points: Features) -> Features:
    """Codes in 0..31, 0..63, 0..31 of end points: floor((p + 0.5) * top + 0.5), saturated; NaN becomes 0."""
    top = torch.tensor(LEVELS, dtype=end_points.dtype, device=end_points.device)
    codes = torch.nan_to_num((end_points + 0.5) * top + 0.5, nan=0.0).floor()
    return torch.minimum(codes.clamp_(min=0), top)


def expand_codes(codes: Features) -> Features:
    """Codes of R, G, B -> 0..255, by repeating their highest bits below them: v << 3 | v >> 2, of G v << 2 | v >> 4."""
    whole = codes.to(torch.int32)
    shifts = ((3, 2), (2, 4), (3, 2))
    parts = [(whole[..., c] << up) | (whole[..., c] >> down) for c, (up, down) in enumerate(shifts)]
    return torch.stack(parts, dim=-1).to(codes.dtype)


def weight_codes(weights: TensorType) -> TensorType:
    """Codes 0..3 of weights of any shape: floor((w + 0.5) * 3 + 0.5), saturated; NaN becomes 0."""
    return torch.nan_to_num((weights + 0.5) * THIRDS + 0.5, nan=0.0).floor().clamp_(0, THIRDS)


class _BlockFeatures(torch.autograd.Function):
    """Features of texels from the parameters of their blocks; rounding passes gradients unchanged (straight-through).

    In both cases the feature is e0 + place (e1 - e0), and its derivatives are those with e0, e1 and place as they are
    after rounding.
    """

    @staticmethod
    def forward(ctx, parameters, place, quantized):
        first, second = parameters[:, :FEATURES], parameters[:, FEATURES:WEIGHT]
        weight = parameters.gather(1, place[:, None] + WEIGHT)
        if quantized:
            first, second = (expand_codes(end_point_codes(end)) for end in (first, second))
            k = weight_codes(weight)
            features = ((THIRDS - k) * first + k * second) / (255 * THIRDS) - 0.5
            share, span = k / THIRDS, (second - first) / 255
        else:
            share, span = weight + 0.5, second - first
            features = first + share * span
        ctx.save_for_backward(place, share, span)
        return features

    @staticmethod
    def backward(ctx, upstream):
        place, share, span = ctx.saved_tensors
        gradient = upstream.new_zeros(len(place), BLOCK_PARAMETERS)
        gradient[:, :FEATURES] = (1 - share) * upstream
        gradient[:, FEATURES:WEIGHT] = share * upstream
        gradient.scatter_(1, place[:, None] + WEIGHT, (upstream * span).sum(dim=1, keepdim=True))
        return gradient, None, None


def block_features(parameters: Parameters, place: Places, quantized: bool = True) -> Features:
    """Features (n, 3) of one texel of each block; with `quantized` as a decoder of the file returns them, less 0.5."""
    return _BlockFeatures.apply(parameters, place, quantized)


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


def tie_borders(level: LevelBlocks, size: tuple[int, int], strength: float) -> None:
    """Move the texels on opposite borders of one level, and its four corners, towards their common mean, in place.

    Only weights move, since a block's end points belong to its other texels too: each by what brings its texel closest
    to the mean, times `strength`.
    """
    for group in border_groups(size, level.device):
        x, y = group[:, 0], group[:, 1]
        column = WEIGHT + y % SIDE * SIDE + x % SIDE
        parameters = level[y // SIDE, x // SIDE]
        first, span = parameters[..., :FEATURES], parameters[..., FEATURES:WEIGHT] - parameters[..., :FEATURES]
        weight = parameters.gather(2, column[..., None])
        features = first + (weight + 0.5) * span
        length = (span * span).sum(dim=2, keepdim=True)
        wanted = ((features.mean(dim=0) - features) * span).sum(dim=2, keepdim=True)
        moved = torch.where(length > SHORTEST, weight + strength * wanted / length.clamp(min=SHORTEST), weight)
        level[y // SIDE, x // SIDE, column] = moved[..., 0].clamp_(-0.5, 0.5)


# --- files ---------------------------------------------------------------------------------------------------------

# Index of each place 0, 1/3, 2/3, 1 from the first end point to the second, and the inverse.
_INDEX_OF_PLACE = np.array([0, 2, 3, 1], np.uint32)
_PLACE_OF_INDEX = np.array([0, 3, 1, 2], np.uint8)
_SHIFTS = 2 * np.arange(TEXELS, dtype=np.uint32)


def encode_blocks(parameters: Parameters) -> np.ndarray:
    """Parameters -> (blocks, 8) uint8: c0 and c1 as R5 G6 B5, then 2 bits of index for each texel, little endian.

    A decoder reads three colours and black unless c0 > c1. So end points are swapped and places mirrored where c0 < c1,
    which gives the same features, and where both are equal all indices are 0.
    """
    ends = [end_point_codes(parameters[:, c : c + FEATURES]).cpu().numpy().astype(np.uint32) for c in (0, FEATURES)]
    words = [end[:, 0] << 11 | end[:, 1] << 5 | end[:, 2] for end in ends]
    place = weight_codes(parameters[:, WEIGHT:]).cpu().numpy().astype(np.uint8)
    place = np.where((words[0] < words[1])[:, None], THIRDS - place, place)
    place[words[0] == words[1]] = 0
    blocks = np.empty(len(place), np.dtype([("c0", "<u2"), ("c1", "<u2"), ("indices", "<u4")]))
    blocks["c0"], blocks["c1"] = np.maximum(*words), np.minimum(*words)
    blocks["indices"] = np.bitwise_or.reduce(_INDEX_OF_PLACE[place] << _SHIFTS, axis=1)
    return blocks.view(np.uint8).reshape(-1, BLOCK_BYTES)


def split_blocks(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(blocks, 8) uint8 -> codes of both end points (blocks, 2, 3), and places (blocks, 16) in 0..3, all uint8.

    Raises: ValueError for a block of three colours, which `encode_blocks` never writes.
    """
    words = np.ascontiguousarray(blocks).view("<u2").reshape(len(blocks), 4)
    ends = np.stack([words[:, :2] >> 11, words[:, :2] >> 5 & 63, words[:, :2] & 31], axis=2).astype(np.uint8)
    indices = (np.ascontiguousarray(blocks[:, 4:]).view("<u4") >> _SHIFTS & 3).astype(np.uint8)
    three = (words[:, 0] < words[:, 1]) | ((words[:, 0] == words[:, 1]) & indices.any(axis=1))
    if three.any():
        found = f"block {int(three.argmax())} has three colours"
        raise ValueError(f"{found}, expected four (its first word above its second)")
    return ends, _PLACE_OF_INDEX[indices]


def decode_blocks(blocks: np.ndarray) -> Parameters:
    """The inverse of encode_blocks, but for blocks that were swapped: parameters whose features are the file's.

    Raises: ValueError as split_blocks.
    """
    ends, places = split_blocks(blocks)
    colours = torch.from_numpy(ends.astype(np.float32)) / torch.tensor(LEVELS, dtype=torch.float32)
    weights = torch.from_numpy(places.astype(np.float32)) / THIRDS
    return torch.cat([colours.view(len(blocks), WEIGHT), weights], dim=1) - 0.5
