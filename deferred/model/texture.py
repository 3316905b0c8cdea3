"""A texture with learned channels: the sum of several levels."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from deferred.tensors import Images, Uv

LEVELS = 4  # of a pyramid: 1, 1/2, 1/4, 1/8 of the size
INITIAL_DEVIATION = 0.01  # of the finest level's values


class LaplacianTexture(nn.Module):
    """The sum of its levels, each sampled bilinearly; `channels` values at each uv.

    As in a Laplacian pyramid a level adds the detail that coarser ones cannot hold. Weight decay, if any, keeps the
    finer levels at 0 where the coarse ones suffice, so that texels which no frame has seen get a blurred value.

    Args:
        height, width: of the finest level, in texels.
        pyramid: False for that level alone.
    """

    def __init__(self, channels: int, height: int, width: int, pyramid: bool = True):
        super().__init__()
        sizes = [(max(1, height >> level), max(1, width >> level)) for level in range(LEVELS if pyramid else 1)]
        self.levels = nn.ParameterList(nn.Parameter(torch.zeros(channels, *size)) for size in sizes)

    def initialise(self) -> None:
        """Set the coarse levels to 0, and draw the finest from N(0, INITIAL_DEVIATION)."""
        with torch.no_grad():
            for level in self.levels[1:]:
                level.zero_()
            self.levels[0].normal_(0, INITIAL_DEVIATION)

    def forward(self, uv: Uv) -> Images:
        """(B, H, W, 2) uv in [0, 1], u to the right and v down -> (B, C, H, W).

        Texel i covers i / size to (i + 1) / size and has its value at its centre; addresses are clamped at the borders.
        """
        batch, height, width, _ = uv.shape
        # the batch as one tall image: expanding the texture to the batch would multiply the size of its gradient
        grid = (2 * uv - 1).reshape(1, batch * height, width, 2)
        total = None
        for level in self.levels:
            found = functional.grid_sample(level[None], grid, "bilinear", padding_mode="border", align_corners=False)
            total = found if total is None else total + found
        return total.view(-1, batch, height, width).transpose(0, 1)
