"""--maps alone: what each image of a folder, of a run's source, or of every material of a model or a batch is taken
for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from common.errors import UserError, explain_os_error, one_line
from configs import Config
from groups.batch import find_groups
from maps.extras import Extras
from maps.gltf.container import is_model
from maps.read_maps import recognised_maps
from training.checkpoint import load_checkpoint


def list_maps(config: Config) -> None:
    """Print the files of --groups_batch_dir with --groups_batching, else of --data_dir, or of --load_dir's material.

    Raises: UserError for a folder that cannot be used. A material of a batch that cannot be gets a line.
    """
    if config.groups_batching:
        _list_groups(config)
        return
    folder, by_hand, run = config.data_dir, "", config
    if config.load_dir and "data_dir" not in config.chosen:
        run = load_checkpoint(config.load_dir, config.load_iter).config
        folder, by_hand = run.data_dir, run.maps
    if is_model(folder) and not run.material:
        _list_groups(replace(config, groups_batch_dir=folder))
        return
    print("\n".join(recognised_maps(folder, config.max_pixels, by_hand, Extras.of(run), run.material)))


def _list_groups(config: Config) -> None:
    for group in find_groups(Path(config.groups_batch_dir), config.groups_recursive, Path(config.groups_save_dir)):
        lines = [group.skipped or group.failed]
        if not any(lines):
            try:
                extras = Extras.of(config)
                lines = recognised_maps(group.source, config.max_pixels, extras=extras, material=group.material)
            except UserError as error:
                lines = [str(error)]
            except OSError as error:
                lines = [explain_os_error(error) or one_line(str(error))]
        print("\n  ".join([f"{one_line(group.name)}:", *lines]))
