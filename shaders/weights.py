"""How a decoder for shaders holds the weights of the network: in which order, and as what numbers.

float32 and float16 are columns of four numbers, of two words of 32 bits the latter. int8 is for weights of 8 bits: four
of them in a word, the first in the lowest byte, and after all columns a float32 for each row, which its weights are to
be multiplied by. codes16 is the same with float16, each a 128th of an int8: exact, and what a network of 16 bits
multiplies without unpacking. Whatever of these it holds, a decoder computes with float32, or with --shader_precision 16
with products of 16 bits. dots is for --shader_precision 8: the constants of quantized.network, and weights of 8 bits,
four of a row in a word and the words of four rows side by side, see shaders/network.slang.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torchtyping import TensorType

from common.errors import UserError
from model import NeuralTexture
from quantize import stored_weights
from quantized.gradient import layers_of
from quantized.network import IntegerLayer

WeightColumns = TensorType["columns", 4]

WEIGHT_FILE = "decoder_weights.bin"
WEIGHT_TEXTURE_WIDTH = 256  # texels: GLSL ES 3.00 has no storage buffers and reads weights from a texture
BLOCK = 4  # rows of a weight matrix that one column of four serves
LARGEST_HALF = 65504.0
MOST_INPUTS = 8  # of which products are added in 16 bits; 16 would save a tenth of the operations, with 2 dB more noise
# what a table of such weights is an array of
DOTS = "dots"
ELEMENTS = {"float32": "float4", "float16": "uint2", "int8": "uint", "codes16": "uint2", DOTS: "uint4"}
ROW_SCALED = ("int8", "codes16")  # kinds with scales
CODE_UNIT = 128  # int8 over that: up to 1, so that sums of 16 bits hold no more than those of the weights themselves
OF_BITS = {32: "float32", 16: "float16", 8: "int8"}  # the weights of a network file as they are


@dataclass(frozen=True)
class Weights:
    """The weights as a shader has them, a table of ELEMENTS[kind], see shaders/decoder.slang, ntNetwork."""

    kind: str  # one of ELEMENTS
    baked: bool  # into the shader's text, else in a buffer
    table: np.ndarray  # (elements, words of one) float32, or uint32
    columns: int  # elements before the scales, where it is ROW_SCALED
    precision: int = 32  # bits of the decoder's products; 8 where it is DOTS

    @property
    def half(self) -> bool:
        return self.precision == 16

    @property
    def element(self) -> str:
        return ELEMENTS[self.kind]


def chosen_type(model: NeuralTexture, weight_type: str, baked: bool, precision: int = 32) -> str:
    """`weight_type`, or for `auto` what costs least: numbers that need no unpacking in a text, in a buffer those of the
    network file, as wide as they are there; with a precision of 16 bits float16, exact for weights of 16 and 8. With a
    precision of 8 bits: DOTS.

    Raises: UserError for int8 of weights that are not of 8 bits, for float32 with a precision of 16, and for a
        precision of 8 with another type, or of a network that computes with floats.
    """
    bits = model.decoder.weight_bits
    if precision == 8:
        if model.decoder.activation_bits != 8:
            raise UserError(
                "--shader_precision 8: expected a run with --activation_bits 8, found 32; train one with "
                "--shader_precision 8, or use 16"
            )
        if weight_type not in ("auto", "int8"):
            raise UserError(f"--weight_type {weight_type}: expected auto or int8 with --shader_precision 8")
        return DOTS
    if precision == 16 and weight_type == "float32":
        raise UserError("--weight_type float32: expected auto, float16 or int8 with --shader_precision 16")
    if precision == 16 and weight_type == "auto":
        return "codes16" if bits == 8 else "float16"
    if weight_type == "auto":
        return "float32" if baked else OF_BITS[bits]
    if weight_type == "int8" and bits != 8:
        raise UserError(f"--weight_type int8: expected a run with --weight_bits 8, found {bits}; use float16 or auto")
    return weight_type


def weight_columns(model: NeuralTexture) -> WeightColumns:
    """The weights in the order in which the decoder reads them, float32, as the network file holds them.

    Matrix after matrix, four rows at a time: the four weights of input 0, of input 1, ... Hidden layers are padded to a
    multiple of 4 neurons with weights of 0.
    Returns: (columns, 4).
    """
    return np.concatenate([
        _columns(weight.detach().cpu().float().numpy(), bool(index))
        for index, weight in enumerate(model.exported_weights())
    ])  # fmt: skip


def _columns(matrix: np.ndarray, inner: bool) -> np.ndarray:
    """Those of one matrix; inner: its inputs are the neurons before."""
    matrix = np.pad(matrix, [(0, -len(matrix) % BLOCK), (0, -matrix.shape[1] % BLOCK if inner else 0)])
    return matrix.reshape(-1, BLOCK, matrix.shape[1]).transpose(0, 2, 1).reshape(-1, BLOCK)


def column_blocks(model: NeuralTexture) -> list[tuple[int, int]]:
    """(blocks of four rows, columns of each) of the matrices, one after the other, as `weight_columns` has them."""
    sizes = enumerate(model.form.layer_sizes)
    return [(-(-rows // BLOCK), inputs + (-inputs % BLOCK if index else 0)) for index, (rows, inputs) in sizes]


def trained_precision(model: NeuralTexture) -> int:
    """Bits of the products of the decoder that gives what the model was trained and scored with."""
    return 8 if model.activation_bits == 8 else 32


def make_weights(model: NeuralTexture, storage: str, weight_type: str, precision: int = 32) -> Weights:
    """The weights `baked` or for a `buffer`, for a decoder of a precision in bits.

    Raises: UserError as chosen_type, for a weight too large for float16, and for sums of 16 bits that may overflow.
    """
    baked = storage == "baked"
    kind = chosen_type(model, weight_type, baked, precision)
    if precision == 16:
        check_sums(model, kind)
    if kind == DOTS:
        table = _dot_table(integer_network(model))
        return Weights(kind, baked, table, len(table), precision)
    if kind in ROW_SCALED:
        return _scaled_weights(model, kind, baked, precision)
    columns = weight_columns(model)
    if kind == "float32":
        return Weights(kind, baked, columns, len(columns))
    if np.abs(columns).max() > LARGEST_HALF:
        raise UserError(
            f"--weight_type float16: the largest weight is {np.abs(columns).max():g}, which float16 cannot hold; "
            "use float32"
        )
    return Weights(kind, baked, columns.astype("<f2").view("<u4"), len(columns), precision)


def _scaled_weights(model: NeuralTexture, kind: str, baked: bool, precision: int) -> Weights:
    columns, scales = [], []
    for index, weight in enumerate(model.weights):
        codes, scale = stored_weights(weight.detach().cpu().float(), 8)
        columns.append(_columns(codes.numpy(), bool(index)))
        scales.append(np.pad(scale.numpy(), (0, -len(scale) % BLOCK)))
    codes = np.concatenate(columns)
    words = codes.view("<u4") if kind == "int8" else (codes / np.float32(CODE_UNIT)).astype("<f2").view("<u4")
    table = np.concatenate([words, np.concatenate(scales).astype("<f4").view("<u4").reshape(-1, words.shape[1])])
    return Weights(kind, baked, table, len(words), precision)


def integer_network(model: NeuralTexture) -> list[IntegerLayer]:
    """The network in whole numbers. Raises: UserError as integer_layers."""
    decoder, weights = model.decoder, model.exported_weights()
    return layers_of(weights, model.activation_ranges, decoder.activation, decoder.negative_slope)


def _dot_table(layers: Sequence[IntegerLayer]) -> np.ndarray:
    """The table of DOTS, as ntNetwork reads it: (elements, 4) uint32."""
    parts = []
    for layer in layers:
        if not layer.last:
            half, upper = 1 << (layer.shift - 1), layer.offset + (128 << layer.post_shift)  # bytes from 0 to 255
            parts.append([layer.pre_shift, layer.shift, layer.post_shift, half])
            parts.append([layer.top, layer.knee, layer.slope, upper])
        factors = layer.scales.astype("<f4").view("<i4") if layer.last else layer.multipliers
        rows = [_columns(vector[:, None], False) for vector in (layer.bias, factors)]
        codes = np.pad(layer.codes, [(0, -len(layer.codes) % BLOCK), (0, -layer.codes.shape[1] % BLOCK)])
        words = np.ascontiguousarray(codes).view("<i4")  # (rows, words)
        blocks = words.reshape(-1, BLOCK, words.shape[1]).swapaxes(1, 2)
        parts.append(np.concatenate([*(part[:, None] for part in rows), blocks], axis=1).reshape(-1, BLOCK))
    return np.concatenate([np.asarray(part, "<i4").reshape(-1, BLOCK) for part in parts]).view("<u4")


def group_inputs(model: NeuralTexture) -> int:
    """How many products a decoder of 16 bits adds in 16 bits: 8, or 4 where 8 does not divide all layers."""
    return math.gcd(MOST_INPUTS, *(columns for _, columns in column_blocks(model)))


def check_sums(model: NeuralTexture, kind: str) -> None:
    """Refuse a network of which a sum of 16 bits may overflow, whatever the texel. Raises: UserError."""
    for index, largest in enumerate(largest_sums(model, kind in ROW_SCALED, group_inputs(model))):
        if not largest <= LARGEST_HALF:
            raise UserError(
                f"--shader_precision 16: sums of layer {index} may reach {largest:.3g}, float16 holds 65504; use 32"
            )


def largest_sums(model: NeuralTexture, row_scaled: bool, width: int | None = None) -> Iterator[float]:
    """A bound of the absolute inputs of each layer, and of its sums of `width` products, or of all of a row.

    Bounds of all activations from those of the inputs: waves and ones are in [-1, 1], and so is every feature.
    row_scaled: the products are with codes of at most 1.
    """
    low, high = -np.ones(model.layout.total), np.ones(model.layout.total)
    slope = model.decoder.negative_slope
    for weight in model.exported_weights():
        weight = weight.detach().cpu().double().numpy()
        largest_of_row = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-30)
        factors = weight / largest_of_row if row_scaled else weight  # the largest code is almost 1
        sums = np.abs(factors) * np.maximum(-low, high)
        count = width or sums.shape[1]
        groups = np.pad(sums, [(0, 0), (0, -sums.shape[1] % count)]).reshape(len(sums), -1, count).sum(axis=2)
        yield max(groups.max(), high.max(), -low.min())
        positive, negative = np.maximum(weight, 0), np.minimum(weight, 0)
        low, high = positive @ low + negative @ high, positive @ high + negative @ low
        if model.decoder.activation == "hard_swish":  # its lowest value is -3/8
            low, high = np.maximum(low, -0.375) * (low < 0), np.maximum(high, 0)
        else:
            low, high = np.where(low < 0, slope * low, low), np.where(high < 0, slope * high, high)
            low, high = np.minimum(low, high), np.maximum(low, high)


def weight_bytes(model: NeuralTexture, weight_type: str = "auto", precision: int = 32) -> bytes:
    """The table as the bytes of a buffer, little endian, filled up to whole rows of the texture for GLSL ES.

    Raises: as make_weights.
    """
    table = make_weights(model, "buffer", weight_type, precision).table
    table = np.pad(table, [(0, -len(table) % WEIGHT_TEXTURE_WIDTH), (0, 0)])
    return table.astype(table.dtype.newbyteorder("<")).tobytes()
