"""Running generated decoders: WGSL through wgpu and in WebGPU, GLSL ES in WebGL 2, both in a headless Chromium.

Nothing is imported from the exporter. All take jobs and return, per job, an (n, 20) float32 array per query
(u, v, lod, 0): the 11 channels, the unit normal, diffuse in linear light, ntLod of the made-up derivatives (u, v) / 100
and (v, u) / 50, and ntTexelCentre for the made-up random numbers (v, u) / 4 + 0.375; then what the job wants more.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.support.shader_jobs import (
    ESSL_ENTRY,
    SIDES,
    WGSL_ENTRY,
    Job,
    as_results,
    decode_call,
    is_blocks,
    texels_of,
)

# Each job is compiled for one use: without LLVM's optimisation lavapipe takes half the time. Read when it is loaded.
os.environ.setdefault("GALLIVM_PERF", "nopt,no_aos_sampling")

WEBGPU_FORMATS = {1: "r8unorm", 2: "rg8unorm", 4: "rgba8unorm", 8: "bc1-rgba-unorm"}  # by channels, bytes of a block
HALF_FEATURE = "shader-f16"
WEBGPU_FEATURES = ("float32-filterable", "texture-compression-bc", HALF_FEATURE)  # asked for where the device has them


def webgpu_format(level: np.ndarray) -> str:
    return "rgba32float" if level.dtype == np.float32 else WEBGPU_FORMATS[level.shape[2]]


# --- wgpu ------------------------------------------------------------------------------------------------------------


@functools.lru_cache
def wgpu_device():
    """A device, of the CPU where there is no other; skips the test where there is none."""
    wgpu = pytest.importorskip("wgpu", reason="needs wgpu: pip install wgpu", exc_type=ImportError)
    with contextlib.suppress(ImportError):
        import triton  # noqa: F401  # before lavapipe: of two LLVMs in a process the one that comes later crashes
    try:
        adapter = wgpu.gpu.request_adapter_sync(power_preference="low-power")
        return adapter.request_device_sync(required_features=[f for f in WEBGPU_FEATURES if f in adapter.features])
    except Exception as error:
        pytest.skip(f"wgpu finds no device ({error}); apt install mesa-vulkan-drivers")


def without_4_bits(levels: list[np.ndarray]) -> list[np.ndarray]:
    """B4G4R4A4 as R8G8B8A8, which has the same UNORM values: WebGPU has no formats of 4 bits."""
    if levels[0].dtype != np.uint16:
        return levels
    channels = ([level >> shift & 15 for shift in (8, 4, 0, 12)] for level in levels)  # R, G, B, A
    return [np.stack(level, axis=2).astype(np.uint8) * 17 for level in channels]


def run_wgsl(job: Job) -> np.ndarray:
    import wgpu

    device = wgpu_device()
    code = job.source + decode_call(WGSL_ENTRY, job, "vec2<f32>")
    module = device.create_shader_module(code=code)
    pipeline = device.create_compute_pipeline(layout="auto", compute={"module": module, "entry_point": "main"})
    entries = []
    for levels in map(without_4_bits, job.textures.values()):
        texture = device.create_texture(
            size=(*texels_of(levels)[0], 1),
            mip_level_count=len(levels),
            format=webgpu_format(levels[0]),
            usage=wgpu.TextureUsage.TEXTURE_BINDING | wgpu.TextureUsage.COPY_DST,
        )
        for mip, (level, (width, height)) in enumerate(zip(levels, texels_of(levels))):
            if is_blocks(level):  # of a level that is no multiple of its side, whole blocks are written
                width, height = (SIDES[level.shape[2]] * count for count in level.shape[1::-1])
            layout = {"bytes_per_row": level[0].nbytes, "rows_per_image": len(level)}
            into = {"texture": texture, "mip_level": mip}
            device.queue.write_texture(into, level.tobytes(), layout, (width, height, 1))
        entries.append(texture.create_view())
    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC
    if job.weights:
        entries.append({"buffer": device.create_buffer_with_data(data=job.weights, usage=usage)})
    if job.sampled:
        entries.append(device.create_sampler(**SAMPLER, max_anisotropy=max(job.anisotropy, 1)))
    queries = device.create_buffer_with_data(data=job.queries.tobytes(), usage=usage)
    results = device.create_buffer(size=len(job.queries) * job.parts * 16, usage=usage)
    encoder = device.create_command_encoder()
    compute = encoder.begin_compute_pass()
    compute.set_pipeline(pipeline)
    for group, resources in enumerate((entries, [{"buffer": queries}, {"buffer": results}])):
        bound = [{"binding": index, "resource": resource} for index, resource in enumerate(resources)]
        layout = pipeline.get_bind_group_layout(group)
        compute.set_bind_group(group, device.create_bind_group(layout=layout, entries=bound))
    compute.dispatch_workgroups(-(-len(job.queries) // 64))
    compute.end()
    device.queue.submit([encoder.finish()])
    return as_results(device.queue.read_buffer(results), job)


# --- WebGL 2 ---------------------------------------------------------------------------------------------------------

PAGE = """<!doctype html><meta charset="utf-8"><pre id="out">the script did not end</pre><script>
const jobs = JOBS;
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const vertex = `#version 300 es
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0); }`;
const gl = document.createElement("canvas").getContext("webgl2");
gl?.pixelStorei(gl.UNPACK_ALIGNMENT, 1);

const s3tc = gl?.getExtension("WEBGL_compressed_texture_s3tc"), filtered = gl?.getExtension("OES_texture_float_linear");
const astc = gl?.getExtension("WEBGL_compressed_texture_astc");
const anisotropic = gl?.getExtension("EXT_texture_filter_anisotropic");

function texture(unit, format, levels, sampled, anisotropy) {
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    const internal = gl[format.internal] ?? s3tc[format.internal] ?? astc[format.internal];
    gl.texStorage2D(gl.TEXTURE_2D, levels.length, internal, levels[0].width, levels[0].height);
    const min = sampled ? gl.LINEAR_MIPMAP_LINEAR : gl.NEAREST_MIPMAP_NEAREST;  // REPEAT is the default
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, min);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, sampled ? gl.LINEAR : gl.NEAREST);
    if (anisotropy) gl.texParameteri(gl.TEXTURE_2D, anisotropic.TEXTURE_MAX_ANISOTROPY_EXT, anisotropy);
    levels.forEach((level, mip) => {
        const box = [gl.TEXTURE_2D, mip, 0, 0, level.width, level.height];
        if (!format.array) return gl.compressedTexSubImage2D(...box, internal, bytes(level.data));
        const data = new globalThis[format.array](bytes(level.data).buffer);
        gl.texSubImage2D(...box, gl[format.format], gl[format.type], data);
    });
}

function run(job) {
    const program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, job.source]]) {
        const shader = gl.createShader(type);
        gl.shaderSource(shader, source);
        gl.compileShader(shader);
        if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw gl.getShaderInfoLog(shader);
        gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw gl.getProgramInfoLog(program);
    gl.useProgram(program);
    job.textures.forEach((t, unit) => {
        texture(unit, t.format, t.levels, t.sampled, t.sampled && job.anisotropy);
        gl.uniform1i(gl.getUniformLocation(program, t.name), unit);
    });
    gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
    const targets = Array.from({length: job.parts}, (_, k) => gl.COLOR_ATTACHMENT0 + k);
    for (const target of targets) {
        const image = gl.createTexture();
        gl.activeTexture(gl.TEXTURE0 + 15);
        gl.bindTexture(gl.TEXTURE_2D, image);
        gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA32F, job.count, 1);
        gl.framebufferTexture2D(gl.FRAMEBUFFER, target, gl.TEXTURE_2D, image, 0);
    }
    gl.drawBuffers(targets);
    gl.viewport(0, 0, job.count, 1);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    const all = new Float32Array(job.count * 4 * job.parts);
    targets.forEach((target, k) => {
        const part = new Float32Array(job.count * 4);
        gl.readBuffer(target);
        gl.readPixels(0, 0, job.count, 1, gl.RGBA, gl.FLOAT, part);
        for (let i = 0; i < job.count; i++) all.set(part.subarray(4 * i, 4 * i + 4), 4 * (job.parts * i + k));
    });
    const error = gl.getError();
    if (error) throw `WebGL error ${error}`;
    let text = "";
    for (const byte of new Uint8Array(all.buffer)) text += String.fromCharCode(byte);
    return btoa(text);
}

const answers = {};
if (gl && s3tc && filtered && anisotropic && gl.getExtension("EXT_color_buffer_float")) {
    for (const job of jobs) {
        try { answers[job.name] = run(job); } catch (error) { answers[job.name] = "error: " + error; }
    }
}
document.getElementById("out").textContent = "answers:" + JSON.stringify(answers) + ":answers";
</script>"""

SAMPLER = {
    "address_mode_u": "repeat", "address_mode_v": "repeat", "mag_filter": "linear", "min_filter": "linear",
    "mipmap_filter": "linear",
}  # fmt: skip
FORMATS = {1: ("R8", "RED"), 2: ("RG8", "RG"), 4: ("RGBA8", "RGBA")}
WEBGL_BLOCKS = {8: "COMPRESSED_RGB_S3TC_DXT1_EXT", 16: "COMPRESSED_RGBA_ASTC_6x6_KHR"}  # by bytes of one
CHROMIUM_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-unsafe-swiftshader",
]  # fmt: skip


def chromium() -> str:
    """The browser; skips the test where there is none."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        pytest.skip("needs a Chromium browser: apt install chromium")
    return found


def _level(data: bytes, width: int, height: int) -> dict:
    return {"width": width, "height": height, "data": base64.b64encode(data).decode()}


ELEMENTS = {  # of a buffer -> its texture's format, that of the upload, the type and the array of it, and the bytes
    "float4": ("RGBA32F", "RGBA", "FLOAT", "Float32Array", 16),
    "uint2": ("RGBA16F", "RGBA", "HALF_FLOAT", "Uint16Array", 8),
    "uint": ("R32UI", "RED_INTEGER", "UNSIGNED_INT", "Uint32Array", 4),
    "uint4": ("RGBA32UI", "RGBA_INTEGER", "UNSIGNED_INT", "Uint32Array", 16),
    "words": ("RG32UI", "RG_INTEGER", "UNSIGNED_INT", "Uint32Array", 8),
}


def _buffer_texture(name: str, data: bytes, width: int, element: str = "float4") -> dict:
    *format_of, texel_bytes = ELEMENTS[element]
    height = len(data) // (width * texel_bytes)
    return {
        "name": name,
        "format": dict(zip(("internal", "format", "type", "array"), format_of)),
        "levels": [_level(data, width, height)],
    }


def run_essl(jobs: list[Job]) -> dict[str, np.ndarray]:
    """All jobs in one page, by name."""
    described = []
    for job in jobs:
        textures = []
        for name, levels in job.textures.items():
            if levels[0].dtype == np.uint16:  # as the header of the shader says
                of = {"internal": "RGBA4", "format": "RGBA", "type": "UNSIGNED_SHORT_4_4_4_4", "array": "Uint16Array"}
                levels = [(level << 4) | (level >> 12) for level in levels]
            elif levels[0].dtype == np.float32:
                of = {"internal": "RGBA32F", "format": "RGBA", "type": "FLOAT", "array": "Float32Array"}
            elif is_blocks(levels[0]):
                of = {"internal": WEBGL_BLOCKS[levels[0].shape[2]]}
            else:
                internal, kind = FORMATS[levels[0].shape[2]]
                of = {"internal": internal, "format": kind, "type": "UNSIGNED_BYTE", "array": "Uint8Array"}
            stored = [_level(level.tobytes(), *size) for level, size in zip(levels, texels_of(levels))]
            textures.append({"name": name, "format": of, "levels": stored, "sampled": job.sampled})
        if job.weights:
            element = "words" if job.words else job.element
            textures.append(_buffer_texture("ntWeightTable", job.weights, 256, element))
        textures.append(_buffer_texture("queries", job.queries.tobytes(), len(job.queries)))
        source = "#version 300 es\n" + job.source + decode_call(ESSL_ENTRY, job, "vec2")
        described.append(
            {"name": job.name, "source": source, "textures": textures, "count": len(job.queries),
             "anisotropy": job.anisotropy, "parts": job.parts}
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        script = json.dumps(described).replace("</", "<\\/")
        page.write_text(PAGE.replace("const jobs = JOBS", f"const jobs = {script}", 1))
        command = [chromium(), *CHROMIUM_FLAGS, "--timeout=240000", "--dump-dom"]
        command += [f"--user-data-dir={folder}/profile", page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = re.search("answers:(.*):answers", done.stdout)
    assert found, f"no answers from the page: {done.stdout[-300:]} {done.stderr[-2000:]}"
    answers = json.loads(found[1])
    if not answers:
        pytest.skip("this Chromium has no WebGL 2 with float targets")
    return _decoded(answers, jobs)


def _decoded(answers: dict[str, str], jobs: list[Job]) -> dict[str, np.ndarray]:
    results, by_name = {}, {job.name: job for job in jobs}
    for name, answer in answers.items():
        assert not answer.startswith("error:"), f"{name}: {answer}"
        results[name] = as_results(base64.b64decode(answer), by_name[name])
    return results


# --- WebGPU ----------------------------------------------------------------------------------------------------------

WEBGPU_PAGE = """<!doctype html><meta charset="utf-8"><script>
const jobs = JOBS;
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

function buffer(device, data, usage) {
    const made = device.createBuffer({size: data.byteLength, usage: usage | GPUBufferUsage.COPY_DST});
    device.queue.writeBuffer(made, 0, data);
    return made;
}

async function run(device, job) {
    device.pushErrorScope("validation");
    const module = device.createShaderModule({code: job.source});
    const problems = (await module.getCompilationInfo()).messages.filter((message) => message.type === "error");
    if (problems.length) throw problems[0].message;
    const compute = {module, entryPoint: "main"};
    const pipeline = await device.createComputePipelineAsync({layout: "auto", compute});
    const first = job.textures.map((texture) => {
        const {width, height} = texture.levels[0];
        const made = device.createTexture({size: [width, height], mipLevelCount: texture.levels.length,
            format: texture.format, usage: GPUTextureUsage.TEXTURE_BINDING | GPUTextureUsage.COPY_DST});
        texture.levels.forEach((level, mipLevel) => {
            const stored = (side) => texture.blocks ? 4 * Math.ceil(side / 4) : side;  // whole blocks are written
            device.queue.writeTexture({texture: made, mipLevel}, bytes(level.data), {bytesPerRow: level.rowBytes},
                [stored(level.width), stored(level.height)]);
        });
        return made.createView();
    });
    if (job.weights) first.push({buffer: buffer(device, bytes(job.weights), GPUBufferUsage.STORAGE)});
    if (job.sampler) first.push(device.createSampler(job.sampler));
    const size = job.count * 16 * job.parts;
    const results = device.createBuffer({size, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC});
    const copy = device.createBuffer({size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST});
    const second = [{buffer: buffer(device, bytes(job.queries), GPUBufferUsage.STORAGE)}, {buffer: results}];
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    [first, second].forEach((resources, group) => pass.setBindGroup(group, device.createBindGroup({
        layout: pipeline.getBindGroupLayout(group),
        entries: resources.map((resource, binding) => ({binding, resource})),
    })));
    pass.dispatchWorkgroups(Math.ceil(job.count / 64));
    pass.end();
    encoder.copyBufferToBuffer(results, 0, copy, 0, size);
    device.queue.submit([encoder.finish()]);
    await copy.mapAsync(GPUMapMode.READ);
    const error = await device.popErrorScope();
    if (error) throw error.message;
    let text = "";
    for (const byte of new Uint8Array(copy.getMappedRange())) text += String.fromCharCode(byte);
    return btoa(text);
}

async function all() {
    const answers = {};
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) return answers;
    const requiredFeatures = FEATURES.filter((name) => adapter.features.has(name));
    const device = await adapter.requestDevice({requiredFeatures});
    for (const job of jobs) {
        try { answers[job.name] = await run(device, job); } catch (error) { answers[job.name] = "error: " + error; }
    }
    return answers;
}

all().catch((error) => ({page: "error: " + error})).then(
    (answers) => fetch("/answers", {method: "POST", body: JSON.stringify(answers)}));
</script>"""


def run_webgpu(jobs: list[Job], timeout: float = 240) -> dict[str, np.ndarray]:
    """All jobs in one page, by name. WebGPU answers later than a page's load event: the page posts its answers."""
    script = json.dumps([_webgpu_job(job) for job in jobs]).replace("</", "<\\/")
    page = WEBGPU_PAGE.replace("FEATURES", json.dumps(WEBGPU_FEATURES))
    answers = _posted_answers(page.replace("const jobs = JOBS", f"const jobs = {script}", 1), timeout)
    if not answers:
        pytest.skip("this Chromium has no WebGPU adapter")
    return _decoded(answers, jobs)


def _webgpu_job(job: Job) -> dict:
    textures = []
    for levels in map(without_4_bits, job.textures.values()):
        stored = [_level(level.tobytes(), *size) for level, size in zip(levels, texels_of(levels))]
        for entry, level in zip(stored, levels):
            entry["rowBytes"] = level[0].nbytes
        textures.append({"format": webgpu_format(levels[0]), "blocks": is_blocks(levels[0]), "levels": stored})
    sampler = {re.sub("_(.)", lambda found: found[1].upper(), name): value for name, value in SAMPLER.items()}
    sampler["maxAnisotropy"] = max(job.anisotropy, 1)
    return {
        "name": job.name,
        "source": job.source + decode_call(WGSL_ENTRY, job, "vec2<f32>"),
        "textures": textures,
        "weights": base64.b64encode(job.weights).decode(),
        "queries": base64.b64encode(job.queries.tobytes()).decode(),
        "sampler": sampler if job.sampled else None,
        "count": len(job.queries),
        "parts": job.parts,
    }


def _posted_answers(page: str, timeout: float) -> dict[str, str]:
    """What a page posts to /answers, opened in Chromium from a server of this machine."""
    answers = []
    answered = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self._send(page.encode() if self.path == "/" else b"")

        def do_POST(self):
            answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._send(b"")
            answered.set()

        def _send(self, payload):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [chromium(), *CHROMIUM_FLAGS, "--enable-unsafe-webgpu", f"--user-data-dir={folder}/profile"]
        browser = subprocess.Popen(
            [*command, f"http://127.0.0.1:{server.server_port}/"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            assert answered.wait(timeout), "no answers from the page"
        finally:
            browser.terminate()
            browser.wait(30)
            server.shutdown()
            server.server_close()
    return answers[0]
