"""What the decoder of bench.decode costs as a shader: the operations of one texel.

They need glslangValidator, and spirv-opt for what a driver would remove too.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import blocks
from bench.spirv import Invocation, Module
from common.errors import one_line
from describe.numpy_decoder import block_features
from formats import bc1
from formats.block_textures import grid_blocks
from formats.dds_layouts import grid_textures
from maps.record import MaterialRecord
from model import NeuralTexture
from shaders.export import shader_source, texture_names
from shaders.weights import weight_bytes

LODS = (0.0, 0.5)  # a whole one, and one between two
# In the buffer, by precision: what the network multiplies, so that counts are its own, whatever holds its weights.
WEIGHT_TYPES = {32: "float32", 16: "auto", 8: "auto"}
TABLES = {32: ("<f4", 4), 16: ("<u4", 2), 8: ("<i4", 4)}  # its numbers, and how many an element has
# Compilers of today do not know the instruction that adds a product of four bytes: another one, which decoders do not
# use, stands for it, and bench.spirv computes with it what it stands for.
DOTS = """ivec4 ntDots(uvec4 rows, uint inputs, ivec4 sums)
{
    return bitfieldInsert(sums, ivec4(rows), int(inputs), 0);
}"""

# (H, W, C) uint8, or blocks of BC1, (H / 4, W / 4, 8) uint8; the largest first, of blocks a multiple of 4 texels
Levels = Sequence[np.ndarray]


def shader_textures(model: NeuralTexture, layout: str) -> dict[str, Levels]:
    """The textures of a layout under their names in the shader; channels of 4 bits as the 8 that mean the same."""
    levels: list[Levels] = []
    for index, grid in enumerate(model.grids):
        if grid.compressed:
            chain = grid_blocks(model, index, grid.n_levels)
            sizes = [grid.units_of(size) for size in grid.mip_sizes]  # in blocks
            shapes = [(down, across, blocks.BC1.bytes) for across, down in sizes]
            levels.append([level.reshape(shape) for level, shape in zip(chain, shapes)])
            continue
        for texture in grid_textures(model, index, layout):
            levels.append([level * (17 if texture.bits == 4 else 1) for level in texture.levels])
    return dict(zip(texture_names(model, layout), levels))


def is_blocks(level: np.ndarray) -> bool:
    return level.shape[2] == blocks.BC1.bytes


def unorm(levels: Levels) -> tuple[np.ndarray, ...]:
    """What a fetch returns, (H, W, 4) float of each level; of BC1 with exact thirds."""
    if not is_blocks(levels[0]):
        return tuple(np.pad(level, [(0, 0), (0, 0), (0, 4 - level.shape[2])]) / 255 for level in levels)
    found = []
    for mip, level in enumerate(levels):
        split = bc1.split(level.reshape(-1, blocks.BC1.bytes))
        down, across = levels[0].shape[:2]
        size = max(across * blocks.BC1.side >> mip, 1), max(down * blocks.BC1.side >> mip, 1)
        colours = block_features(blocks.BC1, *split, size) + 0.5
        found.append(np.pad(colours.astype(np.float64), [(0, 0), (0, 0), (0, 1)], constant_values=1.0))
    return tuple(found)


def decoder_source(
    model: NeuralTexture, size: tuple[int, int], language: str, layout: str, precision: int = 32
) -> str:
    """The decoder of a material of 11 channels, its weights in a buffer."""
    material = MaterialRecord("bench", *size, ())
    return shader_source(model, material, language, "buffer", WEIGHT_TYPES[precision], layout, precision=precision)


def decoder_weights(model: NeuralTexture, precision: int) -> bytes:
    """That buffer."""
    return weight_bytes(model, WEIGHT_TYPES[precision], precision)


# --- operations ----------------------------------------------------------------------------------------------------

COMPUTE_ENTRY = """
layout(local_size_x = 1) in;
layout(std430, set = 3, binding = 0) buffer Texel { vec4 query; vec4 decoded[3]; };

void main()
{
    NtMaterial m = ntDecode(query.xy, query.z);
    decoded[0] = vec4(m.diffuse, m.normal.x);
    decoded[1] = vec4(m.normal.yz, m.roughness, m.occlusion);
    decoded[2] = vec4(m.metallic, m.specular, m.displacement, 0.0);
}
"""


def shader_tools() -> tuple[str | None, str | None]:
    """(glslangValidator, spirv-opt), None where it is not installed."""
    return shutil.which("glslangValidator"), shutil.which("spirv-opt")


def compile_decoder(source: str, optimise: bool) -> bytes:
    """`compile_shader` of a GLSL decoder; of one of 8 bits with DOTS."""
    source = re.sub(r"^#ifdef NT_DOTS\n.*?^#endif$", DOTS, source, flags=re.MULTILINE | re.DOTALL)
    return compile_shader("#version 450\n" + source + COMPUTE_ENTRY, optimise)


def compile_shader(source: str, optimise: bool) -> bytes:
    """SPIR-V of a compute shader in GLSL, by glslangValidator, and by spirv-opt -O when `optimise`.

    Raises: RuntimeError when one of them refuses.
    """
    compiler, optimiser = shader_tools()
    with tempfile.TemporaryDirectory() as folder:
        text, plain, small = (Path(folder) / name for name in ("decoder.comp", "plain.spv", "small.spv"))
        text.write_text(source, encoding="utf-8")
        commands = [[compiler, "-V", text, "-o", plain]] + [[optimiser, "-O", plain, "-o", small]] * optimise
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{command[0]}: {one_line(done.stdout + done.stderr)[:500]}")
        return (small if optimise else plain).read_bytes()


def count_operations(
    binary: bytes, model: NeuralTexture, layout: str, uv: tuple[float, float], lod: float, precision: int = 32
) -> tuple[dict[str, int], np.ndarray]:
    """What decoding one position executes, and what it decodes.

    Args:
        binary: compile_decoder of decoder_source of this model, layout and precision.
        uv: a position; only what is decided by the position (addressing, activations) depends on it.
    Returns: bench.spirv.KINDS -> count; the 11 values.
    """
    resources: dict[str, Any] = {"Texel": [[*uv, lod, 0.0], [[0.0] * 4 for _ in range(3)]]}
    resources.update((name, unorm(levels)) for name, levels in shader_textures(model, layout).items())
    kind, length = TABLES[precision]
    table = np.frombuffer(decoder_weights(model, precision), kind).reshape(-1, length)
    resources["NtWeights"] = [table.tolist()]  # words of two halves, or of four bytes
    invocation = Invocation(Module(binary), resources, ["NtWeights"])
    counts = invocation.run()
    return dict(counts), np.ravel(invocation.buffer("Texel")[1])[:11]
