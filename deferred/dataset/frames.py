"""Reads and checks frame/0000.png, uv/0000.npy and extrinsics/0000.npy."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.arrays import read_array
from common.errors import UserError, quote
from deferred.dataset.uv_maps import Background, blank, check_uv, constant_uv, decode_uv, open_uv
from deferred.util import format_ids, id_name
from maps.images import read_image

FOLDERS = {"frame": ".png", "uv": ".npy", "extrinsics": ".npy"}
CACHE_BYTES = 2 << 30  # of decoded images, where nobody says how many
UNIT_TOLERANCE = 0.01  # of a direction's length
HELD_OUT_FRAMES = 20  # at most, without --val
HELD_OUT_SHARE = 7  # the last seventh of the frames is held out without --train
OPAQUE = 0.5  # alpha from which a pixel counts as surface
WHOLE = (slice(None), slice(None))  # rows and columns


@dataclass(frozen=True)
class Frame:
    """One view, or a part of it.

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


@dataclass(frozen=True)
class Picture:
    """An image file, decoded, in as few bytes as its values take.

    pixels: (H, W, 1 or 3) uint8, uint16, or float32 in [0, 1]; opaque: (H, W) bool, None if all pixels are.
    """

    pixels: np.ndarray
    opaque: np.ndarray | None

    @property
    def n_bytes(self) -> int:
        return self.pixels.nbytes + (0 if self.opaque is None else self.opaque.nbytes)

    def colours(self, rows: slice, columns: slice) -> np.ndarray:
        """The image of a Frame, of these pixels."""
        part = self.pixels[rows, columns]
        if part.dtype == np.uint16:
            part = part.astype(np.float32) / np.float32(65535)
        return np.broadcast_to(part, (*part.shape[:2], 3))


@dataclass(frozen=True)
class Facts:
    """What `FrameSet.inspect` found in a frame.

    surface: share of the pixels that count as surface; transparent: share of those that alpha takes away from it;
    constant: a uv that many pixels of the surface have exactly, with their share (`uv_maps.constant_uv`);
    short_uv: whether the uv map has 16 bits.
    """

    surface: float
    transparent: float
    constant: tuple[Background, float] | None
    short_uv: bool


class FrameCache:
    """Decoded images of any number of FrameSets, up to so many bytes; any number of threads may use it.

    Decoding is what takes time. uv maps are not in it: their files are mapped into memory, a crop reads its own rows,
    and the system keeps what it has memory for.
    """

    def __init__(self, n_bytes: int = CACHE_BYTES):
        self.n_bytes = self.free = n_bytes
        self._kept: dict[Path, Picture] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, path: Path) -> Picture | None:
        return self._kept.get(path)

    def put(self, path: Path, picture: Picture) -> None:
        """Keep a picture if it fits."""
        with self._lock:
            if path not in self._kept and picture.n_bytes <= self.free:
                self.free -= picture.n_bytes
                self._kept[path] = picture


class FrameSet:
    """Some frames of a data folder, read on demand by any number of threads.

    Args:
        folder: with frame/, uv/ and extrinsics/.
        ids: which frames.
        with_images: whether every frame needs its image; views to render do not.
        background: uv that is no surface.
        alpha: whether pixels of images whose alpha is below OPAQUE are no surface either.
        cache: keeps decoded images; None: one of its own.
    Raises: UserError naming the files that are missing.
    """

    def __init__(
        self, folder: Path, ids: Sequence[int], with_images: bool = True, *, background: Background | None = None,
        alpha: bool = True, cache: FrameCache | None = None,
    ):  # fmt: skip
        self.folder, self.ids, self.with_images = Path(folder), list(ids), with_images
        self.background, self.alpha = background, alpha
        self.cache = FrameCache() if cache is None else cache
        self._directions: dict[int, np.ndarray] = {}  # of frames that have one for all pixels
        self._check_files()
        self.sizes = {number: open_uv(self.path("uv", number)).shape[:2] for number in self.ids}

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

    def load(self, number: int) -> Frame:
        """Read and check one frame. Raises: UserError naming the file, what was expected and what was found."""
        check_uv(self.path("uv", number), open_uv(self.path("uv", number)))
        return self.part(number, *WHOLE)

    def part(self, number: int, rows: slice, columns: slice) -> Frame:
        """Some pixels of one frame; no others are read, if its image is in the cache.

        Raises: UserError as `load`, but for uv beyond 1 and for what other pixels hold.
        """
        uv, mask = decode_uv(open_uv(self.path("uv", number), self.sizes[number])[rows, columns], self.background)
        picture = self._picture(number)
        if picture is not None and picture.opaque is not None:
            mask &= picture.opaque[rows, columns]
            blank(uv, mask)
        image = None if picture is None else picture.colours(rows, columns)
        return Frame(image, uv, self._direction(number, rows, columns, mask), mask)

    def inspect(self, number: int) -> Facts:
        """Read and check all pixels of one frame, and leave its image in the cache. Raises: UserError as `load`."""
        raw = open_uv(self.path("uv", number))
        check_uv(self.path("uv", number), raw)
        uv, mask = decode_uv(raw, self.background)
        covered, picture = float(mask.mean()), self._picture(number)
        if picture is not None and picture.opaque is not None:
            mask &= picture.opaque
        self._direction(number, *WHOLE, mask)
        surface = float(mask.mean())
        return Facts(surface, covered - surface, constant_uv(uv, mask), raw.dtype.kind == "u")

    def _picture(self, number: int) -> Picture | None:
        path = self.path("frame", number)
        picture = self.cache.get(path)
        if picture is None and (self.with_images or path.is_file()):
            picture = read_picture(path, self.alpha)
            (height, width), expected = picture.pixels.shape[:2], self.sizes[number]
            if (height, width) != expected:
                raise UserError(
                    f"{quote(path)}: expected {expected[1]}x{expected[0]} pixels as "
                    f"{quote(self.path('uv', number))} has, found {width}x{height}; render or resize one of them again"
                )
            self.cache.put(path, picture)
        return picture

    def _direction(self, number: int, rows: slice, columns: slice, mask: np.ndarray) -> np.ndarray:
        if number not in self._directions:
            direction = read_direction(self.path("extrinsics", number), self.sizes[number], rows, columns, mask)
            if direction.shape[:2] != (1, 1) or self.sizes[number] == (1, 1):
                return direction
            self._directions[number] = direction
        return self._directions[number]


def read_picture(path: Path, alpha: bool = True) -> Picture:
    """Decode an image of a frame. alpha: whether to make `opaque` of it. Raises: UserError."""
    image = read_image(path)
    pixels = image.pixels
    if image.is_float and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise UserError(f"{quote(path)}: expected values in [0, 1], found {pixels.min():g} to {pixels.max():g}; save "
                        "it as an 8- or 16-bit PNG")  # fmt: skip
    least = OPAQUE * (1.0 if image.is_float else float(np.iinfo(pixels.dtype).max))
    opaque = None
    if alpha and image.alpha is not None:
        opaque = image.alpha[..., 0] >= least
    elif alpha and image.flat_alpha is not None and image.flat_alpha < least:
        opaque = np.zeros(pixels.shape[:2], bool)
    return Picture(pixels, opaque)


def read_colours(path: Path) -> np.ndarray:
    """An image as (H, W, 3) uint8, or float32 in [0, 1] if it has more than 8 bits. Raises: UserError."""
    return np.array(read_picture(path, alpha=False).colours(*WHOLE))


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


def read_direction(
    path: Path, size: tuple[int, int], rows: slice, columns: slice, mask: np.ndarray
) -> np.ndarray:
    """Unit vectors, (1, 1, 3) or those of some pixels, (H, W, 3), float32, and 0 off the surface.

    Args:
        size: (height, width) of the frame.
        mask: (H, W), the surface in these rows and columns.
    """
    array = read_array(path)
    if array.shape not in ((3,), (*size, 3)):
        raise UserError(f"{quote(path)}: expected shape (3,), or {(*size, 3)} as its uv map has, found "
                        f"{array.shape}; write the unit vector from the surface to the camera")  # fmt: skip
    one = array.ndim == 1
    direction = np.array(array.reshape(1, 1, 3) if one else array[rows, columns], np.float32)
    length = np.linalg.norm(direction.astype(np.float64), axis=2, keepdims=True)
    counts = np.ones((1, 1), bool) if one else mask
    worst = np.abs(length[counts] - 1)
    if not (worst <= UNIT_TOLERANCE).all():
        found = length[counts][int(np.argmax(np.nan_to_num(worst, nan=np.inf)))].item()
        raise UserError(f"{quote(path)}: expected unit vectors, found one of length {found:g}; divide by the length")
    direction = np.divide(direction, length, out=np.zeros_like(direction), where=counts[..., None], casting="unsafe")
    return np.ascontiguousarray(direction)
