"""Small valid image files for `python -m tests.fuzz` to damage: one for each way in which a format stores pixels."""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage


def image_seeds() -> dict[str, list[bytes]]:
    """Suffix -> small pictures of that format, one for each way in which it stores pixels."""
    random_ = np.random.default_rng(1)
    rgb = random_.integers(0, 256, (9, 13, 3), dtype=np.uint8)
    deep = random_.integers(0, 65536, (9, 13, 3), dtype=np.uint16)
    floats = random_.random((9, 13, 3), dtype=np.float32)
    colour, grey = PillowImage.fromarray(rgb), PillowImage.fromarray(rgb[..., 0])
    alpha = colour.convert("RGBA")
    wide = PillowImage.fromarray(random_.integers(0, 256, (40, 56, 3), dtype=np.uint8))

    def saved(picture: PillowImage.Image, kind: str, **options: Any) -> bytes:
        stream = io.BytesIO()
        picture.save(stream, kind, **options)
        return stream.getvalue()

    def with_opencv(pixels: np.ndarray, suffix: str, *options: int) -> bytes:
        import cv2

        return cv2.imencode(suffix, pixels, list(options))[1].tobytes()

    seeds = {
        ".png": [saved(picture, "PNG") for picture in (colour, grey, alpha, grey.convert("1"), colour.convert("P"))],
        ".jpg": [
            saved(wide, "JPEG"),
            saved(wide, "JPEG", progressive=True),
            saved(grey, "JPEG"),
            saved(wide.convert("CMYK"), "JPEG", quality=60, subsampling=0),
            saved(wide, "JPEG", exif=_exif(), restart_marker_blocks=1),
        ],
        ".tif": [
            saved(colour, "TIFF"),
            saved(grey.convert("1"), "TIFF", compression="group4"),
            saved(alpha, "TIFF"),
            *(saved(wide, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
            *(saved(colour.convert(mode), "TIFF") for mode in ("CMYK", "YCbCr", "P", "LAB")),
            saved(wide.copy(), "TIFF", save_all=True, append_images=[grey.copy()]),
            saved(colour, "TIFF", big_tiff=True),
            with_opencv(deep, ".tiff"),
            with_opencv(deep[..., 0], ".tiff"),
            with_opencv(floats, ".tiff"),
            with_opencv(floats[..., 0], ".tiff"),
        ],
        ".tga": [
            saved(colour, "TGA"),
            saved(colour, "TGA", compression="tga_rle"),
            saved(grey, "TGA"),
            saved(alpha, "TGA"),
            saved(colour.convert("P"), "TGA"),
        ],
        ".bmp": [saved(picture, "BMP") for picture in (colour, grey, grey.convert("1"), colour.convert("P"), alpha)],
        ".webp": [
            saved(wide, "WEBP"),
            saved(wide, "WEBP", lossless=True),
            saved(alpha, "WEBP", lossless=True),
            saved(colour, "WEBP", save_all=True, append_images=[colour.transpose(1)]),
        ],
        ".exr": exr_seeds(floats),
    }
    seeds |= {
        ".gif": [saved(colour, "GIF"), saved(colour, "GIF", save_all=True, append_images=[colour.transpose(1)])],
        ".dds": [saved(picture, "DDS") for picture in (colour, grey, alpha)]
        + [saved(alpha, "DDS", pixel_format=kind) for kind in ("DXT1", "DXT3", "DXT5", "BC2", "BC3")]
        + [saved(colour, "DDS", pixel_format="BC5")],
        ".avif": [saved(wide, "AVIF"), saved(wide.convert("RGBA"), "AVIF")],
        ".jp2": [saved(colour, "JPEG2000"), saved(alpha, "JPEG2000"), saved(grey, "JPEG2000")],
        ".psd": [_psd(rgb), _psd(rgb[..., :1]), _psd(np.asarray(alpha))],
        ".hdr": [with_opencv(floats, ".hdr")],
        ".jxl": jpeg_xl_seeds(rgb, deep),
    }
    seeds[".png"] += [with_opencv(deep, ".png"), with_opencv(deep[..., 0], ".png")]
    seeds[".bmp"].append(_rle_bmp())
    return seeds


def _psd(pixels: np.ndarray) -> bytes:
    """A flattened picture of (H, W, 1, 3 or 4) bytes, plane after plane, which Pillow reads and does not write."""
    height, width, channels = pixels.shape
    head = struct.pack(">H6xHIIHH", 1, channels, height, width, 8, 1 if channels == 1 else 3)
    return b"8BPS" + head + bytes(12) + b"\0\0" + np.ascontiguousarray(np.moveaxis(pixels, 2, 0)).tobytes()


def jpeg_xl_seeds(rgb: np.ndarray, deep: np.ndarray) -> list[bytes]:
    """Lossless and lossy, 8 and 16 bits; none without the package."""
    try:
        import imagecodecs
    except ImportError:
        return []
    encode = imagecodecs.jpegxl_encode
    return [encode(rgb, lossless=True), encode(deep, lossless=True), encode(rgb, level=60)]


def _exif() -> PillowImage.Exif:
    exif = PillowImage.Exif()
    exif[274], exif[270] = 6, "a description"
    return exif


def _rle_bmp() -> bytes:
    """8 bits with BI_RLE8, which Pillow reads and does not write."""
    pixels = b"\x04\x01\x00\x00" * 4 + b"\x00\x01"
    header = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(pixels), 0, 0, 54 + 1024) + header + bytes(1024) + pixels


def exr_seeds(floats: np.ndarray) -> list[bytes]:
    """One for each compression, halves and floats, tiles, two parts; none without the package."""
    try:
        import OpenEXR
    except ImportError:
        return []

    kinds = ("NO", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
    seeds = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.exr"
        for index, kind in enumerate(kinds):
            pixels = floats.astype(np.float16) if index % 2 else floats
            header = {"compression": getattr(OpenEXR, f"{kind}_COMPRESSION"), "type": OpenEXR.scanlineimage}
            OpenEXR.File(header, {"RGB": pixels}).write(str(path))
            seeds.append(path.read_bytes())
        tiles = OpenEXR.TileDescription()
        tiles.xSize, tiles.ySize = 4, 4
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.tiledimage, "tiles": tiles}
        OpenEXR.File(header, {"Y": floats[..., 0].copy()}).write(str(path))
        seeds.append(path.read_bytes())
        parts = [OpenEXR.Part({"type": OpenEXR.scanlineimage}, {"RGB": floats}, name) for name in ("first", "second")]
        OpenEXR.File(parts).write(str(path))
        seeds.append(path.read_bytes())
    return seeds


def repaired_png(payload: bytes) -> bytes:
    """The same PNG with the right checksums, as far as its chunks can be followed: damage then reaches the decoder."""
    data, place = bytearray(payload), 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        end = place + 8 + length
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(data)
