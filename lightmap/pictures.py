"""Pictures of a day: tone mapping, contact sheets, and images for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage

from common.event_file import TENSORBOARD_IMAGE_SIZE, EventFile
from common.events import TENSORBOARD
from lightmap.compressor import CHUNK, Compressor
from lightmap.data import Day, Encoding, unit
from lightmap.forms import decode
from maps.images import encode_png
from metrics.pictures import display_pixels, error_image

SHOWN_FRAMES = 4  # of a day, in TensorBoard
MIDDLE_GREY = 0.18
SHEET_COLUMNS = 6
SHEET_TILE = 256  # longest side of a frame on a contact sheet


def tone_mapped(light: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Decoded values as display values in [0, 1], float32.

    LDR values are display values already. HDR light is scaled so that the day's median is MIDDLE_GREY, compressed so
    that the peak becomes 1 (Reinhard et al. 2002, "Photographic Tone Reproduction for Digital Images", equation 4), and
    encoded as sRGB.
    """
    if not encoding.hdr:
        return light.clip(0, 1)
    white = MIDDLE_GREY * encoding.peak / encoding.scale  # can be beyond float32
    x = light.clip(0, None).astype(np.float64) * (MIDDLE_GREY / encoding.scale)
    x = (x * (1 + x / white**2) / (1 + x)).clip(0, 1).astype(np.float32)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** np.float32(1 / 2.4) - 0.055).astype(np.float32)


def contact_sheet(frames: Sequence[np.ndarray]) -> np.ndarray:
    """(rows, columns, 3) uint8: (H, W, 3) uint8 frames in rows of SHEET_COLUMNS, scaled down to SHEET_TILE."""
    height, width = frames[0].shape[:2]
    scale = min(1.0, SHEET_TILE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    columns = min(SHEET_COLUMNS, len(frames))
    sheet = np.zeros((-(-len(frames) // columns) * size[1], columns * size[0], 3), np.uint8)
    for index, frame in enumerate(frames):
        tile = np.asarray(PillowImage.fromarray(frame).resize(size, PillowImage.Resampling.BOX))
        y, x = index // columns * size[1], index % columns * size[0]
        sheet[y : y + size[1], x : x + size[0]] = tile
    return sheet


def log_pictures(folder: Path, model: Compressor, day: Day, step: int, report: Mapping[str, Any]) -> None:
    """Log the scores and SHOWN_FRAMES pictures to TensorBoard: decoded frame | source | error x8."""
    events = EventFile(folder / TENSORBOARD)
    stride = max(1, -(-max(day.height, day.width) // TENSORBOARD_IMAGE_SIZE))
    texels = torch.arange(day.texels).view(day.height, day.width)[::stride, ::stride]
    with torch.no_grad():
        z = torch.cat([model.latents(part) for part in texels.flatten().split(CHUNK)])
    for frame in range(0, day.n_frames, max(1, day.n_frames // SHOWN_FRAMES)):
        hour = day.times()[frame]
        images = decode(model, z, hour), unit(day.frames[texels.flatten(), frame])
        pair = [
            display_pixels(tone_mapped(day.encoding.decode(image.view(*texels.shape, 3).numpy()), day.encoding))
            for image in images
        ]
        strip = np.concatenate([*pair, error_image(*pair)], axis=1)
        events.image(f"hour_{hour:05.2f}/decoded_source_error_x8", *strip.shape, encode_png(strip, quick=True), step)
    for name in ("psnr_hours", "psnr_half_hours", "ssim_hours", "ssim_half_hours"):
        if report[name] is not None:
            events.scalar(f"Report/{name}", report[name], step)
    events.close()
