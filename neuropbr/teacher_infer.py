"""Predict every sample with a trained teacher and write the maps as shards, which student/train.py learns from.

    python teacher_infer.py --checkpoint checkpoints/best_model.pth --data-root ./data \\
        --shards-dir ./data/shards_1024 \\
        --shard-output-size 1024
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

from common.errors import EXIT_INTERRUPTED, UserError, counted, quote, run_command
from common.events import progress_bar, readable_bytes
from common.files import make_folder, sha256_of
from common.knobs import HomeParser
from common.stop import stop_signals
from neuropbr.train_config import TrainConfig, apply_overrides, finalize, load_config
from neuropbr.utils.cli import add_data_options

if TYPE_CHECKING:
    import torch


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = HomeParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="of a teacher; its configuration is taken over")
    add_data_options(parser)
    parser.add_argument("--use-dirty", action="store_true", help="the same as --render-curriculum 2")
    parser.add_argument("--data-root", help="folder with input/ and output/; --input-dir and --output-dir win")
    parser.add_argument("--out-dir", default="teacher_shards", help="receives the shards")
    parser.add_argument("--shards-dir", help="the same as --out-dir, and wins over it")
    parser.add_argument("--shard-size", type=int, default=8, help="samples per file")
    parser.add_argument("--batch-size", type=int, default=4, help="samples per pass")
    parser.add_argument("--shard-output-size", type=int, help="side that predictions are resized to, pixels")
    options = parser.parse_args(argv)
    for name in ("shard_size", "batch_size", "shard_output_size"):
        value = getattr(options, name)
        if value is not None and not 1 <= value <= 16384:
            raise UserError(f"--{name.replace('_', '-')}: expected 1 to 16384, found {value}")
    return options


def choose_data(config: TrainConfig, options: argparse.Namespace) -> None:
    """Set the dataset in a checkpoint's configuration: --config, then --set, --data-root and the other flags."""
    if options.config:
        config.data = load_config(options.config).data
    apply_overrides(config, options.assignments)
    if options.data_root:
        root = Path(options.data_root)
        config.data.input_dir, config.data.output_dir = str(root / "input"), str(root / "output")
    config.data.input_dir = options.input_dir or config.data.input_dir
    config.data.output_dir = options.output_dir or config.data.output_dir
    if options.metadata_path or options.input_dir or options.data_root:
        config.data.metadata_path = options.metadata_path
    if options.render_curriculum is not None or options.use_dirty:
        config.data.use_dirty_renders = False
        config.data.render_curriculum = 2 if options.render_curriculum is None else options.render_curriculum
    finalize(config)


def resized(maps: dict[str, torch.Tensor], side: int | None) -> dict[str, torch.Tensor]:
    """Maps (B, C, h, w) resized to side x side with antialiasing; None: unchanged."""
    if side is None:
        return maps
    import torch.nn.functional as F

    from neuropbr.utils.maps import unit

    maps = {name: F.interpolate(values, (side, side), mode="bilinear", antialias=True) for name, values in maps.items()}
    return {**maps, "normal": unit(maps["normal"], 1)}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    options = parse_args(argv)
    import torch

    from common.device import choose_device
    from neuropbr.utils.batches import open_dataset
    from neuropbr.utils.checkpoints import load_generator, save_checkpoint
    from neuropbr.utils.device import AUTOMATIC, Precision
    from neuropbr.utils.maps import MAPS
    from neuropbr.utils.shards import INDEX, SHARD, cut_into_shards, sample_hash, sample_name, write_index

    model, config = load_generator(options.checkpoint)
    choose_data(config, options)
    device = choose_device(options.device or "auto", AUTOMATIC)
    dataset, folder = open_dataset(config, None), Path(options.shards_dir or options.out_dir)
    model, precision = model.to(device), Precision(device, config.training.use_amp)
    make_folder(folder)
    (folder / INDEX).unlink(missing_ok=True)  # without it the set counts as incomplete
    for old in folder.glob("shard_*.pt"):
        old.unlink()
    shards, written, size = 0, 0, config.data.output_size
    with stop_signals() as stop, progress_bar(len(dataset), 0) as bar:
        bar.set_description("teacher")
        for positions in cut_into_shards(len(dataset), options.shard_size):
            outputs: dict[str, list[torch.Tensor]] = {name: [] for name in MAPS}
            for batch in cut_into_shards(len(positions), options.batch_size):
                views = torch.stack([dataset[positions[i]][0] for i in batch])
                with torch.no_grad(), precision.autocast():
                    maps = model(views.to(device))
                maps = resized({name: values.float() for name, values in maps.items()}, options.shard_output_size)
                size = tuple(maps["albedo"].shape[-2:])
                for name, values in maps.items():
                    outputs[name].append(values.cpu().to(torch.float16))
                bar.update(len(batch))
            samples = [dataset.samples[position] for position in positions]
            path = folder / SHARD.format(shards)
            save_checkpoint(path, {
                "indices": list(positions), "names": [sample_name(sample) for sample in samples],
                "sources": [sample_hash(dataset, sample) for sample in samples],
                "teacher_outputs": {name: torch.cat(values) for name, values in outputs.items()},
            })  # fmt: skip
            shards, written = shards + 1, written + path.stat().st_size
            if stop.requested:
                print("stopped: the shards are not complete and cannot be used; start again", file=sys.stderr)
                return EXIT_INTERRUPTED
    write_index(folder, dataset, config.training.seed, shards, size, sha256_of(options.checkpoint))
    print(f"{counted(len(dataset), 'sample')} of {size[1]}x{size[0]} in {counted(shards, 'shard')}, "
          f"{readable_bytes(written)}: {quote(folder)}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, less_memory="lower --batch-size, or --set data.image_size"))
