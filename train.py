"""Train a neural texture from a folder of PBR maps, resume a run, evaluate it, or train many materials.

    python train.py --mode train --data_dir ./data/test --save_dir ./outputs

Every flag: python train.py --help, or configs.py.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__" and getattr(sys.flags, "safe_path", False):  # PYTHONSAFEPATH leaves the script's folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common.before_torch  # isort: skip  # noqa: F401  # before torch

from collections.abc import Sequence

from common.errors import run_command
from configs import LIST_MAPS, make_config, parse_args


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    config = make_config(parse_args(argv))
    if config.maps == LIST_MAPS:
        from groups.listing import list_maps

        list_maps(config)
        return 0
    if config.groups_batching:
        from groups.batch import train_groups

        return train_groups(config)
    if config.mode == "infer":
        from training.infer import infer

        infer(config)
        return 0
    from training.start import train_material

    result = train_material(config)
    return 0 if result.completed else 128 + result.interrupted_by


if __name__ == "__main__":
    sys.exit(run_command(main, goes_on=True))
