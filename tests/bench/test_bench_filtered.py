"""bench/filtered.py: what its pictures show, in a browser, and what its figures mean."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image as PillowImage

from bench import browser, filtered, filtered_work
from common.errors import run_command
from tests.support.runs import _offline, quick, save_maps  # noqa: F401  # the first is a fixture, autouse


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run of BC1 planes at filtered positions."""
    root = tmp_path_factory.mktemp("run")
    maps = save_maps(root / "maps", 128, 128, present=("diffuse", "normal"))
    return quick("--data_dir", maps, "--save_dir", root / "outputs", "--latents", "bc1", "--decoder", "reference",
                 "--positions", "filtered", "--bpp", 8, "--max_iter", 60)  # fmt: skip


def pixels(side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each pixel, in texels."""
    return np.mgrid[:side, :side] / filtered_work.MAGNIFIED


def test_the_pattern_is_what_repeats_with_every_texel():
    y, x = pixels()
    for wave in (np.cos(2 * np.pi * x), np.cos(2 * np.pi * y), np.sin(2 * np.pi * (x + y))):
        assert filtered_work.pattern_rms(3 * wave[..., None]) == pytest.approx(3 / np.sqrt(2), rel=0.02)
    two = np.stack([np.cos(2 * np.pi * x), np.zeros_like(x)], axis=2)
    assert filtered_work.pattern_rms(two) == pytest.approx(0.5, rel=0.02)  # the root of the mean over channels
    for other in (np.cos(np.pi * x), np.cos(3 * np.pi * y), x, np.ones_like(x)):
        assert filtered_work.pattern_rms(other[..., None]) < 0.01 * other.max()


def test_positions_are_those_of_the_shader():
    class Size:
        width, height = 32, 16

    uv = filtered_work.magnified_uv(Size, 8).numpy()
    assert uv.shape == (32 * 32, 2)
    np.testing.assert_allclose(uv[0], [(12 + 0.125) / 32, (4 + 0.125) / 16])
    np.testing.assert_allclose(uv[33], [(12 + 0.375) / 32, (4 + 0.375) / 16])


def test_a_run_is_measured(run, tmp_path, monkeypatch, capsys):
    if browser.find_chromium() is None:
        pytest.skip("needs a Chromium browser: apt install chromium")
    monkeypatch.setattr(filtered_work, "TILTED_SIDE", 48)
    assert filtered.main([str(run), "--crop", "16", "--num_threads", "1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    written = json.loads((tmp_path / "filtered.json").read_text())
    magnified, tilted = written["entries"]
    assert (magnified["view"], tilted["view"]) == ("magnified", "tilted") and magnified["positions"] == "filtered"
    assert written["settings"]["crop"] == 16 and "magnified" in out and "tilted" in out
    # the browser's sampler and decoder, against the model that decodes the same places
    assert magnified["one"] == pytest.approx(magnified["model"], abs=0.05) and 15 < magnified["one"] < 60
    assert magnified["pattern_nearest"] > 3 * magnified["pattern_four"]
    assert len({magnified[way] for way in ("one", "four", "nearest")}) == 3
    for view, side in (("magnified", 64), ("tilted", 48)):
        (path,) = (tmp_path / "filtered").glob(f"*_filtered_{view}.png")
        picture = np.asarray(PillowImage.open(path)).astype(int)
        assert picture.shape == (side, 4 * side, 3) and picture.std() > 5
        source, one = picture[:, :side], picture[:, side : 2 * side]
        assert np.abs(source - one).mean() < np.abs(source[::-1] - one).mean()  # the same way up


def test_what_cannot_be_measured_is_one_line(run, tmp_path, monkeypatch, capsys):
    flags = ["--num_threads", "1", "--out", str(tmp_path)]
    assert run_command(lambda: filtered.main([str(run), "--crop", "129", *flags])) == 2
    assert "--crop 129" in capsys.readouterr().err
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "nothing"))
    assert run_command(lambda: filtered.main([str(run), "--crop", "8", *flags])) == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1 and "CHROMIUM" in message
