"""Launches of the kernels of grids of blocks."""

from __future__ import annotations

from typing import Any

import torch
from torchtyping import TensorType

from blocks import border_groups
from engine.cuda.buffers import GridBuffers
from engine.cuda.library import Launch, load
from engine.cuda.plan import CENTRES, SamplePositions, power_of_two
from model import _texel_in_level
from shape import GridSpec

# Work of one program: texels of the gradient kernel, parameters of the one that brings borders up to date, groups of
# texels of the one that ties them. A block's texels and parameters count as the next power of two.
GRADIENT_TEXELS, BORDER_PARAMETERS, TIED_GROUPS = 512, 512, 64

Groups = TensorType["groups", 4]


def gradient_launch(
    index: int, grid: GridBuffers, arguments: dict[str, Any], quantized: bool, batch: int | None = None,
    positions: SamplePositions = CENTRES,
) -> Launch:  # fmt: skip
    """The kernel that computes the gradients of the parameters of a grid from those of its texels.

    Args:
        index: of the grid.
        arguments: progress, table, boundaries, lod_sizes, lod_offsets, and the `levels` of this grid.
        batch: samples, whose blocks alone are computed; None: all blocks, and the gradients of texels are cleared.
        positions: where these samples are.
    """
    touched = batch is not None
    block = grid.grid.block
    units = GRADIENT_TEXELS // power_of_two(block.texels)
    threads, count = (4 * batch * positions.looks, batch) if touched else (grid.grid.n_units, grid.grid.n_units)
    arguments = {
        **arguments, "count": count, "parameters": grid.parameters, "stamps": grid.stamps, "distance": grid.distance,
        "by_texel": grid.scattered, "gradients": grid.gradient,
    }  # fmt: skip
    constants = {
        "GRID": index, "SIDE": block.side, "TABLE": arguments["table"].shape[1], "TOUCHED": touched,
        "LAZY": grid.lazy, "QUANTIZED": quantized, "FIXED_POINT": grid.scattered_point, "UNITS": units,
        "POSITIONS": positions.constant,
    }  # fmt: skip
    return Launch(load().blocks.gradient_kernel, (-(-threads // units),), arguments, constants)


def tie_launches(
    grid: GridBuffers, arguments: dict[str, Any], constants: dict[str, Any], levels: range
) -> list[Launch]:  # fmt: skip
    """The kernels that tie the borders of some levels of a grid.

    Args:
        arguments: progress, table, interval, strength, records, moments, stamps, distance, fading.
        constants: TABLE, F, QUANTIZED.
    """
    groups = tied_texels(grid.grid, levels).to(grid.parameters.device)
    if not len(groups):
        return []
    kernels, launches, block = load().blocks, [], grid.grid.block
    if grid.lazy:
        listed = (groups[groups >= 0] // block.texels).unique()
        given = {name: value for name, value in arguments.items() if name != "strength"}
        unit = power_of_two(block.parameters)
        at_a_time = BORDER_PARAMETERS // unit
        constants = {**constants, "UNIT": unit, "TEXELS": at_a_time}
        launches.append(Launch(kernels.listed_kernel, (-(-len(listed) // at_a_time),),
                               {**given, "count": len(listed), "listed": listed}, constants))  # fmt: skip
    given = {name: arguments[name] for name in ("progress", "interval", "strength", "records")}
    stride = block.parameters * (2 if grid.lazy else 1)
    launches.append(Launch(kernels.tie_kernel, (-(-len(groups) // TIED_GROUPS),),
                           {**given, "count": len(groups), "groups": groups},
                           {"SIDE": block.side, "STRIDE": stride, "GROUPS": TIED_GROUPS}))  # fmt: skip
    return launches


def tied_texels(grid: GridSpec, levels: range) -> Groups:
    """Texels on opposite borders, and the four corners, of some levels of a grid of blocks; -1 beside pairs; int32."""
    parts = [torch.empty(0, 4, dtype=torch.int64)]
    for level in levels:
        size = grid.level_size(level)
        if min(size) < 2:
            continue
        for group in border_groups(size):
            x, y = group[:, 0].T, group[:, 1].T
            texels = grid.level_offset(level) + _texel_in_level(grid, torch.tensor(size[0]), x, y)
            parts.append(torch.nn.functional.pad(texels, (0, 4 - texels.shape[1]), value=-1))
    return torch.cat(parts).to(torch.int32)
