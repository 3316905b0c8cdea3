"""The network for phones: from three RGB images to four images, all in 0 to 255, with normalisation inside."""

from __future__ import annotations

import torch
from torch import nn

from common.errors import UserError
from neuropbr.models.generator import MultiViewPBRGenerator
from neuropbr.train_config import TrainConfig
from neuropbr.utils.maps import MAPS, VIEWS

INPUTS = tuple(f"view{i + 1}" for i in range(VIEWS))
OUTPUTS = tuple(MAPS)


class ImageModel(nn.Module):
    """view1, view2, view3 (1, 3, H, W) in 0..255 -> albedo (1, 3, h, w), roughness, metallic (1, 1, h, w), normal.

    Outputs are in 0..255, normals as (n + 1) / 2 * 255.
    """

    def __init__(self, model: nn.Module, config: TrainConfig):
        super().__init__()
        self.model = model
        mean, std = (torch.tensor(list(v)).reshape(1, 3, 1, 1) for v in (config.transform.mean, config.transform.std))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, view1: torch.Tensor, view2: torch.Tensor, view3: torch.Tensor) -> tuple[torch.Tensor, ...]:
        views = torch.stack([view * self.scale + self.shift for view in (view1, view2, view3)], 1)
        maps = self.model(views)
        return tuple(((maps[name] + 1) / 2 if name == "normal" else maps[name]) * 255 for name in OUTPUTS)


def mobile_model(
    model: MultiViewPBRGenerator, config: TrainConfig, side: int | None, use_sr: bool
) -> tuple[ImageModel, int]:
    """(the wrapper in eval mode, the input's side in pixels), with the weights as trained.

    Args:
        side: --test-resolution; None: the input size of the training.
        use_sr: keep the super-resolution head with `side`; else the maps have the size of the decoder's features.
    Raises: UserError for an input that is not square.
    """
    height, width = config.data.image_size
    if side is None:
        if height != width:
            raise UserError(f"--test-resolution: expected it for a network trained at {width}x{height}, found none")
        side = width
    elif not use_sr:
        model.decoder.sr, model.config.model.decoder_sr_scale = nn.Identity(), 0
    model.config.model.activation_checkpointing = False
    return ImageModel(model, config).eval(), side
