"""Products of bytes in the shading languages, for --shader_precision 8: the function ntDots of the preamble.

It adds to the sums of four rows the products of the four signed bytes of a word of inputs with those of a word of each
row. Where a language has an instruction for four such products, it is used; plain whole numbers give the same.
"""

from __future__ import annotations

from dataclasses import dataclass

FUNCTION = "ntDots"


@dataclass(frozen=True)
class DotSyntax:
    """One language's."""

    function: tuple[str, ...]
    opening: tuple[str, ...] = ()  # lines before all others
    note: str = ""  # a line of the header


def _plain(signature: str, rows: str, word: str) -> tuple[str, ...]:
    """The function without such instructions, a byte after the other; rows, word: its arguments as signed numbers."""
    shifted = [("r", "x") if not k else (f"(r << {k})", f"(x << {k})") for k in (24, 16, 8, 0)]
    sums = [f"    sums += ({row} >> 24) * ({inputs} >> 24);" for row, inputs in shifted]
    return (signature, "{", f"    {rows};", f"    {word};", *sums, "    return sums;", "}")


def _four(product: str, separator: str = ", ") -> str:
    """The products of the four rows; {k} in `product` is a component."""
    return separator.join(product.format(k=k) for k in "xyzw")


_HLSL = "int4 ntDots(uint4 rows, uint inputs, int4 sums)"
HLSL = DotSyntax(
    (
        "// An instruction from shader model 6.4 on; define NT_PLAIN_DOTS for plain products there too.",
        "#if !defined(NT_PLAIN_DOTS) && (__SHADER_TARGET_MAJOR > 6 || (__SHADER_TARGET_MAJOR == 6 && "
        "__SHADER_TARGET_MINOR >= 4))",
        _HLSL,
        "{",
        f"    return int4({_four('dot4add_i8packed(inputs, rows.{k}, sums.{k})')});",
        "}",
        "#else",
        *_plain(_HLSL, "int4 r = asint(rows)", "int x = asint(inputs)"),
        "#endif",
    ),
    note="Four of them are an instruction from shader model 6.4 on.",
)
_GLSL = "ivec4 ntDots(uvec4 rows, uint inputs, ivec4 sums)"
_GLSL_PLAIN = _plain(_GLSL, "ivec4 r = ivec4(rows)", "int x = int(inputs)")
GLSL = DotSyntax(
    (
        "#ifdef NT_DOTS",
        _GLSL,
        "{",
        "    int x = int(inputs);",
        f"    return sums + ivec4({_four('dotPacked4x8EXT(x, int(rows.{k}))')});",
        "}",
        "#else",
        *_GLSL_PLAIN,
        "#endif",
    ),
    (
        "// GL_EXT_integer_dot_product where the compiler has it: shaderIntegerDotProduct, in Vulkan 1.3. Define",
        "// NT_PLAIN_DOTS before including this for devices without.",
        "#if defined(GL_EXT_integer_dot_product) && !defined(NT_PLAIN_DOTS)",
        "#extension GL_EXT_integer_dot_product : require",
        "#define NT_DOTS",
        "#endif",
        "",
    ),
    "Four of them are an instruction where shaderIntegerDotProduct of Vulkan 1.3 is; see NT_PLAIN_DOTS.",
)
ESSL = DotSyntax(_GLSL_PLAIN)
WGSL = DotSyntax(
    (
        "fn ntDots(rows: vec4<u32>, inputs: u32, sums: vec4<i32>) -> vec4<i32>",
        "{",
        f"    return sums + vec4<i32>({_four('dot4I8Packed(inputs, rows.{k})')});",
        "}",
    ),
    note="Needs the language feature packed_4x8_integer_dot_product, which has no device feature of its own.",
)
METAL = DotSyntax(_plain(_HLSL, "int4 r = int4(rows)", "int x = int(inputs)"))
SLANG = DotSyntax(
    (_HLSL, "{", f"    return int4({_four('dot4add_i8packed(inputs, rows.{k}, sums.{k})')});", "}"),
    note="Four of them are an instruction where shaderIntegerDotProduct of Vulkan 1.3 is, or shader model 6.4.",
)
