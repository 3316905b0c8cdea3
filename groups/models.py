"""Materials of glTF models as groups of a batch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError, one_line
from configs import Config
from groups.group import Group
from maps.gltf.container import is_model
from maps.gltf.materials import labels_of, plan_of
from maps.gltf.source import NO_TEXTURES, open_model
from maps.source import open_source

MAX_FOLDER = 60  # characters of a material's name that its folder has


def of_all_materials(config: Config) -> Config:
    """The configuration of a run on a model, made one of a batch where several of its materials have textures.

    The batch is kept in --save_dir, in a folder named as the model: the same command continues it. Raises: UserError.
    """
    path = Path(config.data_dir)
    found = list(groups_of(path))
    if config.maps or sum(not group.skipped for group in found) < 2:
        open_source(path, config.maps)  # which says what is wrong with it
        return config
    save_dir = str(Path(config.save_dir) / path.name)
    return dataclasses.replace(config, groups_batching=True, groups_batch_dir=str(path), groups_save_dir=save_dir)


def groups_of(path: Path, above: str = "") -> Iterator[Group]:
    """A group for each material of a model, named as it; skipped are those without textures.

    Raises: UserError for a file that is no model. A material that cannot be read has the reason in `failed`.
    """
    model = open_model(path)
    labels = labels_of(model)
    for index, (label, name) in enumerate(zip(labels, folder_names(labels))):
        skipped = failed = ""
        try:
            skipped = "" if plan_of(model, index).slots else NO_TEXTURES
        except UserError as error:
            failed = str(error)
        yield Group(f"{above}{name}", path, skipped, failed, label)


def groups_of_file(path: Path, name: str) -> Iterator[Group]:
    """`groups_of` a model in a batch folder; one that cannot be read is one group."""
    try:
        yield from groups_of(path, f"{name}/")
    except UserError as error:
        yield Group(name, path, failed=str(error))


def models_in(folder: Path) -> list[str]:
    """The names of the models that lie in a folder. Raises: OSError."""
    return sorted(entry.name for entry in folder.iterdir() if entry.name[0] != "." and is_model(entry))


def folder_names(labels: list[str]) -> list[str]:
    """Names of folders for materials, which no file system refuses or takes for one another."""
    names, taken = [], set()
    for index, label in enumerate(labels):
        name = re.sub(r"[^\w .()+#-]", "_", one_line(label))[:MAX_FOLDER].strip(" .") or f"material_{index}"
        while name.casefold() in taken:
            name = f"{name}#{index}"
        names.append(name)
        taken.add(name.casefold())
    return names
