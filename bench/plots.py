"""What the modules that draw a benchmark's JSON share: their command, and what they say without matplotlib."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.common import RESULTS
from common.errors import UserError


def without_matplotlib(benchmark: str, path: Path) -> str:
    """The line in place of the plot of `path`, which python -m bench.<benchmark> wrote."""
    return f"no plot: needs matplotlib; pip install matplotlib, then python -m bench.{benchmark}_plot {path}"


def plot_command(
    argv: Sequence[str] | None, benchmark: str, description: str, plot: Callable[[Path], list[str]], folder: str = ""
) -> int:
    """python -m bench.<benchmark>_plot [JSON]: draws it again. Returns the exit code.

    Args:
        plot: draws a file and returns lines that say where, or why not.
        folder: of bench/results that the benchmark writes to.
    Raises: UserError when there is no such file.
    """
    parser = argparse.ArgumentParser(description=description, prog=f"python -m bench.{benchmark}_plot")
    parser.add_argument("path", nargs="?", type=Path, default=RESULTS / folder / f"{benchmark}.json",
                        help=f"what python -m bench.{benchmark} wrote")  # fmt: skip
    path = parser.parse_args(argv).path
    if not path.is_file():
        raise UserError(f"{path}: expected the JSON of python -m bench.{benchmark}, found no file; run that first")
    for line in plot(path):
        print(line)
    return 0
