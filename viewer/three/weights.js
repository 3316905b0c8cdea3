// The weights of a network as a GPU takes them: shaders/weights.py.

/** IEEE 754 binary16 as a number. */
function halfNumber(bits) {
    const exponent = bits >> 10 & 31, mantissa = bits & 1023, sign = bits >> 15 ? -1 : 1;
    return sign * (exponent ? (1024 + mantissa) * 2 ** (exponent - 25) : mantissa * 2 ** -24);
}

/**
 * The weights as float32, four numbers a column, in rows of `width` columns; the words of a network of whole numbers as
 * they are. `layers`: blocks of four rows, and columns of each, of the matrices.
 */
export function weightNumbers({ bytes, kind, columns, layers, width }) {
    const { buffer, byteOffset: start, byteLength: size } = bytes;
    if (kind === "dots") return new Uint32Array(buffer, start, size / 4);
    if (kind === "float32") return new Float32Array(buffer, start, size / 4);
    if (kind === "float16") return Float32Array.from(new Uint16Array(buffer, start, size / 2), halfNumber);
    const numbers = new Float32Array(4 * width * Math.ceil(columns / width));
    const codes = new Int8Array(buffer, start, 4 * columns), scales = new Float32Array(buffer, start + 4 * columns, size / 4 - columns);
    let at = 0, row = 0;
    for (const [count, inputs] of layers) for (let block = 0; block < count; block++, row += 4) {
        for (const end = at + 4 * inputs; at < end; at++) numbers[at] = codes[at] * scales[row + at % 4];
    }
    return numbers;
}
