"""The loop of a run: trains, refines, evaluates, saves and logs, and stops when it is told to."""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from common.errors import Say, UserError, one_line, shell_quote
from common.events import progress_bar
from common.run_folder import part_of_run
from common.stop import StopRequest
from configs import Config
from dataset import Material
from engine.create import create_decoder, create_engine
from engine.schedule import Schedule
from formats.manifest import read_manifest
from metrics.evaluate import Maps, evaluate_model, metric_options, prepare_metrics
from metrics.scores import psnr_of
from model import NeuralTexture, new_model
from training.checkpoint import Checkpoint, save_checkpoint
from training.code_refinement import Refinement
from training.early_stop import EarlyStopping
from training.pictures import save_strips, save_thumbnail
from training.report import RunLog
from training.run_folder import remove_old_checkpoints
from training.summary import run_summary


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
        self.picture_lod = min(config.picture_lod, material.num_lods - 1)
        self.metrics: dict[str, Any] | None = None
        self.seconds_before = 0.0
        self.missing: list[str] = []  # why a metric is None in the last evaluation
        self.ending = False  # the pictures in media/ are written once: they take as long as an evaluation
        self.refined = 0  # rounds of --refine that are done
        self.stopped = False  # early
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
            if refinement_left(training, self.config) and (training["stopped"] or self._finished()):
                self.refined, self.stopped = training["refined"], training["stopped"]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{checkpoint.path}: training state of another layout ({error}); train anew") from error

    def _finished(self) -> bool:
        return self.engine.iteration >= self.config.max_iter

    def _training_state(self) -> dict[str, Any]:
        return {
            "engine": self.engine.state(),
            "schedule": self.schedule.state(),
            "early_stopping": self.stopping.state(),
            "seconds": self.seconds,
            "stopped": self.stopped,
            "refined": self.refined if self.stopped or self._finished() else None,
        }

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, earlier calls included."""
        return self.seconds_before + time.perf_counter() - self.started

    def train(self, run: Path, stop: StopRequest) -> Result:
        """Run to max_iter, to an early stop, or until `stop` is asked for; always leaves a checkpoint in `run`."""
        config, engine = self.config, self.engine
        self.run, self.log = run, RunLog(run, engine.iteration)
        idle = not engine.channels  # every channel is a constant: the files are exact before the first iteration
        try:
            with progress_bar(config.max_iter, engine.iteration, self.quiet) as bar:
                while not (idle or self._finished() or self.stopped or stop.requested):
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
                    self.stopped = self._after_chunk(n, loss, psnr, bar.clear)
            completed = idle or ((self._finished() or self.stopped) and self._refine(stop))
            self.ending = completed
            folder = self._save(evaluate=completed)  # an interrupted run saves at once, unevaluated
        finally:
            self.log.close()
        rates = self.model.bits_per_texel(self.material.width, self.material.height)
        if completed:
            self._tell_result(folder, rates)
        else:
            name = signal.Signals(stop.signal_number).name
            self.say(f"stopped by {name} at iteration {engine.iteration}; saved {one_line(str(folder))}")
            self.say(f"continue with: python train.py --mode train --load_dir {shell_quote(str(self.run))}")
        return Result(
            self.run, engine.iteration, self.metrics, rates, self.seconds, completed, stop.signal_number
        )  # fmt: skip

    def _refine(self, stop: StopRequest) -> bool:
        """The rounds of --refine that are left. Returns whether all are done; a signal ends it between two."""
        if self.refined >= self.config.refine:
            return True
        self.engine.sync()
        refinement = Refinement(self.model, self.material, self.config)
        while refinement.possible and self.refined < self.config.refine:
            if stop.requested:
                return False
            changed = refinement.round(self.refined)
            self.refined += 1
            self.engine.reload()
            psnr = psnr_of(self.engine.probe())
            self.say(f"refining {self.refined} of {self.config.refine}: {changed} codes changed, PSNR {psnr:.2f} dB, "
                     f"{self.seconds:.0f} s")  # fmt: skip
        return True

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
            if lod == self.picture_lod and self.ending:
                media = part_of_run(self.run, "media")
                save_strips(media, decoded, source)
                save_thumbnail(media, decoded, source)

        if self.ending:
            self.missing = prepare_metrics(self.config.eval_metrics)
        options = metric_options(self.config.eval_metrics, self.ending)
        self.metrics = evaluate_model(model, self.material, iteration, on_lod=on_lod, decode=self.decode, **options)
        self.log.evaluation(self.metrics)
        self.say(f"iteration {iteration}: PSNR {self.metrics['psnr']['all']:.2f} dB at LOD 0, {self.seconds:.0f} s")
        return self.metrics

    def _save(self, evaluate: bool) -> Path:
        self.engine.sync()
        folder, self.metrics = save_checkpoint(
            self.run, self.engine.iteration, self.model, self.config, self.material.hashed_record,
            self._training_state, self._evaluate if evaluate else None, self.metrics,
        )  # fmt: skip
        remove_old_checkpoints(self.run, self.config.keep_checkpoints)
        return folder

    def _tell_result(self, folder: Path, rates: dict[str, float]) -> None:
        config = self.config
        if self.stopped:
            self.say(f"stopped early: PSNR rose by less than {config.early_stop_psnr_threshold} dB in "
                     f"{config.early_stop_interval} iterations")  # fmt: skip
        if not self.engine.channels:
            self.say("every channel has one value, which the manifest keeps: there is nothing to train")
        for reason in self.missing:
            self.say(f"note: {reason}")
        shipped = None
        if self.model.quantized:
            shipped = read_manifest(folder).bytes_on_disk
        self.say(run_summary(self.material, self.metrics, rates, shipped, self.seconds, self.engine.iteration, self.run,
                         folder, config.texture_loss_weights, self.picture_lod))  # fmt: skip


def refinement_left(training: Mapping[str, Any], config: Config) -> bool:
    """Whether a run that has ended with this training state has rounds of --refine to do."""
    refined = training.get("refined")
    return config.quantize and refined is not None and refined < config.refine


def is_complete(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is the last of a run that ended by itself: trained, refined and evaluated."""
    training, config, metrics = checkpoint.training, checkpoint.config, checkpoint.metrics
    ended = checkpoint.iteration >= config.max_iter or bool(training.get("stopped"))
    evaluated = isinstance(metrics, dict) and metrics.get("iteration") == checkpoint.iteration
    return ended and evaluated and not refinement_left(training, config)


def next_boundary(iteration: int, config: Config, chunk: int) -> int:
    """The next iteration at which something other than training may happen: a multiple of `chunk`, the iterations
    between two looks at the clock, the bar and the signals, or of an interval."""
    intervals = (chunk, config.eval_interval, config.save_interval, config.early_stop_interval)
    return min(config.max_iter, *((iteration // interval + 1) * interval for interval in intervals))
