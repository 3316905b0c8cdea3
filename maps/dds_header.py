"""DDS headers that Pillow does not know -> ones of the same pixels that it does.

Source: Microsoft, "Programming Guide for DDS": DDS_HEADER, DDS_PIXELFORMAT, DDS_HEADER_DXT10.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

MAGIC = b"DDS "
_FORMAT, _DX10 = 80, 128  # where the flags of the pixel format and the extended header begin
_FOURCC = slice(84, 88)
_SRGB = {72: 71, 75: 74, 78: 77}  # BC1, BC2, BC3 as sRGB -> the same codes without a colour space
_LAYOUTS = {  # by DXGI format: flags, four characters, bits of a pixel, masks of R, G, B, A
    **dict.fromkeys((87, 91), (0x41, 0, 32, 0xFF0000, 0xFF00, 0xFF, 0xFF000000)),  # B8G8R8A8
    **dict.fromkeys((88, 93), (0x40, 0, 32, 0xFF0000, 0xFF00, 0xFF, 0)),  # B8G8R8X8
    61: (0x20000, 0, 8, 0xFF, 0, 0, 0),  # R8
}


def readable_dds(path: Path) -> Path | BinaryIO:
    """The file, or a copy in memory with another header. Raises: OSError."""
    with path.open("rb") as stream:
        head = bytearray(stream.read(_DX10 + 20))
        if not head.startswith(MAGIC) or len(head) < _DX10 + 20:
            return path
        kind, code = bytes(head[_FOURCC]), int.from_bytes(head[_DX10 : _DX10 + 4], "little")
        if kind == b"RXGB":  # DXT5 with x of a normal in alpha
            head[_FOURCC] = b"DXT5"
        elif kind == b"DX10" and code in _SRGB:
            head[_DX10 : _DX10 + 4] = _SRGB[code].to_bytes(4, "little")
        elif kind == b"DX10" and code in _LAYOUTS:
            struct.pack_into("<7I", head, _FORMAT, *_LAYOUTS[code])
            del head[_DX10:]
        else:
            return path
        return io.BytesIO(head + stream.read())
