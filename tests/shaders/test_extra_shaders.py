"""Extra maps in every shading language: the values that numpy decodes from the files, also in their maps' own units.

A material without extra maps keeps the text that it had before there were any.
"""

from __future__ import annotations

import dataclasses
import difflib
import re

import numpy as np
import pytest
import torch

from dataset import Constant
from describe import numpy_decoder
from formats.textures import write_export
from maps.channels import CHANNELS, map_slice
from maps.ranges import to_units
from maps.record import MapRecord
from shaders.export import shader_source
from shaders.generate import BOTH, GENERATED, NETWORKS, VARIANTS, WITH, WITHOUT, choose_text, mark_differences
from shaders.languages import LANGUAGES
from shape import DecoderSpec, GridSpec
from tests.support.metal_host import run_metal
from tests.support.shader_cases import (
    ALL_MAPS,
    Case,
    Shipped,
    assert_parity,
    bc1,
    in_units,
    make_job,
    ship,
    with_helpers,
)
from tests.support.shader_hosts import run_essl, run_webgpu, run_wgsl
from tests.support.shader_jobs import Job

LIGHT = ("emissive", (0.0, 50.0), 0.25)
NO_EXTRAS = ("light",)
EXTRAS = ("m.opacity", "m.emissive.x", "m.emissive.y", "m.emissive.z", "m.extra")
CASES = {  # all readings: packed words, channels that a sampler filters, both
    "packed": Case(
        (GridSpec(16, 5, 4, 32), GridSpec(4, 1, 4, 32)), DecoderSpec(4, 32, 2),
        maps=(*ALL_MAPS, "opacity", "emissive", "thickness"), units=(LIGHT,),
    ),
    "constants": Case(  # some channels of the extra maps, 8 bits and 16
        (GridSpec(20, 3, 8, 32),), DecoderSpec(5, 16, 1), (40, 24), ("diffuse", "emissive", "sheen"),
        ((1, Constant(9, 8)), (13, Constant(200, 8)), (15, Constant(40_000, 16))), weight_type="float16",
    ),
    "learned": Case(
        (GridSpec(32, 4, 2, 16, "learned"), GridSpec(8, 1, 8, 32)), DecoderSpec(0, 32, 1, 3, "hard_swish"), (64, 32),
        ("normal", "opacity"), weights="buffer",
    ),
    "filterable": Case(
        (GridSpec(16, 5, 4, 32), GridSpec(4, 1, 4, 32)), DecoderSpec(2, 16, 1), weights="buffer", layout="filterable",
        maps=("displacement", "emissive", "opacity"), units=(("displacement", (-0.75, 2.5), None), LIGHT),
    ),
    "mixed": Case(
        (GridSpec(16, 5, 4, 16), bc1(32, 6)), DecoderSpec(3, 16, 2), maps=("diffuse", "height2"), weights="buffer",
        units=(("height2", (-3.0, 5.0), None),),
    ),
    "everything": Case(  # all variants: extra maps, a diffuse in units, grids of 8:1, weights of 8 bits
        (GridSpec((32, 4), 3, 4, 16), bc1((64, 8), 4)), DecoderSpec(3, 16, 2, weight_bits=8), (128, 16),
        ("diffuse", "opacity", "emissive"), weights="buffer", units=(("diffuse", (0.0, 12.0), 0.5), LIGHT),
    ),
    "light": Case(  # of the diffuse, without extra maps
        (GridSpec(16, 5, 4, 32),), DecoderSpec(2, 16, 1), maps=("diffuse", "roughness"),
        units=(("diffuse", (0.0, 12.0), 0.5),),
    ),
}  # fmt: skip
UNITS = {  # what a job asks of the functions of units, by case
    "packed": ("{nt}ntFileEmissive(m.emissive).x", "{nt}ntFileEmissive(m.emissive).z"),
    "filterable": ("{nt}ntFileDisplacement(m.displacement)", "{nt}ntFileEmissive(m.emissive).y"),
    "mixed": ("{nt}ntFileExtra(m.extra)",),
    "everything": ("{nt}ntFileDiffuse(m.diffuse).x", "{nt}ntFileEmissive(m.emissive).y"),
    "light": ("{nt}ntFileDiffuse(m.diffuse).y",),
}


def texel_centres(one: Shipped) -> np.ndarray:
    """(n, 4) queries u, v, lod, 0: every texel of LOD 1 and of the last."""
    parts = []
    for lod in {min(1, one.material.num_lods - 1), one.material.num_lods - 1}:
        width, height = one.material.lod_size(lod)
        y, x = np.mgrid[:height, :width].reshape(2, -1)
        parts.append(np.column_stack([(x + 0.5) / width, (y + 0.5) / height, np.full(len(x), lod), 0 * x]))
    return np.concatenate(parts).astype(np.float32)


def from_numpy(name: str, one: Shipped, folder) -> Shipped:
    """The case with every texel of two LODs as queries, and what numpy decodes there from packed files."""
    material, queries = one.material, texel_centres(one)
    write_export(folder, one.model, material)
    texture = numpy_decoder.read_texture(folder, one.model.form)
    if CASES[name].weight_type == "float16":
        weights = [weight.astype(np.float16).astype(np.float32) for weight in texture.weights]
        texture = dataclasses.replace(texture, weights=weights)
    lods = dict.fromkeys(queries[:, 2].astype(int).tolist())
    decoded = [numpy_decoder.decode(texture, lod, *material.lod_size(lod)) for lod in lods]
    values = np.concatenate([image.reshape(-1, image.shape[2]) for image in decoded]).astype(np.float64)
    columns = [with_helpers(values, queries, material), values[:, CHANNELS:]]
    for expression in UNITS.get(name, ()):
        field, axis = re.search(r"m\.(\w+)\)(?:\.(\w))?", expression).groups()
        entry = material.map(field) or material.maps[-1]
        columns.append(in_units(values[:, map_slice(entry.name)], entry)[:, "xyz".index(axis or "x")])
    return dataclasses.replace(one, queries=queries, want=np.column_stack(columns))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> dict[str, Shipped]:
    torch.set_num_threads(1)
    made = {}
    for index, (name, case) in enumerate(CASES.items()):
        one = ship(name, case, tmp_path_factory.mktemp(name), index)
        made[name] = from_numpy(name, one, tmp_path_factory.mktemp(name))
    return made


def job_of(name: str, shipped: dict[str, Shipped], language: str, buffer: bool = False) -> Job:
    """buffer: the weights too, which lavapipe compiles for minutes where they are in the shader."""
    case = dataclasses.replace(CASES[name], weights="buffer") if buffer else CASES[name]
    job = make_job(name, case, shipped[name], language)
    return dataclasses.replace(job, more=(() if name in NO_EXTRAS else EXTRAS) + UNITS.get(name, ()))


def relative(got: np.ndarray, one: Shipped) -> tuple[np.ndarray, np.ndarray]:
    """Both with values in files' units over their largest: light of 50 has no error of 1e-4."""
    largest = np.maximum(np.abs(one.want).max(axis=0), 1)
    return got / largest, one.want / largest


@pytest.mark.parametrize("entry", [entry for case in CASES.values() for entry in case.units], ids=str)
def test_the_units_are_those_of_numpy(entry):
    name, span, scale = entry
    values = np.linspace(-0.1, 1.1, 100)
    got = in_units(values, MapRecord(name, "linear", "linear", value_range=span, log_scale=scale))
    np.testing.assert_allclose(got, to_units(values, span, scale), rtol=1e-12, atol=1e-12)


def test_signed_normals_have_no_units(tmp_path):
    """As in the files of earlier versions: a normal map of floats is read as 0.5 n + 0.5 by everyone."""
    case = Case((GridSpec(8, 2, 4, 16),), DecoderSpec(2, 16, 1), (8, 8), units=(("normal", (-1.0, 1.0), None),))
    one = ship("signed", case, tmp_path, 4)
    assert one.material.map("normal").value_range == (-1.0, 1.0)
    assert "ntFile" not in shader_source(one.model, one.material, "hlsl")


# --- parity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CASES if name not in NO_EXTRAS])
def test_numpy_says_something(name, shipped):
    """The extra maps vary where they are not constant, and reach other values than 0 to 1 in their files."""
    one, case = shipped[name], CASES[name]
    constants, extras = dict(case.constants), one.want[:, 20 : 20 + len(EXTRAS)]
    for channel, column in zip(range(CHANNELS, CHANNELS + len(EXTRAS)), extras.T):
        if channel in constants:
            assert (column == np.float32(constants[channel].value)).all()
        elif channel in one.material.channels:
            assert column.std() > 0.003, channel
        else:
            assert (column == 0).all(), channel
    assert one.model.decoder.outputs == 16


@pytest.mark.parametrize("name", CASES)
def test_wgsl_through_wgpu(name, shipped):
    assert_parity(*relative(run_wgsl(job_of(name, shipped, "wgsl", buffer=True)), shipped[name]))


@pytest.mark.parametrize("name", CASES)
def test_metal_as_cpp(name, shipped, tmp_path):
    assert_parity(*relative(run_metal(job_of(name, shipped, "metal"), tmp_path), shipped[name]))


MISTAKES = {
    "opacity from another output": ("material_0.opacity = decoded_0[11]", "material_0.opacity = decoded_0[12]"),
    "no constants above 10": ("while(channel_0 < 16)", "while(channel_0 < 11)"),
    "base of natural logarithms": ("exp2(clamp", "exp(clamp"),
}
MISTAKEN = {"opacity from another output": "learned", "no constants above 10": "constants",
            "base of natural logarithms": "packed"}  # fmt: skip


@pytest.fixture(scope="module")
def essl(shipped) -> dict[str, np.ndarray]:
    jobs = {name: job_of(name, shipped, "essl") for name in CASES}
    for what, name in MISTAKEN.items():
        before, after = MISTAKES[what]
        assert before in jobs[name].source
        jobs[what] = dataclasses.replace(jobs[name], name=what, source=jobs[name].source.replace(before, after))
    return run_essl(list(jobs.values()))


@pytest.mark.parametrize("name", CASES)
def test_glsl_es_in_webgl(name, shipped, essl):
    assert_parity(*relative(essl[name], shipped[name]))


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_caught(what, shipped, essl):
    with pytest.raises(AssertionError):
        assert_parity(*relative(essl[what], shipped[MISTAKEN[what]]))


@pytest.fixture(scope="module")
def webgpu(shipped) -> dict[str, np.ndarray]:
    return run_webgpu([job_of(name, shipped, "wgsl", buffer=True) for name in CASES])


@pytest.mark.parametrize("name", CASES)
def test_wgsl_in_webgpu(name, shipped, webgpu):
    assert_parity(*relative(webgpu[name], shipped[name]))


# --- the text --------------------------------------------------------------------------------------------------------


def fields_of(source: str) -> list[str]:
    """The fields of NtMaterial, in any language."""
    lines = re.search(r"struct NtMaterial\n\{\n(.*?)\n\}", source, re.DOTALL)[1].splitlines()
    return [re.search(r"(\w+) : |(\w+);", line).group(1) or re.search(r"(\w+);", line)[1] for line in lines]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", CASES)
def test_fields_and_functions(name, language, shipped):
    one = shipped[name]
    source = shader_source(one.model, one.material, language, "buffer", layout=CASES[name].layout)
    assert fields_of(source) == [*ALL_MAPS, *(() if name in NO_EXTRAS else ("opacity", "emissive", "extra"))]
    wanted = {expression.split("(")[0].removeprefix("{nt}") for expression in UNITS.get(name, ())}
    assert set(re.findall(r"\bntFile\w+(?=\()", source)) == wanted
    header = source.split("\n\n")[0]
    assert all(f"{function}(" in header for function in wanted)
    named = [entry.name for entry in one.material.maps if entry.channels.start == 15]
    assert [f"The field extra is {found}." in header for found in named] == [True] * len(named)
    assert "//!" not in source


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_extra_maps_nothing_is_new(language, tmp_path):
    """The committed texts without their marked lines, and no name of an extra map."""
    case = Case((GridSpec(8, 2, 4, 16),), DecoderSpec(2, 16, 1), (16, 16))
    one = ship("plain", case, tmp_path, 3)
    source = shader_source(one.model, one.material, language)
    assert fields_of(source) == list(ALL_MAPS)
    assert not re.search(r"opacity|emissive|extra|ntFile|//!", source, re.IGNORECASE)
    assert "16" not in re.search(r"while\(channel_0 < (.*)\)", source)[1]
    ranged = Case(case.grids, case.decoder, (16, 16), units=(("displacement", (-1.0, 3.0), None),))
    (tmp_path / "ranged").mkdir()
    other = ship("plain", ranged, tmp_path / "ranged", 3)
    added = shader_source(other.model, other.material, language)
    steps = difflib.SequenceMatcher(None, source.splitlines(), added.splitlines(), autojunk=False).get_opcodes()
    assert {kind for kind, *_ in steps} == {"equal", "insert"}  # a range adds lines, and changes none
    assert "ntFileDisplacement" in added


def test_every_committed_text_holds_all_variants():
    for path in GENERATED.glob("decoder*"):
        marked, texts, joined = path.read_text(encoding="utf-8"), set(), []
        for network in ([], *([name] for name in NETWORKS)):
            plain = choose_text(marked, network)
            variants = {name: choose_text(marked, [name, *network]) for name in VARIANTS}
            texts |= {plain, *variants.values(), choose_text(marked, [*VARIANTS, *network])}
            joined.append(mark_differences(plain, variants))
            assert fields_of(plain) == list(ALL_MAPS)
        again = joined[0]
        for (name, (_, mark)), text in zip(NETWORKS.items(), joined[1:]):
            again = mark_differences(again, {name: text}, mark)
        assert again == marked
        # scales of rows are no part of whole numbers
        assert len(texts) == (1 + len(NETWORKS)) * (len(VARIANTS) + 2) - 1 and not any("//!" in text for text in texts)


def test_marks_that_stand_for_what_differs():
    plain, variants = "a\nb\nc\nd\n", {"x": "a\nx\nc\nd\n", "z": "a\nb\nc\nz\n"}
    marked = mark_differences(plain, variants)
    assert marked.splitlines() == ["a", WITH + "x", "x", WITHOUT, "b", BOTH, "c", WITH + "z", "z", WITHOUT, "d", BOTH]
    assert choose_text(marked, ()) == plain and choose_text(marked, ["x"]) == variants["x"]
    assert choose_text(marked, ["z"]) == variants["z"] and choose_text(marked, ["z", "x"]) == "a\nx\nc\nz\n"
    with pytest.raises(RuntimeError, match="another variant"):
        mark_differences(plain, {"x": "a\nx\nc\nd\n", "w": "a\nw\nc\nd\n"})
