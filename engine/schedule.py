"""How learning rates fall, training noise anneals and the rounding of weights begins over a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from configs import Config

DECAYED_FACTOR = 0.05  # rates this low bring less than the gain below which an early stop ends a run


@dataclass
class Schedule:
    """Learning-rate factor and noise strength as functions of the iteration.

    Args:
        plateau_factor: upper limit of the factor with --lr_scheduler plateau; early stopping lowers it.
        noise_ended: early stopping has ended the noise before it annealed to 0.
    """

    config: Config
    plateau_factor: float = 1.0
    noise_ended: bool = False

    def factor(self, iteration: int) -> float:
        """Multiplier of every learning rate at `iteration`, from 1 down to config.lr_floor."""
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
        # the polynomial limits plateau, too: in a run whose PSNR never gets flat, rates would stay high to the end
        return min(poly, self.plateau_factor)

    def noise_strength(self, iteration: int) -> float:
        """Noise amplitude at `iteration` in units of half a quantisation step, falling linearly to 0."""
        config = self.config
        annealed_at = config.noise_anneal_fraction * config.max_iter
        if not config.quantize or self.noise_ended or iteration >= annealed_at:
            return 0.0
        return config.noise_std * (1 - iteration / annealed_at)

    def rounds_weights(self, iteration: int) -> bool:
        """Whether an iteration trains the network with weights rounded as they are exported; it does so from
        weight_round_start on, or once an early stop has begun to end the run."""
        return self.noise_ended or iteration >= self.config.weight_round_start * self.config.max_iter

    def lower(self) -> None:
        """Lower `plateau_factor` by lr_decay_factor, to the floor at most.

        A product that rounding leaves just above the floor, such as 0.1 * 0.1 above 0.01, counts as the floor.
        """
        lowered, floor = self.plateau_factor * self.config.lr_decay_factor, self.config.lr_floor
        self.plateau_factor = lowered if lowered > floor * 1.000001 else floor

    def decayed(self, iteration: int) -> bool:
        """Whether the rates are so low that an early stop may end the run: plateau at its floor, others below 0.05."""
        if self.config.lr_scheduler == "plateau":
            return self.plateau_factor <= self.config.lr_floor
        return self.factor(iteration) <= max(self.config.lr_floor, DECAYED_FACTOR)

    def state(self) -> dict[str, float | bool]:
        """What a checkpoint keeps of the schedule; the rest follows from the configuration."""
        return {"plateau_factor": self.plateau_factor, "noise_ended": self.noise_ended}

    def load_state(self, state: dict) -> None:
        """The inverse of state()."""
        self.plateau_factor, self.noise_ended = float(state["plateau_factor"]), bool(state["noise_ended"])
