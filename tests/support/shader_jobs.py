"""A decoder to run on some queries: what shader_hosts and metal_host take, and the entry points around its text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESULTS = 20

WGSL_ENTRY = """
@group(1) @binding(0) var<storage, read> queries: array<vec4<f32>>;
@group(1) @binding(1) var<storage, read_write> results: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>)
{
    if (id.x >= arrayLength(&queries)) { return; }
    let query = queries[id.x];
    let m = DECODE;
    let normal = ntUnitNormal(m);
    let at = id.x * PARTSu;
    results[at] = vec4<f32>(m.diffuse, m.normal.x);
    results[at + 1u] = vec4<f32>(m.normal.yz, m.roughness, m.occlusion);
    results[at + 2u] = vec4<f32>(m.metallic, m.specular, m.displacement, normal.x);
    results[at + 3u] = vec4<f32>(normal.yz, ntLinearDiffuse(m).xy);
    results[at + 4u] = vec4<f32>(ntLinearDiffuse(m).z, ntLod(query.xy / 100.0, query.yx / 50.0),
        ntTexelCentre(query.xy, query.z, query.yx * 0.25 + 0.375));
MORE}
"""

ESSL_ENTRY = """
uniform highp sampler2D queries;
layout(location = 0) out vec4 result0;
layout(location = 1) out vec4 result1;
layout(location = 2) out vec4 result2;
layout(location = 3) out vec4 result3;
layout(location = 4) out vec4 result4;
layout(location = 5) out vec4 result5;
layout(location = 6) out vec4 result6;

void main()
{
    vec4 query = texelFetch(queries, ivec2(gl_FragCoord.xy), 0);
    NtMaterial m = DECODE;
    vec3 normal = ntUnitNormal(m);
    result0 = vec4(m.diffuse, m.normal.x);
    result1 = vec4(m.normal.yz, m.roughness, m.occlusion);
    result2 = vec4(m.metallic, m.specular, m.displacement, normal.x);
    result3 = vec4(normal.yz, ntLinearDiffuse(m).xy);
    result4 = vec4(ntLinearDiffuse(m).z, ntLod(query.xy / 100.0, query.yx / 50.0),
        ntTexelCentre(query.xy, query.z, query.yx * 0.25 + 0.375));
MORE}
"""


@dataclass
class Job:
    """One material in one language."""

    name: str
    source: str  # what the exporter wrote
    # name in the shader -> levels, the largest first: (H, W, C) uint8, (H, W) uint16 texels of B4G4R4A4, (H, W, 4)
    # float32, or blocks: of BC1 (H / 4, W / 4, 8) uint8, of ASTC (H / 6, W / 6, 16)
    textures: dict[str, list[np.ndarray]]
    weights: bytes  # of the buffer, empty when they are baked in
    element: str  # what the buffer is an array of: float4, uint2 (four halves) or uint
    queries: np.ndarray  # (n, 4) float32
    sampled: bool = False  # the decoder uses a sampler
    # The anisotropy of ntDecodeGrad, and of the sampler. With it a query is (u, v, a, b), and the derivatives of uv are
    # a (0.8, 0.6) and b (-0.6, 0.8). 0: ntDecode.
    anisotropy: int = 0
    # further results: expressions of floats, of the NtMaterial m; {nt} precedes the names of functions
    more: tuple[str, ...] = ()
    words: bool = False  # GLSL ES reads the buffer as words, though they are halves

    @property
    def results(self) -> int:
        return RESULTS + len(self.more)

    @property
    def parts(self) -> int:
        """Vectors of four that hold the results."""
        return -(-self.results // 4)


SIDES = {8: 4, 16: 6}  # bytes of a block -> texels, its side: BC1 and ASTC 6x6


def decode_call(source: str, job: Job, float2: str) -> str:
    """An entry point's text with ntDecodeGrad where the job wants it, and with what it wants more."""
    axes = f"query.z * {float2}(0.8, 0.6), query.w * {float2}(-0.6, 0.8), {job.anisotropy}.0"
    call = f"ntDecodeGrad(query.xy, {axes})" if job.anisotropy else "ntDecode(query.xy, query.z)"
    more = [expression.format(nt="") for expression in job.more] + ["0.0"] * (4 * job.parts - job.results)
    target = "results[at + {}u]" if "<" in float2 else "result{}"
    lines = [f"    {target.format(5 + k // 4)} = {float2.replace('vec2', 'vec4')}({', '.join(more[k : k + 4])});\n"
             for k in range(0, len(more), 4)]  # fmt: skip
    return source.replace("DECODE", call).replace("PARTS", str(job.parts)).replace("MORE", "".join(lines))


def texels_of(levels: list[np.ndarray]) -> list[tuple[int, int]]:
    """(width, height) of each level in texels; the first one of blocks has whole blocks."""
    side = SIDES[levels[0].shape[2]] if is_blocks(levels[0]) else 1
    height, width = (side * length for length in levels[0].shape[:2])
    return [(max(width >> mip, 1), max(height >> mip, 1)) for mip in range(len(levels))]


def is_blocks(level: np.ndarray) -> bool:
    return level.ndim == 3 and level.shape[2] in SIDES


def as_results(answer: bytes, job: Job) -> np.ndarray:
    return np.frombuffer(answer, np.float32).reshape(-1, 4 * job.parts)[:, : job.results]
