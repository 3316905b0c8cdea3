"""What the tests of machines share: short and long runs in processes of their own, started from a shell."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.forked import python
from tests.support.paths import ROOT
from tests.support.runs import OFFLINE, QUICK, leftovers, newest_run
from training.checkpoint import load_checkpoint

MARKS = [
    pytest.mark.skipif(sys.platform != "linux", reason="signals, mounts and descriptors as Linux has them"),
    pytest.mark.timeout(300),  # processes that import PyTorch, several a test, and one compiles kernels twice
]
SHORT = (*QUICK, "--eval_metrics", "psnr", "--engine", "torch", "--num_threads", "1")
LONG = (*SHORT, "--max_iter", "100000", "--save_interval", "100000", "--early_stop", "False")
TIMEOUT_S = 400  # a first start may have to compile the kernels, on a busy machine


def command(maps, out, *flags, settings=SHORT, own=False) -> list[str]:
    """A command line of train.py; own: of a process with imports of its own."""
    words = [ROOT / "train.py", *settings, "--data_dir", maps, "--save_dir", out, *flags]
    return [*([sys.executable] if own else python()), *map(str, words)]


def shell(line: str, *words, **options) -> subprocess.CompletedProcess:
    """A line of sh, whose "$@" are the words."""
    options = {"capture_output": True, "text": True, "timeout": TIMEOUT_S, "env": {**os.environ, **OFFLINE}, **options}
    return subprocess.run(["sh", "-c", line, "sh", *map(str, words)], **options)


def wait_for_training(out: Path, run: subprocess.Popen) -> Path:
    """Wait until the loop has begun: its TensorBoard file has more than its header."""
    end = time.monotonic() + TIMEOUT_S
    while run.poll() is None and time.monotonic() < end:
        if any(path.stat().st_size > 100 for path in out.glob("tensorboard/*/*")):
            time.sleep(0.3)
            return newest_run(out)
        time.sleep(0.05)
    raise AssertionError(f"training did not begin: {run.poll()}")


def saved_iteration(run: Path) -> int:
    assert leftovers(run) == []
    return load_checkpoint(run).iteration
