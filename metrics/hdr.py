"""Scores of maps with more than 8 bits: at 16 bits, and in the units of files whose values leave [0, 1].

Everything else, PSNR included, compares codes: of light above 1 those are logarithms, see maps/ranges.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from maps.ranges import FLOOR_SHARE, has_units, to_units
from maps.record import MapRecord, MaterialRecord
from metrics.scores import mean_squared_error, psnr_db

MEDIAN_VALUES = 2**22  # of a map, at most, that a median is taken of: every n-th row

Codes = Mapping[str, np.ndarray]


def deep_scores(decoded: Codes, source: Codes, material: MaterialRecord) -> dict[str, Any]:
    """Scores of one LOD, JSON-ready, for the maps of `decoded`; {} without such.

    Args:
        decoded: map name -> (H, W, C) uint16, see decoded_maps.decode_deep_maps.
        source: the files' codes; of these maps they have 16 bits too.
    Returns: {"psnr16": {<map>: PSNR in dB of the codes, of which the decoded are rounded to 16 bits instead of 8}, and,
        where such maps are, "light": {<map>: see light_scores}, "units": {<map>: {"median_error": of |d - x|,
        "worst_error"}, in the file's units, of maps with an affine range}}.
    """
    if not decoded:
        return {}
    scores: dict[str, Any] = {"psnr16": {name: psnr_db([mean_squared_error(image, source[name])])
                                         for name, image in decoded.items()}}  # fmt: skip
    for entry in material.maps:
        if entry.name in decoded and has_units(entry.name, entry.value_range):
            kind, measure = ("units", _unit_scores) if entry.log_scale is None else ("light", light_scores)
            scores.setdefault(kind, {})[entry.name] = measure(decoded[entry.name], source[entry.name], entry)
    return scores


def light_scores(decoded: np.ndarray, source: np.ndarray, entry: MapRecord) -> dict[str, Any]:
    """How far decoded light d is from the light x of the file, both in the file's units, channel by channel.

    Returns: {"relative_error": median of |d - x| / max(x, floor), "relative_error_lit": the same where x is above the
        floor, None where it nowhere is, "peak": the largest d over the largest x (None for darkness), "floor": a
        thousandth of the map's maximum, "space": what PSNR and the other metrics compare}.
    """
    _, high = entry.value_range
    floor = high * FLOOR_SHARE
    d, x = _thinned(decoded, entry), _thinned(source, entry)
    error = np.abs(d - x) / np.maximum(x, floor)
    lit, top = error[x > floor], _largest(source, entry)
    return {
        "relative_error": float(np.median(error)),
        "relative_error_lit": float(np.median(lit)) if lit.size else None,
        "peak": _largest(decoded, entry) / top if top else None,
        "floor": floor,
        "space": f"log2(1 + x / {entry.log_scale:g}) / log2(1 + {high:g} / {entry.log_scale:g})",
    }


def light_lines(scores: Mapping[str, Any]) -> list[str]:
    """A line for each map with units of its own, from what `deep_scores` put into the scores of a LOD."""
    lines = []
    for name, light in scores.get("light", {}).items():
        lit, peak = light["relative_error_lit"], light["peak"]
        off = "-" if lit is None else f"{lit:.2%}"
        lines.append(
            f"{name} in the file's units: median error {off} of the light above {light['floor']:.3g} "
            f"({light['relative_error']:.2%} of all), peak {'-' if peak is None else f'{peak:.1%}'}; "
            f"its PSNR is of {light['space']}"
        )
    for name, units in scores.get("units", {}).items():
        errors = f"median error {units['median_error']:.3g}, largest {units['worst_error']:.3g}"
        lines.append(f"{name} in the file's units: {errors}; its PSNR is of the range scaled to [0, 1]")
    deep = "  ".join(f"{name} {value:.2f}" for name, value in scores.get("psnr16", {}).items())
    return [*lines, *([f"PSNR at 16 bits: {deep} dB (above: decoded values rounded to 8 bits)"] if deep else [])]


def _unit_scores(decoded: np.ndarray, source: np.ndarray, entry: MapRecord) -> dict[str, float]:
    low, high = entry.value_range
    steps = np.abs(_rows_of(decoded).astype(np.int32) - _rows_of(source))
    worst = max(int(np.abs(d.astype(np.int32) - x).max()) for d, x in zip(decoded, source))
    step = (high - low) / 65535
    return {"median_error": float(np.median(steps)) * step, "worst_error": worst * step}


def _thinned(codes: np.ndarray, entry: MapRecord) -> np.ndarray:
    """Values in the file's units, of some rows where the map is large."""
    return to_units(_rows_of(codes) / np.float64(65535), entry.value_range, entry.log_scale)


def _rows_of(codes: np.ndarray) -> np.ndarray:
    return codes[:: -(-codes.size // MEDIAN_VALUES)]


def _largest(codes: np.ndarray, entry: MapRecord) -> float:
    return float(to_units(np.float64(codes.max() / 65535), entry.value_range, entry.log_scale))
