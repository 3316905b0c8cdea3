"""Draws the samples of a training step: random texels at random hours."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lightmap.compressor import Rgb, Texels, Times
from lightmap.data import Day, unit

HELD_OUT_SHARE = 0.01  # of the texels in the mask
MEASURED_TEXELS = 1 << 14  # of latent mode basis, at most
HELD_OUT_TEXELS = (16, 2048)  # fewest and most, but never more than an eighth of the mask


@dataclass(frozen=True)
class Batch:
    """Samples: texel numbers (n,), hours (n,) float32, encoded RGB (n, 3) float32."""

    texels: Texels
    hours: Times
    values: Rgb


def split_texels(mask: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of the texels in the mask: those to train on and those held out, the same for the same seed."""
    counted = mask.nonzero()[:, 0]
    fewest, most = HELD_OUT_TEXELS
    wanted = min(max(round(len(counted) * HELD_OUT_SHARE), fewest), most, len(counted) // 8)
    order = torch.randperm(len(counted), generator=torch.Generator().manual_seed(seed))
    return counted[order[wanted:]].sort().values, counted[order[:wanted]].sort().values


def measured_texels(mask: torch.Tensor, seed: int) -> torch.Tensor:
    """Numbers of the texels in the mask; of more than MEASURED_TEXELS a choice, the same for the same seed."""
    counted = mask.nonzero()[:, 0]
    if len(counted) <= MEASURED_TEXELS:
        return counted
    order = torch.randperm(len(counted), generator=torch.Generator().manual_seed(seed))
    return counted[order[:MEASURED_TEXELS]].sort().values


class Sampler:
    """Draws batches.

    Args:
        texels: numbers of the texels to draw from.
        blend: whether half of each batch lies between the hours, with the blend of the two frames as its target.
        generator: on the CPU; the only source of randomness here.
    """

    def __init__(self, day: Day, texels: torch.Tensor, blend: bool, generator: torch.Generator, device: torch.device):
        self.frames, self.texels = day.frames.to(device), texels.to(device)
        self.step, self.blend, self.generator, self.device = day.step, blend, generator, device

    def draw(self, count: int) -> Batch:
        """Draw `count` samples; with blending, those from count // 2 on lie between the hours."""
        n_frames = self.frames.shape[1]
        texels = self.texels[self._integers(len(self.texels), count)]
        frames = self._integers(n_frames, count)
        values = unit(self.frames[texels, frames])
        hours = frames.float()
        if self.blend:
            late = slice(count // 2, count)
            share = torch.rand(count - count // 2, generator=self.generator).to(self.device)
            following = unit(self.frames[texels[late], (frames[late] + 1) % n_frames])
            values = torch.cat([values[: count // 2], torch.lerp(values[late], following, share[:, None])])
            hours = torch.cat([hours[: count // 2], hours[late] + share])
        return Batch(texels, hours * self.step, values)

    def _integers(self, below: int, count: int) -> torch.Tensor:
        return torch.randint(below, (count,), generator=self.generator).to(self.device)
