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
from common.events import progress_bar
from common.files import make_folder
from common.stop import StopRequest
from lightmap import checkpoints
from lightmap.basis import choose_shape, start_from_pca
from lightmap.basis_step import BasisStep, DaySampler
from lightmap.compressor import CHUNK, Compressor, Shape
from lightmap.data import Day
from lightmap.options import MOST_SAMPLES, TrainOptions
from lightmap.sampling import Batch, Sampler, split_texels
from lightmap.torch_step import TorchStep
from metrics.scores import psnr_of

TENSORBOARD = "tensorboard"


class Trainer:
    """Trains one day.

    Args:
        make_step: (model, lr, lr_grid) -> TorchStep, or a subclass; latent mode basis has its own.
        begun: the shape of a run that goes on; None, or one for another day: latent mode basis chooses.
    """

    def __init__(self, options: TrainOptions, day: Day, device: torch.device, say: Say = print,
                 make_step: Callable[..., TorchStep] = TorchStep, begun: Shape | None = None):  # fmt: skip
        self.options, self.day, self.device, self.say = options, day, device, say
        basis = options.latent_mode == "basis"
        if basis:
            say("start    principal components of the day, and what they leave over at each size")
        if begun is not None and begun.of_day(day.height, day.width, day.n_frames):
            self.shape: Shape = begun  # another version may choose another one
        else:
            self.shape = choose_shape(options, day, say) if basis else options.shape(day.height, day.width)
        generator = torch.Generator().manual_seed(options.seed)
        self.model = Compressor(self.shape, generator).to(device)
        self.generator = generator
        train, held_out = split_texels(day.mask, options.seed)
        if not len(held_out):
            raise UserError(f"{day.width}x{day.height}: expected at least 8 texels that count, found {len(train)}")
        if options.latent_mode == "direct" and options.latent_scale == 1:  # no other texel trains its latent
            train = torch.cat([train, held_out]).sort().values
        self.held_out = _all_hours(day, held_out, device)
        samples = options.samples_per_epoch or int(day.mask.sum()) * day.n_frames
        started = time.perf_counter()
        if basis:
            start_from_pca(self.model, day, device)
            self.engine = BasisStep(self.model, day, options.lr)
            self.sampler = DaySampler(day, self.engine.lamps, generator, device)
            samples = options.samples_per_epoch or min(samples, MOST_SAMPLES)
        else:
            self.engine = make_step(self.model, options.lr, options.lr_grid)
            self.sampler = Sampler(day, train, options.time_blend, generator, device)
        self.steps_per_epoch = max(1, math.ceil(samples / options.batch_size))
        self.total = options.epochs * self.steps_per_epoch
        self.iteration, self.found_db = 0, math.nan
        self.best_db, self.best_state, self.best_epoch = -math.inf, self._state(), 0
        if basis:
            self._keep_if_best()  # PCA, which training can only gain on
            self.engine.refine()
            self._keep_if_best()
        self.seconds = time.perf_counter() - started

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
            self.best_db, self.best_epoch, self.best_state = self.found_db, self.epoch, self._state()

    @torch.no_grad()
    def held_out_db(self) -> float:
        """PSNR in dB of the held-out texels over all frames."""
        squares = 0.0
        whole = self.held_out
        for texels, hours, values in zip(*(part.split(CHUNK) for part in (whole.texels, whole.hours, whole.values))):
            squares += float((self.model(texels, hours).clamp(0, 1) - values).double().square().sum())
        return psnr_of(squares / self.held_out.values.numel())

    def _state(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

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
        checkpoints.save(folder / checkpoints.LAST, self.shape, self._state(), **facts, epoch=self.epoch,
                         step=self.iteration, held_out_db=self.best_db, seconds=self.seconds,
                         training=training)  # fmt: skip

    def resume(self, folder: Path) -> None:
        """Restore the state of last.ckpt, and the best model so far from best.ckpt. Raises: UserError."""
        path = folder / checkpoints.LAST
        last, best = checkpoints.load(path), checkpoints.load(folder / checkpoints.BEST)
        if last.training is None:
            raise UserError(f"{quote(path)}: expected the state of a training run, found only a model; train again")
        if last.day != checkpoints.describe_day(self.day):
            raise UserError(f"{quote(path)}: expected the frames that the run began with, found others (size, count, "
                            "depth or range); give the same --data_dir")  # fmt: skip
        try:
            self.model.load_state_dict(last.model.state_dict())
            self.engine.load(last.training["adam"])
            self.generator.set_state(last.training["rng"])
            self.best_db, self.best_epoch = float(last.training["best_db"]), int(last.training["best_epoch"])
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UserError(f"{quote(path)}: not the state of this run ({error!s:.100}); train again") from error
        if self.day.encoding.hdr and "bytes" not in last.config:
            self.say(f"note: {quote(path)}: begun by an earlier version, which kept frames of high range as floats; "
                     "they have 16 bits now, so that the run goes on, but with other low bits")  # fmt: skip
        self.best_state = {name: value.clone() for name, value in best.model.state_dict().items()}
        self.iteration, self.seconds = last.step, last.seconds


def _all_hours(day: Day, texels: torch.Tensor, device: torch.device) -> Batch:
    """All frames of some texels as one batch."""
    frames = torch.arange(day.n_frames)
    pairs = torch.cartesian_prod(texels, frames)
    values = day.values(pairs[:, 0], pairs[:, 1])
    return Batch(pairs[:, 0].to(device), (pairs[:, 1] * day.step).float().to(device), values.to(device))
