"""Batches of processes as users get them, what they leave behind, and the results of undisturbed runs beside them."""

from __future__ import annotations

import time

import pytest

from engine.cpu import engine as cpu_engine
from groups.journal import damage, read_batch, read_record, run_folders
from tests.support.runs import QUICK, checkpoint_differences, leftovers, offline, quick, save_maps
from training.run_folder import list_checkpoints

GOOD = ("a", "b's \"größe\"", "d/e")
PATIENCE_S = 120


CHUNKS = cpu_engine.CHUNKS  # as it is outside of the tests: conftest.py has not changed it yet


@pytest.fixture(autouse=True, scope="module")
def _as_users_have_it():
    with offline(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_engine, "CHUNKS", CHUNKS)
        yield


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Three good materials and a broken one."""
    folder = tmp_path_factory.mktemp("faults") / "batch"
    for seed, name in enumerate(GOOD):
        save_maps(folder / name, 24, 16, ("diffuse", "roughness"), seed=seed)
    save_maps(folder / "c", 8, 8)
    (folder / "c" / "made_normal.png").write_bytes(b"broken")
    return folder


ITERATIONS = 600
SETTINGS = ["--max_iter", ITERATIONS, "--save_interval", 100, "--n_neurons", 32, "--batch_size", 2048]


@pytest.fixture(scope="module")
def undisturbed(batch, tmp_path_factory):
    """Per good material the last checkpoint of a run of its own."""
    out = tmp_path_factory.mktemp("undisturbed")
    runs = {n: quick(*SETTINGS, "--data_dir", batch / n, "--save_dir", out / str(i)) for i, n in enumerate(GOOD)}
    return {name: run / "models" / f"train_result_{ITERATIONS}" for name, run in runs.items()}


def flags(batch, out, *more):
    folders = ["--groups_batch_dir", batch, "--groups_save_dir", out, "--groups_recursive"]
    return [str(flag) for flag in [*QUICK, *SETTINGS, "--groups_batching", *folders, *more]]


def until(condition, what):
    """Wait; returns what `condition` returned."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {PATIENCE_S} s")


def record_of(out, name):
    return read_record(out / name)


def at_work(out):
    """{group: process} of those that have saved a checkpoint and are not done."""
    found = {}
    for name in GOOD:
        record = record_of(out, name)
        runs = run_folders(out / name)
        if record is not None and record.status == "running" and runs and list_checkpoints(runs[-1]):
            found[name] = record.process
    return found


def check_finished(out):
    """What is recorded as done is valid, now and whatever happened before; returns how many."""
    done = {name: record for name in GOOD if (record := record_of(out, name)) and record.status == "done"}
    assert [damage(out / name, record) for name, record in done.items()] == [None] * len(done)
    return len(done)


def check_complete(out, undisturbed, said):
    """Every good group equals the undisturbed run, the broken one is named with its reason, nothing is left over."""
    lines = said.splitlines()
    assert f"3 of 4 materials trained, in {out}" in lines
    assert lines[-1].startswith("failed: c: ") and "made_normal.png" in lines[-1]
    assert check_finished(out) == 3
    for name, whole in undisturbed.items():
        record = record_of(out, name)
        left = [d for d in checkpoint_differences(whole, record.checkpoint(out / name)) if "num_threads" not in d]
        assert left == []
    state = {row["name"]: row["status"] for row in read_batch(out)["groups"]}
    assert state == {"a": "done", GOOD[1]: "done", "c": "failed", "d": "skipped", "d/e": "done"}
    assert leftovers(out) == []
