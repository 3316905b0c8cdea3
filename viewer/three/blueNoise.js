// A table of blue noise by the void-and-cluster method (Ulichney 1993): each texel has its rank, and the texels below any
// rank are spread evenly over the torus.

import { DataTexture, NearestFilter, RedFormat, RepeatWrapping } from "three";

export const SIDE = 64;
const SIGMA = 1.5, FIRST_SHARE = 0.1;
let table = null;

/** A texture of SIDE x SIDE values in [0, 1], made once. */
export function blueNoise() {
    if (table) return table;
    const count = SIDE * SIDE, bytes = voidAndCluster(SIDE).map((rank) => Math.floor(256 * rank / count));
    table = new DataTexture(Uint8Array.from(bytes), SIDE, SIDE, RedFormat);
    table.name = "neural-texture-three blue noise";
    table.wrapS = table.wrapT = RepeatWrapping;
    table.minFilter = table.magFilter = NearestFilter;
    table.needsUpdate = true;
    return table;
}

/** The rank of each of side x side texels, row by row. */
export function voidAndCluster(side) {
    const count = side * side, weights = gaussian(side), energy = new Float64Array(count), filled = new Uint8Array(count);
    const put = (at, sign) => {
        filled[at] = sign > 0 ? 1 : 0;
        const x0 = at % side, y0 = (at - x0) / side;
        for (let y = 0, i = 0; y < side; y++) {
            const row = (y - y0 + side) % side * side;
            for (let x = 0; x < side; x++, i++) energy[i] += sign * weights[row + (x - x0 + side) % side];
        }
    };
    const find = (value, sign) => {  // the tightest cluster among filled texels, or the largest void among empty ones
        let best = -1;
        for (let i = 0; i < count; i++) if (filled[i] === value && (best < 0 || sign * (energy[i] - energy[best]) > 0)) best = i;
        return best;
    };
    let state = 1;  // a generator of Lehmer's: the same table everywhere
    const random = () => (state = state * 48271 % 2147483647) / 2147483647;
    const first = Math.max(1, Math.round(FIRST_SHARE * count)), ranks = new Int32Array(count);
    for (let placed = 0; placed < first;) {
        const at = Math.floor(random() * count);
        if (!filled[at]) { put(at, 1); placed++; }
    }
    for (;;) {  // move the tightest clusters into the largest voids
        const cluster = find(1, 1);
        put(cluster, -1);
        const empty = find(0, -1);
        put(empty, 1);
        if (empty === cluster) break;
    }
    const start = Array.from(filled.keys()).filter((at) => filled[at]);
    for (let rank = first - 1; rank >= 0; rank--) {
        const cluster = find(1, 1);
        put(cluster, -1);
        ranks[cluster] = rank;
    }
    start.forEach((at) => put(at, 1));
    for (let rank = first; rank < count; rank++) {
        const empty = find(0, -1);
        put(empty, 1);
        ranks[empty] = rank;
    }
    return Array.from(ranks);
}

function gaussian(side) {
    const weights = new Float64Array(side * side);
    for (let y = 0, i = 0; y < side; y++) for (let x = 0; x < side; x++, i++) {
        const dx = Math.min(x, side - x), dy = Math.min(y, side - y);
        weights[i] = Math.exp(-(dx * dx + dy * dy) / (2 * SIGMA * SIGMA));
    }
    return weights;
}
