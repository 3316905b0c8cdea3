"""What the tests of deferred/ share: small data folders, and a model that is trained once for all of them."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from deferred.prepare import make_options, prepare
from deferred.training import train

SIZE = 32  # pixels along a side of the small sphere's views
SMALL = {"texturew": 32, "textureh": 16, "unet_width": 2, "batch": 4, "lr": 0.02, "epoch": 2, "epoch_steps": 0}


@functools.lru_cache
def keep() -> Path:
    """A folder until the process ends."""
    holder = tempfile.TemporaryDirectory()
    keep.holder = holder
    return Path(holder.name)


@functools.lru_cache
def sphere_folder(frames: int = 14, width: int = SIZE, height: int = SIZE, per_pixel: bool = False) -> Path:
    """The glossy sphere from random places."""
    folder = keep() / f"sphere-{frames}-{width}-{height}-{per_pixel}"
    wanted = {"out": str(folder), "frames": frames, "width": width, "height": height, "per_pixel": per_pixel}
    prepare(make_options(wanted), folder, lambda _: None)
    return folder


def flags(folder: Path, **more) -> dict:
    """Flags of a training command for a small model of the small sphere, with its runs in `folder`."""
    places = {"data": str(sphere_folder()), "checkpoint": str(folder), "logdir": str(folder / "tensorboard")}
    return {**SMALL, **places, "device": "cpu", **more}


def run_of(folder: Path) -> Path:
    """The only run in a folder."""
    (config,) = folder.glob("*/config.json")
    return config.parent


def quietly(script: str, given: dict) -> list[str]:
    """Train; returns what was said."""
    said: list[str] = []
    if script == "train_texture":
        given = {name: value for name, value in given.items() if name not in ("unet_width", "scale_augmentation")}
    if script == "train_unet":
        given = {name: value for name, value in given.items() if name not in ("texturew", "textureh")}
    assert train(script, given, said.append, quiet=True) == 0
    return said


@functools.lru_cache
def trained() -> Path:
    """A run of train.py on the small sphere."""
    folder = keep() / "trained"
    quietly("train", flags(folder))
    return run_of(folder)


def write_frame(folder: Path, number: int, image: np.ndarray, uv: np.ndarray, direction: np.ndarray) -> None:
    """One frame of a data folder, image as uint8."""
    for kind in ("frame", "uv", "extrinsics"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(image).save(folder / "frame" / f"{number:04d}.png")
    np.save(folder / "uv" / f"{number:04d}.npy", uv)
    np.save(folder / "extrinsics" / f"{number:04d}.npy", direction)


def plain_uv(height: int, width: int) -> np.ndarray:
    """(H, W, 2) float32: the texture spread over the whole image."""
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    return np.stack([u, v], axis=2).astype(np.float32)
