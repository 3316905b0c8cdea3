"""What values in [0, 1] mean in a map's own units: low + t (high - low), or, of light above 1, t in log2(1 + x / s).

These are the two forms of MapRecord.value_range and log_scale. Everything that has to know units comes here.
"""

from __future__ import annotations

import math
from typing import Union

import numpy as np
import torch

Values = Union[torch.Tensor, np.ndarray]
Span = tuple[float, float]  # (low, high), what 0 and 1 stand for

LIGHT = ("diffuse", "emissive")  # maps that may hold light above 1
SCALE_VALUES = 2**18  # that a scale is chosen by, at most
DARK_SHARE = 1 / 50  # of the highest value, see choose_log_scale
FLOOR_SHARE = 1e-3  # of the highest value: light below it, ten stops down, is as good as dark


def to_units(t: Values, span: Span, log_scale: float | None = None) -> Values:
    """Values in [0, 1] -> the map's own units; torch or numpy, any shape, float32 or float64.

    Args:
        t: outside of [0, 1] it saturates, as the codes of an integer texture do.
        span: MapRecord.value_range.
        log_scale: MapRecord.log_scale, s: span[0] is 0 then, and t is log2(1 + x / s) / log2(1 + high / s).
    """
    low, high = span
    t = t.clip(0, 1)
    if log_scale is None:
        return low + t * (high - low)
    expm1 = torch.expm1 if isinstance(t, torch.Tensor) else np.expm1  # keeps the digits of small light
    return (log_scale * expm1(t * math.log1p(high / log_scale))).clip(0, high)


def from_units(values: Values, span: Span, log_scale: float | None = None) -> Values:
    """The inverse of `to_units`: values in [0, 1]; what lies outside of `span` saturates."""
    low, high = span
    values = values.clip(low, high)
    if log_scale is None:
        return (values - low) / ((high - low) or 1)
    log1p = torch.log1p if isinstance(values, torch.Tensor) else np.log1p
    return log1p(values / log_scale) / math.log1p(high / log_scale)


def has_units(name: str, span: Span) -> bool:
    """Whether a map's files hold other numbers than its codes do. Signed normals do not count: everyone reads normals
    as 0.5 n + 0.5."""
    return name != "normal" and tuple(span) != (0.0, 1.0)


def choose_log_scale(values: np.ndarray, high: float) -> float:
    """s for light of any shape with the maximum `high` above 0: a power of two, which shaders add to an exponent.

    An error e of t is one of (1 + s / x) ln(1 + high / s) e of the light x itself. The s is taken for which this has
    the least geometric mean over the light above the floor; e itself hardly depends on s. Where all is dark but a few
    bright signs that would be a large s, and their surroundings would glow: s ln(1 + high / s) e is what an error adds
    near black. No more is allowed than the e of a map up to 1, or the DARK_SHARE of one that reaches beyond 50.

    Trained at 512 x 512 and 5 bpp beside noisy maps, with a peak of 50 and light around 1 everywhere, the median error
    is 3.0 % with s = 1 / 16, 3.3 with 1 / 4, 3.7 with 1, 3.8 with 4, 4.2 with 16; of lamps with dim glow 2.3, 2.7, 4.1,
    5.5, 9.2. The weight of such maps in the loss makes all of them smaller, see engine/loss_weights.py.
    """
    lit = values[values > high * FLOOR_SHARE]
    lit = lit[:: -(-lit.size // SCALE_VALUES)].astype(np.float64)
    highest = math.floor(math.log2(high))
    scales = [2.0**exponent for exponent in range(highest - 12, highest + 1)]
    scales = [s for s in scales if s * math.log1p(high / s) <= max(1, high * DARK_SHARE)]
    return min(scales, key=lambda s: np.log1p(s / lit).mean() + math.log(math.log1p(high / s)))
