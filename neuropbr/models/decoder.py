"""The decoder: from the fused latent and skips to features, super-resolution, and a head per map."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from neuropbr.models.encoders import double_conv
from neuropbr.utils.maps import FLAT, MAPS, unit

WIDTH = 64  # channels of the heads' input


def conv(in_channels: int, out_channels: int, size: int = 3) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False),
        nn.BatchNorm2d(out_channels), nn.ReLU(True),
    )  # fmt: skip


def grown(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return F.interpolate(x, size=list(size), mode="bilinear", align_corners=False)


class UpBlock(nn.Module):
    """Upsample to the size of the skip, then convolve both together."""

    def __init__(self, in_channels: int, skip: int):
        super().__init__()
        self.out_channels = skip if skip <= WIDTH else skip // 2
        self.reduce = conv(in_channels, self.out_channels)
        self.join = double_conv(self.out_channels + skip, self.out_channels)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.join(torch.cat([skip, self.reduce(grown(x, skip.shape[-2:]))], 1))


def sub_pixel_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Twice the side by a sub-pixel convolution (Shi et al. 2016), batch norm, ReLU.

    The four texels that a place becomes start with the same weights (ICNR, Aitken et al. 2017) and share their norm's
    scale, so that there is no checkerboard but what training asks for.
    """
    wide = nn.Conv2d(in_channels, 4 * out_channels, 3, padding=1, bias=False)
    with torch.no_grad():  # PixelShuffle reads channels 4c to 4c + 3 as the texels of channel c
        wide.weight.copy_(wide.weight[::4].repeat_interleave(4, 0))
    return nn.Sequential(wide, nn.PixelShuffle(2), nn.BatchNorm2d(out_channels), nn.ReLU(True))


def super_resolution(scale: int) -> nn.Sequential:
    """WIDTH channels in and out, `scale` 1, 2 or 4 times the side; half as many at the last size, which costs most."""
    layers: list[nn.Module] = []
    for side in [2**i for i in range(1, 3) if 2**i <= scale]:
        layers += [conv(WIDTH, WIDTH), sub_pixel_conv(WIDTH, WIDTH // 2 if side == scale else WIDTH)]
    ending = [conv(WIDTH // 2, WIDTH // 2), nn.Conv2d(WIDTH // 2, WIDTH, 1)]
    return nn.Sequential(*layers, *(ending if layers else []))


class PBRDecoder(nn.Module):
    """(B, latent, h, w) and skips, shallow to deep -> name -> (B, C, H, W) as utils.maps has it."""

    def __init__(self, latent: int, skips: Sequence[int], sr_scale: int):
        super().__init__()
        self.scale = max(sr_scale, 1)
        self.blocks = nn.ModuleList()
        for skip in reversed(skips):
            self.blocks.append(UpBlock(latent, skip))
            latent = self.blocks[-1].out_channels
        self.widen = nn.Conv2d(latent, WIDTH, 1) if latent != WIDTH else nn.Identity()
        self.sr = super_resolution(self.scale)
        self.heads = nn.ModuleDict({name: nn.Conv2d(WIDTH, channels, 1) for name, channels in MAPS.items()})
        with torch.no_grad():  # keeps the length of initial normals away from 0
            self.heads["normal"].bias.copy_(torch.tensor(FLAT))

    def head_values(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """All heads as one convolution, which reads the network's largest tensor once instead of four times."""
        weight, bias = (torch.cat([getattr(head, kind) for head in self.heads.values()]) for kind in ("weight", "bias"))
        values = F.conv2d(x, weight, bias).float()
        return dict(zip(self.heads, values.split([MAPS[name] for name in self.heads], 1)))

    def forward(
        self, x: torch.Tensor, skips: Sequence[torch.Tensor], size: Sequence[int], call: Callable
    ) -> dict[str, torch.Tensor]:
        """size: (H, W) of the result; call(module, *inputs) runs a block, with checkpointing or without."""
        for block, skip in zip(self.blocks, reversed(skips)):
            x = call(block, x, skip)
        x = call(self.sr, self.widen(x))
        if tuple(x.shape[-2:]) != tuple(size):  # a side that the stride does not divide
            x = grown(x, size)
        maps = self.head_values(x)
        return {name: unit(v, 1) if name == "normal" else v.sigmoid() for name, v in maps.items()}
