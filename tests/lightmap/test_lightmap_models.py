"""SIREN, time of day, latent sampling and rounding against plain references; the fused kernels against PyTorch."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from engine.errors import KernelsUnavailable
from lightmap.compressor import (
    Compressor,
    Shape,
    bilinear_neighbours,
    round_latents,
    shape_from,
    time_features,
    upsample,
)
from lightmap.fused_step import FusedStep
from lightmap.quantised import encode_npz, planes, read_npz
from lightmap.sampling import Batch
from lightmap.siren import Siren, siren_from_state
from lightmap.torch_step import TorchStep
from tests.support.lightmap_days import quantise

SHAPE = Shape(6, 10, "f1", 5, 1, 8, 7, 2, 9, 3, 2, 30.0, 20.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_siren_is_the_paper_s():
    net = Siren(4, 40, 3, 2, 30.0, generator())
    assert net.sizes == [4, 40, 40, 40, 2]
    for index, (weight, bias) in enumerate(zip(net.weights, net.biases)):
        bound = 1 / 4 if index == 0 else math.sqrt(6 / 40) / 30
        for values in (weight, bias):
            assert values.abs().max() <= bound
        assert weight.abs().max() > 0.9 * bound and abs(float(weight.detach().mean())) < 0.2 * bound
    x = torch.randn(7, 4)
    value = x.double().numpy()
    for index, (weight, bias) in enumerate(zip(net.weights, net.biases)):
        value = value @ weight.detach().double().numpy().T + bias.detach().double().numpy()
        value = np.sin(30 * value) if index < 3 else value
    assert np.abs(net(x).detach().numpy() - value).max() < 1e-5


def test_siren_activations_keep_their_spread():
    """The initialisation's point: layers behind the first have sine inputs of standard deviation 1."""
    x, net = torch.rand(4000, 2, generator=generator()) * 2 - 1, Siren(2, 64, 5, 3, 30.0, generator())
    for index in range(4):
        phase = functional.linear(x, net.weights[index], net.biases[index]) * 30
        x = torch.sin(phase)
        assert index == 0 or 0.7 < float(phase.detach().std()) < 1.4


def test_network_is_rebuilt_from_its_state():
    net = Siren(5, 7, 2, 3, 12.5, generator())
    again = siren_from_state(net.state_dict())
    x = torch.randn(11, 5)
    assert again.sizes == net.sizes and torch.equal(again(x), net(x))
    state = net.state_dict()
    for change in ({"omega": torch.tensor(math.nan)}, {"weights.1": torch.zeros(7, 6)}, {"more": torch.zeros(1)},
                   {"weights.0": torch.zeros(10**6, 1)}):  # fmt: skip
        with pytest.raises(ValueError):
            siren_from_state({**state, **change})
    with pytest.raises(ValueError):
        siren_from_state({"omega": state["omega"]})


def test_time_of_day_is_periodic():
    hours = torch.tensor([0.0, 24.0, 48.0, -24.0], dtype=torch.float64)
    features = time_features(hours, 3)
    assert features.shape == (4, 6) and all(torch.equal(features[0], row) for row in features)
    assert torch.allclose(features[0], torch.tensor([0.0, 1] * 3))
    at = time_features(torch.tensor([5.25]), 2)[0]
    want = [math.sin(2 * math.pi * 5.25 / 24), math.cos(2 * math.pi * 5.25 / 24),
            math.sin(4 * math.pi * 5.25 / 24), math.cos(4 * math.pi * 5.25 / 24)]  # fmt: skip
    assert torch.allclose(at, torch.tensor(want), atol=1e-6)


@pytest.mark.parametrize(("size", "scale"), [((9, 14), 2), ((8, 8), 3), ((5, 1), 4), ((7, 6), 1)])
def test_latents_are_sampled_as_a_sampler_does(size, scale):
    latent_size = tuple(-(-side // scale) for side in size)
    latent = torch.randn(latent_size[0] * latent_size[1], 3)
    image = latent.view(1, *latent_size, 3).permute(0, 3, 1, 2)
    want = functional.interpolate(image, size=size, mode="bilinear", align_corners=False)  # borders repeat
    got = upsample(latent, size, latent_size).view(*size, 3)
    assert torch.allclose(got, want[0].permute(1, 2, 0), atol=1e-5)
    weights = bilinear_neighbours(torch.arange(size[0] * size[1]), size, latent_size)[1]
    assert torch.allclose(weights.sum(dim=1), torch.ones(len(weights)))


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("mode", ["f1", "direct"])
def test_forward_is_what_the_latent_map_renders(mode, scale):
    model = Compressor(dataclasses.replace(SHAPE, latent_mode=mode, latent_scale=scale), generator())
    texels = torch.arange(60)
    z = upsample(model.compute_latent_map(), (6, 10), model.shape.latent_size)
    hours = torch.full((60,), 7.5)
    assert torch.allclose(model(texels, hours), model.decode(z, time_features(hours, 2)), atol=1e-6)
    if mode == "f1" and scale == 1:  # pixel centres, x first
        want = model.f1(torch.tensor([[2 * 3.5 / 10 - 1, 2 * 4.5 / 6 - 1]]))
        assert torch.allclose(model.latents(torch.tensor([43])), want, atol=1e-6)


def test_rounding_has_its_levels_and_passes_the_gradient():
    z = torch.tensor([-2.0, -1.0, -0.4, 0.1, 1.0, 3.0], requires_grad=True)
    rounded = round_latents(z, 2)
    assert torch.allclose(rounded, torch.tensor([-1, -1, -1 / 3, 1 / 3, 1, 1]))
    rounded.sum().backward()
    assert torch.equal(z.grad, torch.ones(6))


def test_8_bits_of_a_latent(tmp_path, refused):
    latent = torch.randn(35, 6, generator=generator())
    latent[:, 4] = 0.25  # a channel without range
    stored = quantise(latent, (5, 7), (9, 14))
    error = (stored.dequantised() - latent).abs().amax(dim=0)
    assert (error <= torch.from_numpy(stored.high - stored.low) / 255 * 0.51).all() and error[4] < 1e-6
    path = tmp_path / "q.npz"
    path.write_bytes(encode_npz(stored))
    again = read_npz(path)
    assert np.array_equal(again.codes, stored.codes) and torch.equal(again.dequantised(), stored.dequantised())
    assert again.size == (9, 14)
    four, rest = planes(stored)
    assert np.array_equal(four, stored.codes[..., :4]) and np.array_equal(rest[..., :2], stored.codes[..., 4:])
    assert not rest[..., 2:].any()
    path.write_bytes(path.read_bytes()[:-40])
    with refused("q.npz"):
        read_npz(path)
    np.savez(path, q=stored.codes, lo=stored.low, hi=stored.high[:2], bits=8, size=(9, 14))
    with refused("q.npz", "other arrays"):
        read_npz(path)


def test_shapes_from_files_are_checked():
    values = dataclasses.asdict(SHAPE)
    assert shape_from(values) == SHAPE
    for change in ({"hidden_f1": 10**9}, {"omega": math.inf}, {"latent_mode": "x"}, {"height": 0}, {"latent_dim": 2.5}):
        with pytest.raises(ValueError):
            shape_from({**values, **change})
    with pytest.raises(TypeError):
        shape_from({**values, "more": 1})


# --- fused kernels ---------------------------------------------------------------------------------------------------

FORMS = {
    "default": Shape(16, 12, "f1", 32, 1, 8, 32, 4, 64, 4, 2, 30.0, 30.0),
    "odd": Shape(5, 9, "f1", 3, 1, 8, 13, 1, 9, 1, 5, 21.0, 4.0),
    "direct": Shape(16, 12, "direct", 5, 2, 6, 1, 1, 20, 2, 1, 30.0, 10.0),
    "direct, full size": Shape(7, 3, "direct", 8, 1, 8, 1, 1, 16, 3, 4, 30.0, 10.0),
}


def fused(model: Compressor) -> FusedStep:
    try:
        return FusedStep(model, 1e-3, 1e-2)
    except KernelsUnavailable as error:
        pytest.skip(f"no CPU kernels here: {error}")


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("name", FORMS)
def test_fused_gradients_are_those_of_pytorch(name, n_threads):
    shape = FORMS[name]
    model, count = Compressor(shape, generator()), 203  # three tiles and a part
    batch = Batch(torch.randint(shape.height * shape.width, (count,)), torch.rand(count) * 30 - 3, torch.rand(count, 3))
    loss = functional.mse_loss(model(batch.texels, batch.hours), batch.values)
    loss.backward()
    want = {key: value.grad.clone() for key, value in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    torch.set_num_threads(n_threads)
    engine = fused(model)
    engine.threads = n_threads
    assert float(engine.gradients(batch)) == pytest.approx(float(loss.detach()), rel=1e-5)
    for key, gradient in want.items():
        assert gradient.abs().max() > 0
        got = model.get_parameter(key).grad
        assert (got - gradient).abs().max() < 2e-5 * gradient.abs().max(), key


def test_fused_steps_go_where_pytorch_s_go():
    shape, losses = FORMS["default"], {}
    for make in (TorchStep, lambda model, *rates: fused(model)):
        model, draw = Compressor(shape, generator()), generator(1)
        engine = make(model, 1e-3, 1e-2)
        found = []
        for _ in range(20):
            texels = torch.randint(192, (256,), generator=draw)
            values = torch.stack([texels / 192, texels % 12 / 12, torch.zeros(256)], dim=1)
            found.append(float(engine.step(Batch(texels, torch.rand(256, generator=draw) * 24, values), 1.0)))
        losses[engine.name] = found
    assert np.allclose(losses["torch"], losses["fused"], rtol=2e-3) and losses["torch"][-1] < 0.5 * losses["torch"][0]
