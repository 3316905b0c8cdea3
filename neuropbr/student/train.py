"""Train a student on a teacher's shards and on the ground truth.

    python student/train.py --config configs/mobilenetv3_512.py --shards-dir ./data/shards_1024 \\
        --input-dir ./data/input --output-dir ./data/output --checkpoint-dir ./checkpoints_student

Without shards, --teacher-checkpoint runs the teacher beside the student.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[2])]
import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
from collections.abc import Sequence

from common.errors import EXIT_INTERRUPTED, run_command
from common.knobs import HomeParser
from common.stop import stop_signals
from neuropbr.utils.cli import LESS_MEMORY, add_data_options, add_training_options, resolve_config, resolve_device


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = HomeParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_options(parser)
    add_training_options(parser)
    parser.add_argument("--shards-dir", help="folder of the shards that teacher_infer.py wrote")
    parser.add_argument("--teacher-checkpoint", help="runs the teacher instead of reading shards")
    parser.add_argument("--temperature", type=float, help="of the teacher's softened maps (default 4)")
    parser.add_argument("--alpha", type=float, help="weight of the teacher, 0 to 1 (default 0.3)")
    parser.add_argument("--no-amp", action="store_true", help="float32 on CUDA too")
    options = parser.parse_args(argv)
    if bool(options.shards_dir) == bool(options.teacher_checkpoint):
        parser.error("expected either --shards-dir or --teacher-checkpoint")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    options = parse_args(argv)
    for name in ("temperature", "alpha"):
        if getattr(options, name) is not None:
            options.assignments.append(f"distillation.{name}={getattr(options, name)}")
    if options.no_amp:
        options.assignments.append("training.use_amp=False")
    config = resolve_config(options)
    from neuropbr.student.loop import StudentLoop

    device = resolve_device(config, options)
    with stop_signals() as stop:
        finished = StudentLoop(config, device, options.shards_dir, options.teacher_checkpoint).run(stop)
    return 0 if finished else EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(run_command(main, goes_on=True, less_memory=LESS_MEMORY))
