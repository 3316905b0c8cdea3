"""A training step in C++: both networks in one pass over small tiles of samples, compiled for this CPU at first use.

engine/cpu/build.py compiles, caches and loads the library, which shares the matrix products of the material kernels.
Adam on some thousand weights, and sampling and rounding a learned grid, stay with PyTorch.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p
from pathlib import Path

import torch

from common.errors import Say
from engine.cpu import build
from engine.cpu.library import check, pointer, pointers, thread_count
from engine.errors import KernelsUnavailable
from lightmap.compressor import Compressor
from lightmap.sampling import Batch
from lightmap.siren import Siren
from lightmap.torch_step import TorchStep

SOURCES = Path(__file__).resolve().parent / "kernels"
# of engine/cpu/src, included by ours
SHARED = ("bare.cpp", "failure.h", "gemm.cpp", "gemm.h", "pool.h", "system.cpp", "system.h", "vec.h")


class Network(ctypes.Structure):
    """lm_network of kernels/siren.h."""

    _fields_ = [(name, c_int32) for name in ("inputs", "hidden", "layers", "outputs")] + [("omega", c_float)]


class _Recipe(build.Recipe):
    """Sources whose hash names the library: those in kernels/ and those that they include."""

    def read_sources(self) -> dict[str, bytes]:
        try:
            shared = {f"shared {name}, included": (build.SOURCES / name).read_bytes() for name in SHARED}
        except OSError as error:
            raise KernelsUnavailable(f"cannot read the sources of the CPU kernels: {error}") from error
        return {**super().read_sources(), **shared}


@functools.cache
def load_kernels(say: Say | None = None) -> ctypes.CDLL:
    """The compiled kernels. Raises: KernelsUnavailable."""
    extra = build.split_variable("NTC_CXXFLAGS")
    recipes = [_Recipe(SOURCES, compiler, extra) for compiler in build.find_compilers()]
    library = build.find_or_build(recipes, (build.user_cache, build.private_folder), say)
    try:
        kernels = ctypes.CDLL(str(library))
    except OSError as error:
        raise KernelsUnavailable(f"the compiled CPU kernels cannot be loaded: {error}") from error
    kernels.nt_failure.restype = ctypes.c_char_p
    network, addresses = POINTER(Network), POINTER(c_void_p)
    kernels.lm_gradients.restype = c_int32
    kernels.lm_gradients.argtypes = [
        network, addresses, addresses, network, addresses, addresses, c_int64, c_void_p, c_void_p, c_int32, c_void_p,
        c_void_p, POINTER(c_float), c_int32,
    ]  # fmt: skip
    return kernels


def fused_problem(model: Compressor, device: torch.device) -> str | None:
    """Why the kernels cannot train this model; None if they can."""
    if device.type != "cpu":
        return "they run on the CPU"
    if model.shape.latent_mode == "f1" and model.shape.latent_scale > 1:
        return "they do not blend the latents of F1 (--latent_scale above 1)"
    return None


class FusedStep(TorchStep):
    """TorchStep with loss and gradients from the kernels: equal to float32 rounding, and deterministic for a given
    number of threads.

    Raises: KernelsUnavailable if the kernels cannot be compiled or loaded.
    """

    name = "fused"

    def __init__(self, model: Compressor, lr: float, lr_grid: float, say: Say | None = None):
        super().__init__(model, lr, lr_grid)
        self.kernels, self.threads = load_kernels(say), thread_count(0)
        self.coordinates: torch.Tensor | None = None

    def step(self, batch: Batch, decay: float) -> torch.Tensor:
        """See TorchStep.step."""
        return self.advance(self.gradients(batch), decay)

    def gradients(self, batch: Batch) -> torch.Tensor:
        """Write the gradients into the parameters' .grad. Returns: the loss, a scalar tensor."""
        model = self.model
        if model.shape.latent_mode == "f1":
            return self._run(batch, model.positions(batch.texels).contiguous(), None)
        if model.grid.grad is not None:
            model.grid.grad = None
        latents = model.latents(batch.texels)
        by_latents = torch.empty_like(latents)
        loss = self._run(batch, latents.detach().contiguous(), by_latents)
        latents.backward(by_latents)
        return loss

    def _run(self, batch: Batch, inputs: torch.Tensor, by_inputs: torch.Tensor | None) -> torch.Tensor:
        loss, model = c_float(), self.model
        f1 = self._described(model.f1) if by_inputs is None else (None, None, None)
        status = self.kernels.lm_gradients(
            *f1, *self._described(model.f2), len(inputs), pointer(inputs), pointer(batch.hours.contiguous()),
            model.shape.time_harmonics, pointer(batch.values.contiguous()), pointer(by_inputs), ctypes.byref(loss),
            min(self.threads, torch.get_num_threads()),
        )  # fmt: skip
        check(self.kernels, status)
        return torch.tensor(loss.value)

    @staticmethod
    def _described(net: Siren) -> tuple[Network, ctypes.Array, ctypes.Array]:
        """lm_network, the addresses of the parameters, and those of their gradients, allocated at the first step."""
        sizes = net.sizes
        parameters = [value for pair in zip(net.weights, net.biases) for value in pair]
        for value in parameters:
            if value.grad is None:
                value.grad = torch.empty_like(value)
        shape = Network(sizes[0], sizes[1], len(sizes) - 2, sizes[-1], float(net.omega))
        return shape, pointers([p.detach() for p in parameters]), pointers([p.grad for p in parameters])
