"""What early stopping saves and costs: a run that stops by itself against the same run to --max_iter.

    python -m bench.early_stop DIR... [--max_iter 12000] [--early_stop_interval 1000]

The second run has the same seed and --early_stop False.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # noqa: F401  # before torch

import sys
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.common import parser, save
from common.errors import run_command
from configs import make_config

if TYPE_CHECKING:
    from training.summary import Result


def measure(folder: str, settings: dict[str, Any], save_dir: str) -> dict[str, Any]:
    """Train `folder` until it stops, and again to max_iter; PSNR in dB over all channels of LOD 0."""
    settings = {**settings, "data_dir": folder, "save_dir": save_dir}
    stopped = _train(settings)
    entry = {
        "material": folder.rstrip("/").rpartition("/")[2],
        "stopped_at": stopped.iteration,
        "stopped_psnr": stopped.metrics["psnr"]["all"],
        "stopped_seconds": stopped.seconds,
    }
    full = _train({**settings, "early_stop": False})
    entry.update(full_at=full.iteration, full_psnr=full.metrics["psnr"]["all"], full_seconds=full.seconds)
    entry["loss_db"] = entry["full_psnr"] - entry["stopped_psnr"]
    return entry


def _train(given: dict[str, Any]) -> Result:
    from training.start import train_material

    return train_material(make_config(given), say=lambda text: None, quiet=True)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--max_iter", type=int, default=12000)
    arguments.add_argument("--early_stop_interval", type=int, default=1000)
    arguments.add_argument("--lr_scheduler", default="plateau")
    arguments.add_argument("--batch_size", type=int, default=8192)
    arguments = arguments.parse_args(argv)
    settings = {
        "max_iter": arguments.max_iter,
        "early_stop_interval": arguments.early_stop_interval,
        "lr_scheduler": arguments.lr_scheduler,
        "batch_size": arguments.batch_size,
        "num_threads": arguments.num_threads,
        "eval_interval": arguments.max_iter,
        "save_interval": arguments.max_iter,
    }
    entries = []
    print(f"{'material':<16}{'stopped at':>12}{'PSNR dB':>9}{'s':>8}{'full at':>10}{'PSNR dB':>9}{'s':>8}{'lost':>9}")
    with tempfile.TemporaryDirectory() as save_dir:
        for folder in arguments.folders:
            entry = measure(folder, settings, save_dir)
            entries.append(entry)
            print(
                f"{entry['material']:<16}{entry['stopped_at']:>12}{entry['stopped_psnr']:>9.2f}"
                f"{entry['stopped_seconds']:>8.0f}{entry['full_at']:>10}{entry['full_psnr']:>9.2f}"
                f"{entry['full_seconds']:>8.0f}{entry['loss_db']:>9.3f}",
                flush=True,
            )
    print(save("early_stop", arguments.out, settings, entries))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
