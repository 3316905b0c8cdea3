"""Memory that goes back to the system: what this process has freed, and large arrays that it needs later."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
import tempfile
from pathlib import Path

import torch

from common.cores import CGROUPS, OWN_CGROUPS, own_groups

MEMINFO = Path("/proc/meminfo")
LARGE_FLOATS = 2**23  # of an array that is worth a file


def give_back_memory() -> None:
    """Return what the C library keeps of freed blocks: 270 MB after reading a material of 8192 x 8192. Only glibc does
    keep that much, and only it has the call; elsewhere nothing happens."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def free_memory(meminfo: Path = MEMINFO, cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int | None:
    """Bytes that this process may still take without swapping: of the machine, or fewer by its containers' limits.

    None where the system does not say (it is Linux that does).
    """
    free = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines() if ":" in line)
        free = [int(lines["MemAvailable"].split()[0]) * 1024] if "MemAvailable" in lines else []
    for group in own_groups("memory", cgroups, own):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            with contextlib.suppress(OSError, ValueError):  # "max": no limit
                most, taken = (int((group / name).read_text(encoding="ascii")) for name in (limit, used))
                free.append(max(0, most - taken + _file_pages(group)))
    return min(free) if free else None


def _file_pages(group: Path) -> int:
    """Bytes of files that the system keeps for a group and drops when they are needed."""
    with contextlib.suppress(OSError, ValueError):
        for line in (group / "memory.stat").read_text(encoding="ascii").splitlines():
            if line.startswith(("inactive_file ", "total_inactive_file ")):
                return int(line.split()[1])
    return 0


class RestingFloats:
    """An array of float32 numbers, `values`, to be filled, put to rest with `let_go`, and read again some time later.

    A large one lies in a file without a name in `folder`, where the system has such and the disk has room: at rest it
    takes no memory, and its pages return as they are read. Whatever happens to the process, no file stays behind.

    Args:
        folder: None: the array stays in memory.
    """

    def __init__(self, count: int, folder: Path | None):
        self._pages: mmap.mmap | None = None
        if folder is not None and count >= LARGE_FLOATS and sys.platform == "linux":
            with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as stream:
                os.posix_fallocate(stream.fileno(), 0, 4 * count)  # a page without room would end the process later
                self._pages = mmap.mmap(stream.fileno(), 4 * count)
        self.values = torch.empty(count) if self._pages is None else torch.frombuffer(self._pages, dtype=torch.float32)

    def let_go(self) -> None:
        """Give the array's memory back until it is read."""
        if self._pages is not None:
            self._pages.madvise(mmap.MADV_DONTNEED)
