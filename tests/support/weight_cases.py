"""Weight matrices on which a rounding of weights that is nearly right goes wrong."""

from __future__ import annotations

import torch


def awkward_weights(inputs: int) -> torch.Tensor:
    """(rows, inputs) float32: rows of any size, of zeros, with one weight, with ties, beyond float16 and below it."""
    generator = torch.Generator().manual_seed(inputs)
    sizes = torch.tensor([1.0, 1e-3, 300.0, 1e5, 1e-7, 1e-9, 1e-20, 1e-29, 1e-31, 1e20])[:, None]
    rows = torch.randn(len(sizes), inputs, generator=generator) * sizes
    ties = torch.arange(inputs) / 2 - inputs // 4  # half steps, where the scale is 1
    ties[0] = 127
    single = torch.zeros(inputs)
    single[-1] = -0.3
    halves = 1 + torch.arange(inputs) * 2.0**-11  # between two float16
    small = torch.arange(inputs) * 2.0**-25  # the same, of those that are not normal
    return torch.cat([rows, torch.stack([torch.zeros(inputs), ties, single, halves, -small])])
