"""bench/ablation.py: each variant does what it says and nothing is ours by mistake; the score is that of an export."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from bench import ablation, ablation_plot, ablation_variants, ablation_work
from bench.ablation_variants import OURS, OURS_TORCH, VARIANTS, NoiseAfter, NoiseOnly, RoundedAfter, recipe
from bench.ablation_work import compare, export_into, run, score, stops
from common.errors import run_command
from configs import make_config, to_dict
from engine.cpu.library import load_kernels
from engine.errors import KernelsUnavailable
from model import NeuralTexture, Noise, build_model, new_model
from quantize import hash_uniform, stream_key
from shape import DecoderSpec, GridSpec
from tests.support.runs import offline, refusal_line, save_maps
from training import plan as rates
from training import start

ON_TORCH = {OURS_TORCH, "noise_only", "rounded_after", "default_adam", "ancestors"}
SIZE = (24, 16)
ITERATIONS = 20


def tiny_recipe(bpp, width, height, iterations=None, n_threads=0, decoder="auto", latents="packed"):
    """A recipe for runs of an instant: a learned grid of few bits and a linear one, or the reference form."""
    form = {"n_frequencies": 4} if decoder == "reference" else {"n_frequencies": 0, "activation": "hard_swish"}
    grids = [{"max_resolution": 16, "quantize_bits": 2, "save_bits": 8}, {"max_resolution": 6}]
    if decoder != "reference":
        grids[0]["interpolation"] = "learned"
    if latents == "bc1":
        grids = [{"max_resolution": side, "storage": "bc1", "n_levels": n} for side, n in ((12, 3), (12, 3), (6, 1))]
    return make_config({"bpp": bpp, "batch_size": 256, "n_neurons": 16, "noise_std": 0.0, "learning_rate": 0.02,
                        "grid_learning_rate": 0.03, "max_iter": iterations or ITERATIONS, "hash_grid_configs": grids,
                        "num_threads": n_threads, "early_stop": False, **form})  # fmt: skip


RUN = [name for name in VARIANTS if not VARIANTS[name].needs or find_spec(VARIANTS[name].needs)]


def need_kernels():
    try:
        load_kernels()
    except KernelsUnavailable as error:
        pytest.skip(str(error))


def make_tiny(patch):
    patch.setattr(ablation_work, "recipe", tiny_recipe)
    patch.setattr(ablation_variants, "recipe", tiny_recipe)
    patch.setattr(ablation_variants, "LARGE_BATCH", 512)


@pytest.fixture
def _tiny(monkeypatch):
    make_tiny(monkeypatch)


@pytest.fixture
def started(make_material, _tiny):
    """started(name): (engine at iteration 0, configuration) of a variant on a small material."""
    material = make_material(*SIZE)

    def start(name):
        config = VARIANTS[name].change(tiny_recipe(2.5, *SIZE), *SIZE)
        return VARIANTS[name].start(config, material), config

    return start


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(result, lines of stdout, output folder) of a whole run with two materials."""
    pytest.importorskip("matplotlib")
    need_kernels()
    base, stdout = tmp_path_factory.mktemp("ablation"), io.StringIO()
    folders = [str(save_maps(base / name, *SIZE, seed=seed)) for seed, name in enumerate(("one", "two"))]
    with offline(), pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(stdout):
        torch.set_num_threads(1)
        make_tiny(patch)
        assert ablation.main([*folders, "--iterations", str(ITERATIONS), "--out", str(base)]) == 0
    result = json.loads((base / "ablation.json").read_text(), parse_constant=pytest.fail)
    return result, stdout.getvalue().splitlines(), base


def test_every_variant_has_a_curve(measured):
    result, _, _ = measured
    assert result["benchmark"] == "ablation" and result["machine"]["processor"] and result["settings"]["bpp"] == 2.5
    names = [(entry["material"], entry["variant"]) for entry in result["entries"]]
    assert names == [(material, name) for material in ("one", "two") for name in RUN]
    for entry in result["entries"]:
        curve = entry["curve"]
        assert entry["engine"] == ("torch" if entry["variant"] in ON_TORCH else "cpu")
        for column in ("iteration", "seconds", "processor_seconds"):
            values = [point[column] for point in curve]
            assert values == sorted(values) and values[0] > 0
        assert entry["iterations"] == curve[-1]["iteration"] and entry["psnr"] == curve[-1]["psnr"]
        assert entry["seconds"] == curve[-1]["seconds"] and math.isfinite(entry["psnr"]) and entry["bpp"] > 0
        assert curve[-1]["psnr"] > curve[0]["psnr"], entry["variant"]
        given = make_config(entry["recipe"])  # the recipe is whole: it is a configuration again
        assert (given.max_iter, given.batch_size) == (entry["iterations"], entry["batch_size"])


def test_no_variant_is_ours_by_mistake(measured):
    entries = {(entry["material"], entry["variant"]): entry for entry in measured[0]["entries"]}
    for material in ("one", "two"):
        ours = entries[material, OURS]
        assert ours["difference"] == entries[material, OURS_TORCH]["difference"] == 0
        assert entries[material, OURS_TORCH]["psnr"] == pytest.approx(ours["psnr"], abs=1e-3)  # same maths, two engines
        for name in set(RUN) - {OURS, OURS_TORCH}:
            reference = entries[material, OURS_TORCH if name in ON_TORCH else OURS]
            entry = entries[material, name]
            assert entry["difference"] == pytest.approx(entry["psnr"] - reference["psnr"])
            assert entry["difference"] != 0, name  # the same engine, seed and settings give the same bits


def test_tables_and_files_are_told(measured):
    result, lines, base = measured
    assert str(base / "ablation.json") in lines and str(base / "ablation.png") in lines
    for material in ("one", "two"):
        start = lines.index(f"{material}, 24x16")
        rows = lines[start + 2 : start + 2 + len(RUN)]
        assert [row.split()[0] for row in rows] == RUN and len({len(row) for row in rows}) == 1
        entries = [entry for entry in result["entries"] if entry["material"] == material]
        assert [row.split()[1] for row in rows] == [f"{entry['psnr']:.2f}" for entry in entries]
    means = lines[lines.index(next(line for line in lines if line.startswith("to ours, dB"))) + 1 :][: len(RUN)]
    for name, row in zip(RUN, means):
        both = [entry["difference"] for entry in result["entries"] if entry["variant"] == name]
        assert row.split() == [name, f"{sum(both) / 2:+.2f}", *(f"{difference:+.2f}" for difference in both)]


def test_the_plot_shows_every_curve(measured):
    result, _, base = measured
    figure = ablation_plot.draw(result)
    assert len(figure.axes) == 4 and ablation_plot.plot(base / "ablation.json") == str(base / "ablation.png")
    for axes, column in zip(figure.axes, ["seconds", "iteration"] * 2):
        lines = {line.get_label(): line for line in axes.lines}
        assert list(lines) == RUN and axes.get_xscale() == "log"
        entries = result["entries"][len(RUN) * (len(figure.axes) - 2) // 2 * (axes in figure.axes[2:]) :]
        for entry in entries[: len(RUN)]:
            x, y = lines[entry["variant"]].get_data()
            assert list(x) == [point[column] for point in entry["curve"]]
            assert list(y) == [point["psnr"] for point in entry["curve"]]
            assert lines[entry["variant"]].get_linestyle() == ("--" if entry["engine"] == "torch" else "-")


def test_quick_ends_with_a_line_of_json(tmp_path, _tiny, monkeypatch, capsys):
    need_kernels()
    monkeypatch.setattr(ablation, "QUICK_ITERATIONS", 5)
    folders = [str(save_maps(tmp_path / name, *SIZE)) for name in ("first", "second")]
    assert ablation.main([*folders, "--quick", "--variants", "default_adam,linear", "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=pytest.fail)
    assert found["material"] == "first" and found["bpp"] == 2.5
    names = [entry["variant"] for entry in found["entries"]]
    assert names == [OURS, OURS_TORCH, "linear", "default_adam"]  # ours comes along on both engines
    assert all(entry["iterations"] == 5 and math.isfinite(entry["psnr"]) for entry in found["entries"])
    assert (tmp_path / "ablation_quick.json").is_file()


# --- what is measured ------------------------------------------------------------------------------------------------


def test_the_recipe_is_that_of_the_command():
    planned = rates.plan(make_config({"bpp": 2.5, "preset": "balanced"}), 1024, 512)
    assert recipe(2.5, 1024, 512) == planned
    assert recipe(2.5, 1024, 512, 70) == dataclasses.replace(planned, max_iter=70, eval_interval=70, save_interval=70)
    form = recipe(2.5, 1024, 512, decoder="reference")
    assert (form.activation, form.decoder) == ("leaky_relu", "reference")
    assert {grid.interpolation for grid in form.hash_grid_configs} == {"linear"}


def test_the_score_is_that_of_the_command(tmp_path):
    """Measuring on the way changes nothing, and the PSNR is the one of the exported files."""
    folder = save_maps(tmp_path / "made", *SIZE, deep=("roughness",))
    config = tiny_recipe(2.5, *SIZE)
    entry = run(VARIANTS[OURS], config, ablation_work.load_materials([str(folder)])[0])
    given = {**to_dict(config), "data_dir": str(folder), "save_dir": str(tmp_path / "runs"), "bpp": 0.0}
    with offline():
        torch.set_num_threads(1)
        result = start.train_material(make_config(given), say=lambda text: None, quiet=True)
    assert len(entry["curve"]) > 5 and result.iteration == entry["iterations"]
    assert entry["psnr"] == pytest.approx(result.metrics["psnr"]["all"], abs=1e-9)
    assert entry["bpp"] == pytest.approx(result.rates["bpp"])


def test_what_is_scored_is_rounded_and_has_8_bits(make_material):
    material = make_material(13, 7)
    config = tiny_recipe(2.5, 13, 7)
    trained = new_model(config, material)
    trained.__class__ = NoiseOnly
    with torch.no_grad():
        for parameters in trained.grid_parameters:
            parameters.uniform_(-0.5, 0.5)
    exported = build_model(config, 13, 7, material.present_channels.tolist(), material.constants)
    export_into(trained, exported)
    assert type(exported) is NeuralTexture
    for grid, mine, theirs in zip(trained.grids, exported.grid_parameters, trained.grid_parameters):
        n = 2**grid.quantize_bits
        rounded = (np.floor(theirs.detach().numpy() * n + n / 2).clip(0, n - 1) - (n - 1) / 2) / n
        assert np.array_equal(mine.detach().numpy(), rounded) and not np.array_equal(rounded, theirs.detach().numpy())
    for mine, theirs in zip(exported.weights, trained.weights):
        assert torch.equal(mine, theirs) and mine is not theirs
    present = material.present_channels
    decoded = (exported.decode(0, 13, 7)[..., present].clamp(0, 1).numpy() * 255).round() / 255
    error = ((decoded - material.texels(0)[..., present].numpy()) ** 2).mean()
    assert score(exported, material) == pytest.approx(-10 * math.log10(error), abs=1e-3)


@pytest.mark.parametrize("iterations", [1, 2, 7, 60, 1500])
def test_stops_are_geometric(iterations):
    found = stops(iterations, 12)
    assert found[-1] == iterations and found[0] == max(iterations // 100, 1)
    assert found == sorted(set(found)) and len(found) <= 12
    if iterations == 1500:
        factors = np.divide(found[1:], found[:-1])
        assert len(found) == 12 and factors.max() / factors.min() < 1.1


def test_differences_are_to_ours_on_the_same_engine():
    def made(material, variant, engine, psnr):
        return {"material": material, "variant": variant, "engine": engine, "psnr": psnr, "difference": None}

    rows = [("a", OURS, "cpu", 30.0), ("a", OURS_TORCH, "torch", 31.0), ("a", "linear", "cpu", 29.5),
            ("a", "noise_only", "torch", 30.0), ("b", OURS, "torch", 20.0), ("b", "linear", "torch", 22.0)]  # fmt: skip
    entries = [made(*row) for row in rows]
    compare(entries)
    assert [entry["difference"] for entry in entries] == [0, 0, -0.5, -1, 0, 2]


# --- the variants: settings ------------------------------------------------------------------------------------------


def changes(name):
    """What a variant's configuration has that ours has not."""
    ours = tiny_recipe(2.5, *SIZE)
    before, after = to_dict(ours), to_dict(VARIANTS[name].change(ours, *SIZE))
    return {key: after[key] for key in after if after[key] != before[key]}


def test_each_variant_changes_one_part(_tiny):
    for name in (OURS, OURS_TORCH, "noise_only", "rounded_after", "no_biases", "default_adam"):
        assert changes(name) == {}
    assert changes("constant_rates") == {"lr_floor": 1.0}
    assert changes("large_batch") == {"batch_size": 512}
    assert changes("large_batch_equal") == {"batch_size": 512, "max_iter": ITERATIONS // 2}
    assert changes("leaky_relu") == {"activation": "leaky_relu"}
    linear = changes("linear")
    assert set(linear) == {"hash_grid_configs", "n_texel_frequencies"} and linear["n_texel_frequencies"] == 3
    ours = to_dict(tiny_recipe(2.5, *SIZE))["hash_grid_configs"]
    assert linear["hash_grid_configs"] == [{**grid, "interpolation": "linear"} for grid in ours]
    assert changes("no_search") == {"refine": 0}
    assert set(changes("ancestors")) == {
        "lr_floor", "batch_size", "activation", "n_frequencies", "hash_grid_configs", "refine"
    }  # fmt: skip
    assert changes("bc1") == changes("bc1_after")  # they differ in how they are trained alone


def test_as_many_samples():
    ours = recipe(2.5, 1024, 1024, 1500)
    other = VARIANTS["large_batch_equal"].change(ours, 1024, 1024)
    assert (other.max_iter, other.batch_size) == (375, 16384)
    assert other.batch_size * other.max_iter == ours.batch_size * ours.max_iter


@pytest.mark.parametrize("name", ["constant_rates", "ancestors"])
def test_constant_rates(name, started):
    (engine, _), (ours, _) = started(name), started(OURS)
    first = [engine.learning_rates(), ours.learning_rates()]
    engine.step(ITERATIONS - 1)
    ours.step(ITERATIONS - 1)
    assert engine.learning_rates() == first[0]
    assert all(ours.learning_rates()[key] < 0.3 * value for key, value in first[1].items())


def test_no_biases(started):
    plain, biased = started("no_biases")[0].model, started(OURS)[0].model
    fresh = build_model(tiny_recipe(2.5, *SIZE), *SIZE, list(range(7)))
    assert all(torch.equal(one, other) for one, other in zip(plain.weights, fresh.weights))
    assert not torch.equal(plain.weights[-1], biased.weights[-1])
    assert plain.decode(0, *SIZE)[..., 0].mean() < 0.3 < biased.decode(0, *SIZE)[..., 0].mean()  # its mean is near 0.5
    untrained = started("ancestors")[0].model
    assert (untrained.weights[-1][:7].abs() > 0).all() and torch.equal(untrained.weights[0][0] == 0,
                                                                      untrained.weights[0][1] == 0)  # fmt: skip


def test_the_same_seed_gives_the_same_start(started):
    ours = started(OURS)[0].model
    for name in set(VARIANTS) - {"linear", "leaky_relu", "no_biases", "ancestors", "bc1", "bc1_after"}:
        model = started(name)[0].model
        for mine, theirs in zip([*model.weights, *model.grid_parameters], [*ours.weights, *ours.grid_parameters]):
            assert torch.equal(mine, theirs), name


def test_default_adam(started):
    """Its updates are those of torch.optim.Adam as it comes, for the gradients that it had; ours are others."""
    steps = {}
    for name in ("default_adam", OURS_TORCH):
        engine, config = started(name)
        copies = [torch.nn.Parameter(weight.detach().clone()) for weight in engine.model.weights]
        plain = torch.optim.Adam(copies, lr=config.learning_rate)
        for _ in range(5):  # rates fall later
            engine.step(1)
            for copy, weight in zip(copies, engine.model.weights):
                copy.grad = weight.grad.clone()
            plain.step()
        pairs = zip(copies, engine.model.weights)
        steps[name] = max(float((copy - weight).detach().abs().max()) for copy, weight in pairs)
    assert steps["default_adam"] < 1e-6 < 1e-4 < steps[OURS_TORCH]


# --- the variants: features ------------------------------------------------------------------------------------------

GRIDS = [GridSpec(8, 2, 2, 8, "learned"), GridSpec(6, 2, 2, 16)]
N = 300


@pytest.fixture
def samples():
    """(uv, lod) anywhere, the borders of the tile among them."""
    uv = torch.rand(N, 2)
    uv[:4] = torch.tensor([[0.0, 0.0], [0.999, 0.001], [0.001, 0.999], [0.5, 0.5]])
    return uv, torch.arange(N) % 4


@pytest.fixture
def of():
    """of(class, quantized=True): a model of that class; its features are the same for all, and fill their range."""

    def build(kind, quantized=True):
        decoder = DecoderSpec(n_frequencies=0, n_neurons=16, n_texel_frequencies=1, activation="hard_swish")
        model = kind(GRIDS, decoder, 4, quantized=quantized, seed=3)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameters in model.grid_parameters:
                parameters.copy_(torch.rand(parameters.shape, generator=generator) - 0.5)
        return model

    return build


def noise(strength=1.0):
    return Noise(strength, tuple(stream_key(1, 2, grid) for grid in range(len(GRIDS))))


def test_noise_only_never_rounds_in_training(of, samples):
    """It decodes what an unrounded model decodes whose every parameter has been moved by its own noise."""
    model, moved = of(NoiseOnly), of(NeuralTexture, quantized=False)
    with torch.no_grad():
        for index, parameters in enumerate(moved.grid_parameters):
            draw = hash_uniform(torch.arange(parameters.numel()), noise().keys[index])
            parameters += (draw - 0.5) / 2 ** GRIDS[index].quantize_bits
            assert 0.45 < draw.min() + 0.5 <= draw.max() + 0.5 < 1.5
    found = model(*samples, noise())
    assert torch.allclose(found, moved(*samples), atol=1e-5)
    still = of(NeuralTexture, quantized=False)(*samples)
    assert torch.allclose(model(*samples, noise(0.0)), still, atol=1e-5)  # not even without noise
    rounded = of(NeuralTexture)(*samples)
    assert not torch.allclose(found, rounded, atol=1e-2) and not torch.allclose(still, rounded, atol=1e-2)
    assert torch.equal(model(*samples), rounded)  # where nobody trains it is what ships
    assert not torch.allclose(found, of(NeuralTexture)(*samples, noise()), atol=1e-2)


def blended(model, uv, lod):
    """Bilinear features of the linear grid without any rounding, texel by texel in float64."""
    grid, rows = GRIDS[1], []
    for (u, v), level_of in zip(uv.double().tolist(), lod.tolist()):
        level = max(grid.n_levels - 1 - level_of, 0)
        side, _ = grid.level_size(level)
        image = model.level(1, level).detach().double().numpy()
        x, y = u * side - 0.5, v * side - 0.5
        x0, y0 = math.floor(x), math.floor(y)
        total = 0
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = (dx * (x - x0) + (1 - dx) * (1 - x + x0)) * (dy * (y - y0) + (1 - dy) * (1 - y + y0))
            total = total + weight * image[(y0 + dy) % side, (x0 + dx) % side]
        rows.append(total)
    return np.array(rows)


def test_rounded_after_interpolation(of, samples):
    model = of(RoundedAfter)
    expected = blended(model, *samples)
    scaled = expected * 4 + 2
    clear = np.abs(scaled - np.round(scaled)) > 1e-4  # features on an edge between two codes may fall either way
    rounded = (np.floor(scaled).clip(0, 3) - 1.5) / 4
    found = model._sample(1, *samples, None)
    assert clear.mean() > 0.99 and np.allclose(found.detach().numpy()[clear], rounded[clear], atol=1e-6)
    before = of(NeuralTexture)._sample(1, *samples, None)  # what ships
    assert (found - before).abs().mean() > 0.01
    learned = model._sample(0, *samples, None)
    assert torch.equal(learned, of(NeuralTexture)._sample(0, *samples, None))  # nothing is blended there


@pytest.mark.parametrize("kind", [NoiseOnly, RoundedAfter, NoiseAfter])
def test_gradients_reach_the_features(kind, of, samples):
    """Straight through noise and rounding: as without either, where the network is a fixed weighting."""
    upstream = torch.randn(N, GRIDS[1].features)
    gradients = []
    for model in (of(kind), of(NeuralTexture, quantized=False)):
        (model._sample(1, *samples, noise()) * upstream).sum().backward()
        gradients.append(model.grid_parameters[1].grad)
    assert gradients[1].abs().sum() > 0 and torch.allclose(*gradients, atol=1e-5)


def test_noise_after_interpolation(of, samples):
    model = of(NoiseAfter)
    expected = blended(model, *samples)
    assert np.allclose(model._sample(1, *samples, noise(0.0)).detach().numpy(), expected, atol=1e-5)
    for strength in (1.0, 0.5):
        moved = model._sample(1, *samples, noise(strength)).detach().numpy() - expected
        half = strength / 8
        assert np.abs(moved).max() <= half + 1e-5 and abs(moved.mean()) < half / 20
        assert moved.std() == pytest.approx(half / math.sqrt(3), rel=0.05)  # uniform, another for each sample
        assert np.abs(np.corrcoef(moved.T) - np.eye(GRIDS[1].features)).max() < 0.3  # and for each feature


def test_noise_is_there_from_the_first_iteration_to_the_last(started, monkeypatch):
    for name in ("noise_only", "ancestors", OURS_TORCH, "rounded_after", "default_adam"):
        engine, _ = started(name)
        seen = []
        forward = NeuralTexture.forward

        def watch(self, uv, lod, noise=None, seen=seen, forward=forward, **given):
            seen.append(noise)
            return forward(self, uv, lod, noise, **given)

        with monkeypatch.context() as patch:
            patch.setattr(NeuralTexture, "forward", watch)
            engine.step(ITERATIONS)
        assert len(seen) == ITERATIONS
        if name in ("noise_only", "ancestors"):
            assert [found.strength for found in seen] == [1.0] * ITERATIONS
            assert len({found.keys for found in seen}) == ITERATIONS
        else:
            assert seen == [None] * ITERATIONS


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flags", "words"), [
    (["--bpp", "0"], ["--bpp", "0"]),
    (["--bpp", "nan"], ["--bpp", "nan"]),
    (["--bpp", "x"], ["--bpp", "x"]),
    (["--iterations", "0"], ["--iterations", "0"]),
    (["--iterations", "-1", "--quick"], ["--iterations", "-1"]),
    (["--num_threads", "-1"], ["--num_threads", "-1"]),
    (["--variants", "linear,magic"], ["--variants", "magic"]),
    (["--variants", ","], ["--variants"]),
    ([], ["bpp", "16x16"]),  # too small for its network
])  # fmt: skip
def test_flags_are_checked(flags, words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ablation_work, "run", lambda *arguments: pytest.fail("trained"))
    folder = save_maps(tmp_path / "made", 16, 16)
    if "--variants" in flags:
        monkeypatch.setattr(ablation_work, "recipe", tiny_recipe)
    line = refusal_line(run_command(lambda: ablation.main([str(folder), *flags])), capsys.readouterr().err)
    assert all(word in line for word in words)


def test_folders_are_checked_before_anything_is_trained(tmp_path, capsys, monkeypatch, _tiny):
    monkeypatch.setattr(ablation_work, "run", lambda *arguments: pytest.fail("trained"))
    good, flat = save_maps(tmp_path / "made", 16, 16), tmp_path / "flat"
    save_maps(flat, 1, 1)
    for folder, word in ((tmp_path / "absent", "absent"), (good, "made"), (flat, "flat")):
        line = refusal_line(
            run_command(lambda f=folder: ablation.main([str(good), str(f)])), capsys.readouterr().err
        )
        assert word in line
    missing = tmp_path / "nothing.json"
    line = refusal_line(run_command(lambda: ablation_plot.main([str(missing)])), capsys.readouterr().err)
    assert str(missing) in line


def test_plot_says_what_it_needs(tmp_path, monkeypatch):
    path = tmp_path / "ablation.json"
    path.write_text('{"entries": [], "machine": {}}')

    def absent(result):
        raise ImportError("matplotlib")

    monkeypatch.setattr(ablation_plot, "draw", absent)
    assert "pip install matplotlib" in ablation_plot.plot(path) and str(path) in ablation_plot.plot(path)
