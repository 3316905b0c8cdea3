"""The layouts of codes in DDS files: packed words, or a channel for each feature (design.md, sections 5 and 6).

packed      a texel's codes one after the other, most significant first, as the bytes of a word: the fewest bytes,
            but a shader has to unpack before it filters.
filterable  an 8-bit channel for each feature, four features a file. Code c of b bits is stored as c * 255 / (2^b - 1),
            a whole number for 1, 2, 4 and 8 bits, so a sampler reads t = c / (2^b - 1).
bgra4       the same with 4-bit channels: B4G4R4A4_UNORM, code c is stored as c. For grids of 4-bit features.
rgba8       packed, with words of 8 and 16 bits widened to R8G8B8A8, for engines that load R8 or R8G8 as grey and alpha.
            The bytes of the word come first, the others are 255.

In filterable and bgra4 the feature is scale * t + offset (see unorm_to_feature): an affine map, so it can be applied
after the filter.

Grids of blocks look the same in every layout: one texture, of ASTC in a KTX2 file, see block_textures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from common.errors import UserError
from configs import LAYOUTS, WORD_LAYOUTS
from formats.dds import BLOCK_FORMATS, DXGI_FORMATS, FORMAT_NAMES, Texture
from shape import GridSpec

if TYPE_CHECKING:
    from model import NeuralTexture

PLANE_CHANNELS = 4  # of a texel that one DDS file holds
BC1 = 71  # DXGI_FORMAT_BC1_UNORM, never the _SRGB one
ASTC_FORMATS = {"astc6x6": "ASTC_6x6_UNORM"}  # which DXGI has no number for; never the sRGB one
CODE_CHUNK = 1 << 18  # texels of a grid that are packed or unpacked at a time


def layout_problem(grids: Sequence[GridSpec], layout: str) -> str | None:
    """Why grids cannot be stored in a layout, as "expected ..., found ..."; None where they can."""
    for index, grid in enumerate(grids):
        if grid.compressed:
            continue
        found = f"found {grid.quantize_bits}-bit ones in grid {index}"
        if layout == "bgra4" and grid.quantize_bits != 4:
            return f"expected 4-bit features, which its channels have, {found}"
        if layout == "filterable" and grid.quantize_bits > 8:
            return f"expected features of at most 8 bits, {found}"
    return None


def check_layout(grids: Sequence[GridSpec], layout: str) -> None:
    """Raise UserError when a grid cannot be stored in the layout that the user chose."""
    problem = layout_problem(grids, layout)
    if problem:
        others = [name for name in LAYOUTS if layout_problem(grids, name) is None]
        raise UserError(f"--dds_layout {layout}: {problem}; use {' or '.join(others)}")


def channel_bits(layout: str) -> int:
    """Bits of one channel of its DDS files."""
    return 4 if layout == "bgra4" else 8


def grid_channels(grid: GridSpec, layout: str) -> int:
    """Channels of a texel, of all files of a packed grid together."""
    if layout in WORD_LAYOUTS:
        return max(grid.save_bits // 8, PLANE_CHANNELS if layout == "rgba8" else 1)
    if layout == "filterable":
        return grid.features
    return grid.features + -grid.features % PLANE_CHANNELS  # the format has four


def stored_bits(grid: GridSpec, layout: str) -> float:
    """Bits of a texel in its files."""
    if grid.compressed:
        return grid.bits_per_texel
    return grid_channels(grid, layout) * channel_bits(layout)


def texture_suffix(storage: str) -> str:
    """Of the files of a grid with this storage."""
    return ".ktx2" if storage in ASTC_FORMATS else ".dds"


def grid_file_names(index: int, grid: GridSpec, layout: str = "packed") -> list[str]:
    """The DDS files of one grid; with a channel per feature they are named after their first and last feature."""
    if grid.compressed:
        return [f"hash_grid_{index}{texture_suffix(grid.storage)}"]
    firsts = range(0, grid_channels(grid, layout), PLANE_CHANNELS)
    if layout in WORD_LAYOUTS:
        return [f"hash_grid_{index}{f'_p{plane}' if plane else ''}.dds" for plane in range(len(firsts))]
    kind = "features" if layout == "filterable" else layout
    lasts = [min(first + PLANE_CHANNELS, grid.features) - 1 for first in firsts]
    return [f"hash_grid_{index}_{kind}_{first}_{last}.dds" for first, last in zip(firsts, lasts)]


def grid_format(grid: GridSpec, layout: str) -> str:
    """The DXGI name of its DDS files' format; one for all, since a texel has 1, 2 or a multiple of 4 channels."""
    if grid.compressed:
        return ASTC_FORMATS.get(grid.storage, BLOCK_FORMATS[BC1][0])
    return FORMAT_NAMES[DXGI_FORMATS[min(grid_channels(grid, layout), PLANE_CHANNELS), channel_bits(layout)]]


def has_channels(grid: GridSpec, layout: str) -> bool:
    """Whether each of its features has a channel of its DDS files, and none has to be unpacked from words."""
    return grid.compressed or layout not in WORD_LAYOUTS


def unorm_to_feature(grid: GridSpec) -> dict[str, float]:
    """`scale` and `offset` of the feature scale * t + offset, t in [0, 1] as a sampler reads the feature's channel."""
    if grid.compressed:
        return {"scale": 1.0, "offset": -0.5}
    n = 1 << grid.quantize_bits
    return {"scale": (n - 1) / n, "offset": -(n - 1) / (2 * n)}


def texel_chunks(grid: GridSpec) -> Iterator[slice]:
    """All texels of a packed grid in slices: converting words, codes and features takes several copies of each."""
    for start in range(0, grid.n_texels, CODE_CHUNK):
        yield slice(start, min(start + CODE_CHUNK, grid.n_texels))


# --- codes and channels ----------------------------------------------------------------------------------------------


def _channels_from_codes(codes: np.ndarray, grid: GridSpec, layout: str) -> np.ndarray:
    """(T, features) codes -> (T, grid_channels) uint8."""
    if layout in WORD_LAYOUTS:
        from quantize import pack_codes

        words = pack_codes(codes, grid.quantize_bits, grid.save_bits)
        missing = grid_channels(grid, layout) - words.shape[1]
        return np.pad(words, [(0, 0), (0, missing)], constant_values=255)
    if layout == "filterable":
        return (codes * _step(grid)).astype(np.uint8)
    return np.pad(codes.astype(np.uint8), [(0, 0), (0, -grid.features % PLANE_CHANNELS)])


def _codes_from_channels(channels: np.ndarray, grid: GridSpec, layout: str) -> np.ndarray:
    """The inverse: (T, features) uint16. Raises: ValueError for channels that no code makes."""
    if layout in WORD_LAYOUTS:
        from quantize import unpack_codes

        return unpack_codes(channels[:, : grid.save_bits // 8], grid.quantize_bits, grid.save_bits)
    values = channels[:, : grid.features].astype(np.uint16)
    if layout == "filterable":
        values, rest = np.divmod(values, np.uint16(_step(grid)))
        if rest.any():
            raise ValueError(f"channels that no {grid.quantize_bits}-bit code makes")
    return values


def _step(grid: GridSpec) -> int:
    """The difference between the 8-bit values of neighbouring codes."""
    return 255 // ((1 << grid.quantize_bits) - 1)


# --- textures --------------------------------------------------------------------------------------------------------


def grid_textures(model: NeuralTexture, index: int, layout: str = "packed") -> list[Texture]:
    """The codes of one packed grid as textures of its trained levels, one per file; mip 0 is the finest level."""
    grid = model.grids[index]
    channels = np.empty((grid.n_texels, grid_channels(grid, layout)), np.uint8)
    for texels in texel_chunks(grid):
        channels[texels] = _channels_from_codes(model.codes(index, texels).numpy(), grid, layout)
    planes: list[list[np.ndarray]] = [[] for _ in grid_file_names(index, grid, layout)]
    for level in reversed(range(grid.n_levels)):
        width, height = grid.level_size(level)
        start = grid.level_offset(level)
        image = channels[start : start + width * height].reshape(height, width, -1)
        for plane, levels in enumerate(planes):
            levels.append(image[:, :, plane * PLANE_CHANNELS : (plane + 1) * PLANE_CHANNELS])
    return [Texture(tuple(levels), channel_bits(layout)) for levels in planes]


def full_chain(texture: Texture) -> Texture:
    """The texture with all mips down to 1x1, see GridSpec.mip_sizes.

    A mip that is added has every other texel of the one before. No decoder reads it.
    """
    levels = list(texture.levels)
    while len(levels) > 1 and max(levels[-1].shape[:2]) > 1:
        rows, columns = (slice(0, side // 2 * 2 or 1, 2) for side in levels[-1].shape[:2])
        levels.append(levels[-1][rows, columns])
    return Texture(tuple(levels), texture.bits)


def codes_from_textures(
    grid: GridSpec, textures: Sequence[Texture], names: Sequence[str], layout: str = "packed"
) -> np.ndarray:
    """The inverse of grid_textures: (n_texels, features) codes, level after level. Mips after the trained ones are
    ignored; files of earlier versions end with the trained ones.

    Raises: UserError when a texture does not have the grid's size, levels or channels, or holds what is no code.
    """
    total = grid_channels(grid, layout)
    for texture, name in zip(textures, names):
        found = texture.levels[0].shape + (len(texture.levels),)
        expected = (*grid.size[::-1], min(total, PLANE_CHANNELS), len(grid.mip_sizes))
        if found not in (expected, (*expected[:3], grid.n_levels)):
            raise UserError(
                f"{name}: expected (height, width, channels, mips) {expected} as the network file says, found {found}"
            )
        bits = channel_bits(layout)
        if texture.bits != bits:
            raise UserError(f"{name}: expected {bits} bits a channel, as the layout {layout} has, found {texture.bits}")
    codes = np.empty((grid.n_texels, grid.features), np.uint16)
    for level in range(grid.n_levels):
        mip, start, count = grid.n_levels - 1 - level, grid.level_offset(level), math.prod(grid.level_size(level))
        image = np.concatenate([texture.levels[mip] for texture in textures], axis=2).reshape(count, total)
        try:
            codes[start : start + count] = _codes_from_channels(image, grid, layout)
        except ValueError as error:
            raise UserError(f"{names[0]}: mip {mip} holds {error}; the file is damaged, export again") from error
    return codes
