"""Frames -> an .mp4 file: H.264 through imageio-ffmpeg where it is installed, else MPEG-4 through OpenCV."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from errors import UserError
from files import atomic_write
from images import import_opencv, quote

ADVICE = "pip install -r requirements-lightmap.txt"


def write_video(path: Path, frames: Iterable[np.ndarray], size: tuple[int, int], fps: float) -> str:
    """Write (H, W, 3) uint8 frames of `size` (height, width), atomically; both codecs want even sizes, so that odd ones
    get their last row or column twice.

    Returns: the codec, for the user. Raises: UserError where there is no encoder.
    """
    even = tuple(side + side % 2 for side in size)
    padded = (np.pad(f, [(0, even[0] - size[0]), (0, even[1] - size[1]), (0, 0)], mode="edge") for f in frames)
    try:
        import imageio_ffmpeg
    except ImportError:
        imageio_ffmpeg = None
    with tempfile.TemporaryDirectory() as folder:  # encoders want a path, and write to it as they go
        made = Path(folder) / "day.mp4"
        codec = _with_ffmpeg(imageio_ffmpeg, made, padded, even, fps) if imageio_ffmpeg else None
        codec = codec or _with_opencv(path, made, padded, even, fps)
        with atomic_write(path) as stream, made.open("rb") as source:
            shutil.copyfileobj(source, stream)
    return codec


def _with_ffmpeg(module, made: Path, frames: Iterable[np.ndarray], size: tuple[int, int], fps: float) -> str | None:
    """None where the package has found no ffmpeg."""
    try:
        module.get_ffmpeg_exe()
    except RuntimeError:
        return None
    writer = module.write_frames(
        str(made), size[::-1], fps=fps, macro_block_size=2, quality=8, ffmpeg_log_level="error"
    )
    writer.send(None)
    try:
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()
    return "H.264"


def _with_opencv(path: Path, made: Path, frames: Iterable[np.ndarray], size: tuple[int, int], fps: float) -> str:
    cv2 = import_opencv(f"{quote(path)}: writing a video without imageio-ffmpeg")
    writer = cv2.VideoWriter(str(made), cv2.VideoWriter_fourcc(*"mp4v"), fps, size[::-1])
    try:
        if not writer.isOpened():
            raise UserError(f"{quote(path)}: this OpenCV cannot write videos; {ADVICE}")
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
    finally:
        writer.release()
    return f"MPEG-4, which browsers do not play: for H.264 {ADVICE}"
