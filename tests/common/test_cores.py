"""cores.py: the affinity mask, and the limits of control groups in made-up trees of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.cores import usable_cores
from engine.cpu.library import thread_count
from groups.local import share_threads


@pytest.fixture(autouse=True)
def _sixty_four_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)


def made(tmp_path: Path, own: str, files: dict[str, str]) -> int:
    """usable_cores in a tree of these files, in a process whose own groups are these lines."""
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return usable_cores(cgroups=tmp_path / "tree", own=tmp_path / "own")


@pytest.mark.parametrize("text, cores", [
    ("150000 100000\n", 2), ("max 100000\n", 64), ("400000 100000\n", 4), ("1000 100000\n", 1),
    ("12800000 100000\n", 64), ("", 64), ("x y\n", 64), ("100000 0\n", 64),
])  # fmt: skip
def test_version_2_in_a_container(text, cores, tmp_path):
    assert made(tmp_path, "0::/\n", {"cpu.max": text}) == cores


def test_version_2_of_a_service_below_a_slice(tmp_path):
    limits = {"user.slice/job/cpu.max": "max 100000\n", "user.slice/cpu.max": "300000 100000\n"}
    assert made(tmp_path, "0::/user.slice/job\n", limits) == 3


def test_version_2_seen_from_inside_with_the_path_of_the_host(tmp_path):
    assert made(tmp_path, "0::/docker/abc\n", {"cpu.max": "200000 100000\n"}) == 2


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize("group", ["/docker/abc", ""])
@pytest.mark.parametrize("quota, cores", [("250000", 3), ("-1", 64)])
def test_version_1(folder, group, quota, cores, tmp_path):
    own = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/docker/abc\n"
    files = {f"{folder}{group}/cpu.cfs_quota_us": quota, f"{folder}{group}/cpu.cfs_period_us": "100000"}
    assert made(tmp_path, own, files) == cores


def test_without_control_groups(tmp_path):
    assert usable_cores(cgroups=tmp_path, own=tmp_path / "none") == 64


def test_everybody_asks_the_same_function(tmp_path, monkeypatch):
    made(tmp_path, "0::/\n", {"cpu.max": "150000 100000\n"})
    monkeypatch.setattr(usable_cores, "__defaults__", (True, tmp_path / "tree", tmp_path / "own"))
    assert thread_count() == 2 and thread_count(5) == 5
    assert share_threads(0, 0, 10) == (2, 1)
