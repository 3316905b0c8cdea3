// Feature textures of BC1 blocks: uploaded as they are, or decoded here where the GPU does not take them.

const BLOCK = 4, BLOCK_BYTES = 8;  // texels, the side of a block
const ANISOTROPY = 8;
const PLACES = [0, 3, 1, 2];  // of each index, in thirds from the first colour to the second

const blocksAcross = (texels) => Math.ceil(texels / BLOCK);

/** The extension for a texture's blocks; null: phones lack it, and WebGL wants whole blocks in mip 0. */
function blockFormat([width, height]) {
    return width % BLOCK || height % BLOCK ? null : gl.getExtension("WEBGL_compressed_texture_s3tc");
}

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
function decodeBlocks(bytes, width, height) {
    const texels = new Uint8Array(4 * width * height).fill(255), across = blocksAcross(width);
    for (let at = 0, block = 0; at < bytes.length; at += BLOCK_BYTES, block++) {
        const [first, second] = [at, at + 2].map((i) => expandColor(bytes[i] | bytes[i + 1] << 8));
        const colors = blockColors(first, second), left = BLOCK * (block % across), top = BLOCK * Math.floor(block / across);
        for (let y = top; y < Math.min(top + BLOCK, height); y++) for (let x = left; x < Math.min(left + BLOCK, width); x++) {
            texels.set(colors[bytes[at + 4 + y - top] >> 2 * (x - left) & 3], 4 * (y * width + x));
        }
    }
    return texels;
}

/** How long the footprint of a pixel may be beside its width. */
function anisotropy() {
    const extension = gl.getExtension("EXT_texture_filter_anisotropic");
    return extension ? Math.min(ANISOTROPY, gl.getParameter(extension.MAX_TEXTURE_MAX_ANISOTROPY_EXT)) : 1;
}

/** Let the sampler of the bound texture filter along footprints that are `ratio` times as long as wide. */
function allowAnisotropy(kind, ratio) {
    const { TEXTURE_MAX_ANISOTROPY_EXT: limit } = gl.getExtension("EXT_texture_filter_anisotropic") ?? {};
    if (limit) gl.texParameterf(kind, limit, ratio);
}

/** The grids of an entry as the layers of an array. */
function blockTexture(entry) {
    const s3tc = blockFormat(entry.sizes[0]), [width, height] = entry.sizes[0], kind = gl.TEXTURE_2D_ARRAY;
    const texture = gl.createTexture(), internal = s3tc ? s3tc.COMPRESSED_RGB_S3TC_DXT1_EXT : gl.RGBA8;
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(kind, texture);
    gl.texStorage3D(kind, entry.sizes.length, internal, width, height, entry.layers);
    gl.texParameteri(kind, gl.TEXTURE_MIN_FILTER, entry.filtered ? gl.LINEAR_MIPMAP_LINEAR : gl.NEAREST_MIPMAP_NEAREST);
    gl.texParameteri(kind, gl.TEXTURE_MAG_FILTER, entry.filtered ? gl.LINEAR : gl.NEAREST);  // addressing repeats by default
    if (entry.filtered) allowAnisotropy(kind, anisotropy());
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    const bytes = blobBytes(entry.blob);
    for (let layer = 0, end = 0; layer < entry.layers; layer++) entry.sizes.forEach(([w, h], mip) => {
        const blocks = bytes.subarray(end, end += BLOCK_BYTES * blocksAcross(w) * blocksAcross(h));
        const box = [kind, mip, 0, 0, layer, w, h, 1];
        if (s3tc) gl.compressedTexSubImage3D(...box, internal, blocks);
        else gl.texSubImage3D(...box, gl.RGBA, gl.UNSIGNED_BYTE, decodeBlocks(blocks, w, h));
    });
    return { name: entry.name, texture, kind };
}
