"""Training one model with several processes: `torchrun --nproc_per_node N train.py ...`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import nn

from common.errors import UserError


@contextlib.contextmanager
def process_group(demanded: bool) -> Iterator[tuple[int, int]]:
    """(rank, processes) of this process; (0, 1) without torchrun. Raises: UserError without torchrun if `demanded`."""
    if "WORLD_SIZE" not in os.environ:
        if demanded:
            raise UserError("--distributed: expected to be started by torchrun, found no WORLD_SIZE; "
                            "run torchrun --nproc_per_node N train.py ...")  # fmt: skip
        yield 0, 1
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()


def distributed(module: nn.Module, processes: int) -> nn.Module:
    """`module` with its gradients averaged over the processes."""
    if processes == 1:
        return module
    if next(module.parameters()).is_cuda:
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)


def anywhere(flag: bool, device: torch.device, processes: int) -> bool:
    """Whether `flag` is set in any process: all must leave a loop together."""
    if processes == 1:
        return flag
    value = torch.tensor([float(flag)], device=device)
    dist.all_reduce(value)
    return bool(value.item())


def from_first(value: float, device: torch.device, processes: int) -> float:
    """The `value` of the first process, for all processes."""
    if processes == 1:
        return value
    tensor = torch.tensor([value], device=device, dtype=torch.float32)
    dist.broadcast(tensor, 0)
    return float(tensor.item())
