"""Numbers of 16 bits in the shading languages, for --shader_precision 16: their names, and how words become them.

What a language calls them differs, and what it promises too: HLSL's min16float and GLSL ES's mediump may be computed
with 32 bits, which is only more exact. The texts of shaders/generated use the names that `opening` defines.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HalfSyntax:
    """One language's; {word} is the name of a uint2 that holds four halves."""

    vector: str  # the type of four
    convert: str  # what makes one of a float4
    unpack: str  # an expression: those of a uint2
    opening: tuple[str, ...] = ()  # lines before all others
    note: str = ""  # a line of the header: what it needs


HLSL = HalfSyntax(
    "NT_HALF4", "NT_HALF4", "NT_HALVES({word})",
    (
        "// min16float is 16 bits where the GPU has them; with -enable-16bit-types (shader model 6.2) it is float16_t.",
        "#define NT_HALF min16float",
        "#define NT_HALF4 min16float4",
        "#define NT_FOUR(word) uint4(word.x & 0xffffu, word.x >> 16u, word.y & 0xffffu, word.y >> 16u)",
        "#ifdef __HLSL_ENABLE_16_BIT",
        "#define NT_HALVES(word) asfloat16(uint16_t4(NT_FOUR(word)))",
        "#else",
        "#define NT_HALVES(word) NT_HALF4(f16tof32(NT_FOUR(word)))",
        "#endif",
        "",
    ),
    "They are min16float, a hint, or with -enable-16bit-types float16_t.",
)  # fmt: skip
GLSL = HalfSyntax(
    "NT_HALF4", "NT_TO_HALF4", "NT_HALF4(unpackFloat2x16({word}.x), unpackFloat2x16({word}.y))",
    (
        "#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require",
        "#define NT_HALF float16_t",
        "#define NT_TO_HALF float16_t",
        "#define NT_HALF4 f16vec4",
        "#define NT_TO_HALF4 f16vec4",
        "",
    ),
    "Needs shaderFloat16 of Vulkan 1.2. Include this before anything that is declared.",
)  # fmt: skip
ESSL = HalfSyntax(
    "NT_HALF4", "NT_TO_HALF4", "vec4(unpackHalf2x16({word}.x), unpackHalf2x16({word}.y))",
    (
        "#define NT_HALF mediump float",
        "#define NT_TO_HALF float",
        "#define NT_HALF4 mediump vec4",
        "#define NT_TO_HALF4 vec4",
        "",
    ),
    "They are mediump, a hint: GPUs of phones follow it, those of desktops compute with float32.",
)  # fmt: skip
WGSL = HalfSyntax(
    "vec4<f16>", "vec4<f16>",  # a bitcast from vec2<u32> would do; naga (wgpu 0.32) refuses it
    "vec4<f16>(vec4<f32>(unpack2x16float({word}.x), unpack2x16float({word}.y)))", ("enable f16;", ""),
    "Needs the feature shader-f16. Nothing may be declared before this text, which begins with enable f16.",
)  # fmt: skip
METAL = HalfSyntax("half4", "half4", "half4(as_type<half2>({word}.x), as_type<half2>({word}.y))")
SLANG = HalfSyntax(
    "half4", "half4", "half4(bit_cast<half2>({word}.x), bit_cast<half2>({word}.y))",
    note="Needs shaderFloat16 of Vulkan 1.2.",
)
