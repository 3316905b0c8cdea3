"""Train a neural texture from a folder of PBR maps, resume a run, evaluate it, or train many materials.

    python train.py --mode train --data_dir ./data/test --save_dir ./outputs

Every flag: python train.py --help, or configs.py.
"""

from __future__ import annotations

import threads  # isort: skip  # noqa: F401  # before torch

import dataclasses
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from checkpoint import (
    Checkpoint,
    load_checkpoint,
    new_stamped_folder,
    part_of_run,
    supersede_later,
)
from configs import ARCHITECTURE, CALL, Config, HashGridConfig, describe, make_config, parse_args, to_dict
from dataset import Material, load_material
from decoded_maps import save_map_images
from engine import create_decoder, resolve_device
from errors import UserError, counted, one_line, run_command
from evaluate import Maps, evaluate_model, metric_options, missing_metrics
from export import read_export
from file_space import constant_listing
from files import write_json
from loss_weights import resolve_loss_weights
from manifest import describe_material
from model import DEFAULT_DIVISORS, resolve_grids
from rates import lower_rate_alike, plan
from report import save_metrics, save_strips
from search import correction, find_rate
from trainer import Result, Trainer, refinement_left, stop_signals

Say = Callable[[str], None]


# --- training ------------------------------------------------------------------------------------------------------


def train_material(config: Config, given: Mapping[str, Any], say: Say = print, quiet: bool = False) -> Result:
    """Train one material from the start, or continue config.load_dir.

    Args:
        given: what the user gave, as opposed to defaults: a resumed run keeps its own values elsewhere.
        say: receives the lines meant for the user.
        quiet: no progress bar.
    """
    checkpoint = None
    if config.load_dir:
        checkpoint = load_checkpoint(config.load_dir, config.load_iter)
        config = resumed_config(checkpoint, given)
    device = resolve_device(config)
    material = read_material(config.data_dir, config, say)
    if checkpoint is not None:
        check_same_material(checkpoint, material, say)
        material = dataclasses.replace(material, constants=checkpoint.model.constants)  # the run goes on as it began
    elif config.target_psnr or config.match:
        return train_to_target(config, given, material, device, say, quiet)
    return train_on(config, given, material, device, checkpoint, say, quiet)


def read_material(data_dir: str, config: Config, say: Say) -> Material:
    """The material in a folder as a configuration wants it; its warnings are told."""
    material = load_material(data_dir, linear_color=config.linear_color, max_pixels=config.max_pixels)
    for warning in material.warnings:
        say(f"note: {warning}")
    if config.unit_normals != "auto":
        wanted = config.unit_normals == "always" and "normal" in material.present
        material = dataclasses.replace(material, unit_normals=wanted)
    return material


def train_to_target(
    config: Config, given: Mapping[str, Any], material: Material, device: torch.device, say: Say, quiet: bool
) -> Result:
    """Find the smallest rate that reaches --target_psnr, or the PSNR of the codec to --match, and train there.

    One full run, and a second where the first one ends outside of the window above the target; both stay on disk.
    """
    target = config.target_psnr
    if config.match:
        from texture_codecs import encode_decode

        rival = encode_decode(material, config.match)
        target = rival.psnr["all"]
        say(f"{config.match}: {target:.2f} dB at {rival.bpp:.2f} bpp on {one_line(material.name)}")
    bpp, slope, lowest = find_rate(target, config, given, material, device, say)
    row_bpp = bpp  # a second run differs from the first in the grids' sizes alone, so that the slope holds
    aimed = dataclasses.replace(config, target_psnr=0.0, match="")
    results: list[Result] = []
    while True:
        aimed = dataclasses.replace(aimed, bpp=round(bpp, 3))
        results.append(train_on(aimed, given, material, device, None, say, quiet, row_bpp))
        psnr = results[-1].metrics["psnr"]["all"] if results[-1].completed else None
        again = None if psnr is None else correction(target, aimed.bpp, psnr, slope, lowest)
        if again is None or len(results) == 2:
            break
        if again < aimed.bpp:
            again = lower_rate_alike(again, aimed.bpp, aimed, given, material.width, material.height)
        say(f"{psnr:.2f} dB is {abs(psnr - target):.2f} dB {'above' if psnr > target else 'below'} the target of "
            f"{target:.2f}: once more, at {again:.2f} bpp")  # fmt: skip
        bpp = again
    if not results[-1].completed:
        return results[-1]
    best = best_result(results, target)
    psnr = best.metrics["psnr"]["all"]
    verdict = "reached" if psnr >= target else f"missed by {target - psnr:.2f} dB"
    say(f"target   {target:.2f} dB {verdict}: {psnr:.2f} dB at {best.rates['bpp']:.2f} bpp, {one_line(str(best.run))}")
    return best


def best_result(results: Sequence[Result], target: float) -> Result:
    """The one of the smallest rate that reaches the target, else the one that comes nearest."""
    reached = [result for result in results if result.metrics["psnr"]["all"] >= target]
    if reached:
        return min(reached, key=lambda result: result.rates["bpp"])
    return max(results, key=lambda result: result.metrics["psnr"]["all"])


def train_on(
    config: Config, given: Mapping[str, Any], material: Material, device: torch.device, checkpoint: Checkpoint | None,
    say: Say, quiet: bool, row_bpp: float = 0.0,
) -> Result:  # fmt: skip
    """One run on a material that is already in memory; `row_bpp` as in rates.plan."""
    if checkpoint is None:
        config = plan(config, given, material.width, material.height, row_bpp)
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


def resumed_config(checkpoint: Checkpoint, given: Mapping[str, Any]) -> Config:
    """The run's own configuration with the flags given now on top.

    Raises: UserError for a flag that would make it another model, or for a run with nothing left to do.
    """
    check_architecture(checkpoint, given)
    config = make_config({**to_dict(checkpoint.config), **{k: v for k, v in given.items() if k not in CALL}})
    if refinement_left(checkpoint.training, config):
        return config
    if checkpoint.iteration >= config.max_iter:
        raise UserError(
            f"--load_dir: iteration {checkpoint.iteration} of {config.max_iter} is already reached; "
            f"give a larger --max_iter, an earlier --load_iter, or --mode infer to evaluate"
        )
    if checkpoint.training.get("stopped") and not {"early_stop", "max_iter", "early_stop_psnr_threshold"} & set(given):
        raise UserError(
            f"--load_dir: this run stopped early at iteration {checkpoint.iteration} because PSNR no longer rose; "
            "give --early_stop False or a larger --max_iter to go on"
        )
    return config


def check_architecture(checkpoint: Checkpoint, given: Mapping[str, Any]) -> None:
    """Refuse flags that contradict what the checkpoint was trained as."""
    saved = to_dict(checkpoint.config)
    wanted = to_dict(make_config({name: given[name] for name in ARCHITECTURE if name in given}))
    for name in ARCHITECTURE:
        if name in given and wanted[name] != saved[name]:
            raise UserError(
                f"--{name} {wanted[name]}: {checkpoint.path} was trained with {saved[name]}, and another value would "
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
    saved, found = checkpoint.material, describe_material(material)

    def shape(description: Mapping[str, Any]) -> str:
        return f"{description['width']}x{description['height']} {' '.join(e['map'] for e in description['maps'])}"

    if shape(saved) != shape(found):
        raise UserError(
            f"--data_dir {material.name}: {checkpoint.path} was trained on {shape(saved)}, found {shape(found)}; "
            "give the folder that the run was trained on"
        )
    if saved.get("sha256") != found.get("sha256"):
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


# --- inference -----------------------------------------------------------------------------------------------------


def infer(config: Config, given: Mapping[str, Any], say: Say = print) -> dict[str, Any]:
    """Evaluate every LOD of a checkpoint from its exported files; write infer/ in the run folder."""
    checkpoint = load_checkpoint(config.load_dir, config.load_iter)
    folder = checkpoint.path
    check_architecture(checkpoint, given)
    device = resolve_device(config)
    data_dir = config.data_dir if "data_dir" in given else checkpoint.config.data_dir
    max_pixels = config.max_pixels if "max_pixels" in given else checkpoint.config.max_pixels
    material = read_material(data_dir, dataclasses.replace(checkpoint.config, max_pixels=max_pixels), say)
    check_same_material(checkpoint, material, say)
    model = read_export(folder).model if checkpoint.model.quantized else checkpoint.model
    out = part_of_run(folder.parent.parent, "infer")
    eval_metrics = config.eval_metrics if "eval_metrics" in given else checkpoint.config.eval_metrics

    def on_lod(lod: int, decoded: Maps, source: Maps) -> None:
        save_map_images(out, decoded, lod)
        if lod == 0:
            save_strips(part_of_run(folder.parent.parent, "infer", "compare"), decoded, source)
        say(f"LOD {lod} decoded")

    decode = create_decoder(config, say)
    missing, options = missing_metrics(eval_metrics), metric_options(eval_metrics)
    metrics = evaluate_model(model.to(device), material, checkpoint.iteration, on_lod=on_lod, decode=decode, **options)
    save_metrics(out, metrics)
    say((out / "metrics.txt").read_text(encoding="utf-8"))
    for reason in missing:
        say(f"note: {reason}")
    say(f"{one_line(str(out))}: images, metrics.json and metrics.txt of iteration {checkpoint.iteration}")
    return metrics


# --- command -------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    given = parse_args(argv)
    config = make_config(given)
    if config.groups_batching:
        from groups import train_groups

        return train_groups(config, given)
    if config.mode == "infer":
        infer(config, given)
        return 0
    result = train_material(config, given)
    return 0 if result.completed else 128 + result.interrupted_by


if __name__ == "__main__":
    sys.exit(run_command(main))
