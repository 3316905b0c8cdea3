"""BC1 blocks: 64 bits for 4x4 texels.

Source: Microsoft, "Texture Block Compression in Direct3D 11", BC1; Khronos Data Format 1.3, 18.1.
"""

from __future__ import annotations

import numpy as np

from blocks import BC1, FEATURES, WEIGHT, Parameters, end_point_codes, weight_codes

# Index of each place 0, 1/3, 2/3, 1 from the first end point to the second, and the inverse.
_INDEX_OF_PLACE = np.array([0, 2, 3, 1], np.uint32)
_PLACE_OF_INDEX = np.array([0, 3, 1, 2], np.uint8)
_SHIFTS = 2 * np.arange(BC1.texels, dtype=np.uint32)


def encode(parameters: Parameters) -> np.ndarray:
    """Parameters -> (blocks, 8) uint8: c0 and c1 as R5 G6 B5, then 2 bits of index for each texel, little endian.

    A decoder reads three colours and black unless c0 > c1. So end points are swapped and places mirrored where c0 < c1,
    which gives the same features, and where both are equal all indices are 0.
    """
    both = (parameters[:, c : c + FEATURES] for c in (0, FEATURES))
    ends = [end_point_codes(BC1, end).cpu().numpy().astype(np.uint32) for end in both]
    words = [end[:, 0] << 11 | end[:, 1] << 5 | end[:, 2] for end in ends]
    place = weight_codes(BC1, parameters[:, WEIGHT:]).cpu().numpy().astype(np.uint8)
    place = np.where((words[0] < words[1])[:, None], BC1.highest - place, place)
    place[words[0] == words[1]] = 0
    blocks = np.empty(len(place), np.dtype([("c0", "<u2"), ("c1", "<u2"), ("indices", "<u4")]))
    blocks["c0"], blocks["c1"] = np.maximum(*words), np.minimum(*words)
    blocks["indices"] = np.bitwise_or.reduce(_INDEX_OF_PLACE[place] << _SHIFTS, axis=1)
    return blocks.view(np.uint8).reshape(-1, BC1.bytes)


def split(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(blocks, 8) uint8 -> codes of both end points (blocks, 2, 3), and places (blocks, 16) in 0..3, all uint8.

    Raises: ValueError for a block of three colours, which `encode` never writes.
    """
    words = np.ascontiguousarray(blocks).view("<u2").reshape(len(blocks), 4)
    ends = np.stack([words[:, :2] >> 11, words[:, :2] >> 5 & 63, words[:, :2] & 31], axis=2).astype(np.uint8)
    indices = (np.ascontiguousarray(blocks[:, 4:]).view("<u4") >> _SHIFTS & 3).astype(np.uint8)
    three = (words[:, 0] < words[:, 1]) | ((words[:, 0] == words[:, 1]) & indices.any(axis=1))
    if three.any():
        found = f"block {int(three.argmax())} has three colours"
        raise ValueError(f"{found}, expected four (its first word above its second)")
    return ends, _PLACE_OF_INDEX[indices]
