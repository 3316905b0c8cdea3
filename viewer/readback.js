// Reads decoded values back: whole maps, one texel, and the texel under a pixel.

const BAND_MS = 150;
const KEPT_TEXELS = 2 ** 22;  // LODs up to this size are kept, so that readMap decodes them once for all maps

/** The codes of a box of a material's texels of one LOD at their centres: a value per channel and texel, rows from the top. */
async function readBox(loaded, x, y, width, height, lod, layer) {
    const { channels } = loaded, codes = new Uint8Array(width * height * channels);
    let targets;
    await timed(width * height, () => { targets = webgl.drawTexels(loaded.gpu, x, y, width, height, lookOf(loaded, layer, lod, 0)); });
    (await webgl.readTexels(targets)).forEach((part, k) => {
        for (let i = 0; i < width * height; i++) {
            for (let c = 4 * k; c < Math.min(4 * k + 4, channels); c++) codes[i * channels + c] = part[4 * i + c - 4 * k];
        }
    });
    return codes;
}

/** The material on the GPU. Throws while there is none: a lost context, or none has been loaded yet. */
function shownMaterial() {
    if (!view.loaded) throw new Error("no material is shown");
    return view.loaded;
}

let kept = { key: null, codes: null };

/** All channels of one LOD, a code per channel and texel; decoded in bands, so that the page stays responsive. */
async function readLod(lod, layer) {
    const loaded = view.loaded, [width, height] = lodSize(loaded, lod), key = [state.material, lod, layer].join();
    if (kept.key === key) return kept.codes;
    const codes = new Uint8Array(width * height * loaded.channels);
    for (let first = 0, rows; first < height; first += rows) {
        rows = Math.min(height - first, Math.max(1, Math.floor(BAND_MS / view.cost / width)));
        codes.set(await readBox(loaded, 0, first, width, rows, lod, layer), first * width * loaded.channels);
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
    const { source, num_lods: lods, names, channels: all } = shownMaterial(), map = names.indexOf(name);
    if (map < 0 || !(Number.isInteger(lod) && lod >= 0 && lod < lods)) throw new Error(`no map ${name} at LOD ${lod}`);
    if (layer === "source" && !(source && lod >= source.lod)) throw new Error(`no source at LOD ${lod}`);
    const [width, height] = lodSize(view.loaded, lod), [, channels] = MAPS[map], data = new Uint8Array(width * height * channels);
    const codes = await readLod(lod, layer);
    for (let i = 0; i < data.length; i++) {
        data[i] = codes[Math.floor(i / channels) * all + FIRST_CHANNEL[map] + i % channels];
    }
    return { width, height, channels, data };
}

/** The codes of a material's texel, {decoded: [..], source: [..] or null}; from the source's own LOD where that is coarser. */
async function readTexel(loaded, x, y, lod) {
    const decoded = Array.from(await readBox(loaded, x, y, 1, 1, lod, "decoded"));
    const source = loaded.source ? Array.from(await readBox(loaded, x, y, 1, 1, lod, "source")) : null;
    return { decoded, source };
}

/**
 * What lies under a pixel of the canvas (from its top left): {u, v, lod, loaded} or null; uv in tiles; loaded: the material, null
 * for a part of a model without a neural texture, whose `factors` are there too.
 */
async function pick(px, py) {
    const loaded = shownMaterial(), look = placing(), at = [Math.floor(px), Math.floor(py)];
    if (showsModel()) return await pickModel(...at, look);
    const found = await webgl.pickPixel(...at, [{ size: loaded.gpu.size, draw: (at) => placeShape(loaded.gpu, at, look) }]);
    return found && { ...found, loaded };
}

/** The texel of `place`, which pick has found, of the LOD that is shown there. */
function texelAt({ u, v, lod, loaded }) {
    const wanted = Math.max(state.autoLod ? lod : state.lod, leastLod(loaded));
    const whole = Math.min(Math.max(Math.round(wanted), 0), loaded.num_lods - 1), [width, height] = lodSize(loaded, whole);
    const texel = (coordinate, size) => Math.min(size - 1, Math.floor((coordinate - Math.floor(coordinate)) * size));
    return { x: texel(u, width), y: texel(v, height), lod: whole };
}
