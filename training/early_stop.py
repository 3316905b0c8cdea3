"""Decides when PSNR no longer rises: then the rates fall, the noise ends, or the run stops."""

from __future__ import annotations

import math
from dataclasses import dataclass

from configs import Config
from engine.schedule import Schedule


@dataclass
class EarlyStopping:
    """Compares the mean PSNR of each segment of iterations with that of the segment before.

    A gain below --early_stop_psnr_threshold lowers the learning rates where the scheduler is `plateau`. Once the rates
    have decayed, such a gain ends the noise, which hides further gains, and after that it ends the run.
    """

    config: Config
    schedule: Schedule
    previous_db: float | None = None
    sum_db: float = 0.0
    count: int = 0

    def observe(self, iteration: int, psnr_db: float, n: int) -> str:
        """Add `n` iterations that end at `iteration` and whose mean PSNR is `psnr_db`.

        A segment ends where `iteration` is a multiple of config.early_stop_interval; call this at least there.
        Returns: "go on", "lowered" (the learning rates fall), "quiet" (the noise has ended) or "stop".
        """
        self.sum_db += psnr_db * n
        self.count += n
        config = self.config
        if iteration % config.early_stop_interval:
            return "go on"
        mean = self.sum_db / self.count
        gain = math.inf if self.previous_db is None else mean - self.previous_db
        self.previous_db, self.sum_db, self.count = mean, 0.0, 0
        if gain >= config.early_stop_psnr_threshold:
            return "go on"
        if self.schedule.decayed(iteration):
            if not config.early_stop:
                return "go on"
            if self.schedule.noise_strength(iteration) > 0:
                self.schedule.noise_ended = True
                return "quiet"
            return "stop"
        if config.lr_scheduler == "plateau":
            self.schedule.lower()
            return "lowered"
        return "go on"

    def state(self) -> dict[str, float | int | None]:
        """Everything that a resumed run needs."""
        return {"previous_db": self.previous_db, "sum_db": self.sum_db, "count": self.count}

    def load_state(self, state: dict) -> None:
        """The inverse of state()."""
        previous = state["previous_db"]
        self.previous_db = None if previous is None else float(previous)
        self.sum_db, self.count = float(state["sum_db"]), int(state["count"])
