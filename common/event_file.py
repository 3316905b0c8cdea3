"""A TensorBoard event file that a training writes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2

TENSORBOARD_IMAGE_SIZE = 512  # longest side of logged images; larger ones make event files outgrow the checkpoints


class EventFile:
    """A TensorBoard event file that the caller's thread writes.

    tensorboardX's own SummaryWriter writes in a second thread; on a full disk that thread dies with a traceback and the
    training waits for it forever. Here the OSError reaches the caller.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        # absolute: the writer takes what stands before a colon, as in s3:maps, for the name of a storage service
        self._folder = folder.absolute()
        with self._named():
            self._writer = EventsWriter(str(self._folder / "events"), f".{os.getpid()}")

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Add the folder to an OSError that names no file."""
        try:
            yield
        except OSError as error:
            error.filename = error.filename or str(self._folder)
            raise

    def restart(self, step: int) -> None:
        """Make TensorBoard drop the events of `step` and later that the run wrote before it was interrupted."""
        log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        with self._named():
            self._writer.write_event(event_pb2.Event(wall_time=time.time(), step=step, session_log=log))

    def scalar(self, tag: str, value: float, step: int) -> None:
        self._write(summary.scalar(tag, value), step)

    def image(self, tag: str, height: int, width: int, channels: int, png: bytes, step: int) -> None:
        """Add a PNG file of this shape. Encoding it in tensorboardX would take most of an evaluation's time."""
        content = summary_pb2.Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=png)
        self._write(summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, image=content)]), step)

    def _write(self, content: Any, step: int) -> None:
        with self._named():
            self._writer.write_event(event_pb2.Event(wall_time=time.time(), step=step, summary=content))

    def flush(self) -> None:
        with self._named():
            self._writer.flush()

    def close(self) -> None:
        self._writer.close()
