"""engine/cuda on a GPU, at real shapes: gradients, whole runs, CUDA graphs, the same bits."""

from __future__ import annotations

import math

import pytest
import torch

from configs import make_config
from engine.cpu.engine import CpuEngine
from engine.create import create_engine
from engine.cuda.decoder import decode_lod, decode_samples, differentiate
from engine.cuda.engine import CudaEngine
from engine.cuda.self_check import check_engine
from engine.schedule import Schedule
from engine.torch.engine import TorchEngine
from model import Noise, build_model
from quantize import stream_key
from tests.support.engine_cases import BASE, LEARNED, material_of
from tests.support.kernel_cases import (
    BLOCK_SHAPES,
    SHAPES,
    assert_close,
    channels_of,
    exact_gradients,
    make_model,
    samples,
)
from tests.support.runs import differences

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda")
REAL = {"batch_size": 8192, "n_neurons": 64, "n_hidden_layers": 2, "n_frequencies": 12, "max_iter": 600,
        "hash_grid_configs": [{"max_resolution": 256, "n_levels": 8, "quantize_bits": 2, "save_bits": 16,
                               "interpolation": "learned"},
                              {"max_resolution": 90, "n_levels": 1, "quantize_bits": 4, "save_bits": 32}]}  # fmt: skip

HALF, QUARTER = ({"max_resolution": side, "storage": "bc1"} for side in (256, 128))
BLOCKS = {**REAL, "hash_grid_configs": [{**HALF, "interpolation": "learned"}] * 2 + [QUARTER] * 2,
          "grid_learning_rate": 0.02}  # fmt: skip
ASTC_BLOCKS = {
    **BLOCKS,
    "hash_grid_configs": [{**plane, "storage": "astc6x6"} for plane in BLOCKS["hash_grid_configs"]],
}
FILTERED = {  # words that are blended between LODs, learned ones, which are not, and blocks
    "words": {**REAL, "positions": "filtered", "hash_grid_configs": [{**REAL["hash_grid_configs"][0],
                                                                      "interpolation": "linear"}]},
    "learned": {**REAL, "positions": "filtered"},
    "blocks": {**BLOCKS, "positions": "filtered", "hash_grid_configs": [HALF] * 2 + [QUARTER] * 2},
}  # fmt: skip


def engine_on(kind, material, device=GPU, lazy=None, **values):
    config = make_config({**BASE, **values})
    model = build_model(config, material.width, material.height, material.present_channels.tolist()).to(device)
    options = {} if lazy is None else {"lazy": lazy}
    return kind(model, material, Schedule(config), **options)


@pytest.mark.parametrize("precision", ["ieee", "tf32", "bf16"])
@pytest.mark.parametrize("name", [*SHAPES, *BLOCK_SHAPES])
def test_gradients(name, precision):
    """Against float64; tf32 keeps 10 bits of each factor, bf16 7, and sums that end on the other side of 0 have
    another derivative. Not measured yet: the tolerances are a guess."""
    model = {**SHAPES, **BLOCK_SHAPES}[name]()
    channels = channels_of(name) if name in SHAPES else list(range(11))
    uv, lod = samples(5000, model.num_lods, whole=True)
    upstream = torch.zeros(5000, model.decoder.outputs)
    upstream[:, channels] = torch.randn(5000, len(channels))
    noise = Noise(1.3, tuple(stream_key(3, 17, 2 + i) for i in range(len(model.grids))))
    wanted, of_weights, of_grids = exact_gradients(model, uv, lod, upstream, noise)
    model = model.to(GPU)
    found = differentiate(model, uv.to(GPU), lod.to(GPU), upstream.to(GPU), 1.3, 3, 17, precision, programs=40)
    for one, other in zip([found[0], *found[1], *found[2]], [wanted, *of_weights, *of_grids]):
        assert other.abs().max() > 0
        apart = float((one.cpu().double() - other).norm() / other.norm())
        assert apart < {"ieee": 5e-3, "tf32": 6e-2, "bf16": 0.25}[precision], apart


@pytest.mark.parametrize("precision", ["ieee", "tf32", "bf16"])
@pytest.mark.parametrize("name", ["two grids", "three levels of 12", "texel waves only", "blocks"])
def test_gradients_between_lods(name, precision):
    """Of linear grids, as in test_gradients."""
    model = SHAPES[name]()
    uv, lod = samples(5000, model.num_lods)
    lod, upstream = lod.clamp(0, model.num_lods - 1), torch.randn(5000, 11)
    noise = Noise(1.3, tuple(stream_key(3, 17, 2 + i) for i in range(len(model.grids))))
    wanted, of_weights, of_grids = exact_gradients(model, uv, lod, upstream, noise)
    model = model.to(GPU)
    found = differentiate(model, uv.to(GPU), lod.to(GPU), upstream.to(GPU), 1.3, 3, 17, precision, programs=40)
    for one, other in zip([found[0], *found[1], *found[2]], [wanted, *of_weights, *of_grids]):
        apart = float((one.cpu().double() - other).norm() / other.norm())
        assert apart < {"ieee": 5e-3, "tf32": 6e-2, "bf16": 0.25}[precision], apart


@pytest.mark.parametrize("interpolation", ["linear", "learned"])
def test_decoding(interpolation):
    model = make_model((48, 5, 4, 32, interpolation), (20, 1, 8, 16), lods=9, neurons=64, layers=2).to(GPU)
    assert_close(decode_lod(model, 0, 400, 130), model.decode(0, 400, 130), 2e-5)
    assert_close(decode_lod(model, 0, 400, 130, slice(50, 90)), decode_lod(model, 0, 400, 130)[50:90], 1e-7)
    uv, lod = (value.to(GPU) for value in samples(5000, 9))
    assert_close(decode_samples(model, uv, lod), model(uv, lod), 2e-5)


def test_decoding_blocks():
    model = make_model(*[(48, 5, 0, 4, "learned", "bc1")] * 2, (20, 1, 0, 6, "linear", "astc6x6"), lods=9).to(GPU)
    assert_close(decode_lod(model, 0, 400, 130), model.decode(0, 400, 130), 2e-5)
    uv, lod = (value.to(GPU) for value in samples(5000, 9))
    assert_close(decode_samples(model, uv, lod), model(uv, lod), 2e-5)


@pytest.mark.parametrize(("lazy", "batch"), [(False, 8192), (True, 8192), (True, 2048), (False, 300)])
def test_steps_equal_the_reference(lazy, batch):
    """With large and with small blocks of samples, see block_size.py."""
    values = {**REAL, "gpu_precision": "float32", "batch_size": batch}
    engine = engine_on(CudaEngine, material_of(512, 300), lazy=(lazy, lazy), **values)
    reference = engine_on(TorchEngine, material_of(512, 300), **values)
    check_engine(engine)
    for iteration in range(30):
        assert engine.step(1) == pytest.approx(reference.step(1), rel=1e-5 if iteration < 5 else 1e-3)


@pytest.mark.parametrize("form", [BLOCKS, ASTC_BLOCKS], ids=["bc1", "astc6x6"])
@pytest.mark.parametrize("lazy", [False, True])
def test_steps_of_blocks_equal_the_reference(lazy, form):
    values = {**form, "gpu_precision": "float32"}
    engine = engine_on(CudaEngine, material_of(512, 300), lazy=(lazy,) * 4, **values)
    reference = engine_on(TorchEngine, material_of(512, 300), **values)
    check_engine(engine)
    for iteration in range(30):
        assert engine.step(1) == pytest.approx(reference.step(1), rel=1e-5 if iteration < 5 else 1e-3)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("form", FILTERED)
def test_filtered_steps_equal_the_reference(form, lazy):
    values = {**FILTERED[form], "gpu_precision": "float32"}
    lazy = (lazy,) * len(values["hash_grid_configs"])
    engine = engine_on(CudaEngine, material_of(512, 300), lazy=lazy, **values)
    reference = engine_on(TorchEngine, material_of(512, 300), **values)
    check_engine(engine)
    for iteration in range(30):
        assert engine.step(1) == pytest.approx(reference.step(1), rel=1e-5 if iteration < 5 else 1e-3)


@pytest.mark.parametrize("form", FILTERED)
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_the_self_check_passes_at_filtered_positions(precision, form):
    check_engine(engine_on(CudaEngine, material_of(512, 300), **FILTERED[form], gpu_precision=precision))


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_psnr_of_a_run(precision):
    """Within 0.1 dB of the cpu engine at equal samples."""
    material = material_of(256, 256, noise=0.03, diffuse=8, normal=8, roughness=8)

    def psnr(engine):
        engine.step(600)
        engine.sync()
        error = (engine.model.to("cpu").decode(0, 256, 256) - material.texels(0))[..., material.present_channels]
        return -10 * math.log10(error.square().mean())

    reached = psnr(engine_on(CpuEngine, material, torch.device("cpu"), **REAL))
    assert psnr(engine_on(CudaEngine, material, **REAL, gpu_precision=precision)) == pytest.approx(reached, abs=0.1)


def test_a_graph_is_the_same_as_its_kernels(monkeypatch):
    """Integer sums, so that they can be compared bit for bit; past a sweep."""
    values = {**REAL, "deterministic": True, "max_iter": 2000}
    runs = []
    for eager in (True, False):
        engine = engine_on(CudaEngine, material_of(200, 300), lazy=(True, False), **values)
        if eager:
            monkeypatch.setattr(engine, "_run", engine._run_eagerly)
        losses = [engine.step(n) for n in (1, 60, 1000)]
        engine.sync()
        runs.append([losses, engine.state(), [p.detach().cpu() for p in engine.model.parameters()]])
    assert differences(*runs) == []


@pytest.mark.parametrize(
    "form", [REAL, BLOCKS, ASTC_BLOCKS, *FILTERED.values()],
    ids=["packed", "blocks", "ASTC blocks", *(f"filtered {name}" for name in FILTERED)],
)  # fmt: skip
def test_deterministic_runs_are_equal(form):
    values = {**form, "deterministic": True}
    runs = []
    for parts in ((90,), (40, 50)):
        engine = engine_on(CudaEngine, material_of(200, 300), **values)
        for n in parts:
            engine.step(n)
        engine.sync()
        runs.append([engine.state(), [p.detach().cpu() for p in engine.model.parameters()]])
    assert differences(*runs) == []


def test_auto_takes_the_kernels():
    said = []
    material = material_of()
    config = make_config({**BASE, "hash_grid_configs": LEARNED})
    model = build_model(config, material.width, material.height, material.present_channels.tolist()).to(GPU)
    assert type(create_engine(model, material, Schedule(config), GPU, said.append)) is CudaEngine, said
    assert said == []
