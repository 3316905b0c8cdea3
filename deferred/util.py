"""Frame ids as text, and errors over masked pixels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from common.errors import UserError, brief, quote
from deferred.tensors import Images, Masks
from metrics.scores import psnr_db

MAX_ID = 99_999_999
MAX_ID_FILE_BYTES = 1 << 20
_RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")


def id_name(number: int) -> str:
    """The name of a frame's files without suffix: 7 -> '0007'."""
    return f"{number:04d}"


def parse_ids(text: str, flag: str) -> list[int]:
    """'0-3, 7' -> [0, 1, 2, 3, 7]; also the path of a text file with such lines, in which # starts a comment.

    Ids are separated by commas, spaces or lines and may have leading zeros. Each is returned once, in the order given.
    Raises: UserError.
    """
    source = flag
    if not re.fullmatch(r"[\d\s,\-]+", text):
        source = f"{flag} {quote(text)}"
        text = _id_file(Path(text), source)
    ids: dict[int, None] = {}
    for part in re.split(r"[,\s]+", re.sub(r"\s*-\s*", "-", text).strip(" ,\n\r\t")):
        match = _RANGE.fullmatch(part)
        if not match:
            raise UserError(f'{source}: expected ids such as "0-119", "0,4,8-20" or a text file, found {brief(part)}')
        first, last = int(match[1][:9]), int((match[2] or match[1])[:9])
        if last < first or last > MAX_ID or last - first > 1_000_000:
            raise UserError(f"{source}: expected a range from a smaller to a larger id, found {brief(part)}")
        ids.update(dict.fromkeys(range(first, last + 1)))
    return list(ids)


def _id_file(path: Path, source: str) -> str:
    try:
        with path.open("rb") as stream:
            payload = stream.read(MAX_ID_FILE_BYTES)
        return "\n".join(line.partition("#")[0] for line in payload.decode("utf-8").splitlines())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f'{source}: expected ids such as "0-119", "0,4,8-20" or a text file of them, found none '
                        f"({reason})") from error  # fmt: skip


def format_ids(ids: Sequence[int]) -> str:
    """[0, 1, 2, 7] -> '0-2, 7'."""
    runs: list[list[int]] = []
    for number in ids:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)


def masked_l1(image: Images, target: Images, mask: Masks) -> torch.Tensor:
    """Mean absolute error of (B, C, H, W) images over the pixels of a (B, H, W) mask; 0 for an empty mask."""
    error = ((image - target).abs() * mask[:, None]).sum()
    return error / (mask.sum() * image.shape[1]).clamp_min(1)


def surface_psnr(pairs: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> float:
    """PSNR in dB over the surface pixels of all pairs together.

    pairs: (image, truth, mask) of each frame: (H, W, 3) uint8 twice and (H, W) bool.
    """
    total, count = 0.0, 0
    for image, truth, mask in pairs:
        error = (image[mask].astype(np.float64) - truth[mask]) / 255
        total, count = total + float(np.square(error).sum()), count + error.size
    return psnr_db([total / max(count, 1)])
