"""What changes while a run trains: its model, engine, schedule, early stopping and clock, saved and restored as one."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from common.errors import Say, UserError
from configs import Config
from dataset import Material
from engine.create import at_rest, create_engine
from engine.schedule import Schedule
from model import new_model
from training.checkpoint import Checkpoint
from training.early_stop import EarlyStopping


@dataclasses.dataclass(frozen=True)
class Session:
    """What all runs of one command share; a search for a rate makes several."""

    material: Material
    device: torch.device
    say: Say = print  # receives the lines meant for the user
    quiet: bool = False  # no progress bar


class TrainingState:
    """A model that trains, from its first iteration or from a checkpoint.

    Args:
        config: planned and fitted to the material.
    Raises: UserError where the engine cannot work here, or the checkpoint holds the state of another one.
    """

    def __init__(self, session: Session, config: Config, checkpoint: Checkpoint | None = None):
        self.config = config
        self.schedule = Schedule(config)
        self.stopping = EarlyStopping(config, self.schedule)
        self.model = new_model(config, session.material) if checkpoint is None else checkpoint.model
        device = session.device
        self.engine = create_engine(self.model.to(device), session.material, self.schedule, device, session.say)
        self.metrics: dict[str, Any] | None = None  # of the last evaluation
        self.refined = 0  # rounds of --refine that are done
        self.stopped = False  # early
        self.seconds_before = 0.0
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
            if rounds_left(training, self.config) and (training["stopped"] or self.trained):
                self.refined, self.stopped = training["refined"], training["stopped"]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{checkpoint.path}: training state of another layout ({error}); train anew") from error

    def to_save(self) -> dict[str, Any]:
        """The `training` of a checkpoint: everything but the model that a resumed run needs."""
        return {
            "engine": self.engine.state(),
            "schedule": self.schedule.state(),
            "early_stopping": self.stopping.state(),
            "seconds": self.seconds,
            "stopped": self.stopped,
            "refined": self.refined if self.trained else None,
        }

    def finish_training(self, run: Path) -> None:
        """After the last iteration: what follows, search and evaluation, needs the memory of the kernels.

        Args:
            run: the run folder, see at_rest.
        """
        self.engine = at_rest(self.engine, run)

    @property
    def trained(self) -> bool:
        """Whether the last iteration is done: max_iter or an early stop."""
        return self.stopped or self.engine.iteration >= self.config.max_iter

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, earlier calls included."""
        return self.seconds_before + time.perf_counter() - self.started


def rounds_left(training: Mapping[str, Any], config: Config) -> bool:
    """Whether a run that has ended with this `training` of a checkpoint has rounds of --refine to do."""
    refined = training.get("refined")
    return config.quantize and refined is not None and refined < config.refine


def is_complete(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is the last of a run that ended by itself: trained, refined and evaluated."""
    training, config, metrics = checkpoint.training, checkpoint.config, checkpoint.metrics
    trained = checkpoint.iteration >= config.max_iter or bool(training.get("stopped"))
    evaluated = isinstance(metrics, dict) and metrics.get("iteration") == checkpoint.iteration
    return trained and evaluated and not rounds_left(training, config)
