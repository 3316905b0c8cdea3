"""Pictures of a finished run in media/: a strip per map, and a thumbnail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from common.files import atomic_write
from common.parallel import map_threads
from configs import Config
from dataset import Material
from maps.png_bands import png_bands
from metrics.evaluate import Maps
from metrics.pictures import error_image, picture, strip
from training.run_folder import THUMBNAIL

MOST_SIDE = 4096  # texels; three pictures of 8192 x 8192 side by side would take 0.6 GB, and no viewer shows them
THUMBNAIL_SIZE = 96  # longest side of each of its three pictures


def picture_lod(config: Config, material: Material) -> int:
    """The LOD that a run's pictures show: --picture_lod, a smaller one where its sides exceed MOST_SIDE, or the last
    there is."""
    fits = next(lod for lod, size in enumerate(material.lod_sizes) if max(size) <= MOST_SIDE)
    return min(max(config.picture_lod, fits), material.num_lods - 1)


def save_strips(folder: Path, decoded: Maps, source: Maps) -> None:
    """One PNG per map: decoded | source | error x8; see metrics.evaluate.OnLod for the maps."""
    folder.mkdir(parents=True, exist_ok=True)

    def save(name: str) -> None:
        ours, theirs = decoded[name], source[name]
        height, width, channels = ours.shape
        with atomic_write(folder / f"{name}.png") as stream:
            for part in png_bands((height, 3 * width, channels), lambda rows: strip(ours, theirs, rows)):
                stream.write(part)

    list(map_threads(save, decoded))  # two at a time: one is compressed while the other is on its way to the disk


def save_thumbnail(folder: Path, decoded: Maps, source: Maps) -> None:
    """decoded | source | error x8 of the first map in a few kilobytes; see metrics.evaluate.OnLod for the maps."""
    shown, wanted = next(iter(decoded.values())), next(iter(source.values()))
    height, width = shown.shape[:2]
    step = max(1, max(height, width) // (4 * THUMBNAIL_SIZE))  # skips texels of a large map; the rest is averaged below
    shown, wanted = shown[::step, ::step], wanted[::step, ::step]
    strip = np.concatenate([picture(shown), picture(wanted), error_image(shown, wanted)], axis=1)
    image = PillowImage.fromarray(strip if strip.shape[2] == 3 else strip[..., 0])
    scale = min(THUMBNAIL_SIZE / max(shown.shape[:2]), 8)  # a material of a few texels is enlarged 8 times at most
    height, width = (max(1, round(size * scale)) for size in shown.shape[:2])
    kind = PillowImage.Resampling.BOX if scale < 1 else PillowImage.Resampling.NEAREST
    with atomic_write(folder / THUMBNAIL) as stream:
        image.resize((3 * width, height), kind).save(stream, "JPEG", quality=85)
