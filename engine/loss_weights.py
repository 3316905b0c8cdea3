"""Weights of the maps in the loss: as configured, or balanced by the contrast of each map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Union

import numpy as np

from dataset import Material
from maps.channels import MAPS, map_channels, map_size

# A map below this variance is nearly flat and varies mostly by noise; without a floor it would take most of the bits.
LEAST_VARIANCE = 0.02**2  # of values in [0, 1]: 5 steps of 8 bits
TEXELS_AT_A_TIME = 2**20
# Relative error of light over that of its code, up to which light above 1 counts as other maps: what an sRGB map has at
# white. At 512 x 512 and 5 bpp, peak 50, s = 1 / 4, light everywhere beside the maps of data/test, of which no code is
# cheap, has a median error of 3.3 % with weight 1, 2.3 % with 4, 1.9 % with 8, 1.3 % with 16; the other maps lose 0.3,
# 0.5 and 0.9 dB. Beside smooth maps it has 0.7 % with weight 1, 0.5 % with 4.
LIGHT_SPAN = 2.2

MapWeights = Mapping[str, Union[float, Sequence[float]]]  # of each map, or of each of its channels


def channel_weights(weights: MapWeights, name: str) -> list[float]:
    """The weight of each channel of a map; 1 for one that is not listed."""
    weight = weights.get(name, 1.0)
    return list(weight) if isinstance(weight, (list, tuple)) else [weight] * map_size(name)


def resolve_loss_weights(material: Material, setting: MapWeights | str) -> MapWeights:
    """The weight of every map; those that are not listed have 1.

    Args:
        setting: Config.texture_loss_weights: the weights themselves, or 'auto' for those of `balanced_weights`.
    """
    return balanced_weights(material) if setting == "auto" else dict(setting)


def light_weight(material: Material, name: str) -> float:
    """How much more a map counts whose codes are logarithms, beside its weight in the configuration; 1: other maps.

    An error of t is one of ln(1 + high / s) t of bright light, see ranges.choose_log_scale: of two maps with the same
    error of their codes, the one with the larger range is worse. At least 1.
    """
    if name not in material.log_scale:
        return 1.0
    return max(1.0, (math.log1p(material.value_range[name][1] / material.log_scale[name]) / LIGHT_SPAN) ** 2)


def balanced_weights(material: Material) -> dict[str, float]:
    """Weights that make each map's error count relative to the map's own contrast.

    The weight of a map is proportional to 1 / max(v, 0.02²), where v is the variance of its trained values in [0, 1] at
    LOD 0, averaged over its channels. The mean weight is 1. Weights are rounded to 4 digits, so that the printed values
    are those in use. Constant channels are left out; a map that has no others, or is missing, gets 1 without effect.
    """
    inverse = {}
    for name in material.present:
        varying = [i for i, c in enumerate(map_channels(name)) if c not in material.constants]
        if varying:
            variance = math.fsum(channel_variances(material, name)[i] for i in varying) / len(varying)
            inverse[name] = 1 / max(variance, LEAST_VARIANCE)
    mean = math.fsum(inverse.values()) / max(len(inverse), 1)
    return {name: float(f"{inverse[name] / mean:.4g}") if name in inverse else 1.0
            for name in dict.fromkeys([*MAPS, *material.present])}  # fmt: skip


def channel_variances(material: Material, map_name: str) -> list[float]:
    """Variance of the trained values, in [0, 1], of each channel of one map at LOD 0."""
    width, height = material.lod_sizes[0]
    step, codes = max(1, TEXELS_AT_A_TIME // width), np.arange(2 ** material.bit_depth[map_name])
    histograms = np.zeros((map_size(map_name), len(codes)), np.int64)
    for first in range(0, height, step):
        block = material.stored(0, map_name, slice(first, first + step))
        for channel, histogram in enumerate(histograms):
            histogram += np.bincount(block[..., channel].ravel(), minlength=len(codes))
    values = codes / codes[-1]
    means = histograms @ values / (width * height)
    return [float(h @ (values - mean) ** 2) / (width * height) for h, mean in zip(histograms, means)]
