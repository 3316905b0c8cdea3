"""PatchGAN discriminators of all four maps: (B, 8, H, W) -> (B, 1, h, w) scores (Isola et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from neuropbr.train_config import ModelConfig
from neuropbr.utils.maps import MAPS


def join_maps(maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The maps' channels side by side, (B, 8, H, W)."""
    return torch.cat([maps[name] for name in MAPS], 1)


class PatchDiscriminator(nn.Module):
    """`n_layers` strided layers; a score sees 70, 142, 286, 574 texels across for 3, 4, 5, 6 of them."""

    def __init__(self, in_channels: int, ndf: int, n_layers: int, use_sigmoid: bool, instance_norm: bool = False):
        super().__init__()
        norm = nn.InstanceNorm2d if instance_norm else nn.BatchNorm2d
        widths = [ndf * min(2**i, 8) for i in range(n_layers + 1)]
        layers: list[nn.Module] = [nn.Conv2d(in_channels, ndf, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        strides = [2] * (n_layers - 1) + ([] if instance_norm else [1])
        for inputs, outputs, stride in zip(widths, widths[1:], strides):
            layers += [nn.Conv2d(inputs, outputs, 4, stride, 1, bias=False), norm(outputs), nn.LeakyReLU(0.2, True)]
        layers.append(nn.Conv2d(widths[len(strides)], 1, 4, 1, 1))
        self.layers = nn.Sequential(*layers, *([nn.Sigmoid()] if use_sigmoid else []))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0, 0.02)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.layers(maps)


def build_discriminator(model: ModelConfig) -> PatchDiscriminator:
    """The discriminator of a ModelConfig; `simple` has four strided layers, instance norm and one layer less."""
    simple = model.discriminator_type == "simple"
    layers = min(4, model.discriminator_n_layers) if simple else model.discriminator_n_layers
    channels = sum(MAPS.values())
    return PatchDiscriminator(channels, model.discriminator_ndf, layers, model.discriminator_use_sigmoid, simple)
