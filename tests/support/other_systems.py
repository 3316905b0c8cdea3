"""Compiles the CPU kernels for systems that are not at hand, and runs them in what stands in for these."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from engine.cpu import build, zig
from engine.cpu.library import load_kernels
from engine.errors import KernelsUnavailable
from tests.support.kernel_builds import zig_or_skip
from tests.support.paths import ROOT

DRIVER = ROOT / "tests/support/kernel_driver.cpp"
CASES, GRADIENTS, ARRAYS = 4, 4, 9  # of the driver; of each case: gradients, and all arrays
WINE = ("wine64", "/usr/lib/wine/wine64", "wine")
ARM_LIBRARIES = "/usr/aarch64-linux-gnu"
APART = ("gemm.cpp", "system.cpp", "bare.cpp")  # units that cannot be compiled together with the others


def joined_sources(folder: Path) -> Path:
    """A new folder with the sources of the kernels as few units, which compile in half of the time, in place of
    engine.cpu.build.SOURCES."""
    folder.mkdir(parents=True)
    units = sorted(path.name for path in build.SOURCES.glob("[!.]*.cpp"))
    joined = {"others.cpp": [name for name in units if name not in APART], **{name: [name] for name in APART}}
    for name, content in joined.items():
        (folder / name).write_text("".join(f'#include "{build.SOURCES / unit}"\n' for unit in content))
    return folder


def cross_compile(folder: Path, where: str, *flags: str) -> Path:
    """The kernels for a target of zig in `folder`, with the least optimisation that is not slower than none."""
    recipe = build.Recipe(joined_sources(folder / "src"), zig_or_skip())
    own = [*build.COMPILE_FLAGS, *zig.compile_flags(where), "-O1", *flags]
    objects = [str(folder / f"{Path(name).stem}.o") for name in recipe.units]
    library = folder / ("kernels.dll" if "windows" in where else "kernels.so")
    build.run_together(
        [[*recipe.compiler, *own, build.CONTRACTION.get(name, build.NO_CONTRACTION), "-c", name, "-o", made]
         for name, made in zip(recipe.units, objects)],
        recipe, folder,
    )  # fmt: skip
    build.run_together([[*recipe.compiler, *objects, *zig.link_flags(where), "-o", str(library)]], recipe, folder)
    return library


def cross_driver(folder: Path, where: str, *flags: str) -> Path:
    """tests/support/kernel_driver.cpp beside the library in `folder`."""
    recipe = build.Recipe(build.SOURCES, zig_or_skip())
    program, made = folder / "driver.exe", str(folder / "driver.o")
    own = [*build.COMPILE_FLAGS, *zig.compile_flags(where), "-I", str(build.SOURCES)]
    link = [flag for flag in zig.link_flags(where) if flag != "-shared"]
    build.run_together([[*recipe.compiler, *own, "-c", str(DRIVER), "-o", made]], recipe, folder)
    build.run_together([[*recipe.compiler, made, *link, *flags, "-o", str(program)]], recipe, folder)
    return program


def native_results(folder: Path) -> list[np.ndarray]:
    """What this machine's kernels return."""
    try:
        library = load_kernels()
        compiler = build.find_compilers()[0]
    except KernelsUnavailable as error:
        pytest.skip(str(error))
    if zig.is_zig(compiler):
        pytest.skip("needs g++ or clang++, for a program of this machine")
    folder.mkdir()
    shutil.copy(library._name, folder / "kernels.so")
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-I", str(build.SOURCES)]
    subprocess.run([*compiler, *flags, str(DRIVER), "-o", str(folder / "driver.exe"), "-ldl"], check=True)
    return run_driver(folder, [])


def run_driver(folder: Path, emulator: Sequence[str], **environment: str) -> list[np.ndarray]:
    """Run the driver in `folder`; the arrays that it wrote."""
    command = [*emulator, str(folder / "driver.exe")]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True,
                          timeout=250)  # fmt: skip
    whole = done.returncode == 0 and (folder / "results").is_file()  # wine returns 0 after some crashes
    assert whole, (done.stdout + done.stderr)[-2000:] or f"code {done.returncode}, and it wrote nothing"
    content = np.fromfile(folder / "results", np.uint32)
    arrays, at = [], 0
    while at < len(content):
        arrays.append(content[at + 1 : at + 1 + content[at]].view(np.float32))
        at += 1 + int(content[at])
    return arrays


def assert_same(found: list[np.ndarray], native: list[np.ndarray]) -> None:
    """Two machines' arrays agree: exactly but for rounding before training, and on average after it, when the signs of
    tiny gradients have had their say."""
    assert [len(array) for array in found] == [len(array) for array in native] and len(found) == CASES * ARRAYS
    for index, (one, other) in enumerate(zip(found, native)):
        scale = np.abs(other).max()
        error = np.abs(one - other)
        assert np.isfinite(one).all() and scale > 0
        if index % ARRAYS <= GRADIENTS:  # and the image before training
            assert error.max() < 1e-5 * scale, (index, error.max() / scale)
        else:
            assert error.mean() < 2e-3 * scale, (index, error.mean() / scale)


def wine_or_skip() -> str:
    """The program that runs Windows programs."""
    found = next(filter(None, map(shutil.which, WINE)), None)
    if found is None:
        pytest.skip("needs apt install wine64")
    return found


def qemu_or_skip() -> list[str]:
    """The command that runs programs of Linux on ARM."""
    program = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if program is None or not Path(ARM_LIBRARIES).is_dir():
        pytest.skip("needs apt install qemu-user-static libc6-arm64-cross")
    return [program, "-L", ARM_LIBRARIES]
