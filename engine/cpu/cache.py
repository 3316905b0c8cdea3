"""Folders in which compiled kernels are kept: the user's cache or a private temporary folder.

A cache has one folder per library, with the library and its digest. Processes keep a shared lock on the digests of the
libraries that they use, and `prune` removes only libraries without one.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path

import platformdirs

try:
    import fcntl
except ImportError:  # Windows, where a library that is loaded cannot be removed
    fcntl = None

from common.files import sha256_of

APPLICATION = "neural-texture-toolkit"
LIBRARY = "kernels.dll" if os.name == "nt" else "kernels.so"  # dlopen accepts any ending, also on macOS
DIGEST = "sha256"  # file beside the library with its digest
MOVE_WAITS_S = (0.1, 0.3, 1, 2) if os.name == "nt" else ()
KEPT_LIBRARIES = 4  # per cache, the last used ones; versions of the sources, compilers and CPUs add up

_held: dict[Path, int] = {}  # folders of the libraries in use by this process, and the file descriptors that lock them


def user_cache() -> Path:
    """NTC_CACHE, or the user's cache folder. Raises: OSError when the user has no home."""
    chosen = os.environ.get("NTC_CACHE")
    try:
        folder = Path(chosen or platformdirs.user_cache_dir(APPLICATION, appauthor=False))
    except RuntimeError as error:  # platformdirs since 4.14, for a user without a home
        raise OSError(errno.ENOENT, "no home folder") from error
    if not chosen and not folder.is_absolute():  # its earlier versions leave the `~`
        raise OSError(errno.ENOENT, "no home folder", str(folder))
    return folder.absolute()


def private_folder() -> Path:
    """A temporary folder that nobody else can write to, since what it contains is loaded and run.

    Raises: OSError when another user has taken its name.
    """
    user = str(os.getuid()) if hasattr(os, "getuid") else ""  # on Windows the temporary folder is the user's own
    folder = Path(tempfile.gettempdir()) / f"{APPLICATION}-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    shared = user and (status.st_uid != os.getuid() or status.st_mode & 0o077)
    if shared or not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EPERM, "not a private folder of this user", str(folder))
    return folder


def check_runs_code(folder: Path) -> None:
    """Raise OSError, on Linux, for a folder whose file system runs no code (noexec): compiling there is in vain."""
    if sys.platform.startswith("linux"):
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(mmap.PAGESIZE))
            file.flush()
            protection = mmap.PROT_READ | mmap.PROT_EXEC
            mmap.mmap(file.fileno(), mmap.PAGESIZE, flags=mmap.MAP_PRIVATE, prot=protection).close()


def whole_library(folder: Path) -> Path | None:
    """The library in `folder` if it matches its digest, else None: loading a damaged library can end the process."""
    with contextlib.suppress(OSError):
        if (folder / DIGEST).read_bytes() == sha256_of(folder / LIBRARY).encode():
            return folder / LIBRARY
    return None


def use(folder: Path) -> Path | None:
    """`whole_library`, marked as used now and locked against `prune` of other processes while this process lives.

    Also None while another process is about to remove it.
    """
    if fcntl is not None:  # elsewhere an open file would keep its folder from being replaced
        try:
            descriptor = os.open(folder / DIGEST, os.O_RDONLY)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:  # a file system without locks, on which `prune` removes nothing
            pass
        before, _held[folder] = _held.get(folder), descriptor
        if before is not None:
            os.close(before)
    with contextlib.suppress(OSError):  # the read-only cache of another user
        os.utime(folder / DIGEST)
    return whole_library(folder)


def replace(finished: Path, target: Path) -> None:
    """Move a folder to where a damaged one may be. Raises: OSError while a process has that one's library loaded.

    On Windows a scanner of viruses opens new files for a moment, and their folder cannot be moved meanwhile.
    """
    shutil.rmtree(target, ignore_errors=True)
    for wait in MOVE_WAITS_S:
        try:
            finished.rename(target)
            return
        except PermissionError:
            time.sleep(wait)
    finished.rename(target)


def prune(cache: Path, target: Path) -> None:
    """Remove all libraries but `target` and the last used others, KEPT_LIBRARIES in all, unless a process uses them.

    The caller holds the cache's lock.
    """

    def last_use(folder: Path) -> int:
        with contextlib.suppress(OSError):
            return (folder / DIGEST).stat().st_mtime_ns
        return 0

    others = (folder for folder in cache.glob("kernels-*") if folder != target)
    for folder in sorted(others, key=last_use, reverse=True)[KEPT_LIBRARIES - 1 :]:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            if fcntl is None:
                (folder / LIBRARY).unlink(missing_ok=True)  # fails while a process uses it
            elif (folder / DIGEST).exists():  # without a digest nobody loads the library
                descriptor = os.open(folder / DIGEST, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as does this
            shutil.rmtree(folder, ignore_errors=True)
