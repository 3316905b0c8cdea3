"""Exported files decoded with numpy alone, in the plainest way, a whole LOD at once.

The other decoders start from a model.NeuralTexture, this one from the DDS files and network_data.npz: bench.decode
compares them with it, and bare_files decodes the ancestor project's files with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from common.errors import UserError
from configs import WORD_LAYOUTS, Size
from formats.astc import EXPANDED
from formats.block_textures import CODECS, read_blocks
from formats.dds import read_dds
from formats.dds_layouts import grid_channels, grid_file_names
from formats.manifest import NETWORK
from formats.network_file import read_weights
from maps.record import Constant
from quantize import unpack_codes
from quantized.gradient import layers_of
from quantized.network import IntegerLayer, rounded_shares, run
from shape import TEXEL_OFFSETS, BlockShape, DecoderSpec, GridSpec, ModelForm, aligned

CHUNK = 1 << 15  # texels that are decoded at a time: some hundred bytes each
# From a uv in [0, 1) to a position in grid texels. sampler: as a GPU does, texel centres at + 0.5, repeating. The other
# two are the ancestor's trainer, whose dense grid of tiny-cuda-nn has scale R - 1 and offset 0.5 (common_device.h,
# pos_fract): vertex takes uv at texel corners, aligned moves positions so that they fall on uv * R.
SAMPLINGS = ("sampler", "vertex", "aligned")
OUTPUT_ACTIVATIONS = ("none", "leaky_relu", "hard_swish", "hard_gelu")


@dataclass(frozen=True)
class FileTexture:
    """The features and weights of exported files.

    grids: per grid its levels, the finest first, each (height, width, features) float32.
    weights: matrices [out, in] float32; inputs past waves, features and LOD are ones.
    decoder: its frequencies, activation and outputs are read, its widths are those of the weights.
    learned: per grid whether the network gets its four texels; empty: no grid does.
    integers: the network in whole numbers, for activations of 8 bits; empty: it computes with `weights`.
    """

    grids: Sequence[Sequence[np.ndarray]]
    weights: Sequence[np.ndarray]
    num_lods: int
    decoder: DecoderSpec
    learned: Sequence[bool] = ()
    constants: Mapping[int, Constant] = field(default_factory=dict)
    integers: Sequence[IntegerLayer] = ()
    sampling: str = "sampler"
    output_activation: str = "none"


# --- files ---------------------------------------------------------------------------------------------------------


def read_texture(folder: Path, form: ModelForm, layout: str = "packed") -> FileTexture:
    """The texture of a known form in a folder of exported files; hashes are not looked at.

    Raises: UserError when a file is missing, damaged or does not fit the form, or the layout has no words.
    """
    if layout not in WORD_LAYOUTS and not all(grid.compressed for grid in form.grids):
        raise UserError(f"{folder}: expected files of the layout packed, found {layout}; use --dds_layout")
    form, weights, ranges = read_weights(folder / NETWORK, form)
    grids = [_read_grid(folder, index, grid, layout) for index, grid in enumerate(form.grids)]
    grids = [levels[:1] * (grid.finest_lods - 1) + levels for levels, grid in zip(grids, form.grids)]
    learned = [grid.interpolation == "learned" for grid in form.grids]
    integers = []
    if ranges is not None:
        matrices, decoder = [torch.tensor(weight) for weight in weights], form.decoder
        integers = layers_of(matrices, torch.tensor(ranges), decoder.activation, decoder.negative_slope)
    return FileTexture(grids, weights, form.num_lods, form.decoder, learned, form.constants, integers)


def features_of(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes of any shape as float32 features, c/N - (N-1)/(2N)."""
    n = 1 << bits
    return ((codes.astype(np.float32) - np.float32((n - 1) / 2)) / np.float32(n)).astype(np.float32)


def _read_grid(folder: Path, index: int, grid: GridSpec, layout: str) -> list[np.ndarray]:
    """The levels of a grid of packed words or of blocks, the finest first."""
    planes = []
    names = grid_file_names(index, grid, layout)
    if grid.compressed:
        return _read_blocks(folder / names[0], grid)
    channels = grid_channels(grid, layout) // len(names)
    expected = [(height, width, channels) for width, height in grid.mip_sizes[: grid.n_levels]]
    for name in names:
        levels = read_dds(folder / name).levels[: grid.n_levels]  # the others are never read
        found = [level.shape for level in levels]
        if found != expected:
            raise UserError(
                f"{folder / name}: expected {len(expected)} mips from {expected[0]} on as the network file says, "
                f"found {len(found)} from {found[0]} on"
            )
        planes.append(levels)
    images = []
    for parts in zip(*planes):
        words = np.concatenate(parts, axis=2)[..., : grid.save_bits // 8]
        codes = unpack_codes(words.reshape(-1, words.shape[2]), grid.quantize_bits, grid.save_bits)
        images.append(features_of(codes, grid.quantize_bits).reshape(*words.shape[:2], -1))
    return images


def _read_blocks(path: Path, grid: GridSpec) -> list[np.ndarray]:
    """The levels of a grid of blocks, the finest first."""
    levels = []
    for mip, level in enumerate(read_blocks(path, grid)[::-1]):
        try:
            levels.append(block_features(grid.block, *CODECS[grid.storage].split(level), grid.mip_sizes[mip]))
        except ValueError as error:
            raise UserError(f"{path}: mip {mip}: {error}; the file is damaged") from error
    return levels


def block_features(block: BlockShape, ends: np.ndarray, codes: np.ndarray, size: Size) -> np.ndarray:
    """What bc1.split or astc.split returns as features t - 0.5 of a level of `size`: (height, width, 3) float32.

    The thirds of BC1 are exact, as in training; GPUs round them, each in its own way.
    """
    ends = (ends << [3, 2, 3] | ends >> [2, 4, 2] if block.name == "bc1" else EXPANDED[ends]).astype(np.float32)
    places, last = np.array(block.places, np.float32)[codes][:, :, None], np.float32(block.places[-1])
    texels = ((last - places) * ends[:, None, 0] + places * ends[:, None, 1]) / np.float32(block.white)
    (width, height), side = size, block.side
    across, down = -(-width // side), -(-height // side)
    image = texels.reshape(down, across, side, side, 3).swapaxes(1, 2).reshape(side * down, side * across, 3)
    return image[:height, :width] - np.float32(0.5)


# --- decoding ------------------------------------------------------------------------------------------------------


def decode(texture: FileTexture, lod: int, width: int, height: int, rows: slice = slice(None)) -> np.ndarray:
    """One LOD, or rows of it, at its texel centres: (rows, width, channels) float32, not clamped."""
    first, last, _ = rows.indices(height)
    channels = texture.decoder.outputs
    image = np.empty((last - first, width, channels), np.float32)
    offset = np.float32(0 if texture.sampling == "vertex" else 0.5)  # its trainer had u = x / width
    band = max(CHUNK // width, 1)
    for start in range(first, last, band):
        stop = min(start + band, last)
        y, x = np.mgrid[start:stop, :width].astype(np.float32).reshape(2, -1)
        uv = np.stack(((x + offset) / np.float32(width), (y + offset) / np.float32(height)), axis=1)
        values = _network(texture, _inputs(texture, uv, lod))[:, :channels]
        image[start - first : stop - first] = values.reshape(stop - start, width, channels)
    for channel, constant in texture.constants.items():
        image[..., channel] = constant.value
    return image


def _inputs(texture: FileTexture, uv: np.ndarray, lod: int) -> np.ndarray:
    """(n, 2) -> (n, inputs)."""
    inputs = np.ones((len(uv), texture.weights[0].shape[1]), np.float32)
    at = 0
    for axis in range(2):
        for octave in range(texture.decoder.n_frequencies):
            x = uv[:, axis] * np.float32(2.0 ** (octave - 1)) + np.float32(0.25 * octave)
            inputs[:, at] = 4 * np.abs(x - np.floor(x) - np.float32(0.5)) - 1
            at += 1
    for index, levels in enumerate(texture.grids):
        texels, shares = _four_texels(levels[min(lod, len(levels) - 1)], uv, texture)
        count = texels[0].shape[1]
        if texture.learned and texture.learned[index]:
            for texel in texels:
                inputs[:, at : at + count] = texel
                at += count
        else:
            inputs[:, at : at + count] = sum(texel * share for texel, share in zip(texels, shares))
            at += count
    inputs[:, at] = lod / max(texture.num_lods - 1, 1)
    at = aligned(at + 1)
    if texture.decoder.n_texel_frequencies:
        levels = texture.grids[0]
        position = uv * _size_of(levels[min(lod, len(levels) - 1)]) - np.float32(0.5)
        for axis in range(2):
            for octave in range(texture.decoder.n_texel_frequencies):
                x = position[:, axis] / np.float32(2**octave)
                inputs[:, at] = 2 * (x - np.floor(x)) - 1
                at += 1
    return inputs


def _four_texels(
    image: np.ndarray, uv: np.ndarray, texture: FileTexture
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The four texels around each position, (n, features), and the shares (n, 1) of a bilinear blend."""
    (height, width), size, sampling = image.shape[:2], _size_of(image), texture.sampling
    if sampling == "sampler":
        position = uv * size - np.float32(0.5)
    elif sampling == "vertex":
        position = uv * (size - 1) + np.float32(0.5)
    else:
        position = np.clip(uv * size - np.float32(0.5), 0, size - 1) + np.float32(0.5)
    corner = np.floor(position)
    fraction = rounded_shares(position - corner) if texture.integers else position - corner
    x, y = corner.astype(np.int64).T
    texels, shares = [], []
    flat = image.reshape(-1, image.shape[2])
    for dx, dy in TEXEL_OFFSETS:
        if sampling == "sampler":
            index = (y + dy) % height * width + (x + dx) % width
        else:  # tiny-cuda-nn: past the right border comes the next row, past the last texel the first
            index = ((y + dy) * width + x + dx) % len(flat)
        texels.append(flat[index])
        across, down = (f if d else 1 - f for f, d in zip(fraction.T, (dx, dy)))
        shares.append((across * down)[:, None])
    return texels, shares


def _size_of(image: np.ndarray) -> np.ndarray:
    """(width, height) of a level as float32."""
    return np.array(image.shape[1::-1], np.float32)


def _network(texture: FileTexture, values: np.ndarray) -> np.ndarray:
    """(n, inputs) -> (n, outputs)."""
    if texture.integers:
        return run(texture.integers, values)
    decoder = texture.decoder
    for weight in texture.weights[:-1]:
        values = _activated(values @ weight.T, decoder.activation, decoder.negative_slope)
    return _activated(values @ texture.weights[-1].T, texture.output_activation, decoder.negative_slope)


def _activated(values: np.ndarray, activation: str, negative_slope: float) -> np.ndarray:
    if activation == "leaky_relu":
        return np.where(values > 0, values, np.float32(negative_slope) * values)
    if activation == "hard_swish":  # x * min(max(x + 3, 0), 6) / 6
        return values * (np.clip(values + 3, 0, 6) / 6)
    if activation == "hard_gelu":  # x * min(max((x + 1.5) / 3, 0), 1), the ancestor's name for it
        return values * np.clip((values + np.float32(1.5)) / 3, 0, 1)
    return values
