"""Render a day at any hour, as an image, a contact sheet or a video.

    python infer.py --ckpt runs/day/best.ckpt --time 12 --out noon.png
    python infer.py --latent_path latent_map.npy --f2_path f2_state_dict.pt --time 18.5 --out evening.png
    python infer.py --ckpt runs/day/best.ckpt --video day.mp4 --fps 24 --contact_sheet day.png

As `python -m lightmap.infer` in the repository's root.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
import common.before_torch  # isort: skip  # noqa: F401  # before torch

import argparse
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from common.arrays import write_array
from common.errors import UserError, quote, run_command
from common.files import make_folder, write_bytes
from common.knobs import OneLineParser
from common.video import write_video
from maps.images import encode_png

if TYPE_CHECKING:
    from lightmap.rendering import Renderable

SUFFIXES = (".png", ".exr", ".npy")
SHEET = "contact_sheet.png"
MOST_VIDEO_FRAMES = 100_000
ADVICE = "pip install -r requirements/lightmap.txt"


def display(day: Renderable, hours: float) -> np.ndarray:
    """(H, W, 3) uint8 for a screen."""
    from lightmap.pictures import tone_mapped
    from metrics.pictures import display_pixels

    return display_pixels(tone_mapped(day.light(hours), day.encoding))


def write_image(path: Path, day: Renderable, hours: float) -> None:
    """PNG for a screen (16 bits for frames of 16 bits), or the values themselves as EXR or .npy. Raises: UserError."""
    suffix = path.suffix.lower()
    if suffix == ".png":
        pixels = display(day, hours)
        if day.bits == 16:
            pixels = (day.light(hours).clip(0, 1) * np.float32(65535) + np.float32(0.5)).astype(np.uint16)
        write_bytes(path, encode_png(pixels))
    elif suffix == ".npy":
        write_array(path, day.light(hours))
    else:
        write_exr(path, day.light(hours))


def write_exr(path: Path, pixels: np.ndarray) -> None:
    """(H, W, 3) float32 as an EXR file of floats."""
    try:
        import OpenEXR
    except ImportError as error:
        raise UserError(f"{quote(path)}: writing EXR needs the OpenEXR package; pip install OpenEXR") from error
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "image.exr"
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, {"RGB": np.ascontiguousarray(pixels, np.float32)}).write(str(made))
        write_bytes(path, made.read_bytes())


def build_parser() -> OneLineParser:
    """The parser of infer.py."""
    parser = OneLineParser(prog="infer.py", description="Render a day of lightmaps at any hour.")
    parser.add_argument("--ckpt", type=Path, help="best.ckpt or last.ckpt of a run, day.npz or f1_f2.npz of an export")
    parser.add_argument("--latent_path", type=Path, help="latent_map.npy or latent_map_q8.npz of an export")
    parser.add_argument("--f2_path", type=Path, help="f2_state_dict.pt of the same export")
    parser.add_argument("--time", type=float, help="hours; any number, the day repeats (24 is 0)")
    parser.add_argument("--out", type=Path, help="image to write: .png, .exr or .npy")
    parser.add_argument("--video", type=Path, help="video of the whole day to write, .mp4")
    parser.add_argument("--fps", type=float, default=24.0, help="frames a second of the video [default 24]")
    parser.add_argument("--video_seconds", type=float, default=10.0, help="length of the video [seconds; default 10]")
    parser.add_argument("--contact_sheet", type=Path, nargs="?", const=Path(SHEET),
                        help=f"picture of all 24 hours to write [default {SHEET}]")  # fmt: skip
    return parser


def load(arguments: argparse.Namespace) -> Renderable:
    """The day of --ckpt, or of --latent_path and --f2_path. Raises: UserError."""
    from lightmap.rendering import from_checkpoint, from_exports

    if arguments.ckpt:
        return from_checkpoint(arguments.ckpt)
    return from_exports(arguments.latent_path, arguments.f2_path)


def check(arguments: argparse.Namespace) -> None:
    """Check all flags before any file is read. Raises: UserError."""
    if (arguments.time is None) != (arguments.out is None):
        raise UserError("--time and --out: expected both, or neither; the one says when, the other where it goes")
    if arguments.out is None and arguments.video is None and arguments.contact_sheet is None:
        raise UserError("expected --time and --out, --video or --contact_sheet, found none: nothing would be written")
    if arguments.out is not None and arguments.out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {quote(arguments.out)}: expected a name that ends in {', '.join(SUFFIXES)}")
    if arguments.contact_sheet is not None and arguments.contact_sheet.suffix.lower() != ".png":
        raise UserError(f"--contact_sheet {quote(arguments.contact_sheet)}: expected a name that ends in .png")
    if arguments.video is not None and arguments.video.suffix.lower() != ".mp4":
        raise UserError(f"--video {quote(arguments.video)}: expected a name that ends in .mp4")
    if not 1 <= arguments.fps <= 240:
        raise UserError(f"--fps: expected 1 to 240 frames a second, got {arguments.fps:g}")
    if not 1 <= arguments.fps * arguments.video_seconds <= MOST_VIDEO_FRAMES:
        raise UserError(f"--video_seconds: expected 1 to {MOST_VIDEO_FRAMES} frames with --fps {arguments.fps:g}, got "
                        f"{arguments.video_seconds:g} seconds")  # fmt: skip
    pair = (arguments.latent_path, arguments.f2_path)
    if (arguments.ckpt is None) == (pair == (None, None)) or (arguments.ckpt is None and None in pair):
        raise UserError("expected --ckpt, or --latent_path and --f2_path together; see --help")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    check(arguments)
    from lightmap.data import HOURS
    from lightmap.pictures import contact_sheet
    from lightmap.rendering import checked_hours

    hours = None if arguments.time is None else checked_hours(arguments.time)
    day = load(arguments)
    for path in filter(None, (arguments.out, arguments.video, arguments.contact_sheet)):
        make_folder(path.resolve().parent)
    if hours is not None:
        write_image(arguments.out, day, hours)
        print(f"{quote(arguments.out)}  {day.size[1]}x{day.size[0]} at {hours:g} h")
    if arguments.contact_sheet is not None:
        sheet = contact_sheet([display(day, float(hour)) for hour in range(int(HOURS))])
        write_bytes(arguments.contact_sheet, encode_png(sheet))
        print(f"{quote(arguments.contact_sheet)}  {int(HOURS)} hours")
    if arguments.video is not None:
        count = max(1, round(arguments.fps * arguments.video_seconds))
        frames = (display(day, HOURS * index / count) for index in range(count))
        codec = write_video(arguments.video, frames, day.size, arguments.fps, ADVICE)
        print(f"{quote(arguments.video)}  {count} frames at {arguments.fps:g} a second, {codec}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
