"""The pixels of one image file, and the checks that every reader makes."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Union

import numpy as np
from PIL import Image as PillowImage

from common.errors import UserError, quote
from configs import MAX_PIXELS

MAX_BYTES_PER_PIXEL = 32  # of a file: four 64-bit floats; with MAX_OVERHEAD for what else is in it
MAX_OVERHEAD = 64 << 20
SUPPORTED = "an image (PNG, JPEG, TIFF, TGA, BMP, WebP, EXR, HDR, DDS, PSD, GIF, AVIF, JPEG XL or JPEG 2000)"
BAND_TEXELS = 2**18
_pillow_limit_lock = threading.Lock()
# Of damaged tags Pillow says which line of its code met them; where the damage matters, reading ends in an error.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True, eq=False)
class ImageData(os.PathLike):
    """The bytes of an image that is no file by itself: what readers ask of a Path, and os.fspath for messages."""

    name: str  # what records call it
    place: str  # what messages call it
    payload: bytes = field(repr=False)

    def __fspath__(self) -> str:
        return self.place

    @property
    def suffix(self) -> str:
        return ""  # the content says what it is

    def open(self, mode: str = "rb") -> BinaryIO:
        return io.BytesIO(self.payload)

    def read_bytes(self) -> bytes:
        return self.payload


ImageFile = Union[Path, ImageData]


@dataclass(frozen=True)
class Image:
    """The decoded pixels of one file.

    pixels: (H, W, C), C is 1 (grey) or 3 (R, G, B); uint8 or uint16 as the file stores them, float32 for EXR, HDR and
        float TIFF, of any range. Row 0 is the top.
    alpha: (H, W, 1) of the same type; None where the file has none, or one of a single value.
    flat_alpha: that single value, in code units; None where there is none.
    divisor: the alpha that the pixels are multiplied with; None where they are not, or not any more.
    note: what of the file is not in the pixels, for the user; mostly ''.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    divisor: np.ndarray | None = None
    note: str = ""
    flat_alpha: float | None = None

    @property
    def is_float(self) -> bool:
        return self.pixels.dtype == np.float32

    @property
    def straight(self) -> Image:
        """The image with its colours as they were before they were multiplied with alpha; where that is 0 they stay."""
        if self.divisor is None:
            return self
        alpha, pixels = self.divisor.astype(np.float64), self.pixels
        top = 1.0 if self.is_float else float(np.iinfo(pixels.dtype).max)
        colours = np.where(alpha > 0, pixels * (top / np.where(alpha > 0, alpha, 1)), pixels)
        if not self.is_float:
            colours = np.floor(np.minimum(colours, top) + 0.5)
        return replace(self, pixels=colours.astype(pixels.dtype), divisor=None)


def bands_of(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of (H, W, ...) pixels, in bands of about BAND_TEXELS, without copies."""
    step = max(1, BAND_TEXELS // pixels.shape[1])
    return (pixels[first : first + step] for first in range(0, len(pixels), step))


def split_alpha(pixels: np.ndarray, premultiplied: bool = False) -> Image:
    """(H, W, 1 to 4) pixels of which the second or fourth channel is alpha, and whether colours are times that."""
    colours = pixels.shape[2] - (pixels.shape[2] % 2 == 0)
    alpha = np.ascontiguousarray(pixels[..., colours:]) if colours < pixels.shape[2] else None
    divisor, flat = alpha if premultiplied else None, None
    if alpha is not None and alpha.min() == alpha.max():
        alpha, flat = None, float(alpha.flat[0])
    return Image(np.ascontiguousarray(pixels[..., :colours]), alpha, divisor, flat_alpha=flat)


def byte_count(path: ImageFile) -> int:
    """The size of an image file."""
    return len(path.payload) if isinstance(path, ImageData) else path.stat().st_size


def pixel_limit(max_pixels: int | None) -> tuple[int, str]:
    """The most pixels to decode, and the end of an error about more: how to raise them.

    max_pixels: of the flag; None: MAX_PIXELS, in commands that have no flag.
    """
    if max_pixels is None:
        return MAX_PIXELS, ""
    return max_pixels, ", or raise --max_pixels if it is what it should be"


def check_size(path: ImageFile, width: int, height: int, max_pixels: int | None) -> None:
    """Raises: UserError for a picture without pixels, or with more than `pixel_limit` allows."""
    if width < 1 or height < 1:
        raise UserError(f"{quote(path)}: expected at least one pixel, found {width}x{height}; save the image again")
    limit, advice = pixel_limit(max_pixels)
    if width * height > limit:
        raise UserError(
            f"{quote(path)}: expected at most {limit} pixels, found {width}x{height} = {width * height}; "
            f"scale the image down{advice}"
        )
    found = byte_count(path)
    if found > width * height * MAX_BYTES_PER_PIXEL + MAX_OVERHEAD:
        raise UserError(
            f"{quote(path)}: expected far fewer bytes for {width}x{height} pixels, found {found}; save the image again"
        )


def undecodable(path: ImageFile, reason: object) -> UserError:
    reason = " ".join(str(reason).split()) or type(reason).__name__  # decoders put line breaks into their messages
    return UserError(
        f"{quote(path)}: expected {SUPPORTED}, found one that cannot be decoded ({reason}); "
        "save or copy it again, or remove it"
    )


def check_finite(path: Path, *planes: np.ndarray | None) -> None:
    """Raise UserError for NaN or infinity in the pixels of an image, its alpha or its divisor."""
    for pixels in planes:
        if pixels is None or np.isfinite(pixels).all():
            continue
        count = int((~np.isfinite(pixels)).any(axis=-1).sum())
        raise UserError(
            f"{quote(path)}: expected finite values, found NaN, infinity or values beyond float32 in {count} of "
            f"{pixels.shape[0] * pixels.shape[1]} pixels; repair them in an image editor"
        )


def open_with_pillow(path: ImageFile | BinaryIO, formats: tuple[str, ...]) -> PillowImage.Image:
    with _pillow_limit_lock:
        # Pillow's own limit is below MAX_PIXELS; ours is checked on the header before anything is decoded.
        limit, PillowImage.MAX_IMAGE_PIXELS = PillowImage.MAX_IMAGE_PIXELS, None
        try:
            return PillowImage.open(path.open() if isinstance(path, ImageData) else path, formats=formats)
        finally:
            PillowImage.MAX_IMAGE_PIXELS = limit
