"""Runs of the version before this one (tests/data/README.md): resumed, exported, evaluated, described, shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

import export
import train
from tests.support.paths import ROOT
from tests.support.runs import _offline, checkpoint_of, tree  # noqa: F401  # the first is a fixture, autouse
from training.checkpoint import load_checkpoint

OLD = ROOT / "tests" / "data" / "old_runs"
ITERATION = {"reference": 30, "learned": 60}
EXPORTED = ("hash_grid_0.dds", "hash_grid_1.dds", "network_data.npz")


@pytest.fixture(params=list(ITERATION))
def run(request, tmp_path) -> Path:
    """A copy of one of the runs, which may be written to."""
    return shutil.copytree(OLD / request.param, tmp_path / request.param)


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def scores(run: Path) -> dict:
    """PSNR per map, as that version measured it."""
    return read(checkpoint_of(run, ITERATION[run.name]) / "manifest.json")["metrics"]["psnr"]


def test_a_checkpoint_exports_to_the_same_bytes(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert export.main(["--load_dir", str(run), "--out_dir", str(out)]) == 0
    saved = checkpoint_of(run, ITERATION[run.name])
    for name in EXPORTED:
        if (saved / name).suffix == ".dds":
            assert (out / name).read_bytes() == (saved / name).read_bytes(), name
        else:
            one, other = np.load(out / name), np.load(saved / name)
            assert one.files == other.files and all(np.array_equal(one[key], other[key]) for key in one.files)


def test_the_exported_files_give_every_product(run, tmp_path, capsys):
    saved, out = checkpoint_of(run, ITERATION[run.name]), tmp_path / "out"
    flags = ["--images", "--transcode", "png,dds,ktx2", "--shader", "hlsl,wgsl", "--dds_layout", "filterable"]
    assert export.main(["--load_dir", str(saved), "--out_dir", str(out), *flags]) == 0
    files = tree(out)
    for ending in (".hlsl", ".wgsl", ".dds", ".png", ".ktx2"):
        assert any(name.endswith(ending) for name in files), ending
    (source,) = (run / "maps").glob("*roughness.png")
    (decoded,) = (path for path in (out / "images").rglob("*roughness*.png") if "lod0" in path.name.lower())
    difference = np.asarray(PillowImage.open(decoded), float) - np.asarray(PillowImage.open(source), float)
    assert -10 * np.log10(np.mean((difference / 255) ** 2)) == pytest.approx(scores(run)["roughness"], abs=0.02)


def test_it_is_described_and_shown(run, tmp_path, capsys):
    assert export.main(["--describe", str(run)]) == 0
    said = capsys.readouterr().out
    assert f"{scores(run)['all']:.2f}" in said
    page = tmp_path / "page.html"
    assert export.main(["--load_dir", str(run), "--viewer", str(page), "--data_dir", str(run / "maps")]) == 0
    assert page.stat().st_size > 50_000


def test_infer_measures_what_that_version_measured(run, capsys):
    flags = ["--mode", "infer", "--load_dir", str(run), "--data_dir", str(run / "maps")]
    assert train.main(flags) == 0
    assert "not the ones that this run was trained on" not in capsys.readouterr().out
    found = read(run / "infer" / "metrics.json")["psnr"]
    assert found == pytest.approx(scores(run), abs=0.01)


def test_a_run_that_was_stopped_goes_on_as_it_would_have(tmp_path, capsys):
    run = shutil.copytree(OLD / "reference", tmp_path / "reference")
    assert train.main(["--load_dir", str(run), "--data_dir", str(run / "maps")]) == 0
    expected = read(OLD / "reference" / "expected_60" / "metrics.json")["psnr"]
    found = read(run / "metrics.json")
    assert found["iteration"] == 60
    assert found["psnr"] == pytest.approx(expected, abs=0.3), "other machines round otherwise"


def test_a_finished_run_goes_on(tmp_path, capsys):
    run = shutil.copytree(OLD / "learned", tmp_path / "learned")
    before = scores(run)["all"]
    assert train.main(["--load_dir", str(run), "--data_dir", str(run / "maps"), "--max_iter", "120"]) == 0
    assert load_checkpoint(run).iteration == 120
    assert read(run / "metrics.json")["psnr"]["all"] > before - 1


def test_its_configuration_trains_again(run, tmp_path, capsys):
    flags = ["--config", str(run / "config.json"), "--data_dir", str(run / "maps"), "--save_dir", str(tmp_path / "out")]
    assert train.main([*flags, "--max_iter", "5", "--refine", "0"]) == 0


def test_it_goes_on_without_the_extra_maps_that_lie_in_its_folder(run, tmp_path, capsys):
    """That version read no opacity and no emission; a run of it has no channels for them."""
    (diffuse,) = (run / "maps").glob("*albedo.png")
    picture = PillowImage.open(diffuse).convert("RGBA")
    picture.putalpha(PillowImage.linear_gradient("L").resize(picture.size))
    picture.save(diffuse)
    picture.convert("RGB").save(diffuse.with_name("wall_emissive.png"))
    flags = ["--load_dir", str(run), "--data_dir", str(run / "maps")]
    assert train.main(["--mode", "infer", *flags]) == 0
    assert read(run / "infer" / "metrics.json")["psnr"] == pytest.approx(scores(run), abs=0.01)
    assert train.main([*flags, "--max_iter", "120"]) == 0
    assert "wall_emissive.png: emissive is left out" in capsys.readouterr().out
    assert [entry.name for entry in load_checkpoint(run).material.maps] == list(scores(run))[1:]
