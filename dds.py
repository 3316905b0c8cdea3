"""DDS files of uncompressed 8-bit channels with a full mip chain: writer and reader together.

Source of every field: Microsoft, "Programming Guide for DDS" and the DXGI_FORMAT enumeration.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from errors import UserError

DXGI_FORMATS = {4: 28, 2: 49, 1: 61}  # channels -> R8G8B8A8_UNORM, R8G8_UNORM, R8_UNORM; never an _SRGB one
FORMAT_NAMES = {28: "R8G8B8A8_UNORM", 49: "R8G8_UNORM", 61: "R8_UNORM"}
HEADER_BYTES = 4 + 124 + 20
MAX_SIZE = 16384  # Direct3D 11's and 12's largest 2-D texture

_MAGIC = b"DDS "
_HEADER = struct.Struct("<7I44x8I5I")  # size, flags, height, width, pitch, depth, mips | pixel format | caps
_DX10 = struct.Struct("<5I")
_FLAGS = 0x1 | 0x2 | 0x4 | 0x8 | 0x1000 | 0x20000  # caps, height, width, pitch, pixel format, mip count
_FOURCC = 0x4
_CAPS = 0x1000 | 0x8 | 0x400000  # texture, complex, mipmap
_CAPS_ONE_LEVEL = 0x1000
_TEXTURE_2D = 3


@dataclass(frozen=True)
class Texture:
    """A 2-D texture. `levels` are (H, W, C) uint8 with C in {1, 2, 4}, the largest first, each half the one before."""

    levels: tuple[np.ndarray, ...]

    @property
    def dxgi_format(self) -> int:
        return DXGI_FORMATS[self.levels[0].shape[2]]


def encode_dds(texture: Texture) -> bytes:
    """The bytes of a DDS file with a DX10 header.

    Raises: ValueError when the levels are not a mip chain of uint8 images with 1, 2 or 4 channels.
    """
    height, width, channels = texture.levels[0].shape
    if channels not in DXGI_FORMATS:
        raise ValueError(f"a texture has 1, 2 or 4 channels, got {channels}")
    for index, level in enumerate(texture.levels):
        expected = (max(height >> index, 1), max(width >> index, 1), channels)
        if level.dtype != np.uint8 or level.shape != expected:
            raise ValueError(f"mip {index} must be {expected} uint8, got {level.shape} {level.dtype}")
    mips = len(texture.levels)
    caps = _CAPS if mips > 1 else _CAPS_ONE_LEVEL
    pixel_format = (32, _FOURCC, int.from_bytes(b"DX10", "little"), 0, 0, 0, 0, 0)
    header = _HEADER.pack(124, _FLAGS, height, width, width * channels, 0, mips, *pixel_format, caps, 0, 0, 0, 0)
    dx10 = _DX10.pack(texture.dxgi_format, _TEXTURE_2D, 0, 1, 0)
    return b"".join([_MAGIC, header, dx10, *(np.ascontiguousarray(level).tobytes() for level in texture.levels)])


def decode_dds(payload: bytes, name: str = "DDS") -> Texture:
    """Read what encode_dds writes; `name` is the file named in errors.

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
    channels = {value: key for key, value in DXGI_FORMATS.items()}.get(dxgi_format)
    if channels is None:
        raise UserError(f"{name}: expected format {FORMAT_NAMES}, found DXGI format {dxgi_format}")
    if (dimension, misc, array_size) != (_TEXTURE_2D, 0, 1):
        raise UserError(f"{name}: expected one 2-D texture, found dimension {dimension}, {array_size} slices")
    if not (1 <= width <= MAX_SIZE and 1 <= height <= MAX_SIZE and 1 <= mips <= max(width, height).bit_length()):
        raise UserError(f"{name}: impossible size {width}x{height} with {mips} mips; the file is damaged")
    levels, position = [], HEADER_BYTES
    sizes = [(max(height >> k, 1), max(width >> k, 1), channels) for k in range(mips)]
    expected = HEADER_BYTES + sum(h * w * c for h, w, c in sizes)
    if len(payload) != expected:
        raise UserError(f"{name}: expected {expected} bytes for {width}x{height}, {mips} mips; found {len(payload)}")
    for shape in sizes:
        count = shape[0] * shape[1] * shape[2]
        levels.append(np.frombuffer(payload, np.uint8, count, position).reshape(shape))
        position += count
    return Texture(tuple(levels))


def read_dds(path: str | Path) -> Texture:
    """decode_dds of a file. Raises: UserError when it cannot be read or is not such a file."""
    path = Path(path)
    try:
        payload = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return decode_dds(payload, str(path))
