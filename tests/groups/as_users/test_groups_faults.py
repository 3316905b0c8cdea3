"""A batch as users start it, and what may befall it: killed processes, a full disk, a folder that cannot be written.

After each: nothing half written, finished work still valid, and a second start ends with the undisturbed results.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import train
from groups import local as group_local
from groups.journal import run_folders
from tests.support.runs import OFFLINE, ROOT, leftovers, refusal, tree
from tests.support.user_batches import (
    GOOD,
    PATIENCE_S,
    at_work,
    check_complete,
    check_finished,
    flags,
    record_of,
    until,
)
from training.run_folder import list_checkpoints

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")


@contextlib.contextmanager
def started(batch, out, *more):
    """`python train.py --groups_batching ...`; what is left of it is killed."""
    (out.parent / "trainer.py").write_text("raise ImportError('of the working folder')")
    command = [sys.executable, str(ROOT / "train.py"), *flags(batch, out, "--groups_max_workers", 2, *more)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=out.parent,
                               env={**os.environ, **OFFLINE})  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def went_on(out, name):
    log = out / name / "log.txt"
    return log.is_file() and "\ngrids " in log.read_text(encoding="utf-8").partition("\ncontinuing ")[2]


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):  # one that nobody has waited for yet
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    return True


@pytest.mark.timeout(300)
def test_kill_9_of_a_worker_and_of_the_batch_then_sigterm(batch, undisturbed, tmp_path, capsys):
    out = tmp_path / "out"
    with started(batch, out) as process:
        victim, number = next(iter(until(lambda: at_work(out), "a checkpoint").items()))
        os.kill(number, signal.SIGKILL)
        until(lambda: record_of(out, victim).status == "failed", "the record of the group that was killed")
        assert "SIGKILL" in record_of(out, victim).reason
        assert leftovers(out / victim) == []
        line = refusal(capsys, *flags(batch, out))
        assert f"process {process.pid} on " in line, "a second batch in the same folder"
        orphans = until(lambda: at_work(out), "another group at work").values()
        process.send_signal(signal.SIGKILL)
        process.wait()
    check_finished(out)

    with started(batch, out) as process:  # at once: those of the first may still be saving
        assert "did not end by itself" in process.stdout.readline()
        until(lambda: any(went_on(out, name) for name in GOOD), "a group that went on")
        process.send_signal(signal.SIGTERM)
        said, complained = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + signal.SIGTERM and complained == "", complained
    assert "interrupted" in said
    assert not any(alive(number) for number in orphans)
    assert not any(alive(record_of(out, name).process) for name in GOOD if record_of(out, name))
    check_finished(out)
    assert leftovers(out) == []

    with started(batch, out) as process:
        said, complained = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1 and complained == "", complained
    check_complete(out, undisturbed, said)
    runs = [len(run_folders(out / name)) for name in GOOD]
    assert runs == [1, 1, 1], "every group went on in the folder where it began"


def test_processes_end_when_the_batch_has_gone(batch, tmp_path):
    out = tmp_path / "out"
    with started(batch, out, "--max_iter", 10_000_000, "--early_stop", "False") as process:
        numbers = until(lambda: len(at_work(out)) == 2 and at_work(out), "two groups at work").values()
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: not any(alive(number) for number in numbers), "the end of the processes")
    assert leftovers(out) == []
    for name in ("a", GOOD[1]):
        run, = run_folders(out / name)
        assert max(list_checkpoints(run)) % 100 or "saved" in (out / name / "log.txt").read_text(encoding="utf-8")


# --- disks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 KB; grown(disk) makes it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs to mount a tmpfs: root only")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def remount(disk, options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def test_a_full_disk(batch, undisturbed, small_disk, monkeypatch, capsys):
    monkeypatch.setattr(group_local, "START_METHOD", "fork")
    out = small_disk / "out"
    assert train.main(flags(batch, out)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum("the disk is full" in line for line in lines if line.startswith("failed: ")) >= 2, lines
    assert leftovers(out) == []
    check_finished(out)
    remount(small_disk, "size=100m")
    assert train.main(flags(batch, out)) == 1
    check_complete(out, undisturbed, capsys.readouterr().out)


def test_a_disk_that_cannot_be_written(batch, small_disk, capsys):
    (small_disk / "out").mkdir()
    remount(small_disk, "ro")
    before = tree(small_disk)
    line = refusal(capsys, *flags(batch, small_disk / "out"))
    assert "read-only" in line and "batch.lock" in line
    assert tree(small_disk) == before


def test_one_folder_that_cannot_be_written(batch, undisturbed, small_disk, tmp_path, monkeypatch, capsys):
    """It costs its own group and no other."""
    monkeypatch.setattr(group_local, "START_METHOD", "fork")
    out = tmp_path / "out"
    out.mkdir()
    remount(small_disk, "ro,size=100m")
    (out / "a").symlink_to(small_disk)
    assert train.main(flags(batch, out)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "2 of 4" in lines[-3] and lines[-2].startswith("failed: a: ") and "read-only" in lines[-2], lines
    assert check_finished(out) == 2
    remount(small_disk, "rw")
    assert train.main(flags(batch, out)) == 1
    check_complete(out, undisturbed, capsys.readouterr().out)
