"""Compilers of exported decoders: glslang, DXC and Slang's own, each skipped where it is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from formats.textures import read_export
from shaders import generate
from shaders.export import shader_source

# A fragment shader around the example of the header, per language.
WRAPPERS = {
    "hlsl": "{source}\nfloat4 main(float2 uv : TEXCOORD0) : SV_Target\n{{\n{example}\n"
    "return float4(albedo + normal, 1.0);\n}}\n",
    "glsl": "#version 450\n{source}\nlayout(location = 0) in vec2 uv;\nlayout(location = 0) out vec4 color;\n"
    "void main()\n{{\n{example}\ncolor = vec4(albedo + normal, 1.0);\n}}\n",
    "essl": "#version 300 es\n{source}\nin vec2 uv;\nout vec4 color;\n"
    "void main()\n{{\n{example}\ncolor = vec4(albedo + normal, 1.0);\n}}\n",
}
COMPILERS = {
    "hlsl": ["-D", "-V", "-e", "main"],
    "glsl": ["-V"],
    "essl": [],
}


def slangc_of_the_committed_files() -> Path:
    """Slang's compiler, of the version that wrote shaders/generated."""
    slangc = generate.find_slangc()
    if slangc is None:
        pytest.skip("needs Slang's compiler: pip install --no-deps slangtorch")
    if generate.version_of(slangc) != generate.SLANG_VERSION:
        pytest.skip(f"the committed files are by slangc {generate.SLANG_VERSION}, here is another version")
    return slangc


def example_of(source: str) -> str:
    """The lines of code in the header's example."""
    header = source.split("\n\n")[0].split("Example, in a fragment shader:\n")[1]
    return "\n".join(line.removeprefix("//") for line in header.splitlines())


def example_shader(
    language: str, storage: tuple[str, str, str], export_folder: Path, path: Path, positions: str = "centres",
    precision: int = 32,
) -> None:  # fmt: skip
    """Write a fragment shader around the example of the header; storage: weights, weight_type and layout."""
    exported = read_export(export_folder)
    material, more = exported.manifest.material, {"positions": positions, "precision": precision}
    source = shader_source(exported.model, material, language, *storage, **more)
    path.write_text(WRAPPERS[language].format(source=source, example=example_of(source)))


def compile_with_glslang(language: str, path: Path, stage: str = "frag") -> Path:
    """Compile a shader; return the SPIR-V, which is not made for GLSL ES."""
    compiler = shutil.which("glslangValidator")
    if not compiler:
        pytest.skip("needs glslangValidator: apt install glslang-tools")
    command, out = [compiler, *COMPILERS[language], "-S", stage, path], path.with_suffix(".spv")
    if "-V" in command:
        command += ["-o", out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "ERROR" not in done.stdout, done.stdout
    return out


def compile_with_dxc(
    path: Path, profile: str = "sm_6_0", flags: Sequence[str] = (), stage: str = "fragment", target: str = "dxil"
) -> subprocess.CompletedProcess:
    """Microsoft's compiler for HLSL, through Slang's, which finds libdxcompiler.so beside itself; flags are for it.

    target: the ending of what is written beside `path`; `dxil-asm` is text.
    """
    slangc = generate.find_slangc()
    if slangc is None:
        pytest.skip("needs Slang's compiler: pip install --no-deps slangtorch")
    command = [slangc, path, "-pass-through", "dxc", "-target", target, "-profile", profile, "-entry", "main"]
    command += ["-stage", stage, "-o", path.with_suffix(f".{target}")]
    command += [word for flag in flags for word in ("-Xdxc", flag)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "failed to load downstream compiler" in done.stderr:
        pytest.skip("needs DXC: .ci/run puts libdxcompiler.so of compushady-lrtu beside slangc")
    return done


def assert_every_name_is_defined(source: str) -> None:
    """What the translated text takes from the preamble is there, in Metal too, which nothing here compiles."""
    defined = set(re.findall(r"(?:#define|const) (NT_\w+)", source))
    for_hosts = {"NT_REGISTER", "NT_SAMPLER_REGISTER", "NT_BINDING", "NT_UNIFORM_WEIGHTS", "NT_PLAIN_DOTS"}
    assert set(re.findall(r"\bNT_[A-Z_\d]+\b", source)) - for_hosts <= defined
    for name in set(re.findall(r"\b(nt[A-Z]\w*)\(", source)) - {"ntSampler"}:  # of Metal, a variable
        assert re.search(rf"^(?:fn {name}\(|[\w<>]+ {name}\(.*\)$)", source, re.MULTILINE), name
    for bracket in ("()", "[]", "{}"):
        assert source.count(bracket[0]) == source.count(bracket[1])
    assert max(map(len, source.split("\n\n")[0].splitlines())) <= 140
