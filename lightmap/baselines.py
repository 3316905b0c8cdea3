"""Baselines without networks: the nearest frame, blended frames, the mean, a Fourier series per texel, PCA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torchtyping import TensorType

from lightmap.compressor import time_features, upsample
from lightmap.data import STRIP, Day, HalfHours, Numbers, unit
from lightmap.evaluation import Sample, Stack, blended, psnr_between, score, stack_of

RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # that resolutions are tried for
MOST_COMPONENTS = max(RANKS)
FOURIER = 2  # harmonics, the default of --time_harmonics
FLOAT_BYTES = 4
COMPONENT_TEXELS = 1 << 18  # that principal components are computed from, at most

Columns = TensorType["frames*3"]
Basis = TensorType["frames*3", "components"]
Weights = TensorType["texels", "components"]


def simple_baselines(sample: Sample, half: HalfHours | None) -> dict[str, dict[str, Any]]:
    """Baseline -> its scores, see evaluation.score. PSNR None: exact at the hours, or no half-hours are known."""
    day = sample.day
    stack, bright = stack_of(day, sample.texels), stack_of(day, sample.bright)

    def mean(of: Stack) -> Stack:
        return of.view(len(of), day.n_frames, 3).mean(dim=1).repeat(1, day.n_frames)

    def between(guess: Stack) -> dict[str, Any]:
        known = None if half is None else psnr_between(guess, unit(half.codes).flatten(1), day.bits)
        return {"psnr_hours": None, "psnr_half_hours": known}

    series, series_between = _fourier(day, stack)
    return {
        "mean_image": score(mean(stack), mean(stack), mean(bright), sample, half),
        "nearest_hour": between(stack),
        "linear_blend": between(blended(stack)),
        f"fourier_{FOURIER}": score(series, series_between, _fourier(day, bright)[0], sample, half),
    }


def _fourier(day: Day, stack: Stack) -> tuple[Stack, Stack]:
    """Each texel's least-squares fit of a constant and FOURIER harmonics, evaluated at the hours and half-hours."""

    def design(shift: float) -> torch.Tensor:
        features = time_features(torch.tensor(day.times(shift), dtype=torch.float64), FOURIER)
        return torch.cat([torch.ones(len(features), 1), features], dim=1)

    values = stack.view(len(stack), day.n_frames, 3)
    solver = torch.linalg.pinv(design(0))
    weights = torch.einsum("kt,ntc->nkc", solver, values)
    return tuple(torch.einsum("tk,nkc->ntc", design(shift), weights).flatten(1) for shift in (0, 0.5))


# --- PCA -------------------------------------------------------------------------------------------------------------


def day_components(day: Day, most: int) -> tuple[Columns, Basis]:
    """The mean of the day's texels in the mask and their first `most` principal components, float32.

    Of more than COMPONENT_TEXELS texels a random choice, the same for every call.
    """
    texels = day.mask.nonzero()[:, 0]
    if len(texels) > COMPONENT_TEXELS:
        order = np.random.default_rng(1).permutation(len(texels))[:COMPONENT_TEXELS]
        texels = texels[torch.from_numpy(np.sort(order))]
    columns = day.n_frames * 3
    total, products = torch.zeros(columns).double(), torch.zeros(columns, columns).double()
    for part in texels.split(STRIP >> 2):
        stack = stack_of(day, part).double()
        total, products = total + stack.sum(dim=0), products + stack.T @ stack
    mean = total / len(texels)
    _, vectors = torch.linalg.eigh(products / len(texels) - torch.outer(mean, mean))
    return mean.float(), vectors.flip(1)[:, : min(most, columns)].float()


@dataclass(frozen=True)
class Choice:
    """How many components PCA keeps, at 1/scale of the width and height."""

    rank: int
    scale: int


@dataclass
class Pca:
    """Principal components: a texel's colours over the day are the mean plus its weights times a few basis days.

    Weights are stored as 8-bit codes between the extremes of their component, at 1/scale of the width and height.
    """

    day: Day
    mean: Columns
    basis: Basis

    @classmethod
    def of(cls, day: Day) -> Pca:
        """The components of the texels in the mask."""
        return cls(day, *day_components(day, MOST_COMPONENTS))

    def bytes_of(self, choice: Choice) -> int:
        """Bytes of the codes and, as float32, of their ranges, the components and the mean."""
        rows, columns = self._size_at(choice.scale)
        return rows * columns * choice.rank + FLOAT_BYTES * (len(self.mean) * (choice.rank + 1) + 2 * choice.rank)

    def choices(self, n_bytes: int) -> list[Choice]:
        """What may be best in `n_bytes`: resolutions that fit some of RANKS, with as many components as fit besides;
        none where no resolution fits."""
        most, found = self.basis.shape[1], {}
        for rank in (rank for rank in (*RANKS, most) if rank <= most):
            scales = range(1, max(self.day.height, self.day.width))
            scale = next((scale for scale in scales if self.bytes_of(Choice(rank, scale)) <= n_bytes), None)
            if scale is not None and scale not in found:
                fitting = (more for more in range(most, 0, -1) if self.bytes_of(Choice(more, scale)) <= n_bytes)
                found[scale] = Choice(next(fitting), scale)
        return list(found.values())

    def best_at(
        self, budgets: Sequence[int], sample: Sample, half: HalfHours | None, tick: Callable[[], Any] = lambda: None
    ) -> dict[int, dict[str, Any] | None]:
        """Budget in bytes -> the rank and scale with the highest PSNR at the hours, with its scores; None: none fits.

        tick: called once in a while, `ticks` times in all.
        """
        wanted = {choice for budget in budgets for choice in self.choices(budget)}
        maps, source = self.weight_maps(wanted, tick), stack_of(self.day, sample.texels)

        def rebuilt(choice: Choice, texels: Numbers) -> Stack:
            return self.rebuilt(choice, maps[choice.scale], texels)

        hours = {choice: psnr_between(rebuilt(choice, sample.texels), source, self.day.bits) for choice in wanted}
        best: dict[int, dict[str, Any] | None] = {}
        for budget in budgets:
            choice = max(self.choices(budget), key=lambda choice: (hours[choice], -choice.rank), default=None)
            best[budget] = choice and {"rank": choice.rank, "scale": choice.scale, "bytes": self.bytes_of(choice)}
            if choice:
                whole = rebuilt(choice, sample.texels)
                best[budget].update(score(whole, blended(whole), rebuilt(choice, sample.bright), sample, half))
        return best

    @property
    def ticks(self) -> int:
        return len(list(self._strips()))

    def rebuilt(self, choice: Choice, weight_map: Weights, texels: Numbers) -> Stack:
        """The colours of some texels in all frames. weight_map: of `weight_maps`, at the choice's scale."""
        rank, size = choice.rank, (self.day.height, self.day.width)
        if choice.scale == 1:  # a row for each extreme: the texels' own weights are as quick to compute
            weights = (stack_of(self.day, texels) - self.mean) @ self.basis[:, :rank]
            weights = _stored(weights, weight_map[0, :rank], weight_map[1, :rank])
        else:
            weights = upsample(weight_map[:, :rank], size, self._size_at(choice.scale), texels)
        return weights @ self.basis[:, :rank].T + self.mean

    def weight_maps(self, choices: set[Choice], tick: Callable[[], Any] = lambda: None) -> Mapping[int, Weights]:
        """Scale -> the stored weights, averages over cells of scale x scale texels, row by row, as many as the choices
        need; for scale 1 only the weights' extremes over all texels, (2, components).

        One pass over the frames makes all of them, a strip of rows at a time.
        """
        ranks = {choice.scale: 0 for choice in choices}
        for choice in choices:
            ranks[choice.scale] = max(ranks[choice.scale], choice.rank)
        maps = {scale: torch.zeros(*self._size_at(scale), rank) for scale, rank in ranks.items() if scale > 1}
        extremes = torch.tensor([[torch.inf], [-torch.inf]]).repeat(1, self.basis.shape[1])
        for top, strip in self._strips():
            tick()
            stack = stack_of(self.day, strip)
            weights = ((stack - self.mean) @ self.basis).view(-1, self.day.width, self.basis.shape[1])
            extremes[0] = torch.minimum(extremes[0], weights.amin(dim=(0, 1)))
            extremes[1] = torch.maximum(extremes[1], weights.amax(dim=(0, 1)))
            for scale, cells in maps.items():
                _add_cells(cells, weights[..., : cells.shape[2]], top, scale)
        size = (self.day.height, self.day.width)
        for scale, cells in maps.items():
            heights, widths = (_cell_sides(side, scale) for side in size)
            cells /= (heights[:, None] * widths)[..., None]
            maps[scale] = _stored(cells.flatten(0, 1), cells.amin(dim=(0, 1)), cells.amax(dim=(0, 1)))
        return {1: extremes, **maps}

    def _size_at(self, scale: int) -> tuple[int, int]:
        return -(-self.day.height // scale), -(-self.day.width // scale)

    def _strips(self) -> Iterator[tuple[int, Numbers]]:
        """Strips of rows: the first row, and the numbers of the texels."""
        rows = max(1, STRIP // self.day.width)
        for top in range(0, self.day.height, rows):
            yield top, torch.arange(top * self.day.width, min(top + rows, self.day.height) * self.day.width)


def _stored(weights: Weights, low: Columns, high: Columns) -> Weights:
    """Weights after rounding to 8-bit codes between these extremes, in place: those of a large day take 100 MB."""
    step = (high - low).clamp_min(1e-12) / 255
    return weights.sub_(low).div_(step).add_(0.5).floor_().mul_(step).add_(low)


def _add_cells(cells: TensorType, weights: TensorType, top: int, scale: int) -> None:
    """Add rows of weights, the first of which is row `top`, to the sums of their cells of scale x scale texels."""
    rows, columns, rank = weights.shape
    above = top % scale
    below = -(rows + above) % scale
    padded = functional.pad(weights, (0, 0, 0, -columns % scale, above, below))
    sums = padded.view((rows + above + below) // scale, scale, cells.shape[1], scale, rank).sum(dim=(1, 3))
    cells[top // scale : top // scale + len(sums)] += sums


def _cell_sides(side: int, scale: int) -> torch.Tensor:
    """How many texels of a side each cell has: `scale`, and the rest in the last one."""
    sides = torch.full((-(-side // scale),), float(scale))
    sides[-1] = side - scale * (len(sides) - 1)
    return sides
