"""The GPUs that the processes of a batch are spread over: those that CUDA_VISIBLE_DEVICES leaves."""

from __future__ import annotations

import os

from configs import Config

VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpus_of(config: Config) -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them: by number, by UUID, or as a part of a GPU (MIG).

    Empty where training runs on the CPU, or on the one GPU that --device names.
    """
    if config.device not in ("auto", "cuda"):
        return []
    import torch

    if not torch.cuda.is_available():
        return []
    count = torch.cuda.device_count()
    given = os.environ.get(VISIBLE)
    names = [str(number) for number in range(count)] if given is None else given.split(",")
    return [name.strip() for name in names][:count]  # CUDA ignores the names after one that it does not know


def use_gpu(name: str) -> None:
    """Let this process see one GPU alone. Works only before its first use of CUDA."""
    os.environ[VISIBLE] = name
