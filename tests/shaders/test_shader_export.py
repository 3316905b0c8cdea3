"""export.py --shader: what is written, that it compiles, and that the committed translations are up to date."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import export
from common.errors import run_command
from dataset import Material
from formats.textures import read_export, write_export
from maps.record import MaterialRecord
from shaders import generate
from shaders.export import shader_source, write_shaders
from shaders.languages import LANGUAGES
from shaders.weights import weight_bytes, weight_columns
from shape import DecoderSpec, GridSpec
from tests.support.exports import make_model
from tests.support.paths import ROOT
from tests.support.shader_cases import astc, bc1
from tests.support.shader_compilers import (
    WRAPPERS,
    assert_every_name_is_defined,
    compile_with_dxc,
    compile_with_glslang,
    example_of,
    example_shader,
    slangc_of_the_committed_files,
)

ALL = ",".join(LANGUAGES)
STORAGES = [
    (weights, kind, layout)
    for weights in ("baked", "buffer")
    for kind in ("float32", "float16")
    for layout in ("packed", "filterable")
]
STORAGE_IDS = ["-".join(storage) for storage in STORAGES]


@pytest.mark.timeout(300)  # the first target of a reading has Slang write the others too, 15 times
@pytest.mark.parametrize(("target", "reading"), list(itertools.product(generate.TARGETS, generate.READINGS)))
def test_committed_translations_are_up_to_date(target, reading):
    slangc = slangc_of_the_committed_files()
    name = generate.file_name(target, reading)
    committed = (generate.GENERATED / name).read_text(encoding="utf-8")
    assert generate.translate(slangc, target, reading) == committed, f"{name}: run python shaders/generate.py"


def test_nothing_else_is_committed_there():
    names = {path.name for path in generate.generated_files()}
    assert {path.name for path in (ROOT / "shaders" / "generated").iterdir()} == names


@pytest.mark.parametrize("language", WRAPPERS)
@pytest.mark.parametrize("storage", STORAGES, ids=STORAGE_IDS)
def test_the_example_of_the_header_compiles(language, storage, shipped, tmp_path):
    example_shader(language, storage, shipped[0], tmp_path / "shader.frag")
    compile_with_glslang(language, tmp_path / "shader.frag")


@pytest.mark.parametrize("language", ["hlsl", "glsl"])
@pytest.mark.parametrize("storage", STORAGES, ids=STORAGE_IDS)
def test_its_spirv_is_valid(language, storage, shipped, tmp_path):
    validator = shutil.which("spirv-val")
    if not validator:
        pytest.skip("needs spirv-val: apt install spirv-tools")
    example_shader(language, storage, shipped[0], tmp_path / "shader.frag")
    module = compile_with_glslang(language, tmp_path / "shader.frag")
    done = subprocess.run([validator, "--target-env", "vulkan1.1", module], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("storage", STORAGES, ids=STORAGE_IDS)
def test_dxc_takes_the_hlsl(storage, shipped, tmp_path):
    path = tmp_path / "shader.hlsl"
    example_shader("hlsl", storage, shipped[0], path)
    done = compile_with_dxc(path)
    assert done.returncode == 0 and "error" not in done.stderr, done.stderr
    assert path.with_suffix(".dxil").read_bytes()[:4] == b"DXBC"  # the container, of DXIL too


def test_dxc_refuses_what_is_wrong(shipped, tmp_path):
    path = tmp_path / "shader.hlsl"
    example_shader("hlsl", STORAGES[1], shipped[0], path)
    path.write_text(path.read_text().replace(".SampleLevel(ntSampler, uv, lod)", ".SampleLevel(uv, lod)"))
    done = compile_with_dxc(path)
    assert done.returncode != 0 and "SampleLevel" in done.stderr


def test_weights_in_a_uniform_block_compile(shipped, tmp_path):
    exported = read_export(shipped[0])
    source = shader_source(exported.model, exported.manifest.material, "essl", "buffer")
    path = tmp_path / "shader.frag"
    text = WRAPPERS["essl"].format(source="#define NT_UNIFORM_WEIGHTS\n" + source, example=example_of(source))
    path.write_text(text)
    compile_with_glslang("essl", path)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("storage", STORAGES, ids=STORAGE_IDS)
def test_every_name_is_defined(language, storage, shipped):
    exported = read_export(shipped[0])
    assert_every_name_is_defined(shader_source(exported.model, exported.manifest.material, language, *storage))


# --- grids of blocks -------------------------------------------------------------------------------------------------

BLOCK_FORMS = {
    "linear": [bc1(16, 5), bc1(8, 1)],
    "learned": [bc1(16, 3, "learned"), bc1(10, 2)],
    "mixed": [GridSpec(16, 3, 4, 16), bc1(8, 4), GridSpec(4, 1, 8, 64, "learned")],
    "astc": [astc((14, 10), 2), bc1(8, 1)],
}


@pytest.fixture(scope="module")
def block_exports(shipped, tmp_path_factory) -> dict[str, Path]:
    """Exports of such materials by name."""
    material, folders = shipped[2], {}
    for name, grids in BLOCK_FORMS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        write_export(folders[name], make_model(grids, DecoderSpec(2, 16, 1), material), material.hashed_record)
    return folders


@pytest.mark.parametrize(("weights", "positions"), [("baked", "filtered"), ("buffer", "centres")])
@pytest.mark.parametrize("name", BLOCK_FORMS)
def test_decoders_of_blocks_compile(name, weights, positions, block_exports, tmp_path):
    storage = weights, "float32", "packed"
    for language in WRAPPERS:
        example_shader(language, storage, block_exports[name], tmp_path / f"{language}.frag", positions)
        compile_with_glslang(language, tmp_path / f"{language}.frag")
    done = compile_with_dxc(tmp_path / "hlsl.frag")
    assert done.returncode == 0 and "error" not in done.stderr, done.stderr


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", BLOCK_FORMS)
def test_headers_of_blocks(name, language, block_exports):
    """Words never reach the sampler, and the header says what an import must leave alone."""
    exported = read_export(block_exports[name])
    source = shader_source(exported.model, exported.manifest.material, language)
    assert_every_name_is_defined(source)
    header = source.split("\n\n")[0]
    kinds = [grid.storage for grid in BLOCK_FORMS[name]]
    assert header.count(".dds, BC1_UNORM") == kinds.count("bc1")
    assert header.count(".ktx2, ASTC_6x6_UNORM") == kinds.count("astc6x6")
    named = "ASTC 6x6 and BC1" if name == "astc" else "BC1"
    assert f"Import the {named} textures as they are" in header
    assert ("without compression" in header) == (name == "mixed")
    assert ("Direct3D and most desktop GPUs have no ASTC" in header) == (name == "astc")
    assert ("multiple of 4" in header) == (name == "learned")  # of which one is 10 texels wide
    text = source[: source.index("ntWeights(")]
    sampled = text[text.index("ntSampleTexel(") :]
    packed = [f"ntGrid{index}" for index, grid in enumerate(BLOCK_FORMS[name]) if not grid.compressed]
    assert not any(texture in sampled for texture in packed)


# --- grids that are not square ---------------------------------------------------------------------------------------

OBLONG_FORMS = {  # (grids, layout)
    "words": ([GridSpec((32, 4), 3, 2, 16, "learned"), GridSpec((3, 20), 1, 8, 32)], "packed"),
    "channels": ([GridSpec((32, 4), 3, 4, 32), GridSpec((16, 2), 1, 8, 16)], "filterable"),
    "mixed": ([GridSpec((16, 2), 2, 4, 16), bc1((64, 8), 4), bc1((20, 3), 1, "learned")], "packed"),
}


@pytest.mark.parametrize("name", OBLONG_FORMS)
def test_decoders_of_oblong_grids_compile(name, shipped, tmp_path):
    grids, layout = OBLONG_FORMS[name]
    model = make_model(grids, DecoderSpec(2, 16, 1), shipped[2])
    write_export(tmp_path, model, shipped[2].hashed_record)
    for language in LANGUAGES:
        assert_every_name_is_defined(shader_source(model, shipped[2].hashed_record, language, layout=layout))
    for language in WRAPPERS:
        example_shader(language, ("buffer", "float32", layout), tmp_path, tmp_path / f"{language}.frag")
        assert "ntGridSize(" in (tmp_path / f"{language}.frag").read_text()
        compile_with_glslang(language, tmp_path / f"{language}.frag")
    done = compile_with_dxc(tmp_path / "hlsl.frag")
    assert done.returncode == 0 and "error" not in done.stderr, done.stderr


# --- extra maps ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def extras_export(tmp_path_factory) -> Path:
    """Of a material with all extra maps, light above 1 and a displacement in its file's units."""
    folder, random = tmp_path_factory.mktemp("extras"), np.random.default_rng(5)
    sizes = {"diffuse": 3, "displacement": 1, "opacity": 1, "emissive": 3, "half": 1}  # half: a type in some languages
    arrays = {name: random.integers(0, 256, (10, 12, size), dtype=np.uint8) for name, size in sizes.items()}
    material = Material.from_arrays("glow", arrays, value_range={"displacement": (-0.5, 2.0), "emissive": (0.0, 50.0)})
    model = make_model([GridSpec(8, 2, 4, 16)], DecoderSpec(2, 16, 1, outputs=16), material)
    record = material.hashed_record
    scaled = [replace(entry, log_scale=0.25) if entry.name == "emissive" else entry for entry in record.maps]
    write_export(folder, model, replace(record, maps=tuple(scaled)))
    return folder


@pytest.mark.parametrize("layout", ["packed", "filterable"])
def test_decoders_of_extra_maps_compile(layout, extras_export, tmp_path):
    storage = "buffer", "float32", layout
    for language in WRAPPERS:
        example_shader(language, storage, extras_export, tmp_path / f"{language}.frag")
        text = (tmp_path / f"{language}.frag").read_text()
        assert "opacity = material.opacity" in text and "emissive = ntFileEmissive(material.emissive)" in text
        assert "extra = material.extra" in text
        compile_with_glslang(language, tmp_path / f"{language}.frag")
    done = compile_with_dxc(tmp_path / "hlsl.frag")
    assert done.returncode == 0 and "error" not in done.stderr, done.stderr


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_text_of_extra_maps_is_whole(language, extras_export):
    exported = read_export(extras_export)
    assert_every_name_is_defined(shader_source(exported.model, exported.manifest.material, language))


# --- where the example decodes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", [*BLOCK_FORMS, "words", "channels"])
def test_the_example_decodes_where_the_model_was_trained(name, language, block_exports, shipped):
    """At texel centres; or once at the pixel's position, along its footprint if a sampler filters all the grids."""
    exported = read_export(block_exports.get(name, shipped[0]))
    model, material = exported.model, exported.manifest.material
    if name == "channels":
        model = make_model([GridSpec(8, 2, 8, 32)], DecoderSpec(2, 16, 1), shipped[2])
    layout = "filterable" if name == "channels" else "packed"
    for positions in ("centres", "filtered"):
        source = shader_source(model, material, language, layout=layout, positions=positions)
        assert_every_name_is_defined(source)
        calls = re.findall(r"nt(?:Decode\w*|TexelCentre)(?=\()", example_of(source))
        filtered = ["ntDecodeGrad" if name in ("linear", "astc", "channels") else "ntDecode"]
        assert calls == (filtered if positions == "filtered" else ["ntDecode", "ntTexelCentre"])
        header = source.split("Bindings:")[0]
        assert ("one decode" in header, "four centres" in header) == (positions == "filtered", positions == "centres")


def test_the_command_writes_the_example_of_the_manifest(shipped, tmp_path):
    folder = tmp_path / "filtered"
    folder.mkdir()
    write_export(folder, shipped[1], shipped[2].hashed_record, positions="filtered")
    for source, expected in ((folder, False), (shipped[0], True)):
        out = tmp_path / "out"
        export.main(["--load_dir", str(source), "--shader", "hlsl", "--out_dir", str(out)])
        assert ("ntTexelCentre" in example_of((out / "decoder.hlsl").read_text())) == expected


# --- weights and flags -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight_type", ["float32", "float16"])
def test_weights_baked_and_in_a_buffer_are_the_model_s(weight_type, shipped):
    model = read_export(shipped[0]).model
    columns = weight_columns(model)
    assert columns.shape == (sum(weight.numel() for weight in model.weights) // 4, 4)
    first = model.weights[0].detach().numpy()
    np.testing.assert_array_equal(columns[1], first[0:4, 1])
    np.testing.assert_array_equal(columns[first.shape[1] + 2], first[4:8, 2])
    dtype = {"float32": "<f4", "float16": "<f2"}[weight_type]
    stored = np.frombuffer(weight_bytes(model, weight_type), dtype).reshape(-1, 4)
    assert len(stored) % 256 == 0  # rows of the texture for GLSL ES
    np.testing.assert_array_equal(stored[: len(columns)], columns.astype(dtype))
    source = shader_source(model, MaterialRecord("", 12, 10, ()), "wgsl", "baked", weight_type)
    table = source.split("ntWeightTable")[1].split(");")[0]
    if weight_type == "float32":
        numbers = np.array(re.findall(r"-?[\d.]+(?:e[-+]\d+)?", table.split("(\n")[1].replace("vec4<f32>", "")), "f4")
    else:
        words = [int(word, 16) for word in re.findall(r"0x([0-9a-f]{8})u", table)]
        numbers = np.array(words, "<u4").view("<f2")
    np.testing.assert_array_equal(numbers.reshape(-1, 4), columns.astype(dtype))


# --- weights of 16 and 8 bits ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow_exports(shipped, tmp_path_factory) -> dict[int, Path]:
    """Exports with weights of 16 and 8 bits, whose layers have a row of zeros and 20 neurons."""
    folders = {}
    for bits in (16, 8):
        decoder = DecoderSpec(2, 20, 2, weight_bits=bits)
        model = make_model([GridSpec(8, 2, 4, 16), bc1(8, 2)], decoder, shipped[2])
        with torch.no_grad():
            model.weights[1][3] = 0
        folders[bits] = tmp_path_factory.mktemp(f"bits_{bits}")
        write_export(folders[bits], model, shipped[2].hashed_record)
    return folders


def words_of_table(source: str) -> np.ndarray:
    """The words of a baked table in WGSL."""
    table = source.split("ntWeightTable")[1].split(");")[0]
    return np.array([int(word, 16) for word in re.findall(r"0x([0-9a-f]{8})u", table)], "<u4")


def test_int8_is_what_the_network_file_holds(narrow_exports):
    """Four rows of a column in each word, the scales of the rows behind them: a quarter of float32 and a little."""
    model = read_export(narrow_exports[8]).model
    with np.load(narrow_exports[8] / "network_data.npz") as file:
        codes, scales = file["network_int8"], file["network_scales"]
    columns = weight_columns(model)
    table = np.frombuffer(weight_bytes(model), "<u4")
    words, rest = table[: len(columns)], table[len(columns) :]
    np.testing.assert_array_equal(rest[: len(scales)].view("<f4"), scales)
    assert len(table) % 256 == 0 and not rest[len(scales) :].any()
    first, columns_in = model.weights[0].shape[1], words.view(np.int8).reshape(-1, 4)
    np.testing.assert_array_equal(columns_in[first + 5], codes.reshape(-1)[4 * first : 8 * first].reshape(4, -1)[:, 5])
    np.testing.assert_array_equal(columns_in[:first] * scales[:4], columns[:first])  # exact in float32
    source = shader_source(model, MaterialRecord("", 12, 10, ()), "wgsl", "baked", "int8")
    np.testing.assert_array_equal(words_of_table(source), table[: len(columns) + len(scales)])


@pytest.mark.parametrize(("bits", "kind", "size"), [(16, "float16", 8), (8, "int8", 4), (8, "float16", 8)])
def test_a_buffer_is_as_wide_as_the_network_file(bits, kind, size, narrow_exports):
    model = read_export(narrow_exports[bits]).model
    count = len(weight_columns(model)) + (kind == "int8") * sum(len(weight) for weight in model.weights)
    assert len(weight_bytes(model, kind)) == size * (count + -count % 256)
    assert (weight_bytes(model) == weight_bytes(model, kind)) == (bits != 8 or kind == "int8")
    exact = np.concatenate([weight.detach().numpy().ravel() for weight in model.weights])
    found = weight_columns(model)[weight_columns(model) != 0]
    assert np.array_equal(np.sort(found), np.sort(exact[exact != 0]))  # baked, it is float32 with all its bits
    assert "0x" not in shader_source(model, MaterialRecord("", 12, 10, ()), "hlsl")


@pytest.mark.parametrize("storage", ["baked", "buffer"])
@pytest.mark.parametrize(("bits", "kind"), [(16, "auto"), (8, "auto"), (8, "int8"), (8, "float32")])
def test_decoders_of_narrow_weights_compile(bits, kind, storage, narrow_exports, tmp_path):
    for language in WRAPPERS:
        example_shader(language, (storage, kind, "packed"), narrow_exports[bits], tmp_path / f"{language}.frag")
        compile_with_glslang(language, tmp_path / f"{language}.frag")
    done = compile_with_dxc(tmp_path / "hlsl.frag")
    assert done.returncode == 0 and "error" not in done.stderr, done.stderr


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_text_of_int8_is_whole(language, narrow_exports):
    exported = read_export(narrow_exports[8])
    source = shader_source(exported.model, exported.manifest.material, language, "buffer")
    assert_every_name_is_defined(source)
    assert "ntWeightScales(" in source and "NT_UNIFORM_WEIGHTS" not in source
    other = shader_source(exported.model, exported.manifest.material, language, "buffer", "float32")
    assert "ntWeightScales(" not in other and ("NT_UNIFORM_WEIGHTS" in other) == (language == "essl")


def test_int8_of_wider_weights_is_refused(shipped, narrow_exports, refused):
    for folder, bits in ((shipped[0], "32"), (narrow_exports[16], "16")):
        with refused("--weight_type int8", "--weight_bits 8", bits):
            weight_bytes(read_export(folder).model, "int8")


def test_float16_refuses_what_it_cannot_hold(shipped, refused):
    model = read_export(shipped[0]).model
    with torch.no_grad():
        model.weights[0][0, 0] = 1e6
    with refused("--weight_type float16", "1e+06", "float32"):
        weight_bytes(model, "float16")


def test_a_hostile_name_stays_in_its_comment(shipped, tmp_path):
    edit = {"name": "a\\\n#error */ \u2028 \x00é"}
    exported = read_export(shipped[0])
    material = replace(exported.manifest.material, **edit)
    for language in LANGUAGES:
        header = shader_source(exported.model, material, language).split("\n\n")[0].splitlines()
        assert all(line.startswith("//") and line.isascii() and not line.endswith("\\") for line in header)


def test_the_command_writes_all_languages_twice_the_same(folder, tmp_path):
    command = ["--load_dir", str(folder), "--shader", ALL, "--weights", "buffer", "--weight_type", "float16"]
    for name in ("one", "two"):
        assert run_command(lambda name=name: export.main([*command, "--out_dir", str(tmp_path / name)])) == 0
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted([language.file_name for language in LANGUAGES.values()] + ["decoder_weights.bin"])
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    exported = read_export(folder)
    write_shaders(tmp_path / "three", exported.model, exported.manifest.material, ["hlsl"])
    assert [path.name for path in (tmp_path / "three").iterdir()] == ["decoder.hlsl"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--shader", "hlsl,cg"], ["--shader", "'cg'", "wgsl"]),
        (["--shader", ","], ["--shader"]),
        (["--weights", "buffer"], ["--weights", "--shader"]),
        (["--weight_type", "float16"], ["--weight_type", "--shader"]),
        (["--shader", "hlsl", "--weights", "disk"], ["--weights"]),
        ([], ["--shader", "--images"]),
    ],
    ids=str,
)
def test_bad_flags_are_one_line(flags, words, folder, tmp_path, capsys):
    assert run_command(lambda: export.main(["--load_dir", str(folder), "--out_dir", str(tmp_path / "o"), *flags])) == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1 and all(word in message for word in words), message
    assert not (tmp_path / "o").exists()


def test_too_many_frequencies(folder, refused):
    from model import NeuralTexture
    from shape import DecoderSpec, GridSpec

    model = NeuralTexture([GridSpec(2, 1, 8, 8)], DecoderSpec(40, 16, 1), 1)
    with refused("--shader", "31", "40"):
        shader_source(model, read_export(folder).manifest.material, "hlsl")
