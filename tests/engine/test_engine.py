"""engine/: what is minimised, how far parameters move, and how runs repeat and resume."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch

from configs import make_config
from dataset import Material
from engine.create import create_engine, resolve_device
from engine.sampling import PROBE, channel_loss_weights
from engine.schedule import Schedule
from engine.torch.engine import TorchEngine
from maps.channels import MAPS, map_slice
from model import Noise, build_model
from quantize import hash_uniform
from tests.support import reference

CPU = torch.device("cpu")
GRIDS = [
    {"max_resolution": 8, "n_levels": 3, "quantize_bits": 4, "save_bits": 16},
    {"max_resolution": 3, "n_levels": 1, "quantize_bits": 8, "save_bits": 16},
]
BASE = {
    "batch_size": 96, "max_iter": 40, "n_neurons": 16, "n_hidden_layers": 1, "n_frequencies": 3,
    "hash_grid_configs": GRIDS, "seed": 5,
}  # fmt: skip
QUIET = {"noise_std": 0.0, "wrap_boundary": False}  # neither noise nor borders, for what is not about them


def make_engine(material: Material, device=CPU, **values) -> TorchEngine:
    config = make_config({**BASE, **values})
    model = build_model(config, material.width, material.height, material.present_channels.tolist())
    return TorchEngine(model.to(device), material, Schedule(config))


@pytest.fixture
def material(make_material):
    return make_material(22, 10)  # not square, not a power of two


def parameters_of(engine: TorchEngine) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in engine.model.parameters()]


def assert_same_bits(one: TorchEngine, other: TorchEngine):
    for a, b in zip(one.model.parameters(), other.model.parameters()):
        assert torch.equal(a, b)


# --- loss ------------------------------------------------------------------------------------------------------------


def errors_by_hand(engine: TorchEngine, material: Material, iteration=0) -> dict[str, float]:
    """Mean squared error per map over one iteration's samples, by the float64 decoder and the stored integers."""
    _, lod, uv = engine.sampler.draw(iteration)
    decoded = reference.forward(reference.of_model(engine.model), uv.numpy(), lod.numpy())
    errors = dict.fromkeys(material.present, 0.0)
    for i in range(len(uv)):
        w, h = material.lod_sizes[lod[i]]
        x, y = round(float(uv[i, 0]) * w - 0.5), round(float(uv[i, 1]) * h - 0.5)
        for name in material.present:
            stored = material.stored(int(lod[i]), name)[y, x] / 255
            errors[name] += ((decoded[i, map_slice(name)] - stored) ** 2).mean() / len(uv)
    return errors


@pytest.mark.parametrize(
    "weights",
    [{}, {"diffuse": 2.0, "normal": 0.5, "roughness": 0.0}, {"diffuse": 0.0}, {"roughness": 7.0, "specular": 1000.0}],
    ids=str,
)
def test_loss_is_the_weighted_error_of_the_maps_that_are_there(weights, material):
    engine = make_engine(material, **QUIET, texture_loss_weights=weights)
    errors = errors_by_hand(engine, material)
    per_channel = {name: weights.get(name, 1.0) * MAPS[name] for name in material.present}
    want = sum(per_channel[name] * errors[name] for name in errors) / sum(per_channel.values())
    assert engine.step(1) == pytest.approx(want, rel=1e-4)
    assert engine.iteration == 1


@pytest.mark.parametrize("weights", [{}, {"diffuse": 2.0, "normal": 0.5, "roughness": 0.0}], ids=str)
def test_probe_is_the_plain_error_without_noise(weights, material):
    """The same samples every time, whatever the iteration, the noise and the loss weights."""
    engine = make_engine(material, noise_std=4.0, texture_loss_weights=weights)
    engine.step(2)
    errors = errors_by_hand(engine, material, PROBE)
    assert engine.probe() == pytest.approx(sum(MAPS[name] * errors[name] for name in errors) / 7, rel=1e-4)
    before = parameters_of(engine)
    engine.probe()
    assert all(torch.equal(one, other) for one, other in zip(before, parameters_of(engine)))


def test_a_map_of_weight_0_is_not_learned(material):
    engine = make_engine(material, **QUIET, texture_loss_weights={"normal": 0.0})
    before = engine.model.weights[-1].detach().clone()
    engine.step(3)
    changed = (engine.model.weights[-1] != before).any(dim=1).nonzero().flatten().tolist()
    assert changed == [0, 1, 2, 6]  # diffuse and roughness; 3, 4 and 5 are the normal


def test_weights_of_missing_maps_change_nothing(material):
    one, other = (make_engine(material, texture_loss_weights=w) for w in ({}, {"specular": 50.0, "metallic": 0.0}))
    assert one.step(4) == other.step(4)
    assert_same_bits(one, other)


def test_nothing_to_learn_is_refused(material, refused):
    """Weight 0 for every map that is there, though others have weight."""
    weights = {"diffuse": 0.0, "normal": 0.0, "roughness": 0.0}
    with refused("texture_loss_weights"):
        make_engine(material, texture_loss_weights=weights)


def test_equal_weights_give_the_plain_mean(material):
    weights = channel_loss_weights(material, dict.fromkeys(MAPS, 3.0))
    torch.testing.assert_close(weights, torch.full((7,), 1 / 7))


def test_step_returns_the_mean_over_its_iterations(material):
    one, other = make_engine(material), make_engine(material)
    losses = [one.step(1) for _ in range(3)]
    assert other.step(3) == pytest.approx(np.mean(losses), rel=1e-12)
    assert len(set(losses)) == 3


def test_absent_maps_decode_to_exactly_0_after_training(make_material):
    material = make_material(9, 17, present=("normal", "occlusion", "displacement"))
    engine = make_engine(material)
    before = parameters_of(engine)
    engine.step(12)
    engine.sync()
    decoded = engine.model.decode(0, 9, 17)
    assert (decoded[..., [0, 1, 2, 6, 8, 9]] == 0).all()
    assert (decoded[..., [3, 4, 5, 7, 10]] != 0).any(dim=0).any(dim=0).all()
    assert all((a != b).any() for a, b in zip(before, engine.model.parameters()))


@pytest.mark.parametrize("seamless", [True, False])
def test_inputs_that_are_left_out_stay_so(seamless, material):
    """The waves that jump at the border (inputs 0 and 3 of three frequencies), unless borders are not to be tied."""
    engine = make_engine(material, wrap_boundary=seamless)
    engine.step(6)
    unused = (engine.model.weights[0] == 0).all(dim=0).nonzero().flatten().tolist()
    assert unused == ([0, 3] if seamless else [])


def test_16_bit_maps_are_trained_at_their_own_values():
    random = np.random.default_rng(0)
    arrays = {
        "diffuse": random.integers(0, 256, (5, 7, 3), dtype=np.uint8),
        "displacement": random.integers(0, 65536, (5, 7, 1), dtype=np.uint16),
    }
    material = Material.from_arrays("deep", arrays)
    engine = make_engine(material, **QUIET, texture_loss_weights={"diffuse": 0.0})
    _, lod, uv = engine.sampler.draw(0)
    decoded = reference.forward(reference.of_model(engine.model), uv.numpy(), lod.numpy())[:, 10]
    target = []
    for l, (u, v) in zip(lod.tolist(), uv.tolist()):
        w, h = material.lod_sizes[l]
        target.append(material.stored(l, "displacement")[round(v * h - 0.5), round(u * w - 0.5), 0] / 65535)
    assert engine.step(1) == pytest.approx(((decoded - target) ** 2).mean(), rel=1e-4)


# --- rates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("iteration", [0, 20, 39])
def test_the_first_step_moves_everything_by_its_own_rate(iteration, material):
    """Adam's first step is the rate times the sign of the gradient, so the rates can be read off the parameters."""
    grids = [{**GRIDS[0], "learning_rate": 1e-3}, GRIDS[1]]
    engine = make_engine(
        material, **QUIET, hash_grid_configs=grids, learning_rate=4e-3, grid_learning_rate=2e-2,
        lr_scheduler="poly", lr_decay_start=0.0, lr_floor=0.1,
    )  # fmt: skip
    engine.iteration = iteration
    factor = 0.1 + 0.9 * (1 - iteration / 40)
    rates = {"network": 4e-3 * factor, "grid_0": 1e-3 * factor, "grid_1": 2e-2 * factor}
    assert engine.learning_rates() == pytest.approx(rates)
    before = parameters_of(engine)
    engine.step(1)
    names = ["grid_0", "grid_1", *["network"] * len(engine.model.weights)]
    for name, old, new in zip(names, before, engine.model.parameters()):
        moved = (new.detach() - old).abs()
        moved = moved[moved > 0]
        assert len(moved) > 5
        torch.testing.assert_close(moved.median(), torch.tensor(rates[name]), rtol=1e-3, atol=0)
        assert moved.max() < 1.01 * rates[name]


def test_a_grid_with_a_tiny_rate_stays_where_it_is(material):
    grids = [{**GRIDS[0], "learning_rate": 1e-7}, {**GRIDS[1], "learning_rate": 0.1}]
    engine = make_engine(material, **QUIET, hash_grid_configs=grids)
    before = parameters_of(engine)
    engine.step(5)
    after = parameters_of(engine)
    assert 0 < (after[0] - before[0]).abs().max() < 1e-5
    assert (after[1] - before[1]).abs().max() > 0.1


def test_the_plateau_factor_reaches_the_parameters(material):
    engine = make_engine(material, **QUIET, lr_scheduler="plateau", lr_decay_factor=0.25)
    engine.schedule.lower()
    before = parameters_of(engine)[0]
    engine.step(1)
    moved = (parameters_of(engine)[0] - before).abs()
    assert float(moved[moved > 0].median()) == pytest.approx(0.25 * engine.schedule.config.grid_learning_rate, rel=1e-3)


# --- noise, limits, borders ------------------------------------------------------------------------------------------


def test_noise_falls_to_zero(material):
    """The loss of one iteration on the same model, with and without noise, before and after the noise has gone."""

    def loss_at(iteration, std):
        engine = make_engine(material, wrap_boundary=False, noise_std=std, noise_anneal_fraction=0.5)
        engine.iteration = iteration
        return engine.step(1)

    assert loss_at(0, 4.0) != loss_at(0, 0.0)
    assert loss_at(19, 4.0) != loss_at(19, 0.0)
    assert loss_at(20, 4.0) == loss_at(20, 0.0)
    assert loss_at(39, 4.0) == loss_at(39, 0.0)


def test_noisy_loss_equals_the_reference(material):
    """Noise of grid g at iteration i comes from stream 2 + g, per parameter, half a step times its strength."""
    coarse = [{**grid, "quantize_bits": 2} for grid in GRIDS]  # whose steps are large enough to be seen in the loss
    engine = make_engine(
        material, hash_grid_configs=coarse, wrap_boundary=False, noise_std=1.5, noise_anneal_fraction=1.0
    )
    engine.iteration = 10
    _, lod, uv = engine.sampler.draw(10)

    noise = Noise(1.5 * (1 - 10 / 40), tuple(reference.stream_key(5, 10, 2 + g) for g in range(2)))
    decoded = reference.forward(reference.of_model(engine.model, noise), uv.numpy(), lod.numpy())
    texel = engine.sampler.draw(10)[0]
    target = material.gather(texel).double().numpy()
    want = ((decoded[:, :7] - target) ** 2).mean()
    assert engine.step(1) == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("quantize", [True, False])
def test_features_stay_where_codes_can_reach_them(quantize, material):
    engine = make_engine(material, grid_learning_rate=2.0, quantize=quantize)
    engine.step(4)
    limit = max(float(p.detach().abs().max()) for p in engine.model.grid_parameters)
    assert limit == 0.5 if quantize else limit > 0.5


def test_borders_are_tied_at_the_interval(material):
    def tied(engine, index, level):
        image = engine.model.level(index, level)
        return torch.equal(image[0], image[-1]) and torch.equal(image[:, 0], image[:, -1])

    engine = make_engine(material, noise_std=0.0, wrap_interval=3, wrap_strength=1.0)
    levels = [(0, 0), (0, 1), (0, 2), (1, 0)]
    for iteration in range(1, 8):
        engine.step(1)
        assert [tied(engine, *level) for level in levels] == [iteration % 3 == 0] * 4
    finest = make_engine(material, noise_std=0.0, wrap_interval=1, wrap_strength=1.0, wrap_levels=1)
    finest.step(2)
    assert [tied(finest, *level) for level in levels] == [False, False, True, True]
    off = make_engine(material, wrap_interval=1, wrap_strength=1.0, wrap_boundary=False)
    off.step(2)
    assert not any(tied(off, *level) for level in levels)


# --- the same bits ---------------------------------------------------------------------------------------------------

EVERYTHING = {"wrap_interval": 3, "noise_std": 1.0, "lr_scheduler": "cosine"}


@pytest.mark.parametrize("threads", [1, 2])
def test_same_seed_same_bits(threads, material):
    torch.set_num_threads(threads)
    one, other, third = (make_engine(material, **EVERYTHING, seed=seed) for seed in (1, 1, 2))
    torch.manual_seed(123)
    losses = [engine.step(8) for engine in (one, other, third)]
    assert losses[0] == losses[1] != losses[2]
    assert_same_bits(one, other)
    assert not torch.equal(one.model.weights[0], third.model.weights[0])


def test_ten_steps_are_four_and_six(material):
    one, other = make_engine(material, **EVERYTHING), make_engine(material, **EVERYTHING)
    whole, parts = one.step(10), (other.step(4), other.step(6))
    assert whole == pytest.approx((4 * parts[0] + 6 * parts[1]) / 10, rel=1e-12)
    assert_same_bits(one, other)


@pytest.mark.parametrize(("at", "threads"), [(0, 1), (1, 1), (5, 1), (5, 2)])
def test_a_resumed_run_goes_on_bit_for_bit(at, threads, material):
    """The state goes through a file, as a checkpoint does, and nothing else of the first engine is used."""
    torch.set_num_threads(threads)
    whole = make_engine(material, **EVERYTHING)
    if at:
        whole.step(at)
    stream = io.BytesIO()
    torch.save({"engine": whole.state(), "model": whole.model.state_dict()}, stream)
    stream.seek(0)
    saved = torch.load(stream, weights_only=True)
    loss = whole.step(7)
    resumed = make_engine(material, **EVERYTHING)
    resumed.model.load_state_dict(saved["model"])
    resumed.load_state(saved["engine"])
    assert resumed.iteration == at
    assert resumed.step(7) == loss
    assert resumed.iteration == whole.iteration == at + 7
    assert_same_bits(whole, resumed)


def test_without_its_optimiser_a_run_does_not_go_on_bit_for_bit(material):
    """The comparison above can fail."""
    whole = make_engine(material, **EVERYTHING)
    whole.step(5)
    model, iteration = {k: v.clone() for k, v in whole.model.state_dict().items()}, whole.iteration
    resumed = make_engine(material, **EVERYTHING)
    resumed.model.load_state_dict(model)
    resumed.load_state({"iteration": iteration, "optimizer": {}})
    whole.step(3)
    resumed.step(3)
    assert not torch.equal(whole.model.weights[0], resumed.model.weights[0])


def _other_shape(state):
    state["optimizer"][0]["exp_avg"] = state["optimizer"][0]["exp_avg"][:-1]


def _other_index(state):
    state["optimizer"][99] = state["optimizer"].pop(0)


DAMAGE = {
    "no iteration": lambda state: state.pop("iteration"),
    "no optimizer": lambda state: state.pop("optimizer"),
    "no moments": lambda state: state["optimizer"][0].pop("exp_avg"),
    "other shape": _other_shape,
    "other index": _other_index,
    "not a mapping": lambda state: state.update(optimizer=[1, 2, 3]),
    "moments not a mapping": lambda state: state["optimizer"].update({0: "moments"}),
    "moments not tensors": lambda state: state["optimizer"][0].update(exp_avg=[0.0]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_refused(damage, material):
    """With one of the errors that train.py turns into a line for the user."""
    engine = make_engine(material)
    engine.step(1)
    state = engine.state()
    state = {"iteration": state["iteration"], "optimizer": {k: dict(v) for k, v in state["optimizer"].items()}}
    DAMAGE[damage](state)
    with pytest.raises((KeyError, TypeError, ValueError)):
        make_engine(material).load_state(state)


# --- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["linear", "learned"])
def test_a_ramp_is_learned_the_right_way_round(interpolation):
    """64x32: red rises along u, roughness along v; with swapped axes or sizes neither could be."""
    width, height = 64, 32
    y, x = np.mgrid[:height, :width]
    across, down = x / (width - 1) * 255, y / (height - 1) * 255
    arrays = {
        "diffuse": np.stack([across, 255 - across, across * 0 + 128], axis=2).round().astype(np.uint8),
        "roughness": down.round().astype(np.uint8),
    }
    grids = [{"max_resolution": 16, "n_levels": 5, "interpolation": interpolation}]
    material = Material.from_arrays("ramp", arrays)
    engine = make_engine(material, **QUIET, max_iter=220, batch_size=512, hash_grid_configs=grids, n_frequencies=2)
    first = engine.step(1)
    last = engine.step(219)
    assert last < first / 4
    for lod in (0, 1, 2):
        decoded = engine.model.decode(lod, width >> lod, height >> lod).numpy()
        wanted = material.texels(lod).numpy()
        assert np.abs(decoded - wanted).mean(axis=(0, 1))[[0, 1, 2, 6]].max() < 0.04
        assert np.corrcoef(decoded[..., 0].ravel(), wanted[..., 0].ravel())[0, 1] > 0.97
        assert np.corrcoef(decoded[..., 6].ravel(), wanted[..., 6].ravel())[0, 1] > 0.97


def test_a_single_texel_can_be_learned(make_material):
    material = make_material(1, 1)
    engine = make_engine(material, **QUIET, hash_grid_configs=[], max_iter=150)
    engine.step(150)
    torch.testing.assert_close(engine.model.decode(0, 1, 1)[..., :7], material.texels(0)[..., :7], rtol=0, atol=0.02)


# --- choosing --------------------------------------------------------------------------------------------------------


def test_engines_by_name(material):
    for name in ("auto", "torch"):
        config = make_config({**BASE, "engine": name})
        model = build_model(config, 22, 10, material.present_channels.tolist())
        engine = create_engine(model, material, Schedule(config), CPU)
        assert math.isfinite(engine.step(1)) and engine.iteration == 1


def test_devices(refused):
    assert resolve_device(make_config({"device": "cpu"})) == CPU
    assert resolve_device(make_config({})).type in ("cpu", "cuda")
    bad = ["abacus", "cuda:4096", ""] + ([] if torch.cuda.is_available() else ["cuda"])
    for device in bad:
        with refused("--device"):
            resolve_device(make_config({"device": device}))


def test_num_threads_are_applied():
    resolve_device(make_config({"device": "cpu", "num_threads": 1}))
    assert torch.get_num_threads() == 1


@pytest.mark.gpu
def test_gpu_draws_the_same_samples_and_learns_the_same(material):
    one, other = make_engine(material), make_engine(material, torch.device("cuda"))
    for a, b in zip(one.sampler.draw(17), other.sampler.draw(17)):
        torch.testing.assert_close(a, b.cpu(), rtol=0, atol=1e-7)
    assert torch.equal(hash_uniform(torch.arange(999).cuda(), 3).cpu(), hash_uniform(torch.arange(999), 3))
    for _ in range(3):
        assert other.step(1) == pytest.approx(one.step(1), rel=2e-2)
    again = make_engine(material, torch.device("cuda"))
    assert math.isfinite(again.step(10))


# --- seams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap_boundary", [True, False])
def test_the_wave_that_jumps_at_the_border_is_left_out(wrap_boundary, material):
    """Wave 0 of each axis has a period of two tiles: its weights are 0 and stay 0 when the material shall tile."""
    engine = make_engine(material, wrap_boundary=wrap_boundary)
    frequencies = engine.model.decoder.n_frequencies
    engine.step(5)
    jumping = engine.model.weights[0].detach()[:, [0, frequencies]]
    others = engine.model.weights[0].detach()[:, [1, frequencies + 1]]
    assert bool((jumping == 0).all()) == wrap_boundary
    assert bool((others != 0).all())
