"""Run folders and their checkpoints: everything needed to continue as if never stopped (design.md, section 6)."""

from __future__ import annotations

import io
import itertools
import json
import os
import pickle
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configs import Config, make_config, to_dict
from errors import UserError
from export import form_of, read_textures, write_textures
from files import write_bytes, write_json
from manifest import MANIFEST, build_manifest, check_material
from model import NeuralTexture, build_model

CHECKPOINT = "model.pth"
CHECKPOINT_VERSION = 1
MODELS = "models"
CHECKPOINT_FOLDER = re.compile(r"train_result_(\d+)")
SUPERSEDED = "superseded"


@dataclass
class Checkpoint:
    """What a checkpoint folder holds."""

    path: Path  # models/train_result_<iter>
    iteration: int
    config: Config
    material: dict[str, Any]  # describe_material() of the material it was trained on
    model: NeuralTexture
    training: dict[str, Any]  # engine, schedule and early-stopping state
    metrics: Any  # the evaluation made when it was saved, or None


# --- run folders ---------------------------------------------------------------------------------------------------


def new_stamped_folder(parent: Path) -> Path:
    """Make parent/yyyy-mm-dd-hh-mm-ss, with -2, -3, ... behind it when that name is taken."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{parent}: expected a folder, found a file in its place; choose another one") from error
    stamp = time.strftime("%Y-%m-%d-%H-%M-%S")
    for attempt in itertools.count(1):
        folder = parent / (stamp if attempt == 1 else f"{stamp}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError


def list_checkpoints(run: Path) -> dict[int, Path]:
    """Checkpoint folders of a run by iteration, ascending."""
    folders = (run / MODELS).glob("train_result_*")
    found = {int(match[1]): path for path in folders if (match := CHECKPOINT_FOLDER.fullmatch(path.name))}
    return dict(sorted((i, path) for i, path in found.items() if (path / CHECKPOINT).is_file()))


def find_checkpoint(run: Path, iteration: int = -1) -> Path:
    """The folder of one checkpoint; -1 is the newest.

    Raises: UserError naming what is there.
    """
    if not run.is_dir():
        raise UserError(f"--load_dir {run}: no such folder; give a run folder such as outputs/2026-01-31-12-00-00")
    checkpoints = list_checkpoints(run)
    if not checkpoints:
        runs = [path.name for path in sorted(run.glob("*")) if list_checkpoints(path)][-3:]
        hint = f"; did you mean {run / runs[-1]}?" if runs else "; give the folder of a run that has saved something"
        raise UserError(f"--load_dir {run}: no checkpoint in {run / MODELS}{hint}")
    if iteration < 0:
        return checkpoints[max(checkpoints)]
    if iteration not in checkpoints:
        raise UserError(f"--load_iter {iteration}: {run} has checkpoints at {', '.join(map(str, checkpoints))}")
    return checkpoints[iteration]


def supersede_later(run: Path, iteration: int) -> list[int]:
    """Move checkpoints beyond `iteration` out of the way of a run that continues from there; return which."""
    later = {i: path for i, path in list_checkpoints(run).items() if i > iteration}
    if later:
        target = new_stamped_folder(run / MODELS / SUPERSEDED)
        for path in later.values():
            path.rename(target / path.name)
    return list(later)


def remove_old_checkpoints(run: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints; 0 keeps all."""
    if keep > 0:
        for path in list(list_checkpoints(run).values())[:-keep]:
            shutil.rmtree(path)


# --- saving --------------------------------------------------------------------------------------------------------


def save_checkpoint(
    run: Path,
    iteration: int,
    model: NeuralTexture,
    config: Config,
    material: Mapping[str, Any],
    training: Mapping[str, Any],
    evaluate: Callable[[NeuralTexture], Any] | None = None,
    metrics: Any = None,
) -> tuple[Path, Any]:
    """Write models/train_result_<iteration> of a run: model.pth and, when quantised, the exported files.

    The folder is made under a temporary name and renamed when complete, so that it is whole or not there.

    Args:
        evaluate: called with the model that the written files hold (the model itself when not quantised); what it
            returns is recorded. None: `metrics`, an earlier evaluation, is recorded instead.
    Returns: the folder, and the metrics recorded.
    """
    folder = run / MODELS / f"train_result_{iteration}"
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        shipped = model
        if model.quantized:
            write_textures(temporary, model)
            shipped = read_textures(temporary, model.num_lods, **form_of(model))
        if evaluate is not None:
            metrics = evaluate(shipped)
        if model.quantized:
            write_json(temporary / MANIFEST, build_manifest(model, material, metrics, temporary))
        write_bytes(temporary / CHECKPOINT, _encode(iteration, model, config, material, training, metrics))
        if folder.exists():
            replaced = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            folder.rename(replaced)
            temporary.rename(folder)
            shutil.rmtree(replaced)
        else:
            temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder, metrics


def _encode(iteration, model, config, material, training, metrics) -> bytes:
    stream = io.BytesIO()
    payload = {
        "version": CHECKPOINT_VERSION,
        "iteration": iteration,
        "config": json.dumps(to_dict(config)),
        "material": json.dumps(dict(material)),
        "metrics": json.dumps(metrics),
        "grids": [parameters.detach().cpu() for parameters in model.grid_parameters],
        "network": [weight.detach().cpu() for weight in model.weights],
        "training": _to_cpu(training),
    }
    torch.save(payload, stream)
    return stream.getvalue()


def _to_cpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: _to_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_cpu(item) for item in value]
    return value


# --- loading -------------------------------------------------------------------------------------------------------


def load_checkpoint(run: str | Path, iteration: int = -1) -> Checkpoint:
    """Read one checkpoint of a run; -1 is the newest.

    Nothing in the file is executed. Raises: UserError when it is missing, damaged or of another layout.
    """
    folder = find_checkpoint(Path(run), iteration)
    path = folder / CHECKPOINT
    payload = _read_payload(path)
    if not isinstance(payload, dict) or payload.get("version") != CHECKPOINT_VERSION:
        found = payload.get("version") if isinstance(payload, dict) else type(payload).__name__
        raise UserError(f"{path}: expected a checkpoint of version {CHECKPOINT_VERSION}, found {found!r:.80}")
    try:
        config = make_config({**json.loads(payload["config"]), "mode": "train", "load_dir": "", "load_iter": -1})
        material = json.loads(payload["material"])
        check_material(material)
        present = [channel for entry in material["maps"] for channel in entry["channels"]]
        model = build_model(config, material["width"], material["height"], present)
        _fill(model.grid_parameters, payload["grids"], "grid")
        _fill(model.weights, payload["network"], "layer")
        training = payload["training"]
        if not isinstance(training, dict) or not isinstance(payload["iteration"], int):
            raise TypeError("training state")
        metrics = json.loads(payload["metrics"])
    except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise UserError(
            f"{path}: a checkpoint of another layout ({' '.join(str(error).split())[:160]}); "
            "use the version of this tool that wrote it, or train again"
        ) from error
    return Checkpoint(folder, payload["iteration"], config, material, model, training, metrics)


def _read_payload(path: Path) -> Any:
    """torch.load that runs no code and unpacks no more bytes than the file has."""
    damaged = f"{path}: damaged, or not a checkpoint of this tool"
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise UserError(f"{damaged}: it has compressed parts, which torch.save never writes")
            if sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise UserError(f"{damaged}: its parts overlap")
            broken = archive.testzip()  # torch does not check the sums itself
            if broken is not None:
                raise UserError(f"{damaged}: wrong checksum of {broken}; use another checkpoint")
        return torch.load(path, map_location="cpu", weights_only=True)
    except zipfile.BadZipFile as error:
        raise UserError(f"{damaged}: {error}; use another checkpoint") from error
    except pickle.UnpicklingError as error:
        raise UserError(f"{damaged}: it holds objects other than tensors and plain values; refused") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (RuntimeError, EOFError, KeyError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise UserError(f"{damaged}: {' '.join(str(error).split())[:120]}; use another checkpoint") from error


@torch.no_grad()
def _fill(parameters, values: Any, what: str) -> None:
    if len(parameters) != len(values):
        raise ValueError(f"expected {len(parameters)} {what}s, found {len(values)}")
    for index, (parameter, value) in enumerate(zip(parameters, values)):
        if not isinstance(value, torch.Tensor) or value.shape != parameter.shape or value.dtype != parameter.dtype:
            found = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise ValueError(f"{what} {index} should be {tuple(parameter.shape)}, found {found}")
        parameter.copy_(value)
