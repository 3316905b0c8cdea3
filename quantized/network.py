"""A network of 8-bit weights and 8-bit activations in integer arithmetic, the same numbers on every machine.

It defines what --shader_precision 8 computes: this module and every shader agree to the last bit. Integers hold 32
bits, as shaders have no wider ones; integer_layers chooses shifts for which no sum and no product leaves them, whatever
the inputs, and refuses the rest.

An activation x is a byte q in -128..127: x = s (q + 128) + lo, with s = (hi - lo) / 255 of its layer's range. Weights
are bytes c times a float32 scale for each row (quantize.stored_weights). In words of C, `>>` rounding down:

    input    q = (255 * (int)floor(x * 16384 + 0.5)) >> 15                       of the range [-1, 1]
    layer    a = bias + sum(c * q)                                               weights times x, in steps of both
    hidden   p = ((a >> pre_shift) * multiplier + (1 << shift - 1)) >> shift     the same for all rows: x / unit
             hard swish  y = min(p, top) * clamp(p + knee, 0, 2 * knee)          of 3 / unit, the knee
             leaky ReLU  y = p > 0 ? p : (max(p, -top) * slope) >> 15
             q = clamp((y + offset) >> post_shift, -128, 127), or with 128 << post_shift more, 0 to 255 less 128
    last     x = (float)a * scale                                                one product of float32, a is exact

The unit is chosen so that y is in steps of the next layer's range times 2^post_shift: sqrt(6 s / 2^post_shift) for hard
swish, whose y is x clamp(x + 3, 0, 6) / 6, and s / 2^post_shift for leaky ReLU. So its scale costs no product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import UserError

LEVELS = 255  # steps of a range
INPUT_RANGE = (-1.0, 1.0)
INPUT_STEPS = 16384  # of an input, before it becomes one of LEVELS: exact for texels of sizes up to it
SHARE_STEPS = 256  # of the position between two texels: blends of features of up to 8 bits are then exact in float32
SLOPE_STEPS = 32768
SUM_BITS = 17  # of a sum when it is multiplied, with its sign left out; the multiplier has as many as then fit
LARGEST = (1 << 31) - 1
MOST_EXACT = 1 << 24  # whole numbers up to it are exact in float32


@dataclass(frozen=True)
class IntegerLayer:
    """The constants of one layer, see above; those of a hidden layer are 0 in the last one."""

    codes: np.ndarray  # (outputs, inputs) int8
    bias: np.ndarray  # (outputs,) int32
    pre_shift: int = 0
    multipliers: np.ndarray | None = None  # (outputs,) int32; None: the last layer
    shift: int = 0
    top: int = 0
    knee: int = 0  # 0: leaky ReLU
    slope: int = 0  # times SLOPE_STEPS
    offset: int = 0
    post_shift: int = 0
    scales: np.ndarray | None = None  # (outputs,) float32, of the last layer

    @property
    def last(self) -> bool:
        return self.multipliers is None


# --- constants -----------------------------------------------------------------------------------------------------


def integer_layers(
    weights: Sequence[tuple[np.ndarray, np.ndarray]], ranges: np.ndarray, activation: str, negative_slope: float = 0.01
) -> list[IntegerLayer]:
    """The constants of all layers.

    Args:
        weights: per layer the int8 codes (outputs, inputs), in -127..127, and the float32 scale of each row.
        ranges: (layers, 2), lowest and highest activation before each layer; the first is INPUT_RANGE.
        activation: one of shape.ACTIVATIONS.
        negative_slope: of leaky_relu, 0 to 1.
    Raises: UserError for ranges that are none, and for a network whose sums could leave 32 bits.
    """
    ranges = np.asarray(ranges, np.float64)
    if ranges.shape != (len(weights), 2):
        raise UserError(f"expected a range of activations for each of {len(weights)} layers, found {ranges.shape}")
    if tuple(ranges[0]) != INPUT_RANGE:
        raise UserError(f"expected the inputs' range {INPUT_RANGE}, found {tuple(ranges[0].tolist())}")
    if activation == "leaky_relu" and not 0 <= negative_slope <= 1:
        raise UserError(f"a network of 8 bits: expected a negative slope of 0 to 1, found {negative_slope:g}")
    layers = []
    for index, (low, high) in enumerate(ranges.tolist()):
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UserError(f"activation_ranges of layer {index}: expected low < high, found {low:g} and {high:g}")
    for index, (codes, scales) in enumerate(weights):
        low, high = ranges[index].tolist()
        step, codes = (high - low) / LEVELS, np.asarray(codes, np.int8)
        gains = np.asarray(scales, np.float32).astype(np.float64) * step  # of a row, for a step of its sum
        if index + 1 < len(weights):
            layers.append(_hidden(index, codes, gains, low / step, ranges[index + 1], activation, negative_slope))
        else:
            bias, _ = _checked_bias(index, codes, low / step, 0, MOST_EXACT)
            layers.append(IntegerLayer(codes, bias, scales=gains.astype(np.float32)))
    return layers


def _checked_bias(
    index: int, codes: np.ndarray, low: float, rounding: int, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """(the first values of the sums, the largest magnitude of each row's sum), below `limit` for bytes of any value.

    low: of the range, in steps; rounding: what is added to each.
    Raises: UserError.
    """
    wide = codes.astype(np.int64)
    # in parts, the products of which are exact
    shifted = np.floor((LEVELS + 1) / 2 * wide.sum(axis=1) + low * wide.sum(axis=1) + 0.5)
    positive, negative = np.maximum(wide, 0).sum(axis=1), np.minimum(wide, 0).sum(axis=1)
    bound = np.abs(shifted) + rounding + 128 * (positive - negative)  # of every part of the sum, in any order
    if not (bound < limit).all():
        raise UserError(
            f"a network of 8 bits: sums of layer {index} may reach {bound.max():.3g}, {limit:.3g} is the limit; "
            "train it with fewer neurons or export it with --shader_precision 16"
        )
    bias = shifted.astype(np.int64) + rounding
    most = np.maximum(np.abs(bias + 127 * positive - 128 * negative), np.abs(bias - 128 * positive + 127 * negative))
    return bias.astype(np.int32), most


def _hidden(
    index: int, codes: np.ndarray, gains: np.ndarray, low: float, after: np.ndarray, activation: str, slope: float
) -> IntegerLayer:
    """A hidden layer; gains: of a step of a row's sum; low: of its range, in steps; after: the next layer's range."""
    _, most = _checked_bias(index, codes, low, 0, LARGEST)
    pre_shift = max(int(most.max()).bit_length() - SUM_BITS, 0)
    bias, most = _checked_bias(index, codes, low, (1 << pre_shift) >> 1, LARGEST)
    if activation == "hard_swish":
        unit, constants = _hard_swish(index, *after.tolist())
    else:
        unit, constants = _leaky_relu(index, *after.tolist(), slope)
    factors = gains * 2.0**pre_shift / unit
    largest = (most >> pre_shift) + 1
    for shift in range(30, 0, -1):
        multipliers = np.floor(factors * 2.0**shift + 0.5)
        if (largest * multipliers + (1 << (shift - 1)) <= LARGEST).all():
            return IntegerLayer(codes, bias, pre_shift, multipliers.astype(np.int32), shift, **constants)
    raise UserError(
        f"a network of 8 bits: activations of layer {index} may leave their range {after.tolist()} by more than 32 "
        "bits hold; train it again or export it with --shader_precision 16"
    )


def _hard_swish(index: int, low: float, high: float) -> tuple[float, dict[str, int]]:
    """(the unit of p, the constants of y) with the most bits for which a product fits."""
    step = (high - low) / LEVELS
    for post_shift in range(24, 0, -1):
        unit = math.sqrt(6 * step / 2.0**post_shift)
        knee, offset = math.floor(3 / unit + 0.5), _offset(low / step, post_shift)
        top = (LARGEST - max(offset + (128 << post_shift), 0)) // (2 * knee)
        # below 0 the product is at least -(knee ** 2); above, y has to be exact up to the end of the range
        if top * unit >= max(high + step, 3) and knee**2 - min(offset, 0) <= LARGEST and knee:
            return unit, {"top": min(top, LARGEST >> 1), "knee": knee, "offset": offset, "post_shift": post_shift}
    raise _no_scale(index, low, high)


def _leaky_relu(index: int, low: float, high: float, slope: float) -> tuple[float, dict[str, int]]:
    step, steep = (high - low) / LEVELS, math.floor(slope * SLOPE_STEPS + 0.5)
    top = min(LARGEST // max(steep, 1), LARGEST >> 1)
    for post_shift in range(10, 0, -1):
        offset = _offset(low / step, post_shift)
        # y is below 2^30 where it is positive, and at least -2^16 where it is not
        unit = step / 2.0**post_shift
        if abs(offset) + (128 << post_shift) < LARGEST >> 2 and (not steep or top * slope * unit >= -low):
            return unit, {"top": top, "slope": steep, "offset": offset, "post_shift": post_shift}
    raise _no_scale(index, low, high)


def _offset(low: float, post_shift: int) -> int:
    """What makes -128 of `low`, a range's low end in steps, and rounds to the nearest."""
    return math.floor((0.5 - 128 - low) * 2.0**post_shift + 0.5)


def _no_scale(index: int, low: float, high: float) -> UserError:
    return UserError(
        f"a network of 8 bits: activations after layer {index} have the range {low:g} to {high:g}, which 32 bits do "
        "not hold beside the knees of the activation; train it again or export it with --shader_precision 16"
    )


# --- the network ---------------------------------------------------------------------------------------------------


def input_codes(inputs: np.ndarray) -> np.ndarray:
    """Decoder inputs in [-1, 1], of any shape, as int8. Beyond it they saturate."""
    steps = np.floor(np.asarray(inputs, np.float32) * np.float32(INPUT_STEPS) + np.float32(0.5))
    steps = np.clip(steps, -INPUT_STEPS, INPUT_STEPS).astype(np.int32)
    return (LEVELS * steps >> 15).astype(np.int8)


def rounded_shares(fractions: np.ndarray) -> np.ndarray:
    """Positions between texels, float32 in [0, 1], to multiples of 1 / SHARE_STEPS, as such a network is given them."""
    steps = np.floor(fractions * np.float32(SHARE_STEPS) + np.float32(0.5))
    return steps / np.float32(SHARE_STEPS)


def hidden_codes(layer: IntegerLayer, sums: np.ndarray) -> np.ndarray:
    """The sums (n, outputs) int32 of a hidden layer -> the bytes that the next one gets."""
    half = np.int32(1 << (layer.shift - 1))
    p = ((sums >> layer.pre_shift) * layer.multipliers + half) >> layer.shift
    if layer.knee:
        y = np.minimum(p, layer.top) * np.clip(p + layer.knee, 0, 2 * layer.knee)
    else:
        y = np.where(p > 0, p, np.maximum(p, -layer.top) * layer.slope >> 15)
    return np.clip((y + layer.offset) >> layer.post_shift, -128, 127).astype(np.int8)


def layer_sums(layer: IntegerLayer, codes: np.ndarray) -> np.ndarray:
    """Bytes (n, inputs) -> the sums (n, outputs) int32 of a layer with its bias."""
    # float products of matrices: exact below 2^24, and many times as fast as those of integers
    kind = np.float32 if 128 * 128 * layer.codes.shape[1] <= MOST_EXACT else np.float64
    return (codes.astype(kind) @ layer.codes.T.astype(kind)).astype(np.int32) + layer.bias


def run_codes(layers: Sequence[IntegerLayer], codes: np.ndarray) -> np.ndarray:
    """Inputs as bytes (n, inputs) -> outputs (n, outputs) float32."""
    for layer in layers[:-1]:
        codes = hidden_codes(layer, layer_sums(layer, codes))
    return layer_sums(layers[-1], codes).astype(np.float32) * layers[-1].scales


def run(layers: Sequence[IntegerLayer], inputs: np.ndarray) -> np.ndarray:
    """Decoder inputs (n, inputs) float32 -> outputs (n, outputs) float32, not clamped."""
    return run_codes(layers, input_codes(inputs))
