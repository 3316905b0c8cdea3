"""A latent map as 8-bit codes with a range per channel: quantisation, the .npz file, the DDS planes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchtyping import TensorType

from common.errors import UserError, quote
from formats.dds import Texture
from lightmap.compressor import DIRECT_RANGE, Compressor, Latents

PLANE_CHANNELS = 4
MAX_NPZ_RATIO = 1100  # deflate cannot shrink anything more than 1032 times

Channels = TensorType["channels"]
Codes = TensorType["n", "channels", torch.uint8]


@dataclass(frozen=True)
class QuantisedLatent:
    """z = low + (high - low) * code / (2^bits - 1).

    codes: (height, width, C) uint8 of the latent map; low, high: (C,) float32; size: (height, width) of the lightmap.
    """

    codes: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bits: int
    size: tuple[int, int]

    @property
    def latent_size(self) -> tuple[int, int]:
        return self.codes.shape[:2]

    @property
    def span(self) -> np.ndarray:
        """(C,) float32. A shader that reads a UNORM value t computes z = low + span * t."""
        return (self.high - self.low) * np.float32(255 / (2**self.bits - 1))

    def dequantised(self) -> Latents:
        """(latent texels, C) float32."""
        unorm = torch.from_numpy(self.codes).flatten(0, 1).float() / 255
        return torch.from_numpy(self.low) + torch.from_numpy(self.span) * unorm


def quantise_model(model: Compressor) -> QuantisedLatent:
    """The codes of a model's latent map, computed part by part: those of F1 between each channel's smallest and largest
    value. A learned grid was trained with its codes, so they are lossless."""
    shape = model.shape
    size, channels = (shape.height, shape.width), shape.latent_dim
    if shape.latent_mode == "f1":
        extremes = [torch.stack([part.amin(dim=0), part.amax(dim=0)]) for part in model.latent_parts()]
        low, high = (side(torch.stack(extremes)[:, row], dim=0) for row, side in enumerate((torch.amin, torch.amax)))
        span, bits = span_of(low, high), 8
    else:
        low, bits = torch.full((channels,), -DIRECT_RANGE), shape.latent_bits
        span = torch.full((channels,), 2 * DIRECT_RANGE)
    codes, start = np.empty((np.prod(shape.latent_size), channels), np.uint8), 0
    for part in model.latent_parts():
        codes[start : start + len(part)] = codes_of_latents(part, low, span, bits).numpy()
        start += len(part)
    return QuantisedLatent(codes.reshape(*shape.latent_size, channels), low.numpy(), (low + span).numpy(), bits, size)


def span_of(low: Channels, high: Channels) -> Channels:
    """What codes of values between these extremes reach over: never 0."""
    return torch.where(high > low, high - low, torch.ones_like(low))


def codes_of_latents(z: Latents, low: Channels, span: Channels, bits: int) -> Codes:
    """Codes 0 to 2^bits - 1 of latents from `low` to `low + span`, (n, C) uint8; outside saturates."""
    top = 2**bits - 1
    return ((z - low) / span * top + 0.5).floor().clamp(0, top).to(torch.uint8)


# --- file ------------------------------------------------------------------------------------------------------------


def encode_npz(latent: QuantisedLatent) -> bytes:
    """The bytes of latent_map_q8.npz: q, lo, hi, bits, size; deflated."""
    stream = io.BytesIO()
    np.savez_compressed(stream, q=latent.codes, lo=latent.low, hi=latent.high, bits=np.int32(latent.bits),
                        size=np.int32(latent.size))  # fmt: skip
    return stream.getvalue()


def read_npz(path: Path) -> QuantisedLatent:
    """Read a file of encode_npz; nothing is unpickled. Raises: UserError."""
    damaged = f"{quote(path)}: expected the latent map that export_latent.py writes (q, lo, hi, bits, size)"
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size * MAX_NPZ_RATIO + (1 << 20):
                raise UserError(f"{damaged}, found one that claims more than it can hold")
        with np.load(path, allow_pickle=False) as archive:
            codes, low, high = archive["q"], archive["lo"], archive["hi"]
            bits, size = int(archive["bits"]), tuple(int(n) for n in archive["size"])
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{quote(path)}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged archive can raise any exception
        raise UserError(f"{damaged}, found another file or a damaged one") from error
    good = codes.dtype == np.uint8 and codes.ndim == 3 and low.shape == high.shape == codes.shape[2:] and codes.size
    good = good and low.dtype == high.dtype == np.float32 and 1 <= bits <= 8 and len(size) == 2
    if not good or not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise UserError(f"{damaged}, found other arrays in it")
    scale = max(-(-side // small) for side, small in zip(size, codes.shape[:2]))
    if not (min(size) >= 1 and scale <= 1 << 10):
        raise UserError(
            f"{damaged}, found a lightmap of {size[1]}x{size[0]} for a map of {codes.shape[1]}x{codes.shape[0]}"
        )
    return QuantisedLatent(codes, low, high, bits, size)


# --- planes ----------------------------------------------------------------------------------------------------------


def plane_names(channels: int) -> list[str]:
    """File names of the planes, of four channels each: latent_0_3.dds, latent_4_7.dds, ..."""
    starts = range(0, channels, PLANE_CHANNELS)
    return [f"latent_{start}_{min(start + PLANE_CHANNELS, channels) - 1}.dds" for start in starts]


def planes(latent: QuantisedLatent) -> Iterator[np.ndarray]:
    """The codes in planes of four channels, (h, w, 4) uint8; missing channels of the last plane are 0."""
    for start in range(0, latent.codes.shape[2], PLANE_CHANNELS):
        part = latent.codes[..., start : start + PLANE_CHANNELS]
        yield np.ascontiguousarray(np.pad(part, [(0, 0), (0, 0), (0, PLANE_CHANNELS - part.shape[2])]))


def textures(latent: QuantisedLatent) -> Iterator[Texture]:
    """R8G8B8A8_UNORM textures of one level: averaged latents (mips) would not decode to averaged colours."""
    return (Texture((plane,)) for plane in planes(latent))
