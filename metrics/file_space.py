"""The last steps of a decode, texel by texel: from the network's outputs to values as the source files have them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torchtyping import TensorType

from configs import EXTRA_MAPS, MAPS
from dataset import to_file_space
from maps.channels import map_channels, map_slice
from maps.mips import linear_to_srgb, round_to_codes
from maps.record import Constant, MapRecord, MaterialRecord

Decoded = TensorType[..., "channels"]
Vectors = TensorType["n", 3]

NORMAL = map_slice("normal")
TEXELS_AT_A_TIME = 2**20
SHORTEST = 1e-6  # length below which a vector has no direction


def in_file_space(decoded: Decoded, material: MaterialRecord, constants: Mapping[int, Constant]) -> Decoded:
    """Decoded values as they are scored, and written as images.

    In this order: an sRGB diffuse that was trained in linear light is encoded again; where the source's normals are
    unit vectors, decoded ones are made unit vectors; constant channels get exactly the files' value.

    Args:
        decoded: (..., channels) float32; its numbers may be overwritten.
        constants: NeuralTexture.constants.
    Returns: (..., channels), not clamped.
    """
    diffuse, normal = material.map("diffuse"), material.map("normal")
    values = to_file_space(decoded) if diffuse and diffuse.color_space != diffuse.file_color_space else decoded
    fixed = file_values(constants, material)
    if normal and normal.unit_normals:
        axes = {channel - NORMAL.start: fixed[channel] for channel in map_channels("normal") if channel in fixed}
        texels = values.reshape(-1, values.shape[-1])  # a copy, where the values do not lie one after the other
        for block in texels.split(TEXELS_AT_A_TIME):
            block[:, NORMAL] = unit_normals(block[:, NORMAL], axes)
        values = texels.view(values.shape)
    for channel, value in fixed.items():
        values[..., channel] = value
    return values


def file_values(constants: Mapping[int, Constant], material: MaterialRecord) -> dict[int, float]:
    """channel -> `file_value` of each constant whose map the material has."""
    return {
        channel: file_value(constant, entry)
        for entry in material.maps
        for channel, constant in constants.items()
        if channel in entry.channels
    }


def file_value(constant: Constant, entry: MapRecord) -> float:
    """The value in [0, 1] of a constant in the file, which may have other bits than training: see `linear_color`."""
    if entry.color_space == entry.file_color_space:
        return constant.value
    top = 2**entry.bit_depth - 1
    code = round_to_codes(linear_to_srgb(np.float64(constant.value)) * top, np.dtype(f"uint{entry.bit_depth}"))
    return int(code) / top


def unit_normals(values: Vectors, fixed: Mapping[int, float] | None = None) -> Vectors:
    """Normals of any length as unit vectors: n = 2 v - 1, n / |n|, (n + 1) / 2; no direction becomes (0, 0, 1).

    Args:
        values: (n, 3) float32, nominally in [0, 1].
        fixed: axis -> value in [0, 1] of an axis that is constant; the others are scaled to the rest of the length.
            With z constant all stay as they are: near 1, its rounding error exceeds the length of x and y.
    """
    fixed = fixed or {}
    free = [axis for axis in range(3) if axis not in fixed]
    room = 1 - sum((2 * value - 1) ** 2 for value in fixed.values())
    if 2 in fixed or room <= 0:
        return values
    vectors = values[:, free] * 2 - 1
    length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    up = vectors.new_tensor([float(axis == 2) for axis in free])
    directions = torch.where(length > SHORTEST, vectors / length.clamp_min(SHORTEST), up)
    result = values.clone()
    result[:, free] = directions * (room**0.5 / 2) + 0.5
    return result


def constant_listing(constants: Mapping[int, Constant]) -> str:
    """'metallic 255, normal z 32768/65535': constants as text, 16-bit codes with their maximum; '' for none."""
    parts = []
    for name in (*MAPS, *EXTRA_MAPS, "extra"):
        channels = map_channels(name)
        names = [name] if len(channels) == 1 else [f"{name} {axis}" for axis in ("xyz" if name == "normal" else "rgb")]
        for label, channel in zip(names, channels):
            if channel in constants:
                code, bits = constants[channel]
                parts.append(f"{label} {code}" + ("/65535" if bits == 16 else ""))
    return ", ".join(parts)
