"""KTX2 images with Basis Universal blocks, as glTF has them (KHR_texture_basisu), where a package transcodes them."""

from __future__ import annotations

import struct

from common.errors import UserError, quote
from maps.pixels import Image, ImageFile, check_size, split_alpha, undecodable

KTX2_MAGIC = b"\xabKTX 20\xbb\r\n\x1a\n"


def ktx2_size(head: bytes) -> tuple[int, int]:
    """(width, height) from a file's first bytes. Source: Khronos, "KTX File Format 2.0", section 3.

    Raises: ValueError for a file that ends before.
    """
    if len(head) < 28:
        raise ValueError("truncated header")
    return struct.unpack_from("<2I", head, 20)


def read_ktx2(path: ImageFile, max_pixels: int | None) -> Image:
    """The largest level, as RGBA of 8 bits.

    Raises: UserError for a damaged file, one without Basis Universal blocks, or without the package.
    """
    payload = path.read_bytes()
    try:
        size = ktx2_size(payload)
    except ValueError as error:
        raise undecodable(path, error) from error
    check_size(path, *size, max_pixels)
    try:
        import opengl_basisu
    except ImportError as error:
        raise UserError(
            f"{quote(path)}: expected an image that can be read here, but KTX2 needs the package opengl_basisu, found "
            "none; pip install -r requirements/ktx2.txt (Python 3.10 or newer), or export the model with PNG, JPEG or "
            "WebP images"
        ) from error
    try:
        pixels = opengl_basisu.open(payload).transcode("rgba8", level=0).data
        if pixels.shape != (size[1], size[0], 4):
            raise ValueError(f"{pixels.shape}")
    except Exception as error:  # as in images.py
        raise undecodable(path, error) from error
    return split_alpha(pixels)
