"""Train a neural texture from a folder of PBR maps, resume a run, evaluate it, or train many materials.

    python train.py --mode train --data_dir ./data/test --save_dir ./outputs

Every flag: python train.py --help, or configs.py.
"""

from __future__ import annotations

import threads  # isort: skip  # noqa: F401  # before torch

import contextlib
import dataclasses
import math
import platform
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from checkpoint import (
    Checkpoint,
    load_checkpoint,
    new_stamped_folder,
    remove_old_checkpoints,
    save_checkpoint,
    supersede_later,
)
from configs import ARCHITECTURE, CALL, Config, HashGridConfig, describe, make_config, parse_args, to_dict
from dataset import Material, load_material
from engine import create_decoder, create_engine, resolve_device
from errors import UserError, run_command
from evaluate import Maps, evaluate_model, metric_options, missing_metrics
from export import read_export, save_map_images
from file_space import constant_listing
from files import write_json
from loss_weights import resolve_loss_weights
from manifest import describe_material, read_manifest
from model import DEFAULT_DIVISORS, NeuralTexture, new_model, resolve_grids
from rates import plan
from report import RunLog, progress_bar, run_summary, save_metrics, save_strips
from schedule import EarlyStopping, Schedule
from search import correction, find_rate

Say = Callable[[str], None]


@dataclasses.dataclass
class Result:
    """How a run ended."""

    run: Path
    iteration: int
    metrics: dict[str, Any]
    rates: dict[str, float]
    seconds: float
    completed: bool = True  # to max_iter or an early stop
    interrupted_by: int = 0  # signal number; also of a signal that came when there was nothing left to interrupt


# --- training ------------------------------------------------------------------------------------------------------


def train_material(config: Config, given: Mapping[str, Any], say: Say = print, quiet: bool = False) -> Result:
    """Train one material from the start, or continue config.load_dir.

    Args:
        given: what the user gave, as opposed to defaults: a resumed run keeps its own values elsewhere.
        say: receives the lines meant for the user.
        quiet: no progress bar.
    """
    checkpoint = None
    if config.load_dir:
        checkpoint = load_checkpoint(config.load_dir, config.load_iter)
        config = resumed_config(checkpoint, given)
    device = resolve_device(config)
    material = load_material(config.data_dir, linear_color=config.linear_color)
    for warning in material.warnings:
        say(f"note: {warning}")
    if checkpoint is not None:
        check_same_material(checkpoint, material, say)
        material = dataclasses.replace(material, constants=checkpoint.model.constants)  # the run goes on as it began
    elif config.target_psnr or config.match:
        return train_to_target(config, given, material, device, say, quiet)
    return train_on(config, given, material, device, checkpoint, say, quiet)


def train_to_target(
    config: Config, given: Mapping[str, Any], material: Material, device: torch.device, say: Say, quiet: bool
) -> Result:
    """Find the smallest rate that reaches --target_psnr, or the PSNR of the codec to --match, and train there.

    One full run, and a second where the first one ends outside of the window above the target; both stay on disk.
    """
    target = config.target_psnr
    if config.match:
        from texture_codecs import encode_decode

        rival = encode_decode(material, config.match)
        target = rival.psnr["all"]
        say(f"{config.match}: {target:.2f} dB at {rival.bpp:.2f} bpp on {material.name}")
    bpp, slope = find_rate(target, config, given, material, device, say)
    aimed = dataclasses.replace(config, target_psnr=0.0, match="")
    results: list[Result] = []
    while True:
        aimed = dataclasses.replace(aimed, bpp=round(bpp, 3))
        results.append(train_on(aimed, given, material, device, None, say, quiet))
        psnr = results[-1].metrics["psnr"]["all"] if results[-1].completed else None
        again = None if psnr is None else correction(target, aimed.bpp, psnr, slope)
        if again is None or len(results) == 2:
            break
        say(f"{psnr:.2f} dB is {abs(psnr - target):.2f} dB {'above' if psnr > target else 'below'} the target of "
            f"{target:.2f}: once more, at {again:.2f} bpp")  # fmt: skip
        bpp = again
    if not results[-1].completed:
        return results[-1]
    best = best_result(results, target)
    psnr = best.metrics["psnr"]["all"]
    verdict = "reached" if psnr >= target else f"missed by {target - psnr:.2f} dB"
    say(f"target   {target:.2f} dB {verdict}: {psnr:.2f} dB at {best.rates['bpp']:.2f} bpp, {best.run}")
    return best


def best_result(results: Sequence[Result], target: float) -> Result:
    """The one of the smallest rate that reaches the target, else the one that comes nearest."""
    reached = [result for result in results if result.metrics["psnr"]["all"] >= target]
    if reached:
        return min(reached, key=lambda result: result.rates["bpp"])
    return max(results, key=lambda result: result.metrics["psnr"]["all"])


def train_on(
    config: Config, given: Mapping[str, Any], material: Material, device: torch.device, checkpoint: Checkpoint | None,
    say: Say, quiet: bool,
) -> Result:  # fmt: skip
    """One run on a material that is already in memory."""
    if checkpoint is None:
        config = plan(config, given, material.width, material.height)
    config = fit_to_material(config, material)
    trainer = Trainer(config, material, device, checkpoint, say, quiet)
    run = prepare_run(config, checkpoint, material, say)  # from here on something is written
    say(f"configuration\n{describe(config)}")
    say(describe_inputs(config, material))
    with stop_signals() as stop:
        return trainer.train(run, stop)


def fit_to_material(config: Config, material: Material) -> Config:
    """The configuration with what only the material can decide: loss weights 'auto', and the default grids of a
    material in which nothing varies, one texel each. A run stores it, so a resumed one has the same."""
    weights = resolve_loss_weights(material, config.texture_loss_weights)
    grids = config.hash_grid_configs
    if not grids and len(material.constants) == len(material.present_channels):
        grids = [HashGridConfig(max_resolution=1)] * len(DEFAULT_DIVISORS)
    return dataclasses.replace(config, texture_loss_weights=weights, hash_grid_configs=grids)


def resumed_config(checkpoint: Checkpoint, given: Mapping[str, Any]) -> Config:
    """The run's own configuration with the flags given now on top.

    Raises: UserError for a flag that would make it another model, or for a run with nothing left to do.
    """
    check_architecture(checkpoint, given)
    config = make_config({**to_dict(checkpoint.config), **{k: v for k, v in given.items() if k not in CALL}})
    if checkpoint.iteration >= config.max_iter:
        raise UserError(
            f"--load_dir: iteration {checkpoint.iteration} of {config.max_iter} is already reached; "
            f"give a larger --max_iter, an earlier --load_iter, or --mode infer to evaluate"
        )
    if checkpoint.training.get("stopped") and not {"early_stop", "max_iter", "early_stop_psnr_threshold"} & set(given):
        raise UserError(
            f"--load_dir: this run stopped early at iteration {checkpoint.iteration} because PSNR no longer rose; "
            "give --early_stop False or a larger --max_iter to go on"
        )
    return config


def check_architecture(checkpoint: Checkpoint, given: Mapping[str, Any]) -> None:
    """Refuse flags that contradict what the checkpoint was trained as."""
    saved = to_dict(checkpoint.config)
    wanted = to_dict(make_config({name: given[name] for name in ARCHITECTURE if name in given}))
    for name in ARCHITECTURE:
        if name in given and wanted[name] != saved[name]:
            raise UserError(
                f"--{name} {wanted[name]}: {checkpoint.path} was trained with {saved[name]}, and another value would "
                "be another model; leave the flag out, or train anew without --load_dir"
            )


def prepare_run(config: Config, checkpoint: Checkpoint | None, material: Material, say: Say) -> Path:
    """The run folder, new or the checkpoint's, with config.json written."""
    if checkpoint is None:
        run = new_stamped_folder(Path(config.save_dir))
    else:
        run = checkpoint.path.parent.parent.resolve()  # the run folder's own name also names its TensorBoard folder
        moved = supersede_later(run, checkpoint.iteration)
        if moved:
            say(f"note: checkpoints {', '.join(map(str, moved))} of the earlier run are now in models/superseded")
        say(f"continuing {run} at iteration {checkpoint.iteration}")
    grids = [dataclasses.asdict(grid) for grid in resolve_grids(config, material.width, material.height)]
    environment = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": torch.get_num_threads(),
    }
    write_json(run / "config.json", {**to_dict(config), "resolved_grids": grids, "environment": environment})
    return run


def check_same_material(checkpoint: Checkpoint, material: Material, say: Say = print) -> None:
    """Refuse a material of another shape than the checkpoint's; note one with other pixels."""
    saved, found = checkpoint.material, describe_material(material)

    def shape(description: Mapping[str, Any]) -> str:
        return f"{description['width']}x{description['height']} {' '.join(e['map'] for e in description['maps'])}"

    if shape(saved) != shape(found):
        raise UserError(
            f"--data_dir {material.name}: {checkpoint.path} was trained on {shape(saved)}, found {shape(found)}; "
            "give the folder that the run was trained on"
        )
    if saved.get("sha256") != found.get("sha256"):
        say("note: the source images are not the ones that this run was trained on")


def describe_inputs(config: Config, material: Material) -> str:
    """What was found and what will be trained, for the user's eyes."""
    maps = "  ".join(f"{name} ({material.files[name]}, {material.bit_depth[name]} bit)" for name in material.present)
    grids = resolve_grids(config, material.width, material.height)
    shapes = "  ".join(
        f"{g.max_resolution}² texels of {g.save_bits // g.quantize_bits} x {g.quantize_bits} bits, {g.n_levels} levels"
        for g in grids
    )
    size = f"{material.width}x{material.height}, {material.num_lods} LODs"
    lines = [f"material {material.name}: {size}: {maps}"]
    if material.constants:
        lines.append(f"constant channels, not trained and kept exactly: {constant_listing(material.constants)}")
    return "\n".join([*lines, f"grids {shapes}"])


class Trainer:
    """The loop around an engine: schedule, early stop, evaluations, checkpoints, log."""

    def __init__(
        self, config: Config, material: Material, device: torch.device, checkpoint: Checkpoint | None, say: Say,
        quiet: bool,
    ):  # fmt: skip
        self.config, self.material, self.say, self.quiet = config, material, say, quiet
        self.schedule = Schedule(config)
        self.stopping = EarlyStopping(config, self.schedule)
        if checkpoint is None:
            self.model = new_model(config, material)
        else:
            self.model = checkpoint.model
        self.engine = create_engine(self.model.to(device), material, self.schedule, device, say)
        self.decode = create_decoder(config)
        self.metrics: dict[str, Any] | None = None
        self.seconds_before = 0.0
        self.missing: list[str] = []  # why a metric is None in the last evaluation
        self.ending = False  # the pictures in media/ are written once: they take as long as an evaluation
        if checkpoint is not None:
            self._restore(checkpoint)
        self.started = time.perf_counter()

    def _restore(self, checkpoint: Checkpoint) -> None:
        training = checkpoint.training
        self.metrics = checkpoint.metrics
        try:
            self.engine.load_state(training["engine"])
            self.schedule.load_state(training["schedule"])
            self.stopping.load_state(training["early_stopping"])
            self.seconds_before = float(training["seconds"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{checkpoint.path}: training state of another layout ({error}); train anew") from error

    def _training_state(self, stopped: bool) -> dict[str, Any]:
        return {
            "engine": self.engine.state(),
            "schedule": self.schedule.state(),
            "early_stopping": self.stopping.state(),
            "seconds": self.seconds,
            "stopped": stopped,
        }

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, earlier calls included."""
        return self.seconds_before + time.perf_counter() - self.started

    def train(self, run: Path, stop: StopRequest) -> Result:
        """Run to max_iter, to an early stop, or until `stop` is asked for; always leaves a checkpoint in `run`."""
        config, engine = self.config, self.engine
        self.run, self.log = run, RunLog(run, engine.iteration)
        stopped = False
        idle = not engine.channels  # every channel is a constant: the files are exact before the first iteration
        try:
            with progress_bar(config.max_iter, engine.iteration, self.quiet) as bar:
                while not idle and engine.iteration < config.max_iter and not stopped and not stop.requested:
                    n = next_boundary(engine.iteration, config, engine.chunk) - engine.iteration
                    loss = engine.step(n)
                    psnr = psnr_of(engine.probe())
                    bar.set_postfix_str(f"PSNR {psnr:.2f} dB", refresh=False)
                    bar.update(n)
                    if not math.isfinite(loss):
                        raise UserError(
                            f"training diverged at iteration {engine.iteration} (loss {loss}); lower --learning_rate, "
                            f"now {config.learning_rate:g}, or --grid_learning_rate, now {config.grid_learning_rate:g}"
                        )
                    stopped = self._after_chunk(n, loss, psnr, bar.clear)
            self.ending = completed = idle or stopped or engine.iteration >= config.max_iter
            folder = self._save(evaluate=completed, stopped=stopped)  # an interrupted run saves at once, unevaluated
        finally:
            self.log.close()
        rates = self.model.bits_per_texel(self.material.width, self.material.height)
        if completed:
            self._tell_result(folder, rates, stopped)
        else:
            name = signal.Signals(stop.signal_number).name
            self.say(f"stopped by {name} at iteration {engine.iteration}; saved {folder}")
            self.say(f"continue with: python train.py --mode train --load_dir {shlex.quote(str(self.run))}")
        return Result(
            self.run, engine.iteration, self.metrics, rates, self.seconds, completed, stop.signal_number
        )  # fmt: skip

    def _after_chunk(self, n: int, loss: float, psnr: float, clear_bar: Callable[[], None]) -> bool:
        """Log, decide, evaluate and save where the iteration calls for it. Returns whether to stop."""
        config, iteration = self.config, self.engine.iteration
        self.log.training(iteration, loss, self.engine.learning_rates(), self.schedule.noise_strength(iteration))
        verdict = self.stopping.observe(iteration, psnr, n)
        if verdict == "lowered":
            clear_bar()
            self.say(f"iteration {iteration}: PSNR is flat, learning rates x {self.schedule.plateau_factor:.3g}")
        if verdict == "quiet":
            clear_bar()
            self.say(f"iteration {iteration}: PSNR is flat, no more noise")
        last = verdict == "stop" or iteration >= config.max_iter
        if not last:  # the end of a run saves and evaluates by itself
            save, evaluate = iteration % config.save_interval == 0, iteration % config.eval_interval == 0
            if save or evaluate:
                clear_bar()
            if save:
                self._save(evaluate)
            elif evaluate:
                self.engine.sync()
                self._evaluate(self.model)
        return verdict == "stop"

    def _evaluate(self, model: NeuralTexture) -> dict[str, Any]:
        iteration = self.engine.iteration

        def on_lod(lod: int, decoded: Maps, source: Maps) -> None:
            self.log.pictures(iteration, lod, decoded, source, self.material)
            if lod == 0 and self.ending:
                save_strips(self.run / "media", decoded, source)

        if self.ending:
            self.missing = missing_metrics(self.config.eval_metrics)
        options = metric_options(self.config.eval_metrics, self.ending)
        self.metrics = evaluate_model(model, self.material, iteration, on_lod=on_lod, decode=self.decode, **options)
        self.log.evaluation(self.metrics)
        self.say(f"iteration {iteration}: PSNR {self.metrics['psnr']['all']:.2f} dB at LOD 0, {self.seconds:.0f} s")
        return self.metrics

    def _save(self, evaluate: bool, stopped: bool = False) -> Path:
        self.engine.sync()
        folder, self.metrics = save_checkpoint(
            self.run, self.engine.iteration, self.model, self.config, describe_material(self.material),
            lambda: self._training_state(stopped), self._evaluate if evaluate else None, self.metrics,
        )  # fmt: skip
        remove_old_checkpoints(self.run, self.config.keep_checkpoints)
        return folder

    def _tell_result(self, folder: Path, rates: dict[str, float], stopped: bool) -> None:
        config = self.config
        if stopped:
            self.say(f"stopped early: PSNR rose by less than {config.early_stop_psnr_threshold} dB in "
                     f"{config.early_stop_interval} iterations")  # fmt: skip
        if not self.engine.channels:
            self.say("every channel has one value, which the manifest keeps: there is nothing to train")
        for reason in self.missing:
            self.say(f"note: {reason}")
        shipped = None
        if self.model.quantized:
            shipped = read_manifest(folder)["bytes_on_disk"]
        self.say(run_summary(self.material, self.metrics, rates, shipped, self.seconds, self.engine.iteration, self.run,
                         folder, config.texture_loss_weights))  # fmt: skip


def next_boundary(iteration: int, config: Config, chunk: int) -> int:
    """The next iteration at which something other than training may happen: a multiple of `chunk`, the iterations
    between two looks at the clock, the bar and the signals, or of an interval."""
    intervals = (chunk, config.eval_interval, config.save_interval, config.early_stop_interval)
    return min(config.max_iter, *((iteration // interval + 1) * interval for interval in intervals))


def psnr_of(mse: float) -> float:
    """PSNR in dB of a mean squared error of values in [0, 1]; 0 when it is not finite, capped at 100."""
    if not math.isfinite(mse):
        return 0.0
    return min(100.0, -10 * math.log10(max(mse, 1e-10)))


# --- interrupts ----------------------------------------------------------------------------------------------------


class StopRequest:
    """Set by Ctrl-C and SIGTERM; the loop ends at the next chunk. A second Ctrl-C does not wait."""

    def __init__(self):
        self.signal_number = 0

    @property
    def requested(self) -> bool:
        return self.signal_number != 0

    def __call__(self, signal_number, frame) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.signal_number = signal_number


@contextlib.contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Route SIGINT and SIGTERM to a StopRequest; other threads than the main one cannot."""
    stop = StopRequest()
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, stop)
    except ValueError:
        pass
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- inference -----------------------------------------------------------------------------------------------------


def infer(config: Config, given: Mapping[str, Any], say: Say = print) -> dict[str, Any]:
    """Evaluate every LOD of a checkpoint from its exported files; write infer/ in the run folder."""
    checkpoint = load_checkpoint(config.load_dir, config.load_iter)
    folder = checkpoint.path
    check_architecture(checkpoint, given)
    device = resolve_device(config)
    data_dir = config.data_dir if "data_dir" in given else checkpoint.config.data_dir
    material = load_material(data_dir, linear_color=checkpoint.config.linear_color)
    for warning in material.warnings:
        say(f"note: {warning}")
    check_same_material(checkpoint, material, say)
    model = read_export(folder).model if checkpoint.model.quantized else checkpoint.model
    out = folder.parent.parent / "infer"
    out.mkdir(exist_ok=True)
    eval_metrics = config.eval_metrics if "eval_metrics" in given else checkpoint.config.eval_metrics

    def on_lod(lod: int, decoded: Maps, source: Maps) -> None:
        save_map_images(out, decoded, lod)
        if lod == 0:
            save_strips(out / "compare", decoded, source)
        say(f"LOD {lod} decoded")

    decode = create_decoder(config, say)
    missing, options = missing_metrics(eval_metrics), metric_options(eval_metrics)
    metrics = evaluate_model(model.to(device), material, checkpoint.iteration, on_lod=on_lod, decode=decode, **options)
    save_metrics(out, metrics)
    say((out / "metrics.txt").read_text(encoding="utf-8"))
    for reason in missing:
        say(f"note: {reason}")
    say(f"{out}: images, metrics.json and metrics.txt of iteration {checkpoint.iteration}")
    return metrics


# --- command -------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    given = parse_args(argv)
    config = make_config(given)
    if config.groups_batching:
        from groups import train_groups

        return train_groups(config, given)
    if config.mode == "infer":
        infer(config, given)
        return 0
    result = train_material(config, given)
    return 0 if result.completed else 128 + result.interrupted_by


if __name__ == "__main__":
    sys.exit(run_command(main))
