"""Colours that an 8-bit file in sRGB cannot say as they are: light above 1, and emission in linear light.

Their decoded values mean units (MapRecord.value_range, log_scale). Here they become what textures and viewers take:
half floats of those units, and 8-bit sRGB.
"""

from __future__ import annotations

import numpy as np

from maps.channels import map_size, map_slice
from maps.mips import linear_to_srgb, round_to_codes
from maps.ranges import LIGHT, to_units
from maps.record import MapRecord, MaterialRecord
from metrics.decoded_maps import DECODE_CHUNK, Decode, decode_in_file_space
from model import NeuralTexture

LARGEST_HALF = 65504.0


def is_bright(entry: MapRecord) -> bool:
    """Whether a colour reaches above 1, where 8 bits end."""
    return entry.name in LIGHT and entry.value_range[1] > 1


def light_of(material: MaterialRecord) -> list[MapRecord]:
    """The maps that `decode_light` decodes: colours above 1 or in a range of their own, and a linear emission."""
    return [
        entry
        for entry in material.maps
        if entry.name in LIGHT
        and (
            entry.value_range != (0.0, 1.0)
            or entry.log_scale is not None
            or (entry.name == "emissive" and entry.file_color_space == "linear")
        )
    ]


def decode_light(model: NeuralTexture, material: MaterialRecord, lod: int, decode: Decode) -> dict[str, np.ndarray]:
    """One LOD of the maps of `light_of`: name -> (H, W, 3) float16, linear, in the file's units, none below 0."""
    entries = light_of(material)
    if not entries:
        return {}
    width, height = material.lod_size(lod)
    light = {entry.name: np.empty((height, width, map_size(entry.name)), np.float16) for entry in entries}
    band = max(DECODE_CHUNK // width, 1)
    for first in range(0, height, band):
        rows = slice(first, min(first + band, height))
        values = decode_in_file_space(model, material, lod, decode, rows)
        for entry in entries:
            units = to_units(values[..., map_slice(entry.name)], entry.value_range, entry.log_scale)
            light[entry.name][rows] = units.clip(0, LARGEST_HALF).numpy()
    return light


def exposure(entry: MapRecord) -> float:
    """What `picture` divides a map by: the highest value of an emission that reaches above 1. A base colour is never
    divided: glTF knows none above 1."""
    return max(entry.value_range[1], 1.0) if entry.name == "emissive" else 1.0


def picture(entry: MapRecord, light: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of a map of `decode_light`: value / exposure as sRGB; what is above 1 then is clipped."""
    values = np.clip(light.astype(np.float32) / np.float32(exposure(entry)), 0, 1)
    return round_to_codes(linear_to_srgb(values) * 255, np.uint8)
