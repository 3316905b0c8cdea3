"""A model's LODs as maps with the values of the source files: these are scored, and written as images."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from common.files import write_bytes
from common.parallel import map_threads
from maps.channels import map_slice
from maps.exr import encode_exr
from maps.images import encode_png
from maps.ranges import has_units, to_units
from maps.record import MapRecord, MaterialRecord
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
    return _to_codes(image, np.uint8)


def _to_codes(image: torch.Tensor, dtype: type) -> np.ndarray:
    codes = np.fmax(np.asarray(image, np.float32), 0)  # of NaN and a number, the number
    np.fmin(codes, 1, out=codes)
    codes *= np.iinfo(dtype).max
    codes += 0.5
    return codes.astype(dtype)  # truncated


def image_name(map_name: str, lod: int, suffix: str = "png") -> str:
    return f"{map_name}_lod{lod}.{suffix}"


def save_map_images(
    folder: Path, decoded: Mapping[str, np.ndarray], lod: int, material: MaterialRecord
) -> list[Path]:
    """Write one picture per map of a LOD that `decode_pictures` returned: EXR in the file's own units for maps that
    have such (see ranges.has_units), 8-bit PNG for all others. Returns: their paths."""
    entries = {entry.name: entry for entry in material.maps}
    paths = [
        folder / image_name(name, lod, "exr" if pixels.dtype == np.uint16 else "png")
        for name, pixels in decoded.items()
    ]
    encoded = map_threads(lambda item: _encode(item[1], entries[item[0]]), decoded.items())
    for path, payload in zip(paths, encoded):
        write_bytes(path, payload)
    return paths


def _encode(pixels: np.ndarray, entry: MapRecord) -> bytes:
    """The file of a map that `decode_pictures` returned."""
    if pixels.dtype == np.uint8:
        return encode_png(pixels, quick=True)
    values = to_units(pixels / np.float32(65535), entry.value_range, entry.log_scale)
    return encode_exr(values, half=entry.log_scale is not None)


def decode_in_file_space(
    model: NeuralTexture, material: MaterialRecord, lod: int, decode: Decode, rows: slice = slice(None)
) -> DecodedImage:
    """One LOD, or rows of it, with the values of the source files, see file_space.

    Channels of absent maps are 0. Values are not clamped.
    """
    width, height = material.lod_size(lod)
    return in_file_space(decode(model, lod, width, height, rows=rows), material, model.constants)


def decode_maps(model: NeuralTexture, material: MaterialRecord, lod: int, decode: Decode) -> dict[str, np.ndarray]:
    """One LOD in 8 bits: map name -> (H, W, C) uint8 with the values of the source files, see file_space."""
    return _decode_codes(model, material, lod, decode, ())[0]


def decode_deep_maps(
    model: NeuralTexture, material: MaterialRecord, lod: int, decode: Decode
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """`decode_maps`, and the maps of 16-bit files (float ones are such), and those with units of their own, once more
    in 16 bits, from one decode."""
    deep = {entry.name for entry in material.maps if entry.bit_depth == 16} | set(_with_units(material))
    return _decode_codes(model, material, lod, decode, deep)


def decode_pictures(model: NeuralTexture, material: MaterialRecord, lod: int, decode: Decode) -> dict[str, np.ndarray]:
    """One LOD as it is written: `decode_maps`, with 16 bits where maps have units of their own."""
    return with_deep(*_decode_codes(model, material, lod, decode, _with_units(material)), material)


def with_deep(
    maps: Mapping[str, np.ndarray], deep: Mapping[str, np.ndarray], material: MaterialRecord
) -> dict[str, np.ndarray]:
    """`decode_pictures` from what `decode_deep_maps` returned."""
    return {**maps, **{name: deep[name] for name in _with_units(material)}}


def _with_units(material: MaterialRecord) -> list[str]:
    return [entry.name for entry in material.maps if has_units(entry.name, entry.value_range)]


def _decode_codes(
    model: NeuralTexture, material: MaterialRecord, lod: int, decode: Decode, deep: Collection[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """One LOD in 8 bits, and the maps named in `deep` in 16 bits: map name -> (H, W, C).

    Decoded in bands of rows: a float image of the whole LOD would take 740 MB at 4096 x 4096. While a band is decoded,
    the one before is rounded and taken apart in another thread.
    """
    width, height = material.lod_size(lod)
    parts = {entry.name: map_slice(entry.name) for entry in material.maps}
    shapes = {name: (height, width, part.stop - part.start) for name, part in parts.items()}
    maps = {name: np.empty(shape, np.uint8) for name, shape in shapes.items()}
    deep_maps = {name: np.empty(shapes[name], np.uint16) for name in deep}
    band = max(DECODE_CHUNK // width, 1)
    bands = (slice(first, min(first + band, height)) for first in range(0, height, band))
    decoded = ((rows, decode_in_file_space(model, material, lod, decode, rows)) for rows in bands)

    def keep(part: tuple[slice, DecodedImage]) -> None:
        rows, values = part
        codes = to_8_bit(values)
        for name, part in parts.items():
            maps[name][rows] = codes[..., part]
        for name, pixels in deep_maps.items():
            pixels[rows] = _to_codes(values[..., parts[name]], np.uint16)

    for _ in map_threads(keep, decoded):
        pass
    return maps, deep_maps
