"""KTX 2.0 files of blocks or of uncompressed texels: one 2-D texture with its mips, not supercompressed.

Source: Khronos, "KTX File Format Specification" 2.0; "Khronos Data Format Specification" 1.3, 5 and 20.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

from formats.dds import BLOCK_FORMATS, FORMAT_NAMES, split_levels

IDENTIFIER = b"\xabKTX 20\xbb\r\n\x1a\n"
WRITER = "neural texture toolkit"

# (format, sRGB) -> VkFormat
VK_FORMATS = {
    ("bc1", False): 131, ("bc1", True): 132, ("bc4", False): 139, ("bc5", False): 141,
    ("bc6h", False): 143, ("bc7", False): 145, ("bc7", True): 146,
    ("r8", False): 9, ("r8g8", False): 16, ("r8g8b8a8", False): 37,
    ("a4r4g4b4", False): 1000340000,  # which DXGI calls B4G4R4A4
    ("astc4x4", False): 157,
}  # fmt: skip


class _Unit(NamedTuple):
    """What a format repeats: a block of 4x4 texels, or one texel."""

    side: int  # texels
    bytes: int
    model: int  # KHR_DF_MODEL_*
    samples: tuple[tuple[int, int, int], ...]  # (channel and qualifiers, first bit, bits)
    highest: int  # of a sample
    word: int = 1  # bytes of the numbers that a texel is made of, whose order depends on the machine


_WHOLE = 0xFFFFFFFF
_FLOAT, _ONE = 0x80, 0x3F800000  # KHR_DF_SAMPLE_DATATYPE_FLOAT, whose highest is 1.0
_RGBSDA = 1
_R, _G, _B, _A = 0, 1, 2, 15  # channels of _RGBSDA
_UNITS = {
    "bc1": _Unit(4, 8, 128, ((0, 0, 64),), _WHOLE), "bc4": _Unit(4, 8, 131, ((0, 0, 64),), _WHOLE),
    "bc5": _Unit(4, 16, 132, ((0, 0, 64), (1, 64, 64)), _WHOLE), "bc7": _Unit(4, 16, 134, ((0, 0, 128),), _WHOLE),
    "bc6h": _Unit(4, 16, 133, ((_FLOAT, 0, 128),), _ONE), "astc4x4": _Unit(4, 16, 162, ((0, 0, 128),), _WHOLE),
    "r8": _Unit(1, 1, _RGBSDA, ((_R, 0, 8),), 255), "r8g8": _Unit(1, 2, _RGBSDA, ((_R, 0, 8), (_G, 8, 8)), 255),
    "r8g8b8a8": _Unit(1, 4, _RGBSDA, ((_R, 0, 8), (_G, 8, 8), (_B, 16, 8), (_A, 24, 8)), 255),
    "a4r4g4b4": _Unit(1, 2, _RGBSDA, ((_B, 0, 4), (_G, 4, 4), (_R, 8, 4), (_A, 12, 4)), 15, word=2),
}  # fmt: skip
_DXGI_FORMS = {28: "r8g8b8a8", 49: "r8g8", 61: "r8", 115: "a4r4g4b4", 71: "bc1"}  # of the textures of grids
_BT709, _LINEAR, _SRGB = 1, 1, 2
_HEADER = struct.Struct("<12s9I4I2Q")
_LEVEL = struct.Struct("<3Q")


def encode_ktx2(width: int, height: int, form: str, srgb: bool, levels: Sequence[bytes]) -> bytes:
    """The bytes of a KTX2 file.

    Args:
        width, height: of level 0, texels.
        form: 'bc1', 'bc4', 'bc5', 'bc6h' (unsigned), 'bc7', 'astc4x4', 'r8', 'r8g8', 'r8g8b8a8' or 'a4r4g4b4'.
        srgb: whether colour is sRGB encoded; only bc1 and bc7 have such a kind.
        levels: the blocks or texels of each level, row by row, the largest first, each half the one before, rounded
            down.
    Raises: ValueError for a format that does not exist, or a level that has not as many bytes as its size asks for.
    """
    if (form, srgb) not in VK_FORMATS:
        raise ValueError(f"expected one of {sorted(VK_FORMATS)}, got {(form, srgb)}")
    unit = _UNITS[form]
    for index, level in enumerate(levels):
        columns, rows = (-(-max(size >> index, 1) // unit.side) for size in (width, height))
        if len(level) != columns * rows * unit.bytes:
            raise ValueError(f"mip {index} must be {columns} x {rows} of {unit.bytes} bytes, got {len(level)} bytes")
    descriptor = _data_format_descriptor(unit, srgb)
    values = _key_values({"KTXorientation": b"rd\0", "KTXwriter": WRITER.encode() + b"\0"})  # right, down
    descriptor_at = _HEADER.size + _LEVEL.size * len(levels)
    values_at = descriptor_at + len(descriptor)
    alignment = math.lcm(unit.bytes, 4)
    parts, position, index = [], values_at + len(values), []
    for level in reversed(levels):  # the smallest first, so that a stream can be shown before it is complete
        padding = -position % alignment
        parts += [bytes(padding), level]
        index.append(_LEVEL.pack(position + padding, len(level), len(level)))
        position += padding + len(level)
    header = _HEADER.pack(
        IDENTIFIER, VK_FORMATS[form, srgb], unit.word, width, height, 0, 0, 1, len(levels), 0,
        descriptor_at, len(descriptor), values_at, len(values), 0, 0,
    )  # fmt: skip
    return b"".join([header, *reversed(index), descriptor, values, *parts])


def ktx2_from_dds(payload: bytes, name: str = "DDS") -> bytes:
    """A grid's DDS file as a KTX2 file of the same levels; `name` is the file in errors.

    Raises: UserError when it is no DDS file of a grid.
    """
    names = {dxgi: FORMAT_NAMES.get(dxgi) or BLOCK_FORMATS[dxgi][0] for dxgi in _DXGI_FORMS}
    dxgi_format, parts = split_levels(payload, names, name)
    (height, width), _ = parts[0]
    return encode_ktx2(width, height, _DXGI_FORMS[dxgi_format], False, [level.tobytes() for _, level in parts])


def _data_format_descriptor(unit: _Unit, srgb: bool) -> bytes:
    """One basic descriptor block: how to read the bytes, for programs that do not know the VkFormat."""
    samples = b"".join(
        struct.pack("<HBB4BII", offset, bits - 1, channel, 0, 0, 0, 0, 0, unit.highest)
        for channel, offset, bits in unit.samples
    )
    size = 24 + len(samples)
    block = struct.pack("<IHH", 0, 2, size)  # vendor Khronos, type basic; version 1.3
    block += bytes([unit.model, _BT709, _SRGB if srgb else _LINEAR, 0])  # alpha is not premultiplied
    block += bytes([unit.side - 1, unit.side - 1, 0, 0]) + bytes([unit.bytes, *[0] * 7])
    return struct.pack("<I", 4 + size) + block + samples


def _key_values(values: dict[str, bytes]) -> bytes:
    """Key and value data, in order of the keys, each entry padded to 4 bytes."""
    result = b""
    for key in sorted(values):
        entry = key.encode() + b"\0" + values[key]
        result += struct.pack("<I", len(entry)) + entry + bytes(-len(entry) % 4)
    return result
