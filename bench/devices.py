"""Where engines are raced: what to wait for, the memory taken, the kernels that ran, and how fast the device can be."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

MIB = 1 << 20
COPIED = {"cuda": 1024 * MIB, "cpu": 64 * MIB}  # bytes: far more than any cache holds
MATRIX = {"cuda": 8192, "cpu": 512}  # rows and columns
REPEATS = 5
SHOWN_KERNELS = 8
REST, IDLE = "other kernels", "no kernel: launches, Python, waiting"


class Device:
    """A device of PyTorch's, and the engines that compete on it.

    engines: by name, the reference first; fused: the one that this toolkit has kernels of its own for.
    """

    def __init__(self, where: torch.device):
        self.where = where
        self.on_gpu = where.type == "cuda"
        self.fused = "cuda" if self.on_gpu else "cpu"
        self.engines = ("torch", "compiled", "cuda", "tcnn") if self.on_gpu else ("torch", "compiled", "cpu")

    def synchronize(self) -> None:
        """Wait until everything is done that was asked for."""
        if self.on_gpu:
            torch.cuda.synchronize(self.where)

    def describe(self) -> dict[str, Any]:
        """What the figures belong to, beside bench.common.machine()."""
        if not self.on_gpu:
            return {"device": str(self.where)}
        facts = torch.cuda.get_device_properties(self.where)
        return {
            "device": facts.name,
            "device_memory_bytes": facts.total_memory,
            "compute_capability": f"{facts.major}.{facts.minor}",
            "multiprocessors": facts.multi_processor_count,
            "cuda": torch.version.cuda,
        }

    @contextlib.contextmanager
    def watch_memory(self) -> Iterator[dict[str, int | None]]:
        """Gives a dictionary that has `peak_bytes` afterwards: the most that the block held at once, above what there
        was before. PyTorch's tensors, and what grew outside of PyTorch's allocator, such as tiny-cuda-nn's; None on a
        CPU, whose memory bench.engines measures in processes of their own."""
        found: dict[str, int | None] = {"peak_bytes": None}
        if not self.on_gpu:
            yield found
            return
        self.synchronize()
        torch.cuda.reset_peak_memory_stats(self.where)
        before, outside = torch.cuda.memory_allocated(self.where), self._outside()
        yield found
        self.synchronize()
        peak = torch.cuda.max_memory_allocated(self.where) - before
        found["peak_bytes"] = peak + max(0, self._outside() - outside)

    def _outside(self) -> int:
        """Bytes of the GPU that are taken, but not by PyTorch's allocator."""
        free, total = torch.cuda.mem_get_info(self.where)
        return total - free - torch.cuda.memory_reserved(self.where)

    def release(self) -> None:
        """Give back what PyTorch keeps for later."""
        if self.on_gpu:
            torch.cuda.empty_cache()

    def profile(self, run: Callable[[], None]) -> list[Kernel]:
        """The kernels (on a CPU: PyTorch's operators) that `run` spends its time in."""
        activity = ProfilerActivity.CUDA if self.on_gpu else ProfilerActivity.CPU
        with profile(activities=[activity]) as recorded:
            run()
            self.synchronize()
        kind = "cuda" if self.on_gpu else "cpu"
        kernels = [_kernel(e, kind) for e in recorded.key_averages() if kind in str(e.device_type).lower()]
        return sorted((k for k in kernels if k.seconds > 0), key=lambda k: -k.seconds)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What a profile knows of one."""

    name: str
    calls: int
    seconds: float  # of all calls


def _kernel(event: Any, kind: str) -> Kernel:
    # the second: before PyTorch 2.4
    names = ("self_device_time_total", "self_cuda_time_total") if kind == "cuda" else ("self_cpu_time_total",)
    microseconds = next(getattr(event, name) for name in names if hasattr(event, name))
    return Kernel(event.key, event.count, microseconds * 1e-6)


def breakdown(kernels: Sequence[Kernel], seconds: float, iterations: int) -> list[dict[str, Any]]:
    """Where the time of `iterations` iterations went that took `seconds`: the largest kernels, the others, and none.

    Kernels of several streams overlap; then their shares add up to more than one, and there is no idle time to tell.
    """
    shown, others = kernels[:SHOWN_KERNELS], kernels[SHOWN_KERNELS:]
    parts = [(kernel.name, kernel.calls, kernel.seconds) for kernel in shown]
    if others:
        parts.append((REST, sum(kernel.calls for kernel in others), sum(kernel.seconds for kernel in others)))
    parts.append((IDLE, None, max(0.0, seconds - sum(kernel.seconds for kernel in kernels))))
    return [
        {
            "kernel": name,
            "calls": None if calls is None else calls / iterations,
            "milliseconds": spent / iterations * 1000,
            "share": spent / seconds,
        }
        for name, calls, spent in parts
    ]


# --- how fast it can be --------------------------------------------------------------------------------------------


def copy_bandwidth(device: Device) -> float:
    """Bytes a second that a copy of a large tensor reads and writes, both counted; median of some."""
    source = torch.ones(COPIED[device.where.type], dtype=torch.uint8, device=device.where)
    target = torch.empty_like(source)
    return 2 * source.numel() / _seconds(device, lambda: target.copy_(source))


def matrix_rate(device: Device, dtype: torch.dtype) -> float:
    """Multiply-adds a second of a large matrix product; median of some."""
    n = MATRIX[device.where.type]
    matrices = [torch.ones(n, n, dtype=dtype, device=device.where) for _ in range(3)]
    return n**3 / _seconds(device, lambda: torch.mm(matrices[0], matrices[1], out=matrices[2]))


def _seconds(device: Device, run: Callable[[], Any]) -> float:
    found = []
    for _ in range(REPEATS + 2):  # the first two meet cold caches, clocks and kernels
        device.synchronize()
        started = time.perf_counter()
        run()
        device.synchronize()
        found.append(time.perf_counter() - started)
    return statistics.median(found[2:])


def limits(device: Device) -> dict[str, float]:
    """What no engine can exceed, measured now: copying, and multiply-adds in bfloat16 and float32."""
    return {
        "copy_bytes_per_second": copy_bandwidth(device),
        "matrix_multiply_adds_per_second": matrix_rate(device, torch.bfloat16 if device.on_gpu else torch.float32),
        "float32_multiply_adds_per_second": matrix_rate(device, torch.float32),
    }
