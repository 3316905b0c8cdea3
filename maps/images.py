"""Read image files at their full bit depth, and write PNG (design.md, section 3)."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image as PillowImage
from PIL import TiffImagePlugin

from common.errors import UserError, quote
from common.files import open_regular
from common.opencv import import_opencv
from configs import MAX_PIXELS
from maps.exr_header import MAGIC as EXR_MAGIC
from maps.exr_header import MAX_HEADER_BYTES, ExrPart, parse_exr_header

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".tga", ".bmp", ".webp", ".exr"})
MAX_BYTES_PER_PIXEL = 32  # of a file: four 64-bit floats; metadata has MAX_OVERHEAD
MAX_OVERHEAD = 64 << 20
EXR_BYTES_PER_PIXEL = 16  # four floats; times --max_pixels it bounds all channels of a file
MAX_SCANS = 200  # of a JPEG file: ten are usual; each takes as long as a picture but may have only 12 bytes

# PNG files of this project: run lengths instead of matches are a third faster than zlib's level 1, 3 % smaller, and 2 %
# larger than level 6, which takes several times as long (decoded | source | error of Rock058).
_QUICK = {"compress_level": 1, "compress_type": zlib.Z_RLE}

_PILLOW_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_SUPPORTED = "a PNG, JPEG, TIFF, TGA, BMP, WebP or EXR image"
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # TIFF 6.0 and BigTIFF, both byte orders
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_GREY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr")
# Pillow warns about odd tags on stderr; an error of a file is one line, a UserError.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
_pillow_limit_lock = threading.Lock()
_exr_print_lock = threading.Lock()  # sys.stdout is the whole process's
_opencv_log_lock = threading.Lock()  # its log level is the whole process's


@dataclass(frozen=True)
class Image:
    """The decoded pixels of one file.

    pixels: (H, W, C), C is 1 (grey) or 3 (R, G, B); uint8 or uint16 as the file stores them, float32 for EXR and
        float TIFF, finite but of any range. Row 0 is the top.
    """

    pixels: np.ndarray

    @property
    def is_float(self) -> bool:
        return self.pixels.dtype == np.float32


@dataclass(frozen=True)
class _Layout:
    """The header of a file with more than 8 bits per channel: what decoding has to return."""

    width: int
    height: int
    grey: bool
    dtype: type
    png: bool = False


def read_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode the first picture of `path`.

    The content decides the format, not the suffix (TGA has no signature and does need its suffix). Alpha is dropped
    and colours are kept as they are under it; palettes, CMYK and YCbCr become RGB; 1-bit becomes 0 and 255. No colour
    profile, gamma tag or EXIF orientation is applied: a texture's values are data. (TIFF's own Orientation tag, the
    place of row 0 in the file, is obeyed.)

    Args:
        max_pixels: largest width x height to decode, checked on the header.
    Raises: UserError when the file is missing, empty, truncated, larger than `max_pixels`, not one of the formats,
        holds NaN or infinity, or needs a package that is not installed.
    """
    path = Path(path)
    head = _read_head(path)
    with _quiet_decoders:
        return _read(path, head, max_pixels)


def image_size(path: Path, max_pixels: int) -> tuple[int, int]:
    """(width, height) of the picture that `read_image` decodes, from the header alone.

    Raises: UserError when there is no such header, or when it promises more than `max_pixels`; OSError.
    """
    head = _read_head(path)
    if head.startswith(EXR_MAGIC):
        try:
            first = _exr_parts(path, max_pixels)[0]
        except ValueError as error:
            raise _undecodable(path, error) from error
        return first.width, first.height
    layout = _deep_layout(path, head)
    if layout is not None:
        size = layout.width, layout.height
    else:
        with _open_with_pillow(path) as picture:
            size = picture.size
    _check_size(path, *size, max_pixels)
    return size


def _read(path: Path, head: bytes, max_pixels: int) -> Image:
    if head.startswith(EXR_MAGIC):
        return Image(_read_exr(path, max_pixels))
    layout = _deep_layout(path, head)
    if layout is None:
        return Image(_read_with_pillow(path, max_pixels))
    _check_size(path, layout.width, layout.height, max_pixels)
    return Image(_read_with_opencv(path, layout))


def _deep_layout(path: Path, head: bytes) -> _Layout | None:
    """The layout of a file that Pillow would cut to 8 bits or does not know; None for the others."""
    if head.startswith(_TIFF_MAGIC):
        return _tiff_layout(path)
    if head.startswith(_PNG_MAGIC) and head[12:16] == b"IHDR" and len(head) >= 26:
        width, height, bits, colour_type = struct.unpack(">IIBB", head[16:26])
        if bits == 16:
            return _Layout(width, height, grey=colour_type in (0, 4), dtype=np.uint16, png=True)
    return None


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
    """(H, W, 1 or 3) uint8 or uint16 -> the bytes of a PNG file; `quick` trades size for time."""
    if pixels.dtype == np.uint16 and pixels.shape[2] == 3:  # the one kind that Pillow cannot write
        return import_opencv("writing 16-bit RGB").imencode(".png", pixels[..., ::-1])[1].tobytes()
    stream = io.BytesIO()
    picture = PillowImage.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    picture.save(stream, "PNG", **(_QUICK if quick else {}))
    return stream.getvalue()


def write_png(stream: BinaryIO, height: int, width: int, bands: Iterable[np.ndarray]) -> None:
    """Write a PNG file from bands (rows, W, 1 or 3) uint8, top first. Pillow's copy, 4 bytes a pixel in colour, is then
    the only one of the whole picture."""
    bands = iter(bands)
    first = next(bands)
    picture, top = PillowImage.new("RGB" if first.shape[2] == 3 else "L", (width, height)), 0
    for band in itertools.chain([first], bands):
        picture.paste(PillowImage.fromarray(band[..., 0] if band.shape[2] == 1 else band), (0, top))
        top += len(band)
    picture.save(stream, "PNG", **_QUICK)


def _read_head(path: Path) -> bytes:
    try:
        with open_regular(path) as stream:
            head = stream.read(32)
    except OSError as error:
        raise UserError(
            f"{quote(path)}: expected {_SUPPORTED}, but it cannot be opened ({error.strerror}); "
            "check the path and its permissions"
        ) from error
    if not head:
        raise UserError(f"{quote(path)}: expected {_SUPPORTED}, found an empty file; copy it again or remove it")
    return head


def _check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise UserError(f"{quote(path)}: expected at least one pixel, found {width}x{height}; save the image again")
    if width * height > max_pixels:
        raise UserError(
            f"{quote(path)}: expected at most {max_pixels} pixels, found {width}x{height} = {width * height}; "
            "scale the image down, or raise --max_pixels if it is what it should be"
        )
    found = path.stat().st_size
    if found > width * height * MAX_BYTES_PER_PIXEL + MAX_OVERHEAD:
        raise UserError(
            f"{quote(path)}: expected far fewer bytes for {width}x{height} pixels, found {found}; save the image again"
        )


def _check_scans(path: Path) -> None:
    """Refuse a JPEG file with absurdly many scans: the decoder passes over the whole picture for each."""
    scans = path.read_bytes().count(b"\xff\xda")
    if scans > MAX_SCANS:
        raise UserError(f"{quote(path)}: expected at most {MAX_SCANS} scans, found {scans}; save the JPEG again")


def _undecodable(path: Path, reason: object) -> UserError:
    reason = " ".join(str(reason).split()) or type(reason).__name__  # decoders put line breaks into their messages
    return UserError(
        f"{quote(path)}: expected {_SUPPORTED}, found one that cannot be decoded ({reason}); "
        "save or copy it again, or remove it"
    )


def _open_with_pillow(path: Path) -> PillowImage.Image:
    """The picture with its header read. Raises: UserError when Pillow knows no such header."""
    formats = _PILLOW_FORMATS + ("TGA",) * (path.suffix.lower() == ".tga")
    with _pillow_limit_lock:
        # Pillow's own limit is below MAX_PIXELS; ours is checked on the header before anything is decoded.
        limit, PillowImage.MAX_IMAGE_PIXELS = PillowImage.MAX_IMAGE_PIXELS, None
        try:
            return PillowImage.open(path, formats=formats)
        except PillowImage.UnidentifiedImageError as error:
            raise UserError(
                f"{quote(path)}: expected {_SUPPORTED}, found a file of another kind or a broken header; "
                "save it again in one of these formats, or remove it"
            ) from error
        except Exception as error:  # decoders raise anything from SyntaxError to struct.error
            raise _undecodable(path, error) from error
        finally:
            PillowImage.MAX_IMAGE_PIXELS = limit


def _read_with_pillow(path: Path, max_pixels: int) -> np.ndarray:
    try:
        with _open_with_pillow(path) as picture:
            _check_size(path, *picture.size, max_pixels)
            if picture.format in ("JPEG", "MPO"):
                _check_scans(path)
            picture.load()
            picture.info.pop("transparency", None)  # else Pillow warns when it turns a palette into RGB
            if picture.mode in _GREY_MODES:
                pixels = np.array(picture.convert("L"))
            elif picture.mode in _COLOUR_MODES:
                pixels = np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
            else:
                raise _undecodable(path, f"colour mode {picture.mode}")
    except UserError:
        raise
    except Exception as error:  # as above
        raise _undecodable(path, error) from error
    return pixels.reshape(pixels.shape[0], pixels.shape[1], -1)


def _tiff_layout(path: Path) -> _Layout | None:
    """None for a TIFF that Pillow reads in full, else what OpenCV has to return. Tags: TIFF 6.0, section 8."""
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
            head += stream.read(8) if b"+" in head[2:4] else b""
            tags = TiffImagePlugin.ImageFileDirectory_v2(head)
            stream.seek(tags.next)
            tags.load(stream)
        width, height, bits, photometric, orientation, samples, planar, sample_format = (
            int(np.atleast_1d(tags.get(tag, default))[0])
            for tag, default in ((256, 0), (257, 0), (258, 1), (262, 1), (274, 1), (277, 1), (284, 1), (339, 1))
        )
    except Exception as error:  # as above: broken tags raise anything
        raise _undecodable(path, error) from error
    if bits <= 8:
        return None
    dtype = {(16, 1): np.uint16, (32, 3): np.float32, (64, 3): np.float64}.get((bits, sample_format))
    # OpenCV 5 reads separate planes as if they were interleaved and white-is-zero as black-is-zero, without a word.
    if dtype is None or planar != 1 or photometric not in (1, 2) or samples not in (1, 3, 4):
        raise UserError(
            f"{quote(path)}: expected a TIFF of interleaved 8- or 16-bit integers or 32-bit floats, grey or RGB(A), "
            f"found {samples} samples of {bits} bits (SampleFormat {sample_format}, PlanarConfiguration {planar}, "
            f"Photometric {photometric}); save it as 16-bit PNG"
        )
    width, height = (height, width) if orientation >= 5 else (width, height)  # Pillow and OpenCV obey this tag
    return _Layout(width, height, grey=samples == 1, dtype=dtype)


def _read_with_opencv(path: Path, layout: _Layout) -> np.ndarray:
    cv2 = import_opencv(f"{quote(path)}: reading more than 8 bits per channel")
    logging = getattr(cv2.utils, "logging", cv2)  # OpenCV 5, OpenCV 4
    try:
        if layout.png:
            with _open_with_pillow(path) as picture:
                picture.verify()  # every checksum, so that libpng never gets to print its own errors
        with _opencv_log_lock:
            level = logging.getLogLevel()
            try:
                logging.setLogLevel(0)  # OpenCV prints lines of its own about a broken file
                # imdecode rather than imread: file names that are not in the system's code page work too
                pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
            finally:
                logging.setLogLevel(level)
    except UserError:
        raise
    except Exception as error:  # as above
        raise _undecodable(path, error) from error
    if pixels is None or pixels.shape[:2] != (layout.height, layout.width) or pixels.dtype != layout.dtype:
        found = "truncated or damaged data" if pixels is None else f"{pixels.dtype} {pixels.shape}"
        raise _undecodable(path, found)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels[..., 2::-1]  # B, G, R[, A] -> R, G, B
    if layout.grey:
        pixels = pixels[..., :1]
    if layout.dtype != np.uint16:
        pixels = _finite(path, pixels.astype(np.float32))
    return np.ascontiguousarray(pixels)


def _read_exr(path: Path, max_pixels: int) -> np.ndarray:
    """(H, W, C) float32 of the first part's data window."""
    try:
        import OpenEXR
    except ImportError as error:
        raise UserError(
            f"{quote(path)}: reading EXR needs the OpenEXR package, which is not installed; pip install OpenEXR"
        ) from error
    if not hasattr(OpenEXR, "File"):
        raise UserError(f"{quote(path)}: reading EXR needs OpenEXR 3.3 or newer; pip install --upgrade OpenEXR")
    try:
        parts = _exr_parts(path, max_pixels)
        names = _exr_channels(path, parts[0])
        with _exr_print_lock, contextlib.redirect_stdout(io.StringIO()):  # it prints about parts that it skips
            file = OpenEXR.File(str(path), separate_channels=True)
        if len(file.parts) != len(parts):
            raise ValueError(f"{len(file.parts)} of its {len(parts)} parts can be read")
        channels = file.channels(0)
        pixels = np.stack([channels[name].pixels.astype(np.float32) for name in names], axis=-1)
        if pixels.shape[:2] != (parts[0].height, parts[0].width):
            raise ValueError(f"{pixels.shape} instead of {parts[0].height} x {parts[0].width} pixels")
    except UserError:
        raise
    except Exception as error:  # as above
        raise _undecodable(path, error) from error
    return _finite(path, pixels)


def _exr_parts(path: Path, max_pixels: int) -> Sequence[ExrPart]:
    """The parts of a file, the first of which is read. OpenEXR decodes all channels of all parts, whichever are used:
    more than `max_pixels` of four floats are refused. Raises: UserError, or ValueError for a damaged header."""
    with open_regular(path) as stream:
        parts = parse_exr_header(stream.read(MAX_HEADER_BYTES))
    _check_size(path, parts[0].width, parts[0].height, max_pixels)
    if any(part.width < 1 or part.height < 1 for part in parts):
        raise ValueError("a part without pixels")
    total = sum(part.nbytes for part in parts)
    if total > max_pixels * EXR_BYTES_PER_PIXEL:
        raise UserError(
            f"{quote(path)}: expected at most {max_pixels} pixels of {EXR_BYTES_PER_PIXEL} bytes, found {total} bytes "
            f"in {sum(len(part.channels) for part in parts)} channels of {len(parts)} parts; save the map alone, or "
            "raise --max_pixels"
        )
    return parts


def _exr_channels(path: Path, part: ExrPart) -> list[str]:
    """Names of the channels to read: R, G, B, else those of the only layer, else the only one besides alpha."""
    found = [name for name in part.channels if name.rpartition(".")[2].upper() != "A"]
    names = found
    if {"R", "G", "B"} <= set(found):
        names = ["R", "G", "B"]
    elif len(found) == 3:
        by_letter = {name.rpartition(".")[2].upper(): name for name in found}
        names = [by_letter[letter] for letter in "RGB" if letter in by_letter]
    deep = part.deep
    subsampled = any((across, down) != (1, 1) for _, across, down in part.channels.values())
    if len(names) not in (1, 3) or deep or subsampled:
        kind = "deep data" if deep else "subsampled channels" if subsampled else "channels"
        raise UserError(
            f"{quote(path)}: expected an EXR with flat channels R, G, B, or Y, or a single one, "
            f"found {kind} {', '.join(map(repr, found))[:200] or 'none'}; save it as a plain RGB or grey EXR"
        )
    return names


def _finite(path: Path, pixels: np.ndarray) -> np.ndarray:
    if not np.isfinite(pixels).all():
        count = int((~np.isfinite(pixels)).any(axis=-1).sum())
        raise UserError(
            f"{quote(path)}: expected finite values, found NaN, infinity or values beyond float32 in {count} of "
            f"{pixels.shape[0] * pixels.shape[1]} pixels; repair them in an image editor"
        )
    return pixels
