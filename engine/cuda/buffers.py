"""GPU memory of a training run: parameters, moments and gradients of the grids, and the network with a packed copy."""

from __future__ import annotations

import math

import torch

from engine.adam_state import ADAM_BETAS, ADAM_EPSILON, DRIFT_SIZE, Moments, Pending
from engine.cuda.plan import KernelPlan, stacked_units, texel_columns
from engine.flat_weights import round_flat
from quantize import FEATURE_LIMIT
from shape import GridSpec


def correction(t: int) -> float:
    """Adam's bias correction sqrt(1 - beta2^t), for t = 0 that of t = 1, as in engine/cpu/src/adam.h."""
    return math.sqrt(1 - ADAM_BETAS[1] ** max(t, 1))


def step_size(t: int) -> float:
    """Length of Adam's step along its direction in iteration t, counted from 1, for a learning rate of 1."""
    return correction(t) / (1 - ADAM_BETAS[0] ** t)


def small(t: int) -> float:
    """The term of Adam's denominator beside sqrt(moment2): epsilon with its bias correction."""
    return ADAM_EPSILON * correction(t)


def fading_tables(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors after k iterations without a gradient: of both moments, (2, DRIFT_SIZE) float32, and of a step along the
    direction, (DRIFT_SIZE,) float64. Factors below 1e-22 are 0, as in engine/cpu/src/adam.cpp."""
    ages = torch.arange(DRIFT_SIZE, dtype=torch.float64)
    moments = torch.stack([torch.pow(torch.tensor(beta, dtype=torch.float64), ages) for beta in ADAM_BETAS])
    moments[moments < 1e-22] = 0
    directions = torch.pow(torch.tensor(ADAM_BETAS[0] / math.sqrt(ADAM_BETAS[1]), dtype=torch.float64), ages)
    return moments.float().to(device), directions.to(device)


class StackMemory:
    """Memory of the grids of a stack (KernelPlan.stacks), a row for each: parameters or records, stamps, and what the
    training kernel adds gradients to, if they are trained."""

    def __init__(self, grid: GridSpec, count: int, lazy: bool, moves: bool, fixed_point: float, device: torch.device):
        units = stacked_units(grid) if grid.compressed else grid.n_units
        self.parameters = torch.zeros(count, units * grid.unit_parameters * (1 + lazy), device=device)
        self.stamps = torch.zeros(count, units if lazy else 1, dtype=torch.int32, device=device)
        columns = units * grid.unit_texels * texel_columns(grid) if moves else 1
        self.scattered = torch.zeros(
            count, columns, dtype=torch.int64 if fixed_point else torch.float32, device=device
        )  # fmt: skip


def allocate_grids(plan: KernelPlan, device: torch.device, distance: torch.Tensor, drift: torch.Tensor) -> tuple[
    list[GridBuffers], dict[str, tuple[torch.Tensor, ...]]
]:  # fmt: skip
    """Memory of all grids, and what the training kernel reads and writes of it, by stack.

    Args:
        distance, drift: (grids, DRIFT_SIZE).
    """
    model, limit = plan.model, feature_limit(plan.model.quantized)
    grids: list[GridBuffers] = []
    memory = []
    for stack in plan.stacks:
        grid, lazy, moves = model.grids[stack[0]], plan.lazy[stack[0]], plan.moves[stack[0]]
        memory.append(StackMemory(grid, len(stack), lazy, moves, plan.fixed_point, device))
        grids += [GridBuffers(grid, lazy, moves, limit, plan.fixed_point, device, distance[index], drift[index],
                              memory[-1], plane) for plane, index in enumerate(stack)]  # fmt: skip
    arguments = {
        "parameters": tuple(stack.parameters for stack in memory), "stamps": tuple(stack.stamps for stack in memory),
        "distance": tuple(distance[stack[0]] for stack in plan.stacks),
        "gradients": tuple(stack.scattered for stack in memory),
    }  # fmt: skip
    return grids, arguments


class GridBuffers:
    """Memory of one grid. Dense: parameters (n,), moments (2, n). Lazy: records and moments, both (units, 2, F), see
    engine/cuda/adam.py. `scattered` is what the training kernel adds gradients to: for a grid of blocks those of texels
    (texels * COLUMNS,), otherwise `gradient` itself, that of the parameters. Both are sums of multiples of 1 /
    scattered_point and 1 / gradient_point, or float32 where these are 0, as the gradient of blocks always is. A grid
    that is not trained has neither moments nor gradients: one element stands for each.

    Args:
        limit: features stay within +- this.
        fixed_point: see KernelPlan.
        distance, drift: (DRIFT_SIZE,) float32 and float64, views of the memory that the advance kernel updates.
        stack, plane: the memory of its stack, and its place there.
    """

    def __init__(self, grid: GridSpec, lazy: bool, moves: bool, limit: float, fixed_point: float, device: torch.device,
                 distance: torch.Tensor, drift: torch.Tensor, stack: StackMemory, plane: int):  # fmt: skip
        self.grid, self.lazy, self.moves, self.limit = grid, lazy, moves, limit
        self.distance, self.drift = distance, drift
        count = grid.n_parameters
        shape = (grid.n_units, 2, grid.unit_parameters) if lazy else (count,)
        self.parameters = stack.parameters[plane, : grid.n_parameters * (1 + lazy)].view(shape)
        self.moments = torch.zeros(shape if lazy else (2, count if moves else 1), device=device)
        self.stamps = stack.stamps[plane, : grid.n_units if lazy else 1]
        self.scattered = stack.scattered[plane, : grid.n_texels * texel_columns(grid)]
        self.gradient = torch.zeros(count if moves else 1, device=device) if grid.compressed else self.scattered
        self.scattered_point, self.gradient_point = fixed_point, 0.0 if grid.compressed else fixed_point

    def clear_gradient(self) -> None:
        self.scattered.zero_()
        self.gradient.zero_()

    def float_gradient(self, at: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        """The gradient of the parameters, or of those at some places, as float32."""
        stored = self.gradient[at]
        return stored.double().div(self.gradient_point).float() if self.gradient_point else stored.clone()

    @torch.no_grad()
    def load(self, iteration: int, values: torch.Tensor, moments: Moments | None,
             stamps: torch.Tensor | None = None, drift: torch.Tensor | None = None) -> None:  # fmt: skip
        """Set parameters and moments (None: zeros). They are up to date, or for a lazy grid as old as `stamps` say."""
        device = self.parameters.device
        self.clear_gradient()
        if not self.lazy:
            self.parameters.copy_(values)
            if not self.moves:
                return
            for place, moment in zip(self.moments, moments or (0.0, 0.0)):
                place.copy_(moment) if isinstance(moment, torch.Tensor) else place.zero_()
            return
        shape = (self.grid.n_units, self.grid.unit_parameters)
        self.drift.zero_() if drift is None else self.drift.copy_(drift)
        self.distance.copy_(self.drift.float())
        self.stamps.fill_(iteration) if stamps is None else self.stamps.copy_(stamps)
        self.parameters[:, 0].copy_(values.view(shape))
        if moments is None:
            self.moments.zero_()
            self.parameters[:, 1].zero_()
            return
        for index, moment in enumerate(moments):
            self.moments[:, index].copy_(moment.view(shape))
        # training computes directions from the same function of the stamp, so a resumed run has the same bits
        smalls = torch.zeros(DRIFT_SIZE)
        for t in range(max(iteration - DRIFT_SIZE + 1, 0), iteration + 1):
            smalls[t % DRIFT_SIZE] = small(t)
        root = self.moments[:, 1].double().sqrt().float()  # torch's float32 sqrt is not correctly rounded on every CPU
        denominator = smalls.to(device)[(self.stamps % DRIFT_SIZE).long()][:, None] + root
        torch.div(self.moments[:, 0], denominator, out=self.parameters[:, 1])

    @torch.no_grad()
    def values(self, now: int) -> torch.Tensor:
        """Parameters at iteration `now`, flat."""
        if not self.lazy:
            return self.parameters
        moved = self.distance[(self.stamps % DRIFT_SIZE).long()]
        moved = torch.where(self.stamps < now, moved, torch.zeros_like(moved))[:, None]
        ahead = (self.parameters[:, 0] - self.parameters[:, 1] * moved).clamp_(-self.limit, self.limit)
        return torch.where((self.stamps < now)[:, None], ahead, self.parameters[:, 0]).view(-1)

    def stored_moments(self) -> Moments:
        """Both moments, flat, on the CPU; those of a lazy grid are as old as its texels."""
        if not self.moves:
            return torch.zeros(self.grid.n_parameters), torch.zeros(self.grid.n_parameters)
        if self.lazy:
            return self.moments[:, 0].reshape(-1).cpu(), self.moments[:, 1].reshape(-1).cpu()
        return self.moments[0].cpu(), self.moments[1].cpu()

    def pending(self, now: int) -> Pending:
        """See KernelEngine.state."""
        if self.lazy:
            parameters = self.parameters[:, 0].reshape(-1)
            return {"parameters": parameters.cpu(), "stamps": self.stamps.cpu(), "drift": self.drift.cpu()}
        return {
            "parameters": self.parameters.cpu(),
            "stamps": torch.full((self.grid.n_units,), now, dtype=torch.int32),
            "drift": torch.zeros(DRIFT_SIZE, dtype=torch.float64),
        }


class NetworkBuffers:
    """Memory of the network: flat weights and moments in the file's order, and the packed weights that kernels read."""

    def __init__(self, plan: KernelPlan, device: torch.device):
        self.plan = plan
        count = sum(weight.numel() for weight in plan.model.weights)
        self.weights = torch.zeros(count, device=device)
        self.moments = torch.zeros(2, count, device=device)
        kind = torch.bfloat16 if plan.precision == "bf16" else torch.float32
        self.packed = torch.zeros(plan.size, dtype=kind, device=device)
        self.rounded = False  # whether `packed` has them rounded as they are exported
        self.rows = plan.rows().to(device)
        self.input_map = plan.input_map.to(device)

    @torch.no_grad()
    def load(self, weights: torch.Tensor, moments: list[torch.Tensor] | None, rounded: bool) -> None:
        """Set the flat weights, and both moments (None: zeros); `rounded` as in `pack`."""
        self.weights.copy_(weights)
        self.pack(rounded)
        for index in range(2):
            self.moments[index].copy_(moments[index]) if moments else self.moments[index].zero_()

    @torch.no_grad()
    def pack(self, rounded: bool) -> None:
        """Pack the flat weights, rounded as they are exported or as they are."""
        weights = round_flat(self.weights, self.plan.model) if rounded else self.weights
        self.packed.copy_(self.plan.pack(weights))
        self.rounded = rounded


def feature_limit(quantized: bool) -> float:
    """Largest magnitude of a feature."""
    return FEATURE_LIMIT if quantized else math.inf
