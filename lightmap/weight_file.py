"""f1_f2.npz: both networks of a day; F1 computes the latent map when the file is loaded."""

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
from lightmap.compressor import Compressor, shape_from
from lightmap.data import encoding_of

MAX_BYTES = 64 << 20
WEIGHT_TYPES = ("float32", "float16")


def pack_weights(model: Compressor, day: Mapping[str, Any], weight_type: str = "float32") -> bytes:
    """`weights` (all parameters in the order of model.parameters(), flat) and `info` (JSON: shape and day)."""
    if model.shape.latent_mode != "f1":
        raise ValueError("a learned grid is no network")
    flat = torch.cat([value.detach().cpu().flatten() for value in model.parameters()]).numpy().astype(weight_type)
    info = json.dumps({"shape": dataclasses.asdict(model.shape), "day": dict(day)}).encode()
    stream = io.BytesIO()
    np.savez(stream, weights=flat, info=np.frombuffer(info, np.uint8))
    return stream.getvalue()


def unpack_weights(path: Path) -> tuple[Compressor, dict[str, Any]]:
    """The model, and the description of its day (checkpoints.describe_day). Raises: UserError."""
    expected = f"{quote(path)}: expected f1_f2.npz of export_latent.py"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{expected}, found a file of {path.stat().st_size} bytes")
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise UserError(f"{expected}, found compressed parts, which it never has")
        with np.load(path, allow_pickle=False) as archive:
            weights, info = archive["weights"], parse_json(archive["info"].tobytes())
        shape = shape_from(info["shape"])
        day = info["day"]
        encoding_of(day)
        if shape.latent_mode != "f1" or weights.ndim != 1 or weights.dtype.name not in WEIGHT_TYPES:
            raise ValueError("weights of another kind")
        if not np.isfinite(weights).all():
            raise ValueError("weights that are not finite")
        model = Compressor(shape)
        parameters = list(model.parameters())
        if sum(value.numel() for value in parameters) != len(weights):
            raise ValueError(f"{len(weights)} weights")
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{quote(path)}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged archive can raise any exception
        raise UserError(f"{expected}, found another file or a damaged one ({error!s:.80})") from error
    flat = torch.from_numpy(weights.astype(np.float32))
    with torch.no_grad():
        for value, part in zip(parameters, flat.split([value.numel() for value in parameters])):
            value.copy_(part.view_as(value))
    return model.eval(), day
