"""The last steps of a decode, texel by texel: from what the network says to the values of the source files."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torchtyping import TensorType

from dataset import to_file_space
from maps.channels import CHANNELS, MAPS, map_slice
from maps.mips import linear_to_srgb, round_to_codes
from maps.record import Constant, MapRecord, MaterialRecord

Decoded = TensorType[..., CHANNELS]
Vectors = TensorType["n", 3]

NORMAL = map_slice("normal")
TEXELS_AT_A_TIME = 2**20
SHORTEST = 1e-6  # a vector below it has no direction


def in_file_space(decoded: Decoded, material: MaterialRecord, constants: Mapping[int, Constant]) -> Decoded:
    """Decoded values as they ship, and as they are scored.

    In this order: an sRGB diffuse that was trained in linear light is encoded again; where the source's normals are
    unit vectors, so are the decoded ones; constant channels get exactly the files' value.

    Args:
        decoded: (..., 11) float32; its numbers may be overwritten.
        constants: NeuralTexture.constants.
    Returns: (..., 11), not clamped.
    """
    diffuse, normal = material.map("diffuse"), material.map("normal")
    values = to_file_space(decoded) if diffuse and diffuse.color_space != diffuse.file_color_space else decoded
    fixed = file_values(constants, material)
    if normal and normal.unit_normals:
        axes = {channel - NORMAL.start: fixed[channel] for channel in range(CHANNELS)[NORMAL] if channel in fixed}
        texels = values.reshape(-1, CHANNELS)  # a copy, where the values do not lie one after the other
        for block in texels.split(TEXELS_AT_A_TIME):
            block[:, NORMAL] = unit_normals(block[:, NORMAL], axes)
        values = texels.view(values.shape)
    for channel, value in fixed.items():
        values[..., channel] = value
    return values


def file_values(constants: Mapping[int, Constant], material: MaterialRecord) -> dict[int, float]:
    """channel -> `file_value` of those constants whose map the material has; arguments as of in_file_space."""
    return {
        channel: file_value(constant, entry)
        for entry in material.maps
        for channel, constant in constants.items()
        if channel in entry.channels
    }


def file_value(constant: Constant, entry: MapRecord) -> float:
    """The value in [0, 1] that the file has for a constant: of its own bits where training has others."""
    if entry.color_space == entry.file_color_space:
        return constant.value
    top = 2**entry.bit_depth - 1
    code = round_to_codes(linear_to_srgb(np.float64(constant.value)) * top, np.dtype(f"uint{entry.bit_depth}"))
    return int(code) / top


def unit_normals(values: Vectors, fixed: Mapping[int, float] | None = None) -> Vectors:
    """Normals of any length as unit vectors: n = 2 v - 1, n / |n|, (n + 1) / 2; no direction becomes (0, 0, 1).

    Args:
        values: (n, 3) float32, nominally in [0, 1].
        fixed: axis -> value in [0, 1] of an axis that is known. The others then share what is left of the length.
            Nothing is done where z is known: near 1, a rounding of it is more than the length of x and y.
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
    """'metallic 255, normal z 32768/65535': the constants for a reader, 16-bit codes with their top; '' for none."""
    parts = []
    for name in MAPS:
        channels = range(CHANNELS)[map_slice(name)]
        names = [name] if len(channels) == 1 else [f"{name} {axis}" for axis in ("rgb" if name == "diffuse" else "xyz")]
        for label, channel in zip(names, channels):
            if channel in constants:
                code, bits = constants[channel]
                parts.append(f"{label} {code}" + ("/65535" if bits == 16 else ""))
    return ", ".join(parts)
