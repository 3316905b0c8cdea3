"""Baselines without networks: the nearest frame, blended frames, the mean, a Fourier series per texel, PCA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torchtyping import TensorType

from lightmap.compressor import chunks, time_features, upsample
from lightmap.data import Day, unit
from metrics.scores import psnr_of

RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
FOURIER = 2  # harmonics, the default of --time_harmonics
FLOAT_BYTES = 4

Stack = TensorType["n", "frames*3"]
Columns = TensorType["frames*3"]
Basis = TensorType["frames*3", "components"]
Weights = TensorType["texels", "components"]


def stack_of(day: Day, texels: torch.Tensor) -> Stack:
    """The colours of some texels in all frames, in [0, 1], float32."""
    return unit(day.frames[texels]).flatten(1)


def blended(stack: Stack) -> Stack:
    """The mean of each frame and the next; after the last frame comes the first."""
    return (stack + stack.roll(-3, dims=1)) / 2


def mean_square(a: Stack, b: Stack) -> float:
    """Mean squared difference, with `a` clamped to [0, 1]."""
    return float((a.clamp(0, 1) - b).double().square().mean())


def simple_baselines(day: Day, half: Day | None, texels: torch.Tensor) -> dict[str, dict[str, float | None]]:
    """Baseline -> PSNR in dB at the hours and half-hours. None: exact at the hours, or no half-hours are known."""
    stack = stack_of(day, texels)
    between = None if half is None else stack_of(half, texels)
    mean = stack.view(len(stack), -1, 3).mean(dim=1).repeat(1, day.n_frames)
    series, series_between = _fourier(day, stack)

    def pair(at_hours: Stack | None, at_halves: Stack) -> dict[str, float | None]:
        return {
            "psnr_hours": None if at_hours is None else psnr_of(mean_square(at_hours, stack)),
            "psnr_half_hours": None if between is None else psnr_of(mean_square(at_halves, between)),
        }

    return {
        "mean_image": pair(mean, mean),
        "nearest_hour": pair(None, stack),
        "linear_blend": pair(None, blended(stack)),
        f"fourier_{FOURIER}": pair(series, series_between),
    }


def _fourier(day: Day, stack: Stack) -> tuple[Stack, Stack]:
    """Each texel's least-squares fit of a constant and FOURIER harmonics, evaluated at the hours and half-hours."""

    def design(shift: float) -> torch.Tensor:
        features = time_features(torch.tensor(day.times(shift), dtype=torch.float64), FOURIER)
        return torch.cat([torch.ones(len(features), 1), features], dim=1)

    values = stack.view(len(stack), -1, 3)
    solver = torch.linalg.pinv(design(0))
    weights = torch.einsum("kt,ntc->nkc", solver, values)
    return tuple(torch.einsum("tk,nkc->ntc", design(shift), weights).flatten(1) for shift in (0, 0.5))


# --- PCA -------------------------------------------------------------------------------------------------------------


@dataclass
class Pca:
    """Principal components: a texel's colours over the day are the mean plus its weights times a few basis days.

    Weights are stored as 8-bit codes between the extremes of their component, at 1/scale of the width and height.
    """

    day: Day
    mean: Columns
    basis: Basis
    weights: Weights
    low: Columns  # of the weights, over all texels
    high: Columns
    known: dict[tuple[int, int], tuple[float, float | None]]

    @classmethod
    def of(cls, day: Day) -> Pca:
        """The components of the texels in the mask."""
        columns = day.n_frames * 3
        total, products, count = torch.zeros(columns).double(), torch.zeros(columns, columns).double(), 0
        for part in chunks(day.texels):
            stack = stack_of(day, part[day.mask[part]]).double()
            total, products, count = total + stack.sum(dim=0), products + stack.T @ stack, count + len(stack)
        mean = total / count
        _, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
        basis = vectors.flip(1)[:, : min(max(RANKS), columns)].float()
        weights = torch.cat([(stack_of(day, part) - mean.float()) @ basis for part in chunks(day.texels)])
        return cls(day, mean.float(), basis, weights, weights.amin(dim=0), weights.amax(dim=0), {})

    def bytes_of(self, rank: int, scale: int) -> int:
        """Bytes of the codes and, as float32, of their ranges, the components and the mean."""
        texels = -(-self.day.height // scale) * -(-self.day.width // scale)
        return texels * rank + FLOAT_BYTES * (len(self.mean) * (rank + 1) + 2 * rank)

    def rebuilt(self, rank: int, scale: int, texels: torch.Tensor) -> Stack:
        """The colours of some texels in all frames, from `rank` components at 1/scale of the size."""
        size = (self.day.height, self.day.width)
        if scale == 1:
            weights = self._stored(self.weights[texels, :rank], self.low[:rank], self.high[:rank])
            return weights @ self.basis[:, :rank].T + self.mean
        image = self.weights[:, :rank].reshape(1, *size, rank).permute(0, 3, 1, 2)
        small = functional.avg_pool2d(image, scale, ceil_mode=True, count_include_pad=False)
        weights = small.permute(0, 2, 3, 1).reshape(-1, rank)
        stored = self._stored(weights, weights.amin(dim=0), weights.amax(dim=0))
        return upsample(stored, size, tuple(small.shape[2:]), texels) @ self.basis[:, :rank].T + self.mean

    @staticmethod
    def _stored(weights: Weights, low: Columns, high: Columns) -> Weights:
        """Weights after rounding to 8-bit codes between these extremes."""
        step = (high - low).clamp_min(1e-12) / 255
        return ((weights - low) / step + 0.5).floor() * step + low

    def scores(self, rank: int, scale: int, half: Day | None, texels: torch.Tensor) -> tuple[float, float | None]:
        """PSNR in dB at the hours and half-hours, cached: several forms are compared with the same rank and scale."""
        if (rank, scale) not in self.known:
            rebuilt = self.rebuilt(rank, scale, texels)
            halves = None if half is None else psnr_of(mean_square(blended(rebuilt), stack_of(half, texels)))
            self.known[rank, scale] = psnr_of(mean_square(rebuilt, stack_of(self.day, texels))), halves
        return self.known[rank, scale]

    def best_at(self, n_bytes: int, half: Day | None, texels: torch.Tensor) -> dict[str, Any] | None:
        """The rank and scale with the highest PSNR at the hours in at most `n_bytes`; None if every one is larger."""
        best = None
        for rank in RANKS:
            fitting = (s for s in range(1, max(self.day.height, self.day.width)) if self.bytes_of(rank, s) <= n_bytes)
            scale = next(fitting, None)
            if scale is None or rank > self.basis.shape[1]:
                break
            hours, halves = self.scores(rank, scale, half, texels)
            if best is None or hours > best["psnr_hours"]:
                best = {"rank": rank, "scale": scale, "bytes": self.bytes_of(rank, scale)}
                best.update(psnr_hours=hours, psnr_half_hours=halves)
        return best


def evaluation_texels(day: Day, most: int) -> torch.Tensor:
    """The texels in the mask; of more than `most` a random choice, the same for every call."""
    counted = day.mask.nonzero()[:, 0]
    if len(counted) <= most:
        return counted
    order = np.random.default_rng(0).permutation(len(counted))[:most]
    return counted[torch.from_numpy(np.sort(order))]
