"""Train the teacher: three views of a material -> its albedo, roughness, metallic and normal maps.

python train.py --input-dir ./data/input --output-dir ./data/output
python train.py --config quick_test --batch-size 2 --set data.image_size=256 --no-pretrained
python train.py --resume checkpoints/latest.pth
torchrun --nproc_per_node 4 train.py --distributed ...
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
elif __name__ == "train":  # imported by a script inside neuropbr/
    from bare_names import alias

    alias(__name__)
import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
from collections.abc import Sequence
from typing import Any

from common.errors import EXIT_INTERRUPTED, run_command
from common.knobs import HomeParser
from common.stop import stop_signals
from neuropbr.utils.cli import LESS_MEMORY, add_data_options, add_training_options, resolve_config, resolve_device

__all__ = ["MultiViewPBRGenerator", "main"]  # noqa: F822  # the first by __getattr__


def __getattr__(name: str) -> Any:
    """MultiViewPBRGenerator, which scripts may import from here; only then it is imported, and PyTorch with it."""
    if name != "MultiViewPBRGenerator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from neuropbr.models.generator import MultiViewPBRGenerator

    return MultiViewPBRGenerator


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = HomeParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_options(parser)
    add_training_options(parser)
    parser.add_argument("--use-dirty", action="store_true", help="the same as --render-curriculum 2")
    parser.add_argument("--distributed", action="store_true", help="insist on having been started by torchrun")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    options = parse_args(argv)
    config = resolve_config(options)
    import torch

    from neuropbr.utils.parallel_training import process_group
    from neuropbr.utils.teacher_loop import TeacherLoop

    with process_group(options.distributed) as (rank, processes):
        device = resolve_device(config, options)
        if device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = True
        with stop_signals() as stop:
            finished = TeacherLoop(config, device, rank, processes).run(stop)
    return 0 if finished else EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(run_command(main, goes_on=True, less_memory=LESS_MEMORY))
