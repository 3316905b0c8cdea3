"""Who computes a training step (design.md, section 7), who decodes whole LODs, and who searches for better codes.

An engine has `step(n) -> mean loss`, `probe() -> mean squared error`, `iteration`, `chunk` (iterations that a step
should have at most), `channels` (those that it trains), `sync()` and `reload()` (parameters to and from the model),
`learning_rates()`, `state()` and `load_state()`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

import torch

from common.device import choose_device
from common.errors import Say, UserError
from configs import Config
from dataset import Material
from engine.cpu import refine as cpu_refine
from engine.cpu.decoder import decode_lod
from engine.cpu.engine import CpuEngine
from engine.cpu.library import KernelsUnavailable, load_kernels
from engine.cuda import decoder as cuda_decoder
from engine.cuda.engine import CudaEngine
from engine.cuda.library import KernelsUnavailable as GpuKernelsUnavailable
from engine.cuda.plan import Unsupported
from engine.sampling import learned_channels
from engine.schedule import Schedule
from engine.tcnn_engine import TcnnEngine
from engine.torch_engine import TorchEngine
from engine.torch_refine import refine_level
from model import NeuralTexture


def resolve_device(config: Config) -> torch.device:
    """The device that --device names, and --num_threads applied.

    Raises: UserError when the device is unknown or not there.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    return choose_device(config.device)


def create_engine(
    model: NeuralTexture, material: Material, schedule: Schedule, device: torch.device, say: Say = print
) -> TorchEngine | CpuEngine | CudaEngine:
    """The engine that --engine names; auto is the fastest one that works here.

    Args:
        say: receives a line when kernels are compiled, or when there are none and auto does without.
    Raises: UserError when the engine cannot work here.
    """
    if not learned_channels(model, material):  # nothing to compile kernels for: such a run ends before its first step
        return TorchEngine(model, material, schedule, device)
    name = schedule.config.engine
    if name == "tcnn":
        return TcnnEngine(model, material, schedule, device)
    if name == "cpu" and device.type != "cpu":
        raise UserError(f"--engine cpu: expected --device cpu, found {device}; use --device cpu or --engine auto")
    if name == "cuda" or (name == "auto" and device.type == "cuda"):
        try:
            return _checked_engine(model, material, schedule, device, say)
        except (GpuKernelsUnavailable, Unsupported) as error:
            if name == "cuda":
                way_out = "use --engine auto" if device.type == "cuda" else "use --device cuda, or --engine auto"
                raise UserError(f"--engine cuda: {error}; {way_out}") from error
            say(f"note: {error}; training with PyTorch instead, which is several times slower")
    if name == "torch" or device.type != "cpu":
        return TorchEngine(model, material, schedule, device)
    try:
        return CpuEngine(model, material, schedule, say=say)
    except KernelsUnavailable as error:
        if name == "cpu":
            raise UserError(f"--engine cpu: {error}; or use --engine torch, which is slower") from error
        say(f"note: {error}; training with PyTorch instead, which is several times slower")
        return TorchEngine(model, material, schedule, device)


def _checked_engine(
    model: NeuralTexture, material: Material, schedule: Schedule, device: torch.device, say: Say
) -> CudaEngine:
    """Raises: GpuKernelsUnavailable, with whose end the engine's memory is free again; Unsupported."""
    engine = CudaEngine(model, material, schedule, device, say=say)
    engine.check()
    return engine


def create_decoder(config: Config, say: Say | None = None) -> Callable[..., torch.Tensor]:
    """What decodes whole LODs for this configuration: a function like model.NeuralTexture.decode."""
    return NeuralTexture.decode if config.engine == "torch" else functools.partial(_decode, config.engine, say)


def _decode(
    engine: str, say: Say | None, model: NeuralTexture, lod: int, width: int, height: int, rows: slice = slice(None)
) -> torch.Tensor:
    """On the kernels of the model's device, on PyTorch where they do not work."""
    if engine == "cuda" or model.weights[0].device.type == "cuda":
        with contextlib.suppress(GpuKernelsUnavailable, Unsupported):
            return cuda_decoder.decode_checked(model, lod, width, height, rows=rows)
    return decode_lod(model, lod, width, height, say=say, rows=rows)


def create_search(config: Config, device: torch.device) -> Callable[..., int]:
    """What improves the codes of a grid level: a function like torch_refine.refine_level."""
    if config.engine == "torch" or device.type != "cpu":
        return refine_level
    try:
        load_kernels()
    except KernelsUnavailable:
        return refine_level
    return functools.partial(cpu_refine.refine_level, n_threads=config.num_threads)
