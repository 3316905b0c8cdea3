"""viewer/three: what its materials decode is what the toolkit decodes, and its text is the exporter's."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest

from shaders.export import shader_source
from shaders.weights import trained_precision
from tests.support.three_cases import CASES, entry_of, exported_case, values_of
from tests.support.three_pages import Gltf, load, open_three, read, said
from viewer import three_module

EXPRESSIONS = {
    "diffuse": ("vec4( ntPixel.base, 1.0 )", 3), "opacity": ("vec4( vec3( ntPixel.opacity ), 1.0 )", 1),
    "normal": ("vec4( ntPixel.normal, 1.0 )", 3), "roughness": ("vec4( vec3( ntPixel.roughness ), 1.0 )", 1),
    "occlusion": ("vec4( vec3( ntPixel.occlusion ), 1.0 )", 1), "metallic": ("vec4( vec3( ntPixel.metallic ), 1.0 )", 1),
    "emissive": ("vec4( ntPixel.emissive, 1.0 )", 3),
}  # fmt: skip


def scene(name: str, material=None, reference=None, **options) -> Gltf:
    """A plane of a case's material."""
    gltf = Gltf()
    gltf.entries.append(entry_of(name, gltf.add, **options))
    gltf.plane({"alphaMode": "BLEND", **(material or {})}, {"index": 0, **(reference or {})})
    return gltf


def assert_decodes(browser, exported, lods, codes=1.0) -> None:
    """Every texel of these LODs, within so many codes of 8 bits; light above 1 within so many 100ths of it."""
    material = exported.manifest.material
    for lod in lods:
        width, height = material.lod_size(lod)
        for name, want in values_of(exported, lod).items():
            expression, channels = EXPRESSIONS[name]
            got = read(browser, expression, width, height)[..., :channels]
            off = np.abs(got - want) / np.maximum(1, want if name != "emissive" else 2.55 * want)
            assert off.max() <= codes / 255, (name, lod, off.max() * 255)


def test_the_module_of_decoders_is_up_to_date(capsys):
    assert three_module.main(["--check"]) == 0, "python -m viewer.three_module"


@pytest.mark.parametrize("name", CASES)
def test_texels(name, browser):
    open_three(browser)
    load(browser, scene(name))
    exported = exported_case(name)
    # BC1: GPUs round its thirds in their ways, which moves a random material by a code or two
    assert_decodes(browser, exported, (0, 1, 2), 3 if "blocks" in name else 1)
    assert said(browser) == []
