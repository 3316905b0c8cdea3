"""Colour spaces and mip chains of integer maps: area averages in linear light, of normals as vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Union

import numpy as np
import torch

from maps.ranges import from_units, to_units

FloatArray = Union[torch.Tensor, np.ndarray]
SHORTEST_NORMAL = 0.02  # per axis; a shorter vector has no direction: rounding to 8 bits makes (128, 128, 128) of zero


class LogLight(NamedTuple):
    """The kind of a map whose codes are of light above 1: MapRecord.log_scale, and the end of its value_range."""

    scale: float
    high: float


Kind = Union[str, LogLight]  # of a map's values: 'srgb', 'normal', 'linear', or light above 1


def srgb_to_linear(values: FloatArray) -> FloatArray:
    """Decode sRGB in [0, 1] to linear light; torch (differentiable) or numpy, any shape; linear below 0.

    Source: IEC 61966-2-1, the exact piecewise function.
    """
    maximum, where = (torch.clamp_min, torch.where) if isinstance(values, torch.Tensor) else (np.maximum, np.where)
    return where(values <= 0.04045, values / 12.92, ((maximum(values, 0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(values: FloatArray) -> FloatArray:
    """Encode linear light in [0, 1] as sRGB; the inverse of `srgb_to_linear`, with the same source and ranges."""
    maximum, where = (torch.clamp_min, torch.where) if isinstance(values, torch.Tensor) else (np.maximum, np.where)
    return where(values <= 0.0031308, values * 12.92, 1.055 * maximum(values, 0.0031308) ** (1 / 2.4) - 0.055)


def mip_sizes(width: int, height: int) -> list[tuple[int, int]]:
    """(width, height) of every LOD: floor(log2(max(width, height))) + 1 of them, halved and rounded down to 1x1.

    Source: OpenGL 4.6 core profile, 8.14.3 "Mipmapping"; Direct3D rounds the same way.
    """
    return [(max(1, width >> lod), max(1, height >> lod)) for lod in range(max(width, height).bit_length())]


def round_to_codes(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Codes from values in code units, halves up, saturating."""
    return np.clip(np.floor(values + 0.5), 0, np.iinfo(dtype).max).astype(dtype)


def decode_table(kind: Kind, dtype: np.dtype) -> np.ndarray | None:
    """Per code the float32 value to average; None where that is the code itself."""
    if kind in ("normal", "linear"):
        return None
    top = np.iinfo(dtype).max
    codes = np.arange(top + 1) / top
    light = srgb_to_linear(codes) if kind == "srgb" else to_units(codes, (0, kind.high), kind.scale) / kind.high
    return light.astype(np.float32)


def encode_level(
    values: np.ndarray, kind: Kind, dtype: np.dtype, undirected: np.ndarray | bool = False
) -> np.ndarray:
    """(H, W, C) averages -> codes. `kind` srgb: values are linear light in [0, 1]; normal, linear: in code units;
    light above 1: shares of its maximum.

    undirected: (H, W, 1) where a normal stays as it is instead of getting unit length.
    """
    top = float(np.iinfo(dtype).max)
    if kind == "srgb":
        values = linear_to_srgb(values) * top
    elif kind == "normal":
        vector = values * (2 / top) - 1
        length = np.sqrt((vector * vector).sum(axis=-1, keepdims=True))
        unit = np.where(length > 1e-6, vector / np.maximum(length, 1e-6), np.float32([0, 0, 1]))
        values = np.where(undirected, values, (unit * 0.5 + 0.5) * top)
    elif isinstance(kind, LogLight):
        values = from_units(values * np.float32(kind.high), (0, kind.high), kind.scale) * top
    return round_to_codes(values, dtype)


def _halve_rows(rows: np.ndarray, first: int, total: int) -> np.ndarray:
    """Exact area average to half as many rows: output rows `first`... of `total`, from the source rows they cover.

    An odd size 2m+1 becomes m rows of 2 + 1/m source rows each: row j covers 2j + j/m ... 2j + 2 + (j+1)/m.
    """
    count = len(rows) // 2
    even, odd = rows[0 : 2 * count : 2], rows[1 : 2 * count : 2]
    if len(rows) % 2 == 0:
        return (even + odd) * 0.5  # exact in code units, so that halves round up on every machine
    j = (first + np.arange(count, dtype=np.float32)).reshape(-1, 1, 1)
    return (even * (1 - j / total) + odd + rows[2::2] * ((j + 1) / total)) * (total / (2 * total + 1))


def area_averages(read: Callable[[slice], np.ndarray], width: int, height: int) -> Iterator[np.ndarray]:
    """Yield each LOD from 1 on as (H, W, C) float32, from the one before it.

    read: some rows of LOD 0, (rows, width, C) float32. They are read in bands: a level, a quarter of its source, is the
        only float array of full size.
    """
    source_width, source_height = width, height
    for width, height in mip_sizes(source_width, source_height)[1:]:
        level, band = None, max(1, 2**18 // width)
        for first in range(0, height, band):
            rows = read(slice(2 * first, 2 * (first + band) + source_height % 2))
            if source_height > 1:
                rows = _halve_rows(rows, first, height)
            if source_width > 1:
                rows = _halve_rows(rows.swapaxes(0, 1), 0, width).swapaxes(0, 1)
            if level is None:
                level = np.empty((height, width, rows.shape[2]), np.float32)
            level[first : first + band] = rows
        yield level
        read, source_height, source_width = level.__getitem__, height, width


def mip_chain(
    codes: np.ndarray, kind: Kind, weights: Callable[[slice], np.ndarray] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (flat index of the first texel, (texels, C) codes): LOD 0, then each level from the one before it.

    Args:
        weights: what the texels of some rows of LOD 0 count in the averages, (rows, W, 1) float32; None: all alike.
            Averages of texels without any weight have no meaning.
    """
    top = np.iinfo(codes.dtype).max
    decode = decode_table(kind, codes.dtype)
    height, width, channels = codes.shape
    yield 0, codes.reshape(-1, channels)
    source, index = codes, height * width
    if kind == "normal" and (short := undirected(codes)).any():  # one more channel: the share of such texels
        source = np.concatenate([codes, (short * top).astype(codes.dtype)], axis=2)

    def read(part: slice) -> np.ndarray:
        rows = source[part].astype(np.float32) if decode is None else decode[source[part]]
        if weights is None:
            return rows
        share = weights(part)  # one more channel
        return np.concatenate([rows * share, share], axis=2)

    for level in area_averages(read, width, height):
        band = max(1, 2**18 // level.shape[1])
        for first in range(0, len(level), band):
            values = level[first : first + band]
            if weights is not None:
                values = values[..., :-1] / np.maximum(values[..., -1:], np.finfo(np.float32).tiny)
            mostly = values[..., channels:] > top / 2 if values.shape[2] > channels else False
            block = encode_level(values[..., :channels], kind, codes.dtype, mostly)
            yield index, block.reshape(-1, channels)
            index += block.shape[0] * block.shape[1]


def undirected(codes: np.ndarray) -> np.ndarray:
    """(H, W, 1) whether a texel of a normal map is too short for a direction."""
    half = np.iinfo(codes.dtype).max / 2
    low, high = math.floor(half * (1 - SHORTEST_NORMAL)) + 1, math.ceil(half * (1 + SHORTEST_NORMAL)) - 1
    short = np.ones((*codes.shape[:2], 1), bool)
    for channel in range(codes.shape[2]):  # integers, one channel at a time: floats of all would be four times the file
        plane = codes[..., channel : channel + 1]
        short &= plane >= low
        short &= plane <= high
    return short
