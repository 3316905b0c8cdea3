"""How a run ended, and the lines that say it: PSNR, error shares, rate, sizes, and advice on loss weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import one_line, shell_quote
from common.events import TENSORBOARD, readable_bytes
from configs import Config
from dataset import PNG_SAMPLE_TEXELS, Material
from engine.loss_weights import MapWeights, channel_variances, channel_weights
from formats.manifest import read_manifest
from maps.channels import map_channels, map_size
from maps.coverage import ALPHA_TEST
from metrics.hdr import unit_lines
from metrics.scores import psnr_db
from training.pictures import picture_lod
from training.run_folder import MODELS

FALL_DB = 6.0  # between the best batch of a run and its end: twice the error; batches alone differ by less
SUMMARY_LODS = 8  # a line has room for these; the smallest have a handful of texels
OPACITY_LODS = 6  # of two figures each


@dataclass
class Result:
    """How a run ended."""

    run: Path
    iteration: int
    metrics: dict[str, Any]  # of the last evaluation, see metrics.evaluate.evaluate_model
    rates: dict[str, float]  # NeuralTexture.bits_per_texel
    seconds: float  # wall time, earlier calls included
    completed: bool = True  # to max_iter or an early stop
    interrupted_by: int = 0  # signal number; also of a signal that came when there was nothing left to interrupt

    @property
    def checkpoint(self) -> Path:
        """The folder of its last checkpoint."""
        return self.run / MODELS / f"train_result_{self.iteration}"


def bc7_bytes(material: Material) -> tuple[int, int]:
    """(textures, bytes) of the material in BC7 with all mips: colour, normal, and three scalar maps per texture.

    BC7 takes 16 bytes per 4x4 block.
    """
    scalars = sum(1 for name in material.present if map_size(name) == 1)
    textures = len(material.present) - scalars + -(-scalars // 3)
    blocks = sum(-(-width // 4) * -(-height // 4) for width, height in material.lod_sizes)
    return textures, textures * blocks * 16


def weight_advice(
    shares: Mapping[str, float], channels: Mapping[str, int], weights: MapWeights
) -> str | None:
    """A sentence with a line for the config file, for a map with more than half of the squared error and more than
    twice its share of the channels; None without one, or when its weight is 0.

    Args:
        shares: map -> share of the squared error, see scores.error_shares.
        channels: map -> channels that were trained.
        weights: map -> Config.texture_loss_weights of the run, as resolved; those that are not listed have 1.
    """
    total = sum(channels.values())
    for name, share in shares.items():
        weight = channel_weights(weights, name)
        if share > 0.5 and channels[name] and share > 2 * channels[name] / total and any(weight):
            changed = {n: channel_weights(weights, n) for n in weights if n in channels}
            changed = {n: each for n, each in changed.items() if set(each) != {1}}
            line = ", ".join(f"{n}: {_weight_text(each)}"
                             for n, each in {**changed, name: [2 * one for one in weight]}.items())  # fmt: skip
            return (
                f"{name} has {share:.0%} of the squared error in {channels[name]} of {total} trained channels; to "
                f"move bits to it, train with this line in a --config file: texture_loss_weights: {{{line}}}"
            )
    return None


def _weight_text(weights: Sequence[float]) -> str:
    """Of a map's channels: 2, or [1, 1, 0.5]."""
    texts = [f"{weight:.3g}" for weight in weights]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


def failure_advice(psnr: float, material: Material, config: Config, best_probe: float) -> list[str]:
    """A line where a training has failed: worse than the mean colour, or than it was itself before.

    Args:
        psnr: dB at LOD 0, at the end.
        best_probe: dB of the run's best batch.
    """
    mean_colour = psnr_db([v for name in material.present for v in channel_variances(material, name)])
    if psnr < mean_colour:
        found = f"less than the {mean_colour:.2f} dB of the maps' mean colours"
    elif psnr < best_probe - FALL_DB:
        found = f"after {best_probe:.2f} dB during the run"
    else:
        return []
    return [
        f"warning: little was learned: PSNR is {psnr:.2f} dB, {found}; lower --learning_rate, now "
        f"{config.learning_rate:g}, or --grid_learning_rate, now {config.grid_learning_rate:g}, or raise --max_iter, "
        f"now {config.max_iter}"
    ]


def trained_channel_counts(material: Material) -> dict[str, int]:
    """Map name -> number of its channels that are not constant."""
    return {
        name: sum(channel not in material.constants for channel in map_channels(name))
        for name in material.present
    }


def end_of_run(
    result: Result, material: Material, config: Config, stopped_early: bool, missing: Sequence[str], best_probe: float
) -> str:  # fmt: skip
    """What a user reads at the end of a run: why it ended, what could not be measured, and the summary.

    Args:
        missing: one line for each metric that was asked for and that this machine cannot compute.
        best_probe: the highest PSNR, in dB, that a batch had.
    """
    lines = []
    if stopped_early:
        lines.append(f"stopped early: PSNR rose by less than {config.early_stop_psnr_threshold} dB in "
                     f"{config.early_stop_interval} iterations")  # fmt: skip
    if not any(trained_channel_counts(material).values()):
        lines.append("every channel has one value, which the manifest keeps: there is nothing to train")
    lines += [f"note: {reason}" for reason in missing]
    exported_bytes = read_manifest(result.checkpoint).bytes_on_disk if config.quantize else None
    if any(trained_channel_counts(material).values()):
        lines += failure_advice(result.metrics["psnr"]["all"], material, config, best_probe)
    return "\n".join([*lines, run_summary(result, material, config, exported_bytes)])


def opacity_line(lods: Sequence[Mapping[str, Any]]) -> str | None:
    """What an alpha test sees of the decoded opacity, LOD after LOD; None where no opacity was learned.

    lods: of the metrics, see metrics.coverage.coverage_scores.
    """
    if "opacity_wrong" not in lods[0]:
        return None
    wrong = " ".join(f"{scores['opacity_wrong']:.2%}" for scores in lods[:OPACITY_LODS])
    passing = " ".join(f"{scores['coverage']['decoded']:.1%}" for scores in lods[:OPACITY_LODS])
    covered = lods[0]["psnr_covered"].get("all")
    others = f", the other maps where it covers {covered:.2f} dB" if covered is not None else ""
    return (f"opacity  on the wrong side of {ALPHA_TEST:g} in LOD 0 and on: {wrong}; coverage {passing} "
            f"(source {lods[0]['coverage']['source']:.1%}){others}")  # fmt: skip


def run_summary(result: Result, material: Material, config: Config, exported_bytes: int | None) -> str:
    """Quality per map and where the error is, rate, sizes against PNG and BC7, time, and where the files are.

    Args:
        exported_bytes: of the exported files; None: there are none.
    """
    metrics, rates, run = result.metrics, result.rates, result.run
    psnr, shares = metrics["psnr"], metrics["lods"][0]["error_share"]
    maps = "  ".join(f"{name} {psnr[name]:.2f}" for name in material.present)
    degrees = metrics["lods"][0].get("normal_degrees")
    if degrees is not None:
        maps = maps.replace(f"normal {psnr['normal']:.2f}", f"normal {psnr['normal']:.2f}, {degrees:.2f} degrees off")
    textures, bc7 = bc7_bytes(material)
    whole = ", in whole numbers" if config.activation_bits == 8 else ""
    lines = [
        f"PSNR     {psnr['all']:.2f} dB over all channels of LOD 0  ({maps})",
        "error    " + "  ".join(f"{name} {shares[name]:.1%}" for name in material.present) + " of the squared error",
        f"rate     {rates['bpp']:.2f} bpp (grids {rates['grids']:.2f} + network {rates['network']:.2f}, "
        f"{rates['network'] / rates['bpp']:.0%} of it in weights of {config.weight_bits} bits{whole}), "
        f"{rates['all_mips']:.2f} with all mips",
    ]
    advice = weight_advice(shares, trained_channel_counts(material), config.texture_loss_weights)
    if advice:
        lines.insert(2, f"advice   {advice}")
    filtered = metrics.get("psnr_filtered")  # metrics in a checkpoint of an earlier version have none
    if filtered:
        lines.insert(1, f"filtered {filtered['all']:.2f} dB at any position and LOD, against the filtered source")
    if len(metrics["lods"]) > 1:
        each = [f"{lod}: {scores['psnr']['all']:.2f}" for lod, scores in enumerate(metrics["lods"][:SUMMARY_LODS])]
        lines.insert(1, "LODs     " + "  ".join(each) + " dB")
    opacity = opacity_line(metrics["lods"])
    if opacity:
        lines.insert(-1, opacity)
    lines += [f"note     {line}" for line in unit_lines(metrics["lods"][0])]
    if exported_bytes is not None:
        png = material.png_bytes()
        about = "about " if material.width * material.height > PNG_SAMPLE_TEXELS else ""
        lines.append(
            f"on disk  {readable_bytes(exported_bytes)} with all mips: {exported_bytes / png:.1%} of the maps as PNG "
            f"({about}{readable_bytes(png)}), {exported_bytes / bc7:.1%} of {textures} BC7 textures "
            f"({readable_bytes(bc7)})"
        )
    lines.append(f"time     {result.seconds:.1f} s to iteration {result.iteration}")
    lines.append(f"files    {one_line(str(result.checkpoint))}")
    lod = picture_lod(config, material)
    shown = f", LOD {lod}" if lod else ""
    lines.append(f"look     {one_line(str(run / 'media'))}{os.sep}*.png (decoded | source | error x8{shown}); "
                 f"tensorboard --logdir {shell_quote(str(run.parent / TENSORBOARD))}")  # fmt: skip
    return "\n".join(lines)
