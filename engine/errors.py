"""Why a set of kernels cannot be used; whoever asked for it falls back to PyTorch or tells the user."""

from __future__ import annotations

from common.errors import one_line


class KernelsUnavailable(Exception):
    """The kernels cannot run on this machine, or cannot compute this model; the message is one line with the reason."""

    def __init__(self, reason: str):
        super().__init__(one_line(reason))
