// WebGL 2 helpers: programs, textures, targets, waiting for the GPU.

const surface = document.createElement("canvas");
const gl = surface.getContext("webgl2", { alpha: true, antialias: false, depth: false, powerPreference: "high-performance" });

/** Whether the CPU does the GPU's work. */
function isSoftware() {
    const plain = gl.getParameter(gl.RENDERER);  // browsers that hide it here have the extension
    const extension = plain === "WebKit WebGL" ? gl.getExtension("WEBGL_debug_renderer_info") : null;
    return /swiftshader|llvmpipe|softpipe|basic render/i.test(extension ? gl.getParameter(extension.UNMASKED_RENDERER_WEBGL) : plain);
}

// Where the CPU draws, Chromium may read a WebGL canvas back for every look at it, and complains about that in the console.
// There the page copies finished pictures to a 2D canvas itself, without waiting for them; else WebGL's own is the canvas.
const placeholder = document.getElementById("canvas");
const picture = gl && isSoftware() ? placeholder.getContext("2d") : null;
const canvas = gl && !picture ? surface : placeholder;
if (canvas !== placeholder) {
    for (const { name, value } of placeholder.attributes) canvas.setAttribute(name, value);
    placeholder.replaceWith(canvas);
}

const pause = (ms = 0) => new Promise((resolve) => setTimeout(resolve, ms));
const nextFrame = () => new Promise((resolve) => requestAnimationFrame(resolve));

const waits = new Set();  // the rejecting functions of all that waits for the present context
const lostError = () => new Error("The graphics driver has stopped; waiting for it.");

/** The result of a promise. Rejects when the context is lost before: no code goes on with objects of a lost context. */
function unlessLost(promise) {
    return new Promise((resolve, reject) => {
        if (gl.isContextLost()) reject(lostError());
        waits.add(reject);
        promise.then(resolve, reject).finally(() => waits.delete(reject));
    });
}

/** Resolves when `ready()` holds, which is asked every `ms` milliseconds. Rejects when the context is lost before. */
async function until(ready, ms = 0) {
    while (!ready() || gl.isContextLost()) await unlessLost(pause(ms));
}

surface.addEventListener("webglcontextlost", (e) => {
    e.preventDefault();  // else the browser never restores it
    waits.forEach((reject) => reject(lostError()));
    waits.clear();
});

/** Compile and link without holding up the page where the browser can do that; resolves to {program, at(name)}. */
async function makeProgram(vertexText, fragmentText) {
    const parallel = gl.getExtension("KHR_parallel_shader_compile");
    const program = gl.createProgram();
    const shaders = [[gl.VERTEX_SHADER, vertexText], [gl.FRAGMENT_SHADER, fragmentText]].map(([type, text]) => {
        const shader = gl.createShader(type);
        gl.shaderSource(shader, text);
        gl.compileShader(shader);
        gl.attachShader(program, shader);
        return shader;
    });
    gl.linkProgram(program);
    await until(() => !parallel || gl.getProgramParameter(program, parallel.COMPLETION_STATUS_KHR), 10);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
        const logs = [...shaders.map((shader) => gl.getShaderInfoLog(shader)), gl.getProgramInfoLog(program)];
        throw new Error("the shader does not compile: " + logs.filter(Boolean).join(" ").slice(0, 600));
    }
    shaders.forEach((shader) => gl.deleteShader(shader));
    const places = new Map();
    const at = (name) => {
        if (!places.has(name)) places.set(name, gl.getUniformLocation(program, name));
        return places.get(name);
    };
    return { program, at };
}

function texture2D(internal, width, height, mips, filter) {
    const texture = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texStorage2D(gl.TEXTURE_2D, mips, internal, width, height);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, mips > 1 ? gl.NEAREST_MIPMAP_NEAREST : filter);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, filter);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    return texture;
}

/** A texture that can be drawn to. */
function makeTarget(width, height, internal = gl.RGBA8, filter = gl.LINEAR) {
    const texture = texture2D(internal, width, height, 1, filter);
    const frame = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    return { texture, frame, width, height };
}

/** What is drawn to and never read: colours or depths, of several samples a pixel or, with 0, of one. */
function makeBuffer(width, height, internal, samples) {
    const buffer = gl.createRenderbuffer();
    gl.bindRenderbuffer(gl.RENDERBUFFER, buffer);
    gl.renderbufferStorageMultisample(gl.RENDERBUFFER, samples, internal, width, height);
    return buffer;
}

/** Give a target depths. */
function addDepth(target, samples = 0) {
    target.depth = makeBuffer(target.width, target.height, gl.DEPTH_COMPONENT24, samples);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
    gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.RENDERBUFFER, target.depth);
    return target;
}

/** One with several samples a pixel. */
function makeSampledTarget(width, height, deep = false) {
    const samples = Math.min(4, gl.getParameter(gl.MAX_SAMPLES)), buffer = makeBuffer(width, height, gl.RGBA8, samples);
    const frame = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.RENDERBUFFER, buffer);
    const target = { buffer, frame, width, height };
    return deep ? addDepth(target, samples) : target;
}

function freeTarget(target) {
    if (!target) return;
    gl.deleteFramebuffer(target.frame);
    gl.deleteTexture(target.texture ?? null);
    gl.deleteRenderbuffer(target.buffer ?? null);
    gl.deleteRenderbuffer(target.depth ?? null);
}

/** Resolves when the GPU has run all commands so far, to the milliseconds since `started`. */
async function gpuDone(started) {
    const sync = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    await until(() => gl.clientWaitSync(sync, 0, 0) !== gl.TIMEOUT_EXPIRED);
    gl.deleteSync(sync);
    return performance.now() - started;
}

/** Pixels of the bound framebuffer, without holding up the page until the GPU has them. */
async function readPixels(x, y, width, height, format, type, into) {
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, buffer);
    gl.bufferData(gl.PIXEL_PACK_BUFFER, into.byteLength, gl.STREAM_READ);
    gl.readPixels(x, y, width, height, format, type, 0);
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, null);
    await gpuDone(performance.now());
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, buffer);
    gl.getBufferSubData(gl.PIXEL_PACK_BUFFER, 0, into);
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, null);
    gl.deleteBuffer(buffer);
    return into;
}
