"""model.py against the float64 reference: forward, gradients, layout, borders, and shapes from a configuration."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import reference
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import model as model_module
from configs import HashGridConfig, make_config
from model import (
    NeuralTexture,
    Noise,
    build_model,
    default_resolution,
    grid_spec,
    resolve_grids,
    texel_centres,
    triangle_waves,
)
from quantize import stream_key
from shape import DecoderSpec, GridSpec, input_layout, layer_sizes

# id: (grids, decoder, num_lods). Odd and tiny grids, levels fewer and more than LODs, every kind of input.
CASES = {
    "one linear": ([GridSpec(8, 3, 4, 16)], DecoderSpec(3, 16, 2), 4),
    "three linear": (
        [GridSpec(12, 3, 8, 32), GridSpec(5, 1, 2, 8), GridSpec(2, 2, 16, 64)], DecoderSpec(12, 32, 2), 6,
    ),
    "linear, texel waves": ([GridSpec(6, 2, 4, 8), GridSpec(3, 1, 1, 8)], DecoderSpec(2, 16, 1, 2), 4),
    "one learned": ([GridSpec(6, 2, 4, 16, "learned")], DecoderSpec(3, 16, 2, 3), 4),
    "learned and linear": ([GridSpec(10, 2, 8, 16, "learned"), GridSpec(3, 1, 1, 8)], DecoderSpec(5, 32, 1, 3), 5),
    "linear and learned": ([GridSpec(4, 3, 2, 8), GridSpec(7, 1, 8, 8, "learned")], DecoderSpec(1, 16, 3, 9), 3),
    "no padding": ([GridSpec(4, 2, 16, 16)], DecoderSpec(7, 16, 1), 3),
    "no waves, no hidden layer": ([GridSpec(4, 1, 8, 32)], DecoderSpec(0, 16, 0), 3),
    "one LOD": ([GridSpec(4, 2, 8, 16)], DecoderSpec(2, 16, 1), 1),
    "1x1 grids": ([GridSpec(1, 1, 8, 32), GridSpec(1, 1, 4, 8, "learned")], DecoderSpec(2, 16, 1, 1), 1),
    "hard swish": ([GridSpec(4, 2, 2, 8, "learned")], DecoderSpec(2, 16, 2, 1, "hard_swish"), 3),
    "steep leak": ([GridSpec(4, 2, 8, 16)], DecoderSpec(2, 16, 2, 0, "leaky_relu", 0.2), 3),
}  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES)
# float32 against float64, 2026: worst seen 1.4e-6 forward, 2e-6 of the largest gradient
FORWARD_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 3e-5


def make_model(case, seed=0, **options) -> NeuralTexture:
    """A model with features that saturate, weights that keep the outputs around 1, and every input in use."""
    grids, decoder, num_lods = CASES[case]
    model = NeuralTexture(grids, decoder, num_lods, seamless=False, seed=seed, **options)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameters in model.grid_parameters:
            parameters.copy_(torch.rand(parameters.shape, generator=generator) * 1.2 - 0.6)
    return model


def positions(model: NeuralTexture, n: int, low=-1.5, high=2.5, seed=0) -> torch.Tensor:
    """Random uv in 2**-16 steps, so that wrapping is exact in float32, and off the lines where the texels change.

    On such a line `learned` jumps, and which side a position falls on is a matter of the last bit.
    """
    random = np.random.default_rng(seed)
    kept = np.empty((0, 2))
    while len(kept) < n:
        uv = random.integers(int(low * 65536), int(high * 65536), (4 * n, 2)) / 65536
        good = np.ones(len(uv), bool)
        for grid in model.grids:
            for level in range(grid.n_levels):
                p = uv * (grid.base_resolution * 2**level) - 0.5
                good &= (np.abs(p - np.round(p)) > 1e-4).all(axis=1)
        kept = np.concatenate([kept, uv[good]])
    return torch.from_numpy(kept[:n].astype(np.float32))


def lods_of(model: NeuralTexture, n: int, fractional: bool) -> torch.Tensor:
    if not fractional:
        return torch.arange(n) % model.num_lods
    lods = torch.arange(n) * 0.3125 % max(model.num_lods - 1, 1)
    lods[-1] = model.num_lods - 1  # the last LOD has no second neighbour
    return lods.clamp(max=model.num_lods - 1)


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
    if min(grid.quantize_bits for grid in model.grids) < 8:
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


@pytest.mark.parametrize(
    ("case", "kind"),
    [(case, "rounded") for case in CASES]
    + [(case, kind) for case in ("one linear", "learned and linear") for kind in ("noisy", "float")],
)
def test_gradients_equal_finite_differences(case, kind):
    """Of the straight-through model: the derivative by a parameter is the derivative by its rounded feature."""
    model = make_model(case, quantized=kind != "float")
    noise = Noise(1.0, tuple(range(1, 1 + len(model.grids)))) if kind == "noisy" else None
    uv, lod = positions(model, 20), lods_of(model, 20, True)
    upstream = torch.randn(20, 11)
    model(uv, lod, noise).backward(upstream)
    texture = reference.of_model(model, noise)
    arguments = (uv.numpy(), lod.numpy(), upstream.double().numpy())
    random = np.random.default_rng(0)
    for index, grid in enumerate(texture.grids):
        got = reference.split_levels(
            model.grid_parameters[index].grad.double().numpy(), len(grid.levels[0]), len(grid.levels),
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


# --- the border of the tile ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seamless", [True, False])
@pytest.mark.parametrize("n_frequencies", [0, 1, 4])
def test_seamless_leaves_out_the_waves_of_two_tiles(seamless, n_frequencies):
    """Inputs 0 and n_frequencies, u's and v's first wave, jump from -1 to 1 where one tile ends and the next begins."""
    model = NeuralTexture([GridSpec(4, 2, 8, 16)], DecoderSpec(n_frequencies, 16, 1), 3, seamless=seamless)
    first = sorted({0, n_frequencies}) if n_frequencies and seamless else []
    assert (model.weights[0] == 0).all(dim=0).nonzero().flatten().tolist() == first
    assert sorted(model.unused_inputs) == first


def test_seamless_decodes_are_continuous_over_the_border():
    edge = torch.tensor([[1e-7, 0.3], [1 - 1e-7, 0.3], [0.3, 1e-7], [0.3, 1 - 1e-7]])
    jumps = []
    for seamless in (True, False):
        model = NeuralTexture([GridSpec(4, 2, 8, 16)], DecoderSpec(3, 16, 1), 3, seamless=seamless)
        decoded = model(edge, torch.zeros(4).long())
        jumps.append(float((decoded[0::2] - decoded[1::2]).abs().max().detach()))
    assert jumps[0] < 1e-5 and jumps[1] > 0.05


# --- borders ---------------------------------------------------------------------------------------------------------


def synced(image: np.ndarray, strength: float) -> np.ndarray:
    """Every border texel on its way to the mean of itself and its opposite, a corner to that of all four."""
    r = len(image)
    result = image.copy()
    for i in range(1, r - 1):
        for one, other in (((i, 0), (i, r - 1)), ((0, i), (r - 1, i))):
            mean = (image[one] + image[other]) / 2
            result[one] = image[one] + strength * (mean - image[one])
            result[other] = image[other] + strength * (mean - image[other])
    corners = [(0, 0), (0, r - 1), (r - 1, 0), (r - 1, r - 1)]
    mean = sum(image[corner] for corner in corners) / 4
    for corner in corners:
        result[corner] = image[corner] + strength * (mean - image[corner])
    return result


def borders_model() -> NeuralTexture:
    """Levels of 1, 2 and 4 texels, and of 3, 6 and 12."""
    model = NeuralTexture([GridSpec(4, 3, 4, 8), GridSpec(12, 3, 4, 16)], DecoderSpec(2, 16, 1), 4)
    with torch.no_grad():
        for parameters in model.grid_parameters:
            parameters.uniform_(-0.5, 0.5)
    return model


@pytest.mark.parametrize("strength", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("n_levels", [0, 1, 2, 7])
def test_borders_move_to_their_mean(strength, n_levels):
    model = borders_model()
    for index in (0, 1):
        before = [model.level(index, level).detach().numpy().copy() for level in range(3)]
        other = model.grid_parameters[1 - index].detach().clone()
        model.sync_wrap_boundary(index, strength, n_levels)
        for level in range(3):
            got = model.level(index, level).detach().numpy()
            moved = n_levels == 0 or level >= 3 - n_levels
            want = synced(before[level], strength) if moved else before[level]
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)
            np.testing.assert_array_equal(got[1:-1, 1:-1], before[level][1:-1, 1:-1])
            if not moved or strength == 0:
                np.testing.assert_array_equal(got, before[level])
        assert torch.equal(model.grid_parameters[1 - index], other)


def test_full_strength_ties_borders_and_corners_exactly():
    model = borders_model()
    for index in (0, 1):
        model.sync_wrap_boundary(index, 1.0)
        for level in range(3):
            image = model.level(index, level)
            assert torch.equal(image[:, 0], image[:, -1]) and torch.equal(image[0], image[-1])
            assert torch.equal(image[0, 0], image[-1, -1]) and torch.equal(image[0, 0], image[0, -1])
        codes = model.codes(index)
        model.sync_wrap_boundary(index, 1.0)
        assert torch.equal(model.codes(index), codes)


# --- layout ----------------------------------------------------------------------------------------------------------


def test_levels_lie_one_after_the_other_row_by_row_features_last():
    grid = GridSpec(12, 3, 4, 16)
    model = NeuralTexture([GridSpec(2, 1, 8, 8), grid], DecoderSpec(1, 16, 1), 4)
    assert grid.base_resolution == 3 and grid.features == 4 and grid.n_texels == 9 + 36 + 144
    with torch.no_grad():
        model.grid_parameters[1].copy_(torch.arange(grid.n_texels * 4, dtype=torch.float32))
    for level, (resolution, first) in enumerate([(3, 0), (6, 9), (12, 45)]):
        assert (grid.resolution(level), grid.level_offset(level)) == (resolution, first)
        image = model.level(1, level)
        assert image.shape == (resolution, resolution, 4)
        for y, x, f in ((0, 0, 0), (0, 1, 2), (1, 0, 3), (resolution - 1, resolution - 2, 1)):
            assert image[y, x, f] == (first + y * resolution + x) * 4 + f
    image[0, 0, 0].data.fill_(-1)  # a view, not a copy
    assert model.grid_parameters[1][45 * 4] == -1
    assert [grid.level_of(lod) for lod in range(5)] == [2, 1, 0, 0, 0]


@every_case
def test_decoder_inputs_follow_the_contract(case):
    grids, decoder, _ = CASES[case]
    layout = input_layout(grids, decoder)
    expected = 2 * decoder.n_frequencies + 1
    for grid in grids:
        expected += grid.save_bits // grid.quantize_bits * (4 if grid.interpolation == "learned" else 1)
    assert layout.reference_inputs == expected
    texel_waves = math.ceil(2 * decoder.n_texel_frequencies / 16) * 16
    assert layout.total == math.ceil(expected / 16) * 16 + texel_waves
    sizes = layer_sizes(layout, decoder)
    assert len(sizes) == decoder.n_hidden_layers + 1
    assert sizes[0][1] == layout.total and sizes[-1][0] == 16
    assert all(sizes[i][0] == sizes[i + 1][1] == decoder.n_neurons for i in range(len(sizes) - 1))
    assert [tuple(weight.shape) for weight in make_model(case).weights] == sizes


@every_case
def test_codes_survive_and_change_nothing(case):
    model = make_model(case)
    uv, lod = positions(model, 30), lods_of(model, 30, True)
    before = model(uv, lod)
    for index, grid in enumerate(model.grids):
        codes = model.codes(index)
        assert codes.shape == (grid.n_texels, grid.features) and codes.dtype == torch.int32
        flat = model.grid_parameters[index].detach().numpy()
        want = [reference.code_of(float(f), min(grid.quantize_bits, 8)) for f in flat[:50]]
        if grid.quantize_bits <= 8:
            assert codes.flatten()[:50].tolist() == want
        model.load_codes(index, codes)
        assert torch.equal(model.codes(index), codes)
    assert torch.equal(model(uv, lod), before)


def test_the_seed_decides_the_initial_values():
    one, same, other = (NeuralTexture(*CASES["one linear"], seed=seed) for seed in (3, 3, 4))
    torch.rand(5)
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters()):
        assert torch.equal(a, b) and not torch.equal(a, c)
    assert all(parameters.abs().max() <= 0.5 for parameters in one.grid_parameters)


@pytest.mark.parametrize(
    "options",
    [(10, 3, 4, 32), (8, 5, 4, 32), (0, 1, 4, 32), (8, 0, 4, 32), (8, -1, 4, 32), (8, 1, 16, 8), (8, 1, 3, 32),
     (8, 1, 4, 24), (8, 1, 4, 32, "cubic")],
)  # fmt: skip
def test_impossible_grids_are_refused(options):
    with pytest.raises(ValueError):
        GridSpec(*options)


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


# --- from a configuration --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [(0.125, 1), (0.5, 1), (1, 1), (2.4, 2), (7, 7), (13, 13), (15, 15), (16, 16), (31, 32), (33, 32), (50, 48),
     (80, 80), (125, 128), (320, 320), (500, 512), (1000, 1024), (1023, 1024), (2048, 2048), (6000, 6144)],
)  # fmt: skip
def test_default_resolution(target, expected):
    assert default_resolution(target) == expected


def test_default_resolution_is_near_and_can_be_halved_often():
    for target in range(1, 5000):
        resolution = default_resolution(target)
        odd = resolution
        while odd % 2 == 0:
            odd //= 2
        assert abs(resolution - target) <= target * 0.0626 and odd <= 15
        assert resolution == target or target >= 16


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (1, 1, [(1, 1), (1, 1)]),
        (2, 1, [(1, 1), (1, 1)]),
        (64, 64, [(32, 6), (8, 1)]),
        (1024, 1024, [(512, 10), (128, 1)]),
        (640, 384, [(320, 7), (80, 1)]),  # 320 = 5 * 2**6
        (384, 640, [(320, 7), (80, 1)]),
        (1000, 700, [(512, 10), (128, 1)]),  # ten LODs, so 512 is not halved a tenth time
        (40, 24, [(20, 3), (5, 1)]),
    ],
)
def test_default_grids(width, height, expected):
    config = make_config({"quantize_bits": 2, "save_bits": 16, "grid_learning_rate": 0.5})
    grids = resolve_grids(config, width, height)
    assert [(grid.max_resolution, grid.n_levels) for grid in grids] == expected
    for grid in grids:
        assert (grid.quantize_bits, grid.save_bits, grid.learning_rate, grid.interpolation) == (2, 16, 0.5, "linear")
        assert grid_spec(grid).n_levels <= max(width, height).bit_length()


def test_grid_entries_win_over_the_flags():
    entries = [
        {"max_resolution": 24, "n_levels": 2, "quantize_bits": 8, "save_bits": 64, "learning_rate": 0.25},
        {"interpolation": "learned"},
        {"max_resolution": 6},
    ]
    config = make_config({"hash_grid_configs": entries, "quantize_bits": 2, "save_bits": 8})
    first, second, third = resolve_grids(config, 100, 60)
    assert first == HashGridConfig(24, 2, 8, 64, 0.25, "linear")
    assert second == HashGridConfig(12, 3, 2, 8, config.grid_learning_rate, "learned")  # an eighth of 100
    assert (third.max_resolution, third.n_levels) == (6, 2)


def test_levels_that_no_lod_reads_are_left_out():
    """8x8 has four LODs; a grid of 64 could be halved six times, but its levels below 8 would never be read."""
    config = make_config({"hash_grid_configs": [{"max_resolution": 64}, {"max_resolution": 64, "n_levels": 7}]})
    assert [grid.n_levels for grid in resolve_grids(config, 8, 5)] == [4, 7]


@pytest.mark.parametrize(
    "entry",
    [{"max_resolution": 10, "n_levels": 3}, {"quantize_bits": 16, "save_bits": 8}, {"n_levels": 15},
     {"max_resolution": 1, "n_levels": 2}],
)  # fmt: skip
def test_impossible_grid_entries_are_named(entry, refused):
    config = make_config({"hash_grid_configs": [{"max_resolution": 8}, entry]})
    with refused("hash_grid_configs[1]"):
        resolve_grids(config, 64, 64)


def test_build_model_follows_the_configuration():
    config = make_config({"n_neurons": 32, "n_hidden_layers": 3, "n_frequencies": 5, "seed": 9})
    model = build_model(config, 40, 24, [0, 1, 2])
    assert model.decoder == DecoderSpec(5, 32, 3, 0) and model.num_lods == 6 and model.quantized
    assert (model.weights[-1][3:] == 0).all() and (model.weights[-1][:3] != 0).any()
    assert torch.equal(model.weights[0], build_model(config, 40, 24, [0, 1, 2]).weights[0])
    assert model.unused_inputs and not build_model(make_config({"wrap_boundary": False}), 40, 24, [0]).unused_inputs
    assert not build_model(make_config({"quantize": False}), 40, 24, [0]).quantized


@pytest.mark.parametrize(
    ("interpolation", "flag", "expected"), [("linear", -1, 0), ("learned", -1, 3), ("linear", 2, 2), ("learned", 0, 0)]
)
def test_texel_waves_come_with_learned_interpolation(interpolation, flag, expected):
    entries = [{"max_resolution": 8}, {"max_resolution": 4, "interpolation": interpolation}]
    config = make_config({"hash_grid_configs": entries, "n_texel_frequencies": flag})
    assert build_model(config, 16, 16, [0]).decoder.n_texel_frequencies == expected


def test_rates_by_hand():
    """8x8 and 4x4 words of 32 bits, 3x3 of 16; weights 16 x 16 (4 + 4 + 4 + 1 inputs, padded) and 16 x 16."""
    grids = [GridSpec(8, 2, 8, 32), GridSpec(3, 1, 4, 16)]
    model = NeuralTexture(grids, DecoderSpec(2, 16, 1), 4)
    rates = model.bits_per_texel(20, 10)
    network = (16 * 16 + 16 * 16) * 32 / 200
    finest = (64 * 32 + 9 * 16) / 200
    assert rates["grids"] == pytest.approx(finest) and rates["network"] == pytest.approx(network)
    assert rates["bpp"] == pytest.approx(finest + network)
    assert rates["all_mips"] == pytest.approx(((64 + 16) * 32 + 9 * 16) / 200 + network)


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
