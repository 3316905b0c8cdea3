"""engine/cuda with grids of blocks in Triton's interpreter; test_cuda.py runs it with TRITON_INTERPRET=1."""

from __future__ import annotations

import itertools

import pytest
import torch
import triton
import triton.language as tl

import blocks
from engine.cuda import engine as cuda_engine
from engine.cuda import self_check
from engine.cuda.blocks import kernels as block_kernels
from engine.cuda.blocks import maths as block_maths
from engine.cuda.blocks.launches import tied_texels
from engine.cuda.decoder import decode_lod, decode_samples
from engine.cuda.engine import CudaEngine
from engine.cuda.plan import power_of_two
from engine.errors import KernelsUnavailable
from engine.torch.engine import TorchEngine
from shape import BLOCKS as BLOCK_FORMATS
from shape import GridSpec
from tests.support.engine_cases import BLOCK_CASES, BLOCKS, LEARNED_BLOCKS, assert_same_place, engine_of, material_of
from tests.support.kernel_cases import BLOCK_SHAPES, assert_close, make_model, noise_of, samples
from tests.support.runs import differences
from tests.support.triton_cases import (  # noqa: F401
    SMALL,
    _loops,
    assert_no_room_for_moments,
    compare_gradients,
    cuda_engine_of,
    resumed,
    seen_inputs,
)

# --- features, gradients ----------------------------------------------------------------------------------------------


def test_features_are_exact():
    """Noisy rounded features bit for bit, of blended ones to the order of a sum."""
    model = make_model((12, 3, 0, 4, "learned", "bc1"), (7, 1, 0, 4, "linear", "bc1"),
                       (14, 2, 0, 6, "learned", "astc6x6"), layers=0, frequencies=0, lods=5)  # fmt: skip
    uv, lod, noise = torch.rand(60, 2), torch.arange(60) % 5, noise_of(model, 1.7)
    found = seen_inputs(model, uv, lod, 1.7)
    with torch.no_grad():
        wanted = model._inputs(uv, lod, lod.float(), noise)
        assert not torch.equal(wanted, model._inputs(uv, lod, lod.float(), None))
    learned = [*range(12), *range(15, 27)]
    assert torch.equal(found[:, learned], wanted[:, learned])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@triton.jit
def feature_kernel(parameters, nothing, out, N: tl.constexpr, SIDE: tl.constexpr):
    block = tl.arange(0, N)[:, None, None]
    channel = tl.arange(0, 4)[None, None, :]
    value = block_maths.block_feature(parameters, nothing, nothing, block * (SIDE * SIDE), block * 0, 0, channel, 0, 0,
                                      0.0, 0, SIDE, False, True, False)  # fmt: skip
    tl.store(out + block * 4 + channel, value)


@pytest.mark.parametrize(("storage", "seen"), [("bc1", 400), ("astc6x6", 5000)])
def test_every_feature_that_a_block_can_have(storage, seen):
    """All pairs of end points of the most codes (in BC1 6 bits, and with them all of 5 bits) with all places: the bits
    of the reference."""
    shape = BLOCK_FORMATS[storage]
    top = max(shape.levels)
    ends, places = torch.arange(top + 1) / top - 0.5, torch.arange(4) / 3 - 0.5
    pairs = torch.cartesian_prod(ends, ends, places)
    n = power_of_two(len(pairs))
    parameters = torch.zeros(n, shape.parameters)
    at = parameters[: len(pairs)]
    at[:, :3], at[:, 3:6], at[:, 6] = pairs[:, :1], pairs[:, 1:2], pairs[:, 2]
    out = torch.empty(n, 4)
    feature_kernel[(1,)](parameters, torch.zeros(1, dtype=torch.int32), out, n, shape.side)
    wanted = blocks.block_features(shape, parameters, torch.zeros(n, dtype=torch.int64))
    assert torch.equal(out[:, :3], wanted) and not out[:, 3].any()
    assert len(wanted[:, 1].unique()) > seen


@pytest.mark.parametrize("name", BLOCK_SHAPES)
def test_samples_and_gradients(name):
    """At any position, between LODs, in tiles beside the first; gradients against float64."""
    model = BLOCK_SHAPES[name]()
    uv, lod = samples(70, model.num_lods)
    assert_close(decode_samples(model, uv, lod), model(uv, lod))
    lod = lod.round().clamp(0, model.num_lods - 1).long()
    compare_gradients(model, uv, lod, torch.randn(70, 11), 1.3)


@pytest.fixture
def case():
    model = make_model(*[(6, 2, 0, 4, "learned", "bc1")] * 2, (7, 1, 0, 6, "linear", "astc6x6"), layers=1)
    uv, lod = samples(70, model.num_lods, whole=True)
    return model, uv, lod, torch.randn(70, 11)


def test_integer_sums_have_no_order(case):
    """See cuda_interpreted.py: two whole blocks of samples, in another order."""
    model, uv, lod, upstream = case
    uv, lod, upstream = (torch.cat([value, value[:58]]) for value in (uv, lod, upstream))
    order = torch.arange(128).roll(64)
    for unit, equal in ((2.0**40, True), (0.0, False)):
        runs = [compare_gradients(model, *given, 0.9, fixed_point=unit)[2:]
                for given in ((uv, lod, upstream), (uv[order], lod[order], upstream[order]))]  # fmt: skip
        assert (differences(*runs) == []) == equal


@pytest.mark.parametrize(("width", "height"), [(1, 1), (13, 9)])
@pytest.mark.parametrize(
    "grid",
    [(12, 3, 0, 4, "linear", "bc1"), (12, 3, 0, 4, "learned", "bc1"), (20, 3, 0, 6, "learned", "astc6x6")],
    ids=lambda grid: " ".join(grid[4:]),
)
def test_decoded_lods(grid, width, height):
    lods = max(width, height).bit_length()
    model = make_model(grid, (2, 2, 0, 4, "linear", "bc1"), lods=lods)
    for lod in range(0, lods, 2):
        size = max(width >> lod, 1), max(height >> lod, 1)
        assert_close(decode_lod(model, lod, *size), model.decode(lod, *size))


# --- sabotage ---------------------------------------------------------------------------------------------------------

rounded_end, rounded_block, numbered_key = block_maths.rounded_end, block_maths.rounded_block, block_maths.numbered_key


@triton.jit
def never_green(value, channel, SIDE: tl.constexpr):
    return rounded_end(value, channel * 0, SIDE)


@triton.jit
def even_ends(value, channel, SIDE: tl.constexpr):
    even = block_maths.code_of(value, 79.0) * (255.0 / 79)
    return even if SIDE == 6 else rounded_end(value, channel, SIDE)


@triton.jit
def even_places(value, SIDE: tl.constexpr):
    return block_maths.code_of(value, 3.0) * (64.0 / 3 if SIDE == 6 else 1.0)


@triton.jit
def weight_as_it_is(value, SIDE: tl.constexpr):
    return (value + 0.5) * (3 if SIDE == 4 else 64)


@triton.jit
def points_swapped(
    parameters, stamps, distance, block, plane, units, channel, texel, seed, iteration, strength,
    GRID: tl.constexpr, SIDE: tl.constexpr, LAZY: tl.constexpr, QUANTIZED: tl.constexpr, NOISY: tl.constexpr,
):  # fmt: skip
    first, second, place = rounded_block(
        parameters, stamps, distance, block, plane, units, channel, texel, seed, iteration, strength, GRID, SIDE,
        LAZY, QUANTIZED, NOISY,
    )  # fmt: skip
    return second, first, place


@triton.jit
def quiet_gradient(
    parameters, stamps, distance, block, plane, units, channel, texel, seed, iteration, strength,
    GRID: tl.constexpr, SIDE: tl.constexpr, LAZY: tl.constexpr, QUANTIZED: tl.constexpr, NOISY: tl.constexpr,
):  # fmt: skip
    return rounded_block(
        parameters, stamps, distance, block, plane, units, channel, texel, seed, iteration, strength, GRID, SIDE,
        LAZY, QUANTIZED, False,
    )  # fmt: skip


@triton.jit
def same_noise(seed, iteration, stream):
    return numbered_key(seed, iteration, stream * 0 + 2)


SABOTAGE = {
    "green with 5 bits": (block_maths, "rounded_end", never_green),
    "no rounding": (block_maths, "rounded_weight", weight_as_it_is),
    "end points of ASTC in even steps": (block_maths, "rounded_end", even_ends),
    "places of ASTC in even steps": (block_maths, "rounded_weight", even_places),
    "one noise for all planes": (block_maths, "numbered_key", same_noise),
    "gradients of the other end": (block_kernels, "rounded_block", points_swapped),
    "gradients without noise": (block_kernels, "rounded_block", quiet_gradient),
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


# at the rate that blocks are trained at, levels from 1x1 on, planes in a stack
TINY = [{"max_resolution": 8, "n_levels": 4, "storage": "bc1"}] * 2 + [{"max_resolution": 1, "storage": "bc1"}]
TINY_BLOCKS = {"hash_grid_configs": TINY, "grid_learning_rate": 0.02, "wrap_interval": 1, "wrap_strength": 0.5}
ASTC = [{"max_resolution": side, "n_levels": n, "storage": "astc6x6"} for side, n in ((14, 2), (7, 1))]
STEP_CASES = {
    **BLOCK_CASES,
    "tiny blocks, ties": (material_of, TINY_BLOCKS),
    "ASTC planes, ties": (
        material_of,
        {"hash_grid_configs": [ASTC[0]] * 2, "wrap_interval": 1, "wrap_strength": 0.5, "grid_learning_rate": 0.02,
         "batch_size": 20},
    ),
    "ASTC and BC1": (material_of, {"hash_grid_configs": [ASTC[0], BLOCKS[1]], "noise_std": 0.0}),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "lazy"),
    [("blocks", False), ("learned blocks", True), ("tiny blocks, ties", True), ("blocks, ties", False),
     ("blocks, noise", False), ("blocks as floats", True),
     ("oblong blocks", False), ("ASTC planes, ties", True), ("ASTC and BC1", False)],
)  # fmt: skip
def test_a_few_steps_equal_the_reference(name, lazy):
    """Seen (November 2026): losses 1e-7 apart."""
    make, values = STEP_CASES[name]
    batch = min(values.get("batch_size", 70), 70)
    values = {**values, **SMALL, "n_hidden_layers": 0, "batch_size": batch}
    engine, reference = cuda_engine_of(make(), lazy, **values), engine_of(TorchEngine, make(), **values)
    self_check.check_engine(engine)
    assert engine.probe() == pytest.approx(reference.probe(), rel=2e-6)
    for n in (1, 1):
        assert engine.step(n) == pytest.approx(reference.step(n), rel=3e-6)
        assert_same_place(engine, reference, moments=1e-5, parameters=2e-6)
        assert not any(grid.gradient.any() or grid.scattered.any() for grid in engine.grids)


RARE = {
    "batch_size": 4, "max_iter": 60, "wrap_interval": 3, "gpu_precision": "float32", "n_hidden_layers": 0,
    "grid_learning_rate": 0.02,
}  # fmt: skip


@pytest.mark.parametrize(("storage", "side"), [("bc1", 40), ("astc6x6", 56)])
def test_blocks_that_are_rarely_seen(storage, side, monkeypatch):
    """Lazy blocks follow Adam from afar, past two sweeps and four syncs of the borders."""
    monkeypatch.setattr(cuda_engine, "SWEEP_INTERVAL", 5)
    values = {**RARE, "hash_grid_configs": [{"max_resolution": side, "n_levels": 2, "storage": storage}]}
    engine, reference = cuda_engine_of(material_of(), True, **values), engine_of(TorchEngine, material_of(), **values)
    for n in (4, 4, 5):
        assert engine.step(n) == pytest.approx(reference.step(n), rel=1e-4)
    stamps = engine.grids[0].stamps
    assert int(stamps.min()) == 10 and int(stamps.max()) == 13  # some lie behind
    engine.sync()
    found, wanted = engine.model.grid_parameters[0].detach(), reference.model.grid_parameters[0].detach()
    assert ((found - wanted).abs() > 2e-5).double().mean() < 2e-3


def test_every_border_texel_is_tied_once():
    grid = GridSpec(12, 3, 0, 4, "linear", "bc1")
    groups = tied_texels(grid, range(1, 3))
    texels = groups[groups >= 0]
    assert len(texels) == len(texels.unique()) == 20 + 44 and int(texels.min()) == 16  # level 0, of 3x3, is left out
    assert tied_texels(GridSpec(1, 1, 0, 4, "linear", "bc1"), range(1)).shape == (0, 4)
    assert tied_texels(GridSpec(2, 1, 0, 4, "linear", "bc1"), range(1)).tolist() == [[0, 4, 1, 5]]
    grid = GridSpec(14, 2, 0, 6, "linear", "astc6x6")
    texels = tied_texels(grid, range(2))
    texels = texels[texels >= 0]
    assert len(texels) == len(texels.unique()) == 24 + 52
    # of the level of 14x14, behind four blocks: 2 columns in the blocks on the right, 2 rows in those below
    wanted = sorted(36 * (4 + y // 6 * 3 + x // 6) + y % 6 * 6 + x % 6 for x, y in
                    itertools.product(range(14), repeat=2) if x in (0, 13) or y in (0, 13))  # fmt: skip
    assert sorted(texels[texels >= 144].tolist()) == wanted


def test_a_grid_of_rate_0_stays():
    grids = [{**BLOCKS[0], "learning_rate": 0.0}, BLOCKS[1]]
    engine = cuda_engine_of(material_of(), True, hash_grid_configs=grids, **SMALL, wrap_interval=1)
    before = [p.detach().clone() for p in engine.model.grid_parameters]
    self_check.check_engine(engine)
    engine.step(2)
    engine.sync()
    assert torch.equal(before[0], engine.model.grid_parameters[0]) and not engine.grids[0].scattered.any()
    assert_no_room_for_moments(engine)
    assert not torch.equal(before[1], engine.model.grid_parameters[1])


# --- states -----------------------------------------------------------------------------------------------------------

RESUMED = {"batch_size": 20, "hash_grid_configs": [*LEARNED_BLOCKS, ASTC[1]], "wrap_interval": 4,
           "gpu_precision": "float32", "deterministic": True, "n_hidden_layers": 0,
           "grid_learning_rate": 0.02}  # fmt: skip


def lazy_blocks(*arguments):
    return CudaEngine(*arguments, lazy=(True, False, False, True))


def test_a_resumed_run_goes_on_bit_for_bit():
    """From between two updates of some blocks, over a tie of the borders."""
    whole = engine_of(lazy_blocks, material_of(), **RESUMED)
    whole.step(3)
    stamps = whole.state()["pending"][0]["stamps"]
    assert stamps.shape == (38,) and len(stamps.unique()) > 1
    other = resumed(lazy_blocks, whole, **RESUMED)
    assert whole.step(2) == other.step(2)
    whole.sync(), other.sync()
    ends = [[engine.state(), [p.detach() for p in engine.model.parameters()]] for engine in (whole, other)]
    assert differences(*ends) == []


@pytest.mark.parametrize(("one", "other"), [(lazy_blocks, TorchEngine), (TorchEngine, lazy_blocks)],
                         ids=lambda kind: kind.__name__)  # fmt: skip
def test_the_other_engine_goes_on(one, other):
    first = engine_of(one, material_of(), **RESUMED)
    first.step(2)
    second = resumed(other, first, **RESUMED)
    for n in (1, 1):
        assert second.step(n) == pytest.approx(first.step(n), rel=1e-5)


# --- the start of a run -----------------------------------------------------------------------------------------------

clear_texels = block_kernels.clear_texels


@triton.jit
def not_cleared(by_texel, block, mask, SIDE: tl.constexpr):
    clear_texels(by_texel, block, mask & (block < 0), SIDE)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_the_self_check_knows_what_is_wrong_with_blocks(precision, monkeypatch):
    values = {**SMALL, "hash_grid_configs": RESUMED["hash_grid_configs"], "gpu_precision": precision}
    engine = engine_of(lazy_blocks, material_of(), **values)
    self_check.check_engine(engine)
    if precision == "tf32":
        with monkeypatch.context() as patch, pytest.raises(KernelsUnavailable, match="grid 0"):
            patch.setattr(block_kernels, "rounded_block", points_swapped)
            self_check.check_gradients(engine)
    else:
        monkeypatch.setattr(block_kernels, "clear_texels", not_cleared)
        with pytest.raises(KernelsUnavailable, match="grid 2 keeps its gradient"):
            self_check.check_iteration(engine)
