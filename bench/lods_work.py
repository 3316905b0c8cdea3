"""The work of bench.lods: PSNR between LODs and between texels of a run, against the filtered source."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torchtyping import TensorType

from bench import common
from dataset import Material, load_material
from formats.textures import read_export
from metrics.scores import psnr_db
from model import NeuralTexture
from training.checkpoint import load_checkpoint
from training.run_folder import find_checkpoint

LODS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
SAMPLES = 1 << 16

Positions = TensorType["n", 2]
Values = TensorType["n", "present"]


def bilinear(material: Material, lod: int, uv: Positions) -> Values:
    """The source's present channels at `uv`, filtered with repeat addressing."""
    width, height = material.lod_sizes[lod]
    image = material.texels(lod)[..., material.present_channels]
    position = uv * torch.tensor([width, height]) - 0.5
    corner = position.floor()
    fx, fy = (position - corner).unbind(dim=1)
    x, y = corner.long().unbind(dim=1)

    def texel(dx: int, dy: int) -> Values:
        return image[(y + dy) % height, (x + dx) % width]

    above = torch.lerp(texel(0, 0), texel(1, 0), fx[:, None])
    below = torch.lerp(texel(0, 1), texel(1, 1), fx[:, None])
    return torch.lerp(above, below, fy[:, None])


def blended(material: Material, lod: float, uv: Positions) -> Values:
    """`bilinear` at a fractional LOD: the two LODs around it, blended."""
    lower = min(int(lod), material.num_lods - 1)
    upper = min(lower + 1, material.num_lods - 1)
    return torch.lerp(bilinear(material, lower, uv), bilinear(material, upper, uv), lod - lower)


@torch.no_grad()
def psnr_at(model: NeuralTexture, material: Material, lod: float, uv: Positions) -> float:
    """PSNR in dB over the present channels of decoded samples, before any rounding."""
    decoded = model(uv, torch.full((len(uv),), lod))[:, material.present_channels].clamp(0, 1)
    error = (decoded - blended(material, lod, uv)).double().square().mean(dim=0)
    return psnr_db(error.tolist())


def measure(model: NeuralTexture, material: Material) -> dict[str, Any]:
    """{"lods": {lod: dB at texel centres of LOD 0}, "anywhere": {lod: dB at random positions}} for LODs that exist."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([material.width, material.height])
    anywhere = torch.rand(SAMPLES, 2, generator=generator)
    centres = ((anywhere * size).floor() + 0.5) / size
    lods = [lod for lod in LODS if lod <= material.num_lods - 1]
    return {
        "lods": {lod: psnr_at(model, material, lod, centres) for lod in lods},
        "anywhere": {lod: psnr_at(model, material, lod, anywhere) for lod in lods},
    }


def run_all(arguments: argparse.Namespace) -> None:
    """Measure, print and write what the flags of bench.lods ask for."""
    entries = []
    for run in arguments.folders:
        checkpoint = load_checkpoint(run)
        material = load_material(arguments.data_dir or checkpoint.config.data_dir)
        found = measure(read_export(find_checkpoint(Path(run))).model, material)
        entries.append({"run": Path(run).name, "material": material.name, **found})
        for name, values in (("texel centres", found["lods"]), ("anywhere", found["anywhere"])):
            line = "  ".join(f"{lod:g}: {psnr:.2f}" for lod, psnr in values.items())
            print(f"{material.name:20} {name:14} LOD {line} dB", flush=True)
    print(common.save("lods", arguments.out, {"samples": SAMPLES}, entries))
