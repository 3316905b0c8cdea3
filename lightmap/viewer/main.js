// The page: uploads the exported textures, runs F2 for every texel of the lightmap, follows the slider.

const FRAME_MS = 40;  // that a frame may take while the slider moves
const BAND_MS = 60;  // that the GPU is kept busy without a pause: longer, and browsers take it for stuck
const DAY_SECONDS = 12;  // of playing
const COVER = `#version 300 es
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0); }`;
const { width, height } = DATA.lightmap;
const element = (id) => document.getElementById(id);

let shown = null;  // {program, at}
let full = null;  // a target with every texel of the lightmap
let coarse = null;  // a smaller one, and its stride
let msPerTexel = 1e-5;
let working = Promise.resolve();

function upload(unit, internal, format, type, w, h, data) {
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texStorage2D(gl.TEXTURE_2D, 1, internal, w, h);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, w, h, format, type, data);
}

/** Textures, weights and the program; they stay bound. */
async function prepare() {
    const { decoder, show, planes, weights, latent } = DATA;
    const weightBytes = blobBytes(weights.blob);
    const floats = new Float32Array(weightBytes.buffer, 0, weights.rows * weights.width * 4);
    const inBlock = weights.columns * 16 <= gl.getParameter(gl.MAX_UNIFORM_BLOCK_SIZE);
    const head = "#version 300 es\n" + (inBlock ? "#define LM_UNIFORM_WEIGHTS\n" : "");
    // texture unit 0 is for what is drawn to
    shown = await makeProgram(COVER, head + decoder + show);
    gl.useProgram(shown.program);
    planes.forEach((plane, index) => {
        upload(1 + index, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, latent.width, latent.height, blobBytes(plane.blob));
        gl.uniform1i(shown.at(plane.name), 1 + index);
    });
    if (inBlock) {
        gl.bindBufferBase(gl.UNIFORM_BUFFER, 0, gl.createBuffer());
        gl.bufferData(gl.UNIFORM_BUFFER, floats.subarray(0, weights.columns * 4), gl.STATIC_DRAW);
        gl.uniformBlockBinding(shown.program, gl.getUniformBlockIndex(shown.program, "LmWeights"), 0);
    } else {
        upload(1 + planes.length, gl.RGBA32F, gl.RGBA, gl.FLOAT, weights.width, weights.rows, floats);
        gl.uniform1i(shown.at("lmWeightTable"), 1 + planes.length);
    }
    gl.uniform2f(shown.at("lightmapSize"), width, height);
    gl.bindVertexArray(gl.createVertexArray());
    gl.enable(gl.SCISSOR_TEST);
    full = makeTarget(width, height, gl.RGBA8, gl.NEAREST);
    coarse = null;
}

/** Draw into a target in bands of rows, as many at a time as the GPU does in BAND_MS; false when `current` ends it. */
async function decode(target, stride, hours, current = () => true) {
    for (let y = 0; y < target.height;) {
        const rows = Math.max(1, Math.min(target.height - y, Math.floor(BAND_MS / (msPerTexel * target.width))));
        gl.useProgram(shown.program);
        gl.uniform1f(shown.at("hours"), hours);
        gl.uniform1i(shown.at("stride"), stride);
        gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
        gl.viewport(0, 0, target.width, target.height);
        gl.scissor(0, y, target.width, rows);
        const started = performance.now();
        gl.drawArrays(gl.TRIANGLES, 0, 3);
        const took = await gpuDone(started) / (rows * target.width);
        msPerTexel = y || took < msPerTexel ? (msPerTexel + took) / 2 : took;
        if (!current()) return false;
        y += rows;
    }
    return true;
}

/** The 8-bit texels of a target, row 0 on top. */
function texels(target) {
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
    const into = new Uint8Array(target.width * target.height * 4);
    return readPixels(0, 0, target.width, target.height, gl.RGBA, gl.UNSIGNED_BYTE, into);
}

/** Row 0 of a lightmap is on top, row 0 of a framebuffer at the bottom. */
async function present(target) {
    if (picture) {
        const small = new OffscreenCanvas(target.width, target.height);
        const data = new Uint8ClampedArray((await texels(target)).buffer);
        small.getContext("2d").putImageData(new ImageData(data, target.width), 0, 0);
        [canvas.width, canvas.height] = [width, height];
        picture.imageSmoothingEnabled = false;
        picture.drawImage(small, 0, 0, width, height);
        return;
    }
    [surface.width, surface.height] = [width, height];
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, target.frame);
    gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, null);
    gl.disable(gl.SCISSOR_TEST);
    gl.blitFramebuffer(0, 0, target.width, target.height, 0, height, width, 0, gl.COLOR_BUFFER_BIT, gl.NEAREST);
    gl.enable(gl.SCISSOR_TEST);
}

/** The target for a stride: every texel, or fewer while there is no time for all. */
function targetOf(stride) {
    if (stride === 1) return full;
    if (!coarse || coarse.stride !== stride) {
        freeTarget(coarse);
        coarse = { ...makeTarget(Math.ceil(width / stride), Math.ceil(height / stride), gl.RGBA8, gl.NEAREST), stride };
    }
    return coarse;
}

let wanted = 12;
let newest = 0;

/** Show an hour: at once with as many texels as fit into a frame, then all of them unless another hour is asked for. */
function show(hours) {
    wanted = hours;
    const own = ++newest;
    working = working.then(async () => {
        if (own !== newest) return;
        let stride = 1;
        while (stride < 16 && msPerTexel * width * height / stride ** 2 > FRAME_MS) stride *= 2;
        for (const each of stride > 1 ? [stride, 1] : [1]) {
            const target = targetOf(each);
            const started = performance.now();
            if (!await decode(target, each, hours, () => own === newest || each > 1)) return;
            await present(target);
            element("status").textContent = each > 1 ? "…" : "";
            if (each === 1) element("speed").textContent = `F2 for ${width} × ${height} texels took ${Math.round(performance.now() - started)} ms.`;
            if (own !== newest) return;
        }
    }).catch((error) => { element("status").textContent = String(error.message ?? error); });
    return working;
}

/** The 8-bit codes at an hour, as infer.py writes them: {width, height, data}, RGB, row 0 on top. */
async function read(hours) {
    newest++;
    await working;
    await decode(full, 1, hours);
    return { width, height, data: (await texels(full)).filter((_, i) => i % 4 < 3) };
}

// --- controls --------------------------------------------------------------------------------------------------------

function clock(hours) {
    const minutes = Math.round(hours * 60);
    return `${String(Math.floor(minutes / 60)).padStart(2, "0")}:${String(minutes % 60).padStart(2, "0")}`;
}

function setTime(hours) {
    element("time").value = hours;
    element("clock").textContent = clock(hours);
    return show(hours);
}

let playing = 0;

async function play() {
    const own = ++playing;
    element("play").setAttribute("aria-pressed", "true");
    element("play").textContent = "Pause";
    let last = performance.now();
    while (own === playing) {
        const now = await nextFrame();
        await setTime((wanted + (now - last) / 1000 * 24 / DAY_SECONDS) % 24);
        last = now;
    }
}

function pausePlaying() {
    playing++;
    element("play").setAttribute("aria-pressed", "false");
    element("play").textContent = "Play";
}

function describe() {
    const { report, network } = DATA;
    element("summary").textContent = `${width} × ${height} texels, any hour, from ${DATA.planes.length} textures of 8 bits and a network of ${network}`;
    if (!report) return;
    const db = (value) => value === null || value === undefined ? "–" : value.toFixed(2) + " dB";
    const half = report.psnr_half_hours === null ? "" : `, ${db(report.psnr_half_hours)} at half-hours`;
    const of = report.values ? `, of the ${report.values}` : "";
    element("quality").textContent = `PSNR ${db(report.psnr_hours)} at the hours${half}${of}.`;
    element("legend").hidden = !report.forms.some((form) => form.front);
    element("light").textContent = report.light ? `Linear light: ${report.light}.` : "";
    const share = (value) => value === null || value === undefined ? "–" : (100 * value).toFixed(1) + " %";
    const columns = [  // heading, text of a form; null: not for this day
        ["form", (form) => (form.front ? "★ " : "") + form.title],
        ["bytes", (form) => form.bytes.toLocaleString("en")],
        ["of the files", (form) => share(form.of_files)],
        ["hours", (form) => form.exact ? "exact" : db(form.psnr_hours)],
        report.psnr_half_hours === null ? null : ["half-hours", (form) => db(form.psnr_half_hours)],
        report.light ? ["light: RMSE of the mean", (form) => share(form.relative_rmse)] : null,
        report.light ? ["worst texel", (form) => share(form.worst)] : null,
        report.light ? ["stops", (form) => form.mean_stops === null || form.mean_stops === undefined ? "–" : form.mean_stops.toFixed(3)] : null,
    ].filter(Boolean);
    const rows = [columns.map(([heading]) => heading), ...report.forms.map((form) => columns.map(([, text]) => text(form)))];
    rows.forEach((row, index) => {
        const line = element("forms").insertRow();
        for (const text of row) line.appendChild(document.createElement(index ? "td" : "th")).textContent = text;
    });
}

function connect() {
    element("time").addEventListener("input", (event) => { pausePlaying(); setTime(Number(event.target.value)); });
    element("play").addEventListener("click", () => element("play").getAttribute("aria-pressed") === "true" ? pausePlaying() : play());
    element("pixels").addEventListener("change", (event) => element("stage").classList.toggle("pixels", event.target.checked));
    document.addEventListener("keydown", (event) => {
        if (event.key !== " " || event.target.closest("button, input[type=checkbox]")) return;
        event.preventDefault();
        element("play").click();
    });
}

async function start() {
    describe();
    if (!gl) throw new Error("This page needs WebGL 2, which this browser does not offer");
    await prepare();
    surface.addEventListener("webglcontextrestored", () => {
        working = working.then(prepare);
        void show(wanted);
    });
    connect();
    await setTime(12);
    return true;
}

globalThis.lm = { read, setTime, settled: () => working, gl, data: DATA };
lm.ready = start().catch((error) => { element("status").textContent = String(error.message ?? error); return false; });
