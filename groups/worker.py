"""Trains one group, in a process of this machine or as a task of a cluster.

The folder of the group decides what is done: a finished group is left alone, one that was begun continues from its last
checkpoint.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # noqa: F401  # before torch

import contextlib
import dataclasses
import faulthandler
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from common.errors import Say, UserError, explain, one_line
from common.files import make_folder
from formats.manifest import MANIFEST, read_manifest
from groups.job import Job, Outcome, is_begun, is_forced
from groups.journal import (
    LOG,
    Record,
    changed_sources,
    clean,
    damage,
    finished,
    group_lock,
    read_record,
    remove_run,
    result_digest,
    run_folders,
    source_facts,
    verify_result,
    write_record,
)
from training.checkpoint import Checkpoint, load_checkpoint
from training.run_folder import list_checkpoints
from training.start import train_material
from training.state import is_complete
from training.summary import Result


def train_group(job: Job) -> Outcome:
    """Train or continue a group; output goes to its log. Every exception becomes an outcome with a one-line reason."""
    try:
        make_folder(job.folder)
        with (job.folder / LOG).open("a", encoding="utf-8", errors="backslashreplace") as log, _streams_to(log):
            return _reported(job, log)
    except OSError as error:  # the log itself
        return Outcome("failed", _reason(error))


def _reported(job: Job, log: TextIO) -> Outcome:
    """Call `_train`; a failure is written to the log and to the record."""

    def say(text: str) -> None:
        print(text, file=log, flush=True)

    try:
        with group_lock(job.folder, say=say):
            try:
                return _train(job, say)
            except SystemExit:  # by SIGTERM, which may leave a temporary file anywhere
                clean(job.folder)
                raise
            except Exception as error:
                reason = _reason(error)
                if not isinstance(error, OSError) and explain(error) is None:  # a bug: log it, the other groups go on
                    traceback.print_exc(file=log)
                _record_failure(job, reason)
                raise
    except Exception as error:
        reason = _reason(error)
        with contextlib.suppress(OSError):
            say(f"failed: {reason}")
        return Outcome("failed", reason)


def _reason(error: Exception) -> str:
    hint = "" if isinstance(error, OSError) else f" (see {LOG})"
    return explain(error) or one_line(f"{type(error).__name__}: {error}{hint}")


def _record_failure(job: Job, reason: str) -> None:
    record = read_record(job.folder)
    if record is not None and record.batch == job.batch:
        with contextlib.suppress(OSError):  # on a full disk the record stays "running"
            write_record(job.folder, dataclasses.replace(record, status="failed", reason=reason))


def _train(job: Job, say: Say) -> Outcome:
    """Bring a group from the state of its folder to its result; the caller holds the lock."""
    started = time.perf_counter()
    folder, source = job.folder, Path(job.config.data_dir)
    clean(folder)
    before = read_record(folder)
    done = None if is_forced(job, before) else finished(folder, source, job.config, job.settings)
    if done is not None:
        return Outcome("done", record=done)
    facts = source_facts(source, job.config, before.sources if before else None)
    begun = is_begun(job, before, facts)
    older = before.older if begun else [run.name for run in run_folders(folder)]
    if begun and before.status == "done":  # but `finished` refused it: its files are damaged
        say(f"note: {damage(folder, before)}; trained again")
        older = [*older, before.run]
    record = Record("running", job.batch, job.settings, facts, older, socket.gethostname(), os.getpid())
    write_record(folder, record)

    checkpoint = _last_checkpoint(job, older, say)
    if checkpoint is not None and is_complete(checkpoint):
        result = _result_of(checkpoint)
    elif checkpoint is not None:
        result = _continue(job, checkpoint, say)
    else:
        result = train_material(job.config, say, quiet=True)
    earlier = checkpoint.training["seconds"] if checkpoint is not None else 0.0
    record.run, record.iteration = result.run.name, result.iteration
    record.seconds = earlier + time.perf_counter() - started
    if not result.completed:
        return Outcome("stopped", f"stopped at iteration {result.iteration}", record)
    changed = changed_sources(facts, source_facts(source, job.config, facts))
    if changed:
        raise UserError(f"{', '.join(changed)}: changed while it was trained on; start the batch again")
    _complete(record, folder, result)
    write_record(folder, record)
    return Outcome("done", record=record)


def _last_checkpoint(job: Job, older: list[str], say: Say) -> Checkpoint | None:
    """The newest readable checkpoint of the runs that are not in `older`; runs without one are removed.

    A search for a rate (--target_psnr, --match) cannot continue from a checkpoint: its runs are removed.
    """
    for run in reversed([run for run in run_folders(job.folder) if run.name not in older]):
        if not (job.config.target_psnr or job.config.match):
            for iteration in reversed(list_checkpoints(run)):
                try:
                    checkpoint = load_checkpoint(run, iteration)
                    if is_complete(checkpoint):  # the export matters only where the checkpoint is the result
                        verify_result(checkpoint.path)
                    return checkpoint
                except UserError as error:
                    say(f"note: {error}")
        remove_run(run)
    return None


def _continue(job: Job, checkpoint: Checkpoint, say: Say) -> Result:
    """Continue a checkpoint of the same settings with the folders and threads of this job."""
    run, today = checkpoint.path.parent.parent, frozenset({"data_dir", "material", "save_dir", "num_threads"})
    config = dataclasses.replace(job.config, load_dir=str(run), load_iter=checkpoint.iteration, chosen=today)
    return train_material(config, say, quiet=True)


def _result_of(checkpoint: Checkpoint) -> Result:
    """The result of a complete checkpoint, whose process ended before it was recorded."""
    material = checkpoint.material
    rates = checkpoint.model.bits_per_texel(material.width, material.height)
    run = checkpoint.path.parent.parent
    return Result(run, checkpoint.iteration, checkpoint.metrics, rates, checkpoint.training["seconds"])


def _complete(record: Record, folder: Path, result: Result) -> None:
    record.status = "done"
    record.psnr, record.bpp = dict(result.metrics["psnr"]), result.rates["bpp"]
    checkpoint = record.checkpoint(folder)
    record.sha256 = result_digest(checkpoint)
    if (checkpoint / MANIFEST).is_file():
        record.bytes = read_manifest(checkpoint).bytes_on_disk
    else:
        record.bytes = sum(path.stat().st_size for path in checkpoint.iterdir())


@contextlib.contextmanager
def _streams_to(log: TextIO) -> Iterator[None]:
    """Redirect stdout and stderr of this process to the log, by file descriptor, so that native code is included."""

    saved = []
    try:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream without a descriptor
                stream.flush()
                number = stream.fileno()
                saved.append((number, os.dup(number)))
                os.dup2(log.fileno(), number)
        faulthandler.enable(log)
        yield
    finally:
        faulthandler.disable()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)
