"""manifest.json: what an export says about itself, and how it is checked (design.md, section 6)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError, brief
from common.files import leads_out, open_regular, parse_json, sha256_of
from configs import MOST_PIXELS
from dataset import Constant, Material
from formats.dds_layouts import LAYOUTS, grid_file_names, grid_format, stored_bits, unorm_to_feature
from maps.channels import CHANNELS, MAPS, map_slice
from model import NeuralTexture
from shape import PADDED_OUTPUTS, layer_sizes

MANIFEST = "manifest.json"
NETWORK = "network_data.npz"
FORMAT = "neural-texture"
FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 2 << 30  # a chain of 16384 x 16384 texels of 4 bytes takes 1.4 GB; hashing more would take minutes
FILE_NAME = re.compile(r"[a-z0-9_]{1,40}\.(dds|npz)")  # nothing that leads out of the folder
CONVENTIONS = ("gl", "dx", "unknown")


def describe_material(material: Material) -> dict[str, Any]:
    """A material without its texels, JSON-ready: size, LODs, and per present map where it is and how to read it."""
    maps = []
    for name in material.present:
        part = map_slice(name)
        entry = {
            "map": name,
            "channels": list(range(part.start, part.stop)),
            "color_space": material.color_space[name],
            "file_color_space": material.file_color_space[name],
            "bit_depth": material.file_bit_depth[name],
            "file": material.files[name],
            "value_range": list(material.value_range[name]),
        }
        if name == "normal":
            entry["convention"] = material.normal_convention
            entry["unit_normals"] = material.unit_normals  # so decoded ones are made unit vectors
        maps.append(entry)
    return {
        "name": material.name,
        "width": material.width,
        "height": material.height,
        "num_lods": material.num_lods,
        "maps": maps,
        "sha256": material.sha256,  # of LOD 0 as trained on
    }


def describe_constants(constants: Mapping[int, Constant]) -> list[dict[str, Any]]:
    """The manifest's entry per channel with one value: the network's output for it is 0, `value` is what it decodes to.

    `code` of `bit_depth` bits is the same as an integer, and `value` is in the map's `color_space`. For a diffuse that
    was decoded to linear light both differ from the file's, which are got by encoding and rounding to its bits.
    """
    map_of = [name for name in MAPS for _ in range(CHANNELS)[map_slice(name)]]
    return [
        {"map": map_of[c], "channel": c, "code": k.code, "bit_depth": k.bit_depth, "value": k.value}
        for c, k in constants.items()
    ]


def described_with(material: Mapping[str, Any], model: NeuralTexture) -> dict[str, Any]:
    """describe_material of what a model was trained on, with the constants that this model holds."""
    return {**material, "constants": describe_constants(model.constants)}


def read_constants(material: Mapping[str, Any]) -> dict[int, Constant]:
    """The constants of a manifest's material; those written before there were constants have none.

    Raises: KeyError, TypeError or ValueError when they are damaged.
    """
    constants = {e["channel"]: Constant(e["code"], e["bit_depth"]) for e in material.get("constants", [])}
    present = {channel for entry in material["maps"] for channel in entry["channels"]}
    for channel, (code, bits) in constants.items():
        if type(channel) is not int or channel not in present:
            raise ValueError(f"constant channel {channel!r:.40}")
        if type(bits) is not int or bits not in (8, 16) or type(code) is not int or not 0 <= code < 2**bits:
            raise ValueError(f"constant {code!r:.40} of {bits!r:.40} bits")
    if material.get("constants", []) != describe_constants(dict(sorted(constants.items()))):
        raise ValueError("constants out of order, or with values that do not follow from their codes")
    return constants


def check_material(material: Mapping[str, Any]) -> None:
    """Raise KeyError, TypeError or ValueError unless a manifest's material has the fields that decoding needs."""
    width, height = material["width"], material["height"]
    if not all(type(size) is int and size >= 1 for size in (width, height)) or width * height > MOST_PIXELS:
        raise ValueError(f"size {brief(width, 40)}x{brief(height, 40)}")
    if type(material["name"]) is not str:
        raise ValueError("name")
    if max(width, height).bit_length() != material["num_lods"]:
        raise ValueError("num_lods does not follow from width and height")
    names = [entry["map"] for entry in material["maps"]]
    if not names or names != [name for name in MAPS if name in names]:
        raise ValueError(f"maps {names!r:.80}")
    for entry in material["maps"]:
        part = map_slice(entry["map"])
        if entry["channels"] != list(range(part.start, part.stop)):
            raise ValueError(f"channels of {entry['map']}")
        if not {entry["color_space"], entry["file_color_space"]} <= {"srgb", "linear"}:
            raise ValueError(f"color space of {entry['map']}")
        if entry["color_space"] != entry["file_color_space"] and entry["bit_depth"] not in (8, 16):
            raise ValueError(f"bit depth of {entry['map']}")
        if type(entry.get("unit_normals", False)) is not bool:
            raise ValueError("unit_normals")
        if entry.get("convention", "unknown") not in CONVENTIONS:
            raise ValueError(f"convention {brief(entry['convention'], 40)}")
    read_constants(material)


def decoder_inputs(model: NeuralTexture) -> list[dict[str, Any]]:
    """Where each group of decoder inputs starts, for people and programs that write a decoder."""
    layout = model.layout
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


def describe_grids(model: NeuralTexture, layout: str = "packed") -> list[dict[str, Any]]:
    """The manifest's entry per grid: its files, their format, and its shape.

    Where a feature has a channel of its own, `unorm_to_feature` says what scale * t + offset makes it of the channel's
    t in [0, 1].
    """
    return [
        {
            "files": grid_file_names(index, grid, layout),
            "format": grid_format(grid, layout),
            "max_resolution": grid.max_resolution,
            "base_resolution": grid.base_resolution,
            "n_levels": grid.n_levels,
            "features": grid.features,
            "quantize_bits": grid.quantize_bits,
            "save_bits": grid.save_bits,
            "interpolation": grid.interpolation,
            **({} if layout == "packed" else {"unorm_to_feature": unorm_to_feature(grid)}),
        }
        for index, grid in enumerate(model.grids)
    ]


def describe_decoder(model: NeuralTexture) -> dict[str, Any]:
    """The manifest's entry on the network: inputs, layers, activation."""
    return {
        "inputs": decoder_inputs(model),
        "n_frequencies": model.decoder.n_frequencies,
        "n_texel_frequencies": model.decoder.n_texel_frequencies,
        "layers": [list(size) for size in layer_sizes(model.layout, model.decoder)],
        "activation": model.decoder.activation,
        "negative_slope": model.decoder.negative_slope,
        "biases": False,
        "outputs": CHANNELS,
        "padded_outputs": PADDED_OUTPUTS,
    }


def read_layout(manifest: Mapping[str, Any]) -> str:
    """The layout of the DDS files; a manifest without an entry is older than the layouts, and its files are packed.

    Raises: ValueError for one that is unknown.
    """
    layout = manifest.get("dds_layout", "packed")
    if layout not in LAYOUTS:
        raise ValueError(f"dds_layout {layout!r:.40}")
    return layout


def build_manifest(
    model: NeuralTexture, material: Mapping[str, Any], metrics: Any, folder: Path, layout: str = "packed"
) -> dict[str, Any]:
    """The self-description of an export whose other files are already in `folder`."""
    width, height = material["width"], material["height"]
    grids = describe_grids(model, layout)
    names = [name for grid in grids for name in grid["files"]] + [NETWORK]
    rates = model.bits_per_texel(width, height, [stored_bits(grid, layout) for grid in model.grids])
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)} for name in names}
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "material": described_with(material, model),
        "dds_layout": layout,
        "grids": grids,
        "decoder": describe_decoder(model),
        "rates": {name: round(rate, 6) for name, rate in rates.items()},
        "bytes_on_disk": sum(entry["bytes"] for entry in files.values()),
        "metrics": metrics,
        "files": files,
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json of an export, its keys checked.

    Raises: UserError when it is missing, damaged, or of another format.
    """
    path = folder / MANIFEST
    try:
        with open_regular(path) as stream:
            payload = stream.read(MAX_MANIFEST_BYTES + 1)
        if len(payload) > MAX_MANIFEST_BYTES:
            raise UserError(f"{path}: over {MAX_MANIFEST_BYTES >> 20} MB; not a manifest of ours")
        manifest = parse_json(payload.decode("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a folder that export.py wrote") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged, not valid JSON") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path}: expected a manifest of format {FORMAT!r}")
    if manifest.get("version") != FORMAT_VERSION:
        found = manifest.get("version")
        raise UserError(f"{path}: expected version {FORMAT_VERSION}, found {found!r:.40}; update this tool")
    return manifest


def listing_problem(folder: Path, name: str) -> str | None:
    """Why a file that a manifest in `folder` lists is none of its own, so that it is not opened; None for one that is.

    Links to files elsewhere count: what an export says of itself must not depend on what happens to lie on a machine.
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


def verify_files(folder: Path, manifest: Mapping[str, Any], names: set[str]) -> None:
    """Compare the files `names` with the sizes and hashes that the manifest recorded; it must list just these.

    Raises: UserError naming the first file that is missing or differs.
    """
    files = manifest.get("files")
    if not isinstance(files, dict) or set(files) != names or not all(isinstance(e, dict) for e in files.values()):
        raise UserError(f"{folder / MANIFEST}: damaged, its list of files is not that of its grids and network")
    for name, entry in files.items():
        path, problem = folder / name, listing_problem(folder, name)
        if problem:
            raise UserError(f"{folder / MANIFEST}: lists {name!r:.80}, which {problem}; export again")
        if path.stat().st_size != entry.get("bytes") or sha256_of(path) != entry.get("sha256"):
            raise UserError(f"{path}: damaged, its bytes differ from the manifest's hash; export again")
