"""The least that an iteration of training has to compute and to move, whoever does it."""

from __future__ import annotations

import math

from dataset import Material
from engine.sampling import lod_shares
from model import NeuralTexture
from shape import TEXEL_OFFSETS

ADAM_BYTES = 6 * 4  # a float32 parameter and its two moments, each read and written


def multiply_adds(model: NeuralTexture) -> int:
    """Of the matrix products of one training sample: forward, and backward to the weights, the hidden layers and the
    features. Matrices as they are stored, padding included: tensor cores compute that too."""
    total = 0
    for number, weight in enumerate(model.weights):
        outputs, inputs = weight.shape
        wanted = inputs if number else sum(model.layout.features)  # nobody needs the gradient of a wave
        total += outputs * (2 * inputs + wanted)
    return total


def least_bytes(model: NeuralTexture, material: Material, batch_size: int) -> float:
    """Bytes that one iteration has to move to and from memory, if caches hold all else.

    Each sample's texel of the material, and each texel of a grid that any sample reads: its parameters and moments,
    read and written once. Gradients, weights and random numbers count as held in caches.
    """
    total = float(batch_size * (material.codes8.shape[1] + 2 * material.codes16.shape[1]))
    shares = lod_shares([width * height for width, height in material.lod_sizes]).tolist()
    for grid in model.grids:
        for level in range(grid.n_levels):
            texels = math.prod(grid.level_size(level))
            share = sum(share for lod, share in enumerate(shares) if grid.level_of(lod) == level)
            reads = batch_size * share * min(len(TEXEL_OFFSETS), texels)
            touched = texels * (1 - (1 - 1 / texels) ** reads) if texels > 1 else float(reads > 0)
            total += touched * grid.features * ADAM_BYTES
    return total

