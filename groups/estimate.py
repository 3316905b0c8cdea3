"""--groups_dry_run: what a batch would train, for how long and into how many bytes. Nothing is written."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image as PillowImage

from common.errors import Say, UserError, counted, explain_os_error, one_line, quote
from common.events import readable_bytes
from common.parallel import map_threads
from configs import MAX_PIXELS, Config
from dataset import load_material
from engine.cpu.decoder import decode_lod
from engine.create import create_engine, resolve_device
from engine.schedule import Schedule
from formats.dds import HEADER_BYTES
from formats.dds_layouts import grid_file_names
from groups.journal import finished, read_record, run_folders, source_facts
from groups.worker import Job, is_begun, is_forced
from maps.folder import find_maps
from metrics.evaluate import metric_options, score_lod
from model import new_model
from shape import input_layout, layer_sizes, model_shape
from training.code_refinement import Refinement
from training.plan import plan
from training.run import fit_to_material
from training.run_folder import list_checkpoints

CALIBRATION_S = 2.0  # of training steps
LARGEST_CALIBRATED = 1024 * 1024  # texels: a larger material would take long to evaluate
SMALL_LOD = 256 * 256  # texels of the LOD that an evaluation is timed at; the rest is scaled
START_S = 0.5  # of a group beside training: its process, its folders
NPZ_BYTES = 568  # of network_data.npz beside the weights
PER_PARAMETER = 4  # numbers in model.pth: its value, Adam's two, and about one of what is due between two sweeps
# A search for a rate: three pairs of short runs, 0.15 and 0.075 of a full one, and one full run or two (search.py).
SEARCH_RUNS = 2.2

Plans = dict[tuple[int, int], tuple[Config, int, int]]  # (width, height) -> configuration, bytes as of `sizes_of`


@dataclasses.dataclass
class Prospect:
    """What would happen to a group."""

    job: Job
    state: str  # train, continue, finished, fails
    note: str = ""
    width: int = 0  # of the first map, to whose size the others are brought
    height: int = 0
    config: Config | None = None  # with its rate planned
    iterations: int = 0  # that are left
    bytes: int = 0  # of the exported files
    checkpoints: int = 0  # bytes of all checkpoints, exported files included


@dataclasses.dataclass(frozen=True)
class Speed:
    """Seconds, as measured on one material."""

    name: str
    iteration: float
    loading: float  # these are per texel of LOD 0
    evaluation: float  # all LODs, on the way
    last_evaluation: float
    refining: float  # one round


def dry_run(jobs: Sequence[Job], workers: int, say: Say) -> int:
    """Print what a batch of these jobs would do. Returns the exit code."""
    plans: Plans = {}
    prospects = list(map_threads(functools.partial(look_ahead, plans=plans), jobs))
    for prospect in prospects:
        say(_line(prospect))
    todo = [prospect for prospect in prospects if prospect.state in ("train", "continue")]
    counts = {state: sum(p.state == state for p in prospects) for state in ("train", "continue", "finished", "fails")}
    words = {"train": "to train", "continue": "to continue", "finished": "finished", "fails": "would fail"}
    told = ", ".join(f"{count} {words[state]}" for state, count in counts.items() if count)
    say(f"{len(jobs)} materials: {told}; nothing is written")
    if not todo:
        return 0
    exported, kept = sum(p.bytes for p in todo), sum(p.checkpoints for p in todo)
    say(f"size  {readable_bytes(exported)} of exported files, {readable_bytes(kept)} with all checkpoints; pictures "
        "and TensorBoard files come on top")  # fmt: skip
    speed = calibrate(todo, say)
    if speed is not None:
        seconds = [seconds_of(prospect, speed) for prospect in todo]
        total = max(sum(seconds) / min(workers, len(todo)), max(seconds))
        threads = todo[0].job.config.num_threads or torch.get_num_threads()
        say(f"time  about {readable_seconds(total)} with {counted(workers, 'worker')} of "
            f"{counted(threads, 'thread')}; calibrated on {one_line(speed.name)}: {speed.iteration * 1000:.2f} ms an "
            "iteration")  # fmt: skip
    return 0


def _line(prospect: Prospect) -> str:
    name = one_line(prospect.job.name)
    if prospect.state in ("fails", "finished"):
        return f"{prospect.state:<8}  {name}{': ' * bool(prospect.note)}{prospect.note}"
    size = f"{prospect.width}x{prospect.height}, {prospect.iterations} iterations, {readable_bytes(prospect.bytes)}"
    return f"{prospect.state:<8}  {name}: {size}{', ' * bool(prospect.note)}{prospect.note}"


def look_ahead(job: Job, plans: Plans) -> Prospect:
    """What would happen to a group, from its files' headers and its folder alone.

    plans: what is known by now of materials by their size; is added to.
    """
    source = Path(job.config.data_dir)
    try:
        before = read_record(job.folder)
        if not is_forced(job, before) and finished(job.folder, source, job.settings, refresh=False) is not None:
            return Prospect(job, "finished", before.run)
        sizes = [image_size(path) for path in dict.fromkeys(found.path for found in find_maps(source).sources.values())]
        prospect = Prospect(job, "train", "", *sizes[0])
        if sizes[0] not in plans:
            planned = plan(job.config, *sizes[0])
            plans[sizes[0]] = planned, *sizes_of(planned, *sizes[0])
        config, prospect.bytes, prospect.checkpoints = plans[sizes[0]]
        prospect.config, prospect.iterations = config, config.max_iter
        if before is not None and is_begun(job, before, source_facts(source, before.sources)):
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


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) from a file's header. Raises: UserError for a file without a header that can be read."""
    try:
        if path.suffix.lower() == ".exr":
            import OpenEXR

            window = OpenEXR.InputFile(str(path)).header()["dataWindow"]
            size = window.max.x - window.min.x + 1, window.max.y - window.min.y + 1
        else:
            with PillowImage.open(path) as image:
                size = image.size
    except Exception as error:  # decoders raise anything; the group itself will say what is wrong with the file
        raise UserError(f"{quote(path)}: its size cannot be read ({error!s:.120})") from error
    if not 1 <= size[0] * size[1] <= MAX_PIXELS:
        raise UserError(f"{quote(path)}: {size[0]}x{size[1]} pixels; expected at most {MAX_PIXELS}")
    return size


def sizes_of(config: Config, width: int, height: int) -> tuple[int, int]:
    """Bytes of the exported files of a run, and of all the checkpoints that it leaves."""
    grids, decoder = model_shape(config, width, height)
    weights = sum(outputs * inputs for outputs, inputs in layer_sizes(input_layout(grids, decoder), decoder))
    exported = 4 * weights + NPZ_BYTES if config.quantize else 0
    parameters = weights
    for index, grid in enumerate(grids):
        parameters += grid.n_texels * grid.features
        if config.quantize:
            exported += grid.n_texels * grid.save_bits // 8 + HEADER_BYTES * len(grid_file_names(index, grid))
    count = -(-config.max_iter // config.save_interval)
    if config.keep_checkpoints:
        count = min(count, config.keep_checkpoints)
    whole = exported + 4 * PER_PARAMETER * parameters
    return exported or 4 * PER_PARAMETER * parameters, count * whole


# --- time ----------------------------------------------------------------------------------------------------------


def calibrate(todo: Sequence[Prospect], say: Say) -> Speed | None:
    """Train for a moment on the material that is nearest to the median size, and time what else a run does."""
    sizes = [prospect.width * prospect.height for prospect in todo]
    aim = min(statistics.median(sizes), LARGEST_CALIBRATED)
    for prospect in sorted(todo, key=lambda p: abs(p.width * p.height - aim)):
        try:
            return measure(prospect)
        except (UserError, OSError) as error:
            say(f"note: {one_line(prospect.job.name)} would fail: {error}")
    return None


def measure(prospect: Prospect) -> Speed:
    """The seconds of each part of a run on a material. Raises: UserError when it cannot be trained."""
    config = prospect.config
    device = resolve_device(config)
    started = time.perf_counter()
    material = load_material(prospect.job.config.data_dir, linear_color=config.linear_color)
    texels = material.width * material.height
    loading = (time.perf_counter() - started) / texels
    config = fit_to_material(config, material)
    model = new_model(config, material).to(device)
    engine = create_engine(model, material, Schedule(config), device)
    iteration = 0.0
    if engine.channels:
        engine.step(1)  # which meets cold caches
        count, spent = 0, 0.0
        while spent < CALIBRATION_S:
            n = max(1, min(2 * count, engine.chunk))
            started = time.perf_counter()
            engine.step(n)
            count, spent = count + n, spent + time.perf_counter() - started
        iteration = spent / count
    engine.sync()
    lod = next(l for l, (width, height) in enumerate(material.lod_sizes) if width * height <= SMALL_LOD)
    evaluations = []
    for ending in (False, True):
        started = time.perf_counter()
        score_lod(model, material, lod, decode=decode_lod, **metric_options(config.eval_metrics, ending))
        width, height = material.lod_sizes[lod]
        evaluations.append((time.perf_counter() - started) / (width * height) * 4 / 3)
    refining, refinement = 0.0, Refinement(model, material, config)
    if config.refine and config.quantize and refinement.possible:
        started = time.perf_counter()
        refinement.round(0)
        refining = (time.perf_counter() - started) / texels
    return Speed(prospect.job.name, iteration, loading, *evaluations, refining)


def seconds_of(prospect: Prospect, speed: Speed) -> float:
    """What a group should take."""
    config, texels = prospect.config, prospect.width * prospect.height
    evaluations = max(prospect.iterations - 1, 0) // config.eval_interval
    run = prospect.iterations * speed.iteration + texels * (
        evaluations * speed.evaluation + speed.last_evaluation + config.refine * speed.refining
    )
    if config.target_psnr or config.match:
        run *= SEARCH_RUNS
    return START_S + texels * speed.loading + run


def readable_seconds(seconds: float) -> str:
    """90 -> '1 min 30 s'; 7260 -> '2 h 1 min'."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
