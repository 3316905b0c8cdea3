"""A material for the tests of shaders: its shape, its export, queries, and what the model in memory says of them."""

from __future__ import annotations

import copy
import dataclasses
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from configs import WORD_LAYOUTS
from dataset import Constant, Material
from formats.textures import read_export, write_export
from maps.channels import CHANNELS, map_size, map_slice
from maps.record import MapRecord, MaterialRecord
from model import NeuralTexture
from shaders.export import shader_source, texture_names
from shaders.weights import ELEMENTS, chosen_type, weight_bytes
from shape import BLOCKS, DecoderSpec, GridSpec
from tests.support import reference
from tests.support.shader_hosts import Job

TOLERANCE = 1e-4
DXGI_BC1 = 71
DDS_HEADER_BYTES = 148
ALL_MAPS = ("diffuse", "normal", "roughness", "occlusion", "metallic", "specular", "displacement")


@dataclass(frozen=True)
class Case:
    grids: tuple[GridSpec, ...]
    decoder: DecoderSpec
    size: tuple[int, int] = (64, 64)
    maps: tuple[str, ...] = ALL_MAPS
    constants: tuple[tuple[int, Constant], ...] = ()
    weights: str = "baked"
    weight_type: str = "auto"
    linear_color: bool = False
    layout: str = "packed"
    units: tuple[tuple[str, tuple[float, float], float | None], ...] = ()  # map, value_range, log_scale
    precision: int = 32  # of the shader's products

    @property
    def sampled(self) -> bool:
        """Whether its decoder uses a sampler."""
        return self.layout not in WORD_LAYOUTS or any(grid.compressed for grid in self.grids)


@dataclass
class Shipped:
    model: NeuralTexture
    material: MaterialRecord
    folder: Path
    queries: np.ndarray  # (n, 4) float32: u, v, lod, 0
    want: np.ndarray  # (n, 20) float64, see shader_hosts


def make_queries(num_lods: int, random: np.random.Generator) -> np.ndarray:
    """uv in [-1.5, 2.5]^2 at LOD 0, 0.5, 1, 2.5 and the last.

    On odd multiples of 2^-13: float32 then holds every position exactly, so that all decoders agree on which texel is
    the nearest. A learned grid jumps from one texel to the next.
    """
    lods = np.unique(np.minimum([0, 0.5, 1, 2.5, num_lods - 1], num_lods - 1))
    n = 64 * len(lods)
    uv = (2 * random.integers(-1.5 * 4096, 2.5 * 4096, (n, 2)) + 1) / 8192
    return np.column_stack([uv, np.repeat(lods, 64), np.zeros(n)]).astype(np.float32)


def in_units(values: np.ndarray, entry: MapRecord) -> np.ndarray:
    """Decoded t in the units of a map's file, in float64; outside of [0, 1] it saturates."""
    low, high = entry.value_range
    values = np.clip(values, 0, 1)
    if entry.log_scale is None:
        return low + values * (high - low)
    return entry.log_scale * (2 ** (values * np.log2(1 + high / entry.log_scale)) - 1)


def with_helpers(values: np.ndarray, queries: np.ndarray, material: MaterialRecord) -> np.ndarray:
    """(n, 11) decoded values -> (n, 20) with the helpers' results; extra maps are left out."""
    values = values[:, :CHANNELS]
    normal = np.broadcast_to([0.0, 0.0, 1.0], (len(values), 3))
    if material.map("normal"):
        vector = values[:, map_slice("normal")] * 2 - 1
        normal = vector / np.linalg.norm(vector, axis=1, keepdims=True)
    diffuse = values[:, map_slice("diffuse")]
    if material.map("diffuse") and material.map("diffuse").color_space == "srgb":
        c = np.clip(diffuse, 0, 1)
        diffuse = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    elif material.map("diffuse") and material.map("diffuse").value_range != (0.0, 1.0):
        diffuse = in_units(diffuse, material.map("diffuse"))
    size = [material.width, material.height]
    uv = queries[:, :2].astype(np.float64)
    lengths = [(d * size * d * size).sum(axis=1) for d in (uv / 100, uv[:, ::-1] / 50)]
    lod = 0.5 * np.log2(np.maximum(np.maximum(*lengths), 1e-12))
    sizes = np.maximum(np.array([size]) >> np.floor(queries[:, 2:3] + 0.5).astype(int), 1)
    centre = (np.floor(uv * sizes - 0.5 + uv[:, ::-1] / 4 + 0.375) + 0.5) / sizes
    return np.column_stack([values, normal, diffuse, lod, centre])


def ship(name: str, case: Case, folder: Path, seed: int) -> Shipped:
    """Export a model with random features, and ask the model in memory."""
    random = np.random.default_rng(seed)
    width, height = case.size
    arrays = {m: random.integers(0, 256, (height, width, map_size(m)), dtype=np.uint8) for m in case.maps}
    material = Material.from_arrays(f"case {name}", arrays, linear_color=case.linear_color)
    decoder = dataclasses.replace(case.decoder, outputs=material.channels)
    model = NeuralTexture(
        case.grids, decoder, material.num_lods, seed=seed, seamless=False, constants=dict(case.constants),
        present_channels=material.present_channels.tolist(),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameters in model.grid_parameters:
            parameters.uniform_(-0.6, 0.6, generator=generator)
    if model.activation_bits == 8:
        positions = torch.rand((4096, 2), generator=generator), torch.zeros(4096, dtype=torch.int64)
        model.calibrate(*positions)
    write_export(folder, model, with_units(material.hashed_record, case), layout=case.layout)
    exported = read_export(folder)
    model = stored_model(model, case.weight_type)
    queries = make_queries(material.num_lods, random)
    with torch.no_grad():
        values = model(torch.from_numpy(queries[:, :2]), torch.from_numpy(queries[:, 2])).numpy().astype(np.float64)
    want = with_helpers(values, queries, exported.manifest.material)
    return Shipped(exported.model, exported.manifest.material, folder, queries, want)


def with_units(material: MaterialRecord, case: Case) -> MaterialRecord:
    """The record with the ranges and scales of a case, of files that hold no sRGB."""
    linear = {"color_space": "linear", "file_color_space": "linear"}
    units = {name: {"value_range": span, "log_scale": scale, **linear} for name, span, scale in case.units}
    maps = tuple(dataclasses.replace(entry, **units.get(entry.name, {})) for entry in material.maps)
    return dataclasses.replace(material, maps=maps)


def stored_model(model: NeuralTexture, weight_type: str) -> NeuralTexture:
    """The model with its weights as the shader stores them."""
    if weight_type == "float16":
        model = copy.deepcopy(model)
        with torch.no_grad():
            for weight, exported in zip(model.weights, model.exported_weights()):
                weight.copy_(exported.half().float())
        model.decoder = dataclasses.replace(model.decoder, weight_bits=32)
    return model


def bc1(side: int | tuple[int, int], levels: int, interpolation: str = "linear") -> GridSpec:
    return GridSpec(side, levels, *BLOCKS["bc1"].bits, interpolation, "bc1")


def astc(side: int | tuple[int, int], levels: int, interpolation: str = "linear") -> GridSpec:
    return GridSpec(side, levels, *BLOCKS["astc6x6"].bits, interpolation, "astc6x6")


def uploads(payload: bytes, as_blocks: bool) -> list[np.ndarray]:
    """The levels of a DDS or KTX2 file as a Job has them: grids of blocks as these, or as unrounded float32 texels."""
    if payload[:4] != b"DDS ":
        if as_blocks:
            return astc_blocks(payload)
        return [_with_alpha(level / 255) for level in reference.astc_levels(payload)]
    parsed = reference.parse_dds(payload)
    if parsed["dxgiFormat"] != DXGI_BC1:
        return parsed.get("words", parsed["levels"])
    if not as_blocks:
        return [_with_alpha(level / 255) for level in parsed["levels"]]
    levels, at = [], DDS_HEADER_BYTES
    for level in parsed["levels"]:
        down, across = (-(-side // 4) for side in level.shape[:2])
        levels.append(np.frombuffer(payload, np.uint8, 8 * down * across, at).reshape(down, across, 8))
        at += levels[-1].size
    return levels


def _with_alpha(level: np.ndarray) -> np.ndarray:
    return np.dstack([level, np.ones(level.shape[:2])]).astype(np.float32)


def astc_blocks(payload: bytes) -> list[np.ndarray]:
    """The (H / 6, W / 6, 16) uint8 blocks of each mip of a KTX2 file of ASTC 6x6."""
    width, *_, mips = struct.unpack_from("<6I", payload, 20)
    levels = []
    for mip in range(mips):
        at, size = struct.unpack_from("<2Q", payload, 80 + 24 * mip)
        across = -(-max(width >> mip, 1) // 6)
        levels.append(np.frombuffer(payload, np.uint8, size, at).reshape(-1, across, 16))
    return levels


def make_job(name: str, case: Case, shipped: Shipped, language: str, as_blocks: bool = False) -> Job:
    textures = {}
    for texture, file in texture_names(shipped.model, case.layout).items():
        textures[texture] = uploads((shipped.folder / file).read_bytes(), as_blocks)
    storage = (case.weights, case.weight_type, case.layout)
    kind = chosen_type(shipped.model, case.weight_type, case.weights == "baked", case.precision)
    return Job(
        name,
        shader_source(shipped.model, shipped.material, language, *storage, precision=case.precision),
        textures,
        weight_bytes(shipped.model, case.weight_type, case.precision) if case.weights == "buffer" else b"",
        ELEMENTS[kind],
        shipped.queries,
        case.sampled,
        words=kind == "codes16",
    )


def assert_parity(got: np.ndarray, want: np.ndarray) -> None:
    """The one check of parity. Worst seen: 6e-7 (lavapipe, SwiftShader, 2026-11-21); mistakes made 0.07 to 0.3."""
    assert got.shape == want.shape
    assert np.isfinite(got).all()
    worst = np.abs(got - want).max(axis=0)
    assert worst.max() <= TOLERANCE, f"column {worst.argmax()}: {worst.max():.3g}"
