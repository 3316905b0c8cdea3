"""What decoding on load costs: operations and bytes a texel of the shaders of shaders/on_load.py, for bench.decode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.decode_shader import compile_shader, shader_textures, shader_tools, unorm
from bench.spirv import KINDS, Invocation, Module
from configs import MAPS
from formats.dds import BLOCK, BLOCK_BYTES
from maps.record import MapRecord, MaterialRecord
from model import NeuralTexture
from shaders.on_load import blocks_source, on_load_source, targets_of
from shaders.weights import weight_bytes
from transcode.gpu import FORMS

TEXEL = (20, 9)  # of LOD 0, away from its borders, where nothing wraps around
LOAD_COLUMNS = (
    ("shader", "shader", "{}"), ("form", "form", "{}"), ("bytes read", "bytes_read", "{:.2f}"),
    ("bytes written", "bytes_written", "{:.2f}"), *((kind, kind, "{:.0f}") for kind in KINDS if kind != "weights"),
)  # fmt: skip


def measure_load(models: Mapping[str, NeuralTexture]) -> list[dict[str, Any]]:
    """Counts per texel of the decoding shader of each form, and of the blocks; nothing without glslangValidator, which
    bench.decode has said by then.

    models: by form, of materials with all seven maps.
    """
    compiler, optimiser = shader_tools()
    if compiler is None:
        return []
    rows = []
    for form, model in models.items():
        counts, words = count_decode(model, optimise=bool(optimiser))
        read = 4 * counts.pop("weights", 0)
        rows.append(_row("on_load", form, counts, read, 4 * len(words), 1))
    for form, name in FORM_NAMES.items():
        counts, words = count_block(sample_block(), form, optimise=bool(optimiser))
        read = 4 * counts.pop("weights", 0)
        rows.append(_row("blocks", name, counts, read, 4 * len(words), BLOCK * BLOCK))
    return rows


FORM_NAMES = {"bc7": "BC7", "bc5": "BC5", "bc4": "BC4"}


def _row(
    shader: str, form: str, counts: Mapping[str, int], read: int, written: int, texels: int
) -> dict[str, Any]:
    return {
        "part": "load", "shader": shader, "form": form, "bytes_read": read / texels, "bytes_written": written / texels,
        **{kind: counts.get(kind, 0) / texels for kind in KINDS if kind != "weights"},
    }  # fmt: skip


def whole_material(size: tuple[int, int]) -> MaterialRecord:
    """A record with all seven maps, its normals of unit length."""
    maps = [MapRecord(name, *(("srgb", "srgb") if name == "diffuse" else ("linear", "linear")),
                      unit_normals=True if name == "normal" else None) for name in MAPS]  # fmt: skip
    return MaterialRecord("bench", *size, tuple(maps))


def count_decode(model: NeuralTexture, optimise: bool) -> tuple[dict[str, int], list[int]]:
    """What decoding TEXEL into RGBA8 executes, `weights` of it the words of the network that are read, and the words
    that it writes, a target each. The weights are float32."""
    side = 1 << model.num_lods - 1
    material = whole_material((side, side))
    binary = compile_shader(on_load_source(model, material, "glsl", "buffer", "float32"), optimise)
    count = len(targets_of(material))
    columns = np.frombuffer(weight_bytes(model, "float32"), "<f4").reshape(-1, 4)
    resources: dict[str, Any] = {
        "ntRectangle": [*TEXEL, 1, 1, 0, 0, 1, 1],
        "ntTexelsBuffer": [[0] * count],
        "NtWeights": [columns.astype(np.float64).tolist()],
        **{name: unorm(levels) for name, levels in shader_textures(model, "packed").items()},
    }
    invocation = Invocation(Module(binary), resources, ["NtWeights"])
    return dict(invocation.run()), [word & 0xFFFFFFFF for word in invocation.buffer("ntTexelsBuffer")[0]]


def sample_block() -> np.ndarray:
    """(4, 4, 4) uint8 whose alphas differ too, so that BC7 tries all that it knows."""
    return np.random.default_rng(5).integers(40, 200, (BLOCK, BLOCK, 4), dtype=np.uint8)


def count_block(texels: np.ndarray, form: str, optimise: bool) -> tuple[dict[str, int], list[int]]:
    """What making one block executes, `weights` of it the words that are read, and the words of the block.

    Args:
        texels: (4, 4, 4) uint8.
        form: a key of FORMS; BC4 is of the first channel.
    """
    binary = compile_shader(blocks_source("glsl"), optimise)
    words = np.ascontiguousarray(texels).view("<u4").ravel().tolist()
    size = BLOCK_BYTES[form] // 4
    resources: dict[str, Any] = {
        "ntImage": [BLOCK, BLOCK, 0, BLOCK, FORMS[form], 0, 0, size], "ntTexelsBuffer": [words],
        "ntBlocksBuffer": [[0] * size],
    }  # fmt: skip
    invocation = Invocation(Module(binary), resources, ["ntTexelsBuffer"])
    return dict(invocation.run()), [word & 0xFFFFFFFF for word in invocation.buffer("ntBlocksBuffer")[0]]
