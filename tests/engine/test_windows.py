"""The CPU kernels on Windows: run in wine64, where they return what those here return."""

from __future__ import annotations

import platform
import re
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

TARGET = "x86_64-windows-gnu"


def cpu_has(*instructions: str) -> bool:
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and set(instructions) <= set(flags[1].split())


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
