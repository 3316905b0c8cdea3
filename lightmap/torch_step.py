"""A training step in plain PyTorch: the reference, on any device."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from lightmap.compressor import Compressor
from lightmap.sampling import Batch


class TorchStep:
    """Adam on the mean squared error; a learned grid has its own learning rate."""

    name = "torch"
    refines = False  # whether a model can only be kept after `refine`

    def __init__(self, model: Compressor, lr: float, lr_grid: float):
        self.model = model
        grid = [model.grid] if model.shape.latent_mode == "direct" else []
        networks = [value for name, value in model.named_parameters() if name != "grid"]
        self.rates = [lr_grid] * len(grid) + [lr] * len(networks)
        self.parameters = [*grid, *networks]
        groups = [{"params": [value], "lr": rate} for value, rate in zip(self.parameters, self.rates)]
        self.adam = torch.optim.Adam(groups, betas=(0.9, 0.999), eps=1e-8, foreach=False)

    def step(self, batch: Batch, decay: float) -> torch.Tensor:
        """One step at `decay` times the learning rates. Returns: the loss, a scalar tensor."""
        self.adam.zero_grad(set_to_none=True)
        loss = functional.mse_loss(self.model(batch.texels, batch.hours), batch.values)
        loss.backward()
        return self.advance(loss.detach(), decay)

    def advance(self, loss: torch.Tensor, decay: float) -> torch.Tensor:
        """Adam's step with the gradients in the parameters' .grad. Returns: `loss`."""
        for group, rate in zip(self.adam.param_groups, self.rates):
            group["lr"] = rate * decay
        self.adam.step()
        self.model.keep_in_range()
        return loss

    def refinements(self, iteration: int, total: int) -> int:
        """How often `refine` is due after step `iteration` of `total`."""
        return 0

    def refine(self) -> None:
        """Nothing: Adam is all there is."""

    def state(self) -> dict[str, Any]:
        """{"steps", "first", "second"}: Adam's moments in the order of the parameters, on the CPU."""
        return moments_of(self.adam, self.parameters)

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned. Raises: ValueError for moments of other sizes."""
        load_moments(self.adam, self.parameters, state)


def moments_of(adam: torch.optim.Adam, parameters: list[torch.Tensor]) -> dict[str, Any]:
    """{"steps", "first", "second"}: Adam's moments in the order of the parameters, on the CPU."""
    moments = [adam.state.get(value, {}) for value in parameters]
    return {
        "steps": int(moments[0]["step"]) if moments[0] else 0,
        "first": [_kept(moment.get("exp_avg"), p) for moment, p in zip(moments, parameters)],
        "second": [_kept(moment.get("exp_avg_sq"), p) for moment, p in zip(moments, parameters)],
    }


def load_moments(adam: torch.optim.Adam, parameters: list[torch.Tensor], state: dict[str, Any]) -> None:
    """Restore what `moments_of` returned. Raises: ValueError for moments of other sizes."""
    for value, first, second in zip(parameters, state["first"], state["second"]):
        if first.shape != value.shape or second.shape != value.shape:
            raise ValueError("moments of other sizes")
        adam.state[value] = {
            "step": torch.tensor(float(state["steps"])),
            "exp_avg": first.to(value.device, copy=True), "exp_avg_sq": second.to(value.device, copy=True),
        }  # fmt: skip


def _kept(moment: torch.Tensor | None, parameter: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(parameter, device="cpu") if moment is None else moment.detach().cpu().clone()
