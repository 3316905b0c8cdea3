"""Decoding with the CPU kernels: whole LODs for evaluation and export, and single samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import c_float, c_uint32

import torch
from torchtyping import TensorType

from engine.cpu.library import (
    KernelsUnavailable,
    array,
    check,
    describe_model,
    load_kernels,
    pointer,
    pointers,
    thread_count,
)
from maps.channels import CHANNELS
from model import NeuralTexture, Noise

Positions = TensorType["n", 2]
Scalars = TensorType["n"]
Decoded = TensorType["n", CHANNELS]
DecodedImage = TensorType["height", "width", CHANNELS]


def decode_lod(
    model: NeuralTexture, lod: int, width: int, height: int, say: Callable[[str], None] | None = None,
    rows: slice = slice(None), n_threads: int = 0,
) -> DecodedImage:  # fmt: skip
    """One LOD at its texel centres: what model.NeuralTexture.decode gives to float tolerance, many times faster.

    Falls back to that on another device than the CPU, and where there are no kernels.

    Args:
        say: receives a line when the kernels have to be compiled.
        rows: limits it to rows of the LOD.
        n_threads: 0 is one per core.
    Returns: (height, width, 11) float32 on the CPU, not clamped.
    """
    if model.weights[0].device.type != "cpu":
        return model.decode(lod, width, height, rows=rows)
    try:
        kernels = load_kernels(say)
    except KernelsUnavailable:
        return model.decode(lod, width, height, rows=rows)
    first, last, _ = rows.indices(height)
    image = torch.empty(last - first, width, CHANNELS)
    parameters, weights = model_numbers(model)
    check(kernels.nt_decode_rows(describe_model(model), pointers(parameters), pointer(weights), lod, width, height,
                                 first, last - first, thread_count(n_threads), pointer(image)))  # fmt: skip
    model.set_constants(image)
    return image


def decode_samples(model: NeuralTexture, uv: Positions, lod: Scalars, n_threads: int = 0) -> Decoded:
    """Decode at any positions and (fractional) LODs: model.NeuralTexture.forward on the kernels.

    Raises: KernelsUnavailable.
    """
    uv, lod = uv.float().contiguous(), lod.float().contiguous()
    out = torch.empty(len(uv), CHANNELS)
    parameters, weights = model_numbers(model)
    check(load_kernels().nt_decode(describe_model(model), pointers(parameters), pointer(weights), len(uv), pointer(uv),
                                   pointer(lod), thread_count(n_threads), pointer(out)))  # fmt: skip
    model.set_constants(out)
    return out


def differentiate(
    model: NeuralTexture, uv: Positions, lod: Scalars, upstream: Decoded, noise: Noise | None = None,
    channels: Sequence[int] = tuple(range(CHANNELS)),
) -> tuple[Decoded, list[torch.Tensor], list[torch.Tensor]]:  # fmt: skip
    """Forward and backward of the training kernels at given samples.

    Args:
        upstream: (n, 11) derivative of a loss by each decoded channel.
        channels: outputs that are computed; the others are 0.
    Returns: decoded (n, 11), gradients of the weights as in model.weights, gradients of the grids.
    Raises: KernelsUnavailable.
    """
    uv, lod, upstream = uv.float().contiguous(), lod.float().contiguous(), upstream.float().contiguous()
    out = torch.empty(len(uv), CHANNELS)
    parameters, weights = model_numbers(model)
    grid_gradients, weight_gradient = [torch.zeros_like(grid) for grid in parameters], torch.zeros_like(weights)
    strength, keys = (noise.strength, noise.keys) if noise else (0.0, [0] * len(parameters))
    steps = [strength / (1 << grid.quantize_bits) for grid in model.grids]
    check(load_kernels().nt_gradients(
        describe_model(model, channels), pointers(parameters), pointer(weights), len(uv), pointer(uv), pointer(lod),
        pointer(upstream), array(c_float, steps), array(c_uint32, [key & 0xFFFFFFFF for key in keys]), pointer(out),
        pointers(grid_gradients), pointer(weight_gradient),
    ))  # fmt: skip
    return out, split_like(weight_gradient, model.weights), grid_gradients


def split_like(flat: torch.Tensor, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Views of a flat tensor with the shapes of `tensors`, one after the other."""
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors)]


def model_numbers(model: NeuralTexture) -> tuple[list[torch.Tensor], torch.Tensor]:
    """A model's grids, and its weights as one flat tensor."""
    grids = [parameters.detach().contiguous() for parameters in model.grid_parameters]
    return grids, torch.cat([weight.detach().reshape(-1) for weight in model.weights])
