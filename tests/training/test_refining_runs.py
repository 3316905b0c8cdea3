"""--refine in whole runs: interrupted, given later, and what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal

import pytest

import train
from tests.support.runs import (
    QUICK,
    checkpoint_differences,
    checkpoint_of,
    leftovers,
    newest_run,
    offline,
    payload,
    quick,
    refusal,
    save_maps,
)
from training import code_refinement as refine


@pytest.fixture(scope="module")
def _offline():
    with offline():
        yield


def flags(maps, save_dir, rounds, *more):
    return ["--data_dir", maps, "--save_dir", save_dir, "--max_iter", 30, "--quantize_bits", 2, "--save_bits", 8,
            "--refine", rounds, *more]  # fmt: skip


@pytest.mark.usefixtures("_offline")
def test_rounds_given_later_or_after_an_interrupt_are_the_same_as_rounds_in_one_go(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(refine, "TUNE_ITERATIONS", 20)
    maps = save_maps(tmp_path / "maps", 16, 12)
    whole = quick(*flags(maps, tmp_path / "whole", 3))
    assert "refining 3 of 3" not in capsys.readouterr().err
    later = quick(*flags(maps, tmp_path / "later", 1))
    assert payload(checkpoint_of(later, 30))["training"]["refined"] == 1
    quick("--load_dir", later, "--refine", 3)
    one_round = refine.Refinement.round

    def interrupted_round(self, index):
        if index == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return one_round(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(refine.Refinement, "round", interrupted_round)
        assert train.main([*QUICK, *map(str, flags(maps, tmp_path / "cut", 3))]) == 130
    said = capsys.readouterr().out
    assert "refining 1 of 3" in said and "refining 2 of 3" not in said
    cut = newest_run(tmp_path / "cut")
    assert payload(checkpoint_of(cut, 30))["training"]["refined"] == 1
    assert train.main(shlex.split(re.search("continue with: (.*)", said)[1])[2:]) == 0
    for run in (later, cut):
        assert checkpoint_differences(checkpoint_of(whole, 30), checkpoint_of(run, 30)) == []
    assert leftovers(tmp_path) == []


@pytest.mark.usefixtures("_offline")
def test_refining_shows_in_what_is_said_and_in_the_psnr(tmp_path, capsys):
    maps = save_maps(tmp_path / "maps", 16, 12)
    psnr = []
    for rounds in (0, 1):
        assert train.main([*QUICK, *map(str, flags(maps, tmp_path / str(rounds), rounds))]) == 0
        assert ("refining 1 of 1" in capsys.readouterr().out) == (rounds == 1)
        metrics = json.loads((newest_run(tmp_path / str(rounds)) / "metrics.json").read_text())
        psnr.append(metrics["psnr"]["all"])
    assert psnr[1] > psnr[0] + 0.05


@pytest.mark.usefixtures("_offline")
def test_a_finished_run_with_all_its_rounds_has_nothing_left(tmp_path, capsys):
    maps = save_maps(tmp_path / "maps", 16, 12)
    run = quick(*flags(maps, tmp_path / "out", 1))
    assert "already reached" in refusal(capsys, "--load_dir", run)
    assert "already reached" in refusal(capsys, "--load_dir", run, "--refine", 1)
    early = quick(*flags(maps, tmp_path / "early", 1, "--save_interval", 10))
    assert "already reached" in refusal(capsys, "--load_dir", early, "--load_iter", 20, "--max_iter", 15)
