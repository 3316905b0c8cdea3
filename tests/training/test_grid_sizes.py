"""Plans of materials of any shape: the rate is met, grids have their proportions, squares stay what they were."""

from __future__ import annotations

import math

import pytest

from common.errors import UserError
from configs import make_config, sides_of
from model import build_model
from shape import bits_of_weights, input_layout, layer_sizes, model_shape
from training.grid_sizes import MOST_BASE, fine_sizes, halves_often
from training.plan import choose_grids, least_rate, plan
from training.rates import Row

# Whole powers of two, sides that halve badly, 64:1, and narrow ones; each with the rates that its texels can pay.
SIZES = [
    (1024, 256), (256, 1024), (2048, 128), (128, 2048), (4096, 64), (4096, 16), (1000, 250), (999, 333), (2048, 100),
    (1024, 1000), (300, 200), (2000, 1000), (8192, 512), (641, 359),
]  # fmt: skip
RATES = (0.8, 1.25, 2.5, 3.5, 5.0, 7.0, 10.0, 14.0, 20.0)
FORMS = [("packed", "learned"), ("packed", "linear"), ("bc1", "linear"), ("bc1", "learned"), ("astc6x6", "linear"),
         ("astc6x6", "learned")]  # fmt: skip


def row(fine, coarse, scale: float, latents: str = "packed") -> Row:
    return Row(1.0, fine, coarse, scale, 0.82, 32, 0.01, 0.01, 1.0, 1.0, latents)


ROWS = {"half": row((4, 2), (8, 4), 0.5), "free": row((8, 2), (8, 4), 0), "planes": row((2, 4), (2, 4), 0.5, "bc1")}


def grids_of(rows: str, bpp: float, size):
    """Sizes and levels of the grids, planes once, of a row that rates.json may no longer have."""
    values = {"bpp": bpp, "decoder": "learned", "latents": ROWS[rows].latents, "n_frequencies": 0, "n_neurons": 32}
    grids = choose_grids(ROWS[rows], make_config({**values, "activation": "hard_swish"}), *size)
    return list(dict.fromkeys((grid.max_resolution, grid.n_levels) for grid in grids))


@pytest.mark.parametrize(("latents", "decoder"), FORMS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_rate_is_met_with_the_materials_proportions(size, latents, decoder):
    met = 0
    for bpp in RATES:
        try:
            planned = plan(make_config({"bpp": bpp, "decoder": decoder, "latents": latents}), *size)
        except UserError as error:
            assert "bpp for its network" in str(error)
            continue
        met += 1
        grids, decoder_form = model_shape(planned, *size)
        layers = layer_sizes(input_layout(grids, decoder_form), decoder_form)
        words = sum(grid.texels_of(grid.size) * grid.bits_per_texel for grid in grids)
        spent = words + bits_of_weights(layers, planned.weight_bits)
        assert spent / math.prod(size) == pytest.approx(bpp, rel=0.04)
        for grid in grids:
            stretch = grid.size[0] * size[1] / (grid.size[1] * size[0])
            assert 0.8 <= stretch <= 1.25 or min(grid.size) <= 8, grid
            assert all(side % (4 if latents == "bc1" else 1) == 0 for side in grid.size)
        fine = grids[0]
        assert fine.size[0] != size[0] and fine.size[1] != size[1]
        assert fine.n_levels > 2 or math.prod(fine.base_size) <= MOST_BASE**2 or min(fine.base_size) <= 8
    assert met >= (7 if math.prod(size) > 100_000 else 5)


@pytest.mark.parametrize("size", [(64, 4), (7, 300), (1, 4096)], ids=str)
def test_materials_of_few_texels_get_a_plan_or_a_line(size):
    for bpp in (0.8, 5.0, 20.0):
        for latents, decoder in FORMS:
            config = make_config({"bpp": bpp, "decoder": decoder, "latents": latents})
            try:
                planned = plan(config, *size)
            except UserError as error:
                assert "\n" not in str(error) and f"{size[0]}x{size[1]}" in str(error)
            else:
                assert build_model(planned, *size, [0]).bits_per_texel(*size)["bpp"] == pytest.approx(bpp, rel=0.04)


# What version 448cfee planned, from rows with two words, or planes, of any table.
SQUARES = {
    ("half", 128, 7.0): [(42, 2), (8, 1)], ("half", 333, 2.5): [(136, 4), (31, 1)],
    ("half", 512, 1.25): [(152, 4), (37, 1)], ("half", 512, 3.5): [(256, 9), (96, 1)],
    ("half", 1000, 2.5): [(500, 3), (112, 1)], ("half", 1024, 7.0): [(864, 6), (199, 1)],
    ("half", 4096, 2.5): [(2048, 12), (509, 1)], ("free", 333, 1.25): [(35, 1), (12, 1)],
    ("free", 512, 2.5): [(168, 4), (53, 1)], ("free", 1000, 7.0): [(592, 5), (200, 1)],
    ("free", 1536, 3.5): [(640, 8), (223, 1)], ("free", 4096, 1.25): [(1024, 11), (357, 1)],
    ("planes", 128, 7.0): [(40, 4), (20, 1)], ("planes", 512, 3.5): [(256, 9), (192, 1)],
    ("planes", 1000, 1.25): [(336, 5), (176, 1)], ("planes", 4096, 7.0): [(3456, 8), (1652, 1)],
}  # fmt: skip


@pytest.mark.parametrize(("rows", "side", "bpp"), SQUARES)
def test_square_materials_keep_their_plans(rows, side, bpp):
    assert grids_of(rows, bpp, (side, side)) == SQUARES[rows, side, bpp]


@pytest.mark.parametrize("decoder", ["reference", "tsnc"])
def test_forms_whose_readers_know_squares_get_squares(decoder):
    latents = "bc1" if decoder == "tsnc" else "packed"
    planned = plan(make_config({"bpp": 5.0, "decoder": decoder, "latents": latents}), 2048, 256)
    assert all(isinstance(grid.max_resolution, int) for grid in planned.hash_grid_configs)


def test_without_a_rate_grids_are_squares():
    planned = plan(make_config({}), 2048, 128)
    assert planned.hash_grid_configs == []
    assert [grid.size for grid in build_model(planned, 2048, 128, [0]).grids] == [(1024, 1024), (256, 256)]


def test_half_the_side_on_both_axes():
    assert grids_of("half", 2.5, (2048, 512))[0] == ((1024, 256), 9)
    assert grids_of("half", 2.5, (512, 2048))[0] == ((256, 1024), 9)
    assert grids_of("planes", 3.5, (2048, 128))[0] == ((1024, 64), 7)
    # 125 does not halve, 50 halves once and is no whole number of blocks, 499.5 and 166.5 are no numbers of texels
    assert grids_of("half", 3.0, (1000, 250))[0] == ((500, 124), 3)
    assert grids_of("half", 3.0, (2048, 100))[0] == ((1024, 48), 5)
    assert grids_of("planes", 3.5, (2048, 100))[0] == ((1024, 48), 5)
    wide, high = sides_of(grids_of("half", 3.0, (999, 333))[0][0])
    assert (wide, high) != (500, 168) and wide % 4 == 0 and high % 4 == 0


def test_a_material_turned_by_90_degrees_gets_its_plan_turned():
    for rows in ROWS:
        for size in ((2048, 128), (999, 333), (300, 200)):
            wide, high = (grids_of(rows, 5.0, turned) for turned in (size, size[::-1]))
            assert [(sides_of(grid)[::-1], levels) for grid, levels in wide] == [
                (sides_of(grid), levels) for grid, levels in high
            ]


def test_sizes_to_choose_from_lie_close_together():
    """So that the shares of the bits come close to the row's at any rate: a fifth between two neighbours at most."""
    for size in ((2048, 128), (4096, 64), (1000, 250), (8192, 512)):
        for share in (0.05, 0.11, 0.2, 0.4, 0.7):
            sizes = fine_sizes(ROWS["free"], share * math.prod(size) / 0.82, *size)
            counts = sorted({math.prod(grid) / math.prod(size) for grid in sizes})
            assert all(halves_often(grid) for grid in sizes)
            assert min(abs(count - share) / share for count in counts) < 0.1, (size, share)


def test_the_least_rate_knows_both_axes():
    config = make_config({"bpp": 5.0})
    assert 0.5 <= least_rate(config, 1024, 128) < 2
