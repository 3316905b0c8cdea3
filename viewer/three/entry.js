// An entry of NTX_neural_texture, checked. Files come from anyone: behind this file everything that becomes the size of a
// texture, or text of a shader, is a number in its range or one of our words.

import { STORAGES, blockBytes, checkBlocks, storageOf, texelFormatOf } from "./blocks.js";
import { weightNumbers } from "./weights.js";

export const EXTENSION = "NTX_neural_texture", VERSION = 1;
/** Map -> its channels among the network's outputs; a map of another name is the one of channel 15. */
export const MAPS = {
    diffuse: [0, 1, 2], normal: [3, 4, 5], roughness: [6], occlusion: [7], metallic: [8], specular: [9], displacement: [10],
    opacity: [11], emissive: [12, 13, 14], extra: [15],
};
export const PLANE_CHANNELS = 4, ROW_BLOCK = 4, WEIGHT_TEXTURE_WIDTH = 256;
const CHANNELS = 11, ALL_CHANNELS = 16, PADDED_OUTPUTS = 16, ALIGNMENT = 16, CODE_BITS = [1, 2, 4, 8, 16], WORD_BITS = [8, 16, 32, 64];
const MOST_SIDE = 16384, MOST_PIXELS = 2 ** 30, MOST_GRIDS = 16, MOST_LAYERS = 8, MOST_NEURONS = 1024, MOST_OCTAVES = 31;
const TEXEL_BYTES = { R8_UNORM: 1, R8G8_UNORM: 2, R8G8B8A8_UNORM: 4 };
const FORMATS = { 1: "R8_UNORM", 2: "R8G8_UNORM", 4: "R8G8B8A8_UNORM" };
const ELEMENT_BYTES = { float32: 16, float16: 8, int8: 4, dots: 16 };  // of a column of four rows

export const aligned = (count, step = ALIGNMENT) => Math.ceil(count / step) * step;

function expect(right, what, found) {
    if (!right) throw new Error(`${what}, found ${String(JSON.stringify(found)).slice(0, 60)}`);
}

function whole(value, low, high, what) {
    expect(Number.isInteger(value) && value >= low && value <= high, `expected ${what} from ${low} to ${high}`, value);
    return value;
}

function number(value, low, high, what) {
    expect(typeof value === "number" && value >= low && value <= high, `expected ${what} from ${low} to ${high}`, value);
    return value;
}

function oneOf(value, words, what) {
    expect(words.includes(value), `expected ${what} ${words.join(" or ")}`, value);
    return value;
}

function list(value, low, high, what) {
    expect(Array.isArray(value) && value.length >= low && value.length <= high, `expected ${low} to ${high} ${what}`, value);
    return value;
}

const sameList = (a, b) => Array.isArray(a) && a.length === b.length && a.every((value, i) => value === b[i]);

/**
 * What an entry says, in the form in which the rest of this package takes it.
 * @param {object} entry of the extension's neuralTextures
 * @param {(index: number) => Uint8Array} view the bytes of a buffer view
 * @throws {Error} of one line, when it is damaged
 */
export function readEntry(entry, view) {
    expect(entry !== null && typeof entry === "object", "expected a neural texture", entry);
    const layout = oneOf(entry.layout, ["packed", "filterable", "rgba8"], "layout");
    const material = readMaterial(entry.material ?? {});
    const grids = list(entry.grids, 1, MOST_GRIDS, "grids").map((grid, index) => readGrid(grid ?? {}, index, layout, view));
    return {
        ...material, layout, grids,
        positions: oneOf(entry.positions, ["centres", "filtered"], "positions"),
        decoder: readDecoder(entry.decoder ?? {}, grids, material, view),
    };
}

function readMaterial(material) {
    const width = whole(material.width, 1, MOST_PIXELS, "width"), height = whole(material.height, 1, MOST_PIXELS, "height");
    expect(width * height <= MOST_PIXELS, `expected at most ${MOST_PIXELS} texels`, [width, height]);
    const lods = Math.floor(Math.log2(Math.max(width, height))) + 1, maps = {}, constants = new Map();
    expect(material.num_lods === lods, `expected num_lods ${lods}`, material.num_lods);
    for (const entry of list(material.maps, 1, Object.keys(MAPS).length, "maps")) {
        const name = Object.hasOwn(MAPS, entry.map) ? entry.map : "extra";
        expect(sameList(entry.channels, MAPS[name]) && !maps[name], `expected channels of the map ${name} once`, entry.channels);
        maps[name] = readMap(entry, name);
    }
    const present = new Set(Object.keys(maps).flatMap((name) => MAPS[name]));
    for (const { channel, value } of list(material.constants ?? [], 0, ALL_CHANNELS, "constants")) {
        expect(present.has(channel), "expected the channel of a map", channel);
        constants.set(channel, number(value, 0, 1, "a constant"));
    }
    return { width, height, lods, maps, constants };
}

function readMap(entry, name) {
    const [low, high] = list(entry.value_range, 2, 2, "ends of value_range");
    const far = 3e38, scale = entry.log_scale ?? null;
    number(low, -far, far, `low end of ${name}`);
    number(high, low, far, `high end of ${name}`);
    expect(scale === null || (low === 0 && scale > 0 && high > 0 && scale < far && high / scale < 1e9), `expected log_scale of ${name}`, scale);
    return {
        srgb: oneOf(entry.color_space, ["srgb", "linear"], "color_space") === "srgb",
        low, high, scale,
        hasUnits: name !== "normal" && (low !== 0 || high !== 1),  // maps.ranges.has_units
        down: oneOf(entry.convention ?? "unknown", ["gl", "dx", "unknown"], "convention") === "dx",
        unit: entry.unit_normals === true,
    };
}

function readGrid(grid, index, layout, view) {
    const what = `grid ${index}`, storage = oneOf(grid.storage ?? "packed", ["packed", ...STORAGES], `storage of ${what}`);
    const compressed = storage !== "packed";
    const levels = list(grid.levels, 1, 15, `levels of ${what}`);
    levels.forEach((size) => list(size, 2, 2, `sides of a level of ${what}`).forEach((side) => whole(side, 1, MOST_SIDE, `side of ${what}`)));
    const [width, height] = levels[0], steps = 2 ** (levels.length - 1);
    expect(grid.n_levels === levels.length && width % steps === 0 && height % steps === 0
        && levels.every((size, i) => sameList(size, [width >> i, height >> i])), `expected n_levels halves in levels of ${what}`, levels);
    const bits = compressed ? 0 : oneOf(grid.quantize_bits, CODE_BITS, `quantize_bits of ${what}`);
    const word = compressed ? 0 : oneOf(grid.save_bits, WORD_BITS, `save_bits of ${what}`);
    const features = compressed ? 3 : word / bits, filterable = layout === "filterable";
    expect(compressed || (features >= 1 && !(filterable && bits > 8)), `expected codes that fit into ${what}`, bits);
    const channels = compressed || filterable ? features : layout === "rgba8" ? Math.max(word / 8, PLANE_CHANNELS) : word / 8;
    const planes = compressed ? 1 : Math.ceil(channels / PLANE_CHANNELS), ofPlane = compressed ? 0 : Math.min(channels, PLANE_CHANNELS);
    const format = compressed ? texelFormatOf(storage) : FORMATS[ofPlane];
    expect(grid.features === features && grid.format === format, `expected ${features} features in ${format} in ${what}`, [grid.features, grid.format]);
    const texels = levelBytes(levels, format);
    const textures = list(grid.textures, planes, planes, `textures of ${what}`).map((texture) => {
        const bytes = view(texture?.bufferView);
        expect(bytes.length === texels, `expected ${texels} bytes of texels in ${what}`, bytes.length);
        if (compressed) checkBlocks(bytes, storage);
        return bytes;
    });
    return {
        width, height, levels, bits, features, storage, compressed, planes, channels: ofPlane, textures,
        hasChannels: compressed || filterable,
        learned: oneOf(grid.interpolation, ["linear", "learned"], `interpolation of ${what}`) === "learned",
        finestLods: whole(grid.finest_lods ?? 1, 1, 15, `finest_lods of ${what}`),
    };
}

function readDecoder(decoder, grids, material, view) {
    const extras = ["opacity", "emissive", "extra"].some((name) => material.maps[name]);
    const outputs = extras ? ALL_CHANNELS : CHANNELS, waves = whole(decoder.n_frequencies, 0, MOST_OCTAVES, "n_frequencies");
    expect(decoder.outputs === outputs, `expected ${outputs} outputs`, decoder.outputs);
    const texelWaves = whole(decoder.n_texel_frequencies, 0, MOST_OCTAVES, "n_texel_frequencies");
    const features = grids.reduce((sum, grid) => sum + grid.features * (grid.learned ? 4 : 1), 0);
    const referenceInputs = 2 * waves + features + 1, inputs = aligned(referenceInputs) + aligned(2 * texelWaves);
    const layers = list(decoder.layers, 1, MOST_LAYERS, "layers"), neurons = layers.length > 1 ? layers[0]?.[0] : 0;
    if (layers.length > 1) whole(neurons, 1, MOST_NEURONS, "neurons of a layer");
    const expected = layers.map((_, i) => [i < layers.length - 1 ? neurons : PADDED_OUTPUTS, i ? neurons : inputs]);
    expect(layers.every((size, i) => sameList(size, expected[i])), `expected layers ${JSON.stringify(expected)}`, layers);
    const weightBits = oneOf(decoder.weight_bits ?? 32, [32, 16, 8], "weight_bits");
    const integer = oneOf(decoder.activation_bits ?? 32, [32, 8], "activation_bits") === 8;
    return {
        outputs, waves, texelWaves, referenceInputs, inputs, neurons, integer,
        hiddenLayers: layers.length - 1,
        hardSwish: oneOf(decoder.activation, ["leaky_relu", "hard_swish"], "activation") === "hard_swish",
        slope: number(decoder.negative_slope, 0, 1, "negative_slope"),
        weights: readWeights(decoder.weights ?? {}, layers, weightBits, integer, view),
    };
}

/** Bytes of all levels of one of a grid's textures. */
export function levelBytes(levels, format) {
    const storage = storageOf(format);
    return levels.reduce((sum, [w, h]) => sum + (storage ? blockBytes(w, h, storage) : w * h * TEXEL_BYTES[format]), 0);
}

/** (blocks of four rows, columns of each) of the matrices: shaders/weights.py, column_blocks. */
const columnBlocks = (layers) => layers.map(([rows, inputs], i) => [Math.ceil(rows / ROW_BLOCK), i ? aligned(inputs, ROW_BLOCK) : inputs]);

const sumOf = (blocks, of) => blocks.reduce((total, layer, i) => total + of(layer, i), 0);

/** Elements of a table of weights before its scales: shaders/weights.py. */
export function columnsOf(layers, type) {
    const blocks = columnBlocks(layers);
    if (type !== "dots") return sumOf(blocks, ([count, inputs]) => count * inputs);
    return sumOf(blocks, ([count, inputs], i) => (i < layers.length - 1 ? 2 : 0) + count * (2 + Math.ceil(inputs / 4)));
}

function readWeights(weights, layers, weightBits, integer, view) {
    const known = integer ? ["dots"] : weightBits === 8 ? ["float32", "float16", "int8"] : ["float32", "float16"];
    const type = oneOf(weights.type, known, "weights of the type"), columns = columnsOf(layers, type), blocks = columnBlocks(layers);
    expect(weights.columns === columns, `expected ${columns} columns of weights`, weights.columns);
    const scales = type === "int8" ? sumOf(blocks, ([count]) => ROW_BLOCK * count) : 0;
    const size = aligned(columns + scales, WEIGHT_TEXTURE_WIDTH) * ELEMENT_BYTES[type], bytes = view(weights.bufferView);
    expect(bytes.length === size, `expected ${size} bytes of weights`, bytes.length);
    const numbers = weightNumbers({ kind: type, columns, layers: blocks, width: WEIGHT_TEXTURE_WIDTH, bytes });
    expect(numbers.every(Number.isFinite), "expected weights that are numbers", null);
    return { type, columns, size, numbers };
}
