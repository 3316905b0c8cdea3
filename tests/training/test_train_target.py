"""Training to a rate, a PSNR, or a codec's PSNR, from the command line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import train
from common.errors import UserError
from configs import make_config
from formats.textures import read_export
from tests.support.runs import offline, save_maps
from training import rate_search, rates
from training.checkpoint import load_checkpoint
from training.plan import plan
from training.rate_search import MENDED_DB, MORE_ROUNDS, best_result, mended
from training.run import read_material, train_on
from training.state import Session, is_complete
from training.summary import Result
from transcode import codecs as texture_codecs
from transcode.codecs import encode_decode, missing_packages


@pytest.fixture(autouse=True)
def _short_runs(monkeypatch):
    """Presets of a few iterations; the rest of the table as it is."""
    table = dict(rates.load_table())
    for decoder in ("learned", "reference"):
        table[decoder] = [dataclasses.replace(row, cost=1.0, effort=1.0) for row in table[decoder]]
    short = {"iterations": 300, "small_effort": 0.0}
    table["presets"] = {name: dataclasses.replace(preset, **short) for name, preset in table["presets"].items()}
    monkeypatch.setattr(rates, "load_table", lambda: table)
    monkeypatch.setattr(rate_search, "DOUBTED_GAIN", 1.5)  # predictions from runs of 45 iterations are far off
    with offline():
        yield


@pytest.fixture
def maps(tmp_path) -> Path:
    return save_maps(tmp_path / "maps", 128, 96)


def run_command_line(maps: Path, out: Path, *flags) -> list[Path]:
    """The run folders of a command that must end well, oldest first."""
    small = ["--n_neurons", "16", "--batch_size", "512"]
    assert train.main(["--data_dir", str(maps), "--save_dir", str(out), *small, *map(str, flags)]) == 0
    return sorted(path for path in out.iterdir() if path.name != "tensorboard")


def manifest_of(run: Path) -> dict:
    return json.loads(next(run.glob("models/*/manifest.json")).read_text())


def test_a_rate(maps, tmp_path, capsys):
    (run,) = run_command_line(maps, tmp_path / "out", "--bpp", 6, "--preset", "fast")
    manifest = manifest_of(run)
    assert manifest["rates"]["bpp"] == pytest.approx(6, rel=0.04)
    assert manifest["grids"][0]["interpolation"] == "learned" and manifest["decoder"]["activation"] == "hard_swish"
    words = sum((run.glob("models/*/" + name).__next__()).stat().st_size
                for grid in manifest["grids"] for name in grid["files"])  # fmt: skip
    assert words * 8 / (128 * 96) > 6 - manifest["rates"]["network"], "the files hold at least LOD 0"
    config = json.loads((run / "config.json").read_text())
    assert (config["bpp"], config["preset"], config["max_iter"]) == (6, "fast", 300)
    assert read_export(run / "models/train_result_300").model.num_lods == 8
    assert "6.0" in capsys.readouterr().out


def test_the_reference_form_at_a_rate(maps, tmp_path):
    (run,) = run_command_line(maps, tmp_path / "out", "--bpp", 12, "--decoder", "reference")
    manifest = manifest_of(run)
    assert {grid["interpolation"] for grid in manifest["grids"]} == {"linear"}
    assert manifest["decoder"]["activation"] == "leaky_relu"
    assert manifest["rates"]["bpp"] == pytest.approx(12, rel=0.04)


def test_a_planned_run_goes_on_with_its_own_grids(maps, tmp_path):
    out = tmp_path / "out"
    (run,) = run_command_line(maps, out, "--bpp", 6)
    assert train.main(["--load_dir", str(run), "--max_iter", "350"]) == 0
    assert (run / "models/train_result_350/manifest.json").is_file()
    with pytest.raises(UserError, match=r"--bpp 3.0: .* was trained with 6.0"):
        train.main(["--load_dir", str(run), "--max_iter", "400", "--bpp", "3"])


def reachable_psnr(maps, tmp_path) -> float:
    """What such a run ends with at 8 bpp, in dB."""
    train.main(["--data_dir", str(maps), "--save_dir", str(tmp_path / "probe"), "--n_neurons", "16", "--batch_size",
                "512", "--bpp", "8"])  # fmt: skip
    (probe,) = (path for path in (tmp_path / "probe").iterdir() if path.name != "tensorboard")
    return round(json.loads((probe / "metrics.json").read_text())["psnr"]["all"], 2)


def test_a_target(maps, tmp_path, capsys):
    out = tmp_path / "out"
    target = reachable_psnr(maps, tmp_path)
    capsys.readouterr()
    runs = run_command_line(maps, out, "--target_psnr", target)
    told = capsys.readouterr().out
    assert 1 <= len(runs) <= 2
    assert f"looking for {target:.2f} dB" in told and "s in all" in told and "in a short run" in told
    verdict = told.splitlines()[-1]
    assert verdict.startswith(f"target   {target:.2f} dB ") and str(runs[0].parent) in verdict
    config = json.loads((runs[-1] / "config.json").read_text())
    assert config["bpp"] >= 0.5 and config["target_psnr"] == 0


def test_a_run_that_ends_a_little_below_gets_more_rounds_of_search(maps, tmp_path):
    lines: list[str] = []
    config = dataclasses.replace(make_config({"bpp": 6.0, "preset": "fast", "n_neurons": 16, "batch_size": 512}),
                                 data_dir=str(maps), save_dir=str(tmp_path / "out"))  # fmt: skip
    session = Session(read_material(str(maps), config, lines.append), torch.device("cpu"), lines.append, quiet=True)
    result = train_on(session, plan(config, 128, 96))
    psnr, rounds = result.metrics["psnr"]["all"], plan(config, 128, 96).refine
    for target in (psnr - 0.01, psnr + MENDED_DB + 0.01):  # reached, and too far away
        assert mended(session, result, target) is result
    again = mended(session, result, psnr + 0.02)
    done = load_checkpoint(result.run)
    assert again.run == result.run and is_complete(done) and done.training["refined"] == done.config.refine > rounds
    assert again.metrics["psnr"]["all"] >= psnr + 0.02 or done.config.refine == rounds + MORE_ROUNDS
    assert again.metrics["psnr"]["all"] > psnr and again.rates == result.rates
    assert sum("one more round of search" in line for line in lines) == done.config.refine - rounds
    assert read_export(done.path).manifest.metrics["psnr"]["all"] == again.metrics["psnr"]["all"]


def test_a_target_out_of_reach_leaves_nothing(maps, tmp_path):
    with pytest.raises(UserError, match=r"--target_psnr 75.00: 20 bpp, the most there is, reaches about"):
        run_command_line(maps, tmp_path / "out", "--target_psnr", 75)
    assert not (tmp_path / "out").exists()


def test_a_target_below_the_least_rate_ends_with_that(maps, tmp_path, capsys):
    (run,) = run_command_line(maps, tmp_path / "out", "--target_psnr", 3)
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert verdict.startswith("target   3.00 dB reached: ") and f", the least that it can have, {run}" in verdict
    least = json.loads((run / "config.json").read_text())["bpp"]
    with pytest.raises(UserError, match=rf"give --bpp {least:g} or more"):
        run_command_line(maps, tmp_path / "less", "--bpp", 0.9 * least)


@pytest.mark.skipif(bool(missing_packages("bc1")), reason="requirements/codecs.txt is not installed")
def test_a_codec_to_match(maps, tmp_path, capsys, monkeypatch):
    from dataset import load_material

    rival = encode_decode(load_material(str(maps)), "bc1")
    assert rival.psnr["all"] > 25  # out of reach for noise and so few iterations: as if it were less
    rival = dataclasses.replace(rival, psnr={**rival.psnr, "all": reachable_psnr(maps, tmp_path)})
    monkeypatch.setattr(texture_codecs, "encode_decode", lambda material, name: rival)
    run_command_line(maps, tmp_path / "out", "--match", "bc1")
    told = capsys.readouterr().out
    assert f"bc1: {rival.psnr['all']:.2f} dB at {rival.bpp:.2f} bpp" in told
    assert f"looking for {rival.psnr['all']:.2f} dB" in told
    assert told.splitlines()[-1].startswith(f"target   {rival.psnr['all']:.2f} dB ")


def test_the_best_of_two_runs():
    def result(psnr: float, bpp: float) -> Result:
        return Result(Path("run"), 1, {"psnr": {"all": psnr}}, {"bpp": bpp}, 1.0)

    assert best_result([result(31, 4), result(30.1, 3)], 30).rates["bpp"] == 3
    assert best_result([result(31, 4), result(29.9, 3)], 30).rates["bpp"] == 4
    assert best_result([result(29, 4), result(29.9, 5)], 30).rates["bpp"] == 5
