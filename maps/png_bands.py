"""PNG files of 8-bit pictures, band by band on all threads: large pictures are never whole in memory.

Format: W3C, "Portable Network Graphics (PNG) Specification", third edition. A file's pixels are one stream of zlib (RFC
1950), filtered row by row. Bands of rows are compressed each by itself, up to a byte's end, and follow one another.
Of the five filters the last, Paeth, is left out: it takes as long as all else, and the others make files as small.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from common.parallel import map_threads

BAND_BYTES = 2**21  # of pixels in a band; it decides a file's bytes, which are the same with any number of threads
COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # by number of channels
ZLIB_HEADER = b"\x78\x01"  # a window of 32 KiB, least effort
SAMPLED = 500  # bytes of a row that its filter is chosen by, about
ADLER_BASE = 65521  # RFC 1950

Pixels = np.ndarray  # (rows, width, channels) uint8


def png_bands(shape: tuple[int, int, int], draw: Callable[[slice], Pixels]) -> Iterator[bytes]:
    """The bytes of a PNG file, in pieces.

    Args:
        shape: (height, width, channels), of 1, 3 or 4 channels.
        draw: some rows of the picture; called in several threads, for a row before each band twice.
    """
    height, width, channels = shape
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[channels], 0, 0, 0)
    yield b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
    rows = max(BAND_BYTES // (width * channels), 1)
    bands = (slice(first, min(first + rows, height)) for first in range(0, height, rows))

    def compress(band: slice) -> tuple[bytes, int, int]:
        return _compressed(draw(slice(max(band.start - 1, 0), band.stop)), band.start > 0, band.stop == height)

    checksum, start = 1, ZLIB_HEADER
    for payload, adler, length in map_threads(compress, bands):
        checksum = joined_adler32(checksum, adler, length)
        yield _chunk(b"IDAT", start + payload)
        start = b""
    yield _chunk(b"IDAT", struct.pack(">I", checksum)) + _chunk(b"IEND", b"")


def _compressed(pixels: Pixels, has_above: bool, last: bool) -> tuple[bytes, int, int]:
    """A band's part of the stream, and the Adler-32 and length of what it stands for.

    has_above: the first of the rows is that above the band. last: nothing follows the band.
    """
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    channels = pixels.shape[2]
    above = rows[:-1] if has_above else np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])
    own = rows[1:] if has_above else rows
    left = np.zeros_like(own)
    left[:, channels:] = own[:, :-channels]
    filtered = _filtered(own, left, above)
    # Run lengths instead of matches: a third faster than zlib's level 1, 3 % smaller, and 2 % larger than level 6, that
    # takes several times as long (decoded | source | error of Rock058, filtered by Pillow).
    stream = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_RLE)
    payload = stream.compress(filtered) + stream.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)
    return payload, zlib.adler32(filtered), filtered.size


def _filtered(own: np.ndarray, left: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Rows of bytes, each after the filter that looks best, with its number before it; left and above: of each byte."""
    mean = (left & above) + ((left ^ above) >> 1)  # in 8 bits, rounded down
    tries = own, own - left, own - above, own - mean  # filters 0 to 3
    # the specification's advice: the least sum of what is left, as signed numbers; of a sample, as it is only advice
    step = own.shape[1] // SAMPLED // 3 * 3 + 1  # so that all of three channels are seen
    sums = [np.abs(tried[:, ::step].view(np.int8)).view(np.uint8).sum(axis=1, dtype=np.uint32) for tried in tries]
    best = np.argmin(sums, axis=0)
    filtered = np.empty((len(own), own.shape[1] + 1), np.uint8)
    filtered[:, 0] = best
    for number, tried in enumerate(tries):
        filtered[best == number, 1:] = tried[best == number]
    return filtered


def joined_adler32(first: int, second: int, length: int) -> int:
    """The Adler-32 of two parts one after the other, from that of each and the length of the second (RFC 1950: a is 1
    plus the sum of the bytes, b the sum of all a)."""
    a1, b1, a2, b2 = first & 0xFFFF, first >> 16, second & 0xFFFF, second >> 16
    a = (a1 + a2 - 1) % ADLER_BASE
    b = (b1 + b2 + length * (a1 - 1)) % ADLER_BASE
    return b << 16 | a


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))
