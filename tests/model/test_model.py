"""model.py against the float64 reference: forward, gradients, absent channels, whole images."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import model as model_module
from model import NeuralTexture, Noise, texel_centres, triangle_waves
from quantize import stream_key
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.model_cases import (
    CASES,
    FORWARD_TOLERANCE,
    GRADIENT_TOLERANCE,
    every_case,
    lods_of,
    make_model,
    positions,
)

# --- forward ---------------------------------------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("fractional", [False, True], ids=["whole LODs", "fractional LODs"])
def test_forward_equals_the_scalar_reference(case, fractional):
    model = make_model(case)
    uv, lod = positions(model, 24), lods_of(model, 24, fractional)
    got = model(uv, lod).detach().double().numpy()
    texture = reference.of_model(model)
    want = np.array([reference.decode_point(texture, u, v, l) for (u, v), l in zip(uv.tolist(), lod.tolist())])
    assert got.shape == (24, 11)
    assert want.std(axis=0).min() > 1e-3  # there is something to compare in every channel
    np.testing.assert_allclose(got, want, rtol=0, atol=FORWARD_TOLERANCE)
    np.testing.assert_allclose(reference.forward(texture, uv.numpy(), lod.numpy()), want, rtol=0, atol=1e-12)


@every_case
def test_forward_with_noise_equals_the_reference(case):
    model = make_model(case)
    noise = Noise(0.7, tuple(stream_key(5, 3, 2 + g) for g in range(len(model.grids))))
    uv, lod = positions(model, 50), lods_of(model, 50, True)
    got = model(uv, lod, noise).detach().double().numpy()
    np.testing.assert_allclose(got, reference.forward(reference.of_model(model, noise), uv.numpy(), lod.numpy()),
                               rtol=0, atol=FORWARD_TOLERANCE)  # fmt: skip
    assert (model(uv, lod, Noise(0.0, noise.keys)) == model(uv, lod)).all()
    if min(grid.quantize_bits or 2 for grid in model.grids) < 8:
        assert np.abs(got - model(uv, lod).detach().numpy()).max() > 1e-4


@every_case
def test_float_features_are_neither_rounded_nor_disturbed(case):
    model = make_model(case, quantized=False)
    uv, lod = positions(model, 30), lods_of(model, 30, True)
    want = reference.forward(reference.of_model(model), uv.numpy(), lod.numpy())
    np.testing.assert_allclose(model(uv, lod).detach().numpy(), want, rtol=0, atol=FORWARD_TOLERANCE)
    noise = Noise(1.0, tuple(range(len(model.grids))))
    assert torch.equal(model(uv, lod, noise), model(uv, lod))


@every_case
def test_the_texture_repeats(case):
    model = make_model(case)
    uv, lod = positions(model, 40, 0, 1), lods_of(model, 40, True)
    inside = model(uv, lod)
    for tile in ((1, 0), (0, -1), (-3, 2), (7, -8)):
        assert torch.equal(model(uv + torch.tensor(tile), lod), inside)


def test_bilinear_blends_over_the_borders():
    """On u = 0 a linear grid gives the mean of its last and its first column, on v = 0 of the rows."""
    model = NeuralTexture([GridSpec(3, 1, 16, 64)], DecoderSpec(0, 16, 0), 1)
    with torch.no_grad():
        model.weights[0].zero_()
        model.weights[0][:4, :4] = torch.eye(4)  # the first four outputs are the features themselves
        model.load_codes(0, torch.randint(0, 1 << 16, (9, 4)))
    image = model.level(0, 0)
    got = model(torch.tensor([[0.0, 0.5], [0.5, 0.0], [0.0, 0.0], [1.0, 1.0], [1 / 6, 5 / 6]]), torch.zeros(5).long())
    want = [(image[1, 2] + image[1, 0]) / 2, (image[2, 1] + image[0, 1]) / 2,
            (image[0, 0] + image[0, 2] + image[2, 0] + image[2, 2]) / 4]  # fmt: skip
    torch.testing.assert_close(got[:, :4], torch.stack([*want, want[2], image[2, 0]]), rtol=0, atol=1e-6)


@every_case
def test_whole_lods_as_floats_are_the_same(case):
    model = make_model(case)
    uv, lod = positions(model, 30), lods_of(model, 30, False)
    torch.testing.assert_close(model(uv, lod.float()), model(uv, lod), rtol=0, atol=1e-6)


def test_lods_beyond_the_levels_read_the_coarsest():
    model = make_model("three linear")
    with torch.no_grad():
        for index, grid in enumerate(model.grids):  # LOD 3 and up see none of the finer levels
            for level in range(1, grid.n_levels):
                model.level(index, level).fill_(0.3)
    before = model(positions(model, 20), torch.full((20,), 5))
    with torch.no_grad():
        for index, grid in enumerate(model.grids):
            for level in range(1, grid.n_levels):
                model.level(index, level).fill_(-0.3)
    assert torch.equal(model(positions(model, 20), torch.full((20,), 5)), before)
    with torch.no_grad():
        model.level(0, 0).fill_(-0.3)
    assert not torch.equal(model(positions(model, 20), torch.full((20,), 5)), before)


def test_no_positions_are_fine():
    for lod in (torch.zeros(0), torch.zeros(0, dtype=torch.long)):
        assert make_model("one learned")(torch.zeros(0, 2), lod).shape == (0, 11)


def test_one_sample_does_not_change_another():
    model = make_model("linear and learned")
    uv, lod = positions(model, 60), lods_of(model, 60, True)
    together = model(uv, lod)
    apart = torch.cat([model(uv[i : i + 1], lod[i : i + 1]) for i in range(60)])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 4, 12])
def test_triangle_waves(count):
    coordinate = torch.cat([torch.arange(-33, 70) / 32, torch.rand(50)])
    want = np.array([[reference.wave(c, i) for i in range(count)] for c in coordinate.double().tolist()])
    got = triangle_waves(coordinate, count)
    assert got.shape == want.shape
    np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-4)
    if count:
        assert got.abs().max() <= 1 and got.min() < -0.9 and got.max() > 0.9


@pytest.mark.gpu
@every_case
def test_gpu_forward_and_gradients_equal_those_of_the_cpu(case):
    model = make_model(case)
    twin = copy.deepcopy(model).cuda()
    noise = Noise(0.7, tuple(stream_key(5, 3, 2 + g) for g in range(len(model.grids))))
    uv, lod = positions(model, 200), lods_of(model, 200, True)
    one, other = model(uv, lod, noise), twin(uv.cuda(), lod.cuda(), noise)
    torch.testing.assert_close(other.cpu(), one, rtol=0, atol=2e-5)
    upstream = torch.randn_like(one)
    gradients = torch.autograd.grad(one, list(model.parameters()), upstream)
    for want, got in zip(gradients, torch.autograd.grad(other, list(twin.parameters()), upstream.cuda())):
        torch.testing.assert_close(got.cpu(), want, rtol=0, atol=1e-4 * float(want.abs().max()))


# --- gradients -------------------------------------------------------------------------------------------------------


def numeric_gradient(texture: reference.Texture, array: np.ndarray, indices, uv, lod, upstream) -> np.ndarray:
    """Central differences of sum(upstream * forward) in float64; `array` is one of the texture's own."""
    flat = array.reshape(-1)
    assert flat.base is not None or flat is array
    step, gradient = 1e-7, []
    for i in indices:
        value, ends = flat[i], []
        for end in (value + step, value - step):
            flat[i] = end
            ends.append((upstream * reference.forward(texture, uv, lod)).sum())
        flat[i] = value
        gradient.append((ends[0] - ends[1]) / (2 * step))
    return np.array(gradient)


def backward_at_samples(case: str, kind: str):
    """(model with its gradients, noise, uv, lod, upstream gradient), the latter three as arrays."""
    model = make_model(case, quantized=kind != "float")
    noise = Noise(1.0, tuple(range(1, 1 + len(model.grids)))) if kind == "noisy" else None
    uv, lod = positions(model, 20), lods_of(model, 20, True)
    upstream = torch.randn(20, 11)
    model(uv, lod, noise).backward(upstream)
    return model, noise, uv.numpy(), lod.numpy(), upstream.double().numpy()


@pytest.mark.parametrize(
    ("case", "kind"),
    [(case, "rounded") for case in CASES]
    + [(case, kind) for case in ("one linear", "learned and linear") for kind in ("noisy", "float")],
)
def test_gradients_equal_finite_differences(case, kind):
    """Of the straight-through model: the derivative by a parameter is the derivative by its rounded feature."""
    model, noise, *arguments = backward_at_samples(case, kind)
    texture = reference.of_model(model, noise)
    random = np.random.default_rng(0)
    for index, grid in enumerate(texture.grids):
        if model.grids[index].compressed:
            continue  # see test_gradients_of_blocks_equal_finite_differences
        got = reference.split_levels(
            model.grid_parameters[index].grad.double().numpy(), reference.level_sizes(model.grids[index]),
            grid.levels[0].shape[2],
        )  # fmt: skip
        for image, image_got in zip(grid.levels, got):
            image = np.ascontiguousarray(image)
            grid.levels[[level is image for level in grid.levels].index(True)] = image
            chosen = random.permutation(image.size)[:6]
            want = numeric_gradient(texture, image, chosen, *arguments)
            tolerance = GRADIENT_TOLERANCE * np.abs(image_got).max() + 1e-6
            np.testing.assert_allclose(image_got.reshape(-1)[chosen], want, rtol=0, atol=tolerance)
        assert model.grid_parameters[index].grad.abs().sum() > 0
    for index, weight in enumerate(texture.weights):
        weight = texture.weights[index] = np.array(weight)
        got = model.weights[index].grad.double().numpy().reshape(-1)
        chosen = random.permutation(weight.size)[:10]
        want = numeric_gradient(texture, weight, chosen, *arguments)
        assert np.abs(want).sum() > 0
        np.testing.assert_allclose(got[chosen], want, rtol=0, atol=GRADIENT_TOLERANCE * np.abs(got).max())


@pytest.mark.parametrize("kind", ["rounded", "noisy", "float"])
@pytest.mark.parametrize("case", ["blocks", "learned blocks", "wide and high blocks"])
def test_gradients_of_blocks_equal_finite_differences(case, kind):
    """Of the straight-through model: the derivative by a parameter is that by what it is rounded to."""
    model, noise, uv, lod, upstream = backward_at_samples(case, kind)
    texture = reference.of_model(model, noise)
    for index, grid in enumerate(model.grids):
        if not grid.compressed:
            continue
        flat = model.grid_parameters[index].detach().numpy()
        units = reference.of_blocks(grid, flat, noise, noise.keys[index] if noise else 0, model.quantized)
        got = model.grid_parameters[index].grad.double().numpy()
        read = np.flatnonzero(got)
        assert len(read) > 6
        for i in [*np.random.default_rng(0).permutation(read)[:8], *range(4)]:
            ends, value = [], units.flat[i]
            for step in (1e-6, -1e-6):
                units.flat[i] = value + step
                texture.grids[index].levels = reference.block_levels(units, grid)
                ends.append((upstream * reference.forward(texture, uv, lod)).sum())
            units.flat[i] = value
            texture.grids[index].levels = reference.block_levels(units, grid)
            want = (ends[0] - ends[1]) / 2e-6
            np.testing.assert_allclose(got[i], want, rtol=0, atol=GRADIENT_TOLERANCE * np.abs(got).max() + 1e-6)


def test_only_texels_that_are_read_receive_gradient():
    model = make_model("one linear")
    model(torch.tensor([[0.55, 0.3]]), torch.tensor([1])).backward(torch.randn(1, 11))
    parameters, gradient = model.grid_parameters[0], torch.zeros(0)
    gradient = parameters.grad.view(-1, 4).abs().sum(dim=1)
    # LOD 1 reads level 1, 4x4 after the 2x2 of level 0; p = (0.55, 0.3) * 4 - 0.5 = (1.7, 0.7)
    assert gradient.nonzero().flatten().tolist() == [4 + y * 4 + x for y in (0, 1) for x in (1, 2)]


# --- channels that are not there -------------------------------------------------------------------------------------


@pytest.mark.parametrize("present", [(0, 1, 2), (6,), (3, 4, 5, 10), tuple(range(11))], ids=str)
def test_absent_channels_are_exactly_zero_and_stay_so(present):
    model = make_model("one learned", present_channels=present)
    absent = [channel for channel in range(11) if channel not in present]
    uv, lod = positions(model, 50), lods_of(model, 50, True)
    assert (model(uv, lod)[:, absent] == 0).all()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        (model(uv, lod)[:, list(present)] - 0.5).square().mean().backward()
        optimizer.step()
    decoded = model(uv, lod)
    assert (decoded[:, absent] == 0).all()
    assert (decoded[:, list(present)] != 0).all()
    assert (model.weights[-1][11:] == 0).all()


# --- whole images ----------------------------------------------------------------------------------------------------


@every_case
def test_decode_is_forward_at_texel_centres(case):
    model = make_model(case)
    for lod, width, height, chunk in ((0, 7, 5, 1 << 16), (model.num_lods - 1, 2, 6, 5), (0, 1, 1, 1)):
        image = model.decode(lod, width, height, chunk)
        assert image.shape == (height, width, 11) and image.dtype == torch.float32 and not image.requires_grad
        for y, x in ((0, 0), (height - 1, 0), (0, width - 1), (height // 2, width // 3)):
            uv = torch.tensor([[(x + 0.5) / width, (y + 0.5) / height]])
            torch.testing.assert_close(image[y, x], model(uv, torch.tensor([lod]))[0].detach(), rtol=0, atol=1e-6)
        want = reference.decode(reference.of_model(model), lod, width, height)
        if all(grid.interpolation == "linear" for grid in model.grids):
            np.testing.assert_allclose(image.numpy(), want, rtol=0, atol=FORWARD_TOLERANCE)


def test_texel_centres():
    uv = texel_centres(torch.arange(10, 35), 7, 5)
    want = [[(i % 7 + 0.5) / 7, (i // 7 + 0.5) / 5] for i in range(10, 35)]
    assert torch.equal(uv, torch.tensor(want))


class ByReciprocals(TorchDispatchMode):
    """Divides by numbers as CUDA does (aten/src/ATen/native/cuda/BinaryDivTrueKernel.cu): times their reciprocal."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.div.Tensor and not (isinstance(args[1], torch.Tensor) and args[1].dim()):
            return args[0] * (1 / torch.tensor(float(args[1])))
        return function(*args, **(kwargs or {}))


def test_texel_centres_of_a_gpu_are_the_same():
    """Where texels of image and grid coincide, one bit less would be another four texels of a learned grid."""
    texel = torch.arange(1500 * 1000)
    with ByReciprocals():
        seen, off = texel_centres(texel, 1500, 1000), (texel % 1500 + 0.5) / 1500
    wanted = texel_centres(texel, 1500, 1000)
    assert torch.equal(seen, wanted) and not torch.equal(off, wanted[:, 0])
    assert ((off * 1500 - 0.5).floor() != (seen[:, 0] * 1500 - 0.5).floor()).any()


def test_decoding_a_whole_tile_needs_no_gradient_memory():
    model = make_model("one linear")
    assert not model.decode(0, 4, 4).requires_grad and all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("activation", ["leaky_relu", "hard_swish"])
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_a_fresh_model_decodes_the_means(activation, layers):
    """With start_biases and no other weights: bias neurons carry the means through every layer, off any kink."""
    decoder = DecoderSpec(3, 16, layers, 1, activation)
    model = NeuralTexture([GridSpec(4, 2, 4, 16, "learned")], decoder, 3, present_channels=[0, 4, 10])
    with torch.no_grad():
        for weight in model.weights[:-1]:
            weight[1:] = 0  # what the other neurons have learned
        model.weights[-1][[0, 4, 10]] = 1e-9
    means = [0.1 * channel for channel in range(11)]
    model.start_biases(means)
    decoded = model(torch.rand(50, 2), torch.randint(0, 3, (50,)))
    want = torch.tensor([means[c] if c in (0, 4, 10) else 0.0 for c in range(11)])
    assert torch.allclose(decoded, want.expand(50, -1), atol=1e-5)
    hidden = torch.full((1,), model_module.BIAS_NEURON[activation], requires_grad=True)
    for step in (-1e-3, 0.0, 1e-3):
        slope = torch.autograd.grad(model._activate(hidden + step).sum(), hidden)[0]
        assert slope == 1, "two engines that round differently must take the same derivative"
