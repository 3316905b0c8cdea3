"""The engines against each other on a GPU; `python -m bench.engines --device cuda` runs it.

How fast a step is with small and large batches, by the size of the material and against what copying and multiplying
would allow at best; which kernels the rest goes to; seconds and quality of whole efforts. Whatever cannot take part,
such as tiny-cuda-nn where it is not installed, is named in a line and left out.

--quick measures the largest batch first and stops after QUICK_S; the last line is JSON, with what was left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from bench import common
from bench.common import GPU_SIZES as SIZES
from bench.common import machine, median_ratio, save, use_threads
from bench.devices import MIB, Device, breakdown, limits
from bench.engines_plot import plot
from bench.floors import least_bytes, multiply_adds
from bench.materials import grids_of, tiled_material
from bench.race import NETWORKS, SETTINGS, Contestant, Effort, check_same_work, first_line, race
from common.errors import UserError
from configs import make_config
from dataset import Material, load_material
from engine.create import create_decoder, create_engine, resolve_device
from engine.schedule import Schedule
from metrics.evaluate import metric_options, score_lod
from model import new_model
from training.code_refinement import Refinement
from training.plan import plan

QUICK_SIZE = 4096
BATCHES = (1 << 18, 8192)  # texels per iteration: as many as fill a GPU, and the default
PRESETS = ("preview", "balanced", "best")
BPP = 5.0
QUICK_S = 240.0  # of the five minutes that --quick may take; the rest is for what is begun by then
QUICK = Effort(rounds=3, turns=1, turn_s=0.3)
FULL = Effort(rounds=5, turns=2, turn_s=0.5)
PROFILED_S = 0.1  # of iterations

Row = dict[str, Any]


class Budget:
    """Seconds that a measurement may take, and what had to be left out for that, or because it does not work here."""

    def __init__(self, seconds: float = math.inf):
        self.deadline = time.monotonic() + seconds
        self.left_out: list[str] = []

    @property
    def spent(self) -> bool:
        return time.monotonic() > self.deadline

    def leave_out(self, what: str, why: str) -> None:
        """Note it, and say so."""
        self.left_out.append(f"{what}: {why}")
        print(f"note: {self.left_out[-1]}", flush=True)


def open_device(name: str) -> Device:
    """The GPU that --device names. Raises: UserError where there is none."""
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {name}: expected a machine with an NVIDIA GPU and a PyTorch with CUDA, found none; "
                        "leave --device out to measure the CPU")  # fmt: skip
    where = resolve_device(make_config({"device": name}))
    if where.type != "cuda":
        raise UserError(f"--device {name}: expected cpu, cuda or cuda:N; give one of them")
    torch.cuda.set_device(where)
    return Device(where)


# --- 1: one iteration ----------------------------------------------------------------------------------------------


def compete(
    device: Device, material: Material, settings: Mapping[str, Any], effort: Effort, best: Mapping[str, float],
    budget: Budget, **labels: Any,
) -> list[Row]:  # fmt: skip
    """A row of each of the device's engines that works here.

    Args:
        best: bench.devices.limits of the device.
        labels: columns that say what is compared.
    """
    device.release()
    contestants: list[Contestant] = []
    memory: dict[str, int | None] = {}
    what = " ".join(str(label) for label in labels.values())
    for name in device.engines:
        if budget.spent:
            budget.leave_out(f"{what}, {name}", "no time left")
            continue
        try:
            with device.watch_memory() as found:
                contestant = Contestant(name, material, dict(settings), device, **labels)
            check_same_work([*contestants[:1], contestant])
        except Exception as error:  # a missing package, too little memory, whatever a compiler can run into
            budget.leave_out(f"{what}, {name}", first_line(error))
            continue
        contestants.append(contestant)
        memory[name] = found["peak_bytes"]
    race(contestants, effort)
    reference = {contestant.name: contestant for contestant in contestants}
    rows = []
    for contestant in contestants:
        row = {**contestant.row(reference.get("torch")), "peak_bytes": memory[contestant.name]}
        compiled = reference.get("compiled")
        row["speedup_compiled"] = median_ratio(compiled.milliseconds, contestant.milliseconds) if compiled else None
        rows.append({**row, **shares_of(contestant, row["milliseconds"] / 1000, best)})
    return rows


def shares_of(contestant: Contestant, seconds: float, best: Mapping[str, float]) -> Row:
    """How near an iteration of so many seconds is to the least that it could take."""
    work = multiply_adds(contestant.model)
    moved = least_bytes(contestant.model, contestant.material, contestant.batch_size)
    arithmetic = work * contestant.batch_size / best["matrix_multiply_adds_per_second"]
    bytes_ = moved / best["copy_bytes_per_second"]
    return {
        "multiply_adds_per_sample": work,
        "least_bytes": moved,
        "floor_by_arithmetic": arithmetic * 1000,
        "floor_by_bytes": bytes_ * 1000,
        "matrix_share": arithmetic / seconds,
        "copy_share": bytes_ / seconds,
    }


def measure_steps(
    device: Device, material: Material, effort: Effort, best: Mapping[str, float], budget: Budget,
    networks: Sequence[str], **settings: Any,
) -> Iterator[list[Row]]:  # fmt: skip
    """Each engine with each network and batch size, in the reference form, which all of them have."""
    for network in networks:
        for batch_size in BATCHES:
            given = {**settings, **NETWORKS[network], "batch_size": batch_size}
            yield compete(device, material, given, effort, best, budget, part="step", network=network)


# --- 2: size -------------------------------------------------------------------------------------------------------


def measure_sizes(
    device: Device, source: Material, sizes: Sequence[int], effort: Effort, best: Mapping[str, float], budget: Budget,
    batch_size: int, **settings: Any,
) -> Iterator[list[Row]]:  # fmt: skip
    """Each engine on materials of these sizes with as many bits per texel, 2 x 64."""
    for size in sizes:
        material = tiled_material(source, size)
        given = {**settings, "hash_grid_configs": grids_of(size), "batch_size": batch_size}
        yield compete(device, material, given, effort, best, budget, part="size", size=size)


# --- 3: where the time goes ----------------------------------------------------------------------------------------


def measure_profile(
    device: Device, material: Material, budget: Budget, engines: Sequence[str], **settings: Any
) -> list[Row]:
    """The largest kernels of an iteration of each engine: milliseconds of it, and share."""
    rows: list[Row] = []
    for name in engines:
        try:
            contestant = Contestant(name, material, settings, device)
            n = contestant.iterations_in(PROFILED_S)
            seconds = contestant.turn(n)
            kernels = device.profile(lambda: contestant.engine.step(n))  # noqa: B023  # runs at once
        except Exception as error:
            budget.leave_out(f"profile of {name}", first_line(error))
            continue
        facts = {"part": "profile", "engine": name, "batch_size": contestant.batch_size}
        rows += [{**facts, **part} for part in breakdown(kernels, seconds, n)]
    return rows


# --- 4: whole efforts ----------------------------------------------------------------------------------------------


def measure_preset(
    device: Device, material: Material, preset: str, engine: str, budget: Budget, refine: bool = True, **settings: Any
) -> Row | None:
    """Seconds of training and of refining at BPP, and PSNR in dB of all channels at LOD 0 after it.

    Without loading, evaluating and writing. What an engine compiles is compiled before the clock runs. None when the
    budget ends on the way.
    """
    device.release()
    given = {"preset": preset, "bpp": BPP, "engine": engine, "device": str(device.where), **settings}
    config = plan(make_config(given), material.width, material.height)
    if not refine:
        config = dataclasses.replace(config, refine=0)
    started = time.perf_counter()
    create_engine(new_model(config, material).to(device.where), material, Schedule(config), device.where).step(2)
    device.synchronize()
    preparing = time.perf_counter() - started
    with device.watch_memory() as memory:
        model = new_model(config, material).to(device.where)
        started = time.perf_counter()
        trained = create_engine(model, material, Schedule(config), device.where)
        while trained.iteration < config.max_iter:
            if budget.spent:
                why = f"stopped at iteration {trained.iteration} of {config.max_iter}, no time left"
                budget.leave_out(f"{preset} {material.width}", why)
                return None
            trained.step(min(trained.chunk, config.max_iter - trained.iteration))
        trained.sync()
        device.synchronize()
        seconds = time.perf_counter() - started
    samples, name = config.max_iter * config.batch_size, trained.name
    del trained
    started = time.perf_counter()
    refinement = Refinement(model, material, config)
    for number in range(config.refine if refinement.possible else 0):
        refinement.round(number)
    device.synchronize()
    refining = time.perf_counter() - started
    score = score_lod(model, material, 0, decode=create_decoder(config), **metric_options("psnr"))
    return {
        "part": "preset",
        "preset": preset,
        "size": material.width,
        "engine": name,
        "iterations": config.max_iter,
        "batch_size": config.batch_size,
        "samples": samples,
        "preparing_seconds": preparing,
        "seconds": seconds,
        "refining_seconds": refining if refine else None,
        "psnr": score["psnr"]["all"],
        "bpp": model.bits_per_texel(material.width, material.height)["bpp"],
        "peak_bytes": memory["peak_bytes"],
    }


def measure_presets(
    device: Device, source: Material, sizes: Sequence[int], budget: Budget, refine: bool = True, **settings: Any
) -> Iterator[list[Row]]:  # fmt: skip
    """Efforts on materials of these sizes, on the fused engine, or on PyTorch where that does not work."""
    for size in sizes:
        material = tiled_material(source, size)
        for preset in PRESETS:
            for engine in (device.fused, "torch"):
                if budget.spent:
                    budget.leave_out(f"{preset} {size}", "no time left")
                    break
                try:
                    row = measure_preset(device, material, preset, engine, budget, refine, **settings)
                except Exception as error:
                    budget.leave_out(f"{preset} {size}, {engine}", first_line(error))
                    continue
                if row is not None:
                    yield [row]
                break


# --- tables --------------------------------------------------------------------------------------------------------

TIMES = (
    ("engine", "engine", "{}"),
    ("ms/iteration", "milliseconds", "{:.3f}"),
    ("fastest", "fastest", "{:.3f}"),
    ("slowest", "slowest", "{:.3f}"),
    ("Msamples/s", "samples_per_second", "{:.2f}"),
    ("x torch", "speedup", "{:.2f}"),
    ("x compiled", "speedup_compiled", "{:.2f}"),
    ("% of copying", "copy_share", "{:.1f}"),
    ("% of matrix rate", "matrix_share", "{:.1f}"),
    ("MiB", "peak_bytes", "{:.0f}"),
)
UNITS = {"samples_per_second": 1e6, "samples": 1e6, "peak_bytes": MIB, "copy_share": 0.01, "matrix_share": 0.01,
         "share": 0.01}  # fmt: skip
COLUMNS = {
    "step": (("network", "network", "{}"), ("batch", "batch_size", "{:d}"), *TIMES),
    "size": (("size", "size", "{}"), *TIMES),
    "profile": (("engine", "engine", "{}"), ("batch", "batch_size", "{:d}"), ("calls", "calls", "{:.1f}"),
                ("ms/iteration", "milliseconds", "{:.4f}"), ("%", "share", "{:.1f}"), ("kernel", "kernel", "{:.70}")),
    "preset": (("size", "size", "{}"), ("effort", "preset", "{}"), ("engine", "engine", "{}"),
               ("iterations", "iterations", "{:d}"), ("Msamples", "samples", "{:.1f}"),
               ("seconds", "seconds", "{:.2f}"), ("refining", "refining_seconds", "{:.2f}"),
               ("PSNR dB", "psnr", "{:.2f}"), ("bpp", "bpp", "{:.2f}"), ("MiB", "peak_bytes", "{:.0f}")),
}  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """The rows of one part, aligned, with a heading."""
    return common.table(rows, COLUMNS[rows[0]["part"]], UNITS)


# --- command -------------------------------------------------------------------------------------------------------


def measure_all(
    device: Device, arguments: argparse.Namespace, budget: Budget, best: Mapping[str, float]
) -> Iterator[list[Row]]:
    """The rows of each part, as they come."""
    quick, given = arguments.quick, {"num_threads": arguments.num_threads}
    material = load_material(arguments.folders[0])
    effort = QUICK if quick else FULL
    networks = ("2x64",) if quick else tuple(NETWORKS)
    print(f"{material.name}, {material.width}x{material.height}: one iteration", flush=True)
    yield from measure_steps(device, material, effort, best, budget, networks, **given)
    print("where an iteration's time goes, 2x64", flush=True)
    engines = (device.fused, "torch")
    yield measure_profile(device, material, budget, engines, **NETWORKS["2x64"], batch_size=BATCHES[0], **given)
    sizes = arguments.sizes if arguments.sizes is not None else (QUICK_SIZE,) if quick else SIZES
    if not quick:
        print(f"one iteration by size, 2x64, batches of {BATCHES[0]}", flush=True)
        yield from measure_sizes(device, material, sizes, effort, best, budget, BATCHES[0], **given)
    if arguments.full_runs:
        print(f"efforts at {BPP:g} bpp, tiles of {material.name}", flush=True)
        yield from measure_presets(device, material, sizes, budget, refine=not quick, **given)


def summary(rows: Sequence[Row], best: Mapping[str, float], facts: Mapping[str, Any], budget: Budget) -> Row:
    """What --quick prints last."""
    steps = {(row["batch_size"], row["engine"]): row for row in rows if row["part"] == "step"}
    fused = next((row for row in steps.values() if row["engine"] not in ("torch", "compiled", "tcnn")), {})
    kept = ("milliseconds", "samples_per_second", "speedup", "speedup_compiled", "copy_share", "matrix_share",
            "floor_by_bytes", "floor_by_arithmetic", "peak_bytes")  # fmt: skip
    effort = ("size", "engine", "iterations", "samples", "seconds", "psnr", "bpp", "peak_bytes")
    return {
        **facts,
        **best,
        "fused_engine": fused.get("engine"),
        "ratio_torch_2x64": fused.get("speedup"),
        "ratio_compiled_2x64": fused.get("speedup_compiled"),
        "steps_2x64": {f"{engine} {batch}": {key: row[key] for key in kept} for (batch, engine), row in steps.items()},
        "efforts": {row["preset"]: {key: row[key] for key in effort} for row in rows if row["part"] == "preset"},
        "profile": [[row["engine"], row["kernel"][:70], row["milliseconds"], row["share"]] for row in rows
                    if row["part"] == "profile"],
        "left_out": budget.left_out,
        "commit": machine()["commit"],
        "torch": torch.__version__,
    }  # fmt: skip


def command(arguments: argparse.Namespace, device: Device | None = None) -> int:
    """`python -m bench.engines` with a GPU. Returns the exit code.

    device: another one than --device names, for tests.
    """
    device = device or open_device(arguments.device)
    use_threads(arguments.num_threads)
    budget = Budget(QUICK_S if arguments.quick else math.inf)
    facts, best = device.describe(), limits(device)
    print(f"{facts['device']}: copies {best['copy_bytes_per_second'] / 1e9:.0f} GB/s, multiplies "
          f"{best['matrix_multiply_adds_per_second'] / 1e12:.2f} T/s (16 bits on a GPU), "
          f"{best['float32_multiply_adds_per_second'] / 1e12:.2f} T/s (float32)", flush=True)  # fmt: skip
    name = "engines_gpu_quick" if arguments.quick else "engines_gpu"
    settings = {**vars(arguments), "defaults": {**SETTINGS, "networks": NETWORKS}, "facts": facts, "limits": best}
    entries: list[Row] = []
    path = save(name, arguments.out, settings, entries)
    for rows in measure_all(device, arguments, budget, best):
        if rows:
            print(table(rows), end="\n\n", flush=True)
        entries += rows
        path = save(name, arguments.out, {**settings, "left_out": budget.left_out}, entries)
    print(path)
    if arguments.quick:
        print(json.dumps(summary(entries, best, facts, budget), allow_nan=False))
    else:
        print(plot(path))
    return 0
