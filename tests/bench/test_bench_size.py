"""bench/size.py: runs of train.py on tiles of a material, in processes of their own, with their memory."""

from __future__ import annotations

import json
import platform

import numpy as np
import pytest

from bench import size
from bench.materials import tiled_material
from common.errors import run_command
from dataset import load_material
from tests.support.runs import refusal_line, save_maps

FLAGS = {"max_iter": 3, "batch_size": 64, "n_neurons": 16, "n_frequencies": 2, "refine": 0, "eval_metrics": "psnr",
         "engine": "torch", "num_threads": 1, "weight_bits": 32, "n_hidden_layers": 2}  # fmt: skip


def test_runs_are_those_of_the_command(tmp_path, monkeypatch, capsys):
    """Both latents on one tiled material: what was trained, its scores, seconds, and memory of a process."""
    folder = save_maps(tmp_path / "made", 24, 24, ("diffuse", "roughness"))

    def flags(arguments, side):
        grids = [{"max_resolution": 16}, {"max_resolution": 8}]
        return [{**FLAGS, "latents": latents, "hash_grid_configs": [{**grid, "storage": latents} for grid in grids]}
                for latents in arguments.latents]  # fmt: skip

    monkeypatch.setattr(size, "chosen_flags", flags)
    assert size.main([str(folder), "--sizes", "40", "--out", str(tmp_path / "out")]) == 0
    entries = json.loads((tmp_path / "out" / "size.json").read_text(), parse_constant=pytest.fail)["entries"]
    assert [(entry["size"], entry["latents"], entry["iterations"]) for entry in entries] == [
        (40, "packed", 3), (40, "bc1", 3)
    ]  # fmt: skip
    for entry in entries:
        assert entry["material"] == "made" and 0 < entry["training_seconds"] <= entry["seconds"]
        assert all(5 < entry[key] < 60 for key in ("psnr", "psnr_filtered"))
        if platform.system() == "Linux":
            assert 1 << 20 < entry["peak_bytes"] < 1 << 31
    # 0.8 of the texels in grids of 32 bits and of 4, and one network
    difference = entries[0]["bpp"] - entries[1]["bpp"]
    assert difference == pytest.approx((32 - 4) * (16**2 + 8**2) / 40**2 + 32 * 16 * 16 / 40**2, abs=0.01)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["40²", "packed"], ["40²", "bc1"]]


def test_files_hold_the_tiles(tmp_path):
    source = load_material(save_maps(tmp_path / "made", 16, 12, ("diffuse", "roughness"), deep=("roughness",)))
    tiled = tiled_material(source, 40)
    size.write_maps(tiled, tmp_path)
    read = load_material(tmp_path)
    assert (read.width, read.height, read.present) == (40, 40, tiled.present)
    for name in tiled.present:
        assert np.array_equal(read.stored(0, name), tiled.stored(0, name))


def test_flags_are_those_of_a_plan():
    arguments = size.build_parser().parse_args(["--bpp", "2.5", "--preset", "balanced", "--num_threads", "2"])
    found = size.chosen_flags(arguments, 1024)
    assert [(flags["latents"], flags["decoder"]) for flags in found] == [("packed", "learned"), ("bc1", "learned")]
    assert all((flags["bpp"], flags["preset"], flags["num_threads"]) == (2.5, "balanced", 2) for flags in found)


@pytest.mark.parametrize(("flags", "words"), [
    (["--sizes", "0"], "--sizes"), (["--sizes"], "--sizes"), (["--latents", "bc7"], "--latents"),
    (["--decoder", "tsnc"], "--latents packed"), (["--bpp", "99"], "--bpp"), (["--preset", "slow"], "--preset"),
    (["--sizes", "64", "--bpp", "0.5"], "--bpp 0.5"),
])  # fmt: skip
def test_refusals(flags, words, tmp_path, capsys):
    folder = save_maps(tmp_path / "made", 16, 16)
    code = run_command(lambda: size.main([str(folder), *flags, "--out", str(tmp_path / "out")]))
    assert words in refusal_line(code, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_run_that_fails_is_one_line(tmp_path, monkeypatch, capsys):
    folder = save_maps(tmp_path / "made", 16, 16)
    monkeypatch.setattr(size, "chosen_flags", lambda arguments, side: [{"max_iter": -3}])
    code = run_command(lambda: size.main([str(folder), "--sizes", "16", "--out", str(tmp_path / "out")]))
    line = refusal_line(code, capsys.readouterr().err)
    assert "the run failed" in line and "max_iter" in line
