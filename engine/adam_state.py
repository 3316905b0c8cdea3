"""Adam's constants, and the optimiser state of a checkpoint, which every engine writes and reads.

The layout is that of torch.optim.Adam: per parameter, weight matrices first, then grids, both moments and the number of
steps. Engines that update texels lazily add `pending`, see KernelEngine.state.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from model import NeuralTexture

ADAM_BETAS = (0.9, 0.99)
ADAM_EPSILON = 1e-12  # gradients of single grid texels are tiny; 1e-8 would slow them down
MOMENTS = ("exp_avg", "exp_avg_sq")
PENDING = ("parameters", "stamps", "drift")
# Lazy updates, with the values of engine/cpu/src/nt.h: iterations after which all texels are brought up to date, and
# distances in `drift`, of which that of an iteration is at the iteration modulo the size.
SWEEP_INTERVAL, DRIFT_SIZE = 1000, 1024

Moments = tuple[torch.Tensor, torch.Tensor]  # first and second, both with the shape of the parameter
Optimizer = dict[int, dict[str, torch.Tensor]]
Pending = dict[str, torch.Tensor]


def optimizer_entries(iteration: int, moments: list[Moments]) -> Optimizer:
    """The optimiser state of parameters with these moments after `iteration` steps."""
    return {  # a step tensor for each: torch counts them up one by one
        index: {"step": torch.tensor(float(iteration)), **dict(zip(MOMENTS, pair))}
        for index, pair in enumerate(moments)
    }


def check_adam_state(state: Any, parameters: list[torch.Tensor]) -> None:
    """Raise ValueError unless `state` holds both moments of every parameter, or is empty (nothing was trained yet)."""
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


def check_pending(pending: Any, model: NeuralTexture, iteration: int, oldest: int | None = None) -> None:
    """Raise ValueError unless `pending` fits the model's grids and each texel's stamp is an iteration up to this one.

    Args:
        oldest: iterations that a stamp may lie back; None: any number.
    """
    if not isinstance(pending, list) or len(pending) != len(model.grids):
        raise ValueError(f"pending updates of {len(model.grids)} grids expected")
    types = {"parameters": torch.float32, "stamps": torch.int32, "drift": torch.float64}
    for index, (grid, parameters) in enumerate(zip(model.grids, model.grid_parameters)):
        shapes = {"parameters": tuple(parameters.shape), "stamps": (grid.n_units,), "drift": (DRIFT_SIZE,)}
        for name in PENDING:
            value = pending[index].get(name) if isinstance(pending[index], dict) else None
            if not isinstance(value, torch.Tensor) or value.dtype != types[name] or value.shape != shapes[name]:
                raise ValueError(f"pending {name} of grid {index} should be {types[name]} {shapes[name]}")
        stamps = pending[index]["stamps"]
        newest, least = int(stamps.max()), int(stamps.min())
        if newest > iteration or least < 0 or (oldest is not None and iteration - least > oldest):
            raise ValueError(f"pending stamps of grid {index} should be 0 to {oldest or iteration} iterations old")


def up_to_date(state: dict[str, Any], model: NeuralTexture) -> Optimizer:
    """The optimiser state with the moments of every texel brought up to the state's iteration.

    A moment without a gradient for k iterations is beta**k times what it was. The parameters need nothing: those of
    the model are up to date.

    Raises: ValueError for a state of another layout.
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
            faded = moments[name].view(-1, grid.unit_parameters) * torch.exp(age * math.log(beta))
            moments[name] = faded.view(-1)
        optimizer[len(model.weights) + index] = moments
    return optimizer
