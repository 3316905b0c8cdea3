"""Trains every sub-folder of --groups_batch_dir that holds maps, and every material of its models, each (a group) in a
process of its own.

    python train.py --groups_batching --groups_batch_dir DIR --groups_save_dir DIR [--groups_max_workers N]

A batch that is started again skips finished groups and continues the others from their last checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
import unicodedata
import uuid
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Union

from tqdm import tqdm

from common.errors import UserError, counted, explain_os_error, one_line
from common.events import TENSORBOARD
from common.parallel import map_threads
from common.stop import StopRequest, stop_signals
from configs import Config
from groups.estimate import dry_run
from groups.gpus import gpus_of
from groups.group import Group
from groups.job import Job, Outcome
from groups.journal import (
    BATCH_CSV,
    BATCH_HTML,
    BATCH_JSON,
    BATCH_LOCK,
    LOCK,
    LOG,
    RECORD,
    RUN_NAME,
    Journal,
    Record,
    batch_lock,
    finished,
    read_record,
    row_of,
    settings_digest,
)
from groups.local import LocalPool, share_threads
from groups.models import groups_of, groups_of_file, models_in
from groups.ray_pool import RayPool, check_cluster
from groups.report import batch_html
from maps.by_hand import MAPS_FILE, named_files
from maps.gltf.container import is_model
from maps.images import IMAGE_SUFFIXES
from maps.names import recognise

SHOWN = 20  # names in a printed list; batch.json has all
TICK_S = 0.2  # between two polls of the running groups
QUEUE_LOOK_S = 2.0  # between two polls of the records of groups that are queued at a cluster
BATCH_FILES = (BATCH_JSON, BATCH_CSV, BATCH_HTML, BATCH_LOCK)
GROUP_FILES = (LOG, RECORD, LOCK, TENSORBOARD)

Pool = Union[LocalPool, RayPool]  # of processes on this machine, or of tasks on a cluster


# --- discovery -----------------------------------------------------------------------------------------------------


def find_groups(
    folder: Path, recursive: bool = False, leave_out: Path | None = None, by_hand: str = ""
) -> list[Group]:
    """All sub-folders of `folder` but hidden ones, and the materials of its models, sorted by name; those without maps
    have the reason in `skipped`. In place of a sub-folder without maps come the models that lie in it.

    Args:
        folder: or a model, whose materials are the groups.
        recursive: sub-folders of sub-folders too, but not those beside a .gltf file, which hold its images.
        leave_out: the save folder, which may lie inside `folder` and holds pictures that are no materials.
        by_hand: the value of --maps.
    Raises: UserError when the folder is missing, or no sub-folder holds a map.
    """
    flag = f"--groups_batch_dir {folder}"
    if is_model(folder):
        groups = list(groups_of(folder))
        if all(group.skipped for group in groups):
            raise UserError(f"{flag}: none of its {counted(len(groups), 'material')} has textures; give another model")
        return groups
    if not folder.is_dir():
        raise UserError(f"{flag}: no such folder; give one with a sub-folder per material")
    hidden = leave_out.resolve() if leave_out is not None else None
    groups = list(_walk(folder, "", recursive, hidden, (os.path.realpath(folder),), named_files(by_hand)))
    if not groups:
        raise UserError(f"{flag}: no sub-folders and no models; put the maps of each material into one")
    if all(group.skipped for group in groups):
        deeper = "" if recursive else ", or give --groups_recursive if they lie deeper"
        raise UserError(
            f"{flag}: none of its {len(groups)} sub-folders and materials holds an image named after a map, such as "
            f"wood_albedo.png; rename the images, say which is which with --maps or a maps.yaml{deeper}"
        )
    return groups


def _walk(
    folder: Path, above: str, recursive: bool, hidden: Path | None, chain: tuple[str, ...], named: frozenset[str]
) -> Iterator[Group]:
    """Groups below `folder`.

    Args:
        chain: the real paths above it, so that a link to one of them ends the descent.
        named: files that make a folder a material, whatever their names say.
    """
    with os.scandir(folder) as entries:
        inside = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in inside:
        path, name = folder / entry.name, f"{above}{entry.name}"
        if not entry.is_dir():
            if not above and is_model(path):  # those in sub-folders: see below
                yield from groups_of_file(path, name)
            continue
        real = os.path.realpath(path)
        if real in chain or (hidden is not None and real == str(hidden)):
            continue
        try:
            holds = holds_maps(path, named)
            models = [] if holds else models_in(path)
            for model in models:
                yield from groups_of_file(path / model, f"{name}/{model}")
            if not models:
                yield Group(name, path, skipped="" if holds else "no image named after a map")
            if recursive and not any(model.lower().endswith(".gltf") for model in models):
                yield from _walk(path, f"{name}/", recursive, hidden, (*chain, real), named)
        except OSError as error:
            yield Group(name, path, failed=explain_os_error(error) or one_line(f"cannot be read: {error.strerror}"))


def holds_maps(folder: Path, named: frozenset[str] = frozenset()) -> bool:
    """Whether a folder itself holds an image named after a map, maps.yaml, or a file of one of these names."""
    with os.scandir(folder) as entries:
        return any(
            not entry.name.startswith(".") and not entry.is_dir()
            and (entry.name == MAPS_FILE or entry.name in named
                 or (os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and recognise(entry.name).parts))
            for entry in entries
        )  # fmt: skip


def check_names(groups: list[Group], batch_dir: Path, save_dir: Path, recursive: bool) -> None:
    """Raise UserError for groups that would share a result folder, or whose folder has the name of a file of the batch.

    Names are compared without case, as Windows and macOS do, because results get copied there.
    """
    flag = f"--groups_save_dir {save_dir}"
    if recursive and save_dir.resolve() == batch_dir.resolve():
        raise UserError(f"{flag}: expected another folder than --groups_batch_dir with --groups_recursive; give one")
    known: dict[str, str] = {}
    for group in groups:
        folded = _folded(group.name)
        if folded in known:
            raise UserError(
                f"{flag}: {known[folded]!r} and {group.name!r} would get the same folder where case does not count; "
                "rename one"
            )
        known[folded] = group.name
    for group in groups:
        parts = _folded(group.name).split("/")
        for depth, part in enumerate(parts):
            in_group = "/".join(parts[:depth]) in known
            taken = BATCH_FILES if depth == 0 else GROUP_FILES if in_group else ()
            if part in taken or (in_group and RUN_NAME.fullmatch(part)):
                raise UserError(f"{flag}: {group.name!r}: a batch has a file or folder of that name; rename it")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


# --- the command ---------------------------------------------------------------------------------------------------


def train_groups(config: Config) -> int:
    """Train every group that is not finished; one that fails does not stop the others.

    Returns: 0 when all are done, 1 when some failed, 128 + signal when interrupted.
    """
    batch_dir, save_dir = Path(config.groups_batch_dir), Path(config.groups_save_dir)
    with stop_signals() as stop:
        found = find_groups(batch_dir, config.groups_recursive, save_dir, config.maps)
        check_names([group for group in found if not group.skipped], batch_dir, save_dir, config.groups_recursive)
        if config.groups_dry_run:
            return preview(config, found)
        if config.groups_backend == "ray":
            check_cluster(config.ray_address)
        with batch_lock(save_dir) as stale:
            if stale:
                say(f"note: {stale}")
            list_groups("skipped", [group for group in found if group.skipped], "skipped")
            return Batch(config, found).run(stop)


def say(text: str) -> None:
    """A line for the user, beside the bar where there is one."""
    with tqdm.external_write_mode(file=sys.stdout):
        print(text, flush=True)


def list_groups(word: str, groups: list[Group], reason: str) -> None:
    """Print a line for each of the first SHOWN groups; `reason` names the attribute of Group that holds it."""
    for group in groups[:SHOWN]:
        say(f"{word}: {one_line(group.name)}: {getattr(group, reason)}")
    if len(groups) > SHOWN:
        say(f"{word}: {len(groups) - SHOWN} more")


def trainable(found: list[Group]) -> list[Group]:
    """Those that are neither skipped nor failed."""
    return [group for group in found if not group.skipped and not group.failed]


def share_machine(config: Config, groups: int) -> tuple[int, int]:
    """How many of so many groups are trained at a time (0 on Ray: as many as there is room for), and threads of each.

    0 threads are all cores. Looks for GPUs, which takes PyTorch.
    """
    if config.groups_backend == "ray":  # each group asks Ray for as many CPUs as it has threads
        workers = config.groups_max_workers if "groups_max_workers" in config.chosen else 0
        return workers, config.num_threads or 1
    return share_threads(config.groups_max_workers, config.num_threads, groups, len(gpus_of(config)))


def make_jobs(config: Config, found: list[Group]) -> dict[str, Job]:
    """The jobs of the groups by name, with the threads of `config`."""
    defaults = {field.name: field.default for field in dataclasses.fields(Config) if field.name.startswith("groups_")}
    shared = dataclasses.replace(config, **defaults, ray_address="")
    settings, batch = settings_digest(shared), uuid.uuid4().hex
    save_dir = Path(config.groups_save_dir).absolute()
    jobs = {}
    for group in trainable(found):
        source = {"data_dir": str(group.source.absolute()), "material": group.material}
        member = dataclasses.replace(shared, **source, save_dir=str(save_dir / group.name))
        jobs[group.name] = Job(group.name, batch, member, settings, config.groups_force)
    return jobs


def preview(config: Config, found: list[Group]) -> int:
    """--groups_dry_run."""
    jobs = make_jobs(config, found)
    for group in found:
        if group.skipped or group.failed:
            state = "skipped" if group.skipped else "fails"
            say(f"{state:<8}  {one_line(group.name)}: {group.skipped or group.failed}")
    return dry_run(list(jobs.values()), lambda: share_machine(config, len(jobs)), say)


class Batch:
    """One start of a batch."""

    def __init__(self, config: Config, found: list[Group]):
        self.config = config
        self.workers, num_threads = share_machine(config, len(trainable(found)))
        self.jobs = make_jobs(dataclasses.replace(config, num_threads=num_threads), found)
        rows = [row_of(group.name, "skipped" if group.skipped else "failed" if group.failed else "waiting",
                       group.skipped or group.failed) for group in found]  # fmt: skip
        self.journal = Journal(Path(config.groups_save_dir), Path(config.groups_batch_dir), config, rows, batch_html)
        self.failed = {group.name: group.failed for group in found if group.failed}
        self.tails: dict[str, LogTail] = {}  # of the groups that are running or queued
        self.queued: dict[str, Job] = {}  # sent to a cluster, not known to have begun
        self.next_look = 0.0

    def run(self, stop: StopRequest) -> int:
        """See train_groups."""
        try:
            self.find_finished(stop)
            waiting = deque(job for name, job in self.jobs.items() if self.journal.rows[name]["status"] != "done")
            before = len(self.jobs) - len(waiting)
            if before:
                say(f"{before} of {len(self.jobs)} materials were finished before")
            if waiting and not stop.requested:
                self.train_all(waiting, before, stop)
        finally:
            self.journal.close()
        self.print_summary()
        if stop.requested:
            return 128 + stop.signal_number
        return 1 if self.failed else 0

    def find_finished(self, stop: StopRequest) -> None:
        """Mark the groups that an earlier batch finished from the same images with the same settings."""
        if self.config.groups_force:
            return

        def look(job: Job) -> tuple[Job, Record | None]:
            return job, finished(job.folder, Path(job.config.data_dir), job.config, job.settings)

        for job, record in map_threads(look, self.jobs.values()):
            if stop.requested:
                return
            if record is not None:
                self.journal.set(row_of(job.name, "done", record=record))

    def train_all(self, waiting: deque[Job], done: int, stop: StopRequest) -> None:
        """Train the waiting groups until all are done or a signal comes; `done` were finished before."""
        bar = tqdm(
            total=len(self.jobs), initial=done, unit="material", disable=not sys.stderr.isatty(), dynamic_ncols=True
        )
        stopping = False
        with bar, self.pool() as pool:
            while pool.busy or (waiting and not stopping):
                if stop.requested and not stopping:
                    stopping = True
                    pool.stop()
                while waiting and pool.free and not stopping:
                    self.begin(pool, waiting.popleft())
                self.name_running(bar)
                self.journal.write()
                for job, outcome in pool.wait(TICK_S):
                    self.end(job, outcome, stopping)
                    bar.update(outcome.status != "stopped")
                self.look_at_queue()
                for tail in self.tails.values():
                    tail.show()

    def name_running(self, bar: tqdm) -> None:
        """Show the names of the running groups beside the bar."""
        working = [one_line(name) for name in self.tails if name not in self.queued]
        bar.set_description(", ".join(working[:3]) + f" and {len(working) - 3} more" * (len(working) > 3))

    def pool(self) -> Pool:
        """The pool that --groups_backend names."""
        if self.config.groups_backend == "ray":
            return RayPool(self.config, self.workers, say)
        return LocalPool(self.workers, gpus_of(self.config))

    def begin(self, pool: Pool, job: Job) -> None:
        """Start a group."""
        self.tails[job.name] = LogTail(job, self.config.groups_verbose)
        pool.start(job)
        if pool.queues:
            self.queued[job.name] = job
        else:
            self.journal.set(row_of(job.name, "running"))

    def look_at_queue(self) -> None:
        """Mark queued groups as running once their record on disk names this batch."""
        if not self.queued or time.monotonic() < self.next_look:
            return
        for name, job in list(self.queued.items()):
            record = read_record(job.folder)
            if record is not None and record.batch == job.batch:
                del self.queued[name]
                self.journal.set(row_of(name, "running"))
        self.next_look = time.monotonic() + QUEUE_LOOK_S

    def end(self, job: Job, outcome: Outcome, stopping: bool) -> None:
        """Record the outcome of a group and print it in a line."""
        self.tails.pop(job.name).show()
        self.queued.pop(job.name, None)
        name, record, reason = one_line(job.name), outcome.record, outcome.reason
        run = Path(self.config.groups_save_dir) / job.name / record.run if record and record.run else None
        if outcome.status == "done":
            self.journal.set(row_of(job.name, "done", record=record))
            scores = f"PSNR {record.psnr['all']:.2f} dB, {record.bpp:.2f} bpp, {record.seconds:.0f} s"
            say(f"{name}: {scores}, {one_line(str(run))}")
            return
        if outcome.status == "stopped" and stopping:
            self.journal.set(row_of(job.name, "waiting", reason, record))
            where = f" at iteration {record.iteration}; saved in {one_line(str(run))}" if run else f": {reason}"
            say(f"{name}: interrupted{where}")
            return
        if outcome.status == "stopped":
            reason = f"{reason} by a signal from outside; start the batch again to go on"
        self.failed[job.name] = reason
        self.journal.set(row_of(job.name, "failed", reason, record))
        say(f"{name}: failed: {reason}")

    def print_summary(self) -> None:
        """Print how many groups are trained, then a line for each failure."""
        total = len(self.journal.rows) - self.journal.count("skipped")
        say(f"{self.journal.count('done')} of {total} materials trained, in {one_line(self.config.groups_save_dir)}")
        if self.journal.problem:
            say(f"note: {BATCH_JSON} is not up to date: {self.journal.problem}")
        for name, reason in self.failed.items():
            say(f"failed: {one_line(name)}: {reason}")


class LogTail:
    """Prints the new lines of a group's log with the group's name before them, for --groups_verbose."""

    def __init__(self, job: Job, verbose: bool):
        self.path, self.prefix, self.verbose = job.folder / LOG, f"[{one_line(job.name)}] ", verbose
        self.position = self.path.stat().st_size if verbose and self.path.is_file() else 0

    def show(self) -> None:
        """Print the lines that have been completed since the last call."""
        if not self.verbose:
            return
        with contextlib.suppress(OSError), self.path.open("rb") as log:
            log.seek(self.position)
            lines, newline, _ = log.read().rpartition(b"\n")
            self.position += len(lines) + len(newline)
            for line in lines.decode("utf-8", "backslashreplace").split("\n") if newline else ():
                say(self.prefix + line)
