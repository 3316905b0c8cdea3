"""Standard streams that may be closed, lost or full, in a process that has better things to do than to print."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NULL_MODES = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)  # of descriptors 0, 1 and 2


def open_missing_streams() -> None:
    """Open descriptors 0, 1 and 2 on the null device where they are closed, and sys.stdout and sys.stderr likewise.

    A process may start without them (`2>&-`, a service, pythonw). The next file that it opens gets the free number, and
    whatever native code then writes to "stderr" goes into that file. So this runs before anything stays open.
    """
    for number, mode in enumerate(NULL_MODES):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)
            if opened == number:
                os.set_inheritable(opened, True)  # child processes need them as much
            else:
                os.dup2(opened, number)
                os.close(opened)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


class SafeStream:
    """A text stream whose failures do not repeat: after the first one its descriptor leads to the null device.

    Nothing else would do, as Python flushes what is left in the buffer when the process ends.

    Args:
        give_up: the writer never learns of the failure; else the OSError is raised, once.
    """

    def __init__(self, stream: Any, give_up: bool):
        self.stream, self.give_up = stream, give_up
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        return self._attempt(self.stream.write, text) or len(text)

    def flush(self) -> None:
        self._attempt(self.stream.flush)

    def _attempt(self, call: Any, *arguments: str) -> Any:
        try:
            return call(*arguments)
        except OSError as error:
            self.failure = error
            with contextlib.suppress(OSError, ValueError):  # no descriptor, as in a notebook
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self.stream.fileno())
                os.close(null)
            if not self.give_up:
                raise
        return None


@contextlib.contextmanager
def safe_streams(give_up: bool) -> Iterator[SafeStream]:
    """sys.stdout and sys.stderr as SafeStreams; errors of stderr are always given up. Yields: that of stdout.

    A name that the terminal cannot show is escaped: it must not end a run.
    """
    open_missing_streams()
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = SafeStream(sys.stdout, give_up), SafeStream(sys.stderr, True)
    try:
        yield sys.stdout
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
