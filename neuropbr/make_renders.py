"""Render three views of PBR materials as a training set for train.py.

    python make_renders.py --data-dir ../data/test --crops 2 --size 256  the tiny set of this repository
    python make_renders.py --data-dir my_materials --samples 8

Every folder below --data-dir that holds albedo, roughness and normal maps is a material (file names as for the
compressor, such as those of ambientCG, Poly Haven and MatSynth; a missing metallic map is 0, a missing occlusion map
1). A run that was killed goes on where it was: the same command makes the materials that are not finished.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
import argparse
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import TYPE_CHECKING

from common.errors import UserError, counted, quote, run_command
from common.events import progress_bar
from common.knobs import HomeParser
from neuropbr.utils.material_folders import MaterialFolder, find_materials, held_out, label_of
from neuropbr.utils.rendered_set import SOURCES, RenderedSet

if TYPE_CHECKING:
    from neuropbr.utils.renders import Job


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = HomeParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="../data", help="a material's folder, or a folder of such folders")
    parser.add_argument("--input-dir", default="./data/input", help="receives the renders")
    parser.add_argument("--output-dir", default="./data/output", help="receives the maps")
    parser.add_argument("--size", type=int, default=0, help="side of renders and maps, pixels; 0: the crop's own")
    parser.add_argument("--crops", type=int, default=1, help="cut each material into N x N materials")
    parser.add_argument("--samples", type=int, default=1, help="samples per material, each in another light")
    parser.add_argument("--no-dirty", action="store_true", help="clean renders only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--val-ratio", type=float, help="write split.json, which holds this share of the materials out "
                        "of training, all pieces of each (default: train.py splits the pieces)")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, help="materials that are made at once, each by a process")
    parser.add_argument("--add", action="store_true", help="go on with a complete set: make what is new in --data-dir")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing set")
    options = parser.parse_args(argv)
    limits = (("size", 0, 8192), ("crops", 1, 16), ("samples", 1, 10000), ("seed", 0, 2**31), ("jobs", 1, 256))
    for name, least, most in limits:
        if not least <= getattr(options, name) <= most:
            raise UserError(f"--{name}: expected {least} to {most}, found {getattr(options, name)}")
    if options.val_ratio is not None and not 0 < options.val_ratio <= 0.9:
        raise UserError(f"--val-ratio: expected more than 0, at most 0.9, found {options.val_ratio:g}")
    return options


def plan(options: argparse.Namespace, folders: list[MaterialFolder], rendered: RenderedSet) -> list[Job]:
    """What there is to make: the materials that are not finished, with the numbers of their samples."""
    from neuropbr.utils.renders import Job

    root, numbers, jobs = Path(options.data_dir), rendered.free_numbers(), []
    sources = SOURCES[:1] if options.no_dirty else SOURCES
    taken = {label: entry["root"] for label, entry in rendered.done.items()}
    for found in folders:
        label, of = label_of(found.path, root), root.resolve().name
        if taken.get(label, of) != of:  # a material of the same name, of another set
            label = f"{of}_{label}"
        while label in taken and label not in rendered.done:  # a folder beside its `textures`, a_b beside a/b
            label += "_"
        if label in rendered.done:
            continue
        taken[label] = of
        own = [next(numbers) for _ in range(options.crops**2 * options.samples)]
        jobs.append(Job(found, label, options.crops, options.size, own, options.seed, sources,
                        Path(options.input_dir), Path(options.output_dir)))  # fmt: skip
    return jobs


def made(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, dict[str, str] | UserError]]:
    """Each job, once it is done, with its samples, or with what is wrong with its files."""
    from neuropbr.utils.renders import make_material, use_threads

    if processes == 1:
        for job in jobs:
            yield job, make_material(job)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)) or 1, context, use_threads, (processes,)) as pool:
        left = {pool.submit(make_material, job): job for job in jobs}
        try:
            while left:
                for future in wait(left, return_when=FIRST_COMPLETED).done:
                    yield left.pop(future), future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    options = parse_args(argv)
    folders = find_materials(Path(options.data_dir))
    settings = {name: getattr(options, name) for name in ("size", "crops", "samples", "no_dirty", "seed")}
    rendered = RenderedSet(Path(options.input_dir), settings, options.overwrite, options.add)
    before = len(rendered.done)
    if before:
        print(f"{counted(before, 'material')} made already: the set goes on")
    jobs, root = plan(options, folders, rendered), Path(options.data_dir).resolve().name
    with progress_bar(len(jobs), 0) as bar:
        bar.set_description("materials")
        for job, result in made(jobs, options.jobs):
            if isinstance(result, UserError):
                print(f"left out: {result}", file=sys.stderr)
            else:
                rendered.finish(job.label, root, result)
            bar.update()
    if not rendered.done:
        raise UserError(f"{quote(options.data_dir)}: expected materials that can be read, found none")
    ratio = options.val_ratio
    rendered.complete(None if ratio is None else held_out(rendered.done, ratio, options.seed))
    samples, sources = rendered.samples, "clean" if options.no_dirty else "clean and dirty"
    print(f"{counted(len(samples), 'sample')} of {counted(len(set(samples.values())), 'material')}, "
          f"{sources}: {quote(options.input_dir)}, {quote(options.output_dir)}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, less_memory="give a smaller --size, or fewer --jobs"))
