// Texels as numbers: whole maps at 1:1, one texel, and which texel a pixel shows.

const BAND_MS = 100;

/**
 * One map of one LOD at its texel centres, 8-bit codes as `export.py --images` writes them (a test compares them).
 * Resolves to {width, height, channels, data}: rows from the top, Uint8Array of channels values a texel.
 */
async function readMap(name, lod, layer = "decoded") {
    const map = MAP_NAMES.indexOf(name), loaded = view.loaded;
    if (map < 0 || !(lod >= 0 && lod < loaded.num_lods)) throw new Error(`no map ${name} at LOD ${lod}`);
    if (layer === "source" && !(loaded.source && lod >= loaded.source.lod)) throw new Error(`no source at LOD ${lod}`);
    const [width, height] = lodSize(loaded, lod), channels = MAPS[map][1];
    const data = new Uint8Array(width * height * channels), target = makeTarget(width, height, gl.RGBA8, gl.NEAREST);
    for (let first = 0, rows; first < height; first += rows) {
        rows = Math.min(height - first, Math.max(1, Math.floor(BAND_MS / view.cost / width)));
        const band = new Uint8Array(4 * width * rows);
        await timed(width * rows, () => {
            gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
            gl.viewport(0, 0, width, height);
            gl.enable(gl.SCISSOR_TEST);
            gl.scissor(0, first, width, rows);
            gl.disable(gl.CULL_FACE);
            useMaterial("map", layer, lod, map);
            gl.drawArrays(gl.TRIANGLES, 0, 3);
            gl.disable(gl.SCISSOR_TEST);
        });
        gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
        await readPixels(0, first, width, rows, gl.RGBA, gl.UNSIGNED_BYTE, band);
        for (let i = 0; i < width * rows; i++) {
            for (let c = 0; c < channels; c++) data[(first * width + i) * channels + c] = band[4 * i + c];
        }
        if (view.loaded !== loaded) throw new Error("another material was chosen meanwhile");
    }
    freeTarget(target);
    return { width, height, channels, data };
}

/** The 11 codes of one texel, {decoded: [..], source: [..] or null}; the source's of its own LOD, where that is coarser. */
async function readTexel(x, y, lod) {
    const { source } = view.loaded;
    view.texelTarget ??= makeTarget(MAPS.length, 2, gl.RGBA8, gl.NEAREST);
    gl.bindFramebuffer(gl.FRAMEBUFFER, view.texelTarget.frame);
    gl.viewport(0, 0, MAPS.length, 2);
    gl.disable(gl.CULL_FACE);
    useMaterial("texel", "decoded", lod, 0);
    gl.uniform2i(view.loaded.at("uTexel"), x, y);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    const pixels = await readPixels(0, 0, MAPS.length, 2, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4 * MAPS.length * 2));
    const row = (first) => MAPS.flatMap(([, channels], map) => Array.from(pixels.slice(first + 4 * map, first + 4 * map + channels)));
    return { decoded: row(0), source: source ? row(4 * MAPS.length) : null };
}

/** What lies under a pixel of the canvas (from its top left): {u, v, lod} or null; uv in tiles. */
async function pick(px, py) {
    const { at, program } = view.pick;
    view.pickTarget ??= makeTarget(2, 2, gl.RGBA32UI, gl.NEAREST);
    gl.bindFramebuffer(gl.FRAMEBUFFER, view.pickTarget.frame);
    const x = Math.floor(px), y = canvas.height - 1 - Math.floor(py);
    gl.viewport(-x, -y, canvas.width, canvas.height);
    gl.clearBufferuiv(gl.COLOR, 0, [0, 0, 0, 0]);
    gl.useProgram(program);
    gl.uniform2f(at("uSize"), view.loaded.width, view.loaded.height);
    const mesh = placeShape(at, canvas.width / canvas.height);
    gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_SHORT, 0);
    const bits = await readPixels(0, 0, 1, 1, gl.RGBA_INTEGER, gl.UNSIGNED_INT, new Uint32Array(4));
    const [u, v, lod] = new Float32Array(bits.buffer);
    return bits[3] ? { u, v, lod } : null;
}
