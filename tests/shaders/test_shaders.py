"""What trains is what renders: the model in memory, numpy from the files, WGSL and GLSL ES give the same texels.

WGSL runs through wgpu and in a browser's WebGPU, GLSL ES in WebGL 2; features packed, and through samplers.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from configs import QUANTIZE_BITS, SAVE_BITS
from dataset import Constant
from maps.channels import CHANNELS
from shaders.weights import weight_columns
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.metal_host import run_metal
from tests.support.shader_cases import Case, Shipped, assert_parity, astc, bc1, make_job, ship, with_helpers
from tests.support.shader_hosts import Job, run_essl, run_webgpu, run_wgsl

PAIRS = [(q, s) for q in QUANTIZE_BITS for s in SAVE_BITS if q <= s]
RESOLUTIONS = ((32, 6), (8, 3), (4, 1))


def _mixed_cases() -> dict[str, Case]:
    """Every pair of bits and word, three grids a material; widths, depths, forms and storages in turns."""
    cases = {}
    for k in range(-(-len(PAIRS) // 3)):
        grids = []
        for (bits, word), (resolution, levels) in zip(PAIRS[3 * k : 3 * k + 3], RESOLUTIONS):
            # four texels of many features make a wide first layer, which takes long to compile
            grids.append(GridSpec(resolution, levels, bits, word, "learned" if k in (3, 5, 6) else "linear"))
        activation = ("leaky_relu", "hard_swish")[k // 2 % 2]
        decoder = DecoderSpec((12, 3)[k % 2], (16, 32, 64)[k % 3], k % 4, (0, 3, 2)[k % 3], activation)
        cases[f"mixed_{k}"] = Case(
            tuple(grids), decoder, ((64, 64), (64, 32))[k % 4 // 2],
            weights=("baked", "buffer")[k // 2 % 2], weight_type=("auto", "float16")[k % 2],
        )  # fmt: skip
    return cases


REFERENCE_FORM = (GridSpec(16, 5, 4, 32), GridSpec(4, 1, 4, 32))
LEARNED_FORM = (GridSpec(32, 4, 2, 16, "learned"), GridSpec(8, 1, 8, 32))
CASES = {
    "reference": Case(REFERENCE_FORM, DecoderSpec()),
    "reference_buffer": Case(REFERENCE_FORM, DecoderSpec(), weights="buffer"),
    "reference_half": Case(REFERENCE_FORM, DecoderSpec(), weight_type="float16"),
    "learned": Case(LEARNED_FORM, DecoderSpec(0, 32, 1, 3, "hard_swish"), (64, 32)),
    "learned_buffer_half": Case(
        LEARNED_FORM, DecoderSpec(0, 32, 3, 3, "hard_swish"), (32, 64), weights="buffer", weight_type="float16"
    ),
    "constants": Case(
        (GridSpec(20, 3, 8, 32),), DecoderSpec(5, 16, 1), (40, 24), ("diffuse", "normal", "metallic"),
        ((5, Constant(255, 8)), (8, Constant(37, 8))), weight_type="float16", linear_color=True,
    ),
    "one_texel": Case((GridSpec(1, 1, 8, 8),), DecoderSpec(2, 16, 0), (1, 1), ("roughness",)),
    "few_weights_half": Case((GridSpec(4, 2, 4, 16),), DecoderSpec(3, 16, 0), (4, 8), weight_type="float16"),
    "slope": Case((GridSpec(12, 3, 1, 8),), DecoderSpec(1, 18, 2, negative_slope=0.25), (12, 12), weights="buffer"),
    **_mixed_cases(),
}
WEIGHT_CASES = {  # of 16 and 8 bits, as the files have them and otherwise; 18 neurons leave a block of rows half empty
    "bits_16": Case(LEARNED_FORM, DecoderSpec(0, 32, 2, 3, "hard_swish", weight_bits=16), (64, 32), weights="buffer"),
    "bits_8": Case(LEARNED_FORM, DecoderSpec(0, 32, 2, 3, "hard_swish", weight_bits=8), (32, 64), weights="buffer"),
    "bits_8_slope": Case((GridSpec(12, 3, 1, 8),), DecoderSpec(1, 18, 2, weight_bits=8), (12, 12), weights="buffer"),
    "bits_8_baked": Case(
        (GridSpec(4, 2, 4, 16),), DecoderSpec(3, 18, 1, weight_bits=8), (4, 8), weight_type="int8",
    ),
    "bits_8_one_layer": Case(
        (GridSpec(4, 2, 4, 16),), DecoderSpec(3, 16, 0, weight_bits=8), (4, 8), weight_type="int8",
    ),
    "bits_8_float32": Case(REFERENCE_FORM, DecoderSpec(2, 16, 1, weight_bits=8)),
    "bits_8_half": Case(REFERENCE_FORM, DecoderSpec(2, 16, 1, weight_bits=8), weights="buffer", weight_type="float16"),
    "bits_8_filterable": Case(
        REFERENCE_FORM, DecoderSpec(4, 16, 1, weight_bits=8), weights="buffer", layout="filterable"
    ),
    "bits_8_bc1": Case(
        (GridSpec(16, 5, 4, 16), bc1(32, 6), bc1(8, 1)), DecoderSpec(3, 16, 2, weight_bits=8), weights="buffer"
    ),
}  # fmt: skip
SAMPLED_CASES = {  # through the hardware's sampler
    "filterable": Case(REFERENCE_FORM, DecoderSpec(4, 16, 1), layout="filterable"),
    "bgra4": Case(REFERENCE_FORM, DecoderSpec(2, 32, 2, 0, "hard_swish"), (64, 32), layout="bgra4"),
    "filterable_bits": Case(
        (GridSpec(32, 6, 2, 8), GridSpec(8, 3, 8, 16), GridSpec(4, 1, 1, 8)), DecoderSpec(3, 16, 1, 3), (32, 64),
        weights="buffer", layout="filterable",
    ),
    "filterable_learned": Case(
        LEARNED_FORM, DecoderSpec(0, 32, 1, 3, "hard_swish"), (64, 32), weights="buffer", layout="filterable"
    ),
    "filterable_odd": Case(
        (GridSpec(20, 3, 8, 64),), DecoderSpec(5, 64, 3), (40, 24), ("diffuse", "normal", "metallic"),
        ((5, Constant(255, 8)),), weights="buffer", weight_type="float16", layout="filterable",
    ),
    "filterable_one_texel": Case((GridSpec(1, 1, 8, 8),), DecoderSpec(2, 16, 0), (1, 1), layout="filterable"),
    "bgra4_padded": Case(
        (GridSpec(8, 4, 4, 8, "learned"), GridSpec(12, 2, 4, 16)), DecoderSpec(1, 16, 2, 2), weights="buffer",
        layout="bgra4",
    ),
}
BLOCK_CASES = {  # as many levels as LODs or fewer, sides that are no multiple of 4, beside packed grids
    "bc1": Case((bc1(64, 7), bc1(16, 3)), DecoderSpec(0, 32, 2, 0, "hard_swish"), weights="buffer"),
    "bc1_learned": Case(
        (bc1(32, 6, "learned"), bc1(16, 5)), DecoderSpec(0, 32, 1, 3, "hard_swish"), (64, 32), weights="buffer"
    ),
    "bc1_sides": Case((bc1(20, 3), bc1(6, 2, "learned"), bc1(13, 1)), DecoderSpec(2, 16, 1, 1), (40, 24)),
    "bc1_one_texel": Case((bc1(1, 1),), DecoderSpec(2, 16, 0), (1, 1)),
    "bc1_packed": Case(
        (GridSpec(16, 5, 4, 16), bc1(32, 6), GridSpec(8, 1, 8, 64), bc1(10, 2)), DecoderSpec(3, 16, 2),
        weights="buffer", weight_type="float16",
    ),
    "bc1_packed_learned": Case(
        (GridSpec(32, 6, 2, 16, "learned"), bc1(16, 5), bc1(8, 2, "learned"), GridSpec(8, 2, 4, 32)),
        DecoderSpec(1, 16, 1, 2), weights="buffer",
    ),
    "bc1_filterable": Case(
        (GridSpec(16, 5, 2, 16), bc1(32, 6), bc1(4, 1, "learned")), DecoderSpec(1, 16, 1), weights="buffer",
        layout="filterable",
    ),
    "bc1_tsnc": Case(  # LODs that share the finest level, and ReLU
        (bc1(64, 5), dataclasses.replace(bc1(32, 4), finest_lods=2)), DecoderSpec(0, 16, 2, negative_slope=0.0),
        weights="buffer",
    ),
    "bc1_shared_lods": Case(
        (GridSpec(16, 3, 4, 16, finest_lods=3), dataclasses.replace(bc1(16, 3), finest_lods=2)),
        DecoderSpec(1, 16, 1, 2),
    ),
    "astc": Case((astc((26, 14), 2), astc(7, 1, "learned"), GridSpec(8, 2, 4, 16)), DecoderSpec(2, 16, 1), (52, 28)),
    "bc1_bgra4": Case((bc1(32, 6), GridSpec(16, 5, 4, 16)), DecoderSpec(1, 16, 1), weights="buffer", layout="bgra4"),
    "bc1_rgba8": Case((bc1(16, 5), GridSpec(16, 3, 4, 8)), DecoderSpec(1, 16, 1), layout="rgba8"),
}  # fmt: skip
WIDE_FORM = (GridSpec((64, 8), 4, 2, 16, "learned"), GridSpec((24, 3), 1, 8, 32))
RECTANGLE_CASES = {  # grids with the proportions of the material, 8:1 but where said otherwise
    "wide": Case((GridSpec((64, 8), 4, 4, 32), GridSpec((16, 2), 1, 4, 32)), DecoderSpec(4, 16, 1), (128, 16)),
    "wide_learned": Case(WIDE_FORM, DecoderSpec(0, 32, 1, 3, "hard_swish", weight_bits=8), (128, 16), weights="buffer"),
    "tall": Case(  # 3:20, sides that halve badly
        (GridSpec((6, 40), 2, 8, 64, "learned"), GridSpec((3, 20), 1, 4, 16)), DecoderSpec(3, 16, 1, 2), (24, 160),
        weights="buffer", weight_type="float16",
    ),
    "wide_row": Case((GridSpec((16, 1), 1, 8, 8), GridSpec((32, 2), 2, 4, 8)), DecoderSpec(2, 16, 0), (64, 4)),
    "wide_filterable": Case(
        (GridSpec((64, 8), 4, 4, 32), GridSpec((16, 2), 2, 8, 16)), DecoderSpec(4, 16, 1), (128, 16), weights="buffer",
        layout="filterable",
    ),
    "wide_filterable_learned": Case(
        WIDE_FORM, DecoderSpec(0, 16, 1, 3, "hard_swish"), (128, 16), weights="buffer", layout="filterable"
    ),
    "wide_bgra4": Case(
        (GridSpec((64, 8), 4, 4, 16, "learned"), GridSpec((16, 2), 2, 4, 16)), DecoderSpec(2, 16, 1, 1), (128, 16),
        weights="buffer", layout="bgra4",
    ),
    "wide_bc1": Case((bc1((128, 16), 5), bc1((32, 4), 3)), DecoderSpec(2, 16, 1), (128, 16), weights="buffer"),
    "wide_bc1_learned": Case(
        (bc1((64, 8), 4, "learned"), bc1((16, 4), 1)), DecoderSpec(0, 16, 1, 3, "hard_swish"), (128, 16),
        weights="buffer",
    ),
    "tall_bc1_sides": Case((bc1((6, 44), 2), bc1((3, 20), 1, "learned")), DecoderSpec(2, 16, 1, 1), (24, 160)),
    "wide_beside_squares": Case(
        (GridSpec(16, 3, 4, 16), bc1((64, 8), 4), GridSpec((32, 4), 3, 2, 16, "learned"), bc1(8, 2)),
        DecoderSpec(1, 16, 1, 2, weight_bits=8), (128, 16), weights="buffer",
    ),
    "wide_rgba8": Case(
        (GridSpec((32, 4), 3, 4, 8), GridSpec((8, 1), 1, 2, 16, "learned")), DecoderSpec(1, 16, 1), (128, 16),
        layout="rgba8",
    ),
}  # fmt: skip
CASES |= SAMPLED_CASES | BLOCK_CASES | WEIGHT_CASES | RECTANGLE_CASES
CASES["rgba8"] = Case(  # words of 8, 16 and 64 bits, a wide one beside small ones
    (GridSpec(16, 3, 4, 8), GridSpec(8, 2, 2, 16, "learned"), GridSpec(4, 1, 8, 64)), DecoderSpec(1, 16, 1),
    weights="buffer", layout="rgba8",
)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> dict[str, Shipped]:
    """Every case, exported, with what the model in memory says."""
    torch.set_num_threads(1)
    cases = enumerate(CASES.items())
    return {name: ship(name, case, tmp_path_factory.mktemp(name), index) for index, (name, case) in cases}


MISTAKES = ("wrong mip", "half-texel shift", "swapped channels")


def sabotaged(job: Job, what: str) -> Job:
    """The same job with one mistake in the decoder."""
    wgsl = "fn ntDecode" in job.source
    if job.sampled:
        at = job.source.index("ntTriangleWave(")
        call = re.search(r"\(ntSampleTexel\(\((\w+)\), \((\w+)\), \((\w+)\), \((\w+)\)\)\)", job.source[at:])
        grid, plane, uv, lod = call.groups()
        if what == "wrong mip":
            lod += " + 1.0"
        elif what == "half-texel shift":
            uv += f" + {'f32' if wgsl else 'float'}(0.5) / {'f32' if wgsl else 'float'}(ntGridResolution({grid}))"
        wrong = f"(ntSampleTexel({grid}, {plane}, {uv}, {lod}))" + (".zyxw" if what == "swapped channels" else "")
        source = job.source[:at] + job.source[at:].replace(call[0], wrong)
    else:
        half, fetch = ("vec2<f32>(0.5f)", "texel, mip)") if wgsl else (" - 0.5;", "texel, mip)")
        at = job.source.index("ntAddFeatures(")
        head, body = job.source[:at], job.source[at:]
        if what == "wrong mip":
            head = head.replace(fetch, "texel / 2, mip + 1)" if not wgsl else "texel / vec2<i32>(2), mip + 1)", 1)
        elif what == "half-texel shift":
            body = body.replace(half, "vec2<f32>(0.0f)" if wgsl else ";", 1)
        else:
            head = head.replace(fetch, fetch + ".zyxw", 1)
        source = head + body
    assert source != job.source
    return dataclasses.replace(job, name=f"{what}, {job.name}", source=source)


# --- parity ----------------------------------------------------------------------------------------------------------


def test_cases_reach_every_width():
    cases = list(CASES.values())
    assert {(g.quantize_bits, g.save_bits) for case in cases for g in case.grids if not g.compressed} == set(PAIRS)
    assert {len(case.grids) for case in cases} == {1, 2, 3, 4}
    assert {case.decoder.n_hidden_layers for case in cases} == {0, 1, 2, 3}
    assert {case.decoder.n_neurons for case in cases} >= {16, 32, 64}
    assert {(case.weights, case.weight_type) for case in cases} >= {
        (w, t) for w in ("baked", "buffer") for t in ("auto", "float16")
    }
    assert {case.decoder.weight_bits for case in cases if case.weights == "buffer"} == {32, 16, 8}
    for form in ("linear", "learned"):
        chosen = [case for case in cases if case.grids[0].interpolation == form]
        assert {case.decoder.activation for case in chosen} == {"leaky_relu", "hard_swish"}
        assert any(case.decoder.n_texel_frequencies for case in chosen)


@pytest.mark.parametrize("name", CASES)
def test_numpy_from_the_files(name, shipped):
    case, one = CASES[name], shipped[name]
    texture = reference.load_export(
        one.folder, one.model.num_lods, [grid.interpolation for grid in case.grids],
        case.decoder.n_texel_frequencies, case.decoder.activation, case.layout,
    )  # fmt: skip
    texture.negative_slope = case.decoder.negative_slope
    for read, grid in zip(texture.grids, case.grids):
        read.finest_lods = grid.finest_lods
    if case.weight_type == "float16":
        texture.weights = [weight.astype(np.float16).astype(np.float64) for weight in texture.weights]
    values = reference.forward(texture, one.queries[:, :2], one.queries[:, 2])
    for channel, constant in case.constants:
        values[:, channel] = constant.code / (2**constant.bit_depth - 1)
    assert_parity(with_helpers(values, one.queries, one.material), one.want)
    present = one.material.channels
    moving = [c for c in present if c not in dict(case.constants)]
    if one.model.num_lods > 1:
        assert one.want[:, moving].std(axis=0).min() > 0.003  # a decoder of zeros would not pass
    assert (one.want[:, [c for c in range(CHANNELS) if c not in present]] == 0).all()


def wgsl_job(name: str, shipped: dict[str, Shipped]) -> Job:
    """With more than a few weights from a buffer: lavapipe compiles a table in the shader for seconds to minutes."""
    case = CASES[name]
    if len(weight_columns(shipped[name].model)) > 64:
        case = dataclasses.replace(case, weights="buffer")
    return make_job(name, case, shipped[name], "wgsl")


@pytest.mark.parametrize("name", CASES)
def test_wgsl_through_wgpu(name, shipped):
    assert_parity(run_wgsl(wgsl_job(name, shipped)), shipped[name].want)


@pytest.mark.parametrize("name", ["slope", "filterable_bits", "bc1"])
@pytest.mark.parametrize("what", MISTAKES)
def test_wgsl_mistakes_are_caught(what, name, shipped):
    got = run_wgsl(sabotaged(wgsl_job(name, shipped), what))
    with pytest.raises(AssertionError):
        assert_parity(got, shipped[name].want)


def jobs_of_page(make, names: Sequence[str]) -> list[Job]:
    """Every case for one page, and the three mistakes in some of them."""
    jobs = {name: make(name) for name in CASES}
    return [*jobs.values(), *(sabotaged(jobs[name], what) for what in MISTAKES for name in names)]


METAL_CASES = (
    "reference_half", "learned", "learned_buffer_half", "filterable_bits", "filterable_learned", "bgra4", "bc1_learned",
    "bc1_packed", "bc1_packed_learned", "bits_16", "bits_8", "bits_8_slope", "bits_8_baked", "bits_8_bc1",
    "wide", "wide_learned", "tall", "wide_filterable", "wide_bgra4", "wide_bc1", "wide_bc1_learned", "tall_bc1_sides",
    "wide_beside_squares",
)  # fmt: skip


@pytest.mark.parametrize("name", METAL_CASES)
def test_metal_as_cpp(name, shipped, tmp_path):
    assert_parity(run_metal(make_job(name, CASES[name], shipped[name], "metal"), tmp_path), shipped[name].want)


@pytest.mark.parametrize("what", MISTAKES[:2])  # what stands in for Metal's library has no swizzles
def test_metal_mistakes_are_caught(what, shipped, tmp_path):
    one = shipped["filterable_bits"]
    got = run_metal(sabotaged(make_job("filterable_bits", CASES["filterable_bits"], one, "metal"), what), tmp_path)
    with pytest.raises(AssertionError):
        assert_parity(got, one.want)


MISTAKEN = {"essl": ("slope", "bgra4", "bc1_packed"), "webgpu": ("slope", "bgra4", "bc1_packed")}


@pytest.fixture(scope="module")
def essl(shipped) -> dict[str, np.ndarray]:
    make = lambda name: make_job(name, CASES[name], shipped[name], "essl")  # noqa: E731
    return run_essl(jobs_of_page(make, MISTAKEN["essl"]))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.timeout(300)
def test_glsl_es_in_webgl(name, shipped, essl):
    assert_parity(essl[name], shipped[name].want)


@pytest.mark.parametrize("name", MISTAKEN["essl"])
@pytest.mark.parametrize("what", MISTAKES)
def test_glsl_es_mistakes_are_caught(what, name, shipped, essl):
    with pytest.raises(AssertionError):
        assert_parity(essl[f"{what}, {name}"], shipped[name].want)


@pytest.fixture(scope="module")
def webgpu(shipped) -> dict[str, np.ndarray]:
    return run_webgpu(jobs_of_page(lambda name: wgsl_job(name, shipped), MISTAKEN["webgpu"]))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.timeout(300)
def test_wgsl_in_webgpu(name, shipped, webgpu):
    assert_parity(webgpu[name], shipped[name].want)


@pytest.mark.parametrize("name", MISTAKEN["webgpu"])
@pytest.mark.parametrize("what", MISTAKES)
def test_webgpu_mistakes_are_caught(what, name, shipped, webgpu):
    with pytest.raises(AssertionError):
        assert_parity(webgpu[f"{what}, {name}"], shipped[name].want)
