"""network_data.npz: the shapes of the grids and the network, and the weights, as vectors (design.md, section 6).

`info` (int32), and the weights layer after layer, each row-major [out, in]: as `network` (float32), or of 16 bits as
`network_half` (float16), or of 8 bits as `network_int8` (int8) and `network_scales` (float32, one per row of each
matrix). An 8-bit weight is the int8 times the scale of its row, in float32. A network of 8-bit activations has
`activation_ranges` (float32) besides: the lowest and the highest of what each layer takes in, one pair after the other.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from common.errors import UserError
from common.files import open_regular
from configs import MAX_GRIDS, QUANTIZE_BITS, SAVE_BITS
from formats.dds import MAX_SIZE
from model import NeuralTexture
from quantize import stored_weights
from quantized.gradient import layers_of
from quantized.ranges import ranges_problem
from shape import BLOCK_FEATURES, BLOCKS, PADDED_OUTPUTS, DecoderSpec, GridSpec, ModelForm

MAX_NETWORK_BYTES = 64 << 20
MAX_LEVELS = MAX_SIZE.bit_length()
ARRAYS = {  # weight_bits -> the arrays besides `info`, and what they hold
    32: {"network": np.float32},
    16: {"network_half": np.float16},
    8: {"network_int8": np.int8, "network_scales": np.float32},
}
_NPY_HEADER = re.compile(
    rb"\{'descr': '(<[if]4|<f2|\|i1)', 'fortran_order': False, 'shape': \((\d{1,9}),\), \} {0,200}\n"
)
RANGES = "activation_ranges"
_MEMBERS = [["info.npy", *(f"{name}.npy" for name in names)] for names in (*ARRAYS.values(), [*ARRAYS[8], RANGES])]


class GridInfo(NamedTuple):
    """One grid in `info`. It holds the width alone; a grid that is no square has its height in its DDS file and in the
    manifest."""

    base_width: int
    n_levels: int
    features: int
    quantize_bits: int
    save_bits: int

    @property
    def max_width(self) -> int:
        return self.base_width << (self.n_levels - 1)

    @property
    def storage(self) -> str:
        """How its texels are stored, see GridSpec; only blocks have no bits per feature."""
        bits = (self.quantize_bits, self.save_bits)
        return next((block.name for block in BLOCKS.values() if block.bits == bits), "packed")


class NetworkInfo(NamedTuple):
    """The `info` vector of network_data.npz by names."""

    grids: tuple[GridInfo, ...]
    n_frequencies: int
    n_neurons: int
    n_hidden_layers: int
    padded_outputs: int

    @property
    def numbers(self) -> list[int]:
        """The vector itself."""
        return [len(self.grids), *(number for grid in self.grids for number in grid), *self[1:]]

    def layer_sizes(self, inputs: int) -> list[tuple[int, int]]:
        """(outputs, inputs) of each weight matrix of a network with so many inputs."""
        widths = [inputs, *[self.n_neurons] * self.n_hidden_layers, self.padded_outputs]
        return list(zip(widths[1:], widths))

    def inputs_of(self, n_weights: int) -> int | None:
        """Inputs of the first layer of a network with so many weights; None where they do not fit the layers."""
        (first_outputs, _), *others = self.layer_sizes(0)
        inputs, rest = divmod(n_weights - sum(outputs * ins for outputs, ins in others), first_outputs)
        return None if rest or inputs < 1 else inputs

    def reference_form(self, num_lods: int, bits: tuple[int, int] = (32, 32), heights: Sequence[int] = ()) -> ModelForm:
        """The model of these shapes with linear grids, LeakyReLU, no texel waves and no constants.

        bits: of a weight and of an activation.
        heights: of the finest level of each grid; empty: all are squares.
        Raises: ValueError for a height that does not halve as often as the width.
        """
        sizes = zip((g.max_width for g in self.grids), heights or (g.max_width for g in self.grids))
        grids = tuple(
            GridSpec(size, g.n_levels, g.quantize_bits, g.save_bits, storage=g.storage)
            for g, size in zip(self.grids, sizes)
        )
        widths = {"n_neurons": self.n_neurons, "n_hidden_layers": self.n_hidden_layers}
        decoder = DecoderSpec(self.n_frequencies, **widths, weight_bits=bits[0], activation_bits=bits[1])
        return ModelForm(grids, decoder, num_lods)


class StoredNetwork(NamedTuple):
    """What a network_data.npz holds."""

    info: np.ndarray  # int32
    network: np.ndarray  # float32, whatever they are stored as
    weight_bits: int
    ranges: np.ndarray | None = None  # (layers, 2) float32 of activations of 8 bits


def network_info(form: ModelForm) -> NetworkInfo:
    """The `info` of a model."""
    grids = (GridInfo(g.base_size[0], g.n_levels, g.features, g.quantize_bits, g.save_bits) for g in form.grids)
    decoder = form.decoder
    return NetworkInfo(
        tuple(grids), decoder.n_frequencies, decoder.n_neurons, decoder.n_hidden_layers, PADDED_OUTPUTS
    )


def network_arrays(model: NeuralTexture) -> dict[str, np.ndarray]:
    """The arrays of the weights, by name."""
    bits = model.decoder.weight_bits
    layers = [stored_weights(weight.detach().cpu(), bits) for weight in model.weights]
    vectors = [torch.cat([part.reshape(-1) for part in parts]) for parts in list(zip(*layers))[: len(ARRAYS[bits])]]
    arrays = {name: vector.numpy() for name, vector in zip(ARRAYS[bits], vectors)}
    if model.activation_bits == 8:
        arrays[RANGES] = model.activation_ranges.cpu().numpy().reshape(-1)
    return arrays


def info_fields(info: np.ndarray, name: str) -> NetworkInfo:
    """The numbers of an `info` vector by their names, not checked; `name` is the file in errors.

    Raises: UserError when it has another length than its number of grids asks for.
    """
    values = [int(value) for value in info]
    n_fields, n_grids = len(GridInfo._fields), values[0] if values else 0
    if not 1 <= n_grids <= MAX_GRIDS or len(values) != 1 + n_fields * n_grids + 4:
        raise UserError(f"{name}: expected info for 1 to {MAX_GRIDS} grids, found {len(values)} numbers; it is damaged")
    starts = range(1, 1 + n_fields * n_grids, n_fields)
    return NetworkInfo(tuple(GridInfo(*values[start : start + n_fields]) for start in starts), *values[-4:])


def parse_any_info(info: np.ndarray, name: str) -> NetworkInfo:
    """`info_fields`, checked for numbers that no network or grid has.

    The ancestor project's files pass: their features need not fill the word, and they have 32 outputs for 16 channels.
    Raises: UserError.
    """
    found = info_fields(info, name)
    sane = all(0 <= value <= 65536 for value in found.numbers) and found.n_hidden_layers <= 64
    if not (sane and found.n_neurons and found.padded_outputs and all(map(_possible_levels, found.grids))):
        raise _impossible(info, name)
    return found


def parse_info(info: np.ndarray, name: str) -> NetworkInfo:
    """`info_fields`, checked for what this project writes. Raises: UserError."""
    found = parse_any_info(info, name)
    sizes = found.n_frequencies <= 64 and found.n_neurons <= 4096 and found.padded_outputs == PADDED_OUTPUTS
    if not (sizes and all(map(_possible_texels, found.grids))):
        raise _impossible(info, name)
    return found


def _impossible(info: np.ndarray, name: str) -> UserError:
    return UserError(f"{name}: info describes an impossible texture ({info.tolist()!s:.200}); the file is damaged")


def _possible_levels(grid: GridInfo) -> bool:
    return 1 <= grid.n_levels <= MAX_LEVELS and 1 <= grid.base_width <= MAX_SIZE >> (grid.n_levels - 1)


def _possible_texels(grid: GridInfo) -> bool:
    if grid.storage in BLOCKS:
        return grid.features == BLOCK_FEATURES
    words = grid.quantize_bits in QUANTIZE_BITS and grid.save_bits in SAVE_BITS
    return words and grid.features * grid.quantize_bits == grid.save_bits


def encode_network(model: NeuralTexture) -> bytes:
    """The bytes of network_data.npz."""
    stream = io.BytesIO()
    np.savez(stream, info=np.array(network_info(model.form).numbers, np.int32), **network_arrays(model))
    return stream.getvalue()


def read_network(path: str | Path) -> StoredNetwork:
    """The numbers of a network_data.npz.

    Sizes are checked before anything is unpacked, and nothing is unpickled: a hostile file cannot take memory or run.
    Raises: UserError when the file is damaged or holds anything else.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    info, ranges = arrays.pop("info"), arrays.pop(RANGES, None)
    bits = next(bits for bits, names in ARRAYS.items() if arrays.keys() == names.keys())
    for name, kind in ARRAYS[bits].items():
        if info.dtype != np.int32 or arrays[name].dtype != kind:
            found = f"{info.dtype} and {arrays[name].dtype}"
            raise UserError(f"{path}: expected info int32 and {name} {np.dtype(kind)}, found {found}")
        if not np.isfinite(arrays[name]).all():
            raise UserError(f"{path}: the network holds numbers that are not finite; the file is damaged")
    if bits == 8:
        fields = parse_any_info(info, str(path))
        network, ranges = _from_rows(*arrays.values(), fields, path), _checked_ranges(ranges, fields, path)
    else:
        network = arrays.popitem()[1].astype(np.float32, copy=False)
    return StoredNetwork(info, network, bits, ranges)


def _checked_ranges(ranges: np.ndarray | None, info: NetworkInfo, path: Path) -> np.ndarray | None:
    """(layers, 2) of the array. Raises: UserError for ranges that no layers have."""
    if ranges is None:
        return None
    problem = ranges_problem(ranges.tolist(), info.n_hidden_layers + 1) if ranges.dtype == np.float32 else "no float32"
    if problem:
        raise UserError(f"{path}: {RANGES}: {problem}; the file is damaged")
    return ranges.reshape(-1, 2)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an archive that has those of a network and no others, in the order of ARRAYS, by name."""
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            if os.fstat(stream.fileno()).st_size > 2 * MAX_NETWORK_BYTES:
                raise UserError(f"{path}: over {MAX_NETWORK_BYTES >> 19} MB; refused")
            found = sorted(archive.namelist())
            names = next((names for names in _MEMBERS if sorted(names) == found), None)
            if names is None:
                raise UserError(f"{path}: expected the arrays info and network, found {found!s:.200}")
            arrays = {}
            for member in map(archive.getinfo, names):
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UserError(f"{path}: {member.filename} is compressed in a way that numpy never uses")
                if member.file_size > MAX_NETWORK_BYTES:
                    raise UserError(f"{path}: {member.filename} unpacks to over {MAX_NETWORK_BYTES >> 20} MB; refused")
                with archive.open(member) as content:
                    arrays[member.filename[:-4]] = _parse_npy(content.read(MAX_NETWORK_BYTES + 1))
            return arrays
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path}: damaged, not a readable npz ({' '.join(str(error).split()):.120})") from error


def _from_rows(codes: np.ndarray, scales: np.ndarray, info: NetworkInfo, path: Path) -> np.ndarray:
    """Float32 weights of 8-bit ones. Raises: UserError for what `stored_weights` would not store."""
    inputs = info.inputs_of(len(codes))
    sizes = info.layer_sizes(inputs or 0)
    if inputs is None or len(scales) != sum(outputs for outputs, _ in sizes):
        found = f"{len(codes)} weights and {len(scales)} scales"
        raise UserError(f"{path}: expected a scale for each row of the layers in info, found {found}; it is damaged")
    matrices, of_rows = [], np.split(scales, np.cumsum([outputs for outputs, _ in sizes])[:-1])
    for part, scale in zip(split_weights(codes, sizes), of_rows):
        with np.errstate(over="ignore", invalid="ignore"):
            matrices.append(part.astype(np.float32) * scale[:, None])
        again = stored_weights(torch.from_numpy(matrices[-1]), 8)
        if not all(np.array_equal(found, wanted.numpy()) for found, wanted in zip((part, scale), again)):
            expected = "8-bit weights with the largest of a row at 127 or -127, and scales of 16 significant bits"
            raise UserError(f"{path}: expected {expected}, found others; it is damaged")
    return np.concatenate([matrix.reshape(-1) for matrix in matrices])


def read_weights(path: Path, form: ModelForm) -> tuple[ModelForm, list[np.ndarray], np.ndarray | None]:
    """(form, weight matrices [out, in] float32, ranges of activations) of a model whose form a manifest gives.

    Without hidden layers a manifest does not hold `n_neurons`; the form is returned with that of the file.
    Raises: UserError when the file is damaged, or of another model.
    """
    info, network, weight_bits, ranges = read_network(path)
    found = parse_info(info, str(path))
    if not form.decoder.n_hidden_layers:
        form = replace(form, decoder=replace(form.decoder, n_neurons=found.n_neurons))
    activation_bits = 32 if ranges is None else 8
    bits = form.decoder.weight_bits, form.decoder.activation_bits
    if found != network_info(form) or (weight_bits, activation_bits) != bits:
        raise UserError(f"{path}: describes another texture than the manifest does; export again")
    matrices = split_weights(network, form.layer_sizes)
    if matrices is None:
        raise UserError(
            f"{path}: its {len(network)} weights do not fit {form.inputs.total} inputs and the layers in info; either "
            "it is damaged, or in a form that only a manifest can tell (learned interpolation)"
        )
    if ranges is not None:
        _check_integers(matrices, ranges, form.decoder, path)
    return form, matrices, ranges


def _check_integers(matrices: Sequence[np.ndarray], ranges: np.ndarray, decoder: DecoderSpec, path: Path) -> None:
    """Raise UserError for a network whose whole numbers could leave 32 bits."""
    weights = [torch.tensor(matrix) for matrix in matrices]
    try:
        layers_of(weights, torch.tensor(ranges), decoder.activation, decoder.negative_slope)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def split_weights(network: np.ndarray, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray] | None:
    """The matrices of these (outputs, inputs) in a vector of weights; None when its length is another one."""
    counts = [outputs * inputs for outputs, inputs in sizes]
    if sum(counts) != len(network):
        return None
    return [part.reshape(size) for part, size in zip(np.split(network, np.cumsum(counts)[:-1]), sizes)]


def _parse_npy(payload: bytes) -> np.ndarray:
    """A .npy file (version 1.0) of one vector of int32, float32, float16 or int8, little endian.

    numpy's own reader passes the header to Python's tokenizer and allocates the size that it claims.
    Source: numpy.lib.format, "Format Version 1.0".
    """
    if payload[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError("not an npy file of version 1.0")
    start = 10 + int.from_bytes(payload[8:10], "little")
    header = _NPY_HEADER.fullmatch(payload[10:start])
    if header is None:
        raise ValueError("expected a vector of int32, float32, float16 or int8")
    vector = np.frombuffer(payload, header[1].decode(), offset=start)
    if len(vector) != int(header[2]):
        raise ValueError(f"header says {int(header[2])} numbers, {len(vector)} follow")
    return vector
