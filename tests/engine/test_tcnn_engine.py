"""engine/tcnn_engine.py against a stand-in for tinycudann: tiny-cuda-nn's documented formulas on the CPU."""

from __future__ import annotations

import copy
import io
import math
import sys

import pytest
import torch

from common.errors import UserError
from configs import make_config
from engine import tcnn_engine
from engine.cpu.library import load_kernels
from engine.create import create_engine
from engine.errors import KernelsUnavailable
from engine.schedule import Schedule
from engine.tcnn_engine import TcnnEngine, grid_coordinates, pack_level
from engine.torch.engine import TorchEngine
from model import Noise, build_model
from quantize import stream_key
from tests.support import tcnn_standin
from tests.support.runs import QUICK, checkpoint_of, offline, payload, quick, refusal, save_maps

CPU = torch.device("cpu")
GRIDS = [
    {"max_resolution": 12, "n_levels": 3, "quantize_bits": 4, "save_bits": 32},
    {"max_resolution": 5, "n_levels": 1, "quantize_bits": 8, "save_bits": 16},
    {"max_resolution": 1, "n_levels": 1, "quantize_bits": 8, "save_bits": 8},
]
BASE = {
    "batch_size": 96, "max_iter": 40, "n_neurons": 16, "n_hidden_layers": 2, "n_frequencies": 3,
    "hash_grid_configs": GRIDS, "seed": 5, "wrap_interval": 3,
}  # fmt: skip


@pytest.fixture
def tcnn(monkeypatch):
    """The stand-in as the package, on the CPU, with networks in float32."""
    package = tcnn_standin.as_module()
    monkeypatch.setitem(sys.modules, "tinycudann", package)
    monkeypatch.setattr(tcnn_engine, "DEVICES", ("cpu",))
    monkeypatch.setattr(tcnn_standin, "freed", 0)
    return package


@pytest.fixture
def material(make_material):
    return make_material(22, 10)  # not square, not a power of two


def make_engine(material, kind=TcnnEngine, **values):
    config = make_config({**BASE, **values})
    model = build_model(config, material.width, material.height, material.present_channels.tolist())
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for parameters in model.grid_parameters:  # as large as after training, so that an error of them is seen
            parameters.copy_(torch.rand(parameters.shape, generator=generator) - 0.5)
    return kind(model, material, Schedule(config))


def samples(model, n=400):
    """uv everywhere, on the borders and beyond, and the texel centres' own kind; all LODs."""
    generator = torch.Generator().manual_seed(3)
    uv = torch.rand(n, 2, generator=generator)
    uv[: n // 4] = (uv[: n // 4] * 12).round() / 12
    uv[n // 4 : n // 2] = uv[n // 4 : n // 2] * 0.08 - 0.04
    lod = torch.randint(model.num_lods, (n,), generator=generator)
    return uv, lod


NOISE = Noise(0.7, tuple(stream_key(5, 2, 2 + g) for g in range(3)))


def gradients(model, decoded):
    upstream = torch.randn(decoded.shape[0], 11, generator=torch.Generator().manual_seed(4))
    loss = (decoded[:, :11] * upstream).sum()
    return torch.autograd.grad(loss, list(model.parameters()))


def differences(engine, noise=NOISE) -> tuple[float, float]:
    """Largest difference of what is decoded, and of the gradients relative to the largest of their tensor."""
    model = engine.model
    uv, lod = samples(model)
    want, found = model(uv, lod, noise), engine._decode(uv, lod, noise, True)
    pairs = zip(gradients(model, want), gradients(model, found))
    of_gradients = [float((one - other).abs().max() / one.abs().max().clamp(min=1e-9)) for one, other in pairs]
    return float((want - found[:, :11]).detach().abs().max()), max(of_gradients)


# --- the same numbers ------------------------------------------------------------------------------------------------

SHAPES = {
    "default": {},
    "one layer, no noise": {"n_hidden_layers": 1, "noise_std": 0.0},
    "no hidden layer": {"n_hidden_layers": 0},
    "a width that is not fused": {"n_neurons": 48},
    "no waves": {"n_frequencies": 0},
    "texel waves": {"n_texel_frequencies": 2},
    "inputs of exactly 16": {"n_frequencies": 0, "hash_grid_configs": [{"max_resolution": 6, "save_bits": 32},
                             *[{"max_resolution": 4, "quantize_bits": bits, "save_bits": 16} for bits in (4, 8, 16)]]},
    "float features": {"quantize": False},
    "even resolutions": {"hash_grid_configs": [{"max_resolution": 16, "save_bits": 8}]},
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_gradients_equal_the_reference(shape, tcnn, material):
    """Worst seen: 1.5e-7 and 2e-6."""
    engine = make_engine(material, **SHAPES[shape])
    noise = Noise(0.7, tuple(stream_key(5, 2, 2 + g) for g in range(len(engine.model.grids))))
    decoded, of_gradients = differences(engine, noise)
    assert decoded < 2e-6 and of_gradients < 2e-5
    assert differences(engine, None)[0] < 2e-6


def test_fused_networks_where_there_are_some(tcnn, material):
    kinds = {(16, 2): "FullyFusedMLP", (48, 2): "CutlassMLP", (256, 1): "CutlassMLP", (128, 0): "CutlassMLP"}
    for (neurons, layers), kind in kinds.items():
        engine = make_engine(material, n_neurons=neurons, n_hidden_layers=layers)
        assert engine._network.config["otype"] == kind


def test_iterations_equal_those_of_torch(tcnn, material):
    """The same samples, noise, loss, rates, limits and borders; after 12 iterations parameters differ by less than one
    in ten thousand of what they moved."""
    one, other = make_engine(material), make_engine(material, TorchEngine)
    start = [parameter.detach().clone() for parameter in one.model.parameters()]
    assert one.step(12) == pytest.approx(other.step(12), rel=1e-4)
    assert one.probe() == pytest.approx(other.probe(), rel=1e-4)
    for a, b, before in zip(one.model.parameters(), other.model.parameters(), start):
        moved = (b - before).abs().max()
        assert (a - b).abs().median() < 1e-4 * moved
    assert one.learning_rates() == other.learning_rates()


def test_a_batch_need_not_see_every_level(tcnn, material):
    engine = make_engine(material, batch_size=1)
    assert math.isfinite(engine.step(3))


def test_memory_is_freed_where_a_run_evaluates_or_saves(tcnn, material):
    engine = make_engine(material)
    engine.step(1)
    assert tcnn_standin.freed == 0
    engine.sync()
    assert tcnn_standin.freed == 1
    assert all(module.params.numel() == 0 for module in [engine._network, *engine._levels[0]])


# --- layout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("resolution", "features"), [(1, 1), (2, 8), (3, 4), (7, 2), (8, 8)])
def test_a_level_is_tiny_cuda_nns_bit_for_bit(resolution, features):
    """By grid.h's own index, i + j * vertices, over whole parameters."""
    image = torch.randn(resolution, resolution, features)
    entries = pack_level(image)
    vertices = resolution + 1
    assert entries.numel() == -(-vertices * vertices // 8) * 8 * features
    table = entries.view(-1, features)
    for j in range(vertices):
        for i in range(vertices):
            assert torch.equal(table[i + j * vertices], image[j % resolution, i % resolution])
    assert (table[vertices * vertices :] == 0).all()
    back = torch.stack([table[j * vertices : j * vertices + resolution] for j in range(resolution)])
    assert torch.equal(back, image)


@pytest.mark.parametrize("resolution", [1, 2, 3, 8, 1024])
def test_texel_centres_are_vertices(resolution):
    """fma(scale, x, 0.5) with scale = vertices - 1 is uv*R - 0.5, within the first period."""
    uv = torch.cat([(torch.arange(resolution) + 0.5) / resolution, torch.rand(99)])
    x = grid_coordinates(torch.stack([uv, 1 - uv], dim=1), resolution)
    assert x.dtype == torch.float32
    for axis, value in enumerate((uv, 1 - uv)):
        position = x[:, axis].double() * resolution + 0.5
        want = (value.double() * resolution - 0.5) % resolution
        apart = (position - want).abs()
        assert torch.minimum(apart, resolution - apart).max() < 2e-7 * max(resolution, 4)


def test_the_network_is_the_weights_one_after_the_other(tcnn, material):
    engine = make_engine(material)
    seen = {}

    def look(x, params):
        seen["params"], seen["inputs"] = params.detach().clone(), x.shape[1]
        return original(x, params)

    original, engine._network.run = engine._network.run, look
    engine.probe()
    flat = torch.cat([weight.detach().reshape(-1) for weight in engine.model.weights])
    assert torch.equal(seen["params"], flat)
    assert seen["inputs"] == engine.model.layout.reference_inputs  # the ones are tiny-cuda-nn's


def test_another_layout_is_noticed(tcnn, material, monkeypatch, refused):
    monkeypatch.setattr(tcnn_standin, "ALIGNMENT", 8)
    with refused("--engine tcnn", "parameters for a network", "version"):
        make_engine(material, hash_grid_configs=GRIDS[:1], n_frequencies=6)


# --- sabotage --------------------------------------------------------------------------------------------------------


def plain_uv(uv, resolution):
    return uv


def without_a_period(uv, resolution):
    return (uv * resolution - 1) / resolution


def of_one_vertex_less(uv, resolution):
    return (uv * resolution - 1) / max(resolution - 1, 1)


def no_repeated_border(image):
    bordered = torch.nn.functional.pad(image, (0, 0, 0, 1, 0, 1))
    flat = bordered.reshape(-1)
    features = image.shape[2]
    rest = -(-bordered.shape[0] ** 2 // 8) * 8 - bordered.shape[0] ** 2
    return torch.nn.functional.pad(flat, (0, rest * features))


def swapped_axes(image):
    return pack_level(image.transpose(0, 1))


SABOTAGE = {
    "plain uv": ("grid_coordinates", plain_uv),
    "no period": ("grid_coordinates", without_a_period),
    "one vertex less": ("grid_coordinates", of_one_vertex_less),
    "border not repeated": ("pack_level", no_repeated_border),
    "axes swapped": ("pack_level", swapped_axes),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_a_wrong_adapter_is_caught(name, tcnn, material, monkeypatch):
    engine = make_engine(material)
    monkeypatch.setattr(tcnn_engine, *SABOTAGE[name])
    assert max(differences(engine)) > 1e-3


def test_wrong_padding_is_caught(tcnn, material, monkeypatch):
    monkeypatch.setattr(tcnn_standin, "PADDING", 0.0)
    assert max(differences(make_engine(material))) > 1e-3


def test_wrong_matrices_are_caught(tcnn, material):
    """Column by column instead of row by row, as another library would store them."""
    engine = make_engine(material)
    run, shapes = engine._network.run, engine._network.shapes

    def transposed(x, params):
        parts = params.split([rows * columns for rows, columns in shapes])
        return run(x, torch.cat([p.view(c, r).t().reshape(-1) for p, (r, c) in zip(parts, shapes)]))

    engine._network.run = transposed
    assert max(differences(engine)) > 1e-3


# --- half precision --------------------------------------------------------------------------------------------------


@pytest.fixture
def half(tcnn, monkeypatch):
    monkeypatch.setattr(tcnn_standin, "PRECISION", torch.float16)
    return tcnn


def relative_error(engine) -> float:
    """Of the first layer's gradient for a loss as small as that of a large batch."""
    uv, lod = samples(engine.model, 512)
    found = []
    for decode in (engine.model, lambda *a: engine._decode(*a, None, True)):
        for parameter in engine.model.parameters():
            parameter.grad = None
        loss = decode(uv, lod)[:, :11].square().mean() * 1e-5
        engine._scaler.scale(loss).backward() if decode is not engine.model else loss.backward()
        found.append(engine.model.weights[0].grad.clone())
    want, got = found[0], found[1] / engine._scaler.get_scale()
    return float((got - want).norm() / want.norm())


def test_small_gradients_survive_half_precision(half, material, monkeypatch):
    """0.8 % off with the loss scaled; without, and with the binding's own factor alone, all of them are lost."""
    engine = make_engine(material)
    assert engine._scaler.is_enabled() and engine._network.loss_scale == 1.0
    assert relative_error(engine) < 0.02
    engine._scaler = tcnn_engine.loss_scaler(CPU, 1.0)
    assert relative_error(engine) > 0.1
    engine._network.loss_scale = 128.0
    assert relative_error(engine) > 0.1


def test_it_learns_in_half_precision(half, material):
    one, other = make_engine(material), make_engine(material, TorchEngine)
    before = one.probe()
    one.step(40), other.step(40)
    assert one.probe() < before / 2
    assert abs(10 * math.log10(one.probe() / other.probe())) < 0.1  # dB


def test_what_overflows_is_left_out(half, material):
    """The factor is halved until gradients are finite, and parameters never meet an infinite one."""
    engine = make_engine(material)
    engine._scaler = tcnn_engine.loss_scaler(CPU, 2.0**40)
    start = [parameter.detach().clone() for parameter in engine.model.weights]
    engine.step(1)
    assert all(torch.equal(a, b) for a, b in zip(start, engine.model.weights))
    assert engine._scaler.get_scale() == 2.0**39
    engine.step(30)
    assert engine._scaler.get_scale() < 2.0**30
    assert not all(torch.equal(a, b) for a, b in zip(start, engine.model.weights))
    assert all(bool(parameter.isfinite().all()) for parameter in engine.model.parameters())


def test_a_resumed_run_keeps_its_loss_scale(half, material):
    """Through a file, as a checkpoint; the stand-in has no atomics, so bits can be compared."""
    whole = make_engine(material)
    whole._scaler = tcnn_engine.loss_scaler(CPU, 2.0**24)
    whole.step(12)
    stream = io.BytesIO()
    torch.save({"engine": whole.state(), "model": whole.model.state_dict()}, stream)
    stream.seek(0)
    saved = torch.load(stream, weights_only=True)
    loss = whole.step(4)
    resumed = make_engine(material)
    resumed.model.load_state_dict(saved["model"])
    resumed.load_state(saved["engine"])
    assert saved["engine"]["loss_scale"] < 2.0**24
    assert resumed.step(4) == loss
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters()))


@pytest.mark.parametrize("damage", [{"loss_scale": math.nan}, {"loss_scale": 0.0}, {"loss_scale": 7},
                                    {"loss_scale_age": -1}, {"loss_scale_age": "old"}], ids=str)  # fmt: skip
def test_a_damaged_loss_scale_is_refused(damage, half, material):
    engine = make_engine(material)
    with pytest.raises(ValueError, match="loss scale"):
        engine.load_state({**engine.state(), **damage})


# --- whole runs ------------------------------------------------------------------------------------------------------


def run_of(tmp_path, engine: str, *flags):
    return quick("--data_dir", tmp_path / "made", "--save_dir", tmp_path / engine, "--engine", engine, "--device",
                 "cpu", "--save_interval", 10, "--max_iter", 20, *flags)  # fmt: skip


def test_a_run_and_its_checkpoints_move_between_engines(tcnn, tmp_path):
    """20 iterations each; then every engine goes on from iteration 10 of every other with the same parameters."""
    save_maps(tmp_path / "made", 20, 12)
    try:
        load_kernels()
        engines = ("tcnn", "torch", "cpu")
    except KernelsUnavailable:
        engines = ("tcnn", "torch")
    with offline():
        runs = {engine: run_of(tmp_path, engine) for engine in engines}
        ends = {engine: payload(checkpoint_of(run, 20)) for engine, run in runs.items()}
        tens = {engine: payload(checkpoint_of(run, 10)) for engine, run in runs.items()}
        assert tcnn_standin.freed >= 2
        for start, onward in [("tcnn", other) for other in engines[1:]] + [(other, "tcnn") for other in engines[1:]]:
            quick("--load_dir", runs[start], "--load_iter", 10, "--engine", onward, "--device", "cpu")
            assert payload(checkpoint_of(runs[start], 10))["iteration"] == 10
            after = payload(checkpoint_of(runs[start], 20))
            for name in ("grids", "network"):
                for moved, stayed, ten in zip(after[name], ends[start][name], tens[start][name]):
                    assert (moved - stayed).abs().median() <= 1e-3 * max(float((ten - stayed).abs().max()), 1e-6)
            for key in ("grids", "network"):
                assert all(tensor.dtype == torch.float32 for tensor in after[key])


def test_a_checkpoint_holds_the_parameters_bit_for_bit(tcnn, material):
    """From one engine's state to the other's and back: not a bit of parameters or moments changes."""
    one = make_engine(material)
    one.step(5)
    other = make_engine(material, TorchEngine)
    other.model.load_state_dict(one.model.state_dict())
    other.load_state(copy.deepcopy(one.state()))  # as through a file
    back = make_engine(material)
    back.model.load_state_dict(other.model.state_dict())
    back.load_state(copy.deepcopy(other.state()))
    for a, b in zip(one.model.parameters(), back.model.parameters()):
        assert torch.equal(a, b)
    for index, moments in one.state()["optimizer"].items():
        for name, value in moments.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(back.state()["optimizer"][index][name]))
    assert one.step(3) == back.step(3)


# --- what cannot be --------------------------------------------------------------------------------------------------


def test_without_the_package_it_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    folder = save_maps(tmp_path / "made")
    line = refusal(capsys, *QUICK, "--data_dir", folder, "--save_dir", tmp_path / "out", "--engine", "tcnn")
    for word in ("--engine tcnn", "pip install git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch",
                 "nvcc", "compiler", "TCNN_CUDA_ARCHITECTURES", "--engine auto"):  # fmt: skip
        assert word in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "error",
    [OSError("Could not find compatible tinycudann extension for compute capability 90."),
     ImportError("undefined symbol: _ZN3c10\nand more"), ModuleNotFoundError("No module named 'x'", name="x")],
    ids=str,
)  # fmt: skip
def test_a_package_that_does_not_fit_is_named(error, monkeypatch, refused):
    """modules.py raises OSError where there is no GPU, or none that it was built for."""

    def fail(name):
        raise error

    monkeypatch.setattr(tcnn_engine.importlib, "import_module", fail)
    with refused("--engine tcnn", str(error).splitlines()[0], "TCNN_CUDA_ARCHITECTURES", "--force-reinstall"):
        tcnn_engine.load_tinycudann()


def test_a_device_that_is_no_gpu_is_refused(monkeypatch, material, refused):
    monkeypatch.setitem(sys.modules, "tinycudann", tcnn_standin.as_module())
    with refused("--engine tcnn", "--device cuda", "cpu"):
        make_engine(material)


@pytest.mark.parametrize(
    ("values", "words"),
    [({"hash_grid_configs": [GRIDS[0], {"max_resolution": 4, "interpolation": "learned"}]},
      ["grid 1", "learned", "--decoder reference"]),
     ({"hash_grid_configs": [{"max_resolution": 4, "quantize_bits": 4, "save_bits": 64}]},
      ["grid 0", "16 features", "--quantize_bits", "--save_bits"]),
     ({"hash_grid_configs": [{"max_resolution": 4, "quantize_bits": 1, "save_bits": 32}]}, ["grid 0", "32 features"]),
     ({"hash_grid_configs": [{"max_resolution": [8, 4]}]}, ["grid 0", "8x4", "square"]),
     ({"activation": "hard_swish"}, ["--activation", "hard_swish", "leaky_relu"]),
     ({"activation": "relu"}, ["--activation", "found relu", "leaky_relu"])],
    ids=lambda value: "" if isinstance(value, list) else next(iter(value)),
)  # fmt: skip
def test_what_tiny_cuda_nn_cannot_do_is_refused(values, words, tcnn, material, refused):
    with refused("--engine tcnn", "--engine auto", *words):
        make_engine(material, **values)


def test_a_package_without_networks_is_refused(tcnn, material, refused):
    def none(*arguments):
        raise RuntimeError("Cannot create `Network` because tiny-cuda-nn was not compiled with neural network support.")

    tcnn.Network = none
    with refused("--engine tcnn", "neural network support"):
        make_engine(material)


def test_it_is_chosen_by_name_alone(tcnn, material):
    for name, kind in (("tcnn", TcnnEngine), ("torch", TorchEngine)):
        config = make_config({**BASE, "engine": name})
        model = build_model(config, 22, 10, material.present_channels.tolist())
        assert type(create_engine(model, material, Schedule(config), CPU)) is kind
    config = make_config({**BASE, "engine": "auto"})
    model = build_model(config, 22, 10, material.present_channels.tolist())
    assert create_engine(model, material, Schedule(config), CPU).name != "tcnn"


# --- where there is a GPU --------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_the_real_package_equals_the_reference(make_material):
    """In half precision: a network's outputs to 1 % of their size, and its gradients to 5 %."""
    device = torch.device("cuda")
    try:
        tcnn_engine.load_tinycudann()
    except UserError as error:
        pytest.skip(str(error))
    material = make_material(64, 48)
    config = make_config({**BASE, "n_neurons": 64, "hash_grid_configs": GRIDS[:2]})
    model = build_model(config, 64, 48, material.present_channels.tolist()).to(device)
    engine = TcnnEngine(model, material, Schedule(config))
    uv, lod = (value.to(device) for value in samples(model))
    want, found = model(uv, lod), engine._decode(uv, lod, None, True)[:, :11]
    assert (want - found).norm() < 0.01 * want.norm()
    reference = TorchEngine(model, material, Schedule(config))
    assert engine.probe() == pytest.approx(reference.probe(), rel=0.02)
    assert math.isfinite(engine.step(20)) and engine.probe() < reference.probe() * 1.01
