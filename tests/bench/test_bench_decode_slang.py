"""bench.decode on decoders in Slang, and on what a driver's compiler says: counts that shapes confirm, else notes."""

from __future__ import annotations

import sys

import pytest

from bench import decode_registers, decode_slang
from bench.decode_registers import measure_registers
from bench.decode_slang import measure_gpu, measure_slang, slang_spirv
from bench.decode_work import make_model
from bench.spirv import Module
from bench.vulkan_device import BUFFER, IMAGE, Binding, bindings_of
from shaders.generate import find_slangc
from shaders.matrices import matrices, matrix_bytes

needs_slang = pytest.mark.skipif(find_slangc() is None, reason="needs Slang's compiler: pip install --no-deps "
                                 "slangtorch")  # fmt: skip


@needs_slang
@pytest.mark.parametrize("form", ["reference", "learned"])
def test_counts_are_those_of_the_shapes(form):
    rows = measure_slang(lambda form, bits: make_model(form, 32, (2, 16), bits), [form], (0.0, 0.5))
    assert [(row["products"], row["lod"]) for row in rows] == [
        (name, lod) for name in ("plain 32", "plain 16", "plain 8", "matrices 16") for lod in (0.0, 0.5)
    ]
    products = sum(place.rows * place.columns for place in matrices(make_model(form, 32, (2, 16))))
    passes = {0.0: 1, 0.5: 2 if form == "learned" else 1}  # of the network
    for row in rows:
        many = passes[row["lod"]] * products
        bits = int(row["products"].split()[-1])
        assert row["fetch"] == {0.0: 8, 0.5: 16}[row["lod"]]
        assert row["matrix"] == (many if row["products"] == "matrices 16" else 0)
        assert row["dot"] == (many // 4 if bits == 8 else 0)
        assert row["weight_bytes"] == many * bits // 8 or (bits == 8 and row["weight_bytes"] > many)  # with constants
        arithmetic = row["float"] + row["half"]  # what is left are positions, features and activations
        assert arithmetic > 1.8 * many if row["products"] in ("plain 32", "plain 16") else arithmetic < 2500


@needs_slang
def test_a_matrix_beside_its_buffer_is_an_error():
    """As on a GPU, where it may be anything."""
    model = make_model("reference", 32, (1, 16))
    spirv = slang_spirv(model, (32, 32), True, 32)
    buffer = {"ntMatrices": matrix_bytes(model)[:-64]}
    with pytest.raises(RuntimeError, match="a matrix at byte"):
        decode_slang.run_texel(spirv, model, buffer, (0.5, 0.5, 0.0))


@needs_slang
def test_another_layout_of_matrices_is_not_counted_as_rows(monkeypatch):
    model = make_model("reference", 32, (1, 16))
    source = decode_slang.texels_source
    column_major = "#define NT_MATRIX_LAYOUT CoopVecMatrixLayout::ColumnMajor\n#define NT_MATRIX_OFFSET(layer) 0\n"
    monkeypatch.setattr(decode_slang, "texels_source", lambda model: column_major + source(model))
    spirv = slang_spirv(model, (32, 32), True, 32)
    with pytest.raises(NotImplementedError, match="another kind or layout"):
        decode_slang.run_texel(spirv, model, {"ntMatrices": matrix_bytes(model)}, (0.5, 0.5, 0.0))


@needs_slang
def test_bindings_are_those_of_the_text():
    found = bindings_of(Module(slang_spirv(make_model("reference", 32, (1, 16)), (32, 32), True, 32)))
    assert set(found) == {
        Binding("ntGrid0", 0, 0, IMAGE), Binding("ntGrid1", 0, 1, IMAGE), Binding("ntMatrices", 0, 3, BUFFER),
        Binding("ntQueries", 1, 0, BUFFER), Binding("ntDecoded", 1, 1, BUFFER),
    }  # fmt: skip


def test_without_tools_there_are_notes(monkeypatch, capsys):
    make = lambda form, bits: make_model(form, 8, (1, 16), bits)  # noqa: E731
    monkeypatch.setattr(decode_slang, "find_slangc", lambda: None)
    assert measure_slang(make, ["reference"], (0.0,)) == []
    monkeypatch.setitem(sys.modules, "vulkan", None)
    assert measure_gpu(make, ["reference"], (16, 16)) == []
    given = [("reference", "1x16", 32, make("reference", 32))]
    monkeypatch.setattr(decode_registers, "shader_tools", lambda: (None, None))
    assert measure_registers(given) == []
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(line.startswith("note: ") for line in lines)
    assert "slangtorch" in lines[0] and "vulkan" in lines[1] and "glslang-tools" in lines[2]


def test_without_the_driver_there_is_a_note(monkeypatch, capsys):
    monkeypatch.setattr(decode_registers, "radv_driver", lambda: None)
    rows = measure_registers([("reference", "1x16", 32, make_model("reference", 8, (1, 16)))])
    assert rows == [] and "note: no registers: needs" in capsys.readouterr().out


def test_registers_of_a_gpu_that_is_not_here(capsys):
    pytest.importorskip("vulkan", reason="needs the package vulkan: pip install vulkan", exc_type=ImportError)
    given = [("learned", "1x16", 16, make_model("learned", 32, (1, 16))),
             ("learned", "2x32", 32, make_model("learned", 32, (2, 32))),
             ("learned", "2x64", 32, make_model("learned", 32, (2, 64)))]  # fmt: skip
    rows = measure_registers(given)
    if not rows:
        pytest.skip(capsys.readouterr().out.strip())
    assert [(row["network"], row["precision"]) for row in rows] == [one[1:3] for one in given]
    for row in rows:
        assert "GFX1100" in row["device"] and 16 <= row["vgprs"] <= 256 and row["code_bytes"] > 1000
        assert row["instructions"] > 100 and row["waves"] >= 1
    small, large = rows[1:]
    assert small["vgprs"] < large["vgprs"] and small["code_bytes"] < large["code_bytes"]
