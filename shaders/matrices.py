"""The network's weights as matrices of float16, which cooperative vectors multiply with; shaders/slang.py reads them.

Source of the alignments: Khronos, "GL_NV_cooperative_vector", 64 bytes and rows of a multiple of 16; Microsoft, HLSL
specification 0029, 128 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.errors import UserError
from model import NeuralTexture
from shaders.weights import LARGEST_HALF, largest_sums

MATRIX_FILE = "decoder_matrices.bin"
ALIGNMENT = 128  # bytes, of where a matrix begins
TILE = 16  # neurons: layers are filled up to a multiple of it


@dataclass(frozen=True)
class Matrix:
    """Where a matrix of float16 lies: row after row, without gaps."""

    offset: int  # bytes
    rows: int
    columns: int

    @property
    def stride(self) -> int:
        """Bytes from a row to the next."""
        return 2 * self.columns

    @property
    def size(self) -> int:
        return self.rows * self.stride


def matrices(model: NeuralTexture) -> list[Matrix]:
    """The matrix of each layer, in order."""
    found, offset = [], 0
    for rows, columns in model.form.layer_sizes:  # the first layer's inputs and the last one's rows are full
        found.append(Matrix(offset, rows + -rows % TILE, columns + -columns % TILE))
        offset += found[-1].size + -found[-1].size % ALIGNMENT
    return found


def matrix_bytes(model: NeuralTexture) -> bytes:
    """The buffer: each matrix at its offset, rounded to float16, little endian, zeros elsewhere.

    Raises: UserError for a network whose sums may not fit into 16 bits.
    """
    for index, largest in enumerate(largest_sums(model, row_scaled=False)):
        if not largest <= LARGEST_HALF:
            raise UserError(f"--shader slang: sums of layer {index} may reach {largest:.3g}, float16 holds 65504; "
                            "leave slang out")  # fmt: skip
    places = matrices(model)
    buffer = np.zeros(places[-1].offset + places[-1].size, np.uint8)
    for place, weight in zip(places, model.exported_weights()):
        values = np.zeros((place.rows, place.columns), "<f2")
        values[: weight.shape[0], : weight.shape[1]] = weight.detach().cpu().float().numpy()
        buffer[place.offset : place.offset + place.size] = values.reshape(-1).view(np.uint8)
    return buffer.tobytes()
