"""Write a trained NeuralTexture as DDS, npz and manifest files, and read it back (design.md, section 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.files import write_bytes
from formats.block_textures import grid_blocks, load_blocks, read_blocks
from formats.dds import encode_block_dds, encode_dds, read_dds
from formats.dds_layouts import (
    BC1,
    check_layout,
    codes_from_textures,
    full_chain,
    grid_file_names,
    grid_textures,
    texel_chunks,
)
from formats.ktx2 import encode_ktx2
from formats.manifest import NETWORK, Manifest, build_manifest, read_manifest, verify_files, write_manifest
from formats.network_file import encode_network, read_weights
from maps.record import MaterialRecord
from model import NeuralTexture
from shape import GridSpec, ModelForm


@dataclass(frozen=True)
class ExportedTexture:
    """An export that has been read."""

    model: NeuralTexture
    manifest: Manifest


def write_export(
    folder: Path, model: NeuralTexture, material: MaterialRecord, metrics: Any = None, layout: str = "packed",
    positions: str = "centres",
) -> Manifest:  # fmt: skip
    """Write the DDS files, network_data.npz and manifest.json into `folder`; return the manifest.

    Args:
        material: `Material.hashed_record`, or that of the export which is written again.
        metrics: the evaluation to record, or None.
        layout: of the DDS files, one of dds_layouts.LAYOUTS.
        positions: that the model was trained at, one of configs.POSITIONS.
    Raises: ValueError for a model that is not quantised, UserError for a layout that cannot hold its features.
    """
    if not model.quantized:
        raise ValueError("only a quantised model has codes to export")
    write_textures(folder, model, layout)
    manifest = build_manifest(model, material, metrics, folder, layout, positions)
    write_manifest(folder, manifest)
    return manifest


def write_textures(folder: Path, model: NeuralTexture, layout: str = "packed") -> None:
    """Write the DDS files and network_data.npz, the files that an engine loads."""
    for name, payload in encoded_grids(model, layout):
        write_bytes(folder / name, payload)
    write_bytes(folder / NETWORK, encode_network(model))


def encoded_grids(model: NeuralTexture, layout: str = "packed") -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of each texture file. Raises: UserError for a layout that cannot hold the features."""
    check_layout(model.grids, layout)
    for index, grid in enumerate(model.grids):
        names = grid_file_names(index, grid, layout)
        if grid.compressed:
            levels = [level.tobytes() for level in grid_blocks(model, index)]
            bc1 = grid.storage == "bc1"
            yield names[0], (encode_block_dds(*grid.size, BC1, levels) if bc1
                             else encode_ktx2(*grid.size, grid.storage, False, levels))  # fmt: skip
        else:
            for name, texture in zip(names, grid_textures(model, index, layout)):
                yield name, encode_dds(full_chain(texture))


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
    form, matrices, ranges = read_weights(folder / NETWORK, form)
    stored = [_read_grid(folder, index, grid, layout) for index, grid in enumerate(form.grids)]
    model = NeuralTexture(form.grids, form.decoder, form.num_lods, constants=form.constants)
    with torch.no_grad():
        for index, values in enumerate(stored):
            _load_grid(model, index, values, str(folder / grid_file_names(index, form.grids[index], layout)[0]))
        for weight, matrix in zip(model.weights, matrices):
            weight.copy_(torch.from_numpy(matrix.copy()))
        if ranges is not None:
            model.activation_ranges.copy_(torch.from_numpy(ranges.copy()))
    return model


def _read_grid(folder: Path, index: int, grid: GridSpec, layout: str) -> np.ndarray | Sequence[np.ndarray]:
    """The codes of a packed grid, see codes_from_textures, or the blocks of read_blocks."""
    names = [str(folder / name) for name in grid_file_names(index, grid, layout)]
    if grid.compressed:
        return read_blocks(names[0], grid)
    return codes_from_textures(grid, [read_dds(name) for name in names], names, layout)


def _load_grid(model: NeuralTexture, index: int, stored: np.ndarray | Sequence[np.ndarray], name: str) -> None:
    """Set a grid to what `_read_grid` has returned."""
    grid = model.grids[index]
    if grid.compressed:
        load_blocks(model, index, stored, name)
        return
    for texels in texel_chunks(grid):
        model.load_codes(index, torch.from_numpy(stored[texels].astype(np.int32)), texels)
