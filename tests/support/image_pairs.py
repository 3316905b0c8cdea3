"""What the tests of metrics.py share: a decoded image with its source, and what is shipped of it in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maps.channels import MAPS
from metrics import perceptual

ALL = list(MAPS)
SIZES = [(1, 1), (5, 7), (10, 11), (11, 11), (640, 384)]  # H, W: below, at and above what the metrics need


@pytest.fixture(autouse=True)
def without_lpips(monkeypatch):
    """No test depends on whether this machine has the AlexNet weights, and none asks the network."""
    monkeypatch.setattr(perceptual, "_lpips_network", lambda: (None, "LPIPS is left out: switched off for the test"))


def pair(height, width, noise=0.05, seed=0):
    """A decoded image that goes past both ends of [0, 1], and an 8-bit source."""
    generator = torch.Generator().manual_seed(seed)
    source = (torch.rand(height, width, 11, generator=generator) * 255).round() / 255
    scale = noise * torch.linspace(0.2, 3, 11)  # unequal maps
    return source + scale * torch.randn(height, width, 11, generator=generator), source


def shipped_float64(decoded):
    """The 8-bit image, by the definition, in float64."""
    return np.floor(np.clip(decoded.numpy().astype(np.float64), 0, 1) * 255 + 0.5) / 255


def psnr_float64(decoded, source):
    return -10 * np.log10(np.mean((shipped_float64(decoded) - source.numpy().astype(np.float64)) ** 2))
