"""What exported files are, for a reader: `export.py --describe DIR`.

With a manifest everything is told and every hash compared. Without one, as the ancestor project left its files (`info`
and `network` in an npz, R8G8B8A8 textures of one level), as much as the files say themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError, counted, quote, what_is_wrong
from common.files import sha256_of
from describe.bare_files import WORDS, bare_inputs, layout_of, least_inputs
from formats.dds import TEXEL_BYTES, DdsInfo, read_dds_info
from formats.manifest import (
    MANIFEST,
    NETWORK,
    check_material,
    listing_problem,
    read_constants,
    read_layout,
    read_manifest,
)
from formats.network_file import check_info, check_levels, info_fields, read_network
from maps.channels import CHANNELS, MAPS
from metrics.file_space import constant_listing

MAX_LISTED = 1000  # files of a folder
MAX_CELL = 200  # characters; rows are filled up to the longest cell, so one of a megabyte would be in every row


@dataclass
class Description:
    """lines: for a terminal. problems: one line for each thing that is not as the files themselves say; empty: all is
    well."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def section(self, title: str, rows: Sequence[Sequence[str]]) -> None:
        """A title and below it the rows, their columns aligned."""
        if not rows:
            return
        rows = [[f"{cell:.{MAX_CELL}}" for cell in row] for row in rows]
        widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(max(map(len, rows)))]
        self.lines += ["", title]
        self.lines += ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def describe_folder(folder: str | Path) -> Description:
    """Describe the exported files in `folder`; sizes and hashes are compared where a manifest has them.

    Raises: UserError when there is nothing of an export in it, or the manifest or the network cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"--describe {quote(folder)}: expected a folder with exported files, found none there")
    textures = sorted(folder.glob("*.dds"))[:MAX_LISTED]
    if (folder / MANIFEST).is_file():
        return _describe_export(folder, read_manifest(folder))
    if not (folder / NETWORK).is_file() and not textures:
        raise UserError(
            f"--describe {quote(folder)}: expected {MANIFEST}, {NETWORK} or DDS files, found none of them; "
            "a run's are in models/train_result_<iteration>"
        )
    return _describe_bare_files(folder, textures)


# --- with a manifest -------------------------------------------------------------------------------------------------


def _describe_export(folder: Path, manifest: Mapping[str, Any]) -> Description:
    result = Description()
    try:
        material, grids, decoder = manifest["material"], manifest["grids"], manifest["decoder"]
        check_material(material)
        for grid in grids:
            check_levels(grid["n_levels"], grid["base_resolution"])
        size = f"{material['width']} x {material['height']}, {material['num_lods']} LODs"
        result.lines.append(f"{folder}: {material['name']!s:.200}, {size} ({manifest['format']} {manifest['version']})")
        result.section("maps", [_map_row(entry) for entry in material["maps"]])
        constants = constant_listing(read_constants(material))
        result.section("channels with one value at every texel", [[constants]] if constants else [])
        result.section(f"grids, {read_layout(manifest)}", [_grid_row(index, grid) for index, grid in enumerate(grids)])
        result.section("decoder", _decoder_rows(decoder))
        result.section("rates", _rate_rows(manifest, grids, decoder))
        result.section("PSNR recorded, dB", _psnr_rows(manifest["metrics"]))
        result.section("files", [_file_row(folder, name, entry, result) for name, entry in manifest["files"].items()])
        _compare_with_network(folder, grids, decoder, result)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise UserError(f"{folder / MANIFEST}: damaged or of another layout ({what_is_wrong(error)})") from error
    return result


def _map_row(entry: Mapping[str, Any]) -> list[str]:
    channels = _span("channel", entry["channels"][0], entry["channels"][-1])
    space = entry["file_color_space"]
    if entry["color_space"] != space:
        space += f", trained in {entry['color_space']}"
    extra = []
    if "convention" in entry:
        extra = [f"convention {entry['convention']}", "unit vectors" if entry.get("unit_normals") else "any length"]
    low, high = entry["value_range"]
    if (low, high) != (0, 1):
        extra.append(f"0 to 1 is {low:g} to {high:g} in the file")
    return [entry["map"], channels, space, f"{entry['bit_depth']} bits", ", ".join([*extra, str(entry["file"])])]


def _span(what: str, first: int, last: int) -> str:
    return f"{what} {first}" if first == last else f"{what}s {first} to {last}"


def _grid_row(index: int, grid: Mapping[str, Any]) -> list[str]:
    return [
        f"grid {index}",
        _levels(grid["max_resolution"], grid["base_resolution"], grid["n_levels"]),
        f"{grid['features']} features of {grid['quantize_bits']} bits in words of {grid['save_bits']}",
        grid["interpolation"],
        ", ".join(grid["files"]),
    ]


def _levels(finest: int, coarsest: int, count: int) -> str:
    sizes = f"{finest} x {finest}" + ("" if count == 1 else f" to {coarsest} x {coarsest}")
    return f"{sizes}, {counted(count, 'level')}"


def _decoder_rows(decoder: Mapping[str, Any]) -> list[list[str]]:
    activation = decoder["activation"]
    if activation == "leaky_relu":
        activation += f" {decoder['negative_slope']:g}"
    rows = [[_span("input", e["first"], e["first"] + e["count"] - 1), str(e["kind"])] for e in decoder["inputs"]]
    rows.append(["layers", _layers(decoder["layers"]) + f" ({decoder['outputs']} of the outputs are used)"])
    rows.append(["between them", f"{activation}, {'with' if decoder['biases'] else 'without'} biases"])
    rows.append(["weights", f"{_weights(decoder['layers'])} float32"])
    return rows


def _layers(layers: Sequence[Sequence[int]]) -> str:
    return " -> ".join(str(size) for size in [layers[0][1], *(outputs for outputs, _ in layers)])


def _weights(layers: Sequence[Sequence[int]]) -> int:
    return sum(outputs * inputs for outputs, inputs in layers)


def _rate_rows(manifest: Mapping[str, Any], grids: Sequence[Mapping], decoder: Mapping[str, Any]) -> list[list[str]]:
    rates = manifest["rates"]
    texels = [sum((grid["base_resolution"] << k) ** 2 for k in range(grid["n_levels"])) for grid in grids]
    sizes = [TEXEL_BYTES[grid["format"]] * len(grid["files"]) for grid in grids]
    words = sum(count * size for count, size in zip(texels, sizes))
    memory = words + 4 * _weights(decoder["layers"])
    return [
        ["LOD 0", f"{rates['bpp']:.3f} bpp: grids {rates['grids']:.3f}, network {rates['network']:.3f}"],
        ["all mips", f"{rates['all_mips']:.3f} bpp"],
        ["in memory", f"{memory} bytes: grids {words}, network {memory - words}"],
        ["on disk", f"{manifest['bytes_on_disk']} bytes, without the manifest"],
    ]


def _psnr_rows(metrics: Any) -> list[list[str]]:
    if not metrics:
        return [["none: exported without an evaluation"]]
    rows = [["LOD 0", *(f"{name} {_decibels(value)}" for name, value in metrics["psnr"].items())]]
    for scores in metrics.get("lods", [])[1:]:
        rows.append([f"LOD {scores['lod']}", *(f"{name} {_decibels(value)}" for name, value in scores["psnr"].items())])
    return rows


def _decibels(value: Any) -> str:
    return "-" if value is None else f"{value:.2f}" if isinstance(value, (int, float)) else str(value)


def _file_row(folder: Path, name: str, entry: Mapping[str, Any], result: Description) -> list[str]:
    path = folder / name
    problem = listing_problem(folder, name)
    if problem:
        result.problems.append(f"{name!r:.80} {problem}")
        return [f"{name!s:.80}", "MISSING" if problem == "is not there" else "REFUSED"]
    whole = path.stat().st_size == entry["bytes"] and sha256_of(path) == entry["sha256"]
    if not whole:
        result.problems.append(f"{name} differs from its hash")
    try:
        kind = _dds_cells(read_dds_info(path)) if name.endswith(".dds") else ["info and network"]
    except UserError as error:
        if whole:
            raise
        kind = [str(error).partition(": ")[2]]
    return [name, "sha256 ok" if whole else "sha256 DIFFERS", f"{path.stat().st_size} bytes", ", ".join(kind)]


def _dds_cells(info: DdsInfo) -> list[str]:
    header = "DX10 header" if info.dx10 else "no DX10 header"
    return [info.format, f"{info.width} x {info.height}", counted(info.mips, "mip"), header]


def _compare_with_network(
    folder: Path, grids: Sequence[Mapping], decoder: Mapping[str, Any], result: Description
) -> None:
    """Add a problem when the npz describes another texture than the manifest does."""
    if result.problems:  # they say it already, or there is nothing to compare
        return
    info, network = read_network(folder / NETWORK)
    found, _ = info_fields(info, str(folder / NETWORK))
    if [{key: grid[key] for key in entry} for entry, grid in zip(found, grids)] != found or len(found) != len(grids):
        result.problems.append(f"{NETWORK} describes other grids than {MANIFEST}")
    if len(network) != _weights(decoder["layers"]):
        result.problems.append(f"{NETWORK} holds {len(network)} weights, {MANIFEST} {_weights(decoder['layers'])}")


# --- without a manifest ----------------------------------------------------------------------------------------------


def _describe_bare_files(folder: Path, textures: Sequence[Path]) -> Description:
    result = Description([f"{folder}: no {MANIFEST}; told from the files alone, nothing to compare hashes with"])
    infos = {path.name: read_dds_info(path) for path in textures}
    path = folder / NETWORK
    if path.is_file():
        info, network = read_network(path)
        grids, decoder = info_fields(info, str(path))
        check_info(info, grids, decoder, path)
        rows = [_bare_grid_row(index, grid, infos, result) for index, grid in enumerate(grids)]
        result.section("grids, from info", rows)
        result.section("decoder, from info", _bare_decoder_rows(grids, decoder, len(network), result))
    result.section("files", [_bare_file_row(name, info, result) for name, info in infos.items()])
    if path.is_file():
        result.lines.append(f"  {NETWORK}: {len(info)} numbers in info, {len(network)} in network")
        unknown = f"the material's size and maps ({', '.join(MAPS)} are the usual ones), colour spaces and PSNR"
        result.lines += ["", f"not told by these files: {unknown}"]
    return result


def _bare_grid_row(index: int, grid: Mapping[str, int], infos: Mapping[str, DdsInfo], result: Description) -> list[str]:
    finest = grid["base_resolution"] << (grid["n_levels"] - 1)
    row = [
        f"grid {index}",
        _levels(finest, grid["base_resolution"], grid["n_levels"]),
        f"{grid['features']} features of {grid['quantize_bits']} bits in words of {grid['save_bits']}",
    ]
    info = infos.get(f"hash_grid_{index}.dds")
    if info is None:
        result.problems.append(f"hash_grid_{index}.dds is not there")
        return [*row, "no texture"]
    if (info.width, info.height) != (finest, finest):
        result.problems.append(
            f"hash_grid_{index}.dds is {info.width} x {info.height}, info says {finest} x {finest}"
        )
    if layout_of(info, grid) == WORDS:
        return [*row, "words, all levels" if info.mips == grid["n_levels"] else f"words, {counted(info.mips, 'level')}"]
    # the ancestor: the finest level alone, a feature in each of four channels, its codes stretched to 0..255
    held = f"the first 4 of {grid['features']}" if grid["features"] > 4 else f"all {grid['features']}"
    return [*row, f"the finest level alone, {held} features, a channel each: the ancestor project's layout"]


def _bare_decoder_rows(
    grids: Sequence[Mapping[str, int]], decoder: Mapping[str, int], weights: int, result: Description
) -> list[list[str]]:
    neurons, hidden, outputs = decoder["n_neurons"], decoder["n_hidden_layers"], decoder["padded_outputs"]
    inputs, least = bare_inputs(weights, grids, decoder), least_inputs(grids, decoder)
    waves, features = 2 * decoder["n_frequencies"], sum(grid["features"] for grid in grids)
    if inputs is None:
        result.problems.append(f"{NETWORK}: {weights} weights do not fit the {least} inputs and the layers in info")
        return [["layers", "do not fit the number of weights"]]
    layers = [(neurons if hidden else outputs, inputs), *[(neurons, neurons)] * (hidden - 1)]
    layers += [(outputs, neurons)] * (hidden > 0)
    told = f"{waves} triangle waves, {features} features, LOD, ones"
    if inputs != -(-least // 16) * 16:
        told += ", and others that only a manifest can tell"
    return [
        ["inputs", f"{inputs}: {told}"],
        ["layers", _layers(layers) + f" (of the outputs the first {CHANNELS} are used)"],
        ["weights", f"{weights} float32"],
    ]


def _bare_file_row(name: str, info: DdsInfo, result: Description) -> list[str]:
    if info.expected_bytes is not None and info.bytes != info.expected_bytes:
        result.problems.append(f"{name}: {info.bytes} bytes, its header asks for {info.expected_bytes}")
    return [name, f"{info.bytes} bytes", ", ".join(_dds_cells(info))]
