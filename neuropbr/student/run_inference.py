"""Maps from three views, by a trained student. Options and files as of ../run_inference.py; views are input_view_N.png.

python student/run_inference.py --checkpoint checkpoints_student/best_student.pth --input-dir ./my_renders
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[2])]
import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
from collections.abc import Sequence

from common.errors import run_command
from common.knobs import HomeParser
from neuropbr.utils.cli import add_inference_options


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    parser = HomeParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_inference_options(parser, "student_inference_outputs")
    options = parser.parse_args(argv)
    from neuropbr.utils.inference import run_inference

    return run_inference(options, "input_view_{}.png")


if __name__ == "__main__":
    sys.exit(run_command(main, less_memory="give a smaller --size"))
