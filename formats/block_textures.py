"""Grids of blocks as textures of blocks, and back. The layouts of dds_layouts do not concern them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import blocks
from common.errors import UserError
from configs import Size
from formats import astc, bc1
from formats.dds import BlockTexture, read_block_dds
from formats.dds_layouts import BC1
from formats.ktx2 import read_block_ktx2
from model import NeuralTexture
from shape import BlockShape, GridSpec

CHUNK = 1 << 16  # blocks that are converted at a time: some hundred bytes each
CODECS = {"bc1": bc1, "astc6x6": astc}  # `encode` and `split` of a storage


@torch.no_grad()
def grid_blocks(model: NeuralTexture, index: int, mips: int | None = None) -> list[np.ndarray]:
    """The blocks of one grid, (blocks, bytes) uint8 for each mip of its texture, the finest first.

    mips: how many, from `n_levels` on; None: those of GridSpec.mip_sizes.

    Mips past the trained levels are halved from the coarsest of these. No decoder reads them.
    """
    grid = model.grids[index]
    block, encode = grid.block, CODECS[grid.storage].encode
    units = [model.level(index, level).reshape(-1, block.parameters) for level in range(grid.n_levels)]
    levels = [np.concatenate([encode(part) for part in level.split(CHUNK)]) for level in reversed(units)]
    padding = (len(grid.mip_sizes) if mips is None else mips) - grid.n_levels
    image = level_texels(block, levels[-1], grid.base_size) if padding else None
    for _ in range(padding):
        image = _halved(_halved(image, 0), 1)
        levels.append(encode(_fitted(block, image / block.white)))
    return levels


def _halved(image: np.ndarray, axis: int) -> np.ndarray:
    """The mean of every two texels along an axis, of an odd number without the last; a single one stays."""
    count = image.shape[axis] // 2
    if not count:
        return image
    pairs = image.take(range(2 * count), axis)
    return pairs.reshape(*image.shape[:axis], count, 2, *image.shape[axis + 1 :]).mean(axis=axis + 1)


def grid_texels(model: NeuralTexture, index: int) -> list[np.ndarray]:
    """The texels of `grid_blocks`, (height, width, 4) uint8 for each mip: rounded to the nearest, alpha 255."""
    grid = model.grids[index]
    last = grid.block.places[-1]
    images = _images(grid_blocks(model, index), grid)
    rounded = [((image + last // 2) // last).astype(np.uint8) for image in images]
    return [np.pad(image, [(0, 0), (0, 0), (0, 1)], constant_values=255) for image in rounded]


def exact_texels(model: NeuralTexture, index: int) -> list[np.ndarray]:
    """The texels of the trained levels, (height, width, 4) float32 in 0..1 for each mip, not rounded, alpha 1: for
    hosts that want what training saw, whatever a device makes of it."""
    grid = model.grids[index]
    images = _images(grid_blocks(model, index, grid.n_levels), grid)
    unorm = [image / np.float32(grid.block.white) for image in images]
    return [np.pad(image, [(0, 0), (0, 0), (0, 1)], constant_values=1) for image in unorm]


def _images(levels: Sequence[np.ndarray], grid: GridSpec) -> list[np.ndarray]:
    """The texels of blocks, the finest mip first, see _texels."""
    return [level_texels(grid.block, level, size) for level, size in zip(levels, grid.mip_sizes)]


def level_texels(block: BlockShape, level: np.ndarray, size: Size) -> np.ndarray:
    """The texels of a level's blocks: (height, width, 3) uint16, 0 to BlockShape.white."""
    ends, codes = CODECS[block.name].split(level)
    ends = blocks.expand_codes(block, torch.from_numpy(ends)).numpy().astype(np.uint16)
    places = np.array(block.places, np.uint16)[codes][:, :, None]
    texels = (block.places[-1] - places) * ends[:, None, 0] + places * ends[:, None, 1]
    (width, height), side = size, block.side
    across, down = (-(-length // side) for length in size)
    image = texels.reshape(down, across, side, side, -1).swapaxes(1, 2)
    return image.reshape(down * side, across * side, -1)[:height, :width]


def _fitted(block: BlockShape, image: np.ndarray) -> blocks.Parameters:
    """Parameters of blocks that come close to an image (height, width, 3) in 0..1: end points on a diagonal of the box
    around a block's colours, the one along which they vary, and weights by projection on it."""
    side = block.side
    image = np.pad(image, [*((0, -length % side) for length in image.shape[:2]), (0, 0)], mode="edge")
    down, across = (length // side for length in image.shape[:2])
    texels = image.reshape(down, side, across, side, -1).swapaxes(1, 2)
    texels = texels.reshape(-1, block.texels, blocks.FEATURES)
    low, high = texels.min(axis=1), texels.max(axis=1)
    apart = texels - texels.mean(axis=1, keepdims=True)
    widest = np.take_along_axis(apart, (high - low).argmax(axis=1)[:, None, None], axis=2)
    falls = (apart * widest).sum(axis=1) < 0
    first, second = np.where(falls, high, low), np.where(falls, low, high)
    span = second - first
    length = np.maximum((span * span).sum(axis=1), blocks.SHORTEST)
    places = ((texels - first[:, None]) * span[:, None]).sum(axis=2) / length[:, None]
    return torch.from_numpy(np.concatenate([first, second, places], axis=1).astype(np.float32)) - 0.5


def read_blocks(path: str | Path, grid: GridSpec) -> Sequence[np.ndarray]:
    """The blocks of the trained levels of a grid's file, the coarsest first.

    Raises: UserError for a file that is damaged or of another size.
    """
    texture = read_block_dds(path, BC1) if grid.storage == "bc1" else read_block_ktx2(path, grid.storage)
    return blocks_from_texture(grid, texture, str(path))


def blocks_from_texture(grid: GridSpec, texture: BlockTexture, name: str) -> Sequence[np.ndarray]:
    """The blocks of the trained levels, the coarsest first. Raises: UserError for a texture of another size."""
    found, expected = (texture.width, texture.height, len(texture.levels)), (*grid.size, len(grid.mip_sizes))
    if found != expected:
        raise UserError(f"{name}: expected (width, height, mips) {expected} as the network file says, found {found}")
    return texture.levels[: grid.n_levels][::-1]


@torch.no_grad()
def load_blocks(model: NeuralTexture, index: int, levels: Sequence[np.ndarray], name: str) -> None:
    """Set one grid to the blocks of `blocks_from_texture`; `name` is the file in errors.

    Raises: UserError for a block that is never written.
    """
    block = model.grids[index].block
    for level, stored in enumerate(levels):
        target = model.level(index, level).view(-1, block.parameters)
        for start in range(0, len(stored), CHUNK):
            part = slice(start, start + CHUNK)
            try:
                target[part] = blocks.parameters_of(block, *CODECS[block.name].split(stored[part]))
            except ValueError as error:
                mip, place = len(levels) - 1 - level, f"of those from {start} on, " if start else ""
                raise UserError(f"{name}: mip {mip}: {place}{error}; the file is damaged, export again") from error
