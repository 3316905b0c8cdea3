"""engine/cpu/build.py: which compiler and flags are taken, and one line where none will do."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import sys
import time
from pathlib import Path

import pytest

from engine.cpu import build as module
from engine.cpu.build import Recipe, build, find_compilers, find_or_build, load_library
from engine.errors import KernelsUnavailable
from tests.support.kernel_builds import (
    EXPORT,
    answer_of,
    assert_one_line,
    compiled_units,
    is_running,
    names_in,
    needs_scripts,
    wait_for,
)

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


# --- compilers -------------------------------------------------------------------------------------------------------


def failure_of_load() -> KernelsUnavailable:
    with pytest.raises(KernelsUnavailable) as caught:
        load_library()
    return caught.value


def test_backslashes_of_windows_are_no_escapes(monkeypatch):
    monkeypatch.setenv("CXX", r"""'C:\Program Files\LLVM\clang++.exe' -I"D:\a b" -O1""")
    monkeypatch.setattr(module, "IS_WINDOWS", True)
    assert module.split_variable("CXX") == [r"C:\Program Files\LLVM\clang++.exe", r"-ID:\a b", "-O1"]


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(failure_of_load()) == (
        "no C++ compiler found (looked for c++, g++, clang++ in PATH, and for the ziglang package); "
        "pip install ziglang, or install g++ or clang++, or set CXX"
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
