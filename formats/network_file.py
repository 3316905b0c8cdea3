"""network_data.npz: what a decoder's network and grids are, in two vectors (design.md, section 6)."""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from common.errors import UserError
from common.files import open_regular
from configs import MAX_GRIDS
from formats.dds import MAX_SIZE
from model import NeuralTexture
from quantize import QUANTIZE_BITS, SAVE_BITS
from shape import PADDED_OUTPUTS

MAX_NETWORK_BYTES = 64 << 20
_NPY_HEADER = re.compile(rb"\{'descr': '(<[if]4)', 'fortran_order': False, 'shape': \((\d{1,9}),\), \} {0,200}\n")


def network_info(model: NeuralTexture) -> np.ndarray:
    """The `info` vector of network_data.npz, int32."""
    info = [len(model.grids)]
    for grid in model.grids:
        info += [grid.base_resolution, grid.n_levels, grid.features, grid.quantize_bits, grid.save_bits]
    decoder = model.decoder
    info += [decoder.n_frequencies, decoder.n_neurons, decoder.n_hidden_layers, PADDED_OUTPUTS]
    return np.array(info, np.int32)


def network_weights(model: NeuralTexture) -> np.ndarray:
    """The `network` vector: the weight matrices one after the other, each row-major [out, in], float32."""
    return torch.cat([weight.detach().reshape(-1).cpu() for weight in model.weights]).numpy()


def info_fields(info: np.ndarray, name: str) -> tuple[list[dict[str, int]], dict[str, int]]:
    """The grids and the decoder that an `info` vector lists, whatever their numbers; `name` is the file in errors.

    Raises: UserError when it has another length than its number of grids asks for.
    """
    values = [int(value) for value in info]
    fields = ("base_resolution", "n_levels", "features", "quantize_bits", "save_bits")
    n_grids = values[0] if values else 0
    if not 1 <= n_grids <= MAX_GRIDS or len(values) != 1 + len(fields) * n_grids + 4:
        raise UserError(f"{name}: expected info for 1 to {MAX_GRIDS} grids, found {len(values)} numbers; it is damaged")
    grids = [dict(zip(fields, values[1 + len(fields) * g :])) for g in range(n_grids)]
    return grids, dict(zip(("n_frequencies", "n_neurons", "n_hidden_layers", "padded_outputs"), values[-4:]))


def check_info(
    info: np.ndarray, grids: Sequence[Mapping[str, int]], decoder: Mapping[str, int], path: str | Path
) -> None:
    """Raise UserError for numbers that no decoder has; arguments as info_fields returns them.

    More passes than parse_info lets through: a feature count that does not fill its word, and 32 outputs, which the
    ancestor project writes for 16 channels.
    """
    try:
        if not all(0 <= value <= 65536 for value in info) or decoder["n_hidden_layers"] > 64:
            raise ValueError("out of range")
        if not decoder["n_neurons"] or not decoder["padded_outputs"]:
            raise ValueError("a layer without neurons")
        for grid in grids:
            check_levels(grid["n_levels"], grid["base_resolution"])
    except ValueError as error:
        values = f"{info.tolist()!s:.200}"
        raise UserError(f"{path}: info describes an impossible texture ({values}); the file is damaged") from error


def check_levels(n_levels: int, base_resolution: int) -> None:
    """Raise ValueError or TypeError for a pyramid that no texture has, before anything counts its texels."""
    if not 1 <= n_levels <= MAX_SIZE.bit_length() or not 1 <= base_resolution <= MAX_SIZE >> (n_levels - 1):
        raise ValueError(f"{n_levels!r:.40} levels from {base_resolution!r:.40} on")


def parse_info(info: np.ndarray, name: str) -> tuple[list[dict[str, int]], dict[str, int]]:
    """The grids and the decoder that an `info` vector describes.

    Raises: UserError when its length or a value is impossible.
    """
    grids, decoder = info_fields(info, name)
    sane = (
        0 <= decoder["n_frequencies"] <= 64
        and 1 <= decoder["n_neurons"] <= 4096
        and 0 <= decoder["n_hidden_layers"] <= 64
        and decoder["padded_outputs"] == PADDED_OUTPUTS
        and all(
            grid["quantize_bits"] in QUANTIZE_BITS
            and grid["save_bits"] in SAVE_BITS
            and grid["features"] * grid["quantize_bits"] == grid["save_bits"]
            and 1 <= grid["n_levels"] <= MAX_SIZE.bit_length()
            and 1 <= grid["base_resolution"] <= MAX_SIZE >> (grid["n_levels"] - 1)
            for grid in grids
        )
    )
    if not sane:
        raise UserError(f"{name}: info describes an impossible texture ({info.tolist()!s:.200}); the file is damaged")
    return grids, decoder


def encode_network(model: NeuralTexture) -> bytes:
    """The bytes of network_data.npz."""
    stream = io.BytesIO()
    np.savez(stream, info=network_info(model), network=network_weights(model))
    return stream.getvalue()


def read_network(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """(info int32, network float32) of a network_data.npz.

    Sizes are checked before anything is unpacked and nothing is unpickled, so a hostile file costs nothing.
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


def _parse_npy(payload: bytes) -> np.ndarray:
    """A .npy file (version 1.0) of one vector of int32 or float32, little endian.

    numpy's reader hands the header to Python's tokenizer and allocates what it claims; these vectors need neither.
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
