"""Whether the tile has a seam: PSNR of the same material rolled, and the gradient across the decoded border.

    python -m bench.tiling DIR... [--max_iter 1500]

Rolling a material moves its content over the border of the grids; a seam would cost PSNR there. The gradient across
the border is given against the mean gradient inside, next to the same figure of the source: they should agree.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # noqa: F401  # before torch

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.common import parser, save
from common.errors import run_command
from common.files import write_bytes
from configs import make_config
from maps.images import encode_png

if TYPE_CHECKING:
    import torch

    from dataset import Material

ROLLS = ((0, 0), (512, 512), (37, 211), (900, 5))  # (x, y) texels


def border_gradient(image: torch.Tensor) -> tuple[float, float]:
    """Mean |difference| across the wrap border over that between neighbours inside, along x and along y."""
    across = (image - image.roll(1, 1)).abs().mean(dim=(0, 2)), (image - image.roll(1, 0)).abs().mean(dim=(1, 2))
    return tuple(float(line[0] / line[1:].mean()) for line in across)


def write_rolled(material: Material, roll: tuple[int, int], folder: str) -> None:
    """The maps of `material`, moved by `roll` texels, as PNG files."""
    for name in material.present:
        rolled = np.roll(material.stored(0, name), (roll[1], roll[0]), axis=(0, 1))
        write_bytes(Path(folder, f"{name}.png"), encode_png(rolled))


def measure(folder: str, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry per roll."""
    from dataset import load_material
    from engine.cpu.decoder import decode_lod
    from metrics.decoded_maps import decode_in_file_space
    from training.checkpoint import load_checkpoint
    from training.start import train_material

    material = load_material(folder)
    entries = []
    for roll in ROLLS:
        with tempfile.TemporaryDirectory() as data_dir, tempfile.TemporaryDirectory() as save_dir:
            write_rolled(material, roll, data_dir)
            given = {**settings, "data_dir": data_dir, "save_dir": save_dir}
            result = train_material(make_config(given), say=lambda text: None, quiet=True)
            checkpoint = load_checkpoint(result.run)
            present = material.present_channels
            decoded = decode_in_file_space(checkpoint.model, checkpoint.material, 0, decode_lod)
            decoded = decoded[..., present].clamp(0, 1)
            source = load_material(data_dir).texels(0)[..., present]
        entries.append(
            {
                "material": material.name,
                "roll": list(roll),
                "psnr": result.metrics["psnr"]["all"],
                "decoded_border": border_gradient(decoded),
                "source_border": border_gradient(source),
            }
        )
    return entries


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--max_iter", type=int, default=1500)
    arguments = arguments.parse_args(argv)
    settings = {
        "max_iter": arguments.max_iter,
        "num_threads": arguments.num_threads,
        "eval_interval": arguments.max_iter,
        "save_interval": arguments.max_iter,
    }
    entries = []
    print(f"{'material':<16}{'roll':>12}{'PSNR dB':>9}   border / inside, x y: decoded, source")
    for folder in arguments.folders:
        for entry in measure(folder, settings):
            entries.append(entry)
            figures = " ".join(f"{x:.2f}" for x in (*entry["decoded_border"], *entry["source_border"]))
            print(f"{entry['material']:<16}{entry['roll']!s:>12}{entry['psnr']:>9.2f}   {figures}", flush=True)
    print(save("tiling", arguments.out, settings, entries))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
