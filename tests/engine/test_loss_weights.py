"""texture_loss_weights: the words equal and auto, the rule behind auto, and that a run keeps what came out of it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

import train
from common.errors import UserError
from configs import build_parser, make_config, parse_args, to_dict
from dataset import Material, load_material
from engine import loss_weights
from engine.cpu.engine import CpuEngine
from engine.loss_weights import balanced_weights, channel_variances, resolve_loss_weights
from engine.sample_loss import sample_loss
from engine.sampling import channel_loss_weights
from engine.schedule import Schedule
from engine.torch.engine import TorchEngine
from maps.channels import MAPS
from model import build_model
from tests.support.runs import (
    QUICK,
    _offline,  # noqa: F401  # autouse
    checkpoint_differences,
    checkpoint_of,
    quick,
    refusal,
    save_maps,
)
from training.checkpoint import load_checkpoint
from training.summary import weight_advice

EQUAL = dict.fromkeys(MAPS, 1.0)


def waves(name, width, height, spread, dtype=np.uint8, seed=0):
    """Codes around the middle with a standard deviation near `spread` of the range."""
    noise = np.random.default_rng(seed).uniform(-1, 1, (height, width, MAPS[name])) * spread * 3**0.5
    return ((0.5 + noise) * np.iinfo(dtype).max).round().astype(dtype)


# --- the rule ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (70, 31)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("at_a_time", [1, 64, 10**6])
def test_variances_are_those_of_numpy(monkeypatch, size, dtype, at_a_time):
    monkeypatch.setattr(loss_weights, "TEXELS_AT_A_TIME", at_a_time)
    arrays = {"diffuse": waves("diffuse", *size, 0.2, dtype), "roughness": waves("roughness", *size, 0.01, dtype, 1)}
    material = Material.from_arrays("made", arrays)
    for name, codes in arrays.items():
        expected = (codes / np.iinfo(dtype).max).reshape(-1, MAPS[name]).var(axis=0)
        assert channel_variances(material, name) == pytest.approx(expected.tolist(), rel=1e-9, abs=1e-18)


def test_weights_follow_the_rule():
    arrays = {
        "diffuse": waves("diffuse", 64, 48, 0.2),
        "normal": waves("normal", 64, 48, 0.05),
        "roughness": waves("roughness", 64, 48, 0.1, np.uint16),
        "occlusion": waves("occlusion", 64, 48, 0.003),  # below the floor
    }
    weights = balanced_weights(Material.from_arrays("made", arrays))
    inverse = {}
    for name, codes in arrays.items():
        variance = (codes / np.iinfo(codes.dtype).max).var(axis=(0, 1)).mean()
        inverse[name] = 1 / max(variance, 0.0004)
    assert inverse["occlusion"] == 2500
    mean = sum(inverse.values()) / 4
    assert list(weights) == list(MAPS)
    expected = {name: value / mean for name, value in inverse.items()}
    assert {name: weights[name] for name in arrays} == pytest.approx(expected, rel=1e-3)
    assert all(float(f"{weight:.4g}") == weight for weight in weights.values())
    assert [weights[name] for name in MAPS if name not in arrays] == [1, 1, 1]


def test_constants_take_no_part():
    diffuse = waves("diffuse", 16, 16, 0.2)
    diffuse[..., 1:] = 9  # the variance of red alone counts
    arrays = {"diffuse": diffuse, "roughness": waves("roughness", 16, 16, 0.2, seed=5)}
    plain = balanced_weights(Material.from_arrays("made", arrays))
    arrays["metallic"] = np.full((16, 16), 255, np.uint8)
    weights = balanced_weights(Material.from_arrays("made", arrays))
    assert weights == plain and weights["metallic"] == 1 and weights["diffuse"] == pytest.approx(1, abs=0.15)
    assert balanced_weights(Material.from_arrays("made", {"metallic": arrays["metallic"]})) == EQUAL


def test_the_variance_is_of_what_is_trained():
    codes = waves("diffuse", 16, 16, 0.1) // 2
    srgb, linear = (Material.from_arrays("made", {"diffuse": codes}, linear_color=flag) for flag in (False, True))
    assert channel_variances(linear, "diffuse")[0] == pytest.approx(linear.gather(torch.arange(256))[:, 0].var(
        unbiased=False).item(), rel=1e-4)  # fmt: skip
    assert channel_variances(linear, "diffuse")[0] < 0.5 * channel_variances(srgb, "diffuse")[0]


def test_resolving(make_material):
    material = make_material(8, 8)
    assert resolve_loss_weights(material, {**EQUAL, "normal": 0.5}) == {**EQUAL, "normal": 0.5}
    assert resolve_loss_weights(material, "auto") == balanced_weights(material)
    weights = balanced_weights(material)
    total = 3 * weights["diffuse"] + 3 * weights["normal"] + weights["roughness"]
    expected = [weights["diffuse"] / total] * 3 + [weights["normal"] / total] * 3 + [weights["roughness"] / total]
    assert channel_loss_weights(material, "auto").tolist() == pytest.approx(expected)


# --- flags and files -----------------------------------------------------------------------------------------------


def test_words_on_the_command_line_and_in_files(tmp_path):
    def config(*flags, text=""):
        (tmp_path / "my.yaml").write_text(text)
        return make_config(parse_args([*flags, "--config", str(tmp_path / "my.yaml")]))

    assert config().texture_loss_weights == config("--texture_loss_weights", "equal").texture_loss_weights == EQUAL
    assert config("--texture_loss_weights", "auto").texture_loss_weights == "auto"
    assert config(text="texture_loss_weights: auto").texture_loss_weights == "auto"
    assert config(text="texture_loss_weights: equal").texture_loss_weights == EQUAL
    both = config("--texture_loss_weights", "equal", text="texture_loss_weights: {normal: 3}")
    assert both.texture_loss_weights == EQUAL, "a flag wins over the file"
    assert make_config(to_dict(config(text="texture_loss_weights: auto"))).texture_loss_weights == "auto"
    assert "1 / max(variance" in " ".join(build_parser().format_help().split())


@pytest.mark.parametrize("word", ["Auto", "balanced", "", "{diffuse: 2}", "2"])
def test_other_words_are_refused(capsys, tmp_path, word):
    line = refusal(capsys, "--data_dir", tmp_path, "--texture_loss_weights", word)
    assert "--texture_loss_weights" in line and "equal" in line and "auto" in line and "mapping" in line


# --- runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps") / "made"
    return save_maps(folder, 22, 13, ("diffuse", "normal", "roughness"), deep=("roughness",))


@pytest.mark.parametrize("engine", ["torch", "cpu"])
def test_a_run_is_that_with_the_weights_given_and_keeps_them(maps, tmp_path, capsys, engine):
    flags = ["--data_dir", maps, "--max_iter", 50, "--save_interval", 25, "--eval_interval", 25, "--engine", engine]
    run = quick(*flags, "--save_dir", tmp_path / "auto", "--texture_loss_weights", "auto", quiet=False)
    said = capsys.readouterr().out
    weights = balanced_weights(load_material(maps))
    assert len(set(weights.values())) > 2, "the maps differ, or nothing is tested"
    assert json.dumps(weights) in said
    assert json.loads((run / "config.json").read_text())["texture_loss_weights"] == weights
    assert load_checkpoint(run).config.texture_loss_weights == weights

    (tmp_path / "same.yaml").write_text(json.dumps({"texture_loss_weights": weights}))
    same = quick(*flags, "--save_dir", tmp_path / "same", "--config", tmp_path / "same.yaml")
    assert not checkpoint_differences(checkpoint_of(run, 50), checkpoint_of(same, 50))
    equal = quick(*flags, "--save_dir", tmp_path / "equal", "--texture_loss_weights", "equal")
    assert checkpoint_differences(checkpoint_of(run, 50), checkpoint_of(equal, 50))

    quick("--load_dir", same, "--load_iter", 25)
    assert load_checkpoint(same).config.texture_loss_weights == weights
    assert not checkpoint_differences(checkpoint_of(run, 50), checkpoint_of(same, 50))
    quick("--load_dir", equal, "--load_iter", 25, "--texture_loss_weights", "auto")
    assert load_checkpoint(equal).config.texture_loss_weights == weights


def test_a_resumed_run_keeps_its_weights_when_the_images_change(maps, tmp_path):
    data = save_maps(tmp_path / "maps", 22, 13, ("diffuse", "roughness"))
    flags = ["--save_dir", tmp_path / "out", "--max_iter", 40, "--save_interval", 20]
    run = quick("--data_dir", data, "--texture_loss_weights", "auto", *flags)
    weights = load_checkpoint(run).config.texture_loss_weights
    save_maps(data, 22, 13, ("roughness",), deep=("roughness",), seed=3)
    quick("--load_dir", run, "--load_iter", 20)
    assert load_checkpoint(run).config.texture_loss_weights == weights


def test_both_engines_take_the_steps_of_the_weighted_loss(make_material):
    material = make_material(21, 10)
    config = make_config({"batch_size": 64, "n_neurons": 16, "n_frequencies": 3, "noise_std": 0.0, "num_threads": 1,
                          "texture_loss_weights": "auto"})  # fmt: skip
    losses = []
    for kind in (TorchEngine, CpuEngine):
        model = build_model(config, 21, 10, material.present_channels.tolist(), material.constants)
        losses.append(kind(model, material, Schedule(config)).step(12))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_every_material_of_a_group_gets_weights_of_its_own(tmp_path):
    for seed, present in enumerate([("diffuse", "roughness"), ("diffuse", "normal", "occlusion")]):
        save_maps(tmp_path / "in" / f"m{seed}", 9, 9, present, seed)
    flags = ["--groups_batching", "--groups_batch_dir", tmp_path / "in", "--groups_save_dir", tmp_path / "out"]
    assert train.main([*QUICK, *map(str, flags), "--max_iter", "5", "--texture_loss_weights", "auto"]) == 0
    configs = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*/*/config.json")]
    found = [config["texture_loss_weights"] for config in configs]
    assert len(found) == 2 and found[0] != found[1]


# --- light above 1 -------------------------------------------------------------------------------------------------


def test_the_larger_a_range_of_light_the_more_it_counts():
    codes = np.random.default_rng(1).integers(0, 65536, (6, 7, 3), np.uint16)

    def weights(high, scale, setting=EQUAL):
        kinds = {"value_range": {"emissive": (0.0, high)}, "log_scale": {"emissive": scale}} if scale else {}
        material = Material.from_arrays("m", {"diffuse": codes, "emissive": codes}, **kinds)
        return (w := channel_loss_weights(material, setting))[3] / w[0], w

    assert weights(1.0, None)[0] == 1 and weights(1.1, 1.0)[0] == 1  # never less than another map
    narrow, wide = weights(50.0, 2.0)[0], weights(50.0, 0.25)[0]
    assert 1 < narrow < 3 and wide / narrow == pytest.approx((np.log1p(200) / np.log1p(25)) ** 2, rel=1e-5)
    ratio, summed = weights(50.0, 0.25, {**EQUAL, "emissive": 0.5})
    assert ratio == pytest.approx(wide / 2) and summed.sum() == pytest.approx(1)
    assert weights(50.0, 0.25, {**EQUAL, "emissive": 0.0})[0] == 0


def test_how_the_errors_of_light_count():
    """Less than 0 is clipped: up to 0.1 of it is no error. Bright light counts up to 5 times as much as dark, in the
    mean 1."""
    codes = np.zeros((2, 2, 3), np.uint16)
    codes[0] = 65535, 32768, 0
    kinds = {"value_range": {"emissive": (0.0, 50.0)}, "log_scale": {"emissive": 0.25}}
    material = Material.from_arrays("m", {"roughness": codes[..., 0], "emissive": codes}, **kinds)
    count = sample_loss(material, [6, 12, 13, 14])
    decoded = torch.tensor([[-0.3, -0.3, -0.05, 0.2]] * 2)
    target = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.5, 1.0, 0.5, 0.0]])
    errors = [[-0.3, -0.2, 0.0, 0.2], [-0.8, -1.3, -0.55, 0.2]]
    assert torch.allclose(count.errors_of(decoded, target), torch.tensor(errors))
    mean = np.mean(1 + 4 * (codes / 65535) ** 4)
    weights = np.array([[1, 1 / mean, 1 / mean, 1 / mean], [1, 5 / mean, 1.25 / mean, 1 / mean]])
    assert count.squared_errors(decoded, target).numpy() == pytest.approx(weights * np.square(errors), rel=1e-5)
    plain = sample_loss(Material.from_arrays("m", {"roughness": codes[..., 0], "emissive": codes}), [6, 12, 13, 14])
    assert torch.allclose(plain.squared_errors(decoded, target), (decoded - target).square())


# --- of channels ---------------------------------------------------------------------------------------------------


def test_a_weight_for_each_channel():
    config = make_config({"texture_loss_weights": {"normal": [1, 1, 0.5], "emissive": [0, 2, 0], "roughness": 3}})
    arrays = {"normal": waves("normal", 8, 8, 0.2), "roughness": waves("roughness", 8, 8, 0.2),
              "emissive": waves("diffuse", 8, 8, 0.2), "sheen": waves("roughness", 8, 8, 0.2, seed=3)}  # fmt: skip
    material = Material.from_arrays("made", arrays)
    found = channel_loss_weights(material, config.texture_loss_weights)
    wanted = [1, 1, 0.5, 3, 0, 2, 0, 1]  # normal, roughness, emissive, and a map that is not listed
    assert found.tolist() == pytest.approx([weight / sum(wanted) for weight in wanted])
    found = channel_loss_weights(material, config.texture_loss_weights, [5, 13, 15])
    assert found.tolist() == pytest.approx([0.5 / 3.5, 2 / 3.5, 1 / 3.5])
    assert make_config(to_dict(config)).texture_loss_weights == config.texture_loss_weights


def test_advice_doubles_the_weights_of_all_channels():
    shares, channels = {"normal": 0.9, "roughness": 0.1}, {"normal": 1, "roughness": 3}
    advice = weight_advice(shares, channels, {"normal": [1, 0.5, 1], "roughness": [2.0], "diffuse": 3.0})
    assert advice.endswith("texture_loss_weights: {normal: [2, 1, 2], roughness: 2}")


@pytest.mark.parametrize(("weights", "says"), [
    ({"normal": [1, 2]}, "normal: expected a number, or 3 for its channels, found 2"),
    ({"roughness": [1, 2, 3]}, "roughness: expected a number, or 1 for its channels, found 3"),
    ({"normal": [1, -1, 1]}, "normal"), ({"normal": ["a", 1, 1]}, "normal"),
    (dict.fromkeys(MAPS, 0) | {"normal": [0, 0, 0]}, "every map has weight 0"),
])  # fmt: skip
def test_wrong_weights_of_channels(weights, says):
    with pytest.raises(UserError, match=re.escape(says)):
        make_config({"texture_loss_weights": weights})
