// Blocks of texels between two colours, for GPUs that do not take them as they are: BC1, and ASTC 6x6 of the one mode that
// grids have (formats/bc1.py, formats/astc.py).

const MODE = 0x10108, MODE_BITS = 17;  // of ASTC: weights of 2 bits, 6 x 6 of them; one partition; LDR RGB direct
const TRIPLE_BITS = 19;  // three values of 4 bits and a quint each
const QUINTS = Array.from({ length: 128 }, (_, word) => quintsOf(word));
const END_POINTS = Array.from({ length: 80 }, (_, stored) => endPointOf(stored));

/**
 * By a grid's `storage`. side: in texels; size: in bytes; format: the number that WebGL's extension and three.js have for
 * it; whole: WebGL wants whole blocks in mip 0; places: of each index, from 0, the first colour, to `last`, the second;
 * read: both colours, and the function that has the index of a texel.
 */
const BLOCKS = {
    bc1: {
        side: 4, size: 8, texelFormat: "BC1_UNORM", extension: "WEBGL_compressed_texture_s3tc", format: 0x83F0, whole: true,
        last: 3, places: [0, 3, 1, 2], read: readBc1,
    },
    astc6x6: {
        side: 6, size: 16, texelFormat: "ASTC_6x6_UNORM", extension: "WEBGL_compressed_texture_astc", format: 0x93B4, whole: false,
        last: 64, places: [0, 43, 21, 64], read: readAstc,
    },
};

export const STORAGES = Object.keys(BLOCKS);

/** The format of the files of a grid. */
export const texelFormatOf = (storage) => BLOCKS[storage].texelFormat;

/** The `storage` that has this format, undefined where it is not one of blocks. */
export const storageOf = (texelFormat) => STORAGES.find((storage) => texelFormatOf(storage) === texelFormat);

/** Bytes of a level. */
export function blockBytes(width, height, storage) {
    const { side, size } = BLOCKS[storage];
    return size * Math.ceil(width / side) * Math.ceil(height / side);
}

/** What WebGL calls the format of a texture's blocks; null where they have to be decoded. has: whether it has an extension. */
export function blockFormat(width, height, storage, has) {
    const { side, whole, extension, format } = BLOCKS[storage];
    return (whole && (width % side || height % side)) || !has(extension) ? null : format;
}

/** R5 G6 B5 as three bytes, by repeating the highest bits. */
function expandColor(word) {
    const red = word >> 11, green = word >> 5 & 63, blue = word & 31;
    return [red << 3 | red >> 2, green << 2 | green >> 4, blue << 3 | blue >> 2];
}

function readBc1(bytes, at) {
    const words = [at, at + 2].map((i) => bytes[i] | bytes[i + 1] << 8), [first, second] = words.map(expandColor);
    const indices = bytes[at + 4] | bytes[at + 5] | bytes[at + 6] | bytes[at + 7];
    if (words[0] < words[1] || words[0] === words[1] && indices) throw new Error(`expected four colours, found three in block ${at / 8}`);
    return { first, second, indexOf: (texel) => bytes[at + 4 + (texel >> 2)] >> 2 * (texel & 3) & 3 };
}

function readAstc(bytes, at) {
    const bits = (first, count) => {
        const i = at + (first >> 3);
        return (bytes[i] | bytes[i + 1] << 8 | bytes[i + 2] << 16 | bytes[i + 3] << 24) >>> (first & 7) & 2 ** count - 1;
    };
    const three = (from) => {
        const triple = bits(from, TRIPLE_BITS), [q0, q1, q2] = QUINTS[triple >> 4 & 7 | triple >> 8 & 24 | triple >> 12 & 96];
        return [END_POINTS[q0 << 4 | triple & 15], END_POINTS[q1 << 4 | triple >> 7 & 15], END_POINTS[q2 << 4 | triple >> 13 & 15]];
    };
    const [r0, r1, g0] = three(MODE_BITS), [g1, b0, b1] = three(MODE_BITS + TRIPLE_BITS), first = [r0, g0, b0], second = [r1, g1, b1];
    const sum = ([r, g, b]) => r + g + b;
    if (bits(0, MODE_BITS) !== MODE || bits(MODE_BITS + 2 * TRIPLE_BITS, 1) || sum(second) < sum(first)) {  // swapped: other colours
        throw new Error(`expected the mode of ASTC that grids have, found another in block ${at / 16}`);
    }
    // weights run down from the last bit, the low bit of each first
    return { first, second, indexOf: (texel) => bytes[at + 15 - (texel >> 2)] >> 6 - 2 * (texel & 3) & 3 };
}

/** The three quints of a word of 7 bits: formats/astc.py, _quints. */
function quintsOf(word) {
    const low = word & 1, middle = word >> 1 & 3, high = word >> 5 & 3;
    if (middle === 3 && high === 0) return [4, 4, low << 2 | (word >> 4 & 1 - low) << 1 | word >> 3 & 1 - low];
    const last = middle === 3 ? 4 : high, rest = middle === 3 ? word & 24 | 3 - high << 1 | low : word & 31;
    return (rest & 7) === 5 ? [rest >> 3, 4, last] : [rest & 7, rest >> 3, last];
}

/** 0 to 255 of a quint and four bits: formats/astc.py, _expanded. */
function endPointOf(stored) {
    const [a, b, c, d] = [0, 1, 2, 3].map((bit) => stored >> bit & 1);
    const value = (stored >> 4) * 13 + (d << 8 | c << 7 | b << 6 | d << 1 | c) ^ (a ? 511 : 0);
    return 128 * a | value >> 2;
}

/** @throws {Error} of one line, where a block is none that grids have */
export function checkBlocks(bytes, storage) {
    const { size, read } = BLOCKS[storage];
    for (let at = 0; at < bytes.length; at += size) read(bytes, at);
}

/** The blocks of a level as RGBA8 texels, colours between both ends rounded to the nearest. */
export function decodeBlocks(bytes, width, height, storage) {
    const { side, size, last, places, read } = BLOCKS[storage];
    const texels = new Uint8Array(4 * width * height).fill(255), across = Math.ceil(width / side);
    for (let at = 0, block = 0; at < bytes.length; at += size, block++) {
        const { first, second, indexOf } = read(bytes, at), left = side * (block % across), top = side * Math.floor(block / across);
        const mixed = (place) => first.map((value, c) => Math.floor(((last - place) * value + place * second[c] + (last >> 1)) / last));
        const colors = places.map(mixed);
        for (let y = top; y < Math.min(top + side, height); y++) for (let x = left; x < Math.min(left + side, width); x++) {
            texels.set(colors[indexOf((y - top) * side + x - left)], 4 * (y * width + x));
        }
    }
    return texels;
}
