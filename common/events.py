"""What a user watches while something trains: a progress bar, and the folder of TensorBoard's event files."""

from __future__ import annotations

import contextlib
import os
import sys
import weakref

from tqdm import tqdm

TENSORBOARD = "tensorboard"


def progress_bar(total: int, initial: int, quiet: bool = False, what: str = "training") -> tqdm:
    """A bar with iteration, it/s and ETA on stderr; hidden where stderr is no terminal.

    It has a descriptor of its own: while images are decoded in threads, what the process writes to stderr is discarded.
    """
    shown = not quiet and sys.stderr.isatty()
    stream = sys.stderr
    if shown:
        with contextlib.suppress(OSError):  # a stream without a file
            stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="replace")
    bar = tqdm(
        total=total,
        initial=initial,
        disable=not shown,
        file=stream,
        unit="it",
        dynamic_ncols=True,
        desc=what,
        smoothing=0.1,
    )
    if stream is not sys.stderr:
        weakref.finalize(bar, stream.close)
    return bar


def readable_bytes(count: float) -> str:
    """1536 -> '1.5 KiB'."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
