"""Real spherical harmonics of bands 0 to 2."""

from __future__ import annotations

import math

import torch
from torchtyping import TensorType

N_HARMONICS = 9
_C0 = 1 / (2 * math.sqrt(math.pi))


def spherical_harmonics(direction: TensorType[..., 3]) -> TensorType[..., 9]:
    """(..., 3) unit vectors -> (..., 9): 1; y, z, x; xy, yz, 3z^2 - 1, zx, x^2 - y^2, each with the factor that makes
    the set orthonormal over the sphere (Sloan 2008, "Stupid Spherical Harmonics Tricks", without alternating signs).
    """
    x, y, z = direction.unbind(-1)
    one = torch.ones_like(x)
    first, second = _C0 * math.sqrt(3), _C0 * math.sqrt(15)
    return torch.stack([
        _C0 * one,
        first * y, first * z, first * x,
        second * x * y, second * y * z, _C0 * math.sqrt(5) / 2 * (3 * z * z - one), second * z * x,
        second / 2 * (x * x - y * y),
    ], dim=-1)  # fmt: skip
