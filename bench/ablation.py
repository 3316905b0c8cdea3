"""Training curves: our recipe, and the recipe without one of its parts.

    python -m bench.ablation DIR... [--bpp 2.5] [--iterations 1500]      tables, a plot and JSON
    python -m bench.ablation DIR --quick      few iterations, less than two minutes; the last line is JSON

PSNR is that of LOD 0 as it would be exported: features rounded, decoded, 8 bits. It is measured while the clock stands
still. Rates fall at the end of a run, so a point on the way is not what a run of so many iterations ends with. What the
compiled kernels cannot do runs on PyTorch: compare it by iterations, and its seconds with those of `ours_torch`.

--quick shows that it works: what is better after so few iterations need not be better at the end.

One seed each. Two seeds of one recipe differ by a tenth of a dB, and by more on materials of little contrast.
"""

from __future__ import annotations

from common import knobs

import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
import sys
from collections.abc import Sequence

from bench.common import RESULTS, use_threads
from common.errors import UserError, run_command

BPP = 2.5
QUICK_ITERATIONS = 100
NAMES = (  # of ablation_variants.VARIANTS, which take PyTorch
    "ours", "ours_torch", "constant_rates", "noise_only", "rounded_after", "large_batch", "large_batch_equal", "linear",
    "leaky_relu", "no_biases", "no_search", "default_adam", "ancestors", "bc1", "bc1_after",
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    parser = knobs.OneLineParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        prog="python -m bench.ablation",
    )
    parser.add_argument("folders", nargs="+", help="material folders; --quick takes the first")
    parser.add_argument("--bpp", type=float, default=BPP, help="rate of the recipe, bits per texel, 0.5 to 20")
    parser.add_argument("--iterations", type=int, help="of every run; none: those of --preset balanced, and of --quick "
                        f"{QUICK_ITERATIONS}")  # fmt: skip
    parser.add_argument("--variants", help="some of these, commas between them; none: all of " + ",".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="few iterations; the last line is JSON")
    parser.add_argument("--num_threads", type=int, default=0, help="CPU threads; 0: all cores")
    parser.add_argument("--out", default=str(RESULTS), help="folder for the JSON and the plot")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    arguments = build_parser().parse_args(argv)
    if not 0.5 <= arguments.bpp <= 20:
        raise UserError(f"--bpp: expected 0.5 to 20 bits per texel, got {arguments.bpp:g}")
    if arguments.iterations is not None and arguments.iterations < 1:
        raise UserError(f"--iterations: expected 1 or more, got {arguments.iterations}")
    if arguments.quick:
        arguments.folders = arguments.folders[:1]
        arguments.iterations = arguments.iterations or QUICK_ITERATIONS
    use_threads(arguments.num_threads)
    from bench.ablation_work import run_all

    run_all(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
