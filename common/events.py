"""What a user watches while something trains: a progress bar, and the folder of TensorBoard's event files."""

from __future__ import annotations

import sys

from tqdm import tqdm

TENSORBOARD = "tensorboard"


def progress_bar(total: int, initial: int, quiet: bool = False, what: str = "training") -> tqdm:
    """A bar with iteration, it/s and ETA on stderr; hidden where stderr is no terminal."""
    return tqdm(
        total=total,
        initial=initial,
        disable=quiet or not sys.stderr.isatty(),
        unit="it",
        dynamic_ncols=True,
        desc=what,
        smoothing=0.1,
    )


def readable_bytes(count: float) -> str:
    """1536 -> '1.5 KiB'."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
