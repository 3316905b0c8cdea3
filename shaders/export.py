"""A decoder for one material, as text to include in a shader (design.md, section 4).

The decoder is shaders/decoder.slang, translated once per language into shaders/generated/. A material adds a preamble
before that text: sizes, textures and weights under the names that the text uses. So no compiler is needed here, and all
materials run the same decoder.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from common.errors import Say, UserError, one_line
from common.files import make_folder, write_bytes, write_text
from formats.dds_layouts import check_layout, grid_file_names, grid_format, has_channels, unorm_to_feature
from formats.textures import ExportedTexture
from maps.channels import CHANNELS
from maps.record import MaterialRecord
from metrics.file_space import constant_listing
from model import NeuralTexture
from shaders.generate import DIFFUSE_UNITS, EXTRAS, HALF, INTEGER, RECTANGLES, ROW_SCALES, choose_text, file_name
from shaders.languages import LANGUAGES, Language, choose_lines, number_text
from shaders.layers import LayeredEssl
from shaders.map_fields import example_variables, extra_notes, names_of_units, unit_functions, unit_lines
from shaders.weights import BLOCK, DOTS, ROW_SCALED, WEIGHT_FILE, Weights, group_inputs, make_weights, weight_bytes
from shape import PADDED_OUTPUTS, GridSpec

GENERATED = Path(__file__).resolve().parent / "generated"
MAX_TEXTURES = 16  # guaranteed: the least MAX_TEXTURE_IMAGE_UNITS and maxSampledTexturesPerShaderStage
MAX_OCTAVES = 31  # the decoder computes 2^octave as a 32-bit integer


# --- preamble ------------------------------------------------------------------------------------------------------


def reading(grids: Sequence[GridSpec], layout: str = "packed") -> str:
    """How the decoder reads the textures of these grids: `packed` words, channels (`filterable`), or `mixed`."""
    ways = {has_channels(grid, layout) for grid in grids}
    return "mixed" if len(ways) > 1 else "filterable" if True in ways else "packed"


def squares(grids: Sequence[GridSpec]) -> bool:
    """Whether all grids are as wide as high."""
    return all(width == height for width, height in (grid.size for grid in grids))


def texture_names(model: NeuralTexture, layout: str = "packed") -> dict[str, str]:
    """Name of each texture in the shader -> its file, in the order of the bindings."""
    names = {}
    for index, grid in enumerate(model.grids):
        for plane, file in enumerate(grid_file_names(index, grid, layout)):
            names[f"ntGrid{index}" + (f"Plane{plane}" if plane else "")] = file
    return names


def _constants(model: NeuralTexture, material: MaterialRecord, weights: Weights) -> dict[str, int | str]:
    """Name -> value of every constant of the preamble; floats are texts."""
    layout, decoder = model.layout, model.decoder
    neurons = decoder.n_neurons + -decoder.n_neurons % BLOCK if decoder.n_hidden_layers else 0
    diffuse = material.map("diffuse")
    reference_inputs = layout.reference_inputs
    more: dict[str, int | str] = {"NT_FIRST_SCALE": weights.columns} if weights.kind in ROW_SCALED else {}
    if weights.half:
        more["NT_GROUP_INPUTS"] = group_inputs(model)
    width = max(layout.total, neurons, PADDED_OUTPUTS)
    if weights.kind == DOTS:
        more["NT_LAYER_WORDS"] = width // BLOCK
    return {
        "NT_MATERIAL_WIDTH": number_text(material.width),
        "NT_MATERIAL_HEIGHT": number_text(material.height),
        "NT_NUM_LODS": model.num_lods,
        "NT_NUM_GRIDS": len(model.grids),
        "NT_NUM_FREQUENCIES": decoder.n_frequencies,
        "NT_NUM_TEXEL_FREQUENCIES": decoder.n_texel_frequencies,
        "NT_NUM_HIDDEN_LAYERS": decoder.n_hidden_layers,
        "NT_NUM_NEURONS": neurons,
        "NT_NUM_INPUTS": layout.total,
        "NT_NUM_REFERENCE_INPUTS": reference_inputs,
        "NT_FIRST_TEXEL_WAVE": reference_inputs + -reference_inputs % 16,
        "NT_LAYER_WIDTH": width,
        "NT_HARD_SWISH": int(decoder.activation == "hard_swish"),
        "NT_NEGATIVE_SLOPE": number_text(decoder.negative_slope),
        "NT_BLEND_OUTPUTS": int(any(grid.interpolation == "learned" for grid in model.grids)),
        "NT_DIFFUSE_IS_SRGB": int(diffuse is not None and diffuse.color_space == "srgb"),
        "NT_HAS_NORMAL": int(material.map("normal") is not None),
        **more,
    }


def _choose_texture(textures: Mapping[str, tuple[int, int]], read: Callable[[str], str]) -> list[str]:
    """choose_lines for textures: name -> (grid, plane); read gives the expression that reads one."""
    *others, last = textures
    chain = "if (grid == {} && plane == {}) {{ return {}; }}"
    return [*(chain.format(*textures[name], read(name)) for name in others), f"return {read(last)};"]


def _lookups(grids: Sequence[GridSpec], language: Language, layout: str) -> dict[str, list[int | str]]:
    """Name -> the value for each grid of the functions that take a grid; floats are texts."""
    way = reading(grids, layout)
    sides: dict[str, list[int | str]] = {"ntGridResolution": [grid.size[0] for grid in grids]}
    if not squares(grids):
        sides = {"ntGridSize": [language.vector("float2", grid.size) for grid in grids]}
    lookups = {
        **sides,
        "ntGridMips": [grid.n_levels for grid in grids],
        "ntGridSharedLods": [grid.finest_lods - 1 for grid in grids],
        "ntGridFeatures": [grid.features for grid in grids],
    }
    if way == "mixed":
        lookups["ntGridWords"] = [int(not has_channels(grid, layout)) for grid in grids]
    if way != "filterable":
        lookups["ntGridBits"] = [grid.quantize_bits for grid in grids]
    if way != "packed":
        lookups["ntGridScale"] = [number_text(unorm_to_feature(grid)["scale"]) for grid in grids]
    lookups["ntGridLearned"] = [int(grid.interpolation == "learned") for grid in grids]
    lookups["ntGridPlanes"] = [len(grid_file_names(0, grid, layout)) for grid in grids]
    return lookups


def _functions(
    model: NeuralTexture, material: MaterialRecord, language: Language, weights: Weights, layout: str
) -> list[str]:
    lookups = _lookups(model.grids, language, layout)
    lines = []
    for name, values in lookups.items():
        kind = "float2" if name == "ntGridSize" else "float" if isinstance(values[0], str) else "int"
        lines += language.function(kind, name, [("int", "grid")], choose_lines("grid", values))
    textures = [(grid, plane) for grid, count in enumerate(lookups["ntGridPlanes"]) for plane in range(count)]
    named = dict(zip(texture_names(model, layout), textures))
    of_texel = [("int", "grid"), ("int", "plane"), ("int2", "texel"), ("int", "mip")]
    lines += language.function("float4", "ntFetchTexel", of_texel, _choose_texture(named, language.fetch))
    if reading(model.grids, layout) != "packed":
        sampled = {name: place for name, place in named.items() if has_channels(model.grids[place[0]], layout)}
        of_position = [("int", "grid"), ("int", "plane"), ("float2", "uv")]
        forms = {
            "ntSampleTexel": ([("float", "lod")], language.sample),
            "ntSampleTexelGrad": ([("float2", "across"), ("float2", "down")], language.sample_grad),
        }
        for name, (choice, read) in forms.items():
            body = [*language.sampler_statements(), *_choose_texture(sampled, read)]
            lines += language.function("float4", name, of_position + choice, body)
    lines += ["", *language.dots.function, ""] if weights.kind == DOTS else []
    column = "half4" if weights.half else "uint4" if weights.kind == DOTS else "float4"
    lines += language.function(column, "ntWeights", [("int", "index")], language.weight_column(weights))
    if weights.kind in ROW_SCALED:
        lines += language.function("float4", "ntWeightScales", [("int", "rows")], language.weight_scales(weights))
    outputs = range(model.decoder.outputs)
    known = [int(channel in model.constants) for channel in outputs]
    values = [number_text(np.float32(model.constants[c].value)) if known[c] else "0.0" for c in outputs]
    lines += language.function("int", "ntIsConstant", [("int", "channel")], choose_lines("channel", known))
    lines += language.function("float", "ntConstantValue", [("int", "channel")], choose_lines("channel", values))
    return lines + unit_functions(material, language)


# --- comment -------------------------------------------------------------------------------------------------------


def comment_text(text: str) -> str:
    """ASCII without backslashes: one at the end of a line would take the next line into the comment."""
    return one_line(text).encode("ascii", "replace").decode().replace("\\", "/")[:80]


def _header(
    model: NeuralTexture, material: MaterialRecord, language: Language, weights: Weights, layout: str, positions: str
) -> list[str]:
    maps = []
    for entry in material.maps:
        space = entry.color_space if entry.name in ("diffuse", "emissive") else entry.convention
        maps.append(entry.name + (f" ({space})" if space else ""))
    sizes = " -> ".join(str(inputs) for _, inputs in model.form.layer_sizes)
    files = {file: grid for index, grid in enumerate(model.grids) for file in grid_file_names(index, grid, layout)}
    textures = texture_names(model, layout)
    decoded = [(language.material_argument, "material")]
    text = [
        f"Neural texture decoder of {comment_text(material.name)} in {language.name}, "
        "written by export.py --shader.",
        "",
        "  " + language.signature("NtMaterial", "ntDecode", [("float2", "uv"), ("float", "lod")]),
        "      The maps as trained. uv: any, the texture repeats; u to the right, v down.",
        f"      lod: 0 (full size, {material.width}x{material.height}) .. {model.num_lods - 1}, clamped;"
        " a fractional one blends its neighbours.",
        *_grad_lines(model, language, layout),
        "  " + language.signature("float3", "ntUnitNormal", decoded),
        "      The tangent-space normal, length 1.",
        "  " + language.signature("float3", "ntLinearDiffuse", decoded),
        "      Diffuse in linear light.",
        *unit_lines(material, language),
        "  " + language.signature("float", "ntLod", [("float2", "across"), ("float2", "down")]),
        "      The lod of a pixel, from the screen-space derivatives of uv.",
        "  " + language.signature(
            "float2", "ntTexelCentre", [("float2", "uv"), ("float", "lod"), ("float2", "random")]
        ),
        *_centre_lines(positions),
        "      For random = (0.5, 0.5) this is the centre of the texel that uv lies in. For random numbers below 1,",
        "      new for each pixel and frame, it is that of one of the four texels around uv, as often as a bilinear",
        "      filter weighs it: the mean, as temporal antialiasing takes it, is the filtered material.",
        "",
        *textwrap.wrap(f"Maps: {', '.join(maps)}; any others are 0.", 110, subsequent_indent="    "),
        "Values lie nominally in [0, 1] and are not clamped.",
        *extra_notes(material),
    ]
    if model.constants:
        listing = f"The same everywhere: {constant_listing(model.constants)} (codes)."
        text += textwrap.wrap(listing, 110, subsequent_indent="    ")
    text.append(f"Network: {sizes} -> {model.decoder.outputs} values, {model.decoder.activation}.")
    if weights.half:
        text.append(f"Its products are of 16 bits, added to float32 {group_inputs(model)} at a time.")
        text += [language.half.note] if language.half.note else []
    if weights.kind == DOTS:
        text.append("It computes with whole numbers of 8 bits, the same ones on every GPU.")
        text += [language.dots.note] if language.dots.note else []
    text += ["", "Bindings:"]
    for index, (name, file) in enumerate(textures.items()):
        grid = files[file]
        read = f"the first {grid.n_levels} are read" if grid.n_levels > 1 else "the first is read"
        size = f"{grid.size[0]}x{grid.size[1]}, {len(grid.mip_sizes)} mips, {read}"
        text.append(f"  {index}  {name}  {file}, {grid_format(grid, layout)}, {size}")
    if not weights.baked:
        text.append(f"  {len(files)}  {language.weight_buffer(weights)}: {WEIGHT_FILE}")
    if reading(model.grids, layout) != "packed":
        text.append(language.sampler_note(len(files) + (not weights.baked)))
    text += [*language.notes(model, len(files) + (not weights.baked)), *_import_notes(model.grids)]
    text += _reading_notes(model, language, layout, len(files) + (not weights.baked))
    way = example_of(model.grids, layout, positions)
    example = language.example(list(textures), weights, way, example_variables(material))
    text += ["", "Example, in a fragment shader:", *(f"  {line}" for line in example)]
    return [f"{language.comment} {line}".rstrip() for line in text]


def example_of(grids: Sequence[GridSpec], layout: str, positions: str) -> str:
    """How the header's example decodes a pixel, a key of languages.EXAMPLES. One decode at the pixel's own position is
    the filtered material only if it was trained at such positions; else it is that of the nearest texel centre."""
    if positions == "centres":
        return "texel"
    sampled = all(has_channels(grid, layout) and grid.interpolation == "linear" for grid in grids)
    return "pixel" if sampled else "position"


def _grad_lines(model: NeuralTexture, language: Language, layout: str) -> list[str]:
    """What the header says of ntDecodeGrad, where there is a sampler."""
    if reading(model.grids, layout) == "packed":
        return []
    parameters = [("float2", "uv"), ("float2", "across"), ("float2", "down"), ("float", "anisotropy")]
    return [
        "  " + language.signature("NtMaterial", "ntDecodeGrad", parameters),
        "      The same for a pixel: across and down are the screen-space derivatives of uv, which choose the lod.",
        "      anisotropy: how much longer than wide a pixel's footprint may be, at most the sampler's limit; 1: off.",
    ]


def _centre_lines(positions: str) -> list[str]:
    if positions == "filtered":
        return [
            "      For single texels of the material. The decoder is trained at any uv and lod, against the filtered",
            "      source: one decode where the pixel lies is the filtered material.",
        ]
    return [
        "      The decoder is trained at texel centres, and some dB worse between them, where a fine pattern may show.",
        "      To filter, decode at the four centres of random = (0, 0), (1, 0), (0, 1), (1, 1), and blend the results",
        "      by fract(uv * size of that lod - 0.5).",
    ]


def _import_notes(grids: Sequence[GridSpec]) -> list[str]:
    """Notes on what an engine's import must leave alone."""
    notes = []
    titles = list(dict.fromkeys(grid.block.title for grid in grids if grid.compressed))
    if titles:
        as_they_are = "as they are, with their own mips: not as sRGB, not compressed again."
        notes.append(f"Import the {' and '.join(titles)} textures {as_they_are}")
    if any(grid.storage == "astc6x6" for grid in grids):
        texels = "export.py --latents_format rgba8 writes the same texels in R8G8B8A8"
        notes.append(f"Direct3D and most desktop GPUs have no ASTC: {texels}.")
    cut = [str(k) for k, grid in enumerate(grids) if grid.storage == "bc1" and any(side % 4 for side in grid.size)]
    if cut:
        notes.append(f"Grid {', '.join(cut)}: Direct3D 11, WebGL and WebGPU want a multiple of 4 as the side of BC1.")
    if not all(grid.compressed for grid in grids):
        which = "other " if notes else ""
        notes.append(f"Import the {which}textures without sRGB, without compression and without generating mips.")
    return notes


def _reading_notes(model: NeuralTexture, language: Language, layout: str, bound: int) -> list[str]:
    """Notes on how texels are read; `bound`: the number of textures and buffers."""
    way = reading(model.grids, layout)
    if way == "packed":
        return ["No sampler is needed: texels are loaded one by one, unpacked and filtered here."]
    if way == "filterable":
        notes = ["Each channel is a feature and the sampler filters; most hardware blends with weights of 8 bits."]
    else:
        notes = [
            "Each channel of a texture of blocks is a feature and the sampler filters; most hardware blends with",
            "weights of 8 bits. The texels of the others are loaded one by one, unpacked and filtered here.",
        ]
    learned = [str(index) for index, grid in enumerate(model.grids) if grid.interpolation == "learned"]
    if learned:
        notes.append(f"Of grid {', '.join(learned)} the network gets all four texels, which are loaded one by one.")
    if layout == "bgra4":
        notes.append(language.bgra4_note())
    if bound > MAX_TEXTURES:
        notes.append(f"{bound} textures and buffers: WebGL 2 and WebGPU promise {MAX_TEXTURES} textures only.")
    return notes


# --- files ---------------------------------------------------------------------------------------------------------


def shader_source(
    model: NeuralTexture, material: MaterialRecord, language: str, weights: str = "baked", weight_type: str = "auto",
    layout: str = "packed", layers: Mapping[str, tuple[str, int]] | None = None, positions: str = "centres",
    precision: int = 32,
) -> str:  # fmt: skip
    """The text to include in a shader of one language.

    Args:
        model: quantised; its grids are in the files that textures.write_textures writes in the same layout.
        language: a key of languages.LANGUAGES.
        weights: `baked` into the text, or in a `buffer` of weight_bytes.
        weight_type: of the stored weights, see weights.chosen_type.
        layout: one of dds_layouts.LAYOUTS; the decoder uses a sampler where a grid has_channels.
        layers: in GLSL ES, textures that are layers of arrays, see LayeredEssl.
        positions: that the model was trained at, see Manifest; the example decodes there.
        precision: bits of the network's products, 32, 16 or 8.
    Raises: UserError for a network that the decoder cannot run, or a layout that cannot hold its features.
    """
    check_decoder(model, layout)
    syntax = LayeredEssl(layers) if layers else LANGUAGES[language]
    stored = make_weights(model, weights, weight_type, precision)
    lines = preamble(model, material, syntax, stored, layout, positions)
    variants = decoder_variants(model, material, stored.kind, stored.precision)
    core = decoder_core(language, reading(model.grids, layout), variants)
    return "\n".join([*lines, core, *syntax.closing()]) + "\n"


def check_decoder(model: NeuralTexture, layout: str) -> None:
    """Raise UserError for a network that no decoder can run, or a layout that cannot hold its features."""
    check_layout(model.grids, layout)
    if max(model.decoder.n_frequencies, model.decoder.n_texel_frequencies) > MAX_OCTAVES:
        raise UserError(f"--shader: expected at most {MAX_OCTAVES} frequencies, found {model.decoder.n_frequencies}")


def preamble(
    model: NeuralTexture, material: MaterialRecord, syntax: Language, stored: Weights, layout: str, positions: str
) -> list[str]:
    """The lines before the decoder's own text. Arguments as of shader_source, which has checked them."""
    way = reading(model.grids, layout)
    lines = [*_header(model, material, syntax, stored, layout, positions), ""]
    first = {16: syntax.half.opening, 8: syntax.dots.opening}
    lines += [*first.get(stored.precision, ()), *syntax.opening()]
    for name, value in _constants(model, material, stored).items():
        lines.append(syntax.constant(name, str(value), "float" if isinstance(value, str) else "int"))
    if stored.baked:
        lines += ["", *syntax.baked_table(stored.element, syntax.rows(stored))]
    lines += ["", *syntax.bindings(list(texture_names(model, layout)), stored, way != "packed")]
    return [*lines, "", *_functions(model, material, syntax, stored, layout), ""]


def decoder_variants(
    model: NeuralTexture, material: MaterialRecord, weight_kind: str = "float32", precision: int = 32
) -> list[str]:
    """Those of generate.VARIANTS, and of generate.NETWORKS, that a material needs, with such Weights."""
    needed = {
        EXTRAS: model.decoder.outputs > CHANNELS,
        DIFFUSE_UNITS: "diffuse" in names_of_units(material),
        RECTANGLES: not squares(model.grids),
        ROW_SCALES: weight_kind in ROW_SCALED,
        HALF: precision == 16,
        INTEGER: precision == 8,
    }
    return [name for name, need in needed.items() if need]


def decoder_core(language: str, way: str = "packed", variants: Collection[str] = ()) -> str:
    """The part of the text that is the same for all materials of this `reading` and these decoder_variants."""
    marked = (GENERATED / file_name(LANGUAGES[language].core, way)).read_text(encoding="utf-8")
    return choose_text(marked, variants).rstrip("\n")


def write_shaders(
    folder: Path, model: NeuralTexture, material: MaterialRecord, languages: Sequence[str], weights: str = "baked",
    weight_type: str = "auto", layout: str = "packed", positions: str = "centres", precision: int = 32,
) -> list[Path]:  # fmt: skip
    """Write one file per language into `folder`, and the buffer of weights where they are not baked in.

    Arguments as of shader_source. Returns: the paths. Raises: UserError as shader_source does.
    """
    make_folder(folder)
    paths = []
    for language in languages:
        paths.append(folder / LANGUAGES[language].file_name)
        given = (weights, weight_type, layout, None, positions, precision)
        write_text(paths[-1], shader_source(model, material, language, *given))
    if weights == "buffer":
        paths.append(folder / WEIGHT_FILE)
        write_bytes(paths[-1], weight_bytes(model, weight_type, precision))
    return paths


def export_shaders(
    folder: Path, exported: ExportedTexture, languages: Sequence[str], weights: str, weight_type: str,
    precision: int = 32, say: Say = print,
) -> None:  # fmt: skip
    """write_shaders of an export, with a line on each file."""
    manifest = exported.manifest
    storage = weights, weight_type, manifest.layout, manifest.positions, precision
    for path in write_shaders(folder, exported.model, manifest.material, languages, *storage):
        say(f"{one_line(str(path))}  {path.stat().st_size} bytes")
