"""The metrics of all LODs as a text table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def format_table(metrics: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    """A text table, one line per LOD and map, '-' for None.

    metrics: results of `evaluate_lod`, LOD 0 first, or a mapping that holds them under "lods".
    """
    lines = [_table_line("LOD", "map", "PSNR dB", "SSIM", "LPIPS", "FLIP", "degrees")]
    for lod, scores in enumerate(metrics["lods"] if isinstance(metrics, Mapping) else metrics):
        for name in scores["psnr"]:
            values = [scores[metric].get(name) for metric in ("psnr", "ssim", "lpips", "flip")]
            values.append(scores.get("normal_degrees") if name == "normal" else None)
            cells = ["-" if v is None else f"{v:.{d}f}" for v, d in zip(values, (2, 4, 4, 4, 2))]
            lines.append(_table_line(str(lod) if name == "all" else "", name, *cells))
    return "\n".join(lines)


def _table_line(lod: str, name: str, *cells: str) -> str:
    return f"{lod:>3}  {name:<12}" + "".join(f"{cell:>9}" for cell in cells)
