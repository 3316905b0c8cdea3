"""Memory that this process has freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back_memory() -> None:
    """Return what the C library keeps of freed blocks: 270 MB after reading a material of 8192 x 8192. Only glibc does
    keep that much, and only it has the call; elsewhere nothing happens."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
