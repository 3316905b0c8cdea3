"""Decoding with the CPU kernels: whole LODs for evaluation and export, and single samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import c_float, c_uint32

import torch
from torchtyping import TensorType

from engine.cpu.library import (
    array,
    check,
    describe_model,
    load_kernels,
    pointer,
    pointers,
    thread_count,
)
from engine.errors import KernelsUnavailable
from engine.flat_weights import flat_exported_weights, split_weights
from model import NeuralTexture, Noise

Positions = TensorType["n", 2]
Scalars = TensorType["n"]
Decoded = TensorType["n", "channels"]
DecodedImage = TensorType["height", "width", "channels"]


def decode_lod(
    model: NeuralTexture, lod: int, width: int, height: int, say: Callable[[str], None] | None = None,
    rows: slice = slice(None), n_threads: int = 0,
) -> DecodedImage:  # fmt: skip
    """One LOD at its texel centres: what model.NeuralTexture.decode gives to float tolerance, many times faster.

    Falls back to that function when the model is not on the CPU, or no kernels can be compiled.

    Args:
        say: receives a line when the kernels have to be compiled.
        rows: the rows of the LOD to decode.
        n_threads: 0: one per core.
    Returns: (height, width, channels) float32 on the CPU, not clamped.
    """
    if model.weights[0].device.type != "cpu":
        return model.decode(lod, width, height, rows=rows)
    try:
        kernels = load_kernels(say)
    except KernelsUnavailable:
        return model.decode(lod, width, height, rows=rows)
    first, last, _ = rows.indices(height)
    image = torch.empty(last - first, width, model.decoder.outputs)
    parameters, weights = model_numbers(model)
    check(kernels, kernels.nt_decode_rows(
        describe_model(model), pointers(parameters), pointer(weights), lod, width, height, first, last - first,
        thread_count(n_threads), pointer(image),
    ))  # fmt: skip
    model.set_constants(image)
    return image


def decode_samples(model: NeuralTexture, uv: Positions, lod: Scalars, n_threads: int = 0) -> Decoded:
    """Decode at any positions and (fractional) LODs: model.NeuralTexture.forward on the kernels.

    Raises: KernelsUnavailable.
    """
    uv, lod = uv.float().contiguous(), lod.float().contiguous()
    out = torch.empty(len(uv), model.decoder.outputs)
    kernels, (parameters, weights) = load_kernels(), model_numbers(model)
    check(kernels, kernels.nt_decode(describe_model(model), pointers(parameters), pointer(weights), len(uv),
                                     pointer(uv), pointer(lod), thread_count(n_threads), pointer(out)))  # fmt: skip
    model.set_constants(out)
    return out


def differentiate(
    model: NeuralTexture, uv: Positions, lod: Scalars, upstream: Decoded, noise: Noise | None = None,
    channels: Sequence[int] | None = None,
) -> tuple[Decoded, list[torch.Tensor], list[torch.Tensor]]:  # fmt: skip
    """Forward and backward of the training kernels at given samples.

    Args:
        upstream: (n, channels) derivative of a loss by each decoded channel.
        channels: the outputs to compute, None: all; the others are 0.
    Returns: decoded (n, channels), gradients of the weights as in model.weights, gradients of the grids.
    Raises: KernelsUnavailable.
    """
    uv, lod, upstream = uv.float().contiguous(), lod.float().contiguous(), upstream.float().contiguous()
    out = torch.empty(len(uv), model.decoder.outputs)
    kernels, (parameters, weights) = load_kernels(), model_numbers(model)
    grid_gradients, weight_gradient = [torch.zeros_like(grid) for grid in parameters], torch.zeros_like(weights)
    strength, keys = (noise.strength, noise.keys) if noise else (0.0, [0] * len(parameters))
    steps = [strength / (1 << grid.quantize_bits) for grid in model.grids]
    check(kernels, kernels.nt_gradients(
        describe_model(model, channels), pointers(parameters), pointer(weights), len(uv), pointer(uv), pointer(lod),
        pointer(upstream), array(c_float, steps), array(c_uint32, [key & 0xFFFFFFFF for key in keys]), pointer(out),
        pointers(grid_gradients), pointer(weight_gradient),
    ))  # fmt: skip
    return out, split_weights(weight_gradient, model), grid_gradients


def model_numbers(model: NeuralTexture) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The parameters that kernels read: the model's own grids, and a flat copy of its weights."""
    return [grid.detach().contiguous() for grid in model.grid_parameters], flat_exported_weights(model)
