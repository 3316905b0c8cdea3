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
from metrics.tiles import map_values, row_tiles

MEDIAN_VALUES = 2**22  # of a map, at most, that a median is taken of: every n-th row

Codes = Mapping[str, np.ndarray]


def deep_scores(decoded: Codes, source: Codes, material: MaterialRecord) -> dict[str, Any]:
    """Scores of one LOD, JSON-ready, for the maps of `decoded`.

    Args:
        decoded: map name -> (H, W, C) uint16, see decoded_maps.decode_deep_maps.
        source: map name -> (H, W, C) codes of the file.
    Returns: each where such maps are: "psnr16": {<map of 16 bits>: PSNR in dB of the codes, of which the decoded are
        rounded to 16 bits instead of 8}, "light": {<map with a log_scale>: see light_scores}, "units": {<map with
        another range>: see unit_scores}.
    """
    scores: dict[str, Any] = {}
    for entry in material.maps:
        if entry.name not in decoded:
            continue
        pair = decoded[entry.name], source[entry.name]
        if entry.bit_depth == 16:
            scores.setdefault("psnr16", {})[entry.name] = psnr_db([mean_squared_error(*pair)])
        if has_units(entry.name, entry.value_range):
            kind, measure = ("units", unit_scores) if entry.log_scale is None else ("light", light_scores)
            scores.setdefault(kind, {})[entry.name] = measure(*pair, entry)
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


def unit_scores(decoded: np.ndarray, source: np.ndarray, entry: MapRecord) -> dict[str, float]:
    """{"median_error", "worst_error"} of |d - x| in the file's units, such as metres of height.

    There is no relative error: in a range that is not of light, 0 need not mean nothing.
    """
    low, high = entry.value_range
    errors = np.abs(_thinned(decoded, entry) - _thinned(source, entry))
    worst = max(float(np.abs(map_values(decoded, rows) - map_values(source, rows)).max())
                for rows, _ in row_tiles(decoded))  # fmt: skip
    return {"median_error": float(np.median(errors)), "worst_error": worst * (high - low)}


def unit_lines(scores: Mapping[str, Any]) -> list[str]:
    """What `deep_scores` put into the scores of a LOD, as lines for a reader; none without such maps."""
    lines = []
    for name, light in scores.get("light", {}).items():
        lit, peak = light["relative_error_lit"], light["peak"]
        lines.append(
            f"{name} in the file's units: median error {'-' if lit is None else f'{lit:.2%}'} of light above "
            f"{light['floor']:.3g}, {light['relative_error']:.2%} of all; peak {'-' if peak is None else f'{peak:.1%}'}"
            f" of the source's; its PSNR is of {light['space']}"
        )
    for name, units in scores.get("units", {}).items():
        errors = f"median error {units['median_error']:.3g}, largest {units['worst_error']:.3g}"
        lines.append(f"{name} in the file's units: {errors}; its PSNR is of its range scaled to [0, 1]")
    deep = "  ".join(f"{name} {value:.2f}" for name, value in scores.get("psnr16", {}).items())
    return [*lines, *([f"PSNR of codes in 16 bits: {deep} dB (elsewhere decoded values are in 8)"] if deep else [])]


def _thinned(codes: np.ndarray, entry: MapRecord) -> np.ndarray:
    """Values in the file's units, of some rows where the map is large."""
    return _in_units(codes[:: -(-codes.size // MEDIAN_VALUES)], entry)


def _largest(codes: np.ndarray, entry: MapRecord) -> float:
    return _in_units(codes.max(keepdims=True), entry).item()


def _in_units(codes: np.ndarray, entry: MapRecord) -> np.ndarray:
    values = codes / np.float64(np.iinfo(codes.dtype).max)
    return to_units(values, entry.value_range, entry.log_scale)
