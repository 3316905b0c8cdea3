"""Code search, the reference for any device: improves the codes of a trained model one at a time.

Training with straight-through rounding ends at codes that a single step can often improve. A sweep visits each texel of
a grid level and tries its features in order of the size of their gradient. A try moves one code up or down, against the
gradient, and stays if it lowers the squared error of those texels of the material that read the grid texel. This is
coordinate descent on the very error that is measured, so a sweep never makes it larger.

Texels of a grid that no texel of the material reads together are searched at the same time: every other column and row,
and the last one of an odd number by itself. The result does not depend on the order within such a class, so all
implementations find the same codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from dataset import Material
from engine.torch.block_search import BlockSearch
from engine.torch.level_search import LevelSearch, LodWeights, PerUnit, Weights
from model import NeuralTexture
from quantize import codes_from_features, features_from_codes

# Most features of a texel that are tried: NT_SEARCH_TRIED of engine/cpu/src/nt.h. On Rock058 this and FAILURES find as
# much as 4 tries with any number of failures, 34.67 dB at 2.5 bpp and 41.38 at 10, and the second sweep at 10 bpp takes
# a fifth less time.
FEATURES_TRIED = 8
FAILURES = 2  # in a row that end the search of a texel: NT_SEARCH_FAILURES


class CodeSearch(Protocol):
    """One sweep over a grid level: search_level, or an implementation of it."""

    def __call__(
        self, model: NeuralTexture, material: Material, planes: range, level: int, channels: Sequence[int],
        channel_weights: Weights, lod_weights: LodWeights,
    ) -> int:  # fmt: skip
        """See search_level."""


def search_level(
    model: NeuralTexture, material: Material, planes: range, level: int, channels: Sequence[int],
    channel_weights: Weights, lod_weights: LodWeights,
) -> int:  # fmt: skip
    """One sweep over a level of a grid, or of successive grids of one shape, which changes the model's parameters.

    Args:
        planes: which grids, see shape.planes_of.
        material: on the model's device.
        channels: the canonical channels whose error counts.
        channel_weights: of each of `channels`.
        lod_weights: of the squared error of one texel of each LOD.
    Returns: the number of changed codes.
    """
    kind = BlockSearch if model.grids[planes[0]].compressed else _TexelSearch
    return kind(model, material, planes, level, channels, channel_weights, lod_weights).sweep()


class _TexelSearch(LevelSearch):
    """The search of packed codes."""

    def search(self, mine: PerUnit) -> int:
        bits, n = self.grid.quantize_bits, 1 << self.grid.quantize_bits
        (values,), (gradient,), least = self.planes, self.gradients(), self.errors()
        codes = codes_from_features(values, bits)
        moved = codes - gradient.sign().to(codes.dtype)
        possible = (moved >= 0) & (moved < n) & (gradient != 0) & mine[..., None]
        order = torch.where(possible, gradient.abs(), -1.0).sort(dim=-1, descending=True, stable=True).indices
        _, changed = self.descend(
            values, least, order[..., :FEATURES_TRIED], features_from_codes(moved, bits), possible, FAILURES
        )
        return changed
