"""The CPU kernels on Windows: run in wine64, where they return what those here return."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.other_systems import (
    assert_same,
    cross_compile,
    cross_driver,
    native_results,
    run_driver,
    wine_or_skip,
)
from tests.support.paths import ROOT
from tests.support.runs import save_maps

TARGET = "x86_64-windows-gnu"
WITHOUT_POSIX = """
import multiprocessing, os, signal, subprocess, sys
import torch, torch.optim, filelock, platformdirs, tensorboardX  # libraries see to Windows themselves

for name in ("fcntl", "pwd", "grp", "resource", "termios"):
    sys.modules[name] = None
for name in ("fork", "getuid", "geteuid", "getpgid", "killpg", "setsid", "sched_getaffinity", "uname", "statvfs"):
    delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "pthread_sigmask"):
    delattr(signal, name)
sys.path.insert(0, sys.argv.pop(1))
here, sys.platform = sys.platform, "win32"  # only while modules see where they are: compilers here are not called .exe
import export, groups.local, groups.worker, train
sys.platform = here
from engine.cpu import cache
assert cache.fcntl is None
sys.exit(train.main(sys.argv[1:]))
"""


def cpu_has(*instructions: str) -> bool:
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and set(instructions) <= set(flags[1].split())


def test_what_only_posix_has_is_not_used(tmp_path):
    """A run, with the calls of Python taken away that Windows does not have."""
    maps = save_maps(tmp_path / "maps")
    flags = ["--data_dir", maps, "--save_dir", tmp_path / "out", "--max_iter", 5, "--batch_size", 64, "--n_neurons", 16]
    command = [sys.executable, "-c", WITHOUT_POSIX, ROOT, *flags]
    done = subprocess.run([*map(str, command)], cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "out").rglob("model.pth"))) == 1


@pytest.mark.timeout(300)
def test_windows(tmp_path):
    wine = wine_or_skip()
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("wine64 runs programs for x86-64")
    flags = ["-march=x86_64_v3"] if cpu_has("avx2", "fma", "bmi2", "movbe", "f16c", "abm") else []
    folder = tmp_path / "with a space"
    cross_compile(folder, TARGET, *flags)
    cross_driver(folder, TARGET, "-Wl,--subsystem,console", "-Wl,-e,mainCRTStartup")
    home = {"WINEPREFIX": str(tmp_path / "wine"), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}
    assert_same(run_driver(folder, [wine], **home), native_results(tmp_path / "here"))


@pytest.mark.timeout(300)
def test_windows_on_arm_compiles(tmp_path):
    """Nothing here can run it. The linker misses no symbol."""
    assert b"nt_trainer_step" in cross_compile(tmp_path, "aarch64-windows-gnu", "-O0").read_bytes()
