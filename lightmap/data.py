"""Reads a folder of lightmaps into a `Day`: all frames in one tensor, their hours, and the mask."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchtyping import TensorType

from common.arrays import read_array
from common.errors import Say, UserError, quote
from common.files import open_regular
from common.opencv import import_opencv
from common.parallel import map_threads
from configs import MAX_PIXELS
from maps.images import read_image

HOURS = 24.0
USUAL_FRAMES = 24
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".exr", ".hdr", ".npy"})
MASK = "mask.png"
HALF_HOURS = "half_hours"  # sub-folder with ground truth between the frames
MAX_FRAMES = 1440  # one a minute
HDR_HEADER_BYTES = 4096

Frames = TensorType["texels", "frames", 3]
Mask = TensorType["texels", bool]
Numbers = TensorType["n"]
Rgb = TensorType["n", 3]


@dataclass(frozen=True)
class Encoding:
    """Maps values of the files to the range [0, 1] that networks are trained on, and back.

    LDR: a code divided by the largest one. HDR: x becomes log1p(x / scale) / log1p(peak / scale).
    """

    hdr: bool = False
    scale: float = 1.0  # the median of the values above 0
    peak: float = 1.0  # the day's largest value

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Encoded values, any shape, float32; negative HDR values count as 0."""
        if not self.hdr:
            return values.astype(np.float32, copy=False)
        light = np.maximum(values, 0, dtype=np.float32) / np.float32(self.scale)
        return np.log1p(light) / np.float32(math.log1p(self.peak / self.scale))

    def decode(self, values: np.ndarray) -> np.ndarray:
        """The inverse of encode. LDR saturates outside of [0, 1], HDR below 0."""
        if not self.hdr:
            return values.clip(0, 1)
        return np.expm1(values.clip(0, None) * np.float32(math.log1p(self.peak / self.scale))) * np.float32(self.scale)


def encoding_of(day: Mapping[str, Any]) -> Encoding:
    """The encoding in a description of a day (checkpoints.describe_day), which may come from a damaged file.

    Raises: ValueError, LookupError, TypeError.
    """
    encoding = Encoding(**day["encoding"])
    numbers = (encoding.scale, encoding.peak)
    good = type(encoding.hdr) is bool and all(type(n) in (int, float) and 0 < n < 1e38 for n in numbers)
    if not good or day["bits"] not in (8, 16, 32):
        raise ValueError("a day of unknown depth or range")
    return encoding


@dataclass(frozen=True)
class Day:
    """The frames of a day.

    frames: (texels, frames, 3), texels row by row from the top; uint8 codes of 8-bit files, else float32 values that
        `encoding` has mapped to [0, 1]. The hours of a texel are adjacent in memory, since samples draw texels.
    mask: (texels,) bool; texels with False are neither trained on nor measured.
    bits: per channel of the files; 32 for floats.
    """

    height: int
    width: int
    frames: Frames
    mask: Mask
    encoding: Encoding
    bits: int
    names: tuple[str, ...]
    file_bytes: int

    @property
    def n_frames(self) -> int:
        return self.frames.shape[1]

    @property
    def step(self) -> float:
        """Hours from one frame to the next; after the last frame comes the first."""
        return HOURS / self.n_frames

    @property
    def texels(self) -> int:
        return self.height * self.width

    def times(self, shift: float = 0.0) -> list[float]:
        """The hour of each frame, plus `shift` times the step between frames."""
        return [(index + shift) * self.step for index in range(self.n_frames)]

    def values(self, texels: Numbers, frames: Numbers) -> Rgb:
        """Values in [0, 1], float32: value i is texel `texels[i]` in frame `frames[i]`."""
        return unit(self.frames[texels, frames])

    def image(self, frame: int) -> np.ndarray:
        """(H, W, 3) float32 in [0, 1]."""
        return unit(self.frames[:, frame]).cpu().numpy().reshape(self.height, self.width, 3)


def unit(codes: torch.Tensor) -> torch.Tensor:
    """uint8 codes as float32 values in [0, 1]; values stay as they are."""
    return codes.float() / 255 if codes.dtype == torch.uint8 else codes


def natural_key(name: str) -> tuple[Any, ...]:
    """A sort key with tod_2 before tod_10, whatever the case of letters."""
    parts = re.split(r"([0-9]+)", name.casefold())  # text and digits in turns
    return tuple(int(part[:18]) if i % 2 else part for i, part in enumerate(parts)), name


def load_day(folder: str | Path, say: Say = print, workers: int = 0, max_pixels: int = MAX_PIXELS) -> Day:
    """Read the frames of a folder, in the natural order of their names.

    Args:
        say: receives notes for the user.
        workers: threads that decode files; 0: only the calling one.
    Raises: UserError for fewer than two frames, for frames of different sizes or depths, and for a damaged one.
    """
    folder = Path(folder)
    paths = find_frames(folder)
    if len(paths) != USUAL_FRAMES:
        say(f"note: {quote(folder)}: expected {USUAL_FRAMES} frames, one an hour; found {len(paths)}, which are spread "
            f"evenly over the day, one every {HOURS / len(paths):.4g} hours")  # fmt: skip
    first = _read(paths[0], max_pixels)
    frames = np.empty((first.shape[0] * first.shape[1], len(paths), 3), first.dtype)
    for index, pixels in enumerate(map_threads(lambda path: _read(path, max_pixels), paths, limit=max(workers, 1))):
        _check_alike(paths[0], first, paths[index], pixels)
        frames[:, index] = pixels.reshape(-1, pixels.shape[2])
    encoding = measure_encoding(frames, say, folder)
    height, width = first.shape[:2]
    return Day(
        height, width, torch.from_numpy(_stored(frames, encoding)), read_mask(folder, height, width, max_pixels),
        encoding, _bits(first), tuple(path.name for path in paths), sum(path.stat().st_size for path in paths),
    )  # fmt: skip


def load_half_hours(folder: str | Path, day: Day, workers: int = 0, max_pixels: int = MAX_PIXELS) -> Day | None:
    """The frames half way between those of `day`, from the sub-folder half_hours; None without that folder.

    Raises: UserError if their number, size or depth differs from the day's.
    """
    inner = Path(folder) / HALF_HOURS
    if not inner.is_dir():
        return None
    paths = find_frames(inner)
    if len(paths) != day.n_frames:
        raise UserError(
            f"{quote(inner)}: expected {day.n_frames} frames, one after each of the day's; found {len(paths)}"
        )
    frames = np.empty((day.texels, day.n_frames, 3), np.uint8 if day.bits == 8 else np.float32)
    for index, pixels in enumerate(map_threads(lambda path: _read(path, max_pixels), paths, limit=max(workers, 1))):
        if pixels.shape[:2] != (day.height, day.width) or _bits(pixels) != day.bits:
            raise UserError(f"{quote(paths[index])}: expected {day.width}x{day.height} of {day.bits} bits as the day's "
                            f"frames, found {_kind(pixels)}")  # fmt: skip
        frames[:, index] = _stored(pixels.reshape(-1, pixels.shape[2]), day.encoding)
    return replace(day, frames=torch.from_numpy(frames), names=tuple(path.name for path in paths), file_bytes=0)


def find_frames(folder: Path) -> list[Path]:
    """The image files of a folder without the mask, in natural order. Raises: UserError for fewer than two."""
    if not folder.is_dir():
        raise UserError(f"--data_dir {quote(folder)}: no such folder; give one with the frames of a day")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name.lower() != MASK]
    paths = [path for path in paths if path.is_file() and not path.name.startswith(".")]
    if not 2 <= len(paths) <= MAX_FRAMES:
        kinds = " ".join(sorted(SUFFIXES))
        raise UserError(
            f"--data_dir {quote(folder)}: expected 2 to {MAX_FRAMES} frames ({kinds}), found {len(paths)}; "
            "give the folder of the whole day"
        )
    return sorted(paths, key=lambda path: natural_key(path.name))


def read_mask(folder: Path, height: int, width: int, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """(texels,) bool: where mask.png is not black, or everywhere without one. Raises: UserError."""
    path = folder / MASK
    if not path.is_file():
        return torch.ones(height * width, dtype=torch.bool)
    pixels = read_image(path, max_pixels).pixels
    if pixels.shape[:2] != (height, width):
        found = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise UserError(f"{quote(path)}: expected {width}x{height} as the frames, found {found}; save it in that size")
    mask = (pixels != 0).any(axis=2).ravel()
    if not mask.any():
        raise UserError(f"{quote(path)}: it is black everywhere, which leaves no texel; paint white what counts")
    return torch.from_numpy(mask)


def measure_encoding(frames: np.ndarray, say: Say, folder: Path) -> Encoding:
    """The encoding for frames as read; float frames are HDR."""
    if frames.dtype != np.float32:
        return Encoding()
    if frames.min() < 0:
        say(f"note: {quote(folder)}: values below 0 (down to {frames.min():.4g}) count as 0")
    positive = frames[frames > 0]
    if not len(positive):
        return Encoding(True)
    return Encoding(True, float(np.median(positive)), float(positive.max()))


def _stored(frames: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Frames as Day.frames holds them: 8-bit codes unchanged, others as float32 in [0, 1]."""
    if frames.dtype == np.uint8:
        return frames
    return frames.astype(np.float32) / np.float32(65535) if frames.dtype == np.uint16 else encoding.encode(frames)


def _read(path: Path, max_pixels: int) -> np.ndarray:
    """(H, W, 1 or 3) uint8, uint16 or float32."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _read_npy(path, max_pixels)
    return _read_radiance(path, max_pixels) if suffix == ".hdr" else read_image(path, max_pixels).pixels


def _read_npy(path: Path, max_pixels: int) -> np.ndarray:
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
    return np.ascontiguousarray(pixels[..., :3])


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


def _bits(pixels: np.ndarray) -> int:
    return 8 * pixels.dtype.itemsize


def _kind(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]} of {_bits(pixels)} bits"


def _check_alike(first: Path, expected: np.ndarray, path: Path, found: np.ndarray) -> None:
    if found.shape[:2] != expected.shape[:2] or found.dtype != expected.dtype:
        raise UserError(f"{quote(path)}: expected {_kind(expected)} as {quote(first.name)}, found {_kind(found)}; "
                        "all frames of a day have one size and one depth")  # fmt: skip
