"""What the tests of engine/cpu/build.py share: small sources, compilers that keep a log, a cache for each test."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

import pytest

from engine.cpu import build as module
from engine.cpu import cache as libraries
from engine.cpu import zig
from engine.cpu.build import find_compilers
from engine.errors import KernelsUnavailable

HEADER = "#define ANSWER 41\n"
EXPORT = 'extern "C" __attribute__((visibility("default"))) '
KERNELS = f"""#include "answer.h"
{EXPORT} int nt_self_test(void) {{ return 0; }}
{EXPORT} int answer(void) {{ return ANSWER; }}
{EXPORT} float multiply_add(float a, float b, float c) {{ return a * b + c; }}
"""
GEMM = f"{EXPORT} float gemm_multiply_add(float a, float b, float c) {{ return a * b + c; }}\n"

packaged_zig = zig.command  # which tests see where they ask for it

needs_scripts = pytest.mark.skipif(os.name != "posix", reason="stands in for a compiler with a shell script")


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch, tmp_path):
    """No setting of the user's, no library of an earlier test, and no folder that is not this test's."""
    for name in ("CXX", "NTC_CXXFLAGS", "NTC_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "_outcome", [])
    monkeypatch.setattr(zig, "command", lambda: None)
    monkeypatch.setattr(libraries, "_held", {})
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def compiler() -> list[str]:
    """The command of a compiler."""
    try:
        return find_compilers()[0]
    except KernelsUnavailable as error:
        command = packaged_zig()
        if command is None:
            pytest.skip(str(error))
        return command


@pytest.fixture
def zig_compiler() -> list[str]:
    """The command of the ziglang package."""
    return zig_or_skip()


def zig_or_skip() -> list[str]:
    """The command of the ziglang package; without it the test is skipped."""
    command = packaged_zig()
    if command is None:
        pytest.skip(f"needs pip install {zig.PACKAGE}")
    return command


@pytest.fixture
def sources(tmp_path) -> Path:
    """Two units and a header, in a folder with a name that needs care."""
    folder = tmp_path / "the source's é"
    folder.mkdir()
    (folder / "answer.h").write_text(HEADER)
    (folder / "kernels.cpp").write_text(KERNELS)
    (folder / "gemm.cpp").write_text(GEMM)
    return folder


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def script(tmp_path):
    """script(body, name="g++"): a program to stand in for a compiler; it keeps a log of how it was called."""

    def make(body: str, name: str = "g++") -> list[str]:
        path = tmp_path / f"script{len(list(tmp_path.glob('script*')))}" / name
        path.parent.mkdir()
        path.write_text(f'#!/bin/sh\necho "$*" >> "{path}.log"\n{body}\n')
        path.chmod(0o755)
        return [str(path)]

    return make


@pytest.fixture
def counting(compiler, script):
    """The compiler, with a log."""
    return script(f'exec {compiler[0]} "$@"')


def compiled_units(command: list[str]) -> int:
    """How many units a script was asked to compile."""
    log = Path(command[0] + ".log")
    return sum(" -c " in line for line in log.read_text().splitlines()) if log.exists() else 0


def answer_of(library: Path) -> int:
    return ctypes.CDLL(str(library)).answer()


def names_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def assert_one_line(error: BaseException, *words: str):
    message = str(error)
    assert len(message.splitlines()) == 1 and 10 < len(message) < 400, repr(message)
    for word in words:
        assert word in message


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that has ended but has no parent to be told counts as gone."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:
        return sys.platform != "linux"
