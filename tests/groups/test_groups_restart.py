"""A batch started again: finished groups are not trained again, begun ones go on, the rest starts over."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest

from configs import make_config
from groups.journal import LOG, RECORD, read_batch, read_record, run_folders, settings_digest
from maps import read_maps
from tests.support.batches import (
    _forked,  # noqa: F401  # autouse
    batch,  # noqa: F401  # fixture
    mended,  # noqa: F401  # fixture
    run_of,
    signal_batch_at,
    train_batch,
)
from tests.support.runs import (
    _offline,  # noqa: F401  # autouse
    checkpoint_differences,
    checkpoint_of,
    leftovers,
    patch_step,
    quick,
    save_maps,
    tree,
)
from training.run_folder import list_checkpoints

# ruff: noqa: F811  # fixtures are imported


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
    assert (tmp_path / "out" / "a brick" / LOG).read_text(encoding="utf-8").count("configuration, all of it in") == 2


def test_a_default_that_a_plan_would_replace_is_another_setting(tmp_path, capsys):
    """--preset decides the noise; `--noise_std 1`, the default, keeps it from that. `--quantize True` says nothing."""
    folder = save_maps(tmp_path / "batch" / "one", 128, 128, ("diffuse",)).parent  # the preset's rate needs room
    assert train_batch(folder, "--preset", "preview") == 0
    capsys.readouterr()
    assert train_batch(folder, "--preset", "preview", "--quantize", "True") == 0
    assert "1 of 1 materials were finished before" in capsys.readouterr().out
    assert train_batch(folder, "--preset", "preview", "--noise_std", 1) == 0
    assert "finished before" not in capsys.readouterr().out
    configs = [json.loads((run / "config.json").read_text()) for run in run_folders(tmp_path / "out" / "one")]
    assert [config["noise_std"] for config in configs] == [0.0, 1.0]


@pytest.mark.parametrize("values, digest", [
    ({}, "0b840782553e99836829cf3bf89dbbcc16cbcf1201e29b14f8db873d04deb968"),
    ({"preset": "fast", "seed": 3}, "406a67ec3b9f09a09021335cf0effa8bd3a5443fced89fd02862ff5ab3412dca"),
    ({"bpp": 2.5, "decoder": "reference", "quantize_bits": 2, "texture_loss_weights": "auto"},
     "97644fe2ef912e4e9bbda6617ce72a93f5e71ef251d4679bc4bc68d7a7353f8f"),
])  # fmt: skip
def test_records_of_the_version_before_are_recognised(values, digest):
    """The hashes are those that it wrote into group.json."""
    assert settings_digest(make_config(values)) == digest
    assert settings_digest(make_config({**values, "maps": "", "size": "", "quantize": True})) == digest
    for other in ({"size": "largest"}, {"maps": "normal=a.png"}):
        assert settings_digest(make_config({**values, **other})) != digest


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
    def read_image(path, *args, read=read_maps.read_image):
        if path.parent.name == "b broken":
            shutil.rmtree(path.parent, ignore_errors=True)
        return read(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(read_maps, "read_image", read_image)
        assert train_batch(mended) == 1
    out = capsys.readouterr().out.splitlines()
    assert "1 of 2" in out[-2] and out[-1].startswith("failed: b broken: ") and "made_" in out[-1]


def test_unquantised_groups_are_recognised_too(mended, tmp_path, capsys):
    assert train_batch(mended, "--quantize", "False") == 0
    assert train_batch(mended, "--quantize", "False") == 0
    assert "2 of 2 materials were finished before" in capsys.readouterr().out
    row = read_batch(tmp_path / "out")["groups"][0]
    assert row["bytes"] == (checkpoint_of(run_of(tmp_path / "out", "a brick"), 4) / "model.pth").stat().st_size
