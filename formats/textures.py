"""A trained NeuralTexture as DDS, npz and manifest files, and back (design.md, section 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.errors import UserError, what_is_wrong
from common.files import write_bytes, write_json
from dataset import Constant
from formats.dds import encode_dds, read_dds
from formats.dds_layouts import (
    check_layout,
    codes_from_textures,
    grid_file_names,
    grid_textures,
    layout_problem,
    texel_chunks,
)
from formats.manifest import (
    MANIFEST,
    NETWORK,
    build_manifest,
    check_material,
    describe_decoder,
    describe_grids,
    read_constants,
    read_layout,
    read_manifest,
    verify_files,
)
from formats.network_file import encode_network, parse_info, read_network
from model import NeuralTexture
from shape import ACTIVATIONS, INTERPOLATIONS, DecoderSpec, GridSpec, input_layout, layer_sizes

MAX_TEXEL_FREQUENCIES = 16


@dataclass(frozen=True)
class ExportedTexture:
    """What the files of one export hold."""

    model: NeuralTexture
    manifest: dict[str, Any]


# --- whole exports -------------------------------------------------------------------------------------------------


def write_export(
    folder: Path, model: NeuralTexture, material: Mapping[str, Any], metrics: Any = None, layout: str = "packed"
) -> dict:
    """Write the DDS files, network_data.npz and manifest.json into `folder`; return the manifest.

    Args:
        material: what manifest.describe_material returns.
        metrics: the evaluation to record, or None.
        layout: of the DDS files, one of dds_layouts.LAYOUTS.
    Raises: ValueError for a model that is not quantised, UserError for a layout that cannot hold its features.
    """
    if not model.quantized:
        raise ValueError("only a quantised model has codes to export")
    write_textures(folder, model, layout)
    manifest = build_manifest(model, material, metrics, folder, layout)
    write_json(folder / MANIFEST, manifest)
    return manifest


def write_textures(folder: Path, model: NeuralTexture, layout: str = "packed") -> None:
    """Write the DDS files and network_data.npz: what an engine loads."""
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
    path = folder / MANIFEST
    try:
        check_material(manifest["material"])
        form = decoder_form(manifest)
        names = {name for entry in manifest["grids"] for name in entry["files"]} | {NETWORK}
        manifest["metrics"]  # may be None, and is passed on to exports that are made of this one
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: damaged or of another layout ({what_is_wrong(error)})") from error
    verify_files(folder, manifest, names)
    model = read_textures(folder, manifest["material"]["num_lods"], **form)
    if (manifest["grids"], manifest["decoder"]) != (describe_grids(model, form["layout"]), describe_decoder(model)):
        raise UserError(f"{path}: describes another texture than the files beside it hold; export again")
    return ExportedTexture(model, manifest)


def decoder_form(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of the decoder and the other files do not: the keyword arguments of read_textures.

    Raises: KeyError, TypeError or ValueError when it does not say it, or says something impossible.
    """
    decoder = manifest["decoder"]
    frequencies, slope = decoder["n_texel_frequencies"], decoder["negative_slope"]
    if type(frequencies) is not int or not 0 <= frequencies <= MAX_TEXEL_FREQUENCIES:
        raise ValueError(f"n_texel_frequencies {frequencies!r:.40}")
    if type(slope) is not float or not 0 <= slope <= 1:
        raise ValueError(f"negative_slope {slope!r:.40}")
    interpolations = [grid["interpolation"] for grid in manifest["grids"]]
    if not set(interpolations) <= set(INTERPOLATIONS):
        raise ValueError(f"interpolation {interpolations!r:.80}")
    if decoder["activation"] not in ACTIVATIONS:
        raise ValueError(f"activation {decoder['activation']!r:.40}")
    return {
        "interpolations": interpolations,
        "n_texel_frequencies": frequencies,
        "activation": decoder["activation"],
        "negative_slope": slope,
        "constants": read_constants(manifest["material"]),
        "layout": read_layout(manifest),
    }


def form_of(model: NeuralTexture) -> dict[str, Any]:
    """The same of a model: what read_textures has to be told besides the files."""
    return {
        "interpolations": [grid.interpolation for grid in model.grids],
        "n_texel_frequencies": model.decoder.n_texel_frequencies,
        "activation": model.decoder.activation,
        "negative_slope": model.decoder.negative_slope,
        "constants": model.constants,
    }


def read_textures(
    folder: Path,
    num_lods: int,
    *,
    interpolations: Sequence[str] = (),
    n_texel_frequencies: int = 0,
    activation: str = DecoderSpec.activation,
    negative_slope: float = DecoderSpec.negative_slope,
    constants: Mapping[int, Constant] | None = None,
    layout: str = "packed",
) -> NeuralTexture:
    """The model from the DDS files and network_data.npz; what those do not say is given by the caller.

    Raises: UserError when a file is missing, damaged or does not fit the others.
    """
    path = folder / NETWORK
    info, network = read_network(path)
    grid_infos, decoder_info = parse_info(info, str(path))
    if interpolations and len(interpolations) != len(grid_infos):
        raise UserError(f"{path}: {len(grid_infos)} grids, but the manifest lists {len(interpolations)}")
    grids = [
        GridSpec(
            entry["base_resolution"] << (entry["n_levels"] - 1),
            entry["n_levels"],
            entry["quantize_bits"],
            entry["save_bits"],
            interpolations[g] if interpolations else "linear",
        )
        for g, entry in enumerate(grid_infos)
    ]
    problem = layout_problem(grids, layout)
    if problem:
        raise UserError(f"{folder / MANIFEST}: dds_layout {layout}: {problem}; the file is damaged, export again")
    decoder = DecoderSpec(
        n_frequencies=decoder_info["n_frequencies"],
        n_neurons=decoder_info["n_neurons"],
        n_hidden_layers=decoder_info["n_hidden_layers"],
        n_texel_frequencies=n_texel_frequencies,
        activation=activation,
        negative_slope=negative_slope,
    )
    # sizes are compared before the model takes its memory: the files bound how large it can be
    sizes = [outputs * inputs for outputs, inputs in layer_sizes(input_layout(grids, decoder), decoder)]
    if sum(sizes) != len(network):
        raise UserError(f"{path}: expected {sum(sizes)} weights for the layers in info, found {len(network)}")
    codes = []
    for index, grid in enumerate(grids):
        names = [str(folder / name) for name in grid_file_names(index, grid, layout)]
        codes.append(codes_from_textures(grid, [read_dds(name) for name in names], names, layout))
    model = NeuralTexture(grids, decoder, num_lods, constants=constants)
    with torch.no_grad():
        for index, grid_codes in enumerate(codes):
            for texels in texel_chunks(grids[index]):
                model.load_codes(index, torch.from_numpy(grid_codes[texels].astype(np.int32)), texels)
        for weight, values in zip(model.weights, torch.from_numpy(network.copy()).split(sizes)):
            weight.copy_(values.view(weight.shape))
    return model
