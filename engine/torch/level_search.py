"""What the searches of code_search.py and block_search.py share: the texels of the material that read a unit of a grid
level, a texel or a block, and their error."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torchtyping import TensorType

from dataset import Material
from engine.sample_loss import SampleLoss
from maps.channels import opacity_place
from model import NeuralTexture, texel_centres

Weights = TensorType["learned"]
LodWeights = TensorType["lods"]
Indices = TensorType["n"]
Errors = TensorType["n"]
PerCell = TensorType["rows", "columns"]  # of the level's texels: of those that a centre lies between, the first
PerUnit = TensorType["down", "across"]
Parameters = TensorType["down", "across", "parameters"]
Possible = TensorType["down", "across", "parameters"]  # bool

REACH = 4096  # a unit that more texels of the material read is left as it is: NT_SEARCH_REACH
CHUNK = 1 << 16  # texels of the material decoded at a time


def classes(count: int) -> list[list[int]]:
    """Indices along an axis in classes without neighbours; the first and last index are neighbours, too."""
    last = [count - 1] if count % 2 else []
    even, odd = ([i for i in range(start, count, 2) if i not in last] for start in (0, 1))
    return [group for group in (even, odd, last) if group]


class LevelSearch(ABC):
    """The state of a sweep over one level of successive grids of one shape, planes.

    A texel of the material reads the same units of all planes, so their gradients and errors are taken once.
    """

    def __init__(
        self, model: NeuralTexture, material: Material, planes: range, level: int, channels: Sequence[int],
        channel_weights: Weights, lod_weights: LodWeights,
    ):  # fmt: skip
        device = model.weights[0].device
        self.model, self.indices, self.grid = model, planes, model.grids[planes[0]]
        self.size = self.grid.level_size(level)
        self.planes = [model.level(index, level).detach() for index in planes]  # views of the model's parameters
        shape = self.planes[0].shape[:2]
        self.first = self.grid.level_offset(level) // self.grid.unit_texels * self.grid.unit_parameters
        present = material.present_channels.tolist()
        self.columns = [present.index(channel) for channel in channels]
        self.channels, self.material = list(channels), material
        self.sample_loss = SampleLoss(opacity_place(channels))
        self.channel_weights = channel_weights.to(device)
        self.lods = [lod for lod in range(model.num_lods) if self.grid.level_of(lod) == level]
        self.lod_weights = lod_weights.tolist()
        readers = sum((self._readers(lod) for lod in self.lods), torch.zeros(shape, device=device))
        self.within_reach = (readers > 0) & (readers <= REACH)

    def sweep(self) -> int:
        """Search all units of the level; returns the number of changed codes."""
        down, across = (classes(count) for count in self.within_reach.shape)
        return sum(self._sweep_class(rows, columns) for rows in down for columns in across)

    def _sweep_class(self, rows: list[int], columns: list[int]) -> int:
        mine = torch.zeros_like(self.within_reach)
        mine[torch.tensor(rows)[:, None], torch.tensor(columns)[None, :]] = True
        return self.search(mine & self.within_reach)

    @abstractmethod
    def search(self, mine: PerUnit) -> int:
        """Search these units, of which no texel of the material reads two; returns the number of changed codes."""

    def descend(
        self, values: Parameters, errors: PerUnit, order: Parameters, moved: Parameters, possible: Possible,
        failures: int,
    ) -> tuple[PerUnit, int]:  # fmt: skip
        """Try new values of parameters, one of each unit at a time, and keep those that lower its error.

        Args:
            values: of a plane, which change in place.
            errors: of the units now.
            order: of each unit, which parameters to try, one after the other.
            moved: the new value of each parameter.
            possible: which parameters of which units may be tried.
            failures: in a row that end the search of a unit.
        Returns: the errors afterwards, and the number of changed parameters.
        """
        best, changed = values.clone(), 0
        failed = torch.zeros_like(errors, dtype=torch.int8)
        for rank in range(order.shape[-1]):
            parameter = order[..., rank : rank + 1]
            trying = possible.gather(-1, parameter) & (failed < failures)[..., None]
            if not trying.any():
                break
            values.copy_(torch.where(trying, best.scatter(-1, parameter, moved.gather(-1, parameter)), best))
            tried = self.errors()
            better = trying[..., 0] & (tried < errors)
            errors = torch.where(better, tried, errors)
            best = torch.where(better[..., None], values, best)
            failed = torch.where(better, 0, failed + 1)
            changed += int(better.sum())
        values.copy_(best)
        return errors, changed

    def _cells(self, lod: int) -> tuple[Indices, Indices]:
        """For each row, and each column, of a LOD: the first of the two of the level that its centre lies between."""
        width, height = self.material.lod_sizes[lod]
        device = self.planes[0].device
        across = texel_centres(torch.arange(width, device=device), width, 1)[:, 0]
        down = texel_centres(torch.arange(height, device=device), 1, height)[:, 1]
        cells = [(axis * side - 0.5).floor().long() % side for axis, side in zip((across, down), self.size)]
        return cells[1], cells[0]

    def _by_unit(self, by_cell: PerCell) -> PerUnit:
        """Sums over the cells around each unit of the level, from the sums of each cell."""
        side, units = math.isqrt(self.grid.unit_texels), self.planes[0].shape
        for axis, cells in enumerate(self.size[::-1]):
            cell = torch.arange(cells, device=by_cell.device)
            first, second = cell // side, (cell + 1) % cells // side  # the units that a cell lies in
            two = first != second
            shape = [units[axis] if other == axis else length for other, length in enumerate(by_cell.shape)]
            sums = by_cell.new_zeros(shape).index_add_(axis, first, by_cell)
            by_cell = sums.index_add_(axis, second[two], by_cell.index_select(axis, cell[two]))
        return by_cell

    def _readers(self, lod: int) -> PerUnit:
        """For each unit of the level, the number of texels of a LOD that read it."""
        counts = [torch.bincount(cells, minlength=side) for cells, side in zip(self._cells(lod), self.size[::-1])]
        return self._by_unit(counts[0][:, None] * counts[1][None, :])

    def error(self, lod: int, texel: Indices) -> Errors:
        """Weighted squared error of texels of a LOD, given by their index in it."""
        width, height = self.material.lod_sizes[lod]
        decoded = self.model(texel_centres(texel, width, height), torch.full_like(texel, lod))[:, self.channels]
        wanted = self.material.gather(texel + self.material.lod_offsets[lod])[:, self.columns]
        return self.lod_weights[lod] * self.sample_loss.squares(decoded, wanted, self.channel_weights).sum(dim=1)

    def _chunks(self, lod: int) -> list[Indices]:
        width, height = self.material.lod_sizes[lod]
        return list(torch.arange(width * height, device=self.planes[0].device).split(CHUNK))

    @torch.no_grad()
    def errors(self) -> PerUnit:
        """For each unit of the level, the summed error of the texels of the material that read it.

        float64, on devices without it float32.
        """
        exact = torch.float32 if self.planes[0].device.type == "mps" else torch.float64
        width, height = self.size
        by_cell = torch.zeros(height * width, dtype=exact, device=self.planes[0].device)
        for lod in self.lods:
            rows, columns = self._cells(lod)
            for texel in self._chunks(lod):
                cell = rows[texel // len(columns)] * width + columns[texel % len(columns)]
                by_cell.index_add_(0, cell, self.error(lod, texel).to(exact))
        return self._by_unit(by_cell.view(height, width))

    def gradients(self) -> list[Parameters]:
        """Gradient of the summed error by the parameters of the level, of each plane."""
        parameters = [self.model.grid_parameters[index] for index in self.indices]
        totals = [torch.zeros_like(plane) for plane in self.planes]
        with torch.enable_grad():
            for lod in self.lods:
                for texel in self._chunks(lod):
                    parts = torch.autograd.grad(self.error(lod, texel).sum(), parameters)
                    for total, part in zip(totals, parts):
                        total += part[self.first : self.first + total.numel()].view_as(total)
        return totals
