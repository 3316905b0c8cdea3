// Draws when something changed, never longer at a time than TILE_MS or so: first the whole view coarsely, then tile by
// tile in full. What a pixel costs is measured on the way, so a fast GPU gets one tile and no coarse view.

const PREVIEW_MS = 45, TILE_MS = 120, FAST_MS = 30;
const LEAST_PREVIEW = 64 * 48, LEAST_TILE = 64 * 64;  // pixels: a draw has its price, however small
const PRESENT_MS = 300;  // between two looks at a view that is not finished
const LAYERS = { decoded: 0, source: 1, error: 2 };
const SAMPLING = { nearest: 0, linear: 1, anywhere: 2 };
const TASKS = { draw: 0, read: 1 };

const state = {
    material: 0, show: "lit", shape: "sphere", compare: "decoded", tiling: 1, autoLod: true, lod: 0, sampling: "nearest",
    light: 40, split: 0.5, errorScale: 32,
};

const view = {
    loaded: null,  // the material on the GPU
    generation: 0,  // of what the canvas should show
    shownGeneration: -1,
    cost: 0.02,  // ms a pixel; the first draw is small, and measures it
    flickered: false,
    targets: null,
    presented: 0,  // when the canvas last got something
    timing: { ms: 0, pixels: 0, tiles: 0 },
    listeners: [],
};

/** Something changed: draw again. */
function invalidate() {
    view.generation++;
    view.wake?.();
}

function layersWanted() {
    return { decoded: ["decoded"], source: ["source"], error: ["error"] }[state.compare] ?? ["decoded", "source"];
}

const comparing = () => state.compare !== "decoded" && view.loaded.source !== null;
const leastLod = () => comparing() ? view.loaded.source.lod : 0;

/** Uniforms and textures of one draw of the material's program. */
function useMaterial(task, layer, lod, map) {
    const m = view.loaded, { at } = m;
    gl.useProgram(m.program);
    m.textures.forEach(({ texture, kind }, unit) => {
        gl.activeTexture(gl.TEXTURE0 + unit);
        gl.bindTexture(kind, texture);
    });
    if (m.block) gl.bindBufferBase(gl.UNIFORM_BUFFER, 0, m.block);
    gl.uniform1i(at("uTask"), TASKS[task]);
    gl.uniform1i(at("uLayer"), LAYERS[layer]);
    gl.uniform1i(at("uMap"), map);
    gl.uniform1f(at("uLod"), lod);
    gl.uniform1i(at("uFill"), +(task !== "draw"));
    gl.uniform1i(at("uAutoLod"), +state.autoLod);
    gl.uniform1f(at("uLeastLod"), leastLod());
    gl.uniform1i(at("uSampling"), SAMPLING[state.sampling]);
    gl.uniform1f(at("uErrorScale"), state.errorScale / 255);
    gl.bindVertexArray(null);
}

/** What surface.vert needs to place the shape in a canvas of this aspect. */
function placeShape(at, aspect) {
    const m = view.loaded, flat = state.shape === "flat";
    gl.uniform1i(at("uFill"), 0);
    gl.uniformMatrix4fv(at("uViewProjection"), false, camera.matrix(aspect, flat));
    gl.uniform2f(at("uUvScale"), ...tilesOf(state.shape, state.tiling, m.width, m.height));
    const mesh = m.meshes[state.shape];
    if (state.shape === "sphere" || state.shape === "cube") gl.enable(gl.CULL_FACE);  // convex: no depth is needed
    else gl.disable(gl.CULL_FACE);
    gl.bindVertexArray(mesh.array);
    return mesh;
}

/** Draw the shape into the bound framebuffer; `box` limits it to x, y, width, height. */
function drawShape(width, height, layer, box) {
    const flat = state.shape === "flat";
    gl.viewport(0, 0, width, height);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(...box);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    useMaterial("draw", layer, state.lod, MAP_NAMES.indexOf(state.show));  // -1: lit
    const { at } = view.loaded, aspect = canvas.width / canvas.height;
    gl.uniform3f(at("uEye"), ...flat ? [...camera.centre, 20] : camera.eye(aspect));
    const sun = state.light * Math.PI / 180;
    gl.uniform3f(at("uSun"), ...normalize([Math.sin(sun), 0.9, Math.cos(sun)]));
    const mesh = placeShape(at, aspect);
    gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_SHORT, 0);
    gl.disable(gl.SCISSOR_TEST);
}

/** Targets of the canvas's size; the canvas takes the size of its element. */
function fitTargets() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (view.targets && canvas.width === width && canvas.height === height) return;
    if (view.targets) Object.values(view.targets).flat().forEach(freeTarget);
    [canvas.width, canvas.height] = [width, height];
    const layers = [0, 1].map(() => makeTarget(width, height));
    for (const layer of layers) {
        gl.bindFramebuffer(gl.FRAMEBUFFER, layer.frame);
        gl.clearColor(0, 0, 0, 0);
        gl.clear(gl.COLOR_BUFFER_BIT);
    }
    const [preview, coverage] = [0, 1].map(() => makeTarget(width, height));
    view.targets = { layers, preview, coverage, samples: makeSampledTarget(width, height) };
    if (picture) view.targets.screen = makeTarget(width, height);
}

/** How much of each pixel the shape covers. Several samples of the decoder itself would cost as many times as much. */
function drawCoverage() {
    const { samples, coverage } = view.targets, { width, height } = canvas;
    gl.bindFramebuffer(gl.FRAMEBUFFER, samples.frame);
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.useProgram(view.solid.program);
    const mesh = placeShape(view.solid.at, width / height);
    gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_SHORT, 0);
    gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, coverage.frame);
    gl.blitFramebuffer(0, 0, width, height, 0, 0, width, height, gl.COLOR_BUFFER_BIT, gl.NEAREST);
}

/** Textures to a framebuffer of the canvas's size; `part` of them holds the picture. */
function putTextures(frame, first, second, split, { part = [1, 1], onCanvas = false } = {}) {
    const { at, program } = view.present;
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.disable(gl.CULL_FACE);
    gl.useProgram(program);
    [first, second, view.targets.coverage].forEach((target, unit) => {
        gl.activeTexture(gl.TEXTURE0 + unit);
        gl.bindTexture(gl.TEXTURE_2D, target.texture);
    });
    gl.uniform1i(at("uFirst"), 0);
    gl.uniform1i(at("uSecond"), 1);
    gl.uniform1i(at("uCoverage"), 2);
    gl.uniform1i(at("uSmoothEdges"), +onCanvas);
    gl.uniform1i(at("uForImageData"), +(onCanvas && picture !== null));
    gl.uniform2f(at("uPart"), ...part);
    gl.uniform2f(at("uPixels"), canvas.width, canvas.height);
    gl.uniform1f(at("uSplit"), split);
    gl.uniform1i(at("uFill"), 1);
    gl.bindVertexArray(null);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
}

/** Put the layers, as far as they are, on the canvas. */
function present() {
    view.presented = performance.now();
    if (!view.targets) return;
    const [first, second] = view.targets.layers;
    const shown = state.compare === "flicker" && view.flickered ? second : first;
    const split = state.compare === "split" ? Math.round(state.split * canvas.width) : canvas.width + 9;
    putTextures(view.targets.screen?.frame ?? null, shown, second, split, { onCanvas: true });
    if (picture) void copyToPicture();
}

/** The screen target to the 2D canvas; of several at a time the last one counts. */
async function copyToPicture() {
    const { width, height } = canvas, number = view.copies = (view.copies ?? 0) + 1;
    gl.bindFramebuffer(gl.FRAMEBUFFER, view.targets.screen.frame);
    const pixels = await readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8ClampedArray(4 * width * height));
    if (number !== view.copies || canvas.width !== width || canvas.height !== height) return;
    picture.putImageData(new ImageData(pixels, width, height), 0, 0);
}

/** One part of a view; resolves to its milliseconds, and corrects what a pixel is thought to cost. */
async function timed(pixels, draw) {
    const started = performance.now();
    draw();
    const ms = await gpuDone(started);
    const cost = Math.min(4 * view.cost, Math.max(view.cost / 4, ms / pixels));
    view.cost = 0.5 * view.cost + 0.5 * cost;
    return ms;
}

async function drawPreview(layers) {
    const { width, height } = canvas;
    const pixels = Math.max(LEAST_PREVIEW, PREVIEW_MS / view.cost / layers.length);
    const scale = Math.min(1, Math.sqrt(pixels / (width * height)));
    const w = Math.max(1, Math.round(width * scale)), h = Math.max(1, Math.round(height * scale));
    for (const [index, layer] of layers.entries()) {
        await timed(w * h, () => {
            gl.bindFramebuffer(gl.FRAMEBUFFER, view.targets.preview.frame);
            drawShape(w, h, layer, [0, 0, w, h]);
            const copy = view.targets.preview;
            putTextures(view.targets.layers[index].frame, copy, copy, canvas.width + 9, { part: [w / width, h / height] });
        });
    }
    present();
}

/** The part of the canvas that the shape may touch: x, y, width, height. */
function shapeBox() {
    const { width, height } = canvas, m = camera.matrix(width / height, state.shape === "flat");
    const corners = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => {
        const at = view.loaded.meshes[state.shape].extent.map((size, k) => (i >> k & 1 ? size : -size));
        const [x, y, , w] = [0, 1, 2, 3].map((k) => dot(at, [m[k], m[4 + k], m[8 + k]]) + m[12 + k]);
        return w > NEAR ? [(x / w * 0.5 + 0.5) * width, (y / w * 0.5 + 0.5) * height] : null;
    });
    if (corners.includes(null)) return [0, 0, width, height];
    const [left, bottom] = [0, 1].map((k) => Math.max(0, Math.floor(Math.min(...corners.map((at) => at[k])) - 2)));
    const [right, top] = [0, 1].map((k) => Math.min([width, height][k], Math.ceil(Math.max(...corners.map((at) => at[k])) + 2)));
    return [left, bottom, Math.max(0, right - left), Math.max(0, top - bottom)];
}

/** Boxes that cover the shape, from its middle outwards. */
function tilesOfShape() {
    const [left, bottom, width, height] = shapeBox(), pixels = Math.max(LEAST_TILE, TILE_MS / view.cost);
    if (pixels > width * height / 2) return [[left, bottom, width, height]];
    const side = Math.ceil(Math.sqrt(pixels)), boxes = [];
    for (let y = 0; y < height; y += side) for (let x = 0; x < width; x += side) {
        boxes.push([left + x, bottom + y, Math.min(side, width - x), Math.min(side, height - y)]);
    }
    const away = ([x, y, w, h]) => Math.hypot(x + w / 2 - left - width / 2, y + h / 2 - bottom - height / 2);
    return boxes.sort((a, b) => away(a) - away(b));
}

/** All of the view, unless it changes meanwhile. Resolves to whether it was finished. */
async function drawView(generation) {
    fitTargets();
    drawCoverage();
    const layers = layersWanted(), { width, height } = canvas, [, , w, h] = shapeBox();
    const slow = view.cost * w * h * layers.length > FAST_MS;
    if (slow) {
        await drawPreview(layers);
        if (view.generation !== generation) return false;
    }
    const timing = { ms: 0, pixels: width * height, tiles: 0 };
    for (const [index, layer] of layers.entries()) {
        const boxes = tilesOfShape(), { frame } = view.targets.layers[index];
        if (boxes.length === 1) {  // no tile of an earlier view stays
            gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
            gl.clearColor(0, 0, 0, 0);
            gl.clear(gl.COLOR_BUFFER_BIT);
        }
        for (const box of boxes) {
            const ms = await timed(box[2] * box[3], () => {
                gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
                drawShape(width, height, layer, box);
            });
            if (view.generation !== generation || gl.isContextLost()) return false;
            if (performance.now() - view.presented > PRESENT_MS) {
                present();
                onProgress((index + boxes.indexOf(box) / boxes.length) / layers.length);
            }
            if (index) continue;
            timing.ms += ms;
            timing.tiles++;
        }
    }
    present();
    view.timing = timing;
    return true;
}

async function renderForever() {
    for (;;) {
        if (view.shownGeneration === view.generation || !view.loaded || gl.isContextLost()) {
            await new Promise((resolve) => { view.wake = resolve; });
            continue;
        }
        await nextFrame();
        const generation = view.generation;
        if (!view.loaded || !await drawView(generation)) continue;
        view.shownGeneration = generation;
        view.listeners.splice(0).forEach((listener) => listener());
        onFrame();
    }
}

/** Resolves when the canvas shows everything in full. */
function settled() {
    if (view.loaded && view.shownGeneration === view.generation) return Promise.resolve();
    return new Promise((resolve) => view.listeners.push(resolve));
}

/** Milliseconds of a whole frame in full size, of as many as fit into half a second; slow ones from the tiles. */
async function measureFrame() {
    await settled();
    const { width, height } = canvas, layer = layersWanted()[0], box = [0, 0, width, height];
    if (view.timing.ms > 1000) return view.timing.ms;
    const drawTimes = (count) => {
        const started = performance.now();
        gl.bindFramebuffer(gl.FRAMEBUFFER, view.targets.preview.frame);
        for (let i = 0; i < count; i++) drawShape(width, height, layer, box);
        return gpuDone(started);
    };
    const count = Math.max(1, Math.min(500, Math.floor(500 / await drawTimes(1))));
    return await drawTimes(count) / count;
}
