"""--shader slang: its two networks against numpy, as C++, where Slang has loops for cooperative vectors; and that its
SPIR-V with cooperative vectors is valid. The same program runs where there is a GPU with them."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset import Constant
from formats.textures import read_export
from shaders.matrices import matrices, matrix_bytes
from shaders.slang import export_slang
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.shader_cases import Case, Shipped, bc1, make_job, ship
from tests.support.shader_jobs import Job
from tests.support.slang_host import run_slang

REFERENCE_FORM = (GridSpec(16, 5, 4, 32), GridSpec(4, 1, 4, 32))
LEARNED_FORM = (GridSpec(32, 4, 2, 16, "learned"), GridSpec(8, 1, 8, 32))
CASES = {  # how features are read, layers and their widths, storages of the plain network's weights, and shapes
    "reference": Case(REFERENCE_FORM, DecoderSpec(12, 64, 2)),
    "learned": Case(LEARNED_FORM, DecoderSpec(0, 32, 3, 3, "hard_swish", weight_bits=16), (64, 32), weights="buffer"),
    "codes_18": Case((GridSpec(12, 3, 1, 8),), DecoderSpec(1, 18, 2, weight_bits=8), (12, 12), weights="buffer"),
    "bc1": Case((GridSpec(16, 5, 4, 16), bc1(32, 6), bc1(8, 1)), DecoderSpec(3, 16, 2), weights="buffer"),
    "filterable": Case(REFERENCE_FORM, DecoderSpec(4, 16, 1, weight_bits=16), layout="filterable", precision=16),
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
    """As exact as numpy with 16 bits."""
    assert np.isfinite(got).all()
    assert np.abs(got - said.want).max() <= TOLERANCE
    assert noise(got, said.half) <= noise(said.half, said.want)


@pytest.mark.parametrize("name", CASES)
def test_cooperative_vectors_as_cpp(name, case_of):
    said = case_of(name)
    got = run_slang(said.job, said.one.folder, said.matrices, said.channels, cooperative=True)
    print(name, np.abs(got - said.want).max() * 255, noise(got, said.want), noise(said.half, said.want), noise(got, said.half))
    assert_parity(got, said)


@pytest.mark.parametrize("name", CASES)
def test_the_plain_network_as_cpp(name, case_of):
    said = case_of(name)
    got = run_slang(said.job, said.one.folder, said.matrices, said.channels, cooperative=False)
    print(name, np.abs(got - said.want).max())
    assert np.abs(got - said.want).max() <= (1e-4 if CASES[name].precision == 32 else TOLERANCE)
