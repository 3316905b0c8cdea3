"""Imports the Triton kernels, checks that they can run here, and launches them. Nothing else imports Triton."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import os
from collections.abc import Iterator
from typing import Any

import torch

from engine.errors import KernelsUnavailable

OLDEST = (3, 5)  # version of Triton: 3.4 lacks disable_licm of tl.range; 3.5.1, 3.6.0 and 3.9.0 compile all kernels
NO_FUSION = {"enable_fp_fusion": False}  # so that positions, noise and rounding have the reference's bits


def interpreted() -> bool:
    """Whether Triton interprets the kernels on the CPU (TRITON_INTERPRET=1), as tests do."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def check_device(device: torch.device) -> None:
    """Raise KernelsUnavailable unless the kernels can run on `device`."""
    if importlib.util.find_spec("triton") is None:
        raise KernelsUnavailable("Triton is not installed (it comes with PyTorch for CUDA on Linux)")
    if interpreted():
        if device.type != "cpu":
            raise KernelsUnavailable(f"TRITON_INTERPRET=1 computes on the CPU, found --device {device.type}")
        return
    if device.type != "cuda":
        raise KernelsUnavailable(f"expected a CUDA device, found {device.type}")
    if torch.version.hip is not None:
        raise KernelsUnavailable("expected an NVIDIA GPU, found PyTorch for ROCm")
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        raise KernelsUnavailable(f"expected compute capability 8.0 or more, found {major}.{minor}")


@functools.cache
def load() -> Any:
    """The modules with kernels as attributes: `.kernels`, `.adam` and `.blocks`. Raises: KernelsUnavailable."""
    try:
        kernels = importlib.import_module("engine.cuda.kernels")
        adam = importlib.import_module("engine.cuda.adam")
        blocks = importlib.import_module("engine.cuda.blocks.kernels")
    except Exception as error:  # an older Triton lacks functions, a broken one raises anything
        reason = " ".join(str(error).split())[:200]
        raise KernelsUnavailable(f"Triton's kernels cannot be imported ({type(error).__name__}: {reason})") from error
    found = importlib.import_module("triton").__version__
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise KernelsUnavailable(f"expected Triton {oldest} or more, which PyTorch 2.9 brings, found {found}")
    return dataclasses.make_dataclass("Kernels", ["kernels", "adam", "blocks"])(kernels, adam, blocks)


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Turns what Triton raises into KernelsUnavailable with one line, except when the GPU is out of memory.

    Triton raises many types: a compilation finds no C compiler, a GPU lacks a resource, a launch fails.
    """
    try:
        yield
    except (KernelsUnavailable, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(cause).split())[-160:]  # a failed compilation lists its source before the reason
        raise KernelsUnavailable(f"the GPU kernels failed ({type(cause).__name__}: {reason})") from error


@dataclasses.dataclass
class Launch:
    """A kernel with all its arguments, ready to be run here or compiled for another GPU (engine/cuda/compiled.py).

    Args:
        grid: number of programs per axis.
        arguments: tensors, numbers and tuples of them, by name.
        constants: values of the tl.constexpr parameters, by name.
        options: of the compilation, such as num_warps.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    constants: dict[str, Any]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(self) -> None:
        with on_device(next(value for value in self.arguments.values() if isinstance(value, torch.Tensor)).device):
            self.kernel[self.grid](**self.arguments, **self.constants, **NO_FUSION, **self.options)


def on_device(device: torch.device) -> contextlib.AbstractContextManager:
    """Makes `device` CUDA's current device, on which Triton launches; --device cuda:1 alone does not."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
