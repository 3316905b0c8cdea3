// Texels as numbers: whole maps at 1:1, one texel, and which texel a pixel shows.

const BAND_MS = 150;
const KEPT_TEXELS = 2 ** 22;  // readMap for one map after the other decodes a LOD once, if it is not larger

/** Targets for all channels of some texels, four channels in each. */
function makeChannelTargets(width, height) {
    const frame = gl.createFramebuffer(), attachments = [0, 1, 2].map((k) => gl.COLOR_ATTACHMENT0 + k);
    const textures = attachments.map(() => texture2D(gl.RGBA8, width, height, 1, gl.NEAREST));
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    textures.forEach((texture, k) => gl.framebufferTexture2D(gl.FRAMEBUFFER, attachments[k], gl.TEXTURE_2D, texture, 0));
    gl.drawBuffers(attachments);
    return { frame, textures, attachments };
}

function freeChannelTargets({ frame, textures }) {
    gl.deleteFramebuffer(frame);
    textures.forEach((texture) => gl.deleteTexture(texture));
}

/** The codes of a box of texels of one LOD at their centres: CHANNELS values a texel, rows from the top. */
async function readBox(x, y, width, height, lod, layer) {
    const targets = makeChannelTargets(width, height), codes = new Uint8Array(width * height * CHANNELS);
    await timed(width * height, () => {
        gl.viewport(0, 0, width, height);
        gl.disable(gl.CULL_FACE);
        useMaterial("read", layer, lod, 0);
        gl.uniform2i(view.loaded.at("uFirstTexel"), x, y);
        gl.drawArrays(gl.TRIANGLES, 0, 3);
    });
    for (let k = 0; k < 3; k++) {
        gl.bindFramebuffer(gl.FRAMEBUFFER, targets.frame);
        gl.readBuffer(targets.attachments[k]);
        const part = await readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4 * width * height));
        for (let i = 0; i < width * height; i++) {
            for (let c = 4 * k; c < Math.min(4 * k + 4, CHANNELS); c++) codes[i * CHANNELS + c] = part[4 * i + c - 4 * k];
        }
    }
    freeChannelTargets(targets);
    return codes;
}

let kept = { key: null, codes: null };

/** All channels of one LOD, CHANNELS codes a texel; in bands, so that the page goes on. */
async function readLod(lod, layer) {
    const loaded = view.loaded, [width, height] = lodSize(loaded, lod), key = [state.material, lod, layer].join();
    if (kept.key === key) return kept.codes;
    const codes = new Uint8Array(width * height * CHANNELS);
    for (let first = 0, rows; first < height; first += rows) {
        rows = Math.min(height - first, Math.max(1, Math.floor(BAND_MS / view.cost / width)));
        codes.set(await readBox(0, first, width, rows, lod, layer), first * width * CHANNELS);
        if (view.loaded !== loaded) throw new Error("another material was chosen meanwhile");
    }
    kept = width * height <= KEPT_TEXELS ? { key, codes } : { key: null, codes: null };
    return codes;
}

/**
 * One map of one LOD at its texel centres, 8-bit codes as `export.py --images` writes them (a test compares them).
 * Resolves to {width, height, channels, data}: rows from the top, Uint8Array of channels values a texel.
 */
async function readMap(name, lod, layer = "decoded") {
    const map = MAP_NAMES.indexOf(name), { source, num_lods: lods } = view.loaded;
    if (map < 0 || !(Number.isInteger(lod) && lod >= 0 && lod < lods)) throw new Error(`no map ${name} at LOD ${lod}`);
    if (layer === "source" && !(source && lod >= source.lod)) throw new Error(`no source at LOD ${lod}`);
    const [width, height] = lodSize(view.loaded, lod), [, channels] = MAPS[map], data = new Uint8Array(width * height * channels);
    const codes = await readLod(lod, layer);
    for (let i = 0; i < data.length; i++) {
        data[i] = codes[Math.floor(i / channels) * CHANNELS + FIRST_CHANNEL[map] + i % channels];
    }
    return { width, height, channels, data };
}

/** The 11 codes of one texel, {decoded: [..], source: [..] or null}; the source's of its own LOD, where that is coarser. */
async function readTexel(x, y, lod) {
    const decoded = Array.from(await readBox(x, y, 1, 1, lod, "decoded"));
    const source = view.loaded.source ? Array.from(await readBox(x, y, 1, 1, lod, "source")) : null;
    return { decoded, source };
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
