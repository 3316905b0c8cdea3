"""engine/cuda with --positions filtered in Triton's interpreter; test_cuda.py runs it with TRITON_INTERPRET=1."""

from __future__ import annotations

import json

import pytest
import torch
import triton
import triton.language as tl

import train
from engine.cuda import engine as cuda_engine
from engine.cuda import inputs, kernels, network, self_check
from engine.cuda.engine import CudaEngine
from engine.cuda.plan import SamplePositions
from engine.errors import KernelsUnavailable
from engine.sampling import FilteredSampler, fraction_of_draw
from engine.torch.engine import TorchEngine
from quantize import _to_int32
from tests.support.engine_cases import (
    BLOCKS,
    CPU,
    FILTERED,
    FILTERED_CASES,
    GRIDS,
    assert_same_place,
    engine_of,
    material_of,
)
from tests.support.kernel_cases import make_model, noise_of, samples
from tests.support.runs import differences, newest_run, save_maps
from tests.support.triton_cases import (  # noqa: F401
    SMALL,
    _loops,
    compare_gradients,
    cuda_engine_of,
    resumed,
    seen_inputs,
)

# --- samples ---------------------------------------------------------------------------------------------------------


@triton.jit
def draw_kernel(numbers, boundaries, out, looks, N: tl.constexpr, POSITIONS: tl.constexpr):
    at = tl.arange(0, N)
    seed, iteration = tl.load(numbers).to(tl.uint32), tl.load(numbers + 1).to(tl.uint32)
    lod, u, v = inputs.draw_anywhere(at.to(tl.uint32), seed, iteration, boundaries, POSITIONS)
    tl.store(out + at, lod)
    tl.store(out + N + at, u)
    tl.store(out + 2 * N + at, v)
    near, far, share = inputs.around(lod)
    tl.store(out + 3 * N + at, near.to(tl.float32))
    tl.store(out + 4 * N + at, far.to(tl.float32))
    tl.store(out + 5 * N + at, share)
    lod, u, v, alive = inputs.draw_look(at, seed, iteration, N // 4, boundaries, boundaries, boundaries, POSITIONS)
    tl.store(looks + at, lod.to(tl.float32))
    tl.store(looks + N + at, u)
    tl.store(looks + 2 * N + at, v)
    tl.store(looks + 3 * N + at, alive.to(tl.float32))


@pytest.mark.parametrize("whole", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize(("seed", "iteration"), [(0, 0), (2**31 - 1, 12345)])
def test_draws_are_those_of_the_sampler(whole, seed, iteration):
    """Bit for bit, and the looks of each sample: at the LODs around it, the second where it lies between them."""
    n, material = 512, material_of(33, 50)
    positions = SamplePositions(True, fraction_of_draw(whole))
    numbers, boundaries = torch.tensor([_to_int32(seed), iteration], dtype=torch.int32), torch.zeros(16)
    boundaries.copy_(engine_of(CudaEngine, material)._samples["boundaries"])
    out, looks = torch.zeros(6, n), torch.zeros(4, n)
    draw_kernel[(1,)](numbers, boundaries, out, looks, n, positions.constant)
    uv, lod = FilteredSampler(material.lod_sizes, seed, n, CPU, whole).draw_positions(iteration)
    assert torch.equal(out[0], lod) and torch.equal(out[1:3].T, uv)
    assert torch.equal(out[3:], torch.stack((lod.floor(), lod.ceil(), lod % 1)))
    assert len(lod.floor().unique()) > 3 and bool((lod % 1 > 0).any()) == (whole < 1)

    there, found = looks[3] > 0, []
    for i in range(n // 4):
        found += [(i, float(lod[i].floor()))] + [(i, float(lod[i].ceil()))] * bool(lod[i] % 1 > 0)
    sample = torch.arange(n)[there] // positions.looks
    assert list(zip(sample.tolist(), looks[0, there].tolist())) == found
    assert torch.equal(looks[1:3, there].T, uv[sample])


@triton.jit
def target_kernel(codes8, codes16, columns, sizes, offsets, lod, uv, out, N: tl.constexpr, BLENDED: tl.constexpr,
                  C8: tl.constexpr, C16: tl.constexpr):  # fmt: skip
    at = tl.arange(0, N)
    column = tl.load(columns + tl.arange(0, 16))[None, :]
    near, far, share = inputs.around(tl.load(lod + at))
    codes = kernels.filtered_codes(codes8, codes16, column, sizes, offsets, near, tl.load(uv + 2 * at),
                                   tl.load(uv + 2 * at + 1), far, share, BLENDED, C8, C16)  # fmt: skip
    tl.store(out + at[:, None] * 16 + tl.arange(0, 16)[None, :], kernels.values_of(codes, column, C8, C16))


@pytest.mark.parametrize("blended", [True, False])
@pytest.mark.parametrize(
    ("width", "height", "bits"),
    [(37, 21, {}), (1, 1, {}), (1, 5, {"diffuse": 8}), (16, 8, {"diffuse": 16, "roughness": 8}),
     (9, 9, {"normal": 16})],
)  # fmt: skip
def test_targets_are_the_filtered_source(width, height, bits, blended):
    """Across the borders, at texel centres and anywhere, at whole LODs and between."""
    material, n = material_of(width, height, **bits), 64
    engine = engine_of(CudaEngine, material)
    uv, lod = torch.rand(n, 2), torch.rand(n) * (material.num_lods - 1)
    lod = torch.where(torch.arange(n) % 3 > 0, lod, lod.round()) if blended else lod.round()
    uv[:8] = torch.tensor([0.0, 0.5 / width, 1 - 2**-24, 0.5]).repeat(2)[:, None]
    out = torch.zeros(n, 16)
    target_kernel[(1,)](material.codes8, material.codes16, engine._target["target_columns"],
                        engine._samples["lod_sizes"], engine._samples["lod_offsets"], lod, uv, out, n, blended,
                        material.codes8.shape[1], material.codes16.shape[1])  # fmt: skip
    present = material.present_channels.tolist()
    torch.testing.assert_close(out[:, present], material.filtered(uv, lod), rtol=0, atol=1e-6)
    assert not out[:, [c for c in range(16) if c not in present]].any()


# --- features and gradients between LODs -----------------------------------------------------------------------------

PLANE, ASTC = (10, 2, 0, 4, "linear", "bc1"), (8, 2, 0, 6, "linear", "astc6x6")
SHAPES = {
    "words": lambda: make_model((12, 3, 4, 32), (5, 1, 8, 16), lods=5, texel_frequencies=2),
    "floats": lambda: make_model((8, 2, 4, 16), quantized=False, layers=2),
    "no layers": lambda: make_model((1, 1, 4, 32), (6, 2, 8, 8), lods=2, layers=0, seamless=False),
    "blocks": lambda: make_model(PLANE, PLANE, ASTC, (4, 2, 8, 32), texel_frequencies=1),
}


def between(model, n=70):
    """Positions, and LODs of the model: whole, and between two."""
    uv, lod = samples(n, model.num_lods)
    return uv, lod.clamp(0, model.num_lods - 1)


@pytest.mark.parametrize("grids", [[(12, 3, 4, 32), (5, 1, 8, 16)], [PLANE, PLANE, ASTC]],
                         ids=["words", "blocks"])  # fmt: skip
def test_inputs_are_blended(grids):
    """Noisy rounded features and texel waves of both LODs; the LOD itself is one number."""
    model = make_model(*grids, layers=0, texel_frequencies=2)
    (uv, lod), noise = between(model, 60), noise_of(model, 1.7)
    found = seen_inputs(model, uv, lod, 1.7)
    with torch.no_grad():
        lower = lod.floor().long()
        upper = (lower + 1).clamp(max=model.num_lods - 1)
        near, far = (model._inputs(uv, at, lod, noise) for at in (lower, upper))
        wanted = torch.lerp(near, far, (lod - lower)[:, None])
    used = [c for c in range(found.shape[1]) if c not in model.unused_inputs]
    torch.testing.assert_close(found[:, used], wanted[:, used], rtol=0, atol=1e-6)
    assert (near - far)[lod % 1 > 0].abs().max() > 0.3


@pytest.mark.parametrize("name", SHAPES)
def test_gradients(name):
    """Against float64."""
    model = SHAPES[name]()
    compare_gradients(model, *between(model), torch.randn(70, 11), 1.3)


@pytest.mark.parametrize("name", ["words", "blocks"])
def test_integer_sums_have_no_order(name):
    """See cuda_interpreted.py: two whole blocks of samples, in another order."""
    model = SHAPES[name]()
    uv, lod = between(model)
    given = [torch.cat([value, value[:58]]) for value in (uv, lod, torch.randn(70, 11))]
    order = torch.arange(128).roll(64)
    runs = [compare_gradients(model, *parts, 0.9, fixed_point=2.0**40)[len(model.weights) :]
            for parts in (given, [value[order] for value in given])]  # fmt: skip
    assert differences(*runs) == []


# --- sabotage ---------------------------------------------------------------------------------------------------------

around, scatter, bilinear_codes = inputs.around, network.scatter, kernels.bilinear_codes


@triton.jit
def always_near(lod):
    near, far, share = around(lod)
    return near, far, share * 0


@triton.jit
def far_is_near(lod):
    near, _, share = around(lod)
    return near, near, share


@triton.jit
def nothing_far(gradients, upstream, levels, lod, u, v, alive, CORNER: tl.constexpr, WIDTH: tl.constexpr,
                F: tl.constexpr, LEARNED: tl.constexpr, FIXED_POINT: tl.constexpr):  # fmt: skip
    scatter(gradients, upstream, levels, lod, u, v, alive & (lod == 0), CORNER, WIDTH, F, LEARNED, FIXED_POINT)


@triton.jit
def nearest_codes(codes8, codes16, column, lod_sizes, lod_offsets, lod, u, v, C8: tl.constexpr, C16: tl.constexpr):
    width, height = tl.load(lod_sizes + 2 * lod).to(tl.float32), tl.load(lod_sizes + 2 * lod + 1).to(tl.float32)
    u, v = (tl.floor(u * width) + 0.5) / width, (tl.floor(v * height) + 0.5) / height
    return bilinear_codes(codes8, codes16, column, lod_sizes, lod_offsets, lod, u, v, C8, C16)


SABOTAGE = {
    "LODs are not blended": (kernels, "around", always_near),
    "one LOD is read": (kernels, "around", far_is_near),
    "one LOD is trained": (network, "scatter", nothing_far),
    "the source is not filtered": (kernels, "bilinear_codes", nearest_codes),
}


@pytest.mark.parametrize("name", [None, *SABOTAGE])
def test_the_self_check_knows_what_is_wrong(name, monkeypatch):
    engine = engine_of(CudaEngine, material_of(), **{**SMALL, **FILTERED, "n_hidden_layers": 0})
    if name is None:
        self_check.check_engine(engine)
        return
    monkeypatch.setattr(*SABOTAGE[name])
    with pytest.raises(KernelsUnavailable, match="self-check"):
        self_check.check_gradients(engine)


# --- whole steps ------------------------------------------------------------------------------------------------------

CASES = {
    **FILTERED_CASES,
    "filtered ASTC blocks": (
        material_of,
        {**FILTERED, "hash_grid_configs": [{"max_resolution": side, "n_levels": 2, "storage": "astc6x6"}
                                           for side in (14, 10)], "wrap_interval": 2},
    ),
}  # fmt: skip
STEPS = {  # and whether grids are lazy
    "filtered": False, "filtered, 16 bits first": False, "filtered, texel waves": True, "filtered blocks": False,
    "filtered, learned in bands": True, "filtered learned blocks": True, "filtered 3x1": True,
    "filtered ASTC blocks": False,
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_a_few_steps_equal_the_reference(name):
    """Seen (November 2026) of all FILTERED_CASES, each with dense and with lazy grids: losses 2e-7 apart."""
    make, values = CASES[name]
    values = {**values, **SMALL, "n_hidden_layers": 0}
    engine, reference = cuda_engine_of(make(), STEPS[name], **values), engine_of(TorchEngine, make(), **values)
    for n in (1, 1):
        assert engine.step(n) == pytest.approx(reference.step(n), rel=3e-6)
        assert_same_place(engine, reference, moments=1e-5, parameters=2e-6)
    assert not any(grid.gradient.any() or grid.scattered.any() for grid in engine.grids)


RARE = {**FILTERED, "batch_size": 6, "max_iter": 60, "wrap_interval": 3, "gpu_precision": "float32",
        "n_hidden_layers": 0, "grid_learning_rate": 0.02}  # fmt: skip


@pytest.mark.parametrize("grid", [{"max_resolution": 32, "n_levels": 3, "quantize_bits": 4, "save_bits": 16},
                                  {"max_resolution": 48, "n_levels": 3, "storage": "bc1"},
                                  {"max_resolution": 56, "n_levels": 3, "storage": "astc6x6"}],
                         ids=["words", "blocks", "ASTC blocks"])  # fmt: skip
def test_texels_that_are_rarely_seen(grid, monkeypatch):
    """Lazy texels and blocks of both LODs follow Adam from afar, past two sweeps."""
    monkeypatch.setattr(cuda_engine, "SWEEP_INTERVAL", 3)
    values = {**RARE, "hash_grid_configs": [grid]}
    engine, reference = cuda_engine_of(material_of(), True, **values), engine_of(TorchEngine, material_of(), **values)
    for n in (2, 2, 3):
        assert engine.step(n) == pytest.approx(reference.step(n), rel=1e-4)
    stamps = engine.grids[0].stamps
    assert int(stamps.min()) == 6 and int(stamps.max()) == 7
    engine.sync()
    found, wanted = engine.model.grid_parameters[0].detach(), reference.model.grid_parameters[0].detach()
    assert ((found - wanted).abs() > 2e-5).double().mean() < 2e-3


def test_the_probe_stays_at_texel_centres():
    one, other = (engine_of(CudaEngine, material_of(), **SMALL, positions=p) for p in ("centres", "filtered"))
    assert one.probe() == other.probe()
    assert one.step(1) != other.step(1)


# --- states -----------------------------------------------------------------------------------------------------------


def lazy_first(*arguments):
    return CudaEngine(*arguments, lazy=(True, *(False,) * (len(arguments[0].grids) - 1)))


@pytest.mark.parametrize("grids", [GRIDS, BLOCKS], ids=["words", "blocks"])
def test_a_resumed_run_goes_on_bit_for_bit(grids):
    """From between two updates of some texels or blocks, over a tie of the borders."""
    values = {**FILTERED, "batch_size": 20, "hash_grid_configs": grids, "wrap_interval": 3, "gpu_precision": "float32",
              "deterministic": True, "n_hidden_layers": 0}  # fmt: skip
    whole = engine_of(lazy_first, material_of(), **values)
    whole.step(2)
    assert len(whole.state()["pending"][0]["stamps"].unique()) > 1
    other = resumed(lazy_first, whole, **values)
    assert whole.step(1) == other.step(1)
    whole.sync(), other.sync()
    ends = [[engine.state(), [p.detach() for p in engine.model.parameters()]] for engine in (whole, other)]
    assert differences(*ends) == []


def test_the_other_engine_goes_on():
    values = {**FILTERED, **SMALL, "batch_size": 20, "n_hidden_layers": 0}
    first = engine_of(lazy_first, material_of(), **values)
    first.step(2)
    second = resumed(TorchEngine, first, **values)
    for n in (1, 1):
        assert second.step(n) == pytest.approx(first.step(n), rel=1e-5)


def test_a_run_of_the_command(tmp_path):
    """Trained, evaluated and resumed: what the cpu engine reaches, at texel centres and filtered."""
    maps = save_maps(tmp_path / "maps", 8, 8)
    shape = ["--n_neurons", "16", "--n_hidden_layers", "0", "--n_frequencies", "2", "--batch_size", "32"]
    flags = ["--data_dir", str(maps), "--device", "cpu", "--max_iter", "2", "--refine", "0", "--eval_metrics", "psnr",
             "--positions", "filtered"]  # fmt: skip
    reached = {}
    for engine in ("cuda", "cpu"):
        out = tmp_path / engine
        assert train.main([*flags, *shape, "--save_dir", str(out), "--engine", engine]) == 0
        metrics = json.loads((newest_run(out) / "metrics.json").read_text())
        reached[engine] = [metrics[name]["all"] for name in ("psnr", "psnr_filtered")]
    assert reached["cuda"] == pytest.approx(reached["cpu"], abs=0.1)
    run = newest_run(tmp_path / "cuda")
    assert train.main(["--load_dir", str(run), "--max_iter", "3", "--engine", "cuda", "--device", "cpu"]) == 0
    assert next(run.glob("models/*_3/model.pth")).exists()
