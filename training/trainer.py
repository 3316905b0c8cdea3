"""The loop of a run: trains, refines, evaluates, saves and logs, until the run ends or a signal stops it."""

from __future__ import annotations

import functools
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.errors import UserError, one_line, shell_quote
from common.events import progress_bar
from common.run_folder import part_of_run
from common.stop import StopRequest
from configs import Config
from engine.create import create_decoder, create_sample_decoder
from metrics.evaluate import Maps, evaluate_model, metric_options, prepare_metrics
from metrics.scores import psnr_of
from model import NeuralTexture
from training.checkpoint import save_checkpoint
from training.code_refinement import Refinement
from training.pictures import picture_lod, save_strips, save_thumbnail
from training.report import RunLog
from training.run_folder import remove_old_checkpoints
from training.state import Session, TrainingState
from training.summary import Result, end_of_run


class Trainer:
    """One call of a run: advances its state, and fills its folder.

    Args:
        run: the run folder, which is there.
    """

    def __init__(self, session: Session, state: TrainingState, run: Path):
        self.session, self.state, self.run, self.config = session, state, run, state.config
        self.log = RunLog(run, state.engine.iteration)
        self.best_probe = 0.0  # PSNR of a batch, the highest of this call

    def train(self, stop: StopRequest) -> Result:
        """Go on to max_iter, an early stop, or a request to stop; always save, and score a run that ended."""
        state, say = self.state, self.session.say
        nothing_to_train = not state.engine.channels  # every channel is a constant: exact before the first iteration
        try:
            if not nothing_to_train:
                self._train(stop)
            if state.trained:
                state.finish_training(self.run)
            completed = nothing_to_train or (state.trained and self._refine(stop))
            missing = prepare_metrics(self.config.eval_metrics) if completed else []
            folder = self._save(functools.partial(self._evaluate, final=True) if completed else None)
        finally:
            self.log.close()
        material, iteration = self.session.material, state.engine.iteration
        rates = state.model.bits_per_texel(material.width, material.height)
        result = Result(self.run, iteration, state.metrics, rates, state.seconds, completed, stop.signal_number)
        if completed:
            say(end_of_run(result, material, self.config, state.stopped, missing, self.best_probe))
        else:
            name = signal.Signals(stop.signal_number).name
            say(f"stopped by {name} at iteration {iteration}; saved {one_line(str(folder))}")
            say(f"continue with: python train.py --mode train --load_dir {shell_quote(str(self.run))}")
        return result

    def _train(self, stop: StopRequest) -> None:
        """The iterations that are left."""
        config, state, engine = self.config, self.state, self.state.engine
        with progress_bar(config.max_iter, engine.iteration, self.session.quiet) as bar:
            while not (state.trained or stop.requested):
                n = next_boundary(engine.iteration, config, engine.chunk) - engine.iteration
                loss = engine.step(n)
                psnr = psnr_of(engine.probe())
                self.best_probe = max(self.best_probe, psnr)
                bar.set_postfix_str(f"PSNR {psnr:.2f} dB", refresh=False)
                bar.update(n)
                if not math.isfinite(loss):
                    raise UserError(
                        f"training diverged at iteration {engine.iteration} (loss {loss}); lower --learning_rate, "
                        f"now {config.learning_rate:g}, or --grid_learning_rate, now {config.grid_learning_rate:g}"
                    )
                rates, noise = engine.learning_rates(), state.schedule.noise_strength(engine.iteration)
                self.log.training(engine.iteration, loss, rates, noise)
                self._after_chunk(psnr, n, bar.clear)

    def _after_chunk(self, psnr: float, n: int, clear_bar: Callable[[], None]) -> None:
        """Decide whether to stop early, evaluate and save, where the iteration calls for it."""
        state, iteration = self.state, self.state.engine.iteration
        verdict = state.stopping.observe(iteration, psnr, n)
        state.stopped = verdict == "stop"
        flat = {"lowered": f"learning rates x {state.schedule.plateau_factor:.3g}", "quiet": "no more noise"}
        if verdict in flat:
            clear_bar()
            self.session.say(f"iteration {iteration}: PSNR is flat, {flat[verdict]}")
        if state.trained:
            return  # the end of a run saves and evaluates by itself
        save, evaluate = iteration % self.config.save_interval == 0, iteration % self.config.eval_interval == 0
        if save or evaluate:
            clear_bar()
        if save:
            self._save(self._evaluate if evaluate else None)
        elif evaluate:
            state.engine.sync()
            self._evaluate(state.model)

    def _refine(self, stop: StopRequest) -> bool:
        """The rounds of --refine that are left. Returns whether all are done; a signal ends it between two."""
        state, rounds = self.state, self.config.refine
        if state.refined >= rounds:
            return True
        refinement = Refinement(state.model, self.session.material, self.config)
        while refinement.possible and state.refined < rounds:
            if stop.requested:
                return False
            changed = refinement.round(state.refined)
            state.refined += 1
            psnr = psnr_of(state.engine.probe())
            self.session.say(f"refining {state.refined} of {rounds}: {changed} codes changed, PSNR {psnr:.2f} dB, "
                             f"{state.seconds:.0f} s")  # fmt: skip
        return True

    def _evaluate(self, model: NeuralTexture, final: bool = False) -> dict[str, Any]:
        """Score every LOD. `final`: the evaluation that ends a run, the only one that writes media/."""
        state, material = self.state, self.session.material
        iteration, shown = state.engine.iteration, picture_lod(self.config, material)

        def on_lod(lod: int, decoded: Maps, source: Maps) -> None:
            self.log.pictures(iteration, lod, decoded, source, material)
            if lod == shown and final:
                media = part_of_run(self.run, "media")
                save_strips(media, decoded, source)
                save_thumbnail(media, decoded, source)

        options = metric_options(self.config.eval_metrics, final)
        decode = create_decoder(self.config)
        decoders = {"decode": decode, "decode_positions": create_sample_decoder(self.config)}
        state.metrics = evaluate_model(model, material, iteration, on_lod=on_lod, **decoders, **options)
        self.log.evaluation(state.metrics)
        psnr = state.metrics["psnr"]["all"]
        self.session.say(f"iteration {iteration}: PSNR {psnr:.2f} dB at LOD 0, {state.seconds:.0f} s")
        return state.metrics

    def _save(self, evaluate: Callable[[NeuralTexture], dict[str, Any]] | None) -> Path:
        """Save a checkpoint, with a new evaluation or the last one; returns its folder."""
        state = self.state
        state.engine.sync()
        folder, state.metrics = save_checkpoint(
            self.run, state.engine.iteration, state.model, self.config, self.session.material.hashed_record,
            state.to_save, evaluate, state.metrics,
        )  # fmt: skip
        remove_old_checkpoints(self.run, self.config.keep_checkpoints)
        return folder


def next_boundary(iteration: int, config: Config, chunk: int) -> int:
    """The next iteration at which something other than training may happen: a multiple of an interval, or of `chunk`,
    the iterations between two looks at the clock, the bar and the signals."""
    intervals = (chunk, config.eval_interval, config.save_interval, config.early_stop_interval)
    return min(config.max_iter, *((iteration // interval + 1) * interval for interval in intervals))
