"""Latent mode basis before training: how many channels at which resolution, and the start, which is PCA of the day.

A texel's colours over the day are a mean day plus z times a few basis days; z is a latent map of 8-bit codes, at the
size of the lightmap or smaller. What PCA leaves over at each number of channels and each resolution is known from one
pass over the frames, and decides which of them a size in bytes is spent on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional
from torchtyping import TensorType

from common.errors import Say, UserError
from lightmap.baselines import day_components
from lightmap.compressor import Compressor, bilinear_neighbours
from lightmap.data import Day
from lightmap.evaluation import stack_of
from lightmap.options import TrainOptions
from lightmap.shape import Shape

MOST_CHANNELS = 24
SCALES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
HALF_BYTES = 2  # of a number of the network and the basis, unless it is float32
# Bits of a texel in a frame, unless a size is given: 1 is an eighth of BC6H and BC7 and a quarter of BC1; small days,
# of which every form is small, have up to the second number as long as they stay below SMALL_BYTES.
BITS_PER_SAMPLE, SMALL_DAY_BITS, SMALL_BYTES = 1, 2, 1 << 16
LAMP_CHANNELS = 8  # of a day with lamps, unless a size is given
NETWORK_SHARE = 1 / 16  # of the bytes
HIDDEN = (4, 32)  # fewest and most neurons
LITTLE = 1.02  # an error that is larger by this factor is as good
LAMP_LIGHT = 1 / 8  # of the day's peak: what is as bright counts as a lamp, if it is rare
LAMP_SHARE = 0.01  # of the texels, at most
STRIP_ROWS = 128  # of the frames, that errors are measured on together
MEASURED_TEXELS = 1 << 19  # of all strips, about, where there are more
PARTS = 1 << 14  # texels that are worked on together
SOLVER_STEPS = 8

Components = TensorType["components"]


# --- the size ---------------------------------------------------------------------------------------------------------


def network_size(shape: Shape) -> int:
    """Numbers in a DaySiren of this shape."""
    inputs, hidden, outputs = shape.latent_dim, shape.hidden_f2, 3 * shape.frames
    inner = inputs * hidden + hidden + (shape.layers_f2 - 1) * (hidden * hidden + hidden)
    return inner + outputs * (hidden + 1 + inputs)


def shipped_bytes(shape: Shape) -> int:
    """Bytes of a day in latent mode basis: a byte for each latent, float16 or float32 for the network and the basis."""
    height, width = shape.latent_size
    return height * width * shape.latent_dim + shape.weight_bits // 8 * network_size(shape)


def choose_shape(options: TrainOptions, day: Day, say: Say = print) -> Shape:
    """The shape of a day in latent mode basis.

    Of all channels and resolutions that fit into the bytes, those with which PCA comes closest; without --bytes fewer
    channels if they are as good. Flags that are given stay as they are. With --target_psnr, target.py chooses.
    Raises: UserError if nothing fits.
    """
    choice = SizeChoice(options, day)
    if options.latent_dim and options.latent_scale and not options.wanted_bytes:
        return choice.shape(options.latent_dim, options.latent_scale)
    found = choice.for_bytes()
    if len(choice.lamps) and found[1] > 1 and not options.latent_scale:
        say(f"note: --bytes {options.bytes}: too few for a latent map of the lightmap's size, which keeps lamps sharp")
    return choice.shape(*found)


class SizeChoice:
    """The numbers of channels and the resolutions of a day, with what PCA leaves over at each."""

    def __init__(self, options: TrainOptions, day: Day):
        self.options, self.day = options, day
        self.mean, self.basis = day_components(day, MOST_CHANNELS)
        self.most = options.latent_dim or self.basis.shape[1]
        self.lamps = lamp_texels(day)
        largest = max(day.height, day.width)
        scales = tuple(scale for scale in SCALES if scale == 1 or scale < largest)
        self.every_scale = (options.latent_scale,) if options.latent_scale else scales
        self.scales = (1,) if len(self.lamps) and not options.latent_scale else self.every_scale
        samples = day.texels * day.n_frames
        usual = max(samples * BITS_PER_SAMPLE // 8, min(samples * SMALL_DAY_BITS // 8, SMALL_BYTES))
        if len(self.lamps):
            usual = day.texels * LAMP_CHANNELS
        self.given = options.wanted_bytes
        self.n_bytes = self.given or usual + HALF_BYTES * 3 * day.n_frames * (1 + MOST_CHANNELS // 2)
        self.errors: dict[int, Components] = {}

    def shape(self, channels: int, scale: int) -> Shape:
        options, day = self.options, self.day
        shape = dataclasses.replace(
            options.shape(day.height, day.width), latent_dim=channels, latent_scale=scale, frames=day.n_frames,
            layers_f2=options.layers_f2 or 1, hidden_f2=options.hidden_f2 or 1,
        )  # fmt: skip
        if options.hidden_f2:
            return shape
        rows, columns = shape.latent_size
        n_bytes = self.given or rows * columns * channels
        each = HALF_BYTES * (3 * day.n_frames + channels + 1)
        hidden = int(n_bytes * NETWORK_SHARE / each) // 4 * 4
        return dataclasses.replace(shape, hidden_f2=min(max(hidden, HIDDEN[0]), HIDDEN[1]))

    def fitting(self, scale: int) -> int:
        """The most channels that fit into the bytes; 0: not one does."""
        counts = [self.options.latent_dim] if self.options.latent_dim else range(self.most, 0, -1)
        return next((count for count in counts if shipped_bytes(self.shape(count, scale)) <= self.n_bytes), 0)

    def for_bytes(self) -> tuple[int, int]:
        """(channels, scale)."""
        best = None
        for scale in self.scales:
            channels = self.fitting(scale)
            if not channels:
                continue
            error = self.error(scale, channels)
            if best is not None and error > 2 * best[0]:
                break  # from here on resolution costs more than channels bring
            if best is None or error < best[0]:
                best = error, channels, scale
        if best is None and self.scales != self.every_scale:
            self.scales = self.every_scale
            return self.for_bytes()
        if best is None:
            least = min(shipped_bytes(self.shape(self.options.latent_dim or 1, scale)) for scale in self.scales)
            if not self.given:  # flags ask for more than a day usually takes
                self.n_bytes += least
                return self.for_bytes()
            raise UserError(f"--bytes {self.options.bytes}: expected at least {least} for {self.day.n_frames} frames "
                            f"of {self.day.width}x{self.day.height} and the other flags; give more")  # fmt: skip
        error, channels, scale = best
        if not self.given and not self.options.latent_dim:  # what PCA gains no more from is left out
            good = LITTLE * error + 1e-12
            channels = next(n for n in range(1, channels + 1) if self.error(scale, n) <= good)
        return channels, scale

    def front(self) -> list[tuple[int, int, int]]:
        """(bytes, channels, scale) of the forms in which PCA comes closer than in any that is as small."""
        counts = [self.options.latent_dim] if self.options.latent_dim else range(1, self.most + 1)
        forms = [(shipped_bytes(self.shape(n, scale)), n, scale) for scale in self.scales for n in counts]
        found, least = [], math.inf
        for size, channels, scale in sorted(forms):
            error = self.error(scale, channels)
            if error < least:
                found.append((size, channels, scale))
                least = error
        return found

    def error(self, scale: int, channels: int) -> float:
        """Mean squared error of PCA at 1/scale of the size, over the texels in the mask."""
        if not self.errors:
            self.errors = self._measured()
        return float(self.errors[scale][min(channels, len(self.errors[scale])) - 1])

    def _measured(self) -> dict[int, Components]:
        """The errors at each scale, for 1, 2, ... channels, from one pass over strips of the frames."""
        day, basis = self.day, self.basis[:, : self.most]
        left = {scale: torch.zeros(basis.shape[1]).double() for scale in self.scales}
        total, count = 0.0, 0
        strips = torch.arange(day.texels).split(STRIP_ROWS * day.width)
        for texels in strips[:: max(1, day.texels // MEASURED_TEXELS)]:
            colors = stack_of(day, texels) - self.mean
            mask = day.mask[texels].view(1, -1, day.width).float()
            total += float((colors * mask.view(-1, 1)).square().sum(dtype=torch.float64))
            count += int(mask.sum())
            weights = (colors @ basis).T.reshape(-1, *mask.shape[1:]) * mask
            for scale, sums in left.items():
                found = -weights.square()
                if scale > 1:
                    small = functional.avg_pool2d(weights[None], scale, ceil_mode=True, count_include_pad=False)
                    again = functional.interpolate(small, mask.shape[1:], mode="bilinear", align_corners=False)[0]
                    found += ((weights - again) * mask).square()
                sums += found.sum(dim=(1, 2))
        per_value = 1 / (max(count, 1) * len(self.mean))
        return {scale: (total + sums.cumsum(0)).clamp_min(0) * per_value for scale, sums in left.items()}


def _parts(day: Day) -> Iterator[torch.Tensor]:
    return iter(torch.arange(day.texels).split(PARTS))


def lamp_texels(day: Day) -> torch.Tensor:
    """Numbers of the texels of an HDR day that are far brighter than the others: lamps and their like. They hardly
    count in a mean over texels, are seen first, and are lost in a latent map that is smaller than the lightmap."""
    none = torch.zeros(0, dtype=torch.long)
    if not day.encoding.hdr:
        return none
    limit = float(day.encoding.encode(torch.tensor([day.encoding.peak * LAMP_LIGHT]).numpy())[0])
    bright = torch.cat([(stack_of(day, part).amax(dim=1) >= limit) & day.mask[part] for part in _parts(day)])
    found = bright.nonzero()[:, 0]
    return found if len(found) <= LAMP_SHARE * float(day.mask.sum()) else none


# --- the grid ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Band:
    """Some rows of the latent map, and the lightmap texels in the mask that read them.

    first, last: numbers of latent texels, last excluded; neighbours: (n, k) of them, less `first`; weights: (n, k),
        those of other latent texels 0; k is 4, or 1 where the two maps have one size.
    """

    first: int
    last: int
    texels: torch.Tensor
    neighbours: torch.Tensor
    weights: torch.Tensor

    def gathered(self, values: torch.Tensor) -> torch.Tensor:
        """(n, columns) values of the texels -> (last - first, columns), their sums weighted as latents are read."""
        total = torch.zeros(self.last - self.first, values.shape[1], dtype=values.dtype, device=values.device)
        for index in range(self.neighbours.shape[1]):
            total.index_add_(0, self.neighbours[:, index], values * self.weights[:, index : index + 1])
        return total


def bands(shape: Shape, mask: torch.Tensor, device: torch.device, texels_each: int = PARTS) -> Iterator[Band]:
    """The latent map in bands of rows."""
    rows, columns = shape.latent_size
    scale = shape.latent_scale
    step = max(1, texels_each // (columns * scale * scale))
    for top in range(0, rows, step):
        bottom = min(top + step, rows)
        low, high = top, bottom
        if scale > 1:  # rows of the lightmap whose centres lie less than one latent row away, and one more for rounding
            low = max(0, math.floor((top - 0.5) * shape.height / rows) - 1)
            high = min(shape.height, math.ceil((bottom + 0.5) * shape.height / rows) + 1)
        texels = torch.arange(low * shape.width, high * shape.width)
        texels = texels[mask[texels]]
        if scale == 1:
            neighbours, weights = texels[:, None], torch.ones(len(texels), 1)
        else:
            neighbours, weights = bilinear_neighbours(texels, (shape.height, shape.width), shape.latent_size)
        local = neighbours - top * columns
        inside = (local >= 0) & (local < (bottom - top) * columns)
        yield Band(top * columns, bottom * columns, texels.to(device),
                   local.clamp(0, (bottom - top) * columns - 1).to(device), (weights * inside).to(device))  # fmt: skip


# --- the start --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def start_from_pca(model: Compressor, day: Day, device: torch.device) -> None:
    """Set the latents, the mean day and the basis to those of PCA, and the last layer of the sine network to 0; none of
    the numbers is rounded yet.

    Where the latent map is smaller than the lightmap, latents are those whose interpolation comes closest to PCA's
    weights: least squares by conjugate gradients. Codes reach from each channel's least to its largest latent.
    """
    shape, f2 = model.shape, model.f2
    mean, basis = day_components(day, shape.latent_dim)
    if basis.shape[1] < shape.latent_dim:  # fewer columns than channels
        basis = functional.pad(basis, (0, shape.latent_dim - basis.shape[1]))
    z = _weights_of(shape, day, mean, basis)
    low, high = z.amin(dim=0), z.amax(dim=0)
    half = torch.where(high > low, (high - low) / 2, torch.ones_like(low))
    middle = (high + low) / 2
    codes = (z - middle) / half
    model.grid.copy_(codes.to(device).clamp(-1, 1))
    f2.basis.copy_(basis * half)
    f2.weights[-1].zero_()
    f2.biases[-1].copy_(mean + basis @ middle)
    spread = codes.std(dim=0, correction=0).clamp_min(1e-3).to(device)
    # the initial values of a Siren are uniform in +-1 / channels: here sines of about one radian of the latents' spread
    scale = (3 * shape.latent_dim) ** 0.5 / float(f2.omega) / spread
    f2.weights[0].mul_(scale)
    f2.biases[0].mul_(shape.latent_dim * torch.pi / float(f2.omega))


def _weights_of(shape: Shape, day: Day, mean: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """The latents of PCA, (latent texels, C): U z = (colours - mean) basis in the least-squares sense, where U reads
    the latent map at the texels in the mask."""
    cpu = torch.device("cpu")
    rows, columns = shape.latent_size
    right, read = torch.zeros(rows * columns, shape.latent_dim), torch.zeros(rows * columns, 1)
    for band in bands(shape, day.mask, cpu):
        right[band.first : band.last] = band.gathered((stack_of(day, band.texels) - mean) @ basis)
        read[band.first : band.last] = band.gathered(torch.ones(len(band.texels), 1))
    z = right / read.clamp_min(1e-6)
    if shape.latent_scale == 1:
        return z
    residual = right - _read_twice(shape, day, z)
    direction, squares = residual.clone(), residual.square().sum(dim=0)
    for _ in range(SOLVER_STEPS):
        product = _read_twice(shape, day, direction)
        length = squares / (direction * product).sum(dim=0).clamp_min(1e-20)
        z, residual = z + length * direction, residual - length * product
        following = residual.square().sum(dim=0)
        direction = residual + following / squares.clamp_min(1e-20) * direction
        squares = following
    return z


def _read_twice(shape: Shape, day: Day, z: torch.Tensor) -> torch.Tensor:
    """U^T U z."""
    total = torch.zeros_like(z)
    for part in _parts(day):
        texels = part[day.mask[part]]
        neighbours, weights = bilinear_neighbours(texels, (shape.height, shape.width), shape.latent_size)
        values = (z[neighbours] * weights[..., None]).sum(dim=1)
        for index in range(4):
            total.index_add_(0, neighbours[:, index], values * weights[:, index : index + 1])
    return total
