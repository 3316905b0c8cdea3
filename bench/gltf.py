"""A model with neural textures, and with its fallback, against the original: pictures by three.js and Cycles, sizes.

    python -m bench.gltf [MODEL] [--bpp 2.5 10] [--preset balanced]       trains, exports with --gltf, and compares
    python -m bench.gltf MODEL --bpp 10 --load_dir outputs/model.glb      compares a finished run, or batch of runs

A headless Chromium draws the model three times: with its own textures, with neural textures (viewer/three), and with
the fallback, which three.js shows that does not know them. Sun with shadows, an environment and tone mapping are the
same. Four cameras see the whole model; a fifth is so near that a texel is larger than a pixel, and shows the
texture's own error. PSNR is of 8-bit sRGB pictures, once whole and once of the pixels where the model is; FLIP is the
mean of the whole. Goals of the four at 2.5 and 10 bpp: at least 35 and 40 dB, FLIP below 0.05 and 0.03, and a silent
console. Software rendering takes a minute for a picture.

`--blender PYTHON`, a Python that has bpy (pip install bpy), also renders with Cycles, without denoising: the
fallback against the original, same seed and lights, and the original against itself with another seed, which is noise
alone. Goal at 10 bpp: 38 dB.

Sizes are bytes of files, and of textures with their mips on a GPU: the images as RGBA8 and as BC7; the features and the
network, with the images that stay. The pictures are kept beside the JSON.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
import sys
from collections.abc import Sequence

from bench.common import RESULTS, use_threads
from common.errors import run_command
from configs import PRESETS

FILTERS = ("", "four", "sixteen", "hardware", "stochastic", "nearest")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    flags = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    flags.add_argument("model", nargs="?", default="data/pillar.glb", help=".glb or .gltf file")
    flags.add_argument("--bpp", type=float, nargs="+", default=[2.5, 10.0], help="rates of the runs, bits per texel")
    flags.add_argument("--preset", default="balanced", choices=PRESETS[1:], help="effort of the runs")
    flags.add_argument("--load_dir", nargs="+", default=[], help="finished runs for the rates, in place of training")
    flags.add_argument("--fallback", default="jpeg", choices=("jpeg", "png"), help="as export.py takes it")
    flags.add_argument("--fallback_lod", type=int, default=1, help="as export.py takes it")
    flags.add_argument("--filter", default="", choices=FILTERS, help="of viewer/three; empty: its choice")
    flags.add_argument("--three", default=".tools/node_modules/three", help="folder of three.js (npm install three)")
    flags.add_argument("--blender", default="", help="Python that has bpy; empty: this one, where it has")
    flags.add_argument("--samples", type=int, default=64, help="rays for a pixel of Cycles")
    flags.add_argument("--size", type=int, default=512, help="pixels of each side of the pictures")
    flags.add_argument("--out", default=str(RESULTS), help="folder for the JSON")
    flags.add_argument("--num_threads", type=int, default=0, help="CPU threads; 0: PyTorch's choice")
    arguments = flags.parse_args(argv)
    use_threads(arguments.num_threads)
    from bench.gltf_work import run_all

    run_all(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
