"""When learning rates fall, how noise anneals, and when a run has learned enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from configs import Config


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


DECAYED_FACTOR = 0.05  # a rate this far down has decayed: what is left to gain is below the threshold that stops a run
