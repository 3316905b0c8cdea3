"""The size of a JPEG XL picture, from its first bytes: decoders unpack it whole before they say how large it is.

Source: ISO/IEC 18181-1 (codestream, SizeHeader) and 18181-2 (file format: boxes jxlc and jxlp).
"""

from __future__ import annotations

CODESTREAM, CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}  # width : height
_BITS = (9, 13, 18, 30)  # of a size that is no multiple of 8, by its selector


def jxl_size(payload: bytes) -> tuple[int, int]:
    """(width, height) of the file that starts with these bytes. Raises: ValueError when they do not say it."""
    stream = _codestream(payload) if payload.startswith(CONTAINER) else payload
    if not stream.startswith(CODESTREAM) or len(stream) < 12:
        raise ValueError("its header holds no codestream")
    bits, place = int.from_bytes(stream[2:12], "little"), 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return bits >> (place - count) & ((1 << count) - 1)

    small = take(1)

    def size() -> int:
        return (take(5) + 1) * 8 if small else take(_BITS[take(2)]) + 1

    height = size()
    ratio = take(3)
    width = height * _RATIOS[ratio][0] // _RATIOS[ratio][1] if ratio else size()
    return width, height


def _codestream(payload: bytes) -> bytes:
    """What the first box with a codestream holds of it."""
    place = 0
    while place + 8 <= len(payload):
        length, kind, head = int.from_bytes(payload[place : place + 4], "big"), payload[place + 4 : place + 8], 8
        if length == 1:
            length, head = int.from_bytes(payload[place + 8 : place + 16], "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            return payload[place + head + 4 * (kind == b"jxlp") :]
        if length < head:
            break
        place += length
    return b""
