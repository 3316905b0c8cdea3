"""Export a checkpoint: latent maps, F2 as state dict, TorchScript and ONNX, textures, shaders, a viewer page.

python export_latent.py --ckpt runs/day/best.ckpt --out_dir exports/day      (inside lightmap/)
python -m lightmap.export_latent --ckpt ... --out_dir ...                    (in the repository's root)
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
import common.before_torch  # isort: skip  # noqa: F401  # before torch

import json
from collections.abc import Sequence
from typing import Any

from common.errors import quote, run_command
from common.knobs import OneLineParser


def read_report(folder: Path) -> dict[str, Any] | None:
    """report.json of a run folder; None if it is missing or damaged."""
    from lightmap.summary import REPORT

    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        return report if isinstance(report, dict) else None
    except (OSError, ValueError):
        return None


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = OneLineParser(prog="export_latent.py", description="Export a trained day.")
    parser.add_argument("--ckpt", type=Path, required=True, help="best.ckpt or last.ckpt of a run")
    parser.add_argument("--out_dir", type=Path, required=True, help="folder that receives the files")
    arguments = parser.parse_args(argv)
    from lightmap import checkpoints
    from lightmap.exports import write_exports

    loaded = checkpoints.load(arguments.ckpt)
    for line in write_exports(arguments.out_dir, loaded.model, loaded.day, read_report(arguments.ckpt.parent)):
        print(line)
    print(f"files    {quote(arguments.out_dir)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
