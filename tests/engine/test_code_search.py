"""engine/torch/code_search.py against plain loops, engine/cpu/code_search.py against both; the rounds of --refine."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest
import torch

import blocks
from configs import make_config
from engine.adam_state import up_to_date
from engine.cpu import code_search as cpu_code_search
from engine.cpu.decoder import decode_lod
from engine.create import create_engine
from engine.sampling import channel_loss_weights
from engine.schedule import Schedule
from engine.torch.block_search import END_FAILURES, WEIGHT_FAILURES
from engine.torch.code_search import FAILURES, FEATURES_TRIED, search_level
from engine.torch.level_search import REACH
from formats.block_textures import CODECS
from maps.channels import MAPS
from metrics.evaluate import metric_options, score_lod
from model import new_model
from quantize import codes_from_features
from shape import DecoderSpec, GridSpec, planes_of
from tests.support import reference
from tests.support.engine_cases import COVERED, in_astc, material_of
from tests.support.exports import make_model
from tests.support.kernel_cases import _kernels, no_kernels  # noqa: F401  # fixtures
from training import code_refinement as refine

SEARCHES = {"torch": search_level, "cpu": cpu_code_search.search_level}
LINEAR, LEARNED = GridSpec(6, 2, 2, 8), GridSpec(6, 2, 2, 8, "learned")
BLOCKS, LEARNED_BLOCKS = GridSpec(10, 2, 0, 4, "linear", "bc1"), GridSpec(12, 3, 0, 4, "learned", "bc1")
ASTC, LEARNED_ASTC = GridSpec(14, 2, 0, 6, "linear", "astc6x6"), GridSpec(13, 1, 0, 6, "learned", "astc6x6")
TINY_BLOCKS = [GridSpec(7, 1, 0, 4, "learned", "bc1"), GridSpec(5, 1, 0, 4, storage="bc1"),
               GridSpec(2, 2, 0, 4, storage="bc1")]  # fmt: skip
COARSE = GridSpec(3, 1, 4, 16)
SWISH = DecoderSpec(2, 16, 1, 3, "hard_swish")
CASES = {
    "linear": ([LINEAR, COARSE], DecoderSpec(3, 16, 2), 13, 7),
    "learned": ([LEARNED, COARSE], SWISH, 12, 12),
    "no hidden layer": ([LEARNED], DecoderSpec(2, 16, 0, 1), 9, 12),
    "one bit, many features": ([GridSpec(5, 1, 1, 16, "learned")], SWISH, 11, 8),
    "one texel": ([GridSpec(1, 1, 2, 8, "learned"), GridSpec(2, 2, 2, 8)], SWISH, 3, 5),
    "more texels than the material": ([GridSpec(16, 1, 2, 8)], DecoderSpec(3, 16, 1), 6, 5),
    "three layers": ([GridSpec(7, 1, 4, 32, "learned")], DecoderSpec(0, 16, 3, 3, "hard_swish"), 16, 16),
    "blocks": ([BLOCKS, COARSE], DecoderSpec(3, 16, 2), 26, 14),
    "learned blocks": ([LEARNED_BLOCKS, BLOCKS], SWISH, 21, 24),
    "planes": ([BLOCKS, BLOCKS, COARSE], DecoderSpec(3, 16, 2), 26, 14),
    "learned planes": ([BLOCKS, *[LEARNED_BLOCKS] * 3], SWISH, 21, 24),
    "one block": ([GridSpec(3, 1, 0, 4, "linear", "bc1"), GridSpec(1, 1, 0, 4, "learned", "bc1")], SWISH, 7, 6),
    "blocks of 5x7": (TINY_BLOCKS[::2], SWISH, 5, 7),
    "blocks of 12x4": (TINY_BLOCKS[1:], DecoderSpec(0, 16, 2), 12, 4),
    "blocks of 2x2": (TINY_BLOCKS[1:], SWISH, 2, 2),
    "blocks of 1x1": (TINY_BLOCKS[::2], SWISH, 1, 1),
    "oblong": ([GridSpec((12, 3), 1, 2, 8, "learned"), GridSpec((3, 7), 1, 4, 16)], SWISH, 25, 5),
    "oblong blocks": (
        [GridSpec((4, 26), 2, 0, 4, storage="bc1"), GridSpec((5, 9), 1, 0, 4, storage="bc1")], SWISH, 9, 50,
    ),
    "ASTC blocks": ([ASTC, COARSE], DecoderSpec(3, 16, 2), 26, 14),
    "learned ASTC planes": ([*[LEARNED_ASTC] * 2, ASTC], SWISH, 15, 16),
    "oblong ASTC": (
        [GridSpec((4, 26), 2, 0, 6, storage="astc6x6"), GridSpec((1, 9), 1, 0, 6, "learned", "astc6x6")], SWISH, 9, 50,
    ),
    "coverage": ([LINEAR, COARSE], DecoderSpec(3, 16, 2), 13, 7, COVERED),
    "blocks with coverage": ([LEARNED_BLOCKS], SWISH, 21, 24, COVERED),
    "8-bit weights": ([LEARNED, COARSE], DecoderSpec(0, 16, 2, 3, "hard_swish", weight_bits=8), 12, 12),
    "16-bit weights": ([BLOCKS, COARSE], DecoderSpec(3, 16, 2, weight_bits=16), 26, 14),
    "steep leaky": ([GridSpec(4, 1, 2, 8)], DecoderSpec(2, 16, 2, negative_slope=0.0), 8, 8),
}


def setting(case: str, seed=0):
    """(model, search arguments without planes and level)."""
    grids, decoder, width, height, *bits = CASES[case]
    material = material_of(width, height, seed=seed, **(bits[0] if bits else {}))
    decoder = dataclasses.replace(decoder, outputs=material.channels)
    torch.manual_seed(seed)
    model = make_model(grids, decoder, material, seed)
    channels = material.present_channels.tolist()[1:]  # not all of them, as with a constant one
    with torch.no_grad():  # outputs on both sides of 0 and of 1, most of them inside
        model.weights[-1].mul_(2)
    weights = channel_loss_weights(material, {"diffuse": 2.0, "normal": 1.0, "roughness": 0.5, "displacement": 1.0,
                                              "ao": 1.0, "metallic": 1.0, "specular": 1.0}, channels)  # fmt: skip
    lod_weights = torch.linspace(1.0, 0.3, material.num_lods)
    return model, (material, channels, weights, lod_weights)


def total_error(model, material, channels, weights, lod_weights) -> float:
    """What a sweep lowers, in float64."""
    texture, total = reference.of_model(model), 0.0
    for lod, (width, height) in enumerate(material.lod_sizes):
        decoded = reference.decode(texture, lod, width, height)[..., channels].clip(0, 1)
        columns = [material.present_channels.tolist().index(channel) for channel in channels]
        wanted = material.gather(torch.arange(width * height) + material.lod_offsets[lod]).double().numpy()[:, columns]
        squares = (decoded.reshape(wanted.shape) - wanted) ** 2
        if 11 in channels:
            opacity = wanted[:, [channels.index(11)]]
            squares *= np.where(np.array(channels) == 11, 1, 0.05 + 0.95 * opacity)
        total += float(lod_weights[lod]) * float((squares * weights.numpy()).sum())
    return total


def codes_of(model) -> list[np.ndarray]:
    """Codes (units, parameters) of each grid; of blocks before their end points are put in order."""
    return [
        codes_of_units(grid, parameters.detach().view(-1, grid.unit_parameters))
        for grid, parameters in zip(model.grids, model.grid_parameters)
    ]


def codes_of_units(grid: GridSpec, parameters) -> np.ndarray:
    if not grid.compressed:
        return codes_from_features(parameters, grid.quantize_bits).numpy()
    ends = [blocks.end_point_codes(grid.block, parameters[:, c : c + 3]) for c in (0, 3)]
    return torch.cat([*ends, blocks.weight_codes(grid.block, parameters[:, 6:])], dim=1).int().numpy()


def search(name: str, model, arguments, planes: range, level: int) -> int:
    material, channels, weights, lod_weights = arguments
    return SEARCHES[name](model, material, planes, level, channels, weights, lod_weights)


def levels_of(model):
    return [(planes, level) for planes in planes_of(model.grids) for level in range(model.grids[planes[0]].n_levels)]


def plain_sweep(model, arguments, planes: range, level: int) -> None:
    """The search of engine/torch/code_search.py, one unit after the other, on the error of the whole material."""
    grid, views = model.grids[planes[0]], [model.level(index, level).detach() for index in planes]
    step = [1 / 2**grid.quantize_bits] * grid.features
    parts = [(range(grid.features), FEATURES_TRIED, FAILURES)]  # parameters, tries, failures in a row
    if grid.compressed:
        step = blocks.rounding_steps(grid.block).tolist()
        parts = [(range(6, len(step)), len(step), WEIGHT_FAILURES), (range(6), 6, END_FAILURES)]
    down, across = views[0].shape[:2]

    def place(i, n):
        return 2 if n % 2 and i == n - 1 else i % 2

    places = itertools.product(range(down), range(across))
    order = sorted(places, key=lambda yx: (place(yx[0], down), place(yx[1], across)))
    for y, x in order:
        least = total_error(model, *arguments)
        found = [  # all promises are of before the first step
            [slope_of(model, arguments, view, y, x, i) * step[i] for i in range(grid.unit_parameters)] for view in views
        ]
        for (view, slopes), (parameters, most_tried, most_failures) in itertools.product(zip(views, found), parts):
            codes = codes_of_units(grid, view[y, x][None])[0]
            tried = failures = 0
            for i in sorted(parameters, key=lambda i: -abs(slopes[i])):
                code = codes[i] - math.copysign(1, slopes[i])
                if tried == most_tried or failures == most_failures or slopes[i] == 0:
                    break
                if not 0 <= code < 1 / step[i] + grid.compressed * 0.5:
                    continue
                tried += 1
                before = float(view[y, x, i])
                view[y, x, i] = code * step[i] - 0.5 + (0 if grid.compressed else step[i] / 2)
                error = total_error(model, *arguments)
                failures += 1
                if error < least:
                    least, failures = error, 0
                else:
                    view[y, x, i] = before


def slope_of(model, arguments, view, y, x, parameter, epsilon=1e-4) -> float:
    """Derivative of the error by one parameter, where all stand for their codes, by a central difference."""
    exact, before = model.quantized, [parameters.detach().clone() for parameters in model.grid_parameters]
    for index, grid in enumerate(model.grids):
        if grid.compressed:
            shown = reference.of_blocks(grid, before[index].numpy(), None, 0, True) - 0.5
            model.grid_parameters[index].detach().view(-1, grid.unit_parameters).copy_(torch.from_numpy(shown))
        else:
            model.load_codes(index, model.codes(index))
    errors, value = [], float(view[y, x, parameter])
    model.quantized = False
    for side in (-1, 1):
        view[y, x, parameter] = value + side * epsilon
        errors.append(total_error(model, *arguments))
    model.quantized = exact
    for parameters, values in zip(model.grid_parameters, before):
        parameters.data.copy_(values)
    return (errors[1] - errors[0]) / (2 * epsilon)


@pytest.mark.parametrize(("case", "level"), [
    ("linear", 1), ("learned", 1), ("oblong", 0), ("coverage", 1), ("learned blocks", 1), ("planes", 0),
    ("ASTC blocks", 0), ("steep leaky", 0),
])  # fmt: skip
def test_a_sweep_is_what_plain_loops_find(case, level):
    """Of the finest level, or of the next, which has four blocks in place of nine."""
    model, arguments = setting(case)
    other, _ = setting(case)
    planes = planes_of(model.grids)[0]
    before = codes_of(model)
    changed = search("torch", model, arguments, planes, level)
    with torch.no_grad():
        plain_sweep(other, arguments, planes, level)
    for index in planes:
        agree = np.mean(codes_of(model)[index] == codes_of(other)[index])
        assert agree > 0.97  # gradients of kinks, and differences of float32, turn single codes
    assert changed == sum(np.abs(codes_of(model)[index] - before[index]).sum() for index in planes) > 0
    assert total_error(model, *arguments) <= total_error(other, *arguments) * 1.01


@dataclasses.dataclass
class Sweep:
    """One level: what the search says, the error after it, and all parameters after it."""

    planes: range
    level: int
    changed: int
    error: float
    parameters: list[torch.Tensor]
    codes: list[np.ndarray]


@functools.cache
def sweeps(case: str, search_name: str) -> tuple[list[GridSpec], list[Sweep]]:
    """(grids, the state before and after each sweep) of one search of all levels."""
    model, arguments = setting(case, seed=1)
    found = []

    def keep(planes, level, changed):
        parameters = [p.detach().clone() for p in model.grid_parameters]
        found.append(Sweep(planes, level, changed, total_error(model, *arguments), parameters, codes_of(model)))

    keep(range(0), 0, 0)
    for planes, level in levels_of(model):
        keep(planes, level, search(search_name, model, arguments, planes, level))
    return model.grids, found


@pytest.mark.parametrize("search_name", SEARCHES)
@pytest.mark.parametrize("case", CASES)
def test_every_sweep_lowers_the_error_and_touches_one_level_only(case, search_name, request):
    if search_name == "cpu":
        request.getfixturevalue("_kernels")
    grids, found = sweeps(case, search_name)
    for before, after in zip(found, found[1:]):
        assert after.error < before.error if after.changed else after.error == before.error
        for other, grid in enumerate(grids):
            moved = (after.parameters[other] != before.parameters[other]).view(-1, grid.unit_parameters)
            first, last = (grid.level_offset(k) // grid.unit_texels for k in (after.level, after.level + 1))
            inside = slice(first, last) if other in after.planes else slice(0, 0)
            outside = moved.clone()
            outside[inside] = False
            assert not outside.any()
        assert all((codes >= 0).all() for codes in after.codes)
    least = 0.998 if case == "one block" else 0.99  # ten texels cannot follow 42 of noise
    assert found[-1].error < least * found[0].error


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("case", CASES)
def test_kernels_find_what_torch_finds(case):
    (grids, found), (_, others) = sweeps(case, "torch"), sweeps(case, "cpu")
    assert len(found) == len(others) > 1
    for one, other in zip(found, others):
        assert one.changed == pytest.approx(other.changed, rel=0.1, abs=2)
    for grid, one, two in zip(grids, found[-1].codes, others[-1].codes):
        assert np.mean(one == two) > 0.97  # seen: all of them (November 2026)
        if grid.compressed:  # few are tried, so their order matters
            ends = one[:, :6] != two[:, :6]
            assert ends.sum() <= 1 + 0.015 * ends.size
    assert found[-1].error == pytest.approx(others[-1].error, rel=0.01)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("case", ["linear", "learned", "one bit, many features", "learned planes", "ASTC blocks"])
def test_kernels_find_the_same_on_any_number_of_threads(case):
    found = []
    for n_threads in (1, 2, 5):
        model, (material, channels, weights, lod_weights) = setting(case, seed=3)
        for planes, level in levels_of(model):
            cpu_code_search.search_level(model, material, planes, level, channels, weights, lod_weights, n_threads)
        found.append(codes_of(model))
    for other in found[1:]:
        assert all((one == two).all() for one, two in zip(found[0], other))


@pytest.mark.parametrize("search_name", SEARCHES)
def test_a_texel_that_all_of_a_large_material_reads_is_left_alone(search_name, request):
    if search_name == "cpu":
        request.getfixturevalue("_kernels")
    material = material_of(81, 67)
    assert REACH < 81 * 67
    model = make_model([GridSpec(1, 1, 2, 8), GridSpec(2, 1, 2, 8)], SWISH, material)
    channels = material.present_channels.tolist()
    weights = channel_loss_weights(material, dict.fromkeys(MAPS, 1.0), channels)
    lod_weights = torch.ones(material.num_lods)
    before = codes_of(model)
    assert SEARCHES[search_name](model, material, range(1), 0, channels, weights, lod_weights) == 0
    assert (codes_of(model)[0] == before[0]).all()


# --- rounds ----------------------------------------------------------------------------------------------------------

SHAPE = {
    "hash_grid_configs": [
        {"max_resolution": 12, "n_levels": 2, "quantize_bits": 2, "save_bits": 8, "interpolation": "learned"},
        {"max_resolution": 3, "n_levels": 1, "quantize_bits": 4, "save_bits": 8},
    ],
    "batch_size": 256, "max_iter": 200, "n_neurons": 16, "n_hidden_layers": 1, "activation": "hard_swish", "seed": 3,
    "wrap_interval": 4, "wrap_strength": 0.3, "noise_std": 0.0,
}  # fmt: skip


@pytest.fixture(params=["torch", "cpu"])
def engine_name(request):
    if request.param == "cpu":
        request.getfixturevalue("_kernels")
    return request.param


def trained(engine_name: str, **values):
    """(model, material, config, engine) after a short run."""
    config = make_config({**SHAPE, "engine": engine_name, **values})
    material = material_of(24, 20)
    model = new_model(config, material)
    engine = create_engine(model, material, Schedule(config), torch.device("cpu"))
    engine.step(config.max_iter)
    engine.sync()
    return model, material, config, engine


def psnr_of_lod_0(model, material) -> float:
    return score_lod(model, material, 0, decode=decode_lod, **metric_options("psnr"))["psnr"]["all"]


def test_rounds_lower_the_error_and_leave_to_each_round_what_is_its_own(engine_name, monkeypatch):
    monkeypatch.setattr(refine, "TUNE_ITERATIONS", 60)
    model, material, config, _ = trained(engine_name, refine=3)
    refinement = refine.Refinement(model, material, config)
    assert refinement.possible and refinement.searched == [True, False]
    scores, codes, weights = [psnr_of_lod_0(model, material)], [codes_of(model)], [model.weights[0].detach().clone()]
    swept = []
    search_ = refinement.search
    monkeypatch.setattr(refinement, "search", lambda *a: (swept.append((index, *a[2])), search_(*a))[1])
    for index in range(3):
        assert refinement.round(index) > 0
        scores.append(psnr_of_lod_0(model, material))
        codes.append(codes_of(model))
        weights.append(model.weights[0].detach().clone())
    assert scores[1] > scores[0] + 0.1 and scores[3] > scores[1]
    assert (codes[1][1] == codes[0][1]).all() and (codes[3][1] != codes[0][1]).any()
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    assert swept == [(0, 0), (0, 0), (1, 0), (1, 0), (2, 0), (2, 0), (2, 1)]


BLOCK_PLANES = [
    {"max_resolution": 12, "n_levels": 2, "storage": "bc1", "interpolation": "learned"},
    {"max_resolution": 3, "n_levels": 1, "storage": "bc1"},
]


@pytest.mark.parametrize("storage", CODECS)
def test_rounds_improve_the_blocks_that_a_file_has(engine_name, storage, monkeypatch):
    monkeypatch.setattr(refine, "TUNE_ITERATIONS", 60)
    planes = [{**plane, "storage": storage} for plane in BLOCK_PLANES]
    model, material, config, _ = trained(engine_name, refine=2, hash_grid_configs=planes)
    refinement = refine.Refinement(model, material, config)
    assert refinement.possible and refinement.searched == [True, False]
    scores = [psnr_of_lod_0(model, material)]
    for index in range(2):
        assert refinement.round(index) > 0
        for number in range(2):  # as it is read back from a file
            block, codec = model.grids[number].block, CODECS[storage]
            parameters = model.grid_parameters[number].detach().view(-1, block.parameters)
            parameters.copy_(blocks.parameters_of(block, *codec.split(codec.encode(parameters))))
        scores.append(psnr_of_lod_0(model, material))
    assert scores[1] > scores[0] + 0.1 and scores[2] > scores[1]


@pytest.mark.parametrize("values", [
    {}, {"hash_grid_configs": BLOCK_PLANES}, {"hash_grid_configs": in_astc(BLOCK_PLANES)},
], ids=["packed", "bc1", "astc6x6"])  # fmt: skip
def test_tuning_leaves_the_codes_of_large_grids(engine_name, values, monkeypatch):
    monkeypatch.setattr(refine, "TUNE_ITERATIONS", 60)
    model, material, config, _ = trained(engine_name, refine=3, **values)
    before, parameters = codes_of(model), [p.detach().clone() for p in model.grid_parameters]
    refine.Refinement(model, material, config)._tune(1)
    assert torch.equal(model.grid_parameters[0].detach(), parameters[0])
    assert not torch.equal(model.grid_parameters[1].detach(), parameters[1])
    assert (codes_of(model)[0] == before[0]).all()


def test_a_grid_of_rate_0_stays_as_it_is(engine_name):
    grids = [{**SHAPE["hash_grid_configs"][0], "learning_rate": 0.0}, SHAPE["hash_grid_configs"][1]]
    config = make_config({**SHAPE, "hash_grid_configs": grids})
    fresh = new_model(config, material_of(24, 20))
    model, *_ = trained(engine_name, hash_grid_configs=grids)
    assert torch.equal(model.grid_parameters[0], fresh.grid_parameters[0])
    assert not torch.equal(model.grid_parameters[1], fresh.grid_parameters[1])
    frozen, *_ = trained(engine_name, hash_grid_configs=[{**grid, "learning_rate": 0.0} for grid in grids])
    assert all(torch.equal(one, two) for one, two in zip(frozen.grid_parameters, fresh.grid_parameters))
    assert not torch.equal(frozen.weights[0], fresh.weights[0])


@pytest.mark.usefixtures("_kernels")
def test_engines_agree_with_a_grid_of_rate_0():
    grids = [{**SHAPE["hash_grid_configs"][0], "learning_rate": 0.0}, SHAPE["hash_grid_configs"][1]]
    one, two = (trained(name, hash_grid_configs=grids, max_iter=3)[0] for name in ("torch", "cpu"))
    for a, b in zip(one.parameters(), two.parameters()):
        assert torch.allclose(a, b, atol=1e-5)


def test_an_engine_goes_on_from_a_changed_model_with_its_moments(engine_name):
    model, _, _, engine = trained(engine_name, max_iter=30)
    moments = {i: m["exp_avg_sq"].clone() for i, m in up_to_date(engine.state(), model).items()}
    for index in range(2):
        model.load_codes(index, model.codes(index))
    wanted = [p.detach().clone() for p in model.parameters()]
    engine.load_state(engine.settled_state())
    engine.sync()
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), wanted))
    after = up_to_date(engine.state(), model)
    assert all(torch.allclose(after[i]["exp_avg_sq"], value, rtol=1e-5, atol=0) for i, value in moments.items())
    engine.step(5)
    assert engine.iteration == 35


def test_a_small_grid_is_searched_where_the_large_one_has_too_many_bits(engine_name):
    grids = [{"max_resolution": 12, "quantize_bits": 8, "save_bits": 16}, SHAPE["hash_grid_configs"][1]]
    model, material, config, _ = trained(engine_name, hash_grid_configs=grids, refine=1)
    refinement, before = refine.Refinement(model, material, config), codes_of(model)
    assert refinement.searched == [False, True] and refinement.round(0) > 0
    assert (codes_of(model)[0] == before[0]).all() and (codes_of(model)[1] != before[1]).any()


def test_a_model_stays_as_it_was_when_tuning_diverges(engine_name, monkeypatch):
    model, material, config, _ = trained(engine_name, refine=2, max_iter=20)
    before = [p.detach().clone() for p in model.parameters()]
    monkeypatch.setattr(refine, "SMALL_NETWORK_FACTOR", 1e30)
    refine.Refinement(model, material, config)._tune(1)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before))


def test_a_round_that_makes_it_worse_is_taken_back(engine_name, monkeypatch):
    monkeypatch.setattr(refine, "TUNE_ITERATIONS", 20)
    monkeypatch.setattr(refine, "SMALL_NETWORK_FACTOR", 30.0)
    monkeypatch.setattr(refine, "NETWORK_FACTOR", 30.0)
    model, material, config, _ = trained(engine_name, refine=3)
    refinement = refine.Refinement(model, material, config)
    refinement.round(0)
    before, score = [p.detach().clone() for p in model.parameters()], psnr_of_lod_0(model, material)
    assert refinement.round(1) == 0
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before))
    monkeypatch.setattr(refine, "TAKEN_BACK_TEXELS", 0)  # as for a material of more texels
    refine.Refinement(model, material, config).round(1)
    assert psnr_of_lod_0(model, material) < score - 1


def test_planes_of_a_quarter_of_the_texels_are_left_to_the_last_round():
    """Packed grids of that size are not: they have more codes than a fifth."""
    for word, searched in (({"storage": "bc1"}, [True, False]), ({"quantize_bits": 4, "save_bits": 8}, [True, True])):
        grids = [{"max_resolution": side, "n_levels": 1, **word} for side in (24, 12)]
        config, material = make_config({**SHAPE, "hash_grid_configs": grids}), material_of(24, 20)
        assert refine.Refinement(new_model(config, material), material, config).searched == searched


def test_nothing_to_refine_without_codes_or_with_fine_ones():
    grids = [{"max_resolution": 8, "quantize_bits": 8, "save_bits": 16}]
    for values in ({"quantize": False}, {"hash_grid_configs": grids}):
        model, material, config, _ = trained("torch", max_iter=2, **values)
        assert not refine.Refinement(model, material, config).possible
