"""DDS headers that Pillow does not know -> ones of the same pixels that it does.

Source: Microsoft, "Programming Guide for DDS": DDS_HEADER, DDS_PIXELFORMAT, DDS_HEADER_DXT10.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

MAGIC = b"DDS "
HEADER_BYTES = 148  # with the extended header
_FORMAT, _DX10 = 80, 128  # where the flags of the pixel format and the extended header begin
_FOURCC = slice(84, 88)
_SRGB = {72: 71, 75: 74, 78: 77}  # BC1, BC2, BC3 as sRGB -> the same codes without a colour space
_LAYOUTS = {  # by DXGI format: flags, four characters, bits of a pixel, masks of R, G, B, A
    **dict.fromkeys((87, 91), (0x41, 0, 32, 0xFF0000, 0xFF00, 0xFF, 0xFF000000)),  # B8G8R8A8
    **dict.fromkeys((88, 93), (0x40, 0, 32, 0xFF0000, 0xFF00, 0xFF, 0)),  # B8G8R8X8
    61: (0x20000, 0, 8, 0xFF, 0, 0, 0),  # R8
}


def dds_note(head: bytes) -> str:
    """What a file with this header holds beside the picture that is read; '' for nothing."""
    fields = struct.unpack_from("<31I", head, 4) if len(head) >= _DX10 else (0,) * 31
    dimension, misc, count = struct.unpack_from("<3I", head, _DX10 + 4) if head[_FOURCC] == b"DX10" else (3, 0, 1)
    if fields[27] & 0x200 or misc & 4:
        return "a cubemap; its first face was taken, the others are not used"
    if fields[27] & 0x200000 or dimension == 4:
        return "a volume; its first slice was taken, the others are not used"
    return f"an array of {count} pictures; the first was taken, the others are not used" if count > 1 else ""


def bc6h_sign(head: bytes) -> int:
    """1 for unsigned BC6H, -1 for signed, 0 for files in other forms."""
    code = int.from_bytes(head[_DX10 : _DX10 + 4], "little") if head[_FOURCC] == b"DX10" else 0
    return {95: 1, 96: -1}.get(code, 0)


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
