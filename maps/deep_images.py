"""Files with more than 8 bits per channel, and those that Pillow misreads or does not know: TIFF, HDR, JPEG XL."""

from __future__ import annotations

import functools
import importlib
import io
import re
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import TiffImagePlugin

from common.errors import UserError, quote
from common.opencv import import_opencv
from maps.dds_header import HEADER_BYTES
from maps.jxl_header import jxl_size
from maps.orientation import upright
from maps.pixels import (
    Image,
    check_size,
    open_with_pillow,
    split_alpha,
    undecodable,
)

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # TIFF 6.0 and BigTIFF, both byte orders
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_ANIMATION_CHUNKS = (b"acTL", b"fcTL", b"fdAT")  # of APNG
_HDR_SIZE = re.compile(rb"\n-Y (\d{1,6}) \+X (\d{1,6})\n")
# Compressions of TIFF that OpenCV and Pillow read: none, CCITT, LZW, JPEG, Deflate, PackBits.
_TIFF_COMPRESSIONS = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946}
_TIFF_NAMES = {34887: "LERC", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL"}
_opencv_log_lock = threading.Lock()  # OpenCV's log level is the whole process's


@dataclass(frozen=True)
class _Layout:
    """What the header of a file promises."""

    width: int
    height: int
    grey: bool
    dtype: type
    premultiplied: bool = False  # colours are multiplied with alpha


# --- TIFF ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tags:
    """The tags of a TIFF file's first picture, TIFF 6.0, section 8; of a list its first value."""

    width: int
    height: int
    bits: int
    compression: int
    photometric: int | None  # None: not there
    orientation: int
    samples: int
    planar: int
    extra: int  # ExtraSamples; 1: premultiplied alpha
    sample_format: int  # 1 unsigned, 2 signed, 3 float

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the upright picture."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_tiff(path: Path, max_pixels: int | None) -> Image | None:
    """A TIFF file's first picture; None for one that Pillow reads right."""
    tags = tiff_tags(path)
    turned = tags.orientation >= 5
    known = tags.compression in _TIFF_COMPRESSIONS
    untold = tags.photometric is None and tags.samples == 1
    if tags.bits <= 8 and tags.sample_format == 1 and known and not untold:
        return _read_turned(path, max_pixels) if turned else None
    formats = {(8, 1): np.uint8, (16, 1): np.uint16, (32, 3): np.float32, (64, 3): np.float64}
    dtype = formats.get((tags.bits, tags.sample_format))
    # OpenCV 5 reads separate planes as if they were interleaved and white-is-zero as black-is-zero, without a word.
    if dtype is None or tags.planar != 1 or tags.photometric not in (1, 2, None) or tags.samples not in (1, 3, 4):
        raise UserError(
            f"{quote(path)}: expected a TIFF of interleaved 8- or 16-bit integers or 32-bit floats, grey or RGB(A), "
            f"found {tags.samples} samples of {tags.bits} bits (SampleFormat {tags.sample_format}, PlanarConfiguration "
            f"{tags.planar}, Photometric {tags.photometric}); save it as 16-bit PNG"
        )
    check_size(path, *tags.size, max_pixels)
    premultiplied = tags.samples == 4 and tags.extra == 1
    if not known:
        return _read_tiff_with_imagecodecs(path, tags, premultiplied)
    if untold and tags.bits <= 16:
        return _read_grey_with_pillow(path, tags.bits)
    return read_with_opencv(path, _Layout(*tags.size, tags.samples == 1, dtype, premultiplied))


def tiff_tags(path: Path) -> _Tags:
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
            head += stream.read(8) if b"+" in head[2:4] else b""
            tags = TiffImagePlugin.ImageFileDirectory_v2(head)
            stream.seek(tags.next)
            tags.load(stream)
        numbers = [(256, 0), (257, 0), (258, 1), (259, 1), (262, -1), (274, 1), (277, 1), (284, 1), (338, 0), (339, 1)]
        values = [int(np.atleast_1d(tags.get(tag, default))[0]) for tag, default in numbers]
    except Exception as error:  # broken tags raise anything
        raise undecodable(path, error) from error
    values[4] = None if values[4] < 0 else values[4]
    return _Tags(*values)


def _read_turned(path: Path, max_pixels: int | None) -> Image:
    """A TIFF whose rows are columns, from memory: of a file on disk Pillow 13 mixes up the pixels."""
    try:
        with open_with_pillow(io.BytesIO(path.read_bytes()), ("TIFF",)) as picture:
            check_size(path, *picture.size, max_pixels)
            picture.load()
            pixels = np.array(picture if picture.mode in ("L", "LA", "RGB", "RGBA") else picture.convert("RGB"))
    except UserError:
        raise
    except Exception as error:  # a decoder that meets a broken file raises anything
        raise undecodable(path, error) from error
    return split_alpha(pixels.reshape(pixels.shape[0], pixels.shape[1], -1))


def _read_grey_with_pillow(path: Path, bits: int) -> Image:
    """A grey TIFF without a photometric tag, black as zero: Pillow takes 8 bits as white is zero."""
    try:
        with open_with_pillow(path, ("TIFF",)) as picture:
            picture.load()
            pixels = np.array(picture if bits > 8 else picture.convert("L"))
    except Exception as error:  # a decoder that meets a broken file raises anything
        raise undecodable(path, error) from error
    return Image((pixels.astype(np.uint16) if bits > 8 else 255 - pixels)[..., None])


def _read_tiff_with_imagecodecs(path: Path, tags: _Tags, premultiplied: bool) -> Image:
    name = _TIFF_NAMES.get(tags.compression, f"method {tags.compression}")
    imagecodecs = _import_imagecodecs(path, f"TIFF files compressed with {name}", "save it with Deflate or LZW")
    try:
        pixels = imagecodecs.tiff_decode(path.read_bytes())
        pixels = pixels.reshape(tags.height, tags.width, tags.samples)
    except Exception as error:  # as above
        raise undecodable(path, error) from error
    pixels = np.ascontiguousarray(upright(pixels, tags.orientation))
    return _image_of(path, pixels, premultiplied)


# --- through OpenCV ------------------------------------------------------------------------------------------------


def read_deep_png(path: Path, head: bytes, max_pixels: int | None) -> Image | None:
    """A PNG file with 16 bits per channel; None for other files. `head`: its first 26 bytes or more."""
    if not head.startswith(PNG_MAGIC) or head[12:16] != b"IHDR" or len(head) < 26 or head[24] != 16:
        return None
    width, height, _, colour_type = struct.unpack(">IIBB", head[16:26])
    check_size(path, width, height, max_pixels)
    try:
        with open_with_pillow(path, ("PNG",)) as picture:
            picture.verify()  # every checksum, so that libpng never gets to print its own errors
    except Exception as error:  # as above
        raise undecodable(path, error) from error
    payload = np.frombuffer(_without_animation(path.read_bytes()), np.uint8)
    return read_with_opencv(path, _Layout(width, height, colour_type in (0, 4), np.uint16), payload)


def _without_animation(payload: bytes) -> bytes:
    """A PNG file without the chunks of an animation: OpenCV returns zeros for a default picture outside of it."""
    if b"acTL" not in payload[:4096]:
        return payload
    kept, place = [payload[:8]], 8
    while place + 12 <= len(payload):
        end = place + 12 + int.from_bytes(payload[place : place + 4], "big")
        if payload[place + 4 : place + 8] not in _ANIMATION_CHUNKS:
            kept.append(payload[place:end])
        place = end
    return b"".join(kept)


def read_radiance(path: Path, max_pixels: int | None) -> Image:
    """A Radiance HDR file: float32 RGB, linear."""
    size = radiance_size(path)
    check_size(path, *size, max_pixels)
    return read_with_opencv(path, _Layout(*size, False, np.float32))


def radiance_size(path: Path) -> tuple[int, int]:
    """(width, height) of a Radiance HDR file, from its header."""
    with path.open("rb") as stream:
        size = _HDR_SIZE.search(stream.read(4096))
    if not size:
        raise undecodable(path, "no size of the form -Y height +X width in its header")
    return int(size[2]), int(size[1])


def read_jpeg_2000(path: Path, max_pixels: int | None) -> Image:
    """A JPEG 2000 file of 8 or 16 bits."""
    try:
        with open_with_pillow(path, ("JPEG2000",)) as picture:
            (width, height), mode = picture.size, picture.mode
            grey = mode in ("L", "LA", "I;16")
            check_size(path, width, height, max_pixels)
            if mode == "LA" and _jpeg_2000_bits(path) <= 8:
                return split_alpha(np.array(picture))
    except UserError:
        raise
    except Exception as error:  # as above
        raise undecodable(path, error) from error
    if mode == "LA":  # OpenCV reads no two channels, Pillow only 8 bits of them
        imagecodecs = _import_imagecodecs(path, "JPEG 2000 files of 16-bit grey and alpha", "save it as 16-bit PNG")
        return _decoded(path, imagecodecs.jpeg2k_decode)
    return read_with_opencv(path, _Layout(width, height, grey, np.integer))


def _jpeg_2000_bits(path: Path) -> int:
    """Bits of the first channel. Source: ISO/IEC 15444-1, A.5.1: Ssiz in the marker segment SIZ."""
    payload = path.read_bytes()
    return (payload[payload.index(b"\xff\x4f\xff\x51") + 42] & 0x7F) + 1


def read_with_opencv(path: Path, layout: _Layout, payload: np.ndarray | None = None) -> Image:
    """The picture of a file, or of `payload`, its bytes; Raises: UserError where it is not what `layout` says."""
    cv2 = import_opencv(f"{quote(path)}: reading more than 8 bits per channel")
    logging = getattr(cv2.utils, "logging", cv2)  # OpenCV 5, OpenCV 4
    try:
        with _opencv_log_lock:
            level = logging.getLogLevel()
            try:
                logging.setLogLevel(0)  # its complaints about a broken file would surround our one line
                # imdecode rather than imread: file names that are not in the system's code page work too
                source = np.fromfile(path, np.uint8) if payload is None else payload
                pixels = cv2.imdecode(source, cv2.IMREAD_UNCHANGED)
            finally:
                logging.setLogLevel(level)
    except Exception as error:  # as above
        raise undecodable(path, error) from error
    right = pixels is not None and np.issubdtype(pixels.dtype, layout.dtype)
    if not right or pixels.shape[:2] != (layout.height, layout.width):
        found = "truncated or damaged data" if pixels is None else f"{pixels.dtype} {pixels.shape}"
        raise undecodable(path, found)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape[2] > 2:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]  # B, G, R[, A] -> R, G, B[, A]
    if layout.grey and pixels.shape[2] > 2:
        pixels = pixels[..., [0, 3] if pixels.shape[2] == 4 else [0]]
    return _image_of(path, pixels, layout.premultiplied)


def _image_of(path: Path, pixels: np.ndarray, premultiplied: bool) -> Image:
    if pixels.dtype.kind == "f":
        pixels = pixels.astype(np.float32)
    return split_alpha(pixels, premultiplied)


# --- through imagecodecs -------------------------------------------------------------------------------------------


def read_jpeg_xl(path: Path, max_pixels: int | None) -> Image:
    """A JPEG XL file, where the imagecodecs package is installed."""
    check_size(path, *jpeg_xl_size(path), max_pixels)
    imagecodecs = _import_imagecodecs(path, "JPEG XL files", "convert it to PNG")
    return _decoded(path, functools.partial(imagecodecs.jpegxl_decode, index=0))  # of an animation the first picture


def _decoded(path: Path, decode: Callable[[bytes], Any]) -> Image:
    """What a decoder of imagecodecs makes of a file."""
    try:
        pixels = np.asarray(decode(path.read_bytes()))
    except Exception as error:  # as above
        raise undecodable(path, error) from error
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype not in (np.uint8, np.uint16, np.float32) or not 1 <= pixels.shape[2] <= 4:
        raise undecodable(path, f"{pixels.dtype} {pixels.shape}")
    return _image_of(path, pixels, False)


def read_bc6h(path: Path, sign: int, max_pixels: int | None) -> Image | None:
    """A DDS file of BC6H, unsigned or signed (sign -1), as float; None where imagecodecs is not installed."""
    try:
        imagecodecs = importlib.import_module("imagecodecs")
    except ImportError:
        return None
    payload = path.read_bytes()
    height, width = struct.unpack_from("<2I", payload, 12)
    check_size(path, width, height, max_pixels)
    rows, columns = -(-height // 4), -(-width // 4)  # blocks of 4x4 texels, 16 bytes each
    blocks = payload[HEADER_BYTES : HEADER_BYTES + rows * columns * 16]
    if len(blocks) < rows * columns * 16:
        raise undecodable(path, "truncated data")
    pixels = imagecodecs.bcn_decode(blocks, sign * 6, shape=(rows * 4, columns * 4, 3))
    return _image_of(path, pixels[:height, :width], False)


def jpeg_xl_size(path: Path) -> tuple[int, int]:
    """(width, height) of a JPEG XL file, from its header."""
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    try:
        return jxl_size(head)
    except ValueError as error:
        raise undecodable(path, error) from error


def _import_imagecodecs(path: Path, what: str, otherwise: str) -> Any:
    try:
        return importlib.import_module("imagecodecs")
    except ImportError as error:
        raise UserError(
            f"{quote(path)}: expected an image that can be read here, but {what} need the imagecodecs package, found "
            f"none; pip install -r requirements/codecs.txt, or {otherwise}"
        ) from error
