"""KTX 2.0 files of BCn blocks: one 2-D texture with its mips, not supercompressed.

Source: Khronos, "KTX File Format Specification" 2.0; "Khronos Data Format Specification" 1.3, 5 and 20.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from formats.dds import BLOCK, BLOCK_BYTES

IDENTIFIER = b"\xabKTX 20\xbb\r\n\x1a\n"
WRITER = "neural texture toolkit"

# (format, sRGB) -> VkFormat
VK_FORMATS = {
    ("bc1", False): 131, ("bc1", True): 132, ("bc4", False): 139, ("bc5", False): 141, ("bc7", False): 145,
    ("bc7", True): 146,
}  # fmt: skip
_COLOR_MODELS = {"bc1": 128, "bc4": 131, "bc5": 132, "bc7": 134}  # KHR_DF_MODEL_BC1A, _BC4, _BC5, _BC7
_SAMPLES = {"bc1": [(0, 0, 64)], "bc4": [(0, 0, 64)], "bc5": [(0, 0, 64), (1, 64, 64)], "bc7": [(0, 0, 128)]}
_BT709, _LINEAR, _SRGB = 1, 1, 2
_HEADER = struct.Struct("<12s9I4I2Q")
_LEVEL = struct.Struct("<3Q")


def encode_ktx2(width: int, height: int, form: str, srgb: bool, levels: Sequence[bytes]) -> bytes:
    """The bytes of a KTX2 file.

    Args:
        width, height: of level 0, texels.
        form: 'bc1', 'bc4', 'bc5' or 'bc7'.
        srgb: whether colour is sRGB encoded; bc4 and bc5 have no such kind.
        levels: the blocks of each level, row by row, the largest first, each half the one before, rounded down.
    Raises: ValueError for a format that does not exist, or a level that has not as many blocks as its size asks for.
    """
    if (form, srgb) not in VK_FORMATS:
        raise ValueError(f"expected one of {sorted(VK_FORMATS)}, got {(form, srgb)}")
    for index, level in enumerate(levels):
        columns, rows = (-(-max(size >> index, 1) // BLOCK) for size in (width, height))
        if len(level) != columns * rows * BLOCK_BYTES[form]:
            raise ValueError(f"mip {index} must be {columns} x {rows} blocks, got {len(level)} bytes")
    descriptor = _data_format_descriptor(form, srgb)
    values = _key_values({"KTXorientation": b"rd\0", "KTXwriter": WRITER.encode() + b"\0"})  # right, down
    descriptor_at = _HEADER.size + _LEVEL.size * len(levels)
    values_at = descriptor_at + len(descriptor)
    alignment = math.lcm(BLOCK_BYTES[form], 4)
    parts, position, index = [], values_at + len(values), []
    for level in reversed(levels):  # the smallest first, so that a stream can be shown before it is complete
        padding = -position % alignment
        parts += [bytes(padding), level]
        index.append(_LEVEL.pack(position + padding, len(level), len(level)))
        position += padding + len(level)
    header = _HEADER.pack(
        IDENTIFIER, VK_FORMATS[form, srgb], 1, width, height, 0, 0, 1, len(levels), 0,
        descriptor_at, len(descriptor), values_at, len(values), 0, 0,
    )  # fmt: skip
    return b"".join([header, *reversed(index), descriptor, values, *parts])


def _data_format_descriptor(form: str, srgb: bool) -> bytes:
    """One basic descriptor block: how to read the bytes, for programs that do not know the VkFormat."""
    samples = b"".join(
        struct.pack("<HBB4BII", offset, bits - 1, channel, 0, 0, 0, 0, 0, 0xFFFFFFFF)
        for channel, offset, bits in _SAMPLES[form]
    )
    size = 24 + len(samples)
    block = struct.pack("<IHH", 0, 2, size)  # vendor Khronos, type basic; version 1.3
    block += bytes([_COLOR_MODELS[form], _BT709, _SRGB if srgb else _LINEAR, 0])  # alpha is not premultiplied
    block += bytes([BLOCK - 1, BLOCK - 1, 0, 0]) + bytes([BLOCK_BYTES[form], *[0] * 7])
    return struct.pack("<I", 4 + size) + block + samples


def _key_values(values: dict[str, bytes]) -> bytes:
    """Key and value data, in order of the keys, each entry padded to 4 bytes."""
    result = b""
    for key in sorted(values):
        entry = key.encode() + b"\0" + values[key]
        result += struct.pack("<I", len(entry)) + entry + bytes(-len(entry) % 4)
    return result
