"""Renders views with a model, and scores those that have a frame as ground truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from common.parallel import map_threads
from deferred.baselines import mean_image_db, nearest_view_db
from deferred.dataset.crops import collate, to_values
from deferred.dataset.frames import Frame, FrameSet
from deferred.model.renderer import NeuralRenderer
from deferred.util import surface_psnr
from metrics.pictures import display_pixels
from metrics.scores import ssim_per_channel

AHEAD = 4  # frames that are read while others are rendered


@dataclass(frozen=True)
class View:
    """A rendered view: (H, W, 3) uint8 images, black off the surface.

    colour: of the texture alone; image: of the U-Net, or the colour again without a U-Net.
    """

    number: int
    frame: Frame
    colour: np.ndarray
    image: np.ndarray

    @property
    def truth(self) -> np.ndarray | None:
        """The frame, black off the surface; None without one."""
        if self.frame.image is None:
            return None
        return display_pixels(to_values(self.frame.image).numpy()) * self.frame.mask[..., None].astype(np.uint8)


@torch.no_grad()
def render_views(
    model: NeuralRenderer, frames: FrameSet, batch: int, device: torch.device, ids: Sequence[int] | None = None
) -> Iterator[View]:
    """Render every frame of a set, or those of `ids`, in order; neighbours of one size form a batch.

    A view does not depend on the others in its batch.
    """
    ids = list(frames.ids if ids is None else ids)
    loaded = map_threads(frames.load, ids, AHEAD)  # some ahead, while others are rendered
    waiting: list[tuple[int, Frame]] = []
    for number, frame in zip(ids, loaded):
        if waiting and (len(waiting) == batch or frame.size != waiting[0][1].size):
            yield from _render(model, waiting, device)
            waiting = []
        waiting.append((number, frame))
    if waiting:
        yield from _render(model, waiting, device)


def _render(model: NeuralRenderer, frames: list[tuple[int, Frame]], device: torch.device) -> Iterator[View]:
    batch = collate([frame for _, frame in frames]).to(device)
    colour, image = model(batch.uv, batch.direction, batch.mask)
    both = [(part if part is not None else colour).permute(0, 2, 3, 1).cpu().numpy() for part in (colour, image)]
    for (number, frame), *parts in zip(frames, *both):
        yield View(number, frame, *map(display_pixels, parts))


def ssim_of(image: np.ndarray, truth: np.ndarray) -> float | None:
    """Mean of the channels' SSIM over a whole frame; None for a frame smaller than its window."""
    found = ssim_per_channel(image, truth)
    return None if found is None else float(np.mean(found))


def score(views: Sequence[View]) -> dict[str, float | None]:
    """psnr and psnr_texture: in dB, of image and colour, over the surface pixels of all views together; ssim: mean SSIM
    of whole views."""
    ssim = [ssim_of(view.image, view.truth) for view in views]
    return {
        "psnr": surface_psnr((view.image, view.truth, view.frame.mask) for view in views),
        "psnr_texture": surface_psnr((view.colour, view.truth, view.frame.mask) for view in views),
        "ssim": None if None in ssim or not ssim else float(np.mean(ssim)),
    }


def simple_scores(train: FrameSet, held_out: FrameSet) -> dict[str, float]:
    """PSNR of the mean image and of the nearest view on the held-out frames; empty if sizes differ."""
    if len({*train.sizes.values(), *held_out.sizes.values()}) > 1:  # not comparable pixel by pixel
        return {}
    return {"psnr_mean_image": mean_image_db(train, held_out), "psnr_nearest_view": nearest_view_db(train, held_out)}
