"""Ordinary textures made on a GPU: a host of the compute shaders of shaders/on_load.py, through wgpu.

`export.py --transcode --transcode_device gpu` decodes and encodes with it; an engine's own host does the same. A LOD is
decoded in bands of rows, so that no dispatch takes long and no buffer is large, and blocks are made where the texels
lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from common.errors import UserError
from formats.block_textures import exact_texels
from formats.dds import BLOCK, BLOCK_BYTES
from formats.dds_layouts import grid_textures
from maps.record import MaterialRecord
from model import NeuralTexture
from shaders.device import FLOAT_FILTER, NoDevice, open_device
from shaders.export import reading
from shaders.on_load import WORKGROUP, blocks_source, on_load_source, pack_parameters, targets_of
from shaders.weights import trained_precision, weight_bytes

BAND = 1 << 18  # texels that are decoded in one dispatch
FORMATS = {1: "r8unorm", 2: "rg8unorm", 4: "rgba8unorm"}  # by channels
FORMS = {"bc4": 4, "bc5": 5, "bc7": 7}  # -> `form` of the shader
REPEAT = dict.fromkeys(("address_mode_u", "address_mode_v"), "repeat")
LINEAR = dict.fromkeys(("mag_filter", "min_filter", "mipmap_filter"), "linear")

Rectangle = tuple[int, int, int, int]  # x, y, width, height, in texels of a LOD
Texels = np.ndarray  # (targets, height, width, 4) uint8


def device_for_textures() -> Any:
    """A device of wgpu. Raises: UserError where there is none, or no wgpu."""
    try:
        return open_device()[0]
    except NoDevice as error:
        raise UserError(f"--transcode_device gpu: {error}, or use cpu") from error


def _wgpu() -> ModuleType:
    import wgpu

    return wgpu


class Kernel:
    """A compute shader with an entry point `main` of WORKGROUP x WORKGROUP threads."""

    def __init__(self, device: Any, source: str):
        self.device = device
        compute = {"module": device.create_shader_module(code=source), "entry_point": "main"}
        self.pipeline = device.create_compute_pipeline(layout="auto", compute=compute)

    def group(self, index: int, resources: Sequence[Any]) -> Any:
        """Bind group `index` of resources, at bindings 0, 1, ..."""
        entries = [{"binding": binding, "resource": resource} for binding, resource in enumerate(resources)]
        return self.device.create_bind_group(layout=self.pipeline.get_bind_group_layout(index), entries=entries)

    def run(self, groups: Sequence[Any], width: int, height: int) -> None:
        """Dispatch enough workgroups for (width, height) threads."""
        encoder = self.device.create_command_encoder()
        compute = encoder.begin_compute_pass()
        compute.set_pipeline(self.pipeline)
        for index, group in enumerate(groups):
            compute.set_bind_group(index, group)
        compute.dispatch_workgroups(-(-width // WORKGROUP), -(-height // WORKGROUP))
        compute.end()
        self.device.queue.submit([encoder.finish()])


class BlockEncoder:
    """The shader that makes blocks."""

    def __init__(self, device: Any):
        self.device = device
        self.kernel = Kernel(device, blocks_source("wgsl"))

    def encode(self, texels: Any, size: tuple[int, int], form: str, channel: int = 0, first: int = 0) -> bytes:
        """The blocks of an image, row by row; where a side is no multiple of 4, its last texels are repeated.

        Args:
            texels: a storage buffer of words, a texel each, R in the lowest byte, row by row.
            size: width and height of the image.
            form: a key of FORMS.
            channel: 0 to 3, which of R, G, B, A bc4 holds.
            first: the word of the image's first texel.
        """
        (width, height), usage = size, _wgpu().BufferUsage
        across, down = (-(-side // BLOCK) for side in size)
        row = across * BLOCK_BYTES[form]
        blocks = self.device.create_buffer(size=row * down, usage=usage.STORAGE | usage.COPY_SRC)
        image = pack_parameters((width, height, first, width, FORMS[form], channel, 0, row // 4))
        uniform = self.device.create_buffer_with_data(data=image, usage=usage.UNIFORM)
        group = self.kernel.group(0, [{"buffer": uniform}, {"buffer": texels}, {"buffer": blocks}])
        self.kernel.run([group], across, down)
        return bytes(self.device.queue.read_buffer(blocks))

    def encode_pixels(self, pixels: np.ndarray, form: str, channel: int = 0) -> bytes:
        """`encode` of (H, W, 4) uint8."""
        usage, height, width = _wgpu().BufferUsage, *pixels.shape[:2]
        texels = self.device.create_buffer_with_data(data=np.ascontiguousarray(pixels).tobytes(), usage=usage.STORAGE)
        return self.encode(texels, (width, height), form, channel)


class GpuDecoder:
    """The shader that decodes rectangles of a material, with its textures and weights on a device.

    texels: the buffer with the last decoded rectangle, target after target; None before.
    """

    def __init__(self, device: Any, model: NeuralTexture, material: MaterialRecord):
        self.device, self.material, self.targets = device, material, targets_of(material)
        self.texels: Any = None
        usage = _wgpu().BufferUsage
        precision = trained_precision(model)
        self.kernel = Kernel(device, on_load_source(model, material, "wgsl", "buffer", precision=precision))
        bound = [self._texture(levels) for levels in _levels_of(model)]
        weights = device.create_buffer_with_data(data=weight_bytes(model, precision=precision), usage=usage.STORAGE)
        bound.append({"buffer": weights})
        if reading(model.grids) != "packed":
            bound.append(device.create_sampler(**REPEAT, **LINEAR))
        self._bound = self.kernel.group(0, bound)

    def _texture(self, levels: Sequence[np.ndarray]) -> Any:
        usage, (height, width, channels) = _wgpu().TextureUsage, levels[0].shape
        kind = FORMATS[channels] if levels[0].dtype == np.uint8 else "rgba32float"
        if kind == "rgba32float" and FLOAT_FILTER not in self.device.features:
            expected = f"a device with {FLOAT_FILTER} for grids of blocks"
            raise UserError(f"--transcode_device gpu: expected {expected}; use cpu")
        texture = self.device.create_texture(
            size=(width, height, 1), mip_level_count=len(levels), format=kind,
            usage=usage.TEXTURE_BINDING | usage.COPY_DST,
        )  # fmt: skip
        for mip, level in enumerate(levels):
            layout = {"bytes_per_row": level[0].nbytes, "rows_per_image": len(level)}
            size = (level.shape[1], level.shape[0], 1)
            self.device.queue.write_texture({"texture": texture, "mip_level": mip}, level.tobytes(), layout, size)
        return texture.create_view()

    def decode(self, lod: int, rectangle: Rectangle | None = None) -> Texels:
        """The targets of a rectangle of a LOD, by default of all of it.

        rectangle: may lie anywhere, as the material repeats.
        """
        x, y, width, height = rectangle or (0, 0, *self.material.lod_size(lod))
        usage, layer = _wgpu().BufferUsage, width * height
        size = 4 * layer * len(self.targets)
        if self.texels is None or self.texels.size != size:
            self.texels = self.device.create_buffer(size=size, usage=usage.STORAGE | usage.COPY_SRC)
        parameters = pack_parameters((x, y, width, height, lod, 0, width, layer))
        uniform = self.device.create_buffer_with_data(data=parameters, usage=usage.UNIFORM)
        rest = self.kernel.group(1, [{"buffer": uniform}, {"buffer": self.texels}])
        self.kernel.run([self._bound, rest], width, height)
        read = self.device.queue.read_buffer(self.texels)
        return np.frombuffer(read, np.uint8).reshape(len(self.targets), height, width, 4)


def lods_on_gpu(
    model: NeuralTexture, material: MaterialRecord, textures: Sequence[tuple[str, str]]
) -> Iterator[tuple[dict[str, np.ndarray], list[bytes]]]:
    """Of each LOD its maps, (H, W, C) uint8 as of metrics.decoded_maps.decode_maps, and the blocks of textures.

    textures: of each a key of FORMS, and the first map that it holds.
    Raises: UserError as device_for_textures.
    """
    device = device_for_textures()
    decoder, encoder = GpuDecoder(device, model, material), BlockEncoder(device)
    places = {name: (index, channels) for index, maps in enumerate(decoder.targets.values())
              for name, channels in maps.items()}  # fmt: skip
    for lod in range(material.num_lods):
        width, height = material.lod_size(lod)
        maps = {name: np.empty((height, width, part.stop - part.start), np.uint8) for name, (_, part) in places.items()}
        blocks: list[list[bytes]] = [[] for _ in textures]
        rows = max(BAND // width // BLOCK, 1) * BLOCK
        for top in range(0, height, rows):
            size = (width, min(rows, height - top))
            texels = decoder.decode(lod, (0, top, *size))
            for name, (target, part) in places.items():
                maps[name][top : top + rows] = texels[target][..., part]
            for found, (form, name) in zip(blocks, textures):
                target, part = places[name]
                first = target * size[0] * size[1]
                found.append(encoder.encode(decoder.texels, size, form, part.start, first))
        yield maps, [b"".join(found) for found in blocks]


def _levels_of(model: NeuralTexture) -> Iterator[Sequence[np.ndarray]]:
    """The levels of each texture in the order of the bindings, (H, W, C) uint8, of BC1 float32 with exact thirds."""
    for index, grid in enumerate(model.grids):
        if grid.compressed:
            yield exact_texels(model, index)
        else:
            yield from (texture.levels for texture in grid_textures(model, index))
