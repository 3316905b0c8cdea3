"""Read image files at their full bit depth, and write PNG (design.md, section 3)."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from common.errors import UserError, quote
from common.files import open_regular
from common.opencv import import_opencv
from maps.dds_header import HEADER_BYTES, bc6h_sign, dds_note, readable_dds
from maps.dds_header import MAGIC as DDS_MAGIC
from maps.deep_images import (
    PNG_MAGIC,
    TIFF_MAGIC,
    jpeg_xl_size,
    radiance_size,
    read_bc6h,
    read_deep_png,
    read_jpeg_2000,
    read_jpeg_xl,
    read_radiance,
    read_tiff,
    tiff_tags,
)
from maps.exr import exr_parts, read_exr
from maps.exr_header import MAGIC as EXR_MAGIC
from maps.jxl_header import CODESTREAM, CONTAINER
from maps.ktx2 import KTX2_MAGIC, ktx2_size, read_ktx2
from maps.pixels import (
    SUPPORTED,
    Image,
    ImageData,
    ImageFile,
    check_finite,
    check_size,
    open_with_pillow,
    split_alpha,
    undecodable,
)
from maps.png_bands import png_bands

TGA_SUFFIXES = frozenset({".tga", ".icb", ".vda", ".vst"})  # TGA has no signature: the ending says that it is one
IMAGE_SUFFIXES = TGA_SUFFIXES | {
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".jfi", ".tif", ".tiff", ".bmp", ".dib", ".webp"),
    *(".exr", ".dds", ".gif", ".psd", ".hdr", ".rgbe", ".avif", ".jxl", ".jp2", ".j2k", ".jpf", ".jpx"),
}
MAX_SCANS = 200  # of a JPEG file: ten are usual, each takes as long as a picture, and 12 bytes are enough for one

_PILLOW_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB", "WEBP", "DDS", "GIF", "PSD", "AVIF", "JPEG2000")
_HDR_MAGIC = (b"#?RADIANCE", b"#?RGBE")
_JPEG_XL_MAGIC = (CODESTREAM, CONTAINER)
_JPEG_2000_MAGIC = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")
# First bytes of image files; RIFF is WebP, ftyp at byte 4 AVIF (see `is_image`).
_MAGIC = (EXR_MAGIC, PNG_MAGIC, b"\xff\xd8\xff", b"BM", DDS_MAGIC, b"GIF8", b"8BPS", *TIFF_MAGIC, *_HDR_MAGIC,
          *_JPEG_XL_MAGIC, *_JPEG_2000_MAGIC)  # fmt: skip
_GREY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr")
# Pillow warns about odd tags on stderr; what matters about a file is said in our one line.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def read_image(
    path: str | ImageFile, max_pixels: int | None = None, straight: bool = True, finite: bool = True
) -> Image:
    """Decode the first picture of `path`.

    The content decides the format, not the suffix (TGA has no signature and does need its suffix). Colours are kept as
    they are under alpha; premultiplied ones (TIFF ExtraSamples 1, EXR) are divided by it, if
    `straight`. Palettes, CMYK and YCbCr become RGB; 1-bit becomes 0 and 255. No colour profile, gamma tag or EXIF
    orientation is applied: a texture's values are data. (TIFF's own Orientation tag, which says where row 0 is stored,
    is obeyed.)

    Args:
        max_pixels: largest width x height to decode, checked on the header; None: see `pixels.pixel_limit`.
        finite: refuse NaN and infinity.
    Raises: UserError when the file is missing, empty, truncated, larger than `max_pixels`, not one of the formats,
        holds what `finite` refuses, or needs a package that is not installed.
    """
    path = path if isinstance(path, ImageData) else Path(path)
    head = _read_head(path)
    with _quiet_decoders:
        image = _read(path, head, max_pixels)
        if image.is_float and finite:
            check_finite(path, image.pixels, image.alpha, image.divisor)
        return image.straight if straight else image


def image_size(path: ImageFile, max_pixels: int | None) -> tuple[int, int]:
    """(width, height) of the picture that `read_image` decodes, from the header alone.

    Raises: UserError when there is no such header, or when it promises more than `max_pixels`; OSError.
    """
    head = _read_head(path)
    try:
        if head.startswith(KTX2_MAGIC):
            size = ktx2_size(head)
        elif head.startswith(EXR_MAGIC):
            size = exr_parts(path, max_pixels)[0].display
        elif head.startswith(_HDR_MAGIC):
            size = radiance_size(path)
        elif head.startswith(_JPEG_XL_MAGIC):
            size = jpeg_xl_size(path)
        elif head.startswith(TIFF_MAGIC):
            size = tiff_tags(path).size
        else:
            with _open(path) as picture:
                size = picture.size
    except ValueError as error:
        raise undecodable(path, error) from error
    check_size(path, *size, max_pixels)
    return size


def _read(path: ImageFile, head: bytes, max_pixels: int | None) -> Image:
    if head.startswith(KTX2_MAGIC):
        return read_ktx2(path, max_pixels)
    if head.startswith(EXR_MAGIC):
        return read_exr(path, max_pixels)
    if head.startswith(_HDR_MAGIC):
        return read_radiance(path, max_pixels)
    if head.startswith(_JPEG_XL_MAGIC):
        return read_jpeg_xl(path, max_pixels)
    if head.startswith(_JPEG_2000_MAGIC):
        return read_jpeg_2000(path, max_pixels)
    if head.startswith(DDS_MAGIC):
        return _read_dds(path, head, max_pixels)
    special = read_tiff(path, max_pixels) if head.startswith(TIFF_MAGIC) else read_deep_png(path, head, max_pixels)
    return special or _read_with_pillow(path, max_pixels)


def _read_dds(path: Path, head: bytes, max_pixels: int | None) -> Image:
    """The first picture; BC6H as float where the imagecodecs package is installed."""
    note, sign = dds_note(head), bc6h_sign(head)
    image = read_bc6h(path, sign, max_pixels) if sign else None
    if sign and not image:
        clipped = "BC6H, clipped to 8 bits; pip install -r requirements/codecs.txt reads it as float"
        note = f"{note}; {clipped}" if note else clipped
    return replace(image or _read_with_pillow(path, max_pixels), note=note)


def is_image(path: Path) -> bool:
    """Whether the first bytes of a file are those of an image that `read_image` knows, whatever its name ends with."""
    try:
        with open_regular(path) as stream:
            head = stream.read(32)
    except OSError:
        return False
    return head.startswith(_MAGIC) or head[:4] + head[8:12] == b"RIFFWEBP" or head[4:12] in (b"ftypavif", b"ftypavis")


class _QuietDecoders:
    """Context in which the process's stderr is discarded; any number of threads may be inside.

    libpng, libtiff and OpenEXR print lines about a damaged file from native code; the UserError names the file and a
    remedy.
    """

    def __init__(self):
        self.lock, self.inside, self.kept = threading.Lock(), 0, -1

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                with contextlib.suppress(OSError):  # a process may have no stderr
                    sys.stderr.flush()
                    self.kept = os.dup(2)
                    with open(os.devnull, "wb") as nothing:  # noqa: PTH123  # only its descriptor is used
                        os.dup2(nothing.fileno(), 2)

    def __exit__(self, *_) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0 and self.kept >= 0:
                os.dup2(self.kept, 2)
                os.close(self.kept)
                self.kept = -1


_quiet_decoders = _QuietDecoders()


def encode_png(pixels: np.ndarray, quick: bool = False) -> bytes:
    """(H, W, 1 or 3) uint8 or uint16, (H, W, 4) uint8 -> the bytes of a PNG file; `quick` makes those of uint8 sooner
    and larger."""
    if quick and pixels.dtype == np.uint8:
        return b"".join(png_bands(pixels.shape, pixels.__getitem__))
    if pixels.dtype == np.uint16 and pixels.shape[2] == 3:  # the one kind that Pillow cannot write
        return import_opencv("writing 16-bit RGB").imencode(".png", pixels[..., ::-1])[1].tobytes()
    stream = io.BytesIO()
    picture = PillowImage.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    picture.save(stream, "PNG")
    return stream.getvalue()


def _read_head(path: ImageFile) -> bytes:
    if isinstance(path, ImageData):
        return _model_head(path)
    try:
        with open_regular(path) as stream:
            head = stream.read(HEADER_BYTES)
    except OSError as error:
        raise UserError(
            f"{quote(path)}: expected {SUPPORTED}, but it cannot be opened ({error.strerror}); "
            "check the path and its permissions"
        ) from error
    if not head:
        raise UserError(f"{quote(path)}: expected {SUPPORTED}, found an empty file; copy it again or remove it")
    return head


def _model_head(path: ImageData) -> bytes:
    """The first bytes of an image of a glTF model, which knows three formats, and a fourth by an extension."""
    head = path.payload[:HEADER_BYTES]
    if head.startswith((PNG_MAGIC, b"\xff\xd8\xff", KTX2_MAGIC)) or head[:4] + head[8:12] == b"RIFFWEBP":
        return head
    found = "an empty one" if not head else "one of another kind"
    raise UserError(f"{quote(path)}: expected a PNG, JPEG, WebP or KTX2 image, found {found}; export the model again")


def _check_scans(path: ImageFile) -> None:
    """Refuse a JPEG file with more scans than anyone writes: each makes the decoder go over the whole picture."""
    scans = path.read_bytes().count(b"\xff\xda")
    if scans > MAX_SCANS:
        raise UserError(f"{quote(path)}: expected at most {MAX_SCANS} scans, found {scans}; save the JPEG again")


def _open(path: ImageFile) -> PillowImage.Image:
    """The picture with its header read. Raises: UserError when Pillow knows no such header."""
    try:
        formats = _PILLOW_FORMATS + ("TGA",) * (path.suffix.lower() in TGA_SUFFIXES)
        return open_with_pillow(readable_dds(path), formats)
    except PillowImage.UnidentifiedImageError as error:
        raise UserError(
            f"{quote(path)}: expected {SUPPORTED}, found a file of another kind or a broken header; "
            "save it again in one of these formats, or remove it"
        ) from error
    except Exception as error:  # as above
        raise undecodable(path, error) from error


def _read_with_pillow(path: ImageFile, max_pixels: int | None) -> Image:
    try:
        with _open(path) as picture:
            check_size(path, *picture.size, max_pixels)
            if picture.format in ("JPEG", "MPO"):
                _check_scans(path)
            picture.load()
            alpha = "transparency" in picture.info or picture.mode in ("LA", "RGBA", "PA")
            if picture.mode in _GREY_MODES:
                pixels = np.array(picture.convert("LA" if alpha else "L"))
            elif picture.mode in _COLOUR_MODES:
                mode = "RGBA" if alpha else "RGB"
                pixels = np.array(picture if picture.mode == mode else picture.convert(mode))
            else:
                raise undecodable(path, f"colour mode {picture.mode}")
    except UserError:
        raise
    except Exception as error:  # a decoder that meets a broken file raises anything from SyntaxError to struct.error
        raise undecodable(path, error) from error
    return split_alpha(pixels.reshape(pixels.shape[0], pixels.shape[1], -1))
