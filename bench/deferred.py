"""What simple methods reach on a data folder of deferred/, and what runs have reached beside them.

    python -m bench.deferred --data DIR RUN [RUN...]

PSNR over the pixels with a surface of the held-out views: of the mean training image, the nearest training view, and
textures in closed form (conjugate gradients), of plain colours and of colours times nine spherical harmonics of the
view direction. Runs are folders of train.py, train_texture.py or train_unet.py on the same data; beside the PSNR of
their last and best epochs: the energy of their best image's checkerboard, relative to the frames'.
"""

from __future__ import annotations

import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.errors import UserError, quote, run_command
from common.files import parse_json
from common.knobs import OneLineParser

if TYPE_CHECKING:
    from deferred.dataset.frames import FrameSet

BLOCK = 8  # pixels along a side, over which a checkerboard's phase and strength are taken as constant
TEXELS = (32, 64)  # height and width of the closed-form textures


def baselines(train: FrameSet, held_out: FrameSet, height: int, width: int) -> Iterator[tuple[str, float, float]]:
    """Name, PSNR in dB and seconds of each simple method."""
    from deferred.baselines import LinearTexture, mean_image_db, nearest_view_db

    methods = {
        "mean image": lambda: mean_image_db(train, held_out),
        "nearest view": lambda: nearest_view_db(train, held_out),
        f"RGB texture of {width}x{height}, closed form": lambda: LinearTexture(train, height, width, False).db(
            held_out
        ),
        "the same with harmonics of the view": lambda: LinearTexture(train, height, width, True).db(held_out),
    }
    for name, method in methods.items():
        started = time.perf_counter()
        yield name, method(), time.perf_counter() - started


def checkerboard(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """The energy of (H, W, 3) images at the Nyquist frequency along x, y and both, in blocks inside the (H, W) masks:
    the mean over blocks and channels of the three squared coefficients, in squared codes.

    A pattern that repeats every two pixels, as transposed convolutions of stride 2 leave it, is all there; of other
    detail only a little is.
    """
    sign = 1 - 2 * (np.arange(BLOCK) % 2)
    waves = np.stack([np.broadcast_to(sign, (BLOCK, BLOCK)), np.broadcast_to(sign[:, None], (BLOCK, BLOCK)),
                      np.outer(sign, sign)]) / BLOCK**2  # fmt: skip
    found = []
    for image, mask in pairs:
        for top in range(0, mask.shape[0] - BLOCK + 1, BLOCK):
            for left in range(0, mask.shape[1] - BLOCK + 1, BLOCK):
                place = slice(top, top + BLOCK), slice(left, left + BLOCK)
                if mask[place].all():
                    found.append(np.square(np.einsum("wyx,yxc->wc", waves, image[place])).sum(axis=0))
    return float(np.mean(found)) if found else math.nan


def checkerboard_of(run: Path, held_out: FrameSet) -> float:
    """checkerboard of a run's images of held-out views, relative to that of the frames."""
    import torch

    from deferred import checkpoints
    from deferred.evaluation import render_views

    loaded = checkpoints.load(checkpoints.find_checkpoint(str(run), run.parent, ()))
    views = list(render_views(loaded.model.eval(), held_out, 4, torch.device("cpu")))
    ours, truth = (checkerboard((getattr(v, name), v.frame.mask) for v in views) for name in ("image", "truth"))
    return ours / truth


def read_report(run: Path) -> dict:
    """report.json of a run. Raises: UserError."""
    from deferred.training import REPORT

    try:
        report = parse_json((run / REPORT).read_text(encoding="utf-8"))
        found = {name: report[name] for name in ("script", "psnr", "psnr_texture", "seconds", "steps", "options")}
        return {**found, "best": report.get("best_psnr"), "at": report.get("best_epoch")}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{quote(run)}: expected the folder of a run with a {REPORT} of held-out views, found none; train one"
        ) from error


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    parser = OneLineParser(prog="bench.deferred", description=__doc__.splitlines()[0],
                           formatter_class=argparse.ArgumentDefaultsHelpFormatter)  # fmt: skip
    parser.add_argument("--data", default="", help="data folder; empty: the sample")
    parser.add_argument("runs", nargs="*", type=Path, help="run folders")
    given = parser.parse_args(argv)
    from deferred.dataset.frames import FrameSet, split_ids
    from deferred.prepare import data_folder

    reports = [(run, read_report(run)) for run in given.runs]
    folder = data_folder(given.data)
    train, held_out = (FrameSet(folder, ids) for ids in split_ids(folder, None, None))
    for name, psnr, seconds in baselines(train, held_out, *TEXELS):
        print(f"{psnr:6.2f} dB  {name} ({seconds:.1f} s)", flush=True)
    for run, report in reports:
        view = report["options"].get("view_direction")
        width = report["options"].get("unet_width")
        facts = [f"{report['steps']} steps", f"{report['seconds']:.0f} s"]
        facts += [f"best {report['best']:.2f} dB after epoch {report['at']}"] * (report["best"] is not None)
        facts += [str(report["options"].get("upsampling", "transposed"))] * bool(width)
        facts += [f"U-Net of width {width}"] * bool(width) + [f"view direction {view}"] * (view is not None)
        if width:
            facts.append(f"checkerboard {checkerboard_of(run, held_out):.2f} of the frames'")
        print(f"{report['psnr']:6.2f} dB  {report['script']}.py, {', '.join(facts)} ({quote(run.name)})")
    print(json.dumps({run.name: report["psnr"] for run, report in reports}))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
