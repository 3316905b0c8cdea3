"""Exported files without a manifest as images: those of the ancestor project, or ours whose manifest is lost.

What the files do not say is assumed: every assumption is printed, and --assume replaces it. All versions of the
ancestor that wrote such files have one layout: an R8G8B8A8 texture per grid with its finest level alone, one feature
per channel, a code of b bits stretched to 0..255 (times 255/(2^b - 1)). Coarser levels, and features past the fourth,
are in no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torchtyping import TensorType

from common.errors import Say, UserError, one_line
from common.files import make_folder
from configs import MAX_PIXELS, QUANTIZE_BITS
from describe.numpy_decoder import OUTPUT_ACTIVATIONS, SAMPLINGS, FileTexture, decode, features_of, read_texture
from formats.dds import MAX_SIZE, TextureInfo, read_dds_info
from formats.dds_layouts import texture_suffix
from formats.ktx2 import read_ktx2_info
from formats.manifest import MANIFEST, NETWORK
from formats.network_file import GridInfo, NetworkInfo, parse_any_info, parse_info, read_network, split_weights
from maps.channels import CHANNELS, MAPS
from maps.record import MapRecord, MaterialRecord
from metrics.decoded_maps import decode_maps, save_map_images
from shape import DecoderSpec, ModelForm

DecodedRows = TensorType["rows", "width", CHANNELS]

MOST_NEURONS = 4096
CHANNELS_HELD = 4  # features of a texel that the ancestor's textures have room for
# With so many values above 1.1 an output activation is missing: decoded maps have next to none.
TOO_LARGE, TOO_MANY = 1.1, 0.01
_CHOICES = {"sampling": SAMPLINGS, "output": OUTPUT_ACTIVATIONS, "quantize_bits": ("1", "2", "4", "8")}
_OUTPUT_WORDS = {
    "leaky_relu": ", which differs from none below 0 alone, so in no image; later versions used hard_swish or hard_gelu"
}
_SAMPLING_WORDS = {
    "sampler": "as an engine does, at uv * R - 0.5, and repeating",
    "vertex": "as the first versions of its trainer, at uv * (R - 1) + 0.5, with uv on texel corners",
    "aligned": "as later versions of its trainer, at uv * R, not repeating",
}


@dataclass(frozen=True)
class Assumptions:
    """The values of --assume; None and 0 where it leaves one out."""

    size: tuple[int, int] | None = None  # of the material, texels
    sampling: str | None = None
    output: str | None = None
    quantize_bits: int = 0  # of the ancestor's command, where a grid has others than it


@dataclass(frozen=True)
class BareTexture:
    """A texture from files alone, and what was assumed for it."""

    texture: FileTexture
    material: MaterialRecord
    lods: int  # how many can be decoded
    assumed: list[str]  # a line for each assumption


def parse_assumptions(text: str) -> Assumptions:
    """`size=1024x512,sampling=sampler` as Assumptions. Raises: UserError."""
    found = Assumptions()
    for part in filter(None, text.split(",")):
        key, _, value = part.strip().partition("=")
        if key == "size":
            sides = value.lower().split("x")
            if len(sides) != 2 or not all(side.isdecimal() and 1 <= int(side) <= MAX_SIZE for side in sides):
                raise UserError(f"--assume size: expected WIDTHxHEIGHT of 1 to {MAX_SIZE}, got {value!r:.40}")
            found = replace(found, size=(int(sides[0]), int(sides[1])))
        elif key in _CHOICES:
            if value not in _CHOICES[key]:
                raise UserError(f"--assume {key}: expected one of {', '.join(_CHOICES[key])}, got {value!r:.40}")
            found = replace(found, **{key: int(value) if value.isdecimal() else value})
        else:
            expected = "size=WxH, sampling=, output=, quantize_bits="
            raise UserError(f"--assume: expected some of {expected}, separated by commas; got {part!r:.60}")
    return found


def is_bare(folder: Path) -> bool:
    """Whether a folder has files to decode, but no manifest."""
    return (folder / NETWORK).is_file() and not (folder / MANIFEST).is_file()


def bare_file_name(index: int, grid: GridInfo) -> str:
    """The first texture of a grid, whatever the layout."""
    return f"hash_grid_{index}{texture_suffix(grid.storage)}"


def read_texture_info(path: Path) -> TextureInfo:
    """The header of a grid's texture. Raises: UserError as read_dds_info and read_ktx2_info."""
    return read_ktx2_info(path) if path.suffix == ".ktx2" else read_dds_info(path)


def holds_words(info: TextureInfo, grid: GridInfo) -> bool:
    """Whether a grid's texture has our packed words in all levels, and not the ancestor's channels of one level.

    A single level could be either; the ancestor's headers do not count their mips.
    """
    return info.mips > 1 or (grid.n_levels == 1 and info.counts_mips)


# --- reading -------------------------------------------------------------------------------------------------------


def read_bare_files(folder: Path, given: Assumptions, max_pixels: int = MAX_PIXELS) -> BareTexture:
    """The texture in a folder with network_data.npz and DDS files, but no manifest.

    Args:
        max_pixels: width x height of the largest material to decode.
    Raises: UserError when a file is missing, damaged, does not fit the others, or is in a form that needs a manifest.
    """
    path = folder / NETWORK
    numbers, network, weight_bits, ranges = read_network(path)
    info = parse_any_info(numbers, str(path))
    textures = [folder / bare_file_name(index, grid) for index, grid in enumerate(info.grids)]
    headers = [read_texture_info(texture) for texture in textures]
    words = [holds_words(*pair) for pair in zip(headers, info.grids)]
    ours, finest = all(words), headers[0]
    width, height = given.size or ((2 if ours else 1) * side for side in (finest.width, finest.height))
    if width * height > max_pixels:
        raise UserError(
            f"{path}: expected a material of at most {max_pixels} texels, found {width} x {height}; raise "
            "--max_pixels if that is right"
        )
    spaces = {name: "srgb" if name == "diffuse" else "linear" for name in MAPS}
    maps = tuple(MapRecord(name, space, space) for name, space in spaces.items())
    material = MaterialRecord(folder.name, width, height, maps)
    reason = "" if given.size else ": twice grid 0" if ours else ": as large as grid 0"
    size = f"size {width} x {height}{reason}"
    if ours:
        bits = weight_bits, 32 if ranges is None else 8
        form = _our_form(parse_info(numbers, str(path)), headers, textures, material.num_lods, bits)
        texture = read_texture(folder, form)
        sampling, output = given.sampling or texture.sampling, given.output or texture.output_activation
        texture = replace(texture, sampling=sampling, output_activation=output)
        return BareTexture(texture, material, material.num_lods, [size, *_OUR_FORM])
    if any(words):
        name = textures[words.index(True)]
        raise UserError(f"{name}: holds words, unlike the other grids; the files are of different exports")
    notes: list[str] = []
    sources = zip(textures, headers, info.grids)
    levels = [[_ancestor_features(*source, given.quantize_bits, notes)] for source in sources]
    sampling, output = given.sampling or "vertex", given.output or "leaky_relu"
    texture = FileTexture(
        levels, _ancestor_weights(network, info, path), material.num_lods, DecoderSpec(info.n_frequencies),
        sampling=sampling, output_activation=output,
    )  # fmt: skip
    flat = all(grid.n_levels == 1 for grid in info.grids)
    assumed = [*notes, size, *_ancestor_form(info, sampling, output)]
    if not flat:
        assumed.append("LOD 0 alone is decoded: the levels that other LODs read are not in these files")
    return BareTexture(texture, material, material.num_lods if flat else 1, assumed)


def _our_form(
    info: NetworkInfo, headers: Sequence[TextureInfo], textures: Sequence[Path], num_lods: int, bits: tuple[int, int]
) -> ModelForm:
    """The reference form, with these bits of weights and activations; the heights of its grids are in the DDS files
    alone.

    Raises: UserError for a height that a grid of so many levels cannot have.
    """
    for grid, header, path in zip(info.grids, headers, textures):
        if header.height % (1 << (grid.n_levels - 1)):
            raise UserError(
                f"{path}: expected a height that halves {grid.n_levels - 1} times, since the network file has "
                f"{grid.n_levels} levels, found {header.height}; one of them is damaged"
            )
    return info.reference_form(num_lods, bits, [header.height for header in headers])


_OUR_FORM = (
    "the reference form: linear interpolation, LeakyReLU of slope 0.01",
    "no constant channels (they decode to about 0), normals as decoded, diffuse is sRGB",
)


def _ancestor_form(info: NetworkInfo, sampling: str, output: str) -> list[str]:
    bits = ", ".join(f"{grid.quantize_bits} bits in grid {index}" for index, grid in enumerate(info.grids))
    return [
        f"codes: {bits}, stretched to 0..255, first feature in R",
        f"sampling {sampling}: {_SAMPLING_WORDS[sampling]}",
        f"output activation {output}{_OUTPUT_WORDS.get(output, '')}",
        "LeakyReLU of slope 0.01 between the layers; ones in the inputs that are left over",
        f"outputs in the order {', '.join(MAPS)}; diffuse is sRGB",
    ]


def _ancestor_features(
    path: Path, header: TextureInfo, grid: GridInfo, command_bits: int, notes: list[str]
) -> np.ndarray:
    """(R, R, features) float32 of a texture of the ancestor; adds a note on features that it has no channel for."""
    finest, bits, features = grid.max_width, grid.quantize_bits, grid.features
    if (header.width, header.height) != (finest, finest):
        found = f"{header.width} x {header.height}"
        raise UserError(f"{path}: expected {finest} x {finest} as the network file says, found {found}")
    if bits not in QUANTIZE_BITS:
        raise UserError(f"{path}: expected codes of 1, 2, 4, 8 or 16 bits, info says {bits}")
    if features != grid.save_bits // bits:
        raise UserError(
            f"{path}: expected {grid.save_bits // bits} features of {bits} bits in words of {grid.save_bits}, "
            f"info says {features}; {NETWORK} is damaged"
        )
    held = min(features, CHANNELS_HELD)
    codes = _ancestor_codes(path, _read_texels(path, header)[..., :held].astype(np.int64), bits, command_bits, notes)
    if codes.size and codes.max() >= 1 << bits:
        raise UserError(f"{path}: codes of {codes.max()}, too large for {bits} bits; --assume quantize_bits is wrong")
    if features > held:
        notes.append(
            f"{path.name}: features {held} to {features - 1} of each texel are not in the file, taken as 0; "
            "the maps are wrong by what they held"
        )
    return features_of(codes, bits)


def _read_texels(path: Path, header: TextureInfo) -> np.ndarray:
    """(H, W, 4) uint8 of a DDS with one level of R8G8B8A8, with or without a DX10 header."""
    if header.format != "R8G8B8A8_UNORM" or header.mips != 1:
        raise UserError(
            f"{path}: expected one level of R8G8B8A8_UNORM without a manifest beside it, found {header.format}, "
            f"{header.mips} mips"
        )
    if header.bytes != header.expected_bytes:
        raise UserError(f"{path}: {header.bytes} bytes, its header asks for {header.expected_bytes}; it is damaged")
    texels = np.frombuffer(path.read_bytes(), np.uint8)[-header.width * header.height * 4 :]
    return texels.reshape(header.height, header.width, 4)


def _ancestor_codes(path: Path, stretched: np.ndarray, bits: int, command_bits: int, notes: list[str]) -> np.ndarray:
    """Codes from bytes that were stretched to 0..255."""
    if command_bits and command_bits != bits and bits <= 8:
        # all grids were stretched for the bits of the command, and larger numbers wrapped around: undone modulo 256
        notes.append(f"{path.name}: bytes stretched for {command_bits} bits, wrapped around")
        return stretched * pow(_stretch(command_bits), -1, 256) % 256
    if (stretched % _stretch(bits)).any():
        raise UserError(
            f"{path}: expected codes of {bits} bits stretched to 0..255, multiples of {_stretch(bits)}, found others; "
            "it is damaged, or --assume quantize_bits says for what bits it was written"
        )
    if bits < 16:
        return stretched // _stretch(bits)
    notes.append(f"{path.name}: of 16-bit codes the upper 8 bits are there; the middle of what they may mean")
    return stretched * 257 + 128


def _stretch(bits: int) -> int:
    """The factor from a code to its byte. Of 16 bits the ancestor kept the upper 8: 1."""
    return 255 // (2 ** min(bits, 8) - 1)


def _ancestor_weights(network: np.ndarray, info: NetworkInfo, path: Path) -> list[np.ndarray]:
    """The matrices [out, in] of a network, without the inputs of features that are in no file: those are 0.

    Raises: UserError when its length fits no number of inputs.
    """
    inputs = bare_inputs(len(network), info)
    if inputs is None or info.padded_outputs < CHANNELS:
        raise UserError(
            f"{path}: its {len(network)} weights do not fit the grids and layers in info, or it has fewer than "
            f"{CHANNELS} outputs; it is damaged or of another form"
        )
    if max(inputs, info.n_neurons) > MOST_NEURONS:
        raise UserError(f"{path}: expected layers of at most {MOST_NEURONS} neurons, found {inputs} inputs; refused")
    first_matrix, *others = split_weights(network, info.layer_sizes(inputs))
    first, missing = 2 * info.n_frequencies, []
    for grid in info.grids:
        missing += range(first + CHANNELS_HELD, first + grid.features)
        first += grid.features
    return [np.delete(first_matrix, missing, axis=1), *others]


def bare_inputs(n_weights: int, info: NetworkInfo) -> int | None:
    """Inputs of the first layer, which follow from the number of weights; None when those do not fit the layers or are
    too few for the grids."""
    inputs = info.inputs_of(n_weights)
    return None if inputs is None or inputs < least_inputs(info) else inputs


def least_inputs(info: NetworkInfo) -> int:
    """Inputs that the grids and the waves need, and the LOD."""
    return 2 * info.n_frequencies + sum(grid.features for grid in info.grids) + 1


# --- images --------------------------------------------------------------------------------------------------------


def decode_tensor(texture: FileTexture, lod: int, width: int, height: int, *, rows: slice) -> DecodedRows:
    """numpy_decoder.decode as a decoded_maps.Decode."""
    return torch.from_numpy(decode(texture, lod, width, height, rows))


def save_bare_images(folder: Path, bare: BareTexture) -> tuple[list[Path], list[str]]:
    """Write one PNG per map and LOD. Returns: their paths, and notes on what they show."""
    make_folder(folder)
    paths, notes = [], []
    for lod in range(bare.lods):
        maps = decode_maps(bare.texture, bare.material, lod, decode_tensor)
        paths += save_map_images(folder, maps, lod, bare.material)
        if lod == 0:
            empty = [name for name, image in maps.items() if not image.any()]
            if empty:
                notes.append(f"0 at every texel, so probably no map of the material: {', '.join(empty)}")
    width, height = bare.material.lod_size(0)
    large = (decode(bare.texture, 0, width, height, slice(0, max(height // 8, 1))) > TOO_LARGE).mean()
    if large > TOO_MANY and bare.texture.output_activation in ("none", "leaky_relu"):
        share = f"{large:.0%} of the values are above {TOO_LARGE}"
        notes.append(f"{share}, too many for maps: perhaps --assume output=hard_swish")
    return paths, notes


def decode_bare_files(folder: Path, out_dir: Path, assume: str, max_pixels: int, say: Say = print) -> None:
    """Write the images of files without a manifest to `out_dir`, and tell what had to be assumed for them.

    Args:
        assume: what is known of the files, see parse_assumptions.
        max_pixels: texels of the largest material to decode.
    """
    bare = read_bare_files(folder, parse_assumptions(assume), max_pixels)
    say("assumed, since the files do not say (--assume changes it):")
    for line in bare.assumed:
        say(f"  {one_line(line)}")
    paths, notes = save_bare_images(out_dir, bare)
    for line in [f"{len(paths)} images in {out_dir}", *notes]:
        say(line)
