"""Reads batches while earlier ones are computed with."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np

from deferred.dataset.crops import Batch, plan_epoch
from deferred.dataset.frames import FrameSet

AHEAD = 2  # batches for each thread: one in work and one waiting


@dataclass(frozen=True)
class ReadBatch:
    """A step's frames and crops; state: of the generator after the step's random numbers."""

    numbers: list[int]
    batch: Batch
    state: dict[str, Any]


def read_batches(
    frames: FrameSet, order: Sequence[int], batch: int, crop: tuple[int, int], random: np.random.Generator,
    scaled: bool, workers: int,
) -> Iterator[ReadBatch]:  # fmt: skip
    """The batches of an epoch, or of its rest, in order.

    They are the same for any number of workers: random numbers are drawn in the order of the steps before anything is
    read, and `random` itself does not move. Decoders and numpy leave Python's lock to others, so that threads do.
    Close the iterator to end the threads; each ends with the frame that it is at.

    Args:
        order: frames; a step takes the next `batch` of them.
        workers: threads that read ahead; 0: each batch is read when it is asked for.
    Raises: UserError in the step whose frame is bad.
    """
    plans = plan_epoch(frames.sizes, order, batch, crop, random, scaled)
    if workers == 0:
        for plan, state in plans:
            yield ReadBatch(plan.numbers, plan.read(frames), state)
        return
    stop, pool = Event(), ThreadPoolExecutor(workers)
    started = ((plan, state, pool.submit(plan.read, frames, stop)) for plan, state in plans)
    try:
        waiting = deque(itertools.islice(started, AHEAD * workers))
        while waiting:
            plan, state, future = waiting.popleft()
            found = future.result()
            waiting.extend(itertools.islice(started, 1))
            yield ReadBatch(plan.numbers, found, state)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
