"""Search of grids of blocks, the reference for any device: improves the end points and indices of a trained model.

The counterpart of code_search.py, where the unit is the block. A sweep tries the weights of each block in order of what
the gradient of the error promises, then its end points: one code up or down, against the gradient. A weight moves one
texel along the line between the end points, a component of an end point all texels. What lowers the squared error of
those texels of the material that read the block stays.

Planes of one shape follow one another in each class of blocks; the promises of all are of before the first.

Files swap end points and mirror places where the order of the two demands it, so no step is out of reach.
"""

from __future__ import annotations

import torch

import blocks
from engine.torch.level_search import LevelSearch, Parameters, PerUnit

# Failures in a row that end the search of a block's weights, and of its end points: NT_SEARCH_WEIGHT_FAILURES and
# NT_SEARCH_END_FAILURES of engine/cpu/src/nt.h. A try of an end point costs as much as six of weights. In eight planes
# at 10 bpp, where the promises of the later ones are old, three failures find 0.03 dB more than two in the same time.
WEIGHT_FAILURES = 3
END_FAILURES = 1


class BlockSearch(LevelSearch):
    """The search of one level of blocks."""

    def search(self, mine: PerUnit) -> int:
        errors, changed = self.errors(), 0
        for values, gradient in zip(self.planes, self.gradients()):
            errors, here = self._search_plane(values, gradient, errors, mine)
            changed += here
        return changed

    def _search_plane(
        self, values: Parameters, gradient: Parameters, errors: PerUnit, mine: PerUnit
    ) -> tuple[PerUnit, int]:
        block, top = self.grid.block, blocks.top_codes(self.grid.block, values.device)
        promise = gradient / top
        ends, weights = values[..., : blocks.WEIGHT], values[..., blocks.WEIGHT :]
        halves = [blocks.end_point_codes(block, end) for end in ends.split(blocks.FEATURES, dim=-1)]
        moved = torch.cat([*halves, blocks.weight_codes(block, weights)], dim=-1) - promise.sign()
        possible = (moved >= 0) & (moved <= top) & (promise != 0) & mine[..., None]
        order = torch.where(possible, promise.abs(), -1.0)
        changed = 0
        for part, failures in ((slice(blocks.WEIGHT, None), WEIGHT_FAILURES), (slice(blocks.WEIGHT), END_FAILURES)):
            first = part.start or 0
            ranks = order[..., part].sort(dim=-1, descending=True, stable=True).indices + first
            errors, here = self.descend(values, errors, ranks, moved / top - 0.5, possible, failures)
            changed += here
        return errors, changed
