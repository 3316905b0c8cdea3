"""The training loop: batches, Adam with cosine decay, PSNR of held-out texels, checkpoints, resuming."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from common.errors import Say, UserError, quote
from common.event_file import EventFile
from common.events import TENSORBOARD, progress_bar
from common.files import make_folder
from common.memory import give_back_memory
from common.stop import StopRequest
from lightmap import checkpoints
from lightmap.basis import choose_shape
from lightmap.basis_start import day_db, start_day, state_of
from lightmap.basis_step import BasisStep, DaySampler
from lightmap.checkpoints import Begun
from lightmap.compressor import CHUNK, Compressor, Shape
from lightmap.data import Day
from lightmap.evaluation import stored
from lightmap.options import MOST_SAMPLES, TrainOptions
from lightmap.sampling import Batch, Sampler, measured_texels, split_texels
from lightmap.torch_step import TorchStep
from metrics.scores import psnr_of


class Trainer:
    """Trains one day.

    Args:
        make_step: (model, lr, lr_grid) -> TorchStep, or a subclass; latent mode basis has its own.
        begun: a run that goes on, of checkpoints.load_run.
        shape: of a new run in latent mode basis; None: the trainer chooses.
    Raises: UserError for too few texels, or a run of another day.
    """

    def __init__(self, options: TrainOptions, day: Day, device: torch.device, say: Say = print,
                 make_step: Callable[..., TorchStep] = TorchStep, begun: Begun | None = None,
                 shape: Shape | None = None):  # fmt: skip
        self.options, self.day, self.device, self.say = options, day, device, say
        if begun is not None:
            begun.check(day, options.latent_mode)
        started = time.perf_counter()
        self.best_db, self.best_epoch = -math.inf, 0
        if options.latent_mode == "basis":
            self._set_up_basis(begun, shape)
        else:
            self._set_up_networks(begun, make_step)
        self.shape: Shape = self.model.shape
        self.total, self.iteration = steps_of(options, day), 0
        self.steps_per_epoch = self.total // options.epochs
        self.engine_name = self.engine.name
        self.seconds = time.perf_counter() - started
        if begun is not None:
            self._restore(begun)
        self.found_db = self.best_db

    def _set_up_basis(self, begun: Begun | None, shape: Shape | None) -> None:
        """Model, engine and sampler; a new run starts from PCA, which training can only gain on."""
        options, day, device = self.options, self.day, self.device
        self.measured = measured_texels(day.mask, options.seed)
        if begun is None:
            if shape is None:
                self.say("start    principal components of the day, and what they leave over at each size")
                shape = choose_shape(options, day, self.say)
            start = start_day(shape, options, day, device, lambda model: day_db(model, day, self.measured))
            self.model, self.engine, self.generator = start.model, start.engine, start.generator
            self.best_db, self.best_state = start.best_db, start.best_state
        else:
            self.generator = torch.Generator()
            self.model = begun.last.model.to(device)
            self.engine = BasisStep(self.model, day, options.lr)
        self.sampler = DaySampler(day, self.engine.lamps, self.generator, device)

    def _set_up_networks(self, begun: Begun | None, make_step: Callable[..., TorchStep]) -> None:
        """Model, engine and sampler of the other two latent modes."""
        options, day, device = self.options, self.day, self.device
        self.generator = torch.Generator().manual_seed(options.seed)
        shape = options.shape(day.height, day.width)
        self.model = (Compressor(shape, self.generator) if begun is None else begun.last.model).to(device)
        self.best_state = state_of(self.model)
        train, held_out = split_texels(day.mask, options.seed)
        if not len(held_out):
            raise UserError(f"{day.width}x{day.height}: expected at least 8 texels that count, found {len(train)}")
        if options.latent_mode == "direct" and options.latent_scale == 1:  # no other texel trains its latent
            train = torch.cat([train, held_out]).sort().values
        self.held_out = _all_hours(day, held_out, device)
        self.engine = make_step(self.model, options.lr, options.lr_grid)
        self.sampler = Sampler(day, train, options.time_blend, self.generator, device)

    # --- the loop ----------------------------------------------------------------------------------------------

    def train(self, folder: Path, stop: StopRequest | None = None, quiet: bool = False) -> bool:
        """Train to the end or until a stop is requested, and write best.ckpt and last.ckpt into `folder`.

        Returns: whether the end was reached.
        """
        make_folder(folder)
        events = EventFile(folder / TENSORBOARD)
        if self.iteration:
            events.restart(self.iteration + 1)
        started, before = time.perf_counter(), self.seconds
        with progress_bar(self.total, self.iteration, quiet) as bar:
            while self.iteration < self.total and not (stop and stop.requested):
                losses = []
                end = min(self.total, (self.iteration // self.steps_per_epoch + 1) * self.steps_per_epoch)
                while self.iteration < end and not (stop and stop.requested):
                    losses.append(self.engine.step(self.sampler.draw(self.options.batch_size), self.decay))
                    self.iteration += 1
                    bar.update(1)
                    for _ in range(self.engine.refinements(self.iteration, self.total)):
                        self.engine.refine()
                        self._keep_if_best()
                self.seconds = before + time.perf_counter() - started
                if self.iteration == end:
                    self._end_of_epoch(folder, events, float(torch.stack(losses).mean()), bar)
        self.seconds = before + time.perf_counter() - started
        self.save(folder)
        events.close()
        return self.iteration >= self.total

    @property
    def decay(self) -> float:
        """Factor of the learning rates: a cosine from 1 to 0 over the run."""
        return 0.5 * (1 + math.cos(math.pi * self.iteration / self.total))

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""
        return self.iteration // self.steps_per_epoch

    def _end_of_epoch(self, folder: Path, events: EventFile, loss: float, bar: Any) -> None:
        if not math.isfinite(loss):
            raise UserError(f"--lr {self.options.lr:g}: training diverged in epoch {self.epoch}; use a smaller one")
        if not self.engine.refines:
            self._keep_if_best()
        for tag, value in (
            ("Loss/train", loss),
            ("PSNR/held_out", self.found_db),
            ("LearningRate", self.options.lr * self.decay),
        ):
            events.scalar(tag, value, self.iteration)
        bar.set_postfix_str(f"{self.found_db:.2f} dB", refresh=False)
        if self.epoch % self.options.save_every == 0 and self.iteration < self.total:
            self.save(folder)
            events.flush()

    def _keep_if_best(self) -> None:
        self.found_db = self.held_out_db()
        if self.found_db >= self.best_db:
            self.best_db, self.best_epoch, self.best_state = self.found_db, self.epoch, state_of(self.model)

    @torch.no_grad()
    def held_out_db(self) -> float:
        """PSNR in dB over all frames of the held-out texels, or in latent mode basis of those that are measured."""
        if self.engine.refines:
            return day_db(self.model, self.day, self.measured)
        squares = 0.0
        whole = self.held_out
        for texels, hours, values in zip(*(part.split(CHUNK) for part in (whole.texels, whole.hours, whole.values))):
            squares += float((stored(self.model(texels, hours), self.day.bits) - values).double().square().sum())
        return psnr_of(squares / self.held_out.values.numel())

    def let_go(self) -> None:
        """After training, when the checkpoints hold it: drop the model, its copies and the state of the optimiser."""
        del self.model, self.engine, self.sampler, self.best_state
        give_back_memory()

    # --- files -------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write last.ckpt and best.ckpt."""
        facts = {"config": dataclasses.asdict(self.options), "day": checkpoints.describe_day(self.day)}
        training = {
            "adam": self.engine.state(), "rng": self.generator.get_state(), "best_db": self.best_db,
            "best_epoch": self.best_epoch,
        }  # fmt: skip
        checkpoints.save(folder / checkpoints.BEST, self.shape, self.best_state, **facts, epoch=self.best_epoch,
                         step=self.best_epoch * self.steps_per_epoch, held_out_db=self.best_db, seconds=self.seconds,
                         training=None)  # fmt: skip
        checkpoints.save(folder / checkpoints.LAST, self.shape, state_of(self.model), **facts, epoch=self.epoch,
                         step=self.iteration, held_out_db=self.best_db, seconds=self.seconds,
                         training=training)  # fmt: skip

    def _restore(self, begun: Begun) -> None:
        """Go on from the state of a run. Raises: UserError if it is none of this model."""
        last, best = begun.last, begun.best
        try:
            self.engine.load(last.training["adam"])
            self.generator.set_state(last.training["rng"])
            self.best_db, self.best_epoch = float(last.training["best_db"]), int(last.training["best_epoch"])
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UserError(f"{quote(begun.path)}: not the state of this run ({error!s:.100}); train again") from error
        if self.day.encoding.hdr and "bytes" not in last.config:
            self.say(f"note: {quote(begun.path)}: begun by an earlier version, which kept frames of high range as "
                     "floats; they have 16 bits now, so that the run goes on, but with other low bits")  # fmt: skip
        if self.engine.refines:  # an earlier version measured other texels
            self.best_db = day_db(best.model.to(self.device), self.day, self.measured)
        self.best_state = state_of(best.model)
        self.iteration, self.seconds = last.step, last.seconds


def steps_of(options: TrainOptions, day: Day) -> int:
    """Steps of a whole run."""
    samples = int(day.mask.sum()) * day.n_frames
    usual = min(samples, MOST_SAMPLES) if options.latent_mode == "basis" else samples
    return options.epochs * max(1, math.ceil((options.samples_per_epoch or usual) / options.batch_size))


def _all_hours(day: Day, texels: torch.Tensor, device: torch.device) -> Batch:
    """All frames of some texels as one batch."""
    frames = torch.arange(day.n_frames)
    pairs = torch.cartesian_prod(texels, frames)
    values = day.values(pairs[:, 0], pairs[:, 1])
    return Batch(pairs[:, 0].to(device), (pairs[:, 1] * day.step).float().to(device), values.to(device))
