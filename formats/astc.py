"""BC1 blocks of grids as ASTC 4x4 blocks, for devices that sample ASTC and not BC1: twice the bits, nothing searched.

One ASTC mode holds what a BC1 block has: one partition, RGB end points of 8 bits (mode 8), 4x4 weights of 2 bits. The
end points stay as they are; the weights 0, 1/3, 2/3, 1 become 0, 21/64, 43/64, 1, so a texel moves by at most 1.33
steps of 8 bits. Source: Khronos Data Format 1.3, 23.
"""

from __future__ import annotations

import numpy as np

import blocks

BLOCK_BYTES = 16
# Bits 0 to 10, the block mode of 4x4 weights of 4 levels (A = 2, B = 0, R = 100, table of 2-D block modes); 11 and 12,
# one partition; 13 to 16, LDR RGB direct.
_MODE = 0b0_0_00_10_0_00_10 | 0 << 11 | 8 << 13  # D, H, B, A, R0, 00, R2 R1
_END_POINTS = 17  # first bit: R0 R1 G0 G1 B0 B1, 8 bits each


def blocks_from_bc1(bc1: np.ndarray) -> np.ndarray:
    """(blocks, 8) uint8 as `blocks.encode_blocks` writes them -> (blocks, 16) uint8.

    Raises: ValueError as blocks.split_blocks.
    """
    codes, weights = blocks.split_blocks(bc1)
    ends = np.stack([codes[..., 0] << 3 | codes[..., 0] >> 2, codes[..., 1] << 2 | codes[..., 1] >> 4,
                     codes[..., 2] << 3 | codes[..., 2] >> 2], axis=2)  # fmt: skip
    # A decoder takes the end points for others where the second is the darker one.
    sums = ends.sum(axis=2, dtype=np.int32)
    swap = sums[:, 1] < sums[:, 0]
    ends = np.where(swap[:, None, None], ends[:, ::-1], ends)
    weights = np.where(swap[:, None], blocks.THIRDS - weights, weights)
    bits = np.zeros((len(bc1), 8 * BLOCK_BYTES), np.uint8)
    bits[:, :_END_POINTS] = _MODE >> np.arange(_END_POINTS) & 1
    values = ends.transpose(0, 2, 1).reshape(-1, 6)
    bits[:, _END_POINTS : _END_POINTS + 48] = np.unpackbits(values, axis=1, bitorder="little")
    # weights run down from the last bit, the low bit of each first
    bits[:, -1 : -1 - 2 * blocks.TEXELS : -1] = (weights[..., None] >> np.arange(2) & 1).reshape(len(bc1), -1)
    return np.packbits(bits, axis=1, bitorder="little")
