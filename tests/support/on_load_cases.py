"""Small materials of all kinds for the tests of shaders/on_load.py: what each is, and an export of it that is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dataset import Constant, Material
from formats.textures import ExportedTexture, read_export, write_export
from maps.channels import map_size
from shape import DecoderSpec, GridSpec
from tests.support.exports import make_model
from tests.support.shader_cases import ALL_MAPS, bc1

WORDS = (GridSpec(16, 4, 4, 32), GridSpec(4, 1, 8, 16))
SMALL = DecoderSpec(2, 16, 1)


@dataclass(frozen=True)
class OnLoadCase:
    size: tuple[int, int]
    maps: tuple[str, ...] = ALL_MAPS
    grids: tuple[GridSpec, ...] = WORDS
    decoder: DecoderSpec = SMALL
    constants: tuple[tuple[int, Constant], ...] = ()
    linear_color: bool = False
    unit_normals: bool = False
    layout: str = "packed"


CASES = {
    "all": OnLoadCase((40, 24), (*ALL_MAPS, "opacity", "emissive", "thickness")),
    "learned": OnLoadCase(
        (64, 32), ("normal", "occlusion"), (GridSpec(32, 4, 2, 16, "learned"), GridSpec(8, 1, 8, 32)),
        DecoderSpec(0, 16, 1, 3, "hard_swish", weight_bits=8), unit_normals=True,
    ),
    "integers": OnLoadCase(
        (24, 24), ("diffuse", "normal"), (GridSpec(12, 3, 4, 32),),
        DecoderSpec(2, 18, 2, weight_bits=8, activation_bits=8),
    ),
    "blocks": OnLoadCase((37, 10), ("diffuse", "metallic"), (bc1(20, 3), GridSpec(8, 2, 4, 64), bc1(5, 1))),
    "one_texel": OnLoadCase((1, 1), ("roughness", "opacity"), (GridSpec(1, 1, 8, 8),)),
    "thin": OnLoadCase((1, 9), ("emissive", "specular"), (GridSpec(4, 2, 8, 32),), SMALL),
    "oblong": OnLoadCase(
        (128, 16), ("diffuse", "normal"), (GridSpec((64, 8), 4, 4, 32), bc1((32, 4), 3)),
        DecoderSpec(2, 16, 1, weight_bits=16), linear_color=True, unit_normals=True,
    ),
    "constants": OnLoadCase(  # x of the normal, y and the metallic, with 16 bits
        (12, 20), ("diffuse", "normal", "metallic"), (GridSpec(8, 3, 4, 32),),
        constants=((1, Constant(200, 8)), (3, Constant(50, 8)), (8, Constant(40_000, 16))), unit_normals=True,
    ),
    "many_textures": OnLoadCase((8, 8), ("diffuse",), (GridSpec(4, 1, 8, 64),) * 9),  # 18: WebGPU promises 16
    "constant_z": OnLoadCase((6, 6), ("normal",), constants=((5, Constant(255, 8)),), unit_normals=True),
}  # fmt: skip
LAYOUTS = {  # for compilers
    "filterable": replace(CASES["learned"], layout="filterable", decoder=SMALL),
    "bgra4": replace(CASES["all"], layout="bgra4", grids=(GridSpec(16, 4, 4, 32),)),
}


def make_export(case: OnLoadCase, folder: Path) -> ExportedTexture:
    """An export of random features and weights."""
    random, (width, height) = np.random.default_rng(3), case.size
    arrays = {name: random.integers(0, 256, (height, width, map_size(name)), dtype=np.uint8) for name in case.maps}
    material = Material.from_arrays("made", arrays, linear_color=case.linear_color)
    material.unit_normals = case.unit_normals
    model = make_model(case.grids, replace(case.decoder, outputs=material.channels), material)
    model.constants = dict(case.constants)
    if model.activation_bits == 8:
        positions = torch.from_numpy(random.random((4096, 2), np.float32))
        model.calibrate(positions, torch.zeros(4096, dtype=torch.int64))
    folder.mkdir(exist_ok=True)
    write_export(folder, model, material.hashed_record, layout=case.layout)
    return read_export(folder)
