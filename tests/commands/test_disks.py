"""Full and read-only disks, folders that cannot be made: one line, exit code 2, and nothing half done left behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import train
from common import files
from common.errors import run_command
from tests.support.disks import mounted
from tests.support.finished_runs import (
    finished,  # noqa: F401  # fixture
    maps,  # noqa: F401  # fixture
    run,  # noqa: F401  # fixture
)
from tests.support.machines import SHORT
from tests.support.runs import (
    QUICK,
    _offline,  # noqa: F401  # autouse
    checkpoint_differences,
    checkpoint_of,
    leftovers,
    newest_run,
    process,
    refusal,
    refusal_line,
    save_maps,
    tree,
)
from training.checkpoint import load_checkpoint
from training.run_folder import list_checkpoints

# ruff: noqa: F811  # fixtures are imported

SIZES_KB = (4, 8, 12, 16, 24, 32, 48, 64, 80, 100, 120, 150, 200, 260, 340, 450, 600, 900, 1400, 2048)


class Failing:
    """A system call that fails with `number` from its nth call on."""

    def __init__(self, monkeypatch, name, number, after):
        self.original, self.number, self.left = getattr(os, name), number, after
        monkeypatch.setattr(files.os, name, self)

    def __call__(self, *args, **options):
        self.left -= 1
        if self.left < 0:
            raise OSError(self.number, os.strerror(self.number))
        return self.original(*args, **options)


@pytest.mark.parametrize("number, word", [(errno.ENOSPC, "full"), (errno.EDQUOT, "quota")])
def test_disk_full_at_every_write(number, word, finished, tmp_path, capsys):
    """Continue from 10 of 20 iterations; the disk fills up at the first, the second, ... write, until it does not."""
    run = shutil.copytree(finished, tmp_path / "out" / finished.name)
    shutil.rmtree(checkpoint_of(run, 20))
    kept = tree(checkpoint_of(run, 10))
    for after in range(30):
        with pytest.MonkeyPatch.context() as patch:
            failing = Failing(patch, "fsync", number, after)
            if run_command(lambda: train.main(["--load_dir", str(run)])) == 0:
                break
        line = refusal_line(2, capsys.readouterr().err)
        assert word in line and failing.left < 0
        assert leftovers(tmp_path) == [] and list(list_checkpoints(run)) == [10]
        assert tree(checkpoint_of(run, 10)) == kept
        for path in run.glob("*.json"):
            json.loads(path.read_text())
    assert after >= 8, "config, two DDS, npz, manifest, model and metrics were all tried"
    assert checkpoint_differences(checkpoint_of(finished, 20), checkpoint_of(run, 20)) == []


def test_disk_full_while_exporting(finished, tmp_path, capsys):
    """All or nothing: a folder with some of the textures would look like an export."""
    for after in range(4):
        with pytest.MonkeyPatch.context() as patch:
            Failing(patch, "fsync", errno.ENOSPC, after)
            line = refusal(capsys, "--load_dir", finished, "--out_dir", tmp_path / "out", command="export")
        assert "full" in line
        assert [name for name in tree(tmp_path) if not name.endswith("/")] == [], f"after {after} files"


def test_disk_full_in_a_new_run(maps, tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patch:
        Failing(patch, "fsync", errno.ENOSPC, 3)
        line = refusal(capsys, *QUICK, "--data_dir", maps, "--save_dir", tmp_path, "--max_iter", 3)
    assert "full" in line and leftovers(tmp_path) == []
    assert list(tmp_path.glob("*/models/*")) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 KiB."""
    folder = tmp_path / "disk"
    mounted(folder, "size=300k")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_disk_that_is_really_full(maps, small_disk):
    """In a process of its own, so that a thread that dies or waits forever would show."""
    flags = ["--data_dir", maps, "--save_dir", small_disk / "out", "--max_iter", 3000, "--save_interval", 5]
    result = process(*QUICK, *flags)
    line = refusal_line(result.returncode, result.stderr)
    assert "full" in line and str(small_disk) in line
    run = newest_run(small_disk / "out")
    saved = list_checkpoints(run)
    assert len(saved) >= 2 and leftovers(small_disk) == []
    for iteration in saved:
        assert load_checkpoint(run, iteration).iteration == iteration


@pytest.mark.parametrize("part", range(2))
def test_a_disk_that_fills_up_at_any_size(part, maps, tmp_path, capsys):
    """4 kB to 2 MB: the folder, the log, a texture, the inside of model.pth, ... do not fit any more."""
    ends = set()
    for size in SIZES_KB[part::2]:
        disk = tmp_path / f"disk{size}"
        mounted(disk, f"size={size}k")
        try:
            flags = ["--data_dir", maps, "--save_dir", disk / "out", "--max_iter", 6, "--save_interval", 2]
            flags = [str(flag) for flag in (*SHORT[:2], *SHORT[6:], *flags)]
            code = run_command(lambda flags=flags: train.main(flags))
            ends.add(code)
            said = capsys.readouterr().err
            if code:
                line = refusal_line(code, said)
                assert "full" in line and str(disk) in line, f"{size} kB: {line}"
            assert leftovers(disk) == [], f"{size} kB"
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=False)
    assert ends == {0, 2}, "some disks were too small, and some large enough"


def test_a_read_only_disk(finished, maps, tmp_path, capsys):
    disk = tmp_path / "disk"
    mounted(disk, "size=4m")
    try:
        run = shutil.copytree(finished, disk / "out" / finished.name)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        before = tree(disk)
        line = refusal(capsys, *QUICK, "--data_dir", maps, "--save_dir", disk / "out", "--max_iter", 3)
        assert "read-only" in line and str(disk) in line
        for flags in (["--load_iter", 10], ["--max_iter", 30], ["--mode", "infer"]):
            assert "read-only" in refusal(capsys, "--load_dir", run, *flags)
        assert "read-only" in refusal(capsys, "--load_dir", run, "--out_dir", disk / "export", command="export")
        assert tree(disk) == before
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_no_permission(maps, finished, tmp_path, monkeypatch, capsys):
    """Root may write anywhere, so the system call itself says no."""

    def denied(path, *args, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "mkdir", denied)
    line = refusal(capsys, *QUICK, "--data_dir", maps, "--save_dir", tmp_path / "out")
    assert "permission" in line and str(tmp_path / "out") in line
    line = refusal(capsys, "--load_dir", finished, "--out_dir", tmp_path / "export", command="export")
    assert "permission" in line


@pytest.mark.parametrize("below", ["", "/deeper"])
def test_a_file_where_a_folder_should_be(below, finished, maps, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"x")
    target = f"{tmp_path / 'file'}{below}"
    assert "file" in refusal(capsys, *QUICK, "--data_dir", maps, "--save_dir", target, "--max_iter", 3)
    assert "file" in refusal(capsys, "--load_dir", finished, "--out_dir", target, command="export")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_name_that_is_too_long(maps, tmp_path, capsys):
    assert "too long" in refusal(capsys, *QUICK, "--data_dir", maps, "--save_dir", tmp_path / ("x" * 300))


def test_read_only_errors_with_a_line_break_in_the_path(maps, tmp_path, monkeypatch, capsys):
    def denied(path, *args, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "mkdir", denied)
    refusal(capsys, *QUICK, "--data_dir", maps, "--save_dir", tmp_path / "two\nlines")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which no folders can be made")
def test_where_no_folder_can_be_made(tmp_path, capsys):
    maps = save_maps(tmp_path / "maps", 16, 16)
    flags = ["--data_dir", str(maps), "--save_dir", "/proc/x", "--max_iter", "1"]
    assert "permission denied" in refusal_line(run_command(lambda: train.main(flags)), capsys.readouterr().err)
