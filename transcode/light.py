"""Colours that an 8-bit file in sRGB cannot say as they are: light above 1, and emission in linear light.

Their codes mean units (maps/ranges.py). Here they become what textures and viewers take: half floats of those units,
and 8-bit sRGB.
"""

from __future__ import annotations

import numpy as np

from maps.mips import linear_to_srgb, round_to_codes
from maps.ranges import LIGHT, has_units, to_units
from maps.record import MapRecord, MaterialRecord

LARGEST_HALF = 65504.0


def is_bright(entry: MapRecord) -> bool:
    """Whether a colour reaches above 1, where 8 bits end."""
    return entry.name in LIGHT and entry.value_range[1] > 1


def light_of(material: MaterialRecord) -> list[MapRecord]:
    """The maps that `in_half` and `picture` are for: colours in units of their own, and a linear emission."""
    return [
        entry
        for entry in material.maps
        if (entry.name in LIGHT and has_units(entry.name, entry.value_range))
        or (entry.name == "emissive" and entry.file_color_space == "linear")
    ]


def in_half(entry: MapRecord, codes: np.ndarray) -> np.ndarray:
    """(H, W, 3) float16, linear, in the file's units, none below 0, of integer codes."""
    return np.clip(_in_units(entry, codes), 0, LARGEST_HALF).astype(np.float16)


def exposure(entry: MapRecord) -> float:
    """What `picture` divides a map by: the highest value of an emission that reaches above 1. A base colour is never
    divided: glTF knows none above 1."""
    return max(entry.value_range[1], 1.0) if entry.name == "emissive" else 1.0


def picture(entry: MapRecord, codes: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of integer codes: value / exposure as sRGB; what is above 1 then is clipped."""
    values = np.clip(_in_units(entry, codes) / np.float32(exposure(entry)), 0, 1)
    return round_to_codes(linear_to_srgb(values) * 255, np.uint8)


def _in_units(entry: MapRecord, codes: np.ndarray) -> np.ndarray:
    return to_units(codes * np.float32(1 / np.iinfo(codes.dtype).max), entry.value_range, entry.log_scale)
