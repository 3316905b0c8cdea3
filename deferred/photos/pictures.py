"""Reads photographs and their masks, turned and shrunk as their cameras want them."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.errors import UserError, counted, quote
from common.opencv import import_opencv
from configs import MAX_PIXELS
from deferred.photos.lenses import Lens, Photo
from maps.images import image_size, read_image
from maps.orientation import SIDEWAYS, exif_orientation, upright

HALF = 0.5  # of a pixel's area: the least that the object covers of a pixel that is kept


@dataclass(frozen=True)
class Picture:
    """How a photograph is read.

    stored: its (width, height) in the file; size: that of the frame it becomes. max_pixels: of the largest file to
    read. orientation: of EXIF, 1 if it is not applied. left_out: an orientation of EXIF that is not applied since the
    camera's size is that of the stored pixels.
    """

    photo: Photo
    stored: tuple[int, int]
    size: tuple[int, int]
    max_pixels: int = MAX_PIXELS
    orientation: int = 1
    left_out: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """(width, height) after the orientation."""
        return self.stored[::-1] if self.orientation in SIDEWAYS else self.stored


def plan_picture(photo: Photo, max_size: int, scale: float, max_pixels: int) -> Picture:
    """Size and orientation of a photograph, from its header; the arguments are flags of prepare.py.

    Raises: UserError if its camera is for another shape, or for more pixels than may be read, or a frame can have.
    """
    stored = image_size(photo.path, max_pixels)
    turned = exif_orientation(photo.path)
    if _fits(photo.lens, stored):
        plan = Picture(photo, stored, stored, max_pixels, left_out=turned)
    elif turned in SIDEWAYS and _fits(photo.lens, stored[::-1]):
        plan = Picture(photo, stored, stored[::-1], max_pixels, orientation=turned)
    else:
        turn = f", EXIF orientation {turned}" if turned != 1 else ""
        raise UserError(
            f"{quote(photo.path)}: expected {photo.lens.width}x{photo.lens.height} pixels as its camera has, or the "
            f"same proportions, found {stored[0]}x{stored[1]}{turn}; give the photographs that the cameras were "
            "computed from, neither cropped nor turned since"
        )
    width, height = plan.size
    if max_size:
        scale = min(scale, max_size / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size[0] * size[1] > MAX_PIXELS:
        fits = int(max(size) * math.sqrt(MAX_PIXELS / (size[0] * size[1])))
        raise UserError(f"{quote(photo.path)}: expected a frame of at most {MAX_PIXELS} pixels, found {size[0]}x"
                        f"{size[1]} = {size[0] * size[1]}; give --max_size {fits} or less")  # fmt: skip
    return replace(plan, size=size)


def _fits(lens: Lens, size: tuple[int, int]) -> bool:
    """Whether a picture has the lens' size or, up to a pixel, its proportions."""
    width, height = size
    return abs(width * lens.height - height * lens.width) <= max(lens.width, lens.height)


def read_picture(plan: Picture) -> tuple[np.ndarray, np.ndarray | None]:
    """(H, W, 3) uint8 or uint16 of the frame's size, and (H, W) bool where its alpha has the object, None without.

    Raises: UserError.
    """
    image = read_image(plan.photo.path, plan.max_pixels)
    pixels, alpha = image.pixels, image.alpha
    if image.is_float:
        raise UserError(f"{quote(plan.photo.path)}: expected 8 or 16 bits a channel, found float; frames hold what a "
                        "display shows: develop it to PNG, JPEG or TIFF")  # fmt: skip
    if pixels.shape[1::-1] != plan.stored:
        raise UserError(f"{quote(plan.photo.path)}: expected {plan.stored[0]}x{plan.stored[1]} pixels as its header "
                        f"says, found {pixels.shape[1]}x{pixels.shape[0]}; save it again")  # fmt: skip
    pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    pixels = shrink(upright(pixels, plan.orientation), plan.size)
    if alpha is None:
        return pixels, None if image.flat_alpha != 0 else np.zeros(pixels.shape[:2], bool)
    top = np.float32(np.iinfo(alpha.dtype).max)
    covered = upright(alpha[..., 0], plan.orientation).astype(np.float32) / top
    return pixels, shrink(covered, plan.size) >= HALF


def read_mask(path: Path, plan: Picture) -> np.ndarray:
    """(H, W) bool: where a mask shows the object, that is where it is not 0, or its alpha is not if it is transparent.

    Raises: UserError.
    """
    image = read_image(path, plan.max_pixels)
    size = image.pixels.shape[1::-1]
    if size not in (plan.stored, plan.upright):
        raise UserError(f"{quote(path)}: expected {plan.stored[0]}x{plan.stored[1]} pixels as {quote(plan.photo.path)} "
                        f"has, found {size[0]}x{size[1]}; make the mask again, or leave --masks out")  # fmt: skip
    shown = (image.pixels != 0).any(axis=2)
    if image.alpha is not None:
        shown &= image.alpha[..., 0] != 0
    if size != plan.upright:
        shown = upright(shown, plan.orientation)
    return shrink(shown.astype(np.float32), plan.size) >= HALF


def shrink(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image of (width, height) `size`: each pixel is the average of the area that it covers in a larger one."""
    if array.shape[1::-1] == size:
        return np.ascontiguousarray(array)
    cv2 = import_opencv("shrinking photographs")
    return cv2.resize(np.ascontiguousarray(array), size, interpolation=cv2.INTER_AREA)


def find_masks(folder: Path, photos: list[Photo]) -> list[Photo]:
    """The photographs with their masks: DIR/a.jpg.png as COLMAP has it, DIR/a.png, or DIR/a.jpg.

    Folders in the names of photographs are looked for in DIR too, but those that all names share, as the "images" of
    most transforms.json, may be left out. Raises: UserError.
    """
    if not folder.is_dir():
        raise UserError(f"--masks {quote(folder)}: no such folder; give one with a picture for each photograph")
    folders = zip(*(Path(photo.name).parent.parts for photo in photos))
    shared = sum(1 for _ in itertools.takewhile(lambda own: len(set(own)) == 1, folders))
    found, missing = [], []
    for photo in photos:
        name = Path(photo.name)
        places = [folder / place for own in (name, Path(*name.parts[shared:]))
                  for place in (own.with_name(own.name + ".png"), own.with_suffix(".png"), own)]  # fmt: skip
        # An absolute name, or one that begins with "..", leads out of DIR, and to the photograph itself.
        mask = next((place for place in places if place.is_file() and not place.samefile(photo.path)), None)
        if mask is None:
            missing.append(photo)
        found.append(replace(photo, mask=mask))
    if missing:
        name = Path(missing[0].name)
        name = Path(*name.parts[shared:]) if name.is_absolute() else name
        raise UserError(f"--masks {quote(folder)}: expected {quote(name)}.png or {quote(name.with_suffix('.png'))}, "
                        f"found neither; {counted(len(missing), 'photograph')} of {len(photos)} have no mask; add "
                        "white ones for those")  # fmt: skip
    return found
