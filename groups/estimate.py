"""--groups_dry_run: which groups a batch would train, and for how long. It writes nothing."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from common.errors import Say, UserError, counted, explain_os_error, one_line
from common.parallel import map_threads
from configs import Config
from groups.job import Job, is_begun, is_forced
from groups.journal import finished, read_record, run_folders, source_facts
from maps.by_hand import wanted_size
from maps.extras import Extras
from maps.images import image_size
from maps.source import open_source
from training.plan import plan
from training.run_folder import list_checkpoints

CALIBRATION_S = 2.0  # of training steps
# Of --target_psnr: three pairs of short runs, 0.15 and 0.075 of a full one, and one full run or two (rate_search.py).
SEARCH_RUNS = 2.2


@dataclasses.dataclass
class Prospect:
    """What a batch would do with a group."""

    job: Job
    state: str  # train, continue, finished, fails
    note: str = ""
    width: int = 0  # of the first map, to whose size the others are scaled
    height: int = 0
    config: Config | None = None  # with the grids for that size
    iterations: int = 0  # left to train


def dry_run(jobs: Sequence[Job], share: Callable[[], tuple[int, int]], say: Say) -> int:
    """Print what a batch of these jobs would do: from file headers and records, then, which takes PyTorch, how long.

    Args:
        share: gives the number of groups that are trained at a time (0: all, as on a cluster with room for them), and
            the threads of each (0: all cores).
    Returns: the exit code.
    """
    prospects = list(map_threads(look_ahead, jobs))
    for prospect in prospects:
        size = f"{prospect.width}x{prospect.height}, {prospect.iterations} iterations" if prospect.config else ""
        say(f"{prospect.state:<8}  {one_line(prospect.job.name)}: {', '.join(filter(None, (size, prospect.note)))}")
    todo = [prospect for prospect in prospects if prospect.config]
    words = {"train": "to train", "continue": "to continue", "finished": "finished", "fails": "would fail"}
    counts = {word: sum(p.state == state for p in prospects) for state, word in words.items()}
    summary = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    say(f"{len(jobs)} materials: {summary}; nothing is written")
    if todo:
        estimate(todo, *share(), say)
    return 0


def estimate(todo: Sequence[Prospect], workers: int, num_threads: int, say: Say) -> None:
    """Print the time that the groups take; see dry_run for `workers` and `num_threads`."""
    import torch

    measured = calibrate(todo, num_threads, say)
    if measured is not None:
        name, iteration_s = measured
        threads, workers = num_threads or torch.get_num_threads(), workers or len(todo)
        say(f"time  about {readable_seconds(seconds_of(todo, iteration_s, workers))} with {counted(workers, 'worker')} "
            f"of {counted(threads, 'thread')}; calibrated on {one_line(name)}: {iteration_s * 1000:.2f} ms an "
            "iteration; evaluation and --refine come on top")  # fmt: skip


def look_ahead(job: Job) -> Prospect:
    """What a batch would do with a group, from the headers of its images and the records in its folder."""
    source, config = Path(job.config.data_dir), job.config
    try:
        before = read_record(job.folder)
        done = None if is_forced(job, before) else finished(job.folder, source, config, job.settings, refresh=False)
        if done is not None:
            return Prospect(job, "finished", before.run)
        found = open_source(source, config.maps, config.material).find(extras=Extras.of(config))
        paths = dict.fromkeys(entry.path for entry in found.sources.values())
        sizes = [image_size(path, job.config.max_pixels) for path in paths]
        size = wanted_size(job.config.size, dict(enumerate(sizes)))
        config = plan(job.config, *size)
        prospect = Prospect(job, "train", "", *size, config, config.max_iter)
        if before is not None and is_begun(job, before, source_facts(source, job.config, before.sources)):
            mine = [run for run in run_folders(job.folder) if run.name not in before.older]
            saved = list_checkpoints(mine[-1]) if mine and not (job.config.target_psnr or job.config.match) else {}
            if saved:
                prospect.state, prospect.note = "continue", f"from {max(saved)} in {mine[-1].name}"
                prospect.iterations = max(config.max_iter - max(saved), 0)
        return prospect
    except UserError as error:
        return Prospect(job, "fails", str(error))
    except OSError as error:
        return Prospect(job, "fails", explain_os_error(error) or one_line(str(error)))


def calibrate(todo: Sequence[Prospect], num_threads: int, say: Say) -> tuple[str, float] | None:
    """The material nearest to the median size that can be trained, and the seconds of an iteration on it."""
    median = statistics.median(prospect.width * prospect.height for prospect in todo)
    for prospect in sorted(todo, key=lambda p: abs(p.width * p.height - median)):
        try:
            return prospect.job.name, measure(dataclasses.replace(prospect.config, num_threads=num_threads))
        except (UserError, OSError) as error:
            say(f"note: {one_line(prospect.job.name)} would fail: {error}")
    return None


def measure(config: Config) -> float:
    """Seconds of a training iteration on the material in config.data_dir; 0 where every map is constant.

    Raises: UserError when it cannot be trained.
    """
    from engine.create import create_engine, resolve_device
    from engine.schedule import Schedule
    from model import new_model
    from training.run import fit_to_material, read_material

    device = resolve_device(config)
    material = read_material(config.data_dir, config, say=lambda _: None)
    config = fit_to_material(config, material)
    engine = create_engine(new_model(config, material).to(device), material, Schedule(config), device)
    if not engine.channels:
        return 0.0
    engine.step(1)  # the first step fills caches, and compiles
    count, spent = 0, 0.0
    while spent < CALIBRATION_S:
        n = max(1, min(2 * count, engine.chunk))
        started = time.perf_counter()
        engine.step(n)
        count, spent = count + n, spent + time.perf_counter() - started
    return spent / count


def seconds_of(todo: Sequence[Prospect], iteration_s: float, workers: int) -> float:
    """Seconds that `workers` take for the iterations of the groups of one batch, at least those of the longest."""
    runs = SEARCH_RUNS if todo[0].config.target_psnr or todo[0].config.match else 1
    each = [prospect.iterations * iteration_s * runs for prospect in todo]
    return max(sum(each) / min(workers, len(each)), *each)


def readable_seconds(seconds: float) -> str:
    """90 -> '1 min 30 s'; 7260 -> '2 h 1 min'."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
