"""Checkpoints: saved and loaded with everything needed to continue as if never stopped (design.md, section 6)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.errors import Say, UserError, brief
from common.files import atomic_write, parse_json, remove_folder
from common.run_folder import part_of_run
from common.safe_load import read_payload
from configs import CALL, Config, make_config, to_dict
from formats.export import export_model
from formats.manifest import build_manifest, material_from_json, material_to_json, write_manifest
from formats.textures import ExportedTexture, read_textures, write_textures
from maps.record import Constant, MaterialRecord
from model import NeuralTexture, build_model
from quantized.ranges import ranges_problem
from shape import ModelForm, model_shape
from training.run_folder import CHECKPOINT, MODELS, find_checkpoint

CHECKPOINT_VERSION = 1


@dataclass
class Checkpoint:
    """A checkpoint that has been read."""

    path: Path  # models/train_result_<iter>
    iteration: int
    config: Config
    material: MaterialRecord  # of the material it was trained on
    model: NeuralTexture
    training: dict[str, Any]  # engine, schedule and early-stopping state
    metrics: Any  # the evaluation made when it was saved, or None


# --- saving --------------------------------------------------------------------------------------------------------


def save_checkpoint(
    run: Path, iteration: int, model: NeuralTexture, config: Config, material: MaterialRecord,
    training: Callable[[], Mapping[str, Any]], evaluate: Callable[[NeuralTexture], Any] | None = None,
    metrics: Any = None,
) -> tuple[Path, Any]:  # fmt: skip
    """Write models/train_result_<iteration> of a run: model.pth and, when quantised, the exported files.

    The folder is made under a temporary name and renamed when complete, so that a reader never sees part of it.

    Args:
        training: returns the state to continue from; called after the evaluation, which needs the memory.
        evaluate: called with the model as read back from the exported files (the model itself when not quantised); its
            result is recorded. None: `metrics`, an earlier evaluation, is recorded instead.
    Returns: the folder, and the metrics recorded.
    """
    folder = part_of_run(run, MODELS) / f"train_result_{iteration}"
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        exported = model
        if model.quantized:
            write_textures(temporary, model)
            exported = read_textures(temporary, model.form)
        if evaluate is not None:
            metrics = evaluate(exported)
        del exported
        if model.quantized:
            manifest = build_manifest(model, material, metrics, temporary, positions=config.positions)
            write_manifest(temporary, manifest)
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
        "material": json.dumps(material_to_json(material, model.constants)),
        "metrics": json.dumps(metrics),
        "grids": [parameters.detach().cpu() for parameters in model.grid_parameters],
        "network": [weight.detach().cpu() for weight in model.weights],
        **({"activation_ranges": model.activation_ranges.cpu()} if model.activation_bits == 8 else {}),
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
        saved.setdefault("extra_maps", "none")  # checkpoints of versions that had no extra maps
        config = make_config(saved)
        material, constants = material_from_json(parse_json(payload["material"]))
        model = _restore_model(config, material, constants, payload)
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


def _restore_model(
    config: Config, material: MaterialRecord, constants: Mapping[int, Constant], payload: Mapping[str, Any]
) -> NeuralTexture:
    """The model of a payload. Sizes are compared before it is made, so that a file bounds the memory."""
    form = ModelForm(*model_shape(config, material.width, material.height), material.num_lods)
    _check_tensors("grid", payload["grids"], [(grid.n_parameters,) for grid in form.grids])
    _check_tensors("layer", payload["network"], form.layer_sizes)
    model = build_model(config, material.width, material.height, material.channels, constants)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), [*payload["grids"], *payload["network"]]):
            parameter.copy_(value)
        if model.activation_bits == 8:
            ranges = payload["activation_ranges"]
            _check_tensors("range", [ranges], [model.activation_ranges.shape])
            problem = ranges_problem(ranges.reshape(-1).tolist(), len(ranges))
            if problem:
                raise ValueError(f"activation_ranges: {problem}")
            model.activation_ranges.copy_(ranges)
    return model


def _check_training(training: Mapping[str, Any]) -> None:
    """Raise ValueError unless the parts of a training state that the schedule and the loop read are plain numbers.

    The engine checks its own part.
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
    """Raise ValueError for tensors with more numbers than the file has: views that repeat or share a few."""
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


# --- exporting -----------------------------------------------------------------------------------------------------


def export_checkpoint(run: Path, iteration: int, out_dir: Path, layout: str, say: Say = print) -> ExportedTexture:
    """Write the exported files of a run's checkpoint to `out_dir`; -1 is the newest. See formats.export.export_model.

    Raises: UserError for a run with --quantize False.
    """
    checkpoint = load_checkpoint(run, iteration)
    if not checkpoint.model.quantized:
        raise UserError(
            f"{checkpoint.path}: trained with --quantize False, which has no codes to export; "
            "train with --quantize True"
        )
    return export_model(
        out_dir, checkpoint.model, checkpoint.material, checkpoint.metrics, layout, checkpoint.config.positions, say
    )
