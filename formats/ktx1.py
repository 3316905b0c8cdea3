"""KTX 1 files of ASTC blocks, which Unity's own importer reads: one 2-D texture with its mips.

Source: Khronos, "KTX File Format Specification" 1.0; KHR_texture_compression_astc for the number of the format.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

IDENTIFIER = b"\xabKTX 11\xbb\r\n\x1a\n"
GL_FORMATS = {"astc6x6": 0x93B4}  # GL_COMPRESSED_RGBA_ASTC_6x6_KHR
_RGBA = 0x1908  # GL_RGBA, the base of these formats
_ENDIANNESS = 0x04030201
_ORIENTATION = b"KTXorientation\0S=r,T=d\0"  # right, down


def encode_ktx1(width: int, height: int, form: str, levels: Sequence[bytes]) -> bytes:
    """The bytes of a KTX 1 file.

    Args:
        width, height: of level 0, texels.
        form: a key of GL_FORMATS.
        levels: the blocks of each level, row by row, the largest first, each half the one before, rounded down.
    """
    values = struct.pack("<I", len(_ORIENTATION)) + _ORIENTATION + bytes(-len(_ORIENTATION) % 4)
    # type, its size and format of texels, which blocks have none of; depth and array elements, of which there are none
    header = struct.pack("<13I", _ENDIANNESS, 0, 1, 0, GL_FORMATS[form], _RGBA, width, height, 0, 0, 1, len(levels),
                         len(values))  # fmt: skip
    return b"".join([IDENTIFIER, header, values, *(struct.pack("<I", len(level)) + level for level in levels)])
