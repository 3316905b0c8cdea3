"""best.pt of a run: the model, without the optimiser's state, of the epoch with the best PSNR of held-out views."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deferred import checkpoints
from deferred.model.renderer import NeuralRenderer

WRITE_SECONDS = 30.0  # from one writing to the next; between them the model is kept in memory


def best_entry(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The entry of the epoch with the best PSNR, the first of equal ones; None without held-out views."""
    scored = [entry for entry in history if entry["psnr"] is not None]
    return max(scored, key=lambda entry: entry["psnr"], default=None)


class BestModel:
    """Keeps the best model of a run in best.pt.

    Epochs can be shorter than it takes to write a model, so that not each better one is written at once. Who writes
    another checkpoint calls `write` first: what a run resumes from is never ahead of best.pt.
    """

    def __init__(self, run: Path, script: str, config: Mapping[str, Any]):
        self.path, self.script, self.config = run / checkpoints.BEST, script, config
        self._waiting: tuple[NeuralRenderer, dict[str, int]] | None = None
        self._written = -WRITE_SECONDS

    def offer(self, model: NeuralRenderer, history: Sequence[Mapping[str, Any]], step: int) -> None:
        """Take the model if the last entry of `history` is the best one."""
        entry = best_entry(history)
        if entry is None or entry is not history[-1]:
            return
        counts = {"epoch": entry["epoch"], "step": step, "images": entry["images"]}
        self._waiting = (copy.deepcopy(model).cpu(), counts)
        if time.monotonic() - self._written >= WRITE_SECONDS:
            self.write()

    def write(self) -> None:
        """Write what has been kept since the last time."""
        if self._waiting is not None:
            model, counts = self._waiting
            checkpoints.save(self.path, self.script, model, self.config, **counts, training={})
            self._waiting, self._written = None, time.monotonic()
