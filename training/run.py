"""One run, from a configuration to its result: new, resumed, or at a target PSNR."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path

import torch

from common.errors import Say, UserError, counted, one_line
from common.files import write_json
from common.run_folder import new_stamped_folder
from common.stop import stop_signals
from configs import ARCHITECTURE, CALL, Config, HashGridConfig, describe, make_config, to_dict
from dataset import Material, load_material
from engine.loss_weights import resolve_loss_weights
from maps.record import MaterialRecord
from metrics.file_space import constant_listing
from shape import DEFAULT_DIVISORS, resolve_grids
from training.checkpoint import Checkpoint
from training.plan import plan
from training.run_folder import supersede_later
from training.trainer import Result, Trainer, refinement_left

# --- training ------------------------------------------------------------------------------------------------------




def read_material(data_dir: str, config: Config, say: Say) -> Material:
    """The material in a folder as a configuration wants it; its warnings are told."""
    material = load_material(data_dir, linear_color=config.linear_color, max_pixels=config.max_pixels)
    for warning in material.warnings:
        say(f"note: {warning}")
    if config.unit_normals != "auto":
        wanted = config.unit_normals == "always" and "normal" in material.present
        material = dataclasses.replace(material, unit_normals=wanted)
    return material


def train_on(
    config: Config, material: Material, device: torch.device, checkpoint: Checkpoint | None,
    say: Say, quiet: bool, row_bpp: float = 0.0,
) -> Result:  # fmt: skip
    """One run on a material that is already in memory; `row_bpp` as in rates.plan."""
    if checkpoint is None:
        config = plan(config, material.width, material.height, row_bpp)
    config = fit_to_material(config, material)
    trainer = Trainer(config, material, device, checkpoint, say, quiet)
    run = prepare_run(config, checkpoint, material, say)  # from here on something is written
    say("\n".join([f"configuration, all of it in {one_line(str(run / 'config.json'))}; other than the defaults:",
                   describe(config) or "  nothing"]))  # fmt: skip
    say(describe_inputs(config, material))
    with stop_signals() as stop:
        return trainer.train(run, stop)


def fit_to_material(config: Config, material: Material) -> Config:
    """The configuration with what only the material can decide: loss weights 'auto', and the default grids of a
    material in which nothing varies, one texel each. A run stores it, so a resumed one has the same."""
    weights = resolve_loss_weights(material, config.texture_loss_weights)
    grids = config.hash_grid_configs
    if not grids and len(material.constants) == len(material.present_channels):
        grids = [HashGridConfig(max_resolution=1)] * len(DEFAULT_DIVISORS)
    return dataclasses.replace(config, texture_loss_weights=weights, hash_grid_configs=grids)


def resumed_config(checkpoint: Checkpoint, wanted: Config) -> Config:
    """The run's own configuration with what the user has chosen in `wanted` on top.

    Raises: UserError for a flag that would make it another model, or for a run with nothing left to do.
    """
    check_architecture(checkpoint, wanted)
    changes = {name: getattr(wanted, name) for name in wanted.chosen if name not in CALL}
    config = make_config({**to_dict(checkpoint.config), **changes})
    if refinement_left(checkpoint.training, config):
        return config
    if checkpoint.iteration >= config.max_iter:
        raise UserError(
            f"--load_dir: iteration {checkpoint.iteration} of {config.max_iter} is already reached; "
            f"give a larger --max_iter, an earlier --load_iter, or --mode infer to evaluate"
        )
    ways_on = {"early_stop", "max_iter", "early_stop_psnr_threshold"}
    if checkpoint.training.get("stopped") and not ways_on & wanted.chosen:
        raise UserError(
            f"--load_dir: this run stopped early at iteration {checkpoint.iteration} because PSNR no longer rose; "
            "give --early_stop False or a larger --max_iter to go on"
        )
    return config


def check_architecture(checkpoint: Checkpoint, wanted: Config) -> None:
    """Refuse chosen flags that contradict what the checkpoint was trained as."""
    saved, values = to_dict(checkpoint.config), to_dict(wanted)
    for name in ARCHITECTURE:
        if name in wanted.chosen and values[name] != saved[name]:
            raise UserError(
                f"--{name} {values[name]}: {checkpoint.path} was trained with {saved[name]}, and another value would "
                "be another model; leave the flag out, or train anew without --load_dir"
            )


def prepare_run(config: Config, checkpoint: Checkpoint | None, material: Material, say: Say) -> Path:
    """The run folder, new or the checkpoint's, with config.json written."""
    if checkpoint is None:
        run = new_stamped_folder(Path(config.save_dir))
    else:
        run = checkpoint.path.parent.parent.resolve()  # the run folder's own name also names its TensorBoard folder
        moved = supersede_later(run, checkpoint.iteration)
        if moved:
            say(f"note: checkpoints {', '.join(map(str, moved))} of the earlier run are now in models/superseded")
        say(f"continuing {one_line(str(run))} at iteration {checkpoint.iteration}")
    grids = [dataclasses.asdict(grid) for grid in resolve_grids(config, material.width, material.height)]
    environment = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": torch.get_num_threads(),
    }
    write_json(run / "config.json", {**to_dict(config), "resolved_grids": grids, "environment": environment})
    return run


def check_same_material(checkpoint: Checkpoint, material: Material, say: Say = print) -> None:
    """Refuse a material of another shape than the checkpoint's; note one with other pixels."""
    saved, found = checkpoint.material, material.hashed_record

    def shape(record: MaterialRecord) -> str:
        return f"{record.width}x{record.height} {' '.join(entry.name for entry in record.maps)}"

    if shape(saved) != shape(found):
        raise UserError(
            f"--data_dir {material.name}: {checkpoint.path} was trained on {shape(saved)}, found {shape(found)}; "
            "give the folder that the run was trained on"
        )
    if saved.sha256 != found.sha256:
        say("note: the source images are not the ones that this run was trained on")


def describe_inputs(config: Config, material: Material) -> str:
    """What was found and what will be trained, for the user's eyes."""
    maps = "  ".join(
        f"{name} ({one_line(material.files[name])}, {material.bit_depth[name]} bit)" for name in material.present
    )
    grids = resolve_grids(config, material.width, material.height)
    shapes = "  ".join(
        f"{g.max_resolution}² texels of {g.save_bits // g.quantize_bits} x {g.quantize_bits} bits, "
        f"{counted(g.n_levels, 'level')}"
        for g in grids
    )
    size = f"{material.width}x{material.height}, {material.num_lods} LODs"
    lines = [f"material {one_line(material.name)}: {size}: {maps}"]
    if material.constants:
        lines.append(f"constant channels, not trained and kept exactly: {constant_listing(material.constants)}")
    return "\n".join([*lines, f"grids {shapes}"])
