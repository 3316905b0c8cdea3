"""Run folders and their checkpoints: everything needed to continue as if never stopped (design.md, section 6)."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import pickletools
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configs import CALL, Config, make_config, to_dict
from errors import UserError, brief
from export import form_of, read_textures, write_textures
from files import atomic_write, leads_out, make_folder, open_regular, parse_json, remove_folder, write_json
from manifest import MANIFEST, build_manifest, check_material, described_with, read_constants
from model import NeuralTexture, build_model, model_shape
from shape import input_layout, layer_sizes

CHECKPOINT = "model.pth"
CHECKPOINT_VERSION = 1
MODELS = "models"
CHECKPOINT_FOLDER = re.compile(r"train_result_(\d+)")
SUPERSEDED = "superseded"
MAX_PICKLE_BYTES = 16 << 20  # of a checkpoint's own, without the tensors: some 10 KB, metrics of many LODs included
# What the pickle of tensors and plain values refers to. torch.load(weights_only=True) lets through others that make
# objects of any size, such as bytearray.
PICKLED = re.compile(r"torch \w+Storage|torch\._utils _rebuild_tensor_v2|collections OrderedDict")


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
    make_folder(parent)
    stamp = time.strftime("%Y-%m-%d-%H-%M-%S")
    for attempt in itertools.count(1):
        folder = parent / (stamp if attempt == 1 else f"{stamp}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError


def part_of_run(run: Path, *names: str) -> Path:
    """A folder of a run that is about to be written to, made where it is missing.

    Raises: UserError where it is a link to outside of the run: a run folder may come from somebody else.
    """
    folder = run.joinpath(*names)
    if leads_out(folder, run):
        target = os.path.realpath(folder)
        raise UserError(f"{folder}: expected a folder of this run, found a link to {target}; remove it")
    make_folder(folder)
    return folder


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
        target = new_stamped_folder(part_of_run(run, MODELS, SUPERSEDED))
        for path in later.values():
            path.rename(target / path.name)
    return list(later)


def remove_old_checkpoints(run: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints; 0 keeps all."""
    if keep > 0:
        for path in list(list_checkpoints(run).values())[:-keep]:
            remove_folder(path)


# --- saving --------------------------------------------------------------------------------------------------------


def save_checkpoint(
    run: Path,
    iteration: int,
    model: NeuralTexture,
    config: Config,
    material: Mapping[str, Any],
    training: Callable[[], Mapping[str, Any]],
    evaluate: Callable[[NeuralTexture], Any] | None = None,
    metrics: Any = None,
) -> tuple[Path, Any]:
    """Write models/train_result_<iteration> of a run: model.pth and, when quantised, the exported files.

    The folder is made under a temporary name and renamed when complete, so that it is whole or not there.

    Args:
        training: gives the state to continue from; called last, when an evaluation no longer needs the memory.
        evaluate: called with the model that the written files hold (the model itself when not quantised); what it
            returns is recorded. None: `metrics`, an earlier evaluation, is recorded instead.
    Returns: the folder, and the metrics recorded.
    """
    folder = part_of_run(run, MODELS) / f"train_result_{iteration}"
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
        del shipped
        if model.quantized:
            write_json(temporary / MANIFEST, build_manifest(model, material, metrics, temporary))
        with atomic_write(temporary / CHECKPOINT) as stream:
            torch.save(_payload(iteration, model, config, material, training(), metrics), stream)
        if folder.exists():
            replaced = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            folder.rename(replaced)
            temporary.rename(folder)
            remove_folder(replaced)
        else:
            temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder, metrics


def _payload(iteration, model, config, material, training, metrics) -> dict[str, Any]:
    return {
        "version": CHECKPOINT_VERSION,
        "iteration": iteration,
        "config": json.dumps(to_dict(config)),
        "material": json.dumps(described_with(material, model)),
        "metrics": json.dumps(metrics),
        "grids": [parameters.detach().cpu() for parameters in model.grid_parameters],
        "network": [weight.detach().cpu() for weight in model.weights],
        "training": _to_cpu(training),
    }


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
    payload = read_payload(path)
    found = payload.get("version") if isinstance(payload, dict) else type(payload).__name__
    if type(found) is not int or found != CHECKPOINT_VERSION:
        raise UserError(f"{path}: expected a checkpoint of version {CHECKPOINT_VERSION}, found {brief(found)}")
    try:
        _check_sizes(payload, path.stat().st_size)
        saved = {name: value for name, value in parse_json(payload["config"]).items() if name not in CALL}
        config = make_config(saved)
        material = parse_json(payload["material"])
        check_material(material)
        model = _restore_model(config, material, payload)
        iteration, training = payload["iteration"], payload["training"]
        _check_training(training)
        if type(iteration) is not int or iteration < 0 or training["engine"]["iteration"] != iteration:
            raise ValueError(f"iteration {brief(iteration, 40)}")
        metrics = parse_json(payload["metrics"])
    except (UserError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise UserError(
            f"{path}: a checkpoint of another layout ({error!s:.160}); "
            "use the version of this tool that wrote it, or train again"
        ) from error
    return Checkpoint(folder, iteration, config, material, model, training, metrics)


def _restore_model(config: Config, material: Mapping[str, Any], payload: Mapping[str, Any]) -> NeuralTexture:
    """The model of a payload. Sizes are compared before it is made: the file bounds the memory that it can ask for."""
    width, height = material["width"], material["height"]
    grids, decoder = model_shape(config, width, height)
    _check_tensors("grid", payload["grids"], [(grid.n_texels * grid.features,) for grid in grids])
    _check_tensors("layer", payload["network"], layer_sizes(input_layout(grids, decoder), decoder))
    present = [channel for entry in material["maps"] for channel in entry["channels"]]
    model = build_model(config, width, height, present, read_constants(material))
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), [*payload["grids"], *payload["network"]]):
            parameter.copy_(value)
    return model


def _check_training(training: Mapping[str, Any]) -> None:
    """Raise ValueError unless the parts of a training state that the schedule and the loop read are plain numbers.

    What an engine saves is checked by the engine.
    """
    if not isinstance(training, dict) or not isinstance(training["engine"], dict):
        raise ValueError("training state of another kind")
    parts = [training.get("schedule", {}), training.get("early_stopping", {})]
    parts.append({name: training.get(name) for name in ("seconds", "stopped", "refined")})
    for part in parts:
        if not isinstance(part, dict):
            raise ValueError("training state of another kind")
        for name, value in part.items():
            number = type(value) in (int, float) and -(2**53) < value < 2**53
            if not number and value is not None and type(value) is not bool:
                raise ValueError(f"{brief(name, 40)} in the training state is {brief(value, 40)}")


def _check_sizes(payload: Mapping[str, Any], most_bytes: int) -> None:
    """Raise ValueError for tensors that have more numbers than the file: views of few of them, repeated or shared."""
    seen: dict[int, Any] = {}
    waiting: list[Any] = [payload]
    while waiting:  # a pickle may hold one list in many places, or in itself
        value = waiting.pop()
        if id(value) not in seen:
            seen[id(value)] = value
            waiting += value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    tensors = [value for value in seen.values() if isinstance(value, torch.Tensor)]
    if not all(value.layout == torch.strided and value.is_contiguous() for value in tensors):
        raise ValueError("tensors whose numbers do not lie one after the other")
    if sum(value.numel() * value.element_size() for value in tensors) > most_bytes:
        raise ValueError("tensors that share their numbers")


def _check_tensors(what: str, values: Any, shapes: Sequence[tuple[int, ...]]) -> None:
    """Raise ValueError unless `values` are dense float32 tensors of these shapes."""
    if not isinstance(values, list) or len(values) != len(shapes):
        raise ValueError(f"expected {len(shapes)} {what}s")
    for index, (value, shape) in enumerate(zip(values, shapes)):
        dense = isinstance(value, torch.Tensor) and value.layout == torch.strided and value.dtype == torch.float32
        if not dense or tuple(value.shape) != tuple(shape):
            found = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise ValueError(f"{what} {index} should be float32 {tuple(shape)}, found {found}")


def read_payload(path: Path) -> Any:
    """torch.load that runs no code and unpacks no more bytes than the file has. Raises: UserError."""
    damaged = f"{path}: damaged, or not a checkpoint of this tool"
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
            # torch looks for the list of entries where the end of the file says that it is, Python next to that end
            if archive.comment or min((entry.header_offset for entry in entries), default=0):
                raise UserError(f"{damaged}: there is something in front of its first part or behind its last")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise UserError(f"{damaged}: it has compressed parts, which torch.save never writes")
            if sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise UserError(f"{damaged}: its parts overlap")
            broken = archive.testzip()  # torch does not check the sums itself
            if broken is not None:
                raise UserError(f"{damaged}: wrong checksum of {brief(broken)}; use another checkpoint")
            for entry in entries:
                if entry.filename.endswith(".pkl"):
                    _check_pickle(archive, entry)
        return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except zipfile.BadZipFile as error:
        raise UserError(f"{damaged}: {error!s:.120}; use another checkpoint") from error
    except pickle.UnpicklingError as error:
        raise UserError(f"{damaged}: it holds objects other than tensors and plain values; refused") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged pickle can raise anything; nothing of ours runs inside torch.load
        raise UserError(f"{damaged}: {error!s:.120}; use another checkpoint") from error


def _check_pickle(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Raise pickle.UnpicklingError for a pickle that is too large, or refers to more than tensors are made of."""
    if entry.file_size > MAX_PICKLE_BYTES:
        raise pickle.UnpicklingError("too large")
    for opcode, argument, _ in pickletools.genops(archive.read(entry)):
        foreign = opcode.name == "GLOBAL" and not PICKLED.fullmatch(argument)
        newer = opcode.name == "PROTO" and argument != 2  # torch says on stderr that it may not understand them
        if foreign or newer or opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            raise pickle.UnpicklingError(f"{argument}")
