// A neural texture from the folder that export.py writes with --shader essl --weights buffer: manifest.json, the DDS or
// KTX2 files, and decoder_weights.bin.

import { FileLoader, Loader } from "three";
import { columnsOf, readEntry } from "./entry.js";
import { NeuralTexture } from "./NeuralTexture.js";
import { threeProblem } from "./NeuralMaterial.js";
import { checkName, readLevels } from "./textureFiles.js";

const MANIFEST = "manifest.json", WEIGHTS = "decoder_weights.bin", FORMAT = "neural-texture", VERSION = 1;
const WEIGHT_TYPES = { 32: "float32", 16: "float16", 8: "int8" };  // that export.py chooses by itself

export class NeuralTextureLoader extends Loader {
    /** @param {string} url of the folder; onLoad gets a NeuralTexture */
    load(url, onLoad, onProgress, onError) {
        this._load(url.endsWith("/") ? url : `${url}/`).then(onLoad, (error) => {
            this.manager.itemError(url);
            if (onError) onError(error);
            else console.error(`NeuralTextureLoader: ${error.message}`);
        });
    }

    async _load(folder) {
        const problem = threeProblem();
        if (problem) throw new Error(problem);
        const manifest = JSON.parse(new TextDecoder().decode(await this._file(folder + MANIFEST)));
        if (manifest?.format !== FORMAT || manifest.version !== VERSION) throw new Error(`${folder}${MANIFEST}: expected ${FORMAT}, version ${VERSION}`);
        const views = [], add = (bytes) => views.push(bytes) - 1;
        try {
            const grids = [];
            for (const grid of manifest.grids) grids.push(await this._grid(folder, grid, add));
            const { decoder } = manifest, type = decoder.activation_bits === 8 ? "dots" : WEIGHT_TYPES[decoder.weight_bits ?? 32];
            const weights = { bufferView: add(new Uint8Array(await this._file(folder + WEIGHTS))), type, columns: columnsOf(decoder.layers, type) };
            const { material, dds_layout: layout = "packed", positions = "centres" } = manifest;
            const read = readEntry({ material, layout, positions, grids, decoder: { ...decoder, weights } }, (view) => views[view]);
            return new NeuralTexture(read, material.name);
        } catch (error) {
            throw new Error(`${folder}: ${error.message}`);
        }
    }

    /** A grid of the manifest as the extension has it. */
    async _grid(folder, { files, ...grid }, add) {
        const size = [grid.max_resolution].flat(), width = size[0], height = size.at(-1);
        const levels = Array.from({ length: Math.min(grid.n_levels, 15) }, (_, level) => [width >> level, height >> level]), textures = [];
        for (const file of files) {
            checkName(file);
            textures.push({ bufferView: add(readLevels(file, await this._file(folder + file), grid.format, levels)) });
        }
        return { ...grid, levels, textures };
    }

    _file(url) {
        const loader = new FileLoader(this.manager);
        loader.setPath(this.path).setResponseType("arraybuffer").setRequestHeader(this.requestHeader).setWithCredentials(this.withCredentials);
        return loader.loadAsync(url);
    }
}
