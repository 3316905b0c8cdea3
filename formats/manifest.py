"""manifest.json, the description of an export: typed records, written as JSON and read back (design.md, section 6)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError, brief, what_is_wrong
from common.files import leads_out, open_regular, parse_json, sha256_of, write_json
from configs import MOST_PIXELS, POSITIONS, Size, as_resolution
from formats.dds import MAX_SIZE
from formats.dds_layouts import (
    LAYOUTS,
    grid_file_names,
    grid_format,
    has_channels,
    layout_problem,
    stored_bits,
    unorm_to_feature,
)
from maps.channels import ALL_CHANNELS, CHANNELS, canonical, is_map_name, map_channels
from maps.record import CONVENTIONS, Constant, MapRecord, MaterialRecord, Origin
from quantized.ranges import ranges_problem
from shape import PADDED_OUTPUTS, DecoderSpec, GridSpec, ModelForm

if TYPE_CHECKING:
    from model import NeuralTexture

MANIFEST = "manifest.json"
NETWORK = "network_data.npz"
FORMAT = "neural-texture"
FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 2 << 30  # a chain of 16384 x 16384 texels of 4 bytes takes 1.4 GB; hashing more would take minutes
MAX_TEXEL_FREQUENCIES = 16
FILE_NAME = re.compile(r"[a-z0-9_]{1,40}\.(dds|ktx2|npz)")  # nothing that leads out of the folder
GRID_FIELDS = ("n_levels", "features", "quantize_bits", "save_bits", "interpolation")
RATES = ("grids", "network", "bpp", "all_mips")
DAMAGE = (LookupError, TypeError, ValueError, AttributeError, OverflowError)  # what reading absurd JSON raises


Ranges = tuple[tuple[float, float], ...]  # lowest, highest


@dataclass(frozen=True)
class FileRecord:
    """One file of an export, as the manifest lists it."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What manifest.json holds."""

    material: MaterialRecord
    form: ModelForm
    layout: str  # of the DDS files, one of dds_layouts.LAYOUTS
    rates: Mapping[str, float]  # bits per texel of LOD 0, see NeuralTexture.bits_per_texel
    metrics: Any  # what evaluate_model returned, None without an evaluation; not checked
    files: Mapping[str, FileRecord]  # by name
    positions: str = "centres"  # that it was trained at, one of configs.POSITIONS
    activation_ranges: Ranges = ()  # of each layer's input, for activations of 8 bits; else none

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(entry.bytes for entry in self.files.values())

    @property
    def file_names(self) -> list[str]:
        """The files that an export of this form and layout has, apart from the manifest."""
        return export_file_names(self.form.grids, self.layout)


def export_file_names(grids: Sequence[GridSpec], layout: str) -> list[str]:
    """The DDS files of all grids, and the network."""
    return [name for index, grid in enumerate(grids) for name in grid_file_names(index, grid, layout)] + [NETWORK]


def build_manifest(
    model: NeuralTexture, material: MaterialRecord, metrics: Any, folder: Path, layout: str = "packed",
    positions: str = "centres",
) -> Manifest:  # fmt: skip
    """The manifest of an export whose other files are already in `folder`."""
    names = export_file_names(model.grids, layout)
    files = {name: FileRecord((folder / name).stat().st_size, sha256_of(folder / name)) for name in names}
    word_bits = [stored_bits(grid, layout) for grid in model.grids]
    rates = model.bits_per_texel(material.width, material.height, word_bits)
    rates = {name: round(rate, 6) for name, rate in rates.items()}
    eight = model.activation_bits == 8
    ranges = tuple(map(tuple, model.activation_ranges.tolist())) if eight else ()
    return Manifest(material, model.form, layout, rates, metrics, files, positions, ranges)


# --- records as JSON -------------------------------------------------------------------------------------------------


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json. `positions` stands in it where it is not `centres`, so that all others stay as they were."""
    value = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "material": material_to_json(manifest.material, manifest.form.constants),
        "dds_layout": manifest.layout,
        "grids": grids_to_json(manifest.form.grids, manifest.layout),
        "decoder": {**decoder_to_json(manifest.form), **_ranges_to_json(manifest.activation_ranges)},
        **({"positions": manifest.positions} if manifest.positions != "centres" else {}),
        "rates": manifest.rates,
        "bytes_on_disk": manifest.bytes_on_disk,
        "metrics": manifest.metrics,
        "files": {name: vars(entry) for name, entry in manifest.files.items()},
    }
    write_json(folder / MANIFEST, value)


def material_to_json(material: MaterialRecord, constants: Mapping[int, Constant]) -> dict[str, Any]:
    """A material with the constants of the model trained on it, as manifests and checkpoints have it."""
    value = {
        "name": material.name,
        "width": material.width,
        "height": material.height,
        "num_lods": material.num_lods,
        "maps": [_map_to_json(entry) for entry in material.maps],
        "sha256": material.sha256,
        "constants": _constants_to_json(constants, material.maps),
        "origin": material.origin._asdict() if material.origin else None,
    }
    return _without_none(value)


def _map_to_json(entry: MapRecord) -> dict[str, Any]:
    fields = {key: value for key, value in vars(entry).items() if key != "name"}
    return _without_none({"map": entry.name, "channels": list(entry.channels), **fields})


def _without_none(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item is not None}


def _constants_to_json(constants: Mapping[int, Constant], maps: Sequence[MapRecord]) -> list[dict[str, Any]]:
    """An entry per constant channel: the network's output for it is 0, `value` is what it decodes to.

    `value`, in the map's `color_space`, is `code` of `bit_depth` bits. For a diffuse that was decoded to linear light,
    encoding it and rounding to the file's bits gives the file's value.
    """
    map_of = {channel: entry.name for entry in maps for channel in entry.channels}
    return [
        {"map": map_of[c], "channel": c, "code": k.code, "bit_depth": k.bit_depth, "value": k.value}
        for c, k in constants.items()
    ]


def grids_to_json(grids: Sequence[GridSpec], layout: str) -> list[dict[str, Any]]:
    """An entry per grid: its files, their format, its shape, and the `mips` of each file, `n_levels` of them trained.

    `max_resolution` and `base_resolution` are the side of a square or [width, height].

    Where each feature has a channel, `unorm_to_feature` gives it as scale * t + offset of the channel's t in [0, 1]: in
    layouts with a channel per feature, and for grids of blocks, whose features are R, G and B. These alone have an
    entry `storage`. `finest_lods` stands where more LODs than the first read mip 0.
    """
    return [
        {
            "files": grid_file_names(index, grid, layout),
            "format": grid_format(grid, layout),
            "max_resolution": _resolution_to_json(grid.size),
            "base_resolution": _resolution_to_json(grid.base_size),
            **{key: getattr(grid, key) for key in GRID_FIELDS},
            **({"storage": grid.storage} if grid.compressed else {}),
            **({"finest_lods": grid.finest_lods} if grid.finest_lods > 1 else {}),
            "mips": len(grid.mip_sizes),
            **({"unorm_to_feature": unorm_to_feature(grid)} if has_channels(grid, layout) else {}),
        }
        for index, grid in enumerate(grids)
    ]


def _resolution_to_json(size: Size) -> int | list[int]:
    resolution = as_resolution(size)
    return resolution if isinstance(resolution, int) else list(resolution)


def _ranges_to_json(ranges: Ranges) -> dict[str, Any]:
    return {"activation_ranges": [list(pair) for pair in ranges]} if ranges else {}


def decoder_to_json(form: ModelForm) -> dict[str, Any]:
    """The network: inputs, layers, activation, and the bits of a weight and of an activation where they are not 32."""
    return {
        "inputs": decoder_inputs(form),
        "n_frequencies": form.decoder.n_frequencies,
        "n_texel_frequencies": form.decoder.n_texel_frequencies,
        "layers": [list(size) for size in form.layer_sizes],
        "activation": form.decoder.activation,
        "negative_slope": form.decoder.negative_slope,
        "biases": False,
        "outputs": form.decoder.outputs,
        "padded_outputs": PADDED_OUTPUTS,
        **({"weight_bits": form.decoder.weight_bits} if form.decoder.weight_bits != 32 else {}),
        **({"activation_bits": form.decoder.activation_bits} if form.decoder.activation_bits != 32 else {}),
    }


def decoder_inputs(form: ModelForm) -> list[dict[str, Any]]:
    """First input and count of each group of decoder inputs, for people and programs that write a decoder."""
    layout = form.inputs
    groups = [("triangle_waves_of_uv", layout.position_waves)]
    groups += [(f"grid_{index}", count) for index, count in enumerate(layout.features)]
    groups += [("lod / max(num_lods - 1, 1)", 1), ("ones", -layout.reference_inputs % 16)]
    if layout.texel_waves:
        groups += [("sawtooth_waves_of_grid_0_texels", layout.texel_waves), ("ones", -layout.texel_waves % 16)]
    inputs, first = [], 0
    for kind, count in groups:
        if count:
            inputs.append({"kind": kind, "first": first, "count": count})
        first += count
    return inputs


# --- JSON as records -------------------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> Manifest:
    """manifest.json of an export.

    Raises: UserError when it is missing, damaged, of another format, or contradicts itself.
    """
    path = folder / MANIFEST
    try:
        with open_regular(path) as stream:
            payload = stream.read(MAX_MANIFEST_BYTES + 1)
        if len(payload) > MAX_MANIFEST_BYTES:
            raise UserError(f"{path}: over {MAX_MANIFEST_BYTES >> 20} MB; not a manifest of ours")
        value = parse_json(payload.decode("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a folder that export.py wrote") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged, not valid JSON") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise UserError(f"{path}: expected a manifest of format {FORMAT!r}")
    if value.get("version") != FORMAT_VERSION:
        found = value.get("version")
        raise UserError(f"{path}: expected version {FORMAT_VERSION}, found {found!r:.40}; update this tool")
    try:
        return _manifest_from_json(value)
    except DAMAGE as error:
        raise UserError(f"{path}: damaged or of another layout ({what_is_wrong(error)})") from error


def _manifest_from_json(value: Mapping[str, Any]) -> Manifest:
    material, constants = material_from_json(value["material"])
    layout = value.get("dds_layout", "packed")  # manifests from before the other layouts have no such entry
    if layout not in LAYOUTS:
        raise ValueError(f"dds_layout {layout!r:.40}")
    grids, decoder = value["grids"], value["decoder"]
    specs = tuple(_grid_from_json(entry) for entry in grids)
    form = ModelForm(specs, _decoder_from_json(decoder), material.num_lods, constants)
    problem = layout_problem(specs, layout)
    if problem:
        raise ValueError(f"dds_layout {layout}: {problem}")
    if form.decoder.outputs != material.n_channels:
        raise ValueError("outputs and maps contradict each other")
    expected = grids_to_json(specs, layout)
    # `mips` is missing in manifests of versions whose files had the trained levels alone
    grids = [{"mips": full["mips"], **entry} for full, entry in zip(expected, grids)]
    ranges = _ranges_from_json(decoder, form)
    if not specs or (grids, decoder) != (expected, {**decoder_to_json(form), **_ranges_to_json(ranges)}):
        raise ValueError("grids and decoder contradict each other")
    rates = {name: _typed(value["rates"], name, int, float) for name in RATES}
    files = {name: _file_from_json(name, entry) for name, entry in value["files"].items()}
    positions = value.get("positions", "centres")
    if positions not in POSITIONS:
        raise ValueError(f"positions {positions!r:.40}")
    return Manifest(material, form, layout, rates, value["metrics"], files, positions, ranges)


def _ranges_from_json(decoder: Mapping[str, Any], form: ModelForm) -> Ranges:
    """Raises: LookupError or ValueError for ranges that no network has."""
    if form.decoder.activation_bits == 32:
        return ()
    ranges = decoder["activation_ranges"]
    numbers = [number for pair in ranges for number in pair]
    for number in numbers:
        _typed({"activation_ranges": number}, "activation_ranges", float)
    problem = ranges_problem(numbers, len(form.layer_sizes))
    if problem or any(len(pair) != 2 for pair in ranges):
        raise ValueError(f"activation_ranges: {problem or 'expected pairs'}")
    return tuple(map(tuple, ranges))


def _file_from_json(name: str, entry: Any) -> FileRecord:
    try:
        return FileRecord(_typed(entry, "bytes", int), _typed(entry, "sha256", str))
    except DAMAGE as error:
        raise ValueError(f"{brief(name)}: {what_is_wrong(error)}") from error


def _grid_from_json(entry: Mapping[str, Any]) -> GridSpec:
    n_levels = _integer(entry, "n_levels", 1, MAX_SIZE.bit_length())  # before anything is shifted by it
    finest = entry["max_resolution"]
    sides = dict(zip(("width", "height"), finest)) if isinstance(finest, list) else {"width": finest, "height": finest}
    size = tuple(_integer(sides, side, 1, MAX_SIZE) for side in ("width", "height"))
    bits = _integer(entry, "quantize_bits"), _integer(entry, "save_bits")
    shared = _integer({"finest_lods": 1, **entry}, "finest_lods", 1, MAX_SIZE.bit_length())
    return GridSpec(size, n_levels, *bits, entry["interpolation"], entry.get("storage", "packed"), shared)


def _decoder_from_json(entry: Mapping[str, Any]) -> DecoderSpec:
    slope, layers = _typed(entry, "negative_slope", float), entry["layers"]
    if not 0 <= slope <= 1:
        raise ValueError(f"negative_slope {slope!r:.40}")
    return DecoderSpec(
        n_frequencies=_integer(entry, "n_frequencies"),
        n_neurons=layers[0][0] if len(layers) > 1 else DecoderSpec.n_neurons,  # the latter: see read_weights
        n_hidden_layers=len(layers) - 1,
        n_texel_frequencies=_integer(entry, "n_texel_frequencies", 0, MAX_TEXEL_FREQUENCIES),
        activation=entry["activation"],
        negative_slope=slope,
        outputs=CHANNELS if _integer(entry, "outputs") == CHANNELS else ALL_CHANNELS,
        weight_bits=_integer({"weight_bits": 32, **entry}, "weight_bits"),
        activation_bits=_integer({"activation_bits": 32, **entry}, "activation_bits"),
    )


def material_from_json(value: Mapping[str, Any]) -> tuple[MaterialRecord, dict[int, Constant]]:
    """The inverse of material_to_json; entries that earlier versions did not write may be missing.

    Raises: LookupError, TypeError or ValueError when it is damaged.
    """
    maps = tuple(_map_from_json(entry) for entry in value["maps"])
    names = [entry.name for entry in maps]
    if not names or len(set(names)) < len(names) or names != canonical(names):
        raise ValueError(f"maps {names!r:.80}")
    width, height = (_integer(value, side, 1) for side in ("width", "height"))
    if width * height > MOST_PIXELS:
        raise ValueError(f"size {width}x{height}")
    sha256 = _typed(value, "sha256", str) if "sha256" in value else None
    origin = _origin_from_json(value["origin"]) if "origin" in value else None
    material = MaterialRecord(_typed(value, "name", str), width, height, maps, sha256, origin)
    if material.num_lods != value["num_lods"]:
        raise ValueError("num_lods does not follow from width and height")
    return material, _constants_from_json(value.get("constants", []), maps)


def _origin_from_json(entry: Mapping[str, Any]) -> Origin:
    return Origin(_typed(entry, "model", str), _typed(entry, "material", str), _integer(entry, "index"))


def _map_from_json(entry: Mapping[str, Any]) -> MapRecord:
    name, spaces, (low, high) = entry["map"], (entry["color_space"], entry["file_color_space"]), entry["value_range"]
    if not is_map_name(name) or entry["channels"] != list(map_channels(name)):
        raise ValueError(f"channels of map {brief(name, 40)}")
    if not set(spaces) <= {"srgb", "linear"}:
        raise ValueError(f"color space of {name}")
    if _typed(entry, "bit_depth", int) not in (8, 16):
        raise ValueError(f"bit depth of {name}")
    if entry.get("convention", "unknown") not in CONVENTIONS:
        raise ValueError(f"convention {brief(entry['convention'], 40)}")
    if {type(low), type(high)} - {int, float}:
        raise ValueError(f"value range of {name}")
    scale = _typed(entry, "log_scale", int, float) if "log_scale" in entry else None
    if scale is not None and not (low == 0 and 0 < scale < 1e39 and 0 < high < 1e39 and high / scale < 1e9):
        raise ValueError(f"log_scale of {name}")
    return MapRecord(
        name,
        *spaces,
        bit_depth=entry["bit_depth"],
        file=_typed(entry, "file", str),
        value_range=(low, high),
        log_scale=scale,
        convention=entry.get("convention"),
        unit_normals=_typed(entry, "unit_normals", bool) if "unit_normals" in entry else None,
    )


def _constants_from_json(entries: Sequence[Mapping[str, Any]], maps: Sequence[MapRecord]) -> dict[int, Constant]:
    present = [channel for entry in maps for channel in entry.channels]
    constants = {e["channel"]: Constant(e["code"], e["bit_depth"]) for e in entries}
    for channel, (code, bits) in constants.items():
        if type(channel) is not int or channel not in present:
            raise ValueError(f"constant channel {channel!r:.40}")
        if type(bits) is not int or bits not in (8, 16) or type(code) is not int or not 0 <= code < 2**bits:
            raise ValueError(f"constant {code!r:.40} of {bits!r:.40} bits")
    if entries != _constants_to_json(dict(sorted(constants.items())), maps):
        raise ValueError("constants out of order, or with values that do not follow from their codes")
    return constants


def _typed(entry: Mapping[str, Any], key: str, *types: type) -> Any:
    """entry[key], checked to be of one of these types, and not of a derived one: in Python a bool is an int."""
    if type(entry[key]) not in types:
        raise ValueError(f"{key} {brief(entry[key], 40)}")
    return entry[key]


def _integer(entry: Mapping[str, Any], key: str, low: int = 0, high: int = 2**63) -> int:
    value = _typed(entry, key, int)
    if not low <= value <= high:
        raise ValueError(f"{key} {brief(value, 40)}")
    return value


# --- the files that it lists -----------------------------------------------------------------------------------------


def listing_problem(folder: Path, name: str) -> str | None:
    """Why a file that a manifest in `folder` lists must not be opened; None where it may be.

    Links to other folders are refused too: what an export describes must not depend on other files of a machine.
    """
    if not FILE_NAME.fullmatch(name):
        return "is no name of a file beside it"
    path = folder / name
    if not path.is_file():
        return "is not there"
    if leads_out(path, folder):
        return "is a link to outside of the folder"
    if path.stat().st_size > MAX_FILE_BYTES:
        return f"is larger than {MAX_FILE_BYTES >> 30} GiB"
    return None


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compare the files of an export with the sizes and hashes in its manifest, which must list exactly these.

    Raises: UserError naming the first file that is missing or differs.
    """
    if set(manifest.files) != set(manifest.file_names):
        raise UserError(f"{folder / MANIFEST}: damaged, its list of files is not that of its grids and network")
    for name, entry in manifest.files.items():
        path, problem = folder / name, listing_problem(folder, name)
        if problem:
            raise UserError(f"{folder / MANIFEST}: lists {name!r:.80}, which {problem}; export again")
        if path.stat().st_size != entry.bytes or sha256_of(path) != entry.sha256:
            raise UserError(f"{path}: damaged, its bytes differ from the manifest's hash; export again")
