"""Shared by the three training commands: makes the run that the flags describe, trains it, and reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.device import choose_device
from common.errors import Say, UserError, quote, shell_quote
from common.event_file import EventFile
from common.files import write_json
from common.knobs import AUTO
from common.run_folder import new_stamped_folder
from common.stop import stop_signals
from deferred import checkpoints
from deferred.best import best_entry
from deferred.dataset.frames import FrameSet, split_ids
from deferred.dataset.opening import open_frames
from deferred.dataset.uv_maps import background_text
from deferred.evaluation import render_views, score, simple_scores
from deferred.fitting import Facts, fit
from deferred.model.renderer import Form, NeuralRenderer, new_renderer, place_colours
from deferred.options import (
    FREE,
    NEWEST,
    SETTINGS_FILE,
    TrainOptions,
    fields_of,
    make_options,
    one_option,
    read_advice,
)
from deferred.page import write_page
from deferred.pictures import comparison, save_png
from deferred.prepare import data_folder
from deferred.schedule import REACH, reach
from deferred.trainer import Trainer
from deferred.util import format_ids, parse_ids
from metrics.pictures import display_pixels

# What runs did whose checkpoints do not say it, for --resume to go on as they were.
BEFORE = {"alpha": False, "background_uv": "none", "precision": "float32", "upsampling": "transposed", "epoch_steps": 0}
REPORT, PAGE, STRIP, TEXTURE = "report.json", "report.html", "comparison.png", "texture.png"


def train(script: str, given: Mapping[str, Any], say: Say = print, quiet: bool = False) -> int:
    """Train and report. script: see Trainer; given: the flags that the user gave. Returns: the exit code."""
    options, loaded = start_options(script, given, say)
    device = choose_device(options.device)
    trainer = make_trainer(script, options, loaded, device, say)
    if options.resume:
        run = loaded.path.parent
        trainer.resume(loaded)
    else:
        run = new_stamped_folder(Path(options.checkpoint))
        write_json(run / checkpoints.CONFIG, {"script": script, "options": dataclasses.asdict(trainer.options)})
    options = trainer.options  # with what was left open
    say(describe(trainer, run))
    events = EventFile(Path(options.logdir) / run.name)
    if trainer.images > options.load_step:
        events.restart(trainer.images + 1)
    try:
        with stop_signals() as stop:
            completed = trainer.train(run, events, stop, quiet, progress(options.epoch, say))
    finally:
        events.close()
    if not completed:
        say(f"stopped in epoch {trainer.epoch + 1} of {options.epoch}, after step {trainer.step}; go on with: "
            f"python {script}.py --resume {shell_quote(str(run))}")  # fmt: skip
        return 128 + stop.signal_number
    finish(trainer, run, say)
    return 0


def progress(epochs: int, say: Say) -> Callable[[Mapping[str, Any]], None]:
    """A callback that reports the progress of a run ten times, for terminals without a progress bar."""

    def tell(entry: Mapping[str, Any]) -> None:
        if entry["epoch"] % max(1, epochs // 10) == 0:
            psnr = "" if entry["psnr"] is None else f", {entry['psnr']:.2f} dB on held-out views"
            say(f"epoch {entry['epoch']}: loss {entry['loss']:.4f}{psnr}")

    return tell


def options_for(script: str, given: Mapping[str, Any], say: Say = print) -> TrainOptions:
    """The options of a new run, with the settings that its data folder recommends. The sample is rendered if it is
    missing. Raises: UserError."""
    folder = data_folder(one_option(script, given, "data"), say)
    advice = read_advice(folder, script)
    options = make_options(script, given, advice)
    taken = " ".join(
        f"--{name} {shell_quote(str(value))}" for name, value in advice.items() if getattr(options, name) == value
    )
    if taken:
        say(f"settings of {quote(folder / SETTINGS_FILE)}: {taken}")
    return options


def start_options(
    script: str, given: Mapping[str, Any], say: Say = print
) -> tuple[TrainOptions, checkpoints.Loaded | None]:
    """The options of a run, and the checkpoint of --load or --resume. Raises: UserError."""
    parent, resumed = (Path(one_option(script, given, "checkpoint")), one_option(script, given, "resume"))
    if resumed:
        wanted = "" if resumed == NEWEST else resumed
        loaded = checkpoints.load(checkpoints.find_checkpoint(wanted, parent, (script,), to_resume=True))
        if loaded.script != script:
            raise UserError(f"--resume {quote(loaded.path)}: expected a run of {script}.py, found one of "
                            f"{loaded.script}.py; use that command, or begin a run from it with --load")  # fmt: skip
        if not loaded.training:
            raise UserError(f"--resume {quote(loaded.path)}: expected a checkpoint with the optimiser's state, found a "
                            "model alone; give the run's folder, or begin a run from it with --load")  # fmt: skip
        given = {name: value for name, value in given.items()
                 if value is not None and (value != AUTO or name in FREE)}  # auto: what the run chose  # fmt: skip
        for name in set(given) - FREE:
            if name in loaded.config and loaded.config[name] != given[name]:
                raise UserError(f"--{name} {given[name]}: the run was begun with {loaded.config[name]}, and --resume "
                                "goes on as it was; leave the flag out, or begin a run with --load")  # fmt: skip
        before = {name: value for name, value in BEFORE.items() if name in fields_of(script)}
        return make_options(script, {**before, **loaded.config, **given}), loaded
    options = options_for(script, given, say)
    if not options.load and script == "train_unet":
        options = dataclasses.replace(options, load=str(checkpoints.find_checkpoint("", parent, ("train_texture",))))
        say(f"texture  {quote(options.load)}, of the newest run of train_texture.py")
    if options.load:
        return options, checkpoints.load(checkpoints.find_checkpoint(options.load, parent, ()))
    return options, None


def make_trainer(
    script: str, options: TrainOptions, loaded: checkpoints.Loaded | None, device: torch.device, say: Say = print
) -> Trainer:
    """The frames and the model of a run. Raises: UserError."""
    return trainer_on(open_scene(options, say), script, options, loaded, device, say)


@dataclass(frozen=True)
class Scene:
    """The frames of a data folder, all of them checked. held_out: for validation, if any."""

    frames: FrameSet
    held_out: FrameSet | None


def open_scene(options: TrainOptions, say: Say = print) -> Scene:
    """The frames that a run trains on and holds out. Raises: UserError."""
    folder = data_folder(options.data, say)
    wanted = [parse_ids(text, flag) if text.strip() else None
              for text, flag in ((options.train, "--train"), (options.val, "--val"))]  # fmt: skip
    return Scene(*open_frames(folder, *split_ids(folder, *wanted), options, say))


def trainer_on(
    scene: Scene, script: str, options: TrainOptions, loaded: checkpoints.Loaded | None, device: torch.device,
    say: Say = print,
) -> Trainer:  # fmt: skip
    """A run on frames that were opened with these options, which name the background that was found.

    Raises: UserError.
    """
    frames = scene.frames
    options = dataclasses.replace(options, background_uv=background_text(frames.background))
    facts = Facts(len(frames), list(frames.sizes.values()), device.type)
    options, chosen = fit(script, options, facts, loaded.model.form if loaded else None)
    if chosen:
        say(f"chosen   {chosen}")
    return Trainer(script, options, start_model(script, options, loaded), frames, scene.held_out, device)


def start_model(script: str, options: TrainOptions, loaded: checkpoints.Loaded | None) -> NeuralRenderer:
    """A new model, or that of a checkpoint, or a new one with the checkpoint's colours.

    Raises: UserError if the checkpoint does not fit the flags.
    """
    width = 0 if script == "train_texture" else options.unet_width
    form = Form(
        options.texture_dim, options.textureh, options.texturew, options.use_pyramid, options.view_direction, width,
        options.upsampling if width else Form.upsampling,
    )  # fmt: skip
    if loaded is None:
        return new_renderer(form, options.seed)
    own = loaded.model.form
    if script == "train_unet":  # the texture is frozen
        form = dataclasses.replace(form, textureh=own.textureh, texturew=own.texturew, use_pyramid=own.use_pyramid)
    if own == form:
        return loaded.model
    if (own.textureh, own.texturew, own.use_pyramid) != (form.textureh, form.texturew, form.use_pyramid):
        raise UserError(f"--load {quote(loaded.path)}: expected a texture of {form.texturew}x{form.textureh} texels, "
                        f"{'with' if form.use_pyramid else 'without'} a pyramid; found {own.texturew}x{own.textureh}, "
                        f"{'with' if own.use_pyramid else 'without'}; give the flags of its training")  # fmt: skip
    if own.unet_width and script != "train_texture":
        differing = [
            name
            for name in ("texture_dim", "view_direction", "unet_width", "upsampling")
            if getattr(own, name) != getattr(form, name)
        ]
        raise UserError(f"--load {quote(loaded.path)}: expected --{differing[0]} {getattr(form, differing[0])}, found "
                        f"{getattr(own, differing[0])}; give the flag that it was trained with")  # fmt: skip
    model = new_renderer(form, options.seed)
    place_colours(model, loaded.model.texture, views=script == "train_unet")
    return model


def describe(trainer: Trainer, run: Path) -> str:
    """Frames, model and training of a run as text for the terminal."""
    form, frames = trainer.model.form, trainer.frames
    sizes = sorted({f"{width}x{height}" for height, width in frames.sizes.values()})
    counts = [
        sum(p.numel() for p in part.parameters()) if part else 0 for part in (trainer.model.texture, trainer.model.unet)
    ]
    held = (
        f"{len(trainer.held_out)} held out ({format_ids(trainer.held_out.ids):.60})"
        if trainer.held_out
        else "none held out"
    )
    view = ", channels 3 to 11 by view" if form.view_direction else ""
    texture = f"{form.texturew}x{form.textureh}x{form.texture_dim} texture of {counts[0]} numbers{view}"
    numbers = "" if trainer.precision.name == "float32" else f" in {trainer.precision.name}"
    lines = [
        f"frames   {len(frames)} of {', '.join(sizes):.60} ({format_ids(frames.ids):.60}), {held}",
        f"model    {texture}" + (f"; U-Net of {counts[1]}" if counts[1] else ""),
        f"training {trainer.options.epoch} epochs of {trainer.steps_per_epoch} steps, crops of {trainer.crop[1]}x"
        f"{trainer.crop[0]}, on {trainer.device.type}{numbers}; {quote(run)}",
    ]
    options = trainer.options
    length = options.epoch_steps or trainer.steps_per_epoch
    epochs = options.epoch * trainer.steps_per_epoch / length
    moves = reach(trainer.script, options.lr, length, epochs, len(trainer.model.texture.levels))
    if trainer.script != "train_unet" and moves < REACH:
        lines.append(
            f"note: with --lr {options.lr:g} and {trainer.steps_per_epoch} steps an epoch the schedule lets the "
            f"texture move by {moves:.2g} in all, too little to learn colours; raise --lr, lower --batch, or leave "
            "both out (docs/deferred.md)"
        )
    return "\n".join(lines)


def finish(trainer: Trainer, run: Path, say: Say) -> None:
    """Measure, and write report.json, report.html, comparison.png and texture.png."""
    report: dict[str, Any] = {
        "script": trainer.script, "device": trainer.device.type, "threads": torch.get_num_threads(),
        "seconds": round(trainer.seconds, 2), "epochs": trainer.epoch, "steps": trainer.step, "images": trainer.images,
        "train_frames": len(trainer.frames), "held_out_frames": len(trainer.held_out or ()),
    }  # fmt: skip
    strip = None
    if trainer.held_out is not None:
        views = list(render_views(trainer.model, trainer.held_out, trainer.options.batch, trainer.device))
        report.update(score(views), **simple_scores(trainer.frames, trainer.held_out))
        best = best_entry(trainer.history)
        report.update(best_epoch=best["epoch"], best_psnr=best["psnr"])
        strip = comparison(views)
        save_png(run / STRIP, strip)
    texture = display_pixels(trainer.model.texture_image().cpu().numpy())
    save_png(run / TEXTURE, texture)
    own = fields_of(trainer.script)
    report["options"] = {name: value for name, value in dataclasses.asdict(trainer.options).items() if name in own}
    report["history"] = trainer.history
    write_json(run / REPORT, report)
    write_page(run / PAGE, report, strip, texture)
    if strip is not None:
        simple = "".join(f", {title} {report[name]:.2f}" for title, name in (
            ("RGB texture", "psnr_texture"), ("nearest view", "psnr_nearest_view"), ("mean image", "psnr_mean_image"),
        ) if name in report)  # fmt: skip
        ssim = f", SSIM {report['ssim']:.4f}" if report["ssim"] is not None else ""
        say(f"PSNR     {report['psnr']:.2f} dB on the surface of held-out views{ssim}{simple}")
        kept = f": {checkpoints.BEST}, which is rendered by default" if (run / checkpoints.BEST).is_file() else ""
        say(f"best     {report['best_psnr']:.2f} dB after epoch {report['best_epoch']}{kept}")
    say(f"time     {trainer.seconds:.1f} s for {trainer.step} steps")
    say(f"files    {quote(run)}: {checkpoints.epoch_file(trainer.epoch)}, {REPORT}, {PAGE}, {TEXTURE}"
        + (f", {STRIP}" if strip is not None else ""))  # fmt: skip
