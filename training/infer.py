"""--mode infer: every LOD of a checkpoint, decoded from its exported files and scored."""

from __future__ import annotations

import dataclasses
from typing import Any

from common.errors import Say, one_line
from common.run_folder import part_of_run
from configs import Config
from engine.create import create_decoder, resolve_device
from formats.textures import read_export
from metrics.decoded_maps import save_map_images
from metrics.evaluate import Maps, evaluate_model, metric_options, prepare_metrics
from training.checkpoint import load_checkpoint
from training.pictures import save_strips
from training.report import save_metrics
from training.resume import check_architecture, check_same_material
from training.run import read_material


def infer(config: Config, say: Say = print) -> dict[str, Any]:
    """Evaluate every LOD of a checkpoint from its exported files; write infer/ in the run folder."""
    checkpoint = load_checkpoint(config.load_dir, config.load_iter)
    folder = checkpoint.path
    check_architecture(checkpoint, config)
    device = resolve_device(config)
    data_dir = config.data_dir if "data_dir" in config.chosen else checkpoint.config.data_dir
    max_pixels = config.max_pixels if "max_pixels" in config.chosen else checkpoint.config.max_pixels
    maps = config.maps if "maps" in config.chosen else checkpoint.config.maps
    read_as = dataclasses.replace(checkpoint.config, max_pixels=max_pixels, maps=maps)
    material = read_material(data_dir, read_as, say)
    check_same_material(checkpoint, material, say)
    model = read_export(folder).model if checkpoint.model.quantized else checkpoint.model
    out = part_of_run(folder.parent.parent, "infer")
    eval_metrics = config.eval_metrics if "eval_metrics" in config.chosen else checkpoint.config.eval_metrics

    def on_lod(lod: int, decoded: Maps, source: Maps) -> None:
        save_map_images(out, decoded, lod)
        if lod == 0:
            save_strips(part_of_run(folder.parent.parent, "infer", "compare"), decoded, source)
        say(f"LOD {lod} decoded")

    decode = create_decoder(config, say)
    missing, options = prepare_metrics(eval_metrics), metric_options(eval_metrics)
    metrics = evaluate_model(model.to(device), material, checkpoint.iteration, on_lod=on_lod, decode=decode, **options)
    save_metrics(out, metrics)
    say((out / "metrics.txt").read_text(encoding="utf-8"))
    for reason in missing:
        say(f"note: {reason}")
    say(f"{one_line(str(out))}: images, metrics.json and metrics.txt of iteration {checkpoint.iteration}")
    return metrics
