"""--shader_precision 16: what decoders with products of 16 bits say, against numpy, and that every language takes them.

WGSL runs through wgpu, GLSL ES in WebGL 2 (where mediump has 32 bits on a CPU), Metal as C++ with rounded halves.
"""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np
import pytest
import torch

import export
from common.errors import run_command
from dataset import Constant
from formats.textures import read_export
from maps.channels import CHANNELS
from model import NeuralTexture
from shaders import generate
from shaders.export import shader_source
from shaders.languages import LANGUAGES
from shaders.weights import CODE_UNIT, group_inputs, make_weights, weight_bytes, weight_columns
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.metal_host import run_metal
from tests.support.runs import refusal_line
from tests.support.shader_cases import ALL_MAPS, Case, Shipped, bc1, make_job, ship
from tests.support.shader_compilers import (
    WRAPPERS,
    assert_every_name_is_defined,
    compile_with_dxc,
    compile_with_glslang,
    example_shader,
    slangc_of_the_committed_files,
)
from tests.support.shader_hosts import HALF_FEATURE, run_essl, run_wgsl, wgpu_device
from tests.support.shader_jobs import Job

REFERENCE_FORM = (GridSpec(16, 5, 4, 32), GridSpec(4, 1, 4, 32))
LEARNED_FORM = (GridSpec(32, 4, 2, 16, "learned"), GridSpec(8, 1, 8, 32))
half_case = functools.partial(Case, precision=16, weights="buffer")
CASES = {  # how weights are stored, how features are read, groups of 8 and 4 inputs, and shapes
    "reference": half_case(REFERENCE_FORM, DecoderSpec(12, 64, 2)),
    "learned": half_case(LEARNED_FORM, DecoderSpec(0, 32, 3, 3, "hard_swish", weight_bits=16), (64, 32)),
    "codes": half_case(LEARNED_FORM, DecoderSpec(0, 32, 2, 3, "hard_swish", weight_bits=8), (32, 64)),
    "codes_18": half_case((GridSpec(12, 3, 1, 8),), DecoderSpec(1, 18, 2, weight_bits=8), (12, 12)),
    "int8": half_case(REFERENCE_FORM, DecoderSpec(2, 24, 1, weight_bits=8), weight_type="int8"),
    "bc1": half_case((GridSpec(16, 5, 4, 16), bc1(32, 6), bc1(8, 1)), DecoderSpec(3, 16, 2)),
    "filterable": half_case(REFERENCE_FORM, DecoderSpec(4, 16, 1, weight_bits=16), layout="filterable"),
    "oblong": half_case(
        (GridSpec((64, 8), 4, 2, 16, "learned"), GridSpec((24, 3), 1, 8, 32)),
        DecoderSpec(0, 32, 1, 3, "hard_swish", weight_bits=8), (128, 16),
    ),
    "extras": half_case(
        (GridSpec((32, 4), 3, 4, 16), bc1((64, 8), 4)), DecoderSpec(3, 16, 2, weight_bits=8), (128, 16),
        ("diffuse", "opacity", "emissive", "thickness"), ((13, Constant(200, 8)),),
    ),
    "one_layer": half_case((GridSpec(4, 2, 4, 16),), DecoderSpec(3, 16, 0), (4, 8)),
    "baked": Case((GridSpec(4, 2, 4, 16),), DecoderSpec(1, 16, 0, weight_bits=8), (1, 1), precision=16),
}  # fmt: skip
EXTRAS = ("m.opacity", "m.emissive.x", "m.emissive.y", "m.emissive.z", "m.extra")
TOLERANCE = 1 / 255  # worst seen: 0.0014 (2 x 64, lavapipe, 2026-11-30); the mistakes below made 0.03 to 0.6
MORE_NOISE = 1.3  # than numpy's 16 bits have; seen: 1.0, where a GPU fuses products with sums it may be less


@dataclasses.dataclass
class Numbers:
    """What numpy says at a case's queries, (n, channels): with float64, and with products of 16 bits."""

    want: np.ndarray
    half: np.ndarray


def half_network(model: NeuralTexture, group: int, texture: reference.Texture, inputs: np.ndarray) -> np.ndarray:
    """reference.network as shaders/network.slang does it: blocks of four, groups of blocks, groups in float32."""
    values = inputs.astype(np.float32)
    kind = make_weights(model, "buffer", "auto", 16).kind
    for index, weight in enumerate(texture.weights):
        scale = np.ones(len(weight))
        if kind == "codes16":  # the largest code of a row is 127
            scale = np.maximum(np.abs(weight).max(axis=1) / 127 * CODE_UNIT, 1e-30)
        columns, rounded = (weight / scale[:, None]).astype(np.float16), values.astype(np.float16)
        sums = np.zeros((len(values), len(weight)), np.float32)
        for first in range(0, weight.shape[1], group):
            part = None
            for block in range(first, min(first + group, weight.shape[1]), 4):
                products = [rounded[:, i, None] * columns[:, i] for i in range(block, min(block + 4, weight.shape[1]))]
                one = functools.reduce(np.add, products)
                part = one if part is None else part + one
            sums += part.astype(np.float32)
        values = sums * scale.astype(np.float32)
        if index < len(texture.weights) - 1:
            values = activated(texture, values)
    return values[:, : texture.outputs].astype(np.float64)


def activated(texture: reference.Texture, x: np.ndarray) -> np.ndarray:
    if texture.activation == "hard_swish":
        return x * np.clip(x + 3, 0, 6) / 6
    return np.where(x > 0, x, texture.negative_slope * x)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> dict[str, Shipped]:
    torch.set_num_threads(1)
    cases = enumerate(CASES.items())
    return {name: ship(name, case, tmp_path_factory.mktemp(name), index) for index, (name, case) in cases}


@pytest.fixture(scope="module")
def numbers(shipped) -> dict[str, Numbers]:
    found = {}
    for name, one in shipped.items():
        case = CASES[name]
        texture = reference.load_export(
            one.folder, one.model.num_lods, [grid.interpolation for grid in case.grids],
            case.decoder.n_texel_frequencies, case.decoder.activation, case.layout,
        )  # fmt: skip
        texture.outputs = one.model.decoder.outputs
        exact, here = reference.network, functools.partial(half_network, one.model, group_inputs(one.model))
        both = []
        for network in (exact, here):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(reference, "network", network)
                both.append(reference.forward(texture, one.queries[:, :2], one.queries[:, 2]))
        for channel, constant in case.constants:
            for values in both:
                values[:, channel] = constant.code / (2**constant.bit_depth - 1)
        found[name] = Numbers(*both)
    return found


def job_of(name: str, shipped: dict[str, Shipped], language: str) -> Job:
    job = make_job(name, CASES[name], shipped[name], language)
    return dataclasses.replace(job, more=EXTRAS if shipped[name].model.decoder.outputs > CHANNELS else ())


def decoded(got: np.ndarray, one: Shipped) -> np.ndarray:
    """The channels among a host's results."""
    return np.column_stack([got[:, :CHANNELS], got[:, 20:]])[:, : one.model.decoder.outputs].astype(np.float64)


def noise(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.sqrt(((got - want) ** 2).mean()))


def assert_half_parity(got: np.ndarray, one: Shipped, said: Numbers) -> None:
    """As exact as 16 bits are: no texel far off, and no more noise than numpy's."""
    values = decoded(got, one)
    assert np.isfinite(got).all()
    assert np.abs(values - said.want).max() <= TOLERANCE
    assert noise(values, said.want) <= MORE_NOISE * noise(said.half, said.want)
    np.testing.assert_allclose(got[:, 17:20], one.want[:, 17:20], atol=1e-4)  # positions have 32 bits


def needs_halves() -> None:
    if HALF_FEATURE not in wgpu_device().features:
        pytest.skip(f"the device of wgpu has no {HALF_FEATURE}")


@pytest.mark.parametrize("name", CASES)
def test_wgsl_through_wgpu(name, shipped, numbers):
    needs_halves()
    got = run_wgsl(job_of(name, shipped, "wgsl"))
    assert_half_parity(got, shipped[name], numbers[name])
    assert noise(decoded(got, shipped[name]), numbers[name].want) > 1e-5  # it is not the decoder of 32 bits


MISTAKES = {  # in WGSL: what is replaced, and by what
    "a block is left out": (r"next_0 : i32 = i32\(4\)", "next_0 : i32 = i32(8)"),
    "groups overlap": (r"first_(\d+) = first_\1 \+ _S(\d+);", r"first_\1 = first_\1 + i32(4);"),
    "columns in turns": (r"\(ntWeights\(\(column_0 \+ i32\(1\)\)\)\)", "(ntWeights((column_0 + i32(2))))"),
    "no scales": (r"vec4<f32>\(128.0, 128.0, 128.0, 128.0\) \* ", ""),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_caught(what, shipped, numbers):
    needs_halves()
    job = job_of("codes", shipped, "wgsl")
    pattern, wrong = MISTAKES[what]
    source, count = re.subn(pattern, wrong, job.source)
    assert count == 1
    got = run_wgsl(dataclasses.replace(job, source=source))
    with pytest.raises(AssertionError):
        assert_half_parity(got, shipped["codes"], numbers["codes"])


@pytest.mark.parametrize("name", CASES)
def test_metal_as_cpp(name, shipped, numbers, tmp_path):
    assert_half_parity(run_metal(job_of(name, shipped, "metal"), tmp_path), shipped[name], numbers[name])


@pytest.fixture(scope="module")
def essl(shipped) -> dict[str, np.ndarray]:
    return run_essl([job_of(name, shipped, "essl") for name in CASES])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.timeout(300)
def test_glsl_es_in_webgl(name, shipped, numbers, essl):
    assert_half_parity(essl[name], shipped[name], numbers[name])


# --- text ------------------------------------------------------------------------------------------------------------

STORAGES = [("baked", "auto"), ("buffer", "auto"), ("buffer", "int8"), ("buffer", "float16")]


@pytest.mark.parametrize(("name", "storage", "kind"), [
    *[("codes", *storage) for storage in STORAGES], ("extras", "buffer", "auto"), ("filterable", "buffer", "auto"),
], ids=str)  # fmt: skip
def test_it_compiles(name, storage, kind, shipped, tmp_path):
    for language in WRAPPERS:
        path = tmp_path / f"{language}.frag"
        example_shader(language, (storage, kind, CASES[name].layout), shipped[name].folder, path, precision=16)
        compile_with_glslang(language, path)
    for profile, flags in (("sm_6_0", []), ("sm_6_2", ["-enable-16bit-types"])):
        done = compile_with_dxc(tmp_path / "hlsl.frag", profile, flags)
        assert done.returncode == 0 and "error" not in done.stderr, done.stderr


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["codes", "extras", "filterable"])
def test_every_name_is_defined(name, language, shipped):
    one, layout = shipped[name], CASES[name].layout
    for storage, kind in STORAGES[: 2 if name == "filterable" else 4]:
        source = shader_source(one.model, one.material, language, storage, kind, layout, precision=16)
        assert_every_name_is_defined(source)
        assert "products are of 16 bits" in source.split("Bindings:")[0] and "ntBlock(" in source
        whole = shader_source(one.model, one.material, language, storage, kind, layout)
        assert not re.search(r"ntBlock|NT_GROUP|\bf16\b|NT_HALF|mediump|\bhalf\d?\b (?!\()", whole)


@pytest.mark.parametrize("target", ["hlsl", "wgsl"])
def test_marked_texts_are_those_of_slang(target):
    """With several variants at once, which one file holds; up to the numbers that Slang gives to names."""
    slangc = slangc_of_the_committed_files()
    marked = (generate.GENERATED / generate.file_name(target, "mixed")).read_text(encoding="utf-8")
    for variants in ([], [generate.ROW_SCALES, generate.EXTRAS], [*generate.VARIANTS]):
        flags = ["-DREADING=2", generate.NETWORKS[generate.HALF][0], *(generate.VARIANTS[name] for name in variants)]
        want = generate.translate_source(slangc, generate.SOURCE, target, flags)
        got = generate.choose_text(marked, [generate.HALF, *variants])
        assert generate.keep_names(want, got) == want


def test_choosing_between_two_levels_of_marks():
    whole = generate.mark_differences("a\nb\nc\n", {"x": "a\nB\nc\n"})
    half = generate.mark_differences("a\nd\nc\n", {"x": "a\nD\nc\nE\n"})
    both = generate.mark_differences(whole, {generate.HALF: half}, generate.NETWORKS[generate.HALF][1])
    texts = {(): "a b c", ("x",): "a B c", (generate.HALF,): "a d c", (generate.HALF, "x"): "a D c E"}
    for variants, text in texts.items():
        assert generate.choose_text(both, variants).split() == text.split()


# --- weights ---------------------------------------------------------------------------------------------------------


def test_codes_are_exact_halves_with_scales(shipped):
    """A 128th of an int8 and its row's scale: what the network file says, to the last bit."""
    model = shipped["codes"].model
    columns, rows = weight_columns(model), [len(weight) for weight in model.weights]
    table = np.frombuffer(weight_bytes(model, precision=16), "<u4").reshape(-1, 2)
    halves = table[: len(columns)].copy().view("<f2").astype(np.float32) * CODE_UNIT
    scales = table[len(columns) :].reshape(-1).view("<f4")[: sum(rows)]
    assert (halves == np.round(halves)).all() and np.abs(halves).max() == 127
    at = row = 0
    for weight in model.weights:
        for first in range(0, len(weight), 4):
            block = columns[at : at + weight.shape[1]]
            np.testing.assert_array_equal(halves[at : at + len(block)] * scales[row + first : row + first + 4], block)
            at += len(block)
        row += len(weight)
    assert len(weight_bytes(model, precision=16)) == 2 * len(weight_bytes(model))


def test_weights_of_16_bits_are_exact(shipped):
    model = shipped["learned"].model
    stored = np.frombuffer(weight_bytes(model, precision=16), "<f2").reshape(-1, 4)
    np.testing.assert_array_equal(stored[: len(weight_columns(model))], weight_columns(model))


@pytest.mark.parametrize(("neurons", "group"), [(64, 8), (24, 8), (18, 4), (20, 4)])
def test_groups_divide_all_layers(neurons, group):
    assert group_inputs(NeuralTexture([GridSpec(4, 1, 8, 32)], DecoderSpec(1, neurons, 2), 3)) == group


def model_of(weight: float, layers: int = 0, **more) -> NeuralTexture:
    """16 inputs, and layers of 16 neurons whose weights are all the same."""
    model = NeuralTexture([GridSpec(4, 1, 8, 32)], DecoderSpec(1, 16, layers, **more), 3)
    with torch.no_grad():
        for matrix in model.weights:
            matrix.fill_(weight)
    return model


@pytest.mark.parametrize(("weight", "layers", "more", "fits"), [
    (8100.0, 0, {}, True), (8200.0, 0, {}, False),  # 8 of them are added
    (3.1, 2, {}, True), (3.2, 2, {}, False),  # 8 of them, times 16 of them squared
    (10.0, 2, {}, False), (-10.0, 2, {}, True),  # a leaky ReLU leaves little below 0, where a layer of these begins
    (5.6, 2, {"weight_bits": 8}, True), (5.7, 2, {"weight_bits": 8}, False),  # codes are 1 at most in the last layer
    (-10.0, 2, {"activation": "hard_swish"}, True), (10.0, 2, {"activation": "hard_swish"}, False),
], ids=str)  # fmt: skip
def test_sums_that_may_overflow_are_refused(weight, layers, more, fits, refused):
    model = model_of(weight, layers, **more)
    if fits:
        weight_bytes(model, precision=16)
        return
    with refused("--shader_precision 16", "65504", "use 32"):
        weight_bytes(model, precision=16)


# --- command ---------------------------------------------------------------------------------------------------------


def test_the_command_writes_it(shipped, tmp_path):
    out = tmp_path / "out"
    flags = ["--weights", "buffer", "--shader_precision", "16", "--out_dir", str(out)]
    assert export.main(["--load_dir", str(shipped["codes"].folder), "--shader", ",".join(LANGUAGES), *flags]) == 0
    exported = read_export(shipped["codes"].folder)
    for language, syntax in LANGUAGES.items():
        text = (out / syntax.file_name).read_text()
        assert text == shader_source(exported.model, exported.manifest.material, language, "buffer", precision=16)
    assert (out / "decoder_weights.bin").read_bytes() == weight_bytes(exported.model, precision=16)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--shader_precision", "16"], ["--shader_precision", "--shader beside it"]),
        (["--viewer", "page.html", "--shader_precision", "16"], ["--shader_precision", "--shader beside it"]),
        (["--shader", "hlsl", "--shader_precision", "8"], ["--shader_precision", "16", "8"]),
        (["--shader", "hlsl", "--shader_precision", "16", "--weight_type", "float32"],
         ["--weight_type float32", "--shader_precision 16", "float16"]),
    ],
    ids=str,
)  # fmt: skip
def test_bad_flags_are_one_line(flags, words, shipped, tmp_path, capsys):
    command = ["--load_dir", str(shipped["one_layer"].folder), "--out_dir", str(tmp_path / "o"), *flags]
    message = refusal_line(run_command(lambda: export.main(command)), capsys.readouterr().err)
    assert all(word in message for word in words), message


def test_one_case_has_extra_maps(shipped):
    assert set(CASES["extras"].maps) - set(ALL_MAPS) == {"opacity", "emissive", "thickness"}
    assert shipped["extras"].model.decoder.outputs == 16
