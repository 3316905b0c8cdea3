"""Search of BC1 blocks, the reference for any device: improves the end points and indices of a trained model.

The counterpart of code_search.py, where the unit is the block. A sweep tries the weights of each block in order of what
the gradient of the error promises, then its end points: one code up or down, against the gradient. A weight moves one
texel along the line between the end points, a component of an end point all texels. What lowers the squared error of
those texels of the material that read the block stays.

Files swap end points and mirror places where the order of the two demands it, so no step is out of reach.
"""

from __future__ import annotations

import torch

import blocks
from engine.torch.level_search import FAILURES, LevelSearch, PerUnit

# Failures in a row that end the search of a block's end points: NT_SEARCH_END_FAILURES of engine/cpu/src/nt.h. Such a
# try costs as much as six of weights.
END_FAILURES = 1


class BlockSearch(LevelSearch):
    """The search of one level of BC1 blocks."""

    def search(self, mine: PerUnit) -> int:
        top = (1 / blocks.rounding_steps(self.values.device)).round()  # largest code of each parameter
        promise, errors = self.gradient() / top, self.errors()
        ends, weights = self.values[..., : blocks.WEIGHT], self.values[..., blocks.WEIGHT :]
        halves = [blocks.end_point_codes(end) for end in ends.split(blocks.FEATURES, dim=-1)]
        moved = torch.cat([*halves, blocks.weight_codes(weights)], dim=-1) - promise.sign()
        possible = (moved >= 0) & (moved <= top) & (promise != 0) & mine[..., None]
        order = torch.where(possible, promise.abs(), -1.0)
        changed = 0
        for part, failures in ((slice(blocks.WEIGHT, None), FAILURES), (slice(blocks.WEIGHT), END_FAILURES)):
            first = part.start or 0
            ranks = order[..., part].sort(dim=-1, descending=True, stable=True).indices + first
            errors, here = self.descend(errors, ranks, moved / top - 0.5, possible, failures)
            changed += here
        return changed
