"""Writing files so that a reader never sees half of one (design.md, section 6)."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MAX_JSON_DEPTH = 64  # of what is read; ours has 6

_umask_lock = threading.Lock()


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; flush, sync and rename it when the block ends without an error.

    When the block raises, the temporary file is removed and `path` keeps what it held before.
    """
    path = Path(path)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except FileNotFoundError as error:
        if path.parent.is_dir():  # only places such as /proc say so
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from error
        raise
    try:
        raw = _RememberingFile(descriptor, "wb")
        with io.BufferedWriter(raw) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes it private; a result is as readable as any file
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, RuntimeError) and raw.failure is not None:
            error = raw.failure  # torch.save makes a RuntimeError of it, which does not say that the disk is full
        if isinstance(error, OSError) and error.filename in (None, temporary):
            error.filename = str(path)  # name the file the user knows, not the temporary one
        raise error


class _RememberingFile(io.FileIO):
    """A file that keeps the OSError of a write that failed."""

    failure: OSError | None = None

    def write(self, block: Any) -> int | None:
        try:
            return super().write(block)
        except OSError as error:
            self.failure = error
            raise


def _umask() -> int:
    with _umask_lock:  # it can only be read by being set, and it is the whole process's
        mask = os.umask(0)
        os.umask(mask)
    return mask


def make_folder(folder: Path) -> None:
    """Make `folder` and what is missing above it. Raises: OSError; PermissionError where no folders can be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # its parents are made too: only places such as /proc say so
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder)) from error


@contextlib.contextmanager
def staged_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder inside `folder`, whose files move up into `folder` when the block ends without an error.

    On an error `folder` is as it was: one that was made for the block is gone again.
    """
    folder = Path(folder)
    made = not folder.exists()
    make_folder(folder)
    stage = Path(tempfile.mkdtemp(prefix=".staged.", suffix=".tmp", dir=folder))
    try:
        yield stage
        for path in sorted(stage.iterdir()):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):  # there are files in it
                folder.rmdir()


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Open a file for reading, at once: a pipe without a writer would be waited for, a device may never end.

    Raises: OSError; with EINVAL for what is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "a pipe or a device, not a file", os.fspath(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def parse_json(text: str | bytes) -> Any:
    """Strict JSON that write_json can write again: no NaN, no infinity, at most MAX_JSON_DEPTH levels.

    Raises: ValueError.
    """

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not a number of JSON")

    def number(digits: str) -> float:
        value = float(digits)
        return value if math.isfinite(value) else constant(digits[:40])

    try:
        value = json.loads(text, parse_constant=constant, parse_float=number)
    except RecursionError as error:
        raise ValueError("too many levels") from error
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            item
            for holder in level
            if isinstance(holder, (dict, list))
            for item in (holder.values() if isinstance(holder, dict) else holder)
        ]
    if level:
        raise ValueError(f"more than {MAX_JSON_DEPTH} levels")
    return value


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it; of a link to one, the link."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder)


def leads_out(path: Path, folder: Path) -> bool:
    """Whether `path`, below `folder`, is by its symbolic links something outside of it."""
    real = os.path.realpath(folder)
    return os.path.commonpath([real, os.path.realpath(path)]) != real


def write_bytes(path: str | os.PathLike, payload: bytes) -> None:
    """Write `payload` atomically."""
    with atomic_write(path) as stream:
        stream.write(payload)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text atomically; what UTF-8 cannot hold (file names of other encodings) is escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write strict JSON (no NaN or infinity) atomically, indented for a reader."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def sha256_of(path: str | os.PathLike) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
