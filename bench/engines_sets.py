"""bench.engines --instruction_sets: PyTorch and the fused kernels, also compiled for narrower vectors, in turns."""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
from collections.abc import Iterator
from ctypes import CDLL, byref, c_double
from typing import Any

from bench import common
from bench.common import machine, save
from bench.engines_work import TIMES, UNITS, load_average
from bench.race import NETWORKS, Contestant, Effort, check_same_work, race
from common.errors import UserError
from dataset import Material, load_material
from engine.cpu import library
from engine.cpu.build import load_with
from engine.cpu.library import check, describe_model, multiply_adds, thread_count
from engine.errors import KernelsUnavailable

NETWORK = "2x64"
NARROWER = {"AVX2": (8, "-march=haswell"), "SSE2": (4, "-msse2")}  # floats of a vector, a flag
NAMES = {16: "AVX-512", 8: "AVX2", 4: "SSE2"}
COLUMNS = (("instructions", "instructions", "{}"), ("factors", "precision", "{}"), *TIMES,
           ("x torch", "speedup", "{:.2f}"), ("% of peak", "peak_share", "{:.1f}"))  # fmt: skip


def instruction_sets() -> dict[str, CDLL]:
    """The kernels for this CPU, and on x86-64 for its narrower vectors. Raises: KernelsUnavailable."""
    own = library.load_kernels(print)
    width = own.nt_vector_width()
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return {platform.machine(): own}
    narrower = {name: flags for name, (floats, flags) in NARROWER.items() if floats < width}
    return {NAMES[width]: own, **{name: library.declared(load_with([flag], print)) for name, flag in narrower.items()}}


@contextlib.contextmanager
def made_of(kernels: CDLL) -> Iterator[None]:
    """Engines that are made meanwhile use these kernels."""
    before = library.load_kernels
    library.load_kernels = lambda say=None: kernels
    try:
        yield
    finally:
        library.load_kernels = before


def measure_sets(material: Material, effort: Effort, n_threads: int = 0, **settings: Any) -> list[dict[str, Any]]:
    """A row of PyTorch, and of each instruction set with each precision of factors that it has."""
    sets = instruction_sets()
    given = {**NETWORKS[NETWORK], **settings, "num_threads": n_threads}
    labels = {"part": "sets", "network": NETWORK}
    contestants = [Contestant("torch", material, given, **labels, instructions="PyTorch's", precision="float32")]
    for name, kernels in sets.items():
        for precision in ("float32", "bf16") if kernels.nt_has_bfloat16() else ("float32",):
            with made_of(kernels):
                words = {**given, "cpu_precision": precision}
                contestants.append(Contestant("cpu", material, words, **labels, instructions=name, precision=precision))
    check_same_work(contestants)
    found: dict[str, list[float]] = {name: [] for name in sets}

    def peaks() -> float:  # each set's own
        per_second = c_double()
        for name, kernels in sets.items():
            check(kernels, kernels.nt_multiply_add_peak(effort.peak_s, thread_count(n_threads), byref(per_second)))
            found[name].append(per_second.value)
        return 0.0

    race(contestants, effort, peaks)
    shape = describe_model(contestants[0].model, material.present_channels.tolist())
    work = multiply_adds(library.load_kernels(), shape)
    rows = []
    for contestant in contestants:
        row = contestant.row(contestants[0])
        if contestant.name == "cpu":
            peak = statistics.median(found[row["instructions"]])
            row.update(peak_multiply_adds_per_second=peak, peak_share=row["samples_per_second"] * work / peak)
        rows.append(row)
    return rows


def run_sets(arguments: argparse.Namespace) -> None:
    """Measure, print and write what bench.engines --instruction_sets asks for."""
    load = load_average()
    material = load_material(arguments.folders[0])
    print(f"{material.name}, {material.width}x{material.height}: one iteration, {NETWORK}", flush=True)
    try:
        rows = measure_sets(material, Effort.quick() if arguments.quick else Effort.full(), arguments.num_threads)
    except KernelsUnavailable as error:
        raise UserError(f"there is nothing to compare PyTorch with: {error}") from error
    print(common.table(rows, COLUMNS, UNITS))
    print(save("engines_sets", arguments.out, {**vars(arguments)}, rows))
    print(json.dumps({"load_average": load, "machine": machine()["processor"], "commit": machine()["commit"]}))
