"""The syntax of each shading language for the preamble of a decoder: constants, lookups, textures, weights.

shaders/export.py puts the pieces together; the decoder itself is shaders/decoder.slang.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model import NeuralTexture
from shaders import dots, half
from shaders.weights import CODE_UNIT, DOTS, ROW_SCALED, WEIGHT_TEXTURE_WIDTH, Weights

TABLE = "ntWeightTable"
SAMPLER = "ntSampler"
# Of the texture that holds the table in GLSL ES, by the kind of weights.
TEXTURE_FORMATS = {"float32": "RGBA32F", "float16": "RGBA16F", "int8": "R32UI", "codes16": "RG32UI", DOTS: "RGBA32UI"}
FOURS = ("float32", DOTS)  # kinds of weights with elements of four words
SMALLEST_NORMAL = 2.0**-126  # compilers disagree on literals below it
EXAMPLES = {  # where an example decodes -> its lines, of the declarations and names that Language.decoding fills in
    "texel": (  # the nearest texel of the nearest LOD
        "{lod} = floor(max({nt}ntLod({dx}(uv), {dy}(uv)), 0.0) + 0.5);",
        "{material} = {nt}ntDecode({nt}ntTexelCentre(uv, lod, {float2}(0.5, 0.5)), lod);",
    ),
    "position": ("{material} = {nt}ntDecode(uv, max({nt}ntLod({dx}(uv), {dy}(uv)), 0.0));",),
    "pixel": ("{material} = {nt}ntDecodeGrad(uv, {dx}(uv), {dy}(uv), 8.0);",),  # along its footprint, by a sampler
}


def number_text(value: float) -> str:
    """A float32 as a literal that reads back as the same float32 in every language."""
    text = f"{0.0 if abs(value) < SMALLEST_NORMAL else value:.9g}"
    return text if "." in text or "e" in text else text + ".0"


def choose_lines(name: str, values: Sequence[Any]) -> list[str]:
    """Statements that return values[name]: a chain that folds to nothing where `name` is known to the compiler."""
    lines = [f"if ({name} == {index}) {{ return {value}; }}" for index, value in enumerate(values[:-1])]
    return [f"return {values[-1]};"] if len(set(values)) == 1 else [*lines, f"return {values[-1]};"]


class Language:
    """The syntax that HLSL, GLSL and Metal share, C with vector types; each language overrides where it differs."""

    name: str
    file_name: str
    core: str  # the ending of its files in shaders/generated
    comment = "//"
    half: half.HalfSyntax
    dots: dots.DotSyntax
    int2, int4, uint2, uint4, float2, float3, float4 = "ivec2", "ivec4", "uvec2", "uvec4", "vec2", "vec3", "vec4"
    material_argument = "NtMaterial"  # how the helpers take what ntDecode returns
    uint_suffix = "u"

    def opening(self) -> list[str]:
        """Lines before the constants, and after those of HalfSyntax or DotSyntax."""
        return []

    def constant(self, name: str, value: str, kind: str = "int") -> str:
        return f"#define {name} {value}"

    def signature(self, kind: str, name: str, parameters: Sequence[tuple[str, str]]) -> str:
        """A function's first line, of its result, name and (type, name) of each parameter."""
        arguments = ", ".join(f"{self.type(of)} {parameter}" for of, parameter in parameters)
        return f"{self.type(kind)} {name}({arguments})"

    def function(self, kind: str, name: str, parameters: Sequence[tuple[str, str]], body: Sequence[str]) -> list[str]:
        return [self.signature(kind, name, parameters), "{", *(f"    {line}" for line in body), "}"]

    def type(self, kind: str) -> str:
        """The language's name for int, uint, float, vectors of these such as uint2, or half4."""
        return self.half.vector if kind == "half4" else getattr(self, kind, kind)

    def baked_table(self, kind: str, rows: Sequence[str]) -> list[str]:
        """Weights as a constant array of vectors."""
        raise NotImplementedError

    def bindings(self, textures: Sequence[str], weights: Weights, sampled: bool) -> list[str]:
        """Declarations of the textures, at bindings 0, 1, ..., of a buffer of weights at the next, and of a sampler."""
        raise NotImplementedError

    def closing(self) -> list[str]:
        """Lines after the decoder."""
        return []

    def fetch(self, texture: str) -> str:
        """An expression: the texel `texel` of mip `mip`, four floats."""
        return f"texelFetch({texture}, texel, mip)"

    def sample(self, texture: str) -> str:
        """An expression: the texture at `uv` and the fractional mip `lod`, filtered, four floats."""
        return f"textureLod({texture}, uv, lod)"

    def sample_grad(self, texture: str) -> str:
        """An expression: the texture at `uv`, at the mip of the derivatives `across` and `down`, four floats."""
        return f"textureGrad({texture}, uv, across, down)"

    def sampler_statements(self) -> list[str]:
        """The first statements of a function that samples."""
        return []

    def sampler_note(self, index: int) -> str:
        """A note: the sampler settings that filtering needs; `index` is the next free binding."""
        return (
            "Set on each texture: REPEAT, LINEAR_MIPMAP_LINEAR, magnification LINEAR; TEXTURE_MAX_ANISOTROPY for "
            "ntDecodeGrad."
        )

    def bgra4_note(self) -> str:
        """A note: the name of DXGI's B4G4R4A4_UNORM, blue in the lowest four bits, in APIs of this language."""
        raise NotImplementedError

    def weight_column(self, weights: Weights) -> list[str]:
        """Statements that return column number `index` of the weights as four floats, or of 16 bits as a half4; of int8
        they are whole, or of 16 bits over CODE_UNIT. Of dots: the words of element number `index`."""
        if weights.kind in FOURS:
            return [f"return {self.element(weights, 'index')};"]
        if weights.kind == "int8":
            unpacked = self.signed_bytes("word")
            if weights.half:
                unpacked = f"{self.half.convert}({self.vector('float4', [1 / CODE_UNIT] * 4)} * {unpacked})"
        else:
            unpacked = self.half.unpack.format(word="word") if weights.half else self.unpacked("word")
        return [self.variable(weights.element, "word", self.element(weights, "index")), f"return {unpacked};"]

    def weight_scales(self, weights: Weights) -> list[str]:
        """Statements that return the scales of four rows, from 4 * `rows` on, of what weight_column returns."""
        parts = [""] if weights.element == "uint" else [".x", ".y"]  # of an element
        count = 4 // len(parts)
        places = [(f"first + {k}" if k else "first", part) for k in range(count) for part in parts]
        four = [self.as_float(self.element(weights, index) + part) for index, part in places]
        first = self.variable("int", "first", f"NT_FIRST_SCALE + {count} * rows")
        unit = f"{self.vector('float4', [CODE_UNIT] * 4)} * " if weights.half else ""
        return [first, f"return {unit}{self.type('float4')}({', '.join(four)});"]

    def element(self, weights: Weights, index: str) -> str:
        """An expression: an element of the table of weights."""
        return f"{TABLE}[{index}]"

    def vector(self, kind: str, numbers: Sequence[float]) -> str:
        return f"{self.type(kind)}({', '.join(map(number_text, numbers))})"

    def variable(self, kind: str, name: str, value: str) -> str:
        return f"{self.type(kind)} {name} = {value};"

    def unpacked(self, word: str) -> str:
        """An expression: the four halves of a uint2."""
        return f"vec4(unpackHalf2x16({word}.x), unpackHalf2x16({word}.y))"

    def signed_bytes(self, word: str) -> str:
        """An expression: the four signed bytes of a uint, the lowest first, as floats."""
        return f"vec4((ivec4(int({word})) << ivec4(24, 16, 8, 0)) >> 24)"

    def as_float(self, word: str) -> str:
        """An expression: the float32 with the bits of a uint."""
        return f"uintBitsToFloat({word})"

    def weight_buffer(self, weights: Weights) -> str:
        """A note: the name and the kind of the binding for a buffer of weights."""
        return f"{TABLE}, a storage buffer of {self.type(weights.element)}"

    def notes(self, model: NeuralTexture, bound: int) -> list[str]:
        """Further lines of the header, after the bindings; `bound`: how many textures and buffers there are."""
        return []

    dx, dy = "dFdx", "dFdy"

    def example(
        self, textures: Sequence[str], weights: Weights, way: str, more: Sequence[tuple[str, str, str]] = ()
    ) -> list[str]:
        """Lines of code that decode a fragment.

        way: a key of EXAMPLES.
        more: (type, name, expression) of further variables; {nt} in an expression precedes the names of functions.
        """
        return [
            *self.decoding(way, "NtMaterial material", "float lod", ""),
            f"{self.float3} albedo = ntLinearDiffuse(material);",
            f"{self.float3} normal = ntUnitNormal(material);  // tangent space",
            *self.variables(more, ""),
        ]

    def variables(self, more: Sequence[tuple[str, str, str]], owner: str) -> list[str]:
        """The lines of an example for `more`; `owner`: what precedes the functions' names."""
        return [self.variable(kind, name, expression.format(nt=owner)) for kind, name, expression in more]

    def decoding(self, way: str, material: str, lod: str, owner: str) -> list[str]:
        """The lines of an example that decode, with these declarations; `owner`: what precedes the functions' names."""
        words = {"dx": self.dx, "dy": self.dy, "float2": self.float2, "material": material, "lod": lod, "nt": owner}
        return [line.format(**words) for line in EXAMPLES[way]]

    def rows(self, weights: Weights) -> list[str]:
        """The elements of the table: words, or vectors as constructor calls."""
        words = weights.kind != "float32"
        text = (lambda word: f"0x{word:08x}{self.uint_suffix}") if words else number_text
        columns = [[text(value) for value in column] for column in weights.table.tolist()]
        if weights.element == "uint":
            return [column[0] for column in columns]
        return [f"{self.type(weights.element)}({', '.join(column)})" for column in columns]


class Hlsl(Language):
    name, file_name, core = "HLSL", "decoder.hlsl", "hlsl"
    half, dots = half.HLSL, dots.HLSL
    int2, int4, uint2, uint4, float2, float3, float4 = "int2", "int4", "uint2", "uint4", "float2", "float3", "float4"
    dx, dy = "ddx", "ddy"

    def opening(self) -> list[str]:
        return [
            "// Registers: define NT_REGISTER before including this for other ones, for example",
            "// #define NT_REGISTER(index) register(t##index, space1)",
            "#ifndef NT_REGISTER",
            "#define NT_REGISTER(index) register(t##index)",
            "#endif",
            "#ifndef NT_SAMPLER_REGISTER",
            "#define NT_SAMPLER_REGISTER register(s0)",
            "#endif",
            "// Textures: define NT_TEXTURE for hosts that bind them by name or pass them as arguments, for example",
            "// #define NT_TEXTURE(name, index) Texture2D<float4> name",
            "#ifndef NT_TEXTURE",
            "#define NT_TEXTURE(name, index) Texture2D<float4> name : NT_REGISTER(index)",
            "#endif",
            "",
        ]

    def baked_table(self, kind, rows):
        return [f"static const {self.type(kind)} {TABLE}[{len(rows)}] =", "{", ",\n".join(rows), "};"]

    def bindings(self, textures, weights, sampled):
        lines = [f"NT_TEXTURE({name}, {index});" for index, name in enumerate(textures)]
        if not weights.baked:
            lines.append(f"StructuredBuffer<{weights.element}> {TABLE} : NT_REGISTER({len(textures)});")
        return [*lines, *self._sampler()] if sampled else lines

    @staticmethod
    def _sampler() -> list[str]:
        return [
            "// The sampler: define NT_SAMPLER as NT_TEXTURE, for example",
            "// #define NT_SAMPLER(name) SamplerState name",
            "#ifndef NT_SAMPLER",
            "#define NT_SAMPLER(name) SamplerState name : NT_SAMPLER_REGISTER",
            "#endif",
            f"NT_SAMPLER({SAMPLER});",
        ]

    def fetch(self, texture):
        return f"{texture}.Load(int3(texel, mip))"

    def sample(self, texture):
        return f"{texture}.SampleLevel({SAMPLER}, uv, lod)"

    def sample_grad(self, texture):
        return f"{texture}.SampleGrad({SAMPLER}, uv, across, down)"

    def sampler_note(self, index):
        return f"  s0  {SAMPLER}: MIN_MAG_MIP_LINEAR, or ANISOTROPIC for ntDecodeGrad; WRAP in u and v"

    def bgra4_note(self):
        return "Direct3D 12, and 11.1 where it is supported, read B4G4R4A4_UNORM as it is."

    def unpacked(self, word):
        return f"f16tof32(uint4({word}.x & 0xffffu, {word}.x >> 16u, {word}.y & 0xffffu, {word}.y >> 16u))"

    def signed_bytes(self, word):
        return f"float4((asint({word}.xxxx) << int4(24, 16, 8, 0)) >> 24)"

    def as_float(self, word):
        return f"asfloat({word})"

    def weight_buffer(self, weights):
        return f"{TABLE}, a StructuredBuffer of {weights.element}"


class Glsl(Language):
    name, file_name, core = "GLSL 4.50", "decoder.glsl", "glsl"
    half, dots = half.GLSL, dots.GLSL

    def opening(self) -> list[str]:
        return [
            "// Bindings: define NT_BINDING before including this for other ones, for example",
            "// #define NT_BINDING(index) set = 1, binding = 4 + index",
            "#ifndef NT_BINDING",
            "#define NT_BINDING(index) binding = index",
            "#endif",
            "",
        ]

    def baked_table(self, kind, rows):
        of = f"{self.type(kind)}[{len(rows)}]"
        return [f"const {self.type(kind)} {TABLE}[{len(rows)}] = {of}(", ",\n".join(rows), ");"]

    def bindings(self, textures, weights, sampled):
        lines = [f"layout(NT_BINDING({index})) uniform sampler2D {name};" for index, name in enumerate(textures)]
        if not weights.baked:
            kind = self.type(weights.element)
            layout = f"layout(std430, NT_BINDING({len(textures)}))"
            lines.append(f"{layout} readonly buffer NtWeights {{ {kind} {TABLE}[]; }};")
        return lines

    def bgra4_note(self):
        return "B4G4R4A4_UNORM is A4R4G4B4_UNORM_PACK16 in Vulkan; RGBA4, BGRA, UNSIGNED_SHORT_4_4_4_4_REV in OpenGL."


class Essl(Glsl):
    name, file_name = "GLSL ES 3.00 (WebGL 2)", "decoder.es.glsl"
    half, dots = half.ESSL, dots.ESSL

    def opening(self) -> list[str]:
        return ["precision highp float;", "precision highp int;", ""]

    # Uniform blocks are read faster than textures (1.2 to 1.9 times, SwiftShader, 2 x 64 neurons), but may be as small
    # as 16 KiB; who includes the decoder knows how large they are. Their elements have 16 bytes: only for FOURS.

    def bindings(self, textures, weights, sampled):
        lines = [f"uniform highp sampler2D {name};" for name in textures]
        if weights.baked:
            return lines
        words, precision = weights.kind in (*ROW_SCALED, DOTS), "mediump" if weights.half else "highp"
        as_texture = f"uniform {'highp u' if words else f'{precision} '}sampler2D {TABLE};"
        four = self.type(weights.element)
        as_block = f"layout(std140) uniform NtWeights {{ highp {four} {TABLE}[{weights.columns}]; }};"
        return [*lines, *(self._either(as_block, as_texture) if weights.kind in FOURS else [as_texture])]

    @staticmethod
    def _either(as_block: str, as_texture: str) -> list[str]:
        return ["#ifdef NT_UNIFORM_WEIGHTS", as_block, "#else", as_texture, "#endif"]

    def bgra4_note(self):
        return "B4G4R4A4_UNORM: RGBA4, UNSIGNED_SHORT_4_4_4_4, each 16-bit word w uploaded as (w << 4) | (w >> 12)."

    def weight_column(self, weights):
        if weights.baked or weights.kind in ROW_SCALED:
            return super().weight_column(weights)
        as_texture = f"return {self.element(weights, 'index')};"  # the sampler unpacks float16
        in_block = f"return {TABLE}[index];"
        return self._either(in_block, as_texture) if weights.kind in FOURS else [as_texture]

    def element(self, weights, index):
        if weights.baked:
            return super().element(weights, index)
        index, width = f"({index})" if " " in index else index, WEIGHT_TEXTURE_WIDTH
        part = {"int8": ".r", "codes16": ".rg"}.get(weights.kind, "")
        return f"texelFetch({TABLE}, ivec2({index} % {width}, {index} / {width}), 0){part}"

    def weight_buffer(self, weights):
        rows = -(-len(weights.table) // WEIGHT_TEXTURE_WIDTH)
        kind = TEXTURE_FORMATS[weights.kind]
        block = "; or (NT_UNIFORM_WEIGHTS) a block" if weights.kind in FOURS else ""
        return f"{TABLE}, a texture of {kind}, {WEIGHT_TEXTURE_WIDTH}x{rows}, filter NEAREST, no mips{block}"


class Wgsl(Language):
    name, file_name, core = "WGSL", "decoder.wgsl", "wgsl"
    half, dots = half.WGSL, dots.WGSL
    int2, int4, uint2, uint4 = "vec2<i32>", "vec4<i32>", "vec2<u32>", "vec4<u32>"
    float2, float3, float4 = "vec2<f32>", "vec3<f32>", "vec4<f32>"
    int, uint, float = "i32", "u32", "f32"
    dx, dy = "dpdx", "dpdy"

    def constant(self, name, value, kind="int"):
        return f"const {name}: {self.type(kind)} = {value};"

    def signature(self, kind, name, parameters):
        arguments = ", ".join(f"{parameter}: {self.type(of)}" for of, parameter in parameters)
        return f"fn {name}({arguments}) -> {self.type(kind)}"

    def baked_table(self, kind, rows):
        # private, not const: implementations copy a const array for every access by a variable index
        of = f"array<{self.type(kind)}, {len(rows)}>"
        return [f"var<private> {TABLE}: {of} = {of}(", ",\n".join(rows), ");"]

    def bindings(self, textures, weights, sampled):
        at = "@group(0) @binding({})"
        lines = [f"{at.format(index)} var {name}: texture_2d<f32>;" for index, name in enumerate(textures)]
        if not weights.baked:
            kind = self.type(weights.element)
            lines.append(f"{at.format(len(textures))} var<storage, read> {TABLE}: array<{kind}>;")
        if sampled:
            lines.append(f"{at.format(len(lines))} var {SAMPLER}: sampler;")
        return lines

    def variable(self, kind, name, value):
        return f"let {name} = {value};"

    def fetch(self, texture):
        return f"textureLoad({texture}, texel, mip)"

    def sample(self, texture):
        return f"textureSampleLevel({texture}, {SAMPLER}, uv, lod)"

    def sample_grad(self, texture):
        return f"textureSampleGrad({texture}, {SAMPLER}, uv, across, down)"

    def sampler_note(self, index):
        filters = 'magFilter, minFilter and mipmapFilter "linear", maxAnisotropy for ntDecodeGrad'
        return f'  {index}  {SAMPLER}: addressModeU and V "repeat", {filters}'

    def bgra4_note(self):
        return "WebGPU has no 4-bit channels: upload B4G4R4A4_UNORM as rgba8unorm, each of R, G, B, A times 17."

    def unpacked(self, word):
        return f"vec4<f32>(unpack2x16float({word}.x), unpack2x16float({word}.y))"

    def signed_bytes(self, word):
        shifted = f"vec4<i32>(bitcast<i32>({word})) << vec4<u32>(24u, 16u, 8u, 0u)"
        return f"vec4<f32>(({shifted}) >> vec4<u32>(24u))"

    def as_float(self, word):
        return f"bitcast<f32>({word})"

    def example(self, textures, weights, way, more=()):
        return [
            *self.decoding(way, "let material", "let lod", ""),
            "let albedo = ntLinearDiffuse(material);",
            "let normal = ntUnitNormal(material);  // tangent space",
            *self.variables(more, ""),
        ]


class Metal(Language):
    """Metal has no global textures: they, and everything that reads them, are members of a struct NtDecoder."""

    name, file_name, core = "Metal", "decoder.metal", "metal"
    half, dots = half.METAL, dots.METAL
    int2, int4, uint2, uint4, float2, float3, float4 = "int2", "int4", "uint2", "uint4", "float2", "float3", "float4"
    dx, dy = "dfdx", "dfdy"
    material_argument = "const thread NtMaterial*"

    def opening(self) -> list[str]:
        return ["#include <metal_stdlib>", "using namespace metal;", ""]

    def baked_table(self, kind, rows):
        return [f"constant {self.type(kind)} {TABLE}[{len(rows)}] =", "{", ",\n".join(rows), "};"]

    def bindings(self, textures, weights, sampled):
        lines = ["struct NtDecoder", "{", *(f"texture2d<float> {name};" for name in textures)]
        if not weights.baked:
            lines.append(f"const device {weights.element}* {TABLE};")
        return lines

    def closing(self) -> list[str]:
        return ["};"]

    def fetch(self, texture):
        return f"{texture}.read(uint2(texel), uint(mip))"

    def sample(self, texture):
        return f"{texture}.sample({SAMPLER}, uv, level(lod))"

    def sample_grad(self, texture):
        return f"{texture}.sample({SAMPLER}, uv, gradient2d(across, down))"

    def sampler_statements(self):
        settings = "coord::normalized, address::repeat, filter::linear, mip_filter::linear, max_anisotropy(16)"
        return [f"constexpr sampler {SAMPLER}({settings});"]

    def sampler_note(self, index):
        return "The sampler is declared in the decoder."

    def bgra4_note(self):
        return "B4G4R4A4_UNORM is ABGR4Unorm in Metal, in a view with the swizzle green, blue, alpha, red."

    def unpacked(self, word):
        return f"float4(float2(as_type<half2>({word}.x)), float2(as_type<half2>({word}.y)))"

    def signed_bytes(self, word):
        return f"float4((int4(as_type<int>({word})) << int4(24, 16, 8, 0)) >> 24)"

    def as_float(self, word):
        return f"as_type<float>({word})"

    def weight_buffer(self, weights):
        return f"{TABLE}, a device buffer of {weights.element}"

    def example(self, textures, weights, way, more=()):
        members = ", ".join([*textures, *([] if weights.baked else [TABLE])])
        return [
            f"NtDecoder decoder = {{{members}}};  // arguments of the shader function",
            *self.decoding(way, "NtDecoder::NtMaterial material", "float lod", "decoder."),
            "float3 albedo = decoder.ntLinearDiffuse(&material);",
            "float3 normal = decoder.ntUnitNormal(&material);  // tangent space",
            *self.variables(more, "decoder."),
        ]


LANGUAGES: dict[str, Language] = {"hlsl": Hlsl(), "glsl": Glsl(), "essl": Essl(), "wgsl": Wgsl(), "metal": Metal()}
