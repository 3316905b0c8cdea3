"""Small neural textures of every form that NTX_neural_texture has, with random features."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataset import Material
from formats.textures import ExportedTexture, read_export, write_export
from maps.channels import channel_count
from maps.ranges import to_units
from metrics.file_space import in_file_space
from shape import DecoderSpec, GridSpec
from tests.support.exports import make_model
from tests.support.shader_cases import astc, bc1
from transcode.gltf.extension import neural_texture_to_json

PLAIN = ("diffuse", "normal", "roughness", "occlusion", "metallic")
HOLED = (*PLAIN, "opacity", "emissive")
CHANNELS = {"diffuse": 3, "normal": 3, "emissive": 3}
LEARNED = DecoderSpec(0, 16, 2, 3, "hard_swish")
# name -> grids, decoder, (width, height), maps, layout
CASES: dict[str, tuple[list[GridSpec], DecoderSpec, tuple[int, int], tuple[str, ...], str]] = {
    "learned": ([GridSpec(8, 3, 2, 8, "learned"), GridSpec(4, 1, 4, 32)], LEARNED, (16, 16), HOLED, "packed"),
    "linear": ([GridSpec(8, 2, 4, 16), GridSpec(3, 1, 8, 64)], DecoderSpec(4, 16, 1), (16, 12), PLAIN, "packed"),
    "rgba8": ([GridSpec(8, 2, 4, 16), GridSpec(4, 1, 8, 8)], DecoderSpec(2, 16, 2), (16, 16), PLAIN, "rgba8"),
    "filterable": ([GridSpec(8, 3, 4, 32), GridSpec(4, 1, 8, 8)], DecoderSpec(2, 16, 2), (16, 16), HOLED, "filterable"),
    "many": ([GridSpec(8, 2, 4, 64) for _ in range(3)], DecoderSpec(0, 16, 1), (16, 16), PLAIN, "filterable"),
    "blocks": (
        [GridSpec(8, 2, 0, 4, "linear", "bc1"), GridSpec(8, 2, 0, 4, "linear", "bc1"), GridSpec(4, 1, 4, 16)],
        DecoderSpec(2, 16, 1), (16, 16), HOLED, "packed",
    ),
    "odd blocks": (
        [GridSpec(6, 2, 0, 4, "learned", "bc1"), GridSpec(5, 1, 0, 4, "linear", "bc1")],
        DecoderSpec(0, 16, 1, 2), (12, 10), PLAIN, "packed",
    ),
    "astc blocks": (
        [astc((14, 10), 2), astc((14, 10), 2), astc(5, 1, "learned"), GridSpec(4, 1, 4, 16), bc1((14, 10), 2)],
        DecoderSpec(2, 16, 1), (16, 12), HOLED, "packed",
    ),
    "oblong": (
        [GridSpec((16, 4), 2, 2, 8, "learned", finest_lods=2), GridSpec((3, 7), 1, 8, 8)],
        DecoderSpec(3, 20, 2, 2, "leaky_relu", 0.2), (32, 8), PLAIN, "packed",
    ),
    "no layers": ([GridSpec(4, 1, 16, 64)], DecoderSpec(0, 16, 0), (8, 8), PLAIN, "packed"),
    "int8": ([GridSpec(8, 2, 4, 16)], DecoderSpec(3, 16, 2, weight_bits=8), (16, 16), PLAIN, "packed"),
    "float16": ([GridSpec(8, 2, 4, 16)], DecoderSpec(3, 20, 1, weight_bits=16), (16, 16), PLAIN, "packed"),
    "dots": (
        [GridSpec(8, 2, 2, 8, "learned")], DecoderSpec(2, 16, 2, 3, "hard_swish", weight_bits=8, activation_bits=8),
        (16, 16), HOLED, "packed",
    ),
}  # fmt: skip


@functools.lru_cache
def exported_case(
    name: str, convention: str = "gl", positions: str = "centres", linear: bool = False
) -> ExportedTexture:  # fmt: skip
    """The neural texture of a case; an emissive map is of light up to 4, and roughness is the same everywhere.

    `linear`: diffuse is trained in linear light.
    """
    grids, decoder, (width, height), maps, _ = CASES[name]
    random = np.random.default_rng(5)
    arrays = {one: random.integers(0, 256, (height, width, CHANNELS.get(one, 1)), dtype=np.uint8) for one in maps}
    arrays["roughness"][:] = 77
    units: dict[str, Any] = {}
    if "emissive" in maps:
        arrays["emissive"] = arrays["emissive"].astype(np.uint16) * 257
        units = {"value_range": {"emissive": (0.0, 4.0)}, "log_scale": {"emissive": 1 / 256},
                 "color_space": {"emissive": "linear"}}  # fmt: skip
    material = Material.from_arrays(name, arrays, normal_convention=convention, linear_color=linear, **units)
    torch.manual_seed(6)
    decoder = dataclasses.replace(decoder, outputs=channel_count(maps))
    model = make_model(grids, decoder, material, seed=3)
    model.constants = dict(material.constants)
    model.start_biases([0.5] * model.decoder.outputs)  # most values in [0, 1], where clamping does not hide them
    if decoder.activation_bits == 8:
        uv = torch.rand((4096, 2), generator=torch.Generator().manual_seed(3))
        model.calibrate(uv, torch.zeros(4096, dtype=torch.int64))
    with tempfile.TemporaryDirectory() as folder:
        write_export(Path(folder), model, material.hashed_record, {}, positions=positions)
        return read_export(Path(folder))


def entry_of(name: str, add: Callable[[bytes], int], **options) -> dict[str, Any]:
    """The case as an entry of the extension."""
    return neural_texture_to_json(name, exported_case(name, **options), add, CASES[name][4])


def values_of(exported: ExportedTexture, lod: int) -> dict[str, np.ndarray]:
    """What a decoder has to give for a LOD, as three.js takes it: map -> (height, width, channels) float64; colours are
    light, and an emissive map is in its units."""
    width, height = exported.manifest.material.lod_size(lod)
    return taken(exported, exported.model.decode(lod, width, height))


def taken(exported: ExportedTexture, decoded: torch.Tensor) -> dict[str, np.ndarray]:
    """The same of what the model decodes, (..., channels)."""
    material = exported.manifest.material
    values = in_file_space(decoded, material, exported.model.constants).double().numpy()
    found = {}
    for entry in material.maps:
        part = values[..., list(entry.channels)].clip(0, 1)
        if entry.log_scale is not None:
            part = to_units(part, entry.value_range, entry.log_scale)
        elif entry.file_color_space == "srgb":
            part = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        found[entry.name] = part
    return found
