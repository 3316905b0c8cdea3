"""engine/cpu/build.py: compiled once, found again, never half there, and one line where it cannot be done."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.cpu import build as module
from engine.cpu.build import KernelsUnavailable, Recipe, build, find_compilers, find_or_build, load_library

REPOSITORY = Path(module.__file__).parents[2]
HEADER = "#define ANSWER 41\n"
EXPORT = 'extern "C" __attribute__((visibility("default"))) '
KERNELS = f"""#include "answer.h"
{EXPORT} int nt_self_test(void) {{ return 0; }}
{EXPORT} int answer(void) {{ return ANSWER; }}
{EXPORT} float multiply_add(float a, float b, float c) {{ return a * b + c; }}
"""
GEMM = f"{EXPORT} float gemm_multiply_add(float a, float b, float c) {{ return a * b + c; }}\n"

needs_scripts = pytest.mark.skipif(os.name != "posix", reason="stands in for a compiler with a shell script")


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch, tmp_path):
    """No setting of the user's, no library of an earlier test, and no folder that is not this test's."""
    for name in ("CXX", "NTC_CXXFLAGS", "NTC_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "_outcome", [])
    monkeypatch.setattr(module, "_held", {})
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def compiler() -> list[str]:
    """The command of a compiler."""
    try:
        return find_compilers()[0]
    except KernelsUnavailable as error:
        pytest.skip(str(error))


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


# --- compiled, and found again ---------------------------------------------------------------------------------------


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


# --- old libraries ---------------------------------------------------------------------------------------------------


def old_library(cache: Path, name: str, used: int) -> Path:
    """A library folder as an earlier version of the sources has left it, last used at second `used` of 1970."""
    folder = cache / f"kernels-{name}"
    folder.mkdir(parents=True)
    (folder / module.LIBRARY).write_bytes(name.encode())
    (folder / module.DIGEST).write_text(module.sha256_of(folder / module.LIBRARY))
    os.utime(folder / module.DIGEST, (used, used))
    return folder


def test_a_build_keeps_the_libraries_used_last(sources, cache, compiler):
    for used in (5, 2, 9, 3, 7, 1):
        old_library(cache, str(used), used)
    (cache / "kernels-broken").mkdir()  # without a digest, nobody loads it
    built = build(Recipe(sources, compiler), cache).parent
    assert names_in(cache) == sorted([built.name, "kernels-9", "kernels-7", "kernels-5", "lock"])
    assert answer_of(built / module.LIBRARY) == 41


def test_to_load_a_library_is_to_use_it(sources, cache, compiler):
    first = build(Recipe(sources, compiler), cache).parent
    os.utime(first / module.DIGEST, (1, 1))
    find_or_build([Recipe(sources, compiler)], [lambda: cache])
    assert (first / module.DIGEST).stat().st_mtime > time.time() - 100


def test_a_cache_without_too_many_is_left_alone(cache):
    folders = [old_library(cache, str(used), used) for used in range(4)]
    module.prune(cache, folders[0])
    assert all(module.whole_library(folder) for folder in folders)
    old_library(cache, "4", 4)
    module.prune(cache, folders[0])  # the one that was just built stays, however old it looks
    assert names_in(cache) == [f"kernels-{used}" for used in (0, 2, 3, 4)]


USER = """
import importlib.util, sys
from pathlib import Path
repository, folder = sys.argv[1:]
sys.path.insert(0, repository)
spec = importlib.util.spec_from_file_location("build", Path(repository) / "engine/cpu/build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)
print(build.use(Path(folder)), flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(module.fcntl is None, reason="Windows keeps loaded libraries by itself")
def test_a_library_that_a_process_uses_stays_until_it_ends(cache, tmp_path):
    folders = [old_library(cache, str(used), used) for used in range(1, 8)]
    arguments = [sys.executable, "-c", USER, str(REPOSITORY), str(folders[0])]
    child = subprocess.Popen(arguments, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == f"{folders[0] / module.LIBRARY}\n"
        os.utime(folders[0] / module.DIGEST, (1, 1))  # used long ago, and still in use
        module.prune(cache, folders[6])
        assert names_in(cache) == [f"kernels-{used}" for used in (1, 4, 5, 6, 7)]
        assert module.whole_library(folders[0])
    finally:
        child.communicate("end\n")
    module.prune(cache, folders[6])
    assert names_in(cache) == [f"kernels-{used}" for used in (4, 5, 6, 7)]


@pytest.mark.skipif(module.fcntl is None, reason="Windows keeps loaded libraries by itself")
def test_a_library_that_is_being_removed_is_not_used(cache):
    folder = old_library(cache, "1", 1)
    with (folder / module.DIGEST).open() as stream:
        module.fcntl.flock(stream, module.fcntl.LOCK_EX)
        assert module.use(folder) is None
    assert module.use(folder) == folder / module.LIBRARY
    assert module.use(folder) == folder / module.LIBRARY  # a second time, with one descriptor
    assert list(module._held).count(folder) == 1


def test_a_file_system_without_locks_loses_nothing(cache, monkeypatch):
    if module.fcntl is None:
        pytest.skip("no fcntl here")
    folders = [old_library(cache, str(used), used) for used in range(6)]

    def refuse(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    module.prune(cache, folders[5])
    assert all(module.use(folder) for folder in folders)


# --- several processes, and processes that end in the middle ---------------------------------------------------------

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
        arguments = [sys.executable, "-c", CHILD, str(REPOSITORY), str(sources), str(cache), *command]
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


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that has ended but has no parent to be told counts as gone."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:
        return sys.platform != "linux"


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


# --- what this CPU can run -------------------------------------------------------------------------------------------

FLAG_SETS = (("-DFIRST",), ("-DSECOND",), ("-DNEITHER",))
BODIES = {  # of nt_self_test under the flags that are no good here
    "returns 1": "return 1;",
    "returns 256": "return 256;",  # 0 as an exit code
    "dies": "__builtin_trap();",
    "hangs": "for (volatile int i = 0;; ) i = 1;",
    "does not compile": "return undeclared;",
}


def write_self_test(sources: Path, condition: str, body: str):
    """A self-test that is bad where the preprocessor's condition holds, and an answer that tells the flags."""
    (sources / "kernels.cpp").write_text(
        f"""#if {condition}
            {EXPORT} int nt_self_test(void) {{ {body} }}
            #else
            {EXPORT} int nt_self_test(void) {{ return 0; }}
            #endif
            #if defined FIRST
            {EXPORT} int answer(void) {{ return 1; }}
            #elif defined SECOND
            {EXPORT} int answer(void) {{ return 2; }}
            #else
            {EXPORT} int answer(void) {{ return 3; }}
            #endif
        """
    )


@pytest.mark.parametrize(("condition", "expected"), [("0", 1), ("defined FIRST", 2), ("!defined NEITHER", 3)])
@pytest.mark.parametrize("body", BODIES)
def test_the_first_flags_that_pass_the_self_test_are_taken(
    sources, cache, compiler, monkeypatch, body, condition, expected
):
    monkeypatch.setattr(module, "ARCHITECTURE_FLAGS", FLAG_SETS)
    monkeypatch.setattr(module, "SELF_TEST_TIMEOUT_S", 1 if body == "hangs" else 60)
    write_self_test(sources, condition, BODIES[body])
    assert answer_of(build(Recipe(sources, compiler), cache)) == expected


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("returns 1", "returned 1"),
        ("dies", "self-test"),
        ("hangs", "longer than 0.5 s"),
        ("does not compile", "undeclared"),
    ],
)
def test_nothing_is_kept_that_fails_with_all_flags(sources, cache, compiler, monkeypatch, body, word):
    monkeypatch.setattr(module, "ARCHITECTURE_FLAGS", FLAG_SETS[1:])
    monkeypatch.setattr(module, "SELF_TEST_TIMEOUT_S", 0.5 if body == "hangs" else 60)
    write_self_test(sources, "1", BODIES[body])
    with pytest.raises(KernelsUnavailable) as caught:
        build(Recipe(sources, compiler), cache)
    assert_one_line(caught.value, Path(compiler[0]).name, word)
    assert names_in(cache) == ["lock"]


def test_a_library_without_a_self_test_is_refused(sources, cache, compiler):
    (sources / "kernels.cpp").write_text(f"{EXPORT} int answer(void) {{ return 1; }}\n")
    with pytest.raises(KernelsUnavailable, match="nt_self_test"):
        build(Recipe(sources, compiler), cache)


def test_the_users_flags_take_the_place_of_ours(sources, cache, compiler, monkeypatch):
    monkeypatch.setattr(module, "ARCHITECTURE_FLAGS", FLAG_SETS)
    write_self_test(sources, "0", "")
    assert answer_of(build(Recipe(sources, compiler, ["-DSECOND"]), cache)) == 2
    assert answer_of(build(Recipe(sources, compiler, ["-DOTHER"]), cache)) == 3, "FIRST was tried"
    write_self_test(sources, "defined SECOND", "return 1;")
    with pytest.raises(KernelsUnavailable):
        build(Recipe(sources, compiler, ["-DSECOND"]), cache)


def test_flags_from_the_environment(sources, cache, compiler, monkeypatch):
    monkeypatch.setattr(module, "SOURCES", sources)
    monkeypatch.setenv("NTC_CACHE", str(cache))
    monkeypatch.setenv("NTC_CXXFLAGS", "-O1 '-DMORE=1 + 2'")
    (sources / "answer.h").write_text("#define ANSWER 10 * (MORE)\n")
    assert load_library().answer() == 30


@needs_scripts
def test_our_flags_are_for_this_cpu_and_the_last_are_none(sources, cache, compiler, script):
    """A compiler that knows neither -march=native nor -mcpu=native."""
    picky = script(f'case "$*" in *=native*) echo "error: unknown option"; exit 1;; esac; exec {compiler[0]} "$@"')
    assert answer_of(build(Recipe(sources, picky), cache)) == 41
    log = Path(picky[0] + ".log").read_text()
    assert log.index("-march=native") < log.index("-mcpu=native")
    assert "=native" not in log.splitlines()[-1]


def has_fma() -> bool:
    if platform.machine().lower() in ("arm64", "aarch64"):
        return True
    return " fma " in f"{module.cpu_identity()} ".replace("\n", " ")


@pytest.mark.parametrize("name", ["g++", "clang++"])
def test_contraction_is_for_matrix_products_alone(sources, cache, name):
    command = shutil.which(name)
    if command is None:
        pytest.skip(f"there is no {name} here")
    library = ctypes.CDLL(str(build(Recipe(sources, [command]), cache)))
    results = []
    for function in (library.multiply_add, library.gemm_multiply_add):
        function.argtypes, function.restype = [ctypes.c_float] * 3, ctypes.c_float
        a = 1 + 2.0**-12
        results.append(function(a, a, -(1 + 2.0**-11)))  # a * a = 1 + 2^-11 + 2^-24, whose last bit float32 has not
    assert results[0] == 0.0, "rounded twice, as PyTorch does it"
    if not has_fma():
        pytest.skip("this CPU has no fused multiply-add; the other half of the test passed")
    assert results[1] == 2.0**-24


# --- caches: damaged, not to be written, full ------------------------------------------------------------------------


def truncate(library: Path):
    os.truncate(library, library.stat().st_size // 2)


def flip(library: Path):
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    library.write_bytes(content)


DAMAGE = {
    "truncated": truncate,
    "a bit is another": flip,
    "empty": lambda library: os.truncate(library, 0),
    "no library": lambda library: library.unlink(),
    "no digest": lambda library: (library.parent / "sha256").unlink(),
    "digest of another": lambda library: (library.parent / "sha256").write_text("0" * 64),
    "digest not text": lambda library: (library.parent / "sha256").write_bytes(b"\xff" * 64),
    "more in the folder": lambda library: (library.unlink(), (library.parent / "x").mkdir()),
}


@needs_scripts
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_library_is_made_again(sources, cache, counting, damage):
    library = build(Recipe(sources, counting), cache)
    DAMAGE[damage](library)
    assert find_or_build([Recipe(sources, counting)], [lambda: cache]) == library
    assert compiled_units(counting) == 4
    assert answer_of(library) == 41 and names_in(library.parent) == ["kernels.so", "sha256"]
    assert find_or_build([Recipe(sources, counting)], [lambda: cache]) == library
    assert compiled_units(counting) == 4


@pytest.fixture
def unwritable(tmp_path, monkeypatch) -> Path:
    """NTC_CACHE where no folder can be made, for root neither."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NTC_CACHE", str(tmp_path / "file" / "cache"))
    return tmp_path / "file" / "cache"


@needs_scripts
def test_the_temporary_folder_stands_in_for_a_cache(sources, compiler, unwritable, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SOURCES", sources)
    said = []
    assert load_library(said.append).answer() == 41
    folder = tmp_path / "tmp" / f"neural-texture-toolkit-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [name[:8] for name in names_in(folder)] == ["kernels-", "lock"]
    monkeypatch.setattr(module, "_outcome", [])
    assert load_library(said.append).answer() == 41 and len(said) == 1


@needs_scripts
def test_a_read_only_cache_is_read(sources, cache, counting, tmp_path):
    library = build(Recipe(sources, counting), cache)
    if os.getuid() == 0:
        (cache / "lock").unlink()
        (cache / "lock").mkdir()  # root writes anywhere, but not this
    else:
        cache.chmod(0o500)
    try:
        other = tmp_path / "other"
        assert find_or_build([Recipe(sources, counting)], [lambda: cache, lambda: other]) == library
        assert find_or_build([Recipe(sources, counting, ["-O1"])], [lambda: cache, lambda: other]).parents[1] == other
    finally:
        cache.chmod(0o700)


@needs_scripts
@pytest.mark.parametrize("trap", ["open to others", "a link", "a file", "of another user"])
def test_a_temporary_folder_that_others_can_write_to_is_refused(
    sources, script, unwritable, tmp_path, monkeypatch, trap
):
    """Or somebody else's library would be run."""
    folder = tmp_path / "tmp" / f"neural-texture-toolkit-{os.getuid()}"
    if trap == "open to others":
        folder.mkdir()
        folder.chmod(0o777)
    elif trap == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    elif trap == "a file":
        folder.write_text("")
    else:
        other = os.getuid() + 1
        (tmp_path / "tmp" / f"neural-texture-toolkit-{other}").mkdir(mode=0o700)
        monkeypatch.setattr(module.os, "getuid", lambda: other)
    monkeypatch.setattr(module, "SOURCES", sources)
    command = script("echo g++ 1.0")
    monkeypatch.setenv("CXX", command[0])
    with pytest.raises(KernelsUnavailable) as caught:
        load_library()
    assert_one_line(caught.value, "no folder", "neural-texture-toolkit")
    assert compiled_units(command) == 0


@needs_scripts
@pytest.mark.parametrize("message", ["No space left on device", "Disk quota exceeded"])
def test_a_full_disk_is_no_fault_of_the_sources(sources, cache, compiler, script, tmp_path, message):
    full = f'case "$*" in *{cache}*) echo "as: kernels.o: {message}" >&2; exit 1;; esac; exec {compiler[0]} "$@"'
    library = find_or_build([Recipe(sources, script(full))], [lambda: cache, lambda: tmp_path / "other"])
    assert library.parents[1] == tmp_path / "other" and answer_of(library) == 41
    assert names_in(cache) == ["lock"]
    with pytest.raises(KernelsUnavailable) as caught:
        find_or_build([Recipe(sources, script(full))], [lambda: cache])
    assert_one_line(caught.value, "no folder", "No space left on device")


def test_a_user_without_a_home(sources, compiler, tmp_path, monkeypatch):
    monkeypatch.setattr(module.platformdirs, "user_cache_dir", lambda *a, **o: "~/.cache/x")
    monkeypatch.setattr(module, "SOURCES", sources)
    monkeypatch.chdir(tmp_path)
    assert load_library().answer() == 41
    assert not (tmp_path / "~").exists()


def test_the_users_cache_is_where_the_system_has_caches(monkeypatch, tmp_path):
    assert module.user_cache() == Path(module.platformdirs.user_cache_dir("neural-texture-toolkit", appauthor=False))
    monkeypatch.setenv("NTC_CACHE", "mine")
    monkeypatch.chdir(tmp_path)
    assert module.user_cache() == tmp_path / "mine"


# --- compilers -------------------------------------------------------------------------------------------------------


def failure_of_load() -> KernelsUnavailable:
    with pytest.raises(KernelsUnavailable) as caught:
        load_library()
    return caught.value


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(failure_of_load()) == (
        "no C++ compiler found (looked for c++, g++, clang++ in PATH); install g++ or clang++, or set CXX"
    )


@pytest.mark.parametrize(
    ("value", "word"),
    [("no-such-thing -O1", "no-such-thing"), ("/none/g++", "/none/g++"), ("g++ '", "CXX=g++ '"), ("a\nb", "a\\nb")],
)
def test_a_cxx_that_is_not_there(monkeypatch, value, word):
    monkeypatch.setenv("CXX", value)
    assert_one_line(failure_of_load(), "CXX=", word)


@needs_scripts
def test_cxx_comes_before_path_and_may_have_arguments(sources, cache, compiler, script, tmp_path, monkeypatch):
    monkeypatch.setenv("NTC_CACHE", str(cache))
    monkeypatch.setattr(module, "SOURCES", sources)
    wrapper = script(f'exec {compiler[0]} "$@"', name="my cxx")
    monkeypatch.chdir(Path(wrapper[0]).parent)
    monkeypatch.setenv("CXX", "'./my cxx' -DGIVEN=7")
    (sources / "answer.h").write_text("#define ANSWER GIVEN\n")
    said = []
    assert load_library(said.append).answer() == 7
    assert "'my cxx' -DGIVEN=7" in said[0]


@needs_scripts
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_cxx_is_none(monkeypatch, script, value):
    program = script("", name="c++")
    monkeypatch.setenv("PATH", str(Path(program[0]).parent))
    monkeypatch.setenv("CXX", value)
    assert find_compilers() == [program]


@needs_scripts
def test_compilers_in_path_are_tried_in_order_and_links_once(monkeypatch, script):
    gnu, llvm = script("", name="g++"), script("", name="clang++")
    (Path(gnu[0]).parent / "c++").symlink_to("g++")
    monkeypatch.setenv("PATH", f"{Path(llvm[0]).parent}{os.pathsep}{Path(gnu[0]).parent}")
    assert find_compilers() == [[str(Path(gnu[0]).parent / "c++")], llvm]


def test_clang(sources, cache, monkeypatch):
    if shutil.which("clang++") is None:
        pytest.skip("there is no clang++ here")
    monkeypatch.setattr(module, "SOURCES", sources)
    monkeypatch.setenv("NTC_CACHE", str(cache))
    monkeypatch.setenv("CXX", "clang++")
    said = []
    assert load_library(said.append).answer() == 41
    assert re.search(r"with clang\+\+ \d+\.\d+", said[0])


@needs_scripts
def test_the_next_compiler_helps_where_the_first_is_broken(sources, cache, compiler, script):
    broken, no_version = script('[ "$*" = --version ] && echo 1.0 && exit 0; exit 1'), script("exit 1")
    recipes = [Recipe(sources, command) for command in (no_version, broken, compiler)]
    library = find_or_build(recipes, [lambda: cache])
    assert answer_of(library) == 41
    tried = compiled_units(broken)
    assert tried > 0
    assert find_or_build(recipes, [lambda: cache]) == library
    assert compiled_units(broken) == tried, "found out at every start"
    with pytest.raises(KernelsUnavailable) as caught:
        find_or_build(recipes[:2], [lambda: cache])
    assert_one_line(caught.value, no_version[0])


ERRORS = {
    "compile": (
        "#warning none\nint f() {\n  return missing_name;\n}\nint g() { return other_name; }\n",
        "missing_name",
    ),
    "include": ('#include "missing_file.h"\n', "missing_file.h"),
    "long": (f"#error {'x' * 1000}\n", "xxx"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_compile_error_is_one_line(sources, cache, compiler, case):
    text, word = ERRORS[case]
    (sources / "kernels.cpp").write_text(text)
    with pytest.raises(KernelsUnavailable) as caught:
        build(Recipe(sources, compiler), cache)
    assert_one_line(caught.value, Path(compiler[0]).name, "kernels.cpp:", "error", word)
    assert "other_name" not in str(caught.value) and str(sources) not in str(caught.value)
    assert len(str(caught.value)) < 260
    assert names_in(cache) == ["lock"]


def test_a_link_error_names_the_symbol(sources, cache, compiler):
    with (sources / "gemm.cpp").open("a") as stream:
        stream.write('extern "C" int nowhere(int);\nint (*nowhere_either)(int) = nowhere;\n')
    with pytest.raises(KernelsUnavailable) as caught:
        build(Recipe(sources, compiler, ["-Wl,--no-undefined"] if sys.platform == "linux" else ["-g0"]), cache)
    assert_one_line(caught.value, "nowhere" if sys.platform == "linux" else "ndefined")


@needs_scripts
@pytest.mark.parametrize("body", ["exit 3", "kill -9 $$"])
def test_a_compiler_that_says_nothing(sources, cache, script, body):
    silent = script(f'[ "$*" = --version ] || {body}')
    with pytest.raises(KernelsUnavailable) as caught:
        build(Recipe(sources, silent), cache)
    assert_one_line(caught.value, "failed with code")


@needs_scripts
def test_a_compiler_that_does_not_end(sources, cache, script, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "COMPILE_TIMEOUT_S", 0.5)
    pids = tmp_path / "pids"
    # Its child keeps the output open and outlives it, unless the whole session is ended.
    endless = script(f'[ "$*" = --version ] && exit 0; sleep 100 & echo $! $$ >> {pids}; wait')
    start = time.monotonic()
    with pytest.raises(KernelsUnavailable, match=r"took longer than 0\.5 s"):
        build(Recipe(sources, endless), cache)
    assert time.monotonic() - start < 20
    wait_for(lambda: not any(is_running(int(pid)) for pid in pids.read_text().split()), 5)
    assert names_in(cache) == ["lock"]


@needs_scripts
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two units are compiled at once where there are two cores")
def test_units_are_compiled_at_once_and_one_failure_ends_the_others(sources, cache, script):
    refuse = 'sleep 0.3; echo "gemm.cpp:1: error: no"; exit 1'
    fails = script(f'case "$*" in --version) ;; *-c\\ gemm*) {refuse};; *) exec sleep 100;; esac')
    start = time.monotonic()
    with pytest.raises(KernelsUnavailable, match=r"gemm\.cpp:1: error: no$"):
        build(Recipe(sources, fails), cache)
    assert time.monotonic() - start < 20


@needs_scripts
def test_compilers_speak_english_and_keep_their_temporary_files_with_ours(sources, cache, script, monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    speaks = script('[ "$*" = --version ] && exit 0; echo "error: LC_ALL=$LC_ALL TMPDIR=$TMPDIR"; exit 1')
    with pytest.raises(KernelsUnavailable) as caught:
        build(Recipe(sources, speaks), cache)
    assert_one_line(caught.value, "LC_ALL=C ", f"TMPDIR={cache}/build-")


@needs_scripts
def test_sources_that_change_meanwhile_are_not_kept(sources, cache, compiler, script):
    edit = f'[ "$*" = --version ] || echo "// edited" >> "{sources}/answer.h"; exec {compiler[0]} "$@"'
    with pytest.raises(KernelsUnavailable, match="changed while they were compiled"):
        build(Recipe(sources, script(edit)), cache)
    assert names_in(cache) == ["lock"]


def test_no_sources(tmp_path, monkeypatch, compiler):
    monkeypatch.setattr(module, "SOURCES", tmp_path / "tmp")
    assert_one_line(failure_of_load(), "no C++ files", str(tmp_path))


@needs_scripts
def test_a_failure_is_remembered(sources, cache, script, monkeypatch):
    monkeypatch.setattr(module, "SOURCES", sources)
    monkeypatch.setenv("NTC_CACHE", str(cache))
    broken = script('[ "$*" = --version ] && exit 0; echo "error: no good"; exit 1')
    monkeypatch.setenv("CXX", broken[0])
    first = failure_of_load()
    tried = compiled_units(broken)
    assert tried > 0
    second = failure_of_load()
    assert str(second) == str(first) and "no good" in str(first)
    assert compiled_units(broken) == tried
    assert second is not first, "each has its own traceback"


def test_the_real_sources_have_a_self_test():
    """What build.py expects of them; test_cpu_engine.py compiles them."""
    units = sorted(path.name for path in module.SOURCES.glob("*.cpp"))
    assert set(module.CONTRACTION) <= set(units)
    assert any("nt_self_test" in (module.SOURCES / name).read_text() for name in units)
