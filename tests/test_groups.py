"""groups.py: many materials; one that fails costs no other, and what is finished is not trained again."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import re
import shutil
import signal
import sys
import time
from urllib.parse import unquote

import pytest
from PIL import Image as PillowImage
from runs import (
    QUICK,
    checkpoint_differences,
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

import dataset
import group_estimate
import group_journal
import group_local
import groups
import train
from checkpoint import list_checkpoints
from configs import make_config
from errors import UserError, run_command
from group_journal import LOCK, LOG, RECORD, batch_lock, read_batch, read_record, run_folders
from groups import BATCH_FILES, GROUP_FILES, check_names, find_groups


@pytest.fixture(autouse=True, scope="module")
def _offline():
    with offline():
        yield


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


# --- refused before any work ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags, words",
    [(["--groups_max_workers", -1], ["--groups_max_workers"]), (["--load_dir", "x"], ["--load_dir"]),
     (["--ray_address", "auto"], ["--ray_address", "--groups_backend ray"]),
     (["--groups_backend", "slurm"], ["--groups_backend", "local, ray"]),
     (["--mode", "infer", "--load_dir", "x"], ["--load_dir"])],
    ids=str,
)  # fmt: skip
def test_flags_that_are_refused(flags, words, batch, tmp_path, capsys):
    before = tree(tmp_path)
    folders = ["--groups_batch_dir", batch, "--groups_save_dir", tmp_path / "out"]
    line = refusal(capsys, "--groups_batching", *folders, *flags)
    assert all(word in line for word in words)
    assert tree(tmp_path) == before


def test_ray_that_is_not_installed(batch, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    before = tree(tmp_path)
    line = refusal(capsys, "--groups_batching", "--groups_batch_dir", batch, "--groups_save_dir", tmp_path / "out",
                   "--groups_backend", "ray")  # fmt: skip
    assert '--groups_backend ray: ' in line and 'pip install "ray[default]"' in line
    assert tree(tmp_path) == before


def test_grids_that_cannot_be_built_fail_in_each_group(batch, tmp_path, capsys):
    (tmp_path / "my.yaml").write_text("hash_grid_configs: [{max_resolution: 24, n_levels: 5}]")
    assert train_batch(batch, "--config", tmp_path / "my.yaml") == 1
    assert "0 of 3" in capsys.readouterr().out
    assert not any(run_folders(folder) for folder in (tmp_path / "out").iterdir() if folder.is_dir())


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


# --- what is a group -----------------------------------------------------------------------------------------------


def test_sub_folders_with_maps_are_groups(batch):
    (batch / "d words").mkdir()
    (batch / "d words" / "readme_albedo.txt").write_text("no image")
    (batch / "e deeper" / "inside").mkdir(parents=True)
    save_maps(batch / "e deeper" / "inside" / "leaf", 8, 8)
    (batch / "f folder" / "wood_albedo.png").mkdir(parents=True)
    found = find_groups(batch)
    assert [group.name for group in found if not group.skipped] == ["a brick", "b broken", "c größe"]
    assert [group.name for group in found if group.skipped] == ["d words", "e deeper", "f folder"]
    deep = find_groups(batch, recursive=True)
    assert [g.name for g in deep if not g.skipped] == ["a brick", "b broken", "c größe", "e deeper/inside/leaf"]


def test_links_and_the_save_folder_are_not_walked_through(batch):
    (batch / "a brick" / "again").symlink_to(batch)
    save_maps(batch / "out" / "a brick" / "2026-01-01-00-00-00" / "media", 8, 8)
    assert len(find_groups(batch, recursive=True, leave_out=batch / "out")) == 3


@pytest.mark.parametrize(
    "folders, words",
    [(["Rock", "rock"], ["'Rock'", "'rock'"]), (["gro\u0308sse", "gr\u00f6\u00dfe"], ["same folder"]),
     (["batch.json"], ["batch.json"]), (["a", "a/2026-01-31-12-00-00/b"], ["2026-01-31-12-00-00/b"]),
     (["a", "a/Tensorboard"], ["a/Tensorboard"]), (["a", "a/b", "A/B"], ["'a/b'", "'A/B'"])],
    ids=str,
)  # fmt: skip
def test_names_that_collide(folders, words, tmp_path, capsys):
    for name in folders:
        save_maps(tmp_path / "batch" / name, 8, 8, ("diffuse",))
    before = tree(tmp_path)
    line = refusal(capsys, "--groups_batching", "--groups_batch_dir", tmp_path / "batch", "--groups_recursive",
                   "--groups_save_dir", tmp_path / "out")  # fmt: skip
    assert "--groups_save_dir" in line and all(word in line for word in words)
    assert tree(tmp_path) == before


def test_names_that_do_not_collide(tmp_path):
    names = ["log.txt", "tensorboard", "2026-01-31-12-00-00", "a/batch.json", "b/log.txt", "a", "b c/d"]
    for name in names:
        save_maps(tmp_path / "batch" / name, 8, 8, ("diffuse",))
    found = [group for group in find_groups(tmp_path / "batch", True) if not group.skipped]
    check_names(found, tmp_path / "batch", tmp_path / "out", True)
    assert sorted(group.name for group in found) == sorted(names)


def test_recursive_into_itself_is_refused(batch, tmp_path, capsys):
    line = refusal(capsys, "--groups_batching", "--groups_batch_dir", batch, "--groups_recursive",
                   "--groups_save_dir", batch)  # fmt: skip
    assert "--groups_save_dir" in line and "--groups_recursive" in line


def test_a_sub_folder_that_cannot_be_read_fails_alone(batch, monkeypatch, capsys):
    def holds_maps(folder):
        if folder.name == "b broken":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return True

    monkeypatch.setattr(groups, "holds_maps", holds_maps)
    assert train_batch(batch) == 1
    out = capsys.readouterr().out.splitlines()
    assert "2 of 3" in out[-2] and "permission denied" in out[-1] and "b broken" in out[-1]


def test_a_thousand_groups_are_listed_in_half_a_second(tmp_path):
    for index in range(1000):
        folder = tmp_path / f"material {index}"
        folder.mkdir()
        (folder / "wood_albedo.png").touch()
    started = time.process_time()
    found = find_groups(tmp_path)
    check_names(found, tmp_path, tmp_path / "out", False)
    assert len(found) == 1000 and time.process_time() - started < 0.5


# --- a second start ------------------------------------------------------------------------------------------------


@pytest.fixture
def mended(batch):
    """Two good materials."""
    (batch / "b broken" / "made_normal.png").unlink()
    shutil.rmtree(batch / "c größe")
    return batch


def runs_of(tmp_path):
    """Per group its runs, and what tells one from another of the same second (a deleted one's inode is given again)."""

    def identity(run):
        return run.name, run.stat().st_ino, run.stat().st_mtime_ns

    return {name: list(map(identity, run_folders(tmp_path / "out" / name))) for name in ("a brick", "b broken")}


def test_finished_groups_are_recognised(mended, tmp_path, capsys):
    assert train_batch(mended) == 0
    first, rows = tree(tmp_path / "out"), read_batch(tmp_path / "out")["groups"]
    os.utime(mended / "a brick" / "made_normal.png")  # another time, the same bytes
    capsys.readouterr()
    assert train_batch(mended, "--num_threads", 1) == 0
    assert capsys.readouterr().out.splitlines()[0] == "2 of 2 materials were finished before"
    again = tree(tmp_path / "out")
    changed = {name for name in first if first[name] != again[name]}
    assert list(first) == list(again) and changed - {"batch.json", "batch.html"} == {f"a brick/{RECORD}"}
    assert read_batch(tmp_path / "out")["groups"] == rows


def damage_dds(batch, out):
    path = checkpoint_of(run_of(out, "b broken"), 4) / "hash_grid_0.dds"
    path.write_bytes(path.read_bytes()[:-1] + b"\xaa")


def damage_manifest(batch, out):
    path = checkpoint_of(run_of(out, "b broken"), 4) / "manifest.json"
    path.write_text(path.read_text().replace('"psnr"', '"qsnr"'))


def lose_run(batch, out):
    shutil.rmtree(run_of(out, "b broken"))


def damage_record(batch, out):
    (out / "b broken" / RECORD).write_text('{"version": 1, "status": "done"}')


def other_record(batch, out):
    shutil.copy(out / "a brick" / RECORD, out / "b broken" / RECORD)


def other_pixels(batch, out):
    path = batch / "b broken" / "made_diffuse.png"
    state = path.stat()
    path.write_bytes(path.read_bytes()[:-20] + b"x" * 8 + path.read_bytes()[-12:])  # as many bytes ...
    save_maps(batch / "b broken", 12, 8, ("diffuse",), seed=9)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # ... with the old time


def another_map(batch, out):
    save_maps(batch / "b broken", 12, 8, ("roughness",))


def one_map_less(batch, out):
    (batch / "b broken" / "made_roughness.png").unlink()


@pytest.mark.parametrize("change", [damage_dds, damage_manifest, lose_run, damage_record, other_record, other_pixels,
                                    another_map, one_map_less])  # fmt: skip
def test_what_is_not_as_it_was_is_trained_again(change, mended, tmp_path, capsys):
    if change is one_map_less:
        another_map(mended, None)
    assert train_batch(mended) == 0
    before = runs_of(tmp_path)
    change(mended, tmp_path / "out")
    capsys.readouterr()
    assert train_batch(mended) == 0
    assert capsys.readouterr().out.startswith("1 of 2 materials were finished before\nb broken: PSNR")
    after = runs_of(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"b broken"}
    alone = quick("--data_dir", mended / "b broken", "--save_dir", tmp_path / "alone", "--max_iter", 4)
    new = run_folders(tmp_path / "out" / "b broken")[-1]
    assert checkpoint_differences(checkpoint_of(alone, 4), checkpoint_of(new, 4)) == []


@pytest.mark.parametrize("flags", [["--seed", 5], ["--max_iter", 5], ["--groups_force"]], ids=str)
def test_other_settings_train_again_in_a_new_folder(flags, mended, tmp_path, capsys):
    train_batch(mended)
    before = tree(tmp_path / "out")
    assert train_batch(mended, *flags) == 0
    assert "finished before" not in capsys.readouterr().out
    assert all(len(runs) == 2 for runs in runs_of(tmp_path).values())
    after = tree(tmp_path / "out")
    kept = {name for name in before if "train_result" in name}
    assert kept and all(after[name] == before[name] for name in kept)
    assert (tmp_path / "out" / "a brick" / LOG).read_text(encoding="utf-8").count("configuration\n") == 2


@pytest.mark.parametrize("lose", ["nothing", "newest"])
def test_an_interrupted_group_goes_on(lose, mended, tmp_path, monkeypatch, capsys):
    whole = quick("--data_dir", mended / "a brick", "--save_dir", tmp_path / "alone", "--max_iter", 60,
                  "--save_interval", 25)  # fmt: skip
    with monkeypatch.context() as patch:
        signal_batch_at(patch, signal.SIGTERM, 50)
        flags = ["--max_iter", 60, "--save_interval", 25]
        assert train_batch(mended, *flags) == 128 + signal.SIGTERM
    run = run_of(tmp_path / "out", "a brick")
    assert list(list_checkpoints(run)) == [25, 50]
    if lose == "newest":
        (checkpoint_of(run, 50) / "model.pth").write_bytes(b"damaged")
    assert train_batch(mended, *flags) == 0
    log = (tmp_path / "out" / "a brick" / LOG).read_text(encoding="utf-8")
    assert f"continuing {run} at iteration {50 if lose == 'nothing' else 25}" in log
    assert run_of(tmp_path / "out", "a brick") == run
    assert checkpoint_differences(checkpoint_of(whole, 60), checkpoint_of(run, 60)) == []


def test_a_group_that_ended_unrecorded_is_not_trained_again(mended, tmp_path, capsys):
    """Killed between the last checkpoint and the record."""
    train_batch(mended)
    rows = read_batch(tmp_path / "out")["groups"]
    path = tmp_path / "out" / "b broken" / RECORD
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "status": "running", "run": "", "iteration": 0, "sha256": "", "psnr": {}}))
    before = runs_of(tmp_path), (tmp_path / "out" / "b broken" / LOG).read_bytes()
    assert train_batch(mended) == 0
    assert (runs_of(tmp_path), (tmp_path / "out" / "b broken" / LOG).read_bytes()) == before
    again = read_batch(tmp_path / "out")["groups"]
    for one, other in zip(rows, again):
        assert other.pop("seconds") >= one.pop("seconds") - 1
    assert again == rows


def test_what_a_killed_process_left_is_removed(mended, tmp_path):
    train_batch(mended)
    run = run_of(tmp_path / "out", "a brick")
    (run / "models" / ".train_result_4.123.tmp").mkdir()
    (run / "models" / ".train_result_4.123.tmp" / "model.pth").write_bytes(b"half")
    (run / ".config.json.abc.tmp").write_bytes(b"half")
    checkpoint_of(run, 4).rename(run / "models" / ".train_result_4.123.old")  # between the two renames
    assert train_batch(mended) == 0
    assert leftovers(tmp_path / "out") == [] and run_of(tmp_path / "out", "a brick") == run
    assert list(list_checkpoints(run)) == [4]


def test_sources_that_change_while_it_trains(mended, tmp_path, monkeypatch, capsys):
    def make_step(step):
        def stepping(self, n):
            if self.material.name == "a brick":
                save_maps(mended / "a brick", 12, 8, ("normal",), seed=7)
            return step(self, n)

        return stepping

    with monkeypatch.context() as patch:
        patch_step(patch, make_step)
        assert train_batch(mended) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-1].startswith("failed: a brick: made_normal.png: changed while it was trained on")
    assert read_record(tmp_path / "out" / "a brick").status == "failed"
    assert train_batch(mended) == 0
    alone = quick("--data_dir", mended / "a brick", "--save_dir", tmp_path / "alone", "--max_iter", 4)
    new = run_folders(tmp_path / "out" / "a brick")[-1]
    assert checkpoint_differences(checkpoint_of(alone, 4), checkpoint_of(new, 4)) == []


def test_a_folder_that_disappears_while_it_is_read(mended, tmp_path, monkeypatch, capsys):
    def read_image(path, *args, read=dataset.read_image):
        if path.parent.name == "b broken":
            shutil.rmtree(path.parent, ignore_errors=True)
        return read(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "read_image", read_image)
        assert train_batch(mended) == 1
    out = capsys.readouterr().out.splitlines()
    assert "1 of 2" in out[-2] and out[-1].startswith("failed: b broken: ") and "made_" in out[-1]


def test_unquantised_groups_are_recognised_too(mended, tmp_path, capsys):
    assert train_batch(mended, "--quantize", "False") == 0
    assert train_batch(mended, "--quantize", "False") == 0
    assert "2 of 2 materials were finished before" in capsys.readouterr().out
    row = read_batch(tmp_path / "out")["groups"][0]
    assert row["bytes"] == (checkpoint_of(run_of(tmp_path / "out", "a brick"), 4) / "model.pth").stat().st_size


# --- the state of the batch ----------------------------------------------------------------------------------------


def test_the_files_of_the_batch(batch, tmp_path):
    (batch / "d empty").mkdir()
    shutil.copytree(batch / "a brick", batch / "=<b>\"it's\"&\n")
    assert train_batch(batch) == 1
    out = tmp_path / "out"
    state = read_batch(out)
    assert [(row["name"], row["status"]) for row in state["groups"]] == [
        ("=<b>\"it's\"&\n", "done"), ("a brick", "done"), ("b broken", "failed"), ("c größe", "done"),
        ("d empty", "skipped")]  # fmt: skip
    assert state["ended"] and state["settings"]["max_iter"] == 4 and "save_dir" not in state["settings"]
    metrics = json.loads((run_of(out, "a brick") / "metrics.json").read_text())
    manifest = json.loads((checkpoint_of(run_of(out, "a brick"), 4) / "manifest.json").read_text())
    row = state["groups"][1]
    assert row["psnr"] == metrics["psnr"] and row["bytes"] == manifest["bytes_on_disk"]
    assert row["bpp"] == pytest.approx(manifest["rates"]["bpp"], abs=1e-6) and 0 < row["seconds"] < 60
    assert out / row["run"] == run_of(out, "a brick")
    assert "made_normal.png" in state["groups"][2]["reason"] and state["groups"][2]["psnr"] == {}
    with (out / "batch.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert [line["name"] for line in table] == [row["name"] for row in state["groups"]]
    assert float(table[1]["psnr_normal"]) == row["psnr"]["normal"] and table[1]["psnr_metallic"] == ""
    assert table[2]["reason"] == state["groups"][2]["reason"] and int(table[1]["bytes"]) == row["bytes"]


def test_the_page(batch, tmp_path):
    shutil.copytree(batch / "a brick", batch / "=<b>\"it's\"&\n")
    train_batch(batch)
    text = (tmp_path / "out" / "batch.html").read_text(encoding="utf-8")
    assert "<b>" not in text and "=&lt;b&gt;&quot;it&#x27;s&quot;&amp;\\n" in text
    assert text.count("src=\"data:image/jpeg;base64,") == 3 and "refresh" not in text
    assert "http" not in text.replace("http-equiv", ""), "self-contained"
    links = [unquote(link) for link in re.findall('href="([^"]*)/"', text)]
    assert [tmp_path / "out" / link for link in links] == [
        run_of(tmp_path / "out", name) for name in ("=<b>\"it's\"&\n", "a brick", "c größe")]  # fmt: skip
    thumbnail = PillowImage.open(run_of(tmp_path / "out", "a brick") / "media" / "thumbnail.jpg")
    assert thumbnail.size == (3 * 96, 64)


def test_the_state_while_it_works(mended, tmp_path, monkeypatch):
    """Read by another process at any time: whole JSON, with what is running."""
    seen = []

    def make_step(step):
        def stepping(self, n):
            time.sleep(0.1)
            seen.append(read_batch(tmp_path / "out"))
            (tmp_path / f"{self.material.name}.json").write_text(json.dumps(seen[-1]))
            return step(self, n)

        return stepping

    patch_step(monkeypatch, make_step)
    monkeypatch.setattr(group_journal, "SHORTEST_PAUSE_S", 0)
    monkeypatch.setattr(group_journal, "PAUSE_FACTOR", 0)
    assert train_batch(mended) == 0
    state = json.loads((tmp_path / "b broken.json").read_text())
    assert [row["status"] for row in state["groups"]] == ["done", "running"] and state["ended"] is None


def test_a_second_batch_in_the_same_folder_is_refused(mended, tmp_path, capsys):
    train_batch(mended)
    before = tree(tmp_path)
    with batch_lock(tmp_path / "out"):
        line = refusal(capsys, *QUICK, "--groups_batching", "--groups_batch_dir", mended, "--groups_save_dir",
                       tmp_path / "out")  # fmt: skip
    assert "another batch works there" in line and str(os.getpid()) in line
    assert tree(tmp_path) == before


def test_a_stale_lock_is_recognised(mended, tmp_path, capsys):
    train_batch(mended)
    path = tmp_path / "out" / "batch.json"
    path.write_text(path.read_text().replace('"ended": "', '"ended": null, "was": "'))
    assert train_batch(mended) == 0
    first = capsys.readouterr().out.splitlines()[-3]
    assert first.startswith("note: the last batch in") and f"process {os.getpid()} on " in first


def test_threads_are_shared_out(monkeypatch):
    monkeypatch.setattr(group_local, "thread_count", lambda: 8)
    assert group_local.share_threads(1, 0, 50) == (1, 0)
    assert group_local.share_threads(1, 3, 50) == (1, 3)
    assert group_local.share_threads(2, 0, 50) == (2, 4)
    assert group_local.share_threads(0, 0, 50) == (8, 1)
    assert group_local.share_threads(0, 4, 50) == (2, 4)
    assert group_local.share_threads(0, 0, 3) == (3, 2)
    assert group_local.share_threads(100, 0, 50) == (50, 1)


def test_nothing_is_written_where_the_lock_cannot_be(mended, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    before = tree(tmp_path)
    assert "expected a folder" in refusal(capsys, "--groups_batching", "--groups_batch_dir", mended,
                                          "--groups_save_dir", tmp_path / "out")  # fmt: skip
    assert tree(tmp_path) == before


def test_damaged_batch_files_do_no_harm(mended, tmp_path):
    train_batch(mended)
    for text in ("", "[]", "{", '{"format": "neural-texture-batch", "process": 3}', "[" * 100_000):
        (tmp_path / "out" / "batch.json").write_text(text)
        with contextlib.redirect_stdout(None):
            assert train_batch(mended) == 0
    for text in ("", "[]", "{}", '{"version": 1}', "[" * 100_000):
        (tmp_path / "out" / "a brick" / RECORD).write_text(text)
        assert read_record(tmp_path / "out" / "a brick") is None
    with pytest.raises(UserError), batch_lock(tmp_path / "out"), batch_lock(tmp_path / "out"):
        pass


# --- a look ahead --------------------------------------------------------------------------------------------------


def test_a_dry_run(batch, tmp_path, monkeypatch, capsys):
    (batch / "d empty").mkdir()
    assert train_batch(batch) == 1
    capsys.readouterr()
    monkeypatch.setattr(group_estimate, "CALIBRATION_S", 0.1)
    record = tmp_path / "out" / "c größe" / RECORD
    values = json.loads(record.read_text())
    record.write_text(json.dumps({**values, "status": "running"}))
    (checkpoint_of(run_of(tmp_path / "out", "c größe"), 4)).rename(
        checkpoint_of(run_of(tmp_path / "out", "c größe"), 3))  # fmt: skip
    save_maps(batch / "e new", 24, 20, ("roughness",))
    os.utime(batch / "a brick" / "made_normal.png")
    before = tree(tmp_path)
    assert train_batch(batch, "--groups_dry_run") == 0
    out = capsys.readouterr().out.splitlines()
    assert tree(tmp_path) == before
    assert out[0] == "skipped   d empty: no image named after a map"
    assert out[1].startswith("finished  a brick: 20")
    assert out[2].startswith("fails     b broken: ") and "made_normal.png" in out[2]
    assert out[3].startswith("continue  c größe: 12x8, 1 iterations, ") and "from 3 in 20" in out[3]
    assert out[4].startswith("train     e new: 24x20, 4 iterations, ")
    assert out[5] == "4 materials: 1 to train, 1 to continue, 1 finished, 1 would fail; nothing is written"
    assert out[6].startswith("size  ") and len(out) == 8
    assert re.fullmatch(r"time  about \d+ s with 1 worker of \d+ threads?; calibrated on .*: .* ms an itera.*", out[7])


def test_sizes_that_a_dry_run_tells(tmp_path):
    """Against the files that are written: exported to a percent, checkpoints to a fifth."""
    for name, (width, height) in {"a": (64, 40), "b": (200, 130)}.items():
        maps = save_maps(tmp_path / name, width, height)
        run = quick("--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 4, "--save_interval", 3)
        config = make_config({"n_neurons": 16, "n_frequencies": 4, "max_iter": 4, "save_interval": 3})
        exported, kept = group_estimate.sizes_of(config, width, height)
        found = json.loads((checkpoint_of(run, 4) / "manifest.json").read_text())["bytes_on_disk"]
        assert exported == pytest.approx(found, rel=0.01)
        assert kept == pytest.approx(sum(p.stat().st_size for p in (run / "models").rglob("*.*")), rel=0.2)
        assert group_estimate.image_size(maps / "made_diffuse.png") == (width, height)


def test_the_estimate_adds_up_what_was_measured():
    config = make_config({"max_iter": 1000, "eval_interval": 300, "refine": 2})
    prospect = group_estimate.Prospect(None, "train", width=10, height=5, config=config, iterations=1000)
    speed = group_estimate.Speed("x", 0.01, loading=0.1, evaluation=0.2, last_evaluation=0.4, refining=0.3)
    expected = group_estimate.START_S + 1000 * 0.01 + 50 * (0.1 + 3 * 0.2 + 0.4 + 2 * 0.3)
    assert group_estimate.seconds_of(prospect, speed) == pytest.approx(expected)
    assert [group_estimate.readable_seconds(s) for s in (59, 90, 3599, 7260)] == [
        "59 s", "1 min 30 s", "59 min", "2 h 1 min"]  # fmt: skip
