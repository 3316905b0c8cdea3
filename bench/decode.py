"""Decoding LOD 0: numpy, PyTorch and the fused kernels against each other, and what it costs a shader.

    python -m bench.decode            1024², 2048² and 4096², operations of the shader, a frame of 1920 x 1080; minutes
    python -m bench.decode --quick    1024² and one network alone, less than a minute
    python -m bench.decode --psnr DIR...    nothing of the above: networks of all sizes trained on materials, see
                                            decode_psnr.py, and a plot; a minute each

The three decoders take turns in one process and decode bands of rows of one LOD; the numpy one reads the exported
files. Figures are medians of rounds, ratios are medians of the rounds' ratios. Operations are counted by executing the
decoder's SPIR-V (bench/spirv.py) for one texel, and that of the shaders of export.py --on_load: they are a program's,
not a particular GPU's; four products of bytes that are added to a sum count as one, as many GPUs have it. A frame is
one decode per pixel with the WGSL decoder, where wgpu finds a device; one that is too slow for whole frames, as a CPU
is, decodes its first rows, and the time is that of as many rows as a frame has.

Features and weights are random: how long it takes does not depend on them.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
import sys
from collections.abc import Sequence

from bench.common import RESULTS, use_threads
from common.errors import UserError, run_command

SIZES = (1024, 2048, 4096)
FRAME = (1920, 1080)
RATES = (2.5, 5.0, 10.0)  # bpp


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        prog="python -m bench.decode",
    )  # fmt: skip
    parser.add_argument("--out", default=str(RESULTS), help="folder for the JSON")
    parser.add_argument("--num_threads", type=int, default=0, help="CPU threads; 0: all cores")
    parser.add_argument("--quick", action="store_true", help="one size, one network, short rounds")
    parser.add_argument("--sizes", type=int, nargs="*", help=f"widths of the square materials; none: {list(SIZES)}")
    parser.add_argument("--psnr", nargs="+", metavar="DIR", help="train on these materials, and measure nothing else")
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), help="of --psnr, bpp")
    parser.add_argument("--preset", default="balanced", help="of --psnr")
    parser.add_argument("--frame", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"),
                        default=FRAME, help="of a frame, pixels")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    arguments = build_parser().parse_args(argv)
    use_threads(arguments.num_threads)
    if arguments.psnr:
        from bench.decode_work import measure_materials

        return measure_materials(arguments)
    arguments.sizes = arguments.sizes or (SIZES[:1] if arguments.quick else list(SIZES))
    for flag, values in (("sizes", arguments.sizes), ("frame", arguments.frame)):
        if min(values) < 8 or max(values) > 16384:
            raise UserError(f"--{flag}: expected widths of 8 to 16384, got {' '.join(map(str, values))}")
    from bench.decode_work import run_all

    run_all(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
