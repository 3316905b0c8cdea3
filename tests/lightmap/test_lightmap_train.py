"""Training a day: the quality it has to reach, controls that must not reach it, resuming, and the commands."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.lightmap import DIRECT, LARGE, SMALL, large_gates, passed, shuffled, small_gates, train_day
from common.errors import UserError
from lightmap import checkpoints
from lightmap.basis_start import state_of
from lightmap.options import make_options, parse_args
from lightmap.rendering import from_checkpoint
from lightmap.trainer import Trainer
from lightmap.training import resumed_options, train
from tests.support.forked import python
from tests.support.lightmap_days import (
    TINY,
    StopsLater,
    moving_frames,
    save_frames,
    scene,
    scene_folder,
    tiny,
    trained,
)
from tests.support.paths import ROOT

CPU = torch.device("cpu")


def missed(gates) -> list[str]:
    return [gate[0] for gate in gates if not passed(gate)]


def report_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


# --- quality ---------------------------------------------------------------------------------------------------------


def test_small_form_reaches_its_marks_and_an_untrained_f2_does_not():
    day, half = scene()
    report = train_day(day, half, SMALL)
    assert report["steps"] == 245 and not missed(small_gates(report))
    control = train_day(day, half, {**SMALL, "epochs": 1, "samples_per_epoch": 40_000}, untrained_f2=True)
    assert "small form, hours" in missed(small_gates(control))


@pytest.mark.timeout(300)  # the run that the tests below share
def test_large_form_reaches_its_marks():
    report = report_of(trained())
    assert report["steps"] == 864 and not missed(large_gates(report))
    simple, forms = report["baselines"], report["forms"]
    assert simple["linear_blend"]["psnr_hours"] is None and simple["mean_image"]["psnr_hours"] < 15
    assert forms["f1_f2"]["psnr_hours"] == pytest.approx(report["psnr_hours"], abs=0.01)


def test_shuffled_hours_miss_them():
    day, half = scene()
    report = train_day(shuffled(day), half, {**LARGE, "epochs": 8})
    assert {"large form, half-hours", "half-hours over the nearest hour"} <= set(missed(large_gates(report)))


def test_learned_grid_is_small_and_good():
    report = train_day(*scene(), {**DIRECT, "epochs": 24})
    form = report["forms"]["latent_q8_f2"]
    assert report["psnr_hours"] > 26 and report["psnr_half_hours"] > 25
    assert form["psnr_hours"] == pytest.approx(report["psnr_hours"], abs=1e-3)  # what trains is what is stored
    assert form["memory_bytes"] < 32 * 32 * 8 + 9000 and form["file_bytes"] < report["files"]["bytes"] / 3


def test_report_counts_what_is_on_disk():
    folder = trained()
    report, forms = report_of(folder), report_of(folder)["forms"]
    png = sum(path.stat().st_size for path in scene_folder().glob("tod_*.png"))
    f2 = 4 * (36 * 64 + 64 + 3 * (64 * 64 + 64) + 3 * 64 + 3)
    assert report["files"] == {"kind": "PNG", "bytes": png} and report["raw_bytes"] == 64 * 64 * 24 * 3
    assert forms["f1_f2"]["bytes"] == (folder / "f1_f2.npz").stat().st_size
    assert forms["f1_f2_float16"]["bytes"] == (folder / "f1_f2_float16.npz").stat().st_size
    assert forms["latent_f32_f2"]["file_bytes"] == (folder / "latent_map.npy").stat().st_size + f2
    assert forms["latent_q8_f2"]["file_bytes"] == (folder / "latent_map_q8.npz").stat().st_size + f2
    planes = sum(path.stat().st_size - 148 for path in folder.glob("latent_*.dds"))  # less the headers
    assert forms["latent_q8_f2"]["bytes"] == planes + f2
    assert report["rivals"]["bc7"]["bytes"] == 24 * 64 * 64 and report["rivals"]["bc1"]["bytes"] == 12 * 64 * 64
    for form in forms.values():
        assert form["bits_per_pixel_and_frame"] == pytest.approx(8 * form["bytes"] / (24 * 64 * 64))
        assert form["pca_at_equal_bytes"]["bytes"] <= form["bytes"]
        assert not form["files"] or all(any(folder.glob(name)) for name in form["files"])
    assert forms["latent_f32_f2"]["bytes"] > png  # as the page says


def test_report_s_psnr_is_that_of_the_rendered_images():
    day, half = scene()
    found, report = from_checkpoint(trained() / "best.ckpt"), report_of(trained())
    for of, shift, name in ((day, 0, "psnr_hours"), (half, 0.5, "psnr_half_hours")):
        codes = [np.rint(found.light(hour) * 255) for hour in of.times(shift)]
        source = [np.rint(of.image(frame) * 255) for frame in range(24)]
        error = np.mean((np.array(codes, float) - np.array(source)) ** 2) / 255**2
        assert report[name] == pytest.approx(-10 * np.log10(error), abs=0.02)


def test_best_is_best_on_held_out_texels(tmp_path):
    """A rate that grows wild late in the run: the checkpoint kept is an earlier one."""
    options = make_options({**TINY, "epochs": 6, "lr": 1e-3})
    trainer = Trainer(options, scene()[0], CPU)
    scores, wild = iter([10.0, 20.0, 30.0, 5.0, 4.0, 3.0]), []
    trainer.held_out_db = lambda: wild.append(state_of(trainer.model)) or next(scores)
    assert trainer.train(tmp_path, quiet=True)
    best, last = checkpoints.load(tmp_path / "best.ckpt"), checkpoints.load(tmp_path / "last.ckpt")
    assert best.epoch == 3 and best.held_out_db == 30 and last.epoch == 6
    assert all(torch.equal(best.model.state_dict()[key], value) for key, value in wild[2].items())


def test_masked_texels_are_neither_trained_on_nor_measured():
    day, _ = scene()
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[:, :32] = True
    broken = day.frames.clone().view(64, 64, 24, 3)
    broken[:, 32:] = torch.randint(256, (64, 32, 24, 3), dtype=torch.uint8)
    masked = dataclasses.replace(day, mask=mask.flatten(), frames=broken.view(4096, 24, 3))
    report = train_day(masked, None, {**SMALL, "epochs": 2})
    assert report["psnr_hours"] > 18 and report["psnr_half_hours"] is None
    assert report["texels_compared"] == 2048
    everywhere = train_day(
        dataclasses.replace(masked, mask=torch.ones(4096, dtype=torch.bool)), None, {**SMALL, "epochs": 2}
    )
    assert everywhere["psnr_hours"] < report["psnr_hours"] - 3


# --- going on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["f1", "direct"])
@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_resumed_run_has_the_bits_of_one_that_was_never_stopped(tmp_path, mode, engine):
    data = save_frames(tmp_path / "data", moving_frames())
    given = {**TINY, "data_dir": str(data), "engine": engine, "latent_mode": mode, "save_every": 2}

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train({**given, "out_dir": str(whole)}, lambda _: None, True) == 0
    from lightmap.data import load_day
    from lightmap.training import choose_step

    options = make_options({**given, "out_dir": str(parts)})
    first = Trainer(options, load_day(data), CPU, make_step=choose_step(engine, CPU))
    assert not first.train(parts, StopsLater(), quiet=True)
    assert 0 < first.iteration < first.total and first.iteration % first.steps_per_epoch  # in the middle of an epoch
    assert (
        train({"data_dir": str(data), "out_dir": str(parts), "resume": True, "engine": engine}, lambda _: None, True)
        == 0
    )
    for name in ("last.ckpt", "best.ckpt"):
        a, b = checkpoints.load(whole / name), checkpoints.load(parts / name)
        assert a.step == b.step and a.held_out_db == b.held_out_db
        assert all(torch.equal(value, b.model.state_dict()[key]) for key, value in a.model.state_dict().items())


def test_resuming_refuses_another_run_s_options_and_frames(tmp_path, refused):
    folder = tiny("f1", 1)
    with refused("--latent_dim 6", "begun with 5"):
        resumed_options({"latent_dim": 6}, folder)
    with refused("--bytes 3k", "begun without it"):
        resumed_options({"bytes": "3k"}, folder)
    other = save_frames(tmp_path / "other", moving_frames(24, 10, 14))
    with refused("last.ckpt", "other"):
        train({"data_dir": str(other), "out_dir": str(folder), "resume": True}, lambda _: None, True)
    with refused("last.ckpt"):
        train({"data_dir": str(other), "out_dir": str(tmp_path / "none"), "resume": True}, lambda _: None, True)


@pytest.mark.parametrize("kind", ["png", "npy"])
def test_runs_of_before_go_on_and_those_of_high_range_say_that_bits_differ(tmp_path, kind):
    folder, said = tiny("f1", 1, kind), []
    for name in ("best.ckpt", "last.ckpt"):
        payload = torch.load(folder / name, weights_only=True)
        for part, added in (("config", ("bytes", "target_psnr")), ("shape", ("frames", "weight_bits"))):
            values = json.loads(payload[part])
            payload[part] = json.dumps({name: value for name, value in values.items() if name not in added})
        torch.save(payload, tmp_path / name)
    again = {"data_dir": str(folder / "data"), "out_dir": str(tmp_path), "resume": True, "report": "none"}
    assert train(again, said.append, True) == 0
    assert any("earlier version" in line for line in said) == (kind == "npy")


def test_a_run_goes_on_with_its_engine_unless_it_cannot(tmp_path, monkeypatch, refused):
    data = save_frames(tmp_path / "data", moving_frames())
    given = {**TINY, "data_dir": str(data), "out_dir": str(tmp_path / "out"), "engine": "torch", "report": "none"}
    assert train(given, lambda _: None, True) == 0
    again = {"data_dir": str(data), "out_dir": str(tmp_path / "out"), "resume": True, "report": "none"}
    for more, engine in (({}, "torch"), ({"engine": "auto"}, "auto"), ({"device": "cuda"}, "torch")):
        assert resumed_options({**again, **more}, tmp_path / "out").engine == engine
    path, said = tmp_path / "out" / "last.ckpt", []
    payload = torch.load(path, weights_only=True)
    payload["config"] = json.dumps({**json.loads(payload["config"]), "engine": "fused"})
    torch.save(payload, path)
    assert resumed_options({**again, "device": "cuda"}, tmp_path / "out").engine == "torch"
    monkeypatch.setattr("lightmap.training.fused_problem", lambda *_: "no compiler here")
    with refused("--engine fused", "no compiler here"):
        train({**again, "engine": "fused"}, lambda _: None, True)
    assert train(again, said.append, True) == 0
    assert any("no compiler here" in line for line in said) and any("engine torch" in line for line in said)


def test_damaged_checkpoints_end_in_one_line(tmp_path, refused):
    good = (tiny("f1", 1) / "best.ckpt").read_bytes()
    path = tmp_path / "best.ckpt"
    for content in (b"", b"no checkpoint", good[: len(good) // 2], good[:3000] + b"\xff" * 40 + good[3040:]):
        path.write_bytes(content)
        with refused("best.ckpt"):
            checkpoints.load(path)
    torch.save({"version": 1, "weights": torch.zeros(3)}, path)
    with refused("best.ckpt", "lightmap/train.py"):
        checkpoints.load(path)


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["inside", "module"])
def test_commands_run_from_inside_and_as_modules(tmp_path, form):
    data = save_frames(tmp_path / "data", moving_frames())
    start = ["train.py"] if form == "inside" else ["-m", "lightmap.train"]
    flags = [f"--{key}={value}" for key, value in TINY.items()]
    command = [
        *python(),
        *start,
        f"--data_dir={data}",
        f"--out_dir={tmp_path / 'out'}",
        *flags,
        "--compute_latent",
    ]
    cwd = ROOT / "lightmap" if form == "inside" else ROOT
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "dB at the hours" in done.stdout and "Traceback" not in done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"best.ckpt", "last.ckpt", "report.json", "latent_map.npy", "f2_state_dict.pt", "f2_ts.pt"} <= names
    assert list((tmp_path / "out" / "tensorboard").glob("events*"))
    if form == "module":
        return
    command = [*python(), "infer.py", "--ckpt", str(tmp_path / "out/best.ckpt"), "--time", "nan", "--out", "x.png"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: --time") and done.stderr.count("\n") == 1


def test_ctrl_c_saves(tmp_path):
    """In a process of its own: how a signal ends one is the point."""
    data = save_frames(tmp_path / "data", moving_frames())
    command = [sys.executable, "-m", "lightmap.train", f"--data_dir={data}", f"--out_dir={tmp_path / 'out'}",
               "--epochs=100000", "--batch_size=256"]  # fmt: skip
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, **pipes, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        for line in process.stdout:
            if line.startswith("training"):
                break
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGINT and "--resume" in out
    assert checkpoints.load(tmp_path / "out" / "last.ckpt").training is not None


def test_every_option_is_read_and_bad_ones_end_in_one_line(refused):
    assert parse_args(["--epochs", "5", "--time_blend", "False", "--resume"]) == {
        "epochs": 5, "time_blend": False, "resume": True,
    }  # fmt: skip
    for flags, words in ((["--epochs", "0"], ("--epochs", "1 to")), (["--nothing", "1"], ("--nothing",)),
                         (["--latent_mode", "x"], ("--latent_mode", "direct")), (["--lr", "nan"], ("--lr",)),
                         (["--engine", "fused", "--device", "cuda"], ("--engine", "cpu"))):  # fmt: skip
        with refused(*words):
            make_options(parse_args(flags))
    with pytest.raises(UserError):
        train({"data_dir": "nothing/here"}, lambda _: None, True)
