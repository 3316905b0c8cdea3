"""Grids of BC1 blocks as textures of blocks, and back. The layouts of dds_layouts do not concern them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

import blocks
from common.errors import UserError
from formats.dds import BlockTexture
from model import NeuralTexture
from shape import GridSpec

CHUNK = 1 << 16  # blocks that are converted at a time: some hundred bytes each
WHITE = 255 * blocks.THIRDS  # of a channel in thirds of an 8-bit step, the unit of whole features


@torch.no_grad()
def grid_blocks(model: NeuralTexture, index: int, mips: int | None = None) -> list[np.ndarray]:
    """The blocks of one grid, (blocks, 8) uint8 for each mip of its texture, the finest first.

    mips: how many, from `n_levels` on; None: those of GridSpec.mip_sides.

    Mips past the trained levels are halved from the coarsest of these. No decoder reads them.
    """
    grid = model.grids[index]
    units = [model.level(index, level).reshape(-1, blocks.BLOCK_PARAMETERS) for level in range(grid.n_levels)]
    levels = [np.concatenate([blocks.encode_blocks(part) for part in level.split(CHUNK)]) for level in reversed(units)]
    sides = grid.mip_sides if mips is None else [max(grid.max_resolution >> mip, 1) for mip in range(mips)]
    padding = sides[grid.n_levels :]
    image = _texels(levels[-1], grid.base_resolution) if padding else None
    for side in padding:
        image = image[: 2 * side, : 2 * side].reshape(side, 2, side, 2, blocks.FEATURES).mean(axis=(1, 3))
        levels.append(blocks.encode_blocks(_fitted(image / WHITE)))
    return levels


def grid_texels(model: NeuralTexture, index: int) -> list[np.ndarray]:
    """The texels of `grid_blocks`, (side, side, 4) uint8 for each mip: thirds rounded to the nearest, alpha 255."""
    sides = model.grids[index].mip_sides
    images = [_texels(level, side) for level, side in zip(grid_blocks(model, index), sides)]
    rounded = [((image + blocks.THIRDS // 2) // blocks.THIRDS).astype(np.uint8) for image in images]
    return [np.pad(image, [(0, 0), (0, 0), (0, 1)], constant_values=255) for image in rounded]


def _texels(level: np.ndarray, side: int) -> np.ndarray:
    """The texels of a level's blocks: (side, side, 3) uint16, 0..WHITE."""
    ends, places = blocks.split_blocks(level)
    ends = blocks.expand_codes(torch.from_numpy(ends)).numpy().astype(np.uint16)
    places = places[:, :, None].astype(np.uint16)
    texels = (blocks.THIRDS - places) * ends[:, None, 0] + places * ends[:, None, 1]
    across = -(-side // blocks.SIDE)
    image = texels.reshape(across, across, blocks.SIDE, blocks.SIDE, -1).swapaxes(1, 2)
    return image.reshape(across * blocks.SIDE, across * blocks.SIDE, -1)[:side, :side]


def _fitted(image: np.ndarray) -> blocks.Parameters:
    """Parameters of blocks that come close to an image (side, side, 3) in 0..1: end points on a diagonal of the box
    around a block's colours, the one along which they vary, and weights by projection on it."""
    missing = -len(image) % blocks.SIDE
    image = np.pad(image, [(0, missing), (0, missing), (0, 0)], mode="edge")
    across = len(image) // blocks.SIDE
    texels = image.reshape(across, blocks.SIDE, across, blocks.SIDE, -1).swapaxes(1, 2)
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
    found, side = (texture.width, texture.height, len(texture.levels)), grid.max_resolution
    expected = (side, side, len(grid.mip_sides))
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
