"""Frames -> an .mp4 file, through imageio-ffmpeg."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from deferred.meshes import ADVICE
from errors import UserError
from files import atomic_write

QUALITY = 8  # of imageio-ffmpeg, 0 to 10


def write_video(path: Path, frames: Iterable[np.ndarray], size: tuple[int, int], fps: float) -> None:
    """Write (H, W, 3) uint8 frames of `size` (height, width) as H.264, atomically.

    The codec wants even sides: odd ones get a black last row or column. Raises: UserError without an encoder.
    """
    module = import_ffmpeg()
    even = tuple(side + side % 2 for side in size)
    with tempfile.TemporaryDirectory() as folder:  # the encoder wants a path, and writes to it as it goes
        made = Path(folder) / path.name
        writer = module.write_frames(
            str(made), even[::-1], fps=fps, macro_block_size=2, quality=QUALITY, ffmpeg_log_level="error"
        )
        writer.send(None)
        try:
            for frame in frames:
                writer.send(np.pad(frame, [(0, even[0] - size[0]), (0, even[1] - size[1]), (0, 0)]))
        finally:
            writer.close()
        with atomic_write(path) as stream, made.open("rb") as source:
            shutil.copyfileobj(source, stream)


def import_ffmpeg():
    """The imageio_ffmpeg module. Raises: UserError where it, or the encoder that it brings, is missing."""
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise UserError(f"--out_mode video: needs imageio-ffmpeg, which is not installed; {ADVICE}, or give "
                        "--out_mode image") from error  # fmt: skip
    return imageio_ffmpeg
