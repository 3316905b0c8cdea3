"""Decoders in WGSL on a device of wgpu: a frame of pixels, and whole LODs of a material."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import blocks
from bench.decode_shader import Levels, decoder_source, decoder_weights, is_blocks, shader_textures
from maps.record import MaterialRecord
from model import NeuralTexture
from shaders.device import BC_FEATURE, HALF_FEATURE, NoDevice, open_device
from shaders.export import reading

WORKGROUP = 8  # width and height, of the entry points

class Program:
    """The decoder of a model with an entry point, its textures and weights bound.

    entry: WGSL; its own buffers are group 1.
    precision: bits of the network's products.
    Raises: NoDevice.
    """

    def __init__(
        self, model: NeuralTexture, material: tuple[int, int], layout: str, entry: str, precision: int = 32
    ):  # fmt: skip
        self.device, self.name, self.is_cpu = open_device()
        needed = {BC_FEATURE} if any(grid.compressed for grid in model.grids) else set()
        needed |= {HALF_FEATURE} if precision == 16 else set()
        if needed - set(self.device.features):
            raise NoDevice(f"{self.name} has no {', '.join(sorted(needed - set(self.device.features)))}")
        import wgpu  # after open_device, which says what to do where it is missing

        source = decoder_source(model, material, "wgsl", layout, precision)
        compute = {"module": self.device.create_shader_module(code=source + entry), "entry_point": "main"}
        self.pipeline = self.device.create_compute_pipeline(layout="auto", compute=compute)
        self.storage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
        bound = [self._texture(wgpu, levels) for levels in shader_textures(model, layout).values()]
        weights = decoder_weights(model, precision)
        bound.append({"buffer": self.device.create_buffer_with_data(data=weights, usage=self.storage)})
        if reading(model.grids, layout) != "packed":
            modes = dict.fromkeys(("address_mode_u", "address_mode_v"), "repeat")
            filters = dict.fromkeys(("mag_filter", "min_filter", "mipmap_filter"), "linear")
            bound.append(self.device.create_sampler(**modes, **filters))
        self.groups = [self.group(0, bound)]

    def _texture(self, wgpu: Any, levels: Levels) -> Any:
        usage = wgpu.TextureUsage.TEXTURE_BINDING | wgpu.TextureUsage.COPY_DST
        side = blocks.BC1.side if is_blocks(levels[0]) else 1  # texels of what has the last axis of an array
        height, width, channels = levels[0].shape
        formats = {1: "r8unorm", 2: "rg8unorm", 4: "rgba8unorm", blocks.BC1.bytes: "bc1-rgba-unorm"}
        texture = self.device.create_texture(
            size=(width * side, height * side, 1), mip_level_count=len(levels), usage=usage, format=formats[channels]
        )
        for mip, level in enumerate(levels):
            rows = {"bytes_per_row": level.shape[1] * channels, "rows_per_image": level.shape[0]}
            extent = (level.shape[1] * side, level.shape[0] * side, 1)  # whole blocks, also of smaller levels
            self.device.queue.write_texture({"texture": texture, "mip_level": mip}, level.tobytes(), rows, extent)
        return texture.create_view()

    def group(self, index: int, resources: Sequence[Any]) -> Any:
        entries = [{"binding": binding, "resource": resource} for binding, resource in enumerate(resources)]
        return self.device.create_bind_group(layout=self.pipeline.get_bind_group_layout(index), entries=entries)

    def buffer(self, size: int) -> Any:
        return self.device.create_buffer(size=size, usage=self.storage)

    def run(self, width: int, height: int) -> None:
        """One invocation for each of width x height points."""
        encoder = self.device.create_command_encoder()
        compute = encoder.begin_compute_pass()
        compute.set_pipeline(self.pipeline)
        for index, group in enumerate(self.groups):
            compute.set_bind_group(index, group)
        compute.dispatch_workgroups(-(-width // WORKGROUP), -(-height // WORKGROUP))
        compute.end()
        self.device.queue.submit([encoder.finish()])


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


class Frame(Program):
    """A frame of texels of LOD 0, one per pixel, ready to be decoded again and again.

    Raises: NoDevice.
    """

    def __init__(
        self, model: NeuralTexture, material: tuple[int, int], size: tuple[int, int], layout: str, precision: int = 32
    ):  # fmt: skip
        entry = FRAME_ENTRY.format(workgroup=WORKGROUP, width=size[0], height=size[1])
        super().__init__(model, material, layout, entry, precision)
        self.size, self.target = size, self.buffer(size[0] * size[1] * 16)
        self.groups.append(self.group(1, [{"buffer": self.target}]))

    def draw(self, rows: int) -> float:
        """Decode the first rows, in steps of WORKGROUP. Returns: seconds until the first pixel can be read."""
        started = time.perf_counter()
        self.run(self.size[0], rows)
        self.device.queue.read_buffer(self.target, size=16)
        return time.perf_counter() - started

    def pixels(self) -> np.ndarray:
        """The last frame: (height, width, 11) uint8 in canonical order."""
        words = np.frombuffer(self.device.queue.read_buffer(self.target), np.uint8).reshape(*self.size[::-1], 16)
        return words[..., [0, 1, 2, 4, 5, 6, 3, 7, 8, 9, 10]]


# LOD, first row, texels of a row, rows; the fields as they are, without ntUnitNormal and the like.
LOD_ENTRY = """
@group(1) @binding(0) var<storage, read> band: vec4<u32>;
@group(1) @binding(1) var<storage, read_write> decoded: array<f32>;

@compute @workgroup_size({workgroup}, {workgroup})
fn main(@builtin(global_invocation_id) id: vec3<u32>)
{{
    if (id.x >= band.z || id.y >= band.w) {{ return; }}
    let lod = f32(band.x);
    let size = max(floor(vec2<f32>(NT_MATERIAL_WIDTH, NT_MATERIAL_HEIGHT) / exp2(lod)), vec2<f32>(1.0));
    let m = ntDecode((vec2<f32>(f32(id.x), f32(id.y + band.y)) + 0.5) / size, lod);
    let values = array<f32, {channels}>({fields});
    for (var k = 0u; k < {channels}u; k++) {{ decoded[(id.y * band.z + id.x) * {channels}u + k] = values[k]; }}
}}
"""
FIELDS = (
    "m.diffuse.x", "m.diffuse.y", "m.diffuse.z", "m.normal.x", "m.normal.y", "m.normal.z", "m.roughness",
    "m.occlusion", "m.metallic", "m.specular", "m.displacement", "m.opacity", "m.emissive.x", "m.emissive.y",
    "m.emissive.z", "m.extra",
)  # fmt: skip
BAND_BYTES = 1 << 24


class LodDecoder(Program):
    """Whole LODs through the shader: called as NeuralTexture.decode is, for metrics.evaluate.

    Raises: NoDevice.
    """

    def __init__(self, model: NeuralTexture, material: MaterialRecord, precision: int, layout: str = "packed"):
        self.channels = model.decoder.outputs
        fields = FIELDS[: self.channels]
        entry = LOD_ENTRY.format(workgroup=WORKGROUP, channels=self.channels, fields=", ".join(fields))
        super().__init__(model, (material.width, material.height), layout, entry, precision)
        self.band, self.target = self.buffer(16), self.buffer(BAND_BYTES)
        self.groups.append(self.group(1, [{"buffer": self.band}, {"buffer": self.target}]))

    def __call__(
        self, model: NeuralTexture, lod: int, width: int, height: int, rows: slice = slice(None)
    ) -> torch.Tensor:
        """(rows, width, channels) float32 of the model that this was made of."""
        first, last, _ = rows.indices(height)
        step = max(BAND_BYTES // (4 * self.channels * width), 1)
        parts = [self._rows(lod, start, min(start + step, last), width) for start in range(first, last, step)]
        return torch.from_numpy(np.concatenate(parts))

    def _rows(self, lod: int, first: int, last: int, width: int) -> np.ndarray:
        self.device.queue.write_buffer(self.band, 0, np.array([lod, first, width, last - first], np.uint32).tobytes())
        self.run(width, last - first)
        count = (last - first) * width * self.channels
        found = np.frombuffer(self.device.queue.read_buffer(self.target, size=4 * count), np.float32)
        return found.reshape(last - first, width, self.channels)


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
