"""Ctrl-C and SIGTERM as a request to stop, which a loop asks for when it can stop cleanly."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


class StopRequest:
    """Whether a signal asked the program to stop, and which. A second one raises KeyboardInterrupt at once."""

    def __init__(self):
        self.signal_number = 0

    @property
    def requested(self) -> bool:
        return self.signal_number != 0

    def __call__(self, signal_number, frame) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.signal_number = signal_number


@contextlib.contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Route SIGINT and SIGTERM to a StopRequest. Other threads than the main one leave signals as they are."""
    stop = StopRequest()
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, stop)
    except ValueError:
        pass
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
