"""What the factors of a material do to its texels, so that the trained maps are what a renderer multiplies out.

A colour times its factor is a product of light: codes are decoded from sRGB, multiplied, and encoded again, with the
bit depth of the file. Factors of 1 return the texels as they are.

Source: Khronos, "glTF 2.0 Specification", sections 3.9.2 to 3.9.4; KHR_materials_emissive_strength.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from maps.coverage import ALPHA_TEST
from maps.mips import encode_level, linear_to_srgb, round_to_codes, srgb_to_linear
from maps.pixels import bands_of

if TYPE_CHECKING:
    from maps.gltf.materials import Adjustment


def adjusted(pixels: np.ndarray, adjustment: Adjustment) -> np.ndarray:
    """(H, W, C) uint8 or uint16 codes of one map -> the same with the material's numbers in them.

    Light that reaches above 1 comes back as float32, linear.
    """
    kind, factors = adjustment
    dtype, codes = pixels.dtype, np.arange(np.iinfo(pixels.dtype).max + 1)
    values = codes / codes[-1]
    if kind == "opacity":
        return _table(opacity_codes(values, *factors, dtype), pixels)
    if all(factor == 1 for factor in factors):
        return pixels
    if kind == "normal":
        return np.concatenate([_scaled_normals(rows, factors[0]) for rows in bands_of(pixels)])
    if kind in ("colour", "light"):
        light = srgb_to_linear(values)[:, None] * np.array(factors)
        used = [light[pixels[..., channel].max(), channel] for channel in range(3)]
        if kind == "light" and max(used) > 1:
            return _columns(light.astype(np.float32), pixels)
        return _columns(round_to_codes(linear_to_srgb(light.clip(0, 1)) * codes[-1], dtype), pixels)
    scaled = values * factors[0] if kind == "scale" else 1 + factors[0] * (values - 1)
    return _table(round_to_codes(scaled * codes[-1], dtype), pixels)


def opacity_codes(values: np.ndarray, factor: float, cutoff: float, dtype: np.dtype) -> np.ndarray:
    """The opacity that alpha values in [0, 1] mean, in codes.

    Args:
        cutoff: what alpha times the factor has to reach to be seen; negative: it blends. Values are stretched on
            either side of it, so that it comes to lie at ALPHA_TEST, where every opacity is tested and keeps its
            margins: what passes there is what passed here.
    """
    top = np.iinfo(dtype).max
    alpha = values * factor
    if cutoff < 0:
        return round_to_codes(alpha * top, dtype)
    below = ALPHA_TEST * (alpha / max(cutoff, 1e-9))  # less than ALPHA_TEST, which lies between two codes
    above = ALPHA_TEST + (1 - ALPHA_TEST) * (alpha - cutoff) / max(1 - cutoff, 1e-9)
    return round_to_codes(np.where(alpha >= cutoff, above, below) * top, dtype)


def _scaled_normals(codes: np.ndarray, scale: float) -> np.ndarray:
    """Normals whose x and y are multiplied, of unit length again."""
    middle = np.float32(np.iinfo(codes.dtype).max / 2)
    scaled = (codes - middle) * np.array([scale, scale, 1], np.float32) + middle
    return encode_level(scaled, "normal", codes.dtype)


def _columns(table: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """A table with a column per channel, looked up."""
    return np.stack([table[:, channel][pixels[..., channel]] for channel in range(pixels.shape[2])], axis=2)


def _table(table: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return table[pixels]
