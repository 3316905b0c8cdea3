// A plugin of GLTFLoader for NTX_neural_texture: loader.register((parser) => new GLTFNeuralTextureExtension(parser)).

import { Texture } from "three";
import { EXTENSION, VERSION, readEntry } from "./entry.js";
import { FILTERS, SLOT_OF_MAP, applyNeuralTexture, shadowMaterials, threeProblem } from "./NeuralMaterial.js";
import { NeuralTexture } from "./NeuralTexture.js";

const MOST_CHANNEL = 3, TRANSFORM = "KHR_texture_transform";

export class GLTFNeuralTextureExtension {
    /**
     * @param {GLTFParser} parser
     * @param {object} options renderer: with one that is not a WebGLRenderer the model's own textures are shown;
     *     filter: of FILTERS; anisotropy: of grids that the sampler filters
     */
    constructor(parser, { renderer = null, filter = null, anisotropy = 1 } = {}) {
        if (filter !== null && !Object.hasOwn(FILTERS, filter)) throw new Error(`filter: expected ${Object.keys(FILTERS).join(", ")}, found ${filter}`);
        this.name = EXTENSION;
        this.parser = parser;
        this.filter = filter;
        this.anisotropy = anisotropy;
        this.problem = threeProblem() ?? (renderer && !renderer.isWebGLRenderer ? "WebGLRenderer alone decodes in its materials" : null);
        this._textures = new Map();  // index -> promise of a NeuralTexture, null where it cannot be shown
    }

    /** GLTFLoader asks this before it makes a material; null: it makes one as if there were no such extension. */
    loadMaterial(index) {
        const reference = this.parser.json.materials[index].extensions?.[EXTENSION]?.neuralTexture;
        return reference === undefined ? null : this._load(index, reference);
    }

    async _load(index, reference) {
        const { parser } = this, { json } = parser, definition = json.materials[index];
        const texture = await this.neuralTexture(reference?.index), options = texture && this._place(index, reference);
        if (!options) return parser.loadMaterial(index);
        json.materials[index] = withoutTextures(definition, texture.maps);  // so that nothing is loaded that is not shown
        let material;
        try {
            material = parser.loadMaterial(index);
        } finally {
            json.materials[index] = definition;
        }
        return applyNeuralTexture(await material, texture, { ...options, filter: this.filter });
    }

    /** The promise of a NeuralTexture of the model, of null where it cannot be shown; the console says why. */
    neuralTexture(index) {
        const failed = (error) => this._warn(`neural texture ${Number(index)}: ${error.message}`);
        if (!this._textures.has(index)) this._textures.set(index, this._read(index).catch(failed));
        return this._textures.get(index);
    }

    async _read(index) {
        const { parser } = this, root = parser.json.extensions?.[EXTENSION], entries = root?.neuralTextures;
        if (this.problem) throw new Error(this.problem);
        if (root?.version !== VERSION) throw new Error(`expected version ${VERSION} of ${EXTENSION}, found ${Number(root?.version)}`);
        const entry = Array.isArray(entries) && Number.isInteger(index) ? entries[index] : undefined;
        const grids = Array.isArray(entry?.grids) ? entry.grids : [], holders = [entry?.decoder?.weights, ...grids.flatMap((grid) => grid?.textures ?? [])];
        const indices = new Set(holders.map((holder) => holder?.bufferView));
        const known = [...indices].filter((view) => Number.isInteger(view) && parser.json.bufferViews?.[view] !== undefined);
        const views = new Map(await Promise.all(known.map(async (view) => [view, new Uint8Array(await parser.getDependency("bufferView", view))])));
        const read = readEntry(entry, (view) => {
            if (!views.has(view)) throw new Error(`expected a buffer view, found ${Number(view)}`);
            return views.get(view);
        });
        const texture = new NeuralTexture(read, typeof entry.name === "string" ? entry.name : "");
        texture.anisotropy = this.anisotropy;
        return texture;
    }

    /** Where a material reads the neural texture, as options of applyNeuralTexture; null, with a warning, for nonsense. */
    _place(index, { texCoord = 0, extensions }) {
        const transform = extensions?.[TRANSFORM] ?? {}, channel = transform.texCoord ?? texCoord;
        const pair = (value) => value === undefined || (Array.isArray(value) && value.length === 2 && value.every(Number.isFinite));
        const good = Number.isInteger(channel) && channel >= 0 && channel <= MOST_CHANNEL
            && pair(transform.offset) && pair(transform.scale) && (transform.rotation === undefined || Number.isFinite(transform.rotation));
        if (!good) return this._warn(`material ${index}: expected a uv set from 0 to ${MOST_CHANNEL} and a transform of numbers`);
        const known = this.parser.extensions[TRANSFORM];  // in extensionsUsed
        return { channel, place: known ? known.extendTexture(new Texture(), transform) : new Texture() };
    }

    _warn(text) {
        console.warn(`${EXTENSION}: ${text}; the model's own textures are shown`);
        return null;
    }

    /** Shadows of materials with holes; and the neural textures, in userData. */
    async afterRoot(result) {
        for (const scene of result.scenes) scene.traverse((object) => {
            if (object.isMesh && object.material.neural) Object.assign(object, shadowMaterials(object.material));
        });
        const textures = await Promise.all(this._textures.values());
        result.userData.neuralTextures = textures.filter((texture) => texture !== null);
    }
}

/** A material of a model without the textures that the maps of a neural texture replace. */
function withoutTextures(definition, maps) {
    const slots = new Set(Object.keys(maps).map((map) => SLOT_OF_MAP[map])), copy = { ...definition, pbrMetallicRoughness: { ...definition.pbrMetallicRoughness } };
    const alpha = (definition.alphaMode ?? "OPAQUE") !== "OPAQUE";
    if (maps.diffuse && (maps.opacity || !alpha)) delete copy.pbrMetallicRoughness.baseColorTexture;
    if (slots.has("roughnessMap") && slots.has("metalnessMap")) delete copy.pbrMetallicRoughness.metallicRoughnessTexture;
    if (slots.has("normalMap")) delete copy.normalTexture;
    if (slots.has("aoMap")) delete copy.occlusionTexture;
    if (slots.has("emissiveMap")) delete copy.emissiveTexture;
    copy.extensions = { ...definition.extensions };
    delete copy.extensions[EXTENSION];
    return copy;
}
