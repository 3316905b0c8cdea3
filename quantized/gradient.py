"""The network of quantized.network on tensors of any device, with a gradient: the same numbers, straight through the
rounding of weights, inputs and activations (Bengio et al. 2013), and 0 where an activation leaves its range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchtyping import TensorType

from quantize import stored_weights
from quantized.network import INPUT_STEPS, LEVELS, SHARE_STEPS, SLOPE_STEPS, IntegerLayer, integer_layers

Inputs = TensorType["n", "inputs"]
Outputs = TensorType["n", "outputs"]
Matrix = TensorType["outputs", "inputs"]
Ranges = TensorType["layers", 2]
Shares = TensorType["n", 2]
Sums = TensorType["n", "outputs"]

LOWEST, HIGHEST = -128, 127  # of a byte


def layers_of(weights: Sequence[Matrix], ranges: Ranges, activation: str, negative_slope: float) -> list[IntegerLayer]:
    """integer_layers of weights as they are trained or exported. Raises: UserError."""
    stored = [[part.cpu().numpy() for part in stored_weights(weight.detach(), 8)] for weight in weights]
    return integer_layers(stored, ranges.cpu().numpy(), activation, negative_slope)


def integer_network(
    inputs: Inputs, weights: Sequence[Matrix], ranges: Ranges, activation: str, negative_slope: float
) -> Outputs:
    """What quantized.network.run gives for weights as they are trained or exported.

    Args:
        inputs: float32 in [-1, 1].
        ranges: of what each layer takes in, float32; they get no gradient.
    Raises: UserError, see integer_layers.
    """
    layers = layers_of(weights, ranges, activation, negative_slope)
    return _IntegerNetwork.apply(inputs, layers, ranges, *weights)


def input_bytes(inputs: Inputs) -> Inputs:
    """quantized.network.input_codes as float32."""
    steps = (inputs * INPUT_STEPS + 0.5).floor().clamp(-INPUT_STEPS, INPUT_STEPS).to(torch.int32)
    return (LEVELS * steps >> 15).to(torch.float32)


def rounded_shares(fractions: Shares) -> Shares:
    """quantized.network.rounded_shares of positions between texels."""
    return (fractions * SHARE_STEPS + 0.5).floor() / SHARE_STEPS


class _IntegerNetwork(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, layers, ranges, *weights):
        taken, slopes = [input_bytes(inputs)], []
        for layer in layers[:-1]:
            bytes_, slope = _hidden(layer, _sums(layer, taken[-1]))
            taken.append(bytes_)
            slopes.append(slope)
        ctx.layers, ctx.ranges = layers, ranges
        ctx.save_for_backward(*taken, *slopes, *weights)
        return _sums(layers[-1], taken[-1]).to(torch.float32) * _on(layers[-1].scales, inputs)

    @staticmethod
    def backward(ctx, upstream):
        count = len(ctx.layers)
        taken, slopes, weights = (ctx.saved_tensors[start:] for start in (0, count, 2 * count - 1))
        of_weights: list[torch.Tensor] = []
        for index in reversed(range(count)):
            low, step = ctx.ranges[index, 0], (ctx.ranges[index, 1] - ctx.ranges[index, 0]) / LEVELS
            of_weights.insert(0, upstream.t() @ ((taken[index] - LOWEST) * step + low))
            codes, scales = stored_weights(weights[index], 8)
            upstream = upstream @ (codes.to(torch.float32) * scales[:, None])
            if index:
                upstream = upstream * slopes[index - 1]
        return upstream, None, None, *of_weights


def _on(values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(values).to(like.device)


def _sums(layer: IntegerLayer, taken: Inputs) -> Sums:
    """layer_sums: products of whole numbers, whose sums are exact below 2^24."""
    return (taken @ _on(layer.codes, taken).to(torch.float32).t()).to(torch.int32) + _on(layer.bias, taken)


def _hidden(layer: IntegerLayer, sums: Sums) -> tuple[Inputs, Inputs]:
    """hidden_codes as float32, and the slope of the activation, 0 outside the next layer's range."""
    half = 1 << (layer.shift - 1)
    p = ((sums >> layer.pre_shift) * _on(layer.multipliers, sums) + half) >> layer.shift
    if layer.knee:
        y = p.clamp(max=layer.top) * (p + layer.knee).clamp(0, 2 * layer.knee)
        slope = torch.where(p > layer.knee, 1.0, p.to(torch.float32) * (1 / layer.knee) + 0.5)
        slope = torch.where(p < -layer.knee, 0.0, slope)
    else:
        y = torch.where(p > 0, p, p.clamp(min=-layer.top) * layer.slope >> 15)
        slope = torch.where(p > 0, 1.0, layer.slope / SLOPE_STEPS)
    found = (y + layer.offset) >> layer.post_shift
    inside = (found >= LOWEST) & (found <= HIGHEST)
    return found.clamp(LOWEST, HIGHEST).to(torch.float32), torch.where(inside, slope, 0.0)
