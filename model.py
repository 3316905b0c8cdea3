"""NeuralTexture: dense multi-level feature grids and a small decoder, the reference maths (design.md, section 4).

Engines, exports and shaders are tested against the functions of this file. Positions are uv, u to the
right and v down, one period of the texture per unit; lod 0 is the full-size image.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn
from torchtyping import TensorType

import blocks
from configs import Config
from dataset import Material
from maps.channels import CHANNELS, outputs_of
from maps.record import Constant
from quantize import codes_from_features, features_from_codes, hash_uniform, round_features, round_weights
from quantized.gradient import integer_network, rounded_shares
from quantized.ranges import LEAST_RANGE, LEAST_SWISH, first_ranges
from shape import (
    PADDED_OUTPUTS,
    TEXEL_OFFSETS,
    DecoderSpec,
    GridSpec,
    ModelForm,
    aligned,
    input_layout,
    layer_sizes,
    model_shape,
)

Scalars = TensorType["n"]
Positions = TensorType["n", 2]
Inputs = TensorType["n", "inputs"]
Decoded = TensorType["n", "channels"]
DecodedImage = TensorType["height", "width", "channels"]
Codes = TensorType["texels", "features"]
GridLevel = TensorType["y", "x", "features"]

# A value at which the activation is the identity, see start_biases; hard swish is from 3 on, where its slope jumps.
BIAS_NEURON = {"leaky_relu": 1.0, "hard_swish": 4.0}
# Measured on three real materials, 1500 iterations: gain 0.6 is 0.05 to 0.35 dB better than 0.8 and 1.0, and 0.4 is
# no better; features spread over the whole range cost 0.1 to 0.25 dB.
INITIAL_FEATURE_RANGE = 0.02  # features start within +- 0.01
INITIAL_GAIN = 0.6  # of the network's weights


@dataclass(frozen=True)
class Noise:
    """Uniform noise on the parameters before rounding: +- half a step times `strength`, drawn per parameter."""

    strength: float
    keys: tuple[int, ...] = field(default=())  # one per grid, see quantize.stream_key


def triangle_waves(coordinate: Scalars, n_frequencies: int) -> Inputs:
    """tiny-cuda-nn's TriangleWave encoding of one coordinate.

    x = coordinate * 2**(i-1) + 0.25*i, value 4*|x - floor(x) - 0.5| - 1 in [-1, 1], for i < n_frequencies.
    """
    octave = torch.arange(n_frequencies, dtype=torch.float32, device=coordinate.device)
    x = coordinate[:, None] * torch.exp2(octave - 1) + 0.25 * octave
    return 4 * (x - x.floor() - 0.5).abs() - 1


def sawtooth_waves(position: Scalars, n_frequencies: int) -> Inputs:
    """The place of a position inside blocks of 1, 2, 4, ... texels: 2*(x - floor(x)) - 1, x = position / 2**i.

    In [-1, 1). The first wave holds the weights of a bilinear filter. Triangle waves cannot replace it: at the texel
    centres of a material twice the grid's size, half of them are equal on both sides of a grid texel.
    """
    octave = torch.arange(n_frequencies, dtype=torch.float32, device=position.device)
    x = position[:, None] * torch.exp2(-octave)
    return 2 * (x - x.floor()) - 1


class NeuralTexture(nn.Module):
    """A material as feature grids and a network.

    Args:
        grids: their shapes, in the order in which the decoder reads them.
        decoder: the network's shape.
        num_lods: LODs of the material, 1 or more.
        quantized: False keeps float features (nothing is rounded, nothing can be exported).
        present_channels: channels that the material has; the network's other outputs stay exactly 0.
        seamless: leave out the position wave of each axis whose period is two tiles: it jumps at the border of the
            tile, and with it the gradient across the border of a real material was 1.6 times that inside.
        seed: for the initial values.
        constants: channels with one value everywhere. They are decoded to exactly that, and the network's outputs for
            them stay exactly 0.
    """

    def __init__(
        self,
        grids: Sequence[GridSpec],
        decoder: DecoderSpec,
        num_lods: int,
        *,
        quantized: bool = True,
        present_channels: Sequence[int] = tuple(range(CHANNELS)),
        seamless: bool = True,
        seed: int = 0,
        constants: Mapping[int, Constant] | None = None,
    ):
        super().__init__()
        self.grids = tuple(grids)
        self.decoder = decoder
        self.num_lods = num_lods
        self.quantized = quantized
        self.constants = dict(constants or {})
        self.layout = input_layout(self.grids, decoder)
        # Inputs whose weights are 0 and stay 0, since engines give them no gradient; the file keeps their columns.
        self.unused_inputs = [0, decoder.n_frequencies] if seamless and decoder.n_frequencies else []
        for index, grid in enumerate(self.grids):
            levels = [grid.level_of(lod) for lod in range(num_lods)]
            sizes = torch.tensor([grid.level_size(level) for level in levels])
            offsets = torch.tensor([grid.level_offset(level) for level in levels])
            self.register_buffer(f"lod_size_{index}", sizes, persistent=False)
            self.register_buffer(f"lod_offset_{index}", offsets, persistent=False)
        values = [self.constants[c].value if c in self.constants else math.nan for c in range(decoder.outputs)]
        self.register_buffer("_constant_values", torch.tensor(values), persistent=False)  # nan: not a constant
        generator = torch.Generator().manual_seed(seed)
        self.grid_parameters = nn.ParameterList(
            nn.Parameter(_initial_features(grid, generator)) for grid in self.grids
        )
        learned = sorted(set(present_channels) - set(self.constants))
        self.weights = nn.ParameterList(nn.Parameter(w) for w in self._initial_weights(generator, learned))
        # (layers, 2) of --activation_bits 8: lowest and highest of what each layer takes in, see `calibrate`
        ranges = torch.tensor(first_ranges(decoder.n_hidden_layers)) if self.activation_bits == 8 else None
        self.register_buffer("activation_ranges", ranges)

    @property
    def form(self) -> ModelForm:
        """This model without its trained numbers."""
        return ModelForm(self.grids, self.decoder, self.num_lods, self.constants)

    def _initial_weights(self, generator: torch.Generator, learned: Sequence[int]) -> list[torch.Tensor]:
        weights = []
        for outputs, inputs in layer_sizes(self.layout, self.decoder):
            bound = INITIAL_GAIN * math.sqrt(6 / inputs)  # He et al. 2015, uniform, times the gain
            weights.append((torch.rand(outputs, inputs, generator=generator) * 2 - 1) * bound)
        absent = sorted(set(range(PADDED_OUTPUTS)) - set(learned))
        for column in self.unused_inputs:
            weights[0][:, column] = 0
        weights[-1][absent] = 0  # no loss reaches these rows, so they stay 0 and the channels decode to exactly 0
        return weights

    @torch.no_grad()
    def start_biases(self, means: Sequence[float]) -> None:
        """Emulate biases in a fresh network, which has none: for the later layers, and for the mean of each channel.

        The first neuron of each hidden layer becomes a constant, fed by the first layer's ones; the next layer's
        weights of that neuron are its biases. Training may change it unless `keeps_biases`; files need no new field.
        Measured over three materials, 1200 iterations: +0.26 dB (hard swish, learned grid), +0.7 (leaky, linear).

        Args:
            means: of each channel, what the network decodes before training.
        """
        ones = [column for first, count in self.layout.ones for column in range(first, first + count)]
        if not ones:
            return
        constant = BIAS_NEURON[self.decoder.activation] if len(self.weights) > 1 else 1.0
        for weight in self.weights[:-1]:
            columns = ones if weight is self.weights[0] else [0]
            if columns == [0]:
                weight[:, 0] = 0
            weight[0] = 0
            weight[0, columns] = 1.0 if columns == [0] else constant / len(columns)
        last, columns = self.weights[-1], ones if len(self.weights) == 1 else [0]
        alive = last.abs().sum(dim=1) > 0  # rows of absent channels stay 0
        for channel, mean in enumerate(means):
            last[channel, columns] = float(alive[channel]) * mean / (constant * len(columns))

    # --- forward ---------------------------------------------------------------------------------------------------

    def forward(
        self, uv: Positions, lod: Scalars, noise: Noise | None = None, *, rounded: bool = True
    ) -> Decoded:
        """Decode the material at `uv` and `lod`.

        Args:
            uv: (n, 2) float32, any real number: addressing repeats.
            lod: (n,) integers or floats in 0..num_lods-1; a fractional LOD blends its two neighbours.
            noise: training noise; None for evaluation.
            rounded: False: take the weights as they are trained, not `exported_weights`, and activations as they are.
        Returns: (n, channels) float32 in canonical order, 11 of them or 16 with extra maps, not clamped.
        """
        if not lod.is_floating_point():
            return self._network(self._inputs(uv, lod, lod.to(torch.float32), noise), rounded)
        lower = lod.floor().clamp(0, self.num_lods - 1)
        upper = (lower + 1).clamp(max=self.num_lods - 1)
        blend = (lod - lower).clamp(0, 1)[:, None]
        if any(grid.interpolation == "learned" for grid in self.grids):
            near = self.forward(uv, lower.long(), noise, rounded=rounded)
            far = self.forward(uv, upper.long(), noise, rounded=rounded)
            return torch.lerp(near, far, blend)
        near = self._inputs(uv, lower.long(), lod, noise)
        inputs = torch.lerp(near, self._inputs(uv, upper.long(), lod, noise), blend)
        return self._network(inputs, rounded)

    def _inputs(
        self, uv: Positions, lod: Scalars, lod_value: Scalars, noise: Noise | None
    ) -> Inputs:
        """The decoder's inputs, see InputLayout. `lod` selects the levels, `lod_value` is the input for the LOD."""
        uv = uv - uv.floor()  # the wave with a period of two tiles would differ from tile to tile
        n = len(uv)
        frequencies = self.decoder.n_frequencies
        parts = [triangle_waves(uv[:, 0], frequencies), triangle_waves(uv[:, 1], frequencies)]
        for index in range(len(self.grids)):
            parts.append(self._sample(index, uv, lod, noise))
        parts.append((lod_value / max(self.num_lods - 1, 1))[:, None])
        parts.append(uv.new_ones(n, aligned(self.layout.reference_inputs) - self.layout.reference_inputs))
        if self.layout.texel_waves:
            # as in _sample: the wave jumps where the four texels change
            position = uv * self.get_buffer("lod_size_0")[lod].to(torch.float32) - 0.5
            parts.append(sawtooth_waves(position[:, 0], self.decoder.n_texel_frequencies))
            parts.append(sawtooth_waves(position[:, 1], self.decoder.n_texel_frequencies))
            parts.append(uv.new_ones(n, aligned(self.layout.texel_waves) - self.layout.texel_waves))
        return torch.cat(parts, dim=1)

    def _sample(
        self, index: int, uv: Positions, lod: Scalars, noise: Noise | None
    ) -> Inputs:
        """The inputs from grid `index`: its features blended bilinearly at p = uv*R - 0.5, or four texels side by side.

        Addressing repeats, as a GPU sampler with Wrap does. Features are rounded before they are blended, so trained
        values equal exported values.
        """
        grid = self.grids[index]
        size = self.get_buffer(f"lod_size_{index}")[lod]
        offset = self.get_buffer(f"lod_offset_{index}")[lod]
        position = uv * size - 0.5
        corner = position.floor()
        weight = position - corner
        if self.activation_bits == 8:
            weight = rounded_shares(weight)
        x = torch.remainder(corner[:, 0].long()[:, None] + _offsets(0, uv.device), size[:, :1])
        y = torch.remainder(corner[:, 1].long()[:, None] + _offsets(1, uv.device), size[:, 1:])
        texel = (offset[:, None] + _texel_in_level(grid, size[:, :1], x, y)).reshape(-1)
        features = self._fetch(index, texel, noise).view(len(uv), len(TEXEL_OFFSETS), grid.features)
        if grid.interpolation == "learned":
            return features.reshape(len(uv), grid.decoder_inputs)
        across = torch.stack((1 - weight[:, 0], weight[:, 0]), dim=1)  # (n, x)
        down = torch.stack((1 - weight[:, 1], weight[:, 1]), dim=1)  # (n, y)
        weights = (down[:, :, None] * across[:, None, :]).view(len(uv), len(TEXEL_OFFSETS), 1)
        return (features * weights).sum(dim=1)

    def _fetch(self, index: int, texel: Scalars, noise: Noise | None) -> Inputs:
        """Features (n, features) of some texels of grid `index`, see `as_exported`."""
        grid = self.grids[index]
        if grid.compressed:
            return self._fetch_blocks(index, texel, noise)
        features = self.grid_parameters[index].view(-1, grid.features).index_select(0, texel)
        return self.as_exported(index, features, texel, noise)

    def _fetch_blocks(self, index: int, texel: Scalars, noise: Noise | None) -> Inputs:
        """`_fetch` of a grid of blocks."""
        shape = self.grids[index].block
        block = torch.div(texel, shape.texels, rounding_mode="floor")
        parameters = self.grid_parameters[index].view(-1, shape.parameters).index_select(0, block)
        if self.quantized and noise is not None and noise.strength > 0:
            columns = torch.arange(shape.parameters, device=texel.device)
            shift = hash_uniform(block[:, None] * shape.parameters + columns, noise.keys[index]) - 0.5
            parameters = parameters + shift * (blocks.rounding_steps(shape, texel.device) * noise.strength)
        return blocks.block_features(shape, parameters, texel % shape.texels, self.quantized)

    def as_exported(self, index: int, features: Inputs, texel: Scalars, noise: Noise | None) -> Inputs:
        """Parameters (n, features) of these texels of grid `index`, rounded as in the exported file; training noise is
        added before."""
        grid = self.grids[index]
        if not self.quantized:
            return features
        if noise is not None and noise.strength > 0:
            parameter = texel[:, None] * grid.features + torch.arange(grid.features, device=texel.device)
            step = noise.strength / (1 << grid.quantize_bits)
            features = features + (hash_uniform(parameter, noise.keys[index]) - 0.5) * step
        return round_features(features, grid.quantize_bits)

    @property
    def weight_bits(self) -> int:
        """Bits that weights are rounded to; a model that is not quantised rounds nothing."""
        return self.decoder.weight_bits if self.quantized else 32

    @property
    def activation_bits(self) -> int:
        """Bits of what a layer takes in; 8: `forward` computes in whole numbers, as quantized.network does."""
        return self.decoder.activation_bits if self.quantized else 32

    @property
    def keeps_biases(self) -> bool:
        """Whether engines leave the first neuron of each hidden layer as start_biases made it: with rounded activations
        it is a constant to the last bit, whose rounding costs nothing, where one that varies shifts every channel.
        256 x 256 texels, `fast`, PSNR with floats, so, and with neurons that vary: Metal055A at 5 bpp 47.90, 48.01 and
        47.62 dB, Rock058 at 10 bpp 38.96, 38.98 and 38.71."""
        return self.activation_bits == 8 and len(self.weights) > 1 and bool(self.layout.ones)

    @torch.no_grad()
    def calibrate(self, uv: Positions, lod: Scalars) -> None:
        """Set `activation_ranges` to what the layers take in at these positions without rounding of activations.

        The ranges stay as they are in the last part of a run, in which they count. Ranges that follow the batches, or
        are trained (Esser et al. 2020), gain nothing beyond what runs differ by: see docs/results.md.
        """
        hidden, weights = self._inputs(uv, lod, lod.to(torch.float32), None), self.exported_weights()
        for layer, weight in enumerate(weights[:-1], 1):
            hidden = self._activate(hidden @ weight.t())
            low = LEAST_SWISH if self.decoder.activation == "hard_swish" else min(float(hidden.min()), 0.0)
            high = max(float(hidden.max()), low + LEAST_RANGE)
            self.activation_ranges[layer] = torch.tensor((low, high))

    def exported_weights(self) -> list[torch.Tensor]:
        """The weights, rounded as in the exported file, with a straight-through gradient."""
        return [round_weights(weight, self.weight_bits) for weight in self.weights]

    def _network(self, inputs: Inputs, rounded: bool) -> Decoded:
        if rounded and self.activation_bits == 8:
            activation = self.decoder.activation, self.decoder.negative_slope
            outputs = integer_network(inputs, list(self.weights), self.activation_ranges, *activation)
        else:
            hidden, weights = inputs, self.exported_weights() if rounded else list(self.weights)
            for weight in weights[:-1]:
                hidden = self._activate(hidden @ weight.t())
            outputs = hidden @ weights[-1].t()
        decoded = outputs[:, : self.decoder.outputs]
        if self.constants:
            decoded = torch.where(self._constant_values.isnan(), decoded, self._constant_values)
        return decoded

    def set_constants(self, decoded: DecodedImage) -> None:
        """Write the constants into (..., channels) values that another decoder than `forward` has made."""
        for channel, constant in self.constants.items():
            decoded[..., channel] = constant.value

    def _activate(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.decoder.activation == "hard_swish":  # x * min(max(x + 3, 0), 6) / 6, Howard et al. 2019
            return F.hardswish(hidden)
        return F.leaky_relu(hidden, self.decoder.negative_slope)

    # --- whole images ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def decode(
        self, lod: int, width: int, height: int, chunk: int = 1 << 16, rows: slice = slice(None)
    ) -> DecodedImage:
        """Decode one LOD at its texel centres: (height, width, channels) float32 on the CPU, not clamped.

        `chunk` texels are decoded at a time, which bounds the memory. `rows` limits the result to rows of the LOD.
        """
        first, last, _ = rows.indices(height)
        image = torch.empty((last - first) * width, self.decoder.outputs)
        device = self.weights[0].device
        for start in range(first * width, last * width, chunk):
            texel = torch.arange(start, min(start + chunk, last * width), device=device)
            uv = texel_centres(texel, width, height)
            image[start - first * width :][: len(texel)] = self(uv, torch.full_like(texel, lod)).cpu()
        return image.view(last - first, width, self.decoder.outputs)

    # --- codes -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def codes(self, index: int, texels: slice = slice(None)) -> Codes:
        """Codes of grid `index`, or of some `texels` of it: (texels, features) int32 on the CPU, level after level."""
        grid = self.grids[index]
        parameters = self.grid_parameters[index].detach().view(-1, grid.features)[texels]
        return codes_from_features(parameters, grid.quantize_bits).cpu()

    @torch.no_grad()
    def load_codes(self, index: int, codes: Codes, texels: slice = slice(None)) -> None:
        """Set grid `index`, or some texels of it, to the features of `codes`."""
        grid = self.grids[index]
        features = features_from_codes(codes, grid.quantize_bits)
        self.grid_parameters[index].view(-1, grid.features)[texels] = features.view(-1, grid.features).to(
            self.grid_parameters[index].device
        )

    @torch.no_grad()
    def sync_wrap_boundary(self, index: int, strength: float, n_levels: int = 0) -> None:
        """Move opposite borders of grid `index`, and its four corners, towards their common mean. Levels of a single
        row or column are left alone.

        Args:
            strength: 0 leaves them alone, 1 makes them equal.
            n_levels: how many levels from the finest; 0: all.
        """
        grid = self.grids[index]
        first = 0 if n_levels == 0 else max(grid.n_levels - n_levels, 0)
        for level in range(first, grid.n_levels):
            size = grid.level_size(level)
            if min(size) < 2:
                continue
            if grid.compressed:
                blocks.tie_borders(grid.block, self.level(index, level), size, strength)
                continue
            image = self.level(index, level)
            sides = [image[:, 0], image[:, -1]], [image[0], image[-1]]
            for one, other in sides:
                inner_one, inner_other = one[1:-1], other[1:-1]
                mean = (inner_one + inner_other) / 2
                inner_one.lerp_(mean, strength)
                inner_other.lerp_(mean, strength)
            corners = [image[y, x] for y in (0, -1) for x in (0, -1)]
            mean = torch.stack(corners).mean(dim=0)
            for corner in corners:
                corner.lerp_(mean, strength)

    def level(self, index: int, level: int) -> GridLevel:
        """A view of one level of a grid's parameters: (height, width, features), of blocks (blocks down, across,
        BlockShape.parameters)."""
        grid = self.grids[index]
        units = self.grid_parameters[index].view(grid.n_units, grid.unit_parameters)
        first, last = (grid.level_offset(k) // grid.unit_texels for k in (level, level + 1))
        across, down = grid.units_of(grid.level_size(level))
        return units[first:last].view(down, across, grid.unit_parameters)

    def bits_per_texel(self, width: int, height: int, word_bits: Sequence[int] | None = None) -> dict[str, float]:
        """Bits per LOD-0 texel: `grids` (finest levels), `network` (as stored), `bpp` (their sum) and `all_mips`.

        word_bits: bits of a texel of each grid; None: as it is stored, or float32 in a model that is not quantised.
        """
        texels = width * height
        if word_bits is None:
            word_bits = [
                grid.bits_per_texel if self.quantized else 32 * grid.unit_parameters / grid.unit_texels
                for grid in self.grids
            ]
        finest = sum(grid.texels_of(grid.size) * bits for grid, bits in zip(self.grids, word_bits)) / texels
        every = sum(grid.stored_texels * bits for grid, bits in zip(self.grids, word_bits)) / texels
        network = self.form.network_bits / texels
        return {"grids": finest, "network": network, "bpp": finest + network, "all_mips": every + network}


def _initial_features(grid: GridSpec, generator: torch.Generator) -> torch.Tensor:
    if grid.compressed:
        return blocks.initial_parameters(grid.block, grid.n_units, generator).view(-1)
    return torch.rand(grid.n_parameters, generator=generator).sub_(0.5).mul_(INITIAL_FEATURE_RANGE)


def _texel_in_level(grid: GridSpec, width: TensorType, x: TensorType, y: TensorType) -> TensorType:
    """Number of a texel in its level, see GridSpec; arguments broadcast."""
    if not grid.compressed:
        return y * width + x
    side = grid.block.side
    across = torch.div(width + side - 1, side, rounding_mode="floor")
    block = torch.div(y, side, rounding_mode="floor") * across + torch.div(x, side, rounding_mode="floor")
    return block * grid.block.texels + y % side * side + x % side


def _offsets(axis: int, device: torch.device) -> TensorType[4]:
    return torch.tensor([offset[axis] for offset in TEXEL_OFFSETS], device=device)


def texel_centres(texel: Scalars, width: int, height: int) -> Positions:
    """uv of texels given by their index in a row-by-row image: ((x + 0.5) / width, (y + 0.5) / height)."""
    x = texel % width
    y = torch.div(texel, width, rounding_mode="floor")
    # Divided by a tensor: CUDA divides by a number through its reciprocal, whose rounding can fall on the other side of
    # a grid texel where an image and a learned grid share their texel centres.
    size = torch.tensor((width, height), dtype=torch.float32, device=texel.device)
    return (torch.stack((x, y), dim=1) + 0.5) / size


def build_model(
    config: Config, width: int, height: int, present_channels: Sequence[int],
    constants: Mapping[int, Constant] | None = None,
) -> NeuralTexture:  # fmt: skip
    """A freshly initialised NeuralTexture for a material of this size."""
    grids, decoder = model_shape(config, width, height)
    return NeuralTexture(
        grids,
        dataclasses.replace(decoder, outputs=outputs_of(present_channels)),
        num_lods=max(width, height).bit_length(),
        quantized=config.quantize,
        present_channels=present_channels,
        seamless=config.wrap_boundary,
        seed=config.seed,
        constants=constants,
    )


def new_model(config: Config, material: Material) -> NeuralTexture:
    """A fresh model to train on `material`; it starts by decoding the mean of each channel."""
    present = material.present_channels.tolist()
    model = build_model(config, material.width, material.height, present, material.constants)
    smallest = material.gather(torch.tensor([material.lod_offsets[-1]], device=material.codes8.device))[0].tolist()
    means = [0.0] * model.decoder.outputs
    for channel, value in zip(present, smallest):
        means[channel] = value
    model.start_biases(means)
    return model
