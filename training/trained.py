"""The trained materials in a folder, and their exported files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError, quote
from formats.manifest import MANIFEST
from formats.textures import ExportedTexture, read_export
from training.run_folder import find_checkpoint, list_checkpoints

DEPTH = 4  # of runs below ./outputs: a folder of models / a model / a material / a run
STAMP = re.compile(r"\d{4}(-\d\d){5}(-\d+)?")  # the name of a run folder


@dataclass(frozen=True)
class Entry:
    """A trained material."""

    name: str  # of the folder that it was found in
    folder: Path  # of its exported files


def find_materials(load_dir: Path, load_iter: int = -1) -> list[Entry]:
    """The materials in a folder: an export, a run, or a folder of these, such as train.py --groups_batching writes.

    Of a sub-folder that holds several runs the newest one with a checkpoint is taken.

    Args:
        load_iter: checkpoint of a single run; -1: the newest.
    Raises: UserError when the folder holds none of these.
    """
    if not load_dir.is_dir():
        raise UserError(
            f"--load_dir {quote(load_dir)}: no such folder; give a run folder, an export, or a folder of these"
        )
    if (load_dir / MANIFEST).is_file():
        return [Entry(load_dir.name, load_dir)]
    if list_checkpoints(load_dir):
        return [Entry(load_dir.name, find_checkpoint(load_dir, load_iter))]
    entries = []
    for folder in sorted(path for path in load_dir.iterdir() if path.is_dir() and not path.name.startswith(".")):
        found = _newest_export(folder)
        if found is not None:
            entries.append(Entry(folder.name, found))
    if not entries:
        raise UserError(
            f"--load_dir {quote(load_dir)}: expected a run with a checkpoint, an export ({MANIFEST}), or a folder of "
            "these; found none"
        )
    return entries


def _newest_export(folder: Path) -> Path | None:
    if (folder / MANIFEST).is_file():
        return folder
    for run in (folder, *sorted((path for path in folder.iterdir() if path.is_dir()), reverse=True)):
        checkpoints = list_checkpoints(run)
        if checkpoints:
            return checkpoints[max(checkpoints)]
    return None


def find_below(folder: Path, depth: int = DEPTH) -> list[Entry]:
    """Every export in a folder and its sub-folders, and of every run the newest one; the older ones first."""
    found = [(run.name if STAMP.fullmatch(run.name) else "", entry) for run, entry in _walk(folder, depth)]
    return [entry for _, entry in sorted(found, key=lambda pair: (pair[0], pair[1].folder.stat().st_mtime_ns))]


def _walk(folder: Path, depth: int) -> Iterator[tuple[Path, Entry]]:
    """Folders of runs and exports, each with its entry."""
    checkpoints = list_checkpoints(folder)
    if checkpoints or (folder / MANIFEST).is_file():
        yield folder, Entry(folder.name, checkpoints[max(checkpoints)] if checkpoints else folder)
    elif depth:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                yield from _walk(path, depth - 1)


def read_trained(folder: Path) -> ExportedTexture:
    """The exported files of a checkpoint. Raises: UserError; for a run without them too."""
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"{quote(folder)}: expected {MANIFEST}, which a run with --quantize False does not write; there are no "
            "codes to show, train with --quantize True"
        )
    return read_export(folder)
