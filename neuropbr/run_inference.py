"""Maps from three views, by a trained teacher.

    python run_inference.py --checkpoint checkpoints/latest.pth --sample-idx 12 --out-dir inference_outputs/sample_12
    python run_inference.py --checkpoint checkpoints/latest.pth --input-dir ./my_renders --out-dir my_material

Writes albedo.png, roughness.png, metallic.png and normal.png, a material for --data_dir of the compressor, and the
network's input as view_0.png to view_2.png. With --compress ... the compressor runs on the result.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
from collections.abc import Sequence

from common.errors import run_command
from common.knobs import HomeParser
from neuropbr.utils.cli import add_inference_options


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    parser = HomeParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_inference_options(parser, "inference_outputs")
    options = parser.parse_args(argv)
    from neuropbr.utils.inference import run_inference

    return run_inference(options, "view_{}.png")


if __name__ == "__main__":
    sys.exit(run_command(main, less_memory="give a smaller --size"))
