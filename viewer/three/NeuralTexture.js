// The textures of one neural texture in three.js, and its decoder's text; materials share them.

import {
    CompressedArrayTexture, DataTexture, FloatType, LinearFilter, LinearMipmapLinearFilter, NearestFilter, NearestMipmapNearestFilter,
    RGBAFormat, RGBAIntegerFormat, RGFormat, RedFormat, RepeatWrapping, UnsignedIntType,
} from "three";
import { blockBytes, blockFormat, decodeBlocks } from "./blocks.js";
import { WEIGHT_TEXTURE_WIDTH } from "./entry.js";
import { TABLE, decoderText, textureNames } from "./preamble.js";

const CHANNEL_FORMATS = { 1: RedFormat, 2: RGFormat, 4: RGBAFormat };
const MOST_SINGLE_TEXTURES = 8;  // WebGL 2 promises 16 units, and lights want shadow maps
const OTHER_UNIFORMS = 256;  // vectors that three.js itself may need, for lights and their shadows

/** Materials with the same text share programs: a number for each text. */
const numbers = new Map();
export function numberOf(text) {
    if (!numbers.has(text)) numbers.set(text, numbers.size);
    return numbers.get(text);
}

export class NeuralTexture {
    /** @param {object} read what readEntry returns */
    constructor(read, name = "") {
        this.name = name;
        this.read = read;
        this.maps = read.maps;
        this.anisotropy = 1;  // as of three.js's own textures; of grids that the sampler filters
        this._arrays = groupTextures(read);
        const places = new Map([...this._arrays].flatMap(([array, names]) => names.map(({ name }, layer) => [name, { array, layer }])));
        this.decoder = decoderText(read, places);
        this._textures = null;
        this._users = new Set();
    }

    /** Whether all grids are read by a sampler. */
    get sampled() {
        return this.read.grids.every((grid) => grid.hasChannels && !grid.learned);
    }

    /** Bytes of the textures and weights in the file. */
    get bytes() {
        return this.read.grids.flatMap((grid) => grid.textures).reduce((sum, { length }) => sum + length, this.read.decoder.weights.size);
    }

    /** The uniforms of the decoder, for three.js; the textures are made with the first renderer that asks. */
    uniforms(renderer) {
        this._textures ??= this._makeTextures(renderer);
        const values = { ...this._textures, [TABLE]: this._weights(renderer) };
        return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, { value }]));
    }

    /** Whether the weights fit into uniforms, which are read faster than a texture (1.6 times in SwiftShader). */
    hasUniformWeights(renderer) {
        return this.read.decoder.weights.columns + OTHER_UNIFORMS <= renderer.capabilities.maxFragmentUniforms;
    }

    _weights(renderer) {
        const { weights } = this.read.decoder;
        if (this.hasUniformWeights(renderer)) return weights.numbers.subarray(0, 4 * weights.columns);
        return this._textures[TABLE] ??= weightTexture(weights);
    }

    /** `material` draws with this: its textures are freed when the last such material is disposed of. */
    usedBy(material) {
        if (this._users.has(material)) return;
        this._users.add(material);
        const leave = () => {
            material.removeEventListener("dispose", leave);
            this._users.delete(material);
            if (!this._users.size) this.dispose();
        };
        material.addEventListener("dispose", leave);
    }

    /** Free the textures; what draws with this uploads them again. */
    dispose() {
        Object.values(this._textures ?? {}).forEach((texture) => texture.dispose());
    }

    _makeTextures(renderer) {
        const arrayed = new Set([...this._arrays.values()].flat().map(({ name }) => name)), made = {};
        for (const [array, names] of this._arrays) made[array] = this._arrayTexture(names, renderer);
        for (const { name, grid, plane } of textureNames(this.read)) {
            if (!arrayed.has(name)) made[name] = this._planeTexture(grid, plane);
        }
        Object.entries(made).forEach(([name, texture]) => texture.name = `${this.name} ${name}`);
        return made;
    }

    /** One texture of a grid. */
    _planeTexture(grid, plane) {
        const levels = mipmaps(grid, ([width, height]) => width * height * grid.channels, grid.textures[plane]);
        const texture = new DataTexture(levels[0].data, grid.width, grid.height, CHANNEL_FORMATS[grid.channels]);
        return this._finish(texture, grid, levels);
    }

    /** Textures of one shape as layers of an array: blocks, or texels of four channels. */
    _arrayTexture(names, renderer) {
        const [{ grid }] = names, { compressed, storage, width, height } = grid;
        const format = compressed ? blockFormat(width, height, storage, (name) => renderer.extensions.has(name)) : null;
        const size = ([w, h]) => compressed ? blockBytes(w, h, storage) : w * h * grid.channels;
        const layers = names.map(({ grid: own, plane }) => mipmaps(own, size, own.textures[plane]).map((level) =>
            compressed && !format ? { ...level, data: decodeBlocks(level.data, level.width, level.height, storage) } : level));
        const levels = layers[0].map(({ width, height }, mip) => ({ width, height, data: joined(layers.map((layer) => layer[mip].data)) }));
        const texture = new CompressedArrayTexture(levels, width, height, layers.length, format ?? RGBAFormat);
        return this._finish(texture, grid, levels);
    }

    _finish(texture, grid, levels) {
        const filtered = grid.hasChannels && !grid.learned, chain = levels.length > 1;
        texture.mipmaps = levels;
        texture.generateMipmaps = false;  // the mips of the file are not smaller copies of the first one
        texture.wrapS = texture.wrapT = RepeatWrapping;
        texture.magFilter = filtered ? LinearFilter : NearestFilter;
        const between = filtered ? LinearMipmapLinearFilter : NearestMipmapNearestFilter;
        texture.minFilter = chain ? between : texture.magFilter;
        texture.anisotropy = filtered ? this.anisotropy : 1;
        texture.unpackAlignment = 1;
        texture.needsUpdate = true;
        return texture;
    }
}

/** Names of arrays -> textures that are their layers. Blocks of one shape always are, others where there are many. */
function groupTextures(read) {
    const textures = textureNames(read), many = textures.length > MOST_SINGLE_TEXTURES, shapes = new Map();
    for (const texture of textures) {
        const { compressed, storage, channels, levels, learned } = texture.grid;
        if (!compressed && !(many && channels === 4)) continue;
        const shape = JSON.stringify([storage, learned, levels]);
        shapes.set(shape, [...shapes.get(shape) ?? [], texture]);
    }
    return new Map([...shapes.values()].map((names, index) => [`ntBlocks${index}`, names]));
}

/** The levels of a texture, the finest first; `size`: bytes of one. */
function mipmaps(grid, size, bytes) {
    let end = 0;
    return grid.levels.map(([width, height]) => ({ width, height, data: bytes.subarray(end, end += size([width, height])) }));
}

function joined(parts) {
    if (parts.length === 1) return parts[0];
    const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
    parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
    return whole;
}

function weightTexture({ type, numbers }) {
    const [format, kind] = type === "dots" ? [RGBAIntegerFormat, UnsignedIntType] : [RGBAFormat, FloatType];
    const texture = new DataTexture(numbers, WEIGHT_TEXTURE_WIDTH, numbers.length / 4 / WEIGHT_TEXTURE_WIDTH, format, kind);
    texture.needsUpdate = true;
    return texture;
}
