"""How a run decodes between LODs and between texels: PSNR against the source, blended and filtered as a sampler would.

    python -m bench.lods outputs/yyyy-mm-dd-hh-mm-ss... [--data_dir DIR]

At each LOD, whole or fractional, the texel centres of LOD 0 (or random positions) are decoded from the exported files,
and compared with the bilinear samples of the two LODs around, blended. A dip at LOD 0.5 would show as a seam in depth.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # before torch

import sys
from collections.abc import Sequence

from bench import common
from common.errors import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    parser = common.parser("PSNR between LODs and between texels, of finished runs.")
    parser.add_argument("--data_dir", default="", help="the material; empty: the folder that the run was trained on")
    arguments = parser.parse_args(argv)
    common.use_threads(arguments.num_threads)
    from bench.lods_work import run_all

    run_all(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
