"""Adam's constants, and the state that engines leave in a checkpoint for each other."""

from __future__ import annotations

import math
from typing import Any

import torch

from model import NeuralTexture

ADAM_BETAS = (0.9, 0.99)
ADAM_EPSILON = 1e-12  # gradients of single grid texels are tiny; 1e-8 would slow them down
MOMENTS = ("exp_avg", "exp_avg_sq")
PENDING = ("parameters", "stamps", "drift")  # see CpuEngine.state


def check_adam_state(state: dict, parameters: list[torch.Tensor]) -> None:
    """Raise ValueError unless `state` holds both moments of each parameter, or of none (nothing was trained yet)."""
    if not isinstance(state, dict) or (state and sorted(state) != list(range(len(parameters)))):
        raise ValueError(f"moments of {len(parameters)} parameters expected")
    for index, moments in state.items():
        for name in MOMENTS:
            value = moments.get(name) if isinstance(moments, dict) else None
            if not isinstance(value, torch.Tensor) or value.shape != parameters[index].shape:
                raise ValueError(f"{name} of parameter {index} should be {tuple(parameters[index].shape)}")
        step = moments.get("step")
        if not isinstance(step, torch.Tensor) or step.numel() != 1:
            raise ValueError(f"step of parameter {index} should be one number")


def check_pending(
    pending: Any, model: NeuralTexture, iteration: int, oldest: int | None = None, drift_size: int | None = None
) -> None:
    """Raise ValueError unless `pending` fits the model and no texel is ahead of `iteration`, or `oldest` behind."""
    if not isinstance(pending, list) or len(pending) != len(model.grids):
        raise ValueError(f"pending updates of {len(model.grids)} grids expected")
    for index, (grid, parameters) in enumerate(zip(model.grids, model.grid_parameters)):
        shapes = {"parameters": tuple(parameters.shape), "stamps": (grid.n_texels,)}
        shapes["drift"] = (drift_size,) if drift_size else None
        types = {"parameters": torch.float32, "stamps": torch.int32, "drift": torch.float64}
        for name in PENDING:
            value = pending[index].get(name) if isinstance(pending[index], dict) else None
            wanted = shapes[name] or getattr(value, "shape", ())
            if not isinstance(value, torch.Tensor) or value.dtype != types[name] or tuple(value.shape) != tuple(wanted):
                raise ValueError(f"pending {name} of grid {index} should be {types[name]} {shapes[name] or ''}")
        stamps = pending[index]["stamps"]
        ages = iteration - int(stamps.max()), iteration - int(stamps.min())
        if ages[0] < 0 or int(stamps.min()) < 0 or (oldest is not None and ages[1] > oldest):
            raise ValueError(f"pending stamps of grid {index} should be 0 to {oldest or iteration} iterations old")


def up_to_date(state: dict, model: NeuralTexture) -> dict:
    """The optimiser's part of an engine's state with the moments of every texel brought up to its iteration.

    A moment that got no gradient for k iterations is beta**k times what it was; parameters are up to date in the
    model already. Raises: ValueError for a state that is not one.
    """
    optimizer, pending = state["optimizer"], state.get("pending")
    check_adam_state(optimizer, [*model.weights, *model.grid_parameters])
    if pending is None:
        return optimizer
    check_pending(pending, model, state["iteration"])
    optimizer = dict(optimizer)
    for index, grid in enumerate(model.grids):
        age = (state["iteration"] - pending[index]["stamps"]).float()[:, None]
        moments = dict(optimizer[len(model.weights) + index])
        for name, beta in zip(MOMENTS, ADAM_BETAS):
            faded = moments[name].view(-1, grid.features) * torch.exp(age * math.log(beta))
            moments[name] = faded.view(-1)
        optimizer[len(model.weights) + index] = moments
    return optimizer
