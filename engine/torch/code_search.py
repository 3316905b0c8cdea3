"""Code search, the reference for any device: improves the codes of a trained model one at a time.

Training with straight-through rounding ends at codes that a single step can often improve. A sweep visits each texel of
a grid level and tries its features in order of the size of their gradient. A try moves one code up or down, against the
gradient, and stays if it lowers the squared error of those texels of the material that read the grid texel. This is
coordinate descent on the very error that is measured, so a sweep never makes it larger.

Texels of a grid that no texel of the material reads together are searched at the same time: every other column and row,
and the last one of an odd number by itself. The result does not depend on the order within such a class, so all
implementations find the same codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

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

# Most features of a texel that are tried, and failures in a row that end its search: NT_SEARCH_TRIED and
# NT_SEARCH_FAILURES of engine/cpu/src/nt.h. On Rock058 this finds as much as 4 tries with any number of failures,
# 34.67 dB at 2.5 bpp and 41.38 at 10, and the second sweep at 10 bpp takes a fifth less time.
FEATURES_TRIED, FAILURES = 8, 2
REACH = 4096  # a grid texel that more texels of the material read is left as it is: NT_SEARCH_REACH
CHUNK = 1 << 16  # texels of the material decoded at a time


class CodeSearch(Protocol):
    """One sweep over a grid level: search_level, or an implementation of it."""

    def __call__(
        self, model: NeuralTexture, material: Material, index: int, level: int, channels: Sequence[int],
        channel_weights: Weights, lod_weights: LodWeights,
    ) -> int:  # fmt: skip
        """See search_level."""


def search_level(
    model: NeuralTexture, material: Material, index: int, level: int, channels: Sequence[int],
    channel_weights: Weights, lod_weights: LodWeights,
) -> int:  # fmt: skip
    """One sweep over a level of grid `index`, which changes the model's parameters.

    Args:
        material: on the model's device.
        channels: the canonical channels whose error counts.
        channel_weights: of each of `channels`.
        lod_weights: of the squared error of one texel of each LOD.
    Returns: the number of changed codes.
    """
    search = _Search(model, material, index, level, channels, channel_weights, lod_weights)
    classes = _classes(search.resolution)
    return sum(search.sweep_class(rows, columns) for rows in classes for columns in classes)


def _classes(resolution: int) -> list[list[int]]:
    """Indices along an axis in classes without neighbours; the first and last index are neighbours, too."""
    last = [resolution - 1] if resolution % 2 else []
    even, odd = ([i for i in range(start, resolution, 2) if i not in last] for start in (0, 1))
    return [group for group in (even, odd, last) if group]


class _Search:
    """The state of a sweep over one level."""

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
        """For each row, and each column, of a LOD: the first of the two of the level that its centre lies between."""
        width, height = self.material.lod_sizes[lod]
        device = self.values.device
        across = texel_centres(torch.arange(width, device=device), width, 1)[:, 0]
        down = texel_centres(torch.arange(height, device=device), 1, height)[:, 1]
        cells = [(axis * self.resolution - 0.5).floor().long() % self.resolution for axis in (down, across)]
        return cells[0], cells[1]

    def _around(self, by_cell: PerTexel) -> PerTexel:
        """Sums over the four cells around each texel of the level, from the sums of each cell."""
        for axis in (0, 1):
            if self.resolution > 1:
                by_cell = by_cell + by_cell.roll(1, axis)
        return by_cell

    def _readers(self, lod: int) -> PerTexel:
        """For each texel of the level, the number of texels of a LOD that read it."""
        counts = [torch.bincount(cells, minlength=self.resolution) for cells in self._cells(lod)]
        return self._around(counts[0][:, None] * counts[1][None, :])

    def error(self, lod: int, texel: Indices) -> Errors:
        """Weighted squared error of texels of a LOD, given by their index in it."""
        width, height = self.material.lod_sizes[lod]
        decoded = self.model(texel_centres(texel, width, height), torch.full_like(texel, lod))[:, self.channels]
        wanted = self.material.gather(texel + self.material.lod_offsets[lod])[:, self.columns]
        return self.lod_weights[lod] * ((decoded.clamp(0, 1) - wanted).square() * self.channel_weights).sum(dim=1)

    def _chunks(self, lod: int) -> list[Indices]:
        width, height = self.material.lod_sizes[lod]
        return list(torch.arange(width * height, device=self.values.device).split(CHUNK))

    @torch.no_grad()
    def errors(self) -> PerTexel:
        """For each texel of the level, the summed error of the texels of the material that read it.

        float64, on devices without it float32.
        """
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
        """Gradient of the summed error by the features of the level."""
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
        """Search the texels of these rows and columns; returns the number of changed codes."""
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
