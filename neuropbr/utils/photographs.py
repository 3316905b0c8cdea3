"""Three photographs of a material as people have them, fitted to what a network reads.

Any format of the compressor and HEIC, any size and proportion, upright or turned. All views are fitted alike: cut to
the network's proportion around their centre, or extended to it by mirroring their borders.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from common.errors import Say, UserError, counted, quote, what_is_wrong
from maps.images import IMAGE_SUFFIXES, is_image, read_image
from maps.orientation import exif_orientation, upright
from maps.pixels import check_size
from neuropbr.utils.cli import CROP, PAD
from neuropbr.utils.maps import VIEWS, Picture, Size, resized, rgb_of

HEIC_SUFFIXES = (".heic", ".heif", ".hif")
KINDS = "JPEG, PNG, WebP, TIFF or HEIC"
SAME_PROPORTION = 0.005  # a relative difference that is rounding: one texel of 200


def three_pictures(folder: Path, say: Say = print) -> list[Path]:
    """The first three pictures of a folder in the order of their names. Raises: UserError for fewer."""
    if not folder.is_dir():
        raise UserError(f"{quote(folder)}: expected a folder with three pictures of a material, found none; "
                        "check the path")  # fmt: skip
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    found = [path for path in files if path.suffix.lower() in (*IMAGE_SUFFIXES, *HEIC_SUFFIXES) or is_image(path)]
    if len(found) < VIEWS:
        others = f" among {counted(len(files), 'file')}" if len(files) > len(found) else ""
        raise UserError(
            f"{quote(folder)}: expected three pictures of one material ({KINDS}), the first by name from straight "
            f"above, found {len(found)}{others}; add the missing ones"
        )
    if len(found) > VIEWS:
        taken = ", ".join(quote(path.name) for path in found[:VIEWS])
        say(f"{quote(folder)}: {len(found)} pictures, of which the first three by name are taken: {taken}")
    return found[:VIEWS]


def read_photograph(path: Path) -> Picture:
    """An upright picture, (3, H, W) float32 in [0, 1]. Raises: UserError."""
    if path.suffix.lower() in HEIC_SUFFIXES:
        pixels = _read_heic(path)
    else:
        pixels = upright(read_image(path).pixels, exif_orientation(path))
    return rgb_of(path, pixels)


def _read_heic(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, upright: the decoder turns it as the file says."""
    try:
        import pillow_heif
    except ImportError as error:
        raise UserError(
            f"{quote(path)}: reading HEIC needs pillow-heif, which is not installed; pip install -r "
            "requirements/neuropbr-heic.txt, or save the picture as JPEG"
        ) from error
    try:
        heic = pillow_heif.open_heif(path, convert_hdr_to_8bit=True)
        check_size(path, *heic.size, None)
        return np.asarray(heic.to_pillow().convert("RGB"))
    except UserError:
        raise
    except Exception as error:  # its decoder raises anything from ValueError to EOFError
        raise UserError(f"{quote(path)}: expected a HEIC picture, found {what_is_wrong(error)}; "
                        "save it again, or as JPEG") from error  # fmt: skip


class Fitted(NamedTuple):
    """Views of one size, and the part of them that view 0 shows."""

    views: torch.Tensor  # (3, 3, H, W) in [0, 1]
    inside: tuple[float, float]  # share of height and width, about the centre, that is no padding
    notes: list[str]  # what was done to the proportions, a line or none


def canvas_of(size: Size, proportion: Size, fit: str) -> Size:
    """(height, width) of what a picture of `size` becomes in `proportion`: the largest part, or the least frame."""
    height, width = size
    wanted = proportion[1] / proportion[0]
    choose = min if fit == CROP else max
    high = choose(height, width / wanted)
    return max(1, round(high)), max(1, round(high * wanted))


def fit_picture(picture: Picture, proportion: Size, fit: str) -> Picture:
    """A picture cut to a proportion about its centre, or extended to it by mirroring."""
    height, width = picture.shape[-2:]
    if abs(height * proportion[1] / (width * proportion[0]) - 1) < SAME_PROPORTION:
        return picture
    high, wide = canvas_of((height, width), proportion, fit)
    if fit == CROP:
        top, left = (height - high) // 2, (width - wide) // 2
        return picture[:, top : top + high, left : left + wide]
    rows, columns = _mirrored(height, high), _mirrored(width, wide)
    return picture[:, rows][:, :, columns]


def _mirrored(side: int, wanted: int) -> torch.Tensor:
    """Indices of `wanted` texels about the centre of `side`, which go on by mirroring at both ends."""
    index = (torch.arange(wanted) - (wanted - side) // 2) % (2 * side)
    return torch.minimum(index, 2 * side - 1 - index)


def fit_views(pictures: Sequence[Picture], size: Size, fit: str) -> Fitted:
    """Each picture in the proportion of `size` (height, width), then resized to it."""
    notes = [words for words in {_what_fit_did(picture, size, fit): None for picture in pictures} if words]
    views = torch.stack([resized(fit_picture(picture, size, fit), size).clamp(0, 1) for picture in pictures])
    inside = (1.0, 1.0)
    if fit == PAD:
        high, wide = fit_picture(pictures[0], size, fit).shape[-2:]
        inside = pictures[0].shape[-2] / high, pictures[0].shape[-1] / wide
    return Fitted(views, inside, notes)


def _what_fit_did(picture: Picture, size: Size, fit: str) -> str:
    height, width = picture.shape[-2:]
    high, wide = fit_picture(picture, size, fit).shape[-2:]
    if (high, wide) == (height, width):
        return ""
    what = "cut to the middle" if fit == CROP else "mirrored out to"
    other = "--fit pad keeps all of it" if fit == CROP else "the maps end where the photograph does"
    return f"views of {width}x{height} are {what} {wide}x{high}; {other}"


def only_inside(maps: dict[str, torch.Tensor], inside: tuple[float, float]) -> dict[str, torch.Tensor]:
    """Maps (C, H, W) without what padding made of them."""
    height, width = maps["albedo"].shape[-2:]
    high, wide = round(height * inside[0]), round(width * inside[1])
    top, left = (height - high) // 2, (width - wide) // 2
    return {name: values[:, top : top + high, left : left + wide] for name, values in maps.items()}
