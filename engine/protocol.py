"""The interface that every engine offers to a run (design.md, section 7)."""

from __future__ import annotations

from typing import Any, Protocol

State = dict[str, Any]  # tensors and plain values, as a checkpoint holds them


class Engine(Protocol):
    """Trains a NeuralTexture on a Material."""

    name: str  # the value of --engine
    chunk: int  # most iterations per step() that keep a run responsive: about a second of work
    channels: list[int]  # canonical channels that are trained, ascending; empty when the material is constant
    iteration: int  # iterations done so far

    def step(self, n: int) -> float:
        """Run `n` iterations; returns their mean loss, training noise included."""

    def probe(self) -> float:
        """Mean squared error over the material's present channels at one fixed batch of texels, without noise.

        Channels that the model holds as constants count as exact. Unlike the loss it can be compared across a run: the
        loss falls while the noise is annealed whether or not anything is learned, and its samples change.
        """

    def learning_rates(self) -> dict[str, float]:
        """Current rates under the names of the log: `network`, `grid_0`, `grid_1`, ..."""

    def sync(self) -> None:
        """Copy the trained parameters into the model; an engine may hold them elsewhere between two calls."""

    def state(self) -> State:
        """Iteration and optimiser state, in one layout for all engines (engine/adam_state.py)."""

    def settled_state(self) -> State:
        """state() after sync() without anything pending, so that with load_state() an engine goes on from what the
        model's parameters are by then: every texel has followed Adam up to the iteration."""

    def load_state(self, state: State) -> None:
        """The inverse of state(), also of another engine's. Raises: ValueError, KeyError or TypeError if damaged."""
