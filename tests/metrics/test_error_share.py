"""Whose error it is: each map's share, and the advice that the summary of a run gives on it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image as PillowImage

from configs import make_config
from dataset import Material, load_material
from maps.channels import MAPS, map_slice
from metrics.scores import error_shares, evaluate_lod, normal_angle_error, round_to_8_bit
from tests.support.runs import (
    _offline,  # noqa: F401  # autouse
    quick,
    save_maps,
)
from training.summary import Result, run_summary, trained_channel_counts, weight_advice

EQUAL = dict.fromkeys(MAPS, 1.0)
RATES = {"grids": 1.5, "network": 0.25, "bpp": 1.75, "all_mips": 2.125}


# --- shares --------------------------------------------------------------------------------------------------------


def test_shares_of_known_errors():
    shares = error_shares({"diffuse": 2.0, "normal": 0.0, "roughness": 0.5, "metallic": 5.5})  # means over channels
    assert shares == {"diffuse": 0.5, "normal": 0.0, "roughness": 0.5 / 12, "metallic": 5.5 / 12}
    assert list(shares) == ["diffuse", "normal", "roughness", "metallic"]
    assert error_shares({"diffuse": 0.0, "normal": 0.0}) == {"diffuse": 0.0, "normal": 0.0}


@pytest.mark.parametrize("size", [(1, 1), (9, 5)], ids=str)
def test_shares_of_images(make_material, size):
    material = make_material(*size, ("diffuse", "normal", "occlusion"))
    source = material.texels(0)
    decoded = source + 0.2 * torch.randn(source.shape)
    shares = evaluate_lod(decoded, source, material.present, with_lpips=False, with_flip=False)["error_share"]
    squares = (round_to_8_bit(decoded) - source).double().numpy() ** 2
    parts = {name: squares[..., map_slice(name)].sum() for name in material.present}
    for name, part in parts.items():
        assert shares[name] == pytest.approx(part / sum(parts.values()), rel=1e-6)
    exact = evaluate_lod(source, source, material.present, with_lpips=False, with_flip=False)["error_share"]
    assert exact == dict.fromkeys(material.present, 0.0)


# --- advice --------------------------------------------------------------------------------------------------------

CHANNELS_OF = {"diffuse": 3, "normal": 3, "roughness": 1}


@pytest.mark.parametrize(
    "shares, weights, line",
    [
        ({"diffuse": 0.1, "normal": 0.2, "roughness": 0.7}, {}, "{roughness: 2}"),
        ({"diffuse": 0.1, "normal": 0.86, "roughness": 0.04}, {}, "{normal: 2}"),  # just above twice 3 of 7
        ({"diffuse": 0.1, "normal": 0.85, "roughness": 0.05}, {}, None),
        ({"diffuse": 0.25, "normal": 0.25, "roughness": 0.5}, {}, None),  # not more than half
        ({"diffuse": 0.0, "normal": 0.0, "roughness": 0.0}, {}, None),
        ({"diffuse": 0.1, "normal": 0.2, "roughness": 0.7}, {"roughness": 3.0, "normal": 0.5},
         "{normal: 0.5, roughness: 6}"),
        ({"diffuse": 0.1, "normal": 0.2, "roughness": 0.7}, {"specular": 9.0}, "{roughness: 2}"),  # a missing map's
        ({"diffuse": 0.1, "normal": 0.2, "roughness": 0.7}, {"roughness": 0.0}, None),
        ({"diffuse": 0.1, "normal": 0.2, "roughness": 0.7}, {"roughness": 0.5, "diffuse": 1.23456},
         "{diffuse: 1.23, roughness: 1}"),
    ],
)  # fmt: skip
def test_advice(shares, weights, line):
    advice = weight_advice(shares, CHANNELS_OF, {**EQUAL, **weights})
    assert (advice is None) == (line is None)
    if line:
        assert advice.endswith(f"texture_loss_weights: {line}") and len(advice.splitlines()) == 1
        heaviest = max(shares, key=shares.get)
        assert advice.startswith(f"{heaviest} has {shares[heaviest]:.0%} of the squared error")
        config = make_config(yaml.safe_load(advice[advice.index("texture_loss_weights") :]))  # works as it stands
        assert config.texture_loss_weights[heaviest] == 2 * {**EQUAL, **weights}[heaviest]


def test_no_advice_for_a_single_map_or_beside_constants():
    assert weight_advice({"diffuse": 1.0}, {"diffuse": 3}, EQUAL) is None
    assert weight_advice({"diffuse": 1.0, "metallic": 0.0}, {"diffuse": 3, "metallic": 0}, EQUAL) is None
    assert weight_advice({"diffuse": 0.0}, {"diffuse": 0}, EQUAL) is None
    assert weight_advice({"diffuse": 1.0}, {"diffuse": 0}, EQUAL) is None


def test_trained_channels_are_those_that_vary():
    diffuse = np.zeros((4, 4, 3), np.uint8)
    diffuse[1, 1, 2] = 9
    arrays = {"diffuse": diffuse, "metallic": np.zeros((4, 4), np.uint8), "roughness": np.eye(4, dtype=np.uint8)}
    counts = trained_channel_counts(Material.from_arrays("made", arrays))
    assert counts == {"diffuse": 1, "roughness": 1, "metallic": 0}


# --- what a run tells ----------------------------------------------------------------------------------------------


def evaluated(material, noise):
    source = material.texels(0)
    decoded = source.clone()
    for name, strength in noise.items():
        decoded[..., map_slice(name)] += strength * torch.randn(source[..., map_slice(name)].shape)
    scores = evaluate_lod(decoded, source, material.present, with_lpips=False, with_flip=False)
    part = map_slice("normal")
    angle = normal_angle_error(round_to_8_bit(decoded)[..., part], source[..., part])
    return {"iteration": 1, "psnr": scores["psnr"], "lods": [scores]}, angle


def test_the_summary_tells_shares_angle_and_advice(make_material, tmp_path):
    material = make_material(16, 12, ("diffuse", "normal", "roughness"))

    def summary(metrics, **settings) -> str:
        return run_summary(Result(tmp_path, 1, metrics, RATES, 1.0), material, make_config(settings), 1000)

    metrics, angle = evaluated(material, {"diffuse": 0.02, "normal": 0.02, "roughness": 0.3})
    shares = metrics["lods"][0]["error_share"]
    lines = summary(metrics).splitlines()
    assert f"normal {metrics['psnr']['normal']:.2f}, {angle:.2f} degrees off" in lines[0]
    assert lines[1].split() == ["error", *(w for n, s in shares.items() for w in (n, f"{s:.1%}")), "of", "the",
                                "squared", "error"]  # fmt: skip
    assert lines[2].startswith("advice   roughness has") and lines[2].endswith("texture_loss_weights: {roughness: 2}")
    weighted = summary(metrics, texture_loss_weights={"roughness": 4.0})
    assert "texture_loss_weights: {roughness: 8}" in weighted
    metrics, _ = evaluated(material, dict.fromkeys(material.present, 0.05))
    assert "advice" not in summary(metrics)


def test_no_angle_without_a_normal_map(make_material, tmp_path):
    material = make_material(16, 12, ("diffuse", "metallic"))
    metrics, _ = evaluated(material, {"diffuse": 0.1})
    assert "degrees" not in run_summary(Result(tmp_path, 1, metrics, RATES, 1.0), material, make_config({}), 1000)


def test_a_run_writes_shares_and_gives_advice(tmp_path, capsys):
    folder = save_maps(tmp_path / "maps", 16, 16, ("diffuse", "roughness"))
    noise = np.random.default_rng(0).integers(0, 2, (16, 16), np.uint8) * 255  # nothing learns that in 20 iterations
    PillowImage.fromarray(noise).save(folder / "made_metallic.png")
    run = quick("--data_dir", folder, "--save_dir", tmp_path / "out", "--max_iter", 20, quiet=False)
    said = capsys.readouterr().out
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["error_share"] == metrics["lods"][0]["error_share"]
    assert set(metrics["error_share"]) == {"diffuse", "roughness", "metallic"}
    assert sum(metrics["error_share"].values()) == pytest.approx(1)
    mse = {name: 10 ** (-psnr / 10) * MAPS.get(name, 0) for name, psnr in metrics["psnr"].items()}
    assert metrics["error_share"]["metallic"] == pytest.approx(mse["metallic"] / sum(mse.values()), rel=1e-6)
    assert metrics["error_share"]["metallic"] > 0.5 and "texture_loss_weights: {metallic: 2}" in said
    assert load_material(folder).constants == {}
