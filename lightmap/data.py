"""Reads a folder of lightmaps into a `Day`: all frames in one tensor, their hours, and the mask."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchtyping import TensorType

from common.errors import Say, UserError, quote
from configs import MAX_PIXELS
from lightmap.frame_files import MASK, FrameFiles, find_frames, size_of
from maps.images import read_image

HOURS = 24.0
USUAL_FRAMES = 24
HALF_HOURS = "half_hours"  # sub-folder with ground truth between the frames
MEDIAN_VALUES = 1 << 27  # of HDR light, at most, that the median is taken of
STRIP = 1 << 16  # texels that are converted at a time
TOP_16 = 65535
MOST_LIGHT = 1e38

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
    good = type(encoding.hdr) is bool and all(type(n) in (int, float) and 0 < n < MOST_LIGHT for n in numbers)
    if not good or day["bits"] not in (8, 16, 32):
        raise ValueError("a day of unknown depth or range")
    return encoding


@dataclass(frozen=True)
class Day:
    """The frames of a day.

    frames: (texels, frames, 3), texels row by row from the top, codes as `codes_of` makes them; `unit` turns them into
        values. The hours of a texel are adjacent in memory, since samples draw texels.
    mask: (texels,) bool; texels with False are neither trained on nor measured.
    bits: per channel of the files; 32 for floats.
    file_bytes, file_kind: of the frames' files, such as 'PNG'.
    """

    height: int
    width: int
    frames: Frames
    mask: Mask
    encoding: Encoding
    bits: int
    names: tuple[str, ...]
    file_bytes: int
    file_kind: str = "PNG"

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


@dataclass(frozen=True)
class HalfHours:
    """Ground truth half way between the frames of a day. Only some texels are kept in memory.

    texels: their numbers; codes: (texels, frames, 3), as Day.frames.
    """

    day: Day
    files: FrameFiles
    texels: Numbers
    codes: Frames

    def times(self, shift: float = 0.5) -> list[float]:
        """The hour of each frame."""
        return self.day.times(shift)

    def only(self, texels: Numbers) -> HalfHours:
        """The same with fewer texels in memory, of one that has all."""
        return replace(self, texels=texels, codes=self.codes[texels])

    def image(self, frame: int) -> np.ndarray:
        """(H, W, 3) float32 in [0, 1], read from its file."""
        codes = codes_of(self.files.read(self.files.paths[frame]), self.day.encoding)
        values = unit(torch.from_numpy(np.require(codes, requirements="W"))).numpy()
        return values.reshape(self.day.height, self.day.width, 3)


def codes_of(pixels: np.ndarray, encoding: Encoding) -> np.ndarray:
    """What a day keeps of a frame in memory, (texels, 3): 8-bit codes as they are; else 16-bit codes less 32768, int16,
    which PyTorch can index on every device. Those of HDR light are codes of its encoding, a step of which is 1e-4 of a
    value or, in the dark, of the median.

    pixels: (H, W, 1 or 3) uint8, uint16 or float32.
    """
    flat = np.broadcast_to(pixels, (*pixels.shape[:2], 3)).reshape(-1, 3)
    if flat.dtype == np.uint8:
        return flat
    codes = np.empty(flat.shape, np.uint16)
    for start in range(0, len(flat), STRIP):
        part = flat[start : start + STRIP]
        if part.dtype == np.float32:
            part = (encoding.encode(part) * TOP_16 + np.float32(0.5)).clip(0, TOP_16).astype(np.uint16)
        codes[start : start + STRIP] = part
    return (codes ^ 0x8000).view(np.int16)


def unit(codes: torch.Tensor) -> torch.Tensor:
    """Codes of `codes_of` as float32 values in [0, 1]; values stay as they are."""
    if codes.dtype == torch.int16:
        return (codes.float() + 32768) / TOP_16
    return codes.float() / 255 if codes.dtype == torch.uint8 else codes


def load_day(folder: str | Path, say: Say = print, workers: int = 0, max_pixels: int = MAX_PIXELS) -> Day:
    """Read the frames of a folder, in the natural order of their names.

    Args:
        say: receives notes for the user.
        workers: threads that decode files; 0: only the calling one.
    Raises: UserError for no frame, for frames of different sizes or depths, and for a damaged one.
    """
    folder = Path(folder)
    files = FrameFiles(find_frames(folder, say), max_pixels, workers)
    count = len(files.paths)
    if count != USUAL_FRAMES:
        spread = f"which are spread evenly over the day, one every {HOURS / count:.4g} hours"
        spread = "which stands for the whole day" if count == 1 else spread
        say(f"note: {quote(folder)}: expected {USUAL_FRAMES} frames, one an hour; found {count}, {spread}")
    height, width, bits = size_of(files.read(files.paths[0]))
    encoding = measure_encoding(files, height * width * count * 3, say, folder) if bits == 32 else Encoding()
    frames = np.empty((height * width, count, 3), np.uint8 if bits == 8 else np.int16)
    for index, pixels in enumerate(files):
        frames[:, index] = codes_of(pixels, encoding)
    _note_alpha(files, folder, say)
    return Day(
        height, width, torch.from_numpy(frames), read_mask(folder, height, width, max_pixels), encoding, bits,
        tuple(path.name for path in files.paths), files.bytes, files.kind,
    )  # fmt: skip


def load_half_hours(
    folder: str | Path, day: Day, texels: Numbers | None = None, workers: int = 0, max_pixels: int = MAX_PIXELS
) -> HalfHours | None:
    """The frames half way between those of `day`, from the sub-folder half_hours; None without that folder.

    Args:
        texels: those to keep in memory; None: all.
    Raises: UserError if their number, size or depth differs from the day's.
    """
    inner = Path(folder) / HALF_HOURS
    if not inner.is_dir():
        return None
    files = FrameFiles(find_frames(inner, lambda _: None), max_pixels, workers)
    if len(files.paths) != day.n_frames:
        raise UserError(
            f"{quote(inner)}: expected {day.n_frames} frames, one after each of the day's; found {len(files.paths)}"
        )
    texels = torch.arange(day.texels) if texels is None else texels
    codes = np.empty((len(texels), day.n_frames, 3), np.uint8 if day.bits == 8 else np.int16)
    for index, pixels in enumerate(files):
        if size_of(pixels) != (day.height, day.width, day.bits):
            height, width, bits = size_of(pixels)
            raise UserError(
                f"{quote(files.paths[index])}: expected {day.width}x{day.height} of {day.bits} bits as the day's "
                f"frames, found {width}x{height} of {bits} bits; render it as they were"
            )
        codes[:, index] = codes_of(pixels, day.encoding)[texels.numpy()]
    return HalfHours(day, files, texels, torch.from_numpy(codes))


def _note_alpha(files: FrameFiles, folder: Path, say: Say) -> None:
    if files.with_alpha:
        first = min(files.with_alpha, key=lambda name: [path.name for path in files.paths].index(name))
        say(f"note: {quote(folder)}: the alpha of {len(files.with_alpha)} frames ({quote(first)} ...) is left out; "
            f"paint {MASK} black where texels shall not count")  # fmt: skip


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


def measure_encoding(files: FrameFiles, count: int, say: Say, folder: Path) -> Encoding:
    """The encoding of HDR frames. They are read for it alone: to hold them as floats takes twice the memory.

    count: of the values in all frames; of more than MEDIAN_VALUES the median is that of every n-th.
    Raises: UserError for light beyond MOST_LIGHT.
    """
    stride = -(-count // MEDIAN_VALUES)
    values, filled, lowest, peak = np.empty(-(-count // stride) + len(files.paths), np.float32), 0, 0.0, 0.0
    for pixels in files:
        lowest, peak = min(lowest, float(pixels.min())), max(peak, float(pixels.max()))
        some = pixels.reshape(-1)[::stride]
        some = some[some > 0]
        values[filled : filled + len(some)] = some
        filled += len(some)
    if peak >= MOST_LIGHT:
        raise UserError(f"{quote(folder)}: expected light below {MOST_LIGHT:g}, found {peak:.4g}; scale the "
                        "frames down, or replace what is no light in them")  # fmt: skip
    if lowest < 0:
        say(f"note: {quote(folder)}: values below 0 (down to {lowest:.4g}) count as 0")
    if not filled:
        return Encoding(True)
    return Encoding(True, float(np.median(values[:filled], overwrite_input=True)), peak)
