"""network_data.npz: the shapes of the grids and the network, and the weights, as two vectors (design.md, section 6)."""

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

import blocks
from common.errors import UserError
from common.files import open_regular
from configs import MAX_GRIDS
from formats.dds import MAX_SIZE
from model import NeuralTexture
from quantize import QUANTIZE_BITS, SAVE_BITS
from shape import BC1_BITS, PADDED_OUTPUTS, DecoderSpec, GridSpec, ModelForm

MAX_NETWORK_BYTES = 64 << 20
MAX_LEVELS = MAX_SIZE.bit_length()
_NPY_HEADER = re.compile(rb"\{'descr': '(<[if]4)', 'fortran_order': False, 'shape': \((\d{1,9}),\), \} {0,200}\n")


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
        return "bc1" if (self.quantize_bits, self.save_bits) == BC1_BITS else "packed"


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

    def reference_form(self, num_lods: int, heights: Sequence[int] = ()) -> ModelForm:
        """The model of these shapes with linear grids, LeakyReLU, no texel waves and no constants.

        heights: of the finest level of each grid; empty: all are squares.
        Raises: ValueError for a height that does not halve as often as the width.
        """
        sizes = zip((g.max_width for g in self.grids), heights or (g.max_width for g in self.grids))
        grids = tuple(
            GridSpec(size, g.n_levels, g.quantize_bits, g.save_bits, storage=g.storage)
            for g, size in zip(self.grids, sizes)
        )
        return ModelForm(grids, DecoderSpec(self.n_frequencies, self.n_neurons, self.n_hidden_layers), num_lods)


def network_info(form: ModelForm) -> NetworkInfo:
    """The `info` of a model."""
    grids = (GridInfo(g.base_size[0], g.n_levels, g.features, g.quantize_bits, g.save_bits) for g in form.grids)
    decoder = form.decoder
    return NetworkInfo(
        tuple(grids), decoder.n_frequencies, decoder.n_neurons, decoder.n_hidden_layers, PADDED_OUTPUTS
    )


def network_weights(model: NeuralTexture) -> np.ndarray:
    """The `network` vector: the weight matrices one after the other, each row-major [out, in], float32."""
    return torch.cat([weight.detach().reshape(-1).cpu() for weight in model.weights]).numpy()


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
    if grid.storage == "bc1":
        return grid.features == blocks.FEATURES
    words = grid.quantize_bits in QUANTIZE_BITS and grid.save_bits in SAVE_BITS
    return words and grid.features * grid.quantize_bits == grid.save_bits


def encode_network(model: NeuralTexture) -> bytes:
    """The bytes of network_data.npz."""
    stream = io.BytesIO()
    np.savez(stream, info=np.array(network_info(model.form).numbers, np.int32), network=network_weights(model))
    return stream.getvalue()


def read_network(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """(info int32, network float32) of a network_data.npz.

    Sizes are checked before anything is unpacked, and nothing is unpickled: a hostile file cannot take memory or run.
    Raises: UserError when the file is damaged or holds anything else.
    """
    path = Path(path)
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            if os.fstat(stream.fileno()).st_size > 2 * MAX_NETWORK_BYTES:
                raise UserError(f"{path}: over {MAX_NETWORK_BYTES >> 19} MB; refused")
            names = sorted(archive.namelist())
            if names != ["info.npy", "network.npy"]:
                raise UserError(f"{path}: expected the arrays info and network, found {names!s:.200}")
            arrays = {}
            for member in map(archive.getinfo, names):
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UserError(f"{path}: {member.filename} is compressed in a way that numpy never uses")
                if member.file_size > MAX_NETWORK_BYTES:
                    raise UserError(f"{path}: {member.filename} unpacks to over {MAX_NETWORK_BYTES >> 20} MB; refused")
                with archive.open(member) as content:
                    arrays[member.filename] = _parse_npy(content.read(MAX_NETWORK_BYTES + 1))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path}: damaged, not a readable npz ({' '.join(str(error).split()):.120})") from error
    info, network = arrays["info.npy"], arrays["network.npy"]
    if info.dtype != np.int32 or network.dtype != np.float32:
        raise UserError(f"{path}: expected info int32 and network float32, found {info.dtype} and {network.dtype}")
    if not np.isfinite(network).all():
        raise UserError(f"{path}: the network holds numbers that are not finite; the file is damaged")
    return info, network


def read_weights(path: Path, form: ModelForm) -> tuple[ModelForm, list[np.ndarray]]:
    """(form, weight matrices [out, in] float32) of a model whose form a manifest gives.

    Without hidden layers a manifest does not hold `n_neurons`; the form is returned with that of the file.
    Raises: UserError when the file is damaged, or of another model.
    """
    info, network = read_network(path)
    found = parse_info(info, str(path))
    if not form.decoder.n_hidden_layers:
        form = replace(form, decoder=replace(form.decoder, n_neurons=found.n_neurons))
    if found != network_info(form):
        raise UserError(f"{path}: describes another texture than the manifest does; export again")
    matrices = split_weights(network, form.layer_sizes)
    if matrices is None:
        raise UserError(
            f"{path}: its {len(network)} weights do not fit {form.inputs.total} inputs and the layers in info; either "
            "it is damaged, or in a form that only a manifest can tell (learned interpolation)"
        )
    return form, matrices


def split_weights(network: np.ndarray, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray] | None:
    """The matrices of these (outputs, inputs) in a `network` vector; None when its length is another one."""
    counts = [outputs * inputs for outputs, inputs in sizes]
    if sum(counts) != len(network):
        return None
    return [part.reshape(size) for part, size in zip(np.split(network, np.cumsum(counts)[:-1]), sizes)]


def _parse_npy(payload: bytes) -> np.ndarray:
    """A .npy file (version 1.0) of one vector of int32 or float32, little endian.

    numpy's own reader passes the header to Python's tokenizer and allocates the size that it claims.
    Source: numpy.lib.format, "Format Version 1.0".
    """
    if payload[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError("not an npy file of version 1.0")
    start = 10 + int.from_bytes(payload[8:10], "little")
    header = _NPY_HEADER.fullmatch(payload[10:start])
    if header is None:
        raise ValueError("expected a vector of int32 or float32")
    vector = np.frombuffer(payload, header[1].decode(), offset=start)
    if len(vector) != int(header[2]):
        raise ValueError(f"header says {int(header[2])} numbers, {len(vector)} follow")
    return vector
