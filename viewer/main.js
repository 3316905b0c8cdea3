// Pointer, keyboard, start; and window.nt for tests and for the browser's console.

const FLICKER_MS = 600;  // below three flashes a second (WCAG 2.3.1)

function step(list, now, by) {
    return list[(list.indexOf(now) + by + list.length) % list.length];
}

function usePointers() {
    const pointers = new Map();
    let moved = 0, spread = 0, panning = false;
    const middle = () => {
        const all = [...pointers.values()];
        return [0, 1].map((k) => all.reduce((sum, at) => sum + at[k], 0) / all.length);
    };
    const spreadNow = () => {
        const [a, b] = [...pointers.values()];
        return b ? Math.hypot(a[0] - b[0], a[1] - b[1]) : 0;
    };
    canvas.addEventListener("pointerdown", (e) => {
        canvas.setPointerCapture(e.pointerId);
        pointers.set(e.pointerId, [e.offsetX, e.offsetY]);
        if (pointers.size === 1) moved = 0;
        panning = e.shiftKey || e.button > 0;
        spread = spreadNow();
    });
    canvas.addEventListener("pointermove", (e) => {
        if (!pointers.has(e.pointerId)) return;
        const before = middle();
        pointers.set(e.pointerId, [e.offsetX, e.offsetY]);
        const after = middle(), across = after[0] - before[0], down = after[1] - before[1];
        moved += Math.abs(across) + Math.abs(down);
        if (moved < 4) return;
        if (pointers.size > 1 && spread > 0) camera.dolly(spread / Math.max(1, spreadNow()), state.shape);
        spread = spreadNow();
        if (showsModel() && (panning || pointers.size > 1)) pan(across, down);
        else turn(across, down);
    });
    canvas.addEventListener("contextmenu", (e) => { if (showsModel()) e.preventDefault(); });
    const up = (e) => {
        if (!pointers.delete(e.pointerId)) return;
        if (e.type === "pointerup" && !pointers.size && moved < 4 && view.loaded) inspect(e.offsetX, e.offsetY).catch(fail);
        if (pointers.size) moved = 4;
        spread = spreadNow();
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("wheel", (e) => {
        e.preventDefault();
        zoom(Math.exp(Math.sign(e.deltaY) * Math.min(0.25, Math.abs(e.deltaY) / 600)));
    }, { passive: false });
}

function useDivider() {
    const divider = byId("divider");
    divider.addEventListener("pointerdown", (e) => divider.setPointerCapture(e.pointerId));
    divider.addEventListener("pointermove", (e) => {
        if (divider.hasPointerCapture(e.pointerId)) moveSplit((e.clientX - canvas.getBoundingClientRect().left) / canvas.clientWidth);
    });
}

function turn(across, down) {
    if (state.shape === "flat") {
        const unit = 2 / (0.94 * camera.zoom * Math.min(canvas.clientHeight, canvas.clientWidth));
        camera.centre = [camera.centre[0] - across * unit, camera.centre[1] + down * unit];
    } else camera.orbit(across * 0.008, down * 0.008);
    byId("marker").hidden = true;
    invalidate();
}

/** Move the model by CSS pixels. */
function pan(across, down) {
    camera.pan(across / canvas.clientHeight * 2, down / canvas.clientHeight * 2);
    byId("marker").hidden = true;
    invalidate();
}

function zoom(factor) {
    camera.dolly(factor, state.shape);
    byId("marker").hidden = true;
    invalidate();
}

function useKeys() {
    const shows = () => ["lit", ...mapsShown()];
    const compares = () => hasSources() ? COMPARE.map(([name]) => name) : ["decoded"];
    const lod = (by) => change({ autoLod: false, lod: Math.round((state.lod + by) * 2) / 2 });
    const actions = {
        ArrowLeft: () => turn(-20, 0), ArrowRight: () => turn(20, 0), ArrowUp: () => turn(0, -20), ArrowDown: () => turn(0, 20),
        "+": () => zoom(0.9), "=": () => zoom(0.9), "-": () => zoom(1 / 0.9),
        1: () => change({ shape: "sphere" }), 2: () => change({ shape: "plane" }), 3: () => change({ shape: "cube" }),
        4: () => change({ shape: "flat" }), 5: () => scene.model && change({ shape: "model" }),
        m: () => change({ show: step(shows(), state.show, 1) }), M: () => change({ show: step(shows(), state.show, -1) }),
        l: () => change({ show: "lit" }),
        c: () => change({ compare: step(compares(), state.compare, 1) }),
        C: () => change({ compare: step(compares(), state.compare, -1) }),
        "[": () => lod(-0.5), "]": () => lod(0.5), a: () => change({ autoLod: !state.autoLod }),
        ",": () => change({ tiling: Math.max(0.5, state.tiling / 2 ** 0.25) }),
        ".": () => change({ tiling: Math.min(16, state.tiling * 2 ** 0.25) }),
        n: () => change({ sampling: step(Object.keys(SAMPLING), state.sampling, 1) }), r: resetView, t: nextTheme,
        PageUp: () => chooseMaterial(state.material - 1), PageDown: () => chooseMaterial(state.material + 1),
    };
    document.addEventListener("keydown", (e) => {
        const editing = e.target.matches?.("input, select, summary");
        if (e.ctrlKey || e.altKey || e.metaKey || !view.loaded || !Object.hasOwn(actions, e.key)) return;
        if (editing && (e.key.startsWith("Arrow") || e.key.startsWith("Page"))) return;
        if (e.key.startsWith("Page") && DATA.materials.length < 2) return;
        e.preventDefault();
        actions[e.key]();
    });
}

let loading = Promise.resolve();
let wanted = 0;  // the material to show when a lost context is back
let completing = null;  // resolves when the model has all its materials; null when nothing is loaded for it

/** Show material number `index`; a second call waits for the first. Rejects when this GPU cannot show it. */
function chooseMaterial(index) {
    if (!(index >= 0 && index < DATA.materials.length)) return loading;
    loading = loading.catch(() => {}).then(async () => {
        wanted = index;
        const material = DATA.materials[index], reading = material.source ? " and reading its source maps" : "";
        byId("status").textContent = `compiling the decoder of ${material.name}${reading}; some drivers take seconds`;
        await unlessLost(nextFrame());
        await webgl.start();
        const loaded = scene.loaded.get(index) ?? await loadMaterial(material), first = state.positions === "";
        state.material = index;
        if (loaded.positions !== state.positions) state.sampling = firstSampling(loaded);  // else as it was chosen
        state.positions = loaded.positions;
        enterMaterial(index, loaded);
        if (first) state.shape = loaded.model ? "model" : loaded.has[OPACITY] ? "plane" : state.shape;  // plane: a leaf
        byId("status").textContent = "drawing";
        showMaterial();
        change({});
    });
    loading.catch((error) => {
        if (!gl.isContextLost()) wanted = state.material;  // this GPU cannot show the other one
        fail(error);
    });
    return loading;
}

/** Load the model's materials that are not on the GPU yet, one after the other, each in turn with chooseMaterial. */
function completeModel() {
    if (completing || !view.loaded || gl.isContextLost() || !showsModel() || !missingMaterials().length) return;
    completing = loadMissing().finally(() => {
        completing = null;
        completeModel();  // another model may have been chosen meanwhile
    });
    completing.catch(fail);
}

async function loadMissing() {
    while (view.loaded && showsModel() && missingMaterials().length) {
        loading = loading.catch(() => {}).then(loadNext);
        await loading;
    }
    say("");
}

/** Load one material of the model. One that this GPU cannot take stays in plain colours. */
async function loadNext() {
    const [index] = missingMaterials(), { model } = scene;
    if (!view.loaded || index === undefined) return;
    const count = modelMaterials().size, material = DATA.materials[index];
    say(`compiling the decoder of ${material.name}, ${count - missingMaterials().length + 1} of ${count} materials of the model`);
    await unlessLost(nextFrame());
    try {
        gl.getError();  // of what was before
        const loaded = await loadMaterial(material), full = gl.getError() === gl.OUT_OF_MEMORY;
        if (scene.model !== model || full) webgl.free(loaded.gpu);
        if (scene.model !== model) return;
        if (full) throw new Error("the memory of this GPU is full");
        scene.loaded.set(index, loaded);
    } catch (error) {
        if (gl.isContextLost()) throw error;
        scene.failures.set(index, error.message);
    }
    change({});
}

function fail(error) {
    byId("status").textContent = String(error.message ?? error);
}

async function start() {
    makePanel();
    if (!gl) return fail("This page needs WebGL 2, which this browser does not offer (switched off, or no graphics driver).");
    usePointers();
    new ResizeObserver(invalidate).observe(canvas);
    useDivider();
    useKeys();
    setInterval(() => {
        if (state.compare !== "flicker" || document.hidden || view.shownGeneration !== view.generation) return;
        view.flickered = !view.flickered;
        showLabels();
        present();
    }, FLICKER_MS);
    surface.addEventListener("webglcontextlost", () => {
        view.loaded = null;
        fail(lostError());
    });
    surface.addEventListener("webglcontextrestored", () => {
        webgl.forget();
        forgetModel();
        void chooseMaterial(wanted);
    });
    renderForever();
    await chooseMaterial(0);
}

const started = start();
started.catch(fail);

/**
 * For tests: await nt.ready; nt.set({show, shape, compare, ...}) (see `state` in renderer.js); await nt.settled();
 * await nt.readMap("normal", 2); await nt.readMap("normal", 2, "source"); nt.inspect(x, y) in CSS pixels.
 */
window.nt = {
    ready: started, state, view, scene, camera, set: change, settled, readMap, inspect, readTexel, chooseMaterial, measureFrame, gl,
    data: DATA,
};
