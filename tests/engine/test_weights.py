"""Weights of 16 and 8 bits: every engine trains, decodes and searches with exactly the numbers that the files hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.cpu.decoder import decode_samples, differentiate
from engine.cpu.engine import CpuEngine
from engine.cpu.library import load_kernels, pointer
from engine.schedule import Schedule
from engine.torch.engine import TorchEngine
from formats.manifest import NETWORK
from quantize import round_weights, stored_weights
from tests.support import reference
from tests.support.engine_cases import LEARNED, engine_of, material_of
from tests.support.kernel_cases import (  # noqa: F401  # fixtures
    SHAPES,
    _kernels,
    assert_close,
    exact_gradients,
    make_model,
    samples,
)
from tests.support.runs import (
    _offline,  # noqa: F401  # autouse
    checkpoint_of,
    payload,
    quick,
    save_maps,
)
from tests.support.weight_cases import awkward_weights

FEW = pytest.mark.parametrize("bits", [16, 8])


def rounded_by_numpy(weights: np.ndarray, bits: int) -> np.ndarray:
    """The formula of docs/export.md, in float64 where that is exact."""
    if bits == 16:
        return weights.clip(-65504, 65504).astype(np.float16).astype(np.float32)
    peak = np.abs(weights).max(axis=1, keepdims=True)
    scale = np.where(peak > 1e-30, peak / np.float32(127), np.float32(0))
    mantissa, exponent = np.frexp(scale.astype(np.float64))
    scale = np.ldexp(np.floor(mantissa * 65536) / 65536, exponent).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.where(scale > 0, np.rint(weights / scale), 0).clip(-127, 127).astype(np.int8)
    return codes.astype(np.float32) * scale


# --- the numbers -----------------------------------------------------------------------------------------------------


@FEW
@pytest.mark.parametrize("inputs", [1, 2, 5, 16, 48, 113])
def test_all_round_alike(inputs, bits):
    weights = awkward_weights(inputs)
    wanted = round_weights(weights, bits)
    assert np.array_equal(wanted.numpy(), rounded_by_numpy(weights.numpy(), bits))
    found = torch.empty_like(weights)
    load_kernels().nt_round_weights(pointer(weights), *weights.shape, bits, pointer(found))
    assert torch.equal(found, wanted)


@FEW
@pytest.mark.parametrize("inputs", [1, 5, 64])
def test_rounding_again_changes_nothing(inputs, bits):
    """So a model that was read from a file is written as that file."""
    weights = round_weights(awkward_weights(inputs), bits)
    assert torch.equal(round_weights(weights, bits), weights)
    for one, other in zip(stored_weights(awkward_weights(inputs), bits), stored_weights(weights, bits)):
        assert (one is None and other is None) or torch.equal(one, other)


def test_how_far_weights_move():
    weights = torch.randn(50, 33, generator=torch.Generator().manual_seed(1))
    peak = weights.abs().amax(dim=1, keepdim=True)
    assert ((round_weights(weights, 8) - weights).abs() <= 0.5001 * peak / 127 * (1 + 2**-15)).all()
    assert ((round_weights(weights, 16) - weights).abs() <= weights.abs() * 2**-11).all()
    assert round_weights(weights, 32) is weights


# --- decoding and gradients ------------------------------------------------------------------------------------------

ROUNDED = [name for name in SHAPES if "-bit weights" in name]


@pytest.mark.parametrize("name", ROUNDED)
def test_gradients_of_the_reference(name):
    """Against float64: those of the rounded weights, passed to the weights themselves."""
    model = SHAPES[name]()
    uv, lod = samples(40, model.num_lods)
    upstream = torch.randn(40, model.decoder.outputs)
    out, weights, grids = exact_gradients(model, uv, lod, upstream)
    found = model(uv, lod)
    assert_close(found, out)
    found.backward(upstream)
    for column in model.unused_inputs:
        model.weights[0].grad[:, column] = 0
    for one, other in zip([p.grad for p in [*model.weights, *model.grid_parameters]], [*weights, *grids]):
        assert_close(one, other, 2e-5)


@pytest.mark.parametrize("name", ROUNDED)
def test_weights_as_they_are_trained(name):
    model = SHAPES[name]()
    plain = make_model((1, 1, 4, 32))
    uv, lod = samples(20, model.num_lods)
    found = model(uv, lod, rounded=False)
    assert (found - model(uv, lod)).abs().max() > 0
    assert torch.equal(plain(uv, lod.clamp(max=3)), plain(uv, lod.clamp(max=3), rounded=False))


@FEW
def test_kernels_decode_and_differentiate_with_rounded_weights(bits):
    model, plain = (make_model((5, 1, 4, 32), layers=2, weight_bits=b) for b in (bits, 32))
    with torch.no_grad():
        for mine, theirs in zip(plain.parameters(), model.parameters()):
            mine.copy_(theirs)
        for mine, theirs in zip(plain.weights, model.exported_weights()):
            mine.copy_(theirs)
    uv, lod = samples(30, 4)
    assert torch.equal(decode_samples(model, uv, lod), decode_samples(plain, uv, lod))
    upstream = torch.ones(30, 11)
    for one, other in zip(differentiate(model, uv, lod, upstream)[1], differentiate(plain, uv, lod, upstream)[1]):
        assert torch.equal(one, other)


# --- training --------------------------------------------------------------------------------------------------------


@FEW
@pytest.mark.parametrize("kind", [CpuEngine, TorchEngine])
def test_rounding_begins_where_it_is_said(kind, bits):
    """Up to the stated iteration the losses are those of float weights, from it on those of the rounded ones."""
    start, values = 20, {"max_iter": 60, "batch_size": 200, "hash_grid_configs": LEARNED}
    rounded = engine_of(kind, material_of(), weight_bits=bits, weight_round_start=start / 60, **values)
    plain = engine_of(kind, material_of(), **values)
    assert [rounded.step(1) for _ in range(start)] == [plain.step(1) for _ in range(start)]
    rounded.sync(), plain.sync()
    with torch.no_grad():
        for mine, theirs in zip(plain.model.weights, rounded.model.exported_weights()):
            mine.copy_(theirs)
    plain.load_state(plain.settled_state())
    assert rounded.step(1) == plain.step(1)


@pytest.mark.parametrize("kind", [CpuEngine, TorchEngine])
def test_the_probe_sees_what_would_ship(kind):
    values = {"weight_bits": 8, "weight_round_start": 1.0}
    engine, plain = engine_of(kind, material_of(), **values), engine_of(kind, material_of())
    with torch.no_grad():
        for mine, theirs in zip(plain.model.weights, engine.model.exported_weights()):
            mine.copy_(theirs)
    plain.load_state(plain.settled_state())
    assert engine.probe() == plain.probe()
    engine.step(1)
    assert engine.probe() > 0  # and training goes on with its own weights
    other = engine_of(kind, material_of(), **values)
    other.step(1)
    assert engine.step(1) == other.step(1)


def test_an_early_stop_begins_it():
    engine = engine_of(CpuEngine, material_of(), weight_bits=8, weight_round_start=1.0)
    schedule: Schedule = engine.schedule
    assert not schedule.rounds_weights(59) and schedule.rounds_weights(60)
    schedule.noise_ended = True
    assert schedule.rounds_weights(3)


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "engine"), [(8, "cpu"), (16, "cpu"), (8, "torch"), (32, "cpu")])
def test_files_hold_what_training_saw(bits, engine, tmp_path):
    """The rounded weights of model.pth, which keeps them as they are trained, are those of network_data.npz."""
    maps = save_maps(tmp_path / "maps", 9, 5)
    run = quick("--data_dir", maps, "--save_dir", tmp_path / "runs", "--max_iter", 12, "--weight_bits", bits,
                "--weight_round_start", 0.3, "--engine", engine, "--refine", 2)  # fmt: skip
    folder = checkpoint_of(run, 12)
    trained = payload(folder)["network"]
    assert bits == 32 or any(not torch.equal(round_weights(weight, bits), weight) for weight in trained)
    arrays = reference.parse_npz((folder / NETWORK).read_bytes())
    names = {32: ["info", "network"], 16: ["info", "network_half"], 8: ["info", "network_int8", "network_scales"]}
    assert sorted(arrays) == names[bits]
    if bits == 8:
        rows = [len(row) for weight in trained for row in weight]
        read = arrays["network_int8"].astype(np.float32) * np.repeat(arrays["network_scales"], rows)
    else:
        read = arrays[names[bits][1]].astype(np.float32)
    wanted = torch.cat([round_weights(weight, bits).reshape(-1) for weight in trained]).numpy()
    assert np.array_equal(read, wanted)
