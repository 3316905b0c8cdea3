"""What a decoded opacity does in an alpha test, and the error of the other maps where they can be seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from maps.channels import map_size
from maps.coverage import passes, share_passing
from metrics.scores import MapImage, psnr_db, with_exact
from metrics.tiles import map_values, sum_of_tiles

Codes = Mapping[str, np.ndarray]


def coverage_scores(decoded: Codes, source: Codes, exact: Mapping[int, float] | None = None) -> dict[str, Any]:
    """The metrics of one LOD that has an opacity, JSON-ready; arguments as of scores.evaluate_maps, in codes.

    Returns: {"coverage": {"decoded", "source", "difference"}: shares of texels at or above maps.coverage.ALPHA_TEST,
        "opacity_wrong": share of those that are on one side of it decoded and on the other in the source,
        "psnr_covered": {"all", <map>...}: dB of the other maps, each texel's squared error weighted by the source's
        opacity; None where all of that is 0, {} without other maps}.
    """
    ours, theirs = decoded["opacity"], source["opacity"]
    shares = {"decoded": share_passing(ours), "source": share_passing(theirs)}
    wrong = sum_of_tiles(lambda rows, _: np.count_nonzero(passes(ours[rows]) != passes(theirs[rows])), ours)
    errors = {
        name: _covered_error(with_exact(decoded[name], name, exact or {}), source[name], theirs)
        for name in decoded
        if name != "opacity"
    }
    return {
        "coverage": {**shares, "difference": shares["decoded"] - shares["source"]},
        "opacity_wrong": float(wrong / ours.size),
        "psnr_covered": _psnr(errors),
    }


def _covered_error(decoded: MapImage, source: MapImage, opacity: np.ndarray) -> float | None:
    """Mean squared error over all channels, texels weighted by opacity; None without any."""

    def measure(rows: slice, _: slice) -> np.ndarray:
        weight = map_values(opacity, rows).astype(np.float64)
        error = np.subtract(map_values(decoded, rows), map_values(source, rows), dtype=np.float64)
        return np.array([(np.square(error, out=error) * weight).sum(), weight.sum()])

    error, weight = sum_of_tiles(measure, decoded)
    return float(error / weight / decoded.shape[2]) if weight else None


def _psnr(errors: Mapping[str, float | None]) -> dict[str, float | None]:
    if not errors:
        return {}
    if None in errors.values():  # then it is all of them: they share the weights
        return dict.fromkeys(["all", *errors])
    every = [error for name, error in errors.items() for _ in range(map_size(name))]
    return {"all": psnr_db(every), **{name: psnr_db([error]) for name, error in errors.items()}}
