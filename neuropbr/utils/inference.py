"""Shared by the run_inference.py commands: four maps from three photographs of any size, and the compressor's start."""

from __future__ import annotations

import argparse
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.device import choose_device
from common.errors import Say, UserError, counted, quote, shell_quote
from neuropbr.train_config import TrainConfig
from neuropbr.utils.batches import open_dataset
from neuropbr.utils.checkpoints import load_generator
from neuropbr.utils.cli import MOST_SIZE
from neuropbr.utils.device import AUTOMATIC
from neuropbr.utils.maps import Size, resized, unit, write_maps, write_picture
from neuropbr.utils.photographs import canvas_of, fit_views, only_inside, read_photograph, three_pictures
from neuropbr.utils.tiles import Predict, canvas_sides, predict_large

ROOT = Path(__file__).resolve().parents[2]  # of the repository
MOST_TIMES = 4  # the maps' side without --size, in those of training: further, tiles show too little of a material


def view_paths(options: argparse.Namespace, config: TrainConfig) -> list[Path]:
    """The files of --input-dir, or those of sample --sample-idx. Raises: UserError."""
    if options.input_dir:
        return three_pictures(Path(options.input_dir))
    config.data.input_dir = options.data_input_dir or config.data.input_dir
    config.data.output_dir = options.data_output_dir or config.data.output_dir
    if options.data_input_dir:
        config.data.metadata_path = None
    dataset = open_dataset(config, None)
    if not 0 <= options.sample_idx < len(dataset):
        raise UserError(f"--sample-idx: expected 0 to {len(dataset) - 1}, found {options.sample_idx}")
    return dataset.views(dataset.samples[options.sample_idx])


def choose_size(picture: Size, trained: Size, fit: str, wanted: int | None, say: Say = print) -> Size:
    """(height, width) of the maps of all that the fitted views show.

    Args:
        picture: view 0's.
        trained: of the maps in training.
        wanted: the longer side, without padding; None: the photograph's, from that of training on up to MOST_TIMES it.
    """
    canvas = canvas_of(picture, trained, fit)
    shown = [min(side, whole) for side, whole in zip(picture, canvas)]
    longer = wanted or max(shown)
    if wanted is None:
        most = MOST_TIMES * max(trained)
        if longer > most:
            say(f"maps of {most} texels, {MOST_TIMES} times the size of training, from photographs of {longer}; "
                f"--size {min(longer, MOST_SIZE)} makes larger ones")  # fmt: skip
        longer = max(min(longer, most), max(trained) * max(shown) / max(canvas))
    return tuple(max(1, round(side * longer / max(shown))) for side in canvas)


def predict_fitted(predict: Predict, pictures: list[torch.Tensor], tile: Size, fit: str, wanted: int | None,
                   say: Say = print) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:  # fmt: skip
    """(views as the network saw them, maps): of any photographs, at any size.

    Args:
        predict: the network at `tile` (height, width), for views in [0, 1].
        pictures: three, upright, (3, H, W) each.
        wanted: longer side of the maps, see choose_size; 0: as in training.
    """
    whole = fit_views(pictures, tile, fit)
    for note in whole.notes:
        say(note)
    base = predict(whole.views[None])
    trained = tuple(base["albedo"].shape[-2:])
    size = trained if wanted == 0 else choose_size(tuple(pictures[0].shape[-2:]), trained, fit, wanted, say)
    canvas = canvas_sides(size, tile, Fraction(trained[1], tile[1]))
    fitted = whole if canvas == tuple(tile) else fit_views(pictures, canvas, fit)
    maps = predict_large(predict, fitted.views, base, tile)
    large = maps["albedo"].shape[-2:]
    if any(made > side for made, side in zip(large, size)):  # smaller than in training, or rounded up for the network
        maps = {name: resized(values, size) for name, values in maps.items()}
        maps["normal"] = unit(maps["normal"], 0)
    return fitted.views, only_inside(maps, fitted.inside)


def predictor(model: nn.Module, config: TrainConfig, device: torch.device) -> Predict:
    """`model` on `device` as a function of views in [0, 1]."""
    model = model.to(device)
    mean, std = (torch.tensor(list(v)).reshape(3, 1, 1) for v in (config.transform.mean, config.transform.std))

    def predict(views: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            maps = model(((views - mean) / std).to(device))
        return {name: values.float().cpu() for name, values in maps.items()}

    return predict


def run_inference(options: argparse.Namespace, view_name: str) -> int:
    """Run the command. view_name: file name for the input views, such as view_{}.png."""
    device = choose_device(options.device, AUTOMATIC)
    model, config = load_generator(options.checkpoint)
    paths, size = view_paths(options, config), options.size
    tile = config.data.image_size
    pictures = [read_photograph(path) for path in paths]
    if not options.input_dir and size is None:  # a sample of the data set: as in training
        size, pictures = 0, [resized(picture, tile) for picture in pictures]
    views, maps = predict_fitted(predictor(model, config, device), pictures, tile, options.fit, size)
    out = Path(options.out_dir)
    write_maps(out, maps)
    for i, view in enumerate(views):
        write_picture(out / view_name.format(i), view)
    height, width = maps["albedo"].shape[-2:]
    print(f"{counted(len(maps), 'map')} of {width}x{height}: {quote(out)}")
    return 0 if options.compress is None else compress(out, options.compress)


def compress(folder: Path, more: list[Any]) -> int:
    """Run the compressor on `folder`, with the same Python; returns its exit code."""
    command = [sys.executable, str(ROOT / "train.py"), "--data_dir", str(folder), *more]
    print(" ".join(shell_quote(word) for word in command), flush=True)
    return subprocess.run(command, check=False).returncode
