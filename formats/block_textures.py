"""Grids of BC1 blocks as textures of blocks, and back. The layouts of dds_layouts do not concern them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

import blocks
from common.errors import UserError
from configs import Size
from formats.dds import BlockTexture
from model import NeuralTexture
from shape import GridSpec

CHUNK = 1 << 16  # blocks that are converted at a time: some hundred bytes each
WHITE = 255 * blocks.THIRDS  # of a channel in thirds of an 8-bit step, the unit of whole features


@torch.no_grad()
def grid_blocks(model: NeuralTexture, index: int, mips: int | None = None) -> list[np.ndarray]:
    """The blocks of one grid, (blocks, 8) uint8 for each mip of its texture, the finest first.

    mips: how many, from `n_levels` on; None: those of GridSpec.mip_sizes.

    Mips past the trained levels are halved from the coarsest of these. No decoder reads them.
    """
    grid = model.grids[index]
    units = [model.level(index, level).reshape(-1, blocks.BLOCK_PARAMETERS) for level in range(grid.n_levels)]
    levels = [np.concatenate([blocks.encode_blocks(part) for part in level.split(CHUNK)]) for level in reversed(units)]
    padding = (len(grid.mip_sizes) if mips is None else mips) - grid.n_levels
    image = _texels(levels[-1], grid.base_size) if padding else None
    for _ in range(padding):
        image = _halved(_halved(image, 0), 1)
        levels.append(blocks.encode_blocks(_fitted(image / WHITE)))
    return levels


def _halved(image: np.ndarray, axis: int) -> np.ndarray:
    """The mean of every two texels along an axis, of an odd number without the last; a single one stays."""
    count = image.shape[axis] // 2
    if not count:
        return image
    pairs = image.take(range(2 * count), axis)
    return pairs.reshape(*image.shape[:axis], count, 2, *image.shape[axis + 1 :]).mean(axis=axis + 1)


def grid_texels(model: NeuralTexture, index: int) -> list[np.ndarray]:
    """The texels of `grid_blocks`, (height, width, 4) uint8 for each mip: thirds rounded to the nearest, alpha 255."""
    images = _images(grid_blocks(model, index), model.grids[index])
    rounded = [((image + blocks.THIRDS // 2) // blocks.THIRDS).astype(np.uint8) for image in images]
    return [np.pad(image, [(0, 0), (0, 0), (0, 1)], constant_values=255) for image in rounded]


def exact_texels(model: NeuralTexture, index: int) -> list[np.ndarray]:
    """The texels of the trained levels, (height, width, 4) float32 in 0..1 for each mip, thirds as they are, alpha 1:
    for hosts that want what training saw, whatever a device makes of thirds."""
    grid = model.grids[index]
    images = _images(grid_blocks(model, index, grid.n_levels), grid)
    return [np.pad(image / np.float32(WHITE), [(0, 0), (0, 0), (0, 1)], constant_values=1) for image in images]


def _images(levels: Sequence[np.ndarray], grid: GridSpec) -> list[np.ndarray]:
    """The texels of blocks, the finest mip first, see _texels."""
    return [_texels(level, size) for level, size in zip(levels, grid.mip_sizes)]


def _texels(level: np.ndarray, size: Size) -> np.ndarray:
    """The texels of a level's blocks: (height, width, 3) uint16, 0..WHITE."""
    ends, places = blocks.split_blocks(level)
    ends = blocks.expand_codes(torch.from_numpy(ends)).numpy().astype(np.uint16)
    places = places[:, :, None].astype(np.uint16)
    texels = (blocks.THIRDS - places) * ends[:, None, 0] + places * ends[:, None, 1]
    width, height = size
    across, down = (-(-side // blocks.SIDE) for side in size)
    image = texels.reshape(down, across, blocks.SIDE, blocks.SIDE, -1).swapaxes(1, 2)
    return image.reshape(down * blocks.SIDE, across * blocks.SIDE, -1)[:height, :width]


def _fitted(image: np.ndarray) -> blocks.Parameters:
    """Parameters of blocks that come close to an image (height, width, 3) in 0..1: end points on a diagonal of the box
    around a block's colours, the one along which they vary, and weights by projection on it."""
    image = np.pad(image, [*((0, -side % blocks.SIDE) for side in image.shape[:2]), (0, 0)], mode="edge")
    down, across = (side // blocks.SIDE for side in image.shape[:2])
    texels = image.reshape(down, blocks.SIDE, across, blocks.SIDE, -1).swapaxes(1, 2)
    texels = texels.reshape(-1, blocks.TEXELS, blocks.FEATURES)
    low, high = texels.min(axis=1), texels.max(axis=1)
    apart = texels - texels.mean(axis=1, keepdims=True)
    widest = np.take_along_axis(apart, (high - low).argmax(axis=1)[:, None, None], axis=2)
    falls = (apart * widest).sum(axis=1) < 0
    first, second = np.where(falls, high, low), np.where(falls, low, high)
    span = second - first
    length = np.maximum((span * span).sum(axis=1), blocks.SHORTEST)
    places = ((texels - first[:, None]) * span[:, None]).sum(axis=2) / length[:, None]
    return torch.from_numpy(np.concatenate([first, second, places], axis=1).astype(np.float32)) - 0.5


def blocks_from_texture(grid: GridSpec, texture: BlockTexture, name: str) -> Sequence[np.ndarray]:
    """The blocks of the trained levels, the coarsest first. Raises: UserError for a texture of another size."""
    found, expected = (texture.width, texture.height, len(texture.levels)), (*grid.size, len(grid.mip_sizes))
    if found != expected:
        raise UserError(f"{name}: expected (width, height, mips) {expected} as the network file says, found {found}")
    return texture.levels[: grid.n_levels][::-1]


@torch.no_grad()
def load_blocks(model: NeuralTexture, index: int, levels: Sequence[np.ndarray], name: str) -> None:
    """Set one grid to the blocks of `blocks_from_texture`; `name` is the file in errors.

    Raises: UserError for a block of three colours, which is never written.
    """
    for level, stored in enumerate(levels):
        target = model.level(index, level).view(-1, blocks.BLOCK_PARAMETERS)
        for start in range(0, len(stored), CHUNK):
            part = slice(start, start + CHUNK)
            try:
                target[part] = blocks.decode_blocks(stored[part])
            except ValueError as error:
                mip, place = len(levels) - 1 - level, f"of those from {start} on, " if start else ""
                raise UserError(f"{name}: mip {mip}: {place}{error}; the file is damaged, export again") from error
