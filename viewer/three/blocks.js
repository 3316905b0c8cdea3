// BC1 blocks, for GPUs that do not take them as they are.

export const BLOCK = 4, BLOCK_BYTES = 8;  // texels, the side of a block
const PLACES = [0, 3, 1, 2];  // of each index, in thirds from the first colour to the second

/** Bytes of a level. */
export const blockBytes = (width, height) => BLOCK_BYTES * Math.ceil(width / BLOCK) * Math.ceil(height / BLOCK);

/** R5 G6 B5 as three bytes, by repeating the highest bits. */
function expandColor(word) {
    const red = word >> 11, green = word >> 5 & 63, blue = word & 31;
    return [red << 3 | red >> 2, green << 2 | green >> 4, blue << 3 | blue >> 2];
}

/** The colours of all four indices; thirds are rounded to the nearest. */
function blockColors(first, second) {
    return PLACES.map((place) => first.map((value, c) => Math.floor(((3 - place) * value + place * second[c] + 1) / 3)));
}

/** The blocks of a level, of four colours each, as RGBA8 texels. */
export function decodeBlocks(bytes, width, height) {
    const texels = new Uint8Array(4 * width * height).fill(255), across = Math.ceil(width / BLOCK);
    for (let at = 0, block = 0; at < bytes.length; at += BLOCK_BYTES, block++) {
        const [first, second] = [at, at + 2].map((i) => expandColor(bytes[i] | bytes[i + 1] << 8));
        const colors = blockColors(first, second), left = BLOCK * (block % across), top = BLOCK * Math.floor(block / across);
        for (let y = top; y < Math.min(top + BLOCK, height); y++) for (let x = left; x < Math.min(left + BLOCK, width); x++) {
            texels.set(colors[bytes[at + 4 + y - top] >> 2 * (x - left) & 3], 4 * (y * width + x));
        }
    }
    return texels;
}
