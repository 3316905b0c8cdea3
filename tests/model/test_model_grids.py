"""model.py: the layout of grids and inputs, codes, borders that are tied, and decodes that tile."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from model import NeuralTexture
from shape import DecoderSpec, GridSpec, input_layout, layer_sizes
from tests.support import reference
from tests.support.model_cases import CASES, every_case, lods_of, make_model, positions

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
    assert grid.base_size == (3, 3) and grid.features == 4 and grid.n_texels == 9 + 36 + 144
    with torch.no_grad():
        model.grid_parameters[1].copy_(torch.arange(grid.n_texels * 4, dtype=torch.float32))
    for level, (resolution, first) in enumerate([(3, 0), (6, 9), (12, 45)]):
        assert (grid.level_size(level), grid.level_offset(level)) == ((resolution, resolution), first)
        image = model.level(1, level)
        assert image.shape == (resolution, resolution, 4)
        for y, x, f in ((0, 0, 0), (0, 1, 2), (1, 0, 3), (resolution - 1, resolution - 2, 1)):
            assert image[y, x, f] == (first + y * resolution + x) * 4 + f
    image[0, 0, 0].data.fill_(-1)  # a view, not a copy
    assert model.grid_parameters[1][45 * 4] == -1
    assert [grid.level_of(lod) for lod in range(5)] == [2, 1, 0, 0, 0]


@pytest.mark.parametrize("storage", ["packed", "bc1"])
def test_sizes_of_a_grid_that_is_no_square(storage):
    bits = (4, 16) if storage == "packed" else (0, 4)
    grid = GridSpec((24, 4), 3, *bits, storage=storage)
    assert (grid.size, grid.base_size, grid.max_resolution) == ((24, 4), (6, 1), (24, 4))
    assert [grid.level_size(level) for level in range(3)] == [(6, 1), (12, 2), (24, 4)]
    assert grid.mip_sizes == [(24, 4), (12, 2), (6, 1), (3, 1), (1, 1)]
    assert grid.n_texels == (6 + 24 + 96 if storage == "packed" else 16 * (2 + 3 + 6))
    assert grid.stored_texels - grid.n_texels == (3 + 1 if storage == "packed" else 16 * 2)
    model = NeuralTexture([GridSpec(2, 1, 8, 8), grid], DecoderSpec(1, 16, 1), 5)
    assert model.level(1, 1).shape[:2] == ((2, 12) if storage == "packed" else (1, 3))
    high = GridSpec((4, 24), 3, *bits, storage=storage)
    assert high.mip_sizes == [size[::-1] for size in grid.mip_sizes] and high.n_texels == grid.n_texels
    assert GridSpec((8, 8), 1, *bits, storage=storage) == GridSpec(8, 1, *bits, storage=storage)
    assert GridSpec((5, 3), 1, *bits, storage=storage).mip_sizes == [(5, 3)]


def test_opposite_borders_of_a_grid_that_is_no_square_meet():
    """Columns with columns and rows with rows; a level of one row stays as it is."""
    model = NeuralTexture([GridSpec((24, 4), 3, 8, 8)], DecoderSpec(1, 16, 1), 5)
    with torch.no_grad():
        model.grid_parameters[0].uniform_(-0.4, 0.4)
    before = [model.level(0, level).detach().clone() for level in range(3)]
    model.sync_wrap_boundary(0, 1.0)
    assert torch.equal(model.level(0, 0), before[0])
    for level in (1, 2):
        image = model.level(0, level)
        assert torch.equal(image[:, 0], image[:, -1]) and torch.equal(image[0], image[-1])
        torch.testing.assert_close(image[0, 1:-1], (before[level][0, 1:-1] + before[level][-1, 1:-1]) / 2)
        assert torch.equal(image[1:-1, 1:-1], before[level][1:-1, 1:-1])


@every_case
def test_decoder_inputs_follow_the_contract(case):
    grids, decoder, _ = CASES[case]
    layout = input_layout(grids, decoder)
    expected = 2 * decoder.n_frequencies + 1
    for grid in grids:
        features = 3 if grid.storage == "bc1" else grid.save_bits // grid.quantize_bits
        expected += features * (4 if grid.interpolation == "learned" else 1)
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
        if grid.compressed:
            continue  # tests/model/test_blocks.py
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
     (8, 1, 4, 24), (8, 1, 4, 32, "cubic"), ((24, 3), 2, 4, 32), ((3, 24), 2, 4, 32), ((8, 0), 1, 4, 32)],
)  # fmt: skip
def test_impossible_grids_are_refused(options):
    with pytest.raises(ValueError):
        GridSpec(*options)
