"""--target_psnr: the smallest form of a day that ends at so many dB, found by short runs before the whole one."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from common.errors import Say
from lightmap.basis import SizeChoice
from lightmap.data import Day
from lightmap.options import TrainOptions
from lightmap.shape import Shape
from lightmap.trainer import Trainer, steps_of
from metrics.scores import psnr_of

TRIALS, RUNS = 3, 3  # at most
TRIAL_SHARE = 1 / 8  # of the steps of a run
LATER = 1.3  # what the steps of a run add in all, to what those of a trial add; measured, 1.0 to 1.6
TRIAL_TEXELS = 1 << 16  # of a larger day, strips of rows with about so many
STRIP = 64  # rows of a strip, at least; as many as a latent of the coarsest map covers
AIM = 0.3  # dB above the target that the first whole run is to end at
BELOW, ABOVE = 0.2, 1.0  # dB around the target that need no other run
MOST_GROWTH = 2.0  # of trials' gains, after a run has shown what they are worth


class TargetSearch:
    """Looks for the shape of a day, in latent mode basis.

    What training adds to PCA is taken from runs of other sizes, and interpolated between them: first from short ones,
    on a part of a large day, then from whole ones.
    """

    def __init__(self, options: TrainOptions, day: Day, device: torch.device, say: Say = print):
        self.options, self.day, self.device, self.say = options, day, device, say
        self.target = options.target_psnr
        self.sizes = SizeChoice(options, day)
        self.front = self.sizes.front()  # (bytes, channels, scale), each better than those before
        self.pca = [psnr_of(self.sizes.error(scale, channels)) for _, channels, scale in self.front]
        self.gains: dict[int, float] = {}  # number in `front` -> dB over PCA
        self.runs: dict[int, Trainer] = {}

    def expected(self, number: int) -> float:
        """The dB that a form of `front` ends at."""
        known = sorted(self.gains)
        return self.pca[number] + float(np.interp(number, known, [self.gains[n] for n in known]))

    def wanted(self, above: float = AIM) -> int:
        """The number of the smallest form that is expected to end so far above the target; else of the best one."""
        good = (n for n in range(len(self.front)) if self.expected(n) >= self.target + above)
        return next(good, len(self.front) - 1)

    def first(self) -> Trainer:
        """A trainer of the form that short runs find."""
        part = part_of(self.day)
        sizes = self.sizes if part is self.day else SizeChoice(self.options, part)
        self.say(f"target   {self.target:g} dB: short runs at up to {TRIALS} sizes, then a whole one, and up to "
                 f"{RUNS - 1} more where it misses")  # fmt: skip
        self.gains = {0: 2.0}  # a guess
        number = self.wanted()
        self.gains = {}
        for _ in range(TRIALS):
            self.gains[number] = self._trial(number, part, sizes)
            self.say(f"  {self._named(number)}: about {self.expected(number):.1f} dB")
            number = self.wanted()
            if number in self.gains:
                break
        if self.expected(number) < self.target:
            self.say(f"note: --target_psnr {self.target:g}: {self._named(number)}, the best there are, end at about "
                     f"{self.expected(number):.1f} dB")  # fmt: skip
        return self._trainer(number)

    def again(self, done: Trainer) -> Trainer | None:
        """A trainer for another whole run after one that missed the target; None where that is of no use."""
        number = next(n for n, trainer in self.runs.items() if trainer is done)
        missed = done.best_db - self.target
        grown = (done.best_db - self.pca[number]) / max(self.expected(number) - self.pca[number], 0.1)
        grown = min(max(grown, 1 / MOST_GROWTH), MOST_GROWTH)
        self.gains = {n: gain if n in self.runs else gain * grown for n, gain in self.gains.items()}
        self.gains[number] = done.best_db - self.pca[number]
        following = self.wanted(0)
        if -BELOW <= missed <= ABOVE or len(self.runs) == RUNS or following in self.runs:
            return None
        self.say(f"target   {self._named(number)} end at {done.best_db:.2f} dB; {self._named(following)} are tried")
        return self._trainer(following)

    def best(self) -> Trainer:
        """Of the whole runs the smallest that reached the target; else the one that came closest."""
        good = [n for n, trainer in self.runs.items() if trainer.best_db >= self.target - BELOW]
        return self.runs[min(good) if good else max(self.runs, key=lambda n: self.runs[n].best_db)]

    def _named(self, number: int) -> str:
        n_bytes, channels, scale = self.front[number]
        return f"{channels} channels at 1/{scale} of the size ({n_bytes} bytes)"

    def _shape(self, number: int) -> Shape:
        _, channels, scale = self.front[number]
        return self.sizes.shape(channels, scale)

    def _trainer(self, number: int) -> Trainer:
        self.runs[number] = Trainer(self.options, self.day, self.device, self.say, shape=self._shape(number))
        return self.runs[number]

    def _trial(self, number: int, part: Day, sizes: SizeChoice) -> float:
        """The dB that training is expected to add to PCA, from a short run on a part of the day."""
        steps = max(1, round(steps_of(self.options, self.day) * TRIAL_SHARE))
        short = dataclasses.replace(self.options, epochs=1, samples_per_epoch=steps * self.options.batch_size)
        trainer = Trainer(short, part, self.device, lambda _: None, shape=self._shape(number))
        start = trainer.best_db
        with tempfile.TemporaryDirectory() as folder:
            trainer.train(Path(folder), quiet=True)
        _, channels, scale = self.front[number]
        return start - psnr_of(sizes.error(scale, channels)) + LATER * (trainer.best_db - start)


def part_of(day: Day) -> Day:
    """The day; of a large one with a mask that leaves strips of rows, evenly spread, of about TRIAL_TEXELS texels."""
    share = TRIAL_TEXELS / day.texels
    if share >= 0.75:
        return day
    strip = max(STRIP, -(-day.height // STRIP))
    rows = torch.zeros(day.height, dtype=torch.bool)
    for top in _tops(day.height, strip, share):
        rows[top : top + strip] = True
    mask = day.mask & rows.repeat_interleave(day.width)
    return dataclasses.replace(day, mask=mask) if mask.any() else day


def _tops(height: int, strip: int, share: float) -> Iterator[int]:
    """First rows of strips of so many rows that fill a share of the height."""
    count = max(1, round(height * share / strip))
    return (int((index + 0.5) * height / count - strip / 2) for index in range(count))
