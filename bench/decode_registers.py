"""What a driver's compiler makes of the decoders, for bench.decode: RADV's, which compiles for AMD GPUs without one.

    python -m bench.decode_registers FILE...    JSON: the statistics of SPIR-V files, by a device of RADV_FORCE_FAMILY

A process of its own, which alone sees that driver: Vulkan reads the names of drivers from the environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.decode_shader import compile_shader, decoder_source, shader_tools
from bench.vulkan_device import ComputeProgram, VulkanDevice
from common.errors import one_line
from model import NeuralTexture
from shaders.device import NoDevice

FAMILY = "gfx1100"  # RDNA 3, the newest that Mesa 22.3 knows
DRIVERS = ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d")
LONGEST_S = 600
ENTRY = """
layout(local_size_x = 8, local_size_y = 8) in;
layout(std430, set = 3, binding = 0) buffer Frame { uvec4 frame[]; };

void main()
{
    uvec2 at = gl_GlobalInvocationID.xy;
    NtMaterial m = ntDecode((vec2(at) + 0.5) / vec2(NT_MATERIAL_WIDTH, NT_MATERIAL_HEIGHT), 0.0);
    frame[at.y * 2048u + at.x] = uvec4(packUnorm4x8(vec4(m.diffuse, m.roughness)),
        packUnorm4x8(vec4(m.normal, m.occlusion)),
        packUnorm4x8(vec4(m.metallic, m.specular, m.displacement, 0.0)), 0u);
}
"""
# A key of ours -> the driver's name. It estimates cycles too, but takes every loop for one of eight rounds.
NAMES = {
    "vgprs": "VGPRs", "sgprs": "SGPRs", "spilled": "Spilled VGPRs", "scratch_bytes": "Scratch size",
    "code_bytes": "Code size", "instructions": "Instructions", "waves": "Subgroups per SIMD",
}  # fmt: skip
REGISTER_COLUMNS = (
    ("form", "form", "{}"), ("network", "network", "{}"), ("bits", "precision", "{:d}"), ("VGPRs", "vgprs", "{:d}"),
    ("SGPRs", "sgprs", "{:d}"), ("spilled", "spilled", "{:d}"), ("bytes of scratch", "scratch_bytes", "{:d}"),
    ("waves a SIMD", "waves", "{:d}"), ("instructions", "instructions", "{:d}"),
    ("bytes of code", "code_bytes", "{:d}"), ("compiled for", "device", "{}"),
)  # fmt: skip


def measure_registers(
    models: Iterable[tuple[str, str, int, NeuralTexture]], family: str = FAMILY
) -> list[dict[str, Any]]:
    """Rows of registers, code and occupancy; nothing, and a note, without glslangValidator, RADV or the package vulkan.

    models: (form, network's name, bits of its products, packed), one row each.
    """
    compiler, optimiser = shader_tools()
    if compiler is None:
        print("note: no registers: needs glslangValidator (apt install glslang-tools)", flush=True)
        return []
    models = list(models)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for index, (_, _, precision, model) in enumerate(models):
            side = 1 << model.num_lods - 1
            source = decoder_source(model, (side, side), "glsl", "packed", precision)
            paths.append(Path(folder) / f"{index}.spv")
            paths[-1].write_bytes(compile_shader("#version 450\n" + source + ENTRY, optimise=bool(optimiser)))
        try:
            found = compile_elsewhere(paths, family)
        except NoDevice as error:
            print(f"note: no registers: {error}", flush=True)
            return []
    return [
        {"part": "registers", "form": form, "network": network, "precision": precision, "device": one["device"],
         **{key: one["statistics"].get(name, 0) for key, name in NAMES.items()}}
        for (form, network, precision, _), one in zip(models, found)
    ]  # fmt: skip


def radv_driver() -> Path | None:
    """The file that tells Vulkan's loader where RADV is."""
    for folder in map(Path, DRIVERS):
        for path in sorted(folder.glob("radeon_icd*.json")):
            return path
    return None


def compile_elsewhere(paths: Sequence[Path], family: str) -> list[dict[str, Any]]:
    """The output of this module's command, in another process. Raises: NoDevice where it has no device."""
    driver = radv_driver()
    if driver is None:
        raise NoDevice("needs Mesa's RADV (on Linux apt install mesa-vulkan-drivers)")
    chosen = {"VK_ICD_FILENAMES": str(driver), "VK_DRIVER_FILES": str(driver), "RADV_FORCE_FAMILY": family}
    environment = {**os.environ, **chosen, "MESA_SHADER_CACHE_DISABLE": "true"}
    command = [sys.executable, "-m", "bench.decode_registers", *map(str, paths)]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=LONGEST_S)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"RADV ended with {done.returncode}"])[-1]
        raise NoDevice(one_line(last)[:200])
    return json.loads(done.stdout.splitlines()[-1])


def statistics_of(paths: Sequence[str]) -> list[Mapping[str, Any]]:
    """What the device that Vulkan finds first makes of SPIR-V files. Raises: NoDevice."""
    device = VulkanDevice()
    if device.is_cpu:
        raise NoDevice(f"expected RADV, found {device.name}")
    return [{"device": device.name.replace("Null hardware ", "").strip("()"),
             "statistics": ComputeProgram(device, Path(path).read_bytes()).statistics()} for path in paths]  # fmt: skip


if __name__ == "__main__":
    try:
        print(json.dumps(statistics_of(sys.argv[1:])))
    except NoDevice as error:
        print(error, file=sys.stderr)
        sys.exit(1)
