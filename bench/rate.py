"""Rate and distortion: neural textures at several rates against block codecs, AVIF and JPEG XL.

    python -m bench.rate DIR... [--rates 1.25,2.5,5,10] [--preset balanced]     tables, plots, JSON and an HTML report
    python -m bench.rate DIR... --latents packed,bc1 --decoders learned,linear    our forms beside each other, too
    python -m bench.rate DIR --quick      2.5 and 5 bpp and few codecs, less than two minutes; the last line is JSON

Everybody gets LOD 0 of the same material, and is scored by the same functions on the 8-bit images that come back, ours
from the exported files. The rate is in bits per texel of the whole material. Needs requirements/codecs.txt; a codec
whose package is missing is left out with a note.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
import sys
from collections.abc import Callable, Sequence

from bench.common import RESULTS, use_threads
from bench.rate_summary import PLAIN
from common.errors import UserError, run_command
from common.knobs import OneLineParser
from configs import LATENTS, PRESETS
from training.rates import ROWS
from transcode.codecs import CODECS, QUALITIES, missing_packages

RATES = (1.25, 2.5, 5.0, 10.0)
QUICK_RATES = (2.5, 5.0)
QUICK_PRESET = "fast"
QUICK_CODECS = {"astc8x8": (None,), "astc12x12": (None,), "avif": (25, 70)}
ALL_CODECS = {codec: QUALITIES.get(codec, (None,)) for codec in CODECS}
DECODERS = tuple(dict.fromkeys(decoder for decoder, _ in ROWS))
CROP = 384  # texels that the report shows of each material, from its middle


def parse_rates(text: str) -> tuple[float, ...]:
    """'1.25,2.5' -> (1.25, 2.5), ascending."""
    try:
        rates = sorted({float(part) for part in text.split(",")})
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between them, got {text!r:.80}") from error
    if not all(0 < rate <= 1000 for rate in rates):
        raise argparse.ArgumentTypeError(f"expected bits per texel above 0, got {text!r:.80}")
    return tuple(rates)


def words_of(allowed: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A type for argparse: some of these words, commas between them."""

    def parse(text: str) -> tuple[str, ...]:
        words = tuple(dict.fromkeys(text.split(",")))
        if not set(words) <= set(allowed):
            raise argparse.ArgumentTypeError(f"expected some of {','.join(allowed)}, got {text!r:.80}")
        return words

    return parse


def chosen_forms(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    """(latents, decoder) that --latents and --decoders name and that there are. Raises: UserError for a decoder that no
    latents go with."""
    for decoder in arguments.decoders:
        latents = [latents for other, latents in ROWS if other == decoder]
        if not set(latents) & set(arguments.latents):
            raise UserError(f"--decoders {decoder}: expected --latents {' or '.join(latents)}, "
                            f"found {','.join(arguments.latents)}")  # fmt: skip
    return [(latents, decoder) for latents in arguments.latents for decoder in arguments.decoders
            if (decoder, latents) in ROWS]  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        prog="python -m bench.rate",
    )
    parser.add_argument("folders", nargs="+", help="material folders; --quick takes the first")
    parser.add_argument("--rates", type=parse_rates, help="our rates, bits per texel  [1.25,2.5,5,10]")
    latents = f"forms of our runs, with commas between: {', '.join(LATENTS)}"
    parser.add_argument("--latents", type=words_of(LATENTS), default=PLAIN[:1], help=latents)
    decoders = f"with each of them, where there is such a form, with commas between: {', '.join(DECODERS)}"
    parser.add_argument("--decoders", type=words_of(DECODERS), default=PLAIN[1:], help=decoders)
    preset = f"effort of our runs  [balanced; --quick: {QUICK_PRESET}]"
    parser.add_argument("--preset", choices=[name for name in PRESETS if name], help=preset)
    parser.add_argument("--codecs", help="codecs to compare with, commas between them  [all]")
    parser.add_argument("--quick", action="store_true", help="few rates and codecs; the last line is JSON")
    parser.add_argument("--crop", type=int, default=CROP, help="texels of each side that the report shows")
    parser.add_argument("--num_threads", type=int, default=0, help="CPU threads; 0: all cores")
    parser.add_argument("--out", default=str(RESULTS / "rate"), help="folder for the JSON, the plots and the report")
    return parser


def chosen_codecs(arguments: argparse.Namespace) -> dict[str, Sequence[int | None]]:
    """Codec -> qualities, without those whose packages are missing, which are reported."""
    codecs = dict(QUICK_CODECS if arguments.quick else ALL_CODECS)
    if arguments.codecs is not None:
        names = [name for name in arguments.codecs.split(",") if name]
        for name in names:
            if name not in CODECS:
                raise UserError(f"--codecs: expected some of {','.join(CODECS)}; got {name!r:.80}")
        codecs = {name: codecs.get(name, ALL_CODECS[name]) for name in names}
    for name in list(codecs):
        if missing := missing_packages(name):
            print(f"note: {name} is left out, {', '.join(missing)} cannot be imported; "
                  "pip install -r requirements/codecs.txt", flush=True)  # fmt: skip
            del codecs[name]
    return codecs


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    arguments.rates = arguments.rates or (QUICK_RATES if arguments.quick else RATES)
    arguments.preset = arguments.preset or (QUICK_PRESET if arguments.quick else "balanced")
    if arguments.crop < 16:
        raise UserError(f"--crop: expected 16 texels or more, got {arguments.crop}")
    use_threads(arguments.num_threads)
    if arguments.quick:
        arguments.folders = arguments.folders[:1]
    forms, codecs = chosen_forms(arguments), chosen_codecs(arguments)
    from bench.rate_work import run_all

    run_all(arguments, forms, codecs)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
