// Feature textures of blocks: uploaded as they are, or decoded here where the GPU does not take them.

const ANISOTROPY = 8;

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
    const [width, height] = entry.sizes[0], kind = gl.TEXTURE_2D_ARRAY, texture = gl.createTexture();
    const format = blockFormat(width, height, entry.storage, (name) => gl.getExtension(name)), internal = format ?? gl.RGBA8;
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(kind, texture);
    gl.texStorage3D(kind, entry.sizes.length, internal, width, height, entry.layers);
    gl.texParameteri(kind, gl.TEXTURE_MIN_FILTER, entry.filtered ? gl.LINEAR_MIPMAP_LINEAR : gl.NEAREST_MIPMAP_NEAREST);
    gl.texParameteri(kind, gl.TEXTURE_MAG_FILTER, entry.filtered ? gl.LINEAR : gl.NEAREST);  // addressing repeats by default
    if (entry.filtered) allowAnisotropy(kind, anisotropy());
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    const bytes = blobBytes(entry.blob);
    for (let layer = 0, end = 0; layer < entry.layers; layer++) entry.sizes.forEach(([w, h], mip) => {
        const blocks = bytes.subarray(end, end += blockBytes(w, h, entry.storage));
        const box = [kind, mip, 0, 0, layer, w, h, 1];
        if (format) gl.compressedTexSubImage3D(...box, internal, blocks);
        else gl.texSubImage3D(...box, gl.RGBA, gl.UNSIGNED_BYTE, decodeBlocks(blocks, w, h, entry.storage));
    });
    return { name: entry.name, texture, kind };
}
