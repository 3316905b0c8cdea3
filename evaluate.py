"""Scores a model against its material, LOD by LOD, and shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from dataset import Material
from engine.cpu.decoder import decode_lod
from export import Decode, decode_in_file_space
from manifest import describe_material
from metrics import evaluate_lod
from model import NeuralTexture

OnLod = Callable[[int, torch.Tensor, torch.Tensor], None]


def evaluate_model(
    model: NeuralTexture,
    material: Material,
    iteration: int,
    *,
    on_lod: OnLod | None = None,
    decode: Decode = decode_lod,
    **options,
) -> dict[str, Any]:
    """Metrics of every LOD, JSON-ready.

    Args:
        on_lod: called with (lod, decoded, source), both (H, W, 11) in the files' colour space, for saving pictures.
        decode: (model, lod, width, height) -> (H, W, 11), such as NeuralTexture.decode.
        options: with_ssim, with_lpips, with_flip of metrics.evaluate_lod.
    Returns: {"iteration", "psnr": LOD 0's PSNR in dB, all and per map, "error_share": each map's of LOD 0's squared
        error, "lods": [per LOD: size and every metric]}.
    """
    description = describe_material(material)
    lods = []
    for lod, (width, height) in enumerate(material.lod_sizes):
        decoded = decode_in_file_space(model, description, lod, decode)
        source = material.texels(lod).cpu()
        scores = evaluate_lod(decoded, source, material.present, exact=model.constants, **options)
        lods.append({"lod": lod, "width": width, "height": height, **scores})
        if on_lod is not None:
            on_lod(lod, decoded, source)
    return {"iteration": iteration, "psnr": lods[0]["psnr"], "error_share": lods[0]["error_share"], "lods": lods}
