"""How a decoder for shaders holds the weights of the network: in which order, and as what numbers.

float32 and float16 are columns of four numbers, of two words of 32 bits the latter. int8 is for weights of 8 bits: four
of them in a word, the first in the lowest byte, and after all columns a float32 for each row, which its weights are to
be multiplied by. Whatever it holds, a decoder computes with float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torchtyping import TensorType

from common.errors import UserError
from model import NeuralTexture
from quantize import stored_weights

WeightColumns = TensorType["columns", 4]

WEIGHT_FILE = "decoder_weights.bin"
WEIGHT_TEXTURE_WIDTH = 256  # texels: GLSL ES 3.00 has no storage buffers and reads weights from a texture
BLOCK = 4  # rows of a weight matrix that one column of four serves
LARGEST_HALF = 65504.0
ELEMENTS = {"float32": "float4", "float16": "uint2", "int8": "uint"}  # what a table of such weights is an array of
OF_BITS = {32: "float32", 16: "float16", 8: "int8"}  # the weights of a network file as they are


@dataclass(frozen=True)
class Weights:
    """The weights as a shader has them, a table of ELEMENTS[kind], see shaders/decoder.slang, ntNetwork."""

    kind: str  # float32, float16 or int8
    baked: bool  # into the shader's text, else in a buffer
    table: np.ndarray  # (elements, words of one) float32, or uint32
    columns: int  # elements before the scales of int8

    @property
    def element(self) -> str:
        return ELEMENTS[self.kind]


def chosen_type(model: NeuralTexture, weight_type: str, baked: bool) -> str:
    """`weight_type`, or for `auto` what costs least: numbers that need no unpacking in a text, in a buffer those of the
    network file, as wide as they are there.

    Raises: UserError for int8 of weights that are not of 8 bits.
    """
    bits = model.decoder.weight_bits
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


def make_weights(model: NeuralTexture, storage: str, weight_type: str) -> Weights:
    """The weights `baked` or for a `buffer`. Raises: UserError as chosen_type, and for one too large for float16."""
    baked = storage == "baked"
    kind = chosen_type(model, weight_type, baked)
    if kind == "int8":
        return _int8_weights(model, baked)
    columns = weight_columns(model)
    if kind == "float32":
        return Weights(kind, baked, columns, len(columns))
    if np.abs(columns).max() > LARGEST_HALF:
        raise UserError(
            f"--weight_type float16: the largest weight is {np.abs(columns).max():g}, which float16 cannot hold; "
            "use float32"
        )
    return Weights(kind, baked, columns.astype("<f2").view("<u4"), len(columns))


def _int8_weights(model: NeuralTexture, baked: bool) -> Weights:
    columns, scales = [], []
    for index, weight in enumerate(model.weights):
        codes, scale = stored_weights(weight.detach().cpu().float(), 8)
        columns.append(_columns(codes.numpy(), bool(index)))
        scales.append(np.pad(scale.numpy(), (0, -len(scale) % BLOCK)))
    words = np.concatenate(columns).view("<u4")
    table = np.concatenate([words, np.concatenate(scales).astype("<f4").view("<u4")[:, None]])
    return Weights("int8", baked, table, len(words))


def weight_bytes(model: NeuralTexture, weight_type: str = "auto") -> bytes:
    """The table as the bytes of a buffer, little endian, filled up to whole rows of the texture for GLSL ES.

    Raises: as make_weights.
    """
    table = make_weights(model, "buffer", weight_type).table
    table = np.pad(table, [(0, -len(table) % WEIGHT_TEXTURE_WIDTH), (0, 0)])
    return table.astype(table.dtype.newbyteorder("<")).tobytes()
