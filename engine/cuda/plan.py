"""Turns the shape of a model into constants and tables of the kernels. Plain Python, which needs no Triton."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch

from engine.errors import KernelsUnavailable
from engine.sampling import fraction_of_draw, whole_lod_share
from model import NeuralTexture
from quantized.network import LEVELS
from shape import PADDED_OUTPUTS, GridSpec

MOST_LODS = 16
MOST_NEURONS = 128  # the next size, two operands of 256 x 256, does not fit into shared memory
MOST_GRIDS = 16
SMALLEST, LARGEST = 16, 64  # columns of a group: the least that tl.dot accepts, and the most that registers hold
WAVE, TEXEL_WAVE, LOD, ONE = 1.0, 2.0, 3.0, 4.0  # engine/cuda/inputs.py
PRECISIONS = ("tf32", "bf16", "ieee")

# Most weight gradients that a program of 4 warps keeps in registers; more go to a slab of memory per program. By
# `python -m engine.cuda.compiled` the largest number without spills.
REGISTER_SUMS = 11_500


class Unsupported(KernelsUnavailable):
    """The model has a shape beyond the kernels' limits."""


def power_of_two(count: int) -> int:
    """The smallest power of two that is not less."""
    return 1 << max(count - 1, 0).bit_length()


def padded(count: int) -> int:
    """The next power of two, at least what tl.dot needs."""
    return max(SMALLEST, power_of_two(count))


@dataclasses.dataclass(frozen=True)
class Group:
    """A group of inputs: `piece` columns of stack `one`, (-1, 0): the position, and as many of `other` or zeros."""

    one: tuple[int, int]  # stack of grids and, if it is learned, its first corner
    other: tuple[int, int]
    piece: int
    width: int
    column: int  # first packed column

    def column_of(self, index: int, slot: int) -> int:
        """Packed column of input `index` of the first (slot 0) or the other (slot 1) stack, see inputs.side_by_side."""
        if self.piece == self.width:
            return self.column + index
        return self.column + (2 * index + slot) * (self.width // (2 * self.piece))


@dataclasses.dataclass(frozen=True)
class SamplePositions:
    """Where the samples of an iteration lie: at texel centres, or at any position.

    Args:
        anywhere: at any position.
        fraction: of their way to the next LOD, see sampling.fraction_of_draw; a scale of 0: they lie at whole LODs.
    """

    anywhere: bool = False
    fraction: tuple[float, float] = (1.0, 0.0)

    @classmethod
    def of(cls, model: NeuralTexture, positions: str) -> SamplePositions:
        """Those of a run with this value of --positions."""
        return cls(True, fraction_of_draw(whole_lod_share(model))) if positions == "filtered" else cls()

    @property
    def looks(self) -> int:
        """Most LODs at which a sample looks."""
        return 2 if self.fraction[1] else 1

    @property
    def mean_looks(self) -> float:
        """LODs at which a sample looks on average."""
        return 2 - self.fraction[0]

    @property
    def constant(self) -> tuple[int, float, float]:
        """The kernels' POSITIONS."""
        return (int(self.anywhere), *self.fraction)


CENTRES = SamplePositions()
BETWEEN_LODS = SamplePositions(True, (0.0, 1.0))


class KernelPlan:
    """How the kernels lay out a model: groups of inputs, packed weights, constants.

    Args:
        lazy: per grid, whether texels without a gradient wait for their Adam steps (engine/cuda/adam.py).
        moves: per grid, whether it is trained.
        precision: to which matrix products round their factors: tf32, bf16 or ieee (float32).
        fixed_point: gradients of the grids are summed as multiples of 1 / fixed_point; 0: as float32.
    Raises: Unsupported.
    """

    def __init__(
        self, model: NeuralTexture, lazy: tuple[bool, ...] | None = None, moves: tuple[bool, ...] | None = None,
        precision: str = "tf32", fixed_point: float = 0.0,
    ):  # fmt: skip
        check_supported(model)
        decoder, layout = model.decoder, model.layout
        self.model = model
        self.precision, self.fixed_point = precision, fixed_point
        self.layers = decoder.n_hidden_layers
        self.neurons = padded(decoder.n_neurons)
        self.first_outputs = self.neurons if self.layers else PADDED_OUTPUTS
        self.lazy = lazy or (False,) * len(model.grids)
        self.moves = moves or (True,) * len(model.grids)
        self.stacks = _stacks(model, self.lazy, self.moves)
        self.columns, self.one, positions = _position_columns(model)
        width = self.columns.shape[1]
        self.groups = [Group((-1, 0), (-1, 0), width, width, 0)]
        inputs = dict(positions)  # file input -> packed column
        for pair in _pairs(model, self.stacks):
            (a, first, count, _), (b, other, _, _) = pair
            group = Group((a, first), (b, other), count, max(count, SMALLEST), self.inputs)
            self.groups.append(group)
            for slot, (_, _, _, of_file) in enumerate(pair):
                inputs.update({at: group.column_of(i, slot) for i, at in enumerate(of_file) if at >= 0})
        self.input_map = torch.tensor([inputs.get(i, -1) for i in range(layout.total)], dtype=torch.int32)
        last = self.neurons if self.layers else self.inputs
        self.size = self._offset(self.layers) + PADDED_OUTPUTS * last
        self.in_memory = self.size > REGISTER_SUMS
        blocks = any(grid.compressed for grid in model.grids)
        self.warps = 8 if self.neurons > 16 or blocks else 4  # of a program of the training kernel

    @property
    def inputs(self) -> int:
        """Columns of the first layer."""
        return self.groups[-1].column + self.groups[-1].width

    def _offset(self, layer: int) -> int:
        """Offset of a layer in the packed weights."""
        return 0 if layer == 0 else self.first_outputs * self.inputs + (layer - 1) * self.neurons**2

    @property
    def constants(self) -> dict:
        """The constexprs that all kernels with a network share."""
        model = self.model
        grids = []
        for stack in self.stacks:
            grid, first = model.grids[stack[0]], stack[0]
            learned = int(grid.interpolation == "learned")
            grids += [texel_columns(grid) * len(stack), grid.quantize_bits, learned, int(self.lazy[first]),
                      int(self.moves[first]), first, block_side(grid)]  # fmt: skip
        return {
            "NUM_LODS": model.num_lods,
            "GRIDS": tuple(grids),
            "GROUPS": tuple(n for g in self.groups for n in (*g.one, *g.other, g.piece, g.width, g.column)),
            "N_GROUPS": len(self.groups),
            "K": self.inputs,
            "H0": self.first_outputs,
            "NP": self.neurons,
            "LAYERS": self.layers,
            "HARD_SWISH": model.decoder.activation == "hard_swish",
            "SLOPE": float(model.decoder.negative_slope),
            "TEXEL_WAVES": model.decoder.n_texel_frequencies > 0,
            "QUANTIZED": model.quantized,
            "ACTIVATIONS": model.activation_bits == 8,
        }

    def activations(self, rounded: bool) -> torch.Tensor:
        """(layers, 2) float32 on the model's device: lowest and step of what each layer takes in; 0: not rounded."""
        if self.model.activation_bits == 32 or not rounded:
            return torch.zeros(self.layers + 1, 2, device=self.model.weights[0].device)
        low, high = self.model.activation_ranges.unbind(dim=1)
        return torch.stack((low, (high - low) / LEVELS), dim=1)

    def rows(self) -> torch.Tensor:
        """(rows of all layers, 4) int32: offset in the flat weights, inputs, offset in the packed ones, and 1 for the
        first layer plus 2 for a row that stays as it is, see NeuralTexture.keeps_biases."""
        rows, place = [], 0
        for layer, weight in enumerate(self.model.weights):
            outputs, inputs = weight.shape
            stride = self.inputs if layer == 0 else self.neurons
            for row in range(outputs):
                kept = self.model.keeps_biases and row == 0 and layer < self.layers
                rows.append((place, inputs, self._offset(layer) + row * stride, int(layer == 0) + 2 * kept))
                place += inputs
        return torch.tensor(rows, dtype=torch.int32)

    @property
    def widest(self) -> int:
        """Inputs of the widest layer, a power of two."""
        return padded(max(weight.shape[1] for weight in self.model.weights))

    def places(self) -> torch.Tensor:
        """Index of each flat weight in the packed ones, int64; -1: unused. Constant inputs of 1 share an index."""
        parts = []
        for _, inputs, packed, kind in self.rows().tolist():
            columns = self.input_map.long() if kind & 1 else torch.arange(inputs)
            parts.append(torch.where(columns >= 0, packed + columns, -1))
        return torch.cat(parts)

    def pack(self, weights: torch.Tensor) -> torch.Tensor:
        """Packed weights, (size,) float32 on the device of the flat ones; for tf32 rounded as maths.operand does."""
        places = self.places().to(weights.device)
        kept = places >= 0
        packed = torch.zeros(self.size, dtype=torch.float64, device=weights.device)  # see adam.network_kernel
        packed = packed.index_add_(0, places[kept], weights[kept].double()).float()
        if self.precision == "tf32":
            packed = ((packed.view(torch.int32) + 0x1000) & -0x2000).view(torch.float32)
        return packed

    def unpack_gradient(self, packed: torch.Tensor) -> torch.Tensor:
        """Gradient of the flat weights from that of the packed ones; 0 for unused inputs."""
        places = self.places().to(packed.device)
        return torch.where(places >= 0, packed[places.clamp(min=0)], torch.zeros_like(packed[0]))

    def lod_levels(self) -> torch.Tensor:
        """(grids, MOST_LODS + 1, 2) int32: `level_entry` of the level that each LOD reads; in the last row the distance
        between the grids of a stack of blocks, in blocks."""
        table = torch.zeros(len(self.model.grids), MOST_LODS + 1, 2, dtype=torch.int32)
        for index, grid in enumerate(self.model.grids):
            levels = [grid.level_of(lod) for lod in range(self.model.num_lods)]
            table[index, : len(levels)] = torch.tensor([level_entry(grid, level) for level in levels])
            table[index, -1, 0] = stacked_units(grid) if grid.compressed else 0
        return table


def check_supported(model: NeuralTexture) -> None:
    """Raise Unsupported for a shape beyond the kernels' limits."""
    if model.decoder.n_neurons > MOST_NEURONS:
        raise Unsupported(f"the GPU kernels have at most {MOST_NEURONS} neurons, found {model.decoder.n_neurons}")
    if len(model.grids) > MOST_GRIDS:
        raise Unsupported(f"the GPU kernels have at most {MOST_GRIDS} grids, found {len(model.grids)}")
    if model.num_lods > MOST_LODS:
        raise Unsupported(f"the GPU kernels have at most {MOST_LODS} LODs, found {model.num_lods}")
    for grid in model.grids:
        if grid.n_texels >= 1 << 31:
            raise Unsupported(f"the GPU kernels count texels of a grid in 31 bits, found {grid.n_texels}")


def level_entry(grid: GridSpec, level: int) -> tuple[int, int]:
    """A level as the kernels have it: width | height << 16, one number to read where two would do, and first texel."""
    width, height = grid.level_size(level)
    return width | height << 16, grid.level_offset(level)


def texel_columns(grid: GridSpec) -> int:
    """Columns of a texel's features, a power of two: a grid of blocks has one more, of zeros."""
    return power_of_two(grid.features)


def block_side(grid: GridSpec) -> int:
    """The kernels' SIDE: texels of a side of a grid's blocks; 0: it has none."""
    return grid.block.side if grid.compressed else 0


def touched_units(grid: GridSpec) -> float:
    """Units of a grid that a sample touches: four texels, which lie in (1 + 1/side)**2 blocks on average."""
    return (1 + 1 / grid.block.side) ** 2 if grid.compressed else 4


def stacked_units(grid: GridSpec) -> int:
    """Units from one grid of a stack to the next: a multiple of 4, so that each begins at a multiple of 16 bytes."""
    return -(-grid.n_units // 4) * 4


def _stacks(model: NeuralTexture, lazy: Sequence[bool], moves: Sequence[bool]) -> list[range]:
    """Grids that the kernels treat as one: 1, 2, 4, 8 or 16 successive grids of blocks of the same shape.

    Compiling takes a time that grows with the square of the operations and more: with each of 16 planes by itself, ten
    times that of two grids.
    """
    stacks, start = [], 0
    kinds = list(zip(model.grids, lazy, moves))
    while start < len(kinds):
        count = 1
        while kinds[start][0].compressed and kinds[start : start + 2 * count] == [kinds[start]] * (2 * count):
            count *= 2
        stacks.append(range(start, start + count))
        start += count
    return stacks


Piece = tuple[int, int, int, list[int]]


def _pairs(model: NeuralTexture, stacks: list[range]) -> list[tuple[Piece, Piece]]:
    """Inputs from the stacks in pieces of at most LARGEST; pieces below SMALLEST are paired with one of the same size.

    A piece is (stack, first corner, columns, the file's input of each, -1 for one of zeros); (-1, 0, 0, []): none.
    """
    nothing: Piece = (-1, 0, 0, [])
    pairs: list[tuple[Piece, Piece]] = []
    inputs = [grid.decoder_inputs for grid in model.grids]
    starts = [model.layout.position_waves + sum(inputs[:index]) for index in range(len(inputs))]
    for index, stack in enumerate(stacks):
        grid = model.grids[stack[0]]
        width, corners = texel_columns(grid), grid.decoder_inputs // grid.features
        of_file = [starts[plane] + corner * grid.features + f if f < grid.features else -1
                   for corner in range(corners) for plane in stack for f in range(width)]  # fmt: skip
        count = min(len(of_file), LARGEST)
        for first in range(0, len(of_file), count):
            piece: Piece = (index, first // (width * len(stack)), count, of_file[first : first + count])
            alone = next((i for i, (one, other) in enumerate(pairs)
                          if other == nothing and one[2] == count < SMALLEST), None)  # fmt: skip
            if alone is None:
                pairs.append((piece, nothing))
            else:
                pairs[alone] = (pairs[alone][0], piece)
    return pairs


def _position_columns(model: NeuralTexture) -> tuple[torch.Tensor, int, list[tuple[int, int]]]:
    """The position group.

    Returns: columns (4, width) float32: factors of u and v, shift, kind; the column of the constant 1, -1 without one;
    pairs of an input of the file and its column.
    """
    decoder, layout = model.decoder, model.layout
    columns: list[tuple[float, float, float, float]] = []
    inputs: list[tuple[int, int]] = []

    def add(file_input: int, u: float, v: float, shift: float, kind: float) -> None:
        inputs.append((file_input, len(columns)))
        columns.append((u, v, shift, kind))

    for axis in range(2):
        for octave in range(decoder.n_frequencies):
            file_input = axis * decoder.n_frequencies + octave
            if file_input not in model.unused_inputs:
                factor = math.ldexp(1.0, octave - 1)
                add(file_input, factor * (1 - axis), factor * axis, 0.25 * octave, WAVE)
    add(layout.reference_inputs - 1, 0.0, 0.0, 0.0, LOD)
    first = layout.total - (-(-layout.texel_waves // 16) * 16)
    for axis in range(2):
        for octave in range(decoder.n_texel_frequencies):
            factor = math.ldexp(1.0, -octave)
            file_input = first + axis * decoder.n_texel_frequencies + octave
            add(file_input, factor * (1 - axis), factor * axis, 0.0, TEXEL_WAVE)
    one = -1
    if layout.ones:
        one = len(columns)
        columns.append((0.0, 0.0, 0.0, ONE))
        inputs += [(file_input, one) for start, count in layout.ones for file_input in range(start, start + count)]
    table = torch.zeros(4, padded(len(columns)))
    table[:, : len(columns)] = torch.tensor(columns).T
    return table, one, inputs
