"""bench.rate_table: a whole run on a tiny material, the rule that picks a row, and refusals."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest

import dataset
from bench import rate_table
from bench.rate_table import RATES, TIE, boundaries, candidates, winner
from common.errors import UserError
from configs import make_config
from tests.support.runs import save_maps
from training import rates
from training.plan import plan
from training.rates import Row


def row_of(fine=(4, 2), n_neurons=32, coarse=(8, 4)) -> Row:
    return Row(5.0, fine, coarse, 0, 0.82, n_neurons, 0.01, 0.015, 1.0, 1.0)


def entries(*psnr: float) -> list[dict]:
    return [{"psnr": [value, 99.0]} for value in psnr]


def test_the_best_mean_wins_and_the_smaller_network_of_a_tie():
    small, wide, words = row_of(), row_of(n_neurons=64), row_of(fine=(8, 2))
    assert winner({small: entries(30, 40), wide: entries(31, 40)}) == wide
    assert winner({wide: entries(30, 40), small: entries(30 - TIE, 40)}) == small
    assert winner({words: entries(30.01, 40), small: entries(30, 40)}) == small
    fewer = row_of(coarse=(2, 4))
    assert winner({small: entries(30.01, 40), fewer: entries(30, 40)}) == fewer
    assert winner({small: entries(30 + 3 * TIE, 40), fewer: entries(30, 40)}) == small


def test_rows_begin_half_way_in_octaves():
    assert boundaries([0.5, 2.0, 8.0]) == [0.5, 1.0, 4.0]


def test_a_table_that_the_toolkit_can_read(tmp_path, monkeypatch, capsys):
    maps = save_maps(tmp_path / "maps", 128, 96)
    table = tmp_path / "rates.json"
    monkeypatch.setattr(rate_table, "TIMED_ITERATIONS", 2)
    flags = ["--seconds", "0.01", "--rates", "16,20", "--write", str(table), "--out", str(tmp_path / "out")]
    assert rate_table.main([str(maps), *flags, "--decoders", "learned,bc1_linear", "--num_threads", "1"]) == 0
    written, kept = json.loads(table.read_text()), json.loads(rates.TABLE.read_text())
    assert [row["bpp"] for row in written["learned"]] == [16.0, 17.889]
    assert [row["coarse"][1] for row in written["bc1_linear"]] == [4, 4]
    assert written["reference"] == kept["reference"] and written["presets"] == kept["presets"]
    assert written["origin"]["materials"] == ["maps"] and written["origin"]["rows"] == ["learned", "bc1_linear"]
    found = json.loads((tmp_path / "out" / "rate_table.json").read_text())["entries"]
    assert {entry["bpp"] for entry in found} >= {16.0, 20.0} and all(entry["seconds"] > 0 for entry in found)
    kinds = [(entry["decoder"], entry["latents"]) for entry in found]
    assert set(kinds) == {("learned", "packed"), ("linear", "packed"), ("linear", "bc1")}
    # over packed grids of the same form at the same rate, which are measured beside them, once
    (packed,) = [entry for entry in found if (entry["decoder"], entry["latents"]) == ("linear", "packed")]
    pace = packed["seconds"] / packed["iterations"] / packed["cost"]
    first = written["bc1_linear"][0]
    (of_first,) = [entry for entry in found if (entry["bpp"], entry["latents"]) == (16.0, "bc1") and
                   all(entry[name] == first[name] for name in ("fine", "coarse", "scale"))]  # fmt: skip
    assert first["cost"] == pytest.approx(of_first["seconds"] / of_first["iterations"] / pace, abs=0.006)
    monkeypatch.setattr(rates, "TABLE", table)
    rates.load_table.cache_clear()
    try:
        assert rates.row_for(17.0, "learned").fine == tuple(written["learned"][0]["fine"])
    finally:
        rates.load_table.cache_clear()
    assert "learned" in capsys.readouterr().out


def test_other_rows_stay_to_the_byte_and_the_origin_names_what_was_measured(tmp_path, monkeypatch):
    here = dict.fromkeys(("processor", "cores", "date", "commit"), "x")
    monkeypatch.setattr(rate_table.common, "machine", lambda: here)
    before, table = rates.TABLE.read_text(), tmp_path / "rates.json"
    shipped = json.loads(before)
    row = {**shipped["bc1_learned"][1], "n_neurons": 48}
    rate_table.write_table(table, {"bc1_learned": [row]}, {"seconds": 1.0, "materials": ["one"]})
    changed = [line for line in table.read_text().splitlines() if line not in before.splitlines()]
    assert len(changed) == 2 and changed[0].startswith('  "origin"') and '"n_neurons": 48' in changed[1]
    origin = json.loads(table.read_text())["origin"]
    assert (origin["rows"], origin["materials"], origin["date"]) == (["bc1_learned"], ["one"], "x")
    assert origin["earlier"][0] == {key: shipped["origin"][key] for key in shipped["origin"] if key != "earlier"}
    rate_table.write_table(table, {"bc1_linear": [row]}, {"seconds": 2.0, "materials": ["two"]})
    rate_table.write_table(table, {"bc1_learned": [row]}, {"seconds": 3.0, "materials": ["three"]})
    origin = json.loads(table.read_text())["origin"]
    told = [(one["rows"], one["materials"]) for one in (origin, *origin["earlier"]) if "rows" in one]
    assert told[:2] == [(["bc1_learned"], ["three"]), (["bc1_linear"], ["two"])] and "one" not in str(told)
    assert rates.read_table(table)["bc1_learned"][0].n_neurons == 48
    every = {form: [row] for form in rates.WRITTEN_ROWS.values()}
    rate_table.write_table(table, every, {"seconds": 4.0, "materials": []})
    assert "earlier" not in json.loads(table.read_text())["origin"]


PACES = {"narrow": 2.0, "wide": 7.0}  # processor seconds of 1000 iterations


def fake_measure(gain: float):
    """A `measure` whose wide networks are better by `gain` dB, and take 3.5 times as long."""

    def measure(row, decoder, material, seconds):
        config = rate_table.planned(row, decoder, material, 1)
        wide = config.n_hidden_layers == 3
        iterations = round(1000 * seconds / PACES["wide" if wide else "narrow"])
        psnr = 30.0 - row.fine[0] / 10 - row.coarse[0] / 10 - row.scale + gain * wide
        return {"material": "made", "grids": "", "network": f"{config.n_hidden_layers}x{config.n_neurons}",
                "iterations": iterations, "seconds": seconds, "psnr": [psnr], "decoder": decoder,
                "latents": row.latents}  # fmt: skip

    return measure


@pytest.fixture
def use_table(monkeypatch):
    """Plans from another table from then on."""

    def use(path):
        monkeypatch.setattr(rates, "TABLE", path)
        rates.load_table.cache_clear()

    yield use
    rates.load_table.cache_clear()


def measured_table(path, monkeypatch, gain: float, decoders: str = "learned") -> dict:
    made = SimpleNamespace(width=1024, height=1024, name="made")
    monkeypatch.setattr(dataset, "load_material", lambda folder: made)
    monkeypatch.setattr(rate_table, "measure", fake_measure(gain))
    flags = ["--seconds", "5", "--rates", "2.5,5,10", "--write", str(path), "--out", str(path.parent / "out")]
    assert rate_table.main(["made", *flags, "--decoders", decoders]) == 0
    return json.loads(path.read_text())


def test_a_wide_network_that_is_better_is_in_the_plans_of_the_table(tmp_path, monkeypatch, use_table, capsys):
    """With iterations that make a run as long as it may be, though `cost` is that of the narrow network."""
    written = measured_table(tmp_path / "rates.json", monkeypatch, gain=0.4)
    assert {row["wide_neurons"] for row in written["learned"]} == {64}
    assert {row["n_neurons"] for row in written["learned"]} == {32, 64}
    assert "wide_neurons" in written["origin"]["measured"]
    # what the iterations of presets are for comes from the first row of the table before, not from the first rate here
    unit = PACES["narrow"] / rates.load_table()["learned"][0].cost
    use_table(tmp_path / "rates.json")
    assert [row.wide_neurons for row in rates.load_table()["learned"]] == [64] * 3
    balanced, fast = rates.preset_for("balanced"), rates.preset_for("fast")
    for bpp in (2.5, 5.0, 10.0):
        planned = plan(make_config({"bpp": bpp}), 1024, 1024)
        assert (planned.n_hidden_layers, planned.n_neurons) == (3, 64)
        may_take = rate_table.wide_patience(bpp) * balanced.iterations * unit
        assert planned.max_iter * PACES["wide"] == pytest.approx(may_take, rel=0.05)
        quick = plan(make_config({"bpp": bpp, "preset": "fast"}), 1024, 1024)
        assert quick.n_hidden_layers == 2
        assert quick.max_iter * PACES["narrow"] == pytest.approx(fast.iterations * unit, rel=0.05)
    capsys.readouterr()


@pytest.mark.parametrize("gain", [0.8 * TIE, -1.0])
def test_a_wide_network_that_is_no_better_in_the_same_time_is_in_no_row(gain, tmp_path, monkeypatch, use_table, capsys):
    written = measured_table(tmp_path / "rates.json", monkeypatch, gain)
    assert not any("wide_neurons" in row for row in written["learned"])
    assert [row["effort"] for row in written["learned"]] == [rate_table.patience(bpp) for bpp in (2.5, 5.0, 10.0)]
    unit = PACES["narrow"] / rates.load_table()["learned"][0].cost
    use_table(tmp_path / "rates.json")
    planned = plan(make_config({"bpp": 5.0}), 1024, 1024)
    may_take = rate_table.patience(5.0) * rates.preset_for("balanced").iterations * unit
    assert planned.n_hidden_layers == 2
    assert planned.max_iter * PACES["narrow"] == pytest.approx(may_take, rel=0.05)
    capsys.readouterr()


def test_wide_rows_of_another_form_stay(tmp_path, monkeypatch, capsys):
    before = json.loads(rates.TABLE.read_text())
    written = measured_table(tmp_path / "rates.json", monkeypatch, 0.4, "linear,bc1_learned,bc1_linear")
    assert written["learned"] == before["learned"] and any("wide_neurons" in row for row in written["learned"])
    assert not any("wide_neurons" in row for form in ("linear", "bc1_linear") for row in written[form])
    assert {row["wide_neurons"] for row in written["bc1_learned"]} == {64}
    pace = PACES["narrow"] / PACES["wide"]
    assert [row["effort"] for row in written["bc1_learned"]] == [
        pytest.approx(rate_table.wide_patience(bpp, "bc1") * pace, abs=0.006) for bpp in (2.5, 5.0, 10.0)
    ]
    capsys.readouterr()


@pytest.mark.parametrize("size", [(128, 96), (1024, 1024), (4096, 4096)], ids=str)
def test_a_candidate_gets_the_iterations_that_it_is_asked_for(size):
    """Whatever presets do to those of small and of large materials, or a row's cost to those of its runs."""
    material = SimpleNamespace(width=size[0], height=size[1])
    (shipped,) = [row for row in rates.load_table()["learned"] if row.bpp == 8.367]
    for row in (shipped, dataclasses.replace(shipped, wide_neurons=0)):
        planned = rate_table.planned(dataclasses.replace(row, bpp=10.0), "learned", material, 1234)
        assert (planned.max_iter, planned.refine) == (1234, 0)


def test_the_same_grids_are_measured_once(monkeypatch, capsys):
    """Planes that fill a rate at half the side come out of both scales; the row keeps the scale that says so."""
    material = SimpleNamespace(width=1024, height=1024)
    twice = [Row(2.5, (2, 4), (2, 4), scale, 0.82, 32, 0.01, 0.01, 1.0, 1.0, "bc1") for scale in (0, 0.5)]
    other = Row(2.5, (1, 4), (4, 4), 0, 0.82, 32, 0.01, 0.01, 1.0, 1.0, "bc1")
    plans = [rate_table.planned(row, "learned", material, 1) for row in twice]
    assert plans[0] == plans[1], "the test has no point: choose another rate"
    assert rate_table.grids_text(plans[0]).startswith("512xbc1x2+")
    measured = []

    def measure(row, decoder, material, seconds):
        measured.append((row.latents, row.scale, row.fine))
        return {"material": "made", "grids": "", "network": "", "iterations": 1, "seconds": 1.0, "psnr": [30.0]}

    monkeypatch.setattr(rate_table, "measure", measure)
    monkeypatch.setattr(rate_table, "candidates", lambda *arguments: iter([*twice, other]))
    (row,) = rate_table.measure_form("learned", "bc1", [2.5], [material], 1.0, [])
    assert measured[1:3] == [("bc1", 0.5, (2, 4)), ("bc1", 0, (1, 4))] and measured[0][0] == "packed"
    assert row["fine"] == (1, 4)  # a tie: the fewest planes
    capsys.readouterr()


def test_every_rate_has_candidates_of_blocks():
    """With at most 12 of the 16 textures that a browser promises, half-side planes among them where they fit."""
    for decoder in ("learned", "linear"):
        for bpp in RATES:
            found = list(candidates(bpp, decoder, "bc1"))
            assert found and all(row.fine[0] + row.coarse[0] <= 12 for row in found)
        assert {(2, 0.5), (2, 0)} <= {(row.fine[0], row.scale) for row in candidates(2.5, decoder, "bc1")}
        assert {(8, 0.5), (4, 0)} <= {(row.fine[0], row.scale) for row in candidates(10.0, decoder, "bc1")}


def test_low_rates_train_narrow_networks_faster():
    """Not learned planes, whose wide network loses by it."""
    def fastest(decoder: str, latents: str, bpp: float) -> float:
        return max(row.learning_rate for row in candidates(bpp, decoder, latents))

    low, usual = rate_table.LOW_LEARNING_RATES[0], rate_table.LEARNING_RATES[0]
    assert low > usual
    for decoder, latents in (("learned", "packed"), ("linear", "bc1")):
        assert [fastest(decoder, latents, bpp) for bpp in (1.25, 2.5, 5.0)] == [low, low, usual]
    assert fastest("learned", "bc1", 1.25) == usual


def test_the_form_of_intels_sample_has_one_candidate():
    for bpp in (0.5, 5.0, 20.0):
        (row,) = candidates(bpp, "tsnc", "bc1")
        assert (row.fine, row.coarse, row.n_neurons, row.latents) == ((2, 4), (2, 4), 64, "bc1")
    shipped = [(row.learning_rate, row.grid_learning_rate) for row in rates.load_table()["bc1_tsnc"]]
    assert set(shipped) == {(row.learning_rate, row.grid_learning_rate)}


def test_a_rate_that_no_grids_meet(tmp_path):
    with pytest.raises(UserError, match=r"--rates 0\.5: no grids"):
        rate_table.main([str(save_maps(tmp_path / "maps", 32, 32)), "--rates", "0.5", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    "flags", [["--rates", "5,2"], ["--rates", "x"], ["--decoders", "cubic"], ["--num_threads", "-1"]]
)
def test_refusals(flags, tmp_path):
    with pytest.raises(UserError, match=flags[0]):
        rate_table.main([str(tmp_path), *flags])
