"""Compares the GPU kernels with PyTorch before a run: loss and gradients of a small step, and one whole iteration."""

from __future__ import annotations

import math

import torch

from dataset import PresentValues
from engine.adam_state import ADAM_BETAS
from engine.cuda.buffers import small, step_size
from engine.cuda.engine import CudaEngine
from engine.cuda.library import failures
from engine.errors import KernelsUnavailable
from engine.flat_weights import flat_weights, round_flat, split_weights
from engine.sampling import (
    STREAM_NOISE,
    FilteredSampler,
    Indices,
    Lods,
    Positions,
    TexelSampler,
    whole_lod_share,
)
from model import Noise
from quantize import stream_key

SAMPLES = 512
# Largest relative difference from the reference: of the loss, and of the norm of a gradient. Measured on data/test with
# autograd's products rounding their factors (3 seeds of the default form and of --preset preview and best): tf32 2e-4
# and 2e-2, bf16 2e-3 and 8e-2. Most of it comes from leaky ReLU, whose derivative jumps where rounding changes the sign
# of a sum. Errors differ by more: factors truncated to tf32 by 3e-3 and 4e-2, samples half a texel off by at least 8e-4
# and 0.5, missing noise by 3e-4 and 0.12, channels in another order by 4 and 1.8.
TOLERANCE = {"ieee": (1e-4, 1e-2), "tf32": (1e-3, 6e-2), "bf16": (1e-2, 2e-1)}
MOST_OFF = 1e-3  # share of the parameters that may miss Adam's formula by more than STEP_TOLERANCE
STEP_TOLERANCE = 1e-4  # in learning rates; Adam's first step is one learning rate long
MOST_CHECKED = 1 << 20  # parameters of a grid that are compared


@failures()
def check_engine(engine: CudaEngine) -> None:
    """Compare one step of SAMPLES samples with autograd and, at the start of a run, an iteration with Adam's formula.

    On a GPU also capture and replay a CUDA graph. The engine is afterwards as it was before.

    Raises: KernelsUnavailable when the kernels fail, or compute something else.
    """
    check_gradients(engine)
    if engine.iteration == 0:
        try:
            check_iteration(engine)
        finally:
            engine.restart()


def check_gradients(engine: CudaEngine) -> None:
    """Compare one step of SAMPLES samples with autograd. Raises: KernelsUnavailable."""
    found_loss, found = kernel_gradients(engine)
    wanted_loss, wanted = reference_gradients(engine)
    whole_numbers = engine.model.activation_bits == 8 and engine.schedule.rounds_weights(engine.iteration)
    # Where the reference rounds in whole numbers, bytes fall apart as features of bf16 do.
    tolerance = TOLERANCE["bf16" if whole_numbers else engine.plan.precision]
    names = ["the loss", *(f"weights {i}" for i in range(len(engine.model.weights))),
             *(f"grid {i}" for i in range(len(engine.grids)))]  # fmt: skip
    pairs = [(found_loss, wanted_loss), *zip(found, wanted)]
    for name, (one, other) in zip(names, pairs):
        if other is None:
            continue
        apart = float((one - other).norm()) / max(float(other.norm()), 1e-20)
        if not apart <= tolerance[name != "the loss"]:
            raise KernelsUnavailable(f"the GPU kernels failed their self-check: {name}: {apart:.1e} apart")


@torch.no_grad()
def check_iteration(engine: CudaEngine) -> None:
    """Run the first iteration and compare parameters, packed weights and the iteration count with Adam's formula.

    The caller has to restart the engine. Raises: KernelsUnavailable.
    """
    engine._fill_table(1)
    for launch in engine.gradient_launches:
        launch()
    network = engine.plan.unpack_gradient(engine._partials.sum(dim=0))
    for weight in split_weights(network, engine.model)[:-1] if engine.model.keeps_biases else ():
        weight[0] = 0
    places = [_places(grid.gradient) if moves else None for grid, moves in zip(engine.grids, engine.plan.moves)]
    gradients = [None if at is None else grid.float_gradient(at)
                 for at, grid in zip(places, engine.grids)]  # fmt: skip
    for launch in engine.launches[len(engine.gradient_launches) :]:
        launch()
    rates = [rate * engine.schedule.factor(0) for rate in engine.rates]
    before = flat_weights(engine.model)
    _compare_step("the network's step", before, network, engine.network.weights, rates[0])
    after, rounded = engine.network.weights, engine.schedule.rounds_weights(engine.iteration + 1)
    packed = engine.network.packed
    wanted = engine.plan.pack(round_flat(after, engine.model) if rounded else after)
    if not torch.allclose(packed.float(), wanted, rtol=torch.finfo(packed.dtype).eps, atol=0.0):
        raise KernelsUnavailable("the GPU kernels failed their self-check: the packed weights are others")
    if engine.schedule.config.wrap_boundary and engine.schedule.config.wrap_interval == 1:
        places = [None] * len(places)  # this iteration has also moved the borders
    for index, (at, gradient, grid) in enumerate(zip(places, gradients, engine.grids)):
        if at is not None:
            start = engine.model.grid_parameters[index][at]
            _compare_step(f"grid {index}'s step", start, gradient, grid.values(1)[at], rates[1 + index], grid.limit)
            if grid.gradient.any() or grid.scattered.any():
                raise KernelsUnavailable(f"the GPU kernels failed their self-check: grid {index} keeps its gradient")
    if engine.device.type == "cuda":
        engine._progress.copy_(torch.tensor([0, 0, engine._seed, 0], dtype=torch.int32))
        engine.capture()
        engine._graphs[1].replay()
    found = engine._progress.tolist()[:2]
    if found != [1, 1]:
        raise KernelsUnavailable(f"the GPU kernels failed their self-check: iteration and row are {found}, not 1")


def _places(gradient: torch.Tensor) -> torch.Tensor:
    """Indices of up to MOST_CHECKED parameters with a gradient, and of the first 1024 parameters whether or not."""
    few = torch.arange(min(1024, len(gradient)), device=gradient.device)
    return torch.cat([gradient.nonzero()[:MOST_CHECKED, 0], few])


def _compare_step(
    what: str, before: torch.Tensor, gradient: torch.Tensor, after: torch.Tensor, rate: float, limit: float = math.inf
) -> None:
    """Compare Adam's first step with its formula. Raises: KernelsUnavailable.

    The step is a whole learning rate for any gradient, so one that is 0 but for the order of its sum may point either
    way; MOST_OFF allows for those.
    """
    one, two = gradient * (1 - ADAM_BETAS[0]), gradient.square() * (1 - ADAM_BETAS[1])
    wanted = (before - rate * step_size(1) * one / (two.sqrt() + small(1))).clamp(-limit, limit)
    off = float(((after - wanted).abs() > STEP_TOLERANCE * rate + 1e-7).float().mean())
    if not off <= MOST_OFF:
        raise KernelsUnavailable(f"the GPU kernels failed their self-check: {what}: {off:.1%} of it is another")


def kernel_gradients(engine: CudaEngine) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Loss and gradients (weights, then grids) of the training kernel; its sums are cleared again."""
    engine._fill_table(1)
    launch = engine.step_launch("train", SAMPLES)
    engine._partials.zero_()
    launch()
    programs = launch.grid[0]
    flat = engine.plan.unpack_gradient(engine._partials[:programs].sum(dim=0))
    gradients = split_weights(flat, engine.model)
    for index, grid in enumerate(engine.grids):
        if grid.grid.compressed and grid.moves:
            engine.block_gradient_launch(index, None)()
        gradients.append(grid.float_gradient())
        grid.clear_gradient()
    return engine._losses[:programs].sum() / SAMPLES, gradients


def _drawn(engine: CudaEngine) -> tuple[Positions, Indices | Lods, PresentValues]:
    """uv, LOD and the material's values of SAMPLES samples of the iteration."""
    config, material = engine.schedule.config, engine.material
    drawn = material.lod_sizes, config.seed, SAMPLES, engine.device
    if config.positions == "filtered":
        whole = whole_lod_share(engine.model)
        uv, lod = FilteredSampler(*drawn, whole).draw_positions(engine.iteration)
        return uv, lod.long() if whole == 1 else lod, material.filtered(uv, lod)
    texel, lod, uv = TexelSampler(*drawn).draw(engine.iteration)
    return uv, lod, material.gather(texel)


def reference_gradients(engine: CudaEngine) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """The same by autograd; None for grids that are not trained."""
    model, config, device = engine.model, engine.schedule.config, engine.device
    iteration = engine.iteration
    uv, lod, values = _drawn(engine)
    strength = engine.schedule.noise_strength(iteration)
    keys = tuple(stream_key(config.seed, iteration, STREAM_NOISE + g) for g in range(len(model.grids)))
    channels = torch.tensor(engine.channels, device=device)
    columns = torch.tensor(engine.columns, device=device)
    target = values.index_select(1, columns)
    parameters = [*model.weights, *model.grid_parameters]
    with torch.enable_grad():
        noise, rounded = Noise(strength, keys) if strength > 0 else None, engine.schedule.rounds_weights(iteration)
        decoded = model(uv, lod, noise, rounded=rounded).index_select(1, channels)
        share = engine._target["channel_weights"].index_select(0, channels)
        error = engine.sample_loss.squared_errors(decoded, target)
        loss = (error.mean(dim=0) * share).sum()
        gradients = list(torch.autograd.grad(loss, parameters))
    for column in model.unused_inputs:
        gradients[0][:, column] = 0
    moves = [True] * len(model.weights) + list(engine.plan.moves)
    return loss.detach(), [gradient if moving else None for gradient, moving in zip(gradients, moves)]
