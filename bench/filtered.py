"""One decode of hardware-filtered features against the filtered source: magnified, and tilted with anisotropy.

    python -m bench.filtered DIR... [--bpp 2.5]      trains each material with BC1 planes at filtered positions
    python -m bench.filtered outputs/<run>...        measures finished runs, whatever they were trained as

A headless Chromium decodes the exported files and samples the source's own mips with the same settings of its sampler
(bench/browser.py). Magnified, a texel of LOD 0 covers 4 x 4 pixels. Tilted, a plane is seen at 60 degrees: pixels are
1.4 to 3.7 times as long as wide, and their shorter side spans 1 to 3 texels.

`dB` is the PSNR of 8-bit values against the source that the sampler has filtered, all channels, of three ways to
decode: `one`, where the pixel lies; `four`, the texels around it, blended; `nearest`, the texel it lies in. `pattern`
is what repeats with every texel of a magnified picture: the RMS, in 8-bit codes, of the frequencies within an eighth
of one cycle a texel in either or both directions. A bilinear filter leaves little of it. `model` is the PSNR of one
decode by the training engine at the same places, without a browser's sampler.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # noqa: F401  # before torch

import sys
from collections.abc import Sequence

from bench.common import parser, use_threads
from common.errors import run_command

CROP = 128  # texels of each side that are magnified


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    flags = parser(__doc__.splitlines()[0])
    flags.add_argument("--bpp", type=float, default=2.5, help="rate of the runs, bits per texel")
    flags.add_argument("--preset", default="balanced", help="effort of the runs")
    flags.add_argument("--crop", type=int, default=CROP, help="texels of each side that are magnified")
    arguments = flags.parse_args(argv)
    use_threads(arguments.num_threads)
    from bench.filtered_work import run_all

    run_all(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
