"""Where PyTorch computes: what --device names."""

from __future__ import annotations

import torch

from errors import UserError

DEVICES = ("cpu", "cuda", "mps")


def choose_device(wanted: str) -> torch.device:
    """The device of a name, as cuda:1; auto is CUDA where there is some, else the CPU.

    Raises: UserError when it is unknown or not there.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.zeros(1, device=device)
        if device.type not in DEVICES:
            raise RuntimeError(f"expected one of {', '.join(DEVICES)}")
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise UserError(f"--device {wanted}: not available here ({reason}); use auto or cpu") from error
    return device
