"""When a run has learned enough."""

from __future__ import annotations

import math
from dataclasses import dataclass

from configs import Config
from engine.schedule import Schedule


@dataclass
class EarlyStopping:
    """Compares the mean PSNR of one segment of iterations with that of the segment before.

    A gain below the threshold lowers the rates first where the scheduler is `plateau`. Once they have decayed it ends
    the noise, which would hide what is still to be gained, and when that no longer helps either, the run.
    """

    config: Config
    schedule: Schedule
    previous_db: float | None = None
    sum_db: float = 0.0
    count: int = 0

    def observe(self, iteration: int, psnr_db: float, n: int) -> str:
        """Take in `n` iterations of mean PSNR that end at `iteration`.

        Returns: "go on", "lowered" (the rates were), "quiet" (the noise has been ended) or "stop". A segment ends
            where `iteration` is a multiple of config.early_stop_interval; call it at least there.
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
