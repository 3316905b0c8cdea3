"""What the C++ kernels do when threads or memory run out, and which Python error it becomes."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from configs import make_config
from engine.cpu import build, library
from engine.cpu.engine import CpuEngine
from engine.errors import KernelsUnavailable
from engine.schedule import Schedule
from model import build_model
from tests.support.engine_cases import BASE, material_of
from tests.support.runs import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pthread_create is replaced as Linux resolves symbols")

# pthread_create that fails as the kernel does at its limit, once `threads_left` have been started; -1: never
THREADS = r"""
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

#pragma GCC visibility push(default)
extern "C" {
int threads_left = -1;

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*), void* argument) {
    using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
    if (threads_left == 0) return EAGAIN;
    if (threads_left > 0) threads_left--;
    return reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"))(thread, attributes, run, argument);
}
}
#pragma GCC visibility pop
"""
POOL = THREADS + r"""
#include <cstdio>
#include "bare.cpp"
#include "pool.h"
#include "system.cpp"

int main() {
    for (int left = 0; left < 3; left++) {
        threads_left = left;
        nt::Barrier barrier(4);
        std::atomic<int> ran{0};
        const int32_t status = nt::guarded([&] {
            nt::run_threads(4, [&](int) { ran++; barrier.wait([] {}); });
        });
        std::printf("%d left, %d ran: %s\n", left, ran.load(), nt::failure_text);
        if (status != nt::NO_THREADS || ran) return 1;
    }
    threads_left = 3;
    nt::Barrier barrier(4);
    int alone = 0;
    nt::run_threads(4, [&](int) { barrier.wait([&] { alone++; }); });
    if (alone != 1) return 2;
    threads_left = -1;
    const int32_t status = nt::guarded([&] {
        nt::run_threads(4, [&](int thread) { if (thread == 2) nt::fail(nt::FAILED, "as a test"); });
    });
    return status == nt::FAILED && !strcmp(nt::failure_text, "as a test") ? 0 : 3;
}
"""
DECODE = """
import ctypes, sys
from engine.cpu.decoder import decode_lod
from tests.support.kernel_cases import make_model
from common.errors import UserError

model, threads = make_model((8, 2, 4, 16)), ctypes.c_int.in_dll(ctypes.CDLL(sys.argv[1]), "threads_left")
before = decode_lod(model, 0, 90, 70, n_threads=4)
threads.value = 1
try:
    decode_lod(model, 0, 90, 70, n_threads=4)
except UserError as error:
    print(error)
threads.value = -1
assert (decode_lod(model, 0, 90, 70, n_threads=4) == before).all()
"""


@pytest.fixture
def compiled(tmp_path):
    """compiled(source, *flags): the path of what the toolkit's compiler makes of it."""
    try:
        compiler = build.find_compilers()[0]
    except KernelsUnavailable as error:
        pytest.skip(str(error))

    recipe = build.Recipe(build.SOURCES, compiler)

    def run(source: str, *flags: str) -> str:
        (tmp_path / "unit.cpp").write_text(source)
        command = [*compiler, *recipe.compile_flags]
        subprocess.run([*command, f"-I{build.SOURCES}", "-c", "unit.cpp", "-o", "unit.o"], cwd=tmp_path, check=True)
        command += [*flags, "unit.o", "-o", "unit", "-ldl"] + ["-nostdlib++"] * recipe.is_zig
        subprocess.run(command, cwd=tmp_path, check=True)
        return str(tmp_path / "unit")

    return run


def test_threads_that_cannot_start_end_no_process(compiled):
    """Those that have started neither wait at a barrier for ever nor are left behind: std::terminate, or a hang."""
    done = subprocess.run([compiled(POOL)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done


def test_missing_threads_are_named(compiled):
    preloaded = compiled(THREADS, "-shared")
    command = [sys.executable, "-c", DECODE, preloaded]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "LD_PRELOAD": preloaded}, capture_output=True,
                          text=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done
    assert "threads (Resource temporarily unavailable)" in done.stdout and "--num_threads" in done.stdout


@pytest.mark.parametrize(
    ("batch_size", "error", "words"),
    [(1 << 44, MemoryError, "memory"), (1 << 61, RuntimeError, "kernels failed: .*vector")],
)
def test_memory_is_told_from_other_failures(batch_size, error, words):
    """The second batch is more than a std::vector can count: a bug, not a lack of memory."""
    material, config = material_of(), make_config(BASE)
    model = build_model(config, material.width, material.height, material.present_channels.tolist())
    with pytest.raises(error, match=words):
        CpuEngine(model, material, Schedule(dataclasses.replace(config, batch_size=batch_size)))


def test_unknown_failures_keep_their_reason():
    kernels = SimpleNamespace(nt_failure=lambda: b"a small run does not learn")
    library.check(kernels, 0)
    with pytest.raises(RuntimeError, match="a small run does not learn"):
        library.check(kernels, -3)
