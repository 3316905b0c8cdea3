"""Which texels and LODs a training iteration looks at: a function of (seed, iteration), the same in every engine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchtyping import TensorType

from dataset import MAPS, Material
from errors import UserError
from quantize import hash_uniform, stream_key

Shares = TensorType["lods"]
Indices = TensorType["samples"]
Positions = TensorType["samples", 2]
Weights = TensorType["present"]

PROBE = -1  # the "iteration" whose samples an engine's probe() looks at
STREAM_LOD = 0
STREAM_TEXEL = 1
STREAM_NOISE = 2  # grid g draws from STREAM_NOISE + g

UNIFORM_LOD_SHARE = 0.05  # of the batch, spread evenly over the LODs, so that the small ones are seen at all


def lod_shares(texel_counts: Sequence[int]) -> Shares:
    """Fraction of a batch that each LOD receives, float64.

    Proportional to its texels, so that every texel of the material is seen equally often, with a small even share
    on top (Vaidyanathan et al. 2023, "Random-Access Neural Compression of Material Textures", section 5.1).
    """
    counts = torch.tensor(texel_counts, dtype=torch.float64)
    return (1 - UNIFORM_LOD_SHARE) * counts / counts.sum() + UNIFORM_LOD_SHARE / len(texel_counts)


def lod_boundaries(lod_sizes: Sequence[tuple[int, int]]) -> Shares:
    """Where on [0, 1) the share of the next LOD begins: one float32 less than there are LODs, ascending."""
    return lod_shares([width * height for width, height in lod_sizes]).cumsum(0)[:-1].to(torch.float32)


def channel_loss_weights(material: Material, texture_loss_weights: dict[str, float]) -> Weights:
    """Weight of each present channel, summing to 1, so that equal weights give the plain mean squared error.

    Raises: UserError when every present map has weight 0.
    """
    weights = [texture_loss_weights[name] for name in material.present for _ in range(MAPS[name])]
    total = sum(weights)
    if total == 0:
        names = ", ".join(material.present)
        raise UserError(f"texture_loss_weights: {names} is all that {material.name} has, and all have weight 0")
    return torch.tensor(weights, dtype=torch.float32) / total


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
        lod_key = stream_key(self.seed, iteration, STREAM_LOD)
        texel_key = stream_key(self.seed, iteration, STREAM_TEXEL)
        lod = torch.bucketize(hash_uniform(self._slots, lod_key), self._cumulative, right=True)
        width, height = self._widths[lod], self._heights[lod]
        # two draws per sample: 24 bits for a whole row-by-row index would leave out texels of images above 4096²
        x = (hash_uniform(self._slots * 2, texel_key) * width).long()
        y = (hash_uniform(self._slots * 2 + 1, texel_key) * height).long()
        uv = torch.stack(((x + 0.5) / width, (y + 0.5) / height), dim=1)
        return self._offsets[lod] + y * width + x, lod, uv
