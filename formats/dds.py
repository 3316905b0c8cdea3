"""DDS files: writer and reader of uncompressed 8-bit and 4-bit channels and of BCn blocks, reader of any header.

Source of every field: Microsoft, "Programming Guide for DDS" and the DXGI_FORMAT enumeration.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.files import open_regular

DXGI_FORMATS = {(4, 8): 28, (2, 8): 49, (1, 8): 61, (4, 4): 115}  # (channels, bits of each); never an _SRGB one
FORMAT_NAMES = {28: "R8G8B8A8_UNORM", 49: "R8G8_UNORM", 61: "R8_UNORM", 115: "B4G4R4A4_UNORM"}
TEXEL_BYTES = {FORMAT_NAMES[dxgi]: channels * bits // 8 for (channels, bits), dxgi in DXGI_FORMATS.items()}
BLOCK_FORMATS = {  # DXGI format -> (name, bytes of a block of 4x4 texels)
    71: ("BC1_UNORM", 8), 72: ("BC1_UNORM_SRGB", 8), 77: ("BC3_UNORM", 16), 78: ("BC3_UNORM_SRGB", 16),
    80: ("BC4_UNORM", 8), 83: ("BC5_UNORM", 16), 95: ("BC6H_UF16", 16),
    98: ("BC7_UNORM", 16), 99: ("BC7_UNORM_SRGB", 16),
}  # fmt: skip
BLOCK = 4  # texels, width and height of a block
BLOCK_BYTES = {"bc1": 8, "bc4": 8, "bc5": 16, "bc6h": 16, "bc7": 16}
HEADER_BYTES = 4 + 124 + 20
MAX_SIZE = 16384  # Direct3D 11's and 12's largest 2-D texture

_MAGIC = b"DDS "
_HEADER = struct.Struct("<7I44x8I5I")  # size, flags, height, width, pitch, depth, mips | pixel format | caps
_DX10 = struct.Struct("<5I")
_MIP_COUNT = 0x20000
_FLAGS = 0x1 | 0x2 | 0x4 | 0x1000 | _MIP_COUNT  # caps, height, width, pixel format, mip count
_PITCH, _LINEAR_SIZE = 0x8, 0x80000  # flags: the field after the width holds the bytes of a row, or of level 0
_FOURCC, _RGB = 0x4, 0x40
_CAPS = 0x1000 | 0x8 | 0x400000  # texture, complex, mipmap
_CAPS_ONE_LEVEL = 0x1000
_TEXTURE_2D = 3
_ALPHA_UNKNOWN, _ALPHA_STRAIGHT, _ALPHA_OPAQUE = 0, 1, 3  # the DX10 header's last field
_TEXEL_FORMATS = {  # ours, and others that a header may name: DXGI format -> (name, bytes of a texel)
    **{dxgi: (name, TEXEL_BYTES[name]) for dxgi, name in FORMAT_NAMES.items()},
    29: ("R8G8B8A8_UNORM_SRGB", 4), 87: ("B8G8R8A8_UNORM", 4), 91: ("B8G8R8A8_UNORM_SRGB", 4),
}  # fmt: skip
_FOURCC_FORMATS = {b"DXT1": 71, b"DXT5": 77, b"ATI1": 80, b"BC4U": 80, b"ATI2": 83, b"BC5U": 83}
_MASKS = {(0xFF, 0xFF00, 0xFF0000, 0xFF000000): 28, (0xFF0000, 0xFF00, 0xFF, 0xFF000000): 87}  # R, G, B, A


@dataclass(frozen=True)
class Texture:
    """A 2-D texture. `levels` are (H, W, C) uint8, the largest first, each half the one before.

    C is 1, 2 or 4, in the order R, G, B, A. With 4 `bits` a channel C is 4 and values are below 16.
    """

    levels: tuple[np.ndarray, ...]
    bits: int = 8

    @property
    def dxgi_format(self) -> int:
        return DXGI_FORMATS[self.levels[0].shape[2], self.bits]


@dataclass(frozen=True)
class BlockTexture:
    """A 2-D texture of blocks. `levels` are (blocks, bytes of a block) uint8, row by row, the largest
    first, each half the one before; blocks on the right and lower edge reach beyond a level."""

    width: int  # of level 0, texels
    height: int
    levels: tuple[np.ndarray, ...]


# B4G4R4A4 is named from the lowest bits up: blue in bits 0 to 3 of a little-endian 16-bit word, alpha in bits 12 to 15.
_SHIFTS_RGBA4 = np.array([8, 4, 0, 12], np.uint16)


def _texel_bytes(level: np.ndarray, bits: int) -> bytes:
    """The bytes of one level (H, W, C) as in the file."""
    if bits == 4:
        level = np.bitwise_or.reduce(level.astype(np.uint16) << _SHIFTS_RGBA4, axis=2).astype("<u2")
    return np.ascontiguousarray(level).tobytes()


def _texels(stored: np.ndarray, height: int, width: int, channels: int, bits: int) -> np.ndarray:
    """The inverse: uint8 bytes -> (H, W, C)."""
    if bits == 4:
        words = stored.view("<u2").reshape(height, width, 1)
        return ((words >> _SHIFTS_RGBA4) & 15).astype(np.uint8)
    return stored.reshape(height, width, channels)


def encode_dds(texture: Texture) -> bytes:
    """The bytes of a DDS file with a DX10 header.

    Raises: ValueError when the levels are not a mip chain of uint8 images with 1, 2 or 4 channels.
    """
    height, width, channels = texture.levels[0].shape
    if (channels, texture.bits) not in DXGI_FORMATS:
        raise ValueError(f"a texture has 1, 2 or 4 channels of 8 bits or 4 of 4, got {channels} of {texture.bits}")
    for index, level in enumerate(texture.levels):
        expected = (max(height >> index, 1), max(width >> index, 1), channels)
        if level.dtype != np.uint8 or level.shape != expected:
            raise ValueError(f"mip {index} must be {expected} uint8, got {level.shape} {level.dtype}")
        if texture.bits < 8 and level.max() >> texture.bits:
            raise ValueError(f"mip {index} holds {level.max()}, which {texture.bits} bits cannot")
    pitch = width * channels * texture.bits // 8
    header = _encode_header(height, width, _PITCH, pitch, len(texture.levels), texture.dxgi_format)
    return b"".join([header, *(_texel_bytes(level, texture.bits) for level in texture.levels)])


def encode_block_dds(
    width: int, height: int, dxgi_format: int, levels: Sequence[bytes], with_alpha: bool = False
) -> bytes:
    """The bytes of a DDS file of blocks, with a DX10 header.

    Args:
        width, height: of level 0, texels; any, blocks on the right and lower edge reach beyond it.
        dxgi_format: one of BLOCK_FORMATS.
        levels: the blocks of each level, row by row, the largest first, each half the one before, rounded down.
        with_alpha: whether they hold an alpha, not premultiplied; those without decode to alpha 255.
    Raises: ValueError when a level does not have as many blocks as its size asks for.
    """
    for index, level in enumerate(levels):
        expected = _level_bytes(max(width >> index, 1), max(height >> index, 1), dxgi_format)
        if len(level) != expected:
            raise ValueError(f"mip {index} must be {expected} bytes of blocks, got {len(level)}")
    size = len(levels[0])
    alpha = _ALPHA_STRAIGHT if with_alpha else _ALPHA_OPAQUE
    header = _encode_header(height, width, _LINEAR_SIZE, size, len(levels), dxgi_format, alpha)
    return b"".join([header, *levels])


def _encode_header(
    height: int, width: int, kind: int, size: int, mips: int, dxgi_format: int, alpha: int = _ALPHA_UNKNOWN
) -> bytes:
    """Magic, header and DX10 header; `kind` is _PITCH or _LINEAR_SIZE, the meaning of `size`."""
    caps = _CAPS if mips > 1 else _CAPS_ONE_LEVEL
    pixel_format = (32, _FOURCC, int.from_bytes(b"DX10", "little"), 0, 0, 0, 0, 0)
    header = _HEADER.pack(124, _FLAGS | kind, height, width, size, 0, mips, *pixel_format, caps, 0, 0, 0, 0)
    return _MAGIC + header + _DX10.pack(dxgi_format, _TEXTURE_2D, 0, 1, alpha)


def _level_bytes(width: int, height: int, dxgi_format: int) -> int:
    if dxgi_format in BLOCK_FORMATS:
        return -(-width // BLOCK) * -(-height // BLOCK) * BLOCK_FORMATS[dxgi_format][1]
    return width * height * _TEXEL_FORMATS[dxgi_format][1]


def decode_dds(payload: bytes, name: str = "DDS") -> Texture:
    """The inverse of encode_dds; `name` is the file in errors.

    Raises: UserError when it is not such a file, is cut short, or has bytes left over.
    """
    dxgi_format, parts = split_levels(payload, FORMAT_NAMES, name)
    channels, bits = {value: key for key, value in DXGI_FORMATS.items()}[dxgi_format]
    return Texture(tuple(_texels(stored, *size, channels, bits) for size, stored in parts), bits)


def decode_block_dds(payload: bytes, dxgi_format: int, name: str = "DDS") -> BlockTexture:
    """The inverse of encode_block_dds, for files of one format; `name` is the file in errors.

    Raises: UserError as decode_dds.
    """
    block_name, block_bytes = BLOCK_FORMATS[dxgi_format]
    _, parts = split_levels(payload, {dxgi_format: block_name}, name)
    (height, width), _ = parts[0]
    return BlockTexture(width, height, tuple(stored.reshape(-1, block_bytes) for _, stored in parts))


def split_levels(
    payload: bytes, formats: Mapping[int, str], name: str
) -> tuple[int, list[tuple[tuple[int, int], np.ndarray]]]:
    """What a DDS file with a DX10 header holds; `name` is the file in errors.

    Args:
        formats: DXGI formats that it may have, with their names.
    Returns: its format, and for each level its (height, width) in texels and its bytes as uint8.
    Raises: UserError when it is not such a file, is cut short, or has bytes left over.
    """
    if len(payload) < HEADER_BYTES or payload[:4] != _MAGIC:
        raise UserError(f"{name}: expected a DDS file with a DX10 header, found {len(payload)} bytes of something else")
    fields = _HEADER.unpack_from(payload, 4)
    size, _, height, width, _, _, mips = fields[:7]
    format_size, format_flags, fourcc = fields[7:10]
    dxgi_format, dimension, misc, array_size, _ = _DX10.unpack_from(payload, 128)
    if (size, format_size) != (124, 32) or not format_flags & _FOURCC or fourcc.to_bytes(4, "little") != b"DX10":
        raise UserError(f"{name}: expected a DX10 header, found another kind of DDS; export the texture again")
    if dxgi_format not in formats:
        raise UserError(f"{name}: expected format {formats}, found DXGI format {dxgi_format}")
    if (dimension, misc, array_size) != (_TEXTURE_2D, 0, 1):
        raise UserError(f"{name}: expected one 2-D texture, found dimension {dimension}, {array_size} slices")
    if not (1 <= width <= MAX_SIZE and 1 <= height <= MAX_SIZE and 1 <= mips <= max(width, height).bit_length()):
        raise UserError(f"{name}: impossible size {width}x{height} with {mips} mips; the file is damaged")
    sizes = [(max(height >> k, 1), max(width >> k, 1)) for k in range(mips)]
    counts = [_level_bytes(w, h, dxgi_format) for h, w in sizes]
    expected = HEADER_BYTES + sum(counts)
    if len(payload) != expected:
        found = len(payload) if len(payload) < expected else "more"
        raise UserError(f"{name}: expected {expected} bytes for {width}x{height}, {mips} mips; found {found}")
    parts, position = [], HEADER_BYTES
    for size, count in zip(sizes, counts):
        parts.append((size, np.frombuffer(payload, np.uint8, count, position)))
        position += count
    return dxgi_format, parts


def read_dds(path: str | Path) -> Texture:
    """decode_dds of a file. Raises: UserError when it cannot be read or is not such a file."""
    return decode_dds(_read_payload(path), str(path))


def read_block_dds(path: str | Path, dxgi_format: int) -> BlockTexture:
    """decode_block_dds of a file. Raises: UserError when it cannot be read or is not such a file."""
    return decode_block_dds(_read_payload(path), dxgi_format, str(path))


def _read_payload(path: str | Path) -> bytes:
    """The bytes of a DDS file, and no more than one too many where it is longer than its header says."""
    expected = read_dds_info(path).expected_bytes
    try:
        with open_regular(path) as stream:
            return stream.read(HEADER_BYTES if expected is None else expected + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


@dataclass(frozen=True)
class TextureInfo:
    """The header of a DDS or KTX2 file, of any program."""

    width: int  # of level 0, texels
    height: int
    mips: int
    format: str  # its DXGI name, or the header's own fields where it has none
    header: str  # its kind: a DDS without a DX10 header cannot name sRGB or newer formats
    counts_mips: bool  # the header holds the number of mips, as in every file of this module
    bytes: int  # of the whole file
    expected_bytes: int | None  # of the whole file by its header; None for formats whose size is not known here


def read_dds_info(path: str | Path) -> TextureInfo:
    """Read the header of any DDS file, with or without a DX10 header, and not its texels.

    Raises: UserError when it cannot be read or is not a DDS file.
    """
    path = Path(path)
    try:
        with open_regular(path) as stream:
            head = stream.read(HEADER_BYTES)
            found = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if len(head) < 128 or head[:4] != _MAGIC:
        raise UserError(f"{path}: expected a DDS file, found {found} bytes of something else")
    fields = _HEADER.unpack_from(head, 4)
    height, width, mips = fields[2], fields[3], max(fields[6], 1)  # writers of one level may leave the count 0
    flags, fourcc, bits, *masks = fields[8:15]
    code, start, dxgi = fourcc.to_bytes(4, "little"), 128, None
    dx10 = bool(flags & _FOURCC) and code == b"DX10" and len(head) == HEADER_BYTES
    if dx10:
        dxgi, start = _DX10.unpack_from(head, 128)[0], HEADER_BYTES
    elif flags & _FOURCC:
        dxgi = _FOURCC_FORMATS.get(code)
    elif flags & _RGB and bits == 32:
        dxgi = _MASKS.get(tuple(masks))
    known = _TEXEL_FORMATS.get(dxgi) or BLOCK_FORMATS.get(dxgi)
    if not (1 <= width <= MAX_SIZE and 1 <= height <= MAX_SIZE and mips <= max(width, height).bit_length()):
        raise UserError(f"{path}: impossible size {width}x{height} with {mips} mips; the file is damaged")
    name = known[0] if known else f"DXGI format {dxgi}" if dx10 else f"another format ({code!r}, {bits} bits)"
    levels = sum(_level_bytes(max(width >> k, 1), max(height >> k, 1), dxgi) for k in range(mips)) if known else 0
    counted = bool(fields[1] & _MIP_COUNT)
    header = "DX10 header" if dx10 else "no DX10 header"
    return TextureInfo(width, height, mips, name, header, counted, found, start + levels if known else None)
