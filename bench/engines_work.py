"""The work of bench.engines on the CPU: steps, sizes, threads and whole runs measured, and put into tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from ctypes import byref, c_double
from pathlib import Path
from typing import Any

import torch

from bench import common
from bench.common import machine, median_ratio, save
from bench.engines_plot import plot
from bench.materials import grids_of, smooth_material
from bench.memory import WorkerFailed, in_new_process, peak_above
from bench.race import NETWORKS, SETTINGS, Contestant, Effort, check_same_work, first_line, race
from common.errors import UserError
from configs import make_config
from dataset import Material, load_material
from engine.cpu.library import check, describe_model, load_kernels, multiply_adds, thread_count
from engine.errors import KernelsUnavailable

COST_OF = 1024  # what the other sizes are compared with
MIB = 1 << 20


# --- 1: one iteration ----------------------------------------------------------------------------------------------


def measure_steps(material: Material, effort: Effort, n_threads: int = 0, **settings: Any) -> list[dict[str, Any]]:
    """Each engine with each network; of the cpu engine also the share of the machine's multiply-add peak.

    The compiled one takes part where `effort` has iterations for it.
    """
    groups: dict[str, dict[str, Contestant]] = {}
    for network, shape in NETWORKS.items():
        given = {**settings, **shape, "num_threads": n_threads}
        group = groups[network] = {}
        for engine in effort.iterations:
            try:
                group[engine] = Contestant(engine, material, given, part="step", network=network)
            except Exception as error:  # whatever a compiler can run into
                if engine != "compiled":
                    raise
                print(f"note: {network}: torch.compile does not work here ({first_line(error)})", flush=True)
        check_same_work(list(group.values()))
    contestants = [contestant for group in groups.values() for contestant in group.values()]
    peaks = race(contestants, effort, lambda: peak_rate(effort.peak_s, n_threads))
    rows = []
    for group in groups.values():
        for contestant in group.values():
            row = contestant.row(group["torch"])
            if contestant.name == "cpu":
                work = step_work(contestant) * contestant.batch_size
                shares = [work / (ms / 1000) / peak for ms, peak in zip(contestant.milliseconds, peaks)]
                row["multiply_adds_per_sample"] = work // contestant.batch_size
                row["peak_multiply_adds_per_second"] = statistics.median(peaks)
                row["peak_share"] = statistics.median(shares)
            rows.append(row)
    return rows


def step_work(contestant: Contestant) -> int:
    """Multiply-adds of the matrix products of one training sample."""
    shape = describe_model(contestant.model, contestant.material.present_channels.tolist())
    return multiply_adds(load_kernels(), shape)


def peak_rate(seconds: float, n_threads: int) -> float:
    """Multiply-adds per second of all threads together, with everything in registers."""
    kernels, per_second = load_kernels(), c_double()
    check(kernels, kernels.nt_multiply_add_peak(seconds, thread_count(n_threads), byref(per_second)))
    return per_second.value


def load_average() -> float | None:
    """Processes that wanted a core in the last minute; None where the system does not count them."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def summary(rows: Sequence[dict[str, Any]], load: float | None) -> dict[str, Any]:
    """What --quick prints last; `load` is the load average before."""
    found = {(row["network"], row["engine"]): row for row in rows}
    cpu, reference, here = found["2x64", "cpu"], found["2x64", "torch"], machine()
    return {
        "ratio_2x64": cpu["speedup"],
        "ratio_1x16": found["1x16", "cpu"]["speedup"],
        "peak_share_2x64": cpu["peak_share"],
        "samples_per_second": cpu["samples_per_second"],
        "torch_samples_per_second": reference["samples_per_second"],
        "samples_per_second_1x16": found["1x16", "cpu"]["samples_per_second"],
        "torch_samples_per_second_1x16": found["1x16", "torch"]["samples_per_second"],
        "peak_multiply_adds_per_second": cpu["peak_multiply_adds_per_second"],
        "threads": cpu["threads"],
        "torch_threads": reference["threads"],
        "width": cpu["width"],
        "height": cpu["height"],
        "load_average": load,
        "machine": here["processor"],
        "commit": here["commit"],
    }


# --- 2: size -------------------------------------------------------------------------------------------------------


def measure_sizes(
    sizes: Sequence[int], effort: Effort, n_threads: int = 0, latents: str = "packed", **settings: Any
) -> list[dict[str, Any]]:
    """Both engines on materials of these sizes with as many bits per texel; with other latents than packed the cpu
    engine with packed grids races, too, over which `of_packed` is."""
    groups, packed = [], []
    for size in sizes:
        material, given = smooth_material(size), {**settings, "num_threads": n_threads}
        grids, labels = {"hash_grid_configs": grids_of(size, latents)}, {"part": "size", "size": size}
        groups.append([Contestant(engine, material, {**given, **grids}, **labels, latents=latents)
                       for engine in ("torch", "cpu")])  # fmt: skip
        check_same_work(groups[-1])
        if latents != "packed":
            packed.append(Contestant("cpu", material, {**given, "hash_grid_configs": grids_of(size)}))
    race([*(contestant for group in groups for contestant in group), *packed], effort)
    rows = []
    for column in range(2):
        base = next((group[column] for group in groups if group[column].labels["size"] == COST_OF), None)
        for group in groups:
            contestant = group[column]
            row = contestant.row(group[0])
            row["cost"] = median_ratio(contestant.milliseconds, base.milliseconds) if base else None
            beside = packed[groups.index(group)] if packed and contestant.name == "cpu" else None
            row["of_packed"] = median_ratio(beside.milliseconds, contestant.milliseconds) if beside else None
            row["bits_per_texel"] = contestant.model.bits_per_texel(row["width"], row["height"])["grids"]
            rows.append(row)
    return sorted(rows, key=lambda row: row["size"])


def measure_memory(engine: str, size: int, n_threads: int = 0, latents: str = "packed") -> dict[str, int | None]:
    """Bytes above `import torch` that a fresh process needs to make the material, and to train on it.

    The columns are None where it cannot be measured: elsewhere than on Linux, or when memory runs out.
    """
    if platform.system() == "Linux":
        try:
            return in_new_process("bench.engines_work", "memory_worker", engine, size, n_threads, latents)
        except WorkerFailed as error:
            print(f"note: {size}, {engine}: memory could not be measured ({error})", flush=True)
    return {"material_bytes": None, "peak_bytes": None}


def memory_worker(after_torch: str, engine: str, size: str, n_threads: str, latents: str) -> None:
    """Train for a moment, and print what it took."""
    if int(n_threads):
        torch.set_num_threads(int(n_threads))
    material = smooth_material(int(size))
    made = peak_above(after_torch)
    given = {"hash_grid_configs": grids_of(int(size), latents), "num_threads": int(n_threads)}
    Contestant(engine, material, given)
    print(json.dumps({"material_bytes": made, "peak_bytes": peak_above(after_torch)}))


# --- 3: threads ----------------------------------------------------------------------------------------------------


def measure_threads(material: Material, effort: Effort, counts: Sequence[int], **settings: Any) -> list[dict[str, Any]]:
    """The cpu engine with so many threads; `speedup` is over the first count."""
    contestants = [Contestant("cpu", material, {**settings, "num_threads": n}, part="threads") for n in counts]
    race(contestants, effort)
    return [contestant.row(contestants[0]) for contestant in contestants]


def thread_counts(n: int) -> list[int]:
    """1 to n, above 8 only powers of two and n."""
    return [count for count in range(1, n + 1) if count <= 8 or count == n or count & (count - 1) == 0]


# --- 4: whole runs -------------------------------------------------------------------------------------------------


def measure_run(folder: str, engine: str, n_threads: int = 0, **settings: Any) -> dict[str, Any]:
    """A run with default settings, from data to evaluated export: seconds, and PSNR in dB of all channels at LOD 0."""
    from training.start import train_material

    with tempfile.TemporaryDirectory() as save_dir:
        given = {**settings, "data_dir": folder, "save_dir": save_dir, "device": "cpu", "engine": engine,
                 "num_threads": n_threads}  # fmt: skip
        result = train_material(make_config(given), say=lambda text: None, quiet=True)
    if not result.completed:
        raise KeyboardInterrupt
    return {
        "part": "run",
        "material": Path(folder).resolve().name,
        "engine": engine,
        "iteration": result.iteration,
        "seconds": result.seconds,
        "psnr": result.metrics["psnr"]["all"],
    }


# --- tables --------------------------------------------------------------------------------------------------------

TIMES = (
    ("threads", "threads", "{:d}"),
    ("ms/iteration", "milliseconds", "{:.2f}"),
    ("fastest", "fastest", "{:.2f}"),
    ("slowest", "slowest", "{:.2f}"),
    ("Msamples/s", "samples_per_second", "{:.3f}"),
)
UNITS = {"samples_per_second": 1e6, "peak_bytes": MIB, "peak_share": 0.01}
COLUMNS = {  # heading, key, format
    "step": (("network", "network", "{}"), ("engine", "engine", "{}"), *TIMES, ("x torch", "speedup", "{:.2f}"),
             ("% of peak", "peak_share", "{:.1f}")),
    "size": (("size", "size", "{}"), ("engine", "engine", "{}"), *TIMES, ("x torch", "speedup", "{:.2f}"),
             (f"cost of {COST_OF}", "cost", "{:.2f}"), ("x packed", "of_packed", "{:.2f}"),
             ("bpp", "bits_per_texel", "{:.2f}"), ("MiB", "peak_bytes", "{:.0f}")),
    "threads": (*TIMES, ("x 1 thread", "speedup", "{:.2f}")),
    "run": (("material", "material", "{}"), ("engine", "engine", "{}"), ("iterations", "iteration", "{:d}"),
            ("seconds", "seconds", "{:.1f}"), ("PSNR dB", "psnr", "{:.2f}")),
}  # fmt: skip


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of one part, aligned, with a heading."""
    columns = [column for column in COLUMNS[rows[0]["part"]] if column[1] != "of_packed" or any(map(_raced, rows))]
    return common.table(rows, columns, UNITS)


def _raced(row: dict[str, Any]) -> bool:
    """Whether packed grids raced beside this row's."""
    return row.get("of_packed") is not None


# --- command -------------------------------------------------------------------------------------------------------


def measure_all(arguments: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """The rows of each part, as they come."""
    n_threads = arguments.num_threads
    material = load_material(arguments.folders[0])
    print(f"{material.name}, {material.width}x{material.height}: one iteration", flush=True)
    yield measure_steps(material, Effort.quick() if arguments.quick else Effort.full(), n_threads)
    if arguments.quick:
        return
    if arguments.sizes:
        print("one iteration by size, 2x64; MiB: what training needs above `import torch`", flush=True)
        latents = arguments.latents
        rows = measure_sizes(arguments.sizes, Effort.full(torch_iterations=2), n_threads, latents)
        yield [{**row, **measure_memory(row["engine"], row["size"], n_threads, latents)} for row in rows]
    print(f"{material.name}: the cpu engine by threads, 2x64", flush=True)
    yield measure_threads(material, Effort.full(), thread_counts(thread_count(n_threads)))
    if arguments.full_runs:
        print("whole runs with default settings", flush=True)
        yield [measure_run(f, engine, n_threads) for f in arguments.folders for engine in ("torch", "cpu")]


# --- all of it -----------------------------------------------------------------------------------------------------


def run_all(arguments: argparse.Namespace) -> None:
    """Measure, print and write what the flags of bench.engines ask for."""
    load = load_average()  # before this process adds to it
    try:
        load_kernels(print)
    except KernelsUnavailable as error:
        raise UserError(f"there is nothing to compare PyTorch with: {error}") from error
    name = "engines_quick" if arguments.quick else "engines"
    settings = {**vars(arguments), "defaults": {"device": "cpu", **SETTINGS, "networks": NETWORKS}}
    entries: list[dict[str, Any]] = []
    for rows in measure_all(arguments):
        print(table(rows), end="\n\n", flush=True)
        entries += rows
        path = save(name, arguments.out, settings, entries)  # a later part may be interrupted
    print(path)
    if arguments.quick:
        print(json.dumps(summary(entries, load), allow_nan=False))
    else:
        print(plot(path))
