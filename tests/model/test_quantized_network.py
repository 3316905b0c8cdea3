"""quantized/network.py: integer networks against plain integers and against real numbers, and what could overflow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from common.errors import UserError
from quantize import stored_weights
from quantized.network import (
    LARGEST,
    MOST_EXACT,
    SHARE_STEPS,
    hidden_codes,
    input_codes,
    integer_layers,
    layer_sums,
    rounded_shares,
    run,
    run_codes,
)

ODD = (23, 7, 1, 13)  # widths: inputs, hidden layers, outputs
WIDE = (112, 64, 64, 16)
HARD, LEAKY = "hard_swish", "leaky_relu"
Weights = list[tuple[np.ndarray, np.ndarray]]


def random_weights(sizes: tuple[int, ...], seed: int, spread: float = 1.0) -> Weights:
    """Codes and scales as a file holds them; rows differ in size by `spread`."""
    random = np.random.default_rng(seed)
    layers = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        matrix = random.normal(0, 1.5 / math.sqrt(inputs), (outputs, inputs))
        matrix *= spread ** random.uniform(-1, 1, (outputs, 1))
        codes, scales = stored_weights(torch.from_numpy(matrix.astype(np.float32)), 8)
        layers.append((codes.numpy(), scales.numpy()))
    return layers


def activated(x: np.ndarray, activation: str, slope: float) -> np.ndarray:
    return x * np.clip(x + 3, 0, 6) / 6 if activation == HARD else np.where(x > 0, x, slope * x)


def ranges_of(weights: Weights, inputs: np.ndarray, activation: str, slope: float = 0.01) -> np.ndarray:
    """Those of real activations."""
    x, ranges = inputs.astype(np.float64), [(-1.0, 1.0)]
    for codes, scales in weights[:-1]:
        x = activated(x @ (codes * scales[:, None].astype(np.float64)).T, activation, slope)
        low = -0.375 if activation == HARD else min(x.min(), 0)
        ranges.append((low, max(x.max(), low + 1e-3)))
    return np.array(ranges, np.float32)


def as_rounded(weights: Weights, ranges: np.ndarray, x: np.ndarray, activation: str, slope: float) -> np.ndarray:
    """The network in real numbers of 64 bits, with every activation rounded to its range."""
    for index, (codes, scales) in enumerate(weights):
        low, high = ranges[index].astype(np.float64)
        step = (high - low) / 255
        x = np.clip(np.floor((x - low) / step + 0.5), 0, 255) * step + low
        x = x @ (codes * scales[:, None].astype(np.float64)).T
        if index + 1 < len(weights):
            x = activated(x, activation, slope)
    return x


def in_python(layers, codes: list[int]) -> list[float]:
    """One texel by the formulas of the module's docstring, with Python's integers, none of which may leave 32 bits."""

    def fits(value: int) -> int:
        assert -LARGEST - 1 <= value <= LARGEST, value
        return value

    for layer in layers:
        sums = []
        for row, bias in zip(layer.codes.tolist(), layer.bias.tolist()):
            total = fits(bias)
            for c, q in zip(row, codes):
                total = fits(total + c * q)
            sums.append(total)
        if layer.last:
            assert all(abs(total) <= MOST_EXACT for total in sums)
            return [float(np.float32(total) * scale) for total, scale in zip(sums, layer.scales)]
        codes = []
        for total, multiplier in zip(sums, layer.multipliers.tolist()):
            p = fits((total >> layer.pre_shift) * multiplier + (1 << (layer.shift - 1))) >> layer.shift
            if layer.knee:
                y = fits(min(p, layer.top) * min(max(fits(p + layer.knee), 0), 2 * layer.knee))
            else:
                y = p if p > 0 else fits(max(p, -layer.top) * layer.slope) >> 15
            codes.append(min(max(fits(y + layer.offset) >> layer.post_shift, -128), 127))
            upper = fits(y + layer.offset + (128 << layer.post_shift)) >> layer.post_shift  # as shaders do
            assert min(max(upper, 0), 255) - 128 == codes[-1]
    raise AssertionError("no last layer")


NETWORKS = {
    "odd": (ODD, HARD, 0.0, 1.0), "odd_leaky": (ODD, LEAKY, 0.01, 1.0), "wide": (WIDE, HARD, 0.0, 4.0),
    "wide_leaky": (WIDE, LEAKY, 0.25, 4.0), "relu": ((16, 18, 16), LEAKY, 0.0, 2.0),
    "linear": ((5, 3, 2), LEAKY, 1.0, 1.0), "one_layer": ((32, 16), HARD, 0.0, 1.0),
    "one_number": ((1, 1, 1), HARD, 0.0, 1.0), "far_rows": ((48, 33, 16), HARD, 0.0, 1000.0),
}  # fmt: skip


@pytest.fixture(params=NETWORKS)
def network(request):
    sizes, activation, slope, spread = NETWORKS[request.param]
    seed = list(NETWORKS).index(request.param)
    weights = random_weights(sizes, seed, spread)
    inputs = np.random.default_rng(seed).uniform(-1, 1, (257, sizes[0])).astype(np.float32)
    ranges = ranges_of(weights, inputs, activation, slope)
    return weights, ranges, activation, slope, inputs


def test_equals_plain_integers(network):
    weights, ranges, activation, slope, inputs = network
    layers = integer_layers(weights, ranges, activation, slope)
    codes = input_codes(inputs)
    codes[0], codes[1] = 127, -128
    codes[2:5] = np.random.default_rng(1).choice([-128, 127], codes[2:5].shape)
    got = run_codes(layers, codes)
    assert got.dtype == np.float32
    for texel in range(0, 257, 1 if len(inputs[0]) < 30 else 16):
        assert got[texel].tolist() == in_python(layers, codes[texel].tolist())


def test_the_largest_sums_stay_in_32_bits(network):
    """Each row gets the bytes that make its sum largest and smallest."""
    weights, ranges, activation, slope, _ = network
    layers = integer_layers(weights, ranges, activation, slope)
    for index in range(len(layers)):
        rows = layers[index].codes
        for codes in [*np.where(rows > 0, 127, -128), *np.where(rows > 0, -128, 127)][:40]:
            in_python(layers[index:], codes.tolist())


def test_close_to_real_numbers(network):
    """What the integers add is little beside what 8 bits lose anyway."""
    weights, ranges, activation, slope, inputs = network
    got = run(integer_layers(weights, ranges, activation, slope), inputs)
    want = as_rounded(weights, ranges, inputs.astype(np.float64), activation, slope)
    real = inputs.astype(np.float64)
    for index, (codes, scales) in enumerate(weights):
        real = real @ (codes * scales[:, None].astype(np.float64)).T
        real = activated(real, activation, slope) if index + 1 < len(weights) else real
    noise, rounding = ((got - want) ** 2).mean(), ((want - real) ** 2).mean()
    assert noise <= 0.3 * rounding, (noise, rounding)


@pytest.mark.parametrize("activation", [HARD, LEAKY])
@pytest.mark.parametrize("high", [0.05, 0.5, 1.0, 2.9, 3.0, 5.0, 30.0, 300.0])
def test_activations_of_all_sums(activation, high):
    """Every byte is the nearest one, or where rounding decides the next, over and beyond the range."""
    low = -0.375 if activation == HARD else -high / 50
    codes, scale = np.array([[127] * 40]), np.array([high / 127 / 20], np.float32)
    ranges = [(-1, 1), (low, high)]
    layer = integer_layers([(codes, scale), (np.ones((1, 1), np.int8), scale)], ranges, activation, 0.02)[0]
    gain = float(scale[0]) * 2 / 255
    sums = np.unique(np.linspace(-127 * 40 * 128, 127 * 40 * 127, 5001).astype(np.int32))[:, None]
    got = hidden_codes(layer, sums + layer.bias)[:, 0].astype(np.float64)
    x = activated((sums[:, 0] + 0.5 * 127 * 40) * gain, activation, 0.02)
    exact = np.clip((x - low) / ((high - low) / 255), 0, 255) - 128
    assert np.abs(got - exact).max() < 0.52
    assert (np.diff(got)[x[:-1] > 0] >= 0).all()
    assert got.max() == 127


def test_inputs_are_rounded_to_the_nearest_byte():
    some = np.array([-1, -0.5, 0, 0.5, 1, 7, -7], np.float32)
    assert input_codes(some).tolist() == [-128, -64, 0, 63, 127, 127, -128]
    x = np.random.default_rng(0).uniform(-1, 1, (99, 7)).astype(np.float32)
    exact = np.clip((x.astype(np.float64) + 1) * 127.5, 0, 255) - 128
    assert np.abs(input_codes(x) - exact).max() <= 0.5 + 255 / 32768


def test_inputs_forgive_the_last_bits():
    """Products and sums that a compiler contracts, divisions that are not exact: no other byte for what texels have."""
    waves, lods = np.arange(-(2**13), 2**13 + 1) / 2**13, np.concatenate([np.arange(n + 1) / n for n in range(1, 16)])
    for off in (-1, 1):
        assert (input_codes(np.clip(waves + 1e-5 * off, -1, 1)) == input_codes(waves)).all()
        assert (input_codes(np.clip(lods + 1e-6 * off, -1, 1)) == input_codes(lods)).all()


def test_blends_are_exact_whatever_the_order():
    """Four features of 8 bits times shares: all products and sums are float32, so an fma changes nothing."""
    random = np.random.default_rng(2)
    n = 256
    features = ((random.integers(0, n, (4, 20000)) - (n - 1) / 2) / n).astype(np.float32)
    fractions = rounded_shares(random.random((2, 20000)).astype(np.float32))
    assert fractions.min() == 0 and fractions.max() == 1
    assert (fractions * SHARE_STEPS % 1 == 0).all()
    (x, y), one = fractions, np.float32(1)
    shares = [(one - x) * (one - y), x * (one - y), (one - x) * y, x * y]
    exact = sum(f.astype(np.float64) * s for f, s in zip(features, shares))
    total = np.zeros(20000, np.float32)
    for feature, share in zip(features, shares):
        total += feature * share
        assert (total.astype(np.float64) == total).all()
    assert (total.astype(np.float64) == exact).all()


def test_rows_of_zeros():
    weights = random_weights((16, 8, 16), 3)
    weights[0][0][2], weights[0][1][2] = 0, 0
    layers = integer_layers(weights, [(-1, 1), (-0.375, 4)], HARD)
    inputs = np.random.default_rng(0).uniform(-1, 1, (5, 16)).astype(np.float32)
    codes = hidden_codes(layers[0], layer_sums(layers[0], input_codes(inputs)))
    zero = round(0.375 / (4.375 / 255)) - 128
    assert (codes[:, 2] == zero).all()


REFUSED = {
    "range": ([(-1, 1), (2, 2)], "low < high"),
    "endless": ([(-1, 1), (-0.375, math.inf)], "low < high"),
    "none": ([(-1, 1), (math.nan, 1)], "low < high"),
    "far": ([(-1, 1), (1e6, 1e6 + 1)], "layer 1 may reach"),
    "inputs": ([(-2, 1), (0, 1)], "inputs' range"),
    "too few": ([(-1, 1)], "2 layers"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_ranges_that_are_refused(what):
    ranges, message = REFUSED[what]
    with pytest.raises(UserError, match=message):
        integer_layers(random_weights((16, 8, 16), 0), ranges, HARD)


def test_sums_that_may_leave_the_exact_numbers_are_refused():
    codes, scales = np.full((1, 1040), 127, np.int8), np.ones(1, np.float32)
    with pytest.raises(UserError, match="sums of layer 0 may reach"):
        integer_layers([(codes, scales)], [(-1, 1)], HARD)


def test_activations_that_leave_their_range_too_far_are_refused():
    (codes, scales), last = random_weights((16, 8, 16), 0)
    for activation in (HARD, LEAKY):
        with pytest.raises(UserError, match="may leave their range"):
            integer_layers([(codes, scales * np.float32(1e9)), last], [(-1, 1), (-0.375, 3)], activation)


def test_steep_slopes_are_refused():
    for slope in (-0.1, 1.5):
        with pytest.raises(UserError, match="slope"):
            integer_layers(random_weights((16, 8, 16), 0), [(-1, 1), (-1, 1)], LEAKY, slope)
