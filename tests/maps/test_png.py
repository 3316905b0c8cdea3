"""png.py: pictures written in bands are what other readers find, whatever the bands and threads."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from maps import png
from maps.images import read_image


def joined_data(file):
    """The zlib stream in the IDAT chunks of a PNG file."""
    data, at = b"", 8
    while at < len(file):
        length = int.from_bytes(file[at : at + 4], "big")
        data += file[at + 8 : at + 8 + length] if file[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + length
    return data


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rows", [1, 4, 100])
@pytest.mark.parametrize("size", [(9, 7), (1, 1), (5, 1)], ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_picture_is_read_back(tmp_path, monkeypatch, channels, rows, size, threads):
    monkeypatch.setattr(png, "BAND_BYTES", rows * size[1] * channels)
    torch.set_num_threads(threads)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, channels), np.uint8)
    with (tmp_path / "a.png").open("wb") as stream:
        png.write_png(stream, *size, channels, pixels.__getitem__)
    assert (read_image(tmp_path / "a.png").pixels == pixels).all()
    with PillowImage.open(tmp_path / "a.png") as picture:
        picture.verify()  # the checksum of every chunk
    assert len(zlib.decompress(joined_data((tmp_path / "a.png").read_bytes()))) == pixels.size + size[0]  # and its own
    with PillowImage.open(tmp_path / "a.png") as picture:
        assert picture.mode == ("RGB" if channels == 3 else "L")
        assert (np.asarray(picture).reshape(pixels.shape) == pixels).all()


def test_it_is_packed_and_drawn_a_band_at_a_time(monkeypatch):
    monkeypatch.setattr(png, "BAND_BYTES", 2**16)
    drawn = []

    def draw(rows):
        drawn.append(rows.stop - rows.start)
        return np.full((rows.stop - rows.start, 1000, 3), 7, np.uint8)

    stream = io.BytesIO()
    png.write_png(stream, 500, 1000, 3, draw)
    assert max(drawn) == 2**16 // 3000 and sum(drawn) == 500
    assert len(stream.getvalue()) < 500 * 3000 / 50


def test_an_error_of_drawing_is_raised():
    def draw(rows):
        raise MemoryError("of a test")

    with pytest.raises(MemoryError, match="of a test"):
        png.write_png(io.BytesIO(), 8, 8, 3, draw)
