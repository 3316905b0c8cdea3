"""Devices, precision, compilation and batch sizes."""

from __future__ import annotations

import contextlib
import os

import torch
from torch import nn

from neuropbr.train_config import TrainConfig

BYTES_PER_SAMPLE = 6 * 2**30  # of GPU memory in a training step at 1024 x 1024 with resnet50
RESERVED_BYTES = 2**29  # for the driver and the weights
CPU_BATCH = 2
AUTOMATIC = ("cuda", "mps")  # --device auto takes the first available one, else the CPU


class Precision:
    """Automatic mixed precision on CUDA (bfloat16, else float16 with a gradient scaler), nothing elsewhere."""

    def __init__(self, device: torch.device, wanted: bool):
        self.enabled = wanted and device.type == "cuda"
        self.dtype = torch.bfloat16 if not self.enabled or torch.cuda.is_bf16_supported() else torch.float16
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.enabled and self.dtype == torch.float16)

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context for forward passes."""
        return torch.autocast("cuda", self.dtype) if self.enabled else contextlib.nullcontext()


def compiled(module: nn.Module, device: torch.device, wanted: bool | None) -> nn.Module:
    """`module` with torch.compile if wanted; None: on CUDA, unless USE_TORCH_COMPILE is true or false."""
    said = os.environ.get("USE_TORCH_COMPILE", "auto").lower()
    if wanted is None:
        wanted = said == "true" or (said != "false" and device.type == "cuda")
    return torch.compile(module) if wanted else module


def automatic_batch_size(config: TrainConfig, device: torch.device) -> int:
    """The batch size that fits into four fifths of a GPU's memory, by a rule of thumb; CPU_BATCH elsewhere."""
    if device.type != "cuda":
        return CPU_BATCH
    memory = torch.cuda.get_device_properties(device).total_memory * 0.8 - RESERVED_BYTES
    height, width = config.data.image_size
    factor = {"resnet18": 0.6, "resnet34": 0.6, "resnet101": 1.2, "resnet152": 1.4}
    each = BYTES_PER_SAMPLE * height * width / 2**20 * factor.get(config.model.encoder_backbone, 1.0)
    return max(1, int(memory / (each / config.model.encoder_stride**2)))
