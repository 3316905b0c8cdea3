"""PSNR, SSIM, LPIPS and FLIP of a decoded material, per map, one LOD at a time (design.md, section 8).

The functions of one map take images (H, W, C) with values in [0, 1] and compare them as they are; `evaluate_lod` rounds
the decoded one to 8 bits first, because that is what an engine stores. Large images go through in tiles, so that a
4096 x 4096 material needs a few hundred MB beside the images themselves.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
import socket
import sys
import threading
import types
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchtyping import TensorType

from dataset import CHANNELS, MAPS, map_slice

MAX_PSNR_DB = 100.0  # reported for identical images, and for anything above it
SSIM_MIN_SIZE = 11  # texels: the Gaussian window of Wang et al. 2004, "Image quality assessment"
LPIPS_MIN_SIZE = 32  # texels: AlexNet's two poolings leave nothing of 30 or less
SSIM_HALO = 5  # rows beside a tile that its windows reach
FLIP_HALO = 10  # FLIP's widest filter: ceil(3 * sqrt(0.04 / (2 * pi^2)) * 67.02 pixels per degree)
TILE_VALUES = 2**22  # of an image at a time; SSIM needs about 100 bytes for each
LPIPS_TILE = 2048  # texels; LPIPS needs about 1 GB for a tile
NETWORK_SECONDS = 10  # until a server that does not answer is given up
WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # environment variable of torch.load

MaterialImage = TensorType["H", "W", CHANNELS]
MapImage = TensorType["H", "W", "C"]
NormalImage = TensorType["H", "W", 3]


@torch.no_grad()
def evaluate_lod(
    decoded: MaterialImage,
    source: MaterialImage,
    present: Sequence[str],
    *,
    with_ssim: bool = True,
    with_lpips: bool = True,
    with_flip: bool = True,
    exact: Iterable[int] = (),
) -> dict[str, Any]:
    """Every metric of one LOD, ready for strict JSON.

    Args:
        decoded: (H, W, 11) float in [0, 1]; rounded to 8 bits here (outside saturates, NaN becomes 0).
        source: (H, W, 11) float in [0, 1], as the files store it: 16-bit values stay 16-bit.
        present: the maps that exist; the others are left out of everything.
        with_ssim, with_lpips, with_flip: False leaves that metric None.
        exact: channels that are not rounded, because an engine has them as numbers: NeuralTexture.constants.
    Returns: {"psnr": {"all", <map>...}, "ssim": {"all", <map>...}, "lpips": {"all", <map>...}, "flip": {"diffuse"},
        "error_share": {<map>...}, "normal_degrees"}. PSNR in dB, "all" from the mean squared error over all present
        channels; "all" of SSIM and LPIPS is the mean over maps; "error_share" see error_shares. A value that does not
        exist is None: the LOD is too small for the metric, or the metric is not available here
        (`lpips_unavailable_reason`, `flip_unavailable_reason`). "flip" is empty without a diffuse map, "normal_degrees"
        is there when a normal map is. FLIP takes diffuse as sRGB.
    Raises: ValueError when the shapes differ, `source` is not finite, or `present` is empty or names an unknown map.
    """
    _check_material_images(decoded, source, present)
    scores: dict[str, Any] = {"psnr": {"all": None}, "ssim": {"all": None}, "lpips": {"all": None}, "flip": {}}
    shipped, original = round_to_8_bit(decoded), source.to(decoded.device, torch.float32)
    for channel in exact:
        shipped[..., channel] = decoded[..., channel]
    errors = mean_squared_errors(shipped, original)
    if not all(map(math.isfinite, errors)):
        raise ValueError(f"source must be finite; the channels' squared errors are {errors}")
    similarities = ssim_per_channel(shipped, original) if with_ssim else None
    for name in (name for name in MAPS if name in present):
        channels = map_slice(name)
        pair = shipped[..., channels], original[..., channels]
        scores["psnr"][name] = psnr_db(errors[channels])
        scores["ssim"][name] = None if similarities is None else _mean(similarities[channels])
        scores["lpips"][name] = lpips(*pair) if with_lpips else None
        if name == "diffuse":
            scores["flip"][name] = flip(*pair) if with_flip else None
        if name == "normal":
            scores["normal_degrees"] = normal_angle_error(*pair)
    scores["psnr"]["all"] = psnr_db([error for name in MAPS if name in present for error in errors[map_slice(name)]])
    scores["error_share"] = error_shares(errors, present)
    for metric in ("ssim", "lpips"):
        values = [value for name, value in scores[metric].items() if name != "all"]
        scores[metric]["all"] = None if None in values else _mean(values)
    return scores


def _check_material_images(decoded: MaterialImage, source: MaterialImage, present: Sequence[str]) -> None:
    if decoded.shape != source.shape or decoded.dim() != 3 or decoded.shape[2] != CHANNELS or not decoded.numel():
        shapes = f"decoded {tuple(decoded.shape)} and source {tuple(source.shape)}"
        raise ValueError(f"{shapes} must have one shape, (H, W, {CHANNELS}) with no zero in it")
    if not present or not set(present) <= set(MAPS):
        raise ValueError(f"present must name some of {', '.join(MAPS)}; got {list(present)}")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _row_tiles(image: MapImage, halo: int = 0) -> Iterator[tuple[slice, slice]]:
    """Cut an image into runs of rows: (rows to read, halo included; which of those are the tile's own)."""
    height, width, channels = image.shape
    rows = max(TILE_VALUES // (width * channels), 1)
    for start in range(0, height, rows):
        stop, low = min(start + rows, height), max(start - halo, 0)
        yield slice(low, min(stop + halo, height)), slice(start - low, stop - low)


def round_to_8_bit(image: MapImage) -> MapImage:
    """The values of the 8-bit image that ships, k / 255 in float32; halves round up, as in export.to_8_bit."""
    codes = image.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    return codes.nan_to_num_(nan=0.0).clamp_(0, 1).mul_(255).add_(0.5).floor_().div_(255)


@functools.cache
def _torchmetrics() -> types.ModuleType:
    """torchmetrics.functional, imported at first use: a command that scores nothing does not wait seconds for it.

    torchmetrics imports an installed torchvision at once and fails with it when that is broken (typically: built for
    another torch), though only LPIPS needs it. Then it is imported beside an empty stand-in, and LPIPS is left out.
    """
    with contextlib.suppress(Exception):
        return importlib.import_module("torchmetrics.functional")
    stand_in = types.ModuleType("torchvision")
    stand_in.__getattr__ = lambda name: None  # whatever is asked for "is" there
    names = ("torchvision", "torchvision.models", "torchvision.ops")
    sys.modules.update(dict.fromkeys(names, stand_in))
    try:
        return importlib.import_module("torchmetrics.functional")
    finally:
        for name in names:
            del sys.modules[name]


def mean_squared_errors(decoded: MapImage, source: MapImage) -> list[float]:
    """Mean squared error of each channel, accumulated in float64."""
    total = torch.zeros(decoded.shape[2], dtype=torch.float64)
    for rows, _ in _row_tiles(decoded):
        pair = (image[rows].double().flatten(0, 1) for image in (decoded, source))
        error = _torchmetrics().mean_squared_error(*pair, num_outputs=decoded.shape[2])
        total += error.cpu() * (rows.stop - rows.start)
    return (total / decoded.shape[0]).tolist()


def psnr_db(squared_errors: Sequence[float]) -> float:
    """-10 * log10 of the mean of the channels' squared errors, for a peak of 1; at most MAX_PSNR_DB."""
    error = _mean(squared_errors)
    return MAX_PSNR_DB if error == 0 else min(-10 * math.log10(error), MAX_PSNR_DB)


def error_shares(squared_errors: Sequence[float], present: Sequence[str]) -> dict[str, float]:
    """Each present map's share of the squared error, 0 to 1: the sum over its channels by that over all of them.

    squared_errors: of the 11 channels. Without any error all shares are 0.
    """
    sums = {name: math.fsum(squared_errors[map_slice(name)]) for name in MAPS if name in present}
    total = math.fsum(sums.values())
    return {name: error / total if total else 0.0 for name, error in sums.items()}


def ssim_per_channel(decoded: MapImage, source: MapImage) -> list[float] | None:
    """Structural similarity of each channel; None when a side is below SSIM_MIN_SIZE. A map's is the mean of its own.

    Gaussian windows of 11 x 11, sigma 1.5, K1 0.01, K2 0.03, range 1, averaged over every texel with mirrored borders:
    what torchmetrics (since 1.5) returns for the whole image, whatever the tiles. Float32 is good for about 5e-5. All
    channels go through in one call: one channel by itself takes a CPU as long as eight.
    """
    if min(decoded.shape[:2]) < SSIM_MIN_SIZE:
        return None
    # cuDNN may convolve float32 in TF32, whose 10-bit mantissa drowns the variances; float64 costs a GPU little
    dtype = torch.float64 if decoded.is_cuda else torch.float32
    total = torch.zeros(decoded.shape[2], dtype=torch.float64)
    for rows, own in _row_tiles(decoded, SSIM_HALO):
        pair = (image[rows].permute(2, 0, 1)[None].to(dtype).contiguous() for image in (decoded, source))
        measure = _torchmetrics().image.structural_similarity_index_measure
        similarity = measure(*pair, data_range=1.0, return_full_image=True)[1]
        total += similarity[0, :, own].sum(dim=(1, 2), dtype=torch.float64).cpu()
    return (total / (decoded.shape[0] * decoded.shape[1])).tolist()


def lpips(decoded: MapImage, source: MapImage) -> float | None:
    """Learned perceptual similarity (AlexNet), 0 for identical images; None when a side is below LPIPS_MIN_SIZE.

    One channel is replicated to three. Images above LPIPS_TILE are cut into equal tiles and averaged by area, which
    differs from the whole image by the padding at the cuts: 0.1 % at 4096 x 4096 (noise, random weights).
    None, too, where the network is not to be had: see `lpips_unavailable_reason`.
    """
    if min(decoded.shape[:2]) < LPIPS_MIN_SIZE or lpips_unavailable_reason() is not None:
        return None
    network, total = _lpips_network()[0].to(decoded.device), 0.0
    height, width, channels = decoded.shape
    for rows in _even_cuts(height):
        for columns in _even_cuts(width):
            tiles = (image[rows, columns].permute(2, 0, 1)[None].clamp(0, 1) for image in (decoded, source))
            score = network(*(tile.expand(-1, 3, -1, -1) if channels == 1 else tile for tile in tiles)).item()
            network.reset()
            total += score * (rows.stop - rows.start) * (columns.stop - columns.start)
    return total / (height * width)


def _even_cuts(size: int) -> list[slice]:
    """0..size in runs of at most LPIPS_TILE, none narrower than the others by more than a texel."""
    count = -(-size // LPIPS_TILE)
    return [slice(i * size // count, (i + 1) * size // count) for i in range(count)]


def lpips_unavailable_reason() -> str | None:
    """Why LPIPS is None on this machine, in one line; None when it works. The first call loads the network, or tries.

    The AlexNet weights come from the torch hub cache ($TORCH_HOME/hub/checkpoints), filled by download when empty. One
    attempt per process, given up when the server does not answer within NETWORK_SECONDS.
    """
    return _lpips_network()[1]


@functools.cache
def _lpips_network() -> tuple[Any, str | None]:
    """(torchmetrics' LPIPS module, None), or (None, the reason)."""
    weights = "the AlexNet weights"
    try:
        import torchvision

        url = torchvision.models.AlexNet_Weights.DEFAULT.url
        weights_file = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
        weights = f"{url} (kept as {weights_file})"
        with _load_settings():
            _fetch(url, weights_file)
            _torchmetrics()
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

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


def flip(decoded: MapImage, source: MapImage) -> float | None:
    """Mean LDR-FLIP error of two sRGB images (H, W, 3) at the default 67 pixels per degree; any size, 0 is identical.

    None where flip_evaluator is not installed: see `flip_unavailable_reason`.
    """
    if flip_unavailable_reason() is not None:
        return None
    evaluate, total = _flip_evaluator()[0], 0.0
    for rows, own in _row_tiles(decoded, FLIP_HALO):
        tiles = (image[rows].float().clamp(0, 1).contiguous().cpu().numpy() for image in (source, decoded))
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


def normal_angle_error(decoded: NormalImage, source: NormalImage) -> float:
    """Mean angle in degrees between two normal maps, n = 2 v - 1; a zero vector has no direction and counts as 0."""
    total = 0.0
    for rows, _ in _row_tiles(decoded):
        a, b = decoded[rows].double() * 2 - 1, source[rows].double() * 2 - 1
        # atan2 needs no unit vectors and, unlike acos, keeps small angles
        angle = torch.atan2(torch.linalg.cross(a, b, dim=-1).norm(dim=-1), (a * b).sum(-1))
        total += angle.sum().item()
    return math.degrees(total / (decoded.shape[0] * decoded.shape[1]))


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
    return _picture((decoded - source.to(decoded)).abs() * gain)


def strip(decoded: MaterialImage, source: MaterialImage, map_name: str) -> np.ndarray:
    """decoded | source | error of one map side by side, (H, 3 W, 3) uint8; a grey map is replicated to RGB."""
    shipped, original = round_to_8_bit(decoded[..., map_slice(map_name)]), source[..., map_slice(map_name)]
    panels = [_picture(shipped), _picture(original), error_image(shipped, original)]
    return np.concatenate([np.broadcast_to(panel, (*panel.shape[:2], 3)) for panel in panels], axis=1)


def _picture(image: MapImage) -> np.ndarray:
    return (round_to_8_bit(image.detach()) * 255).round().to(torch.uint8).cpu().numpy()
