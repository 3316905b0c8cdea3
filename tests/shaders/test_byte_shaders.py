"""--shader_precision 8: decoders in whole numbers give numpy's texels to the last bit, in every language.

WGSL runs through wgpu and in a browser's WebGPU, GLSL ES in WebGL 2, Metal as C++; HLSL and GLSL are compiled, and GLSL
is executed from its SPIR-V.
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
)
from tests.support.shader_hosts import run_essl, run_webgpu, run_wgsl
from tests.support.shader_jobs import Job

REFERENCE_FORM = (GridSpec(16, 5, 4, 32), GridSpec(4, 1, 4, 32))
LEARNED_FORM = (GridSpec(32, 4, 2, 16, "learned"), GridSpec(8, 1, 8, 32))
byte_case = functools.partial(Case, precision=8, weights="buffer")
decoder = functools.partial(DecoderSpec, weight_bits=8, activation_bits=8)
CASES = {
    "reference": byte_case(REFERENCE_FORM, decoder(12, 64, 2)),
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
    assert texture.integer
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


@pytest.mark.parametrize("name", ALL)
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
