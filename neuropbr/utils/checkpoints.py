"""Writes and reads checkpoints, which hold plain values and tensors only."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from common.errors import UserError, brief, quote, what_is_wrong
from common.files import atomic_write, make_folder, write_bytes
from common.safe_load import read_payload
from neuropbr.train_config import TrainConfig, as_config

WRAPPERS = ("_orig_mod.", "module.")  # prefixes of names by torch.compile and DistributedDataParallel
WEIGHTS = ("generator_state_dict", "student_state_dict", "model_state_dict", "state_dict")


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself, without torch.compile and DistributedDataParallel around it."""
    while True:
        inner = getattr(module, "_orig_mod", None) or (
            module.module if isinstance(module, nn.parallel.DistributedDataParallel) else None
        )
        if inner is None:
            return module
        module = inner


def plain_names(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict without the prefixes of WRAPPERS, so that any model can load it."""
    plain = {}
    for name, value in weights.items():
        while name.startswith(WRAPPERS):
            name = name[len(next(p for p in WRAPPERS if name.startswith(p))) :]
        plain[name] = value
    return plain


def save_checkpoint(path: Path, values: Mapping[str, Any]) -> None:
    """Write atomically. `values` holds numbers, strings, lists, dicts, tensors and nothing else."""
    make_folder(path.parent)
    with atomic_write(path) as stream:
        torch.save(dict(values), stream)


def link_checkpoint(written: Path, name: Path) -> None:
    """Make `name` another name of the file `written`, atomically; a copy where there are no hard links."""
    temporary = name.with_name(f".{name.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(written, temporary)
        os.replace(temporary, name)
    except OSError:
        write_bytes(name, written.read_bytes())


def load_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read a file of save_checkpoint, on the CPU, without unpickling objects. Raises: UserError."""
    path = Path(path)
    advice = "expected a checkpoint of train.py or student/train.py"
    if not path.is_file():
        raise UserError(f"{quote(path)}: {advice}, found no such file; check the path")
    values = read_payload(path)
    if not isinstance(values, dict):
        raise UserError(f"{quote(path)}: {advice}, found {brief(values)}")
    return values


def stored_config(values: Mapping[str, Any], path: str | os.PathLike) -> TrainConfig:
    """The configuration of a checkpoint. Raises: UserError."""
    if not isinstance(values.get("config"), dict):
        raise UserError(f"{quote(path)}: expected a checkpoint with its configuration, found none in it")
    try:
        return as_config(values["config"])
    except UserError as error:
        raise UserError(f"{quote(path)}: {error}") from error


def load_weights(module: nn.Module, weights: Any, path: str | os.PathLike) -> None:
    """Load a state dict into `module`. Raises: UserError if it is of another network."""
    try:
        module.load_state_dict(plain_names(weights))
    except (RuntimeError, AttributeError, TypeError) as error:
        text = what_is_wrong(error)
        raise UserError(f"{quote(path)}: expected the weights of this network, found others ({text})") from error


def load_generator(path: str | os.PathLike) -> tuple[nn.Module, TrainConfig]:
    """The network of a checkpoint, or of an export {config, model_state_dict}, in eval mode, on the CPU."""
    from neuropbr.models.generator import MultiViewPBRGenerator

    values = load_checkpoint(path)
    config = stored_config(values, path)
    weights = next((values[name] for name in WEIGHTS if name in values), None)
    if weights is None:
        raise UserError(f"{quote(path)}: expected {' or '.join(WEIGHTS)}, found {', '.join(map(brief, values))[:200]}")
    model = MultiViewPBRGenerator(config, pretrained=False)
    load_weights(model, weights, path)
    return model.eval(), config


# --- random numbers ------------------------------------------------------------------------------------------------


def random_state() -> dict[str, Any]:
    """State of the random generators of torch, its CUDA devices, numpy and Python, as plain values."""
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(numbers), gauss],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
