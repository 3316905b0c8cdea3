"""Whether the Triton kernels can run here, and their import, which nothing else of the toolkit needs."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import os
from typing import Any

import torch

NO_FUSION = {"enable_fp_fusion": False}  # positions, noise and rounding with the reference's bits


class KernelsUnavailable(Exception):
    """The Triton kernels cannot be used; one line that says why."""


def interpreted() -> bool:
    """Whether TRITON_INTERPRET=1 lets the kernels run on the CPU, operation by operation: for tests."""
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
    """The modules with kernels: `.kernels` and `.adam`. Raises: KernelsUnavailable."""
    try:
        kernels = importlib.import_module("engine.cuda.kernels")
        adam = importlib.import_module("engine.cuda.adam")
    except Exception as error:  # an older Triton lacks functions, a broken one fails in any way
        reason = " ".join(str(error).split())[:200]
        raise KernelsUnavailable(f"Triton's kernels cannot be imported ({type(error).__name__}: {reason})") from error
    return dataclasses.make_dataclass("Kernels", ["kernels", "adam"])(kernels, adam)


@dataclasses.dataclass
class Launch:
    """A kernel with everything that it is called with: to be run, or to be compiled for a GPU that is not there.

    Args:
        grid: programs.
        arguments: tensors, numbers and tuples of them, by name.
        constants: constexprs, by name.
        options: num_warps and the like.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    constants: dict[str, Any]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(self) -> None:
        self.kernel[self.grid](**self.arguments, **self.constants, **NO_FUSION, **self.options)
