"""Write a trained NeuralTexture as DDS, npz and manifest files, and read it back (design.md, section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.files import write_bytes
from formats.dds import encode_dds, read_dds
from formats.dds_layouts import (
    check_layout,
    codes_from_textures,
    grid_file_names,
    grid_textures,
    texel_chunks,
)
from formats.manifest import NETWORK, Manifest, build_manifest, read_manifest, verify_files, write_manifest
from formats.network_file import encode_network, read_weights
from maps.record import MaterialRecord
from model import NeuralTexture
from shape import ModelForm


@dataclass(frozen=True)
class ExportedTexture:
    """An export that has been read."""

    model: NeuralTexture
    manifest: Manifest


def write_export(
    folder: Path, model: NeuralTexture, material: MaterialRecord, metrics: Any = None, layout: str = "packed"
) -> Manifest:
    """Write the DDS files, network_data.npz and manifest.json into `folder`; return the manifest.

    Args:
        material: `Material.hashed_record`, or that of the export which is written again.
        metrics: the evaluation to record, or None.
        layout: of the DDS files, one of dds_layouts.LAYOUTS.
    Raises: ValueError for a model that is not quantised, UserError for a layout that cannot hold its features.
    """
    if not model.quantized:
        raise ValueError("only a quantised model has codes to export")
    write_textures(folder, model, layout)
    manifest = build_manifest(model, material, metrics, folder, layout)
    write_manifest(folder, manifest)
    return manifest


def write_textures(folder: Path, model: NeuralTexture, layout: str = "packed") -> None:
    """Write the DDS files and network_data.npz, the files that an engine loads."""
    check_layout(model.grids, layout)
    for index, grid in enumerate(model.grids):
        for name, texture in zip(grid_file_names(index, grid, layout), grid_textures(model, index, layout)):
            write_bytes(folder / name, encode_dds(texture))
    write_bytes(folder / NETWORK, encode_network(model))


def read_export(folder: str | Path) -> ExportedTexture:
    """Rebuild the model from exported files alone.

    Raises: UserError when a file is missing, damaged or does not fit the others.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    return ExportedTexture(read_textures(folder, manifest.form, manifest.layout), manifest)


def read_textures(folder: Path, form: ModelForm, layout: str = "packed") -> NeuralTexture:
    """The model of a known form from the DDS files and network_data.npz.

    Raises: UserError when a file is missing, damaged or does not fit the form.
    """
    # Sizes are compared before the model is made, so that it cannot take more memory than the files justify.
    form, matrices = read_weights(folder / NETWORK, form)
    codes = []
    for index, grid in enumerate(form.grids):
        names = [str(folder / name) for name in grid_file_names(index, grid, layout)]
        codes.append(codes_from_textures(grid, [read_dds(name) for name in names], names, layout))
    model = NeuralTexture(form.grids, form.decoder, form.num_lods, constants=form.constants)
    with torch.no_grad():
        for index, grid_codes in enumerate(codes):
            for texels in texel_chunks(form.grids[index]):
                model.load_codes(index, torch.from_numpy(grid_codes[texels].astype(np.int32)), texels)
        for weight, matrix in zip(model.weights, matrices):
            weight.copy_(torch.from_numpy(matrix.copy()))
    return model
