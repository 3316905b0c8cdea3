"""Whether deferred/'s frames come as fast as a GPU would take them.

    python -m bench.deferred_loader [--frames 200] [--size 1024] [--step 0.1]

Makes frames like photographs, with uv maps, in a temporary folder, and goes through them as train.py does, with a step
that sleeps: a GPU's, in which the cores are free. With and without threads that read ahead, with all decoded images in
the cache and with none. The files are read from the system's own cache, not from a disk. The processor's time of a step
says what the reader needs; its wall time also depends on what else the machine does.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import RESULTS, save, table
from common.errors import UserError, run_command
from common.knobs import OneLineParser

DIFFERENT = 8  # pictures, of which the frames are copies: encoding takes ten times as long as decoding
NOISE = 4.0  # codes, of a photograph; without it a PNG file is small and soon decoded
COLUMNS = (
    ("uv", "uv_type", "{}"), ("workers", "num_workers", "{}"), ("cached", "cached", "{}"),
    ("check s", "check", "{:.1f}"), ("CPU s", "check_cpu", "{:.1f}"),
    ("step ms", "step", "{:.1f}"), ("wait ms", "wait", "{:.1f}"), ("median ms", "median", "{:.1f}"),
    ("longest ms", "longest", "{:.1f}"),
    ("CPU ms", "cpu", "{:.1f}"), ("uv MB", "disk", "{:.0f}"),
)  # fmt: skip
UNITS = {"step": 1e-3, "wait": 1e-3, "median": 1e-3, "longest": 1e-3, "cpu": 1e-3, "disk": 1e6}


def make_frames(folder: Path, count: int, size: int, uv_type: str) -> None:
    """`count` frames of size x size: a disc in front of a bare background, one direction each."""
    from common.arrays import write_array
    from common.files import make_folder, write_bytes
    from deferred.dataset.frames import FOLDERS
    from deferred.dataset.uv_maps import write_uv
    from deferred.util import id_name
    from maps.images import encode_png

    for kind in FOLDERS:
        make_folder(folder / kind)
    random = np.random.default_rng(0)
    y, x = (axis / size for axis in np.mgrid[:size, :size])
    inside = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.2
    for number in range(count):
        files = {kind: folder / kind / (id_name(number) + suffix) for kind, suffix in FOLDERS.items()}
        if number < DIFFERENT:
            waves = np.stack([np.sin(9 * x + 3 * y + number), np.cos(7 * y + number), np.sin(20 * x * y)], axis=2)
            image = 128 + 100 * waves + random.normal(0, NOISE, (size, size, 3))
            write_bytes(files["frame"], encode_png(image.clip(0, 255).astype(np.uint8)))
            uv = np.stack([x, y], axis=2) * (1 - 0.01 * number)
            write_uv(files["uv"], np.where(inside[..., None], uv, np.nan).astype(np.float32), uv_type)
        else:
            for kind in ("frame", "uv"):
                shutil.copy(folder / kind / (id_name(number % DIFFERENT) + FOLDERS[kind]), files[kind])
        write_array(files["extrinsics"], np.array([0, 0, 1], np.float32))


def measure(folder: Path, workers: int, cache: int, given: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the check and of a step, by the clock and of the processor, and of waiting for a step's batch.

    An epoch's first batch is waited for whole, since nothing is read ahead of it: the mean has these, the median not.

    cache: bytes.
    """
    from deferred.dataset.ahead import read_batches
    from deferred.dataset.frames import FrameCache, FrameSet
    from deferred.dataset.opening import inspect_all

    frames = FrameSet(folder, range(given.frames), cache=FrameCache(cache))
    times = [(time.perf_counter(), time.process_time())]
    inspect_all(frames)
    times.append((time.perf_counter(), time.process_time()))
    random, waits = np.random.default_rng(0), []
    for _ in range(given.epochs):
        order = random.permutation(frames.ids).tolist()
        crop = (given.crop, given.crop)
        with closing(read_batches(frames, order, given.batch, crop, random, True, workers)) as batches:
            while True:
                asked = time.perf_counter()
                read = next(batches, None)
                if read is None:
                    break
                waits.append(time.perf_counter() - asked)
                random.bit_generator.state = read.state
                time.sleep(given.step)
    times.append((time.perf_counter(), time.process_time()))
    (check, check_cpu), (wall, cpu) = np.diff(times, axis=0).tolist()
    return {"check": check, "check_cpu": check_cpu, "step": wall / len(waits), "cpu": cpu / len(waits),
            "wait": float(np.mean(waits)), "median": float(np.median(waits)), "longest": max(waits),
            "steps": len(waits), "cached_bytes": cache - frames.cache.free}  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m bench.deferred_loader", description=__doc__.splitlines()[0],
                           formatter_class=argparse.ArgumentDefaultsHelpFormatter)  # fmt: skip
    parser.add_argument("--frames", type=int, default=200, help="how many")
    parser.add_argument("--size", type=int, default=1024, help="pixels along a side of a frame")
    parser.add_argument("--batch", type=int, default=12, help="crops of a step")
    parser.add_argument("--crop", type=int, default=256, help="pixels along a side of a crop")
    parser.add_argument("--epochs", type=int, default=3, help="times that every frame is seen")
    parser.add_argument("--step", type=float, default=0.1, help="seconds that a step takes, asleep")
    parser.add_argument("--num_workers", type=int, default=4, help="threads, beside none")
    parser.add_argument("--out", default=str(RESULTS), help="folder for the JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    given = build_parser().parse_args(argv)
    for name in ("frames", "size", "batch", "crop", "epochs", "num_workers"):
        if getattr(given, name) < 1:
            raise UserError(f"--{name}: expected 1 or more, got {getattr(given, name)}")
    if not 0 <= given.step <= 60:
        raise UserError(f"--step: expected 0 to 60 seconds, got {given.step}")
    entries = []
    for uv_type in ("float32", "uint16"):
        with tempfile.TemporaryDirectory() as folder:
            make_frames(Path(folder), given.frames, given.size, uv_type)
            fixed = {"uv_type": uv_type, "disk": sum(path.stat().st_size for path in Path(folder, "uv").iterdir())}
            for cached in ("none", "all"):
                for workers in (0, given.num_workers):
                    found = measure(Path(folder), workers, (cached == "all") << 40, given)
                    entries.append({**fixed, "num_workers": workers, "cached": cached, **found})
                    print(table(entries, COLUMNS, UNITS).splitlines()[-1], flush=True)
    print("\n" + table(entries, COLUMNS, UNITS))
    print(f"\na step of {given.step * 1e3:.0f} ms asleep; waits are for its batch")
    settings = {name: value for name, value in vars(given).items() if name != "out"}
    print(save("deferred_loader", given.out, settings, entries))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
