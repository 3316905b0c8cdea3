"""A batch of a model's materials whose processes are killed: the next start ends with the undisturbed results,
and so does what is exported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

import train
from groups import local
from groups.journal import read_record, run_folders
from tests.support.model_runs import export_gltf
from tests.support.models import orm_images, whole, write_model
from tests.support.runs import OFFLINE, QUICK, ROOT, checkpoint_differences, leftovers, tree
from tests.support.user_batches import _as_users_have_it  # noqa: F401  # autouse
from training.run_folder import list_checkpoints

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")
NAMES = ("Wood", "Rust")
SETTINGS = ("--max_iter", "900", "--save_interval", "100", "--batch_size", "1024", "--eval_metrics", "psnr")


def flags(path, out):
    return [*QUICK, "--data_dir", str(path), "--save_dir", str(out), *SETTINGS]


def start(path, out):
    command = [sys.executable, str(ROOT / "train.py"), *flags(path, out)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, cwd=path.parent, env={**os.environ, **OFFLINE}, start_new_session=True)


def result(out, name):
    folder = out / "m.glb" / name
    return read_record(folder).checkpoint(folder)


@pytest.mark.timeout(300)
def test_kill_9(tmp_path, monkeypatch):
    images = [payload for seed in (1, 3) for payload in orm_images(seed, (24, 16))]
    path = write_model(tmp_path, [whole(name, 3 * index) for index, name in enumerate(NAMES)], images)
    before = tree(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(local, "START_METHOD", "fork")
        assert train.main(flags(path, tmp_path / "whole")) == 0
    process, folder = start(path, tmp_path / "out"), tmp_path / "out" / "m.glb" / NAMES[1]
    deadline = time.monotonic() + 100
    while not (run_folders(folder) and list_checkpoints(run_folders(folder)[-1])):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)  # the batch and its workers at once
    process.communicate()
    assert [read_record(tmp_path / "out" / "m.glb" / name).status for name in NAMES] == ["done", "running"]

    process = start(path, tmp_path / "out")
    said, complained = process.communicate(timeout=200)
    assert process.returncode == 0 and complained == "", complained
    assert "did not end by itself" in said and "1 of 2 materials were finished before" in said
    for name in NAMES:
        found = checkpoint_differences(result(tmp_path / "whole", name), result(tmp_path / "out", name))
        assert [difference for difference in found if "num_threads" not in difference] == []
        assert len(run_folders(tmp_path / "out" / "m.glb" / name)) == 1
    assert leftovers(tmp_path) == []
    beside = {name: payload for name, payload in tree(tmp_path).items() if name.split("/")[0] not in ("whole", "out")}
    assert beside == before
    models = [tmp_path / f"{name}.glb" for name in ("whole", "out")]
    for model in models:
        assert export_gltf("--load_dir", tmp_path / model.stem / "m.glb", "--gltf", model) == 0
    assert models[0].read_bytes() == models[1].read_bytes()
