"""When learning rates fall, how noise anneals, and when a run has learned enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from configs import Config

DECAYED_FACTOR = 0.05  # a rate this far down has decayed: what is left to gain is below the threshold that stops a run


@dataclass
class Schedule:
    """Learning-rate factor and noise strength as functions of the iteration.

    Both depend on the iteration alone but for what early stopping decides: `plateau_factor`, and whether the noise
    has been ended ahead of its time.
    """

    config: Config
    plateau_factor: float = 1.0
    noise_ended: bool = False

    def factor(self, iteration: int) -> float:
        """What every learning rate is multiplied with at `iteration`, from 1 down to config.lr_floor."""
        config = self.config
        floor = config.lr_floor
        progress = min(iteration / config.max_iter, 1.0)
        if config.lr_scheduler == "steplr":
            step = config.lr_step_size or max(1, math.ceil(config.max_iter / 10))
            return max(config.lr_decay_factor ** (iteration // step), floor)
        start = config.lr_decay_start
        decay = 0.0 if progress <= start else (progress - start) / (1 - start)
        if config.lr_scheduler == "cosine":
            return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * decay))
        poly = floor + (1 - floor) * (1 - decay) ** config.lr_decay_power
        # plateau: a run whose PSNR never got flat before max_iter would end on rates that are still high
        return min(poly, self.plateau_factor)

    def named_rates(self, rates: Sequence[float], iteration: int) -> dict[str, float]:
        """Learning rates at `iteration` under the names of the log; `rates`: of the network and of each grid, as
        configured."""
        factor = self.factor(iteration)
        names = ["network"] + [f"grid_{index}" for index in range(len(rates) - 1)]
        return {name: rate * factor for name, rate in zip(names, rates)}

    def noise_strength(self, iteration: int) -> float:
        """Noise amplitude in units of half a quantisation step, falling linearly to 0."""
        config = self.config
        annealed_at = config.noise_anneal_fraction * config.max_iter
        if not config.quantize or self.noise_ended or iteration >= annealed_at:
            return 0.0
        return config.noise_std * (1 - iteration / annealed_at)

    def lower(self) -> None:
        """Take the next step down (plateau). A step that ends a hair above the floor, as 0.1 * 0.1 does, is at it."""
        lowered, floor = self.plateau_factor * self.config.lr_decay_factor, self.config.lr_floor
        self.plateau_factor = lowered if lowered > floor * 1.000001 else floor

    def decayed(self, iteration: int) -> bool:
        """Whether the rates have nothing left to give: plateau at its floor, the others nearly so."""
        if self.config.lr_scheduler == "plateau":
            return self.plateau_factor <= self.config.lr_floor
        return self.factor(iteration) <= max(self.config.lr_floor, DECAYED_FACTOR)


    def state(self) -> dict[str, float | bool]:
        """Everything that a resumed run needs."""
        return {"plateau_factor": self.plateau_factor, "noise_ended": self.noise_ended}

    def load_state(self, state: dict) -> None:
        """The inverse of state()."""
        self.plateau_factor, self.noise_ended = float(state["plateau_factor"]), bool(state["noise_ended"])


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
