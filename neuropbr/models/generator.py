"""The network from three views to four maps: the teacher, and students, which differ in encoder and fusion alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchtyping import TensorType

from neuropbr.models.decoder import PBRDecoder
from neuropbr.models.encoders import build_encoder
from neuropbr.models.fusion import ConvFusion, CrossViewTransformer, LargeKernelFusion
from neuropbr.train_config import Config, as_config
from neuropbr.utils.maps import VIEWS, Pictures

Views = TensorType["batch", 3, 3, "height", "width"]

VIEW_WEIGHTS = (0.5, 0.25, 0.25)  # initial weights of the views' skips; view 0 is from above, without perspective
CHECKPOINTING_PIXELS = 1024 * 1024  # larger inputs recompute activations in the backward pass to save memory


class MultiViewPBRGenerator(nn.Module):
    """(B, 3, 3, H, W) normalised views -> {"albedo": (B, 3, h, w), "roughness": 1, "metallic": 1, "normal": 3}.

    albedo, roughness and metallic are in [0, 1], normals are unit vectors; h and w are the input's times
    output_size / image_size.

    Args:
        config: a TrainConfig, or the dict in a checkpoint.
        pretrained: load ImageNet weights into the encoder; None: as a TrainConfig sets it, and never for a dict, since
            a checkpoint has weights.
    """

    def __init__(self, config: Config, pretrained: bool | None = None):
        super().__init__()
        if pretrained is None:
            pretrained = not isinstance(config, dict) and config.model.pretrained
        self.config = as_config(config)
        model = self.config.model
        self.encoder = build_encoder(model, pretrained)
        self.project, dim = nn.Identity(), self.encoder.latent_channels
        if model.bottleneck == "plk":
            self.fusion = LargeKernelFusion(dim, model.transformer_dim, model.plk_blocks, model.plk_kernel)
            dim = model.transformer_dim
        else:
            if dim != model.transformer_dim:
                self.project = nn.Conv2d(dim, model.transformer_dim, 1, bias=False)
            dim = model.transformer_dim
            self.fusion = ConvFusion(dim) if not model.use_transformer else CrossViewTransformer(
                dim, model.transformer_depth, model.transformer_num_heads, model.transformer_mlp_ratio,
                model.transformer_proj_drop, model.transformer_attn_drop, model.transformer_drop_path_rate,
            )  # fmt: skip
        weights = torch.tensor(VIEW_WEIGHTS).reshape(VIEWS, 1, 1, 1)
        self.view_weights = nn.ParameterList(weights.repeat(1, width, 1, 1) for width in self.encoder.skip_channels)
        self.decoder = PBRDecoder(dim, self.encoder.skip_channels, model.decoder_sr_scale)
        self.encoder.requires_grad_(not model.freeze_backbone)
        if model.freeze_bn:
            for norm in self._encoder_norms():
                norm.requires_grad_(False)

    def _encoder_norms(self) -> list[nn.Module]:
        return [part for part in self.encoder.modules() if isinstance(part, nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> MultiViewPBRGenerator:
        """nn.Module.train, which leaves frozen batch norms in eval mode."""
        super().train(mode)
        if mode and (self.config.model.freeze_bn or self.config.model.freeze_backbone):
            for norm in self._encoder_norms():  # train mode would update running statistics
                norm.eval()
        return self

    def _caller(self, views: torch.Tensor) -> Callable:
        wanted = self.config.model.activation_checkpointing
        if wanted is None:
            wanted = views.shape[-1] * views.shape[-2] >= CHECKPOINTING_PIXELS
        if self.training and wanted and torch.is_grad_enabled():
            return lambda module, *inputs: checkpoint(module, *inputs, use_reentrant=False)
        return lambda module, *inputs: module(*inputs)

    def forward(self, views: Views) -> dict[str, Pictures]:
        if views.dim() != 5 or views.shape[1] != VIEWS:
            raise ValueError(f"views: expected (B, {VIEWS}, 3, H, W), found {tuple(views.shape)}")
        batch, (height, width) = views.shape[0], views.shape[-2:]
        call, model = self._caller(views), self.config.model
        skips, latent = call(self.encoder, views.flatten(0, 1))
        latent = self.project(latent)
        fused = call(self.fusion, latent.reshape(batch, VIEWS, *latent.shape[1:]))
        skips = [
            (skip.reshape(batch, VIEWS, *skip.shape[1:]) * weights).sum(1)
            for skip, weights in zip(skips, self.view_weights)
        ]
        scale = max(model.decoder_sr_scale, 1)
        size = [side * scale // model.encoder_stride for side in (height, width)]
        return self.decoder(fused, skips, size, call)
