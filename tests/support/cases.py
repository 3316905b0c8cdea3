"""A picture of every map, folders of them, and what must come out."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image as PillowImage

from dataset import load_material
from maps.mips import round_to_codes

H, W = 24, 32
MAPS = ("roughness", "occlusion", "metallic", "displacement", "specular")


def plane(seed, height=H, width=W):
    """A smooth plane that fills 0 to 255."""
    y, x = np.mgrid[:height, :width]
    values = np.sin(x * 0.21 * (1 + seed % 3) + seed) + np.cos(y * 0.17 * (1 + seed % 2) + 2 * seed)
    return np.round((values - values.min()) * (255 / np.ptp(values))).astype(np.uint8)


P = {name: plane(seed) for seed, name in enumerate(MAPS, 3)}
P["diffuse"] = np.stack([plane(10), plane(11), plane(12)], axis=2)
X, Y = 64 + plane(13) // 2, 64 + plane(14) // 2
Z = round_to_codes((np.sqrt(1 - (X / 127.5 - 1) ** 2 - (Y / 127.5 - 1) ** 2) + 1) * 127.5, np.uint8)
P["normal"] = np.stack([X, Y, Z], axis=2)
P["opacity"], P["emissive"] = 128 + plane(15) // 2, np.stack([plane(16), plane(17), plane(18)], axis=2)
P["thickness"] = plane(19)
FULL, NONE = np.full((H, W), 255, np.uint8), np.zeros((H, W), np.uint8)


def stack(*planes):
    return np.dstack([P[entry] if isinstance(entry, str) else entry for entry in planes])


def write(folder, **files):
    """name=pixels, with .png behind it; returns the material."""
    for name, pixels in files.items():
        pixels = P[pixels] if isinstance(pixels, str) else pixels
        PillowImage.fromarray(pixels).save(folder / f"{name}.png")
    return load_material(folder)


def check(material, *names, tolerance=0):
    """The material has just these maps, with the values that they stand for."""
    assert set(material.present) == set(names)
    for name in names:
        wanted = P[name] if P[name].ndim == 3 else P[name][..., None]
        assert np.abs(material.stored(0, name).astype(int) - wanted).max() <= tolerance, name


def tiff(pixels, tags, orientation=1, photometric=1):
    """An uncompressed TIFF of one strip, little endian; photometric None: without that tag."""
    payload = pixels.tobytes()
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    fields = {256: pixels.shape[1], 257: pixels.shape[0], 258: pixels.itemsize * 8, 259: 1, 262: photometric, 273: 8,
              274: orientation, 277: samples, 278: pixels.shape[0], 279: len(payload), **tags}  # fmt: skip
    fields = {tag: value for tag, value in sorted(fields.items()) if value is not None}
    start = 8 + len(payload) + len(payload) % 2
    extra = b""
    entries = b""
    for tag, value in fields.items():
        count, data = 1, struct.pack("<I", value)
        if tag == 258 and samples > 2:
            count, data = samples, struct.pack("<I", start + 6 + 12 * len(fields))
            extra = struct.pack(f"<{samples}H", *[value] * samples)
        entries += struct.pack("<HHI", tag, 3 if tag in (258, 259, 262, 274, 277, 338, 339) else 4, count) + data
    head = b"II*\0" + struct.pack("<I", start) + payload + b"\0" * (len(payload) % 2)
    return head + struct.pack("<H", len(fields)) + entries + struct.pack("<I", 0) + extra
