"""The CPU kernels under the compiler's sanitizers: `python tests/sanitize.py [address] [undefined] [thread]`.

address and undefined compile the kernels with the sanitizer and run their tests in a Python that has its runtime
preloaded. thread compiles them into a small program instead: a whole Python under it would take for ever. Without
arguments all three; the exit code is that of the first one that fails. The compiler is that of the toolkit (CXX).
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from engine.cpu import build

TESTS = tuple(f"tests/engine/test_{name}.py" for name in ("cpu_kernels", "cpu_engine", "code_search"))
# other builds have no sanitizer, and neither has what runs in a process without a compiler
LEFT_OUT = "not other_builds and not avx_512 and not without_a_compiler"
MACHINE = platform.machine()
RUNTIMES = {  # gcc's and clang's
    "address": ("libasan.so", f"libclang_rt.asan-{MACHINE}.so"),
    "undefined": ("libubsan.so", f"libclang_rt.ubsan_standalone-{MACHINE}.so"),
    "thread": ("libtsan.so", f"libclang_rt.tsan-{MACHINE}.a"),
}
FLAGS = ("-O1", "-g", "-march=native", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")
FINDING = 66  # exit code of a sanitizer that has found something

# Every phase of the training step on four threads: chunks, borders, ties, draws and a sweep (iteration 1000), at texel
# centres and between texels and LODs, with codes and with blocks; then the search of every level, and a decoded LOD.
PROGRAM = r"""
#include <algorithm>
#include <cstdio>
#include <vector>
#include "nt.h"

using Floats = std::vector<float>;
constexpr int LODS = 7, WIDTH = 96, HEIGHT = 64, INPUT = 6;

struct Case {
    const char* name;
    nt_grid grids[2];
    int filtered;
};
const Case CASES[] = {
    {"codes", {{4, 4, 5, 4, 4, 0, 0, 1}, {8, 4, 3, 12, 12, 1, 0, 1}}, 0},
    {"codes, filtered", {{4, 4, 5, 4, 2, 0, 0, 1}, {8, 4, 3, 3, 24, 0, 0, 2}}, 1},
    {"blocks", {{3, 0, 5, 4, 4, 1, 4, 1}, {3, 0, 1, 7, 7, 0, 4, 1}}, 0},
    {"blocks, filtered", {{3, 0, 5, 8, 1, 0, 4, 1}, {3, 0, 3, 5, 3, 0, 4, 2}}, 1},
    {"ASTC blocks", {{3, 0, 5, 4, 4, 1, 6, 1}, {3, 0, 1, 13, 7, 0, 6, 1}}, 0},
    {"ASTC planes, filtered", {{3, 0, 3, 5, 8, 0, 6, 2}, {3, 0, 3, 5, 8, 0, 6, 2}}, 1},
};

struct Material {
    int32_t widths[LODS], heights[LODS];
    int64_t offsets[LODS];
    std::vector<uint8_t> codes8;
    std::vector<uint16_t> codes16;
    const int32_t columns[4] = {0, 1, 2, 3};
    nt_material view;

    Material() {
        int64_t count = 0;
        for (int l = 0; l < LODS; l++) {
            widths[l] = std::max(WIDTH >> l, 1), heights[l] = std::max(HEIGHT >> l, 1), offsets[l] = count;
            count += int64_t(widths[l]) * heights[l];
        }
        for (int64_t i = 0; i < count * 3; i++) codes8.push_back(uint8_t(i * 7 % 251));
        for (int64_t i = 0; i < count; i++) codes16.push_back(uint16_t(i * 977));
        view = {widths, heights, offsets, codes8.data(), codes16.data(), 3, 1, columns};
    }
};

size_t parameters_of(const nt_grid& grid) {
    size_t count = 0;
    for (int level = 0; level < grid.n_levels; level++) {
        const size_t width = size_t(grid.base_width) << level, height = size_t(grid.base_height) << level;
        const size_t side = std::max(grid.block_side, 1);
        const size_t units = (width + side - 1) / side * ((height + side - 1) / side);
        count += units * (side > 1 ? 6 + side * side : grid.features);
    }
    return count;
}

int train(const nt_model& model, const Material& material, int filtered, Floats& network, Floats (&grids)[2]) {
    const float shares[LODS - 1] = {0.6f, 0.8f, 0.9f, 0.94f, 0.96f, 0.98f}, weights[4] = {0.25f, 0.25f, 0.25f, 0.25f};
    const double rates[2] = {0.01, 0.01};  // equal: successive grids of one shape become planes
    const nt_settings settings = {4096, 1, 4, shares, weights, nullptr, 0.01, rates, 0.9, 0.99, 1e-12, 2, 0, 0.1f,
                                  filtered, 0.5f, 2.0f, 8};
    nt_trainer* trainer = nullptr;
    if (nt_trainer_create(&model, &material.view, &settings, &trainer)) return 1;
    nt_trainer_load_network(trainer, 996, network.data(), nullptr, nullptr);
    for (int g = 0; g < 2; g++) nt_trainer_load_grid(trainer, g, 996, grids[g].data(), nullptr, nullptr, nullptr);
    const std::vector<double> factors(7, 1.0), noise(7, 0.5);
    double loss = 0, mse = 0;
    for (int n : {3, 7, 1}) {
        if (nt_trainer_step(trainer, n, factors.data(), noise.data(), n / 2, &loss)) return 1;
        if (nt_trainer_probe(trainer, -1, &mse)) return 1;
    }
    nt_trainer_save_network(trainer, network.data(), nullptr, nullptr);
    for (int g = 0; g < 2; g++) nt_trainer_save_grid(trainer, g, grids[g].data(), nullptr, nullptr, nullptr);
    nt_trainer_destroy(trainer);
    std::printf("loss %.6f, probe %.6f, ", loss, mse);
    return loss > 0 && loss < 1 ? 0 : 1;
}

int search(const nt_model& model, const Material& material, const Floats& network, float* const* grids) {
    const float weights[4] = {0.25f, 0.25f, 0.25f, 0.25f}, lod_weights[LODS] = {1, 1, 1, 1, 1, 1, 1};
    int64_t all = 0;
    for (int g = 0; g < 2; g++)
        for (int level = 0; level < model.grids[g].n_levels; level++) {
            int64_t changed = 0;
            if (nt_search_codes(&model, &material.view, grids, network.data(), weights, lod_weights, g, 1, level, 4,
                                &changed))
                return 1;
            all += changed;
        }
    std::printf("codes that the search changes %lld, ", (long long)all);
    return all > 0 ? 0 : 1;
}

int run(const Case& one, const Material& material) {
    const int32_t channels[4] = {0, 1, 2, 10};
    const nt_model model = {one.grids, 2, INPUT, 3, 32, 2, LODS, 1, 1, 4, channels, 1, 0.01f, 11, -1};
    int inputs = 2 * INPUT + 1;
    for (const nt_grid& grid : one.grids) inputs += grid.features * (grid.learned ? 4 : 1);
    inputs = 16 * ((inputs + 15) / 16) + 16;
    Floats network(inputs * 32 + 32 * 32 + 32 * 16), grids[2];
    for (size_t i = 0; i < network.size(); i++) network[i] = float(i * 37 % 101) / 250 - 0.2f;
    for (int g = 0; g < 2; g++)
        for (size_t i = 0; i < parameters_of(one.grids[g]); i++) grids[g].push_back(float(i * 59 % 997) / 1000 - 0.5f);
    std::printf("%s: ", one.name);
    if (train(model, material, one.filtered, network, grids)) return 1;
    float* const arrays[2] = {grids[0].data(), grids[1].data()};
    if (search(model, material, network, arrays)) return 1;
    Floats image(size_t(WIDTH) * HEIGHT * 11);
    if (nt_decode_rows(&model, arrays, network.data(), 0, WIDTH, HEIGHT, 0, HEIGHT, 4, image.data())) return 1;
    double sum = 0;
    for (float value : image) sum += value;
    std::printf("mean of the image %.6f\n", sum / double(image.size()));
    return 0;
}

int main() {
    const Material material;
    for (const Case& one : CASES)
        if (run(one, material)) return 1;
    return 0;
}
"""


def find_runtime(compiler: list[str], name: str) -> Path:
    """The sanitizer's library, which has to be loaded before everything else."""
    for library in RUNTIMES[name]:
        done = subprocess.run([*compiler, f"-print-file-name={library}"], capture_output=True, text=True, check=True)
        path = Path(done.stdout.strip())  # the bare name where there is none
        if path.is_file():
            return path.resolve()
    wanted = " or ".join(RUNTIMES[name])
    sys.exit(f"{compiler[0]} has no runtime for -fsanitize={name} ({wanted}); install it, or set CXX")


def preloaded(compiler: list[str], name: str) -> str:
    """What a Python with the sanitizer loads before all else: its runtime, and the C++ library.

    Python has no C++ library, and a runtime that finds none when it starts ends the process at the first C++ exception:
    the import of Triton throws one.
    """
    asked = [*compiler, "-print-file-name=libstdc++.so.6"]
    library = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    return " ".join(str(path) for path in (find_runtime(compiler, name), library) if path.is_file())


def run(command, log: Path, **environment: str) -> int:
    """Run a command in the repository; then show what sanitizers wrote to files that begin like `log`."""
    print("+", *(f"{name}='{value}'" for name, value in environment.items()), *command, flush=True)
    code = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False).returncode
    for report in sorted(log.parent.glob(f"{log.name}.*")):
        print(report.read_text(errors="replace"), flush=True)
        code = code or FINDING
    return code


def test_kernels(compiler: list[str], name: str, folder: Path) -> int:
    """The tests of the kernels on kernels with a sanitizer."""
    shared = ["-shared-libsan"] if "clang" in find_runtime(compiler, name).name else []
    log = folder / f"{name}-report"
    options = f"detect_leaks=0:print_stacktrace=1:log_path={log}:exitcode={FINDING}"
    environment = {
        "CXX": " ".join(compiler), "NTC_CACHE": str(folder / name),
        "NTC_CXXFLAGS": " ".join([*FLAGS, f"-fsanitize={name}", *shared]),
        "LD_PRELOAD": preloaded(compiler, name), "ASAN_OPTIONS": options, "UBSAN_OPTIONS": options,
    }  # fmt: skip
    # without kernels all tests would be skipped, which looks like success
    code = run([sys.executable, "-c", "from engine.cpu.library import load_kernels; load_kernels(print)"], log,
               **environment)  # fmt: skip
    return code or run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, "-k", LEFT_OUT], log,
                       **environment)  # fmt: skip


def run_program(compiler: list[str], name: str, folder: Path) -> int:
    """PROGRAM with the kernels in it."""
    find_runtime(compiler, name)
    source, program, log = folder / "main.cpp", folder / "main", folder / f"{name}-report"
    source.write_text(PROGRAM)
    units = sorted(map(str, build.SOURCES.glob("*.cpp")))
    command = [*compiler, "-std=c++17", *FLAGS, f"-fsanitize={name}", "-pthread", "-I", str(build.SOURCES)]
    code = run([*command, str(source), *units, "-o", str(program)], log)
    if code:
        return code
    fixed = [shutil.which("setarch"), MACHINE, "-R"] if shutil.which("setarch") else []  # random addresses confuse it
    return run([*fixed, str(program)], log, TSAN_OPTIONS=f"log_path={log}:exitcode={FINDING}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sanitizers", nargs="*", choices=[[], *RUNTIMES], metavar="address|undefined|thread")
    chosen = parser.parse_args().sanitizers or list(RUNTIMES)
    compiler = build.find_compilers()[0]
    codes = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            codes[name] = (run_program if name == "thread" else test_kernels)(compiler, name, Path(folder))
    for name, code in codes.items():
        print(f"{name}: {'nothing found' if code == 0 else f'failed with exit code {code}'}")
    return next((code for code in codes.values() if code), 0)


if __name__ == "__main__":
    sys.exit(main())
