"""Resuming: a run that was stopped and continued equals one that never stopped, bit for bit."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import time

import pytest
import torch

import train
from tests.support.forked import python
from tests.support.runs import (
    OFFLINE,
    QUICK,
    ROOT,
    _offline,  # noqa: F401  # autouse
    checkpoint_differences,
    checkpoint_of,
    leftovers,
    newest_run,
    patch_step,
    payload,
    quick,
    refusal,
    save_maps,
    signal_at,
    tree,
)
from training import trainer
from training.checkpoint import load_checkpoint
from training.run_folder import list_checkpoints

N = 60
# Each with something to remember: rates that were lowered, noise that was ended, a segment half done.
SCHEDULES = {
    "poly": ["--lr_scheduler", "poly"],
    "torch": ["--engine", "torch"],
    "weights": ["--weight_bits", 8, "--weight_round_start", 0.6],
    "whole numbers": ["--activation_bits", 8, "--weight_round_start", 0.6, "--activation", "hard_swish"],
    "plateau": ["--lr_scheduler", "plateau", "--early_stop", "False", "--early_stop_interval", 8, "--lr_decay_factor",
                0.8, "--early_stop_psnr_threshold", 50],
    "steplr": ["--lr_scheduler", "steplr", "--early_stop_interval", 14, "--lr_step_size", 7, "--lr_decay_factor", 0.4,
               "--early_stop_psnr_threshold", 50, "--noise_anneal_fraction", 1],  # stops at 42
}  # fmt: skip


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return save_maps(tmp_path_factory.mktemp("maps"), 16, 12)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, maps):
    """The run folder of a schedule's N iterations in one go, with every checkpoint that a resumed run may meet."""
    known = {}

    def run(schedule):
        if schedule not in known:
            known[schedule] = quick(*flags_of(schedule, maps, tmp_path_factory.mktemp("whole")))
        return known[schedule]

    return run


def flags_of(schedule, maps, save_dir):
    always = ["--data_dir", maps, "--save_dir", save_dir, "--max_iter", N, "--wrap_interval", 3, "--save_interval", 15]
    return [*always, "--eval_interval", 30, *SCHEDULES[schedule]]


def copy_until(run, target, iteration):
    """A copy of a run as it was after `iteration`."""
    target = shutil.copytree(run, target / run.name)
    for other, folder in list_checkpoints(target).items():
        if other > iteration:
            shutil.rmtree(folder)
    return target


def last_checkpoint(run):
    return run / "models" / f"train_result_{max(list_checkpoints(run))}"


# --- bit for bit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(  # none is a chunk's end
    "schedule, k",
    [("poly", 15), ("poly", 30), ("poly", 45), ("torch", 30), ("weights", 30), ("weights", 45), ("plateau", 15),
     ("plateau", 30), ("steplr", 30)],
)
def test_resumed_equals_undisturbed(schedule, k, undisturbed, tmp_path):
    whole = undisturbed(schedule)
    run = copy_until(whole, tmp_path, k)
    quick("--load_dir", run)
    assert list(list_checkpoints(run)) == list(list_checkpoints(whole))
    for iteration, folder in list_checkpoints(whole).items():
        assert checkpoint_differences(folder, checkpoint_of(run, iteration)) == []
    assert (run / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()
    assert leftovers(run) == []


def test_the_schedules_of_this_file_have_something_to_remember(undisturbed):
    plateau = payload(checkpoint_of(undisturbed("plateau"), 30))["training"]
    assert plateau["schedule"]["plateau_factor"] < 0.9 and plateau["early_stopping"]["count"] == 6
    steplr = undisturbed("steplr")
    assert payload(checkpoint_of(steplr, 30))["training"]["schedule"]["noise_ended"] is True
    assert last_checkpoint(steplr).name == "train_result_42"
    assert payload(last_checkpoint(steplr))["training"]["stopped"] is True
    moments = payload(checkpoint_of(undisturbed("poly"), 30))["training"]["engine"]["optimizer"]
    assert len(moments) == 5 and all(m["exp_avg_sq"].abs().sum() > 0 for m in moments.values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("k", [0, 25, 30, N - 1])
def test_interrupted_equals_undisturbed(k, number, undisturbed, maps, tmp_path, monkeypatch, capsys):
    """The signal comes in the chunk that reaches k; training goes on from that chunk's end."""
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        signal_at(patch, number, k)
        if k == 0:  # before the first iteration
            patch.setattr(trainer, "RunLog", lambda *a, log=trainer.RunLog: (os.kill(os.getpid(), number), log(*a))[1])
        code = train.main([*QUICK, *map(str, flags_of("poly", maps, tmp_path / "it's here"))])
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    said = capsys.readouterr().out
    run = newest_run(tmp_path / "it's here")
    assert code == 128 + number
    stopped_at = load_checkpoint(run).iteration
    assert stopped_at == {0: 0, 25: 25, 30: 30, N - 1: N}[k] and f"at iteration {stopped_at}" in said
    command = shlex.split(re.search("continue with: (.*)", said)[1])  # after the last chunk: to refine
    assert command[:2] == ["python", "train.py"]
    assert train.main(command[2:]) == 0
    whole = undisturbed("poly")
    assert checkpoint_differences(last_checkpoint(whole), last_checkpoint(run)) == []
    assert leftovers(tmp_path) == []


def test_without_refining_nothing_is_left_to_interrupt_after_the_last_chunk(maps, tmp_path, monkeypatch, capsys):
    signal_at(monkeypatch, signal.SIGINT, N - 1)
    assert train.main([*QUICK, *map(str, flags_of("poly", maps, tmp_path)), "--refine", "0"]) == 0
    assert "PSNR" in capsys.readouterr().out


PACED = """
import sys, time
import train
from common.errors import run_command
from engine.cpu import engine
engine.CHUNKS = (25,)
step = engine.CpuEngine.step
engine.CpuEngine.step = lambda self, n: (time.sleep(0.06), step(self, n))[1]  # slow enough to be met anywhere
sys.exit(run_command(train.main))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_at_a_random_moment(name, undisturbed, maps, tmp_path):
    number = getattr(signal, name)
    command = [*python(), "-c", PACED, *QUICK, *map(str, flags_of("poly", maps, tmp_path)), "--num_threads", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
                               env={**os.environ, **OFFLINE, "PYTHONUNBUFFERED": "1"})  # fmt: skip
    try:
        for line in process.stdout:
            if line.startswith("grids"):  # training begins
                break
        time.sleep(random.SystemRandom().uniform(0, 0.3))
        process.send_signal(number)
        said, complained = process.communicate(timeout=60)
    finally:
        process.kill()
    assert complained == ""
    run = newest_run(tmp_path)
    if process.returncode != 0:  # 0: this machine was so slow that the signal met the end
        assert process.returncode == 128 + number
        assert "stopped by " + name in said and f"--load_dir {run}" in said
        quick("--load_dir", run, "--num_threads", 0)
    one, other = last_checkpoint(undisturbed("poly")), last_checkpoint(run)
    left = [d for d in checkpoint_differences(one, other) if "config/num_threads" not in d]
    assert left == []
    assert leftovers(tmp_path) == []


def test_a_second_interrupt_does_not_wait(maps, tmp_path, monkeypatch):
    def impatient(self, n):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        raise AssertionError("not interrupted")

    patch_step(monkeypatch, lambda step: impatient)
    assert train.run_command(lambda: train.main([*QUICK, "--data_dir", str(maps), "--save_dir", str(tmp_path)])) == 130
    assert leftovers(tmp_path) == []


def test_float_features_resume_too(maps, tmp_path):
    flags = ["--data_dir", maps, "--max_iter", 20, "--save_interval", 10, "--quantize", "False"]
    whole = quick(*flags, "--save_dir", tmp_path / "a")
    run = copy_until(whole, tmp_path / "b", 10)
    quick("--load_dir", run, "--quantize", "no")
    assert checkpoint_differences(checkpoint_of(whole, 20), checkpoint_of(run, 20)) == []


def test_learned_grids_resume_too(maps, tmp_path):
    (tmp_path / "my.yaml").write_text("hash_grid_configs: [{interpolation: learned, save_bits: 64}, {save_bits: 8}]")
    flags = ["--config", tmp_path / "my.yaml", "--data_dir", maps, "--max_iter", 20, "--save_interval", 10]
    whole = quick(*flags, "--save_dir", tmp_path / "a")
    for name, more in (("b", []), ("c", ["--config", tmp_path / "my.yaml"])):
        run = copy_until(whole, tmp_path / name, 10)
        quick("--load_dir", run, *more)
        assert checkpoint_differences(checkpoint_of(whole, 20), checkpoint_of(run, 20)) == []


def test_grids_of_blocks_resume_too(maps, tmp_path, capsys):
    first = "{max_resolution: 8, storage: bc1, interpolation: learned}"
    grids = f"hash_grid_configs: [{first}, {first}, {{max_resolution: 6, storage: %s}}]"
    (tmp_path / "my.yaml").write_text(grids % "bc1")
    flags = ["--config", tmp_path / "my.yaml", "--data_dir", maps, "--max_iter", 20, "--save_interval", 10]
    whole = quick(*flags, "--engine", "torch", "--refine", 0, "--save_dir", tmp_path / "a", quiet=False)
    said = capsys.readouterr().out
    assert "grids 2 of 8² texels of BC1, three channels, 4 levels  6² texels of BC1, three channels, 2 levels" in said
    assert [texture.name for texture in checkpoint_of(whole, 20).glob("*.dds")] != []
    run = copy_until(whole, tmp_path / "b", 10)
    (tmp_path / "other.yaml").write_text(grids % "packed")
    line = refusal(capsys, "--load_dir", run, "--config", tmp_path / "other.yaml")
    assert "hash_grid_configs[2] with storage packed: " in line
    assert "was trained with storage bc1, and" in line
    (tmp_path / "fewer.yaml").write_text(f"hash_grid_configs: [{first}]")
    line = refusal(capsys, "--load_dir", run, "--config", tmp_path / "fewer.yaml")
    assert "hash_grid_configs of 1 grid: " in line and "was trained with 3 grids" in line
    quick("--load_dir", run, "--config", tmp_path / "my.yaml")
    assert checkpoint_differences(checkpoint_of(whole, 20), checkpoint_of(run, 20)) == []
    assert train.main(["--mode", "infer", "--load_dir", str(run)]) == 0


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_grids_of_width_and_height_resume_too(engine, maps, tmp_path, capsys):
    """With the search of codes and of blocks; the flags of the first call are those of the second."""
    grids = (
        "hash_grid_configs: [{max_resolution: [32, 4], interpolation: learned, quantize_bits: 2, save_bits: 8}, "
        "{max_resolution: [4, 12], storage: bc1}]"
    )
    (tmp_path / "my.yaml").write_text(grids)
    flags = ["--config", tmp_path / "my.yaml", "--data_dir", maps, "--max_iter", 20, "--save_interval", 10]
    whole = quick(*flags, "--engine", engine, "--refine", 1, "--save_dir", tmp_path / "a", quiet=False)
    assert "grids 32x4 texels of 4 x 2 bits, 3 levels  4x12 texels of BC1, three channels, 3" in capsys.readouterr().out
    run = copy_until(whole, tmp_path / "b", 10)
    quick("--load_dir", run, "--config", tmp_path / "my.yaml")
    assert checkpoint_differences(checkpoint_of(whole, 20), checkpoint_of(run, 20)) == []
    assert train.main(["--mode", "infer", "--load_dir", str(run)]) == 0
    (tmp_path / "other.yaml").write_text(grids.replace("[32, 4]", "[4, 32]"))
    line = refusal(capsys, "--load_dir", run, "--config", tmp_path / "other.yaml")
    assert "hash_grid_configs" in line and "another model" in line


# --- which checkpoint ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags, start", [([], 45), (["--load_iter", -1], 45), (["--load_iter", 15], 15)], ids=str)
def test_load_iter(flags, start, undisturbed, tmp_path, capsys):
    run = copy_until(undisturbed("poly"), tmp_path, 45)
    older = {name: tree(checkpoint_of(run, name)) for name in (15, 30, 45)}
    quick("--load_dir", run, *flags, quiet=False)
    said = capsys.readouterr().out
    assert f"at iteration {start}" in said
    assert list(list_checkpoints(run)) == [15, 30, 45, 60]
    if start == 45:
        assert not (run / "models" / "superseded").exists()
    else:
        stamp, = (run / "models" / "superseded").iterdir()
        assert {p.name: tree(p) for p in stamp.iterdir()} == {f"train_result_{i}": older[i] for i in (30, 45)}
        assert "30, 45" in said and "superseded" in said
    assert tree(checkpoint_of(run, 15)) == older[15]


def test_the_contract_line_resumes(undisturbed, tmp_path, maps):
    """The training command with --load_iter and --load_dir behind it, as issue 2 writes it."""
    run = copy_until(undisturbed("poly"), tmp_path, 30)
    line = ["--mode", "train", "--data_dir", maps, "--save_dir", tmp_path / "other", "--quantize", "True"]
    line += ["--quantize_bits", 4, "--save_bits", 32, "--load_iter", 30, "--load_dir", run]
    quick(*line)
    assert checkpoint_differences(last_checkpoint(undisturbed("poly")), last_checkpoint(run)) == []
    assert not (tmp_path / "other").exists(), "a resumed run stays in its folder"


def test_superseded_twice(undisturbed, tmp_path, monkeypatch):
    run = copy_until(undisturbed("poly"), tmp_path, 60)
    for _ in range(2):  # within one second
        monkeypatch.setattr("time.strftime", lambda pattern: "2026-01-31-12-00-00")
        quick("--load_dir", run, "--load_iter", 45)
    moved = [path.name for path in (run / "models" / "superseded").rglob("train_result_60")]
    assert len(moved) == 2


def test_from_inside_the_run_folder(undisturbed, tmp_path, monkeypatch):
    """`cd outputs/<run>; python train.py --load_dir .`: the same files in the same places."""
    run = copy_until(undisturbed("poly"), tmp_path, 45)
    monkeypatch.chdir(run)
    quick("--load_dir", ".")
    assert checkpoint_of(run, 60).is_dir()
    assert {path.name for path in run.iterdir()} == {
        "config.json", "metrics.json", "metrics.txt", "media", "models", "run.lock",
    }  # fmt: skip
    assert (tmp_path / "tensorboard" / run.name).is_dir()


# --- flags on top --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags, name",
    [(["--quantize_bits", 8], "quantize_bits"), (["--save_bits", 64], "save_bits"), (["--quantize", "no"], "quantize"),
     (["--n_neurons", 32], "n_neurons"), (["--n_hidden_layers", 3], "n_hidden_layers"),
     (["--linear_color"], "linear_color"), (["--n_frequencies", 12], "n_frequencies"),
     (["--n_texel_frequencies", 2], "n_texel_frequencies"), (["--config", "GRIDS"], "hash_grid_configs"),
     (["--config", "BLOCKS"], "hash_grid_configs")],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("mode", ["train", "infer"])
def test_flags_that_contradict_the_checkpoint(flags, name, mode, undisturbed, tmp_path, capsys):
    run = undisturbed("poly")
    if "--config" in flags:
        grids = {"GRIDS": "[{max_resolution: 8}]", "BLOCKS": "[{storage: bc1}, {}]"}[flags[1]]
        (tmp_path / "my.yaml").write_text(f"hash_grid_configs: {grids}")
        flags = ["--config", tmp_path / "my.yaml"]
    before = tree(run)
    line = refusal(capsys, "--mode", mode, "--load_dir", run, "--load_iter", 15, *flags)
    assert (name if "--config" in flags else f"--{name} ") in line and "train_result_15" in line
    assert tree(run) == before


def test_other_flags_count_from_now_on(undisturbed, tmp_path, capsys):
    run = copy_until(undisturbed("poly"), tmp_path, 30)
    quick("--load_dir", run, "--max_iter", 70, "--learning_rate", 0.003, "--save_interval", 20, "--batch_size", 32)
    assert list(list_checkpoints(run)) == [15, 30, 40, 60, 70]
    config = json.loads((run / "config.json").read_text())
    assert (config["max_iter"], config["learning_rate"], config["save_interval"]) == (70, 0.003, 20)
    assert config["wrap_interval"] == 3, "what was not given is kept"
    assert load_checkpoint(run).config.batch_size == 32


def test_finished_run(undisturbed, tmp_path, capsys):
    run = copy_until(undisturbed("poly"), tmp_path, 60)
    before = tree(run)
    line = refusal(capsys, "--load_dir", run)
    assert "60 of 60" in line and "--max_iter" in line and "--load_iter" in line and "infer" in line
    assert tree(run) == before
    quick("--load_dir", run, "--max_iter", 65)
    assert list(list_checkpoints(run))[-1] == 65


def test_run_that_stopped_early(undisturbed, tmp_path, capsys):
    run = copy_until(undisturbed("steplr"), tmp_path, 60)
    last = max(list_checkpoints(run))
    assert last < N
    line = refusal(capsys, "--load_dir", run)
    assert "stopped early" in line and "--early_stop False" in line and str(last) in line
    quick("--load_dir", run, "--early_stop", "False")
    assert list(list_checkpoints(run))[-1] == N


@pytest.mark.parametrize(
    "width, height, present, words",
    [(12, 16, ("diffuse", "normal", "roughness"), ("16x12", "12x16")),
     (16, 12, ("diffuse", "normal"), ("roughness",)),
     (16, 12, ("diffuse", "normal", "metallic"), ("metallic",))],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("mode", ["train", "infer"])
def test_another_material(width, height, present, words, mode, undisturbed, tmp_path, capsys):
    run = copy_until(undisturbed("poly"), tmp_path, 60)
    other = save_maps(tmp_path / "other", width, height, present)
    before = tree(run)
    line = refusal(capsys, "--mode", mode, "--load_dir", run, "--load_iter", 15, "--data_dir", other)
    assert all(word in line for word in words)
    assert tree(run) == before


def test_other_pixels_are_noted(undisturbed, tmp_path, capsys):
    run = copy_until(undisturbed("poly"), tmp_path, 45)
    quick("--load_dir", run, "--data_dir", save_maps(tmp_path / "other", 16, 12, seed=1), quiet=False)
    assert "not the ones" in capsys.readouterr().out


def test_material_that_is_gone(undisturbed, maps, tmp_path, capsys):
    moved = save_maps(tmp_path / "moved", 16, 12)
    run = quick("--data_dir", moved, "--save_dir", tmp_path / "out", "--max_iter", 10, "--save_interval", 5)
    moved.rename(tmp_path / "there")
    before = tree(tmp_path)
    assert str(moved) in refusal(capsys, "--load_dir", run, "--load_iter", 5)
    assert tree(tmp_path) == before
    quick("--load_dir", run, "--load_iter", 5, "--data_dir", tmp_path / "there")


# --- what a resumed run remembers ----------------------------------------------------------------------------------


def test_seconds_add_up(undisturbed, tmp_path):
    run = copy_until(undisturbed("poly"), tmp_path, 45)
    state = payload(checkpoint_of(run, 45))
    state["training"]["seconds"] = 1000.0
    torch.save(state, checkpoint_of(run, 45) / "model.pth")
    quick("--load_dir", run)
    assert 1000 < payload(checkpoint_of(run, 60))["training"]["seconds"] < 1060


def test_tensorboard_goes_on_in_the_same_folder(undisturbed, tmp_path, maps):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    whole = undisturbed("poly")
    save_dir = shutil.copytree(whole.parent, tmp_path / "out")  # with tensorboard/
    run = save_dir / whole.name
    started = int(next((save_dir / "tensorboard" / run.name).iterdir()).name.split(".")[3])
    while int(time.time()) <= started:  # event files are named by the second
        time.sleep(0.05)
    quick("--load_dir", run, "--load_iter", 30)
    assert [path.name for path in (save_dir / "tensorboard").iterdir()] == [run.name]
    assert len(list((save_dir / "tensorboard" / run.name).iterdir())) == 2
    logs = [EventAccumulator(str(folder / "tensorboard" / run.name)).Reload() for folder in (whole.parent, save_dir)]
    assert logs[0].Tags()["scalars"] == logs[1].Tags()["scalars"]
    for tag in ("Loss/train", "PSNR/LOD0", "LearningRate/network", "Noise/strength"):
        one, other = ([(event.step, event.value) for event in log.Scalars(tag)] for log in logs)
        assert one == other and len(one) > 1, tag
