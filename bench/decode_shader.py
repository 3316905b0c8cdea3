"""What the decoder of bench.decode costs as a shader: operations of one texel, and the time of a frame.

Operations need glslangValidator, and spirv-opt for what a driver would remove too; a frame needs wgpu and a device.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import blocks
from bench.spirv import Invocation, Module
from common.errors import one_line
from describe.numpy_decoder import block_features
from formats.block_textures import grid_blocks
from formats.dds_layouts import grid_textures
from maps.record import MaterialRecord
from model import NeuralTexture
from shaders.export import reading, shader_source, texture_names
from shaders.weights import weight_bytes

LODS = (0.0, 0.5)  # a whole one, and one between two
WEIGHT_TYPE = "float32"  # in the buffer, so that counts are those of the network, whatever holds its weights
WORKGROUP = 8  # width and height, of the frame's shader

BC_FEATURE = "texture-compression-bc"  # of a WebGPU device

# (H, W, C) uint8, or blocks of BC1, (H / 4, W / 4, 8) uint8; the largest first, of blocks a multiple of 4 texels
Levels = Sequence[np.ndarray]


def shader_textures(model: NeuralTexture, layout: str) -> dict[str, Levels]:
    """The textures of a layout under their names in the shader; channels of 4 bits as the 8 that mean the same."""
    levels: list[Levels] = []
    for index, grid in enumerate(model.grids):
        if grid.compressed:
            chain = grid_blocks(model, index, grid.n_levels)
            sizes = [grid.units_of(size) for size in grid.mip_sizes]  # in blocks
            shapes = [(down, across, blocks.BLOCK_BYTES) for across, down in sizes]
            levels.append([level.reshape(shape) for level, shape in zip(chain, shapes)])
            continue
        for texture in grid_textures(model, index, layout):
            levels.append([level * (17 if texture.bits == 4 else 1) for level in texture.levels])
    return dict(zip(texture_names(model, layout), levels))


def is_blocks(level: np.ndarray) -> bool:
    return level.shape[2] == blocks.BLOCK_BYTES


def unorm(levels: Levels) -> tuple[np.ndarray, ...]:
    """What a fetch returns, (H, W, 4) float of each level; of BC1 with exact thirds."""
    if not is_blocks(levels[0]):
        return tuple(np.pad(level, [(0, 0), (0, 0), (0, 4 - level.shape[2])]) / 255 for level in levels)
    found = []
    for mip, level in enumerate(levels):
        split = blocks.split_blocks(level.reshape(-1, blocks.BLOCK_BYTES))
        down, across = levels[0].shape[:2]
        size = max(across * blocks.SIDE >> mip, 1), max(down * blocks.SIDE >> mip, 1)
        colours = block_features(*split, size) + 0.5
        found.append(np.pad(colours.astype(np.float64), [(0, 0), (0, 0), (0, 1)], constant_values=1.0))
    return tuple(found)


def decoder_source(model: NeuralTexture, size: tuple[int, int], language: str, layout: str) -> str:
    """The decoder of a material of 11 channels, its weights in a buffer."""
    material = MaterialRecord("bench", *size, ())
    return shader_source(model, material, language, "buffer", WEIGHT_TYPE, layout)


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
    """`compile_shader` of a GLSL decoder."""
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
    binary: bytes, model: NeuralTexture, layout: str, uv: tuple[float, float], lod: float
) -> tuple[dict[str, int], np.ndarray]:
    """What decoding one position executes, and what it decodes.

    Args:
        binary: compile_decoder of decoder_source of this model and layout.
        uv: a position; only what is decided by the position (addressing, activations) depends on it.
    Returns: bench.spirv.KINDS -> count; the 11 values.
    """
    resources: dict[str, Any] = {"Texel": [[*uv, lod, 0.0], [[0.0] * 4 for _ in range(3)]]}
    resources.update((name, unorm(levels)) for name, levels in shader_textures(model, layout).items())
    columns = np.frombuffer(weight_bytes(model, WEIGHT_TYPE), "<f4").reshape(-1, 4)
    resources["NtWeights"] = [columns.astype(np.float64).tolist()]
    invocation = Invocation(Module(binary), resources, ["NtWeights"])
    counts = invocation.run()
    return dict(counts), np.ravel(invocation.buffer("Texel")[1])[:11]


# --- a frame -------------------------------------------------------------------------------------------------------

# All eleven values are stored, so that a compiler has to compute them.
FRAME_ENTRY = """
@group(1) @binding(0) var<storage, read_write> frame: array<vec4<u32>>;

@compute @workgroup_size({workgroup}, {workgroup})
fn main(@builtin(global_invocation_id) id: vec3<u32>)
{{
    if (id.x >= {width}u || id.y >= {height}u) {{ return; }}
    let size = vec2<f32>(NT_MATERIAL_WIDTH, NT_MATERIAL_HEIGHT);
    let m = ntDecode((vec2<f32>(id.xy) + 0.5) / size, 0.0);
    let first = pack4x8unorm(vec4<f32>(m.diffuse, m.roughness));
    let second = pack4x8unorm(vec4<f32>(m.normal, m.occlusion));
    let third = pack4x8unorm(vec4<f32>(m.metallic, m.specular, m.displacement, 0.0));
    frame[id.y * {width}u + id.x] = vec4<u32>(first, second, third, 0u);
}}
"""


class NoDevice(Exception):
    """There is nothing to draw a frame with, or to draw these textures; the message says what is missing."""


@functools.lru_cache
def open_device() -> tuple[Any, str, bool]:
    """(wgpu device, its name, whether it is a CPU). Raises: NoDevice."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())  # without one, drivers print errors of their own
    with contextlib.suppress(ImportError):
        import triton  # noqa: F401  # of PyTorch: its LLVM crashes when it is loaded after the one of Mesa's CPU device
    try:
        import wgpu

        adapter = wgpu.gpu.request_adapter_sync(power_preference="high-performance")
        device = adapter.request_device_sync(required_features={BC_FEATURE} & set(adapter.features))
    except Exception as error:  # a missing package, library, driver: whatever a binding can run into
        raise NoDevice(f"{one_line(str(error))[:120]}; pip install wgpu, apt install mesa-vulkan-drivers") from error
    return device, str(adapter.info["device"]), adapter.info["adapter_type"] == "CPU"


class Frame:
    """A frame of texels of LOD 0, one per pixel, ready to be decoded again and again.

    Raises: NoDevice.
    """

    def __init__(self, model: NeuralTexture, material: tuple[int, int], size: tuple[int, int], layout: str):
        self.device, self.name, self.is_cpu = open_device()
        if any(grid.compressed for grid in model.grids) and BC_FEATURE not in self.device.features:
            raise NoDevice(f"{self.name} has no {BC_FEATURE}")
        self.size = size
        import wgpu  # after open_device, which says what to do where it is missing

        entry = FRAME_ENTRY.format(workgroup=WORKGROUP, width=size[0], height=size[1])
        module = self.device.create_shader_module(code=decoder_source(model, material, "wgsl", layout) + entry)
        compute = {"module": module, "entry_point": "main"}
        self.pipeline = self.device.create_compute_pipeline(layout="auto", compute=compute)
        storage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC
        bound = [self._texture(wgpu, levels) for levels in shader_textures(model, layout).values()]
        weights = weight_bytes(model, WEIGHT_TYPE)
        bound.append({"buffer": self.device.create_buffer_with_data(data=weights, usage=storage)})
        if reading(model.grids, layout) != "packed":
            modes = dict.fromkeys(("address_mode_u", "address_mode_v"), "repeat")
            filters = dict.fromkeys(("mag_filter", "min_filter", "mipmap_filter"), "linear")
            bound.append(self.device.create_sampler(**modes, **filters))
        self.target = self.device.create_buffer(size=size[0] * size[1] * 16, usage=storage)
        self.groups = [self._group(0, bound), self._group(1, [{"buffer": self.target}])]

    def _texture(self, wgpu: Any, levels: Levels) -> Any:
        usage = wgpu.TextureUsage.TEXTURE_BINDING | wgpu.TextureUsage.COPY_DST
        side = blocks.SIDE if is_blocks(levels[0]) else 1  # texels of what has the last axis of an array
        height, width, channels = levels[0].shape
        formats = {1: "r8unorm", 2: "rg8unorm", 4: "rgba8unorm", blocks.BLOCK_BYTES: "bc1-rgba-unorm"}
        texture = self.device.create_texture(
            size=(width * side, height * side, 1), mip_level_count=len(levels), usage=usage, format=formats[channels]
        )
        for mip, level in enumerate(levels):
            rows = {"bytes_per_row": level.shape[1] * channels, "rows_per_image": level.shape[0]}
            extent = (level.shape[1] * side, level.shape[0] * side, 1)  # whole blocks, also of smaller levels
            self.device.queue.write_texture({"texture": texture, "mip_level": mip}, level.tobytes(), rows, extent)
        return texture.create_view()

    def _group(self, index: int, resources: Sequence[Any]) -> Any:
        entries = [{"binding": binding, "resource": resource} for binding, resource in enumerate(resources)]
        return self.device.create_bind_group(layout=self.pipeline.get_bind_group_layout(index), entries=entries)

    def draw(self, rows: int) -> float:
        """Decode the first rows, in steps of WORKGROUP. Returns: seconds until the first pixel can be read."""
        started = time.perf_counter()
        encoder = self.device.create_command_encoder()
        compute = encoder.begin_compute_pass()
        compute.set_pipeline(self.pipeline)
        for index, group in enumerate(self.groups):
            compute.set_bind_group(index, group)
        compute.dispatch_workgroups(-(-self.size[0] // WORKGROUP), -(-rows // WORKGROUP))
        compute.end()
        self.device.queue.submit([encoder.finish()])
        self.device.queue.read_buffer(self.target, size=16)
        return time.perf_counter() - started

    def pixels(self) -> np.ndarray:
        """The last frame: (height, width, 11) uint8 in canonical order."""
        words = np.frombuffer(self.device.queue.read_buffer(self.target), np.uint8).reshape(*self.size[::-1], 16)
        return words[..., [0, 1, 2, 4, 5, 6, 3, 7, 8, 9, 10]]


def measure_frame(frame: Frame, rounds: int, turn_s: float) -> dict[str, Any]:
    """The figures of a frame, from as many of its rows as take `turn_s` seconds, all of them where it is quicker."""
    width, height = frame.size
    rows = min(WORKGROUP, height)
    frame.draw(rows)  # compiles the shader
    while frame.draw(rows) < turn_s / 2 and rows < height:
        rows = min(2 * rows, height)
    seconds = [frame.draw(rows) * height / rows for _ in range(rounds)]
    middle = statistics.median(seconds)
    return {
        "device": frame.name + (" (a CPU)" if frame.is_cpu else ""),
        "is_cpu": frame.is_cpu,
        "width": width,
        "height": height,
        "rows": rows,
        "rounds": rounds,
        "milliseconds": middle * 1000,
        "fastest": min(seconds) * 1000,
        "slowest": max(seconds) * 1000,
        "texels_per_second": width * height / middle,
    }
