"""The compiler of last resort: `zig c++` of the ziglang package, a whole clang that pip installs on every system.

zig makes its C++ library, and on Windows most of a C library, before it links the first program, and that takes a
minute. The kernels do without (src/bare.cpp), and so they are compiled in seconds.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.errors import KernelsUnavailable

PACKAGE = "ziglang"
PROGRAM = "zig.exe" if os.name == "nt" else "zig"
REINSTALL = f"pip install --force-reinstall {PACKAGE}"
COMPILE_FLAGS = (
    "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-fno-sanitize=all", "-fno-stack-protector", "-g0",
    "-fvisibility-global-new-delete=force-hidden",
)  # fmt: skip
# Without a target zig compiles for the libraries that it finds on this machine, and for headers that may be missing.
SYSTEMS = {"linux": "linux-gnu.2.17", "darwin": "macos.11.0", "win32": "windows-gnu"}
LIBRARIES = {
    "linux": ("-lc", "-lm", "-lpthread"), "macos": ("-lSystem",), "windows": ("-lkernel32", "-lucrtbase"),
}  # fmt: skip
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # where zig has another word than Python


def command() -> list[str] | None:
    """The package's compiler, None without the package. Raises: KernelsUnavailable for a package without it."""
    try:
        found = importlib.util.find_spec(PACKAGE)
    except (ImportError, ValueError):
        found = None
    if found is None:
        return None
    program = Path(found.origin or PACKAGE).with_name(PROGRAM)
    if not os.access(program, os.X_OK):
        raise KernelsUnavailable(f"the {PACKAGE} package is damaged: there is no program {program}; {REINSTALL}")
    return [str(program), "c++"]


def is_zig(compiler: Sequence[str]) -> bool:
    """Whether a command is zig's: `zig c++`, `python -m ziglang c++`."""
    return "c++" in compiler[1:] and (Path(compiler[0]).stem == "zig" or list(compiler[1:3]) == ["-m", PACKAGE])


def version_command(compiler: Sequence[str]) -> list[str]:
    """What prints zig's version; `zig c++ --version` prints clang's, and fails for a user without a home."""
    words = list(compiler)
    return [*words[: words.index("c++")], "version"]


def target(system: str = sys.platform, machine: str = platform.machine()) -> str:
    """zig's name of a system and a machine, by default this one."""
    return f"{MACHINES.get(machine.lower(), machine.lower())}-{SYSTEMS.get(system, system)}"


def compile_flags(where: str) -> list[str]:
    """Flags of every file for a target."""
    calls = ("-mno-outline-atomics",) if where.startswith("aarch64-linux") else ()  # the others call zig's own library
    return ["-target", where, *COMPILE_FLAGS, *calls]


def link_flags(where: str) -> list[str]:
    """Flags of the library for a target: it calls nothing but what every system has (src/bare.cpp)."""
    libraries = next(LIBRARIES[system] for system in LIBRARIES if f"-{system}" in where)
    return ["-target", where, "-shared", "-nostdlib", *libraries]


def environment(work: Path) -> dict[str, str]:
    """Variables that keep zig's caches in a temporary folder; its own place is the home, which a user may not have."""
    return {"ZIG_GLOBAL_CACHE_DIR": str(work / "zig"), "ZIG_LOCAL_CACHE_DIR": str(work / "zig")}
