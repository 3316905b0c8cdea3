"""Compiles the kernels for GPUs that are not there, and says what each of them takes: registers, spills, shared memory.

    python -m engine.cuda.compiled [--targets 80 90] [--precision tf32 bf16] [--shapes 2x64 ...]

Triton ships ptxas, so this needs no GPU; it says nothing about time.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs import make_config
from dataset import MAPS, Material
from engine.cuda.library import NO_FUSION, KernelsUnavailable, Launch

TYPES = {
    torch.float32: "fp32", torch.float64: "fp64", torch.bfloat16: "bf16", torch.int64: "i64", torch.int32: "i32",
    torch.int16: "i16", torch.uint8: "u8",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Facts:
    """What one kernel takes on one GPU: per thread registers and spilled bytes, per program shared memory and warps."""

    kernel: str
    target: int  # compute capability times 10
    registers: int
    spilled: int
    shared: int
    warps: int
    tensor_cores: bool
    instructions: int

    @property
    def programs(self) -> int:
        """Programs that fit on a multiprocessor at the same time, by registers and shared memory."""
        threads = 32 * self.warps
        per_warp = -(-self.registers * 32 // 256) * 256
        by_registers = 65536 // (per_warp * self.warps)
        shared = {80: 163, 90: 227}.get(self.target, 99) << 10
        return min(by_registers, shared // (self.shared + 1024), 2048 // threads, 32)


def signature_of(value: Any) -> Any:
    """Triton's name for the type of an argument."""
    if isinstance(value, tuple):
        return tuple(signature_of(element) for element in value)
    if isinstance(value, torch.Tensor):
        return "*" + TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def compile_launch(launch: Launch, target: int) -> Any:
    """Triton's compiled kernel for a GPU of compute capability target / 10, with what the launcher would assume of the
    arguments: pointers are divisible by 16."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = launch.kernel.arg_names
    signature: dict[str, Any] = {name: signature_of(value) for name, value in launch.arguments.items()}
    signature.update({name: "constexpr" for name in launch.constants})
    aligned = [["tt.divisibility", 16]]
    attributes: dict[tuple, list] = {}
    for name, value in launch.arguments.items():
        at = names.index(name)
        if isinstance(value, torch.Tensor):
            attributes[(at,)] = aligned
        elif isinstance(value, tuple):
            attributes.update({(at, i): aligned for i, e in enumerate(value) if isinstance(e, torch.Tensor)})
    constants = {(names.index(name),): value for name, value in launch.constants.items()}
    ordered = {name: signature[name] for name in names}
    source = ASTSource(launch.kernel, ordered, constexprs=constants, attrs=attributes)
    options = {**NO_FUSION, **launch.options}
    return triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)


def facts_of(launch: Launch, target: int) -> Facts:
    """Compiles a kernel and asks ptxas about it. Raises: KernelsUnavailable without ptxas."""
    compiled = compile_launch(launch, target)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        command = [cuobjdump(), "--dump-resource-usage", str(cubin)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    return Facts(
        launch.kernel.__name__, target, int(found[1]), int(found[2]), compiled.metadata.shared,
        compiled.metadata.num_warps, "mma" in compiled.asm["ptx"], compiled.asm["ptx"].count(";"),
    )  # fmt: skip


def cuobjdump() -> str:
    """Path of the tool that Triton brings. Raises: KernelsUnavailable."""
    try:
        import triton
    except ImportError as error:
        raise KernelsUnavailable("Triton is not installed") from error
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not path.exists():
        raise KernelsUnavailable("this Triton brings no cuobjdump")
    return str(path)
