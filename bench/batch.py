"""Groups per minute of a batch over the number of workers, here and through Ray, and memory over a long batch.

    python -m bench.batch [--material data/test] [--groups 8] [--workers 1,2,4]

Every group is the material, scaled to --size and trained with one thread. The efficiency is the time of as many single
runs (`python train.py`, one after the other), divided by the time of the batch and its workers.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # before torch

import argparse
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage

from bench import common
from common.cores import usable_cores
from common.errors import UserError, run_command
from maps.folder import find_maps

ROOT = Path(__file__).resolve().parents[1]
SINGLE_RUNS = 3  # that are timed
SAMPLE_S = 0.2  # between two looks at the memory
RSS_GROUPS = 50


def make_groups(material: Path, folder: Path, count: int, size: int) -> None:
    """`count` folders with the maps of a material scaled to size x size, each its own copy."""
    first = folder / "group 000"
    first.mkdir(parents=True)
    for path in {source.path for source in find_maps(material).sources.values()}:
        with PillowImage.open(path) as image:
            image.resize((size, size)).save(first / f"{path.stem}.png")
    for index in range(1, count):
        shutil.copytree(first, folder / f"group {index:03d}")


def flags(args: argparse.Namespace) -> list[str]:
    """What every run is trained with."""
    return ["--max_iter", str(args.max_iter), "--num_threads", "1", "--eval_metrics", "psnr"]


def run(*arguments: object) -> float:
    """Seconds of `python train.py ARGUMENTS`. Raises: UserError when it fails."""
    started = time.perf_counter()
    command = [sys.executable, str(ROOT / "train.py"), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise UserError(f"train.py failed: {(result.stderr or result.stdout).strip()[-300:]}")
    return time.perf_counter() - started


def batch_flags(args: argparse.Namespace, groups: Path, out: Path, workers: int) -> list[str]:
    """`train.py` of a batch."""
    return ["--groups_batching", "--groups_batch_dir", str(groups), "--groups_save_dir", str(out),
            "--groups_max_workers", str(workers), *flags(args)]  # fmt: skip


def measure(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """One entry per backend and number of workers."""
    groups = folder / "groups"
    make_groups(Path(args.material), groups, args.groups, args.size)
    run("--data_dir", groups / "group 000", "--save_dir", folder / "warm", "--max_iter", 1)  # kernels, file cache
    singles = [run("--data_dir", groups / "group 000", "--save_dir", folder / "single", *flags(args))
               for _ in range(SINGLE_RUNS)]  # fmt: skip
    single = statistics.median(singles)
    print(f"a single run: {single:.1f} s")
    backends = ["local"] + ["ray"] * (importlib.util.find_spec("ray") is not None)
    entries = [{"backend": "single runs", "workers": 1, "seconds": single * args.groups, "efficiency": 1.0}]
    for backend in backends:
        for workers in args.workers:
            out = folder / f"{backend} {workers}"
            seconds = run(*batch_flags(args, groups, out, workers), "--groups_backend", backend)
            efficiency = single * args.groups / (seconds * workers)
            entries.append({"backend": backend, "workers": workers, "seconds": seconds, "efficiency": efficiency})
            rate = 60 * args.groups / seconds
            print(f"{backend:<6} {workers} workers: {seconds:6.1f} s, {rate:5.1f} groups a minute, efficiency "
                  f"{efficiency:.2f}")  # fmt: skip
    if len(backends) == 1:
        print('ray: left out, the package is not installed (pip install "ray[default]")')
    for entry in entries:
        entry["groups_per_minute"] = 60 * args.groups / entry["seconds"]
    return entries


def memory(args: argparse.Namespace, folder: Path) -> dict[str, Any] | None:
    """RSS in MiB, without files, of the batch and of its largest worker over a batch of RSS_GROUPS short groups; None
    without /proc."""
    if not Path("/proc/self/statm").exists():
        return None
    groups = folder / "many"
    make_groups(Path(args.material), groups, RSS_GROUPS, min(args.size, 128))
    short = argparse.Namespace(max_iter=50)
    command = [sys.executable, str(ROOT / "train.py"), *batch_flags(short, groups, folder / "many out", 2)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    samples = []
    while process.poll() is None:
        family = descendants(process.pid)
        samples.append((rss_mib(process.pid), max(map(rss_mib, family), default=0.0)))
        time.sleep(SAMPLE_S)
    if process.returncode:
        raise UserError(f"the batch of {RSS_GROUPS} groups failed with exit code {process.returncode}")
    quarter = max(len(samples) // 4, 1)
    parts = {"second quarter": samples[quarter : 2 * quarter], "last quarter": samples[-quarter:]}
    found = {name: {"batch_mib": round(max(s[0] for s in part), 1), "worker_mib": round(max(s[1] for s in part), 1)}
             for name, part in parts.items()}  # fmt: skip
    for name, peaks in found.items():
        print(f"memory, {RSS_GROUPS} groups, {name}: batch {peaks['batch_mib']} MiB, worker {peaks['worker_mib']} MiB")
    return found


def descendants(process: int) -> list[int]:
    """Processes below one, from /proc."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{process}/task").iterdir():
            found += map(int, (task / "children").read_text(encoding="ascii").split())
    except OSError:  # it has ended
        return []
    return found + [below for child in found for below in descendants(child)]


def rss_mib(process: int) -> float:
    """Resident memory of a process without the pages of files; 0 when it has ended.

    Those of libraries are shared, and Python reads another 100 MiB of PyTorch's when it ends.
    """
    try:
        resident, of_files = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1:3]
    except OSError:
        return 0.0
    return (int(resident) - int(of_files)) * os.sysconf("SC_PAGE_SIZE") / 2**20


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    shown = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=shown)
    parser.add_argument("--material", default="data/test", help="folder that every group is a copy of")
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--size", type=int, default=256, help="texels to a side")
    parser.add_argument("--max_iter", type=int, default=500)
    parser.add_argument("--workers", default="", help="numbers, such as 1,2,4; empty: powers of 2 up to the cores")
    parser.add_argument("--out", default=str(common.RESULTS), help="folder for the JSON")
    args = parser.parse_args(argv)
    powers = [2**k for k in range(max(usable_cores(), 2).bit_length()) if 2**k <= max(usable_cores(), 2)]
    try:
        args.workers = [int(count) for count in args.workers.split(",")] if args.workers else powers
    except ValueError as error:
        raise UserError(f"--workers: expected numbers such as 1,2,4, got {args.workers!r:.80}") from error
    if min([*args.workers, args.groups, args.size, args.max_iter]) < 1:
        raise UserError("--workers, --groups, --size and --max_iter: expected 1 or more")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    args = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        entries = measure(args, Path(folder))
        rss = memory(args, Path(folder))
    settings = {"material": args.material, "groups": args.groups, "size": args.size, "max_iter": args.max_iter}
    print(common.save("batch", args.out, {**settings, "rss": rss}, entries))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
