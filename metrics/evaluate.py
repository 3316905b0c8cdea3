"""The scores of a model against its material, LOD by LOD."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dataset import Material
from maps.channels import map_slice
from metrics.coverage import coverage_scores
from metrics.decoded_maps import Decode, decode_deep_maps, with_deep
from metrics.file_space import file_values
from metrics.filtered import DecodeSamples, decode_samples, filtered_psnr
from metrics.hdr import deep_scores
from metrics.perceptual import download_lpips_weights, lpips_unavailable_reason
from metrics.scores import evaluate_maps
from model import NeuralTexture

Maps = Mapping[str, np.ndarray]
OnLod = Callable[[int, Maps, Maps], None]


def evaluate_model(
    model: NeuralTexture, material: Material, iteration: int, *, decode: Decode,
    decode_positions: DecodeSamples = decode_samples, on_lod: OnLod | None = None, **options: bool,
) -> dict[str, Any]:  # fmt: skip
    """Metrics of every LOD, JSON-ready.

    Args:
        decode: such as NeuralTexture.decode, or an engine's faster one.
        decode_positions: the same at any position, for `psnr_filtered`.
        on_lod: called with (lod, decoded, source) to save pictures; both are map name -> (H, W, C) with the values of
            the files, decoded as of decoded_maps.decode_pictures, source uint8 or uint16.
        options: with_ssim, with_lpips, with_flip of scores.evaluate_maps. FLIP is computed for LOD 0 alone: it models
            an eye at one distance, and takes longer than all other metrics together.
    Returns: {"iteration", "psnr": LOD 0's PSNR in dB at texel centres, all and per map, "psnr_filtered": see
        filtered.filtered_psnr, "error_share": each map's of LOD 0's squared error, "lods": [per LOD: size and every
        metric]}.
    """
    lods = []
    for lod in range(material.num_lods):
        slow = {**options, "with_flip": options.get("with_flip", True) and lod == 0}
        lods.append(score_lod(model, material, lod, decode=decode, on_lod=on_lod, **slow))
    filtered = filtered_psnr(model, material, decode_positions)
    first = {name: lods[0][name] for name in ("psnr", "error_share")}
    return {"iteration": iteration, **first, "psnr_filtered": filtered, "lods": lods}


def score_lod(
    model: NeuralTexture, material: Material, lod: int, *, decode: Decode, on_lod: OnLod | None = None, **options: bool
) -> dict[str, Any]:
    """Metrics of one LOD, JSON-ready; arguments as of `evaluate_model`.

    Constant channels are scored as the exact numbers that an engine has, all others in 8 bits.
    Returns: {"lod", "width", "height", and what scores.evaluate_maps and hdr.deep_scores return}; where an opacity is
        learned, also what coverage.coverage_scores returns.
    """
    record = material.record
    decoded, deep = decode_deep_maps(model, record, lod, decode)
    source = {name: material.file_codes(lod, name) for name in material.present}
    exact = file_values(model.constants, record)
    scores = evaluate_maps(decoded, source, exact=exact, **options)
    scores.update(deep_scores(deep, source, record))
    if "opacity" in material.present and map_slice("opacity").start not in exact:  # learned
        scores.update(coverage_scores(decoded, source, exact))
    if on_lod is not None:
        on_lod(lod, with_deep(decoded, deep, record), source)
    width, height = material.lod_sizes[lod]
    return {"lod": lod, "width": width, "height": height, **scores}


def metric_options(eval_metrics: str, ending: bool = True) -> dict[str, bool]:
    """The options of `evaluate_model` for a value of --eval_metrics.

    Args:
        ending: False during a run, where FLIP and LPIPS are left out: they would take most of an evaluation's time.
    """
    slow = eval_metrics != "psnr"
    return {"with_ssim": slow, "with_flip": slow and ending, "with_lpips": slow and ending}


def prepare_metrics(eval_metrics: str) -> list[str]:
    """Make the metrics of --eval_metrics ready: `lpips` downloads its weights unless they are there.

    Returns: one line for each metric that is asked for and that this machine cannot compute.
    """
    if eval_metrics == "psnr":
        return []
    failed_download = download_lpips_weights() if eval_metrics == "lpips" else None
    reason = failed_download or lpips_unavailable_reason()
    return [reason] if reason else []
