"""bench/engines.py: every figure is there, belongs to the right engine, and is the one that the table names."""

from __future__ import annotations

import json
import math
import platform
import sys

import pytest
import torch

from bench import engines, engines_plot, engines_sets, engines_work, memory, race
from bench.engines_work import table, thread_counts
from bench.race import Contestant, Effort
from common.errors import run_command
from engine.cpu.library import load_kernels
from engine.errors import KernelsUnavailable
from tests.support.runs import offline, refusal_line, save_maps

TINY = Effort(rounds=2, turns=2, iterations={"torch": 1, "cpu": 3}, peak_s=0.002)
SMALL = {"batch_size": 256, "n_frequencies": 4}
QUICK_KEYS = {"ratio_2x64", "ratio_1x16", "peak_share_2x64", "samples_per_second", "machine", "commit", "threads",
              "torch_samples_per_second", "peak_multiply_adds_per_second"}  # fmt: skip


@pytest.fixture
def _kernels():
    try:
        load_kernels()
    except KernelsUnavailable as error:
        pytest.skip(str(error))


def positive(value) -> bool:
    return math.isfinite(value) and value > 0


def check_rows(rows, n_rows: int, missing=()):
    """All cells of the table are filled but for `missing` keys, and numbers are positive."""
    assert len(rows) == n_rows
    for row in rows:
        for _, key, _ in engines_work.COLUMNS[row["part"]]:
            if key not in missing:
                assert row[key] is not None, key
        assert all(positive(value) for value in row.values() if isinstance(value, (int, float)))
        assert row["fastest"] <= row["milliseconds"] <= row["slowest"]
        rate = row["samples_per_second"] * row["milliseconds"]
        assert rate == pytest.approx(1000 * row["batch_size"])
    lines = table(rows).splitlines()
    assert len(lines) == n_rows + 1 and len({len(line) for line in lines}) == 1


# --- command ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_kernels")
def test_quick_ends_with_a_line_of_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Effort, "quick", classmethod(lambda cls: TINY))
    folder = save_maps(tmp_path / "made", width=24, height=16)
    assert engines.main(["--quick", str(folder), "--out", str(tmp_path / "out"), "--num_threads", "1"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert found.keys() >= QUICK_KEYS
    assert isinstance(found["machine"], str) and found["machine"]
    numbers = QUICK_KEYS - {"machine", "commit"}
    assert all(positive(found[key]) for key in numbers), found
    assert found["threads"] == 1 and (found["width"], found["height"]) == (24, 16)
    assert [line.split()[:2] for line in lines[2:6]] == [[n, e] for n in ("2x64", "1x16") for e in ("torch", "cpu")]
    written = json.loads((tmp_path / "out" / "engines_quick.json").read_text())
    assert written["benchmark"] == "engines_quick" and written["machine"]["processor"] == found["machine"]
    rows = written["entries"]
    check_rows(rows, 4, missing=["peak_share"])
    assert [row["speedup"] for row in rows] == [1, found["ratio_2x64"], 1, found["ratio_1x16"]]
    assert [row["iterations"] for row in rows] == [2, 6, 2, 6]
    macs = rows[1]["multiply_adds_per_sample"], rows[3]["multiply_adds_per_sample"]
    assert macs[0] > macs[1] > 0


@pytest.mark.usefixtures("_kernels")
def test_instruction_sets(tmp_path, monkeypatch, capsys):
    """Each set has its own kernels and its own peak. Here both are those for this CPU, which are compiled already."""
    kernels = load_kernels()

    class Slower:  # whose peak is told to be a tenth, and which has no bfloat16
        def __getattr__(self, name):
            return getattr(kernels, name)

        def nt_has_bfloat16(self):
            return 0

        def nt_multiply_add_peak(self, seconds, n_threads, peak):
            status = kernels.nt_multiply_add_peak(seconds, n_threads, peak)
            peak._obj.value /= 10
            return status

    monkeypatch.setattr(engines_sets, "instruction_sets", lambda: {"wide": kernels, "narrow": Slower()})
    monkeypatch.setattr(Effort, "quick", classmethod(lambda cls: TINY))
    folder = save_maps(tmp_path / "made", width=24, height=16)
    command = ["--instruction_sets", "--quick", str(folder), "--out", str(tmp_path / "out"), "--num_threads", "1"]
    assert engines.main(command) == 0
    assert "AVX" not in capsys.readouterr().out
    rows = json.loads((tmp_path / "out" / "engines_sets.json").read_text())["entries"]
    words = ["float32", "bf16"] if kernels.nt_has_bfloat16() else ["float32"]
    sets = [("PyTorch's", "float32"), *[("wide", word) for word in words], ("narrow", "float32")]
    assert [(row["instructions"], row["precision"]) for row in rows] == sets
    assert all(positive(row["peak_share"]) for row in rows[1:]) and "peak_share" not in rows[0]
    assert rows[-1]["peak_multiply_adds_per_second"] < 0.5 * rows[1]["peak_multiply_adds_per_second"]


def test_without_kernels_there_is_one_line(tmp_path, monkeypatch, capsys):
    def load(say):
        raise KernelsUnavailable("no C++ compiler found")

    monkeypatch.setattr(engines_work, "load_kernels", load)
    code = run_command(lambda: engines.main(["--quick", "--out", str(tmp_path)]))
    assert "no C++ compiler found" in refusal_line(code, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_kernels")
def test_sizes_have_to_be_sizes(tmp_path, capsys):
    code = run_command(lambda: engines.main(["--sizes", "64", "0", "--out", str(tmp_path)]))
    assert "--sizes" in refusal_line(code, capsys.readouterr().err)
    code = run_command(lambda: engines.main(["--latents", "bc1", "--device", "cuda", "--out", str(tmp_path)]))
    line = refusal_line(code, capsys.readouterr().err)
    assert "--latents bc1" in line and "--device cpu" in line


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_kernels")
def test_sizes_and_threads_have_complete_rows(make_material, monkeypatch):
    monkeypatch.setattr(engines_work, "COST_OF", 32)
    rows = engines_work.measure_sizes((16, 32), TINY, 1, **SMALL)
    check_rows(rows, 4, missing=["peak_bytes", "of_packed"])
    assert [(row["size"], row["engine"]) for row in rows] == [(s, e) for s in (16, 32) for e in ("torch", "cpu")]
    assert [row["cost"] for row in rows[2:]] == [1, 1] and {row["of_packed"] for row in rows} == {None}
    assert "packed" not in table(rows)
    assert {row["bits_per_texel"] for row in rows} == {4.5}
    rows = engines_work.measure_threads(make_material(16, 16), TINY, [1, 2], **SMALL)
    check_rows(rows, 2)
    assert [row["threads"] for row in rows] == [1, 2] and rows[0]["speedup"] == 1


@pytest.mark.usefixtures("_kernels")
def test_packed_grids_race_beside_blocks(monkeypatch):
    raced = []

    def watched(engine, material, given, **labels):
        raced.append((engine, {grid.get("storage", "packed") for grid in given["hash_grid_configs"]}))
        return Contestant(engine, material, given, **labels)

    monkeypatch.setattr(engines_work, "Contestant", watched)
    rows = engines_work.measure_sizes((16, 32), TINY, 1, "bc1", **SMALL)
    assert raced == [("torch", {"bc1"}), ("cpu", {"bc1"}), ("cpu", {"packed"})] * 2
    check_rows(rows, 4, missing=["peak_bytes", "of_packed", "cost"])
    assert {row["latents"] for row in rows} == {"bc1"} and {row["bits_per_texel"] for row in rows} == {4.5}
    assert [row["of_packed"] is not None for row in rows] == [False, True, False, True]  # the cpu engine's
    assert "x packed" in table(rows)


@pytest.mark.usefixtures("_kernels")
def test_the_rest_goes_on_where_nothing_can_be_compiled(make_material, monkeypatch, capsys):
    def compile(function, **options):
        raise RuntimeError("no compiler here\nand many more lines")

    monkeypatch.setattr(torch, "compile", compile)
    effort = Effort(1, 1, {"torch": 1, "compiled": 1, "cpu": 1}, 0.002)
    rows = engines_work.measure_steps(make_material(16, 16), effort, 1, batch_size=64)
    assert [row["engine"] for row in rows] == ["torch", "cpu"] * 2
    notes = capsys.readouterr().out.splitlines()
    assert len(notes) == 2 and all("no compiler here" in note and "many" not in note for note in notes)


@pytest.mark.usefixtures("_kernels")
def test_engines_that_do_not_do_the_same_are_not_compared(make_material):
    material = make_material(16, 16)
    one, other = (Contestant(engine, material, {**SMALL, "num_threads": 1}) for engine in ("torch", "cpu"))
    race.check_same_work([one, other])
    other.loss *= 1.1
    with pytest.raises(RuntimeError, match="cpu: loss"):
        race.check_same_work([one, other])


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
@pytest.mark.usefixtures("_kernels")
def test_memory_is_that_of_a_fresh_process(capsys):
    found = engines_work.measure_memory("cpu", 64, 1)
    assert 0 < found["material_bytes"] <= found["peak_bytes"], capsys.readouterr().out
    blocks = engines_work.measure_memory("cpu", 64, 1, "bc1")
    assert 0 < blocks["material_bytes"] <= blocks["peak_bytes"], capsys.readouterr().out
    assert memory.memory_of("Name:\tpython\nVmHWM:\t  20 kB\nVmRSS:\t   12 kB\n", "VmRSS") == 12288


@pytest.mark.usefixtures("_kernels")
def test_a_run_is_scored(tmp_path):
    folder = save_maps(tmp_path / "made")
    with offline():
        row = engines_work.measure_run(str(folder), "cpu", 1, max_iter=2, batch_size=64, n_neurons=16)
    assert (row["material"], row["engine"], row["iteration"]) == ("made", "cpu", 2)
    assert positive(row["seconds"]) and positive(row["psnr"])
    assert table([row]).splitlines()[1].split()[:3] == ["made", "cpu", "2"]


# --- arithmetic ------------------------------------------------------------------------------------------------------


class Scripted:
    """A contestant whose turns take what a list says."""

    def __init__(self, name: str, seconds: list[float], log: list[str]):
        self.name, self.seconds, self.log, self.milliseconds = name, iter(seconds), log, []

    def turn(self, iterations: int) -> float:
        self.log.append(f"{self.name}{iterations}")
        return next(self.seconds)


def test_turns_alternate_and_ratios_are_those_of_rounds(monkeypatch):
    monkeypatch.setattr(race, "PAUSE_S", 0)
    log = []
    slow = Scripted("torch", [0.1, 0.3, 0.8, 0.8, 0.2, 0.2], log)  # another program runs in the second round
    fast = Scripted("cpu", [0.03, 0.01, 0.2, 0.2, 0.02, 0.03], log)
    peaks = iter([1.0, 3.0, 5.0, 5.0, 7.0, 8.0])
    found = race.race([slow, fast], Effort(3, 2, {"torch": 2, "cpu": 10}), lambda: next(peaks))
    assert log == ["torch2", "cpu10"] * 6
    assert slow.milliseconds == pytest.approx([100, 400, 100])
    assert fast.milliseconds == pytest.approx([2, 20, 2.5])
    assert race.median_ratio(slow.milliseconds, fast.milliseconds) == pytest.approx(40)  # of 50, 20, 40
    assert found == [2, 5, 7.5]


def test_thread_counts():
    assert [thread_counts(n) for n in (1, 3)] == [[1], [1, 2, 3]]
    assert thread_counts(24) == [1, 2, 3, 4, 5, 6, 7, 8, 16, 24]


# --- plot ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def result(tmp_path):
    rows = [
        {"part": "size", "size": size, "engine": engine, "threads": 2, "samples_per_second": rate,
         "milliseconds": 8e6 / rate, "fastest": 7e6 / rate, "slowest": 9e6 / rate}
        for size in (512, 1024) for engine, rate in (("torch", 3e5), ("cpu", 2e6))
    ]  # fmt: skip
    path = tmp_path / "engines.json"
    path.write_text(json.dumps({"machine": {"processor": "a CPU", "commit": None}, "entries": rows}))
    return path


def test_plot_says_what_it_needs(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    line = engines_plot.plot(result)
    assert "matplotlib" in line and "\n" not in line
    assert list(result.parent.iterdir()) == [result]


def test_plot_is_an_image(result):
    pytest.importorskip("matplotlib")
    assert engines_plot.plot(result) == str(result.with_suffix(".png"))
    assert result.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    result.write_text(json.dumps({"entries": []}))
    assert "no sizes" in engines_plot.plot(result)


def test_plot_of_nothing_is_refused(tmp_path, capsys):
    code = run_command(lambda: engines_plot.main([str(tmp_path / "missing.json")]))
    assert "missing.json" in refusal_line(code, capsys.readouterr().err)
