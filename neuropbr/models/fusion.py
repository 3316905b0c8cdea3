"""Fuses the latents of three views: by attention, a 1x1 convolution, or the ConvAttn student's large kernel.

Latents are (B, 3, C, h, w), the fused one (B, C, h, w).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import StochasticDepth

from neuropbr.utils.maps import VIEWS


class Block(nn.Module):
    """A pre-norm transformer block over (B, N, dim) tokens; attention is fused (scaled_dot_product_attention)."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, proj_drop: float, attn_drop: float, drop_path: float):
        super().__init__()
        self.heads, self.attn_drop = heads, attn_drop
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        hidden = int(dim * mlp_ratio)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(proj_drop), nn.Linear(hidden, dim), nn.Dropout(proj_drop)
        )
        self.drop, self.drop_path = nn.Dropout(proj_drop), StochasticDepth(drop_path, "row")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        dropped = self.attn_drop if self.training else 0.0
        attended = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], dropout_p=dropped)
        x = x + self.drop_path(self.drop(self.proj(attended.transpose(1, 2).reshape(batch, tokens, dim))))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def grid_waves(height: int, width: int, dim: int, like: torch.Tensor) -> torch.Tensor:
    """Position codes for any size: sines and cosines of y and x, (height * width, dim) (Vaswani et al. 2017)."""
    rates = torch.exp(-torch.arange(dim // 4, device=like.device) / (dim // 4) * 9.21)  # 1 down to 1e-4 per texel
    y, x = (torch.arange(n, device=like.device)[:, None] * rates for n in (height, width))
    y, x = y[:, None].expand(-1, width, -1), x[None].expand(height, -1, -1)
    return torch.cat([y.sin(), y.cos(), x.sin(), x.cos()], -1).reshape(height * width, -1).to(like.dtype)


class CrossViewTransformer(nn.Module):
    """Attention among all tokens of all views, after which each place merges its three views."""

    def __init__(self, dim: int, depth: int, heads: int, mlp_ratio: float, proj_drop: float, attn_drop: float,
                 drop_path: float):  # fmt: skip
        super().__init__()
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio, proj_drop, attn_drop, rate) for rate in rates)
        self.views = nn.Parameter(torch.randn(VIEWS, 1, dim) * 0.02)
        self.merge, self.norm = nn.Linear(VIEWS * dim, dim), nn.LayerNorm(dim)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        batch, views, dim, height, width = latents.shape
        tokens = latents.flatten(3).transpose(2, 3) + grid_waves(height, width, dim, latents) + self.views
        tokens = tokens.reshape(batch, views * height * width, dim)
        for block in self.blocks:
            tokens = block(tokens)
        places = tokens.reshape(batch, views, height * width, dim).transpose(1, 2).reshape(batch, height * width, -1)
        return self.norm(self.merge(places)).transpose(1, 2).reshape(batch, dim, height, width)


class ConvFusion(nn.Module):
    """A 1x1 convolution of the concatenated channels of all views."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv = nn.Conv2d(VIEWS * dim, dim, 1)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.conv(latents.flatten(1, 2))


# --- ConvAttn ------------------------------------------------------------------------------------------------------


def pointwise(in_channels: int, out_channels: int) -> nn.Sequential:
    """1x1 convolution, batch norm, GELU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.GELU())


class LargeKernelBlock(nn.Module):
    """Norm, the shared depthwise kernel, 1x1, squeeze-excitation; added to its input with a small learned weight."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm, self.mix = nn.BatchNorm2d(dim), pointwise(dim, dim)
        squeezed = max(dim // 4, 32)
        self.excite = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, squeezed, 1), nn.ReLU(), nn.Conv2d(squeezed, dim, 1), nn.Sigmoid()
        )
        self.gamma = nn.Parameter(torch.full((1, dim, 1, 1), 0.1))

    def forward(self, x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        mixed = self.mix(F.conv2d(self.norm(x), kernel, padding=kernel.shape[-1] // 2, groups=x.shape[1]))
        return x + self.gamma * mixed * self.excite(mixed)


class LargeKernelFusion(nn.Module):
    """ConvAttn: views merged by convolutions, then blocks that share one large kernel; memory is linear in texels.

    The kernel (dim, 1, K, K) is learned, starts as exp(-distance / (K / 4)), and is divided by its absolute sum.
    """

    def __init__(self, latent: int, dim: int, blocks: int, size: int):
        super().__init__()
        self.own = nn.Sequential(
            nn.Conv2d(latent, latent, 3, padding=1, groups=latent, bias=False),
            nn.BatchNorm2d(latent), nn.GELU(), nn.Conv2d(latent, latent, 1),
        )  # fmt: skip
        self.merge = pointwise(VIEWS * latent, dim)
        self.before = pointwise(dim, dim)
        self.blocks = nn.ModuleList(LargeKernelBlock(dim) for _ in range(blocks))
        self.after = nn.Sequential(nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim))
        axis = torch.arange(size) - size // 2
        distance = torch.hypot(*(axis.float()[:, None].expand(size, size), axis.float()[None].expand(size, size)))
        kernel = torch.exp(-distance / (size / 4)) * 0.1
        self.kernel = nn.Parameter(kernel.repeat(dim, 1, 1, 1) * (1 + 0.02 * torch.randn(dim, 1, size, size)))

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        batch, views, channels, height, width = latents.shape
        flat = latents.flatten(0, 1)
        merged = self.merge((flat + self.own(flat)).reshape(batch, views * channels, height, width))
        kernel = self.kernel / (self.kernel.abs().sum((2, 3), keepdim=True) + 1e-8)
        x = self.before(merged)
        for block in self.blocks:
            x = block(x, kernel)
        return merged + self.after(x)
