"""Declares the kernels' C interface (src/nt.h) to Python, and turns their failures into exceptions."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int32, c_int64, c_uint32, c_void_p

import torch

import dataset
from common.cores import usable_cores
from common.errors import UserError
from engine.cpu.build import load_library
from engine.errors import KernelsUnavailable
from maps.channels import opacity_place
from model import NeuralTexture
from shape import ACTIVATIONS

INTERFACE = 13  # NT_INTERFACE of nt.h
OUT_OF_MEMORY, NO_THREADS = -1, -2


class Grid(ctypes.Structure):
    """nt_grid"""

    _fields_ = [
        (name, c_int32) for name in ("features", "bits", "n_levels", "base_width", "base_height", "learned",
                                     "block_side", "finest_lods")
    ]  # fmt: skip


class Model(ctypes.Structure):
    """nt_model"""

    _fields_ = [
        ("grids", POINTER(Grid)),
        *((name, c_int32) for name in ("n_grids", "n_frequencies", "n_texel_frequencies", "n_neurons",
                                       "n_hidden_layers", "num_lods", "quantized", "seamless", "n_channels")),
        ("channels", POINTER(c_int32)),
        ("activation", c_int32),
        ("negative_slope", c_float),
        ("n_decoded", c_int32),
        ("coverage", c_int32),
        ("activation_ranges", POINTER(c_float)),
    ]  # fmt: skip


class Material(ctypes.Structure):
    """nt_material"""

    _fields_ = [
        ("widths", POINTER(c_int32)),
        ("heights", POINTER(c_int32)),
        ("offsets", POINTER(c_int64)),
        ("codes8", c_void_p),
        ("codes16", c_void_p),
        ("columns8", c_int32),
        ("columns16", c_int32),
        ("columns", POINTER(c_int32)),
    ]


class Settings(ctypes.Structure):
    """nt_settings"""

    _fields_ = [
        ("batch_size", c_int64),
        ("seed", c_uint32),
        ("n_threads", c_int32),
        ("lod_shares", POINTER(c_float)),
        ("channel_weights", POINTER(c_float)),
        ("light", POINTER(c_float)),
        ("network_rate", c_double),
        ("grid_rates", POINTER(c_double)),
        ("beta1", c_double),
        ("beta2", c_double),
        ("epsilon", c_double),
        ("wrap_interval", c_int32),
        ("wrap_levels", c_int32),
        ("wrap_strength", c_float),
        ("filtered", c_int32),
        ("fraction_start", c_float),
        ("fraction_scale", c_float),
        ("weight_bits", c_int32),
        ("bfloat16", c_int32),
    ]


_POINTERS = POINTER(c_void_p)  # to arrays of floats, one per grid
_SIGNATURES = {
    "nt_interface": (c_int32, []),
    "nt_vector_width": (c_int32, []),
    "nt_has_bfloat16": (c_int32, []),
    "nt_failure": (c_char_p, []),
    "nt_multiply_add_peak": (c_int32, [c_double, c_int32, POINTER(c_double)]),
    "nt_work": (c_int32, [POINTER(Model), POINTER(c_int64)]),
    "nt_trainer_create": (c_int32, [POINTER(Model), POINTER(Material), POINTER(Settings), POINTER(c_void_p)]),
    "nt_trainer_destroy": (None, [c_void_p]),
    "nt_trainer_load_grid": (None, [c_void_p, c_int32, c_int64, c_void_p, c_void_p, c_void_p, c_void_p]),
    "nt_trainer_save_grid": (None, [c_void_p, c_int32, c_void_p, c_void_p, c_void_p, c_void_p]),
    "nt_trainer_take_moments": (None, [c_void_p, _POINTERS, _POINTERS]),
    "nt_trainer_load_network": (None, [c_void_p, c_int64, c_void_p, c_void_p, c_void_p]),
    "nt_trainer_save_network": (None, [c_void_p, c_void_p, c_void_p, c_void_p]),
    "nt_trainer_load_ranges": (None, [c_void_p, c_void_p]),
    "nt_trainer_load_drift": (None, [c_void_p, c_int32, c_void_p]),
    "nt_trainer_save_drift": (None, [c_void_p, c_int32, c_void_p]),
    "nt_trainer_step": (c_int32, [c_void_p, c_int64, POINTER(c_double), POINTER(c_double), c_int64,
                                  POINTER(c_double)]),
    "nt_trainer_probe": (c_int32, [c_void_p, c_int64, POINTER(c_double)]),
    "nt_decode": (c_int32, [POINTER(Model), _POINTERS, c_void_p, c_int64, c_void_p, c_void_p, c_int32, c_void_p]),
    "nt_decode_rows": (c_int32, [POINTER(Model), _POINTERS, c_void_p, *[c_int32] * 6, c_void_p]),
    "nt_gradients": (c_int32, [POINTER(Model), _POINTERS, c_void_p, c_int64, c_void_p, c_void_p, c_void_p,
                               POINTER(c_float), POINTER(c_uint32), c_void_p, _POINTERS, c_void_p]),
    "nt_round_weights": (None, [c_void_p, c_int64, c_int64, c_int32, c_void_p]),
    "nt_search_codes": (c_int32, [POINTER(Model), POINTER(Material), _POINTERS, *[c_void_p] * 3, *[c_int32] * 4,
                                  POINTER(c_int64)]),
}  # fmt: skip


def load_kernels(say: Callable[[str], None] | None = None) -> ctypes.CDLL:
    """The compiled kernels with their signatures declared.

    Args:
        say: receives one line when a compiler starts to work.
    Raises: KernelsUnavailable.
    """
    return declared(load_library(say))


def declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with its signatures declared. Raises: KernelsUnavailable for one of another version."""
    try:
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        found = library.nt_interface()
    except AttributeError as error:
        raise KernelsUnavailable(f"the compiled CPU kernels lack a function ({error})") from error
    if found != INTERFACE:
        raise KernelsUnavailable(f"the compiled CPU kernels have interface {found}, expected {INTERFACE}")
    return library


def thread_count(wanted: int = 0) -> int:
    """Threads to compute with: `wanted`, or if that is 0 one per core that this process may use."""
    return wanted or usable_cores()


def describe_model(model: NeuralTexture, channels: Sequence[int] | None = None) -> Model:
    """The nt_model of a model that computes these of its outputs, or all. It keeps alive what it points to."""
    if channels is None:
        channels = range(model.decoder.outputs)
    grids = [
        Grid(grid.features, grid.quantize_bits, grid.n_levels, *grid.base_size, grid.interpolation == "learned",
             grid.block.side if grid.compressed else 0, grid.finest_lods)
        for grid in model.grids
    ]  # fmt: skip
    decoder = model.decoder
    ranges = model.activation_ranges.reshape(-1).tolist() if model.activation_bits == 8 else []
    return Model(
        (Grid * len(grids))(*grids), len(grids), decoder.n_frequencies, decoder.n_texel_frequencies, decoder.n_neurons,
        decoder.n_hidden_layers, model.num_lods, model.quantized, bool(model.unused_inputs), len(channels),
        array(c_int32, channels), ACTIVATIONS.index(decoder.activation), decoder.negative_slope,
        decoder.outputs, opacity_place(channels), array(c_float, ranges) if ranges else None,
    )  # fmt: skip


def describe_material(material: dataset.Material, channels: Sequence[int]) -> Material:
    """The nt_material of a material for a model that computes these channels. `material` has to outlive it."""
    present = material.present_channels.tolist()
    columns = [column for c, column in zip(present, material.stored_columns) if c in channels]
    return Material(
        widths=array(c_int32, [width for width, _ in material.lod_sizes]),
        heights=array(c_int32, [height for _, height in material.lod_sizes]),
        offsets=array(c_int64, material.lod_offsets),
        codes8=pointer(material.codes8),
        codes16=pointer(material.codes16),
        columns8=material.codes8.shape[1],
        columns16=material.codes16.shape[1],
        columns=array(c_int32, columns),
    )


def multiply_adds(kernels: ctypes.CDLL, model: Model) -> int:
    """Multiply-adds of the matrix products for one training sample."""
    per_sample = c_int64()
    check(kernels, kernels.nt_work(model, byref(per_sample)))
    return per_sample.value


def array(kind: type, values: Sequence) -> ctypes.Array:
    """A C array of these values."""
    return (kind * len(values))(*values)


def pointer(tensor: torch.Tensor | None) -> int | None:
    """Address of a tensor's memory; None for None.

    Raises: ValueError unless the tensor is contiguous and on the CPU.
    """
    if tensor is None:
        return None
    if tensor.device.type != "cpu" or not tensor.is_contiguous():
        raise ValueError(f"expected a dense tensor on the CPU, got {tensor.device} with strides {tensor.stride()}")
    return tensor.data_ptr()


def pointers(tensors: Sequence[torch.Tensor]) -> ctypes.Array:
    """Addresses of several tensors' memory."""
    return array(c_void_p, [pointer(tensor) for tensor in tensors])


def check(kernels: ctypes.CDLL, status: int) -> None:
    """Raise what the status of a kernel call stands for (Status of src/failure.h).

    Raises: MemoryError; UserError when the system gives no more threads; RuntimeError for a bug in the kernels.
    """
    if not status:
        return
    reason = kernels.nt_failure().decode(errors="replace")
    if status == OUT_OF_MEMORY:
        raise MemoryError("the CPU kernels ran out of memory")
    if status == NO_THREADS:
        raise UserError(
            f"the CPU kernels cannot start their threads ({reason}); use fewer with --num_threads, or raise the "
            "system's limit on processes (ulimit -u)"
        )
    raise RuntimeError(f"the CPU kernels failed: {reason}")
