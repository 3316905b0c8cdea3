"""F1 gives each texel a latent z, F2 turns z and a time of day into RGB (docs/lightmap.md)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch
from torch import nn
from torchtyping import TensorType

from lightmap.data import HOURS
from lightmap.shape import LARGEST, LATENT_MODES, WEIGHT_BITS, Shape
from lightmap.siren import DaySiren, Siren, frame_shares

CHUNK = 1 << 12  # texels per network call, which fit the caches; another count would change low bits of the results
DIRECT_RANGE = 1.0  # latents of a learned grid lie in -1..1
DIRECT_START = 0.1  # standard deviation of a learned grid at the start

Latents = TensorType["n", "channels"]
Times = TensorType["n"]
Texels = TensorType["n"]  # numbers y * width + x
Positions = TensorType["n", 2]
Features = TensorType["n", "2*harmonics"]
Neighbours = TensorType["n", 4]
Rgb = TensorType["n", 3]


def time_features(hours: Times, harmonics: int) -> Features:
    """sin, cos of 2 pi k t / 24 for k = 1..harmonics, interleaved, float32. The day repeats: 25 h is 1 h."""
    turns = torch.remainder(hours.double(), HOURS) / HOURS  # 24 is 0 exactly
    angle = 2 * math.pi * turns[:, None] * torch.arange(1, harmonics + 1, device=hours.device)
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1).float()


class Compressor(nn.Module):
    """F1 (or a learned grid) and F2 of one day; in latent mode basis F2 gives all frames at once.

    Lightmaps do not tile: beyond the centres of the outermost latent texels their values continue (clamp addressing).
    """

    def __init__(self, shape: Shape, generator: torch.Generator | None = None):
        super().__init__()
        self.shape = shape
        height, width = shape.latent_size
        if shape.latent_mode == "f1":
            self.f1 = Siren(2, shape.hidden_f1, shape.layers_f1, shape.latent_dim, shape.omega, generator)
        else:
            start = torch.randn(height * width, shape.latent_dim, generator=generator) * DIRECT_START
            self.grid = nn.Parameter(start)
        if shape.latent_mode == "basis":
            self.f2 = DaySiren(
                shape.latent_dim, shape.hidden_f2, shape.layers_f2, shape.frames, shape.omega_f2, generator
            )
            return
        inputs = shape.latent_dim + 2 * shape.time_harmonics
        self.f2 = Siren(inputs, shape.hidden_f2, shape.layers_f2, 3, shape.omega_f2, generator)

    def forward(self, texels: Texels, hours: Times) -> Rgb:
        """Encoded RGB, nominally in [0, 1] and not clamped, of texels (y * width + x) at hours."""
        z = self.latents(texels)
        if self.shape.latent_mode == "basis":
            frames = self.shape.frames
            numbers = torch.arange(frames, dtype=torch.float32, device=z.device)
            shares = frame_shares(hours.float()[:, None], numbers, frames)
            return (self.f2(z).view(-1, frames, 3) * shares[:, :, None]).sum(dim=1)
        return self.decode(z, time_features(hours, self.shape.time_harmonics))

    def decode(self, z: Latents, features: Features) -> Rgb:
        """F2 of latents and time features."""
        return self.f2(torch.cat([z, features], dim=1))

    def latents(self, texels: Texels) -> Latents:
        """z at the centres of lightmap texels, sampled bilinearly from the latent map."""
        if self.shape.latent_scale == 1:
            return self.latent_texels(texels)
        neighbours, weights = bilinear_neighbours(texels, (self.shape.height, self.shape.width), self.shape.latent_size)
        z = self.latent_texels(neighbours.flatten()).view(*neighbours.shape, self.shape.latent_dim)
        return (z * weights[..., None]).sum(dim=1)

    def latent_texels(self, texels: Texels) -> Latents:
        """z of texels of the latent map."""
        if self.shape.latent_mode != "f1":
            return round_latents(self.grid[texels], self.shape.latent_bits)
        return self.f1(self.positions(texels))

    def positions(self, texels: Texels) -> Positions:
        """Input of F1: the centres of latent texels, ((x + 0.5) / width, (y + 0.5) / height) * 2 - 1."""
        height, width = self.shape.latent_size
        x, y = texels % width, torch.div(texels, width, rounding_mode="floor")
        return torch.stack([(x + 0.5) / width, (y + 0.5) / height], dim=1) * 2 - 1

    @torch.no_grad()
    def keep_in_range(self) -> None:
        """Clamp a learned grid to -1..1 after a step: the straight-through gradient can push values beyond."""
        if self.shape.latent_mode != "f1":
            self.grid.clamp_(-DIRECT_RANGE, DIRECT_RANGE)

    @torch.no_grad()
    def compute_latent_map(self) -> Latents:
        """z of every latent texel, row by row, float32; those of a learned grid rounded as in training."""
        return torch.cat(list(self.latent_parts()))

    def latent_parts(self) -> Iterator[Latents]:
        """The same, CHUNK texels at a time: the whole map of a large day takes GB."""
        height, width = self.shape.latent_size
        device = self.f2.omega.device
        for part in chunks(height * width):
            with torch.no_grad():
                z = self.latent_texels(part.to(device)).cpu()
            yield z


def chunks(count: int) -> Iterator[Texels]:
    """The numbers 0 to count - 1, CHUNK at a time."""
    for start in range(0, count, CHUNK):
        yield torch.arange(start, min(start + CHUNK, count))


def round_latents(z: Latents, bits: int) -> Latents:
    """Latents rounded to codes of `bits` bits over -1..1, with a straight-through gradient."""
    top = 2**bits - 1
    codes = ((z.detach().clamp(-DIRECT_RANGE, DIRECT_RANGE) + DIRECT_RANGE) * (top / 2 / DIRECT_RANGE) + 0.5).floor()
    return z + (dequantised_codes(codes, bits) - z).detach()


def dequantised_codes(codes: Latents, bits: int) -> Latents:
    """Codes of `bits` bits as latents in -1..1, float32."""
    top = 2**bits - 1
    return (codes.float() * 2 - top) / top * DIRECT_RANGE


def bilinear_neighbours(
    texels: Texels, size: tuple[int, int], latent_size: tuple[int, int]
) -> tuple[Neighbours, Neighbours]:
    """The four latent texels around the centre of each lightmap texel, and their bilinear weights.

    texels: y * width + x at `size` (height, width). Addresses are clamped at the borders.
    """
    (height, width), (rows, columns) = size, latent_size
    # one rounding, as in the shader: ((x + 0.5) / width) * columns - 0.5 in float32
    x = (texels % width + 0.5) / width * columns - 0.5
    y = (torch.div(texels, width, rounding_mode="floor") + 0.5) / height * rows - 0.5
    x0, y0 = x.floor(), y.floor()
    fx, fy = x - x0, y - y0
    across = [(x0 + i).long().clamp(0, columns - 1) for i in (0, 1)]
    down = [(y0 + i).long().clamp(0, rows - 1) for i in (0, 1)]
    neighbours = torch.stack([down[j] * columns + across[i] for j in (0, 1) for i in (0, 1)], dim=1)
    weights = torch.stack([(fx if i else 1 - fx) * (fy if j else 1 - fy) for j in (0, 1) for i in (0, 1)], dim=1)
    return neighbours, weights


def upsample(
    latent: Latents, size: tuple[int, int], latent_size: tuple[int, int], texels: Texels | None = None
) -> Latents:
    """The latent map sampled at the centres of these lightmap texels; None: of all."""
    if size == latent_size:
        return latent if texels is None else latent[texels]
    parts = chunks(size[0] * size[1]) if texels is None else texels.split(CHUNK)
    sampled = []
    for part in parts:
        neighbours, weights = bilinear_neighbours(part, size, latent_size)
        sampled.append((latent[neighbours] * weights[..., None]).sum(dim=1))
    return torch.cat(sampled)


@torch.no_grad()
def render(f2: Siren, latent: Latents, hour: float, harmonics: int) -> Rgb:
    """Encoded RGB of latents at one hour, not clamped, on the CPU."""
    device = f2.omega.device
    if isinstance(f2, DaySiren):
        return torch.cat([f2.at(part.to(device), hour).cpu() for part in latent.split(CHUNK)])
    features = time_features(torch.tensor([hour], dtype=torch.float64), harmonics).to(device)
    parts = []
    for part in latent.split(CHUNK):
        part = part.to(device)
        parts.append(f2(torch.cat([part, features.expand(len(part), -1)], dim=1)).cpu())
    return torch.cat(parts)


def harmonics_of(f2: Siren, channels: int) -> int | None:
    """The time harmonics that an F2 reads beside latents of `channels` channels, 0 for one that gives all frames; None
    if it is no F2 for that many channels."""
    if isinstance(f2, DaySiren):
        return 0 if f2.sizes[0] == channels else None
    if f2.sizes[-1] != 3:
        return None
    features = f2.sizes[0] - channels
    return features // 2 if features >= 2 and features % 2 == 0 else None


def shape_from(values: dict) -> Shape:
    """A Shape of plain values, for example from JSON. Raises: ValueError, TypeError."""
    shape = Shape(**values)
    for field in dataclasses.fields(Shape):
        value = getattr(shape, field.name)
        if field.name == "latent_mode":
            good = value in LATENT_MODES
        elif field.name == "weight_bits":
            good = type(value) is int and value in WEIGHT_BITS
        elif field.name.startswith("omega"):
            good = type(value) in (int, float) and 0 < value < 1e6
        else:
            least = 1 if field.name != "frames" else int(shape.latent_mode == "basis")
            good = type(value) is int and least <= value <= LARGEST[field.name]
        if not good:
            raise ValueError(f"{field.name} is {value!r:.40}")
    return shape
