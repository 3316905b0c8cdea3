"""Decoding files without a manifest: the ancestor project's, or ours when the manifest is lost.

What the files do not say is assumed, told, and can be given with --assume. The ancestor's layout, in all its versions
that wrote these files: one R8G8B8A8 texture per grid with its finest level alone, a feature per channel, a code of b
bits stretched to 0..255 (times 255/(2^b - 1)); features past the fourth and coarser levels are in no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from common.errors import Say, UserError, one_line
from common.files import make_folder
from configs import MAX_PIXELS
from describe.numpy_decoder import (
    OUTPUT_ACTIVATIONS,
    SAMPLINGS,
    FileTexture,
    decode,
    features_of,
    read_texture,
)
from formats.dds import MAX_SIZE, DdsInfo, read_dds_info
from formats.manifest import MANIFEST, NETWORK
from formats.network_file import GridInfo, NetworkInfo, parse_any_info, read_network, split_weights
from maps.channels import CHANNELS as OUTPUTS
from maps.channels import MAPS
from maps.record import MapRecord, MaterialRecord
from metrics.decoded_maps import decode_maps, save_map_images
from quantize import QUANTIZE_BITS
from shape import DecoderSpec

MOST_NEURONS = 4096
CHANNELS_HELD = 4  # features that a texel of the ancestor's textures has room for
LOUD, LOUD_SHARE = 1.1, 0.01  # values above it are rare in a decoded map, unless an output activation is missing
WORDS, CHANNELS = "words", "channels"


@dataclass(frozen=True)
class Assumptions:
    """What --assume can say; None and 0: not said."""

    size: tuple[int, int] | None = None  # of the material, texels
    sampling: str | None = None
    output: str | None = None
    quantize_bits: int = 0  # that the ancestor's trainer was started with, where a grid's own are others


@dataclass
class BareTexture:
    """A texture, and what a manifest would add."""

    texture: FileTexture
    material: MaterialRecord
    lods: int  # how many can be decoded
    assumed: list[str] = field(default_factory=list)  # lines for people


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
        elif key in ("sampling", "output"):
            choices = SAMPLINGS if key == "sampling" else OUTPUT_ACTIVATIONS
            if value not in choices:
                raise UserError(f"--assume {key}: expected one of {', '.join(choices)}, got {value!r:.40}")
            found = replace(found, **{key: value})
        elif key == "quantize_bits":
            if value not in ("1", "2", "4", "8"):
                raise UserError(f"--assume quantize_bits: expected 1, 2, 4 or 8, got {value!r:.40}")
            found = replace(found, quantize_bits=int(value))
        else:
            expected = "size=WxH, sampling=, output=, quantize_bits="
            raise UserError(f"--assume: expected some of {expected}, separated by commas; got {part!r:.60}")
    return found


# --- layout --------------------------------------------------------------------------------------------------------


def layout_of(info: DdsInfo, grid: GridInfo) -> str:
    """WORDS, ours, or CHANNELS, the ancestor's: what a texture of a grid holds, told from its header."""
    ours = info.mips > 1 or (grid.n_levels == 1 and info.counts_mips)  # the ancestor's headers do not count
    return WORDS if ours else CHANNELS


def _stretch(bits: int) -> int:
    """What the ancestor multiplied a code with. Of 16 bits it kept the upper 8: 1."""
    return 255 // (2 ** min(bits, 8) - 1)


def read_texels(path: Path, info: DdsInfo) -> np.ndarray:
    """(H, W, 4) uint8 of a DDS with one level of R8G8B8A8, with or without a DX10 header.

    Raises: UserError when it is something else, or has other bytes than its header asks for.
    """
    if info.format != "R8G8B8A8_UNORM" or info.mips != 1:
        raise UserError(
            f"{path}: expected one level of R8G8B8A8_UNORM without a manifest beside it, found {info.format}, "
            f"{info.mips} mips"
        )
    if info.bytes != info.expected_bytes:
        raise UserError(f"{path}: {info.bytes} bytes, its header asks for {info.expected_bytes}; it is damaged")
    texels = np.frombuffer(path.read_bytes(), np.uint8)[-info.width * info.height * 4 :]
    return texels.reshape(info.height, info.width, 4)


# --- reading -------------------------------------------------------------------------------------------------------


def read_bare_files(folder: Path, given: Assumptions, max_pixels: int = MAX_PIXELS) -> BareTexture:
    """The texture in a folder with network_data.npz and DDS files, but no manifest.

    Args:
        max_pixels: width x height of the largest material to decode.
    Raises: UserError when a file is missing, damaged, does not fit the others, or is in a form that needs a manifest.
    """
    path = folder / NETWORK
    numbers, network = read_network(path)
    info = parse_any_info(numbers, str(path))
    grids = info.grids
    layouts, infos = [], []
    for index, grid in enumerate(grids):
        name = folder / f"hash_grid_{index}.dds"
        infos.append(read_dds_info(name))
        layouts.append(layout_of(infos[-1], grid))
    finest = grids[0].max_resolution
    ancestor = CHANNELS in layouts
    size = given.size or ((finest, finest) if ancestor else (2 * finest, 2 * finest))
    if size[0] * size[1] > max_pixels:
        raise UserError(
            f"{path}: expected a material of at most {max_pixels} texels, found {size[0]} x {size[1]}; raise "
            "--max_pixels if that is right"
        )
    num_lods = max(size).bit_length()
    if not ancestor:
        return _ours(folder, info, given, size, num_lods)
    lines: list[str] = []
    levels = []
    for index, (grid, found, layout) in enumerate(zip(grids, infos, layouts)):
        name = folder / f"hash_grid_{index}.dds"
        if layout == WORDS:
            raise UserError(f"{name}: holds words, unlike the other grids; the files are of different exports")
        levels.append([_channel_features(name, found, grid, given.quantize_bits, lines)])
    weights = _ancestor_weights(network, info, path)
    sampling, output = given.sampling or "vertex", given.output or "leaky_relu"
    decoder = DecoderSpec(info.n_frequencies)
    texture = FileTexture(levels, weights, num_lods, decoder, sampling=sampling, output_activation=output)
    flat = all(grid.n_levels == 1 for grid in grids)
    lines += [
        _size_line(given, size, "as large as grid 0"),
        f"codes: {_code_listing(grids)}, stretched to 0..255, first feature in R",
        f"sampling {sampling}: {_SAMPLING_WORDS[sampling]}",
        f"output activation {output}{_OUTPUT_WORDS.get(output, '')}",
        "LeakyReLU of slope 0.01 between the layers; ones in the inputs that are left over",
        f"outputs in the order {', '.join(MAPS)}; diffuse is sRGB",
    ]
    if not flat:
        lines.append("LOD 0 alone is decoded: the levels that other LODs read are not in these files")
    return BareTexture(texture, _material(folder, size), num_lods if flat else 1, lines)


_OUTPUT_WORDS = {
    "leaky_relu": ", which differs from none below 0 alone, so in no image; later versions used hard_swish or hard_gelu"
}
_SAMPLING_WORDS = {
    "sampler": "as an engine does, at uv * R - 0.5, and repeating",
    "vertex": "as the first versions of its trainer, at uv * (R - 1) + 0.5, with uv on texel corners",
    "aligned": "as later versions of its trainer, at uv * R, not repeating",
}


def _ours(folder: Path, info: NetworkInfo, given: Assumptions, size: tuple[int, int], num_lods: int) -> BareTexture:
    texture = read_texture(folder, info.reference_form(num_lods))
    texture = replace(
        texture, sampling=given.sampling or texture.sampling, output_activation=given.output or "none"
    )
    lines = [
        _size_line(given, size, "twice grid 0"),
        "the reference form: linear interpolation, LeakyReLU of slope 0.01",
        "no constant channels (they decode to about 0), normals as decoded, diffuse is sRGB",
    ]
    return BareTexture(texture, _material(folder, size), num_lods, lines)


def _size_line(given: Assumptions, size: tuple[int, int], why: str) -> str:
    return f"size {size[0]} x {size[1]}" + ("" if given.size else f": {why}")


def _code_listing(grids: Sequence[GridInfo]) -> str:
    return ", ".join(f"{grid.quantize_bits} bits in grid {index}" for index, grid in enumerate(grids))


def _channel_features(
    path: Path, info: DdsInfo, grid: GridInfo, trained_bits: int, lines: list[str]
) -> np.ndarray:
    """(R, R, features) of a texture in the ancestor's layout; of features that it does not hold a line tells."""
    finest, bits, features = grid.max_resolution, grid.quantize_bits, grid.features
    if (info.width, info.height) != (finest, finest):
        found = f"{info.width} x {info.height}"
        raise UserError(f"{path}: expected {finest} x {finest} as the network file says, found {found}")
    if bits not in QUANTIZE_BITS:
        raise UserError(f"{path}: expected codes of 1, 2, 4, 8 or 16 bits, info says {bits}")
    texels = read_texels(path, info)
    if features != grid.save_bits // bits:
        raise UserError(
            f"{path}: expected {grid.save_bits // bits} features of {bits} bits in words of {grid.save_bits}, "
            f"info says {features}; {NETWORK} is damaged"
        )
    held = min(features, CHANNELS_HELD)
    texels = texels[..., :held]
    if trained_bits and trained_bits != bits and bits <= 8:
        # all grids were stretched for the bits of the command, and larger numbers wrapped around: undone modulo 256
        step = _stretch(trained_bits)
        codes = texels.astype(np.int64) * pow(step, -1, 256) % 256
        lines.append(f"{path.name}: bytes stretched for {trained_bits} bits, wrapped around")
    else:
        step = _stretch(bits)
        if (texels % step).any():
            raise UserError(
                f"{path}: expected codes of {bits} bits stretched to 0..255, multiples of {step}, found others; it is "
                "damaged, or --assume quantize_bits says for what bits it was written"
            )
        codes = texels.astype(np.int64) // step
        if bits == 16:
            codes = codes * 257 + 128
            lines.append(f"{path.name}: of 16-bit codes the upper 8 bits are there; the middle of what they may mean")
    if codes.size and codes.max() >= 1 << bits:
        raise UserError(f"{path}: codes of {codes.max()}, too large for {bits} bits; --assume quantize_bits is wrong")
    if features > held:
        lines.append(
            f"{path.name}: features {held} to {features - 1} of each texel are not in the file, taken as 0; "
            "the maps are wrong by what they held"
        )
    return features_of(codes, bits)


def _ancestor_weights(network: np.ndarray, info: NetworkInfo, path: Path) -> list[np.ndarray]:
    """The matrices of a network whose number of inputs follows from its length, without the inputs of features that no
    file has: those are 0. Raises: UserError when there are no such matrices."""
    inputs = bare_inputs(len(network), info)
    if inputs is None or info.padded_outputs < OUTPUTS:
        raise UserError(
            f"{path}: its {len(network)} weights do not fit the grids and layers in info, or it has fewer than "
            f"{OUTPUTS} outputs; it is damaged or of another form"
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
    """Inputs of a network with so many weights; None when they do not fit its layers or are too few for the grids."""
    (first_outputs, _), *others = info.layer_sizes(0)
    inputs, rest = divmod(n_weights - sum(outputs * ins for outputs, ins in others), first_outputs)
    return None if rest or inputs < least_inputs(info) else inputs


def least_inputs(info: NetworkInfo) -> int:
    """Waves, features and LOD."""
    return 2 * info.n_frequencies + sum(grid.features for grid in info.grids) + 1


def _material(folder: Path, size: tuple[int, int]) -> MaterialRecord:
    spaces = {name: "srgb" if name == "diffuse" else "linear" for name in MAPS}
    return MaterialRecord(folder.name, *size, tuple(MapRecord(name, space, space) for name, space in spaces.items()))


# --- images --------------------------------------------------------------------------------------------------------


def decode_tensor(texture: FileTexture, lod: int, width: int, height: int, *, rows: slice) -> torch.Tensor:
    """numpy_decoder.decode as decoded_maps wants it."""
    return torch.from_numpy(decode(texture, lod, width, height, rows))


def save_bare_images(folder: Path, bare: BareTexture) -> tuple[list[Path], list[str]]:
    """Write one PNG per map and LOD. Returns: their paths, and lines on what they show."""
    make_folder(folder)
    paths, notes = [], []
    for lod in range(bare.lods):
        maps = decode_maps(bare.texture, bare.material, lod, decode_tensor)
        paths += save_map_images(folder, maps, lod)
        if lod == 0:
            empty = [name for name, image in maps.items() if not image.any()]
            if empty:
                notes.append(f"0 at every texel, so probably no map of the material: {', '.join(empty)}")
    width, height = bare.material.lod_size(0)
    loud = (decode(bare.texture, 0, width, height, slice(0, max(height // 8, 1))) > LOUD).mean()
    if loud > LOUD_SHARE and bare.texture.output_activation in ("none", "leaky_relu"):
        notes.append(
            f"{loud:.0%} of the values are above {LOUD}, too many for maps: perhaps --assume output=hard_swish"
        )
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


def is_bare(folder: Path) -> bool:
    """Whether a folder has files to decode, but no manifest."""
    return (folder / NETWORK).is_file() and not (folder / MANIFEST).is_file()
