"""The rate-distortion plots of python -m bench.rate: one per material and one of the mean, as PNG and as SVG.

    python -m bench.rate_plot [rate.json]
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.plots import plot_command, without_matplotlib
from bench.rate_summary import ASTC, TITLES, curve, materials_of, mean_entries
from common.errors import one_line, run_command
from transcode.codecs import IMAGE_CODECS

STYLES = {  # colour (readable on white and on near-black), marker, line
    "ours": ("#d9480f", "o", "-"),
    "ours packed reference": ("#d9480f", "o", ":"),
    "ours packed linear": ("#d9480f", "o", "--"),
    "ours bc1 learned": ("#c2255c", "^", "-"),
    "ours bc1 linear": ("#c2255c", "^", "--"),
    "ours bc1 tsnc": ("#c2255c", "^", ":"),
    "ours astc6x6 learned": ("#0c8599", "v", "-"),
    "ours astc6x6 linear": ("#0c8599", "v", "--"),
    "astc": ("#1c7ed6", "s", "-"),
    "avif": ("#2b9348", "", "-"),
    "jxl": ("#9c5fd6", "", "--"),
    "bc1": ("#868e96", "v", ""),
    "bc7": ("#868e96", "D", ""),
    "bc7+bc5+bc4": ("#868e96", "P", ""),
}
INK = "#123456"  # stands for the page's text colour in an SVG
Curves = Mapping[str, Sequence[tuple[float, float]]]


def curves_of(entries: Sequence[Mapping[str, Any]], material: str | None) -> Curves:
    """The lines of one plot: name of STYLES -> [(bpp, PSNR)]; of the mean without a `material`."""
    if material is None:
        return mean_entries(entries)
    group = [entry for entry in entries if entry["material"] == material]
    lines = {name: curve(group, ASTC if name == "astc" else name) for name in STYLES}
    return {name: points for name, points in lines.items() if points}


def draw(curves: Curves, title: str, ink: str = "black") -> Any:
    """A matplotlib figure. Raises: ImportError without matplotlib."""
    from matplotlib.figure import Figure  # without pyplot: no window system is asked for
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    figure.patch.set_alpha(0 if ink == INK else 1)
    axes = figure.add_subplot(xscale="log")
    axes.patch.set_alpha(0)
    axes.set_xlabel("rate, bits per texel of the material", color=ink)
    axes.set_ylabel("PSNR over all channels, dB", color=ink)
    # a name as it is: matplotlib would read a$b$c as a formula
    axes.set_title(title, color=ink, fontsize=11, parse_math=False)
    for name, (colour, marker, line) in STYLES.items():
        if name in curves:
            rates, values = zip(*curves[name])
            ours = name.startswith("ours")
            emphasis = {"linewidth": 2.4, "markersize": 7, "zorder": 4} if ours else {"linewidth": 1.5}
            label = TITLES[name] if name != "ours" else "neural texture (this toolkit)"
            marker = marker or ("." if name in IMAGE_CODECS and len(rates) < 12 else "")
            axes.plot(rates, values, color=colour, marker=marker, linestyle=line, label=label, **emphasis)
    low, high = axes.get_xlim()
    ticks = [tick for tick in (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64) if low <= tick <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.tick_params(colors=ink)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
    axes.grid(True, alpha=0.18, color=ink)
    axes.legend(frameon=False, labelcolor=ink, fontsize=9)
    return figure


def svg(curves: Curves, title: str, identity: str) -> str:
    """An <svg> element to stand in a page: text as text, in the page's colour; ids made unique by `identity`.

    Raises: ImportError without matplotlib.
    """
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": identity, "font.family": "sans-serif"}):
        draw(curves, title, ink=INK).savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'( id="|="#|url\(#)', rf"\g<1>{identity}-", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = text.replace(INK, "currentColor")
    return re.sub(r'<svg ([^>]*?)width="[^"]*"', r'<svg \1role="img"', re.sub(r' height="[^"]*pt"', "", text, count=1))


def plot(path: str | Path) -> list[str]:
    """Draw rate.json into PNG files beside it. Returns: lines that say where, or why not."""
    path = Path(path)
    result = json.loads(path.read_text(encoding="utf-8"))
    entries, machine = result["entries"], result["machine"]
    facts = ", ".join(filter(None, (machine["processor"], machine["commit"], machine["date"])))
    lines: list[str] = []
    for material, title in subjects(entries):
        try:
            figure = draw(curves_of(entries, material), f"{title}\n{facts}")
        except ImportError:
            return [without_matplotlib("rate", path)]
        name = "mean" if material is None else "of_" + re.sub(r"[^\w.-]+", "_", material)
        target = path.with_name(f"{path.stem}_{name}.png")
        while str(target) in lines:  # 'old wood' and 'old_wood'
            target = target.with_name(f"{target.stem}_.png")
        figure.savefig(target, dpi=150)
        lines.append(str(target))
    return lines


def subjects(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str | None, str]]:
    """(material, title) of each plot: the mean first where there are several materials."""
    materials = materials_of(entries)
    mean = [(None, f"Mean of {len(materials)} materials")] if len(materials) > 1 else []
    return [*mean, *((material, one_line(material)) for material in materials)]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    return plot_command(argv, "rate", __doc__.splitlines()[0], plot, "rate")


if __name__ == "__main__":
    sys.exit(run_command(main))
