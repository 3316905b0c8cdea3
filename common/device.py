"""Where PyTorch computes: what --device names."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from common.errors import UserError

DEVICES = ("cpu", "cuda", "mps")


def choose_device(wanted: str, automatic: Sequence[str] = ("cuda",)) -> torch.device:
    """The device of a name, as cuda:1; auto is the first of `automatic` that is there, else the CPU.

    Raises: UserError when it is unknown or not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device(next((name for name in automatic if there[name]), "cpu"))
    try:
        device = torch.device(wanted)
        torch.zeros(1, device=device)
        if device.type not in DEVICES:
            raise RuntimeError(f"expected one of {', '.join(DEVICES)}")
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise UserError(f"--device {wanted}: not available here ({reason}); use auto or cpu") from error
    return device
