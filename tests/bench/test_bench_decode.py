"""bench/decode.py: rates that are the decoders' own, counts that a hand count confirms, frames of the material."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from bench import decode, decode_work
from bench.decode_device import Frame, LodDecoder
from bench.decode_shader import compile_decoder, count_operations, decoder_source, shader_textures
from bench.spirv import Invocation, Module
from common.errors import UserError, run_command
from configs import WORD_LAYOUTS
from engine.cpu.library import load_kernels
from engine.errors import KernelsUnavailable
from formats.dds_layouts import LAYOUTS, grid_file_names, layout_problem
from maps.record import MaterialRecord
from metrics.decoded_maps import to_8_bit
from model import NeuralTexture
from shaders.device import NoDevice, open_device
from shaders.weights import group_inputs, weight_bytes, weight_columns
from shape import DecoderSpec, GridSpec
from tests.support.runs import refusal_line

needs_glslang = pytest.mark.skipif(not shutil.which("glslangValidator"), reason="needs glslangValidator: apt install "
                                   "glslang-tools")  # fmt: skip
PACKED, BC1 = ("reference", "learned"), ("bc1_linear", "bc1_learned")
# Layouts and forms: the grids of the learned one have features of 2 bits; blocks look the same in all layouts.
SHADERS = [(layout, form) for layout in LAYOUTS for form in PACKED if (layout, form) != ("bgra4", "learned")]
SHADERS += [("bc1", form) for form in BC1]
OPTIMISE = [False] + [True] * bool(shutil.which("spirv-opt"))


def has_kernels() -> bool:
    try:
        load_kernels()
    except KernelsUnavailable:
        return False
    return True


# --- command ---------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(180)
def test_quick_fills_tables_and_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(decode_work, "NETWORKS", ((1, 16),))
    monkeypatch.setattr(decode_work, "OF_FORM", dict.fromkeys(decode_work.FORMS, (1, 16)))
    monkeypatch.setattr(decode_work, "FRAME_MATERIAL", 32)
    command = ["--quick", "--sizes", "24", "--frame", "24", "16", "--num_threads", "1", "--out", str(tmp_path)]
    assert decode.main(command) == 0
    out = capsys.readouterr().out
    written = json.loads((tmp_path / "decode_quick.json").read_text())
    assert written["benchmark"] == "decode_quick" and written["machine"]["processor"]
    assert written["settings"]["frame"] == [24, 16] and written["settings"]["sizes"] == [24]
    rows = [entry for entry in written["entries"] if entry["part"] == "decode"]
    names = ["numpy", "torch"] + ["cpu"] * has_kernels()
    assert [(row["form"], row["decoder"]) for row in rows] == [(f, n) for f in decode_work.FORMS for n in names]
    for row in rows:
        assert 0 < row["slowest"] <= row["texels_per_second"] <= row["fastest"] < math.inf
        assert row["threads"] == 1 and row["size"] == 24 and row["of_numpy"] > 0 and row["of_torch"] > 0
        assert row["seconds_of_lod_0"] * row["texels_per_second"] == pytest.approx(24 * 24)
        assert row["of_" + row["decoder"]] == 1 if row["decoder"] != "cpu" else True
    both = [entry for entry in written["entries"] if entry["part"] == "shader"]
    shader, halves, bytes_ = ([row for row in both if row["precision"] == bits] for bits in (32, 16, 8))
    if shutil.which("glslangValidator"):
        found = [(row["layout"], row["form"], row["lod"]) for row in halves]
        assert found == [(kind, form, lod) for kind, form in SHADERS if kind in ("packed", "bc1") for lod in (0.0, 0.5)]
        for row in halves:
            if row["lod"] == 0:  # a multiplication and an addition, but for the first of a block or group
                assert row["weight_bytes"] == 2 * row["multiply_adds"]
                assert 1.8 < row["half"] / row["multiply_adds"] < 2.1
        assert [(row["layout"], row["form"], row["lod"]) for row in bytes_] == found
        for row in bytes_:
            if row["lod"] == 0:  # a hidden layer has 8 constants, a row of the 16 + 16 has 2
                assert 4 * row["dot"] == row["multiply_adds"] == row["weight_bytes"] - 4 * (8 + 2 * 32)
                assert row["float"] < 1000
        found = [(row["layout"], row["form"], row["lod"]) for row in shader]
        assert found == [(layout, form, lod) for layout, form in SHADERS for lod in (0.0, 0.5)]
        assert [row["fetch"] for row in shader if row["layout"] == "packed"] == [8, 16, 8, 16]
        # four planes: one sample of each, also between two LODs, or four texels of two and everything twice
        reads = [(row["fetch"], row["sample"]) for row in shader if row["layout"] == "bc1"]
        assert reads == [(0, 4), (0, 4), (8, 2), (16, 4)]
        for row in shader:
            if row["lod"] == 0:  # what the shapes say is what the program does
                assert row["texture_fetches"] == row["fetch"] + row["sample"], row
                assert row["filtered_fetches"] == row["sample"] and row["multiply_adds"] == row["weight_bytes"] / 4
    else:
        assert not shader and "needs glslangValidator" in out
    of_slang = [(row["form"], row["products"]) for row in written["entries"] if row["part"] == "slang"]
    names = [("learned", name) for name in ("plain 32", "plain 16", "plain 8", "matrices 16") for _ in range(2)]
    assert of_slang == names or (not of_slang and "no operations of the decoders in Slang" in out)
    registers = [(row["form"], row["precision"]) for row in written["entries"] if row["part"] == "registers"]
    assert registers == [("learned", bits) for bits in (32, 16, 8)] or (not registers and "no registers" in out)
    frames = [entry for entry in written["entries"] if entry["part"] == "frame"]
    drawn = [(row["layout"], row["form"]) for row in frames if row["precision"] == 32]
    of_halves = [(row["layout"], row["form"]) for row in frames if row["precision"] == 16]
    of_bytes = [(row["layout"], row["form"]) for row in frames if row["precision"] == 8]
    wanted = [kind for kind in drawn if kind[0] in ("packed", "bc1")]
    assert of_halves == wanted or "frames of 16 bits:" in out
    assert of_bytes == wanted
    assert drawn == SHADERS or ("no frames" in out and not drawn) or ("no more frames" in out and drawn == SHADERS[:-2])
    for row in frames:
        assert row["texels_per_second"] * row["milliseconds"] == pytest.approx(1000 * 24 * 16)
        assert row["device"].endswith("(a CPU)") == row["is_cpu"] and 8 <= row["rows"] <= 16


@pytest.mark.parametrize("flags", [["--sizes", "0"], ["--frame", "4", "100000"], ["--num_threads", "-1"]], ids=str)
def test_bad_flags_are_one_line(flags, tmp_path, capsys):
    code = run_command(lambda: decode.main([*flags, "--out", str(tmp_path)]))
    assert flags[0] in refusal_line(code, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_without_tools_there_are_notes(monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert decode_work.measure_shader([(1, 16)]) == []
    monkeypatch.setitem(sys.modules, "wgpu", None)
    open_device.cache_clear()
    try:
        assert decode_work.measure_frames((16, 16), 1, 0.01, {"reference": (1, 16)}) == []
    finally:
        open_device.cache_clear()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "glslang-tools" in lines[0] and "pip install wgpu" in lines[1]


# --- turns -----------------------------------------------------------------------------------------------------------


def test_decoders_that_do_not_do_the_same_are_not_compared(tmp_path, monkeypatch):
    model = decode_work.make_model("learned", 16, (1, 16))
    assert len(decode_work.contestants(model, 16, tmp_path, 1)) >= 2
    monkeypatch.setattr(decode_work, "decode", lambda *arguments: np.zeros((1, 16, 11), np.float32))
    with pytest.raises(RuntimeError, match="torch decodes something else than numpy"):
        decode_work.contestants(model, 16, tmp_path, 1)
    with pytest.raises(RuntimeError, match="nan"):
        decode_work.check_same({"one": np.zeros(3), "other": np.full(3, np.nan)})


def test_a_band_follows_the_other(monkeypatch):
    """Rows are not decoded again before all others have been, and a round counts what was decoded."""
    clock = iter(range(1000))
    monkeypatch.setattr(decode_work.time, "perf_counter", lambda: next(clock))
    calls = []
    one = decode_work.Contestant("numpy", 10, lambda first, rows: calls.append((first, rows)))
    one.rows = 4
    one.round(3)  # each turn takes a second
    assert calls == [(0, 4), (4, 4), (0, 4)] and one.seconds == [3 / (3 * 4 * 10)]


# --- counts ----------------------------------------------------------------------------------------------------------


def tiny_model() -> NeuralTexture:
    """One grid of 8 x 8 with two levels, four features of 8 bits, and a matrix of 16 x 16."""
    model = NeuralTexture([GridSpec(8, 2, 8, 32)], DecoderSpec(0, 16, 0), 3, seed=3)
    with torch.no_grad():
        for parameters in model.grid_parameters:
            parameters.uniform_(-0.5, 0.5)
        model.load_codes(0, model.codes(0))
    return model


def execute(model: NeuralTexture, binary: bytes, lod: float) -> Invocation:
    levels = [level / 255 for level in next(iter(shader_textures(model, "packed").values()))]
    columns = np.frombuffer(weight_bytes(model), "<f4").reshape(-1, 4).tolist()
    texel = [[0.40625, 0.59375, lod, 0.0], [[0.0] * 4 for _ in range(3)]]
    resources = {"ntGrid0": tuple(levels), "NtWeights": [columns], "Texel": texel}
    found = Invocation(Module(binary), resources, ["NtWeights"])
    found.run()
    return found


@needs_glslang
def test_counts_by_hand():
    """Per function, of the program as glslang leaves it: 4 texels of 4 features, 16 inputs and 16 outputs."""
    model = tiny_model()
    binary = compile_decoder(decoder_source(model, (16, 16), "glsl", "packed"), optimise=False)
    found = execute(model, binary, 0.0)
    count = found.by_function
    assert count["ntFetchTexel"]["fetch"] == 4 == found.counts["fetch"]
    assert count["ntLoadWord"]["float"] == 4 * (4 + 4)  # times 255, plus 0.5
    assert count["ntLoadWord"]["integer"] == 4 * (3 + 3 + 1)  # three shifts, three ors; the loop over one plane
    assert count["ntFeatureOf"]["float"] == 16 * 3 and count["ntFeatureOf"]["special"] == 16  # (code - (n-1) * 0.5) / n
    assert count["ntNetwork"]["float"] == 16 * 16 * 2  # a multiplication and an addition per weight
    assert count["ntWeights"]["weights"] == 16 * 16 == found.counts["weights"]
    assert "ntTriangleWave" not in count and "ntActivate" not in count
    between = execute(model, binary, 0.5)
    assert between.counts["fetch"] == 8 and between.by_function["ntNetwork"] == count["ntNetwork"]
    assert between.by_function["ntFeatureOf"]["special"] == 32


@needs_glslang
@pytest.mark.parametrize("optimise", OPTIMISE)
@pytest.mark.parametrize("form", decode_work.FORMS)
@pytest.mark.parametrize("network", [(0, 16), (1, 16), (2, 24)], ids=str)
def test_multiply_adds_are_those_of_the_matrices(form, network, optimise):
    model = decode_work.make_model(form, 32, network)
    binary = compile_decoder(decoder_source(model, (32, 32), "glsl", "packed"), optimise)
    uv = (10.5 / 32, 5.5 / 32)
    counts, decoded = count_operations(binary, model, "packed", uv, 0.0)
    weights = sum(weight.numel() for weight in model.weights)
    assert counts["weights"] == weights and (counts.get("fetch", 0), counts.get("sample", 0)) == {
        "reference": (8, 0), "learned": (8, 0), "bc1_linear": (0, 4), "bc1_learned": (8, 2)
    }[form]  # fmt: skip
    assert 2 * weights < counts["float"] < 2 * weights + 60 * network[1] + 1500
    np.testing.assert_allclose(decoded, model(torch.tensor([uv]), torch.tensor([0.0]))[0].detach(), atol=1e-5)


@needs_glslang
@pytest.mark.parametrize("optimise", OPTIMISE)
@pytest.mark.parametrize("network", [(0, 16), (1, 24), (2, 18)], ids=str)
def test_operations_of_16_bits_by_hand(network, optimise):
    """Four products a row are added in a block, blocks in a group, and groups in float32."""
    model = decode_work.make_model("learned", 32, network)
    binary = compile_decoder(decoder_source(model, (32, 32), "glsl", "packed", 16), optimise)
    uv = (10.5 / 32, 5.5 / 32)
    counts, decoded = count_operations(binary, model, "packed", uv, 0.0, 16)
    want = model(torch.tensor([uv]), torch.tensor([0.0]))[0].detach().numpy()
    assert 1e-6 < np.abs(decoded - want).max() < 1 / 255
    columns = weight_columns(model).size
    assert counts["weights"] == columns / 2  # words of two
    features = 4 * sum(grid.features for grid in model.grids)
    waves = 2 * model.decoder.n_texel_frequencies
    groups = columns // group_inputs(model)
    assert counts["half"] == columns + 3 * columns // 4 + (columns // 4 - groups) + features + waves


@needs_glslang
def test_halves_are_rounded(tmp_path):
    (tmp_path / "a.comp").write_text("""#version 450
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
layout(local_size_x = 1) in;
layout(std430, binding = 1) buffer Data { uint word; vec4 found; };
void main()
{
    f16vec2 two = unpackFloat2x16(word);
    float16_t third = float16_t(1.0) / float16_t(3.0);
    found = vec4(float(two.x * two.y), float(two.x + third), float(float16_t(found.z)), float(-third));
}
""")
    subprocess.run(["glslangValidator", "-V", tmp_path / "a.comp", "-o", tmp_path / "a.spv"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    half = np.float16
    two = np.array([2049 / 1024, -3.141], half)
    run = Invocation(Module((tmp_path / "a.spv").read_bytes()), {"Data": [int(two.view(np.uint32)[0]), [0, 0, 0.1, 0]]})
    counts = run.run()
    want = [two[0] * two[1], two[0] + half(1) / half(3), half(0.1), -half(1) / half(3)]
    assert run.buffer("Data")[1] == [float(value) for value in want]
    assert counts["half"] >= 2 and counts.get("float", 0) == 0


@needs_glslang
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", PACKED)
def test_every_layout_decodes_the_same(layout, form):
    model = decode_work.make_model(form, 32, (1, 16))
    if layout_problem(model.grids, layout):
        with pytest.raises(UserError, match=f"--dds_layout {layout}"):
            decoder_source(model, (32, 32), "glsl", layout)
        return
    binary = compile_decoder(decoder_source(model, (32, 32), "glsl", layout), optimise=False)
    uv = (10.5 / 32, 5.5 / 32)
    counts, decoded = count_operations(binary, model, layout, uv, 0.5)
    np.testing.assert_allclose(decoded, model(torch.tensor([uv]), torch.tensor([0.5]))[0].detach(), atol=1e-5)
    linear = [len(grid_file_names(0, grid, layout)) for grid in model.grids if grid.interpolation == "linear"]
    twice = 2 if len(linear) < len(model.grids) else 1  # between two LODs the results are blended, or the features
    assert counts.get("sample", 0) == (0 if layout in WORD_LAYOUTS else sum(linear) * twice)


@needs_glslang
def test_another_program_than_the_decoder_is_not_counted(monkeypatch):
    def sabotaged(*arguments):
        source = decoder_source(*arguments)
        assert "texel, mip)" in source
        return source.replace("texel, mip)", "texel / 2, mip + 1)", 1)

    monkeypatch.setattr(decode_work, "decoder_source", sabotaged)
    with pytest.raises(RuntimeError, match="the shader"):
        decode_work.measure_shader([(1, 16)])


# --- interpreter -----------------------------------------------------------------------------------------------------

PROGRAM = """#version 450
layout(local_size_x = 1) in;
layout(binding = 0) uniform sampler2D image;
layout(std430, binding = 1) buffer Data { uint words[4]; vec4 found[6]; };

float choose(int k)
{
    switch (k) { case 0: return 5.0; case -2: return 6.0; default: return 7.0; }
}

void main()
{
    uint wide = words[0] * 3u + 7u;
    int negative = int(words[1]) >> 3;
    found[0] = vec4(float(wide), float(negative), float(negative / 7), float(-negative % 4));
    found[1] = vec4(unpackHalf2x16(words[2]), float(~words[3] >> 28u), float((words[3] ^ 5u) & 0xffu));
    found[2] = vec4(fract(-1.25), mix(2.0, 4.0, 0.25), clamp(7.0, 1.0, 3.0), sqrt(2.0 * float(words[3])));
    found[3] = textureLod(image, vec2(-0.3, 1.7), 0.75);
    found[4] = vec4(choose(int(words[3]) - 9), choose(int(words[3]) - 11), choose(3), dot(found[2], found[3]));
    mat2x3 dummy = mat2x3(1.0);
    vec3 v = vec3(1.0, -2.0, 3.0);
    v.y = -v.y;
    found[5] = vec4(v.zyx, length(v));
}
"""


@needs_glslang
@pytest.mark.parametrize("optimise", OPTIMISE)
def test_instructions_by_hand(optimise, tmp_path):
    source = PROGRAM.replace("    mat2x3 dummy = mat2x3(1.0);\n", "")
    (tmp_path / "a.comp").write_text(source)
    subprocess.run(["glslangValidator", "-V", tmp_path / "a.comp", "-o", tmp_path / "a.spv"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    if optimise:
        subprocess.run(["spirv-opt", "-O", tmp_path / "a.spv", "-o", tmp_path / "a.spv"], check=True)
    random = np.random.default_rng(0)
    levels = (random.random((4, 6, 4)), random.random((2, 3, 4)))
    minus = 2**32 - 1000
    half = int(np.array([0.5, -3.25], np.float16).view(np.uint32)[0])
    data = [[2**31 + 5, minus, half, 9], [[0.0] * 4 for _ in range(6)]]
    run = Invocation(Module((tmp_path / "a.spv").read_bytes()), {"image": levels, "Data": data})
    counts = run.run()
    found = np.array(run.buffer("Data")[1])
    wide = ((2**31 + 5) * 3 + 7) % 2**32
    np.testing.assert_allclose(found[0], [wide, -125, -17, 1])
    np.testing.assert_allclose(found[1], [0.5, -3.25, 15, 12])
    np.testing.assert_allclose(found[2], [0.75, 2.5, 3, math.sqrt(18)], rtol=1e-6)

    def bilinear(image):
        height, width, _ = image.shape
        px, py = -0.3 * width - 0.5, 1.7 * height - 0.5
        x, y = math.floor(px), math.floor(py)
        rows = [[image[(y + j) % height, (x + i) % width] for i in (0, 1)] for j in (0, 1)]
        across = [row[0] * (1 - (px - x)) + row[1] * (px - x) for row in rows]
        return across[0] * (1 - (py - y)) + across[1] * (py - y)

    filtered = 0.25 * bilinear(levels[0]) + 0.75 * bilinear(levels[1])
    np.testing.assert_allclose(found[3], filtered, atol=1e-6)
    np.testing.assert_allclose(found[4], [5, 6, 7, found[2] @ found[3]], atol=1e-6)
    np.testing.assert_allclose(found[5], [3, 2, 1, math.sqrt(14)], rtol=1e-6)
    assert counts["sample"] == 1 and "fetch" not in counts and "weights" not in counts


def test_what_is_no_module_is_refused():
    for payload in (b"", b"abcdefgh" * 9, bytes(40)):
        with pytest.raises(ValueError, match="SPIR-V"):
            Module(payload)


# --- frames ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", decode_work.FORMS)
def test_a_frame_shows_the_material(form):
    model = decode_work.make_model(form, 16, (1, 16))
    try:
        frame = Frame(model, (16, 16), (24, 19), "packed")
    except NoDevice as error:
        pytest.skip(str(error))
    row = decode_work.measure_frame(frame, 1, 0.0)
    assert row["rows"] == 8  # any time is enough
    frame.draw(19)
    found, want = frame.pixels().astype(int), to_8_bit(model.decode(0, 16, 16)).astype(int)
    # BC1: a device has filter weights and thirds of its own; lavapipe was off by 1
    worst = 3 if form in BC1 else 1
    for y in range(19):
        for x in range(24):
            assert np.abs(found[y, x] - want[y % 16, x % 16]).max() <= worst, (x, y)
    assert want.std() > 5


def test_a_device_without_bc1_draws_the_other_frames(monkeypatch, capsys):
    def frame(model, material, size, layout, precision):
        if model.grids[0].compressed:
            raise NoDevice("this one has no texture-compression-bc")
        return model

    monkeypatch.setattr(decode_work, "Frame", frame)
    monkeypatch.setattr(decode_work, "measure_frame", lambda *arguments: {"rows": 8})
    rows = decode_work.measure_frames((16, 16), 1, 0.01, dict.fromkeys(decode_work.FORMS, (1, 16)))
    assert [(row["layout"], row["form"]) for row in rows if row["precision"] == 32] == SHADERS[:-2]
    assert [(row["layout"], row["form"]) for row in rows if row["precision"] == 16] == SHADERS[:2]
    assert "note: no more frames: this one has no" in capsys.readouterr().out


def test_a_device_without_halves_draws_the_others(monkeypatch, capsys):
    def frame(model, material, size, layout, precision):
        if precision == 16:
            raise NoDevice("this one has no shader-f16")

    monkeypatch.setattr(decode_work, "Frame", frame)
    monkeypatch.setattr(decode_work, "measure_frame", lambda *arguments: {"rows": 8})
    rows = decode_work.measure_frames((16, 16), 1, 0.01, dict.fromkeys(decode_work.FORMS, (1, 16)))
    of_bytes = [(kind, form, 8) for kind, form in SHADERS if kind in ("packed", "bc1")]
    drawn = [(row["layout"], row["form"], row["precision"]) for row in rows]
    assert drawn == [(*kind, 32) for kind in SHADERS] + of_bytes
    assert "note: no more frames of 16 bits: this one has no shader-f16" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["learned", "bc1_linear"])
def test_whole_lods_from_a_device(form):
    """Called as NeuralTexture.decode is: the same texels, in bands too, and with 16 bits almost the same."""
    model = decode_work.make_model(form, 32, (1, 16))
    try:
        whole, half = (LodDecoder(model, MaterialRecord("", 32, 32, ()), bits) for bits in (32, 16))
    except NoDevice as error:
        pytest.skip(str(error))
    tolerance = 1e-2 if form in BC1 else 1e-5  # a device's filter has weights and thirds of its own
    for lod, side in ((0, 32), (2, 8)):
        want, found = model.decode(lod, side, side).numpy(), whole(model, lod, side, side).numpy()
        np.testing.assert_allclose(found, want, atol=tolerance)
        difference = np.abs(half(model, lod, side, side).numpy() - found).max()
        assert 1e-5 < difference < 1 / 255
    rows = whole(model, 0, 32, 32, rows=slice(5, 9))
    np.testing.assert_array_equal(rows, whole(model, 0, 32, 32)[5:9])


def test_lods_of_extra_maps_have_all_channels():
    model = NeuralTexture([GridSpec(8, 2, 8, 32)], DecoderSpec(2, 16, 1, outputs=16), 3, seed=3)
    try:
        found = LodDecoder(model, MaterialRecord("", 16, 16, ()), 32)(model, 1, 8, 8)
    except NoDevice as error:
        pytest.skip(str(error))
    np.testing.assert_allclose(found, model.decode(1, 8, 8).numpy(), atol=1e-5)
