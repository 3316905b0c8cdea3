"""Train the networks of a day from a folder with its lightmaps.

    python train.py --data_dir D --out_dir O --epochs 200 --compute_latent      (inside lightmap/)
    python -m lightmap.train --data_dir D --out_dir O                           (in the repository's root)

Every option: python train.py --help, or options.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
import common.before_torch  # isort: skip  # noqa: F401  # before torch

from collections.abc import Sequence

from common.errors import run_command
from lightmap.options import make_options, parse_args


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    given = parse_args(argv)
    make_options(given)  # refuses what is wrong before PyTorch is imported
    from lightmap.training import train

    return train(given)


if __name__ == "__main__":
    sys.exit(run_command(main, goes_on=True))
