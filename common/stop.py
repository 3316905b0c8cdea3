"""Ctrl-C, SIGTERM and a lost terminal as a request that a loop can look at."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


class StopRequest:
    """Set by SIGINT, SIGTERM or SIGHUP; the loop ends at the next chunk. A second Ctrl-C ends it at once.

    Other signals may come twice: `timeout` sends SIGTERM to its command and then to the command's process group.
    """

    def __init__(self):
        self.signal_number = 0

    @property
    def requested(self) -> bool:
        return self.signal_number != 0

    def __call__(self, signal_number, frame) -> None:
        if self.requested and signal_number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = self.signal_number or signal_number


@contextlib.contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Route SIGINT, SIGTERM and, unless it is ignored as by nohup, SIGHUP to a StopRequest.

    Outside the main thread signals stay as they are.
    """
    stop = StopRequest()
    before = {}
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        numbers.append(hangup)
    try:
        for number in numbers:
            before[number] = signal.signal(number, stop)
    except ValueError:
        pass
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
