"""How much memory a training step needs, found out before the first one, and what there is."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from common.errors import Say
from common.memory import free_memory
from neuropbr.losses.losses import HybridLoss
from neuropbr.models.discriminators import build_discriminator, join_maps
from neuropbr.models.generator import MultiViewPBRGenerator
from neuropbr.train_config import TrainConfig
from neuropbr.utils.maps import MAPS, VIEWS

# Measured against the peak resident set of runs on a CPU, see docs/neuropbr.md.
PROCESS_BYTES = 0.85e9  # PyTorch and the libraries beside it, before the first tensor
WORKSPACE = 1.2  # convolutions keep copies in other layouts, in the tensors' bytes
GPU_BYTES = 0.6e9  # of CUDA's context and libraries' workspaces
MIXED = 0.6  # of the activations' bytes with 16-bit autocast: what stays in 32 bits stays


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make and that live at once; the tensors may be on "meta"."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known: weakref.WeakValueDictionary = weakref.WeakValueDictionary()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(results):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return results

    def _count(self, storage: Any) -> None:
        if self._known.get(storage._cdata) is not None:
            return
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        self._known[storage._cdata] = storage
        weakref.finalize(storage, self._release, size)

    def _release(self, size: int) -> None:
        self.now -= size


class _Fused(torch.autograd.Function):
    """Stands for attention that keeps no matrix of all pairs of tokens: as much memory, no values."""

    @staticmethod
    def forward(context: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        result = torch.empty_like(query)
        context.save_for_backward(query, key, value, result)
        return result

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in context.saved_tensors[:3])


def attends_in_pieces(config: TrainConfig, device: torch.device) -> bool:
    """Whether attention in training keeps no matrix of all pairs: on CUDA, and on a CPU without dropout in it."""
    return device.type == "cuda" or config.model.transformer_attn_drop == 0


@contextlib.contextmanager
def _attention(fused: bool) -> Iterator[None]:
    plain = F.scaled_dot_product_attention
    if fused:
        F.scaled_dot_product_attention = lambda query, key, value, **_: _Fused.apply(query, key, value)
    try:
        yield
    finally:
        F.scaled_dot_product_attention = plain


def tensor_bytes(config: TrainConfig, device: torch.device, gan: bool = True) -> tuple[int, int]:
    """(peak of a training step's tensors with the parameters, bytes of the parameters that train), in float32.

    The step runs without values (on "meta"): forward, losses, backward. Takes seconds at any size.
    """
    adversarial = gan and config.model.use_gan and config.loss.w_gan > 0
    counter = PeakBytes()
    with torch.device("meta"), torch.random.fork_rng(devices=[]), _attention(attends_in_pieces(config, device)):
        parts: list[nn.Module] = [MultiViewPBRGenerator(config, pretrained=False).train()]
        if adversarial:
            parts.append(build_discriminator(config.model))
        views = torch.empty(config.data.batch_size, VIEWS, 3, *config.data.image_size)
        target = {name: torch.empty(len(views), channels, *config.data.output_size) for name, channels in MAPS.items()}
        with counter:
            prediction = parts[0](views)
            total = HybridLoss(config.loss)(prediction, target)[0]
            if adversarial:
                total = total + parts[1](join_maps(prediction)).mean()
            total.backward()
    weights = [parameter for part in parts for parameter in part.parameters()]
    held = _bytes([views, *target.values(), *weights])
    return counter.peak + held, _bytes([parameter for parameter in weights if parameter.requires_grad])


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def training_bytes(config: TrainConfig, device: torch.device, gan: bool = True) -> int:
    """About as many bytes as training takes on `device`, of its memory (which is the process's for a CPU).

    Args:
        gan: train with the discriminator where the configuration has one (a student does not).
    """
    tensors, weights = tensor_bytes(config, device, gan)
    moments = 2 * weights
    if device.type != "cuda":
        return int(PROCESS_BYTES + WORKSPACE * tensors + moments)
    mixed = MIXED if config.training.use_amp else 1.0
    return int(GPU_BYTES + mixed * tensors + moments)


def say_what_it_needs(config: TrainConfig, device: torch.device, gan: bool = True, say: Say = print) -> None:
    """Print what a configuration needs, and a warning where that is more than there is."""
    need, (height, width) = training_bytes(config, device, gan), config.data.image_size
    what = f"this configuration needs about {gigabytes(need)} (batch {config.data.batch_size} at {width}x{height})"
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    if free is None or need <= free:
        say(what)
        return
    batch = "" if config.data.batch_size == 1 else "lower --batch-size, or "
    if not attends_in_pieces(config, device) and config.model.bottleneck == "vit":
        batch += "--set model.transformer_attn_drop=0 (dropout keeps a matrix of all pairs of tokens on a CPU), or "
    say(f"warning: {what}, and {gigabytes(free)} are free; {batch}"
        f"--set data.image_size={max(height, width) // 2}")


def gigabytes(count: float) -> str:
    """2 significant digits: 14e9 -> '14 GB', 0.83e9 -> '0.83 GB'."""
    return f"{float(f'{count / 1e9:.2g}'):g} GB"
