"""coverage.py: what an alpha test makes of a decoded opacity, and the error of what can be seen; and where both go."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from configs import make_config
from dataset import Material
from engine.cpu.decoder import decode_lod
from metrics import tiles
from metrics.coverage import coverage_scores
from metrics.evaluate import evaluate_model
from model import new_model
from tests.support.leaves import leaf_maps
from tests.support.runs import _offline  # noqa: F401  # autouse
from training.report import RunLog
from training.summary import Result, run_summary

KEYS = {"coverage", "opacity_wrong", "psnr_covered"}


def pair(dtype=np.uint8, size=(23, 31)):
    """(decoded, source) codes of a material with opacity; the source of `dtype`, as files have 16 bits."""
    random = np.random.default_rng(1)
    shapes = {"diffuse": 3, "roughness": 1, "opacity": 1}
    top = np.iinfo(dtype).max
    source = {name: random.integers(0, top + 1, (*size, n)).astype(dtype) for name, n in shapes.items()}
    source["opacity"][random.random(size) < 0.5] = 0
    decoded = {name: np.clip(codes * (255 / top) + random.normal(0, 9, codes.shape), 0, 255).round().astype(np.uint8)
               for name, codes in source.items()}  # fmt: skip
    return decoded, source


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_scores_by_hand(dtype, monkeypatch):
    monkeypatch.setattr(tiles, "TILE_VALUES", 200)
    decoded, source = pair(dtype)
    top = np.iinfo(dtype).max
    got = coverage_scores(decoded, source)
    assert set(got) == KEYS and json.loads(json.dumps(got)) == got
    ours, theirs = decoded["opacity"] / 255 >= 0.5, source["opacity"] / top >= 0.5
    assert got["coverage"] == {
        "decoded": ours.mean(), "source": theirs.mean(), "difference": pytest.approx(ours.mean() - theirs.mean())
    }  # fmt: skip
    assert got["opacity_wrong"] == pytest.approx((ours != theirs).mean()) and got["opacity_wrong"] > 0
    weight = source["opacity"] / top
    errors = {name: ((decoded[name] / 255 - source[name] / top) ** 2 * weight).sum() / weight.sum()
              for name in ("diffuse", "roughness")}  # fmt: skip
    psnr = got["psnr_covered"]
    assert list(psnr) == ["all", "diffuse", "roughness"]
    assert psnr["diffuse"] == pytest.approx(-10 * math.log10(errors["diffuse"] / 3), abs=1e-4)
    assert psnr["roughness"] == pytest.approx(-10 * math.log10(errors["roughness"]), abs=1e-4)
    assert psnr["all"] == pytest.approx(-10 * math.log10(sum(errors.values()) / 4), abs=1e-4)


def test_the_test_lies_between_127_and_128():
    source = {"opacity": np.uint8([[[127], [128], [127], [128]]])}
    decoded = {"opacity": np.uint8([[[128], [128], [127], [127]]])}
    got = coverage_scores(decoded, source)
    assert got == {"coverage": {"decoded": 0.5, "source": 0.5, "difference": 0.0}, "opacity_wrong": 0.5,
                   "psnr_covered": {}}  # fmt: skip
    deep = {"opacity": np.uint16([[[32767], [32768], [32767], [32768]]])}
    assert coverage_scores(decoded, deep)["opacity_wrong"] == 0.5


def test_what_is_not_covered_does_not_count():
    decoded, source = pair()
    hidden = source["opacity"][..., 0] == 0
    before = coverage_scores(decoded, source)["psnr_covered"]
    decoded["diffuse"][hidden] ^= 255
    assert coverage_scores(decoded, source)["psnr_covered"] == before
    decoded["diffuse"][~hidden] ^= 255
    assert coverage_scores(decoded, source)["psnr_covered"]["diffuse"] < before["diffuse"] - 10
    source["opacity"][:] = 0
    assert coverage_scores(decoded, source)["psnr_covered"] == {"all": None, "diffuse": None, "roughness": None}


def test_a_constant_has_no_error_there_either():
    decoded, source = pair(np.uint16)
    source["roughness"][:] = 12345
    exact = {6: 12345 / 65535}
    assert coverage_scores(decoded, source, exact)["psnr_covered"]["roughness"] == pytest.approx(100, abs=0.01)


def scored(maps):
    material = Material.from_arrays("leaf", maps)
    config = make_config({"n_neurons": 16, "n_frequencies": 4, "seed": 3})
    model = new_model(config, material)
    return material, evaluate_model(model, material, 7, decode=decode_lod, with_ssim=False, with_flip=False)


def test_only_a_learned_opacity_is_scored():
    maps = leaf_maps(32)
    material, metrics = scored(maps)
    for lod, scores in enumerate(metrics["lods"]):
        assert set(scores) >= KEYS
        assert scores["coverage"]["source"] == (material.stored(lod, "opacity") >= 128).mean()
    for others in ({**maps, "opacity": np.full((32, 32), 90, np.uint8)},
                   {name: codes for name, codes in maps.items() if name != "opacity"}):  # fmt: skip
        material, metrics = scored(others)
        assert not any(KEYS & set(scores) for scores in metrics["lods"])
        result = Result(Path("run"), 7, metrics, {"grids": 1, "network": 1, "bpp": 2, "all_mips": 3}, 1)
        assert "\nopacity" not in run_summary(result, material, make_config({}), None)


def test_where_the_scores_go(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    material, metrics = scored(leaf_maps(32))
    run = tmp_path / "out" / "run"
    run.mkdir(parents=True)
    log = RunLog(run)
    log.evaluation(metrics)
    log.close()
    assert json.loads((run / "metrics.json").read_text()) == metrics
    events = EventAccumulator(str(run.parent / "tensorboard" / "run")).Reload()
    for lod, scores in enumerate(metrics["lods"]):
        wanted = {"OPACITY_WRONG": scores["opacity_wrong"], "PSNR_COVERED": scores["psnr_covered"]["all"],
                  **{f"COVERAGE_{side}": share for side, share in scores["coverage"].items()}}  # fmt: skip
        for tag, value in wanted.items():
            if value is not None:
                assert [event.value for event in events.Scalars(f"{tag}/LOD{lod}")] == [pytest.approx(value, rel=1e-6)]
    text = run_summary(Result(run, 7, metrics, {"grids": 1, "network": 1, "bpp": 2, "all_mips": 3}, 1), material,
                       make_config({}), None)  # fmt: skip
    line, = (line for line in text.splitlines() if line.startswith("opacity"))
    first = metrics["lods"][0]
    for words in (f"{first['opacity_wrong']:.2%}", f"{metrics['lods'][3]['opacity_wrong']:.2%}",
                  f"{first['coverage']['decoded']:.1%}", f"source {first['coverage']['source']:.1%}",
                  f"{first['psnr_covered']['all']:.2f} dB"):  # fmt: skip
        assert words in line
