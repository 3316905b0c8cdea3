"""--mode infer: every LOD of a checkpoint, decoded from its exported files and scored."""

from __future__ import annotations

import dataclasses
from typing import Any

from common.errors import Say, one_line
from common.run_folder import part_of_run
from configs import Config
from engine.create import create_decoder, create_sample_decoder, resolve_device
from formats.textures import read_export
from metrics.decoded_maps import save_map_images
from metrics.evaluate import Maps, evaluate_model, metric_options, prepare_metrics
from training.checkpoint import load_checkpoint
from training.pictures import save_strips
from training.report import save_metrics
from training.resume import check_architecture, check_same_material
from training.run import read_material


def infer(config: Config, say: Say = print) -> dict[str, Any]:
    """Evaluate every LOD of a checkpoint from its exported files; write infer/ in the run folder.

    The run's own settings hold, except for those that the user has chosen. Returns: the metrics of evaluate_model.
    Raises: UserError for another material, or flags that contradict the run.
    """
    checkpoint = load_checkpoint(config.load_dir, config.load_iter)
    folder = checkpoint.path
    check_architecture(checkpoint, config)
    device = resolve_device(config)
    kept = config.chosen & {"data_dir", "material", "max_pixels", "maps", "size", "eval_metrics"}
    chosen = {name: getattr(config, name) for name in kept}
    run_config = dataclasses.replace(checkpoint.config, **chosen)
    material = read_material(run_config.data_dir, run_config, say)
    check_same_material(checkpoint, material, say)
    model = read_export(folder).model if checkpoint.model.quantized else checkpoint.model
    out = part_of_run(folder.parent.parent, "infer")

    def on_lod(lod: int, decoded: Maps, source: Maps) -> None:
        save_map_images(out, decoded, lod, material.record)
        if lod == 0:
            save_strips(part_of_run(folder.parent.parent, "infer", "compare"), decoded, source)
        say(f"LOD {lod} decoded")

    decoders = {"decode": create_decoder(config, say), "decode_positions": create_sample_decoder(config)}
    missing, options = prepare_metrics(run_config.eval_metrics), metric_options(run_config.eval_metrics)
    metrics = evaluate_model(model.to(device), material, checkpoint.iteration, on_lod=on_lod, **decoders, **options)
    save_metrics(out, metrics)
    say((out / "metrics.txt").read_text(encoding="utf-8"))
    for reason in missing:
        say(f"note: {reason}")
    say(f"{one_line(str(out))}: images, metrics.json and metrics.txt of iteration {checkpoint.iteration}")
    return metrics
