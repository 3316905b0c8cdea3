"""Which crops of which frames a training step sees, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np
import torch

from deferred.dataset.frames import Frame, FrameSet
from deferred.tensors import Colours, Directions, Images, Masks, Uv

SCALES = (-1, 0, 1)  # exponents of 2
MIN_CROP = 8  # pixels along a side of a crop at half the size

Window = tuple[slice, slice]  # rows and columns


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


@dataclass(frozen=True)
class CropPlan:
    """The crops of one step: a window of each frame; doubled: whether each pixel is repeated."""

    numbers: list[int]
    windows: list[Window]
    doubled: bool

    def read(self, frames: FrameSet, stop: Event | None = None) -> Batch:
        """Read the crops. Raises: UserError; CancelledError once `stop` is set."""
        parts = []
        for number, window in zip(self.numbers, self.windows):
            if stop is not None and stop.is_set():
                raise CancelledError
            parts.append(frames.part(number, *window))
        return collate([_doubled(part) if self.doubled else part for part in parts])


def plan_crops(
    sizes: Mapping[int, tuple[int, int]], numbers: Sequence[int], crop: tuple[int, int], random: np.random.Generator,
    scaled: bool = False,
) -> CropPlan:  # fmt: skip
    """A crop of each frame from a random place; if `scaled`, all at one random scale of 1/2, 1 and 2.

    At half the size every second pixel is taken, at twice the size each is repeated: blended uv would cross the seams
    of a texture, and a blended image the outline of the object. At twice the size the cut is half as large, so that the
    result is never larger than `crop`.

    Args:
        sizes: frame -> (height, width).
        crop: (height, width); reduced to the size of the smallest frame.
    """
    own = [sizes[number] for number in numbers]
    height, width = (min(side, *(size[axis] for size in own)) for axis, side in enumerate(crop))
    exponent = int(random.choice(SCALES)) if scaled else 0
    if exponent == 1:
        height, width = max(height // 2, 1), max(width // 2, 1)
    elif exponent == -1:
        wide = [min(2 * side, *(size[axis] for size in own)) for axis, side in enumerate(crop)]
        if min(wide) < 2 * MIN_CROP:
            exponent = 0
        else:
            height, width = wide
    step = 2 if exponent == -1 else 1
    windows = []
    for size in own:
        top = int(random.integers(size[0] - height + 1))
        left = int(random.integers(size[1] - width + 1))
        windows.append((slice(top, top + height, step), slice(left, left + width, step)))
    return CropPlan(list(numbers), windows, doubled=exponent == 1)


def plan_epoch(
    sizes: Mapping[int, tuple[int, int]], order: Sequence[int], batch: int, crop: tuple[int, int],
    random: np.random.Generator, scaled: bool,
) -> Iterator[tuple[CropPlan, dict[str, Any]]]:  # fmt: skip
    """The steps of an epoch, each with the state of the generator after it. `random` itself stays as it is.

    order: the frames of the epoch; a step takes the next `batch` of them.
    """
    own = np.random.Generator(type(random.bit_generator)())
    own.bit_generator.state = random.bit_generator.state
    for first in range(0, len(order), batch):
        plan = plan_crops(sizes, order[first : first + batch], crop, own, scaled)
        yield plan, own.bit_generator.state


def _doubled(frame: Frame) -> Frame:
    def twice(array: np.ndarray) -> np.ndarray:
        return array.repeat(2, axis=0).repeat(2, axis=1)

    direction = frame.direction if frame.direction.shape[:2] == (1, 1) else twice(frame.direction)
    return Frame(twice(frame.image), twice(frame.uv), direction, twice(frame.mask))


def collate(frames: Sequence[Frame]) -> Batch:
    """Frames of one size as a batch; without images if one of them has none.

    numpy does it all: PyTorch has a team of threads for each thread that calls it, and readers are many.
    """
    per_pixel = any(frame.direction.shape[:2] != (1, 1) for frame in frames)
    directions = [np.broadcast_to(f.direction, (*f.size, 3)) if per_pixel else f.direction for f in frames]
    image = None
    if all(frame.image is not None for frame in frames):
        image = np.empty((len(frames), 3, *frames[0].size), np.float32)
        for values, frame in zip(image, frames):
            values[...] = frame.image.transpose(2, 0, 1)
            if frame.image.dtype == np.uint8:
                values /= np.float32(255)
    return Batch(
        image=None if image is None else torch.from_numpy(image),
        uv=torch.from_numpy(np.stack([frame.uv for frame in frames])),
        direction=torch.from_numpy(np.stack(directions)),
        mask=torch.from_numpy(np.stack([frame.mask for frame in frames]).astype(np.float32)),
    )


def to_values(image: np.ndarray) -> Colours:
    """uint8 codes or float32 values as float32 in [0, 1]."""
    values = torch.from_numpy(np.array(image))
    return values.float() / 255 if image.dtype == np.uint8 else values
