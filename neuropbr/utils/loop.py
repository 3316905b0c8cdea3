"""The training loop of teacher and student: epochs, validation, checkpoints, logs, resuming bit for bit."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.errors import Say, UserError, counted, quote
from common.events import progress_bar
from common.stop import StopRequest
from neuropbr.train_config import TrainConfig
from neuropbr.utils.batches import EpochBatches, make_loader, read_batches
from neuropbr.utils.checkpoints import (
    link_checkpoint,
    load_checkpoint,
    load_weights,
    plain_names,
    random_state,
    restore_random_state,
    save_checkpoint,
    stored_config,
    unwrapped,
)
from neuropbr.utils.device import Precision
from neuropbr.utils.logs import Logs
from neuropbr.utils.metrics import MapMetrics, metrics_table
from neuropbr.utils.parallel_training import anywhere, from_first
from neuropbr.utils.schedule import Schedule

LATEST_SECONDS = 60  # between two latest.pth: writing one can take longer than a short epoch


class Loop:
    """Subclasses implement the steps and fill `networks`, `optimizers` and `schedules`, whose names become keys of the
    checkpoint.

    Args:
        config: finalized TrainConfig.
        train, held_out: datasets; their items are tuples of tensors and dicts of tensors.
        groups: see EpochBatches.
        rank, processes: of this process among those that train together.
    """

    LATEST, BEST, PERIODIC = "latest.pth", "best_model.pth", "checkpoint_epoch_{:04d}.pth"
    PREFIX = "val"

    def __init__(self, config: TrainConfig, device: torch.device, train: Any, held_out: Any,
                 groups: list[int] | None = None, rank: int = 0, processes: int = 1, say: Say = print):  # fmt: skip
        self.config, self.device, self.rank, self.processes = config, device, rank, processes
        self.say = say if rank == 0 else lambda text: None
        self.folder = Path(config.training.checkpoint_dir)
        self.precision = Precision(device, config.training.use_amp)
        seed, size = config.training.seed, config.data.batch_size
        self.batches = EpochBatches(len(train), size, seed, True, groups, rank, processes)
        self.loader = make_loader(train, self.batches, config.data, device)
        val_batches = EpochBatches(len(held_out), size, seed, shuffle=False)
        self.val_loader = make_loader(held_out, val_batches, config.data, device)
        self.mean, self.std = train.mean, train.std
        self.networks: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.schedules: dict[str, Schedule] = {}
        self.epoch = self.step_in_epoch = self.global_step = 0  # completed ones
        self.sums: dict[str, float] = defaultdict(float)  # of this epoch's losses
        self.val_loss = self.best_val_loss = math.inf
        self.logs: Logs | None = None
        self._saved_at = time.monotonic()

    # --- for subclasses --------------------------------------------------------------------------------------------

    def train_step(self, batch: Any) -> dict[str, torch.Tensor]:
        """Train on a batch. Returns: scalars for the log; those in `shown` are averaged for the terminal."""
        raise NotImplementedError

    def val_step(self, batch: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor]:
        """(prediction, target, loss) of a batch."""
        raise NotImplementedError

    def log_images(self, batch: Any, prediction: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor],
                   epoch: int) -> None:  # fmt: skip
        raise NotImplementedError

    shown: Mapping[str, str] = {}  # scalar -> its name in the terminal

    # --- running ---------------------------------------------------------------------------------------------------

    def run(self, stop: StopRequest) -> bool:
        """Train until the last epoch or a stop. Returns: whether the last epoch is done."""
        training = self.config.training
        self.logs = Logs(self.folder, self.config, self.rank == 0, self.global_step)
        try:
            while self.epoch < training.epochs:
                if not self._train_epoch(stop):
                    self.save(self.LATEST)
                    self.say(f"stopped in epoch {self.epoch + 1}; --resume {quote(self.folder / self.LATEST)} goes on")
                    return False
                self._finish_epoch()
            return True
        finally:
            self.logs.close()

    def _train_epoch(self, stop: StopRequest) -> bool:
        for network in self.networks.values():
            network.train()
        self.batches.epoch, self.batches.skip = self.epoch, self.step_in_epoch
        started = time.monotonic()
        with progress_bar(len(self.batches), self.step_in_epoch, self.rank != 0) as bar:
            bar.set_description(f"Epoch {self.epoch + 1}")
            for batch in read_batches(self.loader):
                scalars = self.train_step(_to(batch, self.device))
                self.global_step += 1
                self.step_in_epoch += 1
                values = {name: float(scalars[name]) for name in self.shown if name in scalars}
                for name, value in values.items():
                    self.sums[name] += value
                bar.update()
                bar.set_postfix({self.shown[name]: f"{value:.3f}" for name, value in values.items()})
                if self.global_step % self.config.training.log_every_n_steps == 0:
                    self.logs.scalars("train", scalars, self.global_step)
                if anywhere(stop.requested, self.device, self.processes):
                    return False
        self.say(f"Epoch {self.epoch + 1} Summary: {self.step_in_epoch} steps, {time.monotonic() - started:.1f} s")
        return True

    def _finish_epoch(self) -> None:
        training, epoch = self.config.training, self.epoch + 1
        means = {name: value / self.step_in_epoch for name, value in self.sums.items()}
        for name, value in means.items():
            label = {"G_loss": "Generator Loss", "D_loss": "Discriminator Loss"}.get(self.shown[name], self.shown[name])
            self.say(f"  {label}: {value:.4f}")
            if not math.isfinite(value):
                raise UserError(f"training: {name} is no longer finite in epoch {epoch}; lower optimizer.g_lr or d_lr")
        self.sums.clear()
        self.epoch, self.step_in_epoch = epoch, 0
        best = False
        if epoch % training.val_every_n_epochs == 0 or epoch == training.epochs:
            loss = self.validate() if self.rank == 0 else 0.0
            self.val_loss = from_first(loss, self.device, self.processes)
            best = self.val_loss < self.best_val_loss
            self.best_val_loss = min(self.val_loss, self.best_val_loss)
        for schedule in self.schedules.values():
            schedule.step(self.val_loss)
        periodic = epoch % training.save_every_n_epochs == 0 and not training.save_best_only
        due = time.monotonic() - self._saved_at > LATEST_SECONDS
        if best or periodic or due or epoch == training.epochs:
            self.save(self.LATEST)
        if best:
            self.save(self.BEST)
        if periodic:
            self.save(self.PERIODIC.format(epoch))

    def validate(self) -> float:
        """Log metrics and pictures of the validation samples. Returns: their mean loss."""
        for network in self.networks.values():
            network.eval()
        metrics, losses, count = MapMetrics(), 0.0, 0
        every = self.config.training.log_images_every_n_epochs
        with torch.no_grad():
            for i, batch in enumerate(read_batches(self.val_loader)):
                if i == self.config.training.val_batches:
                    break
                batch = _to(batch, self.device)
                prediction, target, loss = self.val_step(batch)
                samples = len(target["albedo"])
                losses, count = losses + float(loss) * samples, count + samples
                metrics.add(prediction, target)
                if i == 0 and (self.epoch % every == 0 or self.epoch == 1):
                    self.log_images(batch, prediction, target, self.epoch)
        means, loss = metrics.means(), losses / count
        self.logs.scalars("val", {"loss": loss, **means}, self.epoch)
        self.say(f"[Validation] Epoch {self.epoch} - Loss: {loss:.4f} ({counted(count, 'sample')})")
        self.say(metrics_table(means))
        return loss

    # --- checkpoints -----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The state to resume from, in plain values."""
        return {
            "epoch": self.epoch, "step_in_epoch": self.step_in_epoch, "global_step": self.global_step,
            "sums": dict(self.sums), "val_loss": self.val_loss, "best_val_loss": self.best_val_loss,
            "config": self.config.to_dict(), "random_state": random_state(),
            "scaler_state_dict": self.precision.scaler.state_dict(),
            **{f"{name}_state_dict": plain_names(unwrapped(part).state_dict()) for name, part in self.networks.items()},
            **{f"{name}_state_dict": part.state_dict() for name, part in {**self.optimizers, **self.schedules}.items()},
        }  # fmt: skip

    def save(self, name: str) -> None:
        if self.rank:
            return
        if name == self.LATEST:
            save_checkpoint(self.folder / name, self.state())
            self._saved_at = time.monotonic()
        elif name == self.BEST:  # to be used, not gone on with: a third of the bytes
            apart = self._apart_from_the_model()
            save_checkpoint(self.folder / name, {key: v for key, v in self.state().items() if key not in apart})
            self.say(f"Saved best model: {quote(self.folder / name)}")
        else:  # the same state as latest.pth, just written: a second link to that file
            link_checkpoint(self.folder / self.LATEST, self.folder / name)
            self.say(f"Saved checkpoint: {quote(self.folder / name)}")

    def _apart_from_the_model(self) -> dict[str, str]:
        """Keys of `state` that only a run that goes on needs -> what they hold."""
        helpers = [*list(self.networks)[1:], *self.optimizers]  # the first network is the model
        return {f"{name}_state_dict": name.replace("_", " ") for name in helpers}

    def resume(self, path: str) -> None:
        """Restore what `state` returned. Raises: UserError for another network's checkpoint or one without it."""
        values = load_checkpoint(path)
        missing, apart = [key for key in self.state() if key not in values], self._apart_from_the_model()
        if missing == [key for key in self.state() if key in apart]:  # of BEST
            self.say(f"note: {quote(path)} holds the model alone: {', '.join(apart.values())} start anew; "
                     f"{self.LATEST} goes on as if the run had not stopped")  # fmt: skip
        elif missing:
            missing = [key for key in missing if key not in apart] or missing
            raise UserError(
                f"{quote(path)}: expected {missing[0]} to go on with, found none; resume from a {self.LATEST} of this "
                "command, trained with the same parts (model.use_gan)"
            )
        stored = stored_config(values, path).optimizer
        for name in self.optimizers:  # the state of another kind would load, and fail in the first step
            field = name if name[1] == "_" else "g_optimizer"
            then, now = getattr(stored, field), getattr(self.config.optimizer, field)
            if then != now:
                raise UserError(f"optimizer.{field}: expected {then}, whose state {quote(path)} holds, found {now}")
        for name, module in self.networks.items():
            if f"{name}_state_dict" in values:
                load_weights(unwrapped(module), values[f"{name}_state_dict"], path)
        for name, part in {**self.optimizers, **self.schedules}.items():
            if f"{name}_state_dict" not in values:
                continue
            try:
                part.load_state_dict(values[f"{name}_state_dict"])
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{quote(path)}: expected the state of this {name}, found another ({error}); resume with the "
                    "settings of the checkpoint"
                ) from error
        for name, schedule in self.schedules.items():
            if f"{name.replace('scheduler', 'optimizer')}_state_dict" not in values:
                schedule.set_rates()
        if values["scaler_state_dict"] and self.precision.scaler.is_enabled():
            self.precision.scaler.load_state_dict(values["scaler_state_dict"])
        self.epoch, self.step_in_epoch, self.global_step = (
            int(values[name]) for name in ("epoch", "step_in_epoch", "global_step")
        )
        self.sums = defaultdict(float, values["sums"])
        self.val_loss, self.best_val_loss = values["val_loss"], values["best_val_loss"]
        restore_random_state(values["random_state"])
        self.say(f"resumed {quote(path)} after epoch {self.epoch}, step {self.global_step}")
        if self.epoch >= self.config.training.epochs:
            self.say(f"all {counted(self.config.training.epochs, 'epoch')} are done; --epochs N goes on to epoch N")

    def step(self, name: str, loss: torch.Tensor, clip: float = 0.0) -> None:
        """One step of an optimizer on `loss`; clip: largest norm of the gradient, 0 for no limit."""
        optimizer, scaler = self.optimizers[name], self.precision.scaler
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        if clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
        scaler.step(optimizer)
        scaler.update()


def _to(batch: Any, device: torch.device) -> Any:
    """A batch of make_loader on `device`. Raises: the UserError that stands for a batch with an unusable file."""
    if isinstance(batch, UserError):
        raise batch
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: _to(value, device) for name, value in batch.items()}
    return [_to(value, device) for value in batch]
