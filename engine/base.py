"""Base classes of the engines: settings that follow from the configuration, and the state of those with kernels."""

from __future__ import annotations

from pathlib import Path

import torch

from dataset import Material
from engine.adam_state import (
    MOMENTS,
    SWEEP_INTERVAL,
    Moments,
    Optimizer,
    Pending,
    check_adam_state,
    check_pending,
    optimizer_entries,
    up_to_date,
)
from engine.flat_weights import Flat
from engine.protocol import State
from engine.sample_loss import sample_loss
from engine.sampling import PROBE, TexelSampler, channel_loss_weights, learned_channels
from engine.schedule import Schedule
from model import NeuralTexture
from shape import resolve_grids

CALIBRATION_TEXELS = 8192


class BaseEngine:
    """Settings of a training run and its position; see engine.protocol.Engine for the interface.

    Args:
        model: its device is where the engine computes; its parameters are the starting point.
        material: the target.
        schedule: learning rates and noise by iteration.
    """

    def __init__(self, model: NeuralTexture, material: Material, schedule: Schedule):
        config, present = schedule.config, material.present_channels.tolist()
        self.model, self.schedule = model, schedule
        self.device = model.weights[0].device
        self.material = material.to(self.device)
        self.iteration = 0
        self.channels = learned_channels(model, material)
        self.columns = [present.index(channel) for channel in self.channels]  # of what Material.gather returns
        self.loss_weights = channel_loss_weights(material, config.texture_loss_weights, self.channels)
        self.sample_loss = sample_loss(material, self.channels)
        self.probe_share = len(self.channels) / len(present)  # constant channels have no error, but count in the mean
        grids = resolve_grids(config, material.width, material.height)
        self.rates = [config.learning_rate, *(grid.learning_rate for grid in grids)]  # before the schedule's factor
        self.moves = [rate > 0 for rate in self.rates[1:]]  # per grid; one of rate 0 has no moments, a state zeros
        self.calibrated = model.activation_bits == 32  # whether the ranges of activations are those of the end

    def learning_rates(self) -> dict[str, float]:
        """See Engine.learning_rates."""
        factor = self.schedule.factor(self.iteration)
        names = ["network", *(f"grid_{index}" for index in range(len(self.rates) - 1))]
        return {name: rate * factor for name, rate in zip(names, self.rates)}

    def calibrate(self) -> None:
        """Set the model's ranges of activations by what its parameters make of one fixed batch of texels."""
        config = self.schedule.config
        batch = min(config.batch_size, CALIBRATION_TEXELS)
        _, lod, uv = TexelSampler(self.material.lod_sizes, config.seed, batch, self.device).draw(PROBE)
        self.model.calibrate(uv, lod)

    def with_calibration(self, state: State) -> State:
        """A state with whether the ranges, which a checkpoint has beside the weights, stay as they are."""
        return state if self.model.activation_bits == 32 else {**state, "calibrated": self.calibrated}

    def load_calibration(self, state: State) -> None:
        """The inverse of with_calibration."""
        self.calibrated = self.model.activation_bits == 32 or bool(state.get("calibrated", False))


class KernelEngine(BaseEngine):
    """An engine whose kernels hold parameters and moments in memory of their own until sync().

    A subclass supplies `_step`, `_stored` and `_load_parameters`.

    Raises: ValueError when the model holds every channel as a constant.
    """

    def __init__(self, model: NeuralTexture, material: Material, schedule: Schedule):
        super().__init__(model, material, schedule)
        if not self.channels:
            raise ValueError("every channel is a constant: there is nothing to train")

    def step(self, n: int) -> float:
        """See Engine.step."""
        n_float = sum(not self.schedule.rounds_weights(i) for i in range(self.iteration, self.iteration + n))
        if n_float:  # they come first
            self.calibrated = self.model.activation_bits == 32
        if self.calibrated or n_float == n:
            return self._step(n)
        before = self._step(n_float) * n_float if n_float else 0.0
        self.sync()  # which calibrates
        self.calibrated = True
        return (before + self._step(n - n_float) * (n - n_float)) / n

    def _step(self, n: int) -> float:
        """Engine.step for iterations that all have the same kind of activations."""
        raise NotImplementedError

    def state(self) -> State:
        """Iteration and optimiser on the CPU, in the layout of torch.optim.Adam.

        Between two sweeps some texels have not followed Adam yet (engine/cpu/src/adam.h), and their moments are as old
        as they are. Then `pending` holds per grid what a resumed run needs to continue with the same bits: the stored
        parameters, the iteration that each texel is at, and the distance that texels of each age still have to move.
        """
        if self.iteration == 0:
            return self.with_calibration({"iteration": 0, "optimizer": {}})
        if self.iteration % SWEEP_INTERVAL == 0:
            return self.settled_state()
        moments, pending = self._stored()
        state = {"iteration": self.iteration, "optimizer": optimizer_entries(self.iteration, moments)}
        if pending:
            state["pending"] = pending
        return self.with_calibration(state)

    def settled_state(self) -> State:
        """See Engine.settled_state."""
        moments, pending = self._stored()
        state = {"iteration": self.iteration, "optimizer": optimizer_entries(self.iteration, moments)}
        optimizer = up_to_date({**state, "pending": pending} if pending else state, self.model)
        return self.with_calibration({"iteration": self.iteration, "optimizer": optimizer})

    def retire(self, folder: Path | None = None) -> State:
        """settled_state(), after which the engine has only its model and its settings: the kernels' memory is free.

        Args:
            folder: for a file of large moments, see RestingFloats.
        """
        return self.settled_state()

    def load_state(self, state: State) -> None:
        """The inverse of state(), also of the other engines'. Raises: ValueError for another layout."""
        optimizer, pending, iteration = state["optimizer"], state.get("pending"), int(state["iteration"])
        check_adam_state(optimizer, [*self.model.weights, *self.model.grid_parameters])
        if pending is not None:
            check_pending(pending, self.model, iteration, SWEEP_INTERVAL)
        self.iteration = iteration
        self.load_calibration(state)
        self._load_parameters(optimizer, pending)

    def network_moments(self, optimizer: Optimizer | None) -> list[Flat] | None:
        """Both moments of the network, each flat as flat_weights() has the weights; None without an optimiser state."""
        layers = range(len(self.model.weights))
        if not optimizer:
            return None
        return [torch.cat([optimizer[layer][name].reshape(-1).float() for layer in layers]) for name in MOMENTS]

    def _stored(self) -> tuple[list[Moments], list[Pending]]:
        """Both moments of each weight matrix and grid, and what is pending per grid (empty: nothing)."""
        raise NotImplementedError

    def _load_parameters(self, optimizer: Optimizer | None = None, pending: list[Pending] | None = None) -> None:
        """Hand the model's parameters, or the pending ones, to the kernels, with these moments (zeros without)."""
        raise NotImplementedError
