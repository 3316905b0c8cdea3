"""The memory that something takes above `import torch`, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from common.errors import one_line

ROOT = Path(__file__).resolve().parents[1]
STATUS = Path("/proc/self/status")

WORKER = """
import sys, common.before_torch, torch
from pathlib import Path
status = Path("/proc/self/status")
after_torch = status.read_text() if status.exists() else ""
from {module} import {function}
{function}(after_torch, *sys.argv[1:])
"""


class WorkerFailed(Exception):
    """A process ended without a result; the message is the last line that it said."""


def in_new_process(module: str, function: str, *arguments: Any) -> dict[str, Any]:
    """Call module.function(status after `import torch`, *arguments as texts) there. Returns: the JSON of its last line.

    Raises: WorkerFailed.
    """
    worker = WORKER.format(module=module, function=function)
    command = [sys.executable, "-c", worker, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[-1]
        raise WorkerFailed(one_line(reason)[:200])
    return json.loads(done.stdout.splitlines()[-1])


def peak_above(after_torch: str) -> int | None:
    """The most bytes that this process has held so far, above those of `after_torch`; None elsewhere than on Linux.

    VmHWM rather than getrusage: ru_maxrss of a new process starts at what the process that started it had.
    """
    if not after_torch:
        return None
    return memory_of(STATUS.read_text(), "VmHWM") - memory_of(after_torch, "VmRSS")


def memory_of(status: str, name: str) -> int:
    """Bytes in a line of /proc/self/status: VmRSS (now) or VmHWM (at most so far)."""
    line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
