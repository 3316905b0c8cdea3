"""engine/cuda with activations of 8 bits in Triton's interpreter; test_cuda.py runs it with TRITON_INTERPRET=1.

Its products and activations are floats, PyTorch's whole numbers: at an edge between two bytes they may fall apart.
"""

from __future__ import annotations

import pytest
import torch

from engine.cuda.decoder import decode_lod, decode_samples, differentiate
from engine.cuda.engine import CudaEngine
from engine.cuda.self_check import check_engine
from engine.errors import KernelsUnavailable
from engine.torch.engine import TorchEngine
from model import NeuralTexture
from shape import DecoderSpec, GridSpec
from tests.support.engine_cases import LEARNED, engine_of, material_of
from tests.support.triton_cases import _loops  # noqa: F401

EIGHT = {"weight_bits": 8, "activation_bits": 8}
SHAPES = {
    "1x16": ([GridSpec(8, 3, 2, 8, "learned"), GridSpec(4, 1, 4, 16)], DecoderSpec(0, 16, 1, 3, "hard_swish", **EIGHT)),
    "2x32, leaky": ([GridSpec(8, 2, 4, 32)], DecoderSpec(3, 32, 2, **EIGHT)),
    "no layers": ([GridSpec(4, 1, 8, 16)], DecoderSpec(2, 16, 0, **EIGHT)),
}  # fmt: skip


def texture_of(name: str, tight: float) -> NeuralTexture:
    grids, decoder = SHAPES[name]
    model = NeuralTexture(grids, decoder, 4, seed=3)
    generator = torch.Generator().manual_seed(7)
    model.start_biases([0.5] * decoder.outputs)
    with torch.no_grad():
        for parameters in model.grid_parameters:
            parameters.uniform_(-0.6, 0.6, generator=generator)
        for weight in model.weights[:-1]:
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.15)
        for column in model.unused_inputs:
            model.weights[0][:, column] = 0
    model.calibrate(*places(model))
    model.activation_ranges[1:] *= tight
    return model


def places(model: NeuralTexture) -> tuple[torch.Tensor, torch.Tensor]:
    """At positions of few bits, where blends are exact."""
    generator = torch.Generator().manual_seed(1)
    uv = torch.randint(0, 64, (80, 2), generator=generator) / 64
    return uv, torch.randint(0, model.num_lods, (80,), generator=generator)


@pytest.mark.parametrize("tight", [1.0, 0.5])
@pytest.mark.parametrize("name", SHAPES)
def test_samples_and_gradients(name, tight):
    model = texture_of(name, tight)
    uv, lod = places(model)
    upstream = torch.randn(80, 11, generator=torch.Generator().manual_seed(2))
    out, weights, grids = differentiate(model, uv, lod, upstream)
    wanted = model(uv, lod)
    floats = model(uv, lod, rounded=False)
    step = float((wanted - floats).detach().norm())
    assert float((out - wanted.detach()).norm()) < 0.7 * step  # a byte in fifty is another, and off by one
    found = torch.autograd.grad((wanted * upstream).sum(), [*model.weights, *model.grid_parameters])
    for column in model.unused_inputs:
        found[0][:, column] = 0
    for one, other in zip([*weights, *grids], found):
        assert float((one - other).norm()) < 2e-2 * float(other.norm())


def test_whole_numbers_are_decoded_elsewhere():
    model = texture_of("1x16", 1.0)
    with pytest.raises(KernelsUnavailable):
        decode_lod(model, 0, 8, 8)
    with pytest.raises(KernelsUnavailable):
        decode_samples(model, *places(model))


def test_it_trains_as_pytorch_does():
    values = {"activation_bits": 8, "weight_round_start": 0.03, "gpu_precision": "float32", "batch_size": 40,
              "hash_grid_configs": LEARNED, "n_hidden_layers": 2}  # fmt: skip
    one, other = (engine_of(kind, material_of(32, 16), **values) for kind in (CudaEngine, TorchEngine))
    check_engine(one)
    assert one.step(3) == pytest.approx(other.step(3), rel=1e-2)
    one.sync()
    assert torch.allclose(one.model.activation_ranges, other.model.activation_ranges, rtol=1e-4)
    assert one.probe() == pytest.approx(other.probe(), rel=3e-2)


def test_the_check_before_a_run_whose_activations_are_rounded_at_once():
    values = {"activation_bits": 8, "weight_round_start": 0.0, "gpu_precision": "float32", "batch_size": 40}
    check_engine(engine_of(CudaEngine, material_of(32, 16), **values))
