"""A whole day in one file, from which it can be rendered.

f1_f2.npz: both networks; F1 computes the latent map when the file is loaded. day.npz, of latent mode basis: the codes
of the latent map, and the network and the basis in float16 or float32, as they were trained.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.errors import UserError, quote
from common.files import parse_json
from lightmap.compressor import Compressor, dequantised_codes, shape_from
from lightmap.data import encoding_of
from lightmap.quantised import MAX_NPZ_RATIO, quantise_model
from lightmap.shape import Shape

MAX_BYTES = 1 << 30
WEIGHT_TYPES = ("float32", "float16")


def pack_weights(model: Compressor, day: Mapping[str, Any], weight_type: str = "") -> bytes:
    """`weights` (all parameters in the order of model.parameters(), flat) and `info` (JSON: shape and day).

    In latent mode basis `weights` are those of F2, and `codes` (latent texels, C) uint8 are beside them; deflated.
    weight_type: of WEIGHT_TYPES; empty: float32, in latent mode basis that of the shape.
    """
    if model.shape.latent_mode == "direct":
        raise ValueError("a learned grid is no network")
    basis = model.shape.latent_mode == "basis"
    of = model.f2 if basis else model
    weight_type = weight_type or f"float{model.shape.weight_bits if basis else 32}"
    flat = torch.cat([value.detach().cpu().flatten() for value in of.parameters()]).numpy().astype(weight_type)
    info = json.dumps({"shape": dataclasses.asdict(model.shape), "day": dict(day)}).encode()
    stream, entries = io.BytesIO(), {"weights": flat, "info": np.frombuffer(info, np.uint8)}
    if basis:
        codes = quantise_model(model).codes
        np.savez_compressed(stream, codes=codes.reshape(-1, model.shape.latent_dim), **entries)
    else:
        np.savez(stream, **entries)
    return stream.getvalue()


def unpack_weights(path: Path) -> tuple[Compressor, dict[str, Any]]:
    """The model, and the description of its day (checkpoints.describe_day). Raises: UserError."""
    expected = f"{quote(path)}: expected f1_f2.npz or day.npz of export_latent.py"
    try:
        file_bytes = path.stat().st_size
        if file_bytes > MAX_BYTES:
            raise UserError(f"{expected}, found a file of {file_bytes} bytes")
        with zipfile.ZipFile(path) as archive:
            ratio = MAX_NPZ_RATIO if "codes.npy" in archive.namelist() else 1
            if sum(entry.file_size for entry in archive.infolist()) > file_bytes * ratio:
                raise UserError(f"{expected}, found one that claims more than it can hold")
        with np.load(path, allow_pickle=False) as archive:
            weights, info = archive["weights"], parse_json(archive["info"].tobytes())
            codes = archive.get("codes")
        shape = shape_from(info["shape"])
        day = info["day"]
        encoding_of(day)
        wanted = "f1" if codes is None else "basis"
        if shape.latent_mode != wanted or weights.ndim != 1 or weights.dtype.name not in WEIGHT_TYPES:
            raise ValueError("weights of another kind")
        if not np.isfinite(weights).all():
            raise ValueError("weights that are not finite")
        model = _rebuilt(shape, weights, codes)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{quote(path)}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged archive can raise any exception
        raise UserError(f"{expected}, found another file or a damaged one ({error!s:.80})") from error
    return model.eval(), day


def _rebuilt(shape: Shape, weights: np.ndarray, codes: np.ndarray | None) -> Compressor:
    """Raises: ValueError if weights or codes are not as many as the shape asks for."""
    rows, columns = shape.latent_size
    if codes is not None and (codes.dtype != np.uint8 or codes.shape != (rows * columns, shape.latent_dim)):
        raise ValueError(f"codes of {codes.shape}")  # before memory for as many is allocated
    model = Compressor(shape)
    parameters = list((model if codes is None else model.f2).parameters())
    if sum(value.numel() for value in parameters) != len(weights):
        raise ValueError(f"{len(weights)} weights")
    flat = torch.from_numpy(weights.astype(np.float32))
    with torch.no_grad():
        for value, part in zip(parameters, flat.split([value.numel() for value in parameters])):
            value.copy_(part.view_as(value))
        if codes is not None:
            top = 2**shape.latent_bits - 1
            if codes.max() > top:
                raise ValueError(f"codes above {top}")
            model.grid.copy_(dequantised_codes(torch.from_numpy(codes), shape.latent_bits))
    return model
