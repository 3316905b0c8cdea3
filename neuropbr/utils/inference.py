"""Shared by the two run_inference.py commands: predicts four maps from three views, and starts the compressor."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.device import choose_device
from common.errors import UserError, counted, quote, shell_quote
from neuropbr.train_config import TrainConfig
from neuropbr.utils.batches import open_dataset
from neuropbr.utils.checkpoints import load_generator
from neuropbr.utils.device import AUTOMATIC
from neuropbr.utils.maps import VIEWS, read_rgb, write_maps, write_picture

ROOT = Path(__file__).resolve().parents[2]  # of the repository


def three_pictures(folder: Path, suffixes: tuple[str, ...] = (".png",), exactly: bool = True) -> list[Path]:
    """The three views of a folder in the order of their names. Raises: UserError for another number of files."""
    if not folder.is_dir():
        raise UserError(f"{quote(folder)}: expected a folder with three renders, found none; check --input-dir")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.is_file())
    if len(found) < VIEWS or (exactly and len(found) != VIEWS):
        kinds = " or ".join(suffix[1:].upper() for suffix in suffixes)
        raise UserError(
            f"{quote(folder)}: expected {'exactly' if exactly else 'at least'} three {kinds} files, found {len(found)}"
        )
    return found[:VIEWS]


def read_views(options: argparse.Namespace, config: TrainConfig) -> torch.Tensor:
    """The views of --input-dir, or of sample --sample-idx, normalised, (3, 3, H, W). Raises: UserError."""
    if options.input_dir:
        mean, std = (torch.tensor(list(v)).reshape(3, 1, 1) for v in (config.transform.mean, config.transform.std))
        views = [read_rgb(path, config.data.image_size) for path in three_pictures(Path(options.input_dir))]
        return torch.stack([(view - mean) / std for view in views])
    config.data.input_dir = options.data_input_dir or config.data.input_dir
    config.data.output_dir = options.data_output_dir or config.data.output_dir
    if options.data_input_dir:
        config.data.metadata_path = None
    dataset = open_dataset(config, None)
    if not 0 <= options.sample_idx < len(dataset):
        raise UserError(f"--sample-idx: expected 0 to {len(dataset) - 1}, found {options.sample_idx}")
    return dataset[options.sample_idx][0]


def infer(model: nn.Module, views: torch.Tensor, device: torch.device) -> dict[str, torch.Tensor]:
    """The maps that the model predicts from one sample's views: name -> (C, H, W) on the CPU."""
    with torch.no_grad():
        maps = model.to(device)(views[None].to(device))
    return {name: values[0].float().cpu() for name, values in maps.items()}


def run_inference(options: argparse.Namespace, view_name: str) -> int:
    """Run the command. view_name: file name for the input views, such as view_{}.png."""
    device = choose_device(options.device, AUTOMATIC)
    model, config = load_generator(options.checkpoint)
    views = read_views(options, config)
    maps, out = infer(model, views, device), Path(options.out_dir)
    write_maps(out, maps)
    mean, std = (torch.tensor(list(v)).reshape(3, 1, 1) for v in (config.transform.mean, config.transform.std))
    for i, view in enumerate(views):
        write_picture(out / view_name.format(i), view * std + mean)
    height, width = maps["albedo"].shape[-2:]
    print(f"{counted(len(maps), 'map')} of {width}x{height}: {quote(out)}")
    return 0 if options.compress is None else compress(out, options.compress)


def compress(folder: Path, more: list[Any]) -> int:
    """Run the compressor on `folder`, with the same Python; returns its exit code."""
    command = [sys.executable, str(ROOT / "train.py"), "--data_dir", str(folder), *more]
    print(" ".join(shell_quote(word) for word in command), flush=True)
    return subprocess.run(command, check=False).returncode
