"""Weights of the maps in the loss: as configured, or balanced by the contrast of each map."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from dataset import Material
from maps.channels import CHANNELS, MAPS, map_slice

# A map below this variance is nearly flat and varies mostly by noise; without a floor it would take most of the bits.
LEAST_VARIANCE = 0.02**2  # of values in [0, 1]: 5 steps of 8 bits
TEXELS_AT_A_TIME = 2**20


def resolve_loss_weights(material: Material, setting: Mapping[str, float] | str) -> dict[str, float]:
    """The weight of every map.

    Args:
        setting: Config.texture_loss_weights: the weights themselves, or 'auto' for those of `balanced_weights`.
    """
    return balanced_weights(material) if setting == "auto" else dict(setting)


def balanced_weights(material: Material) -> dict[str, float]:
    """Weights that make each map's error count relative to the map's own contrast.

    The weight of a map is proportional to 1 / max(v, 0.02²), where v is the variance of its trained values in [0, 1] at
    LOD 0, averaged over its channels. The mean weight is 1. Weights are rounded to 4 digits, so that the printed values
    are those in use. Constant channels are left out; a map that has no others, or is missing, gets 1 without effect.
    """
    inverse = {}
    for name in material.present:
        varying = [i for i, c in enumerate(range(CHANNELS)[map_slice(name)]) if c not in material.constants]
        if varying:
            variance = math.fsum(channel_variances(material, name)[i] for i in varying) / len(varying)
            inverse[name] = 1 / max(variance, LEAST_VARIANCE)
    mean = math.fsum(inverse.values()) / max(len(inverse), 1)
    return {name: float(f"{inverse[name] / mean:.4g}") if name in inverse else 1.0 for name in MAPS}


def channel_variances(material: Material, map_name: str) -> list[float]:
    """Variance of the trained values, in [0, 1], of each channel of one map at LOD 0."""
    width, height = material.lod_sizes[0]
    step, codes = max(1, TEXELS_AT_A_TIME // width), np.arange(2 ** material.bit_depth[map_name])
    histograms = np.zeros((MAPS[map_name], len(codes)), np.int64)
    for first in range(0, height, step):
        block = material.stored(0, map_name, slice(first, first + step))
        for channel, histogram in enumerate(histograms):
            histogram += np.bincount(block[..., channel].ravel(), minlength=len(codes))
    values = codes / codes[-1]
    means = histograms @ values / (width * height)
    return [float(h @ (values - mean) ** 2) / (width * height) for h, mean in zip(histograms, means)]
