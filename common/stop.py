"""Ctrl-C and SIGTERM as a request that a loop can look at."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

# --- interrupts ----------------------------------------------------------------------------------------------------


class StopRequest:
    """Set by Ctrl-C and SIGTERM; the loop ends at the next chunk. A second Ctrl-C does not wait."""

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
    """Route SIGINT and SIGTERM to a StopRequest; other threads than the main one cannot."""
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
