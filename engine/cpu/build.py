"""Compiles the CPU kernels once per machine, keeps the library in a cache, and loads it with ctypes.

Why a plain compiler call, compared with what libraries offer:
- torch.utils.cpp_extension has one set of flags for all files (contraction differs per file here), needs ninja and
  setuptools, takes 42 s for torch's headers alone (PyTorch 2.15, 2 cores of an AMD EPYC), and ties the result to one
  version of torch; in many of them a killed build leaves a lock that blocks for ever (pytorch issue 189245).
- cffi in API mode, pybind11 and nanobind need Python.h and a build back end such as setuptools on the user's machine.
- scikit-build-core makes wheels: an install step, and a wheel cannot hold -march=native. This runs from a checkout.
- cppyy brings Cling and LLVM in a wheel of 48 MB, and has none for Linux on ARM (cppyy issue 123); numba brings LLVM
  too, and lags behind new Python versions.
Plain C functions need none of it. Two small libraries do what is easy to get wrong: `platformdirs` knows where a cache
belongs, and `filelock` has locks that vanish with the process that holds them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from common.cores import usable_cores
from common.files import sha256_of
from engine.cpu import zig
from engine.cpu.cache import DIGEST, LIBRARY, check_runs_code, private_folder, prune, replace, use, user_cache
from engine.errors import KernelsUnavailable

IS_WINDOWS = os.name == "nt"
SOURCES = Path(__file__).with_name("src")

COMPILERS = ("c++", "g++", "clang++")
COMPILE_FLAGS = (
    "-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden", "-Wall", "-Wextra",
    "-pthread",
)  # fmt: skip
LINK_FLAGS = ("-shared", "-pthread", "-lm", *(("-static",) if IS_WINDOWS else ()))  # there: no DLLs of g++'s
ARCHITECTURE_FLAGS = (("-march=native",), ("-mcpu=native",), ())  # the second is for older clang on ARM
# Positions must round as in PyTorch: fused multiply-adds would now and then move a sample to the next texel. Matrix
# products have no such jumps, and need fused multiply-adds for their speed.
CONTRACTION = {"gemm.cpp": "-ffp-contract=fast"}
NO_CONTRACTION = "-ffp-contract=off"

COMPILE_TIMEOUT_S = 120  # of one file, which usually takes seconds
# Python looks for signals before it waits for a lock; one that comes between the two is not seen until the wait ends.
# Without this limit Ctrl-C did nothing while compilers ran in 13 of 360 tries on a busy machine, with it in none.
SIGNAL_LOOK_S = 0.2
SELF_TEST_TIMEOUT_S = 60
LOCK_TIMEOUT_S = 600  # a suspended process that holds the lock must not block all others for ever
SELF_TEST = (
    "import ctypes, sys; code = ctypes.CDLL(sys.argv[1]).nt_self_test(); "
    "sys.exit(f'nt_self_test returned {code}' if code else 0)"
)
DISK_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
# Lines of /proc/cpuinfo that identify a CPU's instructions, on x86 and ARM; other lines (clock, core number) vary.
CPU_FIELDS = ("model name", "flags", "Features", "CPU implementer", "CPU part")

_once = threading.Lock()
_outcome: list[ctypes.CDLL | KernelsUnavailable] = []  # what the first load_library of this process returned or raised


class UnusableFlags(KernelsUnavailable):
    """The compiler refused these flags, or this CPU cannot run the result; other flags may work."""


def load_library(say: Callable[[str], None] | None = None) -> ctypes.CDLL:
    """The kernels, compiled if the cache does not have them. The process remembers success and failure alike.

    Environment variables, of which an empty one counts as unset: CXX, a compiler and its arguments, in place of the
    first of c++, g++, clang++ and the ziglang package that works; NTC_CXXFLAGS, appended to the flags, and in place of
    those for this CPU; NTC_CACHE, the folder of the cache.

    Args:
        say: receives one line when, and only when, a compiler starts.
    Raises: KernelsUnavailable.
    """
    with _once:
        if not _outcome:
            try:
                _outcome.append(_load(say))
            except KernelsUnavailable as error:
                _outcome.append(error)
    if isinstance(_outcome[0], KernelsUnavailable):
        raise KernelsUnavailable(str(_outcome[0])) from _outcome[0]
    return _outcome[0]


def _load(say: Callable[[str], None] | None) -> ctypes.CDLL:
    return load_with(split_variable("NTC_CXXFLAGS"), say)


def load_with(flags: Sequence[str], say: Callable[[str], None] | None = None) -> ctypes.CDLL:
    """The kernels compiled with these flags, without any those for this CPU; the process does not remember them.

    Raises: KernelsUnavailable.
    """
    recipes = [Recipe(SOURCES, compiler, flags) for compiler in find_compilers()]
    return ctypes.CDLL(str(find_or_build(recipes, (user_cache, private_folder), say)))


# --- what is compiled, and with what ---------------------------------------------------------------------------------


def split_variable(name: str) -> list[str]:
    """The words of an environment variable, split as a shell does. Raises: KernelsUnavailable for an open quote."""
    words = shlex.shlex(os.environ.get(name, ""), posix=True, punctuation_chars=False)
    words.whitespace_split, words.commenters = True, ""
    if IS_WINDOWS:
        words.escape = ""  # a backslash is part of a path there
    try:
        return list(words)
    except ValueError as error:
        raise KernelsUnavailable(f"{name}={os.environ[name]}: {error}") from error


def find_compilers() -> list[list[str]]:
    """The compiler commands to try, best first: CXX alone if it is set, else every different compiler in PATH, then the
    one of the ziglang package.

    Raises: KernelsUnavailable without any.
    """
    chosen = split_variable("CXX")
    if chosen:
        program = shutil.which(chosen[0])
        if program is None:
            raise KernelsUnavailable(f"CXX={os.environ['CXX']}: there is no program {chosen[0]}")
        return [[str(Path(program).absolute()), *chosen[1:]]]
    found: dict[Path, list[str]] = {}
    for path in filter(None, map(shutil.which, COMPILERS)):
        found.setdefault(Path(path).resolve(), [str(Path(path).absolute())])  # c++ is a link to one of the others
    try:
        last = zig.command()
    except KernelsUnavailable:
        if not found:
            raise
        last = None
    commands = [*found.values(), *([last] if last else [])]
    if not commands:
        names = ", ".join(COMPILERS)
        raise KernelsUnavailable(
            f"no C++ compiler found (looked for {names} in PATH, and for the {zig.PACKAGE} package); "
            f"pip install {zig.PACKAGE}, or install g++ or clang++, or set CXX"
        )
    return commands


class Recipe:
    """Everything that a compiled library depends on.

    Args:
        sources: a folder, whose *.cpp are the translation units and whose *.h they may include.
        compiler: program (absolute path) and arguments.
        extra: the user's flags, which replace those for this CPU.
    Raises: KernelsUnavailable when there are no sources.
    """

    def __init__(self, sources: Path, compiler: Sequence[str], extra: Sequence[str] = ()):
        self.sources = Path(sources)
        self.compiler = list(compiler)
        self.is_zig = zig.is_zig(self.compiler)
        self.flag_sets = [list(extra)] if extra else [list(flags) for flags in ARCHITECTURE_FLAGS]
        self.contents = self.read_sources()
        self.units = [name for name in self.contents if name.endswith(".cpp")]
        if not self.units:
            raise KernelsUnavailable(f"no C++ files in {self.sources}")

    @property
    def compile_flags(self) -> list[str]:
        """Flags of every file, without those for contraction and this CPU."""
        return [*COMPILE_FLAGS, *(zig.compile_flags(zig.target()) if self.is_zig else ())]

    @property
    def link_flags(self) -> list[str]:
        """Flags of the library."""
        return zig.link_flags(zig.target()) if self.is_zig else list(LINK_FLAGS)

    def read_sources(self) -> dict[str, bytes]:
        """File name -> content, sorted, without hidden files, which editors make."""
        try:
            paths = sorted(path for path in self.sources.glob("[!.]*") if path.suffix in (".cpp", ".h"))
            return {path.name: path.read_bytes() for path in paths}
        except OSError as error:
            raise KernelsUnavailable(f"cannot read the sources of the CPU kernels: {error}") from error

    @functools.cached_property
    def version(self) -> str:
        """What the compiler prints as its version.

        Size and time of the program file would not do: g++ can be a wrapper (ccache, Xcode), which stays the same when
        the compiler behind it is replaced.
        """
        try:
            command = zig.version_command(self.compiler) if self.is_zig else [*self.compiler, "--version"]
            done = subprocess.run(command, capture_output=True, check=True, timeout=30, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError) as error:
            raise KernelsUnavailable(f"{shlex.join(self.compiler)} does not work: {error}") from error
        return done.stdout.decode(errors="replace")

    @property
    def title(self) -> str:
        """Compiler and version for a reader: `g++ 12.2.0`."""
        if self.is_zig:
            return f"{zig.PACKAGE} {self.version.strip()}"
        first_line = re.sub(r"\(.*?\)", "", self.version.partition("\n")[0])  # in brackets: the packager's version
        number = re.search(r" \d+(\.\d+)+", first_line)
        return shlex.join([Path(self.compiler[0]).name, *self.compiler[1:]]) + (number.group() if number else "")

    @functools.cached_property
    def folder_name(self) -> str:
        """Name of the library's folder in a cache; it differs whenever the library could differ."""
        program = str(Path(self.compiler[0]).resolve())
        flags = (self.compile_flags, self.link_flags, CONTRACTION, NO_CONTRACTION, self.flag_sets)
        everything = (self.contents, program, self.compiler, self.version, flags, platform.machine(), cpu_identity())
        return "kernels-" + hashlib.sha256(repr(everything).encode()).hexdigest()[:32]


def cpu_identity() -> str:
    """Text that identifies this CPU's instructions, since machines that share a home folder may differ in them."""
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, check=True, timeout=30, text=True).stdout
    try:
        first, _, _ = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")
    except OSError:
        return platform.processor()
    return "\n".join(line for line in first.splitlines() if line.partition(":")[0].strip() in CPU_FIELDS)


# --- found or built ---------------------------------------------------------------------------------------------------


def find_or_build(
    recipes: Sequence[Recipe], caches: Sequence[Callable[[], Path]], say: Callable[[str], None] | None = None
) -> Path:
    """The library of the first recipe that works, in the first cache where it can be kept and run.

    Raises: KernelsUnavailable.
    """
    failures: list[KernelsUnavailable] = []
    for locate in caches:
        try:
            cache = locate()
            library = find(recipes, cache) or build_first(recipes, cache, say)
            ctypes.CDLL(str(library))
            return library
        except BrokenPipeError:  # of `say`: nobody reads what the program says
            raise
        except KernelsUnavailable as error:
            failures.append(error)
        except (OSError, NotImplementedError) as error:  # the latter from filelock: a file system without locks
            problem = error
    if failures:
        raise failures[0]
    raise KernelsUnavailable(f"no folder to keep the compiled CPU kernels in ({problem}); set NTC_CACHE to one")


def find(recipes: Sequence[Recipe], cache: Path) -> Path | None:
    """The library of the first recipe that has one in `cache`.

    All recipes are looked up before any is built, so that a broken first compiler does not cost time at every start.
    """
    for recipe in recipes:
        with contextlib.suppress(KernelsUnavailable):  # a compiler without a version
            library = use(cache / recipe.folder_name)
            if library is not None:
                return library
    return None


def build_first(recipes: Sequence[Recipe], cache: Path, say: Callable[[str], None] | None) -> Path:
    """Build the first recipe that can be built. Raises: the first recipe's KernelsUnavailable when none can."""
    if not os.access(sys.executable or "", os.X_OK):  # said before compilers have worked for nothing
        raise KernelsUnavailable(f"Python starts itself to test the CPU kernels, and cannot: {sys.executable!r}")
    failures = []
    for recipe in recipes:
        try:
            return build(recipe, cache, say)
        except KernelsUnavailable as error:
            failures.append(error)
    raise failures[0]


# --- compiling -------------------------------------------------------------------------------------------------------


def build(recipe: Recipe, cache: Path, say: Callable[[str], None] | None = None) -> Path:
    """The library of `recipe` in `cache`, compiled if it is missing; of several processes only one compiles.

    It is made in a temporary folder and moved to its place by a rename, so readers need no lock. The lock's holder is
    the only builder, and removes what killed builds have left.

    Raises: KernelsUnavailable, and OSError when `cache` cannot be written.
    """
    from filelock import FileLock  # this import takes 10 ms, which a start with a cached library saves

    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_runs_code(cache)
    target = cache / recipe.folder_name
    with FileLock(str(cache / "lock"), timeout=LOCK_TIMEOUT_S):
        library = use(target)
        if library is not None:
            return library
        for abandoned in cache.glob("build-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix="build-", dir=cache))
        try:
            if say is not None:
                say(f"compiling the CPU kernels with {recipe.title} (once per machine)")
            library = compile_library(recipe, work)
            finished = work / "finished"
            finished.mkdir()
            (finished / DIGEST).write_text(sha256_of(library))
            library.rename(finished / LIBRARY)
            replace(finished, target)
            use(target)
            prune(cache, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target / LIBRARY


def compile_library(recipe: Recipe, work: Path) -> Path:
    """Compile, link and test in the folder `work`, with the first set of flags that works."""
    library = work / LIBRARY
    objects = [str(work / f"{unit}.o") for unit in recipe.units]
    for flags in recipe.flag_sets:
        compiling = []
        for unit, made in zip(recipe.units, objects):
            contraction = CONTRACTION.get(unit, NO_CONTRACTION)
            compiling.append([*recipe.compiler, *recipe.compile_flags, contraction, *flags, "-c", unit, "-o", made])
        linking = [*recipe.compiler, *objects, *flags, *recipe.link_flags, "-o", str(library)]
        try:
            run_together(compiling, recipe, work)
            run_together([linking], recipe, work)
            self_test(library, recipe, flags)
        except UnusableFlags as error:
            failure = error
            continue
        if recipe.read_sources() != recipe.contents:  # the cache would have it under the name of the old ones
            raise KernelsUnavailable("the sources of the CPU kernels changed while they were compiled; start again")
        return library
    raise failure


def run_together(commands: Sequence[Sequence[str]], recipe: Recipe, work: Path) -> None:
    """Run compiler commands, one per core at a time. The first failure, or Ctrl-C, ends all of them.

    They run in the folder of the sources, so that messages name files only; in English, as their messages are searched;
    with temporary files in `work`, which is removed; and each in a session of its own, for `end`.

    Raises: UnusableFlags; KernelsUnavailable; OSError when the disk is full.
    """
    environment = {**os.environ, "LC_ALL": "C", **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(work))}
    if recipe.is_zig:
        environment.update(zig.environment(work))
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    running: list[subprocess.Popen] = []
    stopped = threading.Event()

    def run(command: Sequence[str]) -> None:
        try:
            process = subprocess.Popen(command, cwd=recipe.sources, env=environment, start_new_session=True, **pipes)
        except OSError as error:
            raise KernelsUnavailable(f"{recipe.title} does not start: {error}") from error
        running.append(process)
        if stopped.is_set():  # set before this process was in the list
            end(process)
        try:
            output = process.communicate(timeout=COMPILE_TIMEOUT_S)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            end(process)
            process.communicate()
            raise KernelsUnavailable(f"{recipe.title} took longer than {COMPILE_TIMEOUT_S} s") from None
        if process.returncode != 0:
            if any(reason in output for reason in DISK_FULL):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(work))
            raise UnusableFlags(f"{recipe.title}: {first_error(output, process.returncode)}")

    pool = ThreadPoolExecutor(usable_cores())
    try:
        pending = {pool.submit(run, command) for command in commands}
        while pending:
            done, pending = wait(pending, SIGNAL_LOOK_S, FIRST_COMPLETED)
            for future in done:
                future.result()
    except BaseException:
        stopped.set()
        for process in running:
            end(process)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def end(process: subprocess.Popen) -> None:
    """Kill a compiler and the processes it has started, which do the work of g++."""
    with contextlib.suppress(OSError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()


def first_error(output: str, code: int) -> str:
    """The first line of a compiler's output that reports an error, cut off after 200 characters."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or [f"failed with code {code}"]
    telling = [line for line in lines if re.search(r"\berror\b|\bundefined (reference|symbol)", line, re.IGNORECASE)]
    return (telling or lines)[0][:200]


def self_test(library: Path, recipe: Recipe, flags: Sequence[str]) -> None:
    """Load the library and call nt_self_test in another process, which dies in place of this one if the CPU lacks an
    instruction: emulators and virtual machines hide some.

    Raises: UnusableFlags.
    """
    command = [sys.executable, "-S", "-c", SELF_TEST, str(library)]
    try:  # in the library's folder: no module of the current folder is imported, and a core dump gets removed
        done = subprocess.run(command, cwd=library.parent, capture_output=True, timeout=SELF_TEST_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        reason = f"it took longer than {SELF_TEST_TIMEOUT_S} s"
    except OSError as error:
        reason = str(error)
    else:
        if done.returncode == 0:
            return
        last_line = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"code {done.returncode}"
        reason = last_line if done.returncode > 0 else str(signal.strsignal(-done.returncode))
    raise UnusableFlags(f"the self-test of {' '.join([recipe.title, *flags])} failed: {reason[:200]}")
