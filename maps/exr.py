"""OpenEXR files -> pixels of the display window, and pixels -> OpenEXR files."""

from __future__ import annotations

import contextlib
import io
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError, quote
from common.files import open_regular
from maps.exr_header import MAX_HEADER_BYTES, ExrPart, parse_exr_header
from maps.pixels import Image, check_size, pixel_limit, split_alpha, undecodable

EXR_BYTES_PER_PIXEL = 16  # of all its channels: four floats; with every pixel that --max_pixels allows
_exr_print_lock = threading.Lock()  # sys.stdout is the whole process's


def read_exr(path: Path, max_pixels: int | None) -> Image:
    """float32 pixels of the first part's display window: 0 outside of the data window, which may also reach beyond.

    Colours of a part with alpha are premultiplied (OpenEXR, "Technical Introduction").
    """
    OpenEXR = _import_openexr(f"{quote(path)}: reading EXR")
    try:
        parts = exr_parts(path, max_pixels)
        names = _exr_channels(path, parts[0])
        with _exr_print_lock, contextlib.redirect_stdout(io.StringIO()):  # it prints about parts that it leaves out
            file = OpenEXR.File(str(path), separate_channels=True)
        if len(file.parts) != len(parts):
            raise ValueError(f"{len(file.parts)} of its {len(parts)} parts can be read")
        channels = file.channels(0)
        alpha = [name for name in parts[0].channels if name.rpartition(".")[2].upper() == "A"][:1]
        empty = np.zeros((parts[0].height, parts[0].width), np.float32)
        planes = [channels[name].pixels.astype(np.float32) if name else empty for name in names + alpha]
        pixels = np.stack(planes, axis=-1)
        if pixels.shape[:2] != (parts[0].height, parts[0].width):
            raise ValueError(f"{pixels.shape} instead of {parts[0].height} x {parts[0].width} pixels")
    except UserError:
        raise
    except Exception as error:  # as above
        raise undecodable(path, error) from error
    return split_alpha(_in_display_window(pixels, parts[0]), bool(alpha))


def encode_exr(pixels: np.ndarray, half: bool = False) -> bytes:
    """(H, W, 1 or 3) floats -> the bytes of an EXR file with Y, or R, G and B, losslessly compressed.

    Args:
        half: in 16 bits, of which 11 are the number's, where its range allows; else in 32.
    Raises: UserError where the package is missing.
    """
    OpenEXR = _import_openexr("writing EXR")
    fits = half and np.abs(pixels).max() <= np.finfo(np.float16).max
    planes = np.moveaxis(pixels.astype(np.float16 if fits else np.float32), 2, 0)
    channels = {name: np.ascontiguousarray(plane) for name, plane in zip("RGB" if len(planes) == 3 else "Y", planes)}
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with tempfile.TemporaryDirectory() as folder:  # it writes nothing but files
        path = Path(folder, "map.exr")
        OpenEXR.File(header, channels).write(str(path))
        return path.read_bytes()


def _import_openexr(what: str) -> Any:
    """The module OpenEXR. Raises: UserError, beginning with `what`, where it is missing or too old."""
    try:
        import OpenEXR
    except ImportError as error:
        raise UserError(f"{what} needs the OpenEXR package, which is not installed; pip install OpenEXR") from error
    if not hasattr(OpenEXR, "File"):
        raise UserError(f"{what} needs OpenEXR 3.3 or newer; pip install --upgrade OpenEXR")
    return OpenEXR


def _in_display_window(pixels: np.ndarray, part: ExrPart) -> np.ndarray:
    """(H, W, C) of the display window from the data window's pixels."""
    (x, y), (width, height) = part.place, part.display
    if (x, y, width, height) == (0, 0, part.width, part.height):
        return pixels
    shown = np.zeros((height, width, pixels.shape[2]), np.float32)
    rows, columns = slice(max(y, 0), max(y + part.height, 0)), slice(max(x, 0), max(x + part.width, 0))
    target = shown[rows, columns]
    target[...] = pixels[max(-y, 0) :, max(-x, 0) :][: target.shape[0], : target.shape[1]]
    return shown


def exr_parts(path: Path, max_pixels: int | None) -> Sequence[ExrPart]:
    """The parts of a file, the first of which is read. OpenEXR decodes all channels of all parts, whichever are used:
    more than `max_pixels` of four floats are refused. Raises: UserError, or ValueError for a damaged header."""
    with open_regular(path) as stream:
        parts = parse_exr_header(stream.read(MAX_HEADER_BYTES))
    check_size(path, parts[0].width, parts[0].height, max_pixels)
    check_size(path, *parts[0].display, max_pixels)
    if any(part.width < 1 or part.height < 1 for part in parts):
        raise ValueError("a part without pixels")
    total = sum(part.nbytes for part in parts)
    limit, advice = pixel_limit(max_pixels)
    if total > limit * EXR_BYTES_PER_PIXEL:
        raise UserError(
            f"{quote(path)}: expected at most {limit} pixels of {EXR_BYTES_PER_PIXEL} bytes, found {total} bytes "
            f"in {sum(len(part.channels) for part in parts)} channels of {len(parts)} parts; save the map alone{advice}"
        )
    return parts


def _exr_channels(path: Path, part: ExrPart) -> list[str]:
    """Names of the channels to read: R, G, B, else those of the only layer, else the only one besides alpha.

    X, Y and Z stand for R, G and B. Of a normal map that stores x and y alone, the third name is ''.
    """
    found = [name for name in part.channels if name.rpartition(".")[2].upper() != "A"]
    names = found
    if {"R", "G", "B"} <= set(found):
        names = ["R", "G", "B"]
    elif len(found) in (2, 3):
        by_letter = {name.rpartition(".")[2].upper(): name for name in found}
        fitting = [letters for letters in ("RGB", "XYZ") if set(by_letter) in (set(letters), set(letters[:2]))]
        names = [by_letter.get(letter, "") for letters in fitting for letter in letters]
    deep = part.deep
    subsampled = any((across, down) != (1, 1) for _, across, down in part.channels.values())
    if len(names) not in (1, 3) or deep or subsampled:
        kind = "deep data" if deep else "subsampled channels" if subsampled else "channels"
        raise UserError(
            f"{quote(path)}: expected an EXR with flat channels R, G, B, or Y, or a single one, "
            f"found {kind} {', '.join(map(repr, found))[:200] or 'none'}; save it as a plain RGB or grey EXR"
        )
    return names
