// A decoder in GLSL ES for one neural texture, the text that shaders/export.py makes: constants, textures and weights, and
// behind them the decoder of all materials. `read` is what readEntry returns, so that all of it is made of checked numbers.

import { CORES, DIFFUSE_UNITS, DOTS, EXTRAS, INTEGER, MARKS, RECTANGLES } from "./decoder.js";
import { PLANE_CHANNELS, ROW_BLOCK, WEIGHT_TEXTURE_WIDTH, aligned } from "./entry.js";

export const TABLE = "ntWeightTable";
const SMALLEST_NORMAL = 2 ** -126, DIGITS = 9;  // compilers disagree on literals below it; a float32 has nine digits

/** A float32 as a literal, as Python's .9g writes it and with a point. */
export function numberText(value) {
    const number = Math.abs(value) < SMALLEST_NORMAL ? 0 : value;
    const [mantissa, power] = number.toExponential(DIGITS - 1).split("e"), exponent = Number(power);
    const short = (text) => text.includes(".") ? text.replace(/\.?0+$/, "") : text;
    if (number && (exponent < -4 || exponent >= DIGITS)) {
        return `${short(mantissa)}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
    }
    const text = short(number.toFixed(DIGITS - 1 - exponent));
    return text.includes(".") ? text : `${text}.0`;
}

const vectorText = (numbers) => `vec${numbers.length}(${numbers.map(numberText).join(", ")})`;

/** How the decoder reads the grids: a key of CORES. */
export function readingOf({ grids }) {
    const ways = new Set(grids.map((grid) => grid.hasChannels));
    return ways.size > 1 ? "mixed" : ways.has(true) ? "filterable" : "packed";
}

/** The textures of the grids in their order: name in the shader, grid and plane. */
export function textureNames({ grids }) {
    return grids.flatMap((grid, index) => Array.from({ length: grid.planes }, (_, plane) =>
        ({ name: `ntGrid${index}${plane ? `Plane${plane}` : ""}`, grid, index, plane })));
}

const isSquare = (grid) => grid.width === grid.height;

function constantsOf({ width, height, lods, grids, maps, decoder }) {
    const neurons = decoder.hiddenLayers ? aligned(decoder.neurons, ROW_BLOCK) : 0, layer = Math.max(decoder.inputs, neurons, 16);
    return {
        NT_MATERIAL_WIDTH: numberText(width),
        NT_MATERIAL_HEIGHT: numberText(height),
        NT_NUM_LODS: lods,
        NT_NUM_GRIDS: grids.length,
        NT_NUM_FREQUENCIES: decoder.waves,
        NT_NUM_TEXEL_FREQUENCIES: decoder.texelWaves,
        NT_NUM_HIDDEN_LAYERS: decoder.hiddenLayers,
        NT_NUM_NEURONS: neurons,
        NT_NUM_INPUTS: decoder.inputs,
        NT_NUM_REFERENCE_INPUTS: decoder.referenceInputs,
        NT_FIRST_TEXEL_WAVE: aligned(decoder.referenceInputs),
        NT_LAYER_WIDTH: layer,
        NT_HARD_SWISH: +decoder.hardSwish,
        NT_NEGATIVE_SLOPE: numberText(decoder.slope),
        NT_BLEND_OUTPUTS: +grids.some((grid) => grid.learned),
        NT_DIFFUSE_IS_SRGB: +(maps.diffuse?.srgb === true),
        NT_HAS_NORMAL: +(maps.normal !== undefined),
        ...decoder.integer ? { NT_LAYER_WORDS: layer / ROW_BLOCK } : {},
    };
}

/** Statements that return values[name]. */
function chooseLines(name, values) {
    const last = `return ${values.at(-1)};`;
    if (new Set(values).size === 1) return [last];
    return [...values.slice(0, -1).map((value, index) => `if (${name} == ${index}) { return ${value}; }`), last];
}

const functionText = (signature, body) => [signature, "{", ...body.map((line) => `    ${line}`), "}"];

function lookups(read) {
    const { grids } = read, way = readingOf(read);
    const scale = ({ compressed, bits }) => compressed ? 1 : (2 ** bits - 1) / 2 ** bits;
    return [
        grids.every(isSquare)
            ? ["int", "ntGridResolution", grids.map((grid) => grid.width)]
            : ["vec2", "ntGridSize", grids.map((grid) => vectorText([grid.width, grid.height]))],
        ["int", "ntGridMips", grids.map((grid) => grid.levels.length)],
        ["int", "ntGridSharedLods", grids.map((grid) => grid.finestLods - 1)],
        ["int", "ntGridFeatures", grids.map((grid) => grid.features)],
        ...way === "mixed" ? [["int", "ntGridWords", grids.map((grid) => +!grid.hasChannels)]] : [],
        ...way !== "filterable" ? [["int", "ntGridBits", grids.map((grid) => grid.bits)]] : [],
        ...way !== "packed" ? [["float", "ntGridScale", grids.map((grid) => numberText(scale(grid)))]] : [],
        ["int", "ntGridLearned", grids.map((grid) => +grid.learned)],
        ["int", "ntGridPlanes", grids.map((grid) => grid.planes)],
    ].flatMap(([kind, name, values]) => functionText(`${kind} ${name}(int grid)`, chooseLines("grid", values)));
}

/** The functions that read textures; places: name -> { array, layer } of those that are layers of an array. */
function textureFunctions(read, places) {
    const textures = textureNames(read), arrayed = (name, flat, layered) => places.has(name) ? layered(places.get(name)) : flat(name);
    const chain = (among, expression) => among.map(({ name, index, plane }, k) => {
        const found = `return ${expression(name)};`;
        return k < among.length - 1 ? `if (grid == ${index} && plane == ${plane}) { ${found} }` : found;
    });
    const fetch = (name) => arrayed(name, () => `texelFetch(${name}, texel, mip)`, ({ array, layer }) => `texelFetch(${array}, ivec3(texel, ${layer}), mip)`);
    const lines = functionText("vec4 ntFetchTexel(int grid, int plane, ivec2 texel, int mip)", chain(textures, fetch));
    if (readingOf(read) === "packed") return lines;
    const sampled = textures.filter(({ grid }) => grid.hasChannels);
    const place = (name) => arrayed(name, () => `${name}, uv`, ({ array, layer }) => `${array}, vec3(uv, ${layer}.0)`);
    return [
        ...lines,
        ...functionText("vec4 ntSampleTexel(int grid, int plane, vec2 uv, float lod)", chain(sampled, (name) => `textureLod(${place(name)}, lod)`)),
        ...functionText("vec4 ntSampleTexelGrad(int grid, int plane, vec2 uv, vec2 across, vec2 down)",
            chain(sampled, (name) => `textureGrad(${place(name)}, across, down)`)),
    ];
}

function bindings(read, places) {
    const { integer, weights } = read.decoder, arrays = new Set([...places.values()].map(({ array }) => array));
    const single = textureNames(read).filter(({ name }) => !places.has(name));
    return [
        ...[...arrays].map((array) => `uniform highp sampler2DArray ${array};`),
        ...single.map(({ name }) => `uniform highp sampler2D ${name};`),
        "#ifdef NT_UNIFORM_WEIGHTS",
        `uniform highp ${integer ? "uvec4" : "vec4"} ${TABLE}[${weights.columns}];`,
        "#else", `uniform highp ${integer ? "u" : ""}sampler2D ${TABLE};`, "#endif",
    ];
}

function weightFunctions({ decoder }) {
    const width = WEIGHT_TEXTURE_WIDTH, texel = `texelFetch(${TABLE}, ivec2(index % ${width}, index / ${width}), 0)`;
    const body = ["#ifdef NT_UNIFORM_WEIGHTS", `return ${TABLE}[index];`, "#else", `return ${texel};`, "#endif"];
    return [
        ...decoder.integer ? ["", ...DOTS.split("\n"), ""] : [],
        ...functionText(`${decoder.integer ? "uvec4" : "vec4"} ntWeights(int index)`, body),
    ];
}

function constantFunctions({ constants, decoder }) {
    const channels = Array.from({ length: decoder.outputs }, (_, channel) => channel);
    const values = channels.map((channel) => constants.has(channel) ? numberText(Math.fround(constants.get(channel))) : "0.0");
    return [
        ...functionText("int ntIsConstant(int channel)", chooseLines("channel", channels.map((channel) => +constants.has(channel)))),
        ...functionText("float ntConstantValue(int channel)", chooseLines("channel", values)),
    ];
}

/** The function that turns what is decoded of a map into the units of its file; only maps that have units have one. */
export const unitFunction = (name) => `ntFile${name[0].toUpperCase()}${name.slice(1)}`;

function unitFunctions({ maps }) {
    return Object.entries(maps).filter(([, map]) => map.hasUnits).flatMap(([name, { low, high, scale }]) => {
        const three = name === "diffuse" || name === "emissive", kind = three ? "vec3" : "float";
        const [zero, one] = ["0.0", "1.0"].map((end) => three ? `vec3(${end}, ${end}, ${end})` : end), inside = `clamp(t, ${zero}, ${one})`;
        const named = scale === null ? { low, size: high - low } : { scale, octaves: Math.log2(1 + high / scale) };
        const result = scale === null ? `low + ${inside} * size` : `scale * exp2(${inside} * octaves) - scale`;
        const variables = Object.entries(named).map(([variable, value]) => `float ${variable} = ${numberText(Math.fround(value))};`);
        return functionText(`${kind} ${unitFunction(name)}(${kind} t)`, [...variables, `return ${result};`]);
    });
}

/** The text with the lines of these variants: shaders/generate.py, choose_text. */
export function chooseText(marked, variants) {
    let lines = marked.trimEnd().split("\n");
    for (const mark of MARKS) {
        let skipping = false, chosen = false;
        lines = lines.filter((line) => {
            if (line.startsWith(`${mark} with `)) skipping = !(chosen = variants.has(line.slice(mark.length + 6)));
            else if (line === `${mark} without`) skipping = chosen;
            else if (line === `${mark} both`) skipping = false;
            else return !skipping;
            return false;
        });
    }
    return lines.join("\n");
}

/** Those of the decoder's variants that a neural texture needs. */
function variantsOf({ grids, maps, decoder }) {
    const needed = [
        [EXTRAS, decoder.outputs > 11], [DIFFUSE_UNITS, maps.diffuse?.hasUnits], [RECTANGLES, !grids.every(isSquare)], [INTEGER, decoder.integer],
    ];
    return new Set(needed.filter(([, need]) => need).map(([name]) => name));
}

/**
 * The whole decoder. `places`: name of a texture -> { array, layer }, of those that are layers of arrays.
 * Weights are a texture of float32 or float16, whatever the entry has, or with NT_UNIFORM_WEIGHTS a uniform block.
 */
export function decoderText(read, places = new Map()) {
    return [
        "precision highp float;", "precision highp int;", "",
        ...Object.entries(constantsOf(read)).map(([name, value]) => `#define ${name} ${value}`),
        "", ...bindings(read, places), "",
        ...lookups(read), ...textureFunctions(read, places), ...weightFunctions(read), ...constantFunctions(read), ...unitFunctions(read),
        "", chooseText(CORES[readingOf(read)], variantsOf(read)), "",
    ].join("\n");
}
