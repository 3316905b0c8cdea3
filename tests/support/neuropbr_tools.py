"""What the tests of neuropbr/ share: a tiny set, and its commands in this process or another."""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image as PillowImage

from common.errors import run_command
from neuropbr.utils import memory
from tests.support.forked import python

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "neuropbr"

# Small and fast, with every part in it: --set flags for any command that takes them.
SMALL = {
    "data.image_size": 64, "data.output_size": None, "data.num_workers": 0, "data.batch_size": 2,
    "model.encoder_type": "unet", "model.encoder_channels": (8, 16, 24), "model.encoder_stride": 1,
    "model.transformer_dim": 32, "model.transformer_num_heads": 2, "model.transformer_depth": 1,
    "model.discriminator_ndf": 4, "model.pretrained": False,
}  # fmt: skip


def sets(**more) -> list[str]:
    """SMALL, changed by section__field=value, as command-line flags."""
    values = {**SMALL, **{name.replace("__", "."): value for name, value in more.items()}}
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def script(name: str):
    """The module of neuropbr/<name>.py."""
    return importlib.import_module("neuropbr." + name.replace("/", "."))


def run(name: str, *words) -> int:
    """main() of a command in this process; returns its exit code, argparse's too.

    What it says about memory is made up: finding that out takes longer than most runs here.
    """
    torch.set_num_threads(1)  # a module's fixtures run before conftest says so, and the bits depend on it
    with mock.patch.object(memory, "tensor_bytes", lambda *_: (10**6, 10**5)):
        try:
            return run_command(lambda: script(name).main([str(word) for word in words]))
        except SystemExit as ended:
            return ended.code


@contextlib.contextmanager
def inside(folder: Path):
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def workplace(folder: Path) -> Path:
    """A folder that looks like neuropbr/ from inside, whose commands write beside links to the real files."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in HOME.iterdir():
        if entry.name not in ("data", "__pycache__") and not entry.name.startswith((".", "checkpoints")):
            (folder / entry.name).symlink_to(entry)
    return folder


def in_process(folder: Path, *words, stdin: str | None = None, own: bool = False) -> subprocess.CompletedProcess:
    """A command as a user starts it: `python words...` in `folder`, one thread; own: with imports of its own."""
    start = [sys.executable] if own else python("torchvision", "torchmetrics", "torch.utils.tensorboard")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    return subprocess.run(
        [*start, *map(str, words)], cwd=folder, env=environment, input=stdin, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def write_material(folder: Path, size: int = 64, seed: int = 0) -> Path:
    """A folder of PBR maps with tiles of metal and stone, 16-bit roughness among them."""
    import cv2

    random = np.random.default_rng(seed)
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    height = np.sin(2 * np.pi * (2 * x + random.random())) * np.sin(2 * np.pi * (y * 2 + random.random())) * 0.5 + 0.5
    tile = ((x * 4).astype(int) + (y * 4).astype(int)) % 2
    tint = random.uniform(0.2, 0.9, (2, 3))
    albedo = tint[tile] * (0.6 + 0.4 * height[..., None])
    slope = np.stack(
        [-(np.roll(height, -1, 1) - np.roll(height, 1, 1)), np.roll(height, -1, 0) - np.roll(height, 1, 0)], -1
    )
    normal = np.concatenate([slope * 2, np.ones((size, size, 1))], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in (("albedo", albedo), ("normal", normal / 2 + 0.5), ("metallic", tile * 0.9)):
        PillowImage.fromarray((image * 255).round().astype(np.uint8)).save(folder / f"m_{name}.png")
    cv2.imwrite(str(folder / "m_roughness.png"), ((0.2 + 0.6 * height) * 65535).round().astype(np.uint16))
    return folder


def write_set(folder: Path, materials: int = 4, size: int = 64) -> Path:
    """folder/data/{input,output} of a few materials, rendered by make_renders.py."""
    for seed in range(materials):
        write_material(folder / "materials" / f"m{seed}", size, seed)
    assert run("make_renders", "--data-dir", folder / "materials", "--input-dir", folder / "data" / "input",
               "--output-dir", folder / "data" / "output") == 0  # fmt: skip
    return folder / "data"
