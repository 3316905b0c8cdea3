// Draws when something changed, never longer at a time than TILE_MS or so: first the whole view coarsely, then tile by
// tile in full. What a pixel costs is measured on the way, so a fast GPU gets one tile and no coarse view.

const PREVIEW_MS = 45, TILE_MS = 70, FAST_MS = 30;
const LEAST_PREVIEW = 48 * 36, LEAST_TILE = 24 * 24;  // pixels
const LAYERS = { decoded: 0, source: 1, error: 2 };
const TASKS = { draw: 0, map: 1, texel: 2 };

const state = {
    material: 0, show: "lit", shape: "sphere", compare: "decoded", tiling: 1, autoLod: true, lod: 0, texelCentres: false,
    light: 40, split: 0.5, errorScale: 32,
};

const view = {
    loaded: null,  // the material on the GPU
    generation: 0,  // of what the canvas should show
    shownGeneration: -1,
    cost: 0.02,  // ms a pixel; the first draw is small, and measures it
    flickered: false,
    targets: null,
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
    gl.uniform1i(at("uTask"), TASKS[task]);
    gl.uniform1i(at("uLayer"), LAYERS[layer]);
    gl.uniform1i(at("uMap"), map);
    gl.uniform1f(at("uLod"), lod);
    gl.uniform1i(at("uFill"), +(task !== "draw"));
    gl.uniform1i(at("uAutoLod"), +state.autoLod);
    gl.uniform1f(at("uLeastLod"), leastLod());
    gl.uniform1i(at("uTexelCentres"), +state.texelCentres);
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
    if (view.targets) [view.targets.smooth, view.targets.preview, ...view.targets.layers].forEach(freeTarget);
    [canvas.width, canvas.height] = [width, height];
    const layers = [0, 1].map(() => makeTarget(width, height));
    for (const layer of layers) {
        gl.bindFramebuffer(gl.FRAMEBUFFER, layer.frame);
        gl.clearColor(0, 0, 0, 0);
        gl.clear(gl.COLOR_BUFFER_BIT);
    }
    view.targets = { layers, smooth: makeSmoothTarget(width, height), preview: makeTarget(width, height) };
}

/** Textures to a framebuffer of the canvas's size; `part` of them holds the picture. */
function putTextures(frame, first, second, split, part = [1, 1]) {
    const { at, program } = view.present;
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.disable(gl.CULL_FACE);
    gl.useProgram(program);
    [first, second].forEach((target, unit) => {
        gl.activeTexture(gl.TEXTURE0 + unit);
        gl.bindTexture(gl.TEXTURE_2D, target.texture);
    });
    gl.uniform1i(at("uFirst"), 0);
    gl.uniform1i(at("uSecond"), 1);
    gl.uniform2f(at("uPart"), ...part);
    gl.uniform2f(at("uPixels"), canvas.width, canvas.height);
    gl.uniform1f(at("uSplit"), split);
    gl.uniform1i(at("uFill"), 1);
    gl.bindVertexArray(null);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
}

/** Put the layers, as far as they are, on the canvas. */
function present() {
    if (!view.targets) return;
    const [first, second] = view.targets.layers;
    const shown = state.compare === "flicker" && view.flickered ? second : first;
    const split = state.compare === "split" ? Math.round(state.split * canvas.width) : canvas.width + 9;
    putTextures(null, shown, second, split);
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
            putTextures(view.targets.layers[index].frame, copy, copy, canvas.width + 9, [w / width, h / height]);
        });
    }
    present();
}

/** Boxes that cover the canvas, from the middle outwards. */
function tilesOfCanvas() {
    const { width, height } = canvas, least = Math.max(LEAST_TILE, TILE_MS / view.cost);
    if (least > width * height / 2) return [[0, 0, width, height]];
    const side = Math.ceil(Math.sqrt(least)), boxes = [];
    for (let y = 0; y < height; y += side) for (let x = 0; x < width; x += side) {
        boxes.push([x, y, Math.min(side, width - x), Math.min(side, height - y)]);
    }
    const away = ([x, y, w, h]) => Math.hypot(x + w / 2 - width / 2, y + h / 2 - height / 2);
    return boxes.sort((a, b) => away(a) - away(b));
}

/** All of the view, unless it changes meanwhile. Resolves to whether it was finished. */
async function drawView(generation) {
    fitTargets();
    const layers = layersWanted(), { width, height } = canvas;
    const fast = () => view.cost * width * height * layers.length < FAST_MS;
    if (!fast()) {
        await drawPreview(layers);
        if (view.generation !== generation) return false;
    }
    const { smooth } = view.targets, timing = { ms: 0, pixels: width * height, tiles: 0, layer: layers[0] };
    for (const [index, layer] of layers.entries()) {
        for (const box of tilesOfCanvas()) {
            const [x, y, w, h] = box;
            const ms = await timed(w * h, () => {
                gl.bindFramebuffer(gl.FRAMEBUFFER, smooth.frame);
                drawShape(width, height, layer, box);
                gl.bindFramebuffer(gl.READ_FRAMEBUFFER, smooth.frame);
                gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, view.targets.layers[index].frame);
                gl.blitFramebuffer(x, y, x + w, y + h, x, y, x + w, y + h, gl.COLOR_BUFFER_BIT, gl.NEAREST);
            });
            if (index === 0) {
                timing.ms += ms;
                timing.tiles++;
            }
            if (view.generation !== generation || gl.isContextLost()) return false;
            present();
        }
    }
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

/** Milliseconds of a whole frame in full size, of as many as fit into a quarter of a second; slow ones from the tiles. */
async function measureFrame() {
    await settled();
    const { width, height } = canvas, layer = layersWanted()[0];
    if (view.timing.ms > 1000) return view.timing.ms;
    const pixel = new Uint8Array(4);
    const drawTimes = (count) => {
        const started = performance.now();
        gl.bindFramebuffer(gl.FRAMEBUFFER, view.targets.smooth.frame);
        for (let i = 0; i < count; i++) drawShape(width, height, layer, [0, 0, width, height]);
        const { smooth, preview } = view.targets;
        gl.bindFramebuffer(gl.READ_FRAMEBUFFER, smooth.frame);
        gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, preview.frame);
        gl.blitFramebuffer(0, 0, 1, 1, 0, 0, 1, 1, gl.COLOR_BUFFER_BIT, gl.NEAREST);
        gl.bindFramebuffer(gl.FRAMEBUFFER, preview.frame);
        gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);  // waits for all of it
        return performance.now() - started;
    };
    const once = drawTimes(1), count = Math.max(1, Math.min(200, Math.floor(250 / once)));
    return drawTimes(count) / count;
}
