"""KTX 2.0 files of blocks or of uncompressed texels: one 2-D texture with its mips, not supercompressed.

Source: Khronos, "KTX File Format Specification" 2.0; "Khronos Data Format Specification" 1.3, 5 and 20.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import UserError
from common.files import open_regular
from formats.dds import BLOCK_FORMATS, FORMAT_NAMES, MAX_SIZE, BlockTexture, TextureInfo, split_levels

IDENTIFIER = b"\xabKTX 20\xbb\r\n\x1a\n"
WRITER = "neural texture toolkit"

# (format, sRGB) -> VkFormat
VK_FORMATS = {
    ("bc1", False): 131, ("bc1", True): 132, ("bc4", False): 139, ("bc5", False): 141,
    ("bc6h", False): 143, ("bc7", False): 145, ("bc7", True): 146,
    ("r8", False): 9, ("r8g8", False): 16, ("r8g8b8a8", False): 37,
    ("a4r4g4b4", False): 1000340000,  # which DXGI calls B4G4R4A4
    ("astc4x4", False): 157, ("astc6x6", False): 165,
}  # fmt: skip


class _Unit(NamedTuple):
    """What a format repeats: a block of texels, or one texel."""

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
    "astc6x6": _Unit(6, 16, 162, ((0, 0, 128),), _WHOLE),
    "r8": _Unit(1, 1, _RGBSDA, ((_R, 0, 8),), 255), "r8g8": _Unit(1, 2, _RGBSDA, ((_R, 0, 8), (_G, 8, 8)), 255),
    "r8g8b8a8": _Unit(1, 4, _RGBSDA, ((_R, 0, 8), (_G, 8, 8), (_B, 16, 8), (_A, 24, 8)), 255),
    "a4r4g4b4": _Unit(1, 2, _RGBSDA, ((_B, 0, 4), (_G, 4, 4), (_R, 8, 4), (_A, 12, 4)), 15, word=2),
}  # fmt: skip
_DXGI_FORMS = {28: "r8g8b8a8", 49: "r8g8", 61: "r8", 115: "a4r4g4b4", 71: "bc1"}  # of the textures of grids
_NAMES = {131: "BC1_UNORM", 165: "ASTC_6x6_UNORM"}  # VkFormat -> name, of blocks that grids have
_BT709, _LINEAR, _SRGB = 1, 1, 2
_HEADER = struct.Struct("<12s9I4I2Q")
_LEVEL = struct.Struct("<3Q")


def encode_ktx2(width: int, height: int, form: str, srgb: bool, levels: Sequence[bytes]) -> bytes:
    """The bytes of a KTX2 file.

    Args:
        width, height: of level 0, texels.
        form: 'bc1', 'bc4', 'bc5', 'bc6h' (unsigned), 'bc7', 'astc4x4', 'astc6x6', 'r8', 'r8g8', 'r8g8b8a8' or
            'a4r4g4b4'.
        srgb: whether colour is sRGB encoded; only bc1 and bc7 have such a kind.
        levels: the blocks or texels of each level, row by row, the largest first, each half the one before, rounded
            down.
    Raises: ValueError for a format that does not exist, or a level that has not as many bytes as its size asks for.
    """
    if (form, srgb) not in VK_FORMATS:
        raise ValueError(f"expected one of {sorted(VK_FORMATS)}, got {(form, srgb)}")
    unit = _UNITS[form]
    for index, (level, expected) in enumerate(zip(levels, _level_bytes(unit, width, height, len(levels)))):
        if len(level) != expected:
            raise ValueError(f"mip {index} must be {expected} bytes, got {len(level)}")
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


def _level_bytes(unit: _Unit, width: int, height: int, mips: int) -> list[int]:
    sizes = ((max(width >> mip, 1), max(height >> mip, 1)) for mip in range(mips))
    return [math.prod(-(-side // unit.side) for side in size) * unit.bytes for size in sizes]


def read_block_ktx2(path: str | Path, form: str) -> BlockTexture:
    """The blocks of a KTX2 file of one format, as encode_ktx2 writes it.

    Raises: UserError when it cannot be read, is not such a file, is cut short, or has bytes left over.
    """
    info, index = _read_header(path)
    if info.format != _NAMES[VK_FORMATS[form, False]]:
        raise UserError(f"{path}: expected format {_NAMES[VK_FORMATS[form, False]]}, found {info.format}")
    unit, size = _UNITS[form], f"{info.width}x{info.height}, {info.mips} mips"
    for mip, expected in enumerate(_level_bytes(unit, info.width, info.height, info.mips)):
        if index[mip][1:] != (expected, expected):
            raise UserError(f"{path}: mip {mip}: expected {expected} bytes, found {index[mip][1]}; the file is damaged")
    if info.bytes != info.expected_bytes:
        raise UserError(f"{path}: expected {info.expected_bytes} bytes for {size}; found {info.bytes}")
    payload = _read(path, info.bytes)
    levels = (np.frombuffer(payload, np.uint8, count, at).reshape(-1, unit.bytes) for at, count, _ in index)
    return BlockTexture(info.width, info.height, tuple(levels))


def read_ktx2_info(path: str | Path) -> TextureInfo:
    """The header of a KTX2 file of one 2-D texture that is not supercompressed.

    Raises: UserError when it cannot be read or is another file.
    """
    return _read_header(path)[0]


def _read_header(path: str | Path) -> tuple[TextureInfo, list[tuple[int, int, int]]]:
    """`read_ktx2_info`, and where each level lies, the bytes that it has there, and those when it is unpacked."""
    head = _read(path, _HEADER.size + MAX_SIZE.bit_length() * _LEVEL.size)
    if len(head) < _HEADER.size or head[: len(IDENTIFIER)] != IDENTIFIER:
        raise UserError(f"{path}: expected a KTX2 file, found {len(head)} bytes of something else")
    vk, _, width, height, depth, layers, faces, mips, scheme = _HEADER.unpack_from(head)[1:10]
    if (depth, layers, faces, scheme) != (0, 0, 1, 0):
        raise UserError(f"{path}: expected one 2-D texture that is not supercompressed, found another kind of KTX2")
    if not (1 <= width <= MAX_SIZE and 1 <= height <= MAX_SIZE and 1 <= mips <= max(width, height).bit_length()):
        raise UserError(f"{path}: impossible size {width}x{height} with {mips} mips; the file is damaged")
    if len(head) < _HEADER.size + mips * _LEVEL.size:
        raise UserError(f"{path}: expected a list of {mips} mips, found {len(head)} bytes in all; the file is damaged")
    index = [_LEVEL.unpack_from(head, _HEADER.size + mip * _LEVEL.size) for mip in range(mips)]
    end, name = max(at + stored for at, stored, _ in index), _NAMES.get(vk, f"VkFormat {vk}")
    return TextureInfo(width, height, mips, name, "KTX2", True, os.stat(path).st_size, end), index


def _read(path: str | Path, count: int) -> bytes:
    try:
        with open_regular(path) as stream:
            return stream.read(count)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


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
