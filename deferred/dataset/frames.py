"""Reads and checks frame/0000.png, uv/0000.npy and extrinsics/0000.npy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.arrays import read_array
from common.errors import UserError, quote
from configs import MAX_PIXELS
from deferred.util import format_ids, id_name
from maps.images import read_image

FOLDERS = {"frame": ".png", "uv": ".npy", "extrinsics": ".npy"}
CACHE_BYTES = 2 << 30  # of decoded frames; those that do not fit are read again each time
UV_TOLERANCE = 1e-4  # by which uv may exceed 1, for rounding
UNIT_TOLERANCE = 0.01  # of a direction's length
HELD_OUT_FRAMES = 20  # at most, without --val
HELD_OUT_SHARE = 7  # the last seventh of the frames is held out without --train


@dataclass(frozen=True)
class Frame:
    """One view.

    image: (H, W, 3) uint8, or float32 in [0, 1] if the file has more than 8 bits; None without a file.
    uv: (H, W, 2) float32, u to the right and v down in the texture, in [0, 1]; 0 off the surface.
    direction: unit vectors to the camera, float32, (1, 1, 3) for the frame or (H, W, 3) for each pixel.
    mask: (H, W) bool, true on the surface.
    """

    image: np.ndarray | None
    uv: np.ndarray
    direction: np.ndarray
    mask: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.mask.shape

    @property
    def n_bytes(self) -> int:
        arrays = (self.image, self.uv, self.direction, self.mask)
        return sum(array.nbytes for array in arrays if array is not None)


class FrameSet:
    """Some frames of a data folder, read on demand and cached up to CACHE_BYTES.

    Args:
        folder: with frame/, uv/ and extrinsics/.
        ids: which frames.
        with_images: whether every frame needs its image; views to render do not.
    Raises: UserError naming the files that are missing.
    """

    def __init__(self, folder: Path, ids: Sequence[int], with_images: bool = True):
        self.folder, self.ids, self.with_images = Path(folder), list(ids), with_images
        self._cache: dict[int, Frame] = {}
        self._free = CACHE_BYTES
        self._check_files()
        self.sizes = {number: _npy_shape(self.path("uv", number))[:2] for number in self.ids}

    def __len__(self) -> int:
        return len(self.ids)

    def path(self, kind: str, number: int) -> Path:
        """The file of one kind of one frame."""
        return self.folder / kind / (id_name(number) + FOLDERS[kind])

    def _check_files(self) -> None:
        if not self.ids:
            raise UserError(f"{quote(self.folder)}: expected at least one frame, found none that was asked for")
        for kind, suffix in FOLDERS.items():
            if kind == "frame" and not self.with_images:
                continue
            missing = [number for number in self.ids if not self.path(kind, number).is_file()]
            if missing:
                there = list_ids(self.folder, kind)
                raise UserError(
                    f"{quote(self.path(kind, missing[0]))}: no such file, and {len(missing)} of {len(self.ids)} "
                    f"{suffix} files that were asked for are missing from {kind}/ ({format_ids(missing):.80}); it has "
                    f"{format_ids(there)[:80] or 'none'}; name others, or prepare them (python prepare.py --help)"
                )

    def check_surface(self, flag: str) -> None:
        """Raises: UserError naming `flag` if no frame shows any surface: nothing could be trained or scored."""
        if not any(self.load(number).mask.any() for number in self.ids):
            raise UserError(f"{flag}: expected frames of {quote(self.folder)} with a surface, found {len(self)} whose "
                            "uv is NaN or negative everywhere; name others, or prepare them again")  # fmt: skip

    def load(self, number: int) -> Frame:
        """Read and check one frame. Raises: UserError naming the file, what was expected and what was found."""
        if number not in self._cache:
            frame = self._read(number)
            if frame.n_bytes > self._free:
                return frame
            self._free -= frame.n_bytes
            self._cache[number] = frame
        return self._cache[number]

    def _read(self, number: int) -> Frame:
        uv, mask = read_uv(self.path("uv", number))
        path = self.path("extrinsics", number)
        direction = read_direction(path, mask)
        image, path = None, self.path("frame", number)
        if self.with_images or path.is_file():
            image = read_colours(path)
            if image.shape[:2] != mask.shape:
                raise UserError(
                    f"{quote(path)}: expected {mask.shape[1]}x{mask.shape[0]} pixels as "
                    f"{quote(self.path('uv', number))} has, found {image.shape[1]}x{image.shape[0]}; render or "
                    "resize one of them again"
                )
        return Frame(image, uv, direction, mask)


def read_colours(path: Path) -> np.ndarray:
    """An image as (H, W, 3) uint8, or float32 in [0, 1] if it has more than 8 bits. Raises: UserError."""
    pixels = read_image(path).pixels
    if pixels.dtype == np.uint16:
        pixels = pixels.astype(np.float32) / np.float32(65535)
    if pixels.dtype == np.float32 and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise UserError(f"{quote(path)}: expected values in [0, 1], found {pixels.min():g} to {pixels.max():g}; save "
                        "it as an 8- or 16-bit PNG")  # fmt: skip
    return np.array(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def list_ids(folder: Path, kind: str = "uv") -> list[int]:
    """The ids of a data folder's files of one kind, in order."""
    suffix = FOLDERS[kind]
    names = (path.name[: -len(suffix)] for path in (Path(folder) / kind).glob(f"*{suffix}"))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit() and id_name(int(name)) == name)


def split_ids(folder: Path, train: list[int] | None, val: list[int] | None) -> tuple[list[int], list[int]]:
    """Ids to train on and to validate on; None: the user gave none. Raises: UserError if there are no frames."""
    there = sorted({number for kind in FOLDERS for number in list_ids(folder, kind)})  # FrameSet names missing ones
    if not there:
        raise UserError(f"{quote(folder)}: expected frame/0000.png, uv/0000.npy, extrinsics/0000.npy and so on, found "
                        "no uv maps; make some with prepare.py, or leave --data out for the sample")  # fmt: skip
    if train is None:
        kept = [number for number in there if number not in set(val or [])]
        train = kept if val is not None else kept[: len(kept) - len(kept) // HELD_OUT_SHARE]
    if val is None:
        val = [number for number in there if number not in set(train)][:HELD_OUT_FRAMES]
    both = sorted(set(train) & set(val))
    if both:
        raise UserError(f"--val: expected ids that are not trained on, found {format_ids(both):.80} in both; "
                        "take them out of one")  # fmt: skip
    return train, val


# --- arrays --------------------------------------------------------------------------------------------------------


def _npy_shape(path: Path) -> tuple[int, ...]:
    """The shape of a uv map. Raises: UserError unless it is (H, W, 2)."""
    shape = read_array(path).shape
    if len(shape) != 3 or shape[2] != 2 or not 0 < shape[0] * shape[1] <= MAX_PIXELS:
        raise UserError(f"{quote(path)}: expected shape (H, W, 2) of at most {MAX_PIXELS} pixels, found {shape}; "
                        "the last axis is u, v")  # fmt: skip
    return shape


def read_uv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The uv map, (H, W, 2) float32 in [0, 1] and 0 off the surface, and the (H, W) mask of the surface."""
    _npy_shape(path)
    uv = np.array(read_array(path), np.float32)
    with np.errstate(invalid="ignore"):
        mask = (uv >= 0).all(axis=2)  # NaN is not
    uv[~mask] = 0
    if uv.max(initial=0) > 1 + UV_TOLERANCE:
        raise UserError(f"{quote(path)}: expected u and v in [0, 1], NaN or negative where there is no surface; found "
                        f"{uv.max():g}; divide texels by the texture's size, or wrap repeats into [0, 1]")  # fmt: skip
    return uv.clip(0, 1), mask


def read_direction(path: Path, mask: np.ndarray) -> np.ndarray:
    """Unit vectors, (1, 1, 3) or (H, W, 3) float32, and 0 off the surface."""
    array = np.array(read_array(path), np.float32)
    if array.shape not in ((3,), (*mask.shape, 3)):
        raise UserError(f"{quote(path)}: expected shape (3,), or {(*mask.shape, 3)} as its uv map has, found "
                        f"{array.shape}; write the unit vector from the surface to the camera")  # fmt: skip
    direction = array.reshape(1, 1, 3) if array.ndim == 1 else array
    length = np.linalg.norm(direction.astype(np.float64), axis=2, keepdims=True)
    counts = np.ones((1, 1), bool) if array.ndim == 1 else mask
    worst = np.abs(length[counts] - 1)
    if not (worst <= UNIT_TOLERANCE).all():
        found = length[counts][int(np.argmax(np.nan_to_num(worst, nan=np.inf)))].item()
        raise UserError(f"{quote(path)}: expected unit vectors, found one of length {found:g}; divide by the length")
    direction = np.divide(direction, length, out=np.zeros_like(direction), where=counts[..., None], casting="unsafe")
    return np.ascontiguousarray(direction)
