"""Draws the texels and LODs of an iteration from seed and iteration alone, so that all engines see the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchtyping import TensorType

from common.errors import UserError
from dataset import Material
from engine.loss_weights import MapWeights, channel_weights, light_weight, resolve_loss_weights
from maps.channels import map_channels
from model import NeuralTexture
from quantize import hash_uniform, stream_key

Shares = TensorType["lods"]
Indices = TensorType["samples"]
Lods = TensorType["samples"]
Positions = TensorType["samples", 2]
Weights = TensorType["learned"]

PROBE = -1  # the iteration number from which Engine.probe draws its samples
STREAM_LOD = 0
STREAM_TEXEL = 1
STREAM_NOISE = 2  # grid g draws from STREAM_NOISE + g
STREAM_FRACTION = 64  # beyond the noise of MAX_GRIDS grids

# Share of the batch that is spread evenly over the LODs, so that small ones are trained at all. Two materials at 2.5
# bpp, 2500 iterations: a share of 0.05 costs 0.12 dB at LOD 0; without any, LODs of at most 16 texels end 3.5 dB below
# LOD 0.
UNIFORM_LOD_SHARE = 0.02

# Share of the samples of `FilteredSampler` on a whole LOD, where every magnified surface lies. BC1 planes at 2.5 bpp,
# Rock058, 1500 x 4096 samples, shares of 0, 0.25, 0.5: 30.46, 30.70, 30.83 dB at the texel centres of LOD 0 (trained
# there alone: 30.86), 31.90, 32.39, 32.65 at any position of LOD 0, and 33.92, 33.87, 33.81 at any position and LOD.
WHOLE_LOD_SHARE = 0.5


def whole_lod_share(model: NeuralTexture) -> float:
    """Share of the samples of `FilteredSampler` at whole LODs.

    1 with a learned grid: such a model blends decoded LODs, so that it is right between two as soon as it is right at
    both, and a sample there costs two runs of the network. A share of 0.5 gives 0.14 dB at any LOD and takes 0.1 from
    any position of LOD 0 (128 x 128 texels of Rock058, two seeds).
    """
    return 1.0 if any(grid.interpolation == "learned" for grid in model.grids) else WHOLE_LOD_SHARE


def lod_shares(texel_counts: Sequence[int]) -> Shares:
    """Fraction of a batch that each LOD receives, float64.

    Proportional to its texels, so that every texel of the material is seen equally often, with a small even share
    on top (Vaidyanathan et al. 2023, "Random-Access Neural Compression of Material Textures", section 5.1).
    """
    counts = torch.tensor(texel_counts, dtype=torch.float64)
    return (1 - UNIFORM_LOD_SHARE) * counts / counts.sum() + UNIFORM_LOD_SHARE / len(texel_counts)


def lod_boundaries(lod_sizes: Sequence[tuple[int, int]]) -> Shares:
    """Points on [0, 1) at which the share of the next LOD begins: (LODs - 1) float32, ascending."""
    return lod_shares([width * height for width, height in lod_sizes]).cumsum(0)[:-1].to(torch.float32)


def learned_channels(model: NeuralTexture, material: Material) -> list[int]:
    """The trained channels, ascending: those present in the material that the model does not hold as constants.

    A model saved before constants existed has none, and still trains all of them.
    """
    return [channel for channel in material.present_channels.tolist() if channel not in model.constants]


def channel_loss_weights(
    material: Material, texture_loss_weights: MapWeights | str, channels: Sequence[int] | None = None
) -> Weights:
    """Weight of each of `channels`, summing to 1, so that equal weights give the plain mean squared error.

    Args:
        texture_loss_weights: per map or channel, or 'auto', see loss_weights.resolve_loss_weights.
        channels: canonical ones, such as learned_channels; None: all that are present.
    Raises: UserError when all of them have weight 0.
    """
    per_map = resolve_loss_weights(material, texture_loss_weights)
    map_of = {channel: name for name in material.present for channel in map_channels(name)}
    channels = list(map_of) if channels is None else channels
    names = [map_of[channel] for channel in channels]
    weights = [
        channel_weights(per_map, name)[map_channels(name).index(channel)] * light_weight(material, name)
        for channel, name in zip(channels, names)
    ]
    total = sum(weights)
    if weights and total == 0:
        listing = ", ".join(dict.fromkeys(names))
        raise UserError(
            f"texture_loss_weights: {listing} is all that there is to train in {material.name}, and all have weight 0"
        )
    return torch.tensor(weights, dtype=torch.float32) / (total or 1)


class TexelSampler:
    """Draws uniformly random texels of randomly chosen LODs.

    Args:
        lod_sizes: (width, height) of each LOD.
        seed: of the run.
        batch_size: samples per iteration.
    """

    def __init__(self, lod_sizes: Sequence[tuple[int, int]], seed: int, batch_size: int, device: torch.device):
        counts = [width * height for width, height in lod_sizes]
        self.seed = seed
        self._cumulative = lod_boundaries(lod_sizes).to(device)
        self._widths = torch.tensor([width for width, _ in lod_sizes], device=device)
        self._heights = torch.tensor([height for _, height in lod_sizes], device=device)
        self._offsets = torch.tensor([0] + counts, device=device).cumsum(0)
        self._slots = torch.arange(batch_size, dtype=torch.int32, device=device)

    def draw(self, iteration: int) -> tuple[Indices, Indices, Positions]:
        """The samples of one iteration.

        Returns: index of the texel in the material's flat storage (n,) int64, lod (n,) int64, uv (n, 2) float32.
        """
        texel_key = stream_key(self.seed, iteration, STREAM_TEXEL)
        lod = self._draw_lods(iteration)
        width, height = self._widths[lod], self._heights[lod]
        # two draws per sample: 24 bits for a whole row-by-row index would leave out texels of images above 4096²
        x = (hash_uniform(self._slots * 2, texel_key) * width).long()
        y = (hash_uniform(self._slots * 2 + 1, texel_key) * height).long()
        uv = torch.stack(((x + 0.5) / width, (y + 0.5) / height), dim=1)
        return self._offsets[lod] + y * width + x, lod, uv

    def _draw_lods(self, iteration: int) -> Indices:
        key = stream_key(self.seed, iteration, STREAM_LOD)
        return torch.bucketize(hash_uniform(self._slots, key), self._cumulative, right=True)


class FilteredSampler(TexelSampler):
    """Draws positions anywhere, and LODs as TexelSampler does, or between one of those and the next.

    Args:
        whole_lods: share of the samples that stay at whole LODs, see whole_lod_share.
        others: as of TexelSampler.
    """

    def __init__(
        self, lod_sizes: Sequence[tuple[int, int]], seed: int, batch_size: int, device: torch.device, whole_lods: float
    ):
        super().__init__(lod_sizes, seed, batch_size, device)
        self._last = len(lod_sizes) - 1
        self._whole, self._scale = fraction_of_draw(whole_lods)

    def draw_positions(self, iteration: int) -> tuple[Positions, Lods]:
        """The samples of one iteration: uv (n, 2) in [0, 1), lod (n,), both float32."""
        texel_key = stream_key(self.seed, iteration, STREAM_TEXEL)
        lod = self._draw_lods(iteration)
        uv = hash_uniform(torch.stack((self._slots * 2, self._slots * 2 + 1), dim=1), texel_key)
        drawn = hash_uniform(self._slots, stream_key(self.seed, iteration, STREAM_FRACTION))
        fraction = (drawn - self._whole).clamp_min(0) * self._scale
        return uv, lod + torch.where(lod < self._last, fraction, 0.0)


def fraction_of_draw(whole_lods: float) -> tuple[float, float]:
    """(start, scale): a uniform x becomes the fraction max(x - start, 0) * scale of a LOD, in [0, 1)."""
    return whole_lods, (1 / (1 - whole_lods) if whole_lods < 1 else 0.0)
