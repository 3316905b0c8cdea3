"""Batches on several GPUs: what CUDA_VISIBLE_DEVICES each process gets, and how many there are at a time."""

from __future__ import annotations

import os
import sys
import time
import types
from pathlib import Path

import pytest
import torch

import train
from configs import make_config
from groups import gpus as group_gpus
from groups import local as group_local
from groups import worker as group_worker
from groups.gpus import gpus_of
from groups.job import Job, Outcome
from groups.journal import read_batch
from groups.ray_pool import left_behind
from tests.support.runs import ROOT, save_maps

TOGETHER_S = 20  # how long a process waits for those that should run beside it


@pytest.fixture
def machine(monkeypatch):
    """machine(gpus, visible=None): so many GPUs are seen, with CUDA_VISIBLE_DEVICES set to `visible`."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    monkeypatch.setattr(group_local, "START_METHOD", "fork")  # processes have the patches of this one

    def make(gpus: int, visible: str | None = None):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(group_local, "usable_cores", lambda: 8)
        if visible is None:
            monkeypatch.delenv(group_gpus.VISIBLE, raising=False)
        else:
            monkeypatch.setenv(group_gpus.VISIBLE, visible)

    return make


# --- which ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "visible", "expected"),
    [(0, None, []), (0, "", []), (0, "-1", []), (1, None, ["0"]), (3, None, ["0", "1", "2"]), (2, "5,2", ["5", "2"]),
     (2, " 1 , 0 ", ["1", "0"]), (2, "GPU-8932f937,MIG-1f", ["GPU-8932f937", "MIG-1f"]), (1, "3,-1,4", ["3"])],
    ids=str,
)  # fmt: skip
def test_gpus_have_the_names_that_the_user_left(gpus, visible, expected, machine):
    machine(gpus, visible)
    for device in ("auto", "cuda"):
        assert gpus_of(make_config({"device": device})) == expected
    for device in ("cpu", "cuda:1", "mps"):
        assert gpus_of(make_config({"device": device})) == []


def test_gpus_that_pytorch_cannot_use_are_none(machine, monkeypatch):
    """The driver's count is there before anybody knows whether it fits PyTorch; training goes to the CPU then."""
    machine(2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpus_of(make_config({})) == []


def test_workers_are_as_many_as_gpus(machine):
    machine(4)
    assert group_local.share_threads(0, 0, 50, 4) == (4, 2)
    assert group_local.share_threads(0, 0, 3, 4) == (3, 2)
    assert group_local.share_threads(1, 0, 50, 4) == (1, 0)
    assert group_local.share_threads(6, 0, 50, 4) == (6, 1)
    assert group_local.share_threads(0, 1, 50, 1) == (1, 1)
    assert group_local.share_threads(0, 0, 50, 0) == (8, 1)


# --- what processes see -----------------------------------------------------------------------------------------------


def job(tmp_path, name: str) -> Job:
    config = make_config({"data_dir": str(tmp_path / name), "save_dir": str(tmp_path / "out" / name)})
    return Job(name, "batch", config, "settings", False)


def tell_gpu(job: Job) -> Outcome:
    """Instead of training: what CUDA_VISIBLE_DEVICES holds, once a file named after the job lets it end."""
    mark = job.folder.parent.parent / f"{job.name}.end"
    deadline = time.monotonic() + TOGETHER_S
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return Outcome("failed", str(os.environ.get(group_gpus.VISIBLE)))


def ended(pool) -> dict[str, str]:
    """Names and GPUs of the groups that have ended, at least one."""
    found, deadline = [], time.monotonic() + TOGETHER_S
    while not found and time.monotonic() < deadline:
        found = pool.wait(0.2)
    return {job.name: outcome.reason for job, outcome in found}


def test_a_process_has_a_gpu_that_no_other_has(machine, tmp_path, monkeypatch):
    """Three groups on the GPUs 5 and 2: the third gets that of the one that ends first."""
    machine(2, "5,2")
    monkeypatch.setattr(group_worker, "train_group", tell_gpu)
    with group_local.LocalPool(2, gpus_of(make_config({}))) as pool:
        pool.start(job(tmp_path, "a"))
        pool.start(job(tmp_path, "b"))
        assert not pool.free
        (tmp_path / "b.end").touch()
        assert ended(pool) == {"b": "2"}
        pool.start(job(tmp_path, "c"))
        (tmp_path / "c.end").touch()
        assert ended(pool) == {"c": "2"}
        (tmp_path / "a.end").touch()
        assert ended(pool) == {"a": "5"}
    assert os.environ[group_gpus.VISIBLE] == "5,2"


def test_more_processes_than_gpus_share_them_evenly(machine, tmp_path, monkeypatch):
    machine(2)
    monkeypatch.setattr(group_worker, "train_group", tell_gpu)
    found = {}
    with group_local.LocalPool(5, gpus_of(make_config({}))) as pool:
        for name in "abcde":
            (tmp_path / f"{name}.end").touch()
            pool.start(job(tmp_path, name))
        while pool.busy:
            found.update(ended(pool))
    assert found == {"a": "0", "b": "1", "c": "0", "d": "1", "e": "0"}


@pytest.mark.parametrize(("gpus", "flags"), [(0, ()), (3, ("--device", "cuda:1")), (3, ("--device", "cpu"))], ids=str)
def test_otherwise_the_environment_stays(gpus, flags, machine, tmp_path, monkeypatch):
    machine(gpus, "7,8,9")
    monkeypatch.setattr(group_worker, "train_group", tell_gpu)
    config = make_config(dict(zip(("device",), flags[1:])))
    with group_local.LocalPool(1, gpus_of(config)) as pool:
        (tmp_path / "a.end").touch()
        pool.start(job(tmp_path, "a"))
        assert ended(pool) == {"a": "7,8,9"}


@pytest.mark.parametrize(("visible", "expected"), [(None, {"0", "1", "2"}), ("4,0,6,7", {"4", "0", "6"})])
def test_a_batch_with_one_worker_per_gpu(visible, expected, machine, tmp_path, monkeypatch, capsys):
    """--groups_max_workers 0: each of three materials on three GPUs waits until all of them are at work."""
    machine(3, visible)
    names = ("a", "b", "c")
    for name in names:
        save_maps(tmp_path / "batch" / name, 4, 4, ("roughness",))

    def meet(job: Job) -> Outcome:
        (tmp_path / f"{job.name}.{os.getpid()}.here").touch()
        deadline = time.monotonic() + TOGETHER_S
        while len(list(tmp_path.glob("*.here"))) < len(names):
            if time.monotonic() > deadline:
                return Outcome("failed", "alone")
            time.sleep(0.01)
        return Outcome("failed", os.environ[group_gpus.VISIBLE])

    monkeypatch.setattr(group_worker, "train_group", meet)
    flags = ["--groups_batching", "--groups_batch_dir", tmp_path / "batch", "--groups_save_dir", tmp_path / "out",
             "--groups_max_workers", 0]  # fmt: skip
    assert train.main([str(flag) for flag in flags]) == 1
    assert {row["reason"] for row in read_batch(tmp_path / "out")["groups"]} == expected
    assert "0 of 3 materials trained" in capsys.readouterr().out


# --- on a cluster -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gpus", "calls"), [(0.0, 20), (1.0, 1), (0.25, 1)])
def test_ray_gives_every_group_a_process_with_its_gpus(gpus, calls, monkeypatch):
    """A process of Ray's that has begun CUDA sees the GPUs of its first task for ever, so it must not get a second."""
    asked = {}
    ray = types.ModuleType("ray")
    ray.is_initialized = lambda: True
    ray.nodes = lambda: [{"Alive": True, "Resources": {"CPU": 4, "GPU": 2}}]
    ray.remote = lambda **options: asked.update(options) or (lambda function: function)
    monkeypatch.setitem(sys.modules, "ray", ray)
    from groups.ray_pool import RayPool

    config = make_config({"groups_backend": "ray", "groups_gpus": gpus, "num_threads": 2})
    with RayPool(config, 0, print):
        assert (asked["num_cpus"], asked["num_gpus"], asked["max_calls"]) == (2, gpus, calls)


def test_ray_sends_every_module_that_a_run_imports():
    """The nodes have none of the repository; what is no code stays here."""
    left = set(left_behind())
    files = [Path(str(getattr(module, "__file__", None) or "/")) for module in list(sys.modules.values())]
    own = [file for file in files if ROOT in file.parents and "site-packages" not in file.parts]
    loaded = {file.relative_to(ROOT).parts[0] for file in own}
    assert {"groups", "training", "model.py"} <= loaded and loaded & left <= {"tests", "data"}  # tests import both
    assert {"data", "docs", "tests"} <= left
