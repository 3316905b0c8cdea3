"""Whole runs on large materials: seconds, quality, and memory above `import torch`.

    python -m bench.size [DIR] [--sizes 4096] [--latents packed,bc1] [--bpp 5] [--preset fast]     minutes

The material of a size is DIR (data/test where there is none) tiled, each tile mirrored at random, in files. Each run is
one of train.py in a process of its own, from reading the files to the evaluated export.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # before torch

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import common
from bench.common import RESULTS, save, use_threads
from bench.memory import WorkerFailed, in_new_process, peak_above
from bench.rate import DECODERS, words_of
from bench.rate_summary import PLAIN
from common.errors import UserError, run_command
from common.files import write_bytes
from common.knobs import OneLineParser
from configs import LATENTS, PRESETS, make_config
from maps.images import encode_png
from training.plan import plan
from training.rates import ROWS

if TYPE_CHECKING:
    from dataset import Material

SIZE, BPP, PRESET = 4096, 5.0, "fast"
USUAL_LATENTS = ("packed", "bc1")
COLUMNS = (
    ("size", "size", "{}²"), ("latents", "latents", "{}"), ("decoder", "decoder", "{}"), ("bpp", "bpp", "{:.2f}"),
    ("iterations", "iterations", "{:d}"), ("PSNR dB", "psnr", "{:.2f}"), ("filtered", "psnr_filtered", "{:.2f}"),
    ("seconds", "seconds", "{:.1f}"), ("of training", "training_seconds", "{:.1f}"),
    ("cpu s", "processor_seconds", "{:.1f}"), ("MiB", "peak_bytes", "{:.0f}"),
)  # fmt: skip


def write_maps(material: Material, folder: Path) -> None:
    """LOD 0 as a folder of PNG files."""
    for name in material.present:
        write_bytes(folder / f"{name}.png", encode_png(material.stored(0, name), quick=True))


def worker(after_torch: str, flags: str) -> None:
    """Train with these flags (JSON), and print what it took."""
    import torch

    from training.start import train_material

    started, processor_started = time.perf_counter(), time.process_time()
    result = train_material(make_config(json.loads(flags)), say=lambda text: None, quiet=True)
    print(json.dumps({
        "seconds": time.perf_counter() - started, "processor_seconds": time.process_time() - processor_started,
        "training_seconds": result.seconds, "iterations": result.iteration, "bpp": result.rates["bpp"],
        "psnr": result.metrics["psnr"]["all"], "psnr_filtered": result.metrics["psnr_filtered"]["all"],
        "peak_bytes": peak_above(after_torch), "threads": torch.get_num_threads(),
    }))  # fmt: skip


def measure(folder: Path, size: int, flags: dict[str, Any]) -> dict[str, Any]:
    """One run. Raises: UserError when it fails."""
    with tempfile.TemporaryDirectory() as save_dir:
        given = {**flags, "data_dir": str(folder), "save_dir": save_dir}
        try:
            return {"size": size, "latents": PLAIN[0], "decoder": PLAIN[1], **flags,
                    **in_new_process("bench.size", "worker", json.dumps(given))}  # fmt: skip
        except WorkerFailed as error:
            raise UserError(f"{size}, --latents {flags.get('latents', PLAIN[0])}: the run failed ({error})") from error


def chosen_flags(arguments: Any, size: int) -> list[dict[str, Any]]:
    """The flags of each run on a square of this size. Raises: UserError for a rate that cannot be planned."""
    found = []
    for latents in arguments.latents:
        if (arguments.decoder, latents) not in ROWS:
            raise UserError(f"--decoder {arguments.decoder}: there is no such form with --latents {latents}")
        flags = {"bpp": arguments.bpp, "preset": arguments.preset, "num_threads": arguments.num_threads,
                 "latents": latents, "decoder": arguments.decoder}  # fmt: skip
        plan(make_config(flags), size, size)
        found.append(flags)
    return found


def build_parser() -> OneLineParser:
    parser = OneLineParser(description=__doc__.splitlines()[0], prog="python -m bench.size")
    parser.add_argument("folder", nargs="?", default="data/test", help="material folder")
    parser.add_argument("--sizes", type=int, nargs="*", default=[SIZE], help=f"widths of the squares  [{SIZE}]")
    words = f"some of {', '.join(LATENTS)}, with commas between  [{','.join(USUAL_LATENTS)}]"
    parser.add_argument("--latents", type=words_of(LATENTS), default=USUAL_LATENTS, help=words)
    parser.add_argument("--decoder", choices=DECODERS, default=PLAIN[1], help=f"of all runs  [{PLAIN[1]}]")
    parser.add_argument("--bpp", type=float, default=BPP, help=f"rate, bits per texel  [{BPP:g}]")
    parser.add_argument("--preset", choices=[name for name in PRESETS if name], default=PRESET,
                        help=f"effort  [{PRESET}]")  # fmt: skip
    parser.add_argument("--num_threads", type=int, default=0, help="CPU threads; 0: all cores")
    parser.add_argument("--out", default=str(RESULTS), help="folder for the JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    arguments = build_parser().parse_args(argv)
    if not arguments.sizes or not all(16 <= size <= 8192 for size in arguments.sizes):
        raise UserError(f"--sizes: expected widths of 16 to 8192, got {' '.join(map(str, arguments.sizes)) or 'none'}")
    use_threads(arguments.num_threads)
    runs = {size: chosen_flags(arguments, size) for size in arguments.sizes}
    from bench.devices import MIB
    from bench.materials import tiled_material
    from dataset import load_material

    source = load_material(arguments.folder)
    entries: list[dict[str, Any]] = []
    for size, flags in runs.items():
        with tempfile.TemporaryDirectory() as folder:
            write_maps(tiled_material(source, size), Path(folder))
            for given in flags:
                entries.append({"material": source.name, **measure(Path(folder), size, given)})
                path = save("size", arguments.out, vars(arguments), entries)  # a later run may be interrupted
    print(common.table(entries, COLUMNS, {"peak_bytes": MIB}))
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
