"""Batches before any training: which folders are groups, what is refused, and what a dry run prints."""

from __future__ import annotations

import json
import os
import re
import sys
import time

import numpy as np
import pytest
from PIL import Image as PillowImage

from common.errors import UserError
from configs import make_config
from groups import estimate as group_estimate
from groups.batch import check_names, find_groups
from groups.journal import RECORD
from tests.fuzz.images import exr_seeds
from tests.support.batches import (
    _forked,  # noqa: F401  # autouse
    batch,  # noqa: F401  # fixture
    run_of,
    train_batch,
)
from tests.support.runs import (
    _offline,  # noqa: F401  # autouse
    checkpoint_of,
    process,
    refusal,
    save_maps,
    tree,
)

# ruff: noqa: F811  # fixtures are imported

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


def test_a_thousand_groups_are_listed_in_half_a_second(tmp_path):
    for index in range(1000):
        folder = tmp_path / f"material {index}"
        folder.mkdir()
        (folder / "wood_albedo.png").touch()
    started = time.process_time()
    found = find_groups(tmp_path)
    check_names(found, tmp_path, tmp_path / "out", False)
    assert len(found) == 1000 and time.process_time() - started < 0.5


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
    assert out[4] == "train     e new: 24x20, 4 iterations"
    assert out[5] == "4 materials: 1 to train, 1 to continue, 1 finished, 1 would fail; nothing is written"
    assert re.fullmatch(r"time  about \d+ s with 1 worker of \d+ threads?; calibrated on .*: .* ms an itera.*", out[6])
    assert len(out) == 7


def test_a_dry_run_of_images_that_are_refused(batch, tmp_path):
    """An EXR that ends the process whose OpenEXR reads its header (test_hostile_images.py), and one image too large."""
    made = exr_seeds(np.random.default_rng(0).random((9, 13, 3), np.float32)) or pytest.skip("OpenEXR is not installed")
    content = bytearray(made[0])
    content[content.index(b"dataWindow") + 4] = 0xF1
    for name in ("d exr", "e exr"):
        (batch / name).mkdir()
    (batch / "d exr" / "made_albedo.exr").write_bytes(content)
    (batch / "e exr" / "made_albedo.exr").write_bytes(made[0])
    save_maps(batch / "f large", 16, 16, ("roughness",))
    done = process("--groups_batching", "--groups_batch_dir", batch, "--groups_save_dir", tmp_path / "out",
                   "--groups_dry_run", "--max_pixels", 200)  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done
    said = {line.partition(":")[0].partition("  ")[2].strip(): line for line in done.stdout.splitlines()}
    assert said["d exr"].startswith("fails ") and "made_albedo.exr" in said["d exr"]
    assert said["e exr"].startswith("train ") and "13x9" in said["e exr"]
    assert said["f large"].startswith("fails ") and "--max_pixels" in said["f large"]
    assert said["a brick"].startswith("train ")


def test_max_pixels_of_a_dry_run(batch, monkeypatch, capsys):
    """It raises the limit of the headers, and is the limit of the material that is trained on to measure."""
    with monkeypatch.context() as patch:
        patch.setattr(group_estimate, "calibrate", lambda *_: None)
        (batch / "d large").mkdir()
        PillowImage.new("1", (8193, 8192)).save(batch / "d large" / "wood_roughness.png")
        assert train_batch(batch, "--groups_dry_run", "--max_pixels", 2**27) == 0
        assert "train     d large: 8193x8192" in capsys.readouterr().out
    config = make_config({"data_dir": str(batch / "a brick"), "max_pixels": 95})
    with pytest.raises(UserError, match="--max_pixels"):
        group_estimate.measure(config)


def test_a_dry_run_for_a_cluster(batch, monkeypatch, capsys):
    """Which has room for all groups at a time, as far as anybody knows."""
    monkeypatch.setattr(group_estimate, "CALIBRATION_S", 0.1)
    assert train_batch(batch, "--groups_dry_run", "--groups_backend", "ray") == 0
    assert " with 2 workers of 1 thread; " in capsys.readouterr().out


def test_the_time_is_that_of_the_iterations():
    for settings, runs in (({}, 1), ({"target_psnr": 30}, group_estimate.SEARCH_RUNS)):
        config = make_config(settings)
        todo = [group_estimate.Prospect(None, "train", config=config, iterations=n) for n in (1000, 100)]
        assert group_estimate.seconds_of(todo, 0.01, workers=1) == pytest.approx(11.0 * runs)
        assert group_estimate.seconds_of(todo, 0.01, workers=2) == pytest.approx(10.0 * runs)  # of the longest
    assert [group_estimate.readable_seconds(s) for s in (59, 90, 3599, 7260)] == [
        "59 s", "1 min 30 s", "59 min", "2 h 1 min"]  # fmt: skip
