"""What the tests of engine/cuda in Triton's interpreter share; importing it needs Triton."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

import tests.support.triton_interpreter  # noqa: F401  # before a kernel runs
from engine.adam_state import MOMENTS
from engine.cuda import self_check
from engine.cuda.decoder import differentiate
from engine.cuda.engine import CudaEngine
from model import Noise
from quantize import stream_key
from tests.support.engine_cases import GRIDS, engine_of, reloaded
from tests.support.kernel_cases import assert_close, exact_gradients

SMALL = {"batch_size": 70, "gpu_precision": "float32"}
CHECKED = self_check.SAMPLES


@triton.jit
def loop_kernel(out, n):
    for i in tl.range(tl.program_id(0), n, 2):
        tl.store(out + i, 1.0)


@pytest.fixture(autouse=True, scope="session")
def _loops():
    """Skips where the interpreter does not work; and the self-check has two blocks of samples instead of eight."""
    self_check.SAMPLES = 128
    out = torch.zeros(4)
    try:
        loop_kernel[(1,)](out, 4)
    except Exception as error:  # seen with Triton 3.6 and NumPy 2.4
        pytest.skip(f"the interpreter of Triton {triton.__version__} cannot loop with this NumPy: {error}")
    assert out.tolist() == [1, 0, 1, 0]


def seen_inputs(model, uv, lod, strength):
    """See test_cpu_kernels.seen_inputs: the network's inputs through networks without layers."""
    parts, count = [], model.weights[0].shape[1]
    for first in range(0, count, 11):
        columns = range(first, min(first + 11, count))
        with torch.no_grad():
            model.weights[0].zero_()
            for row, column in enumerate(columns):
                model.weights[0][row, column] = 1
        out = differentiate(model, uv, lod, torch.zeros(len(uv), 11), strength, 3, 17)[0]
        parts.append(out[:, : len(columns)])
    return torch.cat(parts, dim=1)


def compare_gradients(model, uv, lod, upstream, strength, tolerance=4e-6, **options):
    noise = Noise(strength, tuple(stream_key(3, 17, 2 + i) for i in range(len(model.grids)))) if strength else None
    out, of_weights, of_grids = differentiate(model, uv, lod, upstream, strength, 3, 17, **options)
    wanted, exact_weights, exact_grids = exact_gradients(model, uv, lod, upstream, noise)
    assert_close(out, wanted, tolerance)
    for found, exact in zip([*of_weights, *of_grids], [*exact_weights, *exact_grids]):
        assert exact.abs().max() > 0
        assert_close(found, exact, tolerance)
    for found, exact in zip(of_grids, exact_grids):
        assert torch.equal(found != 0, exact != 0)  # no texel got a gradient but those that were looked at
    return [*of_weights, *of_grids]


def cuda_engine_of(material, lazy, **values) -> CudaEngine:
    grids = len(values.get("hash_grid_configs", GRIDS))
    return engine_of(lambda *arguments: CudaEngine(*arguments, lazy=(lazy,) * grids), material, **values)


def assert_no_room_for_moments(engine: CudaEngine):
    """The first grid, which is not trained, has its parameters alone; in a state its moments are 0."""
    grid, place = engine.grids[0], len(engine.model.weights)
    assert not grid.lazy and grid.parameters.numel() == grid.grid.n_parameters
    assert grid.moments.numel() == 2 and grid.scattered.numel() == grid.gradient.numel() == 1
    entry = engine.state()["optimizer"][place]
    for name in MOMENTS:
        assert entry[name].shape == engine.model.grid_parameters[0].shape and not entry[name].any()
    assert engine.state()["optimizer"][place + 1]["exp_avg_sq"].any()


def resumed(kind, engine, **values):
    """A new engine that goes on from another's parameters and state, as they come from a file."""
    engine.sync()
    saved = reloaded({"model": engine.model.state_dict(), "engine": engine.state()})
    other = engine_of(kind, engine.material, **values)
    other.model.load_state_dict(saved["model"])
    other.load_state(saved["engine"])
    return other
