"""An engine after its last step: in the model's own memory, with what a checkpoint keeps of it."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from engine.adam_state import up_to_date
from engine.cpu.engine import CpuEngine
from engine.create import at_rest
from engine.torch.engine import TorchEngine
from tests.support.engine_cases import engine_of, material_of


@pytest.mark.parametrize("kind", [CpuEngine, TorchEngine])
@pytest.mark.parametrize("steps", [1, 40])
def test_an_engine_at_rest_has_the_state_and_lets_the_kernels_go(kind, steps):
    engine = engine_of(kind, material_of(), max_iter=steps)
    engine.step(steps)
    state, probe, model = engine.state(), engine.probe(), engine.model
    engine.sync()
    moments, parameters = up_to_date(state, model), [p.detach().clone() for p in model.parameters()]
    resting = at_rest(engine)
    kernels = weakref.ref(engine) if resting is not engine else None
    del engine
    gc.collect()
    assert kernels is None or kernels() is None
    assert resting.iteration == steps and resting.model is model and resting.channels
    assert all(torch.equal(p, before) for p, before in zip(model.parameters(), parameters))
    assert resting.probe() == pytest.approx(probe, rel=1e-4)
    after = resting.state()
    assert "pending" not in after and after["iteration"] == steps
    for index, entry in moments.items():
        assert float(after["optimizer"][index]["step"]) == steps
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.allclose(after["optimizer"][index][name].view(-1), entry[name].view(-1), rtol=1e-4, atol=1e-30)


def test_another_engine_goes_on_from_it():
    engine, whole = (engine_of(CpuEngine, material_of(), max_iter=20) for _ in range(2))
    engine.step(10)
    state = at_rest(engine).state()
    other = engine_of(CpuEngine, material_of(), max_iter=20)
    for mine, theirs in zip(other.model.parameters(), engine.model.parameters()):
        mine.data.copy_(theirs)
    other.load_state(state)
    whole.step(10)
    assert other.step(10) == pytest.approx(whole.step(10), rel=1e-4)
