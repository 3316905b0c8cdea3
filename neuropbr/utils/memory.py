"""How much memory a training step needs, found out before the first one, and what there is."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from common.memory import free_memory
from neuropbr.losses.losses import HybridLoss
from neuropbr.models.discriminators import build_discriminator, join_maps
from neuropbr.models.generator import MultiViewPBRGenerator
from neuropbr.train_config import TrainConfig
from neuropbr.utils.maps import MAPS, unit

PROCESS_BYTES = 0.55e9  # of PyTorch and the libraries beside it, before the first tensor
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


def activation_bytes(config: TrainConfig) -> tuple[int, int]:
    """(peak of a step's tensors, parameters and their gradients among them; bytes of the parameters), in float32.

    The step runs without values (device "meta"): forward, losses, backward. A few seconds.
    """
    adversarial = config.model.use_gan and config.loss.w_gan > 0
    peak = PeakBytes()
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        generator = MultiViewPBRGenerator(config, pretrained=False).train()
        parts = [generator, build_discriminator(config.model)] if adversarial else [generator]
        weights = sum(p.numel() * p.element_size() for part in parts for p in part.parameters() if p.requires_grad)
        batch = config.data.batch_size
        views = torch.empty(batch, 3, 3, *config.data.image_size)
        target = {name: torch.empty(batch, channels, *config.data.output_size) for name, channels in MAPS.items()}
        target["normal"] = unit(target["normal"], 1)
        with peak:
            prediction = generator(views)
            total = HybridLoss(config.loss)(prediction, target)[0]
            if adversarial:
                total = total + parts[1](join_maps(prediction)).mean()
            total.backward()
    held = sum(tensor.numel() * tensor.element_size() for tensor in (views, *target.values()))
    return peak.peak + held + sum(p.numel() * p.element_size() for part in parts for p in part.parameters()), weights
