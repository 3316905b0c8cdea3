"""report.html of a run: scores, the comparison strip, training curves, the texture and the options, in one file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from common.files import write_text
from maps.images import encode_png

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; }
td, th { padding: .2rem .9rem .2rem 0; text-align: left; border-bottom: 1px solid #ddd; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; image-rendering: pixelated; }
svg { width: 100%; height: auto; } figcaption { color: #555; } figure { margin: 1rem 0; }
"""
CHART = (720, 200)  # width and height of a chart, in SVG units
MARGIN = 60


def chart(title: str, epochs: Sequence[float], values: Sequence[float | None], unit: str) -> str:
    """A line chart over the epochs as SVG; '' for fewer than two values."""
    points = [(epoch, value) for epoch, value in zip(epochs, values) if value is not None]
    if len(points) < 2:
        return ""
    (left, right), low, high = (points[0][0], points[-1][0]), min(p[1] for p in points), max(p[1] for p in points)
    width, height = CHART
    across, up = (width - 2 * MARGIN) / (right - left), (height - 2 * MARGIN) / ((high - low) or 1)
    line = " ".join(f"{MARGIN + (x - left) * across:.1f},{height - MARGIN - (y - low) * up:.1f}" for x, y in points)
    labels = [
        (MARGIN - 6, MARGIN + 4, "end", f"{high:.3g}"), (MARGIN - 6, height - MARGIN + 4, "end", f"{low:.3g}"),
        (MARGIN, height - MARGIN + 18, "middle", f"{left:g}"),
        (width - MARGIN, height - MARGIN + 18, "middle", f"epoch {right:g}"),
        (MARGIN, MARGIN - 18, "start", f"{title} ({unit})"),
    ]  # fmt: skip
    texts = "".join(
        f'<text x="{x}" y="{y}" text-anchor="{a}" font-size="12">{escape(t)}</text>' for x, y, a, t in labels
    )
    frame = f'<path d="M{MARGIN} {MARGIN}V{height - MARGIN}H{width - MARGIN}" fill="none" stroke="#999"/>'
    curve = f'<polyline points="{line}" fill="none" stroke="#06c" stroke-width="2"/>'
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{frame}{curve}{texts}</svg>'


def picture(pixels: np.ndarray, caption: str) -> str:
    """(H, W, 3) uint8 as a figure with the PNG inside."""
    data = base64.b64encode(encode_png(np.ascontiguousarray(pixels))).decode("ascii")
    text = escape(caption)
    return f'<figure><img src="data:image/png;base64,{data}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Rows of a name and a value as an HTML table."""
    return (
        "<table>"
        + "".join(f'<tr><td>{escape(a)}</td><td class="number">{escape(b)}</td></tr>' for a, b in rows)
        + "</table>"
    )


SCORES = (
    ("psnr", "ours, PSNR on the surface, last epoch", "{:.2f} dB"), ("ssim", "ours, SSIM of whole frames", "{:.4f}"),
    ("psnr_texture", "RGB texture", "{:.2f} dB"), ("psnr_nearest_view", "nearest training view", "{:.2f} dB"),
    ("psnr_mean_image", "mean of the training frames", "{:.2f} dB"), ("seconds", "time of training", "{:.0f} s"),
)  # fmt: skip


def write_page(path: Path, report: Mapping[str, Any], strip: np.ndarray | None, texture: np.ndarray) -> None:
    """Write the page atomically.

    Args:
        report: content of report.json. strip: the comparison; None without held-out frames. texture: its colours.
    """
    history = report["history"]
    epochs = [entry["epoch"] for entry in history]
    scores = [(title, kind.format(report[name])) for name, title, kind in SCORES if report.get(name) is not None]
    if report.get("best_epoch") is not None:
        scores.insert(1, (f"best held-out view PSNR, epoch {report['best_epoch']}", f"{report['best_psnr']:.2f} dB"))
    options = [(f"--{name}", str(value)) for name, value in report["options"].items()]
    parts = [
        f"<h1>Deferred neural rendering: {escape(report['script'])}</h1>",
        f"<p>{report['train_frames']} training frames, {report['held_out_frames']} held out, {report['steps']} steps "
        f"on {escape(report['device'])}.</p>",
        table(scores),
        picture(strip, "truth | RGB texture | ours | error x4, of held-out views") if strip is not None else "",
        chart("PSNR of held-out views", epochs, [entry["psnr"] for entry in history], "dB"),
        chart("training loss", epochs, [entry["loss"] for entry in history], "mean absolute error"),
        picture(texture, "colour of the texture: its first three channels"),
        "<h2>Options</h2>", table(options),
    ]  # fmt: skip
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(report["script"])}</title>'
    write_text(path, f"{head}<style>{STYLE}</style>{''.join(parts)}</html>\n")
