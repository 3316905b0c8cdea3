"""What every benchmark shares: where it ran, and how its result is written."""

from __future__ import annotations

import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import write_json

RESULTS = Path("bench/results")
GPU_SIZES = (1024, 2048, 4096, 8192)  # widths of the square materials that bench.engines measures on a GPU


def machine() -> dict[str, Any]:
    """The machine and the code that a figure belongs to."""
    import torch

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    try:
        git = ["git", "describe", "--always", "--dirty"]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the flags that every benchmark on materials takes."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    result.add_argument("folders", nargs="+", help="material folders")
    result.add_argument("--out", default=str(RESULTS), help="folder for the JSON")
    result.add_argument("--num_threads", type=int, default=0, help="CPU threads; 0: PyTorch's choice")
    return result


def use_threads(count: int) -> None:
    """Honour --num_threads. Raises: UserError for a negative one."""
    if count < 0:
        raise UserError(f"--num_threads: expected 0 or more, got {count}")
    if count:
        import torch

        torch.set_num_threads(count)


def median_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(over, under))


def table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str, str]], units: Mapping[str, float] | None = None
) -> str:
    """Rows as aligned lines below a heading.

    Args:
        columns: (heading, key of the rows, format); what a row does not have, or has as None, is a dash.
        units: key -> what its numbers are divided by.
    """
    units = units or {}
    cells = [[heading for heading, _, _ in columns]]
    for row in rows:
        values = [(row.get(key), key, form) for _, key, form in columns]
        cells.append(["-" if v is None else form.format(v / units[k] if k in units else v) for v, k, form in values])
    widths = [max(len(line[column]) for line in cells) for column in range(len(columns))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in cells)


def save(name: str, out: str, settings: dict[str, Any], entries: list[dict[str, Any]]) -> Path:
    """Write out/<name>.json with machine and settings."""
    path = Path(out) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"benchmark": name, "machine": machine(), "settings": settings, "entries": entries})
    return path

