"""The training loop of all three commands: batches, Adam with the schedule, validation, checkpoints, resuming."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.errors import UserError, quote
from common.event_file import TENSORBOARD_IMAGE_SIZE, EventFile
from common.events import progress_bar
from common.files import parse_json
from common.stop import StopRequest
from deferred import checkpoints
from deferred.best import BestModel
from deferred.dataset.ahead import ReadBatch, read_batches
from deferred.dataset.crops import Batch
from deferred.dataset.frames import FrameSet
from deferred.evaluation import render_views, score
from deferred.model.renderer import NeuralRenderer
from deferred.options import TrainOptions, fields_of
from deferred.pictures import strip_row
from deferred.precision import Precision
from deferred.schedule import make_optimiser, rate_factor, set_rates
from deferred.util import masked_l1
from maps.images import encode_png

SAVE_SECONDS = 300.0  # after which the end of an epoch is saved, for a run that is killed
PICTURES = 10  # images in TensorBoard over a run
LOSSES = ("total", "texture", "render")


class Trainer:
    """Trains one model.

    Args:
        script: train (texture and U-Net), train_texture, or train_unet (the texture is frozen).
        held_out: frames for validation, if any.
    """

    def __init__(
        self, script: str, options: TrainOptions, model: NeuralRenderer, frames: FrameSet, held_out: FrameSet | None,
        device: torch.device,
    ):  # fmt: skip
        self.script, self.options, self.device = script, options, device
        self.frames, self.held_out = frames, held_out
        self.model = model.to(device)
        if script == "train_unet":
            self.model.texture.requires_grad_(False)
        self.optimiser = make_optimiser(script, self.model, options)
        self.precision = Precision(options.precision, device)
        self.random = np.random.default_rng(options.seed)
        smallest = [min(size[axis] for size in frames.sizes.values()) for axis in (0, 1)]
        self.crop = (min(options.croph, smallest[0]), min(options.cropw, smallest[1]))
        self.steps_per_epoch = -(-len(frames) // options.batch)
        self.epoch, self.step, self.images, self.seconds = 0, 0, options.load_step, 0.0  # epoch: completed ones
        self.left: list[int] = []  # frames that the current epoch has not seen yet
        self.sums = [0.0, 0.0, 0.0, 0]  # sums of the epoch's LOSSES, and their number
        self.history: list[dict[str, Any]] = []  # one entry per epoch

    # --- the loop ----------------------------------------------------------------------------------------------

    def train(self, run: Path, events: EventFile, stop: StopRequest | None = None, quiet: bool = False,
              on_epoch: Callable[[dict[str, Any]], None] | None = None) -> bool:  # fmt: skip
        """Train to the last epoch or until a stop is requested; either way the state is saved in `run`.

        on_epoch: called after each epoch with its entry of `history`.
        Returns: whether the end was reached.
        """
        started, before = time.perf_counter(), self.seconds
        saved = started
        total = self.options.epoch * self.steps_per_epoch
        best = BestModel(run, self.script, self._config())
        with progress_bar(total, self.step, quiet) as bar:
            while self.epoch < self.options.epoch:
                self._begin_epoch()
                with contextlib.closing(self._batches()) as batches:
                    while self.left and not (stop and stop.requested):
                        rates = set_rates(self.optimiser, rate_factor(self.script, self._schedule_epoch()))
                        self._step(next(batches))
                        bar.update(1)
                self.seconds = before + time.perf_counter() - started
                if self.left:
                    best.write()
                    self.save(run / checkpoints.INTERRUPTED)
                    return False
                entry = self._end_epoch(events, rates)
                best.offer(self.model, self.history, self.step)
                bar.set_postfix_str(f"epoch {self.epoch}, {_decibels(entry['psnr'])}", refresh=False)
                last = self.epoch >= self.options.epoch
                if last or self.epoch % self.options.epoch_per_checkpoint == 0:
                    best.write()
                    self.save(run / checkpoints.epoch_file(self.epoch))
                    (run / checkpoints.INTERRUPTED).unlink(missing_ok=True)
                    saved = time.perf_counter()
                elif time.perf_counter() - saved > SAVE_SECONDS:
                    best.write()
                    self.save(run / checkpoints.INTERRUPTED)
                    saved = time.perf_counter()
                if on_epoch:
                    on_epoch(entry)
        return True

    def _schedule_epoch(self) -> int:
        """The epoch of the schedule in which the next step is."""
        length = self.options.epoch_steps
        return 1 + (self.step // length if length else self.epoch)

    def _begin_epoch(self) -> None:
        """Shuffle the frames, unless an epoch was interrupted."""
        if not self.left:
            self.left = self.random.permutation(self.frames.ids).tolist()
            self.sums = [0.0, 0.0, 0.0, 0]

    def _batches(self) -> Iterator[ReadBatch]:
        """What is left of the epoch, read ahead."""
        options = self.options
        return read_batches(self.frames, self.left, options.batch, self.crop, self.random, options.scale_augmentation,
                            options.num_workers)  # fmt: skip

    def _step(self, read: ReadBatch) -> None:
        self.left = self.left[len(read.numbers) :]
        self.random.bit_generator.state = read.state
        batch = read.batch.to(self.device)
        with self.precision.autocast():
            losses = self.losses(batch)
        self.precision.step(losses[0], self.optimiser)
        self.step += 1
        self.images += len(read.numbers)
        values = torch.stack(losses).detach().tolist()
        if not math.isfinite(values[0]):
            raise UserError(f"--lr {self.options.lr:g}: training diverged in epoch {self.epoch + 1} "
                            f"(loss {values[0]}); "
                            "use a smaller one")  # fmt: skip
        self.sums = [*(a + b for a, b in zip(self.sums, values)), self.sums[3] + 1]

    def losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """LOSSES of a batch: mean absolute errors, on the surface, of the texture's colour and of the U-Net's image."""
        colour, image = self.model(batch.uv, batch.direction, batch.mask)
        nothing = torch.zeros((), device=self.device)
        texture = nothing if self.script == "train_unet" else masked_l1(colour, batch.image, batch.mask)
        render = nothing if image is None else masked_l1(image, batch.image, batch.mask)
        return texture + render, texture, render

    def _end_epoch(self, events: EventFile, rates: dict[str, float]) -> dict[str, Any]:
        self.epoch += 1
        scores = self.validate()
        means = {name: value / max(self.sums[3], 1) for name, value in zip(LOSSES, self.sums)}
        entry = {"epoch": self.epoch, "images": self.images, "loss": means["total"], **scores}
        self.history.append(entry)
        for name, value in means.items():
            events.scalar(f"loss/{name}", value, self.images)
        for name, value in rates.items():
            events.scalar(f"lr/{name}", value, self.images)
        for name in ("psnr", "psnr_texture", "ssim"):
            if scores[name] is not None:
                events.scalar(f"{name}/val", scores[name], self.images)
        every = max(1, self.options.epoch // PICTURES)
        if self.epoch % every == 0 or self.epoch == self.options.epoch:
            self._log_picture(events)
        events.flush()
        return entry

    @torch.no_grad()
    def validate(self) -> dict[str, float | None]:
        """Scores of the held-out frames, see evaluation.score; None for each score without such frames."""
        if self.held_out is None:
            return {"psnr": None, "psnr_texture": None, "ssim": None}
        return score(list(render_views(self.model, self.held_out, self.options.batch, self.device)))

    def _log_picture(self, events: EventFile) -> None:
        shown = self.held_out or self.frames
        view = next(render_views(self.model, shown, 1, self.device, shown.ids[:1]))
        stride = max(1, -(-max(view.frame.size) // TENSORBOARD_IMAGE_SIZE))
        strip = np.ascontiguousarray(strip_row(view)[::stride, ::stride])
        events.image("val/truth_texture_ours_error", *strip.shape, encode_png(strip, quick=True), self.images)

    # --- files -------------------------------------------------------------------------------------------------

    def _config(self) -> dict[str, Any]:
        """The options as a checkpoint has them."""
        return {name: getattr(self.options, name) for name in fields_of(self.script) if name != "resume"}

    def save(self, path: Path) -> None:
        """Write a checkpoint with the state to resume from."""
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        training = {
            "optimiser": self.optimiser.state_dict(), "scaler": self.precision.state(),
            "generators": {"torch": torch.get_rng_state(), "cuda": cuda,
                           "numpy": json.dumps(self.random.bit_generator.state)},
            "left": list(self.left), "sums": list(self.sums), "history": json.dumps(self.history),
            "seconds": self.seconds, "ids": list(self.frames.ids),
        }  # fmt: skip
        checkpoints.save(path, self.script, self.model, self._config(), epoch=self.epoch, step=self.step,
                         images=self.images, training=training)  # fmt: skip

    def resume(self, loaded: checkpoints.Loaded) -> None:
        """Restore the state of a checkpoint. Raises: UserError if it is not of this run."""
        training = loaded.training
        try:
            if list(training["ids"]) != self.frames.ids:
                raise UserError(f"{quote(loaded.path)}: expected the {len(training['ids'])} training frames that the "
                                f"run began with, found {len(self.frames)} others; give the same --data")  # fmt: skip
            self.model.load_state_dict(loaded.model.state_dict())
            self.optimiser.load_state_dict(training["optimiser"])
            self.precision.restore(training.get("scaler", {}))
            self.random.bit_generator.state = parse_json(training["generators"]["numpy"])
            torch.set_rng_state(training["generators"]["torch"])
            if self.device.type == "cuda" and training["generators"]["cuda"] is not None:
                torch.cuda.set_rng_state(training["generators"]["cuda"], self.device)
            self.left = [int(number) for number in training["left"]]
            if not set(self.left) <= set(self.frames.ids):
                raise ValueError("unknown frames")
            self.sums = [*map(float, training["sums"][:3]), int(training["sums"][3])]
            self.history, self.seconds = list(parse_json(training["history"])), float(training["seconds"])
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UserError(f"{quote(loaded.path)}: not the state of this run ({error!s:.100}); train again") from error
        self.epoch, self.step, self.images = loaded.epoch, loaded.step, loaded.images


def _decibels(value: float | None) -> str:
    return "no validation" if value is None else f"{value:.2f} dB"
