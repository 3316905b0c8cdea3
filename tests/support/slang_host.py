"""Running a decoder in Slang as C++, where Slang has loops for cooperative vectors: they read the same bytes of the
buffer as matrix hardware does. Textures are read exactly, also by their sampler."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from shaders.generate import find_slangc
from tests.support.shader_hosts import without_4_bits
from tests.support.shader_jobs import Job

ROOM = bytes(1 << 16)  # around the matrices, for decoders with a mistake, which may read beside them
HOST = """
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

struct Levels : ITexture
{
    std::vector<const float*> texels;
    std::vector<int> widths, heights;
    TextureDimensions GetDimensions(int) override { return {}; }
    void Sample(SamplerState, const float*, void*, size_t) override { std::abort(); }
    const float* at(int x, int y, int mip) const { return texels.at(mip) + 4 * (y * widths[mip] + x); }
    void Load(const int32_t* v, void* out, size_t size) override
    {
        int x = v[0], y = v[1], mip = v[2];
        if (mip < 0 || mip >= int(widths.size()) || x < 0 || x >= widths[mip] || y < 0 || y >= heights[mip])
            std::abort();
        std::memcpy(out, at(v[0], v[1], v[2]), size);
    }
    void SampleLevel(SamplerState, const float* uv, float lod, void* out, size_t size) override
    {
        float found[4] = {}, top = float(widths.size() - 1);
        lod = lod < 0 ? 0 : lod > top ? top : lod;
        for (int mip = 0; mip < int(widths.size()); mip++) {
            float share = 1 - std::fabs(lod - mip);
            if (share <= 0)
                continue;
            float x = uv[0] * widths[mip] - 0.5f, y = uv[1] * heights[mip] - 0.5f;
            int left = int(std::floor(x)), upper = int(std::floor(y));
            for (int k = 0; k < 4; k++) {
                int column = left + (k & 1), row = upper + (k >> 1);
                float weight = share * (1 - std::fabs(x - column)) * (1 - std::fabs(y - row));
                int w = widths[mip], h = heights[mip];
                const float* texel = at((column % w + w) % w, (row % h + h) % h, mip);
                for (int c = 0; c < 4; c++)
                    found[c] += weight * texel[c];
            }
        }
        std::memcpy(out, found, size);
    }
};

extern "C" void decode_all(const float** texels, const int* sizes, char* weights, size_t weight_bytes,
    uint32_t* matrices, size_t matrix_bytes, float* queries, size_t count, float* decoded, size_t numbers)
{
    std::vector<Levels> textures(TEXTURES);
    for (auto& texture : textures)
        for (int levels = *sizes++; levels > 0; levels--) {
            texture.texels.push_back(*texels++);
            texture.widths.push_back(*sizes++);
            texture.heights.push_back(*sizes++);
        }
    GlobalParams_0 all = {};
    ASSIGNMENTS
    all.ntQueries_0.data = reinterpret_cast<Vector<float, 4>*>(queries), all.ntQueries_0.count = count;
    all.ntDecoded_0.data = decoded, all.ntDecoded_0.count = numbers;
    ComputeVaryingInput groups = {{0, 0, 0}, {uint32_t(count + 63) / 64, 1, 1}};
    ntDecodeTexels(&groups, nullptr, &all);
}
"""


def run_slang(job: Job, folder: Path, matrices: bytes, channels: int, cooperative: bool) -> np.ndarray:
    """What decode_texels.slang in a folder decodes at the queries of a job, (n, channels) float32.

    job: its textures, weights and queries count.
    """
    compiler = shlex.split(os.environ.get("CXX", "")) or [shutil.which("g++") or shutil.which("clang++")]
    if not compiler[0]:
        pytest.skip("needs a C++ compiler: apt install g++")
    text, library = folder / f"texels_{cooperative:d}.cpp", folder / f"texels_{cooperative:d}.so"
    source = compile_slang(folder, "cpp", [f"-DNT_COOPERATIVE_VECTORS={cooperative:d}"]).decode()
    # Slang's C++ has no sampling with derivatives; nothing here calls it
    left_out = "SLANG_FLOAT_VECTOR_OPS({})\n".format
    source = source.replace(left_out("double"), left_out("double") + left_out("half"))
    source = re.sub(r"SampleGrad\((\S+), (\w+), \w+, \w+\)", r"SampleLevel(\1, \2, 0.0f)", source)
    assignments = [f"all.{name}_0.texture = &textures[{index}];" for index, name in enumerate(job.textures)]
    if job.weights:
        kind = re.search(r"StructuredBuffer<([^;]*?) ?> ntWeightTable_0;", source)[1]
        assignments.append(f"all.ntWeightTable_0.data = reinterpret_cast<{kind}*>(weights);")
        assignments.append("all.ntWeightTable_0.count = weight_bytes / sizeof(*all.ntWeightTable_0.data);")
    if "ntMatrices_0;" in source:
        assignments.append("all.ntMatrices_0.data = matrices, all.ntMatrices_0.sizeInBytes = matrix_bytes;")
    host = HOST.replace("TEXTURES", str(len(job.textures))).replace("ASSIGNMENTS", "\n    ".join(assignments))
    text.write_text(source + host)
    command = [*compiler, "-std=c++17", "-O0", "-w", "-shared", "-fPIC", text, "-o", library]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    return _call(ctypes.CDLL(str(library)), job, matrices, channels)


def _call(library: ctypes.CDLL, job: Job, matrices: bytes, channels: int) -> np.ndarray:
    texels, sizes = [], []
    for levels in map(without_4_bits, job.textures.values()):
        sizes.append(len(levels))
        for level in levels:
            values = level if level.dtype == np.float32 else level / np.float32(255)
            spare = [(0, 0), (0, 0), (0, 4 - level.shape[2])]
            texels.append(np.ascontiguousarray(np.pad(values, spare), np.float32))
            sizes += [level.shape[1], level.shape[0]]
    matrices, room = ROOM + matrices + ROOM, len(ROOM)
    queries, decoded = job.queries.copy(), np.full((len(job.queries), channels), np.nan, np.float32)
    buffers = [np.frombuffer(data, np.uint8).copy() for data in (job.weights, matrices)]
    at = [ctypes.c_void_p(array.ctypes.data) for array in (*texels, *buffers, queries, decoded)]
    *levels, weights, of_matrices, asked, found = at
    library.decode_all(
        (ctypes.c_void_p * len(texels))(*levels), (ctypes.c_int * len(sizes))(*sizes),
        weights, ctypes.c_size_t(len(job.weights)),
        ctypes.c_void_p(of_matrices.value + room), ctypes.c_size_t(len(matrices) - 2 * room),
        asked, ctypes.c_size_t(len(queries)), found, ctypes.c_size_t(decoded.size),
    )  # fmt: skip
    return decoded


def compile_slang(folder: Path, target: str, flags: Sequence[str] = (), stage: str = "compute") -> bytes:
    """decode_texels.slang in a folder, compiled for a target of slangc; skips the test where that is missing."""
    slangc = find_slangc()
    if slangc is None:
        pytest.skip("needs Slang's compiler: pip install --no-deps slangtorch")
    out = folder / f"compiled.{target}"
    command = [slangc, folder / "decode_texels.slang", "-target", target, "-entry", "ntDecodeTexels", "-o", out]
    command += ["-stage", stage, "-line-directive-mode", "none", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    return out.read_bytes()
