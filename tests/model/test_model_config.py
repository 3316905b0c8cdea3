"""model.py: shapes and rates from a configuration."""

from __future__ import annotations

import pytest
import torch

from configs import HashGridConfig, make_config
from model import NeuralTexture, build_model
from shape import DecoderSpec, GridSpec, default_resolution, grid_spec, resolve_grids


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
    """8x8 to 1x1 words of 32 bits, 3x3 of 16; weights 16 x 16 (4 + 4 + 4 + 1 inputs, padded) and 16 x 16."""
    grids = [GridSpec(8, 2, 8, 32), GridSpec(3, 1, 4, 16)]
    model = NeuralTexture(grids, DecoderSpec(2, 16, 1), 4)
    rates = model.bits_per_texel(20, 10)
    network = (16 * 16 + 16 * 16) * 32 / 200
    finest = (64 * 32 + 9 * 16) / 200
    assert rates["grids"] == pytest.approx(finest) and rates["network"] == pytest.approx(network)
    assert rates["bpp"] == pytest.approx(finest + network)
    assert rates["all_mips"] == pytest.approx(((64 + 16 + 4 + 1) * 32 + 9 * 16) / 200 + network)
