"""PSNR, SSIM, LPIPS and FLIP of a decoded material, per map, one LOD at a time (design.md, section 8).

The functions of one map take two images (H, W, C): tensors or arrays with values in [0, 1], or arrays of 8- or 16-bit
codes, which stand for code / 255 and code / 65535. Images are processed in bands of rows, in several threads; beside
the images this takes some tens of MB, for any size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
import torch
from torchtyping import TensorType

from common.opencv import import_opencv
from maps.channels import canonical, channel_count, map_channels, map_size, map_slice
from metrics.flip import flip
from metrics.perceptual import lpips
from metrics.tiles import MapImage, map_values, sum_of_tiles

MAX_PSNR_DB = 100.0  # reported for identical images, and for anything above it
SSIM_MIN_SIZE = 11  # texels: the Gaussian window of Wang et al. 2004, "Image quality assessment"
SSIM_SIGMA = 1.5  # texels, of that window
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 for values in [0, 1]
SSIM_HALO = 5  # rows beside a tile that its windows reach

MaterialImage = TensorType["H", "W", "channels"]
NormalTensor = TensorType["H", "W", 3]
NormalImage = Union[NormalTensor, np.ndarray]


@torch.no_grad()
def evaluate_lod(
    decoded: MaterialImage, source: MaterialImage, present: Sequence[str], *, exact: Iterable[int] = (), **options
) -> dict[str, Any]:
    """Every metric of one LOD, from two whole images of all channels.

    Args:
        decoded: (H, W, channels) float in [0, 1]; rounded to 8 bits here (outside saturates, NaN becomes 0).
        source: (H, W, channels) float in [0, 1], as the files store it: 16-bit values stay 16-bit.
        present: the maps that exist; the others are left out of everything.
        exact: channels that are not rounded, because an engine has them as numbers: NeuralTexture.constants.
        options: with_ssim, with_lpips, with_flip of `evaluate_maps`.
    Returns: what `evaluate_maps` returns.
    Raises: ValueError when the shapes differ, `source` is not finite, or `present` is empty.
    """
    _check_material_images(decoded, source, present)
    rounded, original = round_to_8_bit(decoded.detach()), source.detach().to(torch.float32)
    for channel in exact:
        rounded[..., channel] = decoded[..., channel]
    names = canonical(present)
    images = ({name: image[..., map_slice(name)].cpu() for name in names} for image in (rounded, original))
    return evaluate_maps(*images, **options)


def evaluate_maps(
    decoded: Mapping[str, MapImage],
    source: Mapping[str, MapImage],
    *,
    with_ssim: bool = True,
    with_lpips: bool = True,
    with_flip: bool = True,
    exact: Mapping[int, float] | None = None,
) -> dict[str, Any]:
    """Every metric of one LOD, map by map, ready for strict JSON.

    Args:
        decoded: map name -> (H, W, C) in 8 bits, as codes or their values.
        source: the same maps as the files store them, 8- or 16-bit codes or their values.
        with_ssim, with_lpips, with_flip: False leaves that metric None.
        exact: channel -> value in [0, 1] that replaces the decoded codes there, see file_space.file_values: an engine
            has it as a number. Channels of absent maps are ignored.
    Returns: {"psnr": {"all", <map>...}, "ssim": {"all", <map>...}, "lpips": {"all", <map>...}, "flip": {"diffuse"},
        "error_share": {<map>...}, "normal_degrees"}. PSNR in dB, "all" from the mean squared error over all channels;
        "all" of SSIM and LPIPS is the mean over maps; "error_share" see error_shares. A value is None where the LOD is
        too small for the metric, or LPIPS is not available here (`lpips_unavailable_reason`). "flip" is empty without
        a diffuse map, "normal_degrees" exists with a normal map only. FLIP takes diffuse as sRGB.
    Raises: ValueError when `source` is not finite.
    """
    scores: dict[str, Any] = {"psnr": {"all": None}, "ssim": {"all": None}, "lpips": {"all": None}, "flip": {}}
    decoded = {name: with_exact(image, name, exact or {}) for name, image in decoded.items()}
    errors = {name: mean_squared_error(decoded[name], source[name]) for name in decoded}
    if not all(map(math.isfinite, errors.values())):
        raise ValueError(f"source must be finite; the maps' squared errors are {errors}")
    for name, error in errors.items():
        pair = decoded[name], source[name]
        similarities = ssim_per_channel(*pair) if with_ssim else None
        scores["psnr"][name] = psnr_db([error])
        scores["ssim"][name] = None if similarities is None else _mean(similarities)
        scores["lpips"][name] = lpips(*pair) if with_lpips else None
        if name == "diffuse":
            scores["flip"][name] = flip(*pair) if with_flip else None
        if name == "normal":
            scores["normal_degrees"] = normal_angle_error(*pair)
    scores["psnr"]["all"] = psnr_db([error for name, error in errors.items() for _ in range(map_size(name))])
    scores["error_share"] = error_shares(errors)
    for metric in ("ssim", "lpips"):
        values = [value for name, value in scores[metric].items() if name != "all"]
        scores[metric]["all"] = None if None in values else _mean(values)
    return scores


@dataclass(frozen=True)
class _ExactChannels:
    """An image with some channels replaced by one value each, which need not be an 8-bit code; not a copy of it."""

    image: MapImage
    values: Mapping[int, float]  # by channel of this image

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.image.shape)

    def __getitem__(self, part: Any) -> np.ndarray:
        values = map_values(self.image, part).copy()
        for channel, value in self.values.items():
            values[..., channel] = value
        return values


def with_exact(image: MapImage, name: str, exact: Mapping[int, float]) -> MapImage:
    """The image of the map `name` with the values that `exact` has for its channels, see evaluate_maps."""
    channels = map_channels(name)
    values = {channels.index(channel): value for channel, value in exact.items() if channel in channels}
    return _ExactChannels(image, values) if values else image


def _check_material_images(decoded: MaterialImage, source: MaterialImage, present: Sequence[str]) -> None:
    channels = channel_count(present)
    if decoded.shape != source.shape or decoded.dim() != 3 or decoded.shape[2] != channels or not decoded.numel():
        shapes = f"decoded {tuple(decoded.shape)} and source {tuple(source.shape)}"
        raise ValueError(f"{shapes} must have one shape, (H, W, {channels}) with no zero in it")
    if not present:
        raise ValueError("present must name some maps")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def round_to_8_bit(image: TensorType) -> TensorType:
    """Values rounded to 8 bits, k / 255 in float32; halves round up, as in decoded_maps.to_8_bit."""
    codes = image.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    return codes.nan_to_num_(nan=0.0).clamp_(0, 1).mul_(255).add_(0.5).floor_().div_(255)


# --- PSNR, SSIM ----------------------------------------------------------------------------------------------------


def mean_squared_error(decoded: MapImage, source: MapImage) -> float:
    """Mean squared error of the values of all channels, accumulated in float64."""

    def measure(rows: slice, _: slice) -> np.ndarray:
        error = np.subtract(map_values(decoded, rows), map_values(source, rows), dtype=np.float64)
        return np.square(error, out=error).sum()

    return float(sum_of_tiles(measure, decoded) / math.prod(decoded.shape))


def psnr_db(squared_errors: Sequence[float]) -> float:
    """-10 * log10 of the mean of the channels' squared errors, for a peak of 1; at most MAX_PSNR_DB."""
    error = _mean(squared_errors)
    return MAX_PSNR_DB if error == 0 else min(-10 * math.log10(error), MAX_PSNR_DB)


def psnr_of(mse: float) -> float:
    """psnr_db of one mean squared error; 0 when it is not finite, as of a training that diverges."""
    return psnr_db([mse]) if math.isfinite(mse) else 0.0


def error_shares(squared_errors: Mapping[str, float]) -> dict[str, float]:
    """Each map's share of the squared error, 0 to 1: the sum over its channels divided by that over all channels.

    squared_errors: map name -> `mean_squared_error` over its channels. Without any error all shares are 0.
    """
    sums = {name: error * map_size(name) for name, error in squared_errors.items()}
    total = math.fsum(sums.values())
    return {name: error / total if total else 0.0 for name, error in sums.items()}


def ssim_per_channel(decoded: MapImage, source: MapImage) -> list[float] | None:
    """Structural similarity of each channel; None when a side is below SSIM_MIN_SIZE.

    Gaussian windows of 11 x 11, sigma 1.5, K1 0.01, K2 0.03, range 1, averaged over every texel with mirrored borders,
    as torchmetrics (since 1.5) does. A Gaussian is the product of one along x and one along y, so OpenCV's separable
    filter takes a twentieth of the time of the full convolution.
    Source: Wang et al. 2004, equation 13. On a real material within 4e-7 of torchmetrics in float64 (in float32: 9e-5).
    """
    if min(decoded.shape[:2]) < SSIM_MIN_SIZE:
        return None
    cv2 = import_opencv("SSIM")
    window = cv2.getGaussianKernel(SSIM_MIN_SIZE, SSIM_SIGMA, cv2.CV_32F)

    def blur(image: np.ndarray) -> np.ndarray:  # it drops the axis of a single channel
        return cv2.sepFilter2D(image, -1, window, window, borderType=cv2.BORDER_REFLECT_101).reshape(image.shape)

    def measure(rows: slice, own: slice) -> np.ndarray:
        # variances are differences of squares, which lose fewer digits when the values lie around 0
        a, b = map_values(decoded, rows) - np.float32(0.5), map_values(source, rows) - np.float32(0.5)
        mean_a, mean_b = blur(a)[own], blur(b)[own]
        variances = np.maximum(blur(a * a)[own] - mean_a**2, 0) + np.maximum(blur(b * b)[own] - mean_b**2, 0)
        covariance = blur(a * b)[own] - mean_a * mean_b
        mean_a += np.float32(0.5)
        mean_b += np.float32(0.5)
        luminance = (2 * mean_a * mean_b + np.float32(SSIM_C1)) / (mean_a**2 + mean_b**2 + np.float32(SSIM_C1))
        structure = (2 * covariance + np.float32(SSIM_C2)) / (variances + np.float32(SSIM_C2))
        return (luminance * structure).sum(axis=(0, 1), dtype=np.float64)

    total = sum_of_tiles(measure, decoded, SSIM_HALO)
    return (total / (decoded.shape[0] * decoded.shape[1])).tolist()


# --- normals -------------------------------------------------------------------------------------------------------


def normal_angle_error(decoded: NormalImage, source: NormalImage) -> float:
    """Mean angle in degrees between two normal maps, n = 2 v - 1; a zero vector has no direction and counts as 0."""

    def measure(rows: slice, _: slice) -> np.ndarray:
        planes = (map_values(image, rows).transpose(2, 0, 1).astype(np.float64) for image in (decoded, source))
        (ax, ay, az), (bx, by, bz) = (plane * 2 - 1 for plane in planes)
        cross = np.sqrt((ay * bz - az * by) ** 2 + (az * bx - ax * bz) ** 2 + (ax * by - ay * bx) ** 2)
        # arctan2 needs no unit vectors and, unlike arccos, keeps small angles
        return np.arctan2(cross, ax * bx + ay * by + az * bz).sum()

    return math.degrees(sum_of_tiles(measure, decoded) / (decoded.shape[0] * decoded.shape[1]))
