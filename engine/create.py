"""Creates the engine, the decoder and the code search that the flags name, or the fastest that work here."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Protocol

import torch

from common.device import choose_device
from common.errors import Say, UserError
from configs import Config
from dataset import Material
from engine.base import KernelEngine
from engine.cpu import code_search as cpu_code_search
from engine.cpu.decoder import decode_lod, decode_samples
from engine.cpu.engine import CpuEngine
from engine.cpu.library import load_kernels
from engine.cuda import decoder as cuda_decoder
from engine.cuda.engine import CudaEngine
from engine.cuda.self_check import check_engine
from engine.errors import KernelsUnavailable
from engine.protocol import Engine
from engine.sampling import Lods, Positions, learned_channels
from engine.schedule import Schedule
from engine.tcnn_engine import TcnnEngine
from engine.torch.code_search import CodeSearch, search_level
from engine.torch.engine import TorchEngine
from metrics.filtered import DecodeSamples
from metrics.filtered import decode_samples as decode_with_torch
from model import Decoded, DecodedImage, NeuralTexture

# Until its kernels have run on GPUs, and not only in Triton's interpreter.
NEW_ENGINE = (
    "note: the cuda engine is new, and its first step agrees with PyTorch's here; if a result is wrong, report it with "
    "config.json of the run, and take --engine torch"
)


class Decoder(Protocol):
    """Decodes rows of one LOD at its texel centres, as model.NeuralTexture.decode does."""

    def __call__(
        self, model: NeuralTexture, lod: int, width: int, height: int, *, rows: slice = slice(None)
    ) -> DecodedImage:
        """Returns: (rows, width, 11) float32, not clamped."""


def resolve_device(config: Config) -> torch.device:
    """The device that --device names. Applies --num_threads to PyTorch.

    Raises: UserError when the device is unknown or missing.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    return choose_device(config.device)


def create_engine(
    model: NeuralTexture, material: Material, schedule: Schedule, device: torch.device, say: Say = print
) -> Engine:
    """The engine that --engine names; with `auto` the fastest one that works here.

    Args:
        model: on `device`.
        say: receives a line when kernels are compiled, or when `auto` falls back to PyTorch.
    Raises: UserError when the engine cannot work here.
    """
    if not learned_channels(model, material):  # such a run ends before its first step and needs no kernels
        return TorchEngine(model, material, schedule)
    name = schedule.config.engine
    if name == "tcnn":
        return TcnnEngine(model, material, schedule)
    if name == "cpu" and device.type != "cpu":
        raise UserError(f"--engine cpu: expected --device cpu, found {device}; use --device cpu or --engine auto")
    if name == "cuda" or (name == "auto" and device.type == "cuda"):
        try:
            engine = _checked_engine(model, material, schedule)
            if name == "auto":
                say(NEW_ENGINE)
            return engine
        except KernelsUnavailable as error:
            if name == "cuda":
                way_out = "use --engine auto" if device.type == "cuda" else "use --device cuda, or --engine auto"
                raise UserError(f"--engine cuda: {error}; {way_out}") from error
            say(f"note: {error}; training with PyTorch instead, which is several times slower")
    if name == "torch" or device.type != "cpu":
        return TorchEngine(model, material, schedule)
    try:
        return CpuEngine(model, material, schedule, say)
    except KernelsUnavailable as error:
        if name == "cpu":
            raise UserError(f"--engine cpu: {error}; or use --engine torch, which is slower") from error
        say(f"note: {error}; training with PyTorch instead, which is several times slower")
        return TorchEngine(model, material, schedule)


def _checked_engine(model: NeuralTexture, material: Material, schedule: Schedule) -> CudaEngine:
    """Raises: KernelsUnavailable; the engine's memory is free again once the exception is handled."""
    engine = CudaEngine(model, material, schedule)
    check_engine(engine)
    return engine


def at_rest(engine: Engine, folder: Path | None = None) -> Engine:
    """An engine that has taken its last step, in the model's own memory: it can be probed and saved, and goes on when a
    checkpoint is loaded. The kernels' copy of parameters and moments, 1.6 GB at 8192 x 8192, is freed; `engine` is
    used up.

    Args:
        folder: for a file of the moments, another 0.8 GB, which are read when a checkpoint is saved.
    """
    engine.sync()
    if not isinstance(engine, KernelEngine):
        return engine
    resting = TorchEngine(engine.model, engine.material, engine.schedule)
    resting.load_state(engine.retire(folder))
    return resting


def create_decoder(config: Config, say: Say | None = None) -> Decoder:
    """The decoder of whole LODs for this configuration: kernels, or PyTorch with --engine torch.

    Args:
        say: receives a line when kernels are compiled.
    """
    return NeuralTexture.decode if config.engine == "torch" else functools.partial(_decode, config.engine, say)


def _decode(
    engine: str, say: Say | None, model: NeuralTexture, lod: int, width: int, height: int, rows: slice = slice(None)
) -> DecodedImage:
    """Decodes with the kernels of the model's device, and with PyTorch where they do not work."""
    if engine == "cuda" or model.weights[0].device.type == "cuda":
        with contextlib.suppress(KernelsUnavailable):
            return cuda_decoder.decode_checked(model, lod, width, height, rows=rows)
    return decode_lod(model, lod, width, height, say=say, rows=rows)


def create_sample_decoder(config: Config) -> DecodeSamples:
    """The decoder at any position for this configuration: the CPU's kernels, or PyTorch."""
    return decode_with_torch if config.engine == "torch" else _decode_samples


def _decode_samples(model: NeuralTexture, uv: Positions, lod: Lods) -> Decoded:
    if model.weights[0].device.type == "cpu":
        with contextlib.suppress(KernelsUnavailable):
            return decode_samples(model, uv, lod)
    return decode_with_torch(model, uv, lod)


def create_code_search(config: Config, device: torch.device) -> CodeSearch:
    """The search that improves the codes of a grid level: kernels on the CPU, else PyTorch."""
    if config.engine == "torch" or device.type != "cpu":
        return search_level
    try:
        load_kernels()
    except KernelsUnavailable:
        return search_level
    return functools.partial(cpu_code_search.search_level, n_threads=config.num_threads)
