"""Whether the GPU kernels compute here what PyTorch does: a small step, its loss and gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from engine.cuda.library import KernelsUnavailable
from engine.sampling import STREAM_NOISE, TexelSampler
from model import Noise
from quantize import stream_key

if TYPE_CHECKING:
    from engine.cuda.engine import CudaEngine

SAMPLES = 512
# Largest distance from the reference, relative: of the loss, and of a gradient by its norm. A sum that rounding brings
# to the other side of 0 has another derivative: where a share p of them is, gradients are about sqrt(p) apart.
TOLERANCE = {"ieee": (1e-4, 1e-2), "tf32": (1e-2, 1e-1), "bf16": (5e-2, 3e-1)}


def check_engine(engine: CudaEngine) -> None:
    """Compares one step of SAMPLES samples with autograd. Raises: KernelsUnavailable."""
    found_loss, found = kernel_gradients(engine)
    wanted_loss, wanted = reference_gradients(engine)
    tolerance = TOLERANCE[engine.plan.precision]
    names = ["the loss", *(f"weights {i}" for i in range(len(engine.model.weights))),
             *(f"grid {i}" for i in range(len(engine.grids)))]  # fmt: skip
    pairs = [(found_loss, wanted_loss), *zip(found, wanted)]
    for name, (one, other) in zip(names, pairs):
        if other is None:
            continue
        apart = float((one - other).norm()) / max(float(other.norm()), 1e-20)
        if not apart <= tolerance[name != "the loss"]:
            raise KernelsUnavailable(f"the GPU kernels failed their self-check: {name} differ by {apart:.1e}")


def kernel_gradients(engine: CudaEngine) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Loss and gradients by the training kernel, which are then forgotten."""
    engine._fill_table(1)
    launch = engine.step_launch("train", SAMPLES)
    engine._partials.zero_()
    launch()
    programs = launch.grid[0]
    flat = engine.plan.unpack_gradient(engine._partials[:programs].sum(dim=0))
    parts = flat.split([weight.numel() for weight in engine.model.weights])
    gradients = [part.view(weight.shape) for part, weight in zip(parts, engine.model.weights)]
    scale = engine.plan.fixed_point
    for grid in engine.grids:
        gradients.append(grid.gradient.double().div(scale).float() if scale else grid.gradient.clone())
        grid.gradient.zero_()
    return engine._losses[:programs].sum() / SAMPLES, gradients


def reference_gradients(engine: CudaEngine) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """The same by autograd; None for grids that do not move."""
    model, config, device = engine.model, engine.schedule.config, engine.device
    iteration = engine.iteration
    sampler = TexelSampler(engine.material.lod_sizes, config.seed, SAMPLES, device)
    texel, lod, uv = sampler.draw(iteration)
    strength = engine.schedule.noise_strength(iteration)
    keys = tuple(stream_key(config.seed, iteration, STREAM_NOISE + g) for g in range(len(model.grids)))
    channels = torch.tensor(engine.channels, device=device)
    present = engine.material.present_channels.tolist()
    columns = torch.tensor([present.index(channel) for channel in engine.channels], device=device)
    target = engine.material.gather(texel).index_select(1, columns)
    parameters = [*model.weights, *model.grid_parameters]
    with torch.enable_grad():
        decoded = model(uv, lod, Noise(strength, keys) if strength > 0 else None).index_select(1, channels)
        share = engine._target["channel_weights"].index_select(0, channels)
        loss = ((decoded - target).square().mean(dim=0) * share).sum()
        gradients = list(torch.autograd.grad(loss, parameters))
    for column in model.unused_inputs:
        gradients[0][:, column] = 0
    moves = [True] * len(model.weights) + list(engine.plan.moves)
    return loss.detach(), [gradient if moving else None for gradient, moving in zip(gradients, moves)]
