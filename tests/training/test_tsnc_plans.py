"""--latents bc1 --decoder tsnc: planes and network of Intel's texture set neural compression at each rate."""

from __future__ import annotations

import pytest

from common.errors import UserError
from configs import PRESETS, make_config
from formats.tsnc import tsnc_problem
from model import build_model
from shape import ModelForm, model_shape
from training.plan import least_rate, plan

SIZES = [(1024, 1024), (2048, 2048), (4096, 4096), (512, 512), (1000, 1000), (1001, 701), (2048, 1024), (700, 1300)]
NETWORK_BITS = 32 * (16 * 64 + 64 * 64 + 64 * 16)


def asked(bpp: float, **values):
    return make_config({"latents": "bc1", "decoder": "tsnc", "bpp": bpp, **values})


@pytest.mark.parametrize("bpp", [2.5, 5.0, 7.0, 10.0, 14.0, 20.0])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_planes_of_every_rate(size, bpp):
    planned = plan(asked(bpp), *size)
    one, two, three, four = planned.hash_grid_configs
    assert one == two and three == four and one.max_resolution == 2 * three.max_resolution
    spent = 8 * one.max_resolution**2 + 8 * three.max_resolution**2 + NETWORK_BITS
    assert spent / (size[0] * size[1]) == pytest.approx(bpp, rel=0.04)
    form = ModelForm(*model_shape(planned, *size), max(size).bit_length())
    assert tsnc_problem(form) is None  # what is trained can be exported
    assert all(side % 4 == 0 for grid in form.grids for side in grid.base_size)
    for lod in range(form.num_lods):  # the mips that a GPU chooses from the same derivatives
        sides = [grid.level_size(grid.level_of(lod))[0] for grid in form.grids]
        assert sides[0] == sides[2] * (2 if lod == 0 else 1) or sides[2] == form.grids[2].base_size[0]


@pytest.mark.parametrize(("size", "bpp", "sides"), [
    (1024, 10, (1024, 512)), (1024, 5, (704, 352)), (2048, 10, (2048, 1024)), (2048, 5, (1440, 720)),
    (4096, 10, (4096, 2048)), (4096, 5, (2944, 1472)),
])  # fmt: skip
def test_ten_bits_are_the_whole_and_half_the_side_and_five_those_over_the_root_of_two(size, bpp, sides):
    planned = plan(asked(bpp), size, size)
    assert [grid.max_resolution for grid in planned.hash_grid_configs] == [sides[0]] * 2 + [sides[1]] * 2
    assert sides[0] == pytest.approx(size * (bpp / 10) ** 0.5, rel=0.035)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_effort_has_their_network(preset):
    planned = plan(asked(10, preset=preset), 1024, 1024)
    found = (planned.activation, planned.n_hidden_layers, planned.n_neurons, planned.n_frequencies)
    assert found == ("relu", 2, 64, 0)
    form = ModelForm(*model_shape(planned, 1024, 1024), 11)
    assert (form.decoder.activation, form.decoder.negative_slope) == ("leaky_relu", 0.0)
    assert form.inputs.position_waves == form.inputs.texel_waves == 0 and form.inputs.reference_inputs == 13


@pytest.mark.parametrize("size", [64, 128, 256])
def test_materials_too_small_for_the_network(size):
    with pytest.raises(UserError, match=r"^--bpp 2.5: .* of 64 neurons") as caught:
        plan(asked(2.5), size, size)
    assert "--n_neurons" not in str(caught.value)  # it is fixed


def test_the_least_rate_can_be_planned():
    found = least_rate(make_config({"latents": "bc1", "decoder": "tsnc", "target_psnr": 30.0}), 512, 512)
    assert 0.75 < found < 0.85 and plan(asked(found), 512, 512).hash_grid_configs


@pytest.mark.parametrize(("values", "words"), [
    ({"latents": "packed"}, "--decoder tsnc: expected --latents bc1 beside it, found packed"),
    ({"n_neurons": 32}, "--n_neurons: expected 64 with --decoder tsnc, found 32"),
    ({"n_hidden_layers": 3}, "--n_hidden_layers: expected 2 with"),
    ({"activation": "leaky_relu"}, "--activation: expected relu with --decoder tsnc, found leaky_relu"),
    ({"n_frequencies": 4}, "--n_frequencies: expected 0 with"),
    ({"n_texel_frequencies": 3}, "--n_texel_frequencies: expected 0 with"),
])  # fmt: skip
def test_another_form_is_refused_before_training(values, words):
    with pytest.raises(UserError) as caught:
        asked(5, **values)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_relu_is_leaky_relu_without_a_slope():
    models = [build_model(make_config({"activation": a}), 16, 16, [0]) for a in ("relu", "leaky_relu", "hard_swish")]
    specs = [(model.decoder.activation, model.decoder.negative_slope) for model in models]
    assert specs == [("leaky_relu", 0.0), ("leaky_relu", 0.01), ("hard_swish", 0.01)]
