"""Small exports, the pages that `export.py --viewer` makes of them, and the images to compare those with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage

import export
from common.errors import run_command
from dataset import load_material
from formats.export import save_images
from formats.textures import ExportedTexture, write_export
from shape import DecoderSpec, GridSpec
from tests.support.exports import make_model


def save_viewer(*flags) -> int:
    return run_command(lambda: export.main([str(flag) for flag in flags]))


def make_export(
    folder: Path, maps: Path, learned: bool = False, linear_color: bool = False, weight_bits: int = 32,
    grids: Sequence[GridSpec] = (), activation_bits: int = 32,
) -> Path:  # fmt: skip
    """An export of a model with random features for the maps in a folder; without `grids` a square one and a small."""
    material = load_material(maps, linear_color=linear_color)
    half = max(material.width, material.height) // 2
    grids = grids or [GridSpec(half, 2, 4, 16, "learned" if learned else "linear"), GridSpec(4, 1, 8, 32)]
    shape = (0, 16, 1, 3, "hard_swish") if learned else (4, 16, 2)
    decoder = DecoderSpec(*shape, weight_bits=weight_bits, activation_bits=activation_bits)
    model = make_model(grids, decoder, material, seed=3)
    model.constants = dict(material.constants)
    model.start_biases([0.5] * 11)  # most values in [0, 1], where rounding does not hide them
    if activation_bits == 8:
        generator = torch.Generator().manual_seed(3)
        model.calibrate(torch.rand((4096, 2), generator=generator), torch.zeros(4096, dtype=torch.int64))
    folder.mkdir(parents=True)
    write_export(folder, model, material.hashed_record, {"psnr": {"all": 31.5}, "lods": []})
    return folder


def images_of(folder: Path, exported: ExportedTexture) -> dict[tuple[str, int], np.ndarray]:
    """What export.py --images writes: (map, LOD) -> (H, W, C)."""
    images = {}
    for path in save_images(folder, exported):
        name, _, lod = path.stem.rpartition("_lod")
        pixels = np.asarray(PillowImage.open(path)).astype(int)
        images[name, int(lod)] = pixels if pixels.ndim == 3 else pixels[..., None]
    return images


def changed_page(page: Path, folder: Path, *changes: tuple[str, str]) -> Path:
    """The page with other texts, in another folder."""
    text = page.read_text(encoding="utf-8")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    (folder / "page.html").write_text(text, encoding="utf-8")
    return folder / "page.html"
