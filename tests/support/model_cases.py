"""What the tests of model.py share: models of every kind, and positions at which they can be compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model import NeuralTexture
from shape import DecoderSpec, GridSpec

# id: (grids, decoder, num_lods). Odd and tiny grids, levels fewer and more than LODs, every kind of input.
CASES = {
    "one linear": ([GridSpec(8, 3, 4, 16)], DecoderSpec(3, 16, 2), 4),
    "three linear": (
        [GridSpec(12, 3, 8, 32), GridSpec(5, 1, 2, 8), GridSpec(2, 2, 16, 64)], DecoderSpec(12, 32, 2), 6,
    ),
    "linear, texel waves": ([GridSpec(6, 2, 4, 8), GridSpec(3, 1, 1, 8)], DecoderSpec(2, 16, 1, 2), 4),
    "one learned": ([GridSpec(6, 2, 4, 16, "learned")], DecoderSpec(3, 16, 2, 3), 4),
    "learned and linear": ([GridSpec(10, 2, 8, 16, "learned"), GridSpec(3, 1, 1, 8)], DecoderSpec(5, 32, 1, 3), 5),
    "linear and learned": ([GridSpec(4, 3, 2, 8), GridSpec(7, 1, 8, 8, "learned")], DecoderSpec(1, 16, 3, 9), 3),
    "no padding": ([GridSpec(4, 2, 16, 16)], DecoderSpec(7, 16, 1), 3),
    "no waves, no hidden layer": ([GridSpec(4, 1, 8, 32)], DecoderSpec(0, 16, 0), 3),
    "one LOD": ([GridSpec(4, 2, 8, 16)], DecoderSpec(2, 16, 1), 1),
    "1x1 grids": ([GridSpec(1, 1, 8, 32), GridSpec(1, 1, 4, 8, "learned")], DecoderSpec(2, 16, 1, 1), 1),
    "hard swish": ([GridSpec(4, 2, 2, 8, "learned")], DecoderSpec(2, 16, 2, 1, "hard_swish"), 3),
    "blocks": (
        [GridSpec(24, 3, 0, 4, "linear", "bc1"), GridSpec(7, 1, 0, 4, "linear", "bc1")], DecoderSpec(2, 16, 1), 5,
    ),
    "learned blocks": (
        [GridSpec(12, 3, 0, 4, "learned", "bc1"), GridSpec(5, 1, 4, 16), GridSpec(2, 2, 0, 4, "linear", "bc1")],
        DecoderSpec(0, 32, 2, 3, "hard_swish"), 4,
    ),
    "LODs that share the finest level": (
        [GridSpec(8, 3, 4, 16, finest_lods=2), GridSpec(8, 2, 0, 4, "linear", "bc1", 3)], DecoderSpec(2, 16, 1, 2), 5,
    ),
    "wide and high": ([GridSpec((24, 4), 3, 4, 16), GridSpec((3, 7), 1, 8, 8)], DecoderSpec(3, 16, 1, 2), 5),
    "high and learned": (
        [GridSpec((2, 16), 2, 2, 8, "learned"), GridSpec((9, 2), 1, 4, 8)], DecoderSpec(2, 16, 1, 3), 5,
    ),
    "wide and high blocks": (
        [GridSpec((24, 4), 2, 0, 4, "learned", "bc1"), GridSpec((3, 10), 1, 0, 4, "linear", "bc1")],
        DecoderSpec(2, 16, 1, 2), 5,
    ),
    "steep leak": ([GridSpec(4, 2, 8, 16)], DecoderSpec(2, 16, 2, 0, "leaky_relu", 0.2), 3),
}  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES)
# float32 against float64, 2026: worst seen 1.4e-6 forward, 2e-6 of the largest gradient
FORWARD_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 3e-5


def make_model(case, seed=0, **options) -> NeuralTexture:
    """A model with features that saturate, weights that keep the outputs around 1, and every input in use."""
    grids, decoder, num_lods = CASES[case]
    model = NeuralTexture(grids, decoder, num_lods, seamless=False, seed=seed, **options)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameters in model.grid_parameters:
            parameters.copy_(torch.rand(parameters.shape, generator=generator) * 1.2 - 0.6)
    return model


def positions(model: NeuralTexture, n: int, low=-1.5, high=2.5, seed=0) -> torch.Tensor:
    """Random uv in 2**-16 steps, so that wrapping is exact in float32, and off the lines where the texels change.

    On such a line `learned` jumps, and which side a position falls on is a matter of the last bit.
    """
    random = np.random.default_rng(seed)
    kept = np.empty((0, 2))
    while len(kept) < n:
        uv = random.integers(int(low * 65536), int(high * 65536), (4 * n, 2)) / 65536
        good = np.ones(len(uv), bool)
        for grid in model.grids:
            for level in range(grid.n_levels):
                p = uv * grid.level_size(level) - 0.5
                good &= (np.abs(p - np.round(p)) > 1e-4).all(axis=1)
        kept = np.concatenate([kept, uv[good]])
    return torch.from_numpy(kept[:n].astype(np.float32))


def lods_of(model: NeuralTexture, n: int, fractional: bool) -> torch.Tensor:
    if not fractional:
        return torch.arange(n) % model.num_lods
    lods = torch.arange(n) * 0.3125 % max(model.num_lods - 1, 1)
    lods[-1] = model.num_lods - 1  # the last LOD has no second neighbour
    return lods.clamp(max=model.num_lods - 1)
