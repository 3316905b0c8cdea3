"""Batches of a model's materials as train.py leaves them, with features that are random: nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

import export
from common.errors import run_command
from dataset import load_material
from formats.textures import write_export
from maps.extras import AUTO, Extras
from maps.gltf.materials import labels_of, plan_of
from maps.gltf.source import open_model
from shape import DecoderSpec, GridSpec
from tests.support.exports import make_model

STAMP = "2026-01-31-12-00-00"
SMALL = DecoderSpec(4, 16, 1)


def export_gltf(*flags: object) -> int:
    """The exit code of export.py with these flags."""
    return run_command(lambda: export.main([str(flag) for flag in flags]))


def make_run(
    model: Path, label: str, folder: Path, stamp: str = STAMP, extras: Extras = AUTO, grids: Sequence[GridSpec] = (),
    decoder: DecoderSpec = SMALL,
) -> Path:  # fmt: skip
    """A run of one material in folder/<stamp>. Returns: the folder of its checkpoint."""
    material = load_material(model, extras=extras, material=label)
    half = max(max(material.width, material.height) // 2, 2)
    decoder = replace(decoder, outputs=material.record.n_channels)
    network = make_model(grids or [GridSpec(half, 2, 4, 16), GridSpec(4, 1, 8, 32)], decoder, material, seed=3)
    network.constants = dict(material.constants)
    network.start_biases([0.5] * material.record.n_channels)  # most values in [0, 1], where rounding hides nothing
    if decoder.activation_bits == 8:
        positions = torch.rand((4096, 2), generator=torch.Generator().manual_seed(3))
        network.calibrate(positions, torch.zeros(4096, dtype=torch.int64))
    checkpoint = folder / stamp / "models" / "train_result_4"
    checkpoint.mkdir(parents=True)
    write_export(checkpoint, network, material.hashed_record, {"psnr": {"all": 31.5}, "lods": []})
    (checkpoint / "model.pth").touch()
    (folder / stamp / "config.json").write_text(json.dumps({"data_dir": str(model), "material": label}))
    return checkpoint


def make_batch(model: Path, folder: Path, without: Sequence[str] = ()) -> Path:
    """Runs of all materials that have textures, as in outputs/<model>."""
    opened = open_model(model)
    for index, label in enumerate(labels_of(opened)):
        if plan_of(opened, index).slots and label not in without:
            make_run(model, label, folder / f"material {index}")
    return folder
