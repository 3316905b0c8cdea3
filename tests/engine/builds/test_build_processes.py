"""engine/cpu/build.py: several processes at once, and processes that end in the middle of a build."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from engine.cpu import build as module
from engine.cpu.build import Recipe, build, find_or_build
from tests.support.kernel_builds import (
    answer_of,
    compiled_units,
    is_running,
    names_in,
    needs_scripts,
    wait_for,
)
from tests.support.paths import ROOT

# The module alone: the package around it imports torch, and that takes seconds.
CHILD = """
import ctypes, importlib.util, signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
repository, sources, cache, *compiler = sys.argv[1:]
sys.path.insert(0, repository)
spec = importlib.util.spec_from_file_location("build", Path(repository) / "engine/cpu/build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)
print("ready", flush=True)
sys.stdin.readline()
library = build.find_or_build([build.Recipe(Path(sources), compiler)], [lambda: Path(cache)], print)
print("answer", ctypes.CDLL(str(library)).answer())
"""


@pytest.fixture
def start_child(sources, cache):
    """start_child(command): a process that builds as soon as it reads a line."""
    children = []

    def start(command: list[str]) -> subprocess.Popen:
        arguments = [sys.executable, "-c", CHILD, str(ROOT), str(sources), str(cache), *command]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        children.append(subprocess.Popen(arguments, text=True, **pipes))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.communicate()


@needs_scripts
def test_processes_that_start_together_compile_once(start_child, cache, counting):
    children = [start_child(counting) for _ in range(4)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    outputs = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0] * 4, outputs
    assert all(output.endswith("answer 41\n") for output, _ in outputs)
    assert sum("compiling" in output for output, _ in outputs) == 1
    assert compiled_units(counting) == 2
    assert [name[:8] for name in names_in(cache)] == ["kernels-", "lock"]


@pytest.fixture
def endless_build(start_child, script, tmp_path):
    """A process in the middle of a build, and the ids of the compilers that it waits for."""
    pids = tmp_path / "pids"
    child = start_child(script(f'case "$*" in --version) echo 1.0;; *) echo $$ >> {pids}; exec sleep 100;; esac'))
    child.stdin.write("go\n")
    child.stdin.flush()
    expected = min(2, os.cpu_count() or 1)
    wait_for(lambda: pids.exists() and len(pids.read_text().splitlines()) == expected)
    compilers = [int(line) for line in pids.read_text().split()]
    yield child, compilers
    for pid in filter(is_running, compilers):
        os.kill(pid, signal.SIGKILL)


@needs_scripts
def test_a_killed_build_is_no_hindrance(endless_build, sources, cache, compiler):
    child, _ = endless_build
    child.kill()
    child.wait(timeout=30)
    assert any(name.startswith("build-") for name in names_in(cache)), "nothing to clean up: no test"
    start = time.monotonic()
    assert answer_of(build(Recipe(sources, compiler), cache)) == 41
    assert time.monotonic() - start < 30, "waited for a lock that nobody holds"
    assert [name[:8] for name in names_in(cache)] == ["kernels-", "lock"]


@needs_scripts
def test_ctrl_c_ends_the_compilers_and_leaves_nothing(endless_build, cache):
    child, compilers = endless_build
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode != 0 and "KeyboardInterrupt" in errors
    assert names_in(cache) == ["lock"]
    wait_for(lambda: not any(map(is_running, compilers)), 5)


@needs_scripts
def test_waiting_for_a_stopped_process_has_an_end(endless_build, sources, cache, compiler, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.2)
    start = time.monotonic()
    library = find_or_build([Recipe(sources, compiler)], [lambda: cache, lambda: tmp_path / "other"])
    assert time.monotonic() - start < 30
    assert library.parents[1] == tmp_path / "other" and answer_of(library) == 41
