"""Better codes for a trained model, by search: the reference, for any device.

Training with straight-through rounding stops at codes that a single step can often improve. A sweep looks at each texel
of a grid level. Of its features, those that the gradient of the squared error names first move one code up or down, as
the gradient says; what lowers the error of the texels of the material that read it stays, and the next feature is tried
on top of it. It is coordinate descent on the error that is measured, so no sweep can make it larger.

Texels that share none of these texels of the material are looked at together: every other column and row, and the last
one of an odd number by itself. The result does not depend on their order, so every engine finds the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchtyping import TensorType

from dataset import Material
from model import NeuralTexture, texel_centres
from quantize import codes_from_features, features_from_codes

Weights = TensorType["learned"]
LodWeights = TensorType["lods"]
Indices = TensorType["n"]
Errors = TensorType["n"]
PerTexel = TensorType["y", "x"]
Features = TensorType["y", "x", "features"]

# Features of a texel that are tried, and failures in a row after which no further one is: NT_REFINE_TRIED and
# NT_REFINE_FAILURES of engine/cpu/src/nt.h. Rock058: they find as much as 4 tries without a limit of failures, 34.67 dB
# at 2.5 bpp and 41.38 at 10, and the second sweep at 10 bpp takes a fifth less time.
FEATURES_TRIED, FAILURES = 8, 2
REACH = 4096  # texels of the material that may read one of a grid; coarser levels are left alone: NT_REFINE_REACH
CHUNK = 1 << 16  # texels of the material decoded at a time


def refine_level(
    model: NeuralTexture, material: Material, index: int, level: int, channels: Sequence[int],
    channel_weights: Weights, lod_weights: LodWeights,
) -> int:  # fmt: skip
    """One sweep over a level of grid `index`; the model's parameters become better.

    Args:
        material: on the model's device.
        channels: canonical ones that count, with their weights.
        lod_weights: what the squared error of a texel of each LOD counts.
    Returns: how many codes have changed.
    """
    search = _Search(model, material, index, level, channels, channel_weights, lod_weights)
    classes = _classes(search.resolution)
    return sum(search.sweep_class(rows, columns) for rows in classes for columns in classes)


def _classes(resolution: int) -> list[list[int]]:
    """Indices along an axis none of which are neighbours, addressing repeated."""
    last = [resolution - 1] if resolution % 2 else []
    even, odd = ([i for i in range(start, resolution, 2) if i not in last] for start in (0, 1))
    return [group for group in (even, odd, last) if group]


class _Search:
    """What a sweep needs to know of one level."""

    def __init__(
        self, model: NeuralTexture, material: Material, index: int, level: int, channels: Sequence[int],
        channel_weights: Weights, lod_weights: LodWeights,
    ):  # fmt: skip
        device = model.weights[0].device
        self.model, self.index, self.grid = model, index, model.grids[index]
        self.resolution = self.grid.resolution(level)
        self.values = model.level(index, level).detach()  # a view of the model's parameters
        self.first = self.grid.level_offset(level)
        present = material.present_channels.tolist()
        self.columns = [present.index(channel) for channel in channels]
        self.channels, self.material = list(channels), material
        self.channel_weights = channel_weights.to(device)
        self.lods = [lod for lod in range(model.num_lods) if self.grid.level_of(lod) == level]
        self.lod_weights = lod_weights.tolist()
        readers = sum((self._readers(lod) for lod in self.lods), torch.zeros((), device=device))
        self.within_reach = (readers > 0) & (readers <= REACH)

    def _cells(self, lod: int) -> tuple[Indices, Indices]:
        """Between which rows, and which columns, of the level the texels of a LOD lie: the index of the first."""
        width, height = self.material.lod_sizes[lod]
        device = self.values.device
        across = texel_centres(torch.arange(width, device=device), width, 1)[:, 0]
        down = texel_centres(torch.arange(height, device=device), 1, height)[:, 1]
        cells = [(axis * self.resolution - 0.5).floor().long() % self.resolution for axis in (down, across)]
        return cells[0], cells[1]

    def _around(self, by_cell: PerTexel) -> PerTexel:
        """Sums over the cells beside each texel, from sums in each cell."""
        for axis in (0, 1):
            if self.resolution > 1:
                by_cell = by_cell + by_cell.roll(1, axis)
        return by_cell

    def _readers(self, lod: int) -> PerTexel:
        """How many texels of a LOD read each texel of the level."""
        counts = [torch.bincount(cells, minlength=self.resolution) for cells in self._cells(lod)]
        return self._around(counts[0][:, None] * counts[1][None, :])

    def error(self, lod: int, texel: Indices) -> Errors:
        """Weighted squared error of texels of a LOD, by their index in it."""
        width, height = self.material.lod_sizes[lod]
        decoded = self.model(texel_centres(texel, width, height), torch.full_like(texel, lod))[:, self.channels]
        wanted = self.material.gather(texel + self.material.lod_offsets[lod])[:, self.columns]
        return self.lod_weights[lod] * ((decoded.clamp(0, 1) - wanted).square() * self.channel_weights).sum(dim=1)

    def _chunks(self, lod: int) -> list[Indices]:
        width, height = self.material.lod_sizes[lod]
        return list(torch.arange(width * height, device=self.values.device).split(CHUNK))

    @torch.no_grad()
    def errors(self) -> PerTexel:
        """Of the texels of the material that read each texel of the level, summed, float64 (float32 without it)."""
        exact = torch.float32 if self.values.device.type == "mps" else torch.float64
        by_cell = torch.zeros(self.resolution**2, dtype=exact, device=self.values.device)
        for lod in self.lods:
            rows, columns = self._cells(lod)
            width = len(columns)
            for texel in self._chunks(lod):
                cell = rows[texel // width] * self.resolution + columns[texel % width]
                by_cell.index_add_(0, cell, self.error(lod, texel).to(exact))
        return self._around(by_cell.view(self.resolution, self.resolution))

    def gradient(self) -> Features:
        """Of all errors by the features."""
        parameters = self.model.grid_parameters[self.index]
        total = torch.zeros_like(self.values)
        with torch.enable_grad():
            for lod in self.lods:
                for texel in self._chunks(lod):
                    (part,) = torch.autograd.grad(self.error(lod, texel).sum(), parameters)
                    start = self.first * self.grid.features
                    total += part[start : start + total.numel()].view_as(total)
        return total

    def sweep_class(self, rows: list[int], columns: list[int]) -> int:
        """Tries the features of these texels; returns how many codes have changed."""
        bits, n = self.grid.quantize_bits, 1 << self.grid.quantize_bits
        mine = torch.zeros_like(self.within_reach)
        mine[torch.tensor(rows)[:, None], torch.tensor(columns)[None, :]] = True
        mine &= self.within_reach
        gradient, least = self.gradient(), self.errors()
        best = self.values.clone()
        codes = codes_from_features(best, bits)
        moved = codes - gradient.sign().to(codes.dtype)
        possible = (moved >= 0) & (moved < n) & (gradient != 0) & mine[..., None]
        order = torch.where(possible, gradient.abs(), -1.0).sort(dim=-1, descending=True, stable=True).indices
        changed, failures = 0, torch.zeros_like(self.within_reach, dtype=torch.int8)
        for rank in range(min(FEATURES_TRIED, self.grid.features)):
            feature = order[..., rank : rank + 1]
            value = features_from_codes(moved.gather(-1, feature), bits)
            trying = possible.gather(-1, feature) & (failures < FAILURES)[..., None]
            self.values.copy_(torch.where(trying, best.scatter(-1, feature, value), best))
            errors = self.errors()
            better = trying[..., 0] & (errors < least)
            least = torch.where(better, errors, least)
            best = torch.where(better[..., None], self.values, best)
            failures = torch.where(better, 0, failures + 1)
            changed += int(better.sum())
        self.values.copy_(best)
        return changed
