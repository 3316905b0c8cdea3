"""Who computes a training step (design.md, section 7).

An engine has `step(n) -> mean loss`, `probe() -> mean squared error`, `iteration`, `sync()`, `learning_rates()`,
`state()` and `load_state()`.
"""

from __future__ import annotations

import torch

from configs import Config
from dataset import Material
from engine.torch_engine import TorchEngine
from errors import UserError
from model import NeuralTexture
from schedule import Schedule

ENGINES = {"torch": TorchEngine}
DEFAULT_ENGINE = "torch"
DEVICES = ("cpu", "cuda", "mps")

def resolve_device(config: Config) -> torch.device:
    """The device that --device names, and --num_threads applied.

    Raises: UserError when the device is unknown or not there.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(config.device)
        torch.zeros(1, device=device)
        if device.type not in DEVICES:
            raise RuntimeError(f"expected one of {', '.join(DEVICES)}")
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise UserError(f"--device {config.device}: not available here ({reason}); use auto or cpu") from error
    return device


def create_engine(model: NeuralTexture, material: Material, schedule: Schedule, device: torch.device):
    """The engine that --engine names; auto is the fastest one that works here."""
    name = schedule.config.engine
    return ENGINES[DEFAULT_ENGINE if name == "auto" else name](model, material, schedule, device)
