// Draws the view when something has changed. No draw takes much longer than TILE_MS: on a slow GPU the whole view comes
// first in a low resolution, then in full, tile by tile. The time of a pixel is measured, so a fast GPU draws one tile.

const PREVIEW_MS = 45, TILE_MS = 120, FAST_MS = 30;
const LEAST_PREVIEW = 64 * 48, LEAST_TILE = 64 * 64;  // pixels: smaller draws cost no less
const FIRST_COST = 0.02;  // ms per pixel, assumed before anything is measured; makes the first draw a small one
const PRESENT_MS = 300;  // between two updates of the canvas while tiles are missing
const LAYERS = { decoded: 0, source: 1, error: 2 };
const SAMPLING = { nearest: 0, linear: 1, anywhere: 2 };
const HOLE_MODES = { test: 0, blend: 1 };
const BACKGROUND = { white: 1, black: 2, checker: 3 };
const SQUARE = 16;  // of the checker, in CSS pixels

const state = {
    material: 0, show: "lit", shape: "sphere", compare: "decoded", tiling: 1, autoLod: true, lod: 0, sampling: "nearest",
    positions: "",  // that the material shown was trained at
    light: 40, split: 0.5, errorScale: 32,
    holes: "blend", threshold: 0.5, background: "checker",  // of materials with opacity
    exposure: 0,  // of those that emit light, in powers of two
};

const view = {
    loaded: null,  // the material on the GPU; null before the first one and while the context is lost
    generation: 0,  // counts changes
    shownGeneration: -1,  // the one on the canvas, in full
    cost: FIRST_COST,
    flickered: false,
    copying: null,  // resolves when the last picture is on a 2D canvas
    presented: 0,  // time of the last update of the canvas, ms
    timing: { ms: 0, pixels: 0, tiles: 0 },
    listeners: [],
};

/** Draw again, because something has changed. */
function invalidate() {
    view.generation++;
    view.wake?.();
}

function layersWanted() {
    return { decoded: ["decoded"], source: ["source"], error: ["error"] }[state.compare] ?? ["decoded", "source"];
}

const leastLod = (loaded) => state.compare !== "decoded" && loaded.source ? loaded.source.lod : 0;

/** How a material is shown at first: at any position if its network was trained there, at texel centres otherwise. */
const firstSampling = (material) => material.positions === "filtered" ? "anywhere" : "nearest";

/** Uniforms of a draw with a material: layer, map, LOD and sampling. */
function lookOf(loaded, layer, lod, map) {
    return {
        layer: LAYERS[layer], map, lod, autoLod: +state.autoLod, leastLod: leastLod(loaded), sampling: SAMPLING[state.sampling],
        errorScale: state.errorScale / 255, holes: HOLE_MODES[state.holes], threshold: state.threshold,
        exposure: loaded.has[EMISSIVE] ? 2 ** state.exposure : 1,
    };
}

/** Uniforms of what is behind a picture of `width` pixels; nothing behind models, opaque materials and maps. */
function backdrop(width) {
    const kind = !showsModel() && view.loaded?.has[OPACITY] && state.show === "lit" && state.compare !== "error" ? BACKGROUND[state.background] : 0;
    return { background: kind, square: SQUARE * width / canvas.clientWidth };
}

/** Uniforms of a draw: mesh (none for the model), camera and light. */
function placing() {
    const m = view.loaded, flat = state.shape === "flat", aspect = canvas.width / canvas.height, sun = state.light * Math.PI / 180;
    return {
        mesh: m.meshes[state.shape],
        culled: state.shape === "sphere" || state.shape === "cube",  // convex: no depth is needed
        matrix: camera.matrix(aspect, flat),
        uvScale: tilesOf(state.shape, state.tiling, m.width, m.height),
        eye: flat ? [...camera.centre, 20] : camera.eye(aspect),
        sun: normalize([Math.sin(sun), 0.9, Math.cos(sun)]),
    };
}

/** Draw the shape into a target; `box` limits it to x, y, width, height. */
function drawShape(target, width, height, layer, box) {
    if (showsModel()) return drawModel(target, width, height, layer, box, placing());
    const map = view.loaded.names.indexOf(state.show);  // -1: lit
    const look = { ...lookOf(view.loaded, layer, state.lod, map), ...placing(), ...backdrop(width) };
    webgl.drawShape(view.loaded.gpu, target, width, height, box, look);
}

/** Targets of the canvas's size; the canvas takes the size of its element. */
function fitTargets() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const now = webgl.targets?.coverage;
    if (now?.width !== width || now.height !== height) webgl.makeTargets(width, height);
}

/** Show the layers on the canvas, finished or not. */
function present() {
    view.presented = performance.now();
    if (!webgl.targets) return;
    const [first, second] = webgl.targets.layers;
    const shown = state.compare === "flicker" && view.flickered ? second : first;
    const split = state.compare === "split" ? Math.round(state.split * canvas.width) : canvas.width + 9;
    webgl.present(shown, second, split, backdrop(canvas.width), !showsModel());
    if (picture) view.copying = copyToPicture().catch(() => {});  // a lost context: the view is drawn again when it is back
}

/** Copy the screen target to the 2D canvas, unless a later copy has begun meanwhile. */
async function copyToPicture() {
    const { width, height } = canvas, number = view.copies = (view.copies ?? 0) + 1;
    const pixels = await webgl.screenPixels();
    if (number !== view.copies || pixels.length !== 4 * width * height || canvas.width !== width) return;
    picture.putImageData(new ImageData(pixels, width, height), 0, 0);
}

/** Draw one part of a view and update view.cost. Resolves to the milliseconds it took. */
async function timed(pixels, draw) {
    const started = performance.now();
    draw();
    const ms = await gpuDone(started), base = showsModel() ? scene.baseMs ?? 0 : 0;
    const cost = Math.min(4 * view.cost, Math.max(view.cost / 4, (ms - base) / pixels));
    view.cost = 0.5 * view.cost + 0.5 * cost;
    return ms;
}

async function drawPreview(layers, generation) {
    const { width, height } = canvas, { preview, layers: targets } = webgl.targets;
    const pixels = Math.max(LEAST_PREVIEW, PREVIEW_MS / view.cost / layers.length);
    const scale = Math.min(1, Math.sqrt(pixels / (width * height)));
    const w = Math.max(1, Math.round(width * scale)), h = Math.max(1, Math.round(height * scale));
    for (const [index, layer] of layers.entries()) {
        await timed(w * h, () => {
            drawShape(preview, w, h, layer, [0, 0, w, h]);
            webgl.putPreview(targets[index], [w / width, h / height], shapeBox());
        });
        if (view.generation !== generation) return;
    }
    present();
}

/** Bounding box of the shape on the canvas: x, y, width, height. */
function shapeBox() {
    const { width, height } = canvas, m = camera.matrix(width / height, state.shape === "flat");
    const { extent } = showsModel() ? scene.model : view.loaded.meshes[state.shape];
    const corners = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => {
        const at = extent.map((size, k) => (i >> k & 1 ? size : -size));
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

/** Draw the view. Resolves to false when it was abandoned because `generation` is no longer the latest. */
async function drawView(generation) {
    fitTargets();
    if (!showsModel()) webgl.drawCoverage(view.loaded.gpu, placing());
    else if (scene.baseMs === null) await measureTriangles(placing());
    if (view.generation !== generation) return false;
    const layers = layersWanted(), { width, height } = canvas, [, , w, h] = shapeBox();
    const slow = view.cost * w * h * layers.length > FAST_MS;
    if (slow) {
        await drawPreview(layers, generation);
        if (view.generation !== generation) return false;
    }
    const timing = { ms: 0, pixels: width * height, tiles: 0 };
    for (const [index, layer] of layers.entries()) {
        const boxes = tilesOfShape(), target = webgl.targets.layers[index];
        if (boxes.length === 1) webgl.clear(target);  // no tile of an earlier view stays
        for (const box of boxes) {
            const ms = await timed(box[2] * box[3], () => drawShape(target, width, height, layer, box));
            if (view.generation !== generation) return false;
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

/** Draw whenever the view has changed. An error, such as a lost context, ends a frame, never the loop. */
async function renderForever() {
    const nextChange = () => new Promise((resolve) => { view.wake = resolve; });
    for (;;) {
        try {
            while (view.shownGeneration === view.generation || !view.loaded) await nextChange();
            await unlessLost(nextFrame());
            const generation = view.generation;
            if (!await drawView(generation)) continue;
            view.shownGeneration = generation;
            view.listeners.splice(0).forEach(([resolve]) => resolve());
            onFrame();
        } catch (error) {
            fail(error);
            view.listeners.splice(0).forEach(([, reject]) => reject(error));
            await nextChange();
        }
    }
}

/**
 * Resolves when the canvas shows the latest view in full, a model with all its materials. Rejects when the context is lost
 * or a draw fails before.
 */
function settled() {
    return (completing ? completing.then(drawn) : drawn()).then(() => view.copying);
}

function drawn() {
    if (view.loaded && view.shownGeneration === view.generation) return Promise.resolve();
    return unlessLost(new Promise((...both) => view.listeners.push(both)));
}

/** Milliseconds of a full frame: the mean of as many as fit into half a second; above a second, the sum of its tiles. */
async function measureFrame() {
    await settled();
    const { width, height } = canvas, layer = layersWanted()[0], box = [0, 0, width, height];
    if (view.timing.ms > 1000) return view.timing.ms;
    const drawTimes = (count) => {
        const started = performance.now();
        for (let i = 0; i < count; i++) drawShape(webgl.targets.preview, width, height, layer, box);
        return gpuDone(started);
    };
    const count = Math.max(1, Math.min(500, Math.floor(500 / await drawTimes(1))));
    return await drawTimes(count) / count;
}
