"""Compiles the kernels without a GPU, and lists what each of them uses: registers, spills, shared memory.

    python -m engine.cuda.compiled [--targets 80 90] [--precision tf32 bf16] [--forms 'learned 2x64' ...] [--block 16]

Triton contains ptxas, which compiles for any GPU. This measures no time.
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
from typing import TYPE_CHECKING, Any

from common.errors import UserError, run_command
from configs import make_config
from engine.cuda.block_size import BLOCKS
from engine.errors import KernelsUnavailable
from engine.schedule import Schedule
from maps.channels import MAPS

if TYPE_CHECKING:
    from engine.cuda.library import Launch

TYPES = {  # of PyTorch -> of Triton
    "float32": "fp32", "float64": "fp64", "bfloat16": "bf16", "int64": "i64", "int32": "i32", "int16": "i16",
    "uint8": "u8",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Facts:
    """What one kernel uses on one GPU.

    Per thread: registers, and `spilled` bytes of stack that did not fit into them. Per program: bytes of shared memory
    and warps.
    """

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
    import torch

    if isinstance(value, tuple):
        return tuple(signature_of(element) for element in value)
    if isinstance(value, torch.Tensor):
        return "*" + TYPES[str(value.dtype).removeprefix("torch.")]
    return "fp32" if isinstance(value, float) else "i32"


def compile_launch(launch: Launch, target: int) -> Any:
    """Triton's compiled kernel for a GPU of compute capability target / 10. Pointers count as divisible by 16, as they
    do when the kernel is launched."""
    import torch
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from engine.cuda.library import NO_FUSION

    names = launch.kernel.arg_names
    signature: dict[str, Any] = {name: signature_of(value) for name, value in launch.arguments.items()}
    signature.update(dict.fromkeys(launch.constants, "constexpr"))
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
    """Compile a kernel and read its resource usage. Raises: KernelsUnavailable without Triton and its tools."""
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
    """Path of Triton's own cuobjdump. Raises: KernelsUnavailable."""
    try:
        import triton
    except ImportError as error:
        raise KernelsUnavailable("Triton is not installed") from error
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not path.exists():
        raise KernelsUnavailable("this Triton brings no cuobjdump")
    return str(path)


# --- the kernels of a run --------------------------------------------------------------------------------------------

_FINE = {"max_resolution": 256, "quantize_bits": 2, "save_bits": 16, "interpolation": "learned"}
_COARSE = {"max_resolution": 45, "n_levels": 1, "quantize_bits": 4, "save_bits": 32}
_LEARNED = {"hash_grid_configs": [_FINE, _COARSE], "activation": "hard_swish"}
_HALF, _QUARTER = ({"max_resolution": side, "storage": "bc1"} for side in (256, 128))
_PLANES = [_HALF, _HALF, _QUARTER, _QUARTER]
_ASTC_PLANES = [{**plane, "storage": "astc6x6"} for plane in _PLANES]
_LEARNED_PLANES = [{**_HALF, "interpolation": "learned"}] * 2 + [_QUARTER] * 2
# the default forms, and small versions of those that --bpp 5 chooses at 4096 x 4096
FORMS: dict[str, dict[str, Any]] = {
    "reference 1x16": {"n_hidden_layers": 1, "n_neurons": 16},
    "reference 2x64": {},
    "learned 2x32": {**_LEARNED, "n_neurons": 32},
    "learned 2x64": _LEARNED,
    "learned 3x64": {**_LEARNED, "n_hidden_layers": 3},
    "learned 2x128": {**_LEARNED, "n_neurons": 128},
    "blocks 2x64": {**_LEARNED, "hash_grid_configs": _PLANES},
    "learned blocks 2x64": {**_LEARNED, "hash_grid_configs": _LEARNED_PLANES},
    "ASTC blocks 2x64": {**_LEARNED, "hash_grid_configs": _ASTC_PLANES},
    "filtered 2x64": {"positions": "filtered"},
    "filtered learned 2x64": {**_LEARNED, "positions": "filtered"},
    "filtered blocks 2x64": {**_LEARNED, "hash_grid_configs": _PLANES, "positions": "filtered"},
    "learned blocks, 10 bpp": {**_LEARNED, "hash_grid_configs": [_LEARNED_PLANES[0]] * 8 + [_QUARTER] * 8},
}


def launches_of(values: dict[str, Any], lazy: bool = True) -> list[Launch]:
    """Every kernel of a run with this configuration, with small arrays on the CPU as arguments.

    Args:
        lazy: whether the first grid and its like are updated lazily (engine/cuda/adam.py); the others are not.
    """
    import numpy as np
    import torch

    from dataset import Material
    from engine.cuda.decoder import Decoding
    from engine.cuda.engine import CudaEngine
    from model import build_model

    arrays = {name: np.zeros((8, 8, MAPS[name]), np.uint8) for name in ("diffuse", "normal", "roughness", "metallic")}
    for array in arrays.values():
        array[0, 0] = 255  # a constant would not be trained
    material = Material.from_arrays("made", arrays)
    config = make_config(values)
    model = build_model(config, 512, 512, material.present_channels.tolist())
    chosen = tuple(lazy and grid == model.grids[0] for grid in model.grids)
    engine = CudaEngine(model, material, Schedule(config), lazy=chosen, runs_here=False)
    decoding = Decoding(model, runs_here=False).launch(64, torch.zeros(64, 11), width=8, height=8)
    return [*engine.launches, *engine.sweeps, engine.probe_launch, decoding]


def with_block(launch: Launch, block: int) -> Launch:
    """The training kernel with the block of a small batch (block_size.block_size); other kernels unchanged."""
    if "MODE" not in launch.constants:
        return launch
    return dataclasses.replace(launch, constants={**launch.constants, "BLOCK": block})


def table(
    targets: Sequence[int], precisions: Sequence[str], forms: Sequence[str], block: int = BLOCKS[0]
) -> list[Facts]:
    """Print one line per kernel; returns what they say."""
    print(f"{'form':22} {'precision':9} {'kernel':16} sm  warps registers stack shared programs instructions")
    found = []
    for form in forms:
        for precision in precisions:
            for launch in launches_of({**FORMS[form], "gpu_precision": precision}):
                for target in targets:
                    facts = facts_of(with_block(launch, block), target)
                    found.append(facts)
                    name = f"{facts.kernel.replace('_kernel', '')} {launch.constants.get('MODE', '')}"
                    print(
                        f"{form:22} {precision:9} {name:16} {target}  {facts.warps:5} {facts.registers:9} "
                        f"{facts.spilled:5} {facts.shared:6} {facts.programs:8} {facts.instructions:12}", flush=True
                    )  # fmt: skip
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help."""
    parser = argparse.ArgumentParser(prog="python -m engine.cuda.compiled", description=__doc__.split("\n")[0])
    parser.add_argument("--targets", type=int, nargs="+", default=[80, 90], help="compute capabilities times 10")
    parser.add_argument("--precision", nargs="+", default=["tf32"], choices=("tf32", "bf16", "float32"))
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--block", type=int, default=BLOCKS[0], choices=BLOCKS, help="samples of the training kernel")
    given = parser.parse_args(argv)
    try:
        table(given.targets, given.precision, given.forms, given.block)
    except KernelsUnavailable as error:
        raise UserError(f"{error}; install Triton, which PyTorch for CUDA on Linux brings") from error
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
