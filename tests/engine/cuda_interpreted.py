"""engine/cuda in Triton's interpreter, against the reference; test_cuda.py runs it with TRITON_INTERPRET=1.

An operation of the interpreter takes some 50 microseconds whatever the shape, so cases are few.
"""

from __future__ import annotations

import json
import math

import pytest
import torch
import triton
import triton.language as tl

import train
from engine.cpu.engine import CpuEngine
from engine.cuda import adam, inputs, kernels, maths, network, self_check
from engine.cuda import engine as cuda_engine
from engine.cuda.decoder import decode_lod, decode_samples, differentiate
from engine.cuda.engine import CudaEngine
from engine.errors import KernelsUnavailable
from engine.sampling import TexelSampler
from engine.torch.engine import TorchEngine
from quantize import _to_int32, hash_uniform, round_features, round_weights, stream_key
from tests.support.engine_cases import CASES, CPU, GRIDS, LEARNED, assert_same_place, engine_of, material_of
from tests.support.kernel_cases import SHAPES, assert_close, channels_of, exact_gradients, make_model, noise_of, samples
from tests.support.runs import differences, newest_run, save_maps
from tests.support.triton_cases import (  # noqa: F401
    CHECKED,
    SMALL,
    _loops,
    assert_no_room_for_moments,
    compare_gradients,
    cuda_engine_of,
    resumed,
    seen_inputs,
)
from tests.support.weight_cases import awkward_weights

# --- random numbers, samples, rounding: bit for bit -------------------------------------------------------------------


@triton.jit
def draw_kernel(numbers, seed, iteration, boundaries, sizes, offsets, out, uv, N: tl.constexpr):
    slot = tl.arange(0, N)
    seed, iteration = tl.load(numbers).to(tl.uint32), tl.load(numbers + 1).to(tl.uint32)
    texel, lod, u, v = inputs.draw(slot.to(tl.uint32), seed, iteration, boundaries, sizes, offsets)
    tl.store(out + slot, texel)
    tl.store(out + N + slot, lod.to(tl.int64))
    tl.store(uv + slot, u)
    tl.store(uv + N + slot, v)
    tl.store(uv + 2 * N + slot, maths.hash_uniform(slot.to(tl.uint32), maths.stream_key(seed, iteration, 2)))


@pytest.mark.parametrize("seed", [0, 5, 2**31 - 1])
@pytest.mark.parametrize("iteration", [-1, 0, 12345])
def test_draws_are_those_of_the_sampler(seed, iteration):
    engine = engine_of(CudaEngine, material_of(33, 50))
    n, own = 512, engine._samples
    out, uv = torch.zeros(2, n, dtype=torch.int64), torch.zeros(3, n)
    numbers = torch.tensor([_to_int32(seed), iteration], dtype=torch.int32)
    draw_kernel[(1,)](numbers, 0, 0, own["boundaries"], own["lod_sizes"], own["lod_offsets"], out, uv, n)
    texel, lod, wanted = TexelSampler(engine.material.lod_sizes, seed, n, CPU).draw(iteration)
    assert torch.equal(out[0], texel) and torch.equal(out[1], lod) and torch.equal(uv[:2].T, wanted)
    assert torch.equal(uv[2], hash_uniform(torch.arange(n), stream_key(seed, iteration, 2)))
    assert len(lod.unique()) > 3


@triton.jit
def round_kernel(values, out, N: tl.constexpr, BITS: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out + at, maths.round_feature(tl.load(values + at), BITS))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_every_code_and_every_edge(bits):
    n = 1 << bits
    edges = torch.arange(-1, n + 2, dtype=torch.float32) / n - 0.5
    values = torch.cat([edges, edges.nextafter(edges + 1), edges.nextafter(edges - 1), torch.tensor([5.0, -5.0, 1e9])])
    values = torch.cat([values, values.new_zeros((1 << (len(values) - 1).bit_length()) - len(values))])
    out = torch.empty_like(values)
    round_kernel[(1,)](values, out, len(values), bits)
    assert torch.equal(out, round_features(values, bits)) and len(out.unique()) == n


@triton.jit
def operand_kernel(values, out, N: tl.constexpr, PRECISION: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out + at, maths.operand(tl.load(values + at), PRECISION))


@triton.jit
def round_row_kernel(weights, out, n, N: tl.constexpr, BITS: tl.constexpr):
    index = tl.arange(0, N)
    row = tl.load(weights + tl.program_id(0) * n + index, mask=index < n, other=0.0)
    tl.store(out + tl.program_id(0) * n + index, maths.round_row(row, BITS), mask=index < n)


@pytest.mark.parametrize("n", [1, 5, 48])
@pytest.mark.parametrize("bits", [8, 16])
def test_rounding_of_weights(bits, n):
    weights = awkward_weights(n)
    found = torch.empty_like(weights)
    round_row_kernel[(len(weights),)](weights, found, n, 64, bits)
    assert torch.equal(found, round_weights(weights, bits))


@pytest.mark.parametrize(("precision", "kept"), [("tf32", 10), ("bf16_emulated", 7), ("ieee", 23)])
def test_factors_are_rounded_to_nearest(precision, kept):
    """Tensor cores cut float32 off to tf32, which makes every product too small."""
    values = torch.cat([torch.randn(250) * 10.0 ** torch.randint(-9, 9, (250,)), torch.tensor([0.0, 1.0, -1.0, 2e-38]),
                        torch.tensor([1.5 + 2.0**-11, -3.0])])  # fmt: skip
    out = torch.empty_like(values)
    operand_kernel[(1,)](values, out, len(values), precision)
    unit = torch.exp2(values.double().abs().clamp(min=2**-126).log2().floor() - kept)
    assert ((out.double() - values.double()).abs() <= unit / 2).all() and (out.double() % unit == 0).all()


@pytest.mark.parametrize(("bits", "word"), [(4, 32), (1, 8), (16, 16)])
def test_inputs_are_exact(bits, word):
    """Waves, LOD, ones and noisy rounded features of learned grids, bit for bit; linear ones to the order of a sum."""
    model = make_model((8, 3, bits, word), (12, 2, bits, word, "learned"), layers=0, frequencies=4,
                       texel_frequencies=2, lods=5)  # fmt: skip
    uv, lod, noise = torch.rand(60, 2), torch.arange(60) % 5, noise_of(model, 1.7)
    found = seen_inputs(model, uv, lod, 1.7)
    with torch.no_grad():
        wanted = model._inputs(uv, lod, lod.float(), noise)
    linear = range(8, 8 + model.grids[0].features)
    others = [c for c in range(found.shape[1]) if c not in model.unused_inputs and c not in linear]
    assert torch.equal(found[:, others], wanted[:, others])
    torch.testing.assert_close(found[:, linear], wanted[:, linear], rtol=0, atol=1e-6)
    with torch.no_grad():
        assert not torch.equal(wanted, model._inputs(uv, lod, lod.float(), None))


# --- decoding and gradients -------------------------------------------------------------------------------------------

FEW = ("one texel, no waves, no layers", "odd resolution", "two learned grids", "three grids", "wide and high",
       "wide and high, learned", "not seamless",
       "three channels", "extra maps", "no slope", "hard swish of learned grids", "no ones")  # fmt: skip


@pytest.mark.parametrize("name", FEW)
def test_samples_and_gradients(name):
    """Against float64. Seen (November 2026): 8e-7 of the largest number."""
    model, channels = SHAPES[name](), channels_of(name)
    uv, lod = samples(70, model.num_lods)
    assert_close(decode_samples(model, uv, lod), model(uv, lod))
    lod = lod.round().clamp(0, model.num_lods - 1).long()
    upstream = torch.zeros(70, model.decoder.outputs)
    upstream[:, channels] = torch.randn(70, len(channels))
    compare_gradients(model, uv, lod, upstream, 1.3)


@pytest.fixture
def case():
    """A model of both kinds of grids with hidden layers, samples and an upstream gradient."""
    model = make_model((8, 2, 4, 16), (12, 3, 2, 8, "learned"), texel_frequencies=2, neurons=16, layers=2)
    uv, lod = samples(70, model.num_lods, whole=True)
    return model, uv, lod, torch.randn(70, 11)


def test_sums_in_memory_and_in_registers(case):
    one, other = (compare_gradients(*case, 0.9, in_memory=memory) for memory in (True, False))
    assert all(torch.equal(a, b) for a, b in zip(one[:3], other[:3]))


@pytest.mark.parametrize("block", [16, 32])
def test_small_blocks(case, block):
    """As small batches have them; see block_size.py."""
    compare_gradients(*case, 0.9, block=block)


def test_integer_sums_have_no_order(case):
    """Two blocks of samples in another order: the same bits, which float sums do not have."""
    model, uv, lod, upstream = case
    uv, lod, upstream = (torch.cat([value, value[:58]]) for value in (uv, lod, upstream))  # two whole blocks
    order = torch.arange(128).roll(64)  # within a block, a product of matrices may depend on the order
    for unit, equal in ((2.0**40, True), (0.0, False)):
        runs = [compare_gradients(model, *given, 0.9, fixed_point=unit)[3:]
                for given in ((uv, lod, upstream), (uv[order], lod[order], upstream[order]))]  # fmt: skip
        assert (differences(*runs) == []) == equal


def test_bfloat16_products(case):
    model, uv, lod, upstream = case
    found = differentiate(model, uv, lod, upstream, precision="bf16")[1]
    exact = exact_gradients(model, uv, lod, upstream)[1]
    apart = [float((a - b).norm() / b.norm()) for a, b in zip(found, exact)]
    assert 1e-3 < max(apart) < 0.2, apart  # see self_check.TOLERANCE


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 3), (13, 9)])
@pytest.mark.parametrize("interpolation", ["linear", "learned"])
def test_decoded_lods(interpolation, width, height):
    lods = max(width, height).bit_length()
    model = make_model((12, 3, 4, 32, interpolation), (5, 1, 8, 16), lods=lods, layers=1)
    for lod in range(0, lods, 2):
        size = max(width >> lod, 1), max(height >> lod, 1)
        assert_close(decode_lod(model, lod, *size), model.decode(lod, *size))
    rows = slice(height // 3, height)
    assert_close(decode_lod(model, 0, width, height, rows=rows), model.decode(0, width, height, rows=rows))


# --- sabotage ---------------------------------------------------------------------------------------------------------

locate, position_inputs, gather = inputs.locate, inputs.position_inputs, network.gather


@triton.jit
def half_a_texel_off(levels, lod, u, v, BITS: tl.constexpr):
    return locate(levels, lod, u + 0.5 / inputs.level_size(levels, lod)[0].to(tl.float32) * (u < 0.5), v, BITS)


@triton.jit
def rows_swapped(levels, lod, u, v, BITS: tl.constexpr):
    x0, x1, row0, row1, wx, wy = locate(levels, lod, u, v, BITS)
    return x0, x1, row1, row0, wx, wy


@triton.jit
def nothing_added(pointers, value, mask, FIXED_POINT: tl.constexpr):
    tl.atomic_add(pointers, value * 0.0, mask=mask)


@triton.jit
def added_where_codes_can_move(pointers, value, mask, FIXED_POINT: tl.constexpr):
    tl.atomic_add(pointers, tl.where(value > 0, value, 0.0), mask=mask)


@triton.jit
def no_bias(columns, levels, lod, u, v, lod_value, WIDTH: tl.constexpr, TEXEL_WAVES: tl.constexpr):
    kind = tl.load(columns + 3 * WIDTH + tl.arange(0, WIDTH))[None, :]
    x = position_inputs(columns, levels, lod, u, v, lod_value, WIDTH, TEXEL_WAVES)
    return tl.where(kind == 4.0, 0.0, x)


@triton.jit
def not_rounded(value, BITS: tl.constexpr):
    return value


@triton.jit
def slope_everywhere(upstream, seen, HARD_SWISH: tl.constexpr, SLOPE: tl.constexpr):
    return upstream * SLOPE


SABOTAGE = {
    "half a texel": (inputs, "locate", half_a_texel_off),
    "rows swapped": (inputs, "locate", rows_swapped),
    "no straight-through": (inputs, "add_gradient", nothing_added),
    "half of the gradients": (inputs, "add_gradient", added_where_codes_can_move),
    "no bias": (network, "position_inputs", no_bias),
    "no rounding": (inputs, "round_feature", not_rounded),
    "another derivative": (network, "activate_back", slope_everywhere),
}


@pytest.mark.parametrize("name", [None, *SABOTAGE])
def test_sabotage_is_caught(name, case, monkeypatch):
    if name is None:
        compare_gradients(*case, 0.9)
        return
    monkeypatch.setattr(*SABOTAGE[name])
    with pytest.raises(AssertionError):
        compare_gradients(*case, 0.9)


# --- whole steps ------------------------------------------------------------------------------------------------------

STEPS = {
    "two bit depths": {}, "learned": {"n_hidden_layers": 0}, "ties": {"n_hidden_layers": 0}, "1x1": {"batch_size": 20},
    "floats": {"wrap_interval": 2}, "weights": {"n_hidden_layers": 0}, "rates": {"n_hidden_layers": 2},
    "opacity": {}, "8-bit weights later": {"weight_round_start": 1 / 60}, "16-bit weights": {},
    "light": {}, "oblong": {"wrap_interval": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_a_few_steps_equal_the_reference(name):
    """Seen (November 2026): losses 1e-7 apart. Every other case has lazy grids."""
    make, values = CASES[name]
    values = {**values, **SMALL, **STEPS[name]}
    lazy = list(STEPS).index(name) % 2 == 1
    engine, reference = cuda_engine_of(make(), lazy, **values), engine_of(TorchEngine, make(), **values)
    self_check.check_engine(engine)
    assert engine.probe() == pytest.approx(reference.probe(), rel=2e-6)
    for n in (1, 1):
        assert engine.step(n) == pytest.approx(reference.step(n), rel=3e-6)
        assert_same_place(engine, reference, moments=1e-4 if name == "1x1" else 1e-5, parameters=2e-6)
    assert engine.iteration == reference.iteration == 2
    assert engine.learning_rates() == reference.learning_rates()


RARE = {
    "hash_grid_configs": [{"max_resolution": 32, "n_levels": 2, "quantize_bits": 4, "save_bits": 16}],
    "batch_size": 8, "max_iter": 60, "wrap_interval": 3, "gpu_precision": "float32", "n_hidden_layers": 0,
}  # fmt: skip


def test_texels_that_are_rarely_seen(monkeypatch):
    """Lazy texels follow Adam from afar, past two sweeps and four syncs of the borders."""
    monkeypatch.setattr(cuda_engine, "SWEEP_INTERVAL", 5)
    engine, reference = cuda_engine_of(material_of(), True, **RARE), engine_of(TorchEngine, material_of(), **RARE)
    for n in (4, 4, 5):
        assert engine.step(n) == pytest.approx(reference.step(n), rel=1e-4)
    engine.sync()
    found, wanted = engine.model.grid_parameters[0].detach(), reference.model.grid_parameters[0].detach()
    assert ((found - wanted).abs() > 2e-5).double().mean() < 2e-3
    assert int(engine.grids[0].stamps.min()) == 10


def test_a_grid_of_rate_0_stays():
    grids = [{**GRIDS[0], "learning_rate": 0.0}, GRIDS[1]]
    engine = cuda_engine_of(material_of(), True, hash_grid_configs=grids, **SMALL, wrap_interval=1)
    before = [p.detach().clone() for p in engine.model.grid_parameters]
    engine.step(2)
    engine.sync()
    assert torch.equal(before[0], engine.model.grid_parameters[0]) and not engine.grids[0].gradient.any()
    assert_no_room_for_moments(engine)
    assert not torch.equal(before[1], engine.model.grid_parameters[1])


# --- states -----------------------------------------------------------------------------------------------------------

RESUMED = {"batch_size": 20, "hash_grid_configs": LEARNED, "wrap_interval": 4, "gpu_precision": "float32",
           "deterministic": True, "n_hidden_layers": 0}  # fmt: skip


def lazy_cuda(*arguments):
    return CudaEngine(*arguments, lazy=(True, False))


@pytest.mark.parametrize("weights", [{}, {"weight_bits": 8, "weight_round_start": 0.05, "max_iter": 60},
                                     {"activation_bits": 8, "weight_round_start": 0.03, "max_iter": 60}])  # fmt: skip
def test_a_resumed_run_goes_on_bit_for_bit(weights):
    values = {**RESUMED, **weights}
    whole = engine_of(lazy_cuda, material_of(), **values)
    whole.step(3)
    assert "pending" in whole.state()
    other = resumed(lazy_cuda, whole, **values)
    seen = [(engine.probe(), engine.state()) for engine in (whole, other)]
    assert differences(*seen) == []
    assert whole.step(2) == other.step(2)
    whole.sync(), other.sync()
    ends = [[engine.state(), [p.detach() for p in engine.model.parameters()]] for engine in (whole, other)]
    assert differences(*ends) == []


@pytest.mark.parametrize(
    ("one", "other"), [(lazy_cuda, TorchEngine), (lazy_cuda, CpuEngine), (CpuEngine, lazy_cuda)],
    ids=lambda kind: kind.__name__,
)  # fmt: skip
def test_the_other_engine_goes_on(one, other):
    first = engine_of(one, material_of(), **RESUMED)
    first.step(2)
    second = resumed(other, first, **RESUMED)
    for n in (1, 1):
        assert second.step(n) == pytest.approx(first.step(n), rel=1e-5)


def test_going_on_from_changed_parameters():
    """settled_state() keeps the moments."""
    engine = engine_of(lazy_cuda, material_of(), **RESUMED)
    engine.step(3)
    engine.sync()
    with torch.no_grad():
        for parameters in engine.model.parameters():
            parameters.mul_(0.5)
    changed = [p.detach().clone() for p in engine.model.parameters()]
    engine.load_state(engine.settled_state())
    engine.sync()
    assert differences(changed, [p.detach() for p in engine.model.parameters()]) == []
    assert engine.state()["optimizer"][0]["exp_avg"].abs().max() > 0 and math.isfinite(engine.step(1))


# --- the start of a run -----------------------------------------------------------------------------------------------


def test_the_self_check_fails_where_a_kernel_is_wrong(monkeypatch):
    monkeypatch.setattr(self_check, "SAMPLES", CHECKED)
    engine = engine_of(CudaEngine, material_of(), **SMALL)
    before = engine.network.weights.clone()
    self_check.check_engine(engine)
    assert torch.equal(before, engine.network.weights) and not any(grid.gradient.any() for grid in engine.grids)
    monkeypatch.setattr(inputs, "locate", half_a_texel_off)
    with pytest.raises(KernelsUnavailable, match="self-check"):
        self_check.check_engine(engine)
    monkeypatch.setattr(kernels, "forward", None)
    with pytest.raises(KernelsUnavailable, match="failed"):
        self_check.check_engine(engine)
    assert set(self_check.TOLERANCE) == {"ieee", "tf32", "bf16"}


@triton.jit
def without_noise(index, key):
    return 0.5 + 0 * hash_of(index, key)


@triton.jit
def moment_alone(one, two, small):
    return one + 0 * two + 0 * small


hash_of = maths.hash_uniform
NOISY = {**SMALL, "n_neurons": 64, "n_hidden_layers": 2, "n_frequencies": 2}


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_the_self_check_knows_what_rounding_does(precision, monkeypatch):
    """It passes where factors are rounded, and sees that noise is missing (tf32), or whole iterations are others."""
    engine = engine_of(lazy_cuda, material_of(), **{**NOISY, "gpu_precision": precision})
    buffers = (engine.network.packed, engine.grids[0].parameters, engine.grids[1].moments, engine._progress)
    before = [buffer.float() + 0 for buffer in buffers]
    self_check.check_engine(engine)
    assert differences(before, [buffer.float() for buffer in buffers]) == []
    if precision == "tf32":
        with monkeypatch.context() as patch, pytest.raises(KernelsUnavailable, match="self-check"):
            patch.setattr(inputs, "hash_uniform", without_noise)
            self_check.check_gradients(engine)
    else:
        monkeypatch.setattr(adam, "direction", moment_alone)
        with pytest.raises(KernelsUnavailable, match="the network's step"):
            self_check.check_iteration(engine)


def test_a_run_of_the_command(tmp_path):
    """Trained, saved, evaluated and resumed with --engine cuda: what the cpu engine reaches, at the same samples."""
    maps = save_maps(tmp_path / "maps", 8, 8)
    shape = ["--n_neurons", "16", "--n_hidden_layers", "0", "--n_frequencies", "2", "--batch_size", "32"]
    flags = ["--data_dir", str(maps), "--device", "cpu", "--max_iter", "2", "--refine", "0", "--eval_metrics", "psnr"]
    reached = {}
    for engine in ("cuda", "cpu"):
        out = tmp_path / engine
        assert train.main([*flags, *shape, "--save_dir", str(out), "--engine", engine]) == 0
        reached[engine] = json.loads((newest_run(out) / "metrics.json").read_text())["psnr"]["all"]
    assert reached["cuda"] == pytest.approx(reached["cpu"], abs=0.1)
    run = newest_run(tmp_path / "cuda")
    assert train.main(["--load_dir", str(run), "--max_iter", "3", "--engine", "cuda", "--device", "cpu"]) == 0
    assert next(run.glob("models/*_3/model.pth")).exists()
