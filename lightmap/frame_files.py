"""The image files of a day: which files of a folder are its frames, in which order, and what they hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.arrays import read_array
from common.errors import Say, UserError, quote
from common.files import open_regular
from common.opencv import import_opencv
from common.parallel import map_threads
from maps.images import read_image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".exr", ".hdr", ".npy"})
MASK = "mask.png"
MAX_FRAMES = 1440  # one a minute
HDR_HEADER_BYTES = 4096
NAMES_IN_A_NOTE = 3
KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".exr": "EXR", ".hdr": "Radiance HDR", ".npy": "npy"}

Size = tuple[int, int, int]  # height, width, bits of a channel


def natural_key(name: str) -> tuple[Any, ...]:
    """A sort key with tod_2 before tod_10, whatever the case of letters."""
    parts = re.split(r"([0-9]+)", name.casefold())  # text and digits in turns
    return tuple(int(part[:18]) if i % 2 else part for i, part in enumerate(parts)), name


def find_frames(folder: Path, say: Say) -> list[Path]:
    """The frames of a folder in natural order: its image files but for the mask, and for files that are named otherwise
    than most.

    Raises: UserError for a folder without frames, or with more than MAX_FRAMES.
    """
    if not folder.is_dir():
        raise UserError(f"--data_dir {quote(folder)}: no such folder; give one with the frames of a day")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name.lower() != MASK]
    paths = sorted((path for path in paths if path.is_file() and not path.name.startswith(".")),
                   key=lambda path: natural_key(path.name))  # fmt: skip
    strays = _strays(paths)
    frames = [path for path in paths if path not in strays]
    if not 1 <= len(frames) <= MAX_FRAMES:
        kinds = " ".join(sorted(SUFFIXES))
        raise UserError(
            f"--data_dir {quote(folder)}: expected 1 to {MAX_FRAMES} frames ({kinds}), found {len(frames)}; "
            "give the folder of the whole day"
        )
    if strays:
        names = ", ".join(quote(path.name) for path in strays[:NAMES_IN_A_NOTE])
        more = f" and {len(strays) - NAMES_IN_A_NOTE} more" if len(strays) > NAMES_IN_A_NOTE else ""
        say(f"note: {quote(folder)}: {names}{more} left out, named otherwise than {quote(frames[0].name)} and the "
            "others; a frame's name differs from theirs in its number only")  # fmt: skip
    return frames


def _strays(paths: Sequence[Path]) -> list[Path]:
    """Files beside the frames, such as a preview. None where most names share no pattern with a number in it."""
    if not paths:
        return []
    patterns = [re.sub(r"[0-9]+([.,][0-9]+)*", "#", path.stem.casefold()) for path in paths]
    usual, count = Counter(patterns).most_common(1)[0]
    if "#" not in usual or count < 2 or 2 * count <= len(paths):
        return []
    return [path for path, pattern in zip(paths, patterns) if pattern != usual]


@dataclass
class FrameFiles:
    """Image files of one size and depth, which can be read more than once.

    with_alpha: names of those read so far that have an alpha channel; it is left out of what they hold.
    """

    paths: Sequence[Path]
    max_pixels: int
    workers: int = 0  # threads that decode files; 0: only the calling one
    with_alpha: set[str] = field(default_factory=set)

    def read(self, path: Path) -> np.ndarray:
        """(H, W, 1 or 3) uint8, uint16 or float32. Raises: UserError."""
        pixels, alpha = _read(path, self.max_pixels)
        if alpha:
            self.with_alpha.add(path.name)
        return pixels

    def __iter__(self) -> Iterator[np.ndarray]:
        """What each file holds. Raises: UserError, also for one of another size or depth than the first."""
        expected = None
        for path, pixels in zip(self.paths, map_threads(self.read, self.paths, limit=max(self.workers, 1))):
            expected = expected or size_of(pixels)
            if size_of(pixels) != expected:
                raise UserError(
                    f"{quote(path)}: expected {_kind(expected)} as {quote(self.paths[0].name)}, found "
                    f"{_kind(size_of(pixels))}; all frames of a day have one size and one depth"
                )
            yield pixels

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.paths)

    @property
    def kind(self) -> str:
        """PNG, JPEG, ...; several of them with a stroke between."""
        return "/".join(dict.fromkeys(KINDS[path.suffix.lower()] for path in self.paths))


def size_of(pixels: np.ndarray) -> Size:
    """Height, width and depth of a frame."""
    return (*pixels.shape[:2], 8 * pixels.dtype.itemsize)


def _kind(size: Size) -> str:
    return f"{size[1]}x{size[0]} of {size[2]} bits"


def _read(path: Path, max_pixels: int) -> tuple[np.ndarray, bool]:
    """(H, W, 1 or 3) uint8, uint16 or float32, and whether there is an alpha channel beside it."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _read_npy(path, max_pixels)
    if suffix == ".hdr":
        return _read_radiance(path, max_pixels), False
    image = read_image(path, max_pixels)
    opaque = 1.0 if image.is_float else np.iinfo(image.pixels.dtype).max
    return image.pixels, image.alpha is not None or image.flat_alpha not in (None, opaque)


def _read_npy(path: Path, max_pixels: int) -> tuple[np.ndarray, bool]:
    pixels = read_array(path)
    expected = f"{quote(path)}: expected an array (height, width, 3) of uint8, uint16 or floats"
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise UserError(f"{expected}, found {pixels.shape}; save one frame in each file")
    if pixels.shape[0] * pixels.shape[1] > max_pixels:
        raise UserError(f"{expected} with at most {max_pixels} pixels, found {pixels.shape[1]}x{pixels.shape[0]}")
    if pixels.dtype.kind == "f":
        pixels = pixels.astype(np.float32)
        if not np.isfinite(pixels).all():
            raise UserError(f"{quote(path)}: it holds NaN or infinity; replace them and save it again")
    elif pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{expected}, found {pixels.dtype}")
    return np.ascontiguousarray(pixels[..., :3]), pixels.shape[2] == 4


def _read_radiance(path: Path, max_pixels: int) -> np.ndarray:
    """(H, W, 3) float32 of a Radiance .hdr file, by OpenCV, after the size in its header has been checked."""
    damaged = f"{quote(path)}: expected a Radiance .hdr image, found another or a damaged one; save it again"
    try:
        with open_regular(path) as stream:
            head = stream.read(HDR_HEADER_BYTES)
    except OSError as error:
        raise UserError(f"{quote(path)}: cannot be read ({error.strerror or error})") from error
    size = re.search(rb"\n[-+]Y (\d{1,9}) [-+]X (\d{1,9})\n", head)
    if not head.startswith((b"#?RADIANCE", b"#?RGBE")) or size is None:
        raise UserError(damaged)
    height, width = map(int, size.groups())
    if not 0 < height * width <= max_pixels:
        raise UserError(f"{quote(path)}: expected 1 to {max_pixels} pixels, found {width}x{height}")
    cv2 = import_opencv(f"{quote(path)}: reading Radiance .hdr")
    try:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UserError(damaged) from error
    if pixels is None or pixels.shape != (height, width, 3) or not np.isfinite(pixels).all():
        raise UserError(damaged)
    return np.ascontiguousarray(pixels[..., ::-1], np.float32)
