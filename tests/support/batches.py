"""What the tests of batches share: a batch with a broken material, the command that trains it, and signals to it."""

from __future__ import annotations

import os
import shutil
import time

import pytest

import train
from groups import local as group_local
from groups.journal import run_folders
from tests.support.runs import QUICK, patch_step, save_maps


@pytest.fixture(autouse=True)
def _forked(monkeypatch):
    """Processes that are copies of this one, patches and all; test_groups_faults.py has those that users get."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    monkeypatch.setattr(group_local, "START_METHOD", "fork")


@pytest.fixture
def batch(tmp_path):
    """Two good materials around one with a broken image, and things that are no materials."""
    for name in ("a brick", "b broken", "c größe"):
        save_maps(tmp_path / "batch" / name, 12, 8, ("diffuse", "normal"))
    (tmp_path / "batch" / "b broken" / "made_normal.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    (tmp_path / "batch" / ".hidden").mkdir()
    (tmp_path / "batch" / "notes.txt").write_text("no material")
    return tmp_path / "batch"


def train_batch(batch, *flags):
    save_dir = batch.parent / "out"
    always = ["--groups_batching", "--groups_batch_dir", batch, "--groups_save_dir", save_dir, "--max_iter", 4]
    return train.main([*QUICK, *map(str, [*always, *flags])])


def signal_batch_at(monkeypatch, number, iteration):
    """Let the batch receive the signal while a group is in the chunk that reaches `iteration`; it tells its groups."""
    batch = os.getpid()

    def make_step(step):
        def stepping(self, n):
            loss = step(self, n)
            if self.iteration >= iteration:
                os.kill(batch, number)
                time.sleep(1)
            return loss

        return stepping

    patch_step(monkeypatch, make_step)


def run_of(out, name):
    run, = run_folders(out / name)
    return run


@pytest.fixture
def mended(batch):
    """Two good materials."""
    (batch / "b broken" / "made_normal.png").unlink()
    shutil.rmtree(batch / "c größe")
    return batch
