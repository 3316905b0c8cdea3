"""Engines against each other: contestants that take turns in one process, so that a busy machine slows all alike."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from bench.common import median_ratio
from bench.devices import Device
from common.errors import one_line
from configs import make_config
from dataset import Material
from engine.adam_state import SWEEP_INTERVAL
from engine.create import create_engine
from engine.schedule import Schedule
from model import build_model

SETTINGS = {"max_iter": 1_000_000}  # so long that rates and noise do not change while we measure
NETWORKS = {"2x64": {"n_hidden_layers": 2, "n_neurons": 64}, "1x16": {"n_hidden_layers": 1, "n_neurons": 16}}
FIRST_ITERATIONS = 3  # their loss shows that all engines compute the same
LOSS_TOLERANCE = 0.01
# Iterations; PyTorch gives up after 8 compilations, not later.
WARM_UP = {"torch": 3, "compiled": 12, "cpu": 128, "cuda": 64, "tcnn": 12}
PAUSE_S = 0.02  # between turns: PyTorch's threads spin for a moment after their work
HERE = Device(torch.device("cpu"))


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long a measurement takes."""

    rounds: int
    turns: int  # of everybody, per round
    iterations: dict[str, int] = dataclasses.field(default_factory=dict)  # per turn
    peak_s: float = 0.1  # per turn
    turn_s: float = 0.0  # per turn, of an engine that `iterations` does not have

    def of(self, contestant: Contestant) -> int:
        """Iterations of a turn of this engine."""
        return self.iterations.get(contestant.name) or contestant.iterations_in(self.turn_s)

    @classmethod
    def quick(cls) -> Effort:
        return cls(rounds=5, turns=1, iterations={"torch": 8, "cpu": 60})

    @classmethod
    def full(cls, torch_iterations: int = 8) -> Effort:
        turns = 4
        per_turn = SWEEP_INTERVAL // turns
        return cls(5, turns, {"torch": torch_iterations, "compiled": torch_iterations, "cpu": per_turn})


# --- turns ---------------------------------------------------------------------------------------------------------


class Contestant:
    """An engine, warmed up, and the milliseconds per iteration of its rounds.

    Args:
        engine: one of configs.ENGINES, or compiled: torch with torch.compile.
        settings: beside SETTINGS.
        labels: columns of its row that say what it is.
    Raises: UserError where the engine does not work here, and whatever a compiler can run into.
    """

    def __init__(
        self, engine: str, material: Material, settings: dict[str, Any], device: Device = HERE, **labels: Any
    ):
        self.name, self.material, self.device = engine, material, device
        name = "torch" if engine == "compiled" else engine
        config = make_config({**SETTINGS, "device": str(device.where), **settings, "engine": name})
        model = build_model(config, material.width, material.height, material.present_channels.tolist())
        self.model = model.to(device.where)
        if engine == "compiled":  # fullgraph: an error instead of PyTorch's silent return to what it would not compile
            self.model.forward = torch.compile(self.model.forward, fullgraph=True)
        self.engine = create_engine(self.model, material, Schedule(config), device.where)
        self.batch_size = config.batch_size
        self.threads = self.engine.n_threads if engine == "cpu" else torch.get_num_threads()
        self.labels = labels
        self.milliseconds: list[float] = []
        self.iterations = 0  # per round
        self.loss = self.engine.step(FIRST_ITERATIONS)
        self.engine.step(max(WARM_UP[engine] - FIRST_ITERATIONS, 1))

    def turn(self, iterations: int) -> float:
        """Seconds of so many iterations."""
        self.device.synchronize()
        started = time.perf_counter()
        self.engine.step(iterations)
        self.device.synchronize()
        return time.perf_counter() - started

    def iterations_in(self, seconds: float) -> int:
        """How many iterations fill so many seconds, by trying more and more; 1 at least."""
        n, spent = 1, self.turn(1)
        while spent < seconds / 4:
            n *= 2
            spent = self.turn(n)
        return max(1, math.ceil(n * seconds / spent))

    def row(self, reference: Contestant | None = None) -> dict[str, Any]:
        """The figures; `speedup` is over `reference`, a contestant of the same rounds."""
        milliseconds = statistics.median(self.milliseconds)
        return {
            **self.labels,
            "width": self.material.width,
            "height": self.material.height,
            "engine": self.name,
            "threads": self.threads,
            "batch_size": self.batch_size,
            "rounds": len(self.milliseconds),
            "iterations": self.iterations,
            "milliseconds": milliseconds,
            "fastest": min(self.milliseconds),
            "slowest": max(self.milliseconds),
            "samples_per_second": self.batch_size / milliseconds * 1000,
            "speedup": median_ratio(reference.milliseconds, self.milliseconds) if reference else None,
        }


def race(contestants: Sequence[Contestant], effort: Effort, peak: Callable[[], float] | None = None) -> list[float]:
    """Let everybody have turns. Returns: the mean of what `peak` says in each round."""
    peaks = []
    per_turn = [effort.of(contestant) for contestant in contestants]
    for _ in range(effort.rounds):
        seconds, found = [0.0] * len(contestants), []
        for _ in range(effort.turns):
            for index, contestant in enumerate(contestants):
                seconds[index] += contestant.turn(per_turn[index])
                time.sleep(PAUSE_S)
            if peak:
                found.append(peak())
        for contestant, total, n in zip(contestants, seconds, per_turn):
            contestant.iterations = effort.turns * n
            contestant.milliseconds.append(total / contestant.iterations * 1000)
        if peak:
            peaks.append(statistics.mean(found))
    return peaks


def check_same_work(contestants: Sequence[Contestant]) -> None:
    """Raise RuntimeError unless the first losses agree: engines that do something else must not be compared."""
    expected = contestants[0].loss
    for contestant in contestants:
        if abs(contestant.loss - expected) > LOSS_TOLERANCE * expected:
            raise RuntimeError(f"{contestant.name}: loss {contestant.loss} where {contestants[0].name} has {expected}")


def first_line(error: BaseException) -> str:
    """An error of any kind in one line."""
    lines = str(error).strip().splitlines() or [""]
    return one_line(f"{type(error).__name__}: {lines[0]}")[:200]
