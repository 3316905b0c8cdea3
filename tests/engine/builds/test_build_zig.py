"""engine/cpu/zig.py: the compiler of the ziglang package, where there is no other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.cpu import build as module
from engine.cpu import zig
from engine.cpu.build import Recipe, build, find_compilers, find_or_build, load_library
from engine.errors import KernelsUnavailable
from tests.support.kernel_builds import answer_of, assert_one_line, names_in, needs_scripts, packaged_zig


@pytest.fixture(autouse=True)
def _packaged(monkeypatch, _nothing_from_outside):  # it hides the package
    monkeypatch.setattr(zig, "command", packaged_zig)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """package(body): a ziglang package whose program is this shell script; None: it has none."""

    def make(body: str | None) -> Path:
        folder = tmp_path / "site packages" / "ziglang"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        if body is not None:
            (folder / "zig").write_text(f"#!/bin/sh\n{body}\n")
            (folder / "zig").chmod(0o755)
        monkeypatch.syspath_prepend(str(folder.parent))
        monkeypatch.setenv("PATH", str(tmp_path))
        return folder / "zig"

    return make


@needs_scripts
def test_it_comes_after_those_in_path(package, script, monkeypatch):
    program = package("")
    assert find_compilers() == [[str(program), "c++"]]
    other = script("", name="g++")
    monkeypatch.setenv("PATH", str(Path(other[0]).parent))
    assert find_compilers() == [other, [str(program), "c++"]]
    monkeypatch.setenv("CXX", other[0])
    assert find_compilers() == [other]


@needs_scripts
def test_a_package_without_its_program(package, script, monkeypatch):
    package(None)
    with pytest.raises(KernelsUnavailable) as caught:
        load_library()
    assert_one_line(caught.value, "ziglang package is damaged", "pip install --force-reinstall ziglang")
    other = script("", name="g++")
    monkeypatch.setenv("PATH", str(Path(other[0]).parent))
    assert find_compilers() == [other], "another compiler is not to suffer"


@needs_scripts
@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("exit 1", "does not work"),
        ("kill -9 $$", "does not work"),
        ('[ "$1" = version ] && echo 0.1 && exit 0; echo "error: no space"; exit 1', "no space"),
    ],
)
def test_a_program_that_fails(package, sources, cache, monkeypatch, body, word):
    package(body)
    monkeypatch.setattr(module, "SOURCES", sources)
    monkeypatch.setenv("NTC_CACHE", str(cache))
    with pytest.raises(KernelsUnavailable) as caught:
        load_library()
    assert_one_line(caught.value, "zig", word)


def test_it_is_known_by_every_name():
    for command in (["/a/zig", "c++"], [r"C:\a\zig.exe", "c++"], [sys.executable, "-m", "ziglang", "c++"]):
        assert zig.is_zig(command) or (os.name != "nt" and "C:" in command[0])
    for command in (["g++"], ["clang++", "-m32"], [sys.executable, "-m", "pip"]):
        assert not zig.is_zig(command)


def test_it_compiles_and_leaves_nothing_behind(sources, cache, zig_compiler, tmp_path, monkeypatch):
    """With a home that nobody can write to; zig's own caches belong into the folder of the build."""
    (tmp_path / "file").write_text("")
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "file" / "home"))
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "file" / "zig"))
    before = set(names_in(tmp_path))
    said = []
    library = build(Recipe(sources, zig_compiler), cache, said.append)
    assert answer_of(library) == 41
    assert len(said) == 1
    assert re.fullmatch(r"compiling the CPU kernels with ziglang [\d.]+ \(once per machine\)", said[0])
    assert names_in(cache) == [library.parent.name, "lock"]
    assert set(names_in(tmp_path)) - before == {"cache"}
    assert not list(sources.glob("*zig*"))


def test_it_needs_no_header_of_this_machine(zig_compiler, tmp_path):
    """Nor its linker: nothing outside the package and the C library's name is used."""
    (tmp_path / "one.cpp").write_text("#include <cstdio>\n#include <vector>\n")
    command = [*zig_compiler, "-target", zig.target(), "-H", "-c", "one.cpp", "-o", "one.o"]
    environment = {**os.environ, **zig.environment(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    headers = [line.lstrip(". ") for line in done.stderr.splitlines() if line.startswith(".")]
    assert headers and all("ziglang" in header for header in headers), headers


def test_a_broken_one_is_told_and_training_goes_on_with_the_next(sources, cache, zig_compiler, compiler):
    with (sources / "kernels.cpp").open("a") as stream:
        stream.write("#ifndef __cpp_exceptions\n#error not for zig\n#endif\n")
    recipes = [Recipe(sources, zig_compiler), Recipe(sources, compiler)]
    if recipes[1].is_zig:
        pytest.skip("there is no other compiler")
    assert answer_of(find_or_build(recipes, [lambda: cache])) == 41
    with pytest.raises(KernelsUnavailable) as caught:
        build(recipes[0], cache)
    assert_one_line(caught.value, "ziglang", "not for zig")
