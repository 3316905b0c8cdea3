"""Grids of blocks as ASTC blocks: those of 6x6 texels as they are trained, those of BC1 as 4x4 for phones.

Both are one mode each: one partition, RGB end points (mode 8, LDR RGB direct), one plane of weights of 2 bits, one for
each texel. The end points of 4x4 blocks have 8 bits. Those of 6x6 blocks are what the rest of the 128 bits holds: 80
codes, a quint and 4 bits each, three in 19 bits. The weights 0 to 3 stand for 0, 21/64, 43/64 and 1.
Source: Khronos Data Format 1.3, 23: block modes 23.11, integer sequences 23.12, end points 23.13 to 23.15.
"""

from __future__ import annotations

import numpy as np

from blocks import FEATURES, WEIGHT, Parameters, end_point_codes, expand_codes, weight_codes
from formats import bc1
from shape import BLOCKS

SIX = BLOCKS["astc6x6"]
BLOCK_BYTES, _BITS = 16, 128
# Bits 0 to 10, the block mode of weights of 4 levels (R = 100, table of 2-D block modes), of 4x4 (A = 2, B = 0, row
# "B+4, A+2") and of 6x6 (A = B = 0, row "A+6, B+6"); 11 and 12, one partition; 13 to 16, LDR RGB direct.
_FOUR_MODE = 0b0_0_00_10_0_00_10 | 0 << 11 | 8 << 13  # D, H, B, A, R0, 00, R2 R1
_SIX_MODE = 0b00_10_00_0_10_00 | 0 << 11 | 8 << 13  # B, 10, A, R0, R2 R1, 00
_END_POINTS = 17  # first bit: R0 R1 G0 G1 B0 B1
_QUINT_BITS = 19  # of three values of 4 bits and a quint


def blocks_from_bc1(blocks: np.ndarray) -> np.ndarray:
    """(blocks, 8) uint8 as `bc1.encode` writes them -> (blocks, 16) uint8 of 4x4 texels, twice the bits.

    The end points stay as they are; a texel moves by at most 1.33 steps of 8 bits.
    Raises: ValueError as bc1.split.
    """
    codes, weights = bc1.split(blocks)
    ends = np.stack([codes[..., 0] << 3 | codes[..., 0] >> 2, codes[..., 1] << 2 | codes[..., 1] >> 4,
                     codes[..., 2] << 3 | codes[..., 2] >> 2], axis=2)  # fmt: skip
    ends, weights = _in_order(ends, ends, weights)
    return _packed(_FOUR_MODE, np.unpackbits(_interleaved(ends), axis=1, bitorder="little"), weights)


def encode(parameters: Parameters) -> np.ndarray:
    """Parameters of 6x6 blocks -> (blocks, 16) uint8.

    A decoder takes the end points for others where the second is the darker one. There they are swapped and places
    mirrored, which gives the same features.
    """
    ends = parameters[:, :WEIGHT].reshape(-1, FEATURES)
    codes = end_point_codes(SIX, ends)
    expanded = expand_codes(SIX, codes).cpu().numpy().reshape(-1, 2, FEATURES)
    weights = weight_codes(SIX, parameters[:, WEIGHT:]).cpu().numpy().astype(np.uint8)
    codes, weights = _in_order(expanded, codes.cpu().numpy().astype(np.uint8).reshape(-1, 2, FEATURES), weights)
    stored = _STORED_OF_CODE[_interleaved(codes)]
    quints, bits = stored >> 4, stored & 15
    fields = []
    for first in (0, 3):
        word = _WORD_OF_QUINTS[tuple(quints[:, first : first + 3].T)]
        parts = ((0, 3), (3, 2), (5, 2))  # first bit and bits of the word that follow each value
        for value, (shift, count) in zip(bits[:, first : first + 3].T, parts):
            fields += [value[:, None] >> np.arange(4), word[:, None] >> np.arange(shift, shift + count)]
    return _packed(_SIX_MODE, np.concatenate(fields, axis=1).astype(np.uint8) & 1, weights)


def split(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `encode`: codes of both end points (blocks, 2, 3) in 0..79, and of weights (blocks, 36) in 0..3,
    all uint8.

    Raises: ValueError for a block that `encode` never writes.
    """
    bits = np.unpackbits(np.ascontiguousarray(blocks), axis=1, bitorder="little")
    values, at = np.empty((len(bits), 2 * FEATURES), np.uint8), _END_POINTS
    for first in (0, 3):
        word, shift = np.zeros(len(bits), np.uint8), 0
        for place, count in ((0, 3), (1, 2), (2, 2)):
            values[:, first + place] = _number(bits[:, at : at + 4])
            word |= _number(bits[:, at + 4 : at + 4 + count]) << shift
            at, shift = at + 4 + count, shift + count
        values[:, first : first + 3] |= _QUINTS_OF_WORD[word] << 4
    codes = _CODE_OF_STORED[values]
    weights = bits[:, : -1 - 2 * SIX.texels : -1].reshape(len(bits), SIX.texels, 2)
    weights = weights[..., 0] | weights[..., 1] << 1
    ends = codes.reshape(-1, FEATURES, 2).swapaxes(1, 2)
    wrong = (_modes(bits) != _SIX_MODE) | bits[:, at : _BITS - 2 * SIX.texels].any(axis=1)
    wrong |= _darker(EXPANDED[ends])
    if wrong.any():
        raise ValueError(f"block {int(wrong.argmax())} is of another mode of ASTC, expected that of grids")
    return ends, weights


def _modes(bits: np.ndarray) -> np.ndarray:
    """The bits before the end points as numbers."""
    return bits[:, :_END_POINTS].astype(np.int64) @ (1 << np.arange(_END_POINTS))


def _number(bits: np.ndarray) -> np.ndarray:
    """The lowest bit first."""
    return bits @ (1 << np.arange(bits.shape[1], dtype=np.uint8))


def _darker(ends: np.ndarray) -> np.ndarray:
    """Of end points (blocks, 2, 3) in 0..255: whether the second sum is below the first."""
    sums = ends.sum(axis=2, dtype=np.int32)
    return sums[:, 1] < sums[:, 0]


def _in_order(expanded: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes of end points and weights, swapped and mirrored where the second end point is the darker one."""
    swap = _darker(expanded)
    return np.where(swap[:, None, None], codes[:, ::-1], codes), np.where(swap[:, None], SIX.highest - weights, weights)


def _interleaved(ends: np.ndarray) -> np.ndarray:
    """(blocks, 2, 3) -> (blocks, 6): R of both, G of both, B of both."""
    return np.ascontiguousarray(ends.transpose(0, 2, 1)).reshape(-1, 2 * FEATURES)


def _packed(mode: int, ends: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Blocks of a mode from bits of end points, the lowest first, and weights 0 to 3."""
    bits = np.zeros((len(ends), _BITS), np.uint8)
    bits[:, :_END_POINTS] = mode >> np.arange(_END_POINTS) & 1
    bits[:, _END_POINTS : _END_POINTS + ends.shape[1]] = ends
    # weights run down from the last bit, the low bit of each first
    bits[:, -1 : -1 - 2 * weights.shape[1] : -1] = (weights[..., None] >> np.arange(2) & 1).reshape(len(ends), -1)
    return np.packbits(bits, axis=1, bitorder="little")


def _quints(word: int) -> tuple[int, int, int]:
    """The three quints of a word of 7 bits, by the procedure of section 23.12."""
    low, middle, high = word & 1, word >> 1 & 3, word >> 5 & 3
    if middle == 3 and high == 0:
        clear = 1 - low
        return 4, 4, low << 2 | (word >> 4 & clear) << 1 | word >> 3 & clear
    last = 4 if middle == 3 else high
    rest = (word >> 3 & 3) << 3 | (3 - high) << 1 | low if middle == 3 else word & 31
    return (rest >> 3, 4, last) if rest & 7 == 5 else (rest & 7, rest >> 3, last)


def _expanded(stored: int) -> int:
    """0 to 255 of a quint << 4 | four bits, by table 97 of section 23.15."""
    a, b, c, d = (stored >> bit & 1 for bit in range(4))
    value = (stored >> 4) * 13 + (d << 8 | c << 7 | b << 6 | d << 1 | c) ^ (511 if a else 0)
    return 128 * a | value >> 2


_STORED = sorted(range(80), key=_expanded)  # in the order of what they stand for, which is that of codes
EXPANDED = np.array([_expanded(stored) for stored in _STORED], np.uint8)  # of each code; blocks.expand_codes
_STORED_OF_CODE = np.array(_STORED, np.uint8)
_CODE_OF_STORED = np.argsort(_STORED_OF_CODE).astype(np.uint8)
_QUINTS_OF_WORD = np.array([_quints(word) for word in range(128)], np.uint8)
_WORD_OF_QUINTS = np.zeros((5, 5, 5), np.uint8)
_WORD_OF_QUINTS[tuple(_QUINTS_OF_WORD[::-1].T)] = np.arange(128)[::-1]
