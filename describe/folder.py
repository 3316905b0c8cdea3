"""`export.py --describe DIR`: the material, grids, decoder, rates and files of an export, printed and checked.

With a manifest, every file is compared with its hash. Without one, as the ancestor project left its files, only what
the headers of the DDS files and the npz say can be printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import Say, UserError, counted, one_line, quote, what_is_wrong
from common.files import sha256_of
from configs import EXTRA_MAPS, MAPS, Size
from describe.bare_files import bare_file_name, bare_inputs, holds_words, least_inputs, read_texture_info
from formats.dds import TextureInfo
from formats.dds_layouts import grid_file_names, grid_format, stored_bits
from formats.manifest import (
    DAMAGE,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    NETWORK,
    FileRecord,
    Manifest,
    Ranges,
    decoder_inputs,
    listing_problem,
    read_manifest,
)
from formats.network_file import GridInfo, NetworkInfo, info_fields, network_info, parse_any_info, read_network
from maps.channels import CHANNELS
from maps.record import MapRecord
from metrics.file_space import constant_listing
from shape import BLOCKS, GridSpec, ModelForm

ENGINES = {  # format of a grid's files -> engines whose guide (docs/engines) loads every channel in its place
    "R8G8B8A8_UNORM": "Unreal, Unity, Godot, three.js",
    "R8G8_UNORM": "Unity, three.js; not Godot (luminance and alpha), Unreal by version: --dds_layout rgba8 suits all",
    "R8_UNORM": "Unity, three.js, Godot; Unreal by version: --dds_layout rgba8 suits all",
    "BC1_UNORM": "Unity, Godot, three.js on desktops, as it is: not sRGB, not compressed again; Unreal refuses blocks: "
    "--latents_format rgba8",
    "ASTC_6x6_UNORM": "phones, in three.js, in Unity with --latents_format ktx; not Godot, which has no 6x6; Unreal "
    "refuses blocks: --latents_format rgba8",
    "B4G4R4A4_UNORM": "Direct3D 11.1 and 12, Vulkan, Metal; no guide: --dds_layout filterable suits all",
}
TRAINED_AT = {  # `positions` of a manifest -> what that means to a decoder
    "centres": "texel centres and whole LODs (positions centres): decode there",
    "filtered": "any position and LOD (positions filtered): one decode of filtered features is the filtered material",
}
WEIGHT_WORDS = {32: "float32", 16: "float16", 8: "int8, times a float32 scale per row"}
MAX_LISTED = 1000  # files of a folder
MAX_CELL = 200  # characters; all rows are padded to the longest cell, so one of a megabyte would multiply


@dataclass
class Description:
    """lines: for a terminal. problems: one line for each contradiction between the files; empty when they agree."""

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
    """Describe the exported files in `folder`; with a manifest, sizes and hashes are compared.

    Raises: UserError when the folder has no exported files, or the manifest or the network cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"--describe {quote(folder)}: expected a folder with exported files, found none there")
    textures = sorted(path for suffix in (".dds", ".ktx2") for path in folder.glob(f"*{suffix}"))[:MAX_LISTED]
    if (folder / MANIFEST).is_file():
        return _describe_export(folder, read_manifest(folder))
    if not (folder / NETWORK).is_file() and not textures:
        raise UserError(
            f"--describe {quote(folder)}: expected {MANIFEST}, {NETWORK} or DDS or KTX2 files, found none of them; "
            "a run's are in models/train_result_<iteration>"
        )
    return _describe_bare_files(folder, textures)


def print_description(folder: Path, say: Say = print) -> None:
    """describe_folder for a user. Raises: UserError for files that are not as they say themselves."""
    description = describe_folder(folder)
    for line in description.lines:
        say(one_line(line))
    if description.problems:
        raise UserError(f"{folder}: {'; '.join(description.problems)}")


# --- with a manifest -------------------------------------------------------------------------------------------------


def _describe_export(folder: Path, manifest: Manifest) -> Description:
    result = Description()
    material, form = manifest.material, manifest.form
    size = f"{material.width} x {material.height}, {material.num_lods} LODs"
    result.lines.append(f"{folder}: {material.name:.200}, {size} ({FORMAT} {FORMAT_VERSION})")
    if material.origin:
        result.lines.append(f"of the model {material.origin.model:.200}: material {material.origin.index}")
    result.section("maps", [_map_row(entry) for entry in material.maps])
    constants = constant_listing(form.constants)
    result.section("channels with one value at every texel", [[constants]] if constants else [])
    result.section(f"grids, {manifest.layout}", _grid_rows(manifest))
    result.section("formats that engines load", _format_rows(manifest))
    decoder = _decoder_rows(form, manifest.activation_ranges)
    result.section("decoder", [*decoder, ["trained at", TRAINED_AT[manifest.positions]]])
    result.section("rates", _rate_rows(manifest))
    try:
        result.section("PSNR recorded, dB", _psnr_rows(manifest.metrics))
    except DAMAGE as error:
        raise UserError(f"{folder / MANIFEST}: damaged or of another layout ({what_is_wrong(error)})") from error
    result.section("files", [_file_row(folder, name, entry, result) for name, entry in manifest.files.items()])
    _compare_with_network(folder, manifest, result)
    return result


def _map_row(entry: MapRecord) -> list[str]:
    channels = _span("channel", entry.channels[0], entry.channels[-1])
    space = entry.file_color_space
    if entry.color_space != space:
        space += f", trained in {entry.color_space}"
    extra = []
    if entry.convention is not None:
        extra = [f"convention {entry.convention}", "unit vectors" if entry.unit_normals else "any length"]
    if entry.name not in (*MAPS, *EXTRA_MAPS):
        extra.append("named by --extra_map")
    low, high = entry.value_range
    if entry.log_scale is not None:
        extra.append(f"0 to 1 is {low:g} to {high:g} in the file, as log2(1 + value / {entry.log_scale:g})")
    elif (low, high) != (0, 1):
        extra.append(f"0 to 1 is {low:g} to {high:g} in the file")
    return [entry.name, channels, space, f"{entry.bit_depth} bits", ", ".join([*extra, entry.file])]


def _span(what: str, first: int, last: int) -> str:
    return f"{what} {first}" if first == last else f"{what}s {first} to {last}"


def _grid_rows(manifest: Manifest) -> list[list[str]]:
    rows = []
    for index, grid in enumerate(manifest.form.grids):
        trained = f"{_span('mip', 0, grid.n_levels - 1)} trained"
        if grid.finest_lods > 1:
            trained += f", {_span('LOD', 0, grid.finest_lods - 1)} at mip 0"
        files = ", ".join(grid_file_names(index, grid, manifest.layout))
        rows.append([*_shape_cells(index, grid, grid.size), grid.interpolation, trained, files])
    return rows


def _format_rows(manifest: Manifest) -> list[list[str]]:
    grids = manifest.form.grids
    formats = dict.fromkeys(grid_format(grid, manifest.layout) for grid in grids)
    cut = [
        f"grid {index}" for index, grid in enumerate(grids)
        if grid.storage == "bc1" and any(side % grid.block.side for side in grid.size)
    ]  # fmt: skip
    rows = [[name, ENGINES[name]] for name in formats]
    if cut:
        rows.append(["but", f"{', '.join(cut)}: no multiple of 4 texels, which Direct3D 11 and WebGL refuse"])
    return rows


def _shape_cells(index: int, grid: GridSpec | GridInfo, finest: Size) -> list[str]:
    """finest: width and height of its finest level."""
    texel = f"{grid.features} features of {grid.quantize_bits} bits in words of {grid.save_bits}"
    if grid.storage in BLOCKS:
        block = BLOCKS[grid.storage]
        texel = f"{grid.features} features in {block.title}, {block.bits_per_texel:.4g} bits a texel"
    return [f"grid {index}", _levels(finest, grid.n_levels), texel]


def _levels(finest: Size, count: int) -> str:
    (width, height), halvings = finest, count - 1
    sizes = f"{width} x {height}" + (f" to {width >> halvings} x {height >> halvings}" if halvings else "")
    return f"{sizes}, {counted(count, 'level')}"


def _decoder_rows(form: ModelForm, ranges: Ranges) -> list[list[str]]:
    activation = form.decoder.activation
    if activation == "leaky_relu":
        activation = f"{activation} {form.decoder.negative_slope:g}" if form.decoder.negative_slope else "relu"
    rows = [[_span("input", e["first"], e["first"] + e["count"] - 1), e["kind"]] for e in decoder_inputs(form)]
    rows.append(["layers", _layers(form.layer_sizes) + f" ({form.decoder.outputs} of the outputs are used)"])
    rows.append(["between them", f"{activation}, without biases"])
    rows.append(["weights", f"{form.n_weights} {WEIGHT_WORDS[form.decoder.weight_bits]}"])
    if ranges:
        spans = ", ".join(f"{low:.4g} to {high:.4g}" for low, high in ranges)
        rows.append(["activations", f"int8, in ranges of {spans}; the network computes with whole numbers"])
    return rows


def _layers(sizes: Sequence[tuple[int, int]]) -> str:
    return " -> ".join(str(size) for size in [sizes[0][1], *(outputs for outputs, _ in sizes)])


def _rate_rows(manifest: Manifest) -> list[list[str]]:
    rates, form = manifest.rates, manifest.form
    words = sum(round(grid.stored_texels * stored_bits(grid, manifest.layout)) // 8 for grid in form.grids)
    network = form.network_bits // 8
    return [
        ["LOD 0", f"{rates['bpp']:.3f} bpp: grids {rates['grids']:.3f}, network {rates['network']:.3f}"],
        ["all mips", f"{rates['all_mips']:.3f} bpp"],
        ["in memory", f"{words + network} bytes: grids {words}, network {network}"],
        ["on disk", f"{manifest.bytes_on_disk} bytes, without the manifest"],
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


def _file_row(folder: Path, name: str, entry: FileRecord, result: Description) -> list[str]:
    path = folder / name
    problem = listing_problem(folder, name)
    if problem:
        result.problems.append(f"{name!r:.80} {problem}")
        return [f"{name!s:.80}", "MISSING" if problem == "is not there" else "REFUSED"]
    whole = path.stat().st_size == entry.bytes and sha256_of(path) == entry.sha256
    if not whole:
        result.problems.append(f"{name} differs from its hash")
    try:
        kind = _texture_cells(read_texture_info(path)) if name != NETWORK else ["info and network"]
    except UserError as error:
        if whole:
            raise
        kind = [str(error).partition(": ")[2]]
    return [name, "sha256 ok" if whole else "sha256 DIFFERS", f"{path.stat().st_size} bytes", ", ".join(kind)]


def _texture_cells(info: TextureInfo) -> list[str]:
    return [info.format, f"{info.width} x {info.height}", counted(info.mips, "mip"), info.header]


def _compare_with_network(folder: Path, manifest: Manifest, result: Description) -> None:
    """Add a problem when the npz describes another texture than the manifest does."""
    if result.problems:  # a damaged npz is one of them already
        return
    form = manifest.form
    info, network, weight_bits, ranges = read_network(folder / NETWORK)
    if info_fields(info, str(folder / NETWORK)).grids != network_info(form).grids:
        result.problems.append(f"{NETWORK} describes other grids than {MANIFEST}")
    if len(network) != form.n_weights:
        result.problems.append(f"{NETWORK} holds {len(network)} weights, {MANIFEST} {form.n_weights}")
    if weight_bits != form.decoder.weight_bits:
        said = form.decoder.weight_bits
        result.problems.append(f"{NETWORK} holds weights of {weight_bits} bits, {MANIFEST} says {said}")
    if (() if ranges is None else tuple(map(tuple, ranges.tolist()))) != manifest.activation_ranges:
        result.problems.append(f"{NETWORK} holds other ranges of activations than {MANIFEST} says")


# --- without a manifest ----------------------------------------------------------------------------------------------


def _describe_bare_files(folder: Path, textures: Sequence[Path]) -> Description:
    result = Description([f"{folder}: no {MANIFEST}; read from the files alone, nothing to compare hashes with"])
    infos = {path.name: read_texture_info(path) for path in textures}
    path = folder / NETWORK
    if path.is_file():
        numbers, network, weight_bits, _ = read_network(path)
        info = parse_any_info(numbers, str(path))
        rows = [_bare_grid_row(index, grid, infos, result) for index, grid in enumerate(info.grids)]
        result.section("grids, from info", rows)
        result.section("decoder, from info", _bare_decoder_rows(info, len(network), weight_bits, result))
    result.section("files", [_bare_file_row(name, info, result) for name, info in infos.items()])
    if path.is_file():
        result.lines.append(f"  {NETWORK}: {len(numbers)} numbers in info, {len(network)} in network")
        unknown = f"the material's size and maps ({', '.join(MAPS)} are the usual ones), colour spaces and PSNR"
        result.lines += ["", f"not in these files: {unknown}"]
    return result


def _bare_grid_row(index: int, grid: GridInfo, infos: Mapping[str, TextureInfo], result: Description) -> list[str]:
    """The height stands in the texture alone; that of the ancestor project is square."""
    file = bare_file_name(index, grid)
    info, width = infos.get(file), grid.max_width
    height = info.height if info is not None and holds_words(info, grid) else width
    row = _shape_cells(index, grid, (width, height))
    if info is None:
        result.problems.append(f"{file} is not there")
        return [*row, "no texture"]
    if (info.width, info.height) != (width, height):
        result.problems.append(
            f"{file} is {info.width} x {info.height}, info says {width} x {height}"
        )
    if info.height == height and height % (1 << (grid.n_levels - 1)):
        halvings = grid.n_levels - 1
        result.problems.append(f"{file} is {height} texels high, which do not halve {halvings} times")
    if holds_words(info, grid):
        held = "words" if grid.storage == "packed" else "blocks"
        levels = "all levels" if info.mips >= grid.n_levels else counted(info.mips, "level")
        return [*row, f"{held}, {levels}"]
    held = f"the first 4 of {grid.features}" if grid.features > 4 else f"all {grid.features}"
    return [*row, f"the finest level alone, {held} features, a channel each: the ancestor project's layout"]


def _bare_decoder_rows(
    info: NetworkInfo, n_weights: int, weight_bits: int, result: Description
) -> list[list[str]]:
    inputs, least = bare_inputs(n_weights, info), least_inputs(info)
    waves, features = 2 * info.n_frequencies, sum(grid.features for grid in info.grids)
    if inputs is None:
        result.problems.append(f"{NETWORK}: {n_weights} weights do not fit the {least} inputs and the layers in info")
        return [["layers", "do not fit the number of weights"]]
    kinds = f"{waves} triangle waves, {features} features, LOD, ones"
    if inputs != -(-least // 16) * 16:
        kinds += ", and others that only a manifest can tell"
    return [
        ["inputs", f"{inputs}: {kinds}"],
        ["layers", _layers(info.layer_sizes(inputs)) + f" (of the outputs the first {CHANNELS} are used)"],
        ["weights", f"{n_weights} {WEIGHT_WORDS[weight_bits]}"],
    ]


def _bare_file_row(name: str, info: TextureInfo, result: Description) -> list[str]:
    if info.expected_bytes is not None and info.bytes != info.expected_bytes:
        result.problems.append(f"{name}: {info.bytes} bytes, its header asks for {info.expected_bytes}")
    return [name, f"{info.bytes} bytes", ", ".join(_texture_cells(info))]
