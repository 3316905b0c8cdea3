"""Grids of blocks as hardware decodes and filters them, and the decode for a pixel, ntDecodeGrad.

test_shaders.py has the parity of such grids with unrounded thirds, which float32 textures stand for there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset import Material
from engine.cpu.engine import CpuEngine
from engine.cpu.library import load_kernels
from engine.errors import KernelsUnavailable
from formats.block_textures import grid_blocks
from formats.textures import read_export, write_export
from model import NeuralTexture
from shape import DecoderSpec, GridSpec
from tests.support import reference
from tests.support.astc_decoders import seen_astc
from tests.support.bc1_decoders import ROUNDINGS, decode_bc1
from tests.support.engine_cases import engine_of
from tests.support.metal_host import run_metal
from tests.support.paths import ROOT
from tests.support.shader_cases import TOLERANCE, Case, Shipped, assert_parity, astc, bc1, make_job, ship, uploads
from tests.support.shader_hosts import Job, run_essl, run_webgpu, run_wgsl

WIDE = (bc1((128, 16), 5), bc1((32, 4), 3))  # of a material of 8:1
CASES = {
    "linear": Case((bc1(64, 7), bc1(16, 3)), DecoderSpec(0, 32, 2, 0, "hard_swish"), weights="buffer"),
    "learned": Case(
        (bc1(32, 6, "learned"), bc1(16, 5)), DecoderSpec(0, 32, 1, 3, "hard_swish"), (64, 32), weights="buffer"
    ),
    "packed": Case((GridSpec(16, 5, 4, 16), bc1(32, 6), bc1(8, 1)), DecoderSpec(3, 16, 2), weights="buffer"),
    "wide": Case(WIDE, DecoderSpec(0, 16, 2, 0, "hard_swish"), (128, 16), weights="buffer"),
    "wide_affine": Case(WIDE, DecoderSpec(0, 16, 0), (128, 16), weights="buffer"),
    "affine": Case((bc1(64, 7), bc1(16, 3)), DecoderSpec(0, 16, 0), weights="buffer"),  # the mean of inputs is decoded
}
CHANNELS = slice(0, 11)
SIDE = 256  # texels of the trained material
HOSTS: dict[str, tuple[str, Callable[[Job, Path], np.ndarray]]] = {  # the language and how to run it
    "wgpu": ("wgsl", lambda job, _: run_wgsl(job)),
    "webgl": ("essl", lambda job, _: run_essl([job])[job.name]),
    "webgpu": ("wgsl", lambda job, _: run_webgpu([job])[job.name]),
    "metal": ("metal", run_metal),  # as C++, whose sampler is exact
}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> dict[str, Shipped]:
    torch.set_num_threads(1)
    return {name: ship(name, case, tmp_path_factory.mktemp(name), 7) for name, case in CASES.items()}


# --- rounding --------------------------------------------------------------------------------------------------------


def every_block(random: np.random.Generator) -> np.ndarray:
    """(64, 64, 8): four colours of random end points, with all indices."""
    words = np.sort(random.integers(0, 1 << 16, (64, 64, 2), dtype=np.uint16), axis=2)[..., ::-1]
    indices = random.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    return np.concatenate([np.ascontiguousarray(words).astype("<u2").view(np.uint8), indices], axis=2)


def test_how_far_the_roundings_are_from_the_thirds():
    """In 8-bit steps. NVIDIA's published green takes 5/16 for a third, which tells where end points are far apart."""
    blocks = every_block(np.random.default_rng(1))
    exact = decode_bc1(blocks, "exact")
    worst = {name: np.abs(decode_bc1(blocks, name) - exact).max() for name in ROUNDINGS}
    expected = {"exact": 0, "down": 2 / 3, "nearest": 1 / 3, "amd": 5 / 3, "nvidia": 16 / 3, "llvmpipe": 4 / 3}
    assert worst == pytest.approx(expected, abs=1e-9)
    decoder = pytest.importorskip("texture2ddecoder", reason="not installed (pip install -r requirements-test.txt)")
    pixels = np.frombuffer(decoder.decode_bc1(blocks.tobytes(), 256, 256), np.uint8).reshape(256, 256, 4)
    np.testing.assert_array_equal(decode_bc1(blocks, "down"), pixels[..., 2::-1])


def with_rounding(texture: reference.Texture, folder: Path, case: Case, rounding: str) -> reference.Texture:
    """The reference with BC1 grids as a GPU returns them."""
    grids = list(texture.grids)
    for index, (grid, spec) in enumerate(zip(texture.grids, case.grids)):
        if spec.storage == "bc1":
            payload = (folder / f"hash_grid_{index}.dds").read_bytes()
            sizes = [spec.level_size(level) for level in range(spec.n_levels)]
            blocks = uploads(payload, as_blocks=True)[: spec.n_levels][::-1]
            images = [decode_bc1(level, rounding)[:down, :across] for level, (across, down) in zip(blocks, sizes)]
            grids[index] = dataclasses.replace(grid, levels=[image / 255 - 0.5 for image in images])
    return dataclasses.replace(texture, grids=grids)


@pytest.mark.parametrize("name", ["linear", "learned", "packed", "wide"])
@pytest.mark.parametrize("host", ["wgpu", "webgl"])
def test_blocks_that_the_host_decodes(host, name, shipped, tmp_path):
    """The decoder is right with the host's own thirds: SwiftShader in WebGL rounds them down, lavapipe as llvmpipe, and
    a GPU in its vendor's way. (SwiftShader in WebGPU takes BC1 and returns 0, so that is left out.)"""
    one, case = shipped[name], CASES[name]
    language, run = HOSTS[host]
    got = run(make_job(name, case, one, language, as_blocks=True), tmp_path)[:, CHANNELS]
    texture = reference.load_export(
        one.folder, one.model.num_lods, [grid.interpolation for grid in case.grids], case.decoder.n_texel_frequencies,
        case.decoder.activation,
    )  # fmt: skip
    worst = {}
    for rounding in ROUNDINGS:
        rounded = with_rounding(texture, one.folder, case, rounding)
        want = reference.forward(rounded, one.queries[:, :2], one.queries[:, 2])
        worst[rounding] = np.abs(got - want).max()
    assert min(worst.values()) <= TOLERANCE, worst
    assert worst["exact"] < 0.01  # of a decoder that sees up to 4/3 of an 8-bit step elsewhere


def test_astc_blocks_that_webgl_decodes(tmp_path):
    """Chromium's SwiftShader keeps 8 bits of a texel: within half a step, and the rounding of its halves."""
    case = Case((astc((48, 24), 4), astc(12, 2, "learned")), DecoderSpec(2, 16, 1), (96, 48), weights="buffer")
    one = ship("astc", case, tmp_path, 7)
    got = run_essl([make_job("astc", case, one, "essl", as_blocks=True)])["astc"][:, CHANNELS]
    texture = reference.of_model(one.model)
    worst = {}
    for rounding in ("exact", "nearest", "as SwiftShader"):
        for grid, own in zip(texture.grids, reference.of_model(one.model).grids):
            grid.levels = [seen_astc(level, rounding) / 255 - 0.5 for level in own.levels]
        want = reference.forward(texture, one.queries[:, :2], one.queries[:, 2])
        worst[rounding] = np.abs(got - want).max()
    assert min(worst.values()) <= TOLERANCE and worst["exact"] < 0.01, worst


@pytest.fixture(scope="module")
def trained() -> tuple[NeuralTexture, Material]:
    """A corner of the sample material, trained at filtered positions with unrounded thirds, in 10 seconds."""
    try:
        load_kernels()
    except KernelsUnavailable as error:
        pytest.skip(f"needs the kernels, PyTorch would take minutes: {error}")
    maps = {"diffuse": "Test_Albedo.png", "normal": "Test_Normal.png"}
    images = {name: np.asarray(Image.open(ROOT / "data/test" / file).convert("RGB")) for name, file in maps.items()}
    material = Material.from_arrays("crop", {name: image[:SIDE, :SIDE] for name, image in images.items()})
    fine, coarse = ({"max_resolution": side, "n_levels": 6, "storage": "bc1"} for side in (SIDE // 2, SIDE // 4))
    engine = engine_of(
        CpuEngine, material, None, hash_grid_configs=[fine, fine, coarse, coarse], batch_size=4096, max_iter=1500,
        n_neurons=32, n_hidden_layers=2, n_frequencies=0, grid_learning_rate=0.02, positions="filtered",
    )  # fmt: skip
    engine.step(1500)
    engine.sync()
    return engine.model, material


def source_levels(material: Material) -> list[np.ndarray]:
    """(side, side, 6) of each LOD, 0 to 1."""
    sides = [SIDE >> lod for lod in range(material.num_lods)]
    return [material.texels(lod).numpy().reshape(side, side, -1)[..., :6] for lod, side in enumerate(sides)]


def psnr(values: np.ndarray, source: np.ndarray) -> float:
    return -10 * np.log10(((values - source) ** 2).mean())


def seen_through(model: NeuralTexture, decode: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(texels, 6) of LOD 0, 0 to 1, of grids whose blocks are decoded so, see decode_bc1."""
    texture = reference.of_model(model)
    for index, grid in enumerate(texture.grids):
        side = model.grids[index].max_resolution
        grid.levels[-1] = decode(grid_blocks(model, index)[0].reshape(side // 4, side // 4, 8)) / 255 - 0.5
    y, x = np.mgrid[:SIDE, :SIDE].reshape(2, -1)
    uv = (np.stack([x, y], axis=1) + 0.5) / SIDE
    return np.clip(reference.forward(texture, uv, np.zeros(len(uv)))[:, :6], 0, 1)


def test_the_roundings_of_gpus_hardly_change_the_error(trained):
    """A trained material, seen through the thirds of GPUs: less than 0.01 dB, from 8-bit decodes of LOD 0.

    Two things change PSNR: what is added to the squared error, which is the mean square of the move, and how the move
    happens to lie to the error that was there, which averages out over many texels only: on crops of 64² and 96² up to
    0.012 dB were seen. So the first is bounded too: NVIDIA's green moves values most, by 0.3 to 0.4 of an 8-bit step.
    On whole materials of 1024² (three, 2.5 bpp, linear) PSNR moved by at most 0.006 dB.
    """
    model, material = trained
    source = source_levels(material)[0].reshape(-1, 6)
    values = {name: seen_through(model, functools.partial(decode_bc1, rounding=name)) for name in ROUNDINGS}
    found = {name: psnr(np.round(seen * 255) / 255, source) for name, seen in values.items()}
    moves = {name: 255 * np.sqrt(((seen - values["exact"]) ** 2).mean()) for name, seen in values.items()}
    assert found["exact"] > 26  # trained: the mean colour alone is below 18 dB
    assert max(abs(found[name] - found["exact"]) for name in ROUNDINGS) < 0.01, found
    assert max(moves.values()) < 0.5 and sorted(moves, key=moves.get)[0] == "exact", moves
    assert min(move for name, move in moves.items() if name != "exact") > 0.02  # there is something to see
    narrow = seen_through(model, lambda blocks: decode_bc1(blocks, "exact") * 248 / 255)  # as no GPU does
    assert found["exact"] - psnr(np.round(narrow * 255) / 255, source) > 0.05  # so it would be seen


# --- ntDecodeGrad ----------------------------------------------------------------------------------------------------


def pixel_queries(one: Shipped, ratio: float, whole: bool, n: int = 256) -> np.ndarray:
    """(n, 4) float32: uv and the lengths of both derivatives, see Job.anisotropy. The longer one is up to `ratio` times
    the shorter one, and LODs go from below the first to beyond the last; whole: all are."""
    random = np.random.default_rng(5)
    uv = (2 * random.integers(-1.5 * 4096, 2.5 * 4096, (n, 2)) + 1) / 8192
    lods, ratios = random.uniform(-1.5, one.model.num_lods + 0.5, n), random.uniform(0, np.log2(ratio), n)
    if whole:
        lods, ratios = np.floor(lods), np.floor(ratios)
    lengths = 2.0 ** np.stack([lods, lods + ratios], axis=1) / one.material.width
    return np.column_stack([uv, random.permuted(lengths, axis=1)]).astype(np.float32)


def footprints(one: Shipped, queries: np.ndarray, anisotropy: float) -> tuple[np.ndarray, np.ndarray]:
    """The LOD of each query, and the longer axis in uv."""
    axes = queries[:, 2:, None].astype(np.float64) * [[0.8, 0.6], [-0.6, 0.8]]
    lengths = np.linalg.norm(axes * [one.material.width, one.material.height], axis=2)
    longer, shorter = lengths.max(axis=1), lengths.min(axis=1)
    lod = np.log2(np.maximum(shorter, longer / anisotropy))
    return np.clip(lod, 0, one.model.num_lods - 1), axes[np.arange(len(axes)), lengths.argmax(axis=1)]


def decoded(one: Shipped, uv: np.ndarray, lod: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return one.model(torch.from_numpy(uv.astype(np.float32)), torch.from_numpy(lod.astype(np.float32))).numpy()


def pixel_job(name: str, one: Shipped, language: str, queries: np.ndarray, anisotropy: int) -> Job:
    job = make_job(name, CASES[name], one, language)
    return dataclasses.replace(job, queries=queries, anisotropy=anisotropy)


@pytest.mark.parametrize("name", ["linear", "learned", "packed", "wide"])
@pytest.mark.parametrize("host", HOSTS)
def test_a_pixel_sees_the_lod_of_its_derivatives(host, name, shipped, tmp_path):
    """Also where the grids have half or a quarter of the material's resolution, or fewer levels than it has LODs.

    Between whole LODs lavapipe and SwiftShader take logarithms of derivatives roughly: 0.006 was seen.
    """
    one = shipped[name]
    language, run = HOSTS[host]
    square = one.material.width == one.material.height
    queries = pixel_queries(one, 8, whole=square)
    got = run(pixel_job(name, one, language, queries, 1), tmp_path)[:, CHANNELS]
    lod, _ = footprints(one, queries, 1)
    want = decoded(one, queries[:, :2], lod)
    if square or name == "learned":  # whose fractional LODs are of decoded results
        assert_parity(got, want)
    else:
        assert np.abs(got - want).max() < (TOLERANCE if host == "metal" else 0.02)


@pytest.mark.parametrize("host", ["webgl", "webgpu", "metal"])  # lavapipe 22.3 takes the LOD of the longer axis
@pytest.mark.parametrize("name", ["affine", "wide_affine"])
def test_a_sampler_filters_along_the_footprint(name, host, shipped, tmp_path):
    """With anisotropy 8 it is the mean along the longer axis, at the LOD of the shorter one."""
    one = shipped[name]
    language, run = HOSTS[host]
    queries = pixel_queries(one, 8, whole=False, n=512)
    lod, axis = footprints(one, queries, 8)
    ratio = queries[:, 2:].max(axis=1) / queries[:, 2:].min(axis=1)
    chosen = (lod > 0) & (lod < 2) & (ratio > 2)  # LODs that all grids have
    queries, lod, axis = queries[chosen], lod[chosen], axis[chosen]
    got = run(pixel_job(name, one, language, queries, 8), tmp_path)[:, CHANNELS]
    uv, places = queries[:, :2].astype(np.float64), (np.arange(64) + 0.5) / 64 - 0.5
    want = np.mean([decoded(one, uv + axis * place, lod) for place in places], axis=0)
    rms = lambda values: np.sqrt(((values - want) ** 2).mean())  # noqa: E731
    longer_lod = np.minimum(lod + np.log2(ratio[chosen]), one.model.num_lods - 1)
    others = rms(decoded(one, uv, lod)), rms(decoded(one, uv, longer_lod))
    assert len(queries) > 50 and rms(got) < min(others) / 3, (rms(got), others)


def filtered_source(levels: list[np.ndarray], uv: np.ndarray, lod: float) -> np.ndarray:
    """The source as a trilinear sampler with repeat returns it, at one LOD for all."""
    result = 0
    for near, share in ((int(lod), 1 - lod % 1), (min(int(lod) + 1, len(levels) - 1), lod % 1)):
        side = len(levels[near])
        corner, weight = np.divmod(uv * side - 0.5, 1)
        for offset in np.ndindex(2, 2):
            x, y = ((corner + offset) % side).astype(int).T
            parts = np.where(np.array(offset) == 1, weight, 1 - weight)
            result = result + share * parts.prod(axis=1, keepdims=True) * levels[near][y, x]
    return result


# LOD of the shorter axis, the longer axis over it; the least gain over the nearest texel of the nearest LOD, dB.
# 60 degrees of tilt make the footprint twice as long as wide.
@pytest.mark.parametrize(("lod", "ratio", "gain"), [(-2, 1, 0.5), (0, 2, 4), (0.5, 2, 4), (1, 2, 4), (0, 4, 4)])
def test_one_filtered_decode_is_the_filtered_material(lod, ratio, gain, trained, tmp_path):
    """Of blocks that the browser decodes and filters, with anisotropy 8, against the source filtered the same way."""
    model, material = trained
    write_export(tmp_path, model, material.hashed_record, positions="filtered")
    exported = read_export(tmp_path)
    size = 2.0**lod / SIDE
    uv = np.random.default_rng(3).random((2048, 2))
    queries = np.column_stack([uv, np.broadcast_to([size, size * ratio], uv.shape)]).astype(np.float32)
    one = Shipped(exported.model, exported.manifest.material, tmp_path, queries, np.empty(0))
    case = Case(model.grids, model.decoder, (SIDE, SIDE), maps=("diffuse", "normal"), weights="buffer")
    job = dataclasses.replace(make_job("trained", case, one, "essl", as_blocks=True), anisotropy=8)
    got = run_essl([job])["trained"][:, :6]
    levels, axis = source_levels(material), np.array([-0.6, 0.8]) * size * ratio
    places = [0.0] if ratio == 1 else (np.arange(ratio) + 0.5) / ratio - 0.5
    want = np.mean([filtered_source(levels, uv + axis * place, max(lod, 0)) for place in places], axis=0)
    nearest_lod = max(round(lod + np.log2(ratio)), 0)
    side = SIDE >> nearest_lod
    nearest = decoded(one, (np.floor(uv * side) + 0.5) / side, np.full(len(uv), nearest_lod))[:, :6]
    assert psnr(got, want) > psnr(nearest, want) + gain, (psnr(got, want), psnr(nearest, want))
