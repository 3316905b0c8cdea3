"""png_bands.py: files that other readers understand, of any shape, in bands whose number of threads does not show."""

from __future__ import annotations

import io
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from maps import png_bands
from maps.png_bands import joined_adler32
from tests.support.map_images import randoms
from tests.support.paths import ROOT

SHAPES = [(1, 1, 1), (1, 1, 4), (1, 9, 3), (13, 1, 1), (7, 5, 4), (64, 31, 3), (129, 40, 1)]


def noise(height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def encoded(pixels: np.ndarray) -> bytes:
    return b"".join(png_bands.png_bands(pixels.shape, pixels.__getitem__))


def smooth(height: int, width: int, channels: int) -> np.ndarray:
    """Waves with a little noise, which turn over at 255."""
    y, x, c = np.mgrid[:height, :width, :channels]
    waves = 128 + 140 * np.sin(x / 9 + c) * np.cos(y / 7)
    return (waves + noise(height, width, channels) % 6).astype(np.int64).astype(np.uint8)


@pytest.mark.parametrize("band", [1, 300, png_bands.BAND_BYTES])
@pytest.mark.parametrize("shape", SHAPES)
def test_two_readers_find_the_pixels(shape, band, monkeypatch):
    monkeypatch.setattr(png_bands, "BAND_BYTES", band)
    for pixels in (randoms(shape), smooth(*shape), np.full(shape, 255, np.uint8)):
        data = encoded(pixels)
        picture = PillowImage.open(io.BytesIO(data))
        picture.verify()  # the checksums of chunks
        found = np.asarray(PillowImage.open(io.BytesIO(data))).reshape(shape)
        assert np.array_equal(found, pixels)
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).reshape(shape)
        order = [2, 1, 0, 3][: shape[2]] if shape[2] > 1 else [0]
        assert np.array_equal(found[..., order], pixels)


def test_threads_do_not_show_and_each_row_is_drawn_at_most_twice(monkeypatch):
    monkeypatch.setattr(png_bands, "BAND_BYTES", 4 * 33 * 3)
    pixels, files, drawn = randoms((50, 33, 3)), [], []

    def draw(rows: slice) -> np.ndarray:
        drawn.append(rows.stop - rows.start)
        return pixels[rows]

    before = torch.get_num_threads()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        files.append(b"".join(png_bands.png_bands(pixels.shape, draw)))
    torch.set_num_threads(before)
    assert len(set(files)) == 1
    assert max(drawn) == 5 and sum(drawn) == 3 * (50 + 12)  # 13 bands


def test_the_checksum_of_the_whole_stream_is_right():
    """zlib itself refuses another."""
    data = encoded(randoms((40, 21, 3)))
    stream, place = b"", 8
    while place < len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        stream += data[place + 8 : place + 8 + length] if kind == b"IDAT" else b""
        place += 12 + length
    assert len(zlib.decompress(stream)) == 40 * (21 * 3 + 1)


@pytest.mark.parametrize("lengths", [(0, 0), (0, 5), (1, 1), (70_000, 3), (3, 200_000), (65_521, 65_521)])
def test_checksums_of_parts_are_joined(lengths):
    parts = [b"\xff" * n if n % 2 else bytes(range(256)) * (n // 256 + 1) for n in lengths]
    parts = [part[:n] for part, n in zip(parts, lengths)]
    assert joined_adler32(*map(zlib.adler32, parts), lengths[1]) == zlib.adler32(b"".join(parts))


@pytest.mark.parametrize("name", ["Normal", "Metallic", "Albedo"])
def test_files_are_about_as_small_as_pillows(name):
    pixels, stream = np.asarray(PillowImage.open(ROOT / f"data/test/Test_{name}.png"))[::2], io.BytesIO()
    PillowImage.fromarray(pixels).save(stream, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    assert len(encoded(pixels)) < 1.05 * len(stream.getvalue())
