"""A run of train.py: a day read, trained, measured and exported."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from common.device import choose_device
from common.errors import Say, UserError, quote, shell_quote
from common.events import progress_bar
from common.files import make_folder, write_json
from common.stop import stop_signals
from engine.errors import KernelsUnavailable
from lightmap import checkpoints
from lightmap.compressor import Compressor
from lightmap.data import Day, HalfHours, load_day, load_half_hours
from lightmap.evaluation import Sample
from lightmap.exports import write_exports
from lightmap.fused_step import FusedStep, fused_problem
from lightmap.options import FIXED, TrainOptions, make_options
from lightmap.pictures import log_pictures
from lightmap.report_text import describe_report
from lightmap.run_files import check_unused, remove_curves, remove_run
from lightmap.sample_scene import write_day
from lightmap.summary import REPORT, Report, evaluation_sample
from lightmap.target import TargetSearch
from lightmap.torch_step import TorchStep
from lightmap.trainer import Trainer

SAMPLE = Path(__file__).resolve().parent / "data" / "sample"
SAMPLE_SIZE = 256


def sample_folder(say: Say = print) -> Path:
    """The folder of the sample scene, which is rendered at the first call."""
    if not (SAMPLE / "half_hours" / "tod_23.png").is_file():  # the last file that write_day writes
        say(f"making the sample scene in {quote(SAMPLE)}")
        write_day(SAMPLE, SAMPLE_SIZE)
    return SAMPLE


def resumed_options(given: Mapping[str, Any], folder: Path) -> TrainOptions:
    """The options of the run in `folder`, with changed flags in their place. Raises: UserError for one of FIXED."""
    last = checkpoints.load(folder / checkpoints.LAST)
    saved = {"latent_mode": last.model.shape.latent_mode, **last.config}
    if given.get("device") == "cuda" and saved.get("engine") == "fused":
        saved["engine"] = "torch"  # the fused kernels run on the CPU, and the flag has the last word
    for name in FIXED & set(given):
        if name in saved and saved[name] != given[name]:
            raise UserError(
                f"--{name} {given[name]}: {quote(folder)} was begun {_with(saved[name])}, and --resume goes on as it "
                "was; leave the flag out, or train anew without --resume"
            )
    return make_options({**saved, **given})


def _with(value: object) -> str:
    return "without it" if value == "" else f"with {value}"


def choose_step(engine: str, device: torch.device, say: Say = print, insisted: bool = True) -> Callable[..., TorchStep]:
    """A function with the arguments of TorchStep that makes the step of a run; `auto` falls back to TorchStep.

    insisted: whether the user has given the engine, and not the run that goes on: then the function raises UserError
        for `fused` if the kernels cannot be used.
    """
    if engine == "torch":
        return TorchStep

    def make(model: Compressor, lr: float, lr_grid: float) -> TorchStep:
        problem = fused_problem(model, device)
        try:
            if problem is None:
                return FusedStep(model, lr, lr_grid, say)
        except KernelsUnavailable as error:
            problem = str(error)
        if engine == "fused" and insisted:
            raise UserError(f"--engine fused: the kernels cannot be used: {problem}; use --engine torch")
        if device.type == "cpu" or engine == "fused":
            say(f"note: training with PyTorch, not with the fused kernels: {problem}")
        return TorchStep(model, lr, lr_grid)

    return make


def train(given: Mapping[str, Any], say: Say = print, quiet: bool = False) -> int:
    """Train, report and export; returns the exit code."""
    options = make_options(given)
    folder = Path(options.out_dir)
    if options.resume:
        options = resumed_options(given, folder)
    elif not options.overwrite:
        check_unused(folder)
    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    device = choose_device(options.device)
    data_dir = Path(options.data_dir) if options.data_dir else sample_folder(say)
    day = load_day(data_dir, say, options.num_workers, options.max_pixels)
    sample, half = None, None
    if options.report != "none":
        sample = evaluation_sample(day, options.report)
        half = load_half_hours(data_dir, day, sample.texels, options.num_workers, options.max_pixels)
    begun = checkpoints.load_run(folder) if options.resume else None
    make_step = choose_step(options.engine, device, say, "engine" in given)
    search = TargetSearch(options, day, device, say) if options.target_psnr and begun is None else None
    trainer = search.first() if search else Trainer(options, day, device, say, make_step, begun)
    make_folder(folder)
    if options.overwrite and not options.resume:
        remove_run(folder)
    with stop_signals() as stop:
        say(describe_run(options, day, half, trainer))
        completed = trainer.train(folder, stop, quiet)
        while search and completed and (following := search.again(trainer)):
            trainer = following
            remove_curves(folder)
            say(describe_run(options, day, half, trainer))
            completed = trainer.train(folder, stop, quiet)
    if not completed:
        say(f"stopped at step {trainer.iteration} of {trainer.total}; --resume goes on from {quote(folder)}")
        return 128 + stop.signal_number
    if search and search.best() is not trainer:
        trainer = search.best()
        trainer.save(folder)
    search = begun = None  # what they hold is not needed for the report
    trainer.let_go()
    finish(trainer, sample, half, folder, options, say, quiet)
    return 0


def describe_run(options: TrainOptions, day: Day, half: HalfHours | None, trainer: Trainer) -> str:
    """Frames, model and training of a run as text for the terminal."""
    kind = "floats" if day.bits == 32 else f"{day.bits} bits"
    known = "; with ground truth at half-hours" if half is not None else ""
    counts = [sum(value.numel() for value in part.parameters()) for part in (trainer.model, trainer.model.f2)]
    latent_height, latent_width = trainer.shape.latent_size
    shape = trainer.shape
    origin = {"f1": "F1", "direct": "a learned grid", "basis": "PCA of the day, refined,"}[shape.latent_mode]
    return "\n".join([
        f"day      {day.n_frames} frames of {day.width}x{day.height}, {kind}: {quote(day.names[0])} ... "
        f"{quote(day.names[-1])}{known}",
        f"model    latent {latent_width}x{latent_height}x{shape.latent_dim} from {origin} of {counts[0] - counts[1]} "
        f"numbers, F2 of {counts[1]}{' as float32' if shape.weight_bits == 32 else ''}",
        f"training {trainer.total} steps of {options.batch_size} samples, engine {trainer.engine_name}",
    ])  # fmt: skip


def finish(trainer: Trainer, sample: Sample | None, half: HalfHours | None, folder: Path, options: TrainOptions,
           say: Say, quiet: bool) -> None:  # fmt: skip
    """Measure the best checkpoint on a sample, write report.json and, with --compute_latent, the exports.

    sample: None: nothing is measured.
    """
    loaded = checkpoints.load(folder / checkpoints.BEST)
    model, report = loaded.model, None
    if sample is not None:
        report = measure(trainer, loaded, sample, half, folder, options, say, quiet)
    say(f"time     {trainer.seconds:.1f} s for {trainer.total} steps")
    if options.compute_latent:
        for line in write_exports(folder, model, loaded.day, report):
            say(line)
    written = [checkpoints.BEST, checkpoints.LAST, *([REPORT] if report else [])]
    say(f"files    {quote(folder)}: {', '.join(written)}{', exports' if options.compute_latent else ''}")


def measure(trainer: Trainer, loaded: checkpoints.Loaded, sample: Sample, half: HalfHours | None, folder: Path,
            options: TrainOptions, say: Say, quiet: bool) -> dict[str, Any]:  # fmt: skip
    """Write report.json and the pictures of TensorBoard, and say what it holds. Returns: the report."""
    started = time.perf_counter()
    whole = options.report == "full"
    texels = "all texels" if whole or len(sample.texels) == int(sample.day.mask.sum()) else "a sample of the texels"
    say(f"report   measuring {'every form' if not whole else 'every form and whole frames'}, on {texels}")
    place = shell_quote(str(folder))
    facts = {
        "seconds": round(trainer.seconds, 2), "steps": trainer.total, "engine": trainer.engine_name,
        "threads": torch.get_num_threads(), "best_epoch": loaded.epoch, "psnr_held_out": loaded.held_out_db,
        "options": dataclasses.asdict(options), "report": options.report,
        "export": f"python -m lightmap.export_latent --ckpt {place}/{checkpoints.BEST} --out_dir {place}",
    }  # fmt: skip
    maker = Report(loaded.model, sample, half, loaded.day, whole)
    with progress_bar(maker.ticks, 0, quiet, "report") as bar:
        report = maker.build(facts, bar.update)
    report["report_seconds"] = round(time.perf_counter() - started, 2)
    write_json(folder / REPORT, report)
    log_pictures(folder, loaded.model, sample.day, trainer.iteration, report)
    say(describe_report(report))
    return report
