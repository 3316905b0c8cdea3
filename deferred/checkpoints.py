"""Run folders and checkpoints: a model to render with, and the state to resume training."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError, brief, quote, shell_quote
from common.files import atomic_write, parse_json
from common.knobs import check_value
from common.safe_load import read_payload
from deferred.model.renderer import Form, NeuralRenderer, restore
from deferred.options import SCRIPTS, fields_of, make_options

VERSION = 1
KIND = "deferred"
INTERRUPTED = "interrupted.pt"  # written between epoch checkpoints; deleted when the next of them is written
BEST = "best.pt"  # the model alone, see best.py
CONFIG = "config.json"  # of a run folder
_EPOCH = re.compile(r"epoch_(\d+)\.pt")


@dataclass
class Loaded:
    """A checkpoint that has been read and checked.

    script: the command that wrote it; config: its options; epoch, step, images: progress so far;
    training: optimiser, random states and the frames left in the epoch, for resuming.
    """

    path: Path
    script: str
    model: NeuralRenderer
    config: dict[str, Any]
    epoch: int
    step: int
    images: int
    training: dict[str, Any]


def epoch_file(epoch: int) -> str:
    """The name of an epoch's checkpoint."""
    return f"epoch_{epoch}.pt"


def newest_checkpoint(run: Path) -> Path | None:
    """The last checkpoint of a run; None if it has none."""
    if (run / INTERRUPTED).is_file():
        return run / INTERRUPTED
    found = {int(match[1]): path for path in run.glob("epoch_*.pt") if (match := _EPOCH.fullmatch(path.name))}
    return found[max(found)] if found else None


def model_of(run: Path) -> Path | None:
    """The checkpoint to render a run with: that of its best epoch, else the last one; None if it has none."""
    return run / BEST if (run / BEST).is_file() else newest_checkpoint(run)


def newest_run(parent: Path, scripts: Collection[str]) -> Path:
    """The newest run in a folder that one of these commands made. Raises: UserError if there is none."""
    runs = [path.parent for path in parent.glob(f"*/{CONFIG}") if model_of(path.parent) is not None]
    for run in sorted(runs, key=lambda run: (newest_checkpoint(run) or model_of(run)).stat().st_mtime, reverse=True):
        if _script_of(run) in scripts:
            return run
    names = " or ".join(f"{script}.py" for script in scripts)
    raise UserError(f"--checkpoint {quote(parent)}: expected a run of {names} in it, found none; train one, or name a "
                    "checkpoint with --load")  # fmt: skip


def _script_of(run: Path) -> str:
    try:
        return parse_json((run / CONFIG).read_text(encoding="utf-8"))["script"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def find_checkpoint(given: str, parent: Path, scripts: Collection[str], to_resume: bool = False) -> Path:
    """The file behind --load or --resume: a file or a run folder, as it is or below `parent`; '' is the newest run.

    Of a run it is the one of the best epoch (see model_of), or the last if `to_resume`. Raises: UserError.
    """
    of_run = newest_checkpoint if to_resume else model_of
    places = [Path(given), parent / given] if given else [newest_run(parent, scripts)]
    for path in places:
        if path.is_file():
            return path
        if (path / CONFIG).is_file() or model_of(path) is not None:
            if (found := of_run(path)) is None:
                raise _nothing_to_take(path)
            return found
    runs = sorted(path.parent.name for path in parent.glob(f"*/{CONFIG}"))[-3:]
    hint = f"{quote(parent)} has {', '.join(runs)}" if runs else f"{quote(parent)} has no runs"
    raise UserError(f"{quote(given)}: expected a checkpoint or the folder of a run, as it is or in {quote(parent)}; "
                    f"found none ({hint})")  # fmt: skip


def _nothing_to_take(run: Path) -> UserError:
    """What to say of a run without the checkpoint that is asked for."""
    if model_of(run) is None:
        return UserError(f"{quote(run)}: expected a checkpoint in the run's folder, found none; it was stopped before "
                         "its first one, or they were deleted: train again, or name another run")  # fmt: skip
    return UserError(f"--resume {quote(run)}: expected a checkpoint with the optimiser's state (epoch_<n>.pt or "
                     f"{INTERRUPTED}), found {BEST} alone, the model of its best epoch; begin a run from that with "
                     f"--load {shell_quote(str(run))}, or render it")  # fmt: skip


def save(
    path: Path, script: str, model: NeuralRenderer, config: Mapping[str, Any],
    *, epoch: int, step: int, images: int, training: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write a checkpoint atomically. `training`: see Loaded."""
    payload = {
        "version": VERSION,
        "kind": KIND,
        "script": script,
        "form": json.dumps(dataclasses.asdict(model.form)),
        "config": json.dumps(dict(config)),
        "epoch": epoch, "step": step, "images": images,
        "model": {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()},
        "training": dict(training),
    }  # fmt: skip
    with atomic_write(path) as stream:
        torch.save(payload, stream)


def load(path: Path) -> Loaded:
    """Read a checkpoint; nothing in it is executed. Raises: UserError when it is missing, damaged or another file."""
    payload = read_payload(path)
    kind = payload.get("kind") if isinstance(payload, dict) else type(payload).__name__
    if kind != KIND or payload.get("version") != VERSION:
        raise UserError(f"{quote(path)}: expected a checkpoint of deferred/, version {VERSION}, found another file "
                        f"({brief(kind, 40)}); give one that one of its training commands wrote")  # fmt: skip
    try:
        script, training = payload["script"], payload["training"]
        if script not in SCRIPTS or not isinstance(training, dict):
            raise ValueError(f"script {brief(script, 40)}")
        model = restore(_form(payload["form"]), payload["model"])
        config = _config(script, parse_json(payload["config"]))
        counts = [payload[name] for name in ("epoch", "step", "images")]
        if not all(type(count) is int and 0 <= count < 2**53 for count in counts):
            raise ValueError("counts of another kind")
        return Loaded(path, script, model, config, *counts, training)
    except (UserError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{quote(path)}: a checkpoint of another layout ({' '.join(str(error).split()):.160}); train again"
        ) from error


def _form(text: str) -> Form:
    """The form in a checkpoint, checked against the ranges of the flags."""
    values, fields = parse_json(text), fields_of("train")
    form = Form(**values)
    for name, value in values.items():
        if name != "unet_width" or value != 0:  # 0: a texture alone
            check_value(name, fields[name], value)
    if form.unet_width and form.view_direction and form.texture_dim < 12:
        raise ValueError("too few channels for the harmonics")
    return form


def _config(script: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a checkpoint that the command still has."""
    known = {name: value for name, value in values.items() if name in fields_of(script) and name != "resume"}
    make_options(script, known)
    return known
