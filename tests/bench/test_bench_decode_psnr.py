"""bench/decode.py --psnr: trained networks of all sizes, each beside the cost of its own decoder."""

from __future__ import annotations

import json
import shutil

import pytest

from bench import decode, decode_plot, decode_psnr, decode_work
from common.errors import UserError, run_command
from engine.cpu.library import load_kernels
from engine.errors import KernelsUnavailable
from tests.support.runs import refusal_line, save_maps

WORDS = [decode_work.network_name(network) for network in decode_work.NETWORKS]


def fake(folder, settings):
    """A run whose PSNR grows with the network and the rate; nothing fits 20 bpp."""
    if settings["bpp"] == 20:
        raise UserError("--bpp 20: too much")
    layers, neurons = map(int, settings["network"].split("x"))
    psnr = 30 + settings["bpp"] + layers + neurons / 16 - (settings["decoder"] == "linear")
    return {
        "material": str(folder), "bpp": settings["bpp"], "psnr": psnr, "psnr_filtered": psnr - 1, "iterations": 10,
        "seconds": 1.0, "texture_fetches": 8, "filtered_fetches": 0, "texture_bytes": 20,
        "multiply_adds": layers * neurons * 50, "float_operations": layers * neurons * 150, "other_operations": 9,
    }  # fmt: skip


def test_every_network_rate_and_form_has_a_row(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(decode_psnr, "trained", fake)
    command = ["--psnr", "stone", "$\\alpha$", "--rates", "2.5", "20", "--out", str(tmp_path), "--preset", "preview"]
    assert decode.main(command) == 0
    written = json.loads((tmp_path / "decode_psnr.json").read_text())
    assert written["settings"]["rates"] == [2.5, 20] and written["machine"]["processor"]
    forms = ["packed learned", "packed linear", "bc1 learned", "bc1 linear"]
    rows = [(row["material"], row["form"], row["network"]) for row in written["entries"]]
    assert rows == [(m, form, word) for m in ("stone", "$\\alpha$") for form in forms for word in WORDS]
    out = capsys.readouterr().out
    assert out.count("too much") == len(rows) and out.count("note: stone, bc1 linear 2x64") == 1
    table = out[out.index("material  bpp") :].splitlines()
    assert len(table) == len(rows) + 3 and "34.50" in table[1] and table[1].split()[-5:-2] == ["20", "800", "2400"]
    assert table[-1].endswith("decode_psnr.png") or "needs matplotlib" in table[-1]


def test_the_plot_has_a_line_for_each_form(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="not installed (pip install matplotlib)")
    monkeypatch.setattr(decode_psnr, "trained", fake)
    rows = list(decode_psnr.measure_psnr(["a"], [2.5, 10], WORDS, decode_psnr.TRAINED_FORMS, "fast"))
    machine = {"processor": "one", "commit": None, "date": "today"}
    bare = [{name: value for name, value in row.items() if name != "float_operations"} for row in rows]
    for entries, cost in ((rows, "float operations"), (bare, "multiply-adds")):
        figure = decode_plot.draw({"entries": entries, "machine": machine})
        assert len(figure.axes) == 2 and cost in figure.axes[0].get_xlabel()
        for axes, rate in zip(figure.axes, (2.5, 10)):
            lines = {line.get_label(): line for line in axes.get_lines()}
            assert list(lines) == list(decode_plot.STYLES) and f"{rate:g} bpp" in axes.get_title()
            assert list(lines["packed learned"].get_ydata()) == [30 + rate + x for x in (2, 3, 4, 6, 7)]


def test_nothing_that_can_be_trained_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(decode_psnr, "trained", fake)
    code = run_command(lambda: decode.main(["--psnr", "a", "--rates", "20", "--out", str(tmp_path)]))
    assert "--psnr" in refusal_line(code, capsys.readouterr().err) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("latents", ["packed", "bc1"])
def test_a_row_is_that_of_the_run_and_its_decoder(latents, tmp_path):
    """A short run: the smaller network costs less, and both sample the grids alike."""
    try:
        load_kernels()
    except KernelsUnavailable as error:
        pytest.skip(f"needs the kernels: {error}")
    maps = save_maps(tmp_path / "maps", 128, 128, present=("diffuse", "normal"))
    form = {"latents": latents, "decoder": "linear", "positions": "centres", "bpp": 10.0, "preset": "preview"}
    short = {"max_iter": 20, "refine": 0, "batch_size": 256, "num_threads": 1}
    rows = [decode_psnr.trained(str(maps), {**form, **short, "network": word}) for word in ("1x16", "1x32")]
    for row in rows:
        assert row["material"] == "maps" and abs(row["bpp"] / 10 - 1) < 0.05 and row["iterations"] == 20
        assert 5 < row["psnr"] < 40 and row["seconds"] > 0
        assert (row["filtered_fetches"] > 0) == (latents == "bc1")
        if "half_loss" in row:  # there is a device with numbers of 16 bits
            assert abs(row["half_loss"]) < 0.02 and 0 < row["half_error"] < 2
    small, wide = rows
    assert small["multiply_adds"] * 2 == wide["multiply_adds"] and small["texture_fetches"] == wide["texture_fetches"]
    if shutil.which("glslangValidator"):
        assert small["multiply_adds"] < small["float_operations"] < wide["float_operations"]
        assert small["float_operations"] / 4 < small["other_operations"] < wide["other_operations"]
