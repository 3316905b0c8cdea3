"""One run on a material: its folder, what it tells first, and its training."""

from __future__ import annotations

import dataclasses
import itertools
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from common.errors import Say, counted, one_line
from common.files import write_json
from common.memory import give_back_memory
from common.run_folder import new_stamped_folder
from common.stop import stop_signals
from configs import Config, HashGridConfig, describe, size_text, to_dict
from dataset import Material, load_material
from engine.loss_weights import resolve_loss_weights
from maps.extras import Extras
from metrics.file_space import constant_listing
from shape import BLOCKS, DEFAULT_DIVISORS, resolve_grids
from training.checkpoint import Checkpoint
from training.run_folder import RUN_CONFIG, run_lock, supersede_later
from training.state import Session, TrainingState
from training.summary import Result
from training.trainer import Trainer


def read_material(data_dir: str, config: Config, say: Say) -> Material:
    """The material in a folder, or the one of a model, with --linear_color, --max_pixels and --unit_normals applied."""
    extras = Extras.of(config)
    source = config.maps, config.size, extras, config.material
    material = load_material(data_dir, config.linear_color, config.max_pixels, *source)
    give_back_memory()
    for warning in material.warnings:
        say(f"note: {warning}")
    if config.unit_normals != "auto":
        wanted = config.unit_normals == "always" and "normal" in material.present
        material = dataclasses.replace(material, unit_normals=wanted)
    return material


def train_on(session: Session, config: Config, checkpoint: Checkpoint | None = None) -> Result:
    """One run, from the start or from a checkpoint.

    Args:
        config: planned, see training.plan.plan.
    """
    material, say = session.material, session.say
    config = fit_to_material(config, material)
    grids = resolve_grids(config, material.width, material.height)
    state = TrainingState(session, config, checkpoint)
    # The first thing that is written. The folder's own name also names its TensorBoard folder, so it is resolved.
    run = new_stamped_folder(Path(config.save_dir)) if checkpoint is None else checkpoint.path.parent.parent.resolve()
    with run_lock(run), stop_signals() as stop:
        prepare_run(run, config, grids, checkpoint, say)
        say(f"configuration, all of it in {one_line(str(run / 'config.json'))}; other than the defaults:")
        say(describe(config) or "  nothing")
        say(describe_inputs(material, grids))
        return Trainer(session, state, run).train(stop)


def fit_to_material(config: Config, material: Material) -> Config:
    """The configuration with what depends on the texels: loss weights 'auto' as numbers, and default grids of one texel
    where every channel is a constant. config.json keeps the result, so a resumed run has the same."""
    weights = resolve_loss_weights(material, config.texture_loss_weights)
    grids = config.hash_grid_configs
    if not grids and len(material.constants) == len(material.present_channels):
        grids = [HashGridConfig(max_resolution=1)] * len(DEFAULT_DIVISORS)
    return dataclasses.replace(config, texture_loss_weights=weights, hash_grid_configs=grids)


def prepare_run(
    run: Path, config: Config, grids: Sequence[HashGridConfig], checkpoint: Checkpoint | None, say: Say
) -> None:
    """Write config.json; set aside what a run that continues has after its checkpoint."""
    if checkpoint is not None:
        moved = supersede_later(run, checkpoint.iteration)
        if moved:
            say(f"note: checkpoints {', '.join(map(str, moved))} of the earlier run are now in models/superseded")
        say(f"continuing {one_line(str(run))} at iteration {checkpoint.iteration}")
    environment = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": torch.get_num_threads(),
    }
    resolved = [dataclasses.asdict(grid) for grid in grids]
    write_json(run / RUN_CONFIG, {**to_dict(config), "resolved_grids": resolved, "environment": environment})


def describe_inputs(material: Material, grids: Sequence[HashGridConfig]) -> str:
    """The maps that were found and the grids that will be trained, for the user."""
    maps = "  ".join(
        f"{name} ({one_line(material.files[name])}, {material.bit_depth[name]} bit)" for name in material.present
    )
    shapes = [
        f"{size_text(g.max_resolution)} texels of {_texel_words(g)}, {counted(g.n_levels, 'level')}" for g in grids
    ]
    alike = [(shape, len(list(group))) for shape, group in itertools.groupby(shapes)]  # planes
    listing = "  ".join(f"{count} of {shape}" if count > 1 else shape for shape, count in alike)
    size = f"{material.width}x{material.height}, {material.num_lods} LODs"
    lines = [f"material {one_line(material.name)}: {size}: {maps}"]
    if material.constants:
        lines.append(f"constant channels, not trained and kept exactly: {constant_listing(material.constants)}")
    return "\n".join([*lines, f"grids {listing}"])


def _texel_words(grid: HashGridConfig) -> str:
    if grid.storage in BLOCKS:
        return f"{BLOCKS[grid.storage].title}, three channels"
    return f"{grid.save_bits // grid.quantize_bits} x {grid.quantize_bits} bits"
