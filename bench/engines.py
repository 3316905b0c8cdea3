"""The engines against each other: PyTorch, as it comes and compiled, the fused kernels, on a GPU also tiny-cuda-nn.

    python -m bench.engines [DIR...]                  step speed, sizes, threads and whole runs; a quarter of an hour
    python -m bench.engines --quick                   step speed alone, less than a minute; the last line is JSON
    python -m bench.engines --instruction_sets        step speed of the kernels for this CPU's and for narrower vectors
    python -m bench.engines --device cuda [--quick]   on a GPU, see bench/engines_gpu.py; five minutes with --quick

Whatever is compared takes turns in one process, so that a busy machine slows all of it alike. Figures are medians of
rounds, ratios are medians of the rounds' ratios. A round of the cpu engine is as many iterations as lie between two
sweeps of its grids (engine/cpu/src/adam.h), so that each round pays for one; those of --quick are shorter and pay for
none, which at 1024 x 1024 makes a thousandth. Iterations are those at the start of a run: full rates and noise.

On a machine with other work PyTorch, whose threads wait for each other a hundred times per iteration, loses more than
the kernels do: ratios belong to idle machines, which is what `load_average` in the last line of --quick is about.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
import sys
from collections.abc import Sequence

from bench.common import GPU_SIZES, RESULTS, use_threads
from common.errors import UserError, run_command
from common.knobs import parse_bool
from configs import LATENTS

SIZES = (512, 1024, 2048, 4096)


def build_parser() -> argparse.ArgumentParser:
    description = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, prog="python -m bench.engines"
    )
    parser.add_argument("folders", nargs="*", default=["data/test"], help="materials; speed is measured with the first")
    parser.add_argument("--out", default=str(RESULTS), help="folder for the JSON and the plot")
    parser.add_argument("--num_threads", type=int, default=0, help="CPU threads; 0: all cores")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--quick", action="store_true", help="step speed; on a GPU also the profile and one size")
    parser.add_argument("--instruction_sets", action="store_true", help="step speed per instruction set")
    parser.add_argument("--sizes", type=int, nargs="*", help=f"widths of the square materials; default: {SIZES}, on a "
                        f"GPU {GPU_SIZES}")  # fmt: skip
    parser.add_argument("--latents", choices=LATENTS, default="packed", help="grids of the sizes, on the CPU")
    parser.add_argument("--full_runs", type=parse_bool, nargs="?", const=True, default=True, help="with whole runs")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    arguments = build_parser().parse_args(argv)
    if min(arguments.sizes or [1]) < 1:
        raise UserError(f"--sizes: expected widths of 1 texel or more, got {min(arguments.sizes)}")
    if arguments.device != "cpu":
        if arguments.instruction_sets:
            raise UserError(f"--instruction_sets: expected --device cpu, found {arguments.device}")
        if arguments.latents != "packed":
            raise UserError(f"--latents {arguments.latents}: expected --device cpu, found {arguments.device}")
        from bench import engines_gpu

        return engines_gpu.command(arguments)
    if arguments.sizes is None:
        arguments.sizes = list(SIZES)
    use_threads(arguments.num_threads)
    if arguments.instruction_sets:
        from bench.engines_sets import run_sets

        run_sets(arguments)
        return 0
    from bench.engines_work import run_all

    run_all(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
