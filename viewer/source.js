// The source maps in the page: one LOD. The coarser ones are averaged here as maps/mips.py averages them.

const LINEAR = Float32Array.from({ length: 256 }, (_, code) => code <= 10 ? code / 255 / 12.92 : ((code / 255 + 0.055) / 1.055) ** 2.4);
const toSrgb = (c) => c <= 0.0031308 ? c * 12.92 : 1.055 * c ** (1 / 2.4) - 0.055;

/**
 * Area averages of pairs along one axis (_halve_rows in maps/mips.py). `values` are (outer, size, inner) numbers. An odd
 * size 2 m + 1 becomes m averages of 2 + 1 / m each.
 */
function halve(values, outer, size, inner) {
    if (size === 1) return values;
    const half = size >> 1, odd = size % 2, result = new Float32Array(outer * half * inner);
    for (let o = 0; o < outer; o++) for (let j = 0; j < half; j++) {
        const share = odd ? half / size : 0.5, first = odd ? share * (1 - j / half) : share, last = share * (j + 1) / half;
        let from = (o * size + 2 * j) * inner, to = (o * half + j) * inner;
        for (const end = to + inner; to < end; from++, to++) {
            result[to] = first * values[from] + share * values[from + inner] + (odd ? last * values[from + 2 * inner] : 0);
        }
    }
    return result;
}

/** {width, height, codes} of the given LOD and all coarser ones; kind "srgb" is averaged in linear light, "normal" is normalised. */
function sourceChain(codes, width, height, channels, kind) {
    const levels = [{ width, height, codes }];
    let values = new Float32Array(codes);
    if (kind === "srgb") for (let i = 0; i < codes.length; i++) values[i] = LINEAR[codes[i]];
    while (width > 1 || height > 1) {
        values = halve(values, 1, height, width * channels);
        height = Math.max(1, height >> 1);
        values = halve(values, height, width, channels);
        width = Math.max(1, width >> 1);
        const shown = values.slice();
        if (kind === "srgb") for (let i = 0; i < shown.length; i++) shown[i] = toSrgb(values[i]) * 255;
        if (kind === "normal") {
            for (let i = 0; i < shown.length; i += 3) {
                const x = shown[i] * 2 / 255 - 1, y = shown[i + 1] * 2 / 255 - 1, z = shown[i + 2] * 2 / 255 - 1;
                const size = Math.sqrt(x * x + y * y + z * z), unit = size > 1e-6 ? [x / size, y / size, z / size] : [0, 0, 1];
                for (let k = 0; k < 3; k++) shown[i + k] = (unit[k] * 0.5 + 0.5) * 255;
            }
        }
        const rounded = new Uint8Array(shown.length);
        for (let i = 0; i < shown.length; i++) rounded[i] = Math.min(255, Math.max(0, Math.floor(shown[i] + 0.5)));
        levels.push({ width, height, codes: rounded });
    }
    return levels;
}

/** The RGBA pixels of an image file, read through the GPU: a 2D canvas may change them. */
async function imagePixels(bytes) {
    const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
    return await webgl.imagePixels(await unlessLost(createImageBitmap(new Blob([bytes], { type: "image/webp" }), options)));
}

/** The {width, height, codes} of one map's LODs: those of the page, or averages of the finest where it has no others. */
async function mapLevels(entry, levels, channels) {
    const images = await Promise.all(entry.blobs.map(async (blob) => {
        const pixels = await imagePixels(blobBytes(blob)), codes = new Uint8Array(pixels.length / 4 * channels);
        for (let i = 0, at = 0; i < pixels.length; i += 4) for (let c = 0; c < channels; c++) codes[at++] = pixels[i + c];
        return codes;
    }));
    const [{ width, height }] = levels, kind = entry.map === "normal" ? "normal" : entry.srgb ? "srgb" : "linear";
    if (images.length === 1) return sourceChain(images[0], width, height, channels, kind);
    return images.map((codes, mip) => ({ ...levels[mip], codes }));
}

/** {width, height, layers} of every mip; layers[k] holds channels 4 k .. 4 k + 3 as RGBA bytes, zero without a source. */
async function sourceLevels(material) {
    const source = material.source, width = source ? source.width : 1, height = source ? source.height : 1;
    const mips = Math.floor(Math.log2(Math.max(width, height))) + 1;
    const levels = Array.from({ length: mips }, (_, mip) => {
        const [w, h] = [Math.max(1, width >> mip), Math.max(1, height >> mip)];
        return { width: w, height: h, layers: Array.from({ length: partsOf(material) }, () => new Uint8Array(4 * w * h)) };
    });
    for (const entry of source ? source.maps : []) {
        const map = mapNames(material).indexOf(entry.map), [, channels] = MAPS[map], first = FIRST_CHANNEL[map];
        (await mapLevels(entry, levels, channels)).forEach((level, mip) => {
            for (let c = 0; c < channels; c++) {
                const bytes = levels[mip].layers[(first + c) >> 2];
                for (let i = 0; i < level.width * level.height; i++) bytes[4 * i + (first + c) % 4] = level.codes[i * channels + c];
            }
        });
    }
    return levels;
}
