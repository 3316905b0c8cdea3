"""In which numbers a training step computes: float32, or 16 bits where the device has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from common.errors import UserError

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
BF16_SINCE = (8, 0)  # compute capability of Ampere; older ones emulate it


class Precision:
    """Autocast (torch.amp) for the forward pass, and for fp16 a scale of the loss that keeps small gradients.

    Weights, gradients and moments stay float32, and so does the sampling of the texture: autocast leaves float32
    coordinates as they are. Convolutions are what becomes quicker.

    Args:
        wanted: one of options.PRECISIONS; auto: bf16, else fp16 on a GPU, float32 elsewhere.
    Raises: UserError for fp16 without a GPU.
    """

    def __init__(self, wanted: str, device: torch.device):
        if wanted == "auto":
            wanted = "float32"
            if device.type == "cuda":
                wanted = "bf16" if torch.cuda.get_device_capability(device) >= BF16_SINCE else "fp16"
        if wanted == "fp16" and device.type != "cuda":
            raise UserError(f"--precision fp16: expected a GPU, found --device {device.type}, on which its gradients "
                            "are slow or 0; give float32 or bf16")  # fmt: skip
        self.name, self.device = wanted, device
        self.scaler = torch.amp.GradScaler(device.type) if wanted == "fp16" else None

    def autocast(self) -> torch.autocast:
        """The context of a forward pass and its loss."""
        kind = TYPES.get(self.name)
        return torch.autocast(self.device.type, dtype=kind, enabled=kind is not None)

    def step(self, loss: torch.Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Gradients of the loss, and a step along them; fp16 skips it where they overflow."""
        optimiser.zero_grad(set_to_none=True)
        if self.scaler is None:
            loss.backward()
            optimiser.step()
        else:
            self.scaler.scale(loss).backward()
            self.scaler.step(optimiser)
            self.scaler.update()

    def state(self) -> dict[str, Any]:
        """What a run needs to go on: empty but for fp16."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same precision. Raises: RuntimeError, KeyError for one that does not fit."""
        if self.scaler is not None and state:  # a run may have begun on another device
            self.scaler.load_state_dict(dict(state))
