"""Train a neural texture from a folder of PBR maps or a glTF model, resume a run, evaluate it, or train many materials.

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
from pathlib import Path

from common.errors import run_command
from configs import LIST_MAPS, Config, make_config, parse_args


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    config = make_config(parse_args(argv))
    if config.maps == LIST_MAPS:
        from groups.listing import list_maps

        list_maps(config)
        return 0
    if not (config.groups_batching or config.load_dir or config.material):
        from maps.gltf.container import is_model

        if is_model(config.data_dir):
            from groups.models import of_all_materials

            config = of_all_materials(config)
    if config.groups_batching:
        from groups.batch import train_groups

        return train_groups(config)
    if config.mode == "infer":
        look_first(config)
        from training.infer import infer

        infer(config)
        return 0
    look_first(config)
    from training.start import train_material

    result = train_material(config)
    return 0 if result.completed else 128 + result.interrupted_by


def look_first(config: Config) -> None:
    """Raise UserError for a run or for maps that are not there, which takes no PyTorch."""
    from maps.extras import Extras
    from maps.source import open_source
    from training.run_folder import find_checkpoint

    if config.load_dir:
        find_checkpoint(Path(config.load_dir), config.load_iter)
    else:
        open_source(config.data_dir, config.maps, config.material).check(Extras.of(config))


if __name__ == "__main__":
    sys.exit(run_command(main, goes_on=True))
