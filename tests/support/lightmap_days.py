"""What the tests of lightmaps share: a small day on disk, and runs that are trained once for all of them."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage

from bench.lightmap import LARGE
from common.stop import StopRequest
from lightmap.data import Day, load_day, load_half_hours
from lightmap.options import ONLY_F1
from lightmap.quantised import QuantisedLatent
from lightmap.sample_scene import Scene, write_day
from lightmap.training import train

TINY = {"epochs": 3, "batch_size": 256, "samples_per_epoch": 1024, "latent_dim": 5, "hidden_f1": 7, "layers_f1": 2,
        "hidden_f2": 9, "layers_f2": 2, "time_harmonics": 3}  # fmt: skip


class StopsLater(StopRequest):
    """A stop that is requested after eight steps."""

    left = 8

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left < 0


def save_frames(folder: Path, frames: np.ndarray, name: str = "tod_{}.png") -> Path:
    """(n, H, W, 3) uint8 frames as files that only natural order sorts."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        PillowImage.fromarray(frame).save(folder / name.format(index))
    return folder


def moving_frames(count: int = 24, height: int = 9, width: int = 14) -> np.ndarray:
    """A bright spot that goes round once a day, on a gradient; not square."""
    y, x = np.mgrid[:height, :width]
    frames = []
    for index in range(count):
        angle = 2 * np.pi * index / count
        distance = (x / width - 0.5 - 0.3 * np.cos(angle)) ** 2 + (y / height - 0.5 - 0.3 * np.sin(angle)) ** 2
        spot = np.exp(-12 * distance)
        frames.append(np.stack([spot, 0.5 * spot + 0.3 * x / width, 0.2 + 0.3 * y / height + 0 * spot], axis=2))
    return (np.array(frames) * 255).round().clip(0, 255).astype(np.uint8)


LAMP_LIGHT, LAMP_AT, LAMP_SIDE = 60.0, (21, 38), 4  # light; row and column of the first texel; texels


def write_lamp_day(folder: Path, size: int = 64, mean: float = 0.13) -> Path:
    """A day of high range with a mean light of `mean`, in which a white square of LAMP_SIDE texels is lit all day."""
    folder.mkdir(parents=True, exist_ok=True)
    scene = Scene(size)
    frames = np.stack([scene.light(hour) for hour in range(24)])
    frames *= np.float32(mean) / frames.mean()
    row, column = LAMP_AT
    frames[:, row : row + LAMP_SIDE, column : column + LAMP_SIDE] = LAMP_LIGHT
    for index, frame in enumerate(frames):
        np.save(folder / f"tod_{index:02}.npy", frame)
    return folder


def quantise(latent: torch.Tensor, latent_size: tuple[int, int], size: tuple[int, int]) -> QuantisedLatent:
    """8-bit codes of a whole latent map, (latent texels, C), between each channel's smallest and largest value."""
    low, high = latent.amin(dim=0), latent.amax(dim=0)
    span = torch.where(high > low, high - low, torch.ones_like(low))
    codes = ((latent - low) / span * 255 + 0.5).floor().to(torch.uint8)
    return QuantisedLatent(codes.view(*latent_size, -1).numpy(), low.numpy(), (low + span).numpy(), 8, size)


def halved(latent: torch.Tensor, latent_size: tuple[int, int], size: tuple[int, int]) -> QuantisedLatent:
    """Codes of a latent map averaged to half its width and height."""
    image = latent.view(1, *latent_size, -1).permute(0, 3, 1, 2)
    small = torch.nn.functional.avg_pool2d(image, 2, ceil_mode=True, count_include_pad=False)
    return quantise(small.permute(0, 2, 3, 1).reshape(-1, latent.shape[1]), tuple(small.shape[2:]), size)


@functools.lru_cache
def keep() -> tempfile.TemporaryDirectory:
    """A folder until the process ends."""
    return tempfile.TemporaryDirectory()


@functools.lru_cache
def scene_folder() -> Path:
    """The sample scene at 64x64, with half-hours."""
    folder = Path(keep().name) / "scene"
    write_day(folder, 64)
    return folder


@functools.lru_cache
def scene() -> tuple[Day, Day]:
    """The day of scene_folder, and its half-hours."""
    day = load_day(scene_folder())
    return day, load_half_hours(scene_folder(), day)


@functools.lru_cache
def trained(epochs: int = LARGE["epochs"]) -> Path:
    """The large form on the scene: a run folder with exports. Its quality needs all epochs, its form a few."""
    torch.set_num_threads(1)
    folder = Path(keep().name) / f"trained-{epochs}"
    given = {**LARGE, "epochs": epochs, "data_dir": str(scene_folder()), "out_dir": str(folder), "compute_latent": True}
    assert train(given, say=lambda _: None, quiet=True) == 0
    return folder


def tiny(mode: str, scale: int, kind: str = "png") -> Path:
    """A run of odd widths on odd sizes, with exports; its quality does not matter. kind: png, or npy of high range."""
    return _tiny(mode, scale, kind)


@functools.lru_cache
def _tiny(mode: str, scale: int, kind: str) -> Path:
    torch.set_num_threads(1)
    folder = Path(keep().name) / f"tiny-{mode}-{scale}-{kind}"
    frames = moving_frames()
    if kind == "png":
        save_frames(folder / "data", frames)
    else:
        (folder / "data").mkdir(parents=True)
        for index, frame in enumerate(frames):
            np.save(folder / "data" / f"tod_{index}.npy", (frame / np.float32(255)) ** 3 * 40)
    given = {name: value for name, value in TINY.items() if mode != "basis" or name not in ONLY_F1}
    given = {**given, "data_dir": str(folder / "data"), "out_dir": str(folder), "latent_mode": mode,
             "latent_scale": scale, "compute_latent": True, "epochs": 3 if kind == "png" else 60}  # fmt: skip
    assert train(given, say=lambda _: None, quiet=True) == 0
    return folder
