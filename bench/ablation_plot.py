"""The training curves of python -m bench.ablation as a picture: PSNR over seconds and over iterations.

    python -m bench.ablation_plot [bench/results/ablation.json]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.plots import plot_command, without_matplotlib
from common.errors import one_line, run_command

OURS = {"color": "black", "linewidth": 2.4, "zorder": 4}
SHOWN_DB = 12  # below the best: where curves end lies within a few dB, and they begin far below
AXES = (("seconds", "seconds of training"), ("iteration", "iterations"))


def draw(result: Mapping[str, Any]) -> Any:
    """A matplotlib figure with one row per material. Raises: ImportError without matplotlib."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure  # without pyplot: no window system is asked for

    entries, machine = result["entries"], result["machine"]
    materials = list(dict.fromkeys(entry["material"] for entry in entries))
    others = list(dict.fromkeys(e["variant"] for e in entries if not e["variant"].startswith("ours")))
    colours = {name: colormaps["tab10"](index % 10) for index, name in enumerate(others)}
    figure = Figure(figsize=(12, 4.6 * len(materials) + 0.4), layout="constrained")
    grid = figure.subplots(len(materials), len(AXES), squeeze=False, sharey="row")
    for row, material in zip(grid, materials):
        group = [entry for entry in entries if entry["material"] == material]
        for axes, (column, label) in zip(row, AXES):
            for entry in group:
                name = entry["variant"]
                style = {"color": colours[name], "linewidth": 1.4} if name in colours else OURS
                line = "--" if entry["engine"] == "torch" else "-"
                points = [(point[column], point["psnr"]) for point in entry["curve"]]
                axes.plot(*zip(*points), line, marker=".", label=name, **style)
            axes.set(xscale="log", xlabel=label)
            axes.grid(True, alpha=0.25)
        values = [point["psnr"] for entry in group for point in entry["curve"]]
        if max(values) - min(values) > SHOWN_DB:
            row[0].set_ylim(max(values) - SHOWN_DB, max(values) + 0.5)
        row[0].set_ylabel("PSNR of LOD 0, dB")
        row[0].set_title(one_line(material), parse_math=False)  # a name, not a formula
        row[1].set(title=f"{result['settings']['bpp']:g} bpp, {group[0]['iterations']} iterations")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, title="dashed: on PyTorch")
    facts = (machine["processor"], f"{entries[0]['threads']} threads", machine["commit"], machine["date"])
    figure.suptitle(", ".join(filter(None, facts)), fontsize=9)
    return figure


def plot(path: str | Path) -> str:
    """Draw ablation.json into a PNG beside it. Returns a line that says where, or why not."""
    path = Path(path)
    try:
        figure = draw(json.loads(path.read_text(encoding="utf-8")))
    except ImportError:
        return without_matplotlib("ablation", path)
    target = path.with_suffix(".png")
    figure.savefig(target, dpi=150)
    return str(target)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    return plot_command(argv, "ablation", __doc__.splitlines()[0], lambda path: [plot(path)])


if __name__ == "__main__":
    sys.exit(run_command(main))
