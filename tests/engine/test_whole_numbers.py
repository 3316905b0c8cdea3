"""Networks in whole numbers, --activation_bits 8: every engine computes the same numbers as numpy, and gradients as if
nothing had been rounded."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from describe.numpy_decoder import decode, read_texture
from engine.cpu.code_search import search_level as search_on_the_cpu
from engine.cpu.decoder import decode_lod, decode_samples, differentiate
from engine.cpu.engine import CpuEngine
from engine.sampling import channel_loss_weights
from engine.torch.code_search import search_level
from engine.torch.engine import TorchEngine
from formats.textures import write_textures
from model import NeuralTexture
from quantize import stored_weights
from quantized.gradient import layers_of
from quantized.network import hidden_codes, input_codes, layer_sums, run
from shape import DecoderSpec, GridSpec, planes_of
from tests.support.engine_cases import BLOCKS, LEARNED, OBLONG, assert_same_place, engine_of, material_of

EIGHT = {"weight_bits": 8, "activation_bits": 8}
LEARNED_GRID, COARSE = GridSpec(8, 3, 2, 8, "learned"), GridSpec(3, 1, 4, 16)
SHAPES = {  # grids, decoder
    "1x16": ([LEARNED_GRID, COARSE], DecoderSpec(0, 16, 1, 3, "hard_swish", **EIGHT)),
    "2x32": ([GridSpec(12, 3, 4, 32), COARSE], DecoderSpec(12, 32, 2, **EIGHT)),
    "3x64": ([LEARNED_GRID, GridSpec(5, 1, 8, 32)], DecoderSpec(3, 64, 3, 1, "hard_swish", **EIGHT)),
    "3x48, leaky": ([LEARNED_GRID, COARSE], DecoderSpec(5, 48, 3, 3, **EIGHT)),
    "steep": ([COARSE], DecoderSpec(2, 16, 2, negative_slope=0.7, **EIGHT)),
    "no slope": ([COARSE], DecoderSpec(2, 16, 2, negative_slope=0.0, **EIGHT)),
    "no layers": ([LEARNED_GRID, COARSE], DecoderSpec(0, 64, 0, 3, **EIGHT)),
    "oblong": ([GridSpec((24, 4), 3, 4, 16), GridSpec((1, 5), 1, 8, 8)], DecoderSpec(4, 16, 2, **EIGHT)),
    "extra maps": ([COARSE], DecoderSpec(2, 32, 2, activation="hard_swish", outputs=16, **EIGHT)),
    "blocks": ([GridSpec(12, 3, 0, 4, "linear", "bc1")] * 2, DecoderSpec(3, 32, 2, **EIGHT)),
    "block": ([GridSpec(4, 1, 0, 4, "learned", "bc1")], DecoderSpec(0, 16, 1, 2, "hard_swish", **EIGHT)),
    "ASTC blocks": ([GridSpec(14, 2, 0, 6, "linear", "astc6x6")] * 2, DecoderSpec(3, 32, 2, **EIGHT)),
    "learned blocks": (
        [GridSpec(20, 2, 0, 4, "learned", "bc1"), COARSE], DecoderSpec(0, 16, 2, 3, "hard_swish", **EIGHT),
    ),
}  # fmt: skip
ALL = pytest.mark.parametrize("name", SHAPES)
ENGINES = pytest.mark.parametrize("kind", [CpuEngine, TorchEngine])


def texture_of(name: str, size=(20, 13), tight=1.0) -> NeuralTexture:
    """A calibrated model whose values reach all over the ranges. tight: factor of the ranges; below 1, some leave."""
    grids, decoder = SHAPES[name]
    model = NeuralTexture(grids, decoder, max(size).bit_length(), present_channels=range(1, decoder.outputs), seed=3)
    generator = torch.Generator().manual_seed(7)
    model.start_biases([0.5] * decoder.outputs)
    with torch.no_grad():
        for parameters in model.grid_parameters:
            parameters.uniform_(-0.6, 0.6, generator=generator)
        for weight in model.weights[:-1]:
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.15)
        for column in model.unused_inputs:
            model.weights[0][:, column] = 0
    model.calibrate(*places(model, 300))
    model.activation_ranges[1:] *= tight
    return model


def places(model: NeuralTexture, n: int, seed=1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 2, generator=generator) * 2 - 0.5, torch.randint(0, model.num_lods, (n,), generator=generator)


def inputs_of(model: NeuralTexture, uv, lod) -> np.ndarray:
    return model._inputs(uv, lod, lod.float(), None).detach().numpy()


def layers_in(model: NeuralTexture):
    decoder = model.decoder
    return layers_of(list(model.weights), model.activation_ranges, decoder.activation, decoder.negative_slope)


# --- numbers ---------------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("tight", [1.0, 0.5])
def test_engines_compute_what_numpy_does(name, tight):
    model = texture_of(name, tight=tight)
    uv, lod = places(model, 400)
    wanted = run(layers_in(model), inputs_of(model, uv, lod))[:, : model.decoder.outputs]
    found = model(uv, lod)
    assert torch.equal(found, torch.from_numpy(wanted))
    assert torch.equal(decode_samples(model, uv, lod)[:, 1:], found[:, 1:].detach())
    assert (found - model(uv, lod, rounded=False)).abs().max() > 0


@ALL
def test_all_decoders_of_files_agree(name, tmp_path):
    """Texel for texel at all LODs, of a width that is no power of two: of torch, the kernels, and numpy from files."""
    model = texture_of(name)
    write_textures(tmp_path, model)
    texture = read_texture(tmp_path, model.form)
    assert len(texture.integers) == len(model.weights)
    for lod in range(model.num_lods):
        size = max(20 >> lod, 1), max(13 >> lod, 1)
        wanted = model.decode(lod, *size)
        assert torch.equal(decode_lod(model, lod, *size), wanted)
        assert np.array_equal(decode(texture, lod, *size), wanted.numpy())


def test_between_two_levels():
    for name in ("2x32", "1x16"):  # inputs are blended, or what is decoded
        model = texture_of(name)
        uv, lod = places(model, 200)
        between = lod + torch.rand(200, generator=torch.Generator().manual_seed(2))
        off = (decode_samples(model, uv, between) - model(uv, between).detach()).abs()
        assert (off > 1e-6).double().mean() < 0.01 and off.max() < 0.1  # a blend that rounds to another byte


def test_ranges_are_those_of_what_layers_take_in():
    model = texture_of("2x32")
    hidden = torch.from_numpy(inputs_of(model, *places(model, 300)))
    for (low, high), weight in zip(model.activation_ranges[1:].tolist(), model.exported_weights()):
        hidden = model._activate(hidden @ weight.detach().t())
        assert (low, high) == (float(hidden.min()), float(hidden.max()))
    assert texture_of("3x64").activation_ranges[:, 0].tolist() == [-1, -0.375, -0.375, -0.375]
    silent = texture_of("2x32")
    with torch.no_grad():
        silent.weights[0].zero_()
    silent.calibrate(*places(silent, 10))
    assert (silent.activation_ranges[:, 1] - silent.activation_ranges[:, 0] >= 0.125).all()
    assert torch.isfinite(silent(*places(silent, 10))).all()


# --- gradients -------------------------------------------------------------------------------------------------------


def gradients_by_hand(model: NeuralTexture, uv, lod, upstream: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Of the weights and of the inputs, in float64: as if weights and activations were what the bytes stand for."""
    layers, ranges = layers_in(model), model.activation_ranges.double().numpy()
    taken, slopes = [input_codes(inputs_of(model, uv, lod))], []
    weights = [(c.double() * s.double()[:, None]).numpy() for c, s in (stored_weights(w, 8) for w in model.weights)]
    values = []
    for index, layer in enumerate(layers):
        low, step = ranges[index, 0], (ranges[index, 1] - ranges[index, 0]) / 255
        values.append(low + step * (taken[-1].astype(float) + 128))
        if layer.last:
            break
        sums = layer_sums(layer, taken[-1])
        p = ((sums >> layer.pre_shift).astype(np.int64) * layer.multipliers + (1 << layer.shift - 1)) >> layer.shift
        if layer.knee:
            slope = np.where(p < -layer.knee, 0, np.where(p > layer.knee, 1, p / layer.knee + 0.5))
            y = p * np.clip(p + layer.knee, 0, 2 * layer.knee)
        else:
            slope = np.where(p > 0, 1, layer.slope / 32768)
            y = np.where(p > 0, p, p * layer.slope >> 15)
        byte = (y + layer.offset) >> layer.post_shift
        slopes.append(slope * ((byte >= -128) & (byte <= 127)))
        taken.append(hidden_codes(layer, sums))
    of_weights = []
    for index in reversed(range(len(layers))):
        of_weights.insert(0, upstream.T @ values[index])
        upstream = upstream @ weights[index]
        upstream = upstream * slopes[index - 1] if index else upstream
    return of_weights, upstream


@ALL
@pytest.mark.parametrize("tight", [1.0, 0.4])
def test_gradients(name, tight):
    model = texture_of(name, tight=tight)
    uv, lod = places(model, 150)
    upstream = torch.randn(150, model.decoder.outputs, generator=torch.Generator().manual_seed(4))
    upstream[:, 0] = 0  # an absent channel
    padded = np.zeros((150, 16))
    padded[:, : upstream.shape[1]] = upstream.numpy()
    wanted, of_inputs = gradients_by_hand(model, uv, lod, padded)
    inputs = model._inputs(uv, lod, lod.float(), None)
    of_grids = torch.autograd.grad(inputs, list(model.grid_parameters), torch.from_numpy(of_inputs).float())
    found = torch.autograd.grad((model(uv, lod) * upstream).sum(), [*model.weights, *model.grid_parameters])
    _, weights, grids = differentiate(model, uv, lod, upstream, channels=range(1, model.decoder.outputs))
    for column in model.unused_inputs:
        wanted[0][:, column] = 0
        found[0][:, column] = 0
    for one, other, exact in zip(found, [*weights, *grids], [*map(torch.from_numpy, wanted), *of_grids]):
        scale = exact.abs().max()
        assert (one - exact).abs().max() < 2e-5 * scale
        assert (other - exact).abs().max() < 2e-5 * scale
    if tight < 1 and len(model.weights) > 1:  # what leaves its range has no gradient
        loose, _ = gradients_by_hand(texture_of(name), uv, lod, padded)
        assert np.abs(loose[0] - wanted[0]).max() > 1e-3 * np.abs(wanted[0]).max()


# --- training --------------------------------------------------------------------------------------------------------

TRAINED = {
    "linear": {},
    "learned, 2x32": {"hash_grid_configs": LEARNED, "n_hidden_layers": 2, "n_neurons": 32, "activation": "hard_swish"},
    "3x16, leaky": {"n_hidden_layers": 3},
    "no layers": {"n_hidden_layers": 0},
    "blocks": {"hash_grid_configs": BLOCKS, "noise_std": 0.0},
    "oblong": {"hash_grid_configs": OBLONG, "wrap_interval": 2},
    "filtered": {"positions": "filtered"},
}


@pytest.mark.parametrize("name", TRAINED)
def test_engines_train_alike(name):
    values = {"activation_bits": 8, "weight_round_start": 0.05, **TRAINED[name]}
    engine, reference = (engine_of(kind, material_of(), **values) for kind in (CpuEngine, TorchEngine))
    assert engine.step(6) == pytest.approx(reference.step(6), rel=2e-3)
    assert torch.allclose(engine.model.activation_ranges, reference.model.activation_ranges, rtol=1e-4)
    assert engine.probe() == pytest.approx(reference.probe(), rel=2e-2)
    if name in ("no layers", "linear"):  # deeper, an activation that rounds otherwise moves a weight
        assert_same_place(engine, reference, 2e-2, 2e-3)


@ENGINES
def test_whole_numbers_begin_where_weights_are_rounded(kind):
    """Until then nothing differs at positions of a few bits, as blends are exact there, without hidden layers."""
    start, values = 20, {"max_iter": 60, "batch_size": 200, "hash_grid_configs": LEARNED, "n_hidden_layers": 0}
    engine = engine_of(kind, material_of(32, 16), activation_bits=8, weight_round_start=start / 60, **values)
    plain = engine_of(kind, material_of(32, 16), weight_bits=8, weight_round_start=start / 60, **values)
    assert [engine.step(1) for _ in range(start)] == [plain.step(1) for _ in range(start)]
    assert engine.step(1) != plain.step(1)


@ENGINES
def test_ranges_stay(kind):
    engine = engine_of(kind, material_of(), activation_bits=8, weight_round_start=0.1, n_hidden_layers=2)
    seen = []
    for _ in range(12):
        engine.step(1)
        engine.sync()
        seen.append(engine.model.activation_ranges.clone())
    assert not torch.equal(seen[2], seen[4]) and torch.equal(seen[6], seen[11])


@ENGINES
def test_chunks_change_nothing(kind):
    """A step over the iteration at which ranges are set, as one and as two."""
    values = {"activation_bits": 8, "weight_round_start": 0.1, "hash_grid_configs": LEARNED}
    one, other = (engine_of(kind, material_of(), **values) for _ in range(2))
    loss = one.step(10)
    assert loss == pytest.approx((other.step(4) * 4 + other.step(6) * 6) / 10, rel=1e-12)
    one.sync(), other.sync()
    for mine, theirs in zip(one.model.parameters(), other.model.parameters()):
        assert torch.equal(mine, theirs)


@ENGINES
def test_constant_neurons_stay(kind):
    """Those that are biases, in all hidden layers, from the first iteration on; a network without ones has none."""
    values = {"activation_bits": 8, "n_hidden_layers": 2, "weight_round_start": 0.1}
    engine = engine_of(kind, material_of(), **values)
    engine.model.start_biases([0.5] * 11)
    engine.load_state(engine.state())
    before = [weight.detach().clone() for weight in engine.model.weights]
    engine.step(10)
    engine.sync()
    assert engine.model.keeps_biases
    for was, weight in zip(before[:-1], engine.model.weights):
        assert torch.equal(weight[0], was[0]) and not torch.equal(weight[1], was[1])
    assert not torch.equal(engine.model.weights[-1][0], before[-1][0])
    full = [GridSpec(4, 1, 8, 64), GridSpec(4, 1, 8, 8)]  # 15 inputs and the LOD
    assert not NeuralTexture(full, DecoderSpec(3, 16, 1, **EIGHT), 3).keeps_biases
    assert not engine_of(kind, material_of(), weight_bits=8).model.keeps_biases


def test_threads_change_nothing():
    values = {"activation_bits": 8, "weight_round_start": 0.05, "n_hidden_layers": 2}
    one, other = (engine_of(CpuEngine, material_of(), num_threads=n, **values) for n in (1, 3))
    assert one.step(30) == other.step(30) and one.probe() == other.probe()


@ENGINES
def test_the_probe_sees_what_would_ship(kind):
    engine = engine_of(kind, material_of(32, 16), activation_bits=8, weight_round_start=1.0, n_hidden_layers=0)
    plain = engine_of(kind, material_of(32, 16), weight_bits=8, weight_round_start=1.0, n_hidden_layers=0)
    assert engine.probe() != plain.probe()
    engine.step(1)
    plain.step(1)
    engine.probe()
    assert engine.step(1) == plain.step(1)  # and training goes on with floats


@pytest.mark.parametrize("other", [CpuEngine, TorchEngine])
@ENGINES
def test_a_state_goes_on_in_another_engine(kind, other):
    values = {"activation_bits": 8, "weight_round_start": 0.1, "n_hidden_layers": 2}
    engine, next_one = (engine_of(each, material_of(), **values) for each in (kind, other))
    engine.step(12)
    engine.sync()
    next_one.model.load_state_dict(engine.model.state_dict())
    next_one.load_state(copy.deepcopy(engine.state()))
    ranges = engine.model.activation_ranges.clone()
    assert next_one.step(3) == pytest.approx(engine.step(3), rel=2e-3)
    next_one.sync()
    assert torch.equal(next_one.model.activation_ranges, ranges)


def test_it_learns():
    engine = engine_of(CpuEngine, material_of(64, 48, noise=0.02), activation_bits=8, weight_round_start=0.5,
                       n_neurons=32, n_hidden_layers=2, max_iter=400, spread=None)  # fmt: skip
    plain = engine_of(CpuEngine, material_of(64, 48, noise=0.02), weight_bits=8, weight_round_start=0.5,
                      n_neurons=32, n_hidden_layers=2, max_iter=400, spread=None)  # fmt: skip
    before = engine.probe()
    engine.step(400), plain.step(400)
    assert engine.probe() < 0.1 * before
    assert engine.probe() < 1.5 * plain.probe()


# --- search ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["1x16", "steep", "block", "oblong"])
def test_searches_find_the_same_codes(name):
    material = material_of(9, 5)
    model = texture_of(name, (9, 5))
    channels = material.present_channels.tolist()[1:]
    weights = channel_loss_weights(material, dict.fromkeys(material.present, 1.0), channels)
    arguments = material, channels, weights, torch.linspace(1.0, 0.3, material.num_lods)
    mine, theirs = copy.deepcopy(model), copy.deepcopy(model)
    changed = 0
    for planes in planes_of(model.grids):
        for level in range(model.grids[planes[0]].n_levels):
            before = error(mine, arguments)
            found = search_on_the_cpu(mine, material, planes, level, *arguments[1:])
            assert found == search_level(theirs, material, planes, level, *arguments[1:])
            assert error(mine, arguments) <= before * (1 + 1e-6)
            changed += found
    assert changed > 3
    assert all(torch.equal(one, other) for one, other in zip(mine.grid_parameters, theirs.grid_parameters))


def error(model: NeuralTexture, arguments) -> float:
    """What a search lowers, of numbers that numpy computes from inputs."""
    material, channels, weights, lod_weights = arguments
    total = 0.0
    columns = [material.present_channels.tolist().index(channel) for channel in channels]
    for lod, (width, height) in enumerate(material.lod_sizes):
        decoded = model.decode(lod, width, height).reshape(-1, model.decoder.outputs)[:, channels].clamp(0, 1)
        wanted = material.gather(torch.arange(width * height) + material.lod_offsets[lod])[:, columns]
        total += float(lod_weights[lod]) * float(((decoded - wanted).double() ** 2 * weights).sum())
    return total
