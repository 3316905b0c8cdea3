"""Frames -> an .mp4 file: H.264 through imageio-ffmpeg where it is installed, else MPEG-4 through OpenCV."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError, quote
from common.files import atomic_write
from common.opencv import import_opencv

QUALITY = 8  # of imageio-ffmpeg, 0 to 10


def write_video(path: Path, frames: Iterable[np.ndarray], size: tuple[int, int], fps: float, advice: str) -> str:
    """Write (H, W, 3) uint8 frames of `size` (height, width), atomically; both codecs want even sizes, so that odd ones
    get their last row or column twice.

    Args:
        advice: the command that installs imageio-ffmpeg, for the user.
    Returns: the codec, for the user. Raises: UserError where there is no encoder.
    """
    even = tuple(side + side % 2 for side in size)
    padded = (np.pad(f, [(0, even[0] - size[0]), (0, even[1] - size[1]), (0, 0)], mode="edge") for f in frames)
    module = import_ffmpeg()
    with tempfile.TemporaryDirectory() as folder:  # encoders want a path, and write to it as they go
        made = Path(folder) / "made.mp4"
        if module is not None:
            _with_ffmpeg(module, made, padded, even, fps)
        else:
            _with_opencv(path, made, padded, even, fps, advice)
        with atomic_write(path) as stream, made.open("rb") as source:
            shutil.copyfileobj(source, stream)
    return "H.264" if module is not None else f"MPEG-4, which browsers do not play: for H.264 {advice}"


def import_ffmpeg() -> Any:
    """The imageio_ffmpeg module; None where it, or the encoder that it brings, is missing."""
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        return None
    return imageio_ffmpeg


def _with_ffmpeg(module: Any, made: Path, frames: Iterable[np.ndarray], size: tuple[int, int], fps: float) -> None:
    writer = module.write_frames(
        str(made), size[::-1], fps=fps, macro_block_size=2, quality=QUALITY, ffmpeg_log_level="error"
    )
    writer.send(None)
    try:
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()


def _with_opencv(
    path: Path, made: Path, frames: Iterable[np.ndarray], size: tuple[int, int], fps: float, advice: str
) -> None:
    cv2 = import_opencv(f"{quote(path)}: writing a video without imageio-ffmpeg")
    writer = cv2.VideoWriter(str(made), cv2.VideoWriter_fourcc(*"mp4v"), fps, size[::-1])
    try:
        if not writer.isOpened():
            raise UserError(f"{quote(path)}: this OpenCV cannot write videos; {advice}")
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
    finally:
        writer.release()
