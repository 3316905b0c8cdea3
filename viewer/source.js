// The source maps in the page: one LOD. The coarser ones are averaged here as maps/mips.py averages them.

const toLinear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const toSrgb = (c) => c <= 0.0031308 ? c * 12.92 : 1.055 * c ** (1 / 2.4) - 0.055;

/** Half as many rows by area averages (_halve_rows in maps/mips.py); a row has `stride` values. */
function halveRows(values, rows, stride) {
    if (rows === 1) return values;
    const half = rows >> 1, result = new Float32Array(half * stride), odd = rows % 2;
    for (let j = 0; j < half; j++) {
        const shares = odd ? [1 - j / half, 1, (j + 1) / half].map((share) => share * half / rows) : [0.5, 0.5];
        for (let k = 0; k < stride; k++) {
            shares.forEach((share, i) => { result[j * stride + k] += share * values[(2 * j + i) * stride + k]; });
        }
    }
    return result;
}

function transpose(values, width, height, channels) {
    const result = new Float32Array(values.length);
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) for (let c = 0; c < channels; c++) {
        result[(x * height + y) * channels + c] = values[(y * width + x) * channels + c];
    }
    return result;
}

/** {width, height, codes} of the given LOD and all coarser ones; kind "srgb" is averaged in linear light, "normal" is normalised. */
function sourceChain(codes, width, height, channels, kind) {
    const levels = [{ width, height, codes }];
    let values = Float32Array.from(codes, kind === "srgb" ? (code) => toLinear(code / 255) : (code) => code);
    while (width > 1 || height > 1) {
        values = halveRows(values, height, width * channels);
        height = Math.max(1, height >> 1);
        values = transpose(values, width, height, channels);
        values = halveRows(values, width, height * channels);
        width = Math.max(1, width >> 1);
        values = transpose(values, height, width, channels);
        const shown = Float32Array.from(values, kind === "srgb" ? (value) => toSrgb(value) * 255 : (value) => value);
        if (kind === "normal") {
            for (let i = 0; i < shown.length; i += 3) {
                const vector = [0, 1, 2].map((k) => shown[i + k] * 2 / 255 - 1);
                const size = Math.sqrt(dot(vector, vector));
                for (let k = 0; k < 3; k++) shown[i + k] = ((size > 1e-6 ? vector[k] / size : +(k === 2)) * 0.5 + 0.5) * 255;
            }
        }
        levels.push({ width, height, codes: Uint8Array.from(shown, (value) => Math.min(255, Math.max(0, Math.floor(value + 0.5)))) });
    }
    return levels;
}

/** The RGBA pixels of an image file, read through the GPU: a 2D canvas may change them. */
async function imagePixels(bytes) {
    const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
    return await webgl.imagePixels(await unlessLost(createImageBitmap(new Blob([bytes], { type: "image/webp" }), options)));
}

/** {width, height, layers} of every mip; layers[k] holds channels 4 k .. 4 k + 3 as RGBA bytes, zero without a source. */
async function sourceLevels(material) {
    const source = material.source, width = source ? source.width : 1, height = source ? source.height : 1;
    const mips = Math.floor(Math.log2(Math.max(width, height))) + 1;
    const levels = Array.from({ length: mips }, (_, mip) => {
        const [w, h] = [Math.max(1, width >> mip), Math.max(1, height >> mip)];
        return { width: w, height: h, layers: [0, 1, 2].map(() => new Uint8Array(4 * w * h)) };
    });
    for (const entry of source ? source.maps : []) {
        const [, channels] = MAPS[MAP_NAMES.indexOf(entry.map)], top = 2 ** source.bits - 1;
        const pixels = await imagePixels(blobBytes(entry.blob));
        const codes = new Uint8Array(width * height * channels);
        for (let i = 0; i < codes.length; i++) {
            codes[i] = Math.round(pixels[4 * Math.floor(i / channels) + i % channels] * 255 / top);
        }
        const kind = entry.map === "normal" ? "normal" : entry.srgb ? "srgb" : "linear";
        const first = FIRST_CHANNEL[MAP_NAMES.indexOf(entry.map)];
        sourceChain(codes, width, height, channels, kind).forEach((level, mip) => {
            for (let c = 0; c < channels; c++) {
                const bytes = levels[mip].layers[(first + c) >> 2];
                for (let i = 0; i < level.width * level.height; i++) bytes[4 * i + (first + c) % 4] = level.codes[i * channels + c];
            }
        });
    }
    return levels;
}
