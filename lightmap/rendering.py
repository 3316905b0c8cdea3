"""Loads a day from a checkpoint or from exported files, and renders it at any hour."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.arrays import read_array
from common.errors import UserError, quote
from common.files import open_regular, parse_json
from common.safe_load import read_payload
from lightmap import checkpoints
from lightmap.compressor import Compressor, Latents, harmonics_of, render, shape_from, upsample
from lightmap.data import HOURS, Encoding, encoding_of
from lightmap.exports import F2_META, F2_STATE
from lightmap.quantised import read_npz
from lightmap.siren import Siren, siren_from_state
from lightmap.weight_file import unpack_weights

MAX_META_BYTES = 1 << 20


@dataclass(frozen=True)
class Renderable:
    """A day that can be rendered. latent: (H * W, C) float32, z of every lightmap texel."""

    latent: Latents
    size: tuple[int, int]
    f2: Siren
    harmonics: int
    encoding: Encoding
    bits: int

    def encoded(self, hours: float) -> np.ndarray:
        """F2's output at one hour, (H, W, 3) float32, not clamped."""
        return render(self.f2, self.latent, hours, self.harmonics).view(*self.size, 3).numpy()

    def light(self, hours: float) -> np.ndarray:
        """The frame at one hour, (H, W, 3) float32: values in [0, 1] as LDR files store them, or HDR light."""
        return self.encoding.decode(self.encoded(hours))


def from_model(model: Compressor, day: dict[str, Any]) -> Renderable:
    """The day of a trained model. day: of checkpoints.describe_day."""
    size = (model.shape.height, model.shape.width)
    latent = upsample(model.compute_latent_map(), size, model.shape.latent_size)
    return Renderable(latent, size, model.f2, model.shape.time_harmonics, Encoding(**day["encoding"]), day["bits"])


def from_checkpoint(path: Path) -> Renderable:
    """The day of best.ckpt, last.ckpt, day.npz or f1_f2.npz. Raises: UserError."""
    if path.suffix.lower() == ".npz":
        return from_model(*unpack_weights(path))
    loaded = checkpoints.load(path)
    return from_model(loaded.model, loaded.day)


def from_exports(latent_path: Path, f2_path: Path) -> Renderable:
    """The day of latent_map.npy or latent_map_q8.npz, and f2_state_dict.pt.

    The encoding comes from f2_meta.json beside F2; without that file 8-bit frames are assumed. Raises: UserError.
    """
    f2 = read_f2(f2_path)
    latent, size = read_latent(latent_path)
    channels = latent.shape[1]
    harmonics = harmonics_of(f2, channels)
    meta = read_meta(f2_path.with_name(F2_META))
    expected = meta and meta["shape"]["latent_dim"]
    if harmonics is None or expected not in (None, channels):
        wanted = f"{expected}" if expected else f"{f2.sizes[0]} less 2 per harmonic of the time"
        raise UserError(
            f"--latent_path {quote(latent_path)}: {quote(f2_path)} expects a latent map of {wanted} channels, found "
            f"{channels}; give the two files of one export"
        )
    day = meta["day"] if meta else {"encoding": {}, "bits": 8}
    return Renderable(latent, size, f2, harmonics, Encoding(**day["encoding"]), day["bits"])


def read_f2(path: Path) -> Siren:
    """F2 from a file with its state dict. Raises: UserError."""
    expected = f"--f2_path {quote(path)}: expected {F2_STATE} of export_latent.py"
    if _is_program(path):
        raise UserError(f"{expected}, found TorchScript, which is code to be run; give the {F2_STATE} beside it")
    state = read_payload(path)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{expected}, found another file of PyTorch's")
    if not all(value.dtype == torch.float32 and torch.isfinite(value).all() for value in state.values()):
        raise UserError(f"{expected}, found weights that are not finite float32 numbers")
    try:
        return siren_from_state(state).eval()
    except ValueError as error:
        raise UserError(f"{expected}, found {error}") from error


def _is_program(path: Path) -> bool:
    """Whether a file is TorchScript's archive rather than one of torch.save's."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.partition("/")[2].startswith("code/") for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):  # read_payload reports it
        return False


def read_latent(path: Path) -> tuple[Latents, tuple[int, int]]:
    """z of every lightmap texel, (texels, C) float32, and the lightmap's (height, width). Raises: UserError."""
    if zipfile.is_zipfile(path):
        stored = read_npz(path)
        return upsample(stored.dequantised(), stored.size, stored.latent_size), stored.size
    latent = read_array(path)
    if latent.ndim != 3 or latent.dtype != np.float32 or not latent.size or not np.isfinite(latent).all():
        raise UserError(
            f"--latent_path {quote(path)}: expected (height, width, channels) finite float32 numbers, found "
            f"{latent.shape} {latent.dtype}; give latent_map.npy or latent_map_q8.npz"
        )
    return torch.from_numpy(np.array(latent)).flatten(0, 1), latent.shape[:2]


def read_meta(path: Path) -> dict[str, Any] | None:
    """The content of f2_meta.json; None without that file. Raises: UserError for a damaged one."""
    if not path.is_file():
        return None
    try:
        with open_regular(path) as stream:
            meta = parse_json(stream.read(MAX_META_BYTES))
        shape_from(meta["shape"])
        encoding_of(meta["day"])
        return meta
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{quote(path)}: expected the metadata that export_latent.py writes, found something else; export again"
        ) from error


def checked_hours(hours: float) -> float:
    """Any finite number of hours as a time of day, 0 to 24. Raises: UserError for NaN and infinity."""
    if not math.isfinite(hours):
        raise UserError(f"--time: expected hours, 0 to 24, got {hours}")
    return hours % HOURS
