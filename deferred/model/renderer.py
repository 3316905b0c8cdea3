"""Texture, harmonics and U-Net as one model: uv maps and directions in, images out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from deferred.model.harmonics import N_HARMONICS, spherical_harmonics
from deferred.model.texture import LaplacianTexture
from deferred.model.unet import UNet
from deferred.tensors import Colours, Directions, Images, Masks, Uv

COLOURS = 3  # the first channels of a texture
VIEW_CHANNELS = slice(COLOURS, COLOURS + N_HARMONICS)  # multiplied by the harmonics of the view direction


@dataclass(frozen=True)
class Form:
    """The sizes and parts of a model. unet_width: 0 for a texture alone; upsampling: see UNet."""

    texture_dim: int
    textureh: int
    texturew: int
    use_pyramid: bool
    view_direction: bool
    unet_width: int
    upsampling: str = "transposed"  # of checkpoints that do not name it


class NeuralRenderer(nn.Module):
    """A neural texture and, unless form.unet_width is 0, a U-Net behind it."""

    def __init__(self, form: Form):
        super().__init__()
        self.form = form
        self.texture = LaplacianTexture(form.texture_dim, form.textureh, form.texturew, form.use_pyramid)
        self.unet = UNet(form.texture_dim, form.unet_width, form.upsampling) if form.unet_width else None

    def forward(self, uv: Uv, direction: Directions, mask: Masks) -> tuple[Images, Images | None]:
        """The colour of the texture, and the U-Net's image (None without a U-Net): (B, 3, H, W), 0 outside of `mask`.

        Args:
            uv: (B, H, W, 2) in [0, 1].
            direction: (B, 1, 1, 3) or (B, H, W, 3), unit vectors to the camera.
            mask: (B, H, W), 1 on the surface, else 0.
        """
        features = self.texture(uv) * mask[:, None]
        colour = features[:, :COLOURS]
        if self.unet is None:
            return colour, None
        if self.form.view_direction:
            harmonics = spherical_harmonics(direction).permute(0, 3, 1, 2)
            seen = features[:, VIEW_CHANNELS] * harmonics
            features = torch.cat([colour, seen, features[:, VIEW_CHANNELS.stop :]], dim=1)
        return colour, self.unet(features) * mask[:, None]

    def texture_image(self) -> Colours:
        """(H, W, 3): the colour of the texture at the centres of its finest texels, in [0, 1]."""
        height, width = self.form.textureh, self.form.texturew
        weight = self.texture.levels[0]
        v = (torch.arange(height, device=weight.device) + 0.5) / height
        u = (torch.arange(width, device=weight.device) + 0.5) / width
        uv = torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1)[None]
        with torch.no_grad():
            return self.texture(uv)[0, :COLOURS].permute(1, 2, 0).clamp(0, 1)


def new_renderer(form: Form, seed: int) -> NeuralRenderer:
    """A model with initial values that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = NeuralRenderer(form)
        model.texture.initialise()
    return model


def restore(form: Form, state: Mapping[str, Any]) -> NeuralRenderer:
    """The model of a state dict. Sizes are compared before memory is allocated.

    Raises: ValueError, RuntimeError for tensors that do not fit.
    """
    with torch.device("meta"):
        model = NeuralRenderer(form)
    for name, value in state.items():
        dense = isinstance(value, torch.Tensor) and value.dtype == torch.float32 and value.is_contiguous()
        if not dense or not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name:.40} is no tensor of finite numbers")
    model.load_state_dict({name: value.clone() for name, value in state.items()}, assign=True)
    return model


def place_colours(model: NeuralRenderer, colours: LaplacianTexture, views: bool) -> None:
    """Copy a texture's colours into the first channels of a model's texture, whose levels have the same sizes.

    views: set the channels of the harmonics to 1 and all others to 0, so that a U-Net on a frozen colour texture gets
    the harmonics themselves.
    """
    with torch.no_grad():
        for own, given in zip(model.texture.levels, colours.levels):
            if views:
                own[COLOURS:] = 0
            own[:COLOURS] = given[:COLOURS]
        if views and model.form.view_direction:
            model.texture.levels[-1][VIEW_CHANNELS] = 1
