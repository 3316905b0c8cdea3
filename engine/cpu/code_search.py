"""Code search on the CPU kernels: the search of engine/torch/code_search.py, many times faster."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref, c_int64

from torchtyping import TensorType

from dataset import Material
from engine.cpu.decoder import model_numbers
from engine.cpu.library import (
    check,
    describe_material,
    describe_model,
    load_kernels,
    pointer,
    pointers,
    thread_count,
)
from model import NeuralTexture

Weights = TensorType["learned"]
LodWeights = TensorType["lods"]


def search_level(
    model: NeuralTexture, material: Material, planes: range, level: int, channels: Sequence[int],
    channel_weights: Weights, lod_weights: LodWeights, n_threads: int = 0,
) -> int:  # fmt: skip
    """One sweep, see engine.torch.code_search.search_level, for a model on the CPU.

    Raises: KernelsUnavailable.
    """
    kernels, changed = load_kernels(), c_int64()
    parameters, weights = model_numbers(model)  # the grids are the model's own memory, which the sweep changes
    check(kernels, kernels.nt_search_codes(
        describe_model(model, channels), describe_material(material, channels), pointers(parameters), pointer(weights),
        pointer(channel_weights), pointer(lod_weights), planes[0], len(planes), level,
        thread_count(n_threads), byref(changed),
    ))  # fmt: skip
    return changed.value
