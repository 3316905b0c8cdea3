"""What a run that goes on from a checkpoint takes from it, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import Say, UserError, counted
from configs import ARCHITECTURE, CALL, Config, make_config, to_dict
from dataset import Material
from maps.record import MaterialRecord
from training.checkpoint import Checkpoint
from training.state import rounds_left

WAYS_ON = frozenset({"early_stop", "max_iter", "early_stop_psnr_threshold"})  # one of them resumes an early stop


def resumed_config(checkpoint: Checkpoint, wanted: Config) -> Config:
    """The run's own configuration with what the user has chosen in `wanted` on top.

    Raises: UserError for a flag that would make it another model, or for a run with nothing left to do.
    """
    check_architecture(checkpoint, wanted)
    changes = {name: getattr(wanted, name) for name in wanted.chosen if name not in CALL}
    config = make_config({**to_dict(checkpoint.config), **changes})
    if rounds_left(checkpoint.training, config):
        return config
    if checkpoint.iteration >= config.max_iter:
        raise UserError(
            f"--load_dir: iteration {checkpoint.iteration} of {config.max_iter} is already reached; "
            f"give a larger --max_iter, an earlier --load_iter, or --mode infer to evaluate"
        )
    if checkpoint.training.get("stopped") and not WAYS_ON & wanted.chosen:
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
            flag, found = f"--{name} {values[name]}", saved[name]
            if name == "hash_grid_configs":
                flag, found = _first_difference(values[name], saved[name])
            raise UserError(
                f"{flag}: {checkpoint.path} was trained with {found}, and another value would be another model; leave "
                "it out, or train anew without --load_dir"
            )


def _first_difference(given: Sequence[dict], saved: Sequence[dict]) -> tuple[str, str]:
    """The first of the given grids that differs, and what the checkpoint has there, or both numbers of grids."""
    for index, (one, other) in enumerate(zip(given, saved)):
        names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
        if names:
            texts = [", ".join(f"{name} {grid.get(name, 'not given')}" for name in names) for grid in (one, other)]
            return f"hash_grid_configs[{index}] with {texts[0]}", texts[1]
    counts = [counted(len(grids), "grid") if grids else "the default grids" for grids in (given, saved)]
    return f"hash_grid_configs of {counts[0]}", counts[1]


def check_same_material(checkpoint: Checkpoint, material: Material, say: Say = print) -> None:
    """Refuse a material of another shape than the checkpoint's; note one with other pixels."""
    saved, found = checkpoint.material, material.hashed_record

    def shape(record: MaterialRecord) -> str:
        return f"{record.width}x{record.height} {' '.join(entry.name for entry in record.maps)}"

    if shape(saved) != shape(found):
        raise UserError(
            f"--data_dir {material.name}: {checkpoint.path} was trained on {shape(saved)}, found {shape(found)}; "
            "give the folder or the model that the run was trained on, and leave out --size, --maps and --material"
        )
    if saved.sha256 != found.sha256:
        say("note: the source images are not the ones that this run was trained on")
