"""The decoders of export.py --shader slang for bench.decode: operations of one texel, the network on matrix hardware or
plain, and where there is a GPU with cooperative vectors the time that a frame takes."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.decode_shader import TABLES, WEIGHT_TYPES, decoder_weights, shader_textures, shader_tools, unorm
from bench.spirv import KINDS, Invocation, Module
from bench.vulkan_device import COOPERATIVE, REPLICATED, ComputeProgram, VulkanDevice
from maps.record import MaterialRecord
from model import NeuralTexture
from shaders.device import NoDevice
from shaders.generate import find_slangc
from shaders.matrices import matrix_bytes
from shaders.slang import DECODER, TEXELS, compile_texels, slang_source, texels_source

# What the network multiplies with -> with cooperative vectors?, bits of the plain products.
NETWORKS = {"plain 32": (False, 32), "plain 16": (False, 16), "plain 8": (False, 8), "matrices 16": (True, 32)}
MakeModel = Callable[[str, int], NeuralTexture]  # of a form and a precision, packed
TOLERANCE = 2 / 255
ROUNDS = 20
SLANG_COLUMNS = (
    ("form", "form", "{}"), ("products", "products", "{}"), ("LOD", "lod", "{:g}"),
    ("in matrices", "matrix", "{:d}"), *((kind, kind, "{:d}") for kind in KINDS if kind != "weights"),
    ("bytes of weights", "weight_bytes", "{:d}"),
)  # fmt: skip
GPU_COLUMNS = (
    ("form", "form", "{}"), ("products", "products", "{}"), ("width", "width", "{:d}"), ("height", "height", "{:d}"),
    ("ms a frame", "milliseconds", "{:.3f}"), ("fastest", "fastest", "{:.3f}"), ("slowest", "slowest", "{:.3f}"),
    ("device", "device", "{}"),
)  # fmt: skip


def slang_spirv(model: NeuralTexture, size: tuple[int, int], cooperative: bool, precision: int) -> bytes:
    """decode_texels.slang around the decoder of a material of 11 channels, its plain weights in a buffer.

    Raises: NoDevice without Slang's compiler; RuntimeError where it refuses.
    """
    slangc = find_slangc()
    if slangc is None:
        raise NoDevice("needs slangc (pip install --no-deps slangtorch)")
    material = MaterialRecord("bench", *size, ())
    source = slang_source(model, material, "buffer", WEIGHT_TYPES[precision], precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / DECODER).write_text(source, encoding="utf-8")
        (Path(folder) / TEXELS).write_text(texels_source(model), encoding="utf-8")
        return compile_texels(Path(folder), slangc, cooperative)


def optimised(spirv: bytes) -> tuple[bytes, bool]:
    """(by spirv-opt -O, True), or (as it is, False) where there is none that knows cooperative vectors."""
    optimiser = shader_tools()[1]
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder) / "plain.spv", Path(folder) / "small.spv"
        plain.write_bytes(spirv)
        if optimiser and not subprocess.run([optimiser, "-O", plain, "-o", small], capture_output=True).returncode:
            return small.read_bytes(), True
    return spirv, False


def buffers_of(model: NeuralTexture, cooperative: bool, precision: int) -> dict[str, bytes]:
    """The buffer of weights that such a program reads, under its name."""
    if cooperative:
        return {"ntMatrices": matrix_bytes(model)}
    return {"ntWeightTable": decoder_weights(model, precision)}


def run_texel(
    spirv: bytes, model: NeuralTexture, buffers: Mapping[str, bytes], query: tuple[float, float, float],
    precision: int = 32, layout: str = "packed",
) -> tuple[dict[str, int], np.ndarray]:  # fmt: skip
    """What decoding one position executes, and what it decodes, as bench.spirv runs decode_texels.slang.

    query: u, v and LOD. precision: of the plain network. Returns: kind -> count, `matrix` among them; (channels,).
    """
    resources: dict[str, Any] = {name: unorm(levels) for name, levels in shader_textures(model, layout).items()}
    kind, length = TABLES[precision]
    for name, data in buffers.items():
        words = np.frombuffer(data, "<u4" if name == "ntMatrices" else kind)
        resources[name] = [words.tolist() if name == "ntMatrices" else words.reshape(-1, length).tolist()]
    channels = model.decoder.outputs
    resources |= {"ntQueries": [[[*query, 0.0]]], "ntDecoded": [[0.0] * channels]}
    invocation = Invocation(Module(spirv), resources, list(buffers))
    counts = invocation.run()
    return dict(counts), np.array(invocation.buffer("ntDecoded")[0])


def measure_slang(make: MakeModel, forms: Sequence[str], lods: Sequence[float]) -> list[dict[str, Any]]:
    """Counts per texel of NETWORKS; nothing, and a note, without Slang's compiler.

    Raises: RuntimeError where a program decodes something else than the model.
    """
    rows = []
    for form in forms:
        for name, (cooperative, precision) in NETWORKS.items():
            model = make(form, precision)
            side = 1 << model.num_lods - 1
            uv = (20.5 / side, 9.5 / side)  # not at a border, where nothing wraps around
            try:
                spirv, small = optimised(slang_spirv(model, (side, side), cooperative, precision))
            except NoDevice as error:
                print(f"note: no operations of the decoders in Slang: {error}", flush=True)
                return rows
            for lod in lods:
                buffers = buffers_of(model, cooperative, precision)
                counts, decoded = run_texel(spirv, model, buffers, (*uv, lod), precision)
                with torch.no_grad():
                    wanted = model(torch.tensor([uv]), torch.tensor([lod]))[0].numpy()
                if not np.abs(decoded - wanted).max() <= TOLERANCE:
                    raise RuntimeError(f"the decoder in Slang ({form}, {name}) decodes something else than the model")
                rows.append({
                    "part": "slang", "form": form, "products": name, "lod": lod, "matrix": counts.get("matrix", 0),
                    "compiled_by": "slangc" + (", spirv-opt -O" if small else ""),
                    "weight_bytes": 4 * counts.get("weights", 0), **{kind: counts.get(kind, 0) for kind in KINDS},
                })  # fmt: skip
    return rows


def measure_gpu(make: MakeModel, forms: Sequence[str], size: tuple[int, int]) -> list[dict[str, Any]]:
    """Milliseconds that a GPU takes for a frame of texels of LOD 0, by its own clock; nothing, and a note, elsewhere: a
    CPU that stands in for a GPU says nothing about one."""
    try:
        device = VulkanDevice()
        if device.is_cpu:
            raise NoDevice(f"{device.name} is a CPU")
        return list(_frames(device, make, forms, size))
    except NoDevice as error:
        print(f"note: no frames of the decoders in Slang: {error}", flush=True)
        return []


def _frames(
    device: VulkanDevice, make: MakeModel, forms: Sequence[str], size: tuple[int, int]
) -> Iterator[dict[str, Any]]:  # fmt: skip
    width, height = size
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    for form in forms:
        for name, (cooperative, precision) in NETWORKS.items():
            if cooperative and not {COOPERATIVE, REPLICATED} <= set(device.extensions):
                print(f"note: no frames with cooperative vectors: {device.name} has no {COOPERATIVE}", flush=True)
                continue
            model = make(form, precision)
            side = 1 << model.num_lods - 1
            queries = np.zeros((width * height, 4), np.float32)
            queries[:, 0], queries[:, 1] = (across.ravel() + 0.5) / side, (down.ravel() + 0.5) / side
            program = ComputeProgram(device, slang_spirv(model, (side, side), cooperative, precision))
            resources = {
                "ntQueries": queries.tobytes(), "ntDecoded": bytes(4 * len(queries) * model.decoder.outputs),
                **shader_textures(model, "packed"), **buffers_of(model, cooperative, precision),
            }  # fmt: skip
            _, seconds = program.run(resources, (-(-len(queries) // 64), 1), ROUNDS + 1)
            taken = [1000 * second for second in seconds[1:]]
            yield {
                "part": "gpu", "form": form, "products": name, "width": width, "height": height,
                "milliseconds": statistics.median(taken), "fastest": min(taken), "slowest": max(taken),
                "device": device.name,
            }  # fmt: skip
