"""--shader_precision 8: decoders in whole numbers give numpy's texels to the last bit, in every language.

WGSL runs through wgpu and in a browser's WebGPU, GLSL ES in WebGL 2, Metal as C++; HLSL and GLSL are compiled, and
tests/bench executes the SPIR-V of GLSL.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import export
from common.errors import run_command
from dataset import Constant
from describe import numpy_decoder
from formats.textures import read_export
from maps.channels import CHANNELS
from shaders import generate
from shaders.export import shader_source
from shaders.languages import LANGUAGES
from shaders.weights import integer_network, make_weights, weight_bytes
from shape import DecoderSpec, GridSpec
from tests.support.metal_host import run_metal
from tests.support.runs import refusal_line
from tests.support.shader_cases import Case, Shipped, bc1, make_job, ship
from tests.support.shader_compilers import (
    WRAPPERS,
    assert_every_name_is_defined,
    compile_with_dxc,
    compile_with_glslang,
    example_shader,
    slangc_of_the_committed_files,
)
from tests.support.shader_hosts import run_essl, run_webgpu, run_wgsl
from tests.support.shader_jobs import Job

REFERENCE_FORM = (GridSpec(16, 5, 4, 32), GridSpec(4, 1, 4, 32))
LEARNED_FORM = (GridSpec(32, 4, 2, 16, "learned"), GridSpec(8, 1, 8, 32))
byte_case = functools.partial(Case, precision=8, weights="buffer")
decoder = functools.partial(DecoderSpec, weight_bits=8, activation_bits=8)
CASES = {
    "reference": byte_case(REFERENCE_FORM, decoder(12, 64, 1)),
    "learned": byte_case(LEARNED_FORM, decoder(0, 32, 3, 3, "hard_swish"), (64, 32)),
    "coarse": byte_case((GridSpec(32, 2, 8, 64), GridSpec(1, 1, 8, 32)), decoder(3, 18, 2, 0, "hard_swish")),
    "slope": byte_case((GridSpec(12, 3, 1, 8),), decoder(1, 18, 2, negative_slope=0.25), (12, 12)),
    "relu": byte_case((GridSpec(8, 2, 2, 8),), decoder(2, 20, 1, 1, negative_slope=0.0), (16, 16)),
    "rectangle": byte_case(  # no side is a power of two
        (GridSpec((30, 10), 2, 4, 16, "learned"), GridSpec((12, 4), 1, 8, 32)), decoder(2, 32, 1, 3, "hard_swish"),
        (60, 20),
    ),
    "extras": byte_case(
        (GridSpec((32, 4), 3, 4, 16), GridSpec((16, 2), 2, 8, 8)), decoder(3, 16, 2), (128, 16),
        ("diffuse", "opacity", "emissive", "thickness"), ((13, Constant(200, 8)),),
    ),
    "one_layer": byte_case((GridSpec(4, 2, 4, 16),), decoder(3, 16, 0), (4, 8)),
    "rgba8": byte_case((GridSpec(16, 3, 4, 8), GridSpec(8, 2, 2, 16, "learned")), decoder(1, 16, 1), layout="rgba8"),
    "baked": Case((GridSpec(4, 2, 4, 16),), decoder(1, 16, 1), (8, 8), precision=8),
}  # fmt: skip
SAMPLED = {  # a sampler blends in its own way, and thirds of BC1 are no float32: nearly all texels are equal
    "filterable": byte_case(REFERENCE_FORM, decoder(4, 16, 1), layout="filterable"),
    "bgra4": byte_case((GridSpec(16, 3, 4, 16), *REFERENCE_FORM), decoder(2, 16, 1), layout="bgra4"),
    "bc1": byte_case((GridSpec(16, 5, 4, 16), bc1(32, 6), bc1(8, 1, "learned")), decoder(3, 16, 2, 1, "hard_swish")),
}  # fmt: skip
ALL = CASES | SAMPLED
MOST_UNEQUAL = 0.02  # of the texels of SAMPLED; seen: none but of bc1, 0.002 (lavapipe, SwiftShader, 2026-11-30)
SAMPLED_TOLERANCE = 0.1  # of those: an input is a step off
EXTRAS = ("m.opacity", "m.emissive.x", "m.emissive.y", "m.emissive.z", "m.extra")


@dataclass
class Texels:
    """All texel centres of all LODs of a case: where they are, and what numpy says."""

    one: Shipped
    want: np.ndarray  # (n, channels) float32


def texels_of(one: Shipped, layout: str) -> Texels:
    """An export's texels; numpy reads packed words, which have the same features in all layouts."""
    material, form = one.material, one.model.form
    if layout not in ("packed", "rgba8") and not all(grid.compressed for grid in form.grids):
        packed = one.folder / "packed"
        assert export.main(["--load_dir", str(one.folder), "--out_dir", str(packed), "--dds_layout", "packed"]) == 0
        texture = numpy_decoder.read_texture(packed, form)
    else:
        texture = numpy_decoder.read_texture(one.folder, form, layout)
    assert texture.integers
    want, queries = [], []
    for lod in range(form.num_lods):
        width, height = material.lod_size(lod)
        want.append(numpy_decoder.decode(texture, lod, width, height).reshape(-1, form.decoder.outputs))
        y, x = np.mgrid[:height, :width].astype(np.float32).reshape(2, -1)
        uv = (x + np.float32(0.5)) / np.float32(width), (y + np.float32(0.5)) / np.float32(height)
        queries.append(np.stack([*uv, np.full_like(x, lod), np.zeros_like(x)], axis=1))
    return Texels(dataclasses.replace(one, queries=np.concatenate(queries)), np.concatenate(want))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> dict[str, Shipped]:
    torch.set_num_threads(1)
    cases = enumerate(ALL.items())
    return {name: ship(name, case, tmp_path_factory.mktemp(name), index) for index, (name, case) in cases}


@pytest.fixture(scope="module")
def texels(shipped) -> dict[str, Texels]:
    return {name: texels_of(one, ALL[name].layout) for name, one in shipped.items()}


def job_of(name: str, texels: dict[str, Texels], language: str) -> Job:
    one = texels[name].one
    job = make_job(name, ALL[name], one, language)
    return dataclasses.replace(job, more=EXTRAS if one.model.decoder.outputs > CHANNELS else ())


def assert_equal(got: np.ndarray, said: Texels, sampled: bool = False) -> None:
    """The channels among a host's results are numpy's, bit for bit."""
    outputs = said.one.model.decoder.outputs
    values = np.column_stack([got[:, :CHANNELS], got[:, 20:]])[:, :outputs].astype(np.float32)
    assert values.shape == said.want.shape
    wrong = (values.view("<u4") != said.want.view("<u4")) & ~((values == 0) & (said.want == 0))
    if sampled:
        assert wrong.any(axis=1).mean() <= MOST_UNEQUAL
        assert np.abs(values - said.want).max() <= SAMPLED_TOLERANCE
        return
    assert not wrong.any(), f"{wrong.any(axis=1).sum()} of {len(wrong)} texels, {np.abs(values - said.want).max():g}"


def test_texels_differ(texels):
    """Texels of equal values would prove nothing."""
    for name, said in texels.items():
        moving = [c for c in said.one.material.channels if c not in said.one.model.constants]
        assert said.want[:, moving].std(axis=0).min() > 0.003, name


@pytest.mark.parametrize("name", ALL)
def test_wgsl_through_wgpu(name, texels):
    assert_equal(run_wgsl(job_of(name, texels, "wgsl")), texels[name], name in SAMPLED)


@pytest.mark.parametrize("name", ["reference", "learned"])
def test_between_texels_and_lods(name, shipped):
    """Anywhere at a LOD, positions being exact here, the model's values; between two, inputs may be a step off."""
    one = shipped[name]
    got = run_wgsl(make_job(name, ALL[name], one, "wgsl"))[:, : one.model.decoder.outputs]
    want = one.want[:, : one.model.decoder.outputs].astype(np.float32)
    whole = one.queries[:, 2] % 1 == 0
    assert whole.sum() >= 192 and (~whole).sum() >= 128
    np.testing.assert_array_equal(got[whole], want[whole])
    assert np.abs(got - want).max() <= SAMPLED_TOLERANCE


@pytest.mark.parametrize("name", ["reference", "learned", "coarse", "slope", "rectangle", "baked", "filterable", "bc1"])
def test_metal_as_cpp(name, texels, tmp_path):
    assert_equal(run_metal(job_of(name, texels, "metal"), tmp_path), texels[name], name in SAMPLED)


@pytest.fixture(scope="module")
def essl(texels) -> dict[str, np.ndarray]:
    return run_essl([job_of(name, texels, "essl") for name in ALL])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.timeout(300)
def test_glsl_es_in_webgl(name, texels, essl):
    assert_equal(essl[name], texels[name], name in SAMPLED)


@pytest.fixture(scope="module")
def webgpu(texels) -> dict[str, np.ndarray]:
    return run_webgpu([job_of(name, texels, "wgsl") for name in ALL])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.timeout(300)
def test_wgsl_in_webgpu(name, texels, webgpu):
    assert_equal(webgpu[name], texels[name], name in SAMPLED)


MISTAKES = {  # in WGSL, small ones: what is replaced, and by what
    "half a step of the inputs": (r"(floor\(inputs_\d+ \* vec4<f32>\(16384.0f\)) \+ vec4<f32>\(0.5f\)\)", r"\1)"),
    "steps of the inputs": (r"vec4<i32>\(i32\(255\)\) \+ vec4<i32>\(i32\(4194304\)\)", "vec4<i32>(i32(256)) + 4194304"),
    "a shift": (r"vec4<u32>\(u32\(shifts_0.x\)\)", "vec4<u32>(u32(shifts_0.x)) * 0 + 4"),
    "half of what the shift drops": (r" \+ vec4<i32>\(shifts_0.w\)", ""),
    "the knee": (r"clamp\(p_0 \+ vec4<i32>\(_S(\d+)\)", r"clamp(p_0 + vec4<i32>(_S\1 - 9)"),
    "the zero": (r"\^ \(u32\(2155905152\)\)", "^ (u32(2155905153))"),
    "a row": (r"inputs, rows.w", "inputs, rows.z"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_caught(what, texels):
    job = job_of("learned", texels, "wgsl")
    pattern, wrong = MISTAKES[what]
    source, count = re.subn(pattern, wrong, job.source)
    assert count == 1
    got = run_wgsl(dataclasses.replace(job, source=source))
    with pytest.raises(AssertionError, match="of 2731 texels"):
        assert_equal(got, texels["learned"])


def test_one_wrong_unit_of_one_sum_is_caught(texels):
    job = job_of("reference", texels, "wgsl")
    table = np.frombuffer(job.weights, "<i4").reshape(-1, 4).copy()
    layers = integer_network(texels["reference"].one.model)
    place = np.flatnonzero((table == layers[-1].bias[:4]).all(axis=1))[-1]  # of the first rows of the last layer
    table[place, 2] += 1
    got = run_wgsl(dataclasses.replace(job, weights=table.tobytes()))
    with pytest.raises(AssertionError, match="of 5461 texels"):
        assert_equal(got, texels["reference"])


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "weights"), [
    ("learned", "baked"), ("extras", "buffer"), ("filterable", "buffer"), ("bc1", "baked"),
], ids=str)  # fmt: skip
def test_it_compiles(name, weights, shipped, tmp_path):
    for language in WRAPPERS:
        path = tmp_path / f"{language}.frag"
        example_shader(language, (weights, "auto", ALL[name].layout), shipped[name].folder, path, precision=8)
        compile_with_glslang(language, path)
    for profile, flags, dots in (("sm_6_0", [], False), ("sm_6_4", [], True), ("sm_6_4", ["-DNT_PLAIN_DOTS=1"], False)):
        done = compile_with_dxc(tmp_path / "hlsl.frag", profile, flags, target="dxil-asm")
        assert done.returncode == 0 and "error" not in done.stderr, done.stderr
        assert ("dot4AddPacked" in (tmp_path / "hlsl.dxil-asm").read_text()) == dots


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["learned", "extras", "filterable"])
def test_every_name_is_defined(name, language, shipped):
    one, layout = shipped[name], ALL[name].layout
    for weights, kind in (("baked", "auto"), ("buffer", "auto"), ("buffer", "int8")):
        source = shader_source(one.model, one.material, language, weights, kind, layout, precision=8)
        assert_every_name_is_defined(source)
        assert "whole numbers of 8 bits" in source.split("Bindings:")[0] and "ntActivate" not in source
        for precision in (32, 16):
            other = shader_source(one.model, one.material, language, weights, kind, layout, precision=precision)
            assert not re.search("ntDots|NT_LAYER_WORDS|ntHalved|whole numbers", other)


@pytest.mark.parametrize("target", ["metal"])
def test_marked_texts_are_those_of_slang(target):
    """With several variants at once, which one file holds; up to the numbers that Slang gives to names."""
    slangc = slangc_of_the_committed_files()
    marked = (generate.GENERATED / generate.file_name(target, "mixed")).read_text(encoding="utf-8")
    flag, _ = generate.NETWORKS[generate.INTEGER]
    for variants in ([], [generate.RECTANGLES, generate.EXTRAS], [*generate.VARIANTS]):
        flags = ["-DREADING=2", flag, *(generate.VARIANTS[name] for name in variants)]
        want = generate.translate_source(slangc, generate.SOURCE, target, flags)
        got = generate.choose_text(marked, [generate.INTEGER, *variants])
        assert generate.keep_names(want, got) == want


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["slope", "learned", "one_layer"])
def test_the_table_holds_the_network(name, shipped):
    """Words are read back as network.slang reads them."""
    model = shipped[name].model
    table, at = np.frombuffer(weight_bytes(model, precision=8), "<i4").reshape(-1, 4), 0
    for layer in integer_network(model):
        if not layer.last:
            half, upper = 1 << layer.shift >> 1, layer.offset + (128 << layer.post_shift)
            assert table[at].tolist() == [layer.pre_shift, layer.shift, layer.post_shift, half]
            assert table[at + 1].tolist() == [layer.top, layer.knee, layer.slope, upper]
            at += 2
        rows, inputs = layer.codes.shape
        words = -(-inputs // 4)
        for first in range(0, rows, 4):
            count = min(4, rows - first)
            factors = layer.scales.view("<i4") if layer.last else layer.multipliers
            assert table[at, :count].tolist() == layer.bias[first : first + 4].tolist()
            assert table[at + 1, :count].tolist() == factors[first : first + 4].tolist()
            codes = table[at + 2 : at + 2 + words].copy().view(np.int8).reshape(words, 4, 4).swapaxes(0, 1)
            np.testing.assert_array_equal(codes.reshape(4, -1)[:count, :inputs], layer.codes[first : first + 4])
            assert not codes.reshape(4, -1)[count:].any() and not codes.reshape(4, -1)[:, inputs:].any()
            at += 2 + words
    assert at == len(make_weights(model, "buffer", "auto", 8).table) and not table[at:].any()


# --- command ---------------------------------------------------------------------------------------------------------


def test_the_command_writes_it(shipped, tmp_path):
    out, folder = tmp_path / "out", shipped["learned"].folder
    flags = ["--weights", "buffer", "--shader_precision", "8", "--out_dir", str(out)]
    assert export.main(["--load_dir", str(folder), "--shader", ",".join(LANGUAGES), *flags]) == 0
    exported = read_export(folder)
    for language, syntax in LANGUAGES.items():
        text = (out / syntax.file_name).read_text()
        assert text == shader_source(exported.model, exported.manifest.material, language, "buffer", precision=8)
    assert (out / "decoder_weights.bin").read_bytes() == weight_bytes(exported.model, precision=8)


@pytest.mark.parametrize("precision", [32, 16])
def test_such_a_run_has_decoders_of_floats_too(precision, shipped, texels):
    """Nearly the same texels: what activations lose by 8 bits."""
    job = job_of("learned", texels, "wgsl")
    case = dataclasses.replace(ALL["learned"], precision=precision)
    job = make_job("learned", case, texels["learned"].one, "wgsl")
    got = run_wgsl(job)[:, : shipped["learned"].model.decoder.outputs]
    assert 0 < np.sqrt(((got - texels["learned"].want) ** 2).mean()) < 0.02


def float_run(folder):
    case = Case((GridSpec(4, 2, 4, 16),), DecoderSpec(1, 16, 1, weight_bits=8), (8, 8))
    return ship("floats", case, folder, 0).folder


@pytest.mark.parametrize("flags", [[], ["--on_load"]], ids=str)
def test_a_run_of_floats_is_refused(flags, tmp_path, capsys):
    folder = float_run(tmp_path)
    command = ["--load_dir", str(folder), "--out_dir", str(tmp_path / "o"), "--shader", "hlsl", *flags]
    code = run_command(lambda: export.main([*command, "--shader_precision", "8"]))
    message = refusal_line(code, capsys.readouterr().err)
    assert all(word in message for word in ("--shader_precision 8", "--activation_bits 8", "found 32", "train"))
    assert not list((tmp_path / "o").glob("decoder*"))


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_other_weights_are_refused(kind, shipped, tmp_path, capsys):
    command = ["--load_dir", str(shipped["baked"].folder), "--out_dir", str(tmp_path / "o"), "--shader", "wgsl"]
    code = run_command(lambda: export.main([*command, "--shader_precision", "8", "--weight_type", kind]))
    message = refusal_line(code, capsys.readouterr().err)
    assert f"--weight_type {kind}" in message and "int8" in message
