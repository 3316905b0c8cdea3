"""Comparison strips: truth, texture, rendering and error side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from common.files import write_bytes
from deferred.evaluation import View
from maps.images import encode_png
from metrics.pictures import error_image

COLUMNS = ("truth", "RGB texture", "ours", "error x4")
ERROR_GAIN = 4.0
ROWS = 4  # views of a strip
TILE = (128, 512)  # pixels: smallest and largest size of a view's longer side
HEADER = 16  # pixels: height of the line with the names


def strip_row(view: View) -> np.ndarray:
    """(H, 4 W, 3) uint8: truth, the texture's colour, the image, and |image - truth| times ERROR_GAIN."""
    parts = (view.truth, view.colour, view.image, error_image(view.image, view.truth, ERROR_GAIN))
    return np.concatenate(parts, axis=1)


def comparison(views: Sequence[View]) -> np.ndarray:
    """(H, W, 3) uint8: the strips of up to ROWS views below each other, with names above, scaled to TILE."""
    rows = [strip_row(view) for view in views[:: max(1, len(views) // ROWS)][:ROWS]]
    height = max(view.frame.size[0] for view in views)
    longest = max(max(view.frame.size) for view in views)
    scale = -(-TILE[0] // longest) if longest < TILE[0] else min(1.0, TILE[1] / longest)
    widest = max(row.shape[1] for row in rows)
    tall = np.concatenate(
        [np.pad(row, [(0, height - row.shape[0]), (0, widest - row.shape[1]), (0, 0)]) for row in rows]
    )
    kind = PillowImage.Resampling.NEAREST if scale >= 1 else PillowImage.Resampling.BOX
    size = (round(widest * scale), round(tall.shape[0] * scale))
    sheet = PillowImage.new("RGB", (size[0], size[1] + HEADER), "white")
    sheet.paste(PillowImage.fromarray(tall).resize(size, kind), (0, HEADER))
    draw = ImageDraw.Draw(sheet)
    for index, name in enumerate(COLUMNS):
        draw.text((index * size[0] / len(COLUMNS) + 4, 2), name, fill="black")
    return np.asarray(sheet)


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 atomically."""
    write_bytes(path, encode_png(np.ascontiguousarray(pixels)))
