"""Readers of DDS and KTX2 files that are not the toolkit's: Pillow, texture2ddecoder, and the specifications' rules."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

DXGI_NAMES = {71: "BC1", 80: "BC4", 83: "BC5", 95: "BC6H", 98: "BC7", 99: "BC7"}
# VkFormat -> colour model, bytes of a block, (channel, first bit, bits) of the samples, transfer function; the channel
# of a float has the qualifier 0x80
VK = {
    131: (128, 8, [(0, 0, 64)], 1), 139: (131, 8, [(0, 0, 64)], 1), 141: (132, 16, [(0, 0, 64), (1, 64, 64)], 1),
    157: (162, 16, [(0, 0, 128)], 1), 165: (162, 16, [(0, 0, 128)], 1), 143: (133, 16, [(0x80, 0, 128)], 1),
    145: (134, 16, [(0, 0, 128)], 1), 146: (134, 16, [(0, 0, 128)], 2),
    9: (1, 1, [(0, 0, 8)], 1), 16: (1, 2, [(0, 0, 8), (1, 8, 8)], 1),
    37: (1, 4, [(0, 0, 8), (1, 8, 8), (2, 16, 8), (15, 24, 8)], 1),
    1000340000: (1, 2, [(2, 0, 4), (1, 4, 4), (0, 8, 4), (15, 12, 4)], 1),
}  # fmt: skip


def dds_mips(payload: bytes, count: int | None = None) -> tuple[dict, list[np.ndarray]]:
    """(header, mips as (H, W, C)) by Pillow, which reads the first level only: each becomes the first of a file.

    `count` mips are expected, by default all down to 1x1.
    """
    assert payload[:4] == b"DDS " and payload[84:88] == b"DX10"
    flags, height, width, size, _, mips = struct.unpack_from("<6I", payload, 8)
    dxgi, dimension, misc, slices, _ = struct.unpack_from("<5I", payload, 128)
    assert (dimension, misc, slices) == (3, 0, 1) and flags & 0x80000
    assert mips == (count or max(width, height).bit_length())
    block = 8 if DXGI_NAMES[dxgi] in ("BC1", "BC4") else 16
    at, images = 148, []
    for mip in range(mips):
        w, h = max(width >> mip, 1), max(height >> mip, 1)
        stored = -(-w // 4) * -(-h // 4) * block
        assert mip > 0 or size == stored
        # Pillow is given whole blocks, and what lies beyond the level's edge is cut off again
        head = bytearray(payload[:148])
        struct.pack_into("<6I", head, 8, flags, -(-h // 4) * 4, -(-w // 4) * 4, stored, 0, 1)
        with Image.open(io.BytesIO(bytes(head) + payload[at : at + stored])) as picture:
            images.append(np.asarray(picture).reshape(-(-h // 4) * 4, -(-w // 4) * 4, -1)[:h, :w])
        at += stored
    assert at == len(payload)
    with Image.open(io.BytesIO(payload)) as picture:  # the file as it is
        assert np.array_equal(np.asarray(picture).reshape(height, width, -1), images[0])
    return {"dxgi": dxgi, "width": width, "height": height}, images


def ktx2_levels(payload: bytes, mips: int | None = None) -> tuple[dict, list[bytes]]:
    """Every rule of the specification that such a file has to keep, then (header, levels, the largest first).

    `mips` levels are expected, by default all down to 1x1.
    """
    assert payload[:12] == bytes.fromhex("AB4B5458203230BB0D0A1A0A")
    vk, type_size, width, height, depth, layers, faces, count, scheme = struct.unpack_from("<9I", payload, 12)
    assert (depth, layers, faces, scheme) == (0, 0, 1, 0) and count == (mips or max(width, height).bit_length())
    dfd_at, dfd_size, kvd_at, kvd_size = struct.unpack_from("<4I", payload, 48)
    assert struct.unpack_from("<2Q", payload, 64) == (0, 0)
    index = [struct.unpack_from("<3Q", payload, 80 + 24 * level) for level in range(count)]
    assert dfd_at == 80 + 24 * count and kvd_at == dfd_at + dfd_size and dfd_at % 4 == kvd_at % 4 == 0
    model, block, samples, transfer = VK[vk]
    side, top = (6 if vk == 165 else 4), 0x3F800000 if samples[0][0] & 0x80 else 0xFFFFFFFF
    if model == 1:
        side, top = 1, (1 << samples[0][2]) - 1
    assert type_size == (2 if vk == 1000340000 else 1)
    total, vendor_type, version, size = struct.unpack_from("<IIHH", payload, dfd_at)
    assert (total, vendor_type, version, size) == (dfd_size, 0, 2, dfd_size - 4) and size == 24 + 16 * len(samples)
    sides = [side - 1, side - 1, 0, 0]
    assert list(payload[dfd_at + 12 : dfd_at + 28]) == [model, 1, transfer, 0, *sides, block, *[0] * 7]
    for i, (channel, bit, bits) in enumerate(samples):
        sample = struct.unpack_from("<HBB4BII", payload, dfd_at + 28 + 16 * i)
        assert sample == (bit, bits - 1, channel, 0, 0, 0, 0, 0, top)
    at, values = kvd_at, {}
    while at < kvd_at + kvd_size:
        (length,) = struct.unpack_from("<I", payload, at)
        key, _, value = payload[at + 4 : at + 4 + length].partition(b"\0")
        values[key] = value
        at += 4 + length + -length % 4
    assert at == kvd_at + kvd_size and list(values) == sorted(values) and values[b"KTXorientation"] == b"rd\0"
    end = at
    for level in reversed(range(count)):  # the smallest lies first, without gaps but for the alignment
        offset, length, plain = index[level]
        blocks = -(-max(width >> level, 1) // side) * -(-max(height >> level, 1) // side)
        alignment = max(block, 4)
        assert length == plain == blocks * block and offset % alignment == 0 and 0 <= offset - end < alignment
        assert not any(payload[end:offset])
        end = offset + length
    assert end == len(payload)
    header = {"vk": vk, "width": width, "height": height}
    return header, [payload[offset : offset + length] for offset, length, _ in index]


def independent_decode(form: str, blocks: bytes, width: int, height: int) -> np.ndarray:
    """(H, W, C) by texture2ddecoder, whose pixels are B, G, R, A."""
    decoder = pytest.importorskip("texture2ddecoder", reason="not installed (pip install -r requirements-test.txt)")
    w, h = -(-width // 4) * 4, -(-height // 4) * 4
    pixels = np.frombuffer(getattr(decoder, f"decode_{form.split()[0]}")(blocks, w, h), np.uint8).reshape(h, w, 4)
    channels = {"bc4": [2], "bc5": [2, 1], "bc7 with alpha": [2, 1, 0, 3]}.get(form, [2, 1, 0])
    return pixels[:height, :width, channels]
