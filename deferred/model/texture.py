"""A texture of learned channels on several levels that are added up."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

LEVELS = 4  # of a pyramid: 1, 1/2, 1/4, 1/8 of the size
INITIAL_DEVIATION = 0.01  # of the finest level's values


class LaplacianTexture(nn.Module):
    """`channels` values at each place of the texture: the sum of its levels, each sampled bilinearly.

    As in a Laplacian pyramid a level adds what the coarser ones below it cannot hold. Weight decay on the finer levels
    keeps them at 0 where the coarse ones do, so that texels which no frame has seen take on a blurred value.

    Args:
        height, width: of the finest level, in texels.
        pyramid: False for that level alone.
    """

    def __init__(self, channels: int, height: int, width: int, pyramid: bool = True):
        super().__init__()
        sizes = [(max(1, height >> level), max(1, width >> level)) for level in range(LEVELS if pyramid else 1)]
        self.levels = nn.ParameterList(nn.Parameter(torch.zeros(channels, *size)) for size in sizes)

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """The coarse levels to 0, the finest to N(0, 0.01)."""
        with torch.no_grad():
            for level in self.levels[1:]:
                level.zero_()
            self.levels[0].normal_(0, INITIAL_DEVIATION, generator=generator)

    def forward(self, uv: torch.Tensor) -> torch.Tensor:
        """(B, H, W, 2) places in [0, 1], u to the right and v down -> (B, C, H, W).

        Texel i covers i / size to (i + 1) / size, its value is that of its centre; beyond the outermost centres their
        values go on.
        """
        batch, height, width, _ = uv.shape
        # as one tall image: a texture expanded to the batch would get a gradient of that many times its size
        grid = (2 * uv - 1).reshape(1, batch * height, width, 2)
        total = None
        for level in self.levels:
            found = functional.grid_sample(level[None], grid, "bilinear", padding_mode="border", align_corners=False)
            total = found if total is None else total + found
        return total.view(-1, batch, height, width).transpose(0, 1)
