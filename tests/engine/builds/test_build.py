"""engine/cpu/build.py: compiled once, found again, and a name that changes with all that the library depends on."""

from __future__ import annotations

import os
import platform
import re
import threading
import time
from pathlib import Path

import pytest

from engine.cpu import build as module
from engine.cpu.build import Recipe, build, find_or_build, load_library
from engine.errors import KernelsUnavailable
from tests.support.kernel_builds import (
    HEADER,
    KERNELS,
    answer_of,
    assert_one_line,
    compiled_units,
    names_in,
    needs_scripts,
)


@needs_scripts
def test_compiles_once_and_reuses(sources, cache, counting):
    said = []
    first = build(Recipe(sources, counting), cache, said.append)
    assert answer_of(first) == 41
    assert compiled_units(counting) == 2
    assert len(said) == 1 and re.fullmatch(r"compiling the CPU kernels with g\+\+ [\d.]+ \(once per machine\)", said[0])
    assert find_or_build([Recipe(sources, counting)], [lambda: cache], said.append) == first
    assert build(Recipe(sources, counting), cache, said.append) == first
    assert compiled_units(counting) == 2 and len(said) == 1
    assert names_in(cache) == [first.parent.name, "lock"], "nothing but the library stays"
    assert names_in(first.parent) == ["kernels.so", "sha256"]


@needs_scripts
def test_nothing_is_compiled_that_could_not_be_tested(sources, cache, counting, tmp_path, monkeypatch):
    """The self-test runs in another Python: of a user who may not start this one from another program, say."""
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(KernelsUnavailable) as caught:
        find_or_build([Recipe(sources, counting)] * 2, [lambda: cache] * 2)
    assert_one_line(caught.value, str(tmp_path / "python"), "test the CPU kernels")
    assert compiled_units(counting) == 0


def test_load_library(sources, cache, compiler, monkeypatch):
    monkeypatch.setattr(module, "SOURCES", sources)
    monkeypatch.setenv("NTC_CACHE", str(cache))
    said = []
    library = load_library(said.append)
    assert library.answer() == 41 and len(said) == 1
    assert load_library(said.append) is library
    assert names_in(cache) == [Path(library._name).parent.name, "lock"]
    monkeypatch.setattr(module, "_outcome", [])  # as in another process
    assert load_library(said.append).answer() == 41 and len(said) == 1


@pytest.mark.parametrize("outcome", [object(), KernelsUnavailable("none, as a test")], ids=["library", "failure"])
def test_threads_wait_for_one_of_them(outcome, monkeypatch):
    calls, results = [], []

    def load(say):
        calls.append(say)
        time.sleep(0.2)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def call():
        try:
            results.append(load_library())
        except KernelsUnavailable as error:
            results.append(str(error))

    monkeypatch.setattr(module, "_load", load)
    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    call()
    assert len(calls) == 1
    assert results == [str(outcome) if isinstance(outcome, Exception) else outcome] * 5


@needs_scripts
def test_a_start_with_a_filled_cache_asks_for_the_version_and_no_more(sources, cache, counting, monkeypatch):
    monkeypatch.setattr(module, "SOURCES", sources)
    monkeypatch.setenv("NTC_CACHE", str(cache))
    monkeypatch.setenv("CXX", counting[0])
    load_library()
    Path(counting[0] + ".log").unlink()
    monkeypatch.setattr(module, "_outcome", [])
    load_library()
    assert Path(counting[0] + ".log").read_text() == "--version\n"


def test_another_header_is_another_library(sources, cache, compiler):
    first = build(Recipe(sources, compiler), cache)
    (sources / "answer.h").write_text("#define ANSWER 42\n")
    second = build(Recipe(sources, compiler), cache)
    assert (answer_of(first), answer_of(second)) == (41, 42)
    (sources / "answer.h").write_text(HEADER)
    assert build(Recipe(sources, compiler), cache) == first


CHANGES = {
    "source": lambda sources, patch: (sources / "kernels.cpp").write_text(KERNELS + "\n"),
    "header": lambda sources, patch: (sources / "answer.h").write_text("#define ANSWER 40\n"),
    "new unit": lambda sources, patch: (sources / "other.cpp").write_text(""),
    "new header": lambda sources, patch: (sources / "other.h").write_text(""),
    "renamed unit": lambda sources, patch: (sources / "gemm.cpp").rename(sources / "gemv.cpp"),
    "flags": lambda sources, patch: patch.setattr(module, "COMPILE_FLAGS", ("-O2",)),
    "contraction": lambda sources, patch: patch.setattr(module, "CONTRACTION", {}),
    "link flags": lambda sources, patch: patch.setattr(module, "LINK_FLAGS", ("-shared",)),
    "CPU": lambda sources, patch: patch.setattr(module, "cpu_identity", lambda: "flags: none"),
    "machine": lambda sources, patch: patch.setattr(module.platform, "machine", lambda: "pdp11"),
}


@needs_scripts
@pytest.mark.parametrize("change", CHANGES)
def test_the_name_changes_with(change, sources, script, monkeypatch):
    command = script("echo g++ 1.0")
    before = Recipe(sources, command).folder_name
    CHANGES[change](sources, monkeypatch)
    assert Recipe(sources, command).folder_name != before


@needs_scripts
def test_the_name_changes_with_compiler_and_the_users_flags(sources, script):
    one, newer, elsewhere = script("echo g++ 1.0"), script("echo g++ 1.1"), script("echo g++ 1.0")
    recipes = [
        Recipe(sources, one), Recipe(sources, one, ["-mavx2"]), Recipe(sources, one, ["-msse2"]),
        Recipe(sources, [*one, "-m64"]), Recipe(sources, newer), Recipe(sources, elsewhere),
    ]  # fmt: skip
    assert len({recipe.folder_name for recipe in recipes}) == len(recipes)
    before = Recipe(sources, one).folder_name
    Path(one[0]).write_text(Path(one[0]).read_text().replace("1.0", "1.2"))
    assert Recipe(sources, one).folder_name != before


@needs_scripts
def test_the_name_does_not_change_with_place_time_or_what_editors_leave(sources, script, tmp_path):
    command = script("echo g++ 1.0")
    before = Recipe(sources, command).folder_name
    (sources / ".#kernels.cpp").symlink_to("nowhere")
    (sources / "kernels.cpp~").write_text("x")
    (sources / "__pycache__").mkdir()
    os.utime(sources / "gemm.cpp", (0, 0))
    moved = sources.rename(tmp_path / "moved")
    assert Recipe(moved, command).folder_name == before


def test_the_cpu_has_an_identity_that_stays():
    assert module.cpu_identity().strip(), "empty: another machine's library would be taken for this one's"
    assert module.cpu_identity() == module.cpu_identity()
    if Path("/proc/cpuinfo").exists() and platform.machine() == "x86_64":
        assert " sse2 " in module.cpu_identity() and "MHz" not in module.cpu_identity()


def test_the_real_sources_have_a_self_test():
    """What build.py expects of them; test_cpu_engine.py compiles them."""
    units = sorted(path.name for path in module.SOURCES.glob("*.cpp"))
    assert set(module.CONTRACTION) <= set(units)
    assert any("nt_self_test" in (module.SOURCES / name).read_text() for name in units)
