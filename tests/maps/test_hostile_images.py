"""Image files made to hurt: what fuzzing (`python -m tests.fuzz`) and reading the readers found, one test for each."""

from __future__ import annotations

import io
import os
import struct

import numpy as np
import pytest
from PIL import Image as PillowImage

from configs import MAX_PIXELS
from dataset import load_material
from maps.exr_header import parse_exr_header
from maps.images import read_image
from tests.fuzz.images import exr_seeds, repaired_png
from tests.support.exports import limited_memory
from tests.support.runs import (
    _offline,  # noqa: F401  # autouse
    quick,
    refusal,
    save_maps,
)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_among_the_maps_is_not_waited_for(tmp_path, refused):
    os.mkfifo(save_maps(tmp_path / "maps", present=("diffuse",)) / "x_roughness.png")
    with refused("x_roughness.png", "pipe"):
        load_material(tmp_path / "maps")


def test_max_pixels_is_wired_to_every_reader_of_a_material(tmp_path, capsys):
    maps = save_maps(tmp_path / "maps", 24, 16)
    line = refusal(capsys, "--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 2, "--max_pixels", 383)
    assert "24x16 = 384" in line and "--max_pixels" in line
    assert not (tmp_path / "out").exists()
    (tmp_path / "my.yaml").write_text("max_pixels: 383")
    assert "384" in refusal(
        capsys, "--config", tmp_path / "my.yaml", "--data_dir", maps, "--save_dir", tmp_path / "out"
    )
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 2, "--max_pixels", 384)
    line = refusal(capsys, "--mode", "infer", "--load_dir", run, "--max_pixels", 5)
    assert "expected at most 5 pixels" in line


def test_the_limit_is_8192_squared_and_can_be_raised(tmp_path, refused):
    PillowImage.new("1", (8192, 8193)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 20_000
    with refused("8192x8193", "--max_pixels"), limited_memory(100 << 20):
        read_image(tmp_path / "a.png", MAX_PIXELS)
    with refused("8192x8193") as caught:
        read_image(tmp_path / "a.png")
    assert "--max_pixels" not in str(caught.value)  # which not all commands have
    assert read_image(tmp_path / "a.png", MAX_PIXELS + 8192).pixels.shape == (8193, 8192, 1)


def test_an_image_of_gigabytes_behind_a_small_header(tmp_path, refused):
    path = tmp_path / "a.png"
    cv2 = pytest.importorskip("cv2")
    path.write_bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint16))[1].tobytes())
    with path.open("r+b") as stream:
        stream.truncate(3 << 30)
    with refused("a.png", "bytes"), limited_memory(200 << 20):
        read_image(path)


def test_a_jpeg_of_thousands_of_scans(tmp_path, refused):
    """Each scan is 10 bytes here and makes the decoder go over all 2048 x 2048 pixels."""
    stream = io.BytesIO()
    PillowImage.new("L", (2048, 2048)).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    start = content.index(b"\xff\xda")
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x10" + b"\x00"
    (tmp_path / "a.jpg").write_bytes(content[:start] + scan * 3000 + content[start:])
    with refused("a.jpg", "scans"):
        read_image(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(content)
    assert read_image(tmp_path / "b.jpg").pixels.shape == (2048, 2048, 1)


@pytest.mark.parametrize("kind", ["png", "tif", "exr"])
def test_decoders_do_not_print_beside_our_line(kind, tmp_path, capfd, refused):
    """libpng, libtiff and OpenEXR write to the descriptor itself, OpenEXR's module to sys.stdout too."""
    path = tmp_path / f"a.{kind}"
    if kind == "exr":
        content = bytearray(
            (exr_seeds(np.random.default_rng(0).random((9, 13, 3), np.float32)) or pytest.skip("OpenEXR"))[3]
        )
        content[-60:] = bytes(60)
    elif kind == "png":
        cv2 = pytest.importorskip("cv2")
        content = bytearray(cv2.imencode(".png", np.arange(300, dtype=np.uint16).reshape(10, 10, 3))[1].tobytes())
        content[content.index(b"IDAT") + 20] ^= 255
        content = repaired_png(bytes(content))
    else:
        stream = io.BytesIO()
        noise = np.random.default_rng(0).integers(256, size=(40, 40), dtype=np.uint8)
        PillowImage.fromarray(noise).save(stream, "TIFF", compression="tiff_adobe_deflate")
        content = bytearray(stream.getvalue())
        content[200:300] = bytes(100)
    path.write_bytes(bytes(content))
    with refused(path.name):
        read_image(path)
    assert capfd.readouterr() == ("", "")


def test_what_others_print_later_is_seen_again(tmp_path, capfd):
    save_maps(tmp_path / "maps")
    load_material(tmp_path / "maps")
    os.write(2, b"still here\n")
    assert capfd.readouterr().err == "still here\n"


@pytest.fixture
def exr():
    return exr_seeds(np.random.default_rng(0).random((9, 13, 3), np.float32)) or pytest.skip("OpenEXR is not installed")


def test_an_exr_that_ends_the_process_that_asks_for_its_header(exr, tmp_path, refused):
    """OpenEXR 3.5.3: InputFile(...).header() of a damaged chunk table or of names that are not UTF-8 is a segmentation
    fault, which fuzzing hit once in thirty inputs. Now the header is parsed here."""
    content = bytearray(exr[0])
    content[content.index(b"channels")] = 0xF1
    path = tmp_path / "a.exr"
    path.write_bytes(content)
    with refused("a.exr"):
        read_image(path)
    good = exr[5].find(b"\0\0\0\0", len(exr[5]) - 40)
    for place in range(good, len(exr[5]), 3):
        path.write_bytes(exr[5][:place])
        with refused("a.exr"):
            read_image(path)


def test_an_exr_with_a_huge_second_part(exr, tmp_path, refused):
    """Only the first part is used, but OpenEXR decodes them all: its size counted alone."""
    content = bytearray(exr[-1])
    first = content.index(b"dataWindow")
    second = content.index(b"dataWindow", first + 1)
    place = second + len(b"dataWindow\0box2i\0") + 4
    content[place : place + 16] = struct.pack("<4i", 0, 0, 30_000, 30_000)
    (tmp_path / "a.exr").write_bytes(content)
    assert [part.width for part in parse_exr_header(bytes(content))] == [13, 30_001]
    with refused("a.exr", "--max_pixels"), limited_memory(300 << 20):
        read_image(tmp_path / "a.exr", MAX_PIXELS)


def test_an_exr_whose_first_part_is_broken_is_not_the_second(exr, tmp_path, refused):
    """OpenEXR leaves out parts that it cannot read, and numbers the others anew."""
    content = bytearray(exr[-1])
    header_end = content.index(b"\0\0", content.rindex(b"type\0string")) + 2
    table = struct.unpack_from("<Q", content, header_end)[0]
    if not header_end < table < len(content):
        table = header_end + 16
    content[header_end : header_end + 8] = struct.pack("<Q", 1 << 40)  # where the first part's pixels are
    (tmp_path / "a.exr").write_bytes(content)
    with refused("a.exr"):
        read_image(tmp_path / "a.exr")


def test_exr_headers_are_read_as_openexr_reads_them(exr, tmp_path):
    for content in exr:
        parts = parse_exr_header(content)
        assert (parts[0].width, parts[0].height, parts[0].deep) == (13, 9, False)
        assert list(parts[0].channels) in (["B", "G", "R"], ["Y"])
        (tmp_path / "a.exr").write_bytes(content)
        assert read_image(tmp_path / "a.exr").pixels.shape == (9, 13, len(parts[0].channels))
    assert len(parse_exr_header(exr[-1])) == 2
    for place in range(len(exr[0]) // 3):
        with pytest.raises(ValueError):
            parse_exr_header(exr[0][: min(place, 250)])


def test_floats_at_the_end_of_their_range(exr, tmp_path, recwarn):
    """Differences and means of such floats leave float32; the maps are clipped or scaled all the same."""
    OpenEXR = pytest.importorskip("OpenEXR")
    pixels = np.full((4, 4, 3), 3e38, np.float32)
    pixels[0] = -3e38
    for name in ("x_displacement.exr", "x_albedo.exr", "x_normal.exr"):
        OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": pixels}).write(str(tmp_path / name))
    material = load_material(tmp_path)
    assert np.isfinite(material.value_range["displacement"]).all()
    assert material.stored(0, "displacement")[0].max() == 0 and material.stored(0, "displacement")[1].min() == 65535
    assert material.stored(0, "diffuse")[0].max() == 0 and material.stored(0, "diffuse")[1].min() == 65535
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]
