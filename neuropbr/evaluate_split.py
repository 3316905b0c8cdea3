"""Score a checkpoint on held-out materials, beside a baseline: each map's mean over the training materials.

    python evaluate_split.py --checkpoint checkpoints/best_model.pth --input-dir ./data/input --output-dir ./data/output

The split is that of the checkpoint's configuration. --json FILE receives the scores.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from common.errors import UserError, counted, run_command
from common.files import write_json
from common.knobs import HomeParser

if TYPE_CHECKING:
    import torch


def training_means(dataset: torch.utils.data.Dataset) -> dict[str, torch.Tensor]:
    """Map -> its mean over all texels of the dataset, (1, C, 1, 1); for normals the mean direction."""
    import torch

    from neuropbr.utils.maps import MAPS, split_targets, unit

    sums = {name: torch.zeros(channels, dtype=torch.float64) for name, channels in MAPS.items()}
    for _, targets in dataset:
        for name, values in split_targets(targets[None]).items():
            sums[name] += values[0].double().mean((1, 2))
    means = {name: (total / len(dataset)).float().reshape(1, -1, 1, 1) for name, total in sums.items()}
    return {**means, "normal": unit(means["normal"], 1)}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    parser = HomeParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--input-dir", help="renders (default: as trained)")
    parser.add_argument("--output-dir", help="maps (default: as trained)")
    parser.add_argument("--json", help="receives the figures")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps, cpu")
    options = parser.parse_args(argv)
    import torch

    from common.device import choose_device
    from neuropbr.utils.batches import open_dataset
    from neuropbr.utils.checkpoints import load_generator
    from neuropbr.utils.device import AUTOMATIC
    from neuropbr.utils.maps import split_targets
    from neuropbr.utils.metrics import MapMetrics, metrics_table

    model, config = load_generator(options.checkpoint)
    device = choose_device(options.device, AUTOMATIC)
    config.data.input_dir = options.input_dir or config.data.input_dir
    config.data.output_dir = options.output_dir or config.data.output_dir
    config.data.metadata_path = None if options.input_dir else config.data.metadata_path
    train, held_out = (open_dataset(config, split) for split in ("train", "val"))
    if not len(held_out):
        raise UserError("--checkpoint: expected one that was trained with materials held out, found val_ratio 0")
    means, model = training_means(train), model.to(device)
    scores, baseline = MapMetrics(), MapMetrics()
    with torch.no_grad():
        for views, targets in held_out:
            target = split_targets(targets[None])
            scores.add({name: values.cpu() for name, values in model(views[None].to(device)).items()}, target)
            baseline.add({name: means[name].expand_as(values) for name, values in target.items()}, target)
    print(f"{counted(len(held_out), 'held-out sample')}, {counted(len(train), 'training sample')}")
    print(metrics_table(scores.means()))
    print("each map's training mean instead:")
    print(metrics_table(baseline.means()))
    if options.json:
        write_json(options.json, {"network": scores.means(), "training_mean": baseline.means()})
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, less_memory="it takes one sample at a time: end other programs"))
