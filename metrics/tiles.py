"""Map images processed a band of rows at a time, so that no float copy of a whole LOD exists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Union

import numpy as np
import torch
from torchtyping import TensorType

from common.parallel import map_threads

MapTensor = TensorType["H", "W", "C"]
MapImage = Union[MapTensor, np.ndarray]

TILE_VALUES = 2**19  # of an image in one tile; SSIM needs about 60 bytes for each


def row_tiles(image: MapImage, halo: int = 0, values: int = 0) -> Iterator[tuple[slice, slice]]:
    """Cut an image into bands of rows: (rows to read, with `halo` more on each side; the band's own among these)."""
    height, width, channels = image.shape
    rows = max((values or TILE_VALUES) // (width * channels), 1)
    for start in range(0, height, rows):
        stop, low = min(start + rows, height), max(start - halo, 0)
        yield slice(low, min(stop + halo, height)), slice(start - low, stop - low)


def sum_of_tiles(
    measure: Callable[[slice, slice], Any], image: MapImage, halo: int = 0, values: int = 0
) -> np.ndarray:
    """The sum of measure(rows, own) over `row_tiles`, float64; added in their order, so threads do not change it."""
    tiles = row_tiles(image, halo, values)
    return np.sum(list(map_threads(lambda tile: measure(*tile), tiles)), axis=0, dtype=np.float64)


def map_values(image: MapImage, part: slice | tuple[slice, slice]) -> np.ndarray:
    """Some rows, or (rows, columns), of an image as dense float32 values; codes become values in [0, 1]."""
    tile = image[part]
    if isinstance(tile, torch.Tensor):
        tile = tile.detach().cpu().numpy()
    values = np.ascontiguousarray(tile, np.float32)
    return values / np.float32(np.iinfo(tile.dtype).max) if tile.dtype.kind == "u" else values
