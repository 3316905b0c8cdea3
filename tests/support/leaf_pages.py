"""A viewer page of a leaf that glows: a network that returns what its features hold, so nothing has to be trained.

Under transparent texels the leaf is black, which is what an edge must not show.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dataset import Material
from formats.textures import ExportedTexture, read_export, write_export
from maps.channels import ALL_CHANNELS, channel_count, map_slice
from maps.record import MaterialRecord
from model import NeuralTexture
from shape import DecoderSpec, GridSpec
from viewer.page import Page, add_source, assemble, describe_for_page
from viewer.source import encode_source

SIDE = 64
LEVELS = 7
HIGH, SCALE = 50.0, 0.25  # of the light of the leaf
FEATURES = 4  # of a grid
GREEN = (70, 110, 40)  # the leaf's darkest colour, sRGB
PALE = (200, 225, 110)  # of a leaf that a dark edge shows on


@dataclass
class Leaf:
    arrays: dict[str, np.ndarray]  # (64, 64, C) uint8
    material: Material
    exported: ExportedTexture
    page: Path


def leaf_arrays() -> dict[str, np.ndarray]:
    """Two lobes with an edge of one texel, veins, three spots of light, and a thickness."""
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    lobes = [np.hypot(x - 0.5 + side, y - 0.5) for side in (-0.2, 0.2)]
    inside = SIDE * (0.44 - np.maximum(*lobes))  # texels from the edge
    opacity = np.clip(inside + 0.5, 0, 1)
    veins = 40 * (np.abs(np.sin(9 * (y + np.abs(x - 0.5)) * np.pi)) > 0.6)
    diffuse = (np.array(GREEN) + veins[..., None]) * (opacity > 0)[..., None]
    spots = [np.hypot(x - 0.5, y - at) < 0.04 for at in (0.35, 0.5, 0.65)]
    emissive = np.stack(spots, axis=2) * np.array([255, 180, 90])
    thickness = 255 * np.clip(inside / 20, 0, 1)
    arrays = {"diffuse": diffuse, "opacity": 255 * opacity, "emissive": emissive, "thickness": thickness}
    return {name: _codes(values.reshape(SIDE, SIDE, -1)) for name, values in arrays.items()}


def _codes(values: np.ndarray) -> np.ndarray:
    return np.floor(values + 0.5).astype(np.uint8)


def copying_model(arrays: dict[str, np.ndarray]) -> NeuralTexture:
    """The model whose outputs at texel centres are the arrays, SIDE texels square; at coarser LODs averages weighted by
    opacity."""
    grids = [GridSpec(SIDE, LEVELS, 8, 8 * FEATURES)] * (ALL_CHANNELS // FEATURES)
    present = [channel for name in arrays for channel in range(ALL_CHANNELS)[map_slice(name)]]
    model = NeuralTexture(
        grids, DecoderSpec(0, 16, 0, outputs=channel_count(arrays)), LEVELS, present_channels=present, seamless=False
    )
    channels = np.zeros((SIDE, SIDE, ALL_CHANNELS))
    for name, array in arrays.items():
        channels[..., map_slice(name)] = array
    opacity = map_slice("opacity")
    covered = channels[..., opacity].copy() if "opacity" in arrays else np.ones((SIDE, SIDE, 1))
    levels, weighted = [channels], np.concatenate([channels * covered, covered], axis=2)
    while len(levels) < LEVELS:
        weighted = sum(weighted[i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
        levels.append(weighted[..., :-1] / np.maximum(weighted[..., -1:], 1e-9))
        if "opacity" in arrays:
            levels[-1][..., opacity] = weighted[..., -1:]
    with torch.no_grad():
        for index, parameters in enumerate(model.grid_parameters):
            part = slice(FEATURES * index, FEATURES * (index + 1))
            codes = [_codes(level[..., part]).ravel() / np.float32(256) for level in reversed(levels)]
            parameters.copy_(torch.from_numpy(np.concatenate(codes) - np.float32(255 / 512)).view_as(parameters))
        (weights,) = model.weights
        weights.zero_()
        for channel in present:
            weights[channel, channel] = 256 / 255
        weights[present, ALL_CHANNELS + 1] = 0.5  # the first of the ones, after the LOD
    return model


def make_leaf(folder: Path, **edits) -> Leaf:
    """Write the page, with its source. edits: map name -> another array, None: without the map."""
    arrays = {name: array for name, array in {**leaf_arrays(), **edits}.items() if array is not None}
    material = Material.from_arrays("leaf", arrays, color_space={"emissive": "linear"})
    (folder / "export").mkdir(parents=True)
    write_export(folder / "export", copying_model(arrays), _with_light(material.hashed_record))
    exported = read_export(folder / "export")
    page = Page()
    page.materials.append(describe_for_page(exported, page))
    add_source(page.materials[0], page, encode_source(material, None, 10**9), "")
    (folder / "page.html").write_text(assemble(page), encoding="utf-8")
    return Leaf(arrays, material, exported, folder / "page.html")


def _with_light(record: MaterialRecord) -> MaterialRecord:
    """The record of a material whose emissive map holds light up to HIGH."""
    light = {"value_range": (0.0, HIGH), "log_scale": SCALE}
    maps = [dataclasses.replace(entry, **light) if entry.name == "emissive" else entry for entry in record.maps]
    return dataclasses.replace(record, maps=tuple(maps))


def light_of(codes: np.ndarray) -> np.ndarray:
    """Codes of the emissive map as light."""
    return SCALE * (2 ** (codes / 255 * np.log2(1 + HIGH / SCALE)) - 1)
