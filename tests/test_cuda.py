"""engine/cuda without a GPU: its kernels interpreted, compiled for GPUs that are not there, and refusals."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from runs import ROOT, process, refusal_line, save_maps
from test_cpu_engine import CPU, material_of
from test_cpu_kernels import make_model

import engine as engines
from configs import make_config
from engine import TorchEngine, create_engine
from engine.cuda import library
from engine.cuda.library import KernelsUnavailable
from engine.cuda.plan import KernelPlan, Unsupported
from model import build_model
from schedule import Schedule

with_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


# --- the interpreter, in a process of its own: Triton decides when it is imported -------------------------------------


@with_triton
def test_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests/cuda_interpreted.py")]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    if " passed" not in done.stdout:
        pytest.skip(done.stdout[-300:])


# --- compiled ahead of time -------------------------------------------------------------------------------------------


@with_triton
@pytest.mark.parametrize("target", [80, 90])
def test_every_kernel_compiles(target, tmp_path, monkeypatch):
    """For A100 and H100/H200: tensor cores where there are products, and all that a thread has fits into registers."""
    pytest.importorskip("triton.backends.compiler")
    from engine.cuda import compiled

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    try:
        compiled.cuobjdump()
    except KernelsUnavailable as error:
        pytest.skip(str(error))
    deterministic = target == 80
    launches = compiled.launches_of({**compiled.FORMS["reference 1x16"], "deterministic": deterministic})
    found = [compiled.facts_of(launch, target) for launch in launches]
    names = {facts.kernel for facts in found}
    assert names == {"step_kernel", "dense_kernel", "touched_kernel", "network_kernel", "advance_kernel",
                     "border_kernel", "sweep_kernel", "decode_kernel"}  # fmt: skip
    for facts in found:
        assert facts.tensor_cores == (facts.kernel in ("step_kernel", "decode_kernel")), facts
        assert facts.registers <= 255 and facts.programs >= 1 and facts.spilled == 0, facts


# --- choosing, and refusing -------------------------------------------------------------------------------------------


def chosen(name, say, device=CPU, **values):
    material = material_of()
    config = make_config({"engine": name, "batch_size": 64, "n_neurons": 16, **values})
    model = build_model(config, material.width, material.height, material.present_channels.tolist())
    return create_engine(model, material, Schedule(config), device, say)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device(refused):
    with refused("--engine cuda", "CUDA device", "cpu", "--engine auto"):
        chosen("cuda", print)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_command_without_a_device(tmp_path):
    maps = save_maps(tmp_path / "maps")
    done = process("--data_dir", maps, "--save_dir", tmp_path / "out", "--engine", "cuda")
    assert "--engine cuda" in refusal_line(done.returncode, done.stderr)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_without_triton(refused, monkeypatch):
    monkeypatch.setattr(library.importlib.util, "find_spec", lambda name: None)
    with refused("--engine cuda", "Triton is not installed"):
        chosen("cuda", print)


@pytest.mark.parametrize("error", [KernelsUnavailable("the GPU kernels failed their self-check"), Unsupported("no")])
def test_auto_does_without(error, monkeypatch, refused):
    """On a CUDA device: one line, and PyTorch. The device here is the one that tensors without memory have."""

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(engines, "CudaEngine", fail)
    monkeypatch.setattr(engines, "TorchEngine", lambda model, material, schedule, device: "torch")
    said = []
    device = type("Device", (), {"type": "cuda"})()
    assert chosen("auto", said.append, device) == "torch"
    assert len(said) == 1 and str(error) in said[0] and "PyTorch" in said[0]
    assert chosen("torch", said.append, device) == "torch" and len(said) == 1
    with refused("--engine cuda", str(error)):
        chosen("cuda", said.append, device)


def test_other_devices_go_through_torch(monkeypatch):
    monkeypatch.setattr(engines, "TorchEngine", lambda model, material, schedule, device: "torch")
    assert chosen("auto", print, type("Device", (), {"type": "mps"})()) == "torch"
    assert TorchEngine is not engines.TorchEngine


def test_importing_the_engine_needs_no_triton():
    code = "import engine, sys; sys.exit('triton' in sys.modules and 'engine.cuda.kernels' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0


# --- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [{"neurons": 144}, {"lods": 17}])
def test_unsupported_shapes(values):
    with pytest.raises(Unsupported, match="at most"):
        KernelPlan(make_model((4, 1, 4, 16), **values))
    with pytest.raises(Unsupported, match="grids"):
        KernelPlan(make_model(*[(4, 1, 4, 16)] * 5))


def test_small_grids_share_a_product():
    """Two of 8 inputs fill one of 16 columns, alternating; what has no pair stands beside zeros."""
    plan = KernelPlan(make_model((8, 2, 4, 32), (4, 1, 8, 64), (4, 1, 8, 8), frequencies=0))
    pair, alone = plan.groups[1:]
    assert (pair.one, pair.other, pair.piece, pair.width) == ((0, 0), (1, 0), 8, 16) and alone.other == (-1, 0)
    assert plan.input_map[:17].tolist() == [*range(16, 32, 2), *range(17, 32, 2), 32]


def test_packed_weights():
    """Every input has its own place, ones share one, inputs without a gradient have none."""
    model = make_model((8, 2, 4, 32), (4, 1, 8, 8, "learned"), (4, 1, 8, 16), texel_frequencies=2, neurons=48, layers=2)
    plan = KernelPlan(model)
    weights = torch.cat([weight.detach().reshape(-1) for weight in model.weights])
    places, packed = plan.places(), plan.pack(weights)
    ones = sum(count for _, count in model.layout.ones)
    kept = places[places >= 0]
    assert (places < 0).sum() == 2 * 48 and len(kept) - len(kept.unique()) == 48 * (ones - 1)
    assert packed.sum() == pytest.approx(float(weights[places >= 0].sum()), rel=1e-5)
    assert plan.neurons == 64 and len(packed) == plan.size and kept.max() < plan.size
    gradient = plan.unpack_gradient(torch.arange(plan.size, dtype=torch.float32))
    assert torch.equal(gradient[places >= 0], kept.float()) and (gradient[places < 0] == 0).all()
    assert [group.width for group in plan.groups] == [16] * 4  # of 8, 4 and 2 inputs, which make no pairs
