"""A model's LODs as 8-bit maps with the values of the source files: these are scored, and written as images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from common.files import write_bytes
from common.parallel import map_threads
from maps.channels import map_slice
from maps.images import encode_png
from maps.record import MaterialRecord
from metrics.file_space import in_file_space
from model import DecodedImage, NeuralTexture

DECODE_CHUNK = 1 << 18  # texels of a LOD that are decoded at a time; 44 bytes each


class Decode(Protocol):
    """model.NeuralTexture.decode, or another decoder with its arguments."""

    def __call__(
        self, model: NeuralTexture, lod: int, width: int, height: int, *, rows: slice
    ) -> DecodedImage: ...


def to_8_bit(image: torch.Tensor) -> np.ndarray:
    """Values in [0, 1] as 8-bit integers, halves rounded up; outside saturates, NaN becomes 0."""
    codes = image.to(torch.float32, copy=True).nan_to_num_(nan=0.0).clamp_(0, 1).mul_(255).add_(0.5)
    return codes.to(torch.uint8).numpy()  # truncated


def image_name(map_name: str, lod: int) -> str:
    return f"{map_name}_lod{lod}.png"


def save_map_images(folder: Path, decoded: Mapping[str, np.ndarray], lod: int) -> list[Path]:
    """Write one 8-bit PNG per map of a LOD that `decode_maps` returned. Returns: their paths."""
    paths = [folder / image_name(name, lod) for name in decoded]
    encoded = map_threads(lambda pixels: encode_png(pixels, quick=True), decoded.values())
    for path, payload in zip(paths, encoded):
        write_bytes(path, payload)
    return paths


def decode_in_file_space(
    model: NeuralTexture, material: MaterialRecord, lod: int, decode: Decode, rows: slice = slice(None)
) -> DecodedImage:
    """One LOD, or rows of it, with the values of the source files, see file_space.

    Channels of absent maps are 0. Values are not clamped.
    """
    width, height = material.lod_size(lod)
    return in_file_space(decode(model, lod, width, height, rows=rows), material, model.constants)


def decode_maps(model: NeuralTexture, material: MaterialRecord, lod: int, decode: Decode) -> dict[str, np.ndarray]:
    """One LOD in 8 bits: map name -> (H, W, C) uint8 with the values of the source files, see file_space.

    Decoded in bands of rows: a float image of the whole LOD would take 740 MB at 4096 x 4096.
    """
    width, height = material.lod_size(lod)
    parts = {entry.name: map_slice(entry.name) for entry in material.maps}
    maps = {name: np.empty((height, width, part.stop - part.start), np.uint8) for name, part in parts.items()}
    band = max(DECODE_CHUNK // width, 1)
    for first in range(0, height, band):
        rows = slice(first, min(first + band, height))
        codes = to_8_bit(decode_in_file_space(model, material, lod, decode, rows))
        for name, part in parts.items():
            maps[name][rows] = codes[..., part]
    return maps
