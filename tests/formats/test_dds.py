"""dds.py: round trips, every header field as another reader sees it, and what a damaged file leads to."""

from __future__ import annotations

import io
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.errors import UserError
from formats.dds import HEADER_BYTES, Texture, decode_dds, encode_dds, read_dds
from tests.support import reference

# (width, height, mips): full chains, short chains, one level, odd and not square
SHAPES = [(1, 1, 1), (2, 2, 2), (64, 64, 7), (64, 64, 1), (24, 24, 4), (5, 7, 3), (7, 5, 3), (16, 3, 5), (1, 9, 4),
          (3, 1, 2)]  # fmt: skip
CHANNELS = {4: 28, 2: 49, 1: 61}  # DXGI_FORMAT_R8G8B8A8_UNORM, R8G8_UNORM, R8_UNORM


def make_texture(width, height, mips, channels, seed=0):
    random = np.random.default_rng(seed)
    sizes = [(max(height >> k, 1), max(width >> k, 1), channels) for k in range(mips)]
    return Texture(tuple(random.integers(0, 256, size, dtype=np.uint8) for size in sizes))


def assert_same(got: Texture, want: Texture):
    assert len(got.levels) == len(want.levels)
    for one, other in zip(got.levels, want.levels):
        assert one.dtype == np.uint8
        np.testing.assert_array_equal(one, other)


def patched(payload: bytes, offset: int, value: int) -> bytes:
    return payload[:offset] + struct.pack("<I", value) + payload[offset + 4 :]


every_shape = pytest.mark.parametrize(("width", "height", "mips"), SHAPES, ids=str)
every_format = pytest.mark.parametrize("channels", CHANNELS)


@every_format
@every_shape
def test_round_trip(width, height, mips, channels):
    texture = make_texture(width, height, mips, channels)
    assert_same(decode_dds(encode_dds(texture)), texture)


@every_format
@every_shape
def test_another_reader_sees_the_same(width, height, mips, channels):
    texture = make_texture(width, height, mips, channels)
    assert_same(Texture(tuple(reference.parse_dds(encode_dds(texture))["levels"])), texture)


@every_format
@every_shape
def test_header_fields(width, height, mips, channels):
    """Microsoft, "DDS_HEADER" and "DDS_HEADER_DXT10"."""
    payload = encode_dds(make_texture(width, height, mips, channels))
    assert payload[:4] == b"DDS " and payload[84:88] == b"DX10"
    header = reference.parse_dds(payload)
    header.pop("levels")
    caps, height_flag, width_flag, pitch, pixel_format, mip_count = 0x1, 0x2, 0x4, 0x8, 0x1000, 0x20000
    assert header.pop("dwFlags") == caps | height_flag | width_flag | pitch | pixel_format | mip_count
    texture, complex_, mipmap = 0x1000, 0x8, 0x400000
    assert header.pop("dwCaps") == (texture | complex_ | mipmap if mips > 1 else texture)
    expected = {
        "dwSize": 124,
        "dwHeight": height,
        "dwWidth": width,
        "dwPitchOrLinearSize": (width * 8 * channels + 7) // 8,
        "dwMipMapCount": mips,
        "ddspf.dwSize": 32,
        "ddspf.dwFlags": 0x4,  # DDPF_FOURCC
        "ddspf.dwFourCC": int.from_bytes(b"DX10", "little"),
        "dxgiFormat": CHANNELS[channels],
        "resourceDimension": 3,  # D3D10_RESOURCE_DIMENSION_TEXTURE2D
        "arraySize": 1,
    }
    assert {name: header.pop(name) for name in expected} == expected
    assert header.pop("dwReserved1") == [0] * 11
    assert set(header.values()) == {0}, header  # depth, the masks, caps 2 to 4, misc flags


@every_shape
def test_pillow_reads_every_mip(width, height, mips):
    """Pillow shows the top level only, so each level takes a turn as the top level. It refuses R8 and R8G8."""
    texture = make_texture(width, height, mips, 4)
    payload = encode_dds(texture)
    position = HEADER_BYTES
    for k, level in enumerate(texture.levels):
        h, w, _ = level.shape
        header = patched(patched(payload[:HEADER_BYTES], 12, h), 16, w)
        header = patched(patched(header, 20, w * 4), 28, mips - k)
        with Image.open(io.BytesIO(header + payload[position:])) as picture:
            assert picture.format == "DDS" and picture.mode == "RGBA" and picture.size == (w, h)
            assert "gamma" not in picture.info  # which is how Pillow marks an sRGB format
            np.testing.assert_array_equal(np.asarray(picture), level)
        position += level.size
    assert position == len(payload)


@every_shape
def test_4_bit_channels(width, height, mips):
    """B4G4R4A4: round trip, another reader, and Pillow, which knows such texels by their masks only."""
    texture = Texture(tuple(level >> 4 for level in make_texture(width, height, mips, 4).levels), 4)
    payload = encode_dds(texture)
    assert decode_dds(payload).bits == 4
    assert_same(decode_dds(payload), texture)
    parsed = reference.parse_dds(payload)
    assert parsed["dxgiFormat"] == 115 and parsed["dwPitchOrLinearSize"] == 2 * width
    assert_same(Texture(tuple(parsed["levels"])), texture)
    position = HEADER_BYTES
    for level in texture.levels:
        h, w, _ = level.shape
        header = patched(patched(payload[:128], 12, h), 16, w)
        rgb_with_alpha, masks = 0x41, (0x0F00, 0x00F0, 0x000F, 0xF000)
        for offset, value in zip(range(80, 108, 4), (rgb_with_alpha, 0, 16, *masks)):
            header = patched(header, offset, value)
        with Image.open(io.BytesIO(header + payload[position : position + 2 * h * w])) as picture:
            np.testing.assert_array_equal(np.round(np.asarray(picture) / 17), level)  # Pillow rounds down
        position += 2 * h * w
    assert position == len(payload)


def test_views_are_written_in_reading_order():
    wide = np.arange(5 * 7 * 8, dtype=np.uint8).reshape(5, 7, 8)
    for view in (wide[:, :, :4], wide[:, :, 4:], np.asfortranarray(wide[:, :, 2:6]), wide[:, ::-1, ::2]):
        assert_same(decode_dds(encode_dds(Texture((view,)))), Texture((view,)))


def test_pixel_order_in_the_file():
    """Row by row from the top, R first."""
    level = np.zeros((2, 3, 4), np.uint8)
    level[0, 1] = 1, 2, 3, 4
    level[1, 0] = 9, 8, 7, 6
    body = encode_dds(Texture((level,)))[HEADER_BYTES:]
    assert body[4:8] == bytes([1, 2, 3, 4]) and body[12:16] == bytes([9, 8, 7, 6])


def test_the_bits_of_b4g4r4a4():
    """Microsoft, DXGI_FORMAT: blue is named first and lies in the lowest bits."""
    level = np.array([[[1, 2, 3, 4]]], np.uint8)  # R, G, B, A
    assert encode_dds(Texture((level,), 4))[HEADER_BYTES:] == bytes([0x23, 0x41])


@pytest.mark.parametrize("levels", [[np.full((2, 2, 4), 16, np.uint8)], [np.zeros((2, 2, 2), np.uint8)]])
def test_what_4_bits_cannot_hold_is_not_written(levels):
    with pytest.raises(ValueError):
        encode_dds(Texture(tuple(levels), 4))


@pytest.mark.parametrize(
    "levels",
    [
        [np.zeros((4, 4, 3), np.uint8)],
        [np.zeros((4, 4, 4), np.float32)],
        [np.zeros((4, 4, 4), np.int8)],
        [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)],
        [np.zeros((4, 8, 4), np.uint8), np.zeros((4, 2, 4), np.uint8)],  # width and height swapped
        [np.zeros((4, 4, 4), np.uint8), np.zeros((2, 2, 2), np.uint8)],
    ],
)
def test_impossible_textures_are_not_written(levels):
    with pytest.raises(ValueError):
        encode_dds(Texture(tuple(levels)))


# --- damaged files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 4, 127, 128, 147, 148, 149, -1, -4])
def test_truncated_files_are_refused(length, refused):
    payload = encode_dds(make_texture(7, 5, 3, 4))
    with refused("grid.dds"):
        decode_dds(payload[:length], "grid.dds")


@pytest.mark.parametrize("extra", [1, 4, 4096])
def test_extended_files_are_refused(extra, refused):
    with refused("grid.dds"):
        decode_dds(encode_dds(make_texture(7, 5, 3, 2)) + b"\0" * extra, "grid.dds")


@pytest.mark.parametrize("magic", [b"dds ", b"DDS\0", b"\x89PNG", b"DDS" + b"9"])
def test_wrong_magic_is_refused(magic, refused):
    with refused("grid.dds"):
        decode_dds(magic + encode_dds(make_texture(7, 5, 3, 4))[4:], "grid.dds")


FIELDS = {
    "dwSize": (4, [0, 123, 2**32 - 1]),
    "dwHeight": (12, [0, 4, 2**31, 2**32 - 1]),
    "dwWidth": (16, [0, 8, 2**31, 2**32 - 1]),
    "dwMipMapCount": (28, [0, 2, 4, 33, 2**32 - 1]),
    "ddspf.dwSize": (76, [0, 2**32 - 1]),
    "ddspf.dwFlags": (80, [0, 0x40]),
    "ddspf.dwFourCC": (84, [0, int.from_bytes(b"DXT1", "little")]),
    "dxgiFormat": (128, [0, 29, 49, 61, 71, 115, 2**32 - 1]),  # 29 is R8G8B8A8_UNORM_SRGB: never
    "resourceDimension": (132, [0, 2, 4]),
    "miscFlag": (136, [4]),  # a cube
    "arraySize": (140, [0, 2, 2**32 - 1]),
}


@pytest.mark.parametrize(("offset", "value"), [(o, v) for o, values in FIELDS.values() for v in values])
def test_wrong_header_fields_are_refused(offset, value, refused):
    payload = patched(encode_dds(make_texture(7, 5, 3, 4)), offset, value)
    with refused("grid.dds"):
        decode_dds(payload, "grid.dds")


@pytest.mark.parametrize(
    ("width", "height", "mips"),
    [(2**31, 2**31, 1), (2**32 - 1, 2**32 - 1, 32), (65536, 65536, 17), (16384, 16384, 15)],
)
def test_absurd_sizes_cost_nothing(width, height, mips, refused):
    payload = encode_dds(make_texture(2, 2, 1, 4))
    payload = patched(patched(patched(payload, 12, height), 16, width), 28, mips)
    tracemalloc.start()
    try:
        with refused("grid.dds"):
            decode_dds(payload, "grid.dds")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_files_are_read_and_missing_ones_named(tmp_path, refused):
    texture = make_texture(6, 4, 2, 2)
    path = tmp_path / "hash_grid_0.dds"
    with refused("hash_grid_0.dds"):
        read_dds(path)
    path.write_bytes(encode_dds(texture))
    assert_same(read_dds(path), texture)
    assert_same(read_dds(str(path)), texture)
    path.write_bytes(encode_dds(texture)[:-1])
    with refused("hash_grid_0.dds"):
        read_dds(path)
    with refused(tmp_path.name):
        read_dds(tmp_path)  # a folder


@settings(max_examples=60, deadline=None)
@given(
    channels=st.sampled_from([1, 2, 4]),
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    length=st.integers(0, 400),
)
def test_random_damage_is_refused_or_harmless(channels, changes, length):
    payload = bytearray(encode_dds(make_texture(5, 7, 3, channels)))
    for offset, value in changes:
        payload[offset % len(payload)] = value
    payload = bytes(payload[:length] if length < 200 else payload)
    try:
        texture = decode_dds(payload, "x.dds")
    except UserError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert sum(level.size for level in texture.levels) * texture.bits // 8 == len(payload) - HEADER_BYTES


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 33), height=st.integers(1, 33), channels=st.sampled_from([1, 2, 4]), cut=st.integers(0, 6))
def test_any_size_survives(width, height, channels, cut):
    mips = max(1, max(width, height).bit_length() - cut)
    texture = make_texture(width, height, mips, channels, seed=width * 64 + height)
    assert_same(decode_dds(encode_dds(texture)), texture)
