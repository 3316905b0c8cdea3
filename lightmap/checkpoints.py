"""best.ckpt and last.ckpt: the model of a day, and in last.ckpt the state to resume training."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError, brief, quote
from common.files import atomic_write, parse_json
from common.safe_load import read_payload
from lightmap.compressor import Compressor, Shape, shape_from
from lightmap.data import Day, Encoding, encoding_of
from lightmap.options import KEPT

BEST, LAST = "best.ckpt", "last.ckpt"
VERSION = 1


@dataclass
class Loaded:
    """A checkpoint that has been read and checked.

    training: optimiser and random state, which only resuming needs; None in best.ckpt.
    """

    model: Compressor
    config: dict[str, Any]
    day: dict[str, Any]
    epoch: int
    step: int
    held_out_db: float
    seconds: float
    training: dict[str, Any] | None

    @property
    def encoding(self) -> Encoding:
        return Encoding(**self.day["encoding"])


@dataclass(frozen=True)
class Begun:
    """A run that can go on: last.ckpt, which has its state, and best.ckpt.

    path: of last.ckpt, for errors.
    """

    path: Path
    last: Loaded
    best: Loaded

    def check(self, day: Day, latent_mode: str) -> None:
        """Raises: UserError if the run began with other frames than those of `day`, or its parts are of others."""
        if self.last.day != describe_day(day):
            raise UserError(f"{quote(self.path)}: expected the frames that the run began with, found others (size, "
                            "count, depth or range); give the same --data_dir")  # fmt: skip
        for shape in (self.last.model.shape, self.best.model.shape):
            frames = day.n_frames if latent_mode == "basis" else shape.frames
            if shape != self.last.model.shape or (shape.latent_mode, shape.height, shape.width, shape.frames) != (
                latent_mode, day.height, day.width, frames,
            ):  # fmt: skip
                raise UserError(f"{quote(self.path)}: not the state of this run (another model); train again")


def describe_day(day: Day) -> dict[str, Any]:
    """Size, count, depth and encoding of the frames: what a checkpoint holds of them, JSON-ready."""
    return {
        "height": day.height, "width": day.width, "frames": day.n_frames, "bits": day.bits,
        "encoding": dataclasses.asdict(day.encoding),
    }  # fmt: skip


def save(
    path: Path, shape: Shape, state: Mapping[str, torch.Tensor], config: Mapping[str, Any], day: Mapping[str, Any],
    *, epoch: int, step: int, held_out_db: float, seconds: float, training: Mapping[str, Any] | None,
) -> None:  # fmt: skip
    """Write a checkpoint atomically. config: the options of the run; training: see Loaded."""
    payload = {
        "version": VERSION,
        "model": {name: value.detach().cpu().clone() for name, value in state.items()},
        "shape": json.dumps(dataclasses.asdict(shape)),
        "config": json.dumps(dict(config)),
        "day": json.dumps(dict(day)),
        "image_size": [shape.height, shape.width],
        "time_feat_dim": 2 * shape.time_harmonics,
        "epoch": epoch, "step": step, "held_out_db": held_out_db, "seconds": seconds,
        "training": training,
    }  # fmt: skip
    with atomic_write(path) as stream:
        torch.save(payload, stream)


def load(path: str | Path) -> Loaded:
    """Read a checkpoint; nothing in it is executed. Raises: UserError for a missing, damaged or other file."""
    path = Path(path)
    payload = read_payload(path)
    found = payload.get("version") if isinstance(payload, dict) else type(payload).__name__
    if type(found) is not int or found != VERSION or "time_feat_dim" not in payload:
        raise UserError(f"{quote(path)}: expected a checkpoint of lightmap/train.py, version {VERSION}; found another "
                        f"file ({brief(found, 40)}); give best.ckpt or last.ckpt of a run")  # fmt: skip
    try:
        model = _restore(shape_from(parse_json(payload["shape"])), payload["model"])
        config = {name: value for name, value in parse_json(payload["config"]).items() if name in KEPT}
        day = parse_json(payload["day"])
        encoding_of(day)
        numbers = [payload[name] for name in ("epoch", "step", "held_out_db", "seconds")]
        if not all(type(number) in (int, float) for number in numbers):
            raise ValueError("numbers of another kind")
        return Loaded(model, config, day, *numbers, payload["training"])
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{quote(path)}: a checkpoint of another layout ({' '.join(str(error).split()):.160}); train again"
        ) from error


def load_run(folder: Path) -> Begun:
    """The run in a folder. Raises: UserError."""
    path = folder / LAST
    last, best = load(path), load(folder / BEST)
    if last.training is None:
        raise UserError(f"{quote(path)}: expected the state of a training run, found only a model; train again")
    return Begun(path, last, best)


def _restore(shape: Shape, state: Mapping[str, torch.Tensor]) -> Compressor:
    """The model of a state dict. A learned grid's size is checked before memory is allocated."""
    height, width = shape.latent_size
    if shape.latent_mode != "f1" and tuple(state["grid"].shape) != (height * width, shape.latent_dim):
        raise ValueError(f"a grid of {tuple(state['grid'].shape)} for {width}x{height} latent texels")
    model = Compressor(shape)
    model.load_state_dict(dict(state))
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise ValueError("weights that are not finite")
    return model.eval()
