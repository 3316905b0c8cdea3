"""The decoder of one day as shader text: f2.slang in each language after a preamble of sizes, textures and weights."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional
from torchtyping import TensorType

from lightmap.data import Encoding
from lightmap.quantised import PLANE_CHANNELS, QuantisedLatent, plane_names
from lightmap.siren import DaySiren, Siren
from lightmap.translate_shader import GENERATED
from shaders.languages import LANGUAGES, WEIGHT_TEXTURE_WIDTH, Language, Weights, choose_lines, number_text

WeightColumns = TensorType["columns", 4]

BLOCK = 4  # rows of a matrix that one column serves
STEM = "lightmap_decoder"


@dataclass(frozen=True)
class Decoder:
    """The parts of a day that its decoder in a shader needs."""

    f2: Siren
    latent: QuantisedLatent
    harmonics: int
    encoding: Encoding

    @property
    def texture_names(self) -> dict[str, str]:
        """Name of a texture in the shader -> its DDS file, in the order of the bindings."""
        return {f"lmLatent{i}": name for i, name in enumerate(plane_names(self.latent.codes.shape[2]))}


def weight_columns(decoder: Decoder) -> WeightColumns:
    """The columns that f2.slang reads as weightColumn(index), float32: ranges of the latents, of a DaySiren
    what is linear in them, then layer by layer."""
    latent = decoder.latent
    pad = -latent.codes.shape[2] % PLANE_CHANNELS
    columns = [np.pad(values, (0, pad)).reshape(-1, BLOCK) for values in (latent.low, latent.span)]
    f2, layers = decoder.f2, list(zip(decoder.f2.weights, decoder.f2.biases))
    day = isinstance(f2, DaySiren)
    if day:
        columns.append(_frame_columns(f2.frames, f2.biases[-1][:, None], f2.basis))
    for index, (weight, bias) in enumerate(layers[: len(layers) - day]):
        # in float64, so that the products with omega are rounded once
        turns = float(f2.omega) / (2 * math.pi) if index < len(layers) - 1 else 1.0
        matrix = np.column_stack([value.detach().cpu().double().numpy() * turns for value in (bias, weight)])
        matrix = np.pad(matrix, [(0, -len(matrix) % BLOCK), (0, -weight.shape[1] % BLOCK if index else 0)])
        columns.append(matrix.reshape(-1, BLOCK, matrix.shape[1]).transpose(0, 2, 1).reshape(-1, BLOCK))
    if day:
        columns.append(_frame_columns(f2.frames, functional.pad(f2.weights[-1], (0, -f2.sizes[-2] % BLOCK))))
    return np.concatenate(columns).astype(np.float32)


def _frame_columns(frames: int, *rows: torch.Tensor) -> WeightColumns:
    """Matrices of (frames * 3, n) side by side -> for each frame and each column of them, RGB and a 0."""
    values = torch.cat(rows, dim=1).detach().cpu().view(frames, 3, -1).permute(0, 2, 1).reshape(-1, 3)
    return functional.pad(values, (0, 1)).numpy()


def weight_bytes(decoder: Decoder) -> bytes:
    """weight_columns as little-endian bytes, padded to whole rows of the texture that GLSL ES reads them from."""
    columns = weight_columns(decoder)
    return np.pad(columns, [(0, -len(columns) % WEIGHT_TEXTURE_WIDTH), (0, 0)]).astype("<f4").tobytes()


def _constants(decoder: Decoder) -> dict[str, int | str]:
    """Name -> value of every constant; those that are floats are given as text."""
    sizes, (height, width) = decoder.f2.sizes, decoder.latent.latent_size
    neurons = sizes[1] + -sizes[1] % BLOCK
    encoding = decoder.encoding
    return {
        "NT_LATENT_WIDTH": width,
        "NT_LATENT_HEIGHT": height,
        "NT_NUM_PLANES": len(decoder.texture_names),
        "NT_NUM_CHANNELS": decoder.latent.codes.shape[2],
        "NT_NUM_HARMONICS": decoder.harmonics,
        "NT_NUM_FRAMES": decoder.f2.frames if isinstance(decoder.f2, DaySiren) else 0,
        "NT_NUM_SINE_LAYERS": len(sizes) - 2,
        "NT_NUM_NEURONS": neurons,
        "NT_LAYER_WIDTH": max(sizes[0] + -sizes[0] % BLOCK, neurons, BLOCK),
        "NT_HIGH_RANGE": int(encoding.hdr),
        "NT_RANGE_SCALE": number_text(np.float32(encoding.scale)),
        "NT_RANGE_LOG": number_text(np.float32(math.log1p(encoding.peak / encoding.scale))),
    }


def _header(decoder: Decoder, language: Language, weights: Weights) -> list[str]:
    (rows, columns), size = decoder.latent.latent_size, decoder.latent.size
    values = "linear light" if decoder.encoding.hdr else "values as the frames store them, in [0, 1]"
    text = [
        f"Decoder of a day of lightmaps in {language.name}, written by lightmap/export_latent.py.",
        "",
        "  " + language.signature("float3", "ntDecode", [("float2", "uv"), ("float", "hours")]),
        "      Encoded RGB at uv (u to the right, v down; (0, 0) is the lightmap's upper left corner) and any hour.",
        "  " + language.signature("float3", "ntDecodeTexel", [("int2", "texel"), ("float", "hours")]),
        "      The same at a texel of the latent map, with one fetch per texture instead of four.",
        "  " + language.signature("float3", "ntLight", [("float3", "encoded")]),
        f"      What that stands for: {values}.",
        "",
        f"Lightmap of {size[1]}x{size[0]}; latent map of {columns}x{rows}.",
        f"Network: {' -> '.join(map(str, decoder.f2.sizes))}, sine layers.",
        "",
        "Bindings:",
    ]
    for index, (name, file) in enumerate(decoder.texture_names.items()):
        text.append(f"  {index}  {name}  {file}, R8G8B8A8_UNORM, no mips")
    if not weights.baked:
        text.append(f"  {len(decoder.texture_names)}  {language.weight_buffer(weights)}: {WEIGHT_FILE}")
    text.append(
        "Import the textures without sRGB, without compression and without generating mips; no sampler is needed."
    )
    return [f"{language.comment} {line}".rstrip() for line in text]


WEIGHT_FILE = f"{STEM}_weights.bin"


def file_name(language: str) -> str:
    """lightmap_decoder.hlsl, ..."""
    return LANGUAGES[language].file_name.replace("decoder", STEM, 1)


def shader_source(decoder: Decoder, language: str, baked: bool = True) -> str:
    """The text to include in a shader. baked: the weights are part of it; else a buffer of weight_bytes holds them."""
    syntax, textures = LANGUAGES[language], list(decoder.texture_names)
    table = weight_columns(decoder)
    weights = Weights("float32", baked, table, len(table))
    lines = [*_header(decoder, syntax, weights), "", *syntax.opening()]
    for name, value in _constants(decoder).items():
        lines.append(syntax.constant(name, str(value), "float" if isinstance(value, str) else "int"))
    if baked:
        lines += ["", *syntax.baked_table(weights.element, syntax.rows(weights))]
    lines += ["", *syntax.bindings(textures, weights, False)]
    of_texel = [("int", "plane"), ("int2", "texel"), ("int", "mip")]
    fetches = choose_lines("plane", [syntax.fetch(name) for name in textures])
    lines += ["", *syntax.function("float4", "ntFetchTexel", of_texel, fetches)]
    lines += [*syntax.function("float4", "ntWeights", [("int", "index")], syntax.weight_column(weights)), ""]
    core = (GENERATED / f"f2.{syntax.core}").read_text(encoding="utf-8").rstrip("\n")
    return own_names("\n".join([*lines, core, *syntax.closing()]) + "\n")


def own_names(text: str) -> str:
    """Replace the prefix `nt` of names by `lm`, so that a shader can include the material decoder as well."""
    for found, written in (("nt", "lm"), ("Nt", "Lm"), ("NT_", "LM_")):
        text = re.sub(rf"\b{found}(?={'' if found == 'NT_' else '[A-Z]'})", written, text)
    return text
