"""The checkpoints in a run folder: list, find, set aside, delete (design.md, section 6)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import filelock

from common.errors import UserError, explain_os_error
from common.files import remove_folder
from common.run_folder import new_stamped_folder, part_of_run

CHECKPOINT = "model.pth"
MODELS = "models"
RUN_CONFIG = "config.json"
CHECKPOINT_FOLDER = re.compile(r"train_result_(\d+)")
SUPERSEDED = "superseded"
LOCK = "run.lock"
THUMBNAIL = "thumbnail.jpg"  # in the folder media


@contextlib.contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Lock a run against other processes that would train it too; a lock ends with its process, however that ends.

    A file system without locks goes without. Raises: UserError where another process trains the run.
    """
    lock = filelock.FileLock(str(run / LOCK))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(f"--load_dir {run}: another process is training this run; wait for its end") from None
    except NotImplementedError:
        pass
    except OSError as error:
        if explain_os_error(error):
            raise
    try:
        yield
    finally:
        lock.release()


def list_checkpoints(run: Path) -> dict[int, Path]:
    """Checkpoint folders of a run by iteration, ascending."""
    folders = (run / MODELS).glob("train_result_*")
    found = {int(match[1]): path for path in folders if (match := CHECKPOINT_FOLDER.fullmatch(path.name))}
    return dict(sorted((i, path) for i, path in found.items() if (path / CHECKPOINT).is_file()))


def find_checkpoint(run: Path, iteration: int = -1) -> Path:
    """The folder of one checkpoint; -1 is the newest.

    Raises: UserError that lists the checkpoints that exist.
    """
    if not run.is_dir():
        raise UserError(f"--load_dir {run}: no such folder; give a run folder such as outputs/2026-01-31-12-00-00")
    checkpoints = list_checkpoints(run)
    if not checkpoints:
        runs = [path.name for path in sorted(run.glob("*")) if list_checkpoints(path)][-3:]
        hint = f"; did you mean {run / runs[-1]}?" if runs else "; give the folder of a run that has saved something"
        raise UserError(f"--load_dir {run}: no checkpoint in {run / MODELS}{hint}")
    if iteration < 0:
        return checkpoints[max(checkpoints)]
    if iteration not in checkpoints:
        raise UserError(f"--load_iter {iteration}: {run} has checkpoints at {', '.join(map(str, checkpoints))}")
    return checkpoints[iteration]


def supersede_later(run: Path, iteration: int) -> list[int]:
    """Move the checkpoints past `iteration`, where a run continues, to models/superseded; return their iterations."""
    later = {i: path for i, path in list_checkpoints(run).items() if i > iteration}
    if later:
        target = new_stamped_folder(part_of_run(run, MODELS, SUPERSEDED))
        for path in later.values():
            path.rename(target / path.name)
    return list(later)


def remove_old_checkpoints(run: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints; 0 keeps all."""
    if keep > 0:
        for path in list(list_checkpoints(run).values())[:-keep]:
            remove_folder(path)
