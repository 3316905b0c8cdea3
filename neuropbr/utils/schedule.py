"""Optimizers, and learning rates over the epochs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from neuropbr.train_config import OptimizerConfig


def make_optimizer(parameters: Iterable[nn.Parameter], settings: OptimizerConfig, prefix: str) -> torch.optim.Optimizer:
    """The optimizer of OptimizerConfig's fields g_* or d_*, for the parameters that are trainable."""
    kind, rate, betas, decay = (getattr(settings, f"{prefix}_{name}") for name in
                                ("optimizer", "lr", "betas", "weight_decay"))  # fmt: skip
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    if kind == "sgd":
        return torch.optim.SGD(trainable, rate, momentum=0.9, weight_decay=decay)
    family = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
    return family(trainable, rate, betas, weight_decay=decay)


class Schedule:
    """Linear warm-up from a tenth of the rate, then cosine, step, plateau or none; call `step` after every epoch."""

    def __init__(self, optimizer: torch.optim.Optimizer, settings: OptimizerConfig, epochs: int, warm_up: bool):
        self.warm_up = settings.scheduler_warmup_epochs if warm_up else 0
        base, least = optimizer.param_groups[0]["lr"], settings.scheduler_min_lr
        left = max(epochs - self.warm_up, 1)

        def factor(epoch: int) -> float:
            if epoch < self.warm_up:
                return 0.1 + 0.9 * (epoch + 1) / self.warm_up
            done = epoch - self.warm_up
            if settings.scheduler == "cosine" and base > least:
                return (least + (base - least) * (1 + math.cos(math.pi * min(done / left, 1))) / 2) / base
            return (
                settings.scheduler_gamma ** (done // settings.scheduler_step_size)
                if settings.scheduler == "step"
                else 1.0
            )

        self.optimizer = optimizer
        self.curve = LambdaLR(optimizer, factor)
        self.plateau = ReduceLROnPlateau(
            optimizer, factor=settings.scheduler_factor, patience=settings.scheduler_patience, min_lr=least
        ) if settings.scheduler == "plateau" else None  # fmt: skip

    def step(self, val_loss: float) -> None:
        if self.plateau is not None and self.curve.last_epoch >= self.warm_up:
            self.plateau.step(val_loss)
        else:
            with warnings.catch_warnings():  # before gan_start_epoch the discriminator's optimizer makes no step
                warnings.filterwarnings("ignore", "Detected call of")
                self.curve.step()

    def state_dict(self) -> dict[str, Any]:
        plateau = None if self.plateau is None else self.plateau.state_dict()
        return {"curve": self.curve.state_dict(), "plateau": plateau}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.curve.load_state_dict(state["curve"])
        if self.plateau is not None and state["plateau"] is not None:
            self.plateau.load_state_dict(state["plateau"])

    def set_rates(self) -> None:
        """Give a fresh optimizer the rates that this schedule, restored, has come to."""
        falling = self.plateau is not None and self.curve.last_epoch >= self.warm_up
        for group, rate in zip(self.optimizer.param_groups, (self.plateau if falling else self.curve).get_last_lr()):
            group["lr"] = rate
