"""Running a decoder for Metal as C++, with metal/metal_stdlib in place of Metal's library.

A job is one of shader_hosts, and so is the result.
"""

from __future__ import annotations

import os
import shlex
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support.shader_hosts import without_4_bits
from tests.support.shader_jobs import RESULTS, Job

MAIN = """
template <class T> T value(std::istream& in) { T r; in.read(reinterpret_cast<char*>(&r), sizeof r); return r; }

int main(int, char** files)
{
    std::ifstream in(files[1], std::ios::binary);
    std::vector<std::vector<Image>> textures(value<int>(in));
    for (auto& levels : textures) {
        levels.resize(value<int>(in));
        for (auto& image : levels) {
            image.width = value<int>(in), image.height = value<int>(in), image.channels = value<int>(in);
            image.texels.resize(size_t(image.width) * image.height * image.channels);
            in.read(reinterpret_cast<char*>(image.texels.data()), 4 * image.texels.size());
        }
    }
    std::vector<char> weights(value<int>(in));
    in.read(weights.data(), weights.size());
    std::vector<float4> queries(value<int>(in));
    in.read(reinterpret_cast<char*>(queries.data()), queries.size() * sizeof(float4));
    DECODER decoder = {ARGUMENTS};
    std::ofstream out(files[2], std::ios::binary);
    for (float4 query : queries) {
QUERY
        out.write(reinterpret_cast<char*>(results), sizeof results);
    }
}
"""

# What a query is turned into, an array `results`.
MATERIAL_QUERY = """        NtDecoder::NtMaterial m = DECODE;
        float3 normal = decoder.ntUnitNormal(&m), linear = decoder.ntLinearDiffuse(&m);
        float lod = decoder.ntLod(float2(query.x, query.y) / 100.0f, float2(query.y, query.x) / 50.0f);
        float2 centre = decoder.ntTexelCentre(
            float2(query.x, query.y), query.z, float2(query.y, query.x) * 0.25f + float2(0.375f, 0.375f));
        float results[] = {m.diffuse.x, m.diffuse.y, m.diffuse.z, m.normal.x, m.normal.y, m.normal.z, m.roughness,
            m.occlusion, m.metallic, m.specular, m.displacement, normal.x, normal.y, normal.z, linear.x, linear.y,
            linear.z, lod, centre.x, centre.y, MORE};
"""


def run_metal(
    job: Job, folder: Path, decoder: str = "NtDecoder", query: str = MATERIAL_QUERY, results: int = RESULTS
) -> np.ndarray:
    """(n, results and the job's more) float32, see shader_hosts; with another `decoder`, what `query` makes of it."""
    compiler = shlex.split(os.environ.get("CXX", "")) or [shutil.which("g++") or shutil.which("clang++")]
    if not compiler[0]:
        pytest.skip("needs a C++ compiler: apt install g++")
    arguments = [f"{{&textures[{index}]}}" for index in range(len(job.textures))]
    if job.weights:
        arguments.append(f"reinterpret_cast<const {job.element}*>(weights.data())")
    call = "decoder.ntDecode(float2(query.x, query.y), query.z)"
    if job.anisotropy:
        axes = f"float2(0.8f, 0.6f) * query.z, float2(-0.6f, 0.8f) * query.w, {job.anisotropy}.0f"
        call = f"decoder.ntDecodeGrad(float2(query.x, query.y), {axes})"
    main = MAIN.replace("ARGUMENTS", ", ".join(arguments)).replace("DECODER", decoder).replace("QUERY\n", query)
    more = "".join(f", {expression.format(nt='decoder.')}" for expression in job.more)
    main = main.replace("DECODE;", f"{call};").replace(", MORE};", f"{more}}};")
    program, inputs, outputs = folder / "decoder", folder / "inputs", folder / "outputs"
    (folder / "decoder.cpp").write_text(job.source + main)
    command = [*compiler, "-std=c++17", "-O1", "-Wall", "-Werror", f"-I{Path(__file__).parent / 'metal'}"]
    done = subprocess.run([*command, folder / "decoder.cpp", "-o", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    with inputs.open("wb") as stream:
        stream.write(struct.pack("<i", len(job.textures)))
        for levels in map(without_4_bits, job.textures.values()):
            stream.write(struct.pack("<i", len(levels)))
            for level in levels:
                height, width, channels = level.shape
                texels = level if level.dtype == np.float32 else level / np.float32(255)
                stream.write(struct.pack("<3i", width, height, channels) + texels.tobytes())
        stream.write(struct.pack("<i", len(job.weights)) + job.weights)
        stream.write(struct.pack("<i", len(job.queries)) + job.queries.tobytes())
    subprocess.run([program, inputs, outputs], check=True, timeout=60)
    return np.frombuffer(outputs.read_bytes(), np.float32).reshape(-1, results + len(job.more))
