"""engine/cpu/build.py, its caches: old libraries go, used ones stay; damaged, full, read-only, open to others."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.cpu import build as module
from engine.cpu import cache as libraries
from engine.cpu.build import Recipe, build, find_or_build, load_library
from engine.errors import KernelsUnavailable
from tests.support.kernel_builds import (
    answer_of,
    assert_one_line,
    compiled_units,
    names_in,
    needs_scripts,
)
from tests.support.paths import ROOT

# --- old libraries ---------------------------------------------------------------------------------------------------


def old_library(cache: Path, name: str, used: int) -> Path:
    """A library folder as an earlier version of the sources has left it, last used at second `used` of 1970."""
    folder = cache / f"kernels-{name}"
    folder.mkdir(parents=True)
    (folder / libraries.LIBRARY).write_bytes(name.encode())
    (folder / libraries.DIGEST).write_text(libraries.sha256_of(folder / libraries.LIBRARY))
    os.utime(folder / libraries.DIGEST, (used, used))
    return folder


def test_a_build_keeps_the_libraries_used_last(sources, cache, compiler):
    for used in (5, 2, 9, 3, 7, 1):
        old_library(cache, str(used), used)
    (cache / "kernels-broken").mkdir()  # without a digest, nobody loads it
    built = build(Recipe(sources, compiler), cache).parent
    assert names_in(cache) == sorted([built.name, "kernels-9", "kernels-7", "kernels-5", "lock"])
    assert answer_of(built / libraries.LIBRARY) == 41


def test_to_load_a_library_is_to_use_it(sources, cache, compiler):
    first = build(Recipe(sources, compiler), cache).parent
    os.utime(first / libraries.DIGEST, (1, 1))
    find_or_build([Recipe(sources, compiler)], [lambda: cache])
    assert (first / libraries.DIGEST).stat().st_mtime > time.time() - 100


def test_a_cache_without_too_many_is_left_alone(cache):
    folders = [old_library(cache, str(used), used) for used in range(4)]
    libraries.prune(cache, folders[0])
    assert all(libraries.whole_library(folder) for folder in folders)
    old_library(cache, "4", 4)
    libraries.prune(cache, folders[0])  # the one that was just built stays, however old it looks
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


@pytest.mark.skipif(libraries.fcntl is None, reason="Windows keeps loaded libraries by itself")
def test_a_library_that_a_process_uses_stays_until_it_ends(cache, tmp_path):
    folders = [old_library(cache, str(used), used) for used in range(1, 8)]
    arguments = [sys.executable, "-c", USER, str(ROOT), str(folders[0])]
    child = subprocess.Popen(arguments, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == f"{folders[0] / libraries.LIBRARY}\n"
        os.utime(folders[0] / libraries.DIGEST, (1, 1))  # used long ago, and still in use
        libraries.prune(cache, folders[6])
        assert names_in(cache) == [f"kernels-{used}" for used in (1, 4, 5, 6, 7)]
        assert libraries.whole_library(folders[0])
    finally:
        child.communicate("end\n")
    libraries.prune(cache, folders[6])
    assert names_in(cache) == [f"kernels-{used}" for used in (4, 5, 6, 7)]


@pytest.mark.skipif(libraries.fcntl is None, reason="Windows keeps loaded libraries by itself")
def test_a_library_that_is_being_removed_is_not_used(cache):
    folder = old_library(cache, "1", 1)
    with (folder / libraries.DIGEST).open() as stream:
        libraries.fcntl.flock(stream, libraries.fcntl.LOCK_EX)
        assert libraries.use(folder) is None
    assert libraries.use(folder) == folder / libraries.LIBRARY
    assert libraries.use(folder) == folder / libraries.LIBRARY  # a second time, with one descriptor
    assert list(libraries._held).count(folder) == 1


def test_a_file_system_without_locks_loses_nothing(cache, monkeypatch):
    if libraries.fcntl is None:
        pytest.skip("no fcntl here")
    folders = [old_library(cache, str(used), used) for used in range(6)]

    def refuse(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(libraries.fcntl, "flock", refuse)
    libraries.prune(cache, folders[5])
    assert all(libraries.use(folder) for folder in folders)


def test_windows_keeps_a_loaded_library_and_no_open_file(cache, monkeypatch):
    """As there, without fcntl and with a library that cannot be removed while it is loaded."""
    monkeypatch.setattr(libraries, "fcntl", None)
    folders = [old_library(cache, str(used), used) for used in range(1, 7)]
    assert libraries.use(folders[0]) == folders[0] / libraries.LIBRARY and not libraries._held
    os.utime(folders[0] / libraries.DIGEST, (1, 1))
    unlink = Path.unlink

    def refuse(self, *arguments, **options):
        if self == folders[0] / libraries.LIBRARY:
            raise PermissionError("in use")
        unlink(self, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", refuse)
    libraries.prune(cache, folders[5])
    assert names_in(cache) == [f"kernels-{used}" for used in (1, 3, 4, 5, 6)]
    assert libraries.whole_library(folders[0])


def test_a_folder_that_a_scanner_has_open_is_moved_a_little_later(cache, monkeypatch):
    monkeypatch.setattr(libraries, "MOVE_WAITS_S", (0, 0))
    made, target, tries = old_library(cache, "new", 1), cache / "kernels-target", []
    old_library(cache, "target", 1)
    rename = Path.rename

    def refuse_once(self, to):
        tries.append(to)
        if len(tries) == 1:
            raise PermissionError("being scanned")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", refuse_once)
    libraries.replace(made, target)
    assert len(tries) == 2 and (target / libraries.LIBRARY).read_bytes() == b"new" and not made.exists()


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
        monkeypatch.setattr(libraries.os, "getuid", lambda: other)
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
    monkeypatch.setattr(libraries.platformdirs, "user_cache_dir", lambda *a, **o: "~/.cache/x")
    monkeypatch.setattr(module, "SOURCES", sources)
    monkeypatch.chdir(tmp_path)
    assert load_library().answer() == 41
    assert not (tmp_path / "~").exists()


def test_the_users_cache_is_where_the_system_has_caches(monkeypatch, tmp_path):
    name = "neural-texture-toolkit"
    assert libraries.user_cache() == Path(libraries.platformdirs.user_cache_dir(name, appauthor=False))
    monkeypatch.setenv("NTC_CACHE", "mine")
    monkeypatch.chdir(tmp_path)
    assert libraries.user_cache() == tmp_path / "mine"
