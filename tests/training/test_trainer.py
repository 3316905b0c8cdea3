"""The loop of a run: seeds, every knob, what is shown meanwhile, when it stops early, which checkpoints are kept."""

from __future__ import annotations

import io
import json
import re

import pytest
import torch
from PIL import Image as PillowImage

from configs import make_config
from metrics.scores import psnr_of
from tests.support.runs import (
    QUICK,
    _offline,  # noqa: F401  # autouse
    checkpoint_of,
    differences,
    newest_run,
    payload,
    process,
    quick,
    save_maps,
)
from training import start
from training.checkpoint import load_checkpoint
from training.trainer import next_boundary

# --- the same, and not the same ------------------------------------------------------------------------------------


def parameters(run, iteration):
    state = payload(checkpoint_of(run, iteration))
    return {"grids": state["grids"], "network": state["network"]}


def test_same_seed_same_bits(tmp_path):
    maps = save_maps(tmp_path / "maps")
    flags = ["--data_dir", maps, "--max_iter", 12]
    one, two = (quick(*flags, "--save_dir", tmp_path / name, "--seed", 5) for name in ("a", "b"))
    torch.rand(3)  # the caller's generator has no say
    other = quick(*flags, "--save_dir", tmp_path / "c", "--seed", 6)
    assert differences(parameters(one, 12), parameters(two, 12)) == []
    assert len(differences(parameters(one, 12), parameters(other, 12))) == 5


STEPS, PLATEAU = {"lr_scheduler": "steplr", "lr_step_size": 4}, {"lr_scheduler": "plateau", "early_stop": False,
                  "early_stop_interval": 4, "early_stop_psnr_threshold": 99.0}  # fmt: skip


@pytest.mark.parametrize(
    "base, change",
    [({}, {"learning_rate": 0.02}), ({}, {"grid_learning_rate": 0.05}), ({}, {"batch_size": 32}), ({}, {"seed": 1}),
     ({}, {"lr_scheduler": "cosine"}), ({}, {"lr_floor": 0.5}), ({}, {"lr_decay_start": 0.2}),
     ({}, {"lr_decay_power": 3.0}), (STEPS, {"lr_decay_factor": 0.9}), (STEPS, {"lr_step_size": 8}),
     (PLATEAU, {"lr_decay_factor": 0.9}), (PLATEAU, {"early_stop_interval": 8}),
     (PLATEAU, {"early_stop_psnr_threshold": 0.0}), ({}, {"noise_std": 0.5}), ({}, {"noise_anneal_fraction": 0.3}),
     ({}, {"wrap_boundary": False}), ({}, {"wrap_strength": 0.7}), ({}, {"wrap_interval": 5}), ({}, {"wrap_levels": 1}),
     ({}, {"texture_loss_weights": {"normal": 3}}), ({}, {"quantize": False}), ({}, {"linear_color": True}),
     ({}, {"quantize_bits": 8}), ({}, {"save_bits": 64}), ({}, {"n_frequencies": 3}), ({}, {"n_texel_frequencies": 2}),
     ({}, {"n_neurons": 32}), ({}, {"n_hidden_layers": 1}), ({}, {"max_iter": 13}),
     ({}, {"hash_grid_configs": [{}, {"learning_rate": 0.5}]})],
    ids=str,
)  # fmt: skip
def test_every_training_knob_changes_the_result(base, change, maps_of_16, trained):
    one, two = trained({**base}), trained({**base, **change})
    assert differences({"grids": one[0], "network": one[1]}, {"grids": two[0], "network": two[1]}) != []


@pytest.fixture(scope="module")
def maps_of_16(tmp_path_factory):
    return save_maps(tmp_path_factory.mktemp("maps16"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, maps_of_16):
    """trained(values): parameters after 12 iterations, on a schedule that uses every part of it."""
    known = {}

    def train_with(values):
        key = json.dumps(values, sort_keys=True)
        if key not in known:
            base = {"data_dir": str(maps_of_16), "save_dir": str(tmp_path_factory.mktemp("knob")), "max_iter": 12,
                    "batch_size": 64, "n_neurons": 16, "wrap_interval": 2, "lr_decay_start": 0.5}  # fmt: skip
            values = {**base, **values}
            result = start.train_material(make_config(values), say=lambda text: None, quiet=True)
            state = payload(checkpoint_of(result.run, values["max_iter"]))
            known[key] = state["grids"], state["network"]
        return known[key]

    return train_with


# --- watching ------------------------------------------------------------------------------------------------------


def test_progress_bar_on_a_terminal(tmp_path, monkeypatch, maps_of_16):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    quick("--data_dir", maps_of_16, "--save_dir", tmp_path, "--max_iter", 60)
    shown = terminal.getvalue()
    assert "60/60" in shown and "it/s" in shown and re.search(r"PSNR \d+\.\d\d dB", shown)
    assert "00:00<" in shown.replace("00:01<", "00:00<").replace("00:02<", "00:00<"), "elapsed and remaining time"


def test_a_process_without_a_terminal(tmp_path):
    """The command as people type it: exit code, stdout without a bar, nothing on stderr."""
    maps = save_maps(tmp_path / "maps", 8, 8)
    flags = ["--mode", "train", "--data_dir", "maps", "--save_dir", "./out", "--quantize", "True", "--max_iter", 30]
    result = process(*QUICK, *flags, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert "it/s" not in result.stdout and "\r" not in result.stdout
    assert "PSNR" in result.stdout and "LPIPS is left out" in result.stdout
    assert checkpoint_of(newest_run(tmp_path / "out"), 30).is_dir() and maps.is_dir()


def test_output_that_cannot_show_every_character(tmp_path):
    """A pipe on Windows, a C locale: what a character set lacks must not end a run of hours."""
    save_maps(tmp_path / "größe", 8, 8)
    flags = ["--data_dir", "größe", "--save_dir", "out", "--max_iter", 3]
    result = process(*QUICK, *flags, cwd=tmp_path, environment={"PYTHONIOENCODING": "ascii"}, own=True)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr[-500:]


# --- early stop ----------------------------------------------------------------------------------------------------


def flat_material(folder):
    """One colour but for a texel: learned at once, so that PSNR stands still."""
    folder.mkdir()
    picture = PillowImage.new("RGB", (8, 8), (100, 150, 200))
    picture.putpixel((0, 0), (101, 151, 201))  # channels with one value would not be trained
    picture.save(folder / "made_diffuse.png")
    return folder


@pytest.mark.parametrize("scheduler", ["plateau", "poly", "cosine", "steplr"])
def test_early_stop(tmp_path, capsys, scheduler):
    flags = ["--data_dir", flat_material(tmp_path / "maps"), "--save_dir", tmp_path / "out", "--max_iter", 120]
    flags += ["--early_stop_interval", 10, "--early_stop_psnr_threshold", 1000, "--lr_scheduler", scheduler]
    flags += ["--noise_anneal_fraction", 0.2, "--lr_decay_factor", 0.05, "--lr_decay_start", 0.1, "--lr_step_size", 10]
    flags += ["--lr_decay_power", 3]
    run = quick(*flags, quiet=False)
    said = capsys.readouterr().out
    iteration = load_checkpoint(run).iteration
    # plateau: down to 0.05 at 20 and to the floor at 30; steplr: decayed at 10, no more noise at 20
    assert {"plateau": iteration == 40, "steplr": iteration == 30}.get(scheduler, 30 < iteration < 120), iteration
    assert iteration % 10 == 0
    assert "stopped early" in said and said.count("learning rates x") == (2 if scheduler == "plateau" else 0)
    assert payload(checkpoint_of(run, iteration))["training"]["stopped"] is True
    metrics = json.loads((run / "metrics.json").read_text())
    manifest = json.loads((checkpoint_of(run, iteration) / "manifest.json").read_text())
    assert metrics["iteration"] == iteration and manifest["metrics"] == metrics
    assert (run / "media" / "diffuse.png").is_file()
    config = json.loads((run / "config.json").read_text())
    assert config["max_iter"] == 120


def test_without_early_stop_a_flat_run_goes_on(tmp_path):
    flags = ["--data_dir", flat_material(tmp_path / "maps"), "--save_dir", tmp_path / "out", "--max_iter", 60]
    flags += ["--lr_scheduler", "plateau", "--early_stop_interval", 5, "--early_stop_psnr_threshold", 1000]
    flags += ["--noise_std", 0, "--lr_decay_factor", 0.05]
    assert load_checkpoint(quick(*flags, "--early_stop", "False")).iteration == 60
    assert load_checkpoint(quick(*flags)).iteration == 20


def test_a_rising_psnr_does_not_stop(tmp_path, maps_of_16):
    flags = ["--data_dir", maps_of_16, "--save_dir", tmp_path / "out", "--lr_scheduler", "plateau", "--max_iter", 60]
    run = quick(*flags, "--early_stop_interval", 20, "--early_stop_psnr_threshold", 0, "--noise_std", 0)
    assert load_checkpoint(run).iteration == 60
    assert payload(checkpoint_of(run, 60))["training"]["schedule"]["plateau_factor"] == 1.0


# --- small parts ---------------------------------------------------------------------------------------------------


def test_next_boundary_meets_every_interval():
    config = make_config({"max_iter": 101, "eval_interval": 30, "save_interval": 7, "early_stop_interval": 40})
    seen, iteration = [], 0
    while iteration < 101:
        iteration = next_boundary(iteration, config, 25)
        seen.append(iteration)
    expected = {i for i in range(1, 101) if not (i % 25 and i % 30 and i % 7 and i % 40)}
    assert seen == sorted(expected | {101})


def test_psnr_of():
    assert psnr_of(0.01) == pytest.approx(20)
    assert psnr_of(0.0) == 100.0 and psnr_of(float("nan")) == psnr_of(float("inf")) == 0.0


@pytest.mark.parametrize("keep, left", [(0, [5, 10, 15, 20]), (2, [15, 20]), (1, [20])])
def test_keep_checkpoints(tmp_path, maps_of_16, keep, left):
    flags = ["--data_dir", maps_of_16, "--save_dir", tmp_path, "--max_iter", 20, "--save_interval", 5]
    run = quick(*flags, "--keep_checkpoints", keep)
    assert {path.name for path in (run / "models").iterdir()} == {f"train_result_{i}" for i in left}


def test_num_threads(tmp_path, maps_of_16):
    run = quick("--data_dir", maps_of_16, "--save_dir", tmp_path, "--max_iter", 2, "--num_threads", 1)
    assert torch.get_num_threads() == 1
    assert json.loads((run / "config.json").read_text())["environment"]["threads"] == 1
