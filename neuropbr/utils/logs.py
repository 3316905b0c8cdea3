"""TensorBoard and Weights & Biases: scalars, and pictures of predictions beside the truth."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torchvision.utils import make_grid

from common.event_file import EventFile
from maps.images import encode_png
from neuropbr.train_config import TrainConfig
from neuropbr.utils.maps import MAPS, as_picture, pixels_of

MAX_SAMPLES = 4  # in a picture
ERROR_GAIN = 5  # of the heat map: an error of a fifth is full red

Maps = Mapping[str, torch.Tensor]


class Logs:
    """Writes to TensorBoard in `folder`/logs, and to wandb if it is enabled; nothing if not `active`."""

    def __init__(self, folder: Path, config: TrainConfig, active: bool = True, restart_step: int = 0):
        training = config.training
        self.events = EventFile(folder / "logs") if training.use_tensorboard and active else None
        if self.events is not None and restart_step:
            self.events.restart(restart_step + 1)
        self.wandb = _start_wandb(training, config) if training.use_wandb and active else None

    def scalars(self, prefix: str, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            if self.events is not None:
                self.events.scalar(f"{prefix}/{name}", float(value), step)
        if self.wandb is not None:  # wandb needs increasing steps, and epochs are not steps
            axis = "epoch" if prefix.startswith("val") else "global_step"
            self.wandb.log({f"{prefix}/{name}": float(value) for name, value in values.items()} | {axis: step})
        self.flush()

    def image(self, tag: str, picture: torch.Tensor, step: int) -> None:
        """(1 or 3, H, W) in [0, 1]."""
        pixels = pixels_of(picture)
        if self.events is not None:
            self.events.image(tag, *pixels.shape, encode_png(pixels, quick=True), step)
        if self.wandb is not None:
            import wandb

            self.wandb.log({tag: wandb.Image(pixels), "epoch": step})

    def flush(self) -> None:
        if self.events is not None:
            self.events.flush()

    def close(self) -> None:
        if self.events is not None:
            self.events.close()
        if self.wandb is not None:
            self.wandb.finish()


def _start_wandb(training: Any, config: Any) -> Any:
    try:
        import wandb
    except ImportError:
        print("use_wandb: the package wandb is not installed, nothing goes there; pip install wandb", file=sys.stderr)
        return None
    return wandb.init(project=training.wandb_project, name=training.wandb_run_name, config=config.to_dict())


def error_heat(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Errors as colours, (B, 3, H, W): blue for none, red for a fifth of the range or more."""
    red = (ERROR_GAIN * (prediction - target).abs().mean(1, keepdim=True)).clamp(max=1)
    return torch.cat([red, torch.zeros_like(red), 1 - red], 1)


def log_pictures(logs: Logs, prefix: str, views: torch.Tensor, prediction: Maps, target: Maps, step: int,
                 mean: torch.Tensor, std: torch.Tensor, label: str = "pred") -> None:  # fmt: skip
    """prefix/input_views, /comparison, /<map>_pred, /<map>_target.

    views: (B, 3, 3, H, W), normalised with mean and std, (3, 1, 1). label: of the predictions.
    """
    shown = views[:MAX_SAMPLES].cpu().float() * std + mean
    logs.image(f"{prefix}/input_views", make_grid(shown.flatten(0, 1).clamp(0, 1), nrow=views.shape[1]), step)
    rows = []
    for name in MAPS:
        pair = [as_picture(name, maps[name][:MAX_SAMPLES].detach().cpu().float()) for maps in (prediction, target)]
        pair = [picture.expand(-1, 3, -1, -1) for picture in pair]
        logs.image(f"{prefix}/{name}_{label}", make_grid(pair[0], nrow=MAX_SAMPLES), step)
        logs.image(f"{prefix}/{name}_target", make_grid(pair[1], nrow=MAX_SAMPLES), step)
        rows += [*pair[0], *pair[1], *error_heat(*pair)]
    logs.image(f"{prefix}/comparison", make_grid(rows, nrow=3 * min(MAX_SAMPLES, len(views))), step)
