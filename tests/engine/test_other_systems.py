"""The CPU kernels on Windows (wine64) and ARM (qemu), where they return what those here return; compiled for macOS."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.support.other_systems import (
    cross_compile,
    cross_driver,
    native_results,
    qemu_or_skip,
    run_driver,
    wine_or_skip,
)

pytestmark = [pytest.mark.timeout(300)]
CASES, GRADIENTS, ARRAYS = 4, 4, 9  # of the driver; of each case: gradients, and all arrays


def cpu_has(*instructions: str) -> bool:
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and set(instructions) <= set(flags[1].split())


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    return native_results(tmp_path_factory.mktemp("native") / "here")


def assert_same(found, native):
    assert [len(array) for array in found] == [len(array) for array in native] and len(found) == CASES * ARRAYS
    for index, (one, other) in enumerate(zip(found, native)):
        scale = np.abs(other).max()
        error = np.abs(one - other)
        assert np.isfinite(one).all() and scale > 0
        if index % ARRAYS <= GRADIENTS:  # and the image before training
            assert error.max() < 1e-5 * scale, (index, error.max() / scale)
        else:
            assert error.mean() < 2e-3 * scale, (index, error.mean() / scale)


def test_windows(native, tmp_path):
    wine = wine_or_skip()
    flags = ["-march=x86_64_v3"] if cpu_has("avx2", "fma", "bmi2", "movbe", "f16c", "abm") else []
    folder = tmp_path / "with a space"
    cross_compile(folder, "x86_64-windows-gnu", *flags)
    cross_driver(folder, "x86_64-windows-gnu", "-Wl,--subsystem,console", "-Wl,-e,mainCRTStartup")
    home = {"WINEPREFIX": str(tmp_path / "wine"), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}
    assert_same(run_driver(folder, [wine], **home), native)


def test_arm(native, tmp_path):
    qemu = qemu_or_skip()
    cross_compile(tmp_path / "arm", "aarch64-linux-gnu.2.17")
    cross_driver(tmp_path / "arm", "aarch64-linux-gnu.2.17")
    assert_same(run_driver(tmp_path / "arm", qemu), native)


@pytest.mark.parametrize("where", ["aarch64-macos.11.0", "x86_64-macos.11.0", "aarch64-windows-gnu"])
def test_compiles(where, tmp_path):
    """For systems that nothing here can run. The linker misses no symbol."""
    library = cross_compile(tmp_path, where, "-O0").read_bytes()
    assert b"nt_trainer_step" in library and b"libc++" not in library
