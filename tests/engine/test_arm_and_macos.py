"""The CPU kernels on ARM, run in qemu, where they return what those here return; and compiled for macOS."""

from __future__ import annotations

import pytest

from tests.support.other_systems import (
    assert_same,
    cross_compile,
    cross_driver,
    native_results,
    qemu_or_skip,
    run_driver,
)

TARGET = "aarch64-linux-gnu.2.17"


@pytest.mark.timeout(300)
def test_arm(tmp_path):
    qemu = qemu_or_skip()
    cross_compile(tmp_path / "arm", TARGET)
    cross_driver(tmp_path / "arm", TARGET)
    assert_same(run_driver(tmp_path / "arm", qemu), native_results(tmp_path / "here"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("where", ["aarch64-macos.11.0", "x86_64-macos.11.0"])
def test_macos_compiles(where, tmp_path):
    """Nothing here can run it. The linker misses no symbol, and no library is needed that macOS does not have."""
    library = cross_compile(tmp_path, where, "-O0").read_bytes()
    assert b"nt_trainer_step" in library and b"libSystem" in library and b"libc++" not in library
