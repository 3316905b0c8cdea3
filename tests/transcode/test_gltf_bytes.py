"""A reader of NTX_neural_texture that knows docs/gltf.md alone decodes what the model does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from describe.numpy_decoder import FileTexture, decode
from formats.textures import read_export
from shaders.weights import weight_bytes
from shape import DecoderSpec, GridSpec
from tests.support.gltf_reader import Read
from tests.support.model_runs import export_gltf, make_run
from tests.support.models import orm_images, whole, write_model
from tests.support.paths import ROOT
from tests.support.reference import bc1_level
from tests.support.reference_blocks import astc_level

NAME = "NTX_neural_texture"
SCHEMA = json.loads((ROOT / f"docs/gltf/{NAME}.schema.json").read_text())
SIZE = (24, 16)
CHANNELS = {"R8_UNORM": 1, "R8G8_UNORM": 2, "R8G8B8A8_UNORM": 4}
WEIGHTS = {"float32": ("<f4", 4), "float16": ("<f2", 4), "int8": ("i1", 4)}
BLOCKS = {"BC1_UNORM": (4, 8, bc1_level), "ASTC_6x6_UNORM": (6, 16, astc_level)}  # side, bytes
CASES = {
    "small words": ([GridSpec((12, 8), 2, 2, 8), GridSpec(3, 1, 4, 16)], DecoderSpec(3, 16, 2)),
    "two planes": ([GridSpec((12, 8), 3, 8, 64, "learned"), GridSpec(4, 3, 1, 16)],
                   DecoderSpec(0, 16, 1, 3, "hard_swish", weight_bits=16)),
    "a narrow network": ([GridSpec((12, 8), 2, 4, 32)], DecoderSpec(2, 16, 1, weight_bits=8, negative_slope=0.2)),
    "no hidden layer": ([GridSpec((12, 8), 2, 4, 32)], DecoderSpec(2, 16, 0, weight_bits=8)),
    "blocks": ([GridSpec((12, 8), 2, 0, 4, "learned", "bc1"), GridSpec(8, 2, 0, 4, "linear", "bc1", 2)],
               DecoderSpec(0, 16, 1, 1, "hard_swish", weight_bits=16)),
    "larger blocks": ([GridSpec((12, 8), 2, 0, 6, "linear", "astc6x6")], DecoderSpec(2, 16, 1)),
}  # fmt: skip


def levels_of(read: Read, grid: dict[str, Any], layout: str) -> list[np.ndarray]:
    """(height, width, features) of each level."""
    chains = [read.view(texture["bufferView"]) for texture in grid["textures"]]
    levels, places = [], [0] * len(chains)
    for width, height in grid["levels"]:
        texels = []
        for index, chain in enumerate(chains):
            if grid["format"] in BLOCKS:
                side, block, level_of = BLOCKS[grid["format"]]
                size = -(-width // side) * -(-height // side) * block
                texels.append(level_of(chain[places[index] :][:size], width, height))
            else:
                size = width * height * CHANNELS[grid["format"]]
                part = np.frombuffer(chain, np.uint8, size, places[index])
                texels.append(part.reshape(height, width, -1))
            places[index] += size
        levels.append(np.concatenate(texels, axis=2))
    assert places == [len(chain) for chain in chains], "no byte is left over"
    if "unorm_to_feature" in grid:
        scale, offset = grid["unorm_to_feature"]["scale"], grid["unorm_to_feature"]["offset"]
        return [level[..., : grid["features"]] / 255 * scale + offset for level in levels]
    bits, n_bytes = grid["quantize_bits"], grid["save_bits"] // 8
    if layout == "rgba8" and n_bytes < 4:
        assert all((level[..., n_bytes:] == 255).all() for level in levels)
    features = []
    for level in levels:
        stream = np.unpackbits(level[..., :n_bytes], axis=2).reshape(*level.shape[:2], grid["features"], bits)
        codes = (stream * (1 << np.arange(bits)[::-1])).sum(axis=3)
        features.append(codes / 2**bits - (2**bits - 1) / 2 ** (bits + 1))
    return features


def weights_of(read: Read, decoder: dict[str, Any]) -> list[np.ndarray]:
    """[rows, inputs] of each layer."""
    payload, kind = read.view(decoder["weights"]["bufferView"]), decoder["weights"]["type"]
    dtype, count = WEIGHTS[kind]
    columns = decoder["weights"]["columns"]
    elements = np.frombuffer(payload, dtype, columns * count).reshape(-1, 4).astype(np.float32)
    scales = np.frombuffer(payload, "<f4", -1, elements.size) if kind == "int8" else None
    matrices, row = [], 0
    for index, (rows, inputs) in enumerate(decoder["layers"]):
        width, blocks = inputs + (-inputs % 4 if index else 0), -(-rows // 4)
        taken, elements = elements[: blocks * width], elements[blocks * width :]
        matrix = taken.reshape(blocks, width, 4).transpose(0, 2, 1).reshape(blocks * 4, width)
        if scales is not None:
            matrix = matrix * scales[row : row + blocks * 4, None]
        row += blocks * 4
        matrices.append(matrix[:rows, :inputs])
    assert len(elements) == 0
    return matrices


def texture_of(read: Read) -> FileTexture:
    """The neural texture of the only material."""
    [entry] = read.document["extensions"][NAME]["neuralTextures"]
    jsonschema.validate(read.document["extensions"][NAME], SCHEMA)
    grids = []
    for grid in entry["grids"]:
        levels = levels_of(read, grid, entry["layout"])
        grids.append(levels[:1] * (grid.get("finest_lods", 1) - 1) + levels)
    decoder = entry["decoder"]
    spec = DecoderSpec(decoder["n_frequencies"], 16, 1, decoder["n_texel_frequencies"], decoder["activation"],
                       decoder["negative_slope"], decoder["outputs"])  # fmt: skip
    learned = [grid["interpolation"] == "learned" for grid in entry["grids"]]
    return FileTexture(grids, weights_of(read, decoder), entry["material"]["num_lods"], spec, learned)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("bytes"), [whole()], orm_images(size=SIZE))


@pytest.mark.parametrize("layout", ["packed", "filterable", "rgba8"])
@pytest.mark.parametrize("case", CASES)
def test_the_documented_bytes_decode(case, layout, model_path, tmp_path):
    grids, decoder = CASES[case]
    checkpoint, out = make_run(model_path, "Wood", tmp_path, grids=grids, decoder=decoder), tmp_path / "out.glb"
    flags = ("--dds_layout", layout, "--fallback", "none")
    assert export_gltf("--load_dir", checkpoint, "--data_dir", model_path, "--gltf", out, *flags) == 0
    texture, model = texture_of(Read(out)), read_export(checkpoint).model
    model.constants = {}
    for lod in range(model.num_lods):
        width, height = max(SIZE[0] >> lod, 1), max(SIZE[1] >> lod, 1)
        expected = model.decode(lod, width, height).numpy()
        assert np.abs(decode(texture, lod, width, height) - expected).max() < 1e-4


def test_a_network_of_whole_numbers(model_path, tmp_path):
    decoder = DecoderSpec(0, 16, 1, 1, "hard_swish", weight_bits=8, activation_bits=8)
    checkpoint, out = make_run(model_path, "Wood", tmp_path, decoder=decoder), tmp_path / "out.glb"
    assert export_gltf("--load_dir", checkpoint, "--data_dir", model_path, "--gltf", out) == 0
    read = Read(out)
    [entry] = read.document["extensions"][NAME]["neuralTextures"]
    weights = entry["decoder"]["weights"]
    assert (weights["type"], entry["decoder"]["activation_bits"]) == ("dots", 8)
    assert read.view(weights["bufferView"]) == weight_bytes(read_export(checkpoint).model, "auto", 8)
    jsonschema.validate(read.document["extensions"][NAME], SCHEMA)
