"""Optimiser groups and their learning rates over the epochs."""

from __future__ import annotations

import torch

from deferred.model.renderer import NeuralRenderer
from deferred.options import TrainOptions, numbers

UNET_SHARE = 0.1  # of the texture's learning rate, if both are trained
# Warm-up epochs, then (first epoch, factor): the original's schedules.
SCHEDULES = {
    "train": (5, ((6, 1.0), (50, 0.1), (100, 0.01))),
    "train_texture": (3, ((4, 1.0), (5, 0.1), (10, 0.01))),
    "train_unet": (3, ((4, 1.0), (10, 0.3), (50, 0.1))),
}

# Epochs of the schedule that a run spans whose --epoch_steps is chosen by its length: with the last fall of the rates
# (the sample's settings have as many epochs).
SPANS = {"train": 55, "train_texture": 12, "train_unet": 30}


def rate_factor(script: str, epoch: int) -> float:
    """The factor of all learning rates in an epoch; epochs count from 1."""
    warm_up, steps = SCHEDULES[script]
    if epoch <= warm_up:
        return epoch / warm_up
    return next(factor for first, factor in reversed(steps) if epoch >= first)


# The distance (see `reach`) that a texture needs to learn colours of 0 to 1. Measured on a version of the sample whose
# closed form had 20 dB: train_texture.py ended at 9.7 dB with 0.16, 12.7 with 0.9, 16.6 with 1.6 and 19.3 with 4.2.
REACH = 3.0


def reach(script: str, lr: float, steps_per_epoch: int, epochs: float, levels: int) -> float:
    """The distance that a texel's value can move in a run: an Adam step moves each level by about its rate.

    epochs: of the schedule, of `steps_per_epoch` steps.
    """
    whole = int(epochs)
    factors = sum(rate_factor(script, epoch) for epoch in range(1, whole + 1))
    factors += (epochs - whole) * rate_factor(script, whole + 1)
    return lr * steps_per_epoch * levels * factors


def make_optimiser(script: str, model: NeuralRenderer, options: TrainOptions) -> torch.optim.Adam:
    """Adam with a group per texture level, each with its weight decay, and one for the U-Net.

    A texture without a pyramid counts as the coarsest level and has the last weight decay.
    """
    betas = numbers(options.betas, "--betas", 2, below=1.0)
    groups = []
    if script != "train_unet":
        decays = numbers(options.l2, "--l2", 4)
        levels = list(model.texture.levels)
        for index, (level, decay) in enumerate(zip(levels, decays[-len(levels) :])):
            groups.append({"params": [level], "lr": options.lr, "weight_decay": decay, "name": f"texture_{index}"})
    if model.unet is not None:
        share = UNET_SHARE if script == "train" else 1.0
        groups.append({"params": list(model.unet.parameters()), "lr": share * options.lr, "weight_decay": 0.0,
                       "name": "unet"})  # fmt: skip
    for group in groups:
        group["initial_lr"] = group["lr"]
    return torch.optim.Adam(groups, betas=betas, eps=options.eps)


def set_rates(optimiser: torch.optim.Optimizer, factor: float) -> dict[str, float]:
    """Set every group to `factor` times its initial rate. Returns: the rates of "texture" and "unet"."""
    rates = {}
    for group in optimiser.param_groups:
        group["lr"] = factor * group["initial_lr"]
        rates[group["name"].partition("_")[0]] = group["lr"]
    return rates
