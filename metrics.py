"""PSNR, SSIM, LPIPS and FLIP of a decoded material, per map, one LOD at a time (design.md, section 8).

The functions of one map take two images (H, W, C): tensors or arrays with values in [0, 1], or arrays of 8- or 16-bit
codes, which stand for code / 255 and code / 65535. They go through in bands of rows, several at a time in threads, so
that beside the images themselves, which may be codes, some tens of MB are needed whatever their size.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
import torch
from torchtyping import TensorType

from images import import_opencv
from map_files import CHANNELS, MAPS, map_slice
from parallel import map_threads

MAX_PSNR_DB = 100.0  # reported for identical images, and for anything above it
SSIM_MIN_SIZE = 11  # texels: the Gaussian window of Wang et al. 2004, "Image quality assessment"
SSIM_SIGMA = 1.5  # texels, of that window
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 for values in [0, 1]
LPIPS_MIN_SIZE = 32  # texels: AlexNet's two poolings leave nothing of 30 or less
SSIM_HALO = 5  # rows beside a tile that its windows reach
FLIP_HALO = 10  # FLIP's widest filter: ceil(3 * sqrt(0.04 / (2 * pi^2)) * 67.02 pixels per degree)
TILE_VALUES = 2**19  # of an image at a time; SSIM needs about 60 bytes for each
FLIP_TILE_VALUES = 2**21  # ... and FLIP about 80, and its halo is wide
LPIPS_TILE = 2048  # texels; LPIPS needs about 1 GB for a tile
NETWORK_SECONDS = 10  # until a server that does not answer is given up
WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # environment variable of torch.load
WEIGHTS_PATTERN = "alexnet-owt-*.pth"  # torchvision's name of the file; the star is the start of its hash

MaterialImage = TensorType["H", "W", CHANNELS]
MapTensor = TensorType["H", "W", "C"]
NormalTensor = TensorType["H", "W", 3]
MapImage = Union[MapTensor, np.ndarray]
NormalImage = Union[NormalTensor, np.ndarray]


@torch.no_grad()
def evaluate_lod(
    decoded: MaterialImage, source: MaterialImage, present: Sequence[str], *, exact: Iterable[int] = (), **options
) -> dict[str, Any]:
    """Every metric of one LOD that is there as two whole images.

    Args:
        decoded: (H, W, 11) float in [0, 1]; rounded to 8 bits here (outside saturates, NaN becomes 0).
        source: (H, W, 11) float in [0, 1], as the files store it: 16-bit values stay 16-bit.
        present: the maps that exist; the others are left out of everything.
        exact: channels that are not rounded, because an engine has them as numbers: NeuralTexture.constants.
        options: with_ssim, with_lpips, with_flip of `evaluate_maps`.
    Returns: what `evaluate_maps` returns.
    Raises: ValueError when the shapes differ, `source` is not finite, or `present` is empty or names an unknown map.
    """
    _check_material_images(decoded, source, present)
    shipped, original = round_to_8_bit(decoded.detach()), source.detach().to(torch.float32)
    for channel in exact:
        shipped[..., channel] = decoded[..., channel]
    names = [name for name in MAPS if name in present]
    images = ({name: image[..., map_slice(name)].cpu() for name in names} for image in (shipped, original))
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
        decoded: map name -> (H, W, C) as it ships, 8-bit codes or their values.
        source: the same maps as the files store them, 8- or 16-bit codes or their values.
        with_ssim, with_lpips, with_flip: False leaves that metric None.
        exact: canonical channel -> value in [0, 1] that is scored there in place of the decoded codes, because an
            engine has it as a number: file_space.file_values. Channels of other maps do not matter.
    Returns: {"psnr": {"all", <map>...}, "ssim": {"all", <map>...}, "lpips": {"all", <map>...}, "flip": {"diffuse"},
        "error_share": {<map>...}, "normal_degrees"}. PSNR in dB, "all" from the mean squared error over all channels;
        "all" of SSIM and LPIPS is the mean over maps; "error_share" see error_shares. A value that does not exist is
        None: the LOD is too small for the metric, or the metric is not available here (`lpips_unavailable_reason`,
        `flip_unavailable_reason`). "flip" is empty without a diffuse map, "normal_degrees" is there when a normal map
        is. FLIP takes diffuse as sRGB.
    Raises: ValueError when `source` is not finite.
    """
    scores: dict[str, Any] = {"psnr": {"all": None}, "ssim": {"all": None}, "lpips": {"all": None}, "flip": {}}
    decoded = {name: _with_exact(image, name, exact or {}) for name, image in decoded.items()}
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
    scores["psnr"]["all"] = psnr_db([error for name, error in errors.items() for _ in range(MAPS[name])])
    scores["error_share"] = error_shares(errors)
    for metric in ("ssim", "lpips"):
        values = [value for name, value in scores[metric].items() if name != "all"]
        scores[metric]["all"] = None if None in values else _mean(values)
    return scores


@dataclass(frozen=True)
class _ExactChannels:
    """An image some of whose channels have one value: what the functions of one map read of it, no copy of the whole.

    The value may be one between two 8-bit codes.
    """

    image: MapImage
    values: Mapping[int, float]  # by channel of this image

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.image.shape)

    def __getitem__(self, part: Any) -> np.ndarray:
        values = _values(self.image, part).copy()
        for channel, value in self.values.items():
            values[..., channel] = value
        return values


def _with_exact(image: MapImage, name: str, exact: Mapping[int, float]) -> MapImage:
    channels = range(CHANNELS)[map_slice(name)]
    values = {channels.index(channel): value for channel, value in exact.items() if channel in channels}
    return _ExactChannels(image, values) if values else image


def _check_material_images(decoded: MaterialImage, source: MaterialImage, present: Sequence[str]) -> None:
    if decoded.shape != source.shape or decoded.dim() != 3 or decoded.shape[2] != CHANNELS or not decoded.numel():
        shapes = f"decoded {tuple(decoded.shape)} and source {tuple(source.shape)}"
        raise ValueError(f"{shapes} must have one shape, (H, W, {CHANNELS}) with no zero in it")
    if not present or not set(present) <= set(MAPS):
        raise ValueError(f"present must name some of {', '.join(MAPS)}; got {list(present)}")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


# --- bands of rows -------------------------------------------------------------------------------------------------


def _row_tiles(image: MapImage, halo: int = 0, values: int = 0) -> Iterator[tuple[slice, slice]]:
    """Cut an image into runs of rows: (rows to read, halo included; which of those are the tile's own)."""
    height, width, channels = image.shape
    rows = max((values or TILE_VALUES) // (width * channels), 1)
    for start in range(0, height, rows):
        stop, low = min(start + rows, height), max(start - halo, 0)
        yield slice(low, min(stop + halo, height)), slice(start - low, stop - low)


def _sum_of_tiles(measure: Callable[[slice, slice], Any], image: MapImage, halo: int = 0) -> np.ndarray:
    """The sum of measure(rows, own) over all tiles, float64; in the order of the tiles, whatever the threads."""
    return np.sum(list(map_threads(lambda tile: measure(*tile), _row_tiles(image, halo))), axis=0, dtype=np.float64)


def _values(image: MapImage, part: slice | tuple[slice, slice]) -> np.ndarray:
    """Some rows, or (rows, columns), of an image as dense float32 values; codes become values in [0, 1]."""
    tile = image[part]
    if isinstance(tile, torch.Tensor):
        tile = tile.detach().cpu().numpy()
    values = np.ascontiguousarray(tile, np.float32)
    return values / np.float32(np.iinfo(tile.dtype).max) if tile.dtype.kind == "u" else values


def round_to_8_bit(image: TensorType) -> TensorType:
    """The values of the 8-bit image that ships, k / 255 in float32; halves round up, as in decoded_maps.to_8_bit."""
    codes = image.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    return codes.nan_to_num_(nan=0.0).clamp_(0, 1).mul_(255).add_(0.5).floor_().div_(255)


# --- PSNR, SSIM ----------------------------------------------------------------------------------------------------


def mean_squared_error(decoded: MapImage, source: MapImage) -> float:
    """Mean squared error of the values of all channels, accumulated in float64."""

    def measure(rows: slice, _: slice) -> np.ndarray:
        error = np.subtract(_values(decoded, rows), _values(source, rows), dtype=np.float64)
        return np.square(error, out=error).sum()

    return float(_sum_of_tiles(measure, decoded) / math.prod(decoded.shape))


def psnr_db(squared_errors: Sequence[float]) -> float:
    """-10 * log10 of the mean of the channels' squared errors, for a peak of 1; at most MAX_PSNR_DB."""
    error = _mean(squared_errors)
    return MAX_PSNR_DB if error == 0 else min(-10 * math.log10(error), MAX_PSNR_DB)


def error_shares(squared_errors: Mapping[str, float]) -> dict[str, float]:
    """Each map's share of the squared error, 0 to 1: the sum over its channels by that over all channels.

    squared_errors: map name -> `mean_squared_error` over its channels. Without any error all shares are 0.
    """
    sums = {name: error * MAPS[name] for name, error in squared_errors.items()}
    total = math.fsum(sums.values())
    return {name: error / total if total else 0.0 for name, error in sums.items()}


def ssim_per_channel(decoded: MapImage, source: MapImage) -> list[float] | None:
    """Structural similarity of each channel; None when a side is below SSIM_MIN_SIZE. A map's is the mean of its own.

    Gaussian windows of 11 x 11, sigma 1.5, K1 0.01, K2 0.03, range 1, averaged over every texel with mirrored borders:
    what torchmetrics (since 1.5) returns for the whole image, whatever the tiles. A Gaussian is the product of one
    along x and one along y, so OpenCV's separable filter takes a twentieth of the time of that full convolution.
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
        a, b = _values(decoded, rows) - np.float32(0.5), _values(source, rows) - np.float32(0.5)
        mean_a, mean_b = blur(a)[own], blur(b)[own]
        variances = np.maximum(blur(a * a)[own] - mean_a**2, 0) + np.maximum(blur(b * b)[own] - mean_b**2, 0)
        covariance = blur(a * b)[own] - mean_a * mean_b
        mean_a += np.float32(0.5)
        mean_b += np.float32(0.5)
        luminance = (2 * mean_a * mean_b + np.float32(SSIM_C1)) / (mean_a**2 + mean_b**2 + np.float32(SSIM_C1))
        structure = (2 * covariance + np.float32(SSIM_C2)) / (variances + np.float32(SSIM_C2))
        return (luminance * structure).sum(axis=(0, 1), dtype=np.float64)

    total = _sum_of_tiles(measure, decoded, SSIM_HALO)
    return (total / (decoded.shape[0] * decoded.shape[1])).tolist()


# --- LPIPS ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def lpips(decoded: MapImage, source: MapImage) -> float | None:
    """Learned perceptual similarity (AlexNet), 0 for identical images; None when a side is below LPIPS_MIN_SIZE.

    One channel is replicated to three. Images above LPIPS_TILE are cut into equal tiles and averaged by area, which
    differs from the whole image by the padding at the cuts: 0.1 % at 4096 x 4096 (noise, random weights).
    None, too, where the network is not to be had: see `lpips_unavailable_reason`.
    """
    if min(decoded.shape[:2]) < LPIPS_MIN_SIZE or lpips_unavailable_reason() is not None:
        return None
    network, total = _lpips_network()[0], 0.0
    height, width, channels = decoded.shape
    for rows in _even_cuts(height):
        for columns in _even_cuts(width):
            tiles = [torch.from_numpy(_values(image, (rows, columns))) for image in (decoded, source)]
            tiles = [tile.permute(2, 0, 1)[None].clamp(0, 1) for tile in tiles]
            score = network(*(tile.expand(-1, 3, -1, -1) if channels == 1 else tile for tile in tiles)).item()
            network.reset()
            total += score * (rows.stop - rows.start) * (columns.stop - columns.start)
    return total / (height * width)


def _even_cuts(size: int) -> list[slice]:
    """0..size in runs of at most LPIPS_TILE, none narrower than the others by more than a texel."""
    count = -(-size // LPIPS_TILE)
    return [slice(i * size // count, (i + 1) * size // count) for i in range(count)]


def lpips_unavailable_reason() -> str | None:
    """Why LPIPS is None on this machine, in one line; None when it works. The first call loads the network.

    The AlexNet weights come from the torch hub cache ($TORCH_HOME/hub/checkpoints). Nothing is downloaded here, and
    without them nothing is imported: see `download_lpips_weights`.
    """
    return _lpips_network()[1]


@functools.cache
def download_lpips_weights() -> str | None:
    """Fill the torch hub cache with the AlexNet weights unless they are there; call it before anything else of LPIPS.

    One attempt per process, given up when the server does not answer within NETWORK_SECONDS.
    Returns: why it failed, in one line, or None.
    """
    weights = "the AlexNet weights"
    try:
        import torchvision

        url = torchvision.models.AlexNet_Weights.DEFAULT.url
        path = _hub_folder() / url.rpartition("/")[2]
        weights = f"{url} (kept as {path})"
        with _load_settings():
            _fetch(url, path)
    except Exception as error:
        return f"LPIPS is left out: {_one_line(error)}; it needs torchvision and {weights}"
    return None


def _hub_folder() -> Path:
    return Path(torch.hub.get_dir(), "checkpoints")


@functools.cache
def _lpips_network() -> tuple[Any, str | None]:
    """(torchmetrics' LPIPS module, None), or (None, the reason)."""
    folder = _hub_folder()
    if not any(folder.glob(WEIGHTS_PATTERN)):  # torchvision takes 1.5 s to import, which would come to the same
        missing = f"no AlexNet weights ({WEIGHTS_PATTERN}) in {folder}"
        return None, f"LPIPS is left out: {missing}; --eval_metrics lpips downloads them"
    weights = f"AlexNet weights in {folder}"
    try:
        import torchvision

        path = folder / torchvision.models.AlexNet_Weights.DEFAULT.url.rpartition("/")[2]
        if not path.is_file():  # torchvision would download it
            raise FileNotFoundError(f"no {path.name}, which this torchvision wants")
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        with _load_settings():
            network = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True, sync_on_compute=False)
        return network, None
    except Exception as error:
        return None, f"LPIPS is left out: {_one_line(error)}; it needs torchvision and {weights}"


@contextlib.contextmanager
def _load_settings() -> Iterator[None]:
    """While the network loads: no endless wait, no pickled code, and the training's random numbers stay as they are."""
    timeout, forced = socket.getdefaulttimeout(), os.environ.get(WEIGHTS_ONLY, "0")
    socket.setdefaulttimeout(NETWORK_SECONDS)
    os.environ[WEIGHTS_ONLY] = "1"  # torchvision asks for a full unpickling of the file
    try:
        with torch.random.fork_rng(devices=[]):  # AlexNet draws initial weights before it loads them
            yield
    finally:
        socket.setdefaulttimeout(timeout)
        os.environ[WEIGHTS_ONLY] = forced


def _fetch(url: str, path: Path) -> None:
    """Download `url` to `path` unless it is there, checked against the hash in its name; quiet, all or nothing."""
    if path.exists():
        return
    _check_answers(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False)


def _check_answers(url: str) -> None:
    """Raise unless the server answers in time; a socket's own limit starts anew per address, after the name lookup."""
    problems: list[Exception] = [TimeoutError(f"no answer within {NETWORK_SECONDS} s")]

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=NETWORK_SECONDS).close()
            problems.clear()
        except Exception as error:
            problems.append(error)

    thread = threading.Thread(target=ask, daemon=True)  # a stuck lookup does not hold up the end of the process
    thread.start()
    thread.join(NETWORK_SECONDS)
    if problems:
        raise problems[-1]


# --- FLIP ----------------------------------------------------------------------------------------------------------


def flip(decoded: MapImage, source: MapImage) -> float | None:
    """Mean LDR-FLIP error of two sRGB images (H, W, 3) at the default 67 pixels per degree; any size, 0 is identical.

    None where flip_evaluator is not installed: see `flip_unavailable_reason`.
    """
    if flip_unavailable_reason() is not None:
        return None
    evaluate, total = _flip_evaluator()[0], 0.0
    for rows, own in _row_tiles(decoded, FLIP_HALO, FLIP_TILE_VALUES):
        tiles = (_values(image, rows).clip(0, 1) for image in (source, decoded))
        # Its own mean adds up in float32: 2.7 % off at 4096 x 4096.
        error, _, _ = evaluate(*tiles, "LDR", inputsRGB=True, applyMagma=False, computeMeanError=False)
        total += error[own].sum(dtype=np.float64)
    return float(total / (decoded.shape[0] * decoded.shape[1]))


def flip_unavailable_reason() -> str | None:
    """Why FLIP is None on this machine, in one line; None when it works."""
    return _flip_evaluator()[1]


@functools.cache
def _flip_evaluator() -> tuple[Any, str | None]:
    try:
        return importlib.import_module("flip_evaluator").evaluate, None
    except Exception as error:
        return None, f"FLIP is left out: {_one_line(error)}; pip install flip-evaluator"


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


# --- normals, table, pictures --------------------------------------------------------------------------------------


def normal_angle_error(decoded: NormalImage, source: NormalImage) -> float:
    """Mean angle in degrees between two normal maps, n = 2 v - 1; a zero vector has no direction and counts as 0."""

    def measure(rows: slice, _: slice) -> np.ndarray:
        planes = (_values(image, rows).transpose(2, 0, 1).astype(np.float64) for image in (decoded, source))
        (ax, ay, az), (bx, by, bz) = (plane * 2 - 1 for plane in planes)
        cross = np.sqrt((ay * bz - az * by) ** 2 + (az * bx - ax * bz) ** 2 + (ax * by - ay * bx) ** 2)
        # arctan2 needs no unit vectors and, unlike arccos, keeps small angles
        return np.arctan2(cross, ax * bx + ay * by + az * bz).sum()

    return math.degrees(_sum_of_tiles(measure, decoded) / (decoded.shape[0] * decoded.shape[1]))


def format_table(metrics: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    """A table to read, one line per LOD and map, '-' for None.

    metrics: results of `evaluate_lod`, LOD 0 first, or a mapping that holds them under "lods".
    """
    lines = [_table_line("LOD", "map", "PSNR dB", "SSIM", "LPIPS", "FLIP", "degrees")]
    for lod, scores in enumerate(metrics["lods"] if isinstance(metrics, Mapping) else metrics):
        for name in scores["psnr"]:
            values = [scores[metric].get(name) for metric in ("psnr", "ssim", "lpips", "flip")]
            values.append(scores.get("normal_degrees") if name == "normal" else None)
            cells = ["-" if v is None else f"{v:.{d}f}" for v, d in zip(values, (2, 4, 4, 4, 2))]
            lines.append(_table_line(str(lod) if name == "all" else "", name, *cells))
    return "\n".join(lines)


def _table_line(lod: str, name: str, *cells: str) -> str:
    return f"{lod:>3}  {name:<12}" + "".join(f"{cell:>9}" for cell in cells)


def error_image(decoded: MapImage, source: MapImage, gain: float = 8.0) -> np.ndarray:
    """|decoded - source| * gain as an 8-bit picture, (H, W, C) uint8."""
    return _joined(lambda rows: display_pixels(_error(decoded, source, rows, gain)), decoded)


def picture(image: MapImage) -> np.ndarray:
    """An image as an 8-bit picture, (H, W, C) uint8; 8-bit codes are what they are."""
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return image
    return _joined(lambda rows: display_pixels(_values(image, rows)), image)


def strip_bands(decoded: MapImage, source: MapImage) -> Iterator[np.ndarray]:
    """decoded | source | error x 8 of one map side by side, in bands (rows, 3 W, C) uint8 from the top."""
    shipped = picture(decoded)
    for rows, _ in _row_tiles(decoded):
        drawn = [display_pixels(values) for values in (_values(source, rows), _error(shipped, source, rows, 8.0))]
        yield np.concatenate([shipped[rows], *drawn], axis=1)


def _joined(draw: Callable[[slice], np.ndarray], image: MapImage) -> np.ndarray:
    """draw(rows) of all bands of an image, one below the other."""
    return np.concatenate([draw(rows) for rows, _ in _row_tiles(image)])


def _error(decoded: MapImage, source: MapImage, rows: slice, gain: float) -> np.ndarray:
    return np.abs(_values(decoded, rows) - _values(source, rows)) * np.float32(gain)


def display_pixels(values: np.ndarray) -> np.ndarray:
    """Values as uint8 pixels: outside [0, 1] saturates, NaN becomes 0, halves round up."""
    return (np.nan_to_num(values).clip(0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
