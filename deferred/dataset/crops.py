"""Makes batches of crops of one size from frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from deferred.dataset.frames import Frame
from deferred.tensors import Colours, Directions, Images, Masks, Uv

SCALES = (-1, 0, 1)  # exponents of 2
MIN_CROP = 8  # pixels along a side of a crop at half the size


@dataclass
class Batch:
    """Crops of B views.

    image: (B, 3, H, W) in [0, 1], or None; uv: (B, H, W, 2); mask: (B, H, W), 1 on the surface, else 0;
    direction: (B, 1, 1, 3), or (B, H, W, 3) if any of the frames has one per pixel. All float32.
    """

    image: Images | None
    uv: Uv
    direction: Directions
    mask: Masks

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        image = None if self.image is None else self.image.to(device)
        return Batch(image, self.uv.to(device), self.direction.to(device), self.mask.to(device))


def draw_crops(
    frames: Sequence[Frame], crop: tuple[int, int], random: np.random.Generator, scaled: bool = False
) -> Batch:
    """A crop of each frame from a random place; if `scaled`, all at one random scale of 1/2, 1 and 2.

    At half the size every second pixel is taken, at twice the size each is repeated: blended uv would cross the seams
    of a texture, and a blended image the outline of the object. At twice the size the cut is half as large, so that the
    result is never larger than `crop`.

    Args:
        crop: (height, width); reduced to the size of the smallest frame.
    """
    height, width = (min(side, *(frame.size[axis] for frame in frames)) for axis, side in enumerate(crop))
    exponent = int(random.choice(SCALES)) if scaled else 0
    if exponent == 1:
        height, width = max(height // 2, 1), max(width // 2, 1)
    elif exponent == -1:
        wide = [min(2 * side, *(frame.size[axis] for frame in frames)) for axis, side in enumerate(crop)]
        if min(wide) < 2 * MIN_CROP:
            exponent = 0
        else:
            height, width = wide
    parts = []
    for frame in frames:
        top = int(random.integers(frame.size[0] - height + 1))
        left = int(random.integers(frame.size[1] - width + 1))
        step = 2 if exponent == -1 else 1
        rows, columns = slice(top, top + height, step), slice(left, left + width, step)
        part = cut(frame, rows, columns)
        parts.append(_doubled(part) if exponent == 1 else part)
    return collate(parts)


def cut(frame: Frame, rows: slice, columns: slice) -> Frame:
    """The part of a frame in these rows and columns."""
    image = None if frame.image is None else frame.image[rows, columns]
    direction = frame.direction if frame.direction.shape[:2] == (1, 1) else frame.direction[rows, columns]
    return Frame(image, frame.uv[rows, columns], direction, frame.mask[rows, columns])


def _doubled(frame: Frame) -> Frame:
    def twice(array: np.ndarray) -> np.ndarray:
        return array.repeat(2, axis=0).repeat(2, axis=1)

    direction = frame.direction if frame.direction.shape[:2] == (1, 1) else twice(frame.direction)
    return Frame(twice(frame.image), twice(frame.uv), direction, twice(frame.mask))


def collate(frames: Sequence[Frame]) -> Batch:
    """Frames of one size as a batch; without images if one of them has none."""
    per_pixel = any(frame.direction.shape[:2] != (1, 1) for frame in frames)
    directions = [np.broadcast_to(f.direction, (*f.size, 3)) if per_pixel else f.direction for f in frames]
    image = None
    if all(frame.image is not None for frame in frames):
        image = torch.stack([to_values(frame.image) for frame in frames]).permute(0, 3, 1, 2).contiguous()
    return Batch(
        image=image,
        uv=torch.from_numpy(np.stack([frame.uv for frame in frames])),
        direction=torch.from_numpy(np.stack(directions)),
        mask=torch.from_numpy(np.stack([frame.mask for frame in frames])).float(),
    )


def to_values(image: np.ndarray) -> Colours:
    """uint8 codes or float32 values as float32 in [0, 1]."""
    values = torch.from_numpy(np.ascontiguousarray(image))
    return values.float() / 255 if image.dtype == np.uint8 else values
