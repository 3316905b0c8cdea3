"""groups.py: many materials in turn; one that fails costs no other."""

from __future__ import annotations

import contextlib
import errno
import io
import signal

import pytest
from runs import (
    QUICK,
    checkpoint_of,
    differences,
    leftovers,
    offline,
    patch_step,
    payload,
    quick,
    refusal,
    save_maps,
    signal_at,
    tree,
)

import groups
import train
from checkpoint import list_checkpoints
from errors import run_command


@pytest.fixture(autouse=True, scope="module")
def _offline():
    with offline():
        yield


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


def test_the_others_finish(batch, tmp_path, capsys):
    assert train_batch(batch) == 1
    captured = capsys.readouterr()
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"a brick", "b broken", "c größe"}
    for name in ("a brick", "c größe"):
        assert {path.name for path in (out / name).iterdir()} - {"tensorboard", "log.txt"} == {run_of(out, name).name}
        assert checkpoint_of(run_of(out, name), 4).is_dir()
        assert (out / name / "tensorboard" / run_of(out, name).name).is_dir()
        log = (out / name / "log.txt").read_text(encoding="utf-8")
        assert "configuration" in log and "PSNR" in log and str(run_of(out, name)) in log
    assert [path.name for path in (out / "b broken").iterdir()] == ["log.txt"], "no run folder of what never ran"
    lines = captured.out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["a brick", "b broken", "c größe"]
    assert "dB" in lines[0] and "bpp" in lines[0] and str(run_of(out, "a brick")) in lines[0]
    assert "2 of 3" in lines[-2]
    assert lines[-1].startswith("failed: b broken: ") and "made_normal.png" in lines[-1]  # the reason comes last
    assert "made_normal.png" in (out / "b broken" / "log.txt").read_text(encoding="utf-8")
    assert "configuration" not in captured.out and captured.err == ""
    assert leftovers(tmp_path / "out") == []


def run_of(out, name):
    run, = (path for path in (out / name).iterdir() if path.name not in ("tensorboard", "log.txt"))
    return run


def test_all_good(batch, tmp_path, capsys):
    (batch / "b broken" / "made_normal.png").unlink()
    assert train_batch(batch, "--groups_verbose") == 0
    out = capsys.readouterr().out.splitlines()
    assert "3 of 3" in out[-1] and not any("failed" in line for line in out)
    for name in ("a brick", "b broken", "c größe"):
        prefixed = [line for line in out if line.startswith(f"[{name}] ")]
        logged = (tmp_path / "out" / name / "log.txt").read_text(encoding="utf-8").splitlines()
        assert [f"[{name}] {line}" for line in logged] == prefixed and len(logged) > 20
    assert len(out) == sum(line.startswith("[") for line in out) + 3 + 1


def test_every_group_equals_a_run_of_its_own(batch, tmp_path):
    train_batch(batch, "--seed", 3)
    alone = quick("--data_dir", batch / "c größe", "--save_dir", tmp_path / "alone", "--max_iter", 4, "--seed", 3)
    one, other = (payload(checkpoint_of(run, 4)) for run in (alone, run_of(tmp_path / "out", "c größe")))
    for key in ("grids", "network", "metrics"):
        assert differences(one[key], other[key]) == []


def test_again_appends_to_the_log(batch, tmp_path):
    (batch / "b broken" / "made_normal.png").unlink()
    train_batch(batch)
    train_batch(batch)
    log = (tmp_path / "out" / "a brick" / "log.txt").read_text(encoding="utf-8")
    assert log.count("configuration\n") == 2
    assert len(list((tmp_path / "out" / "a brick").glob("*/models"))) == 2


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
    signal_at(monkeypatch, number, 2)
    assert train_batch(batch, "--save_interval", 2) == 128 + number
    out = capsys.readouterr().out
    assert "a brick: interrupted at iteration 2" in out and "b broken" not in out
    run = run_of(tmp_path / "out", "a brick")
    assert list(list_checkpoints(run)) == [2]
    assert "continue with" in (tmp_path / "out" / "a brick" / "log.txt").read_text(encoding="utf-8")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a brick"]
    assert train.main(["--load_dir", str(run)]) == 0


def test_one_line_per_failure(tmp_path, capsys):
    (tmp_path / "batch" / "two\nlines").mkdir(parents=True)
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


# --- refused before any work ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags, words",
    [(["--groups_max_workers", 2], ["--groups_max_workers 2", "only 1"]), (["--load_dir", "x"], ["--load_dir"]),
     (["--groups_max_workers", 0], ["--groups_max_workers"]), (["--mode", "infer", "--load_dir", "x"], ["--load_dir"])],
    ids=str,
)  # fmt: skip
def test_flags_that_are_refused(flags, words, batch, tmp_path, capsys):
    before = tree(tmp_path)
    folders = ["--groups_batch_dir", batch, "--groups_save_dir", tmp_path / "out"]
    line = refusal(capsys, "--groups_batching", *folders, *flags)
    assert all(word in line for word in words)
    assert tree(tmp_path) == before


def test_grids_that_cannot_be_built_fail_in_each_group(batch, tmp_path, capsys):
    (tmp_path / "my.yaml").write_text("hash_grid_configs: [{max_resolution: 24, n_levels: 5}]")
    assert train_batch(batch, "--config", tmp_path / "my.yaml") == 1
    assert "0 of 3" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} == {"log.txt"}


def test_batch_folders_without_materials(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "made_diffuse.png").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    before = tree(tmp_path)
    for name in ("none", "empty", "flat", "file", "two\nlines"):
        line = refusal(capsys, "--groups_batching", "--groups_batch_dir", tmp_path / name,
                       "--groups_save_dir", tmp_path / "out")  # fmt: skip
        assert "--groups_batch_dir" in line and name.split()[0] in line
    assert tree(tmp_path) == before


def test_full_disk(batch, tmp_path, monkeypatch, capsys):
    """The first material fills the disk: the others are tried, and every failure has its reason."""

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("files.os.fsync", full)
    assert run_command(lambda: train_batch(batch)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "0 of 3" in lines[-4] and sum("the disk is full" in line for line in lines[-3:]) == 2
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


def test_find_groups(batch):
    assert [path.name for path in groups.find_groups(batch)] == ["a brick", "b broken", "c größe"]
