"""Batches: a material that fails does not stop the others."""

from __future__ import annotations

import contextlib
import errno
import io
import signal

import pytest

import train
from common.errors import run_command
from groups import batch as groups
from groups.batch import BATCH_FILES, GROUP_FILES
from groups.journal import LOCK, LOG, RECORD, read_batch, run_folders
from tests.support.batches import (
    _forked,  # noqa: F401  # autouse
    batch,  # noqa: F401  # fixture
    run_of,
    signal_batch_at,
    train_batch,
)
from tests.support.runs import (
    _offline,  # noqa: F401  # autouse
    checkpoint_of,
    differences,
    leftovers,
    patch_step,
    payload,
    quick,
    save_maps,
    signal_at,
)
from training.run_folder import list_checkpoints

# ruff: noqa: F811  # fixtures are imported


def test_the_others_finish(batch, tmp_path, capsys):
    assert train_batch(batch) == 1
    captured = capsys.readouterr()
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"a brick", "b broken", "c größe", *BATCH_FILES}
    for name in ("a brick", "c größe"):
        assert {path.name for path in (out / name).iterdir()} - set(GROUP_FILES) == {run_of(out, name).name}
        assert checkpoint_of(run_of(out, name), 4).is_dir()
        assert (out / name / "tensorboard" / run_of(out, name).name).is_dir()
        log = (out / name / "log.txt").read_text(encoding="utf-8")
        assert "configuration" in log and "PSNR" in log and str(run_of(out, name)) in log
    assert {path.name for path in (out / "b broken").iterdir()} == {LOG, RECORD, LOCK}, "no run folder"
    lines = captured.out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["a brick", "b broken", "c größe"]
    assert "dB" in lines[0] and "bpp" in lines[0] and str(run_of(out, "a brick")) in lines[0]
    assert "2 of 3" in lines[-2]
    assert lines[-1].startswith("failed: b broken: ") and "made_normal.png" in lines[-1]  # the reason comes last
    assert "made_normal.png" in (out / "b broken" / "log.txt").read_text(encoding="utf-8")
    assert "configuration" not in captured.out and captured.err == ""
    assert leftovers(tmp_path / "out") == []


def test_all_good(batch, tmp_path, capsys):
    (batch / "b broken" / "made_normal.png").unlink()
    assert train_batch(batch, "--groups_verbose") == 0
    out = capsys.readouterr().out.splitlines()
    assert "3 of 3" in out[-1] and not any("failed" in line for line in out)
    for name in ("a brick", "b broken", "c größe"):
        prefixed = [line for line in out if line.startswith(f"[{name}] ")]
        logged = (tmp_path / "out" / name / "log.txt").read_text(encoding="utf-8").splitlines()
        assert [f"[{name}] {line}" for line in logged] == prefixed and len(logged) > 15
    assert len(out) == sum(line.startswith("[") for line in out) + 3 + 1


def test_every_group_equals_a_run_of_its_own(batch, tmp_path):
    train_batch(batch, "--seed", 3)
    alone = quick("--data_dir", batch / "c größe", "--save_dir", tmp_path / "alone", "--max_iter", 4, "--seed", 3)
    one, other = (payload(checkpoint_of(run, 4)) for run in (alone, run_of(tmp_path / "out", "c größe")))
    for key in ("grids", "network", "metrics"):
        assert differences(one[key], other[key]) == []


def test_a_bug_in_one_material(batch, tmp_path, monkeypatch, capsys):
    """What no user can mend costs the others nothing; its traceback is in the log."""
    def make_step(step):
        def failing(self, n):
            if self.material.name == "a brick":
                raise ZeroDivisionError("a bug")
            return step(self, n)

        return failing

    patch_step(monkeypatch, make_step)
    assert train_batch(batch) == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert "1 of 3" in lines[-3] and "ZeroDivisionError: a bug" in lines[-2] and "log.txt" in lines[-2]
    assert "Traceback" not in captured.out + captured.err
    assert "Traceback" in (tmp_path / "out" / "a brick" / "log.txt").read_text(encoding="utf-8")
    assert checkpoint_of(run_of(tmp_path / "out", "c größe"), 4).is_dir()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt(batch, tmp_path, monkeypatch, capsys, number):
    """The material in work is saved and none is begun after it."""
    with monkeypatch.context() as patch:
        signal_batch_at(patch, number, 2)
        assert train_batch(batch, "--save_interval", 2) == 128 + number
    out = capsys.readouterr().out
    assert "a brick: interrupted at iteration 2" in out and "b broken" not in out
    run = run_of(tmp_path / "out", "a brick")
    assert list(list_checkpoints(run)) == [2]
    assert "continue with" in (tmp_path / "out" / "a brick" / "log.txt").read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a brick", *BATCH_FILES}
    assert [row["status"] for row in read_batch(tmp_path / "out")["groups"]] == ["waiting"] * 3
    assert train.main(["--load_dir", str(run)]) == 0


def test_a_group_that_is_told_to_end_alone(batch, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        signal_at(patch, signal.SIGTERM, 2)
        assert train_batch(batch, "--save_interval", 2) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "failed: c größe: stopped at iteration 2 by a signal from outside; start the batch again to go on"
    (batch / "b broken" / "made_normal.png").unlink()
    assert train_batch(batch, "--save_interval", 2) == 0


def test_one_line_per_failure(tmp_path, capsys):
    save_maps(tmp_path / "batch" / "two\nlines", 8, 8)
    (tmp_path / "batch" / "two\nlines" / "made_normal.png").write_bytes(b"no")
    assert train_batch(tmp_path / "batch") == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[-1].startswith("failed: ")


def test_a_folder_name_that_is_not_utf8(tmp_path):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    save_maps(tmp_path / "batch" / name, 8, 8)
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) as stdout:
        assert run_command(lambda: train_batch(tmp_path / "batch", "--groups_verbose")) == 0
        stdout.flush()
    assert b"1 of 1" in stdout.buffer.getvalue()


def test_grids_that_cannot_be_built_fail_in_each_group(batch, tmp_path, capsys):
    (tmp_path / "my.yaml").write_text("hash_grid_configs: [{max_resolution: 24, n_levels: 5}]")
    assert train_batch(batch, "--config", tmp_path / "my.yaml") == 1
    assert "0 of 3" in capsys.readouterr().out
    assert not any(run_folders(folder) for folder in (tmp_path / "out").iterdir() if folder.is_dir())


def test_full_disk(batch, tmp_path, monkeypatch, capsys):
    """The first material fills the disk: the others are tried, and every failure has its reason."""

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("common.files.os.fsync", full)
    assert run_command(lambda: train_batch(batch)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "0 of 3" in lines[-5] and sum("the disk is full" in line for line in lines[-3:]) == 3
    assert lines[-4].startswith("note: batch.json is not up to date: ") and "the disk is full" in lines[-4]
    assert leftovers(tmp_path / "out") == []


def test_progress_of_the_batch_on_a_terminal_only(batch, monkeypatch, capsys):
    (batch / "b broken" / "made_normal.png").unlink()

    class Terminal:
        shown = ""

        def isatty(self):
            return True

        def write(self, text):
            self.shown += text

        def flush(self):
            pass

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert train_batch(batch) == 0
    assert "material" in terminal.shown and "a brick" in terminal.shown and "it/s" not in terminal.shown.split("\r")[-1]


def test_a_sub_folder_that_cannot_be_read_fails_alone(batch, monkeypatch, capsys):
    def holds_maps(folder, named):
        if folder.name == "b broken":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return True

    monkeypatch.setattr(groups, "holds_maps", holds_maps)
    assert train_batch(batch) == 1
    out = capsys.readouterr().out.splitlines()
    assert "2 of 3" in out[-2] and "permission denied" in out[-1] and "b broken" in out[-1]
