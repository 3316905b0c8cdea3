"""Which GPU each process of a batch gets: one material a GPU, of those that CUDA_VISIBLE_DEVICES leaves."""

from __future__ import annotations

import os

import torch

from configs import Config

VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpus_of(config: Config) -> list[str]:
    """The GPUs that the groups of a batch are spread over, by the names that CUDA_VISIBLE_DEVICES has for them.

    Numbers, or what the user wrote there: it may also hold UUIDs and parts of a GPU. None where training runs on the
    CPU, or on one GPU that --device names.
    """
    if config.device not in ("auto", "cuda") or not torch.cuda.is_available():
        return []
    count = torch.cuda.device_count()
    given = os.environ.get(VISIBLE)
    names = [str(number) for number in range(count)] if given is None else given.split(",")
    return [name.strip() for name in names][:count]  # CUDA leaves out what follows a name that it does not know


def use_gpu(name: str) -> None:
    """Let this process see one GPU; in time, that is before its first use of CUDA."""
    os.environ[VISIBLE] = name
