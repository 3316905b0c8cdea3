"""A batch with --maps, maps.yaml and --size: what is a group, what is watched, what --maps alone says."""

from __future__ import annotations

import shutil

import pytest
from PIL import Image as PillowImage

import train
from groups.journal import read_batch, run_folders
from tests.support.batches import (
    _forked,  # noqa: F401  # autouse
    train_batch,
)
from tests.support.runs import (
    _offline,  # noqa: F401  # autouse
    quick,
    refusal,
    save_maps,
)

BY_HAND = ["--maps", "diffuse=one.png,roughness=two.png:g"]


@pytest.fixture
def odd(tmp_path):
    """Two materials whose names say nothing, or too much."""
    for name in ("a", "b"):
        folder = save_maps(tmp_path / "batch" / name, 16, 8, ("diffuse", "normal"), seed=ord(name))
        (folder / "made_diffuse.png").rename(folder / "one.png")
        (folder / "made_normal.png").rename(folder / "two.png")
    for name in ("x_albedo.png", "y_albedo.png"):  # two files for one map: only --maps can tell
        shutil.copy(tmp_path / "batch" / "b" / "one.png", tmp_path / "batch" / "b" / name)
    return tmp_path / "batch"


def statuses(batch):
    return [row["status"] for row in read_batch(batch.parent / "out")["groups"]]


def test_files_named_by_hand_are_materials_and_are_watched(odd, tmp_path, capsys):
    assert "--maps" in refusal(capsys, "--groups_batching", "--groups_batch_dir", odd / "..", "--groups_save_dir",
                               tmp_path / "none")  # fmt: skip
    assert train_batch(odd, "--groups_dry_run", *BY_HAND) == 0
    assert "no image" not in capsys.readouterr().out
    assert train_batch(odd, *BY_HAND) == 0
    assert statuses(odd) == ["done", "done"]
    assert "diffuse (one.png, 8 bit)  roughness (two.png" in (tmp_path / "out" / "a" / "log.txt").read_text()
    capsys.readouterr()
    assert train_batch(odd, *BY_HAND) == 0
    assert "2 of 2 materials were finished before" in capsys.readouterr().out
    PillowImage.new("RGB", (16, 8), (9, 99, 199)).save(odd / "b" / "one.png")
    assert train_batch(odd, *BY_HAND) == 0
    assert "1 of 2 materials were finished before" in capsys.readouterr().out
    assert [len(run_folders(tmp_path / "out" / name)) for name in ("a", "b")] == [1, 2]


def test_a_manifest_of_names_in_a_group_is_watched_too(odd, tmp_path, capsys):
    for name in ("a", "b"):
        (odd / name / "maps.yaml").write_text("diffuse: one.png\nnormal: two.png\n")
    assert train_batch(odd, "--size", "8x8") == 0
    log = (tmp_path / "out" / "b" / "log.txt").read_text()
    assert "b: 8x8" in log and "normal (two.png" in log
    capsys.readouterr()
    assert train_batch(odd, "--size", "8x8") == 0
    assert "2 of 2 materials were finished before" in capsys.readouterr().out
    (odd / "a" / "maps.yaml").write_text("diffuse: two.png\nnormal: one.png\n")
    assert train_batch(odd, "--size", "8x8") == 0
    assert "1 of 2 materials were finished before" in capsys.readouterr().out
    assert train_batch(odd, "--size", "largest") == 0
    assert "finished before" not in capsys.readouterr().out


def test_maps_alone_says_it_of_every_group(odd, capsys):
    """The two that collide are an error in their group's place; nothing is trained."""
    assert train_batch(odd, "--maps") == 0
    said = capsys.readouterr().out
    assert said.startswith("a:\n  no image named after a map\nb:\n  ") and "x_albedo.png" in said
    (odd / "a" / "maps.yaml").write_text("diffuse: one.png\n")
    assert train_batch(odd, "--maps") == 0
    assert "one.png" in capsys.readouterr().out.partition("b:")[0]
    assert not (odd.parent / "out").exists()


def test_maps_alone_says_it_of_the_material_of_a_run(odd, tmp_path, capsys):
    run = quick("--data_dir", odd / "a", "--save_dir", tmp_path / "runs", "--max_iter", 2, *BY_HAND)
    for flags in ([], ["--mode", "infer"]):
        assert train.main(["--load_dir", str(run), "--maps", *flags]) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first.split() == ["one.png", "diffuse", "named", "by", "hand"]
        assert second.split()[:2] == ["two.png", "roughness"]


def test_a_size_that_a_run_does_not_have_is_refused(odd, tmp_path, capsys):
    run = quick("--data_dir", odd / "a", "--save_dir", tmp_path / "runs", "--max_iter", 2, "--size", "8x8", *BY_HAND)
    for flags in (["--mode", "infer"], ["--max_iter", "4"]):
        line = refusal(capsys, "--load_dir", run, "--size", "4x4", *flags)
        assert "trained on 8x8" in line and "leave out --size" in line
        assert train.main(["--load_dir", str(run), "--size", "8x8", *flags]) == 0
