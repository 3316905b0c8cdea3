"""8-bit pictures of maps: values, errors, and strips of decoded | source | error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from common.parallel import map_threads
from metrics.tiles import MapImage, map_values, row_tiles


def error_image(decoded: MapImage, source: MapImage, gain: float = 8.0) -> np.ndarray:
    """|decoded - source| * gain as an 8-bit picture, (H, W, C) uint8."""
    return _joined(lambda rows: display_pixels(_error(decoded, source, rows, gain)), decoded)


def picture(image: MapImage) -> np.ndarray:
    """An image as an 8-bit picture, (H, W, C) uint8; 8-bit codes stay as they are."""
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return image
    return _joined(lambda rows: display_pixels(map_values(image, rows)), image)


def strip(decoded: MapImage, source: MapImage, rows: slice = slice(None)) -> np.ndarray:
    """Rows of decoded | source | error x 8 of one map side by side, (rows, 3 W, C) uint8."""
    pixels, original = picture(decoded[rows]), source[rows]
    return np.concatenate([pixels, picture(original), error_image(pixels, original)], axis=1)


def _joined(draw: Callable[[slice], np.ndarray], image: MapImage) -> np.ndarray:
    """draw(rows) of all bands of an image, one below the other; bands are drawn on all threads."""
    drawn, whole = map_threads(draw, (rows for rows, _ in row_tiles(image))), None
    first = 0
    for band in drawn:
        if whole is None:
            whole = np.empty((image.shape[0], *band.shape[1:]), band.dtype)
        whole[first : first + len(band)] = band
        first += len(band)
    return whole


def _error(decoded: MapImage, source: MapImage, rows: slice, gain: float) -> np.ndarray:
    return np.abs(map_values(decoded, rows) - map_values(source, rows)) * np.float32(gain)


def display_pixels(values: np.ndarray) -> np.ndarray:
    """Values as uint8 pixels: outside [0, 1] saturates, NaN becomes 0, halves round up."""
    return (np.nan_to_num(values).clip(0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
