"""LPIPS: its value, its network, and the download of its weights."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from metrics.tiles import MapImage, map_values

LPIPS_MIN_SIZE = 32  # texels: AlexNet's two poolings leave nothing of 30 or less
LPIPS_TILE = 2048  # texels, the longest side of a tile; LPIPS needs about 1 GB for one
NETWORK_SECONDS = 10  # the longest wait for a server
WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # environment variable of torch.load
WEIGHTS_PATTERN = "alexnet-owt-*.pth"  # torchvision's name of the file; the star is the start of its hash


def lpips_unavailable_reason() -> str | None:
    """Why LPIPS cannot be computed on this machine, in one line; None when it can. The first call loads the network.

    The AlexNet weights come from the torch hub cache ($TORCH_HOME/hub/checkpoints); only `download_lpips_weights` puts
    them there. Without them nothing is imported.
    """
    return _lpips_network()[1]


@functools.cache
def download_lpips_weights() -> str | None:
    """Download the AlexNet weights into the torch hub cache unless they are there.

    To be called before any other function of LPIPS. One attempt per process, for at most NETWORK_SECONDS without an
    answer. Returns: why it failed, in one line, or None.
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
    """Raises: OSError for a user without a home, for whom the folder would be one named ~ in the current one."""
    folder = Path(torch.hub.get_dir(), "checkpoints")
    if folder.parts[0] == "~":
        raise FileNotFoundError(f"this user has no home for {folder}; set TORCH_HOME")
    return folder


@functools.cache
def _lpips_network() -> tuple[Any, str | None]:
    """(torchmetrics' LPIPS module, None), or (None, the reason)."""
    try:
        folder = _hub_folder()
    except OSError as error:
        return None, f"LPIPS is left out: {error}"
    if not any(folder.glob(WEIGHTS_PATTERN)):  # found without importing torchvision, which takes 1.5 s
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
    """Settings while the network loads: limited waits, no pickled code, the training's random numbers unchanged."""
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
    """Download `url` to `path` unless it exists; the file is checked against the hash in its name."""
    if path.exists():
        return
    _check_answers(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False)


def _check_answers(url: str) -> None:
    """Raise unless the server answers in time. A socket's own limit is per address, and leaves out the name lookup."""
    problems: list[Exception] = [TimeoutError(f"no answer within {NETWORK_SECONDS} s")]

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=NETWORK_SECONDS).close()
            problems.clear()
        except Exception as error:
            problems.append(error)

    thread = threading.Thread(target=ask, daemon=True)  # so that a stuck lookup does not delay the end of the process
    thread.start()
    thread.join(NETWORK_SECONDS)
    if problems:
        raise problems[-1]


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


@torch.no_grad()
def lpips(decoded: MapImage, source: MapImage) -> float | None:
    """Learned perceptual similarity (AlexNet), 0 for identical images; None when a side is below LPIPS_MIN_SIZE.

    One channel is replicated to three. Images above LPIPS_TILE are cut into equal tiles and averaged by area, which
    differs from the whole image by the padding at the cuts: 0.1 % at 4096 x 4096 (noise, random weights).
    None as well where the network is missing, see `lpips_unavailable_reason`.
    """
    if min(decoded.shape[:2]) < LPIPS_MIN_SIZE or lpips_unavailable_reason() is not None:
        return None
    network, total = _lpips_network()[0], 0.0
    height, width, channels = decoded.shape
    for rows in _even_cuts(height):
        for columns in _even_cuts(width):
            tiles = [torch.from_numpy(map_values(image, (rows, columns))) for image in (decoded, source)]
            tiles = [tile.permute(2, 0, 1)[None].clamp(0, 1) for tile in tiles]
            score = network(*(tile.expand(-1, 3, -1, -1) if channels == 1 else tile for tile in tiles)).item()
            network.reset()
            total += score * (rows.stop - rows.start) * (columns.stop - columns.start)
    return total / (height * width)


def _even_cuts(size: int) -> list[slice]:
    """0..size in slices of at most LPIPS_TILE whose lengths differ by at most 1."""
    count = -(-size // LPIPS_TILE)
    return [slice(i * size // count, (i + 1) * size // count) for i in range(count)]
