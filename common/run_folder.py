"""Folders of runs: a new one per start, and parts of one that never lead outside of it."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

from common.errors import UserError
from common.files import leads_out, make_folder

# --- run folders ---------------------------------------------------------------------------------------------------


def new_stamped_folder(parent: Path) -> Path:
    """Make parent/yyyy-mm-dd-hh-mm-ss, with -2, -3, ... behind it when that name is taken."""
    make_folder(parent)
    stamp = time.strftime("%Y-%m-%d-%H-%M-%S")
    for attempt in itertools.count(1):
        folder = parent / (stamp if attempt == 1 else f"{stamp}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError


def part_of_run(run: Path, *names: str) -> Path:
    """A folder of a run that is about to be written to, made where it is missing.

    Raises: UserError where it is a link to outside of the run: a run folder may come from somebody else.
    """
    folder = run.joinpath(*names)
    if leads_out(folder, run):
        target = os.path.realpath(folder)
        raise UserError(f"{folder}: expected a folder of this run, found a link to {target}; remove it")
    make_folder(folder)
    return folder
