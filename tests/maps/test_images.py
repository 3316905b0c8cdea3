"""images.py: every format keeps every bit it has, and a broken file is one clear line."""

from __future__ import annotations

import io
import struct
import sys
import zlib

import cv2
import numpy as np
import OpenEXR
import pytest
from PIL import Image as PillowImage

from common.errors import UserError, quote
from maps.images import IMAGE_SUFFIXES, encode_png, read_image

H, W = 5, 7  # odd and not square: swapped axes and wrong strides show


def random_pixels(dtype, channels, seed=0, size=(H, W)):
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top + 1, (*size, channels), dtype=dtype)


def save(path, pixels, mode=None, **options):
    array = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    picture = PillowImage.fromarray(array)
    assert mode is None or picture.mode == mode
    picture.save(path, **options)
    return path


def png_chunk(kind, payload):
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def make_png(pixels, colour_type, extra=b""):
    """A PNG written from the specification, independent of the readers under test."""
    height, width, _ = pixels.shape
    big = pixels.astype(pixels.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + big[y].tobytes() for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, pixels.dtype.itemsize * 8, colour_type, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def make_tiff(pixels, photometric, sample_format=1, planar=1, order="<", orientation=1):
    """An uncompressed TIFF written from TIFF 6.0, directory first."""
    height, width, channels = pixels.shape
    data = (pixels if planar == 1 else pixels.transpose(2, 0, 1)).astype(pixels.dtype.newbyteorder(order)).tobytes()
    strips = 1 if planar == 1 else channels
    size = len(data) // strips
    bits = pixels.dtype.itemsize * 8
    start = 1024
    tags = [
        *((256, 4, [width]), (257, 4, [height]), (258, 3, [bits] * channels), (259, 3, [1]), (262, 3, [photometric])),
        *((273, 4, [start + i * size for i in range(strips)]), (274, 3, [orientation]), (277, 3, [channels])),
        *((278, 4, [height]), (279, 4, [size] * strips), (284, 3, [planar]), (339, 3, [sample_format] * channels)),
    ]
    blob, entries = b"", b""
    base = 8 + 2 + 12 * len(tags) + 4
    for tag, kind, values in tags:
        packed = struct.pack(order + {3: "H", 4: "I"}[kind] * len(values), *values)
        if len(packed) > 4:
            packed, blob = struct.pack(order + "I", base + len(blob)), blob + packed
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(tags))
    return (head + entries + b"\0" * 4 + blob).ljust(start, b"\0") + data


def write_exr(path, channels, **header):
    OpenEXR.File({"type": OpenEXR.scanlineimage, **header}, channels).write(str(path))
    return path


def failure(path, **options):
    """The message of the UserError that reading `path` must raise; every one is one line that starts with the file."""
    with pytest.raises(UserError) as caught:
        read_image(path, **options)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(quote(path) + ": ") and ";" in message
    return message


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff", "tga", "bmp", "webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_8_bit(tmp_path, suffix, channels):
    pixels = random_pixels(np.uint8, channels)
    options = {"lossless": True} if suffix == "webp" else {}
    image = read_image(save(tmp_path / f"a.{suffix}", pixels, **options))
    expected = np.repeat(pixels, 3, axis=2) if suffix == "webp" and channels == 1 else pixels  # WebP has no grey
    assert image.pixels.dtype == np.uint8 and not image.is_float
    assert np.array_equal(image.pixels, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg(tmp_path, channels):
    pixels = np.full((H, W, channels), 90, np.uint8)
    image = read_image(save(tmp_path / "a.JPG", pixels, quality=95))
    assert image.pixels.shape == (H, W, channels)
    assert np.abs(image.pixels.astype(int) - 90).max() <= 1


@pytest.mark.parametrize("colour_type, channels", [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_png_is_exact(tmp_path, colour_type, channels):
    pixels = random_pixels(np.uint16, channels)
    (tmp_path / "a.png").write_bytes(make_png(pixels, colour_type))
    image = read_image(tmp_path / "a.png")
    assert image.pixels.dtype == np.uint16
    assert np.array_equal(image.pixels, pixels[..., : 1 if channels < 3 else 3])


@pytest.mark.parametrize(
    "name, extra",
    [
        ("gamma", png_chunk(b"gAMA", struct.pack(">I", 45455 * 2))),
        ("transparent", png_chunk(b"tRNS", struct.pack(">HHH", *random_pixels(np.uint16, 3)[0, 0].tolist()))),
        ("orientation", png_chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")),
    ],
)
def test_16_bit_png_chunks_change_no_value(tmp_path, name, extra):
    pixels = random_pixels(np.uint16, 3)
    (tmp_path / "a.png").write_bytes(make_png(pixels, 2, extra))
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, pixels)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels, photometric", [(1, 1), (3, 2), (4, 2)])
def test_16_bit_tiff_is_exact(tmp_path, channels, photometric, order):
    pixels = random_pixels(np.uint16, channels)
    (tmp_path / "a.tif").write_bytes(make_tiff(pixels, photometric, order=order))
    image = read_image(tmp_path / "a.tif")
    assert image.pixels.dtype == np.uint16
    assert np.array_equal(image.pixels, pixels[..., :3])


def test_compressed_16_bit_tiff_is_exact(tmp_path):
    pixels = random_pixels(np.uint16, 3)
    (tmp_path / "a.tif").write_bytes(cv2.imencode(".tif", pixels[..., ::-1])[1].tobytes())  # OpenCV writes LZW
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels, photometric", [(1, 1), (3, 2)])
def test_float_tiff(tmp_path, channels, photometric, dtype):
    pixels = (np.random.default_rng(1).random((H, W, channels)) * 4 - 2).astype(dtype)
    (tmp_path / "a.tif").write_bytes(make_tiff(pixels, photometric, sample_format=3))
    image = read_image(tmp_path / "a.tif")
    assert image.is_float and np.array_equal(image.pixels, pixels.astype(np.float32))


@pytest.mark.parametrize(
    "dtype, channels, tags",
    [
        (np.uint16, 3, {"photometric": 2, "planar": 2}),  # both readers would mix the planes up in silence
        (np.uint16, 1, {"photometric": 0}),  # white is zero
        (np.uint16, 4, {"photometric": 5}),  # CMYK
        (np.uint16, 2, {"photometric": 1}),
        (np.int16, 1, {"photometric": 1, "sample_format": 2}),
        (np.uint32, 1, {"photometric": 1}),
        (np.float16, 3, {"photometric": 2, "sample_format": 3}),
    ],
)
def test_tiff_that_would_be_misread_is_refused(tmp_path, dtype, channels, tags):
    pixels = np.ones((H, W, channels), dtype)
    (tmp_path / "a.tif").write_bytes(make_tiff(pixels, **tags))
    assert "16-bit PNG" in failure(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_orientation_is_obeyed_at_both_depths(tmp_path, dtype):
    pixels = random_pixels(dtype, 3)
    (tmp_path / "a.tif").write_bytes(make_tiff(pixels, 2, orientation=6))  # row 0 is the right side
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels, np.rot90(pixels, -1))


def test_alpha_is_cut_off_not_blended(tmp_path):
    pixels = random_pixels(np.uint8, 4)
    pixels[..., 3] = np.arange(H * W).reshape(H, W) % 3 * 100  # also fully transparent texels keep their colour
    for suffix in ("png", "tif", "tga"):
        assert np.array_equal(read_image(save(tmp_path / f"a.{suffix}", pixels)).pixels, pixels[..., :3])
    save(tmp_path / "grey.png", pixels[..., [0, 3]], mode="LA")
    assert np.array_equal(read_image(tmp_path / "grey.png").pixels, pixels[..., :1])


@pytest.mark.filterwarnings("error")  # Pillow warns about palettes with alpha
@pytest.mark.parametrize("options", [{}, {"transparency": 2}, {"transparency": bytes([0, 128, 255])}])
def test_palette(tmp_path, options):
    colours = np.array([[10, 20, 30], [200, 100, 0], [7, 255, 9]], np.uint8)
    index = np.arange(H * W, dtype=np.uint8).reshape(H, W) % 3
    picture = PillowImage.frombytes("P", (W, H), index.tobytes())
    picture.putpalette(colours.ravel().tolist())
    picture.save(tmp_path / "a.png", **options)
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, colours[index])


def test_1_bit_and_4_bit_grey_span_the_whole_range(tmp_path):
    bits = np.arange(H * W).reshape(H, W) % 3 == 0
    save(tmp_path / "a.png", bits, mode="1")
    assert np.array_equal(read_image(tmp_path / "a.png").pixels[..., 0], bits * 255)
    header = struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0)  # two texels of 4 bits: 15 and 1
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0\xf1")) + png_chunk(b"IEND", b"")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    assert read_image(tmp_path / "b.png").pixels[0, :, 0].tolist() == [255, 17]


def test_cmyk_jpeg_is_not_inverted(tmp_path):
    inks = np.empty((16, 16, 4), np.uint8)
    inks[:] = (0, 230, 230, 10)  # red; Pillow writes CMYK as Adobe does, inverted and marked as such
    picture = PillowImage.frombytes("CMYK", (16, 16), inks.tobytes())
    picture.save(tmp_path / "a.jpg", quality=100)
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()
    red, green, blue = read_image(tmp_path / "a.jpg").pixels[8, 8].tolist()
    assert red > 235 and green < 35 and blue < 35


def test_exif_orientation_is_ignored(tmp_path):
    pixels = random_pixels(np.uint8, 3)
    tags = PillowImage.Exif()
    tags[0x0112] = 6
    for suffix in ("png", "jpg", "webp"):
        save(tmp_path / f"a.{suffix}", pixels, exif=tags)
        assert read_image(tmp_path / f"a.{suffix}").pixels.shape == (H, W, 3)


def test_content_decides_the_format(tmp_path):
    pixels = random_pixels(np.uint8, 3)
    save(tmp_path / "a.jpg", pixels, format="PNG")
    assert np.array_equal(read_image(tmp_path / "a.jpg").pixels, pixels)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("alpha", [False, True])
def test_exr_rgb(tmp_path, dtype, alpha):
    pixels = (np.random.default_rng(2).random((H, W, 4)) * 8 - 2).astype(dtype)
    channels = dict(zip("RGBA" if alpha else "RGB", np.moveaxis(pixels, 2, 0).copy()))
    image = read_image(write_exr(tmp_path / "a.exr", channels))
    expected = pixels[..., :3].astype(np.float64)
    if alpha:  # EXR's colours are premultiplied; where alpha is 0 or below there is nothing to divide by
        plane = pixels[..., 3:].astype(np.float64)
        expected = np.where(plane > 0, expected / np.where(plane > 0, plane, 1), expected)
        assert np.array_equal(image.alpha, pixels[..., 3:].astype(np.float32))
    assert image.is_float and np.array_equal(image.pixels, expected.astype(np.float32))


@pytest.mark.parametrize(
    "name, dtype", [("Y", np.float32), ("height", np.float16), ("R", np.float32), ("Z", np.uint32)]
)
def test_exr_single_channel(tmp_path, name, dtype):
    plane = np.arange(H * W).reshape(H, W).astype(dtype)
    for channels in ({name: plane}, {name: plane, "A": np.ones((H, W), np.float32)}):
        image = read_image(write_exr(tmp_path / "a.exr", channels))
        assert np.array_equal(image.pixels, plane.astype(np.float32)[..., None])


def test_exr_layer_and_first_part(tmp_path):
    planes = np.random.default_rng(3).random((4, H, W)).astype(np.float32)
    layer = {f"base.{letter}": plane for letter, plane in zip("BGR", planes)}
    assert np.array_equal(read_image(write_exr(tmp_path / "a.exr", layer)).pixels, np.moveaxis(planes[2::-1], 0, 2))
    extra = {**dict(zip("RGB", planes)), "depth.Z": planes[3]}
    assert np.array_equal(read_image(write_exr(tmp_path / "b.exr", extra)).pixels, np.moveaxis(planes[:3], 0, 2))
    parts = [
        OpenEXR.Part({"type": OpenEXR.scanlineimage}, {"Y": plane}, name)
        for name, plane in (("first", planes[1]), ("second", planes[2]))
    ]
    OpenEXR.File(parts).write(str(tmp_path / "c.exr"))
    assert np.array_equal(read_image(tmp_path / "c.exr").pixels[..., 0], planes[1])


def test_exr_that_does_not_fit(tmp_path):
    plane = np.zeros((H, W), np.float32)
    message = failure(write_exr(tmp_path / "a.exr", {"u": plane, "v": plane}))
    assert "'u', 'v'" in message
    corners = (np.array([0, 0], np.int32), np.array([2 * W - 1, 2 * H - 1], np.int32))
    half = {"Y": OpenEXR.Channel("Y", plane, 2, 2)}
    assert "subsampled" in failure(write_exr(tmp_path / "a.exr", half, dataWindow=corners))
    for bad in (np.nan, np.inf):
        broken = plane.copy()
        broken[1, 2] = broken[3, 3] = bad
        assert "2 of 35 pixels" in failure(write_exr(tmp_path / "b.exr", {"Y": broken}))
    assert "7x5 = 35" in failure(write_exr(tmp_path / "c.exr", {"Y": plane}), max_pixels=34)


@pytest.mark.parametrize("package, suffix", [("OpenEXR", "exr"), ("cv2", "png")])
def test_missing_package_names_its_install_command(tmp_path, monkeypatch, package, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "exr":
        write_exr(path, {"Y": np.zeros((H, W), np.float32)})
    else:
        path.write_bytes(make_png(random_pixels(np.uint16, 3), 2))
    monkeypatch.setitem(sys.modules, package, None)
    assert "pip install" in failure(path)
    eight_bit = save(tmp_path / "b.png", random_pixels(np.uint8, 3))  # needs neither
    assert read_image(eight_bit).pixels.shape == (H, W, 3)


def encoded(kind):
    pixels = random_pixels(np.uint8, 3, size=(40, 50))
    if kind == "png16":
        return make_png(random_pixels(np.uint16, 3, size=(40, 50)), 2), "png"
    if kind == "tif16":
        return make_tiff(random_pixels(np.uint16, 3, size=(40, 50)), 2), "tif"
    stream = io.BytesIO()
    PillowImage.fromarray(pixels).save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind.upper()))
    return stream.getvalue(), kind


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "tga", "bmp", "webp", "png16", "tif16"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.95])
def test_truncated_file(tmp_path, kind, kept):
    payload, suffix = encoded(kind)
    path = tmp_path / f"wood_albedo.{suffix}"
    path.write_bytes(payload)
    assert read_image(path).pixels.shape == (40, 50, 3)
    path.write_bytes(payload[: int(len(payload) * kept)])
    message = failure(path)
    assert ("empty" in message) == (kept == 0)


@pytest.mark.parametrize("kept", [0.1, 0.6, 0.99])
def test_truncated_exr(tmp_path, kept):
    plane = np.random.default_rng(4).random((64, 64)).astype(np.float32)
    path = write_exr(tmp_path / "a.exr", {"Y": plane})
    payload = path.read_bytes()
    path.write_bytes(payload[: int(len(payload) * kept)])
    failure(path)


def test_damaged_16_bit_png(tmp_path, capfd):
    payload = bytearray(make_png(random_pixels(np.uint16, 3), 2))
    payload[len(payload) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(bytes(payload))
    failure(tmp_path / "a.png")
    assert capfd.readouterr() == ("", "")  # libpng would print lines of its own


def test_message_of_a_decoder_stays_on_one_line(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError("first line\n  second line")

    path = save(tmp_path / "a.png", random_pixels(np.uint8, 3))
    monkeypatch.setattr(PillowImage, "open", broken)
    assert "first line second line" in failure(path)


def test_not_an_image(tmp_path):
    for suffix in sorted(IMAGE_SUFFIXES):
        path = tmp_path / f"notes{suffix}"
        path.write_text("These are notes about the wood, in plain text, long enough for any header." * 4)
        failure(path)
    tga = save(tmp_path / "a.tga", random_pixels(np.uint8, 3))
    failure(tga.rename(tmp_path / "tga.png"))  # TGA has no signature: too much looks like one
    assert "No such file" in failure(tmp_path / "missing.png")
    assert "directory" in failure(tmp_path)


def test_odd_file_name_stays_on_one_line(tmp_path):
    for name in ("bad\nname.png", "bad\n'name'.png"):
        (tmp_path / name).write_bytes(b"no image")
        assert "bad\\nname" in failure(tmp_path / name).replace("'", "")


@pytest.mark.parametrize("dtype, suffix", [(np.uint8, "png"), (np.uint16, "png"), (np.uint16, "tif")])
def test_size_limit_is_checked_before_decoding(tmp_path, dtype, suffix):
    pixels = random_pixels(dtype, 3)
    payload = make_png(pixels, 2) if suffix == "png" else make_tiff(pixels, 2)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(payload)
    assert read_image(path, max_pixels=35).pixels.shape == (H, W, 3)
    path.write_bytes(payload[: len(payload) - 60])  # the data is broken: whoever decodes first reports that instead
    assert "7x5 = 35" in failure(path, max_pixels=34)


def test_bomb_header_is_refused_and_pillows_limit_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 20)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"\0" * 64)))
    assert "100000x100000" in failure(tmp_path / "a.png")
    assert PillowImage.MAX_IMAGE_PIXELS == 20


@pytest.mark.filterwarnings("error")  # Pillow warns from 89 million pixels on
def test_large_image_within_the_limit(tmp_path):
    PillowImage.new("1", (10_000, 9_500)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", max_pixels=2**27).pixels.shape == (9_500, 10_000, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quick", [False, True])
def test_encode_png_round_trip(tmp_path, dtype, channels, quick):
    pixels = random_pixels(dtype, channels)
    (tmp_path / "a.png").write_bytes(encode_png(pixels, quick))
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, pixels)
