"""The shapes of a neural texture: grids, decoder, and the order of the decoder's inputs (design.md, section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.errors import UserError
from configs import (
    ACTIVATION_BITS,
    INTERPOLATIONS,
    QUANTIZE_BITS,
    SAVE_BITS,
    STORAGES,
    WEIGHT_BITS,
    Config,
    HashGridConfig,
    Resolution,
    Size,
    as_resolution,
    sides_of,
)
from maps.channels import CHANNELS
from maps.record import Constant

ALIGNMENT = 16  # tiny-cuda-nn pads inputs and outputs of its networks to multiples of 16
PADDED_OUTPUTS = 16
ACTIVATIONS = ("leaky_relu", "hard_swish")  # of networks; --activation relu is leaky_relu without a slope
BLOCK_FEATURES = 3  # of a texel in blocks
TEXEL_OFFSETS = ((0, 0), (1, 0), (0, 1), (1, 1))  # (x, y) order of the four texels around a sample


def features_per_texel(quantize_bits: int, save_bits: int) -> int:
    """How many features one word of `save_bits` bits holds.

    Raises: ValueError when a width is unknown or a feature does not fit into the word.
    """
    if quantize_bits not in QUANTIZE_BITS:
        raise ValueError(f"quantize_bits must be one of {QUANTIZE_BITS}, got {quantize_bits}")
    if save_bits not in SAVE_BITS:
        raise ValueError(f"save_bits must be one of {SAVE_BITS}, got {save_bits}")
    if quantize_bits > save_bits:
        raise ValueError(f"a feature of {quantize_bits} bits does not fit into a word of {save_bits} bits")
    return save_bits // quantize_bits


def aligned(count: int) -> int:
    """`count` rounded up to a multiple of ALIGNMENT."""
    return -(-count // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class BlockShape:
    """The numbers of a format whose texels lie on a line between two end points of their block, see blocks.py."""

    name: str  # that `storage` has
    title: str
    side: int  # texels, width and height of a block
    bytes: int
    levels: tuple[int, int, int]  # largest code of R, G, B of an end point
    places: tuple[int, ...]  # that the codes of a weight stand for, from the first end point to the second
    bits: tuple[int, int]  # quantize_bits and save_bits of its grids: no codes per feature; bits a texel, or the side

    @property
    def texels(self) -> int:
        return self.side * self.side

    @property
    def parameters(self) -> int:
        """Both end points, and a weight for each texel."""
        return 2 * BLOCK_FEATURES + self.texels

    @property
    def highest(self) -> int:
        """The largest code of a weight."""
        return len(self.places) - 1

    @property
    def white(self) -> int:
        """What 1 is where a texel is a whole number: of 0 to 255 times the last place."""
        return 255 * self.places[-1]

    @property
    def bits_per_texel(self) -> float:
        return 8 * self.bytes / self.texels


BLOCKS = {
    block.name: block
    for block in (
        BlockShape("bc1", "BC1", 4, 8, (31, 63, 31), (0, 1, 2, 3), (0, 4)),
        # 128 bits for 36 texels are no whole number of bits a texel, so save_bits is the side.
        BlockShape("astc6x6", "ASTC 6x6", 6, 16, (79, 79, 79), (0, 21, 43, 64), (0, 6)),
    )
}


@dataclass(frozen=True)
class GridSpec:
    """The shape of one grid. Level k has `base_size` times 2**k texels; the last level is the finest.

    Parameters come in units: a texel of a `packed` grid has its features, a block of texels the `parameters` of its
    BlockShape. Texels are numbered unit after unit, row by row, level after level, so those of a block follow each
    other. Blocks at the right and lower border may reach beyond the level; nothing reads what lies there.
    """

    max_resolution: Resolution  # of the finest level: the side of a square, or (width, height)
    n_levels: int
    quantize_bits: int  # of a feature; 0 in blocks
    save_bits: int  # of a texel, as stored; in blocks see BlockShape.bits
    interpolation: str = "linear"
    storage: str = "packed"
    finest_lods: int = 1  # LODs, from 0 on, that read the finest level

    def __post_init__(self):
        if self.finest_lods < 1:
            raise ValueError(f"finest_lods must be 1 or more, got {self.finest_lods}")
        if self.storage not in STORAGES:
            raise ValueError(f"storage must be one of {STORAGES}, got {self.storage!r:.40}")
        if self.storage == "packed":
            features_per_texel(self.quantize_bits, self.save_bits)
        elif (self.quantize_bits, self.save_bits) != self.block.bits:
            stored = f"{self.block.bits_per_texel:.4g} bits a texel"
            raise ValueError(f"storage {self.storage} has {stored}; leave out quantize_bits and save_bits")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation must be one of {INTERPOLATIONS}, got {self.interpolation!r}")
        object.__setattr__(self, "max_resolution", as_resolution(self.size))
        if self.n_levels < 1 or min(self.size) < 1 or any(side % (1 << (self.n_levels - 1)) for side in self.size):
            found = self.max_resolution if isinstance(self.max_resolution, int) else list(self.max_resolution)
            raise ValueError(f"max_resolution {found} cannot be halved {self.n_levels - 1} times (n_levels - 1)")

    @property
    def compressed(self) -> bool:
        """Whether it is stored in blocks."""
        return self.storage != "packed"

    @property
    def block(self) -> BlockShape:
        """The shape of its blocks. Raises: KeyError where it is not `compressed`."""
        return BLOCKS[self.storage]

    @property
    def bits_per_texel(self) -> float:
        """Bits of a texel, as stored."""
        return self.block.bits_per_texel if self.compressed else self.save_bits

    @property
    def size(self) -> Size:
        """(width, height) of the finest level."""
        return sides_of(self.max_resolution)

    @property
    def base_size(self) -> Size:
        """(width, height) of the coarsest level."""
        width, height = self.size
        return width >> (self.n_levels - 1), height >> (self.n_levels - 1)

    @property
    def features(self) -> int:
        """Features per texel."""
        if self.compressed:
            return BLOCK_FEATURES
        return features_per_texel(self.quantize_bits, self.save_bits)

    @property
    def decoder_inputs(self) -> int:
        """Inputs that this grid feeds to the decoder."""
        return self.features * (len(TEXEL_OFFSETS) if self.interpolation == "learned" else 1)

    @property
    def n_texels(self) -> int:
        """Texels of all levels, with those in blocks that lie beyond a level."""
        return self.level_offset(self.n_levels)

    @property
    def unit_texels(self) -> int:
        """Texels that share their parameters."""
        return self.block.texels if self.compressed else 1

    @property
    def unit_parameters(self) -> int:
        """Parameters of a unit."""
        return self.block.parameters if self.compressed else self.features

    @property
    def n_units(self) -> int:
        """Units of all levels."""
        return self.n_texels // self.unit_texels

    @property
    def n_parameters(self) -> int:
        return self.n_units * self.unit_parameters

    @property
    def mip_sizes(self) -> list[Size]:
        """(width, height) of all mips of its texture, the finest first. The first `n_levels` are trained.

        A chain goes down to 1x1, since engines refuse one that ends before; a single level is a texture without mips.
        """
        mips = max(self.size).bit_length() if self.n_levels > 1 else 1
        width, height = self.size
        return [(max(width >> mip, 1), max(height >> mip, 1)) for mip in range(mips)]

    @property
    def stored_texels(self) -> int:
        """Texels of all mips of its texture, with those in blocks that lie beyond a mip."""
        return sum(self.texels_of(size) for size in self.mip_sizes)

    def texels_of(self, size: Size) -> int:
        """Texels that a level of this (width, height) takes, with those in blocks that lie beyond it."""
        across, down = self.units_of(size)
        return across * down * self.unit_texels

    def units_of(self, size: Size) -> Size:
        """(across, down): the units of a level of this (width, height)."""
        side = self.block.side if self.compressed else 1
        return -(-size[0] // side), -(-size[1] // side)

    def level_size(self, level: int) -> Size:
        """(width, height) of a level."""
        width, height = self.base_size
        return width << level, height << level

    def level_offset(self, level: int) -> int:
        """Texels before `level`."""
        return sum(self.texels_of(self.level_size(below)) for below in range(level))

    def level_of(self, lod: int) -> int:
        """The level that a material's LOD reads."""
        return self.n_levels - 1 - self.mip_of(lod)

    def mip_of(self, lod: int) -> int:
        """The mip of its texture that a material's LOD reads."""
        return min(max(lod - self.finest_lods + 1, 0), self.n_levels - 1)


def planes_of(grids: Sequence[GridSpec]) -> list[range]:
    """The grids in ranges: successive ones of blocks with one shape, read in the same places; others alone."""
    ranges: list[range] = []
    for index, grid in enumerate(grids):
        if grid.compressed and ranges and grids[ranges[-1][0]] == grid:
            ranges[-1] = range(ranges[-1][0], index + 1)
        else:
            ranges.append(range(index, index + 1))
    return ranges


@dataclass(frozen=True)
class DecoderSpec:
    """The shape of the decoder network."""

    n_frequencies: int = 12
    n_neurons: int = 64
    n_hidden_layers: int = 2
    n_texel_frequencies: int = 0
    activation: str = "leaky_relu"
    negative_slope: float = 0.01  # of leaky_relu
    outputs: int = CHANNELS  # in use: 11, or 16 with extra maps
    weight_bits: int = 32  # of a weight in network_data.npz, see quantize.stored_weights
    activation_bits: int = 32  # of what a layer takes in; 8: the network in whole numbers, whose weights have 8, too

    def __post_init__(self):
        if self.activation_bits not in ACTIVATION_BITS:
            raise ValueError(f"activation_bits must be one of {ACTIVATION_BITS}, got {self.activation_bits!r:.40}")
        if self.activation_bits == 8 and self.weight_bits != 8:
            raise ValueError(f"activation_bits 8 needs weight_bits 8, got {self.weight_bits!r:.40}")
        if self.weight_bits not in WEIGHT_BITS:
            raise ValueError(f"weight_bits must be one of {WEIGHT_BITS}, got {self.weight_bits!r:.40}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {ACTIVATIONS}, got {self.activation!r:.40}")


@dataclass(frozen=True)
class InputLayout:
    """The groups of decoder inputs, in order; recorded in the manifest, followed by every decoder.

    position waves | features of grid 0, 1, ... | normalised LOD | ones to a multiple of 16
    | texel waves | ones to a multiple of 16 (only when there are texel waves)
    """

    position_waves: int
    features: tuple[int, ...]
    texel_waves: int

    @property
    def reference_inputs(self) -> int:
        return self.position_waves + sum(self.features) + 1

    @property
    def total(self) -> int:
        return aligned(self.reference_inputs) + aligned(self.texel_waves)

    @property
    def ones(self) -> list[tuple[int, int]]:
        """(first, count) of each run of ones."""
        reference, first_wave = self.reference_inputs, aligned(self.reference_inputs)
        runs = [(reference, first_wave - reference), (first_wave + self.texel_waves, -self.texel_waves % ALIGNMENT)]
        return [(first, count) for first, count in runs if count]


def input_layout(grids: Sequence[GridSpec], decoder: DecoderSpec) -> InputLayout:
    """The decoder inputs that these grids and this decoder make."""
    return InputLayout(
        position_waves=2 * decoder.n_frequencies,
        features=tuple(grid.decoder_inputs for grid in grids),
        texel_waves=2 * decoder.n_texel_frequencies,
    )


def layer_sizes(layout: InputLayout, decoder: DecoderSpec) -> list[tuple[int, int]]:
    """(outputs, inputs) of each weight matrix, in order."""
    sizes = [layout.total] + [decoder.n_neurons] * decoder.n_hidden_layers + [PADDED_OUTPUTS]
    return [(sizes[i + 1], sizes[i]) for i in range(len(sizes) - 1)]


def bits_of_weights(sizes: Sequence[tuple[int, int]], weight_bits: int) -> int:
    """Bits of weight matrices of these (outputs, inputs) as they are stored, with the float32 scales of 8-bit rows."""
    scales = 32 * sum(outputs for outputs, _ in sizes) if weight_bits == 8 else 0
    return weight_bits * sum(outputs * inputs for outputs, inputs in sizes) + scales


@dataclass(frozen=True)
class ModelForm:
    """Everything about a NeuralTexture but its trained numbers: what reading those from files takes."""

    grids: tuple[GridSpec, ...]
    decoder: DecoderSpec
    num_lods: int
    constants: Mapping[int, Constant] = field(default_factory=dict)  # by channel, see model.NeuralTexture

    @property
    def inputs(self) -> InputLayout:
        return input_layout(self.grids, self.decoder)

    @property
    def layer_sizes(self) -> list[tuple[int, int]]:
        """(outputs, inputs) of each weight matrix."""
        return layer_sizes(self.inputs, self.decoder)

    @property
    def n_weights(self) -> int:
        return sum(outputs * inputs for outputs, inputs in self.layer_sizes)

    @property
    def network_bits(self) -> int:
        """Bits of the weights as they are stored, with the ranges of 8-bit activations."""
        ranges = 64 * len(self.layer_sizes) if self.decoder.activation_bits == 8 else 0
        return bits_of_weights(self.layer_sizes, self.decoder.weight_bits) + ranges


# --- from a configuration ------------------------------------------------------------------------------------------

DEFAULT_DIVISORS = (2, 8)  # the resolutions of the two default grids are the longer side divided by these
LEARNED_TEXEL_FREQUENCIES = 3  # of 1, 2, 3, 4, 8: 3 is 0.3 (Rock058) and 1.4 dB (Facade005) better than 1 at 2.5 bpp


def default_resolution(target: float) -> int:
    """A resolution near `target` that can be halved often: m * 2**s with m in 8..15 (within 6 %), or any below 16."""
    target = max(1, round(target))
    shift = max(0, target.bit_length() - 4)
    return round(target / (1 << shift)) << shift


def exact_halvings(resolution: Resolution) -> int:
    """How many times a resolution, each side of it, can be halved without a remainder."""
    return min((side & -side).bit_length() - 1 for side in sides_of(resolution))


def default_grids(longer: int) -> list[HashGridConfig]:
    """The grids where the configuration has none; `longer`: texels along the material's longer side.

    All LODs share one level of the coarse grid, so small LODs have more features per texel than LOD 0. With a level
    for each LOD, LODs 3 to 7 of data/test and Metal055A end 3 to 9 dB lower, LODs 0 and 1 up to 0.3 dB.
    """
    fine, coarse = (default_resolution(longer / divisor) for divisor in DEFAULT_DIVISORS)
    return [HashGridConfig(max_resolution=fine), HashGridConfig(max_resolution=coarse, n_levels=1)]


def resolve_grids(config: Config, width: int, height: int) -> list[HashGridConfig]:
    """The grids of a material of this size, with every field filled in.

    Raises: UserError for an entry that cannot be built.
    """
    longer = max(width, height)
    entries = config.hash_grid_configs or default_grids(longer)
    num_lods = longer.bit_length()
    resolved = []
    for index, entry in enumerate(entries):
        divisor = DEFAULT_DIVISORS[min(index, len(DEFAULT_DIVISORS) - 1)]
        resolution = entry.max_resolution or default_resolution(longer / divisor)
        default_bits = (config.quantize_bits, config.save_bits)
        if entry.storage in BLOCKS:
            default_bits = BLOCKS[entry.storage].bits
        filled = HashGridConfig(
            max_resolution=resolution,
            n_levels=entry.n_levels or min(exact_halvings(resolution) + 1, num_lods),
            quantize_bits=entry.quantize_bits or default_bits[0],
            save_bits=entry.save_bits or default_bits[1],
            learning_rate=config.grid_learning_rate if entry.learning_rate is None else entry.learning_rate,
            interpolation=entry.interpolation,
            finest_lods=entry.finest_lods,
            storage=entry.storage,
        )
        try:
            grid_spec(filled)
        except ValueError as error:
            raise UserError(f"hash_grid_configs[{index}]: {error}") from error
        resolved.append(filled)
    return resolved


def grid_spec(grid: HashGridConfig) -> GridSpec:
    """The shape of a grid entry that is resolved, but for the bits of blocks, which have one value."""
    default = BLOCKS[grid.storage].bits if grid.storage in BLOCKS else (0, 0)
    bits = (grid.quantize_bits or default[0], grid.save_bits or default[1])
    shape = (grid.max_resolution, grid.n_levels, *bits, grid.interpolation)
    return GridSpec(*shape, grid.storage, grid.finest_lods)


def model_shape(config: Config, width: int, height: int) -> tuple[list[GridSpec], DecoderSpec]:
    """The grids and the decoder of a material of this size."""
    grids = [grid_spec(grid) for grid in resolve_grids(config, width, height)]
    return grids, decoder_spec(config, grids)


def decoder_spec(config: Config, grids: Sequence[GridSpec]) -> DecoderSpec:
    """The decoder that a configuration has for these grids."""
    frequencies = config.n_texel_frequencies
    if frequencies < 0:
        learned = any(grid.interpolation == "learned" for grid in grids)
        frequencies = LEARNED_TEXEL_FREQUENCIES if learned else 0
    return DecoderSpec(
        n_frequencies=config.n_frequencies,
        n_neurons=config.n_neurons,
        n_hidden_layers=config.n_hidden_layers,
        n_texel_frequencies=frequencies,
        activation="leaky_relu" if config.activation == "relu" else config.activation,
        negative_slope=0.0 if config.activation == "relu" else DecoderSpec.negative_slope,
        weight_bits=config.weight_bits,
        activation_bits=config.activation_bits,
    )
