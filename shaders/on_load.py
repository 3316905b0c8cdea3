"""Compute shaders that decode a material when it is loaded: `export.py --shader LANGUAGES --on_load`.

For engines that sample ordinary textures, for pages of virtual textures, and for GPUs too slow to decode every pixel.
One shader decodes a rectangle of a LOD into texels of R8G8B8A8, the other makes blocks of BC7, BC5 and BC4 of these.
Their bodies are on_load.slang and blocks.slang, translated into shaders/generated/; here they get their bindings and
entry points. transcode/gpu.py is a host for them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import Say, one_line
from common.files import write_text
from formats.textures import ExportedTexture
from maps.channels import map_channels, map_size
from maps.record import MaterialRecord
from metrics.file_space import file_values
from model import NeuralTexture
from shaders.export import GENERATED, comment_text, decoder_variants, shader_source, texture_names
from shaders.generate import BLOCKS, EXTRAS, ON_LOAD, choose_text
from shaders.languages import LANGUAGES, choose_lines, number_text
from shaders.map_fields import field_name, names_of_units

WORKGROUP = 8  # threads, width and height
# Target -> the maps in its channels, R first, and what stands in for those that a material lacks.
TARGETS = {
    "albedo": ("diffuse", "opacity"),
    "normal": ("normal",),
    "orm": ("occlusion", "roughness", "metallic"),
    "emissive": ("emissive",),
    "others": ("specular", "displacement", "extra"),
}
RECTANGLE = ("x", "y", "width", "height", "lod", "first", "row", "layer")  # int32, of a dispatch of on_load
IMAGE = ("width", "height", "first", "row", "form", "channel", "firstBlock", "rowOfBlocks")  # of blocks
RECTANGLE_NOTES = (
    "x, y: the first texel, in texels of the LOD; any, as the material repeats, so a page can have a border",
    "width, height: of the rectangle, texels; lod: 0 .. {last}",
    "first: the word of target 0's first texel; row: words from a row to the next; layer: from a target to the next",
)
IMAGE_NOTES = (
    "width, height: of the image, texels; any: of blocks that reach beyond it, the last texels are repeated",
    "first: the word of its first texel; row: words from a row to the next, as on_load has them",
    "form: 7, 5 or 4; channel: 0 .. 3, the one that BC4 holds; BC5 holds 0 and 1, BC7 all four",
    "firstBlock: the word of the first block, which has 4, of BC4 2; rowOfBlocks: words from a row of blocks to the",
    "next, a multiple of 64 where a copy into a texture asks for rows of 256 bytes",
)


@dataclass(frozen=True)
class Syntax:
    """How a language declares what these shaders bind; {} of a uniform: its type, fields and name, and its place."""

    field: str  # a member of the uniform buffer
    uniform: str
    read: str  # a buffer of words: its name, and its place
    write: str
    entry: str  # {call}: a statement, {side}: of a workgroup
    load: str  # functions: the buffer's name
    store: str
    version: str = ""  # the first line of a whole shader


SYNTAX = {
    "wgsl": Syntax(
        "{}: i32,", "struct {kind} {{ {fields} }}\n{place} var<uniform> {name}: {kind};",
        "{place} var<storage, read> {name}: array<u32>;", "{place} var<storage, read_write> {name}: array<u32>;",
        "@compute @workgroup_size({side}, {side})\nfn main(@builtin(global_invocation_id) id: vec3<u32>)\n"
        "{{\n    {call}(vec2<i32>(id.xy));\n}}",
        "fn ntLoad(index: i32) -> u32 {{ return {}[index]; }}",
        "fn ntStore(index: i32, word: u32) {{ {}[index] = word; }}",
    ),
    "hlsl": Syntax(
        "int {};", "struct {kind} {{ {fields} }};\ncbuffer {kind}Block : {place} {{ {kind} {name}; }};",
        "StructuredBuffer<uint> {name} : {place};", "RWStructuredBuffer<uint> {name} : {place};",
        "[numthreads({side}, {side}, 1)]\nvoid main(uint3 id : SV_DispatchThreadID)\n{{\n    {call}(int2(id.xy));\n}}",
        "uint ntLoad(int index) {{ return {}[index]; }}", "void ntStore(int index, uint word) {{ {}[index] = word; }}",
    ),
    "glsl": Syntax(
        "int {};", "layout(std140, {place}) uniform {kind} {{ {fields} }} {name};",
        "layout(std430, {place}) readonly buffer {name}Buffer {{ uint {name}[]; }};",
        "layout(std430, {place}) buffer {name}Buffer {{ uint {name}[]; }};",
        "layout(local_size_x = {side}, local_size_y = {side}) in;\nvoid main()\n"
        "{{\n    {call}(ivec2(gl_GlobalInvocationID.xy));\n}}",
        "uint ntLoad(int index) {{ return {}[index]; }}", "void ntStore(int index, uint word) {{ {}[index] = word; }}",
        "#version 450",
    ),
}  # fmt: skip


def targets_of(material: MaterialRecord) -> dict[str, dict[str, slice]]:
    """The targets that a material has, in the order of the buffer: name -> its maps -> their channels among RGBA.

    A map that a target lacks leaves its channels to what engines take for none: albedo, opacity, occlusion and
    roughness are 255 there, any other is 0; alphas that hold no opacity are 255.
    """
    entries, found = {field_name(entry): entry for entry in material.maps}, {}
    for target, names in TARGETS.items():
        places, first = {}, 0
        for name in names:
            if name in entries:
                places[entries[name].name] = slice(first, first + map_size(name))
            first += map_size(name)
        if places:
            found[target] = places
    return found


def pack_parameters(values: Sequence[int]) -> bytes:
    """The bytes of a uniform buffer, RECTANGLE or IMAGE. Raises: struct.error for a number of more than 32 bits."""
    return struct.pack("<8i", *values)


# --- the decoding shader ---------------------------------------------------------------------------------------------


def on_load_source(
    model: NeuralTexture, material: MaterialRecord, language: str, weights: str = "baked", weight_type: str = "auto",
    layout: str = "packed", positions: str = "centres", precision: int = 32,
) -> str:  # fmt: skip
    """The text of the shader that decodes a rectangle, with everything that it needs.

    Arguments as of shaders.export.shader_source; language: a key of SYNTAX. Raises: UserError as shader_source does.
    """
    syntax = SYNTAX[language]
    how = {"positions": positions, "precision": precision}
    decoder = shader_source(model, material, language, weights, weight_type, layout, **how)
    places = _decoder_places(model, language, weights, layout)
    lines = [*_on_load_header(material, language, places), syntax.version, decoder]
    lines += _constants(model, material, language)
    kinds = [list(TARGETS).index(target) for target in targets_of(material)]
    lines += LANGUAGES[language].function("int", "ntTargetKind", [("int", "index")], choose_lines("index", kinds))
    lines += _uniform(syntax, "NtRectangle", "ntRectangle", RECTANGLE, places[0])
    lines += [syntax.write.format(name="ntTexels", place=places[1]), syntax.store.format("ntTexels"), ""]
    extras = EXTRAS in decoder_variants(model, material)
    lines += [choose_text(_generated(ON_LOAD, language), [EXTRAS] * extras)]
    return "\n".join([*lines, syntax.entry.format(call="ntDecodeOnLoad", side=WORKGROUP)]) + "\n"


def _decoder_places(model: NeuralTexture, language: str, weights: str, layout: str) -> list[str]:
    """Where the uniform and the storage buffer lie, beside what the decoder binds."""
    if language == "wgsl":
        return ["@group(1) @binding(0)", "@group(1) @binding(1)"]
    if language == "hlsl":
        return ["register(b0)", "register(u0)"]
    bound = len(texture_names(model, layout)) + (weights == "buffer")
    return [f"NT_BINDING({bound})", f"NT_BINDING({bound + 1})"]


def _constants(model: NeuralTexture, material: MaterialRecord, language: str) -> list[str]:
    """What on_load.slang takes from the preamble beside the decoder's; see metrics/file_space.in_file_space."""
    diffuse, normal = material.map("diffuse"), material.map("normal")
    fixed = {}
    if normal and normal.unit_normals:
        values = file_values(model.constants, material)
        fixed = {axis: values[c] for axis, c in enumerate(map_channels("normal")) if c in values}
    room = 1 - sum((2 * value - 1) ** 2 for value in fixed.values())
    turned = bool(normal and normal.unit_normals and 2 not in fixed and room > 0)
    constants: dict[str, int | str] = {
        "NT_NUM_TARGETS": len(targets_of(material)),
        "NT_HAS_DIFFUSE": int(diffuse is not None),
        "NT_HAS_ROUGHNESS": int(material.map("roughness") is not None),
        "NT_HAS_OCCLUSION": int(material.map("occlusion") is not None),
        "NT_HAS_OPACITY": int(material.map("opacity") is not None),
        "NT_ENCODE_DIFFUSE": int(diffuse is not None and diffuse.color_space != diffuse.file_color_space),
        "NT_NORMAL_HALF_ROOM": number_text(room**0.5 / 2 if turned else 0),
        "NT_NORMAL_FREE_X": number_text(float(0 not in fixed)),
        "NT_NORMAL_FREE_Y": number_text(float(1 not in fixed)),
    }
    say = LANGUAGES[language].constant
    return [say(name, str(value), "float" if isinstance(value, str) else "int") for name, value in constants.items()]


def _on_load_header(material: MaterialRecord, language: str, places: Sequence[str]) -> list[str]:
    width, height = material.lod_size(0)
    count, last = len(targets_of(material)), material.num_lods - 1
    whole = f"0, 0, {width}, {height}, 0, 0, {width}, {width * height}"
    text = [
        f"Decodes a rectangle of a LOD of {comment_text(material.name)} into RGBA8, a compute shader in "
        f"{LANGUAGES[language].name}, written by export.py --shader --on_load.",
        "",
        "Targets, an image each:",
        *(f"  {index}  {_target_note(material, target)}" for index, target in enumerate(targets_of(material))),
        "Values are those of the source files, as export.py --images writes them; sRGB: sample as R8G8B8A8_UNORM_SRGB.",
        *(f"{name.capitalize()} of the file is {function} of it, a function below."
          for name, function in names_of_units(material).items()),
        "",
        "Bindings, beside those of the decoder, which its own header lists below:",
        f"  {places[0]}  ntRectangle, a uniform buffer of 8 int32: {', '.join(RECTANGLE)}",
        *(f"      {note.format(last=last)}" for note in RECTANGLE_NOTES),
        f"  {places[1]}  ntTexels, a storage buffer of words: a texel each, R in the lowest byte",
        f"Dispatch main with ceil(width / {WORKGROUP}) x ceil(height / {WORKGROUP}) workgroups.",
        f"Example: all of LOD 0 is ({whole}), {-(-width // WORKGROUP)} x {-(-height // WORKGROUP)} workgroups and "
        f"{4 * count * width * height} bytes of texels.",
    ]  # fmt: skip
    return [f"{LANGUAGES[language].comment} {line}".rstrip() for line in text]


def _target_note(material: MaterialRecord, target: str) -> str:
    """'albedo: R, G, B diffuse (sRGB), A opacity'."""
    parts = []
    for name, channels in targets_of(material)[target].items():
        entry = material.map(name)
        srgb = entry.file_color_space == "srgb" and " (sRGB)"
        parts.append(f"{', '.join('RGBA'[channels])} {name}{srgb or ''}")
    return f"{target}: {', '.join(parts)}"


# --- the encoding shader ---------------------------------------------------------------------------------------------


def blocks_source(language: str) -> str:
    """The text of the shader that makes blocks, for all materials."""
    syntax = SYNTAX[language]
    places = {
        "wgsl": [f"@group(0) @binding({index})" for index in range(3)],
        "hlsl": ["register(b0)", "register(t0)", "register(u0)"],
        "glsl": [f"binding = {index}" for index in range(3)],
    }[language]
    text = [
        f"Makes blocks of BC7, BC5 or BC4 of RGBA8 texels, a compute shader in {LANGUAGES[language].name}, written by "
        "export.py --shader --on_load.",
        "",
        "Bindings:",
        f"  {places[0]}  ntImage, a uniform buffer of 8 int32: {', '.join(IMAGE)}",
        *(f"      {note}" for note in IMAGE_NOTES),
        f"  {places[1]}  ntTexels, a storage buffer of words: a texel each, R in the lowest byte",
        f"  {places[2]}  ntBlocks, a storage buffer of words: the blocks as BC7, BC5 and BC4 have them, little endian",
        f"Dispatch main with ceil(width / {4 * WORKGROUP}) x ceil(height / {4 * WORKGROUP}) workgroups.",
        "BC7 of an opaque image decodes to alpha 255; blocks that are transparent throughout decode to 0.",
        "Example: BC7 of 512 x 512 texels is (512, 512, 0, 512, 7, 0, 0, 512), 16 x 16 workgroups and 262144 bytes.",
    ]
    lines = [f"{LANGUAGES[language].comment} {line}".rstrip() for line in text]
    lines += [syntax.version]
    lines += _uniform(syntax, "NtImage", "ntImage", IMAGE, places[0])
    lines += [syntax.read.format(name="ntTexels", place=places[1])]
    lines += [syntax.write.format(name="ntBlocks", place=places[2])]
    lines += [syntax.load.format("ntTexels"), syntax.store.format("ntBlocks"), "", _generated(BLOCKS, language)]
    return "\n".join([*lines, syntax.entry.format(call="ntEncodeBlock", side=WORKGROUP)]) + "\n"


def _uniform(syntax: Syntax, kind: str, name: str, fields: Sequence[str], place: str) -> list[str]:
    members = " ".join(syntax.field.format(field) for field in fields)
    return ["", *syntax.uniform.format(kind=kind, name=name, fields=members, place=place).splitlines()]


def _generated(name: str, language: str) -> str:
    return (GENERATED / f"{name}.{LANGUAGES[language].core}").read_text(encoding="utf-8")


# --- files -----------------------------------------------------------------------------------------------------------


def export_on_load(
    folder: Path, exported: ExportedTexture, languages: Sequence[str], weights: str, weight_type: str,
    precision: int = 32, say: Say = print,
) -> None:  # fmt: skip
    """Write on_load.* and blocks.* of each language into `folder`, beside the decoders, with a line on each file.

    Arguments as of shaders.export.export_shaders. Raises: UserError as on_load_source.
    """
    manifest = exported.manifest
    storage = weights, weight_type, manifest.layout, manifest.positions, precision
    for language in languages:
        ending = LANGUAGES[language].core
        texts = {
            f"{ON_LOAD}.{ending}": on_load_source(exported.model, manifest.material, language, *storage),
            f"{BLOCKS}.{ending}": blocks_source(language),
        }
        for name, text in texts.items():
            write_text(folder / name, text)
            say(f"{one_line(str(folder / name))}  {len(text)} bytes")
