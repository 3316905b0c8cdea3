"""The U-Net that turns sampled features into an image."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from deferred.tensors import Images

STRIDE = 32  # five halvings
MIN_SIZE = 2 * STRIDE  # 2 x 2 values in the innermost layer: instance norm of a single value is 0
SLOPE = 0.2  # of the leaky ReLU, as in pix2pix (Isola et al. 2017)
# Each of the 3 taps of a convolution of doubled values as 4 taps of a transposed convolution of the values.
SPREAD = ((1.0, 1.0, 0.0, 0.0), (0.0, 1.0, 1.0, 0.0), (0.0, 0.0, 1.0, 1.0))


class ResizeConv(nn.ConvTranspose2d):
    """Nearest-neighbour doubling, then a 3 x 3 convolution (Odena et al. 2016, "Deconvolution and Checkerboard
    Artifacts", doi:10.23915/distill.00003).

    Computed as the transposed 4 x 4 convolution of stride 2 that is the same function, which takes 4 products for an
    output value in place of 9. All four phases of its kernel have one sum, so that a constant stays a constant; those
    of a free transposed kernel have four sums, which is what makes a checkerboard.

    weight: (channels, made, 3, 3), turned by 180 degrees, as that of a transposed convolution.
    """

    def __init__(self, channels: int, made: int):
        super().__init__(channels, made, 3)

    def forward(self, x: Images) -> Images:
        """(B, channels, H, W) -> (B, made, 2 H, 2 W)."""
        spread = self.weight.new_tensor(SPREAD)
        kernel = self.weight.flatten(2) @ torch.kron(spread, spread)
        return functional.conv_transpose2d(x, kernel.unflatten(2, (4, 4)), self.bias, stride=2, padding=1)


class UNet(nn.Module):
    """Five halvings and five doublings with skip connections; 4 x 4 convolutions of stride 2.

    Channels: 1, 2, 4, 8, 8 times `width` on the way down, in reverse on the way up. Instance norm follows every layer
    but the last, because a normalised image could not be bright or dark everywhere. The last layer ends in a sigmoid.

    Args:
        channels: of the input.
        width: channels of the first layer; 64 is the original's.
        upsampling: "transposed" is the original's; with "resize" the image also reads the input through a 3 x 3
            convolution: a resize-convolution alone hardly makes the finest detail.
    """

    def __init__(self, channels: int, width: int = 64, upsampling: str = "transposed"):
        super().__init__()
        down = [channels, width, 2 * width, 4 * width, 8 * width, 8 * width]
        made = [8 * width, 8 * width, 4 * width, 2 * width, 3]  # on the way up; all but the first also read a skip
        up = zip([down[5], *(own + down[4 - i] for i, own in enumerate(made))], made)
        self.down = nn.ModuleList(nn.Conv2d(*pair, 4, stride=2, padding=1) for pair in zip(down, down[1:]))
        self.direct = None
        if upsampling == "resize":
            self.up = nn.ModuleList(ResizeConv(*pair) for pair in up)
            self.direct = nn.Conv2d(channels, 3, 3, padding=1, bias=False)
        else:
            self.up = nn.ModuleList(nn.ConvTranspose2d(*pair, 4, stride=2, padding=1) for pair in up)

    def forward(self, features: Images) -> Images:
        """(B, channels, H, W) of any size -> (B, 3, H, W) in [0, 1]."""
        height, width = features.shape[-2:]
        x = functional.pad(features, (0, _padding(width), 0, _padding(height)))
        padded, skips = x, []
        for layer in self.down:
            x = _activated(layer(x))
            skips.append(x)
        skips.pop()
        for layer in self.up[:-1]:
            x = torch.cat([_activated(layer(x)), skips.pop()], dim=1)
        image = self.up[-1](x)
        if self.direct is not None:
            image = image + self.direct(padded)
        return torch.sigmoid(image)[..., :height, :width]


def _padding(size: int) -> int:
    """Pixels that pad a side to a multiple of STRIDE and to at least MIN_SIZE."""
    return max(MIN_SIZE, -(-size // STRIDE) * STRIDE) - size


def _activated(x: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(functional.instance_norm(x), SLOPE)
