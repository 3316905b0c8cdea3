"""Runs with opacity, emission and a map of the user's own: resumed, evaluated, exported, in batches."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image as PillowImage

import export
import train
from formats.manifest import read_manifest
from tests.support.leaves import leaf_maps
from tests.support.runs import _offline, checkpoint_differences, checkpoint_of, quick, refusal  # noqa: F401
from training.run_folder import list_checkpoints

NAMES = ["diffuse", "normal", "roughness", "opacity", "emissive", "sheen"]


@pytest.fixture(scope="module")
def leaf(tmp_path_factory):
    """A folder with alpha in the albedo, an emission, and a map of another name."""
    folder, maps = tmp_path_factory.mktemp("leaf"), leaf_maps(32)
    PillowImage.fromarray(np.dstack([maps["diffuse"], maps["opacity"]])).save(folder / "leaf_albedo.png")
    for name in ("normal", "roughness"):
        PillowImage.fromarray(maps[name].squeeze()).save(folder / f"leaf_{name}.png")
    PillowImage.fromarray(maps["diffuse"][::-1].copy()).save(folder / "leaf_emissive.png")
    PillowImage.fromarray(maps["roughness"].squeeze().T.copy()).save(folder / "leaf_sheen.png")
    return folder


@pytest.fixture(scope="module")
def run(leaf, tmp_path_factory):
    return quick("--data_dir", leaf, "--extra_map", "sheen", "--max_iter", 40, "--save_interval", 20, "--save_dir",
                 tmp_path_factory.mktemp("run"))  # fmt: skip


def test_all_of_them_are_trained_scored_and_exported(run, leaf, tmp_path, capsys):
    manifest = read_manifest(checkpoint_of(run, 40))
    assert [entry.name for entry in manifest.material.maps] == NAMES and manifest.form.decoder.outputs == 16
    metrics = json.loads((run / "metrics.json").read_text())
    assert list(metrics["psnr"]) == ["all", *NAMES] and list(metrics["psnr_filtered"]) == ["all", *NAMES]
    assert export.main(["--load_dir", str(run), "--out_dir", str(tmp_path), "--images"]) == 0
    shown = {path.name.split("_lod")[0] for path in (tmp_path / "images").rglob("*lod0*")}
    assert {name for name in NAMES if any(name in file for file in shown)} == set(NAMES)
    assert train.main(["--mode", "infer", "--load_dir", str(run)]) == 0
    assert json.loads((run / "infer" / "metrics.json").read_text())["psnr"] == metrics["psnr"]


def test_a_resumed_run_gives_the_same_bits(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / run.name)
    for iteration, folder in list_checkpoints(copy).items():
        if iteration > 20:
            shutil.rmtree(folder)
    quick("--load_dir", copy)
    assert checkpoint_differences(checkpoint_of(run, 40), checkpoint_of(copy, 40)) == []


@pytest.mark.parametrize("flags", [("--extra_maps", "none"), ("--extra_map", "thickness")])
def test_other_maps_are_another_model(flags, run, capsys):
    assert f"{flags[0]} {flags[1]}: " in refusal(capsys, "--load_dir", run, "--max_iter", 60, *flags)


def test_without_them_it_is_the_material_that_it_was(leaf, tmp_path):
    bare = shutil.copytree(leaf, tmp_path / "leaf")
    PillowImage.open(bare / "leaf_albedo.png").convert("RGB").save(bare / "leaf_albedo.png")
    for name in ("emissive", "sheen"):
        (bare / f"leaf_{name}.png").unlink()
    runs = [quick("--data_dir", folder, "--max_iter", 10, "--extra_maps", "none", "--save_dir", tmp_path / name)
            for name, folder in (("a", leaf), ("b", bare))]  # fmt: skip
    for name in ("hash_grid_0.dds", "hash_grid_1.dds", "network_data.npz"):
        one, other = ((checkpoint_of(run, 10) / name).read_bytes() for run in runs)
        assert one == other, name


def test_batches_have_a_column_for_each(leaf, tmp_path, capsys):
    groups, out = tmp_path / "groups", tmp_path / "out"
    shutil.copytree(leaf, groups / "leaf")
    flags = ["--groups_batching", "--groups_batch_dir", groups, "--groups_save_dir", out, "--extra_map", "sheen",
             "--max_iter", 5, "--refine", 0]  # fmt: skip
    for _ in range(2):  # the second time it is finished
        assert train.main([str(flag) for flag in flags]) == 0
    (row,) = csv.DictReader((out / "batch.csv").open())
    assert row["status"] == "done" and all(float(row[f"psnr_{name}"]) > 0 for name in NAMES)
    assert "were finished before" in capsys.readouterr().out
