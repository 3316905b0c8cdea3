// The glTF model that a material comes from: all its parts, each drawn with the decoder of its own material.

const PART = { solid: 1, tested: 2, blended: 3 };  // uPart of view.frag
const PART_BYTES = 28;  // of a vertex, VERTEX in scene.py
const PART_FORMATS = [[3, "FLOAT", false, 0], [4, "INT_2_10_10_10_REV", true, 12], [4, "INT_2_10_10_10_REV", true, 16], [2, "FLOAT", false, 20]];

const scene = {
    model: null,  // the entry of DATA.models that the material shown lies in; null: in none
    parts: [],  // of it, see partOf
    loaded: new Map(),  // number of a material in the page -> the material on the GPU, of the model's materials
    failures: new Map(),  // such a number -> why this GPU cannot take it
    baseMs: null,  // of a draw of the triangles alone; null: not measured yet
};

const modelOf = (material) => material.model ? DATA.models[material.model.index] : null;
const showsModel = () => state.shape === "model";

/** The factors that the material has in its model; null for one of a folder of maps. */
const factorsOf = (material) => modelOf(material)?.materials[material.model.material] ?? null;

/** The numbers, in the page, of the materials that the model has; of several trainings of one the one that was chosen. */
function modelMaterials() {
    const model = scene.model, found = new Map();
    DATA.materials.forEach((material, index) => {
        const place = material.model;
        if (!model || modelOf(material) !== model || found.has(place.material) && index !== state.material) return;
        if (model.parts.some((part) => part.placed && part.material === place.material)) found.set(place.material, index);
    });
    return found;
}

/** The materials that are looked at, as they are in the page: those of the model, or the one on a shape. */
function materialsShown() {
    return showsModel() ? [...modelMaterials().values()].map((index) => DATA.materials[index]) : [view.loaded];
}

/** The names of the maps that one of these materials has, in their order. */
function mapsShown() {
    const names = new Set(materialsShown().flatMap((material) => mapNames(material).filter((name) =>
        material.maps.some((entry) => entry.map === name))));
    const place = (name) => (MAPS.findIndex(([other]) => other === name) + MAPS.length) % MAPS.length;
    return [...names].sort((a, b) => place(a) - place(b));
}

const hasMap = (material, map) => material.maps.some((entry) => entry.map === MAPS[map][0]);

/** The materials of the model that are still to be loaded. */
function missingMaterials() {
    return [...modelMaterials().values()].filter((index) => !scene.loaded.has(index) && !scene.failures.has(index));
}

/** Names, at most a few of them, as a sentence has them. */
function someNames(names, most = 6) {
    return names.slice(0, most).join(", ") + (names.length > most ? ` and ${names.length - most} more` : "");
}

/** What is to be said about the model. */
function modelNote() {
    const { model, failures } = scene;
    if (!model) return view.loaded.model_note;
    const known = modelMaterials(), names = (parts) => [...new Set(parts.map((part) => model.materials[part.material].name))];
    const plain = names(model.parts.filter((part) => !known.has(part.material)));
    const unplaced = names(model.parts.filter((part) => known.has(part.material) && !part.placed));
    return [
        `${model.name}: ${model.summary}.`,
        plain.length ? `Without a neural texture here, in plain colours: ${someNames(plain)}.` : "",
        unplaced.length ? `Some triangles of ${someNames(unplaced)} lack its texture coordinates, and are in plain colours.` : "",
        ...[...failures].map(([index, why]) => `${DATA.materials[index].name} is in plain colours: ${why}.`),
    ].filter(Boolean).join(" ");
}

/** A part of a model on the GPU: {entry, factors, array, middle}; middle: of its corners. */
function partOf(model, entry) {
    const vertices = blobBytes(entry.vertices), places = new Float32Array(vertices.buffer), middle = [0, 0, 0];
    for (let i = 0; i < places.length; i += PART_BYTES / 4) for (let k = 0; k < 3; k++) middle[k] += places[i + k] * PART_BYTES / 4 / places.length;
    return { entry, factors: model.materials[entry.material], middle, array: uploadArray(vertices, blobBytes(entry.indices), PART_FORMATS, PART_BYTES) };
}

/** Show `loaded`, number `index` in the page; frees what is not shown with it. */
function enterMaterial(index, loaded) {
    const model = modelOf(loaded), old = new Set(scene.loaded.values());
    if (view.loaded) old.add(view.loaded);
    if (model !== scene.model) {
        scene.parts.forEach(({ array }) => gl.deleteVertexArray(array));
        Object.assign(scene, { model, loaded: new Map(), failures: new Map(), baseMs: null });
        scene.parts = model ? model.parts.map((entry) => partOf(model, entry)) : [];
    }
    if (model) scene.loaded.set(index, loaded);
    const kept = new Set(scene.loaded.values());
    old.forEach((each) => { if (each !== loaded && !kept.has(each)) webgl.free(each.gpu); });
    view.loaded = loaded;
}

/** Drop the objects of a lost context. */
function forgetModel() {
    Object.assign(scene, { model: null, parts: [], loaded: new Map(), failures: new Map(), baseMs: null });
}

/** How a part is drawn: its program's material or null, its way to treat alpha; null for one that is not seen at all. */
function wayOf(part, known) {
    const { entry, factors } = part, index = entry.placed ? known.get(entry.material) : undefined;
    const loaded = scene.loaded.get(index) ?? null, [, , , alpha] = factors.base;
    if (factors.mode === "MASK") {
        if (loaded?.has[OPACITY]) return { part, loaded, kind: PART.tested };
        return alpha < factors.cutoff ? null : { part, loaded, kind: PART.solid };
    }
    return { part, loaded, kind: factors.mode === "BLEND" ? PART.blended : PART.solid };
}

/** All parts in the order in which they are drawn: blended ones last, the farthest first. */
function partsInOrder(eye) {
    const known = modelMaterials(), far = ({ part }) => Math.hypot(...part.middle.map((x, k) => x - eye[k]));
    const ways = scene.parts.map((part) => wayOf(part, known)).filter(Boolean);
    return ways.sort((a, b) => a.kind - b.kind || (a.kind === PART.blended ? far(b) - far(a) : 0));
}

/** Draw the triangles of a part with the program in use. */
function placePart({ part }, at, look, side = null) {
    const { entry, factors } = part;
    gl.uniform1i(at("uFill"), 0);
    gl.uniformMatrix4fv(at("uViewProjection"), false, look.matrix);
    gl.uniform2f(at("uUvScale"), 1, 1);
    if (side ?? !factors.double_sided) gl.enable(gl.CULL_FACE);
    else gl.disable(gl.CULL_FACE);
    gl.cullFace(side ?? gl.BACK);
    gl.bindVertexArray(part.array);
    gl.drawElements(gl.TRIANGLES, entry.count, entry.wide ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT, 0);
    gl.cullFace(gl.BACK);
}

/** A part that blends shows its back before its front; others are drawn at once. */
function sidesOf({ part, kind }) {
    return kind === PART.blended && part.factors.double_sided ? [gl.FRONT, gl.BACK] : [null];
}

/** Use the program for a part and set its uniforms. Returns: the function for places of uniforms. */
function usePart({ part, loaded, kind }, layer, look) {
    const map = state.show !== "lit" && loaded ? loaded.names.indexOf(state.show) : -1, exposure = 2 ** state.exposure;
    const lacksMap = state.show !== "lit" && !(loaded && map >= 0 && loaded.has[map]);
    const nothing = lacksMap || layer !== "decoded" && !loaded?.source;
    if (loaded && (!nothing || kind === PART.tested)) {  // a decoder knows where the holes are
        const drawn = lookOf(loaded, nothing ? "decoded" : layer, state.lod, map);
        useMaterial(loaded.gpu, { ...drawn, exposure, part: kind, nothing }, 0);
        placeEye(loaded.gpu.at, look);
        return loaded.gpu.at;
    }
    const { program, at } = webgl.programs.plain;
    gl.useProgram(program);
    gl.uniform1i(at("uNothing"), +nothing);
    gl.uniform1i(at("uBlended"), +(kind === PART.blended && !nothing));
    gl.uniform1f(at("uExposure"), exposure);
    placeFactors(at, part.factors);
    placeEye(at, look);
    return at;
}

/**
 * Draw the model into a target of the page, by way of one with several samples a pixel. What is solid is drawn without
 * colours first, so that no pixel is decoded twice.
 */
function drawModel(target, width, height, layer, box, look) {
    const { samples } = webgl.targets, ways = partsInOrder(look.eye);
    gl.bindFramebuffer(gl.FRAMEBUFFER, samples.frame);
    gl.viewport(0, 0, width, height);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(...box);
    drawDepths(ways, look);
    for (const way of ways) {
        const at = usePart(way, layer, look);
        const blends = way.kind === PART.blended && state.show === "lit" && layer !== "error";
        if (blends) gl.enable(gl.BLEND);
        gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
        gl.depthMask(!blends);
        for (const side of sidesOf(way)) placePart(way, at, look, side);
        gl.depthMask(true);
        gl.disable(gl.BLEND);
    }
    gl.disable(gl.DEPTH_TEST);
    gl.disable(gl.SCISSOR_TEST);
    const [left, bottom, across, up] = box, corners = [left, bottom, left + across, bottom + up], { frame } = webgl.targets.coverage;
    const copy = (from, to) => {
        gl.bindFramebuffer(gl.READ_FRAMEBUFFER, from);
        gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, to);
        gl.blitFramebuffer(...corners, ...corners, gl.COLOR_BUFFER_BIT, gl.NEAREST);
    };
    copy(samples.frame, frame);  // not to the target: SwiftShader resolves samples beyond the box, too
    copy(frame, target.frame);
}

/** Clear colours and depths within the scissor box, and draw the depths of what is solid. */
function drawDepths(ways, look) {
    const { program, at } = webgl.programs.solid;
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
    gl.colorMask(false, false, false, false);
    gl.useProgram(program);
    ways.filter(({ kind }) => kind === PART.solid).forEach((way) => placePart(way, at, look));
    gl.colorMask(true, true, true, true);
}

/** Measure how long the triangles take, however few pixels are drawn. */
async function measureTriangles(look) {
    const { samples } = webgl.targets, model = scene.model;
    const once = () => {
        gl.bindFramebuffer(gl.FRAMEBUFFER, samples.frame);
        gl.viewport(0, 0, samples.width, samples.height);
        gl.enable(gl.SCISSOR_TEST);
        gl.scissor(0, 0, 1, 1);
        drawDepths(partsInOrder(look.eye).map((way) => ({ ...way, kind: PART.solid })), look);
        gl.disable(gl.SCISSOR_TEST);
        gl.disable(gl.DEPTH_TEST);
        return gpuDone(performance.now());
    };
    await once();  // the first draw with a program takes longer
    const ms = await once();
    if (scene.model === model) scene.baseMs = 2 * ms;  // depths and colours
}

const MOST_HOLES = 16;  // that a look goes through

/**
 * What a pixel (from the top left of the canvas) shows of the model, behind the holes of tested parts: {u, v, lod, loaded,
 * factors}; loaded is null for a part without a neural texture. null where there is nothing.
 */
async function pickModel(px, py, look) {
    const ways = partsInOrder(look.eye), model = scene.model;
    const draws = ways.map((way) => ({ size: way.loaded?.gpu.size ?? [1, 1], draw: (at) => placePart(way, at, look) }));
    let beyond = -1;
    for (let i = 0; i < MOST_HOLES; i++) {
        const found = await webgl.pickPixel(px, py, draws, beyond);
        if (!found || scene.model !== model) return null;
        const way = ways[found.number], { loaded } = way, place = { ...found, loaded, factors: way.part.factors };
        if (way.kind !== PART.tested || state.show === "opacity") return place;
        const { x, y, lod } = texelAt(place), { decoded, source } = await readTexel(loaded, x, y, lod);
        const codes = state.compare === "source" && source ? source : decoded;
        if (codes[FIRST_CHANNEL[OPACITY]] / 255 >= state.threshold) return place;
        beyond = found.depth;
    }
    return null;
}
