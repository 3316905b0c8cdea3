"""bench.batch: its groups, its look at the memory, and one run of it all."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image as PillowImage

from bench import batch
from common.errors import UserError
from groups.batch import find_groups
from tests.support.runs import save_maps


def test_groups_are_copies_of_the_material(tmp_path):
    batch.make_groups(save_maps(tmp_path / "maps", 40, 24), tmp_path / "groups", 3, 16)
    found = find_groups(tmp_path / "groups")
    assert [group.name for group in found] == ["group 000", "group 001", "group 002"]
    pictures = [np.asarray(PillowImage.open(group.source / "made_normal.png")) for group in found]
    assert pictures[0].shape == (16, 16, 3) and all((picture == pictures[0]).all() for picture in pictures)


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
def test_memory_of_a_family():
    code = "import subprocess, sys; x = bytearray(1 << 26); subprocess.run([sys.executable, '-c', sys.argv[1]])"
    grandchild = "import sys; y = bytearray(3 << 26); print('ready', flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, grandchild], stdin=pipe, stdout=pipe) as one:
        one.stdout.readline()
        family = batch.descendants(one.pid)
        assert len(family) == 1 and family[0] in batch.descendants(os.getpid())
        assert 64 < batch.rss_mib(one.pid) < 150 and 192 < batch.rss_mib(family[0]) < 280
        one.communicate()
    assert batch.descendants(one.pid) == [] and batch.rss_mib(one.pid) == 0


def test_efficiency_is_that_of_single_runs(tmp_path, monkeypatch, capsys):
    """With a clock instead of runs: 10 s alone; a batch of 4 takes 44 s, or 22 s with two workers."""

    def run(*arguments):
        workers = int(arguments[arguments.index("--groups_max_workers") + 1]) if "--groups_batching" in arguments else 0
        return 44.0 / workers if workers else 10.0

    monkeypatch.setattr(batch, "run", run)
    monkeypatch.setattr(batch.importlib.util, "find_spec", lambda name: None)
    args = argparse.Namespace(material=save_maps(tmp_path / "maps"), groups=4, size=8, max_iter=5, workers=[1, 2])
    entries = batch.measure(args, tmp_path)
    assert [round(entry["efficiency"], 3) for entry in entries] == [1.0, 0.909, 0.909]
    assert [round(entry["groups_per_minute"], 2) for entry in entries] == [6.0, 5.45, 10.91]
    assert "not installed" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--workers", "two"], ["--workers", "0"], ["--groups", "0"]], ids=str)
def test_flags_that_make_no_sense(flags):
    with pytest.raises(UserError):
        batch.parse(flags)
