"""What the forms of a day are measured on, and the measures: PSNR, and for HDR days errors of light."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchtyping import TensorType

from lightmap.data import STRIP, Day, HalfHours, Numbers, unit
from metrics.scores import psnr_of, round_to_8_bit

BLOCK = 4  # texels along a side of a block of the block-compressed formats, of which samples consist
BRIGHT_TEXELS = 64  # the brightest of an HDR day, which a sample of a large day would miss
DARK_SHARE = 0.01  # of the median: light below this floor counts as dark, where relative errors mean nothing

Stack = TensorType["n", "frames*3"]
Blocks = TensorType["blocks", 16]


def stack_of(day: Day, texels: Numbers) -> Stack:
    """The colours of some texels in all frames, in [0, 1], float32."""
    return unit(day.frames[texels]).flatten(1)


def blended(stack: Stack) -> Stack:
    """The mean of each frame and the next; after the last frame comes the first."""
    return (stack + stack.roll(-3, dims=1)) / 2


def stored(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Values as a file of that depth stores them; rounding to 16 bits or to floats is too fine to matter."""
    return round_to_8_bit(values) if bits == 8 else values.clamp(0, 1 if bits == 16 else None)


@dataclass(frozen=True)
class Sample:
    """Texels of a day that every form is measured on.

    blocks: (n, 16) texel numbers of 4x4 blocks, beyond the border those of the last row or column: what encoders of
        such blocks get.
    inside: (n, 16) which of them are texels in the mask, each once.
    bright: the BRIGHT_TEXELS brightest texels in the mask; none for LDR days.
    """

    day: Day
    blocks: Blocks
    inside: Blocks
    bright: Numbers

    @property
    def texels(self) -> Numbers:
        """The texels that are measured, block by block."""
        return self.blocks[self.inside]


def draw_sample(day: Day, most: int) -> Sample:
    """The texels in the mask; of more than `most` those of some 4x4 blocks, the same for every call."""
    rows, columns = -(-day.height // BLOCK), -(-day.width // BLOCK)
    order = np.random.default_rng(0).permutation(rows * columns)
    mask = day.mask.numpy().reshape(day.height, day.width)
    chosen, count = [], 0
    for part in np.array_split(order, max(1, len(order) * BLOCK**2 // STRIP)):
        numbers, inside = _block_texels(part, mask, columns)
        counted = np.cumsum(inside.sum(axis=1))
        keep = inside.any(axis=1) & (count + counted <= max(most, BLOCK**2))
        chosen.append((part[keep], numbers[keep], inside[keep]))
        count += int(inside[keep].sum())
        if count + int(counted[-1]) > most and not keep.all():
            break
    position = np.argsort(np.concatenate([part for part, _, _ in chosen]))
    blocks, inside = (torch.from_numpy(np.concatenate([c[i] for c in chosen])[position]) for i in (1, 2))
    return Sample(day, blocks, inside, _brightest(day))


def _block_texels(numbers: np.ndarray, mask: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Texel numbers and `inside` of blocks, see Sample."""
    height, width = mask.shape
    y = (numbers // columns * BLOCK)[:, None] + np.arange(BLOCK**2) // BLOCK
    x = (numbers % columns * BLOCK)[:, None] + np.arange(BLOCK**2) % BLOCK
    clamped = y.clip(0, height - 1), x.clip(0, width - 1)
    return clamped[0] * width + clamped[1], mask[clamped] & (y < height) & (x < width)


def _brightest(day: Day) -> Numbers:
    if not day.encoding.hdr:
        return torch.empty(0, dtype=torch.long)
    top = torch.cat([part.flatten(1).amax(dim=1) for part in day.frames.split(STRIP)]).int()
    top[~day.mask] = -(1 << 17)  # below every code
    return top.topk(min(BRIGHT_TEXELS, int(day.mask.sum()))).indices.sort().values


# --- measures --------------------------------------------------------------------------------------------------------


def psnr_between(decoded: Stack, source: Stack, bits: int) -> float:
    """PSNR in dB of encoded values after `stored`, for a peak of 1."""
    error = stored(decoded, bits) - source
    return psnr_of(float(error.double().square().mean()))


@dataclass
class LightError:
    """Errors of light over any number of texels and hours, added up part by part.

    x is the light of the files, d the decoded one, in the files' units; the floor is DARK_SHARE of the day's median.
    """

    day: Day
    squares: float = 0.0  # of d - x
    total: float = 0.0  # of x
    relative: float = 0.0  # of |d - x| / max(x, floor)
    stops: float = 0.0  # of |log2(d / x)| where x is above the floor, d clamped to it
    count: int = 0
    lit: int = 0
    worst_stops: float = 0.0
    worst: dict[str, Any] = dataclasses.field(default_factory=lambda: {"relative_error": 0.0})

    @property
    def floor(self) -> float:
        return DARK_SHARE * self.day.encoding.scale

    def add(self, decoded: Stack, source: Stack, texels: Numbers, frame: int | None = None) -> None:
        """Add encoded colours of texels in all frames, or (n, 3) in one."""
        d, x = (self.day.encoding.decode(part.numpy()).astype(np.float64) for part in (decoded, source))
        error = np.abs(d - x)
        relative = error / np.maximum(x, self.floor)
        lit = x >= self.floor
        stops = np.abs(np.log2(np.maximum(d[lit], self.floor) / x[lit]))
        self.squares += float(np.square(error).sum())
        self.total += float(x.sum())
        self.relative += float(relative.sum())
        self.stops += float(stops.sum())
        self.count += error.size
        self.lit += int(lit.sum())
        self.worst_stops = max(self.worst_stops, float(stops.max(initial=0)))
        row, column = np.unravel_index(int(relative.argmax()), relative.shape)
        if relative[row, column] > self.worst["relative_error"]:
            texel, at = int(texels[row]), column // 3 if frame is None else frame
            self.worst = {
                "relative_error": float(relative[row, column]), "x": texel % self.day.width,
                "y": texel // self.day.width, "hour": self.day.times()[at], "channel": "RGB"[column % 3],
                "light": float(x[row, column]), "decoded": float(d[row, column]),
            }  # fmt: skip

    def result(self) -> dict[str, Any]:
        """JSON-ready."""
        mean = self.total / self.count
        return {
            "relative_rmse": (self.squares / self.count) ** 0.5 / mean if mean else None,
            "mean_relative_error": self.relative / self.count,
            "worst_texel": self.worst if self.worst["relative_error"] else None,
            "mean_stops": self.stops / self.lit if self.lit else None,
            "worst_stops": self.worst_stops if self.lit else None,
            "floor": self.floor,
        }


def score(
    decoded: Stack, between: Stack | None, bright: Stack | None, sample: Sample, half: HalfHours | None
) -> dict[str, Any]:
    """The measures of one form, JSON-ready.

    Args:
        decoded: of sample.texels in all frames; between: at half-hours; bright: of sample.bright in all frames.
    Returns: {"psnr_hours", "psnr_half_hours" (None: not known), and of HDR days "light": of LightError, with
        "brightest": {"light", "decoded", "relative_error"} of the largest value of the day}.
    """
    day, texels = sample.day, sample.texels
    source = stack_of(day, texels)
    scores: dict[str, Any] = {
        "psnr_hours": psnr_between(decoded, source, day.bits),
        "psnr_half_hours": None if half is None or between is None else
        psnr_between(between, unit(half.codes).flatten(1), day.bits),
    }  # fmt: skip
    if day.encoding.hdr:
        found = LightError(day)
        found.add(stored(decoded, day.bits), source, texels)
        scores["light"] = found.result()
        if bright is not None:
            _add_brightest(scores["light"], stored(bright, day.bits), sample)
    return scores


def _add_brightest(light: dict[str, Any], decoded: Stack, sample: Sample) -> None:
    """Add the error of the day's largest value, and let the worst texel be one of the brightest if that is worse."""
    day = sample.day
    source = stack_of(day, sample.bright)
    found = LightError(day)
    found.add(decoded, source, sample.bright)
    known = light["worst_texel"]
    if found.worst["relative_error"] > (known["relative_error"] if known else 0):
        light["worst_texel"] = found.worst
    row, column = np.unravel_index(int(source.argmax()), source.shape)
    x, d = (float(day.encoding.decode(part[row, column : column + 1].numpy())[0]) for part in (source, decoded))
    light["brightest"] = {"light": x, "decoded": d, "relative_error": abs(d - x) / x if x else 0.0}
