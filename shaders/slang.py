"""A decoder in Slang, for engines that compile it themselves: `export.py --shader slang`.

Its text is decoder.slang, with a material's preamble before it as in all languages, and both networks: the plain one,
and where NT_COOPERATIVE_VECTORS is 1 that of cooperative.slang, which multiplies with matrix hardware. For engines
that do not use Slang, a compute shader around it is compiled to SPIR-V where Slang's compiler is installed.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Collection
from pathlib import Path

from common.errors import Say, one_line
from common.files import make_folder, write_bytes, write_text
from formats.textures import ExportedTexture
from maps.record import MaterialRecord
from model import NeuralTexture
from shaders import dots, half
from shaders.export import check_decoder, decoder_variants, preamble, reading
from shaders.generate import HALF, HERE, INTEGER, READINGS, RECTANGLES, SOURCE, VARIANTS, find_slangc
from shaders.languages import SAMPLER, TABLE, Hlsl
from shaders.matrices import MATRIX_FILE, TILE, matrices, matrix_bytes
from shaders.weights import WEIGHT_FILE, make_weights, weight_bytes

DECODER, TEXELS = "decoder.slang", "decode_texels.slang"
SPIRV_FLAGS = ("-target", "spirv", "-O0", "-entry", "ntDecodeTexels", "-stage", "compute")
COOPERATIVE = "-DNT_COOPERATIVE_VECTORS=1"
MATRICES = "ntMatrices"
STANDING = re.compile(  # a function that stands for a name of the preamble, and comments on it
    r"(?:^// (?!-)[^\n]*\n)?"
    r"^\[__readNone\] \w+ (\w+)\([^)]*\)\s*\{ __intrinsic_asm \"\(?(\w+)(\))?[^\"]*\"; \}[^\n]*\n",
    re.MULTILINE,
)
FIELDS = (  # of NtMaterial, in the order of the channels
    "diffuse.x", "diffuse.y", "diffuse.z", "normal.x", "normal.y", "normal.z", "roughness", "occlusion", "metallic",
    "specular", "displacement", "opacity", "emissive.x", "emissive.y", "emissive.z", "extra",
)  # fmt: skip
MACROS = (  # of decoder.slang, and its types -> as users see them
    "READING", "EXTRAS", "DIFFUSE_UNITS", "RECTANGLES", "ROW_SCALES", "HALF", "INTEGER", "COOPERATIVE", "HOLDS_WORDS",
    "WIDTH_OF", "HEIGHT_OF",
)  # fmt: skip
NAMES = {
    "Value": "NtValue", "Sides": "NtSides", "FloatSides": "NtFloatSides", "WIDTH": "NT_LAYER_WIDTH",
    "WORDS": "NT_LAYER_WORDS", "gridSides": "NT_GRID_SIDES",
}  # fmt: skip


class Slang(Hlsl):
    """Slang is HLSL but for what is here. A buffer of matrices follows that of weights, used or not."""

    name, file_name, core = "Slang", DECODER, "slang"
    half, dots = half.SLANG, dots.SLANG

    def opening(self):
        return [
            "// Bindings: define these before including this for other ones, in Vulkan and in Direct3D, for example",
            "// #define NT_BINDING(index) [[vk::binding(4 + index, 1)]]",
            "// #define NT_REGISTER(index) register(t##index, space1)",
            "#ifndef NT_BINDING",
            "#define NT_BINDING(index) [[vk::binding(index, 0)]]",
            "#endif",
            "#ifndef NT_REGISTER",
            "#define NT_REGISTER(index) register(t##index)",
            "#endif",
            "#ifndef NT_SAMPLER_REGISTER",
            "#define NT_SAMPLER_REGISTER register(s0)",
            "#endif",
            "// The network: 1 for cooperative vectors. Of matrices in another layout, say where each begins, bytes:",
            "// #define NT_MATRIX_LAYOUT CoopVecMatrixLayout::InferencingOptimal",
            "// #define NT_MATRIX_OFFSET(layer) offsets[layer]",
            "#ifndef NT_COOPERATIVE_VECTORS",
            "#define NT_COOPERATIVE_VECTORS 0",
            "#endif",
            "#ifndef NT_MATRIX_LAYOUT",
            "#define NT_MATRIX_LAYOUT CoopVecMatrixLayout::RowMajor",
            "#define NT_MATRIX_OFFSET(layer) ntMatrixOffset(layer)",
            "#endif",
            "",
        ]

    def bindings(self, textures, weights, sampled):
        names = [f"Texture2D<float4> {name}" for name in textures]
        if not weights.baked:
            names.append(f"StructuredBuffer<{weights.element}> {TABLE}")
        names.append(f"ByteAddressBuffer {MATRICES}")
        lines = [f"NT_BINDING({index}) {name} : NT_REGISTER({index});" for index, name in enumerate(names)]
        if sampled:
            lines.append(f"NT_BINDING({len(lines)}) SamplerState {SAMPLER} : NT_SAMPLER_REGISTER;")
        return lines

    def unpacked(self, word):
        return f"float4(unpackHalf2x16ToFloat({word}.x), unpackHalf2x16ToFloat({word}.y))"

    def sampler_note(self, index):
        return super().sampler_note(index).replace("  s0  ", f"  s0, or {index + 1} in Vulkan: ")

    def notes(self, model, bound):
        places = matrices(model)
        lines = [
            f"  {bound}  {MATRICES}, a ByteAddressBuffer, only with NT_COOPERATIVE_VECTORS: {MATRIX_FILE}, float16",
            "NT_COOPERATIVE_VECTORS=1 needs VK_NV_cooperative_vector with shaderFloat16 and vulkanMemoryModel.",
            "The matrices, row after row, which vkConvertCooperativeVectorMatrixNV makes NT_MATRIX_LAYOUT of:",
        ]
        for index, place in enumerate(places):
            lines.append(f"  {index}  {place.rows}x{place.columns} at byte {place.offset}, {place.stride} bytes a row")
        return lines

    def matrix_lines(self, model: NeuralTexture) -> list[str]:
        """What cooperative.slang takes from the preamble beyond what every decoder does."""
        places = matrices(model)
        step = places[2].offset - places[1].offset if len(places) > 2 else 0
        first = places[1].offset if len(places) > 1 else 0
        neurons = model.decoder.n_neurons
        offset = [f"return layer == 0 ? 0 : {first} + (layer - 1) * {step};"]
        return [
            self.constant("NT_MATRIX_NEURONS", str(neurons + -neurons % TILE)),
            *self.function("int", "ntMatrixOffset", [("int", "layer")], offset),
        ]


def slang_source(
    model: NeuralTexture, material: MaterialRecord, weights: str = "baked", weight_type: str = "auto",
    layout: str = "packed", positions: str = "centres", precision: int = 32,
) -> str:  # fmt: skip
    """The text of decoder.slang for one material. Arguments as of export.shader_source, of the plain network.

    Raises: UserError for a network that the decoder cannot run, or a layout that cannot hold its features.
    """
    check_decoder(model, layout)
    syntax, stored = Slang(), make_weights(model, weights, weight_type, precision)
    lines = preamble(model, material, syntax, stored, layout, positions)
    chosen = decoder_variants(model, material, stored.kind, stored.precision)
    lines += [*syntax.matrix_lines(model), *_unused(syntax, reading(model.grids, layout)), ""]
    lines += [*_switches(reading(model.grids, layout), chosen), ""]
    return "\n".join([*lines, slang_core()]) + "\n"


def _unused(syntax: Slang, way: str) -> list[str]:
    """Functions that a way to read features never calls, and that Slang wants to be there."""
    grid, at = [("int", "grid")], [("int", "grid"), ("int", "plane"), ("float2", "uv")]
    if way == "filterable":
        return syntax.function("int", "ntGridBits", grid, ["return 0;"])
    if way == "mixed":
        return []
    four = ["return float4(0.0, 0.0, 0.0, 0.0);"]
    return [
        *syntax.function("float", "ntGridScale", grid, ["return 0.0;"]),
        *syntax.function("float4", "ntSampleTexel", [*at, ("float", "lod")], four),
        *syntax.function("float4", "ntSampleTexelGrad", [*at, ("float2", "across"), ("float2", "down")], four),
    ]


def _switches(way: str, chosen: Collection[str]) -> list[str]:
    """The macros that decoder.slang is translated with, as it gets them here."""
    flags = [flag.removeprefix("-D").partition("=")[0] for name, flag in VARIANTS.items() if name in chosen]
    return [
        f"#define NT_READING {READINGS[way]}",
        *(f"#define NT_{flag} 1" for flag in flags),
        f"#define NT_GRID_SIDES {'ntGridSize' if RECTANGLES in chosen else 'ntGridResolution'}",
        "#define NT_COOPERATIVE NT_COOPERATIVE_VECTORS",
        f"#define NT_HALF {'1' if HALF in chosen else 'NT_COOPERATIVE_VECTORS'}",
        f"#define NT_INTEGER {'(1 - NT_COOPERATIVE_VECTORS)' if INTEGER in chosen else '0'}",
    ]


def slang_core() -> str:
    """The part of the text that is the same for all materials: decoder.slang and the files that it includes, with the
    preamble's names in place of the functions that stand for them there."""
    text = SOURCE.read_text(encoding="utf-8")
    text = re.sub(r'#include "(\w+\.slang)"\n', lambda name: (HERE / name[1]).read_text(encoding="utf-8"), text)
    text = text[text.index("#ifndef READING") : text.index("// --- end: ")]
    standing = {f"{function}()" if constant else function: name for function, name, constant in STANDING.findall(text)}
    names = {**standing, **NAMES, **{macro: f"NT_{macro}" for macro in MACROS}}
    text = re.sub(r"static const int (?:WIDTH|WORDS) = .*\n", "", STANDING.sub("", text))
    for old, new in names.items():
        text = re.sub(rf"\b{re.escape(old)}" + (r"\b" if old[-1] != ")" else ""), new, text)
    text = "\n".join(line.rstrip() for line in text.splitlines())
    return "// From shaders/decoder.slang.\n\n" + re.sub(r"\n{3,}", "\n\n", text).strip()


def texels_source(model: NeuralTexture) -> str:
    """decode_texels.slang: a compute shader that decodes a list of positions."""
    channels = model.decoder.outputs
    return "\n".join([
        "// Decodes a list of positions, one a thread, with decoder.slang: an example, and for Vulkan, as SPIR-V:",
        f"// slangc {TEXELS} {COOPERATIVE} {' '.join(SPIRV_FLAGS)} -o decode_texels.spv",
        f'#include "{DECODER}"', "",
        "[[vk::binding(0, 1)]] StructuredBuffer<float4> ntQueries : register(t0, space1);  // u, v, lod, 0",
        "[[vk::binding(1, 1)]] RWStructuredBuffer<float> ntDecoded : register(u0, space1);", "",
        '[shader("compute")]', "[numthreads(64, 1, 1)]", "void ntDecodeTexels(uint3 id: SV_DispatchThreadID)", "{",
        "    uint count, stride;", "    ntQueries.GetDimensions(count, stride);",
        "    if (id.x >= count)", "        return;",
        "    NtMaterial m = ntDecode(ntQueries[id.x].xy, ntQueries[id.x].z);",
        f"    uint first = id.x * {channels};",
        *(f"    ntDecoded[first + {index}] = m.{field};" for index, field in enumerate(FIELDS[:channels])), "}", "",
    ])  # fmt: skip


def compile_texels(folder: Path, slangc: Path, cooperative: bool = True) -> bytes:
    """SPIR-V of decode_texels.slang in a folder, with one of its networks. Raises: RuntimeError where Slang refuses."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "decode_texels.spv"
        command = [slangc, folder / TEXELS, *[COOPERATIVE] * cooperative, *SPIRV_FLAGS, "-o", out]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not out.is_file():
            raise RuntimeError(one_line(done.stdout + done.stderr)[:300])
        return out.read_bytes()


def export_slang(
    folder: Path, exported: ExportedTexture, weights: str, weight_type: str, precision: int = 32, say: Say = print
) -> None:
    """Write the decoder, its matrices and the compute shader, with a line on each file.

    Arguments as of export.export_shaders. Raises: UserError as slang_source and matrix_bytes do.
    """
    model, manifest = exported.model, exported.manifest
    given = weights, weight_type, manifest.layout, manifest.positions, precision
    source, buffer = slang_source(model, manifest.material, *given), matrix_bytes(model)
    make_folder(folder)
    write_text(folder / DECODER, source)
    write_text(folder / TEXELS, texels_source(model))
    write_bytes(folder / MATRIX_FILE, buffer)
    names = [DECODER, TEXELS, MATRIX_FILE]
    if weights == "buffer":
        write_bytes(folder / WEIGHT_FILE, weight_bytes(model, weight_type, precision))
        names.append(WEIGHT_FILE)
    for name in names:
        say(f"{one_line(str(folder / name))}  {(folder / name).stat().st_size} bytes")
    slangc = find_slangc()
    if slangc is None:
        say(f"note: no decode_texels.spv: needs slangc (pip install --no-deps slangtorch), see {TEXELS}")
        return
    path = folder / "decode_texels.spv"
    try:
        write_bytes(path, compile_texels(folder, slangc))
    except RuntimeError as error:
        say(f"note: no decode_texels.spv: slangc refuses {TEXELS} ({error})")
        return
    say(f"{one_line(str(path))}  {path.stat().st_size} bytes")
