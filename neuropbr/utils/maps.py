"""The four maps of a material as tensors and as PNG files.

Maps are a dict name -> (C, H, W) or (B, C, H, W) float32. Albedo (sRGB, as stored), roughness and metallic are in
[0, 1]. A normal is a unit vector: x to the right, y to the top of the image, z to the viewer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torchtyping import TensorType
from torchvision.transforms.v2 import functional as image_ops

from common.errors import UserError, quote
from common.files import make_folder, write_bytes
from maps.images import encode_png, read_image
from metrics.pictures import display_pixels

MAPS = {"albedo": 3, "roughness": 1, "metallic": 1, "normal": 3}  # name -> channels, in canonical order
FLAT = (0.0, 0.0, 1.0)  # replaces normals of length 0
VIEWS = 3

Size = tuple[int, int]  # height, width
Picture = TensorType["channels", "height", "width"]
Pictures = TensorType["batch", "channels", "height", "width"]
Targets = TensorType[4, 3, "height", "width"]
TargetBatch = TensorType["batch", 4, 3, "height", "width"]


def read_picture(path: str | os.PathLike) -> Picture:
    """Read an 8- or 16-bit image, (1 or 3, H, W) float32 in [0, 1]. Raises: UserError."""
    return _values(path, read_image(path).pixels)


def _values(path: str | os.PathLike, pixels: np.ndarray) -> Picture:
    if pixels.dtype == np.float32:
        raise UserError(f"{quote(path)}: expected integers of 8 or 16 bits, found floats; save it as 16-bit PNG")
    values = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def rgb_of(path: str | os.PathLike, pixels: np.ndarray) -> Picture:
    """(H, W, 1 or 3) codes of the file `path` as (3, H, W) in [0, 1]; grey is repeated. Raises: UserError."""
    return _channels(_values(path, pixels), 3)


def read_rgb(path: str | os.PathLike, size: Size | None = None) -> Picture:
    """Read an RGB image, (3, H, W) in [0, 1]; grey is repeated. size: (height, width) to resize to, if any."""
    return resized(_channels(read_picture(path), 3), size)


def read_map(path: str | os.PathLike, name: str, size: Size | None = None) -> Picture:
    """Read one of MAPS, as described at the top of this module. An RGB file of a one-channel map is averaged."""
    picture = read_picture(path)
    if name == "normal":
        if picture.shape[0] != 3:
            raise UserError(f"{quote(path)}: expected an RGB normal map, found a grey file; save it as RGB")
        return unit(resized(2 * picture - 1, size), 0)
    return resized(_channels(picture, MAPS[name]), size)


def _channels(picture: torch.Tensor, channels: int) -> torch.Tensor:
    if picture.shape[0] == channels:
        return picture
    return picture.expand(3, -1, -1) if channels == 3 else picture.mean(0, keepdim=True)


def resized(picture: torch.Tensor, size: Size | None) -> torch.Tensor:
    """(C, H, W) resized to (height, width), with a filter where that is smaller."""
    if size is None or tuple(picture.shape[-2:]) == tuple(size):
        return picture.contiguous()
    return image_ops.resize(picture, list(size), antialias=True)


def unit(vectors: torch.Tensor, dim: int) -> torch.Tensor:
    """`vectors` normalised along `dim`; those of length 0 become FLAT."""
    length = vectors.norm(dim=dim, keepdim=True)
    shape = [1] * vectors.dim()
    shape[dim] = 3
    flat = torch.tensor(FLAT, dtype=vectors.dtype, device=vectors.device).reshape(shape)
    return torch.where(length > 1e-6, vectors / length.clamp_min(1e-6), flat)


def as_picture(name: str, values: torch.Tensor) -> torch.Tensor:
    """A map as a picture in [0, 1]: normals n become (n + 1) / 2."""
    return ((values + 1) / 2 if name == "normal" else values).clamp(0, 1)


def pixels_of(picture: Picture) -> np.ndarray:
    """(1 or 3, H, W) values in [0, 1] as (H, W, 1 or 3) uint8; halves round up, values outside saturate."""
    return np.ascontiguousarray(display_pixels(picture.detach().float().cpu().permute(1, 2, 0).numpy()))


def write_picture(path: str | os.PathLike, picture: Picture) -> None:
    """Write (1 or 3, H, W) values in [0, 1] as an 8-bit PNG, atomically; see pixels_of."""
    write_bytes(path, encode_png(pixels_of(picture)))


def write_maps(folder: Path, maps: Mapping[str, Picture]) -> None:
    """Write <folder>/<name>.png for each map (C, H, W): a folder for --data_dir of the compressor."""
    write_pictures(folder, {name: as_picture(name, maps[name]) for name in MAPS})


def write_pictures(folder: Path, pictures: Mapping[str, Picture]) -> None:
    """Write <folder>/<name>.png for each picture, values in [0, 1]."""
    make_folder(folder)
    for name, picture in pictures.items():
        write_picture(folder / f"{name}.png", picture)


def stack_targets(maps: Mapping[str, Picture]) -> Targets:
    """The maps of one sample as (4, 3, H, W); one-channel maps are repeated."""
    return torch.stack([maps[name].expand(3, -1, -1) for name in MAPS])


def split_targets(targets: TargetBatch) -> dict[str, Pictures]:
    """The inverse of stack_targets for a batch: (B, 4, 3, H, W) to name -> (B, C, H, W)."""
    return {name: targets[:, i, :channels] for i, (name, channels) in enumerate(MAPS.items())}
