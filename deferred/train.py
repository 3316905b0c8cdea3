"""Train a neural texture and a U-Net jointly on the frames of a scene.

    python train.py --data D --texturew 512 --textureh 512        (inside deferred/)
    python -m deferred.train --data D                            (in the repository's root)

Every option: python train.py --help, or options.py; defaults: config.py, else config_example.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
import common.before_torch  # isort: skip  # noqa: F401  # before torch

from collections.abc import Sequence

from common.errors import run_command
from deferred.options import parse_args


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    given = parse_args("train", __doc__.splitlines()[0], argv)
    from deferred.training import train

    return train("train", given)


if __name__ == "__main__":
    sys.exit(run_command(main, goes_on=True, less_memory="lower --batch, or use smaller frames"))
