"""The state of a batch on disk: group.json in the folder of each group, batch.json, batch.csv and batch.html of all.

A batch that is started again decides by group.json what is left to do. The process that trains a group writes it, so a
batch whose own process died, or whose machine is gone, loses nothing.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from common.errors import Say, UserError, explain_os_error
from common.events import TENSORBOARD
from common.files import make_folder, sha256_of, write_json, write_text
from configs import CALL, FIELDS, Config, to_dict
from formats.manifest import MANIFEST, read_manifest, verify_files
from maps.channels import MAPS, canonical
from maps.extras import Extras
from maps.source import open_source
from training.plan import kept_defaults
from training.run_folder import CHECKPOINT, MODELS, SUPERSEDED

RECORD = "group.json"
RECORD_VERSION = 1
LOG = "log.txt"
LOCK = "group.lock"
BATCH_JSON, BATCH_CSV, BATCH_HTML, BATCH_LOCK = "batch.json", "batch.csv", "batch.html", "batch.lock"
BATCH_FORMAT, BATCH_VERSION = "neural-texture-batch", 1
RUN_NAME = re.compile(r"\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d(-\d+)?")  # of run_folder.new_stamped_folder
TEMPORARY = re.compile(r"\..+\.tmp")  # of files.atomic_write and checkpoint.save_checkpoint
REPLACED = re.compile(r"\.(train_result_\d+)\.\d+\.old")  # of checkpoint.save_checkpoint
MAX_RECORD_BYTES = 1 << 20
LOCK_WAIT_S = 600  # a process of an earlier batch may still be saving; an evaluation of 16384² takes minutes
# Between two writes of batch.json: the longer of SHORTEST_PAUSE_S and PAUSE_FACTOR times the last write's duration.
SHORTEST_PAUSE_S = 1.0
PAUSE_FACTOR = 20
# Settings that change no result: where the images are, where results go, and what computes them.
NO_SETTINGS = (*CALL, "data_dir", "material", "save_dir", "num_threads")
# settings that the records of earlier versions do not know
NEWER = ("maps", "size", "latents", "positions", "extra_maps", "extra_map", "weight_bits", "weight_round_start",
         "network", "activation_bits", "shader_precision", "cpu_precision")  # fmt: skip

Report = Callable[[Path, Mapping[str, Any], Sequence[Mapping[str, Any]]], str]  # see `Journal`


@dataclasses.dataclass
class Record:
    """group.json: the progress of a group, and the images and settings that its result was made from."""

    status: str  # running, done, failed; "running" without a process that holds the lock: that process died
    batch: str  # the batch that began it
    settings: str  # settings_digest of its configuration
    sources: dict[str, dict[str, Any]]  # see `source_facts`
    older: list[str]  # run folders from other settings or images; never resumed
    host: str  # machine of the last process that trained it
    process: int  # its id
    reason: str = ""
    run: str = ""  # name of the run folder; empty before there is one
    iteration: int = 0
    sha256: str = ""  # see `result_digest`
    psnr: dict[str, float | None] = dataclasses.field(default_factory=dict)  # LOD 0: all, and per map, dB
    bpp: float | None = None
    bytes: int | None = None  # of the exported files
    seconds: float = 0.0

    def checkpoint(self, folder: Path) -> Path:
        """The checkpoint folder of the result, in the group's folder."""
        return folder / self.run / MODELS / f"train_result_{self.iteration}"


_KINDS: dict[str, tuple[type, ...]] = {
    "status": (str,), "batch": (str,), "settings": (str,), "sources": (dict,), "older": (list,), "host": (str,),
    "process": (int,), "reason": (str,), "run": (str,), "iteration": (int,), "sha256": (str,), "psnr": (dict,),
    "bpp": (int, float, type(None)), "bytes": (int, type(None)), "seconds": (int, float),
}  # fmt: skip


def read_record(folder: Path) -> Record | None:
    """The record of a group's folder; None where there is none, or one that is damaged or of another version."""
    path = folder / RECORD
    try:
        if path.stat().st_size > MAX_RECORD_BYTES:
            return None
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.pop("version", None) != RECORD_VERSION:
            return None
        record = Record(**values)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    if not all(isinstance(getattr(record, name), kinds) for name, kinds in _KINDS.items()):
        return None
    return None if record.run and not RUN_NAME.fullmatch(record.run) else record


def write_record(folder: Path, record: Record) -> None:
    """Write group.json, atomically."""
    write_json(folder / RECORD, {"version": RECORD_VERSION, **dataclasses.asdict(record)})


# --- images, settings and results ------------------------------------------------------------------------------------


def settings_digest(config: Config) -> str:
    """A hash of the settings that decide a group's result, the same as in earlier versions where they had them all."""
    values = {name: value for name, value in to_dict(config).items() if name not in NO_SETTINGS}
    values = {name: value for name, value in values.items() if name not in NEWER or value != FIELDS[name].default}
    if kept := kept_defaults(config):
        values["kept_defaults"] = kept
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def source_facts(
    source: Path, config: Config, known: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, dict[str, Any]]:
    """Bytes, times in ns and SHA-256 of each file that the maps of a folder are read from, by file name.

    Of a model there is one entry: the bytes of all its files, their latest times, and a hash of the material alone, so
    that another material, or another mesh, does not matter.

    Args:
        config: says which maps are read.
        known: earlier facts. A file of the same size and times is not read again: every write changes ctime, which no
            program can set back.
    Raises: UserError or OSError when the folder holds no maps or cannot be read.
    """
    facts = {}
    for name, (paths, digest) in open_source(source, config.maps, config.material).files(Extras.of(config)).items():
        states = [path.stat() for path in paths]
        entry = {"bytes": sum(state.st_size for state in states), "mtime_ns": max(s.st_mtime_ns for s in states),
                 "ctime_ns": max(s.st_ctime_ns for s in states)}  # fmt: skip
        before = (known or {}).get(name)
        if isinstance(before, dict) and {**before, **entry} == before:
            entry = dict(before)
        else:
            entry["sha256"] = digest()
        facts[name] = entry
    return facts


def changed_sources(known: Mapping[str, Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the files that were added, removed or changed."""
    digests = [{name: entry.get("sha256") for name, entry in facts.items()} for facts in (known, found)]
    return sorted(name for name in {**digests[0], **digests[1]} if digests[0].get(name) != digests[1].get(name))


def result_digest(checkpoint: Path) -> str:
    """SHA-256 of the manifest, which holds those of all other files; of model.pth for a run with --quantize False."""
    manifest = checkpoint / MANIFEST
    return sha256_of(manifest if manifest.is_file() else checkpoint / CHECKPOINT)


def damage(folder: Path, record: Record) -> str | None:
    """What is wrong with the files of a finished result, in one line; None when every file has the right hash."""
    checkpoint = record.checkpoint(folder)
    try:
        if not record.run or result_digest(checkpoint) != record.sha256:
            return f"{checkpoint}: not the files that were written there"
        verify_result(checkpoint)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{checkpoint}: cannot be read ({error.strerror})"
    return None


def verify_result(checkpoint: Path) -> None:
    """Compare the exported files of a checkpoint, where it has any, with the hashes in their manifest.

    Raises: UserError that names the files that are missing or differ.
    """
    if not (checkpoint / MANIFEST).is_file():
        return
    verify_files(checkpoint, read_manifest(checkpoint))


def finished(folder: Path, source: Path, config: Config, settings: str, refresh: bool = True) -> Record | None:
    """The record of a group whose result is intact and was made from these images and settings; None for others.

    Args:
        config: says which maps are read.
        settings: settings_digest of today's configuration.
        refresh: update the record of images whose times have changed and whose bytes have not.
    """
    record = read_record(folder)
    if record is None or record.status != "done" or record.settings != settings:
        return None
    try:
        facts = source_facts(source, config, record.sources)
        if changed_sources(record.sources, facts) or damage(folder, record):
            return None
        if facts != record.sources and refresh:
            record.sources = facts
            write_record(folder, record)
    except (UserError, OSError):
        return None
    return record


# --- run folders of a group ----------------------------------------------------------------------------------------


def run_folders(folder: Path) -> list[Path]:
    """The run folders of a group, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if RUN_NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: (path.name[:19], int(path.name[20:] or 1)))  # -2, ... within one second


def remove_run(run: Path) -> None:
    """Delete a run folder and its TensorBoard events."""
    shutil.rmtree(run, ignore_errors=True)
    shutil.rmtree(run.parent / TENSORBOARD / run.name, ignore_errors=True)


def clean(folder: Path) -> None:
    """Remove the temporary files of a killed process, and rename a checkpoint that it was replacing back to its name.

    The caller holds the group's lock.
    """
    if not folder.is_dir():
        return
    inside = list(folder.iterdir())
    for run in run_folders(folder):
        inside += [path for top in (run, run / MODELS, run / "media", run / MODELS / SUPERSEDED) if top.is_dir()
                   for path in top.iterdir()]  # fmt: skip
    for path in inside:
        replaced = REPLACED.fullmatch(path.name)
        if replaced and not path.with_name(replaced[1]).exists():  # killed between the two renames
            path.rename(path.with_name(replaced[1]))
        elif replaced or (TEMPORARY.fullmatch(path.name) and path.is_dir() and not path.is_symlink()):
            shutil.rmtree(path, ignore_errors=True)
        elif TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()


# --- locks ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def batch_lock(save_dir: Path) -> Iterator[str | None]:
    """Lock a save folder against other batches. The lock is released however this process ends.

    Yields: a line about an earlier batch that was killed, else None.
    Raises: UserError when another batch holds the lock.
    """
    make_folder(save_dir)
    lock = filelock.FileLock(str(save_dir / BATCH_LOCK))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"--groups_save_dir {save_dir}: another batch works there{_holder(save_dir)}; wait for its end, or give "
            "another folder"
        ) from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and explain_os_error(error):
            raise
        raise UserError(f"--groups_save_dir {save_dir}: no locks in its file system ({error}); give another") from error
    try:
        before = read_batch(save_dir)
        stale = before is not None and not before.get("ended")
        note = f"the last batch in {save_dir} did not end by itself{_holder(save_dir)}; going on from there"
        yield note if stale else None
    finally:
        lock.release()


def _holder(save_dir: Path) -> str:
    process = (read_batch(save_dir) or {}).get("process")
    if not isinstance(process, dict):
        return ""
    return f" (process {process.get('id')!s:.20} on {process.get('host')!s:.80}, since {process.get('started')!s:.40})"


@contextlib.contextmanager
def group_lock(folder: Path, wait_s: float = LOCK_WAIT_S, say: Say = print) -> Iterator[None]:
    """Lock a group's folder: a process of a killed batch may still be saving there, or one on a node that Ray lost.

    Raises: UserError when another process holds the lock for more than `wait_s` seconds.
    """
    lock = filelock.FileLock(str(folder / LOCK))
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if wait_s:
                say("waiting for a process of an earlier batch, which is still saving")
            lock.acquire(timeout=wait_s)
    except filelock.Timeout:
        raise UserError(f"{folder}: another process has worked there for {wait_s:.0f} s; end it first") from None
    try:
        yield
    finally:
        lock.release()


def settle(folder: Path, reason: str) -> None:
    """Clean the folder of a group whose process died and record the failure, unless another process has its lock."""
    with contextlib.suppress(OSError, UserError), group_lock(folder, wait_s=0):
        clean(folder)
        with (folder / LOG).open("a", encoding="utf-8", errors="backslashreplace") as log:
            print(f"failed: {reason}", file=log)
        record = read_record(folder)
        if record is not None and record.status == "running":
            record.status, record.reason = "failed", reason
            write_record(folder, record)


# --- the whole batch -----------------------------------------------------------------------------------------------


def row_of(name: str, status: str, reason: str = "", record: Record | None = None) -> dict[str, Any]:
    """A group's entry in batch.json; `run` is relative to the save folder."""
    row = {"name": name, "status": status, "reason": reason, "psnr": {}, "bpp": None, "bytes": None, "seconds": None,
           "run": None}  # fmt: skip
    if record is not None and record.run:
        row["run"] = f"{name}/{record.run}"
    if record is not None and status == "done":
        row.update(psnr=record.psnr, bpp=record.bpp, bytes=record.bytes, seconds=round(record.seconds, 3))
    return row


def read_batch(save_dir: Path) -> dict[str, Any] | None:
    """The content of batch.json; None where there is no such file of a batch."""
    try:
        values = json.loads((save_dir / BATCH_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) and values.get("format") == BATCH_FORMAT else None


class Journal:
    """The state of a batch, kept in batch.json, batch.csv and batch.html.

    Args:
        rows: entries of the groups, from `row_of`.
        report: (save_dir, head, rows) -> the text of batch.html.
    """

    def __init__(
        self, save_dir: Path, batch_dir: Path, config: Config, rows: Sequence[dict[str, Any]], report: Report
    ):
        self.save_dir, self.report = save_dir, report
        settings = {name: value for name, value in to_dict(config).items() if name not in NO_SETTINGS}
        self.started = _now()
        process = {"id": os.getpid(), "host": socket.gethostname(), "started": self.started}
        self.head = {"format": BATCH_FORMAT, "version": BATCH_VERSION, "batch_dir": str(batch_dir), "process": process,
                     "ended": None, "settings": settings}  # fmt: skip
        self.rows = {row["name"]: row for row in rows}
        self.problem: str | None = None  # why the last write failed
        self._changed, self._due, self._report_due = True, 0.0, 0.0

    def set(self, row: dict[str, Any]) -> None:
        """Replace the entry of a group."""
        self.rows[row["name"]] = row
        self._changed = True

    def count(self, status: str) -> int:
        """How many groups have this status."""
        return sum(row["status"] == status for row in self.rows.values())

    def close(self) -> None:
        """Write the final state."""
        self.head["ended"] = _now()
        self._changed, self._due, self._report_due = True, 0.0, 0.0
        self.write()

    def write(self) -> None:
        """Write the files if anything has changed and the pause since the last write is over.

        A full disk does not end the batch: `problem` holds the reason, and the files stay as they were.
        """
        now = time.monotonic()
        if not self._changed or now < self._due:
            return
        try:
            write_text(self.save_dir / BATCH_JSON, self._json())
            write_text(self.save_dir / BATCH_CSV, batch_csv(self.rows.values()))
            spent = time.monotonic() - now
            if now >= self._report_due:
                write_text(self.save_dir / BATCH_HTML, self.report(self.save_dir, self.head, list(self.rows.values())))
                self._report_due = now + max(10 * SHORTEST_PAUSE_S, PAUSE_FACTOR * (time.monotonic() - now))
            self.problem, self._changed = None, False
            self._due = now + max(SHORTEST_PAUSE_S, PAUSE_FACTOR * spent)
        except OSError as error:
            self.problem = explain_os_error(error) or f"{error}"
            self._due = now + SHORTEST_PAUSE_S

    def _json(self) -> str:
        """The text of batch.json, one line per group: json.dumps with an indent takes seconds for 10 000 groups."""
        head = json.dumps({**self.head, "updated": _now()}, indent=2, allow_nan=False, ensure_ascii=False)
        rows = ",\n".join("    " + json.dumps(row, allow_nan=False, ensure_ascii=False) for row in self.rows.values())
        return f'{head[:-2]},\n  "groups": [\n{rows}\n  ]\n}}\n'


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def batch_csv(rows: Iterator[Mapping[str, Any]]) -> str:
    """A table of the groups, with a column per map's PSNR in dB."""
    stream, rows = io.StringIO(), list(rows)
    writer = csv.writer(stream, lineterminator="\n")
    maps = ("all", *MAPS, *canonical({name for row in rows for name in row["psnr"]} - {"all", *MAPS}))
    writer.writerow(["name", "status", "reason", *(f"psnr_{name}" for name in maps), "bpp", "bytes", "seconds", "run"])
    for row in rows:
        psnr = [row["psnr"].get(name) for name in maps]
        writer.writerow([row["name"], row["status"], row["reason"], *psnr, row["bpp"], row["bytes"], row["seconds"],
                         row["run"]])  # fmt: skip
    return stream.getvalue()
