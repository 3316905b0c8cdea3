"""The table of deferred/: what it says of a run, and how it measures checkerboards."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench import deferred as bench
from tests.support.deferred_views import sphere_folder, trained


def test_checkerboards_are_measured():
    """Stripes and boards of 3 codes have an energy of 9 each, a slope has hardly any; the mask cuts blocks away."""
    y, x = np.mgrid[:24, :32]
    everywhere = np.ones((24, 32), bool)

    def energy(pattern: np.ndarray, mask: np.ndarray = everywhere) -> float:
        return bench.checkerboard([(np.repeat(100.0 + pattern[..., None], 3, axis=2), mask)])

    stripes, rows, board = 3.0 - 6 * (x % 2), 3.0 - 6 * (y % 2), 3.0 - 6 * ((x + y) % 2)
    assert energy(0 * stripes) == 0 and energy(stripes) == energy(rows) == energy(board) == 9
    assert energy(stripes + rows + board) == 27 and energy(2.0 * x + y) < 2
    half = everywhere.copy()
    half[:, 15:] = False
    assert energy(stripes * (x < 8), half) == 9 and np.isnan(energy(stripes, ~everywhere))


def test_the_table_of_a_run(capsys, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "TEXELS", (4, 8))
    run = trained()
    assert bench.main(["--data", str(sphere_folder()), str(run)]) == 0
    *_, row, found = capsys.readouterr().out.splitlines()
    report = json.loads((run / "report.json").read_text())
    assert f"{report['psnr']:.2f} dB  train.py, 6 steps" in row and "resize, U-Net of width 2" in row
    assert f"best {report['best_psnr']:.2f} dB after epoch {report['best_epoch']}" in row
    assert "checkerboard " in row and json.loads(found) == {run.name: pytest.approx(report["psnr"])}
    with refused("report.json"):
        bench.main(["--data", str(sphere_folder()), str(tmp_path)])
