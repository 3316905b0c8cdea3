"""Samples per second by size and engine, as a picture of what bench.engines wrote.

    python -m bench.engines_plot [bench/results/engines.json or engines_gpu.json]

Needs matplotlib, which nothing else in this repository does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.plots import plot_command, without_matplotlib
from common.errors import run_command


def plot(path: str | Path) -> str:
    """Draw the sizes of engines.json into a PNG beside it. Returns a line that says where, or why not."""
    path = Path(path)
    result = json.loads(path.read_text(encoding="utf-8"))
    rows = [entry for entry in result["entries"] if entry["part"] == "size"]
    if not rows:
        return "no plot: no sizes were measured"
    try:
        from matplotlib.figure import Figure  # without pyplot: no window system is asked for
    except ImportError:
        return without_matplotlib("engines", path)
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log", xlabel="material, texels", ylabel="samples per second")
    for engine, marker in zip(dict.fromkeys(row["engine"] for row in rows), "sovD^"):
        line = [row for row in rows if row["engine"] == engine]
        rates = [row["samples_per_second"] for row in line]
        batches = [row["samples_per_second"] * row["milliseconds"] for row in line]
        spread = [[rate - batch / row["slowest"] for rate, batch, row in zip(rates, batches, line)],
                  [batch / row["fastest"] - rate for rate, batch, row in zip(rates, batches, line)]]  # fmt: skip
        axes.errorbar([row["size"] for row in line], rates, spread, marker=marker, capsize=3, label=engine)
    sizes = sorted({row["size"] for row in rows})
    axes.set_xticks(sizes, [f"{size}²" for size in sizes], minor=False)
    axes.set_xticks([], minor=True)
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    machine, gpu = result["machine"], result.get("settings", {}).get("facts", {}).get("device")
    where = gpu or f"{machine['processor']}, {rows[0]['threads']} threads"
    facts = (where, machine["commit"])
    axes.set_title(", ".join(filter(None, facts)), fontsize=9)
    target = path.with_suffix(".png")
    figure.savefig(target, dpi=150)
    return str(target)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    return plot_command(argv, "engines", __doc__.splitlines()[0], lambda path: [plot(path)])


if __name__ == "__main__":
    sys.exit(run_command(main))
