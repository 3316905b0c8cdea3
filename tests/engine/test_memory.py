"""What grids take in memory: without training they have no moments, and at rest no kernels' copies."""

from __future__ import annotations

import errno
import gc
from pathlib import Path

import pytest
import torch

from bench.memory import STATUS, memory_of
from common import memory
from engine.adam_state import MOMENTS
from engine.cpu.engine import CpuEngine
from engine.create import at_rest
from engine.torch.engine import TorchEngine
from tests.support.engine_cases import BLOCKS, GRIDS, LEARNED_BLOCKS, engine_of, material_of, moments_of, reloaded
from tests.support.kernel_cases import _kernels  # noqa: F401  # autouse

LARGE = {"max_resolution": 1024, "n_levels": 1, "quantize_bits": 4, "save_bits": 64}  # 16.8 million parameters
PARAMETERS = 4 * 1024**2 * 16  # bytes
linux = pytest.mark.skipif(not STATUS.exists(), reason="memory is read from /proc")
both_kinds = pytest.mark.parametrize("kind", [CpuEngine, TorchEngine])


def still(grids: list[dict], index: int = 0) -> list[dict]:
    """The grids, one of them with a rate of 0."""
    return [{**grid, "learning_rate": 0.0} if place == index else grid for place, grid in enumerate(grids)]


def now() -> int:
    gc.collect()
    return memory_of(STATUS.read_text(), "VmRSS")


@linux
def test_a_grid_that_is_not_trained_takes_its_parameters_alone():
    """4 bytes a parameter, where a trained one takes 16."""
    model = engine_of(TorchEngine, material_of(), hash_grid_configs=[LARGE]).model
    taken = []
    for rate in (0.0, 0.01):
        config = {"hash_grid_configs": [{**LARGE, "learning_rate": rate}]}
        schedule = engine_of(TorchEngine, material_of(), **{**config, "batch_size": 64}).schedule
        before = now()
        engine = CpuEngine(model, material_of(), schedule)
        engine.step(2)
        taken.append((now() - before) / PARAMETERS)
        del engine
    assert 0.9 < taken[0] < 1.5, taken
    assert 3.9 < taken[1] < 5, taken


@both_kinds
@pytest.mark.parametrize("grids", [still(GRIDS), still(GRIDS, 1), still([*BLOCKS[:1] * 4, *BLOCKS]),
                                   still(LEARNED_BLOCKS), [{**g, "learning_rate": 0.0} for g in GRIDS]])  # fmt: skip
def test_a_grid_that_is_not_trained_has_moments_of_0_and_keeps_its_parameters(kind, grids):
    engine = engine_of(kind, material_of(), hash_grid_configs=grids)
    before = [parameters.detach().clone() for parameters in engine.model.grid_parameters]
    moments = moments_of(engine)
    for steps in (3, 2):
        engine.step(steps)
        engine.sync()
        moments = moments_of(engine)
        assert sorted(moments) == list(range(len(engine.model.weights) + len(grids)))
        for index, grid in enumerate(grids):
            entry = moments[len(engine.model.weights) + index]
            frozen = grid.get("learning_rate") == 0
            assert float(entry["step"]) == engine.iteration
            assert any(entry[name].any() for name in MOMENTS) != frozen
            assert torch.equal(engine.model.grid_parameters[index], before[index]) == frozen


@both_kinds
@pytest.mark.parametrize("other", [CpuEngine, TorchEngine])
def test_a_run_with_a_still_grid_goes_on_from_its_state(kind, other):
    """Also from the other engine's, and from a state in which the grid had been trained until then."""
    grids = still(GRIDS)
    engine, whole = (engine_of(kind, material_of(), hash_grid_configs=grids) for _ in range(2))
    engine.step(5)
    engine.sync()
    following = engine_of(other, material_of(), hash_grid_configs=grids)
    for mine, theirs in zip(following.model.parameters(), engine.model.parameters()):
        mine.data.copy_(theirs)
    following.load_state(reloaded(engine.state()))
    assert whole.step(5) > 0
    assert following.step(5) == pytest.approx(whole.step(5), rel=1e-4)
    trained = engine_of(kind, material_of())
    trained.step(5)
    trained.sync()
    for mine, theirs in zip(following.model.parameters(), trained.model.parameters()):
        mine.data.copy_(theirs)
    following.load_state(reloaded(trained.state()))
    wanted = following.model.grid_parameters[0].detach().clone()
    following.step(2)
    following.sync()
    assert torch.equal(following.model.grid_parameters[0], wanted)
    assert not moments_of(following)[len(trained.model.weights)]["exp_avg"].any()


def test_the_reference_has_no_gradients_where_nothing_is_trained_and_lets_the_others_go():
    engine = engine_of(TorchEngine, material_of(), hash_grid_configs=still(GRIDS))
    engine.step(2)
    first, second = engine.model.grid_parameters
    assert first.grad is None and not engine.optimizer.state[first] and engine.optimizer.state[second]
    engine.sync()
    assert second.grad is None and all(weight.grad is None for weight in engine.model.weights)


@linux
@pytest.mark.parametrize("on_disk", [False, True])
def test_coming_to_rest_takes_no_more_than_training(on_disk, tmp_path):
    """Moments fill what the kernels' records leave; with a folder for them they leave memory."""
    engine = engine_of(CpuEngine, material_of(), hash_grid_configs=[LARGE, {**GRIDS[1], "learning_rate": 0.0}])
    engine.step(2)
    engine.sync()
    before = now()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins again
    except OSError as error:
        pytest.skip(f"a process cannot reset its peak here ({error})")
    resting = at_rest(engine, tmp_path if on_disk else None)
    risen = (memory_of(STATUS.read_text(), "VmHWM") - before) / PARAMETERS
    del engine
    left = (before - now()) / PARAMETERS
    assert risen < 0.5  # 2 without that; a band of each thread
    assert (3.5 if on_disk else 1.5) < left < (4.3 if on_disk else 2.3)  # 4 and stamps went, moments are 2
    assert moments_of(resting)[len(resting.model.weights)]["exp_avg_sq"].any()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("full", [False, True])
def test_moments_on_disk_are_those_in_memory(full, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "LARGE_FLOATS", 2)
    if full:
        monkeypatch.setattr(memory.os, "posix_fallocate", no_room, raising=False)
    states = []
    for folder in (None, tmp_path):
        engine = engine_of(CpuEngine, material_of(), hash_grid_configs=[*BLOCKS[:1] * 3, *GRIDS])
        engine.step(7)
        states.append(reloaded(at_rest(engine, folder).state()))
    one, other = (state["optimizer"] for state in states)
    assert sorted(one) == sorted(other) and len(one) == len(engine.model.weights) + 5
    assert all(torch.equal(one[index][name], other[index][name]) for index in one for name in MOMENTS)
    for moment in (other[len(engine.model.weights) + index]["exp_avg"] for index in range(5)):
        assert moment.untyped_storage().nbytes() == 4 * moment.numel()  # in a file, too, each has its own numbers alone
    assert not list(tmp_path.iterdir())


def no_room(*_) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
