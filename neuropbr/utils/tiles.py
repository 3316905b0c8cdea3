"""Maps larger than a network was trained for: predicted in tiles of the training size that overlap and are blended.

A tile sees only its own part of the material, so neighbours may disagree about what is even over large areas: how rough
it is, how its colour reads. Over distances of about a tile the result therefore follows one prediction of the whole
picture at the training size; the tiles give what is finer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import torch
import torch.nn.functional as F

from common.events import progress_bar
from neuropbr.utils.maps import Size, unit

Maps = dict[str, torch.Tensor]
Predict = Callable[[torch.Tensor], Maps]  # views (B, 3, 3, h, w) -> name -> (B, C, h', w'), on the CPU

OVERLAP = 4  # neighbours share at least a fourth of a tile
BATCH_PIXELS = 2**20  # of the tiles that are predicted at once
MOST_BATCH = 16
CELLS = 8  # per side of a tile: the grid above which the whole picture's prediction counts, see docs/neuropbr.md


def places(side: int, tile: int, step: int) -> list[int]:
    """Where tiles start along a side: evenly, multiples of `step`, the first at 0 and the last at the end."""
    if side <= tile:
        return [0]
    count = math.ceil((side - tile) / (tile - tile // OVERLAP)) + 1
    return [round(i * (side - tile) / (count - 1) / step) * step for i in range(count)]


def ramps(starts: list[int], tile: int) -> list[torch.Tensor]:
    """The weights of each tile's texels along a side: raised cosines where neighbours overlap, else 1."""
    weights = []
    for i, start in enumerate(starts):
        weight = torch.ones(tile)
        for neighbour, flip in ((i - 1, False), (i + 1, True)):
            if 0 <= neighbour < len(starts):
                shared = tile - abs(starts[neighbour] - start)
                ramp = torch.sin((torch.arange(shared) + 0.5) / shared * (math.pi / 2)) ** 2
                if flip:
                    weight[tile - shared :] *= ramp.flip(0)
                else:
                    weight[:shared] *= ramp
        weights.append(weight)
    return weights


def canvas_sides(size: Size, tile: Size, ratio: Fraction) -> Size:
    """The network's input for maps of `size`: at least `tile`, with whole sides at both ends of the network."""
    step = ratio.denominator
    return tuple(max(least, -(-math.ceil(side / ratio) // step) * step) for side, least in zip(size, tile))


def predict_large(predict: Predict, views: torch.Tensor, whole: Maps, tile: Size, quiet: bool = False) -> Maps:
    """The maps of views of any size from `tile` (height, width) on.

    Args:
        predict: the network at `tile`, for a batch of up to MOST_BATCH samples.
        views: (3, 3, H, W).
        whole: what `predict` says about the same views at the size of a tile.
    Returns: name -> (C, H', W'), where H' / H is that of the network.
    """
    if tuple(views.shape[-2:]) == tuple(tile):
        return {name: values[0] for name, values in whole.items()}
    ratio = Fraction(whole["albedo"].shape[-1], tile[1])
    step = ratio.denominator
    starts = [places(side, least, step) for side, least in zip(views.shape[-2:], tile)]
    size = [int(side * ratio) for side in views.shape[-2:]]
    weights = [
        ramps([int(start * ratio) for start in line], int(least * ratio)) for line, least in zip(starts, tile)
    ]
    sums = {name: torch.zeros(values.shape[1], *size) for name, values in whole.items()}
    total = torch.zeros(*size)
    corners = [(row, column) for row in range(len(starts[0])) for column in range(len(starts[1]))]
    with progress_bar(len(corners), 0, quiet) as bar:
        bar.set_description("tiles")
        for some in _batches(corners, tile):
            cut = [(starts[0][row], starts[1][column]) for row, column in some]
            maps = predict(torch.stack([views[..., y : y + tile[0], x : x + tile[1]] for y, x in cut]))
            for i, ((row, column), (y, x)) in enumerate(zip(some, cut)):
                weight = weights[0][row][:, None] * weights[1][column]
                rows, columns = (slice(int(a * ratio), int(a * ratio) + n) for a, n in zip((y, x), weight.shape))
                total[rows, columns] += weight
                for name, values in maps.items():
                    sums[name][:, rows, columns] += values[i] * weight
            bar.update(len(some))
    grid = [max(1, round(CELLS * side / least)) for side, least in zip(views.shape[-2:], tile)]
    return {name: _steadied(name, values.div_(total), whole[name], grid) for name, values in sums.items()}


def _batches(corners: list, tile: Size) -> Iterator[list]:
    count = min(MOST_BATCH, max(1, BATCH_PIXELS // (tile[0] * tile[1])))
    return (corners[first : first + count] for first in range(0, len(corners), count))


def _steadied(name: str, fine: torch.Tensor, whole: torch.Tensor, grid: list[int]) -> torch.Tensor:
    """`fine` (C, H, W) with what is coarser than the cells of `grid` replaced by that of `whole` (1, C, h, w)."""
    change = _resized(whole - _resized(fine[None], whole.shape[-2:]), grid)
    fine += F.interpolate(change, list(fine.shape[-2:]), mode="bicubic", align_corners=False)[0]
    return unit(fine, 0) if name == "normal" else fine.clamp_(0, 1)


def _resized(pictures: torch.Tensor, size: Size | list[int]) -> torch.Tensor:
    """(B, C, H, W) resized, with a filter where that is smaller."""
    return F.interpolate(pictures, list(size), mode="bilinear", antialias=True, align_corners=False)
