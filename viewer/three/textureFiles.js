// The trained levels of a grid's file, DDS or KTX2, as the extension has them: one after the other, the finest first.

import { levelBytes } from "./entry.js";

const FILE_NAME = /^[a-z0-9_]{1,40}\.(dds|ktx2)$/;
const DDS_HEADER = 148, DXGI_FORMATS = { R8_UNORM: 61, R8G8_UNORM: 49, R8G8B8A8_UNORM: 28, BC1_UNORM: 71 };
const KTX2_HEADER = 80, KTX2_START = "«KTX 20»\r\n\x1a\n", KTX2_FORMATS = { ASTC_6x6_UNORM: 165 };  // VkFormat

/** @throws {Error} where a name of a manifest is none of a grid's file */
export function checkName(file) {
    if (!FILE_NAME.test(file)) throw new Error(`expected names of DDS and KTX2 files, found ${JSON.stringify(file)}`);
}

/**
 * @param {string} file its name
 * @param {ArrayBuffer} data
 * @param {string} format of its texels
 * @param {number[][]} levels width and height of each, the finest first
 * @throws {Error} of one line, where it is another file or is cut short
 */
export function readLevels(file, data, format, levels) {
    const ktx2 = file.endsWith(".ktx2");
    if (data.byteLength < (ktx2 ? KTX2_HEADER + 24 * levels.length : DDS_HEADER)) throw new Error(`${file}: expected a header, found ${data.byteLength} bytes`);
    return ktx2 ? readKtx2(file, data, format, levels) : readDds(file, data, format, levels);
}

function compare(file, what, found, expected) {
    if (found.some((value, i) => value !== expected[i])) throw new Error(`${file}: expected ${what} ${expected}, found ${found}`);
}

function readDds(file, data, format, levels) {
    const header = new Uint32Array(data, 0, DDS_HEADER / 4);
    compare(file, "width, height and format", [header[4], header[3], header[32]], [...levels[0], DXGI_FORMATS[format]]);
    return new Uint8Array(data).subarray(DDS_HEADER, DDS_HEADER + levelBytes(levels, format));
}

function readKtx2(file, data, format, levels) {
    const header = new Uint32Array(data, 12, 9), index = new DataView(data, KTX2_HEADER, 24 * levels.length), start = new Uint8Array(data, 0, 12);
    if (String.fromCharCode(...start) !== KTX2_START) throw new Error(`${file}: expected a KTX2 file, found something else`);
    const fields = [...header.subarray(0, 7), header[8]];
    compare(file, "format, word, width, height, depth, layers, faces, scheme", fields, [KTX2_FORMATS[format], 1, ...levels[0], 0, 0, 1, 0]);
    const found = new Uint8Array(levelBytes(levels, format));
    levels.reduce((at, level, mip) => {
        const size = levelBytes([level], format), [from, stored] = [0, 8].map((field) => Number(index.getBigUint64(24 * mip + field, true)));
        if (mip >= header[7] || stored !== size || from + size > data.byteLength) throw new Error(`${file}: expected ${size} bytes of mip ${mip}, found ${stored} at ${from}`);
        found.set(new Uint8Array(data, from, size), at);
        return at + size;
    }, 0);
    return found;
}
