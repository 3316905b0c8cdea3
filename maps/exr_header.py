"""The sizes and channels in the header of an OpenEXR file, checked before OpenEXR's own reader opens it.

Its Python module ends the process on some damaged headers (InputFile, seen with 3.5.3), and decodes every channel of
every part at once, however large they are. Source: OpenEXR, "Technical Introduction" and "OpenEXR File Layout".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = b"\x76\x2f\x31\x01"
MAX_HEADER_BYTES = 16 << 20
MAX_PARTS = 256
_DEEP, _MULTIPART = 0x800, 0x1000  # flags in the version field
_PIXEL_BYTES = (4, 2, 4)  # UINT, HALF, FLOAT
_CHANNEL = struct.Struct("<iB3xii")  # pixel type, linear, x and y sampling
_WINDOW = struct.Struct("<4i")  # x and y of the first and of the last pixel


@dataclass(frozen=True)
class ExrPart:
    """One picture of the file.

    Fields:
        width, height: of the data window, whose pixels are stored.
        channels: name -> (bytes of a pixel, x sampling, y sampling), in the file's order.
        place: column and row of the data window's first pixel in the display window; may be negative.
        display: width and height of the display window, which is the picture.
    """

    width: int
    height: int
    channels: dict[str, tuple[int, int, int]]
    deep: bool
    place: tuple[int, int] = (0, 0)
    display: tuple[int, int] = (0, 0)

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded pixels."""
        return self.width * self.height * sum(size for size, _, _ in self.channels.values())


def parse_exr_header(payload: bytes) -> list[ExrPart]:
    """The parts of a file that starts with these bytes, at least one.

    Raises: ValueError when they are no such header.
    """
    if payload[:4] != MAGIC or len(payload) < 9:
        raise ValueError("no OpenEXR file")
    flags = int.from_bytes(payload[4:8], "little")
    parts, place = [], 8
    while len(parts) < MAX_PARTS:
        attributes, place = _attributes(payload, place)
        if not attributes and flags & _MULTIPART and parts:
            return parts
        parts.append(_part(attributes, bool(flags & _DEEP)))
        if not flags & _MULTIPART:
            return parts
    raise ValueError(f"more than {MAX_PARTS} parts")


def _attributes(payload: bytes, place: int) -> tuple[dict[bytes, bytes], int]:
    """The values of one part's attributes by name, and where the next part begins."""
    found: dict[bytes, bytes] = {}
    while payload[place : place + 1] != b"\0":
        name, place = _text(payload, place)
        _, place = _text(payload, place)  # its type
        size = int.from_bytes(payload[place : place + 4], "little", signed=True)
        place += 4
        if size < 0 or place + size > len(payload):
            raise ValueError(f"its header ends within an attribute of {size} bytes")
        found[name] = payload[place : place + size]
        place += size
    return found, place + 1


def _text(payload: bytes, place: int) -> tuple[bytes, int]:
    """The bytes up to the next 0, and the place after it."""
    end = payload.find(b"\0", place, place + 256)
    if end < 0:
        raise ValueError("its header ends within a name")
    return payload[place:end], end + 1


def _part(attributes: dict[bytes, bytes], deep: bool) -> ExrPart:
    window, listing = attributes.get(b"dataWindow", b""), attributes.get(b"channels", b"")
    if len(window) != _WINDOW.size or not listing:
        raise ValueError("its header names no size or no channels")
    left, top, right, bottom = _WINDOW.unpack(window)
    channels, place = {}, 0
    while listing[place : place + 1] != b"\0":
        name, place = _text(listing, place)
        if place + _CHANNEL.size > len(listing):
            raise ValueError("its list of channels is cut short")
        kind, _, across, down = _CHANNEL.unpack_from(listing, place)
        if not 0 <= kind < len(_PIXEL_BYTES):
            raise ValueError(f"a channel of type {kind}")
        channels[name.decode("utf-8")] = (_PIXEL_BYTES[kind], across, down)
        place += _CHANNEL.size
    shown = attributes.get(b"displayWindow", window)
    shown = _WINDOW.unpack(shown) if len(shown) == _WINDOW.size else (left, top, right, bottom)
    display = (shown[2] - shown[0] + 1, shown[3] - shown[1] + 1)
    deep = deep or b"deep" in attributes.get(b"type", b"")
    return ExrPart(right - left + 1, bottom - top + 1, channels, deep, (left - shown[0], top - shown[1]), display)
