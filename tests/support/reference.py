"""A second decoder, written from design.md alone: numpy float64 and plain loops, no import from the toolkit.

It starts from what an engine gets (DDS files and network_data.npz), or from arrays, and takes its time. `forward` works
on whole arrays so that it is quick enough for finite differences; `decode_point` says the same with scalars and loops.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.support.reference_blocks import BLOCKS, astc_levels, rounded_block, rounding_steps

# --- codes and words -------------------------------------------------------------------------------------------------


def feature_of(code: int, bits: int) -> float:
    """c/N - (N-1)/(2N)."""
    n = 2**bits
    return code / n - (n - 1) / (2 * n)


def code_of(feature: float, bits: int) -> int:
    """The code whose feature is nearest; halves go up. By search, not by formula."""
    n = 2**bits
    if math.isnan(feature):
        return 0
    best = 0
    for code in range(n):
        if abs(feature_of(code, bits) - feature) <= abs(feature_of(best, bits) - feature):
            best = code
    return best


def rounded(features: np.ndarray, bits: int) -> np.ndarray:
    """float32 features of any shape -> the nearest features that have a code, float64."""
    n = 2**bits
    codes = np.clip(np.floor(features.astype(np.float32) * np.float32(n) + np.float32(n // 2)), 0, n - 1)
    return codes.astype(np.float64) / n - (n - 1) / (2 * n)


def pack_word(codes, quantize_bits: int, save_bits: int) -> bytes:
    """One texel: its codes as a string of 0 and 1, the first code and each code's top bit first."""
    text = "".join(format(int(code), f"0{quantize_bits}b") for code in codes)
    assert len(text) == save_bits
    return bytes(int(text[i : i + 8], 2) for i in range(0, save_bits, 8))


def unpack_word(word: bytes, quantize_bits: int) -> list[int]:
    text = "".join(format(int(byte), "08b") for byte in word)
    return [int(text[i : i + quantize_bits], 2) for i in range(0, len(text), quantize_bits)]


# --- random numbers --------------------------------------------------------------------------------------------------


def lowbias32(x: int) -> int:
    """C. Wellons, "Prospecting for Hash Functions" (2018): the 32-bit mixer with bias 0.17."""
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ (x >> 16)


def hash_uniform(index: int, key: int) -> float:
    """The top 24 of 32 bits of the hash of (index, key), as a fraction."""
    return (lowbias32((index * 0x9E3779B1 % 2**32) ^ (key % 2**32)) >> 8) / 2**24


def stream_key(seed: int, iteration: int, stream: int) -> int:
    """Signed 32 bits."""
    key = seed % 2**32
    for word in (iteration, stream):
        key = lowbias32(key ^ ((word * 0x9E3779B9 + 0x7F4A7C15) % 2**32))
    return key - 2**32 if key >= 2**31 else key


# --- files -----------------------------------------------------------------------------------------------------------


def parse_dds(payload: bytes) -> dict:
    """Every field of the DDS and DX10 headers under Microsoft's names, and the levels as (H, W, C) uint8.

    B4G4R4A4 texels are also left as they are: `words`, (H, W) uint16 per level. Levels of BC1 are (H, W, 3) float64 in
    0..255, with exact thirds.
    """

    def dword(offset: int) -> int:
        return struct.unpack_from("<I", payload, offset)[0]

    assert payload[:4] == b"DDS "
    names = ("dwSize", "dwFlags", "dwHeight", "dwWidth", "dwPitchOrLinearSize", "dwDepth", "dwMipMapCount")
    header = {name: dword(4 + 4 * i) for i, name in enumerate(names)}
    header["dwReserved1"] = [dword(32 + 4 * i) for i in range(11)]
    names = ("ddspf.dwSize", "ddspf.dwFlags", "ddspf.dwFourCC", "ddspf.dwRGBBitCount")
    names += ("ddspf.dwRBitMask", "ddspf.dwGBitMask", "ddspf.dwBBitMask", "ddspf.dwABitMask")
    names += ("dwCaps", "dwCaps2", "dwCaps3", "dwCaps4", "dwReserved2")
    names += ("dxgiFormat", "resourceDimension", "miscFlag", "arraySize", "miscFlags2")
    header.update({name: dword(76 + 4 * i) for i, name in enumerate(names)})
    width, height, position, levels, words = header["dwWidth"], header["dwHeight"], 148, [], []
    for _ in range(header["dwMipMapCount"] if header["dxgiFormat"] == 71 else 0):
        size = 8 * math.ceil(width / 4) * math.ceil(height / 4)
        levels.append(bc1_level(payload[position : position + size], width, height))
        position += size
        width, height = max(1, width // 2), max(1, height // 2)
    texel_bytes = {28: 4, 49: 2, 61: 1, 115: 2, 71: 0}[header["dxgiFormat"]]
    for _ in range(header["dwMipMapCount"] if texel_bytes else 0):
        stored = np.frombuffer(payload[position : position + width * height * texel_bytes], np.uint8)
        level = stored.reshape(height, width, texel_bytes)
        if header["dxgiFormat"] == 115:  # green and blue in the first byte, alpha and red in the second
            words.append(level[:, :, 0] + 256 * level[:, :, 1].astype(np.uint16))
            blue, green, red, alpha = (words[-1] // 16**k % 16 for k in range(4))
            level = np.stack([red, green, blue, alpha], axis=2).astype(np.uint8)
        levels.append(level)
        position += stored.size
        width, height = max(1, width // 2), max(1, height // 2)
    assert position == len(payload), "bytes are left over"
    return {**header, "levels": levels, **({"words": words} if words else {})}


def bc1_level(stored: bytes, width: int, height: int) -> np.ndarray:
    """Blocks of four colours, row by row, as (H, W, 3) float64 in 0..255; Khronos Data Format 1.3, 18.1."""
    image = np.empty((height, width, 3))
    for y in range(height):
        for x in range(width):
            number = y // 4 * math.ceil(width / 4) + x // 4
            word0, word1, indices = struct.unpack_from("<HHI", stored, 8 * number)
            assert word0 > word1 or (word0 == word1 and indices == 0), "three colours"
            colours = []
            for word in (word0, word1):
                bits = f"{word:016b}"
                colours.append(np.array([int((part * 2)[:8], 2) for part in (bits[:5], bits[5:11], bits[11:])]))
            a, b = colours
            index = indices >> 2 * (y % 4 * 4 + x % 4) & 3
            image[y, x] = [a, b, (2 * a + b) / 3, (a + 2 * b) / 3][index]
    return image


def parse_npz(payload: bytes) -> dict[str, np.ndarray]:
    """The vectors of an npz file, from the .npy format's specification (numpy NEP 1), version 1.0, little-endian."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        for member in archive.namelist():
            data = archive.read(member)
            assert data[:8] == b"\x93NUMPY\x01\x00"
            (length,) = struct.unpack_from("<H", data, 8)
            header = data[10 : 10 + length].decode("latin1")
            dtype = next(d for d in ("<i4", "<f4", "<f2", "|i1") if f"'{d}'" in header)
            arrays[member.removesuffix(".npy")] = np.frombuffer(data, dtype, offset=10 + length)
    return arrays


# --- texture ---------------------------------------------------------------------------------------------------------


@dataclass
class Grid:
    """levels[k]: (H, W, F) float64 features, the coarsest first; LODs below `finest_lods` read the last one."""

    levels: list[np.ndarray]
    interpolation: str = "linear"
    finest_lods: int = 1

    def image(self, lod: int) -> np.ndarray:
        mip = max(lod - (self.finest_lods - 1), 0)
        return self.levels[max(len(self.levels) - 1 - mip, 0)]


@dataclass
class Texture:
    grids: list[Grid]
    weights: list[np.ndarray]  # [out, in] float64
    num_lods: int
    n_frequencies: int
    n_texel_frequencies: int = 0
    activation: str = "leaky_relu"
    negative_slope: float = 0.01
    outputs: int = 11


def load_channels(folder: Path, g: int, features: int, quantize_bits: int, layout: str) -> list[np.ndarray]:
    """The levels of a grid with a channel for each feature, (H, W, features) float64, the finest first."""
    kind, top = {"filterable": ("features", 255), "bgra4": ("bgra4", 15)}[layout]
    planes = []
    for first in range(0, features, 4):
        name = f"hash_grid_{g}_{kind}_{first}_{min(first + 4, features) - 1}.dds"
        planes.append(parse_dds((folder / name).read_bytes())["levels"])
    n = 2**quantize_bits
    unorm = [np.concatenate(level, axis=2)[:, :, :features] / top for level in zip(*planes)]
    return [(t - 0.5) * (n - 1) / n for t in unorm]


def stored_network(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The weights of any width as float64, those of 8 bits without the scales of their rows."""
    names = [name for name in ("network", "network_half", "network_int8") if name in arrays]
    assert len(names) == 1 and (names == ["network_int8"]) == ("network_scales" in arrays)
    return arrays[names[0]].astype(np.float64)


def load_export(
    folder, num_lods: int, interpolations=None, n_texel_frequencies: int = 0, activation="leaky_relu", layout="packed"
) -> Texture:
    """A texture from hash_grid_*.dds and network_data.npz, and what those do not say."""
    folder = Path(folder)
    arrays = parse_npz((folder / "network_data.npz").read_bytes())
    info, network = [int(i) for i in arrays["info"]], stored_network(arrays)
    n_grids, at = info[0], 1
    grids = []
    for g in range(n_grids):
        base, n_levels, features, quantize_bits, save_bits = info[at : at + 5]
        at += 5
        interpolation = interpolations[g] if interpolations else "linear"
        if (features, quantize_bits) == (3, 0):
            if save_bits == 6:
                images = astc_levels((folder / f"hash_grid_{g}.ktx2").read_bytes())
            else:
                images = parse_dds((folder / f"hash_grid_{g}.dds").read_bytes())["levels"]
            levels = [level / 255 - 0.5 for level in images[:n_levels][::-1]]
            assert [level.shape[1] for level in levels] == [base * 2**k for k in range(n_levels)]
            grids.append(Grid(levels, interpolation))
            continue
        if layout not in ("packed", "rgba8"):
            levels = load_channels(folder, g, features, quantize_bits, layout)[:n_levels][::-1]
            grids.append(Grid(levels, interpolation))
            continue
        planes = [parse_dds((folder / f"hash_grid_{g}.dds").read_bytes())["levels"]]
        if save_bits == 64:
            planes.append(parse_dds((folder / f"hash_grid_{g}_p1.dds").read_bytes())["levels"])
        levels = []
        for k in range(n_levels):
            width, height = base * 2**k, len(planes[0][0]) // 2 ** (n_levels - 1 - k)
            image = np.empty((height, width, features))
            for y in range(height):
                for x in range(width):
                    word = b"".join(plane[n_levels - 1 - k][y, x].tobytes() for plane in planes)[: save_bits // 8]
                    codes = unpack_word(word, quantize_bits)
                    image[y, x] = [feature_of(code, quantize_bits) for code in codes]
            levels.append(image)
        grids.append(Grid(levels, interpolation))
    n_frequencies, n_neurons, n_hidden_layers, n_outputs = info[at:]
    inputs = 2 * n_frequencies + 1
    inputs += sum(g.levels[0].shape[2] * (4 if g.interpolation == "learned" else 1) for g in grids)
    inputs = math.ceil(inputs / 16) * 16 + math.ceil(2 * n_texel_frequencies / 16) * 16
    weights, at = [], 0
    for outputs in [n_neurons] * n_hidden_layers + [n_outputs]:
        weights.append(network[at : at + outputs * inputs].reshape(outputs, inputs))
        if "network_scales" in arrays:
            rows = sum(len(matrix) for matrix in weights)
            weights[-1] = weights[-1] * arrays["network_scales"][rows - outputs : rows, None].astype(np.float64)
        at += outputs * inputs
        inputs = outputs
    assert at == len(network), "weights are left over"
    return Texture(grids, weights, num_lods, n_frequencies, n_texel_frequencies, activation)


def level_sizes(grid) -> list[tuple[int, int]]:
    """(width, height) of the levels of a GridSpec, the coarsest first."""
    side = grid.max_resolution
    width, height = (side, side) if isinstance(side, int) else side
    return [(width // 2**k, height // 2**k) for k in reversed(range(grid.n_levels))]


def split_levels(flat: np.ndarray, sizes: list[tuple[int, int]], features: int) -> list[np.ndarray]:
    """A grid's flat parameters, level after level, row by row, features last, as images."""
    levels, at = [], 0
    for width, height in sizes:
        levels.append(flat[at : at + width * height * features].reshape(height, width, features))
        at += width * height * features
    assert at == len(flat), "parameters are left over"
    return levels


def block_levels(units: np.ndarray, grid) -> list[np.ndarray]:
    """Blocks as of rounded_block, level after level, row by row -> features of the levels of a GridSpec, (H, W, 3)."""
    levels, at, side = [], 0, BLOCKS[grid.storage][0]
    for width, height in level_sizes(grid):
        across = math.ceil(width / side)
        image = np.empty((height, width, 3))
        for y in range(height):
            for x in range(width):
                block = units[at + y // side * across + x // side]
                place = block[6 + y % side * side + x % side]
                image[y, x] = (1 - place) * block[:3] + place * block[3:6] - 0.5
        levels.append(image)
        at += across * math.ceil(height / side)
    assert at == len(units), "blocks are left over"
    return levels


def of_blocks(grid, flat: np.ndarray, noise, key: int, quantized: bool) -> np.ndarray:
    """(blocks, 6 + texels) end points and places of a grid's flat parameters."""
    steps = rounding_steps(grid.storage)
    if noise is not None and quantized:
        random = np.array([hash_uniform(i, key) for i in range(len(flat))], np.float32)
        strength = np.tile(steps, len(flat) // len(steps)) * np.float32(noise.strength)
        flat = flat + (random - np.float32(0.5)) * strength
    units = flat.reshape(-1, len(steps))
    if not quantized:
        return units.astype(np.float64) + 0.5
    return np.array([rounded_block(grid.storage, unit) for unit in units])


def of_model(model, noise=None) -> Texture:
    """A texture from a NeuralTexture's flat parameters as they are now, with training noise when given."""
    grids = []
    for index, grid in enumerate(model.grids):
        flat = model.grid_parameters[index].detach().cpu().numpy()
        if grid.storage in BLOCKS:
            units = of_blocks(grid, flat, noise, noise.keys[index] if noise else 0, model.quantized)
            grids.append(Grid(block_levels(units, grid), grid.interpolation, grid.finest_lods))
            continue
        if noise is not None and model.quantized:
            random = np.array([hash_uniform(i, noise.keys[index]) for i in range(len(flat))], np.float32)
            flat = flat + (random - np.float32(0.5)) * np.float32(noise.strength / 2**grid.quantize_bits)
        flat = rounded(flat, grid.quantize_bits) if model.quantized else flat.astype(np.float64)
        features = grid.save_bits // grid.quantize_bits
        levels = split_levels(flat, level_sizes(grid), features)
        grids.append(Grid(levels, grid.interpolation, grid.finest_lods))
    weights = [weight.detach().cpu().double().numpy() for weight in model.weights]
    decoder = model.decoder
    shape = (decoder.n_frequencies, decoder.n_texel_frequencies, decoder.activation, decoder.negative_slope)
    return Texture(grids, weights, model.num_lods, *shape, model.decoder.outputs)


# --- whole arrays ----------------------------------------------------------------------------------------------------


def waves(coordinate: np.ndarray, count: int) -> np.ndarray:
    """(n,) -> (n, count)."""
    columns = []
    for i in range(count):
        x = coordinate * 2.0 ** (i - 1) + 0.25 * i
        columns.append(4 * np.abs(x - np.floor(x) - 0.5) - 1)
    return np.stack(columns, axis=1) if columns else np.empty((len(coordinate), 0))


def sample(image: np.ndarray, interpolation: str, uv: np.ndarray) -> np.ndarray:
    """One level at uv: blended, or the four texels side by side."""
    height, width = image.shape[:2]
    p = uv * (width, height) - 0.5
    x0, y0 = np.floor(p).astype(int).T
    fx, fy = (p - np.floor(p)).T[:, :, None]
    texels = [image[(y0 + dy) % height, (x0 + dx) % width] for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1))]
    if interpolation == "learned":
        return np.concatenate(texels, axis=1)
    above, below = texels[0] * (1 - fx) + texels[1] * fx, texels[2] * (1 - fx) + texels[3] * fx
    return above * (1 - fy) + below * fy


def decoder_inputs(texture: Texture, uv: np.ndarray, level_lod: np.ndarray, lod: np.ndarray) -> np.ndarray:
    uv = uv - np.floor(uv)
    n = len(uv)
    columns = [waves(uv[:, 0], texture.n_frequencies), waves(uv[:, 1], texture.n_frequencies)]
    for grid in texture.grids:
        width = grid.levels[0].shape[2] * (4 if grid.interpolation == "learned" else 1)
        features = np.empty((n, width))
        for l in range(texture.num_lods):
            chosen = level_lod == l
            if chosen.any():
                image = grid.image(l)
                features[chosen] = sample(image, grid.interpolation, uv[chosen])
        columns.append(features)
    columns.append((lod / max(texture.num_lods - 1, 1))[:, None])
    count = sum(column.shape[1] for column in columns)
    columns.append(np.ones((n, -count % 16)))
    if texture.n_texel_frequencies:  # the position inside 1, 2, 4, ... texels of the level of grid 0 that is read
        size = np.array([texture.grids[0].image(l).shape[1::-1] for l in level_lod])
        for axis in (0, 1):
            position = uv[:, axis] * size[:, axis] - 0.5
            for i in range(texture.n_texel_frequencies):
                columns.append((np.mod(position, 2**i) / 2 ** (i - 1) - 1)[:, None])
        columns.append(np.ones((n, -2 * texture.n_texel_frequencies % 16)))
    return np.concatenate(columns, axis=1)


def network(texture: Texture, inputs: np.ndarray) -> np.ndarray:
    for weight in texture.weights[:-1]:
        inputs = inputs @ weight.T
        if texture.activation == "hard_swish":
            inputs = inputs * np.clip(inputs + 3, 0, 6) / 6
        else:
            inputs = np.where(inputs > 0, inputs, texture.negative_slope * inputs)
    return (inputs @ texture.weights[-1].T)[:, : texture.outputs]


def forward(texture: Texture, uv, lod) -> np.ndarray:
    """(n, 2) and (n,) -> (n, channels), all float64."""
    uv, lod = np.asarray(uv, np.float64), np.asarray(lod, np.float64)
    near = np.floor(lod).astype(int)
    far = np.minimum(near + 1, texture.num_lods - 1)
    blend = (lod - near)[:, None]
    if any(grid.interpolation == "learned" for grid in texture.grids):
        one = network(texture, decoder_inputs(texture, uv, near, near))
        other = network(texture, decoder_inputs(texture, uv, far, far))
        return one * (1 - blend) + other * blend
    one, other = decoder_inputs(texture, uv, near, lod), decoder_inputs(texture, uv, far, lod)
    return network(texture, one * (1 - blend) + other * blend)


def decode(texture: Texture, lod: int, width: int, height: int) -> np.ndarray:
    """(height, width, channels) at texel centres. The positions are rounded to float32, as a decoder gets them."""
    y, x = np.mgrid[:height, :width]
    uv = np.stack([(x.ravel() + 0.5) / width, (y.ravel() + 0.5) / height], axis=1).astype(np.float32)
    return forward(texture, uv, np.full(len(uv), lod)).reshape(height, width, texture.outputs)


# --- scalars and loops -----------------------------------------------------------------------------------------------


def wave(coordinate: float, i: int) -> float:
    x = coordinate * 2 ** (i - 1) + 0.25 * i
    return 4 * abs(x - math.floor(x) - 0.5) - 1


def point_inputs(texture: Texture, u: float, v: float, level_lod: int, lod: float) -> list[float]:
    u, v = u - math.floor(u), v - math.floor(v)
    values = [wave(u, i) for i in range(texture.n_frequencies)] + [wave(v, i) for i in range(texture.n_frequencies)]
    for grid in texture.grids:
        image = grid.image(level_lod)
        height, width = image.shape[:2]
        px, py = u * width - 0.5, v * height - 0.5
        x0, y0 = math.floor(px), math.floor(py)
        fx, fy = px - x0, py - y0
        four = [
            (image[y0 % height][x0 % width], (1 - fx) * (1 - fy)),
            (image[y0 % height][(x0 + 1) % width], fx * (1 - fy)),
            (image[(y0 + 1) % height][x0 % width], (1 - fx) * fy),
            (image[(y0 + 1) % height][(x0 + 1) % width], fx * fy),
        ]
        if grid.interpolation == "learned":
            values += [float(f) for texel, _ in four for f in texel]
        else:
            values += [sum(float(texel[f]) * w for texel, w in four) for f in range(len(four[0][0]))]
    values.append(lod / (texture.num_lods - 1) if texture.num_lods > 1 else lod)
    while len(values) % 16:
        values.append(1.0)
    if texture.n_texel_frequencies:
        height, width = texture.grids[0].image(level_lod).shape[:2]
        for position in (u * width - 0.5, v * height - 0.5):
            for i in range(texture.n_texel_frequencies):
                inside = (position % 2**i) / 2**i
                values.append(2 * inside - 1)
        while len(values) % 16:
            values.append(1.0)
    return values


def point_activation(texture: Texture, x: float) -> float:
    if texture.activation == "hard_swish":
        return 0.0 if x <= -3 else x if x >= 3 else x * (x + 3) / 6
    return x if x > 0 else texture.negative_slope * x


def point_network(texture: Texture, values: list[float]) -> list[float]:
    for index, weight in enumerate(texture.weights):
        sums = [sum(float(w) * x for w, x in zip(row, values)) for row in weight]
        last = index == len(texture.weights) - 1
        values = sums if last else [point_activation(texture, s) for s in sums]
    return values[: texture.outputs]


def decode_point(texture: Texture, u: float, v: float, lod: float) -> list[float]:
    """The values at one position."""
    near = math.floor(lod)
    far = min(near + 1, texture.num_lods - 1)
    t = lod - near
    if any(grid.interpolation == "learned" for grid in texture.grids):
        one = point_network(texture, point_inputs(texture, u, v, near, near))
        other = point_network(texture, point_inputs(texture, u, v, far, far))
        return [a + t * (b - a) for a, b in zip(one, other)]
    one, other = point_inputs(texture, u, v, near, lod), point_inputs(texture, u, v, far, lod)
    return point_network(texture, [a + t * (b - a) for a, b in zip(one, other)])
