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

TESTS = ("tests/engine/test_cpu_kernels.py", "tests/engine/test_cpu_engine.py")
# other builds have no sanitizer, and neither has what runs in a process without a compiler
LEFT_OUT = "not other_builds and not avx_512 and not without_a_compiler"
MACHINE = platform.machine()
RUNTIMES = {  # gcc's and clang's
    "address": ("libasan.so", f"libclang_rt.asan-{MACHINE}.so"),
    "undefined": ("libubsan.so", f"libclang_rt.ubsan_standalone-{MACHINE}.so"),
    "thread": ("libtsan.so", f"libclang_rt.tsan-{MACHINE}.a"),
}
FLAGS = ("-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")
FINDING = 66  # exit code of a sanitizer that has found something

# Every phase of the training step on four threads: chunks, borders, ties, draws and a sweep (iteration 1000). Then
# again at positions between the texels and LODs, with linear grids.
PROGRAM = r"""
#include <cstdio>
#include <vector>
#include "nt.h"

int train(int filtered) {
    const int learned = !filtered;
    const nt_grid grids[2] = {{4, 4, 5, 4, 0}, {8, 4, 3, 12, learned}};
    const int64_t texels[2] = {16 + 64 + 256 + 1024 + 4096, 144 + 576 + 2304};
    const int32_t channels[4] = {0, 1, 2, 10}, columns[4] = {0, 1, 2, 3};
    int32_t widths[7], heights[7];
    int64_t offsets[7], count = 0;
    for (int l = 0; l < 7; l++) {
        widths[l] = 96 >> l ? 96 >> l : 1;
        heights[l] = 64 >> l ? 64 >> l : 1;
        offsets[l] = count;
        count += int64_t(widths[l]) * heights[l];
    }
    std::vector<uint8_t> codes8(count * 3);
    std::vector<uint16_t> codes16(count);
    for (size_t i = 0; i < codes8.size(); i++) codes8[i] = uint8_t(i * 7 % 251);
    for (size_t i = 0; i < codes16.size(); i++) codes16[i] = uint16_t(i * 977);
    const float shares[6] = {0.6f, 0.8f, 0.9f, 0.94f, 0.96f, 0.98f}, weights[4] = {0.25f, 0.25f, 0.25f, 0.25f};
    const double rates[2] = {0.01, 0.02};
    const nt_model model = {grids, 2, 6, 3, 32, 2, 7, 1, 1, 4, channels, 1, 0.01f};
    const nt_material material = {widths, heights, offsets, codes8.data(), codes16.data(), 3, 1, columns};
    const nt_settings settings = {4096, 1, 4, shares, weights, 0.01, rates, 0.9, 0.99, 1e-12, 2, 0, 0.1f,
                                  filtered, 0.5f, 2.0f};
    nt_trainer* trainer = nullptr;
    if (nt_trainer_create(&model, &material, &settings, &trainer)) return 1;
    const int inputs = 16 * ((2 * 6 + 4 + (learned ? 32 : 8) + 1 + 15) / 16) + 16;
    std::vector<float> network(inputs * 32 + 32 * 32 + 32 * 16);
    for (size_t i = 0; i < network.size(); i++) network[i] = float(i * 37 % 101) / 250 - 0.2f;
    nt_trainer_load_network(trainer, 996, network.data(), nullptr, nullptr);
    std::vector<std::vector<float>> parameters;
    for (int g = 0; g < 2; g++) {
        parameters.emplace_back(texels[g] * grids[g].features);
        for (size_t i = 0; i < parameters[g].size(); i++) parameters[g][i] = float(i * 59 % 997) / 1000 - 0.5f;
        nt_trainer_load_grid(trainer, g, 996, parameters[g].data(), nullptr, nullptr, nullptr);
    }
    const std::vector<double> factors(7, 1.0), noise(7, 0.5);
    double loss = 0, mse = 0, sum = 0;
    for (int n : {3, 7, 1}) {
        if (nt_trainer_step(trainer, n, factors.data(), noise.data(), &loss)) return 1;
        if (nt_trainer_probe(trainer, -1, &mse)) return 1;
    }
    nt_trainer_save_network(trainer, network.data(), nullptr, nullptr);
    const float* arrays[2];
    for (int g = 0; g < 2; g++) {
        nt_trainer_save_grid(trainer, g, parameters[g].data(), nullptr, nullptr, nullptr);
        arrays[g] = parameters[g].data();
    }
    nt_trainer_destroy(trainer);
    std::vector<float> image(size_t(96) * 64 * 11);
    if (nt_decode_rows(&model, arrays, network.data(), 0, 96, 64, 0, 64, 4, image.data())) return 1;
    for (float value : image) sum += value;
    std::printf("loss %.6f, probe %.6f, mean of the image %.6f\n", loss, mse, sum / double(image.size()));
    return loss > 0 && loss < 1 ? 0 : 1;
}

int main() { return train(0) || train(1); }
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
        "NTC_CXXFLAGS": " ".join([*FLAGS, "-march=native", f"-fsanitize={name}", *shared]),
        "LD_PRELOAD": str(find_runtime(compiler, name)), "ASAN_OPTIONS": options, "UBSAN_OPTIONS": options,
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
