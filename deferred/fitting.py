"""Options that were left to the program: they follow from the number and size of the frames, and from the device."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from deferred.model.renderer import Form
from deferred.options import TrainOptions, fields_of
from deferred.schedule import SPANS

# The original's, for 899 frames: 75 steps an epoch. A set counts as such with this many training frames: 899 less the
# seventh that is held out are 771.
ORIGINAL_FRAMES = 700
ORIGINAL_EPOCHS, ORIGINAL_BATCH, ORIGINAL_RATE, ORIGINAL_CROP = 50, 12, 1e-3, 256
EPOCH_STEPS = 75
STEPS = ORIGINAL_EPOCHS * EPOCH_STEPS
# Weight decay of the texture's levels, finest first. The original's keeps the finer ones near 0: where it was measured,
# on small sets, images are sharper and closer to the held-out ones without it (docs/deferred.md).
ORIGINAL_DECAY, NO_DECAY = "0.01,0.001,0.0001,0", "0,0,0,0"
LARGEST_TEXTURE, SMALLEST_TEXTURE = 1024, 64
WIDTH = 64
# On a CPU a step of the original's model takes half a minute. These train in minutes (docs/deferred.md).
CPU_STEPS = {"train": 1500, "train_texture": 1000, "train_unet": 1000}
CPU_WIDTH = 16
CPU_PIXELS = 2 * 256**2  # of a step
LEAST_BATCH = 4
CPU_LEAST_BATCH = 2
LARGEST_RATE = {"train": 1e-2, "train_texture": 2e-2, "train_unet": 1e-2}
TOLD = ("texturew", "textureh", "unet_width", "upsampling", "epoch", "batch", "cropw", "croph", "lr", "epoch_steps",
        "l2")
CHECKPOINTS = 4  # of a run of many short epochs; the original's has one per 50 epochs
EPOCHS_PER_CHECKPOINT = 50


@dataclass(frozen=True)
class Facts:
    """What the options follow from.

    frames: training frames; sizes: (height, width) of each; device: cpu or cuda.
    """

    frames: int
    sizes: Sequence[tuple[int, int]]
    device: str

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"

    @property
    def side(self) -> int:
        """The longer side of a frame, in pixels; the median."""
        return int(statistics.median_low(max(size) for size in self.sizes))

    @property
    def smallest(self) -> tuple[int, int]:
        return min(size[0] for size in self.sizes), min(size[1] for size in self.sizes)

    @property
    def original(self) -> bool:
        """Whether the set and the device are what the original's settings are for."""
        return self.frames >= ORIGINAL_FRAMES and not self.on_cpu


def fit(script: str, options: TrainOptions, facts: Facts, given: Form | None) -> tuple[TrainOptions, str]:
    """The options with a value for each that was left open, and as text for the terminal those and why; '' if there
    were none.

    Args:
        given: the form of the model of --load, if any: what it has is not chosen anew.
    """
    values = dataclasses.asdict(options)

    def choose(name: str, value: int | float | str) -> None:
        if values[name] in (None, "auto"):
            values[name] = value

    side = texture_side(facts.side)
    choose("texturew", given.texturew if given else side)
    choose("textureh", given.textureh if given else side)
    own = given if given and given.unet_width else None
    choose("unet_width", own.unet_width if own else CPU_WIDTH if facts.on_cpu else WIDTH)
    choose("upsampling", own.upsampling if own else "resize")
    choose("cropw", min(ORIGINAL_CROP, max(8, facts.smallest[1])))
    choose("croph", min(ORIGINAL_CROP, max(8, facts.smallest[0])))
    choose("batch", batch_of(facts, values["croph"] * values["cropw"]))
    per_epoch = -(-facts.frames // values["batch"])
    choose("epoch", ORIGINAL_EPOCHS if facts.original else -(-steps_of(script, facts) // per_epoch))
    steps = values["epoch"] * per_epoch
    choose("lr", ORIGINAL_RATE if facts.original else rate_of(script, steps))
    choose("epoch_steps", 0 if facts.original else max(1, round(steps / SPANS[script])))
    choose("l2", ORIGINAL_DECAY if facts.original else NO_DECAY)
    choose("epoch_per_checkpoint", max(EPOCHS_PER_CHECKPOINT, -(-values["epoch"] // CHECKPOINTS)))
    left = [name for name in fields_of(script) if getattr(options, name) in (None, "auto") and name in values]
    told = [name for name in left if name in TOLD]
    text = " ".join(f"--{name} {values[name]:g}" if name == "lr" else f"--{name} {values[name]}" for name in told)
    return TrainOptions(**values), text and f"{text}\n         ({_reason(told, steps, facts)})"


def _reason(chosen: Sequence[str], steps: int, facts: Facts) -> str:
    """Why the options of these names got their values, for a run of so many steps."""
    if facts.original:
        return f"as in the original, since there are {facts.frames} frames"
    parts = []
    if "epoch" in chosen:
        why = "in minutes on a CPU" if facts.on_cpu else f"the original's number, since {facts.frames} frames are few"
        parts.append(f"{steps} steps, {why}")
    if {"lr", "epoch_steps"} & set(chosen):
        parts.append(f"rates for {steps} steps")
    if "l2" in chosen:
        parts.append("no weight decay, which blurs small sets")
    if {"texturew", "textureh"} & set(chosen):
        parts.append(f"the texture by frames of {facts.side} pixels")
    if "unet_width" in chosen and facts.on_cpu:
        parts.append("a U-Net for a CPU")
    return "; ".join(parts) or "by the frames' size"


def texture_side(side: int) -> int:
    """Texels along a side for frames of `side` pixels: two for a pixel, as a power of two."""
    wanted = 2 ** math.ceil(math.log2(max(1, 2 * side)))
    return min(max(wanted, SMALLEST_TEXTURE), LARGEST_TEXTURE)


def batch_of(facts: Facts, crop_pixels: int) -> int:
    """Crops of a step: as many as leave EPOCH_STEPS steps to an epoch, but LEAST_BATCH and at most the original's; on
    a CPU no more than CPU_PIXELS allow."""
    if facts.original:
        return ORIGINAL_BATCH
    wanted = min(max(facts.frames // EPOCH_STEPS, LEAST_BATCH), ORIGINAL_BATCH)
    if facts.on_cpu:
        wanted = min(LEAST_BATCH, max(CPU_PIXELS // crop_pixels, CPU_LEAST_BATCH))
    return min(wanted, facts.frames)


def steps_of(script: str, facts: Facts) -> int:
    """Steps of a run: the original's, or what a CPU makes in minutes."""
    return CPU_STEPS[script] if facts.on_cpu else STEPS


def rate_of(script: str, steps: int) -> float:
    """The texture's rate for a run of so many steps."""
    return float(f"{min(LARGEST_RATE[script], 4 * ORIGINAL_RATE * STEPS / steps):.2g}")
