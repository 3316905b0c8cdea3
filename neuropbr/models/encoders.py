"""Encoders: one view (B, 3, H, W) -> skips, shallow to deep, and a latent at a sixteenth or less of its side.

Each has `skip_channels` and `latent_channels`, so that the decoder is built without a forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from torch import nn

from common.errors import UserError, what_is_wrong
from neuropbr.train_config import ModelConfig

Features = tuple[list[torch.Tensor], torch.Tensor]

MOBILENET_SKIPS = {"mobilenet_v3_large": (1, 3, 6, 12), "mobilenet_v3_small": (0, 1, 3, 8)}  # last layers of a size


def torchvision_network(name: str, pretrained: bool) -> nn.Module:
    """A network of torchvision with its ImageNet weights, or with new ones. Raises: UserError without the weights."""
    if not pretrained:
        return torchvision.models.get_model(name, weights=None)
    try:
        return torchvision.models.get_model(name, weights="DEFAULT")
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a file cut short is a RuntimeError
        raise UserError(
            f"model.pretrained: expected the ImageNet weights of {name} in the torch hub cache or to download, found "
            f"{what_is_wrong(error)}; try again with a network, or train from scratch with --no-pretrained"
        ) from error


def adapt_stem(stem: nn.Conv2d, in_channels: int, stride: int) -> nn.Conv2d:
    """The first layer with another stride and number of inputs; weights are kept, or averaged and repeated."""
    new = nn.Conv2d(in_channels, stem.out_channels, stem.kernel_size, stride, stem.padding, bias=stem.bias is not None)
    with torch.no_grad():
        weight = stem.weight
        if in_channels != weight.shape[1]:
            weight = weight.mean(1, keepdim=True).repeat(1, in_channels, 1, 1) * (weight.shape[1] / in_channels)
        new.weight.copy_(weight)
    return new


class Encoder(nn.Module):
    """Stages one after the other; the last one's result is the latent, those before are skips."""

    stages: nn.ModuleList
    skip_channels: tuple[int, ...]
    latent_channels: int

    def forward(self, x: torch.Tensor) -> Features:
        results = []
        for stage in self.stages:
            x = stage(x)
            results.append(x)
        return results[:-1], results[-1]


class ResNetEncoder(Encoder):
    """resnet18 to resnet152. Skips at 1, 1/2, 1/4, 1/8 of the side for stride 1, half of that for stride 2."""

    def __init__(self, name: str, stride: int, in_channels: int, pretrained: bool):
        super().__init__()
        net = torchvision_network(name, pretrained)
        stem = adapt_stem(net.conv1, in_channels, stride)
        self.stages = nn.ModuleList(
            [
                nn.Sequential(stem, net.bn1, net.relu),
                nn.Sequential(net.maxpool, net.layer1),
                net.layer2,
                net.layer3,
                net.layer4,
            ]
        )
        widths = (64, 64, 128, 256, 512) if name in ("resnet18", "resnet34") else (64, 256, 512, 1024, 2048)
        self.skip_channels, self.latent_channels = widths[:4], widths[4]


class MobileNetEncoder(Encoder):
    """mobilenet_v3_large or _small. Four skips, the first at the stem's size; latent at a sixteenth of that."""

    def __init__(self, name: str, stride: int, in_channels: int, pretrained: bool):
        super().__init__()
        layers = torchvision_network(name, pretrained).features
        layers[0][0] = adapt_stem(layers[0][0], in_channels, stride)
        ends = (*(end + 1 for end in MOBILENET_SKIPS[name]), len(layers))
        starts = (0, *ends[:-1])
        self.stages = nn.ModuleList(nn.Sequential(*layers[start:end]) for start, end in zip(starts, ends))
        widths = [_out_channels(layers[end - 1]) for end in ends]
        self.skip_channels, self.latent_channels = tuple(widths[:-1]), widths[-1]


def _out_channels(layer: nn.Module) -> int:
    return [part for part in layer.modules() if isinstance(part, nn.Conv2d)][-1].out_channels


def double_conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Twice 3x3 convolution, batch norm, ReLU."""
    layers: list[nn.Module] = []
    for inputs, step in ((in_channels, stride), (out_channels, 1)):
        layers += [nn.Conv2d(inputs, out_channels, 3, step, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(True)]
    return nn.Sequential(*layers)


class UNetEncoder(Encoder):
    """Plain convolutions, the first level at the input's side / stride, each further one at half the side before."""

    def __init__(self, channels: Sequence[int], stride: int, in_channels: int):
        super().__init__()
        strides = [stride] + [2] * (len(channels) - 1)
        pairs = zip((in_channels, *channels), channels, strides)
        self.stages = nn.ModuleList(double_conv(*pair) for pair in pairs)
        self.skip_channels, self.latent_channels = tuple(channels[:-1]), channels[-1]


def build_encoder(model: ModelConfig, pretrained: bool) -> Encoder:
    """The encoder of a ModelConfig."""
    stride, inputs = model.encoder_stride, model.encoder_in_channels
    if model.encoder_type == "unet":
        return UNetEncoder(model.encoder_channels, stride, inputs)
    kind = ResNetEncoder if model.encoder_type == "resnet" else MobileNetEncoder
    return kind(model.encoder_backbone, stride, inputs, pretrained)
