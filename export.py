"""A trained NeuralTexture as files for an engine, and back: DDS feature textures, npz network, manifest, images.

    python export.py --load_dir outputs/<run> [--load_iter N] --out_dir DIR [--images] [--shader hlsl,wgsl]

File formats: design.md, section 6.
"""

from __future__ import annotations

import threads  # isort: skip  # noqa: F401  # before torch

import functools
import io
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from configs import OneLineParser, parse_bool
from dataset import Constant, map_slice
from dds import MAX_SIZE, Texture, encode_dds, read_dds
from engine.cpu.decoder import decode_lod
from errors import UserError, run_command
from file_space import in_file_space
from files import staged_folder, write_bytes, write_json
from images import PICTURE_COMPRESSION, encode_png
from manifest import (
    MANIFEST,
    NETWORK,
    PLANE_BYTES,
    build_manifest,
    check_material,
    describe_decoder,
    describe_grids,
    grid_file_names,
    read_constants,
    read_manifest,
    verify_files,
)
from model import (
    ACTIVATIONS,
    INTERPOLATIONS,
    PADDED_OUTPUTS,
    DecoderSpec,
    GridSpec,
    NeuralTexture,
    input_layout,
    layer_sizes,
)
from parallel import map_threads
from quantize import QUANTIZE_BITS, SAVE_BITS, pack_codes, unpack_codes


class Decode(Protocol):
    """model.NeuralTexture.decode and its like."""

    def __call__(
        self, model: NeuralTexture, lod: int, width: int, height: int, *, rows: slice
    ) -> torch.Tensor: ...



CODE_CHUNK = 1 << 18  # texels of a grid that are packed or unpacked at a time
DECODE_CHUNK = 1 << 18  # texels of a LOD that are decoded at a time; 44 bytes each
MAX_NETWORK_BYTES = 64 << 20
MAX_GRIDS = 16
MAX_TEXEL_FREQUENCIES = 16
_NPY_HEADER = re.compile(rb"\{'descr': '(<[if]4)', 'fortran_order': False, 'shape': \((\d{1,9}),\), \} {0,200}\n")


@dataclass(frozen=True)
class ExportedTexture:
    """What the files of one export hold."""

    model: NeuralTexture
    manifest: dict[str, Any]


# --- grids ---------------------------------------------------------------------------------------------------------


def grid_textures(model: NeuralTexture, index: int) -> list[Texture]:
    """The codes of one grid as textures, one per plane; mip 0 is the finest level."""
    grid = model.grids[index]
    words = np.empty((grid.n_texels, grid.save_bits // 8), np.uint8)
    for texels in _texel_chunks(grid):
        words[texels] = pack_codes(model.codes(index, texels).numpy(), grid.quantize_bits, grid.save_bits)
    planes: list[list[np.ndarray]] = [[] for _ in grid_file_names(index, grid.save_bits)]
    for level in reversed(range(grid.n_levels)):
        resolution = grid.resolution(level)
        start = grid.level_offset(level)
        image = words[start : start + resolution**2].reshape(resolution, resolution, -1)
        for plane, levels in enumerate(planes):
            levels.append(image[:, :, plane * PLANE_BYTES : (plane + 1) * PLANE_BYTES])
    return [Texture(tuple(levels)) for levels in planes]


def _texel_chunks(grid: GridSpec) -> Iterator[slice]:
    """All texels of a grid, some at a time: between words, codes and features lie several copies of several bytes."""
    for start in range(0, grid.n_texels, CODE_CHUNK):
        yield slice(start, min(start + CODE_CHUNK, grid.n_texels))


def codes_from_textures(grid: GridSpec, textures: Sequence[Texture], names: Sequence[str]) -> np.ndarray:
    """The inverse of grid_textures: (n_texels, features) codes, level after level.

    Raises: UserError when a texture does not have the grid's size, levels or channels.
    """
    for texture, name in zip(textures, names):
        found = texture.levels[0].shape + (len(texture.levels),)
        channels = min(grid.save_bits // 8, PLANE_BYTES)
        expected = (grid.max_resolution, grid.max_resolution, channels, grid.n_levels)
        if found != expected:
            raise UserError(
                f"{name}: expected (height, width, channels, mips) {expected} as the network file says, found {found}"
            )
    levels = []
    for mip in reversed(range(grid.n_levels)):
        image = np.concatenate([texture.levels[mip] for texture in textures], axis=2)
        levels.append(image.reshape(-1, grid.save_bits // 8))
    return unpack_codes(np.concatenate(levels), grid.quantize_bits, grid.save_bits)


# --- network -------------------------------------------------------------------------------------------------------


def network_info(model: NeuralTexture) -> np.ndarray:
    """The `info` vector of network_data.npz, int32."""
    info = [len(model.grids)]
    for grid in model.grids:
        info += [grid.base_resolution, grid.n_levels, grid.features, grid.quantize_bits, grid.save_bits]
    decoder = model.decoder
    info += [decoder.n_frequencies, decoder.n_neurons, decoder.n_hidden_layers, PADDED_OUTPUTS]
    return np.array(info, np.int32)


def network_weights(model: NeuralTexture) -> np.ndarray:
    """The `network` vector: the weight matrices one after the other, each row-major [out, in], float32."""
    return torch.cat([weight.detach().reshape(-1).cpu() for weight in model.weights]).numpy()


def parse_info(info: np.ndarray, name: str) -> tuple[list[dict[str, int]], dict[str, int]]:
    """The grids and the decoder that an `info` vector describes.

    Raises: UserError when its length or a value is impossible.
    """
    values = [int(value) for value in info]
    fields = ("base_resolution", "n_levels", "features", "quantize_bits", "save_bits")
    n_grids = values[0] if values else 0
    if not 1 <= n_grids <= MAX_GRIDS or len(values) != 1 + len(fields) * n_grids + 4:
        raise UserError(f"{name}: expected info for 1 to {MAX_GRIDS} grids, found {len(values)} numbers; it is damaged")
    grids = [dict(zip(fields, values[1 + len(fields) * g :])) for g in range(n_grids)]
    decoder = dict(zip(("n_frequencies", "n_neurons", "n_hidden_layers", "padded_outputs"), values[-4:]))
    sane = (
        0 <= decoder["n_frequencies"] <= 64
        and 1 <= decoder["n_neurons"] <= 4096
        and 0 <= decoder["n_hidden_layers"] <= 64
        and decoder["padded_outputs"] == PADDED_OUTPUTS
        and all(
            grid["quantize_bits"] in QUANTIZE_BITS
            and grid["save_bits"] in SAVE_BITS
            and grid["features"] * grid["quantize_bits"] == grid["save_bits"]
            and 1 <= grid["n_levels"] <= MAX_SIZE.bit_length()
            and 1 <= grid["base_resolution"] <= MAX_SIZE >> (grid["n_levels"] - 1)
            for grid in grids
        )
    )
    if not sane:
        raise UserError(f"{name}: info describes an impossible texture ({values!s:.200}); the file is damaged")
    return grids, decoder


def encode_network(model: NeuralTexture) -> bytes:
    """The bytes of network_data.npz."""
    stream = io.BytesIO()
    np.savez(stream, info=network_info(model), network=network_weights(model))
    return stream.getvalue()


def read_network(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """(info int32, network float32) of a network_data.npz.

    Sizes are checked before anything is unpacked and nothing is unpickled, so a hostile file costs nothing.
    Raises: UserError when the file is damaged or holds anything else.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(archive.namelist())
            if names != ["info.npy", "network.npy"]:
                raise UserError(f"{path}: expected the arrays info and network, found {names!s:.200}")
            arrays = {}
            for member in map(archive.getinfo, names):
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UserError(f"{path}: {member.filename} is compressed in a way that numpy never uses")
                if member.file_size > MAX_NETWORK_BYTES:
                    raise UserError(f"{path}: {member.filename} unpacks to over {MAX_NETWORK_BYTES >> 20} MB; refused")
                with archive.open(member) as stream:
                    arrays[member.filename] = _parse_npy(stream.read(MAX_NETWORK_BYTES + 1))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path}: damaged, not a readable npz ({' '.join(str(error).split()):.120})") from error
    info, network = arrays["info.npy"], arrays["network.npy"]
    if info.dtype != np.int32 or network.dtype != np.float32:
        raise UserError(f"{path}: expected info int32 and network float32, found {info.dtype} and {network.dtype}")
    if not np.isfinite(network).all():
        raise UserError(f"{path}: the network holds numbers that are not finite; the file is damaged")
    return info, network


def _parse_npy(payload: bytes) -> np.ndarray:
    """A .npy file (version 1.0) of one vector of int32 or float32, little endian.

    numpy's reader hands the header to Python's tokenizer and allocates what it claims; these vectors need neither.
    Source: numpy.lib.format, "Format Version 1.0".
    """
    if payload[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError("not an npy file of version 1.0")
    start = 10 + int.from_bytes(payload[8:10], "little")
    header = _NPY_HEADER.fullmatch(payload[10:start])
    if header is None:
        raise ValueError("expected a vector of int32 or float32")
    vector = np.frombuffer(payload, header[1].decode(), offset=start)
    if len(vector) != int(header[2]):
        raise ValueError(f"header says {int(header[2])} numbers, {len(vector)} follow")
    return vector


# --- whole exports -------------------------------------------------------------------------------------------------


def write_export(folder: Path, model: NeuralTexture, material: Mapping[str, Any], metrics: Any = None) -> dict:
    """Write the DDS files, network_data.npz and manifest.json into `folder`; return the manifest.

    Args:
        material: what manifest.describe_material returns.
        metrics: the evaluation to record, or None.
    Raises: ValueError for a model that is not quantised.
    """
    if not model.quantized:
        raise ValueError("only a quantised model has codes to export")
    write_textures(folder, model)
    manifest = build_manifest(model, material, metrics, folder)
    write_json(folder / MANIFEST, manifest)
    return manifest


def write_textures(folder: Path, model: NeuralTexture) -> None:
    """Write the DDS files and network_data.npz: what an engine loads."""
    for index, grid in enumerate(model.grids):
        for name, texture in zip(grid_file_names(index, grid.save_bits), grid_textures(model, index)):
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
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: damaged or of another layout ({error!r:.120})") from error
    verify_files(folder, manifest, names)
    model = read_textures(folder, manifest["material"]["num_lods"], **form)
    if (manifest["grids"], manifest["decoder"]) != (describe_grids(model), describe_decoder(model)):
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
        names = [str(folder / name) for name in grid_file_names(index, grid.save_bits)]
        codes.append(codes_from_textures(grid, [read_dds(name) for name in names], names))
    model = NeuralTexture(grids, decoder, num_lods, constants=constants)
    with torch.no_grad():
        for index, grid_codes in enumerate(codes):
            for texels in _texel_chunks(grids[index]):
                model.load_codes(index, torch.from_numpy(grid_codes[texels].astype(np.int32)), texels)
        for weight, values in zip(model.weights, torch.from_numpy(network.copy()).split(sizes)):
            weight.copy_(values.view(weight.shape))
    return model


# --- images --------------------------------------------------------------------------------------------------------


def to_8_bit(image: torch.Tensor) -> np.ndarray:
    """Values in [0, 1] as 8-bit integers, halves rounded up; outside saturates, NaN becomes 0."""
    codes = image.to(torch.float32, copy=True).nan_to_num_(nan=0.0).clamp_(0, 1).mul_(255).add_(0.5)
    return codes.to(torch.uint8).numpy()  # truncated


def image_name(map_name: str, lod: int) -> str:
    return f"{map_name}_lod{lod}.png"


def save_map_images(folder: Path, decoded: Mapping[str, np.ndarray], lod: int) -> list[Path]:
    """Write one 8-bit PNG per map of a decoded LOD: map name -> (H, W, C) uint8, what `decode_maps` returns."""
    paths = [folder / image_name(name, lod) for name in decoded]
    encoded = map_threads(lambda pixels: encode_png(pixels, PICTURE_COMPRESSION), decoded.values())
    for path, payload in zip(paths, encoded):
        write_bytes(path, payload)
    return paths


def decode_in_file_space(
    model: NeuralTexture, material: Mapping[str, Any], lod: int, decode: Decode = decode_lod, rows: slice = slice(None)
) -> torch.Tensor:
    """One LOD (H, W, 11) valued as the source files are, see file_space, or rows of it.

    Missing channels are 0; not clamped.
    """
    width, height = max(material["width"] >> lod, 1), max(material["height"] >> lod, 1)
    return in_file_space(decode(model, lod, width, height, rows=rows), material, model.constants)


def decode_maps(
    model: NeuralTexture, material: Mapping[str, Any], lod: int, decode: Decode = decode_lod
) -> dict[str, np.ndarray]:
    """One LOD as it ships: map name -> (H, W, C) uint8, valued as the source files are, see file_space.

    Decoded by bands of rows: no float image of the whole LOD exists, which would take 740 MB at 4096 x 4096.
    """
    width, height = max(material["width"] >> lod, 1), max(material["height"] >> lod, 1)
    parts = {entry["map"]: map_slice(entry["map"]) for entry in material["maps"]}
    maps = {name: np.empty((height, width, part.stop - part.start), np.uint8) for name, part in parts.items()}
    band = max(DECODE_CHUNK // width, 1)
    for first in range(0, height, band):
        rows = slice(first, min(first + band, height))
        codes = to_8_bit(decode_in_file_space(model, material, lod, decode, rows))
        for name, part in parts.items():
            maps[name][rows] = codes[..., part]
    return maps


def save_images(folder: Path, exported: ExportedTexture) -> list[Path]:
    """Decode every LOD of an export and write one PNG per map and LOD."""
    folder.mkdir(parents=True, exist_ok=True)
    material = exported.manifest["material"]
    paths = []
    for lod in range(material["num_lods"]):
        decoded = decode_maps(exported.model, material, lod, functools.partial(decode_lod, say=print))
        paths += save_map_images(folder, decoded, lod)
    return paths


# --- command -------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """The export command; see --help. Returns the exit code."""
    parser = OneLineParser(prog="export.py", description="Export a checkpoint again, or decode an export to images.")
    parser.add_argument("--load_dir", required=True, help="run folder (outputs/<run>), or a folder with an export")
    parser.add_argument("--load_iter", type=int, default=-1, help="iteration; -1: the newest checkpoint [default -1]")
    parser.add_argument("--out_dir", required=True, help="folder that receives the files")
    parser.add_argument("--images", type=parse_bool, nargs="?", const=True, default=False, metavar="BOOL",
                        help="decode the exported files to one PNG per map and LOD in out_dir/images")  # fmt: skip
    parser.add_argument("--shader", default="", metavar="LANGUAGES",
                        help="decoders for shaders in out_dir, any of hlsl,glsl,essl,wgsl,metal")  # fmt: skip
    parser.add_argument("--weights", choices=("baked", "buffer"),
                        help="part of the shader, or in decoder_weights.bin [default baked]")  # fmt: skip
    parser.add_argument("--weight_type", choices=("float32", "float16"),
                        help="how the shader stores weights [default float32]")  # fmt: skip
    arguments = parser.parse_args(argv)
    for flag in ("weights", "weight_type"):
        if getattr(arguments, flag) and not arguments.shader:
            raise UserError(f"--{flag}: expected --shader beside it, which says for what languages")
    if arguments.shader:
        from shader_export import parse_languages, write_shaders

        languages = parse_languages(arguments.shader)
    source, out_dir = Path(arguments.load_dir), Path(arguments.out_dir)
    if (source / MANIFEST).is_file():
        if not arguments.images and not arguments.shader:
            raise UserError(
                f"--load_dir {source}: already an export; add --images to decode it or --shader for decoders, "
                "or give a run folder"
            )
        exported = read_export(source)
    else:
        from checkpoint import load_checkpoint

        checkpoint = load_checkpoint(source, arguments.load_iter)
        if not checkpoint.model.quantized:
            raise UserError(
                f"{checkpoint.path}: trained with --quantize False, which has no codes to export; "
                "train with --quantize True"
            )
        with staged_folder(out_dir) as stage:
            write_export(stage, checkpoint.model, checkpoint.material, checkpoint.metrics)
        exported = read_export(out_dir)
        for name, entry in exported.manifest["files"].items():
            print(f"{out_dir / name}  {entry['bytes']} bytes")
    if arguments.images:
        paths = save_images(out_dir / "images", exported)
        print(f"{len(paths)} images in {out_dir / 'images'}")
    if arguments.shader:
        storage = arguments.weights or "baked", arguments.weight_type or "float32"
        for path in write_shaders(out_dir, exported.model, exported.manifest["material"], languages, *storage):
            print(f"{path}  {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
