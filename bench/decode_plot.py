"""PSNR over what decoding a pixel costs, of python -m bench.decode --psnr, as a picture: a panel per material and rate.

    python -m bench.decode_plot [bench/results/decode_psnr.json]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.plots import plot_command, without_matplotlib
from common.errors import one_line, run_command

STYLES = {  # colour, marker, line
    "packed learned": ("#d9480f", "o", "-"),
    "packed linear": ("#d9480f", "o", "--"),
    "bc1 learned": ("#c2255c", "^", "-"),
    "bc1 linear": ("#c2255c", "^", "--"),
}

COSTS = {"float_operations": "float operations", "multiply_adds": "multiply-adds"}  # the first that the entries have
TICKS = (1000, 2000, 5000, 10_000, 20_000, 50_000)


def draw(result: Mapping[str, Any]) -> Any:
    """A matplotlib figure with a row per material and a column per rate. Raises: ImportError without matplotlib."""
    from matplotlib.figure import Figure  # without pyplot: no window system is asked for
    from matplotlib.ticker import FixedLocator, FuncFormatter

    entries, machine = result["entries"], result["machine"]
    cost = next(name for name in COSTS if name in entries[0])
    materials = list(dict.fromkeys(entry["material"] for entry in entries))
    rates = list(dict.fromkeys(entry["target_bpp"] for entry in entries))
    figure = Figure(figsize=(4.2 * len(rates), 3.6 * len(materials) + 0.5), layout="constrained")
    grid = figure.subplots(len(materials), len(rates), squeeze=False, sharey="row")
    for row, material in zip(grid, materials):
        for axes, rate in zip(row, rates):
            group = [entry for entry in entries if (entry["material"], entry["target_bpp"]) == (material, rate)]
            for form, (colour, marker, line) in STYLES.items():
                points = sorted((e[cost], e["psnr"], e["network"]) for e in group if e["form"] == form)
                if points:
                    axes.plot(*zip(*(point[:2] for point in points)), line, color=colour, marker=marker, label=form)
                for at, psnr, network in points if form == "packed learned" else ():
                    axes.annotate(network, (at, psnr), (0, 7), textcoords="offset points", fontsize=8, ha="center")
            axes.set(xscale="log", xlabel=f"{COSTS[cost]} a pixel")
            axes.xaxis.set_major_locator(FixedLocator(TICKS))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.xaxis.set_minor_locator(FixedLocator([]))
            axes.set_title(f"{one_line(material)}, {rate:g} bpp", parse_math=False, fontsize=10)
            axes.margins(y=0.12)
            axes.grid(True, alpha=0.25)
        row[0].set_ylabel("PSNR of LOD 0, dB")
    handles, labels = grid[0][0].get_legend_handles_labels()
    columns = 2 if len(rates) == 1 else len(STYLES)
    figure.legend(handles, labels, loc="outside lower center", frameon=False, ncols=columns)
    facts = (machine["processor"], machine["commit"], machine["date"])
    figure.suptitle(", ".join(filter(None, facts)), fontsize=9)
    return figure


def plot(path: str | Path) -> list[str]:
    """Draw decode_psnr.json into a PNG beside it. Returns lines that say where, or why not."""
    path = Path(path)
    try:
        figure = draw(json.loads(path.read_text(encoding="utf-8")))
    except ImportError:
        return [without_matplotlib("decode", path)]
    target = path.with_suffix(".png")
    figure.savefig(target, dpi=150)
    return [str(target)]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    return plot_command(argv, "decode_psnr", __doc__.splitlines()[0], plot)


if __name__ == "__main__":
    sys.exit(run_command(main))
