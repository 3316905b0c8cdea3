// The formats of blocks, see shape.BlockShape, and how planes of one lie in memory.
#pragma once

#include "vec.h"

namespace nt {

constexpr int BLOCK_FEATURES = 3;
constexpr int FIRST_WEIGHT = 2 * BLOCK_FEATURES;  // of a block's parameters, see blocks.py
constexpr int END_LANES = 8;                      // of a block in a row: R, G, B, 0 of both end points
constexpr int TOP_WEIGHT = 3;                     // the largest code of a weight

// A format. SIDE: of a block in texels; TOPS: the largest codes of R, G, B of an end point; expanded(): 0 to 255 of such a
// code, or of a vector of them, with its UP and DOWN; place(): where the code of a weight stands, LAST_PLACE the last one;
// of_white(): x / WHITE of whole numbers up to WHITE, with the bits of a division and quicker.
struct Bc1 {
    static constexpr int SIDE = 4, LAST_PLACE = 3, WHITE = 255 * LAST_PLACE;
    static constexpr int TOPS[BLOCK_FEATURES] = {31, 63, 31};
    // v << 3 | v >> 2 of 5 bits and v << 2 | v >> 4 of 6, as products
    static constexpr int UP[BLOCK_FEATURES] = {8, 4, 8}, DOWN[BLOCK_FEATURES] = {64, 16, 64};
    template <class Ints>
    static Ints expanded(Ints code, Ints up, Ints down) {
        return code * up + (code * down >> 8);
    }
    template <class Ints>
    static Ints place(Ints code) {
        return code;
    }
    template <class Floats>
    static Floats of_white(Floats x) {
        return x * (1 / float(WHITE));
    }
};

struct Astc6x6 {
    static constexpr int SIDE = 6, LAST_PLACE = 64, WHITE = 255 * LAST_PLACE;
    static constexpr int TOPS[BLOCK_FEATURES] = {79, 79, 79};
    static constexpr int UP[BLOCK_FEATURES] = {3, 3, 3}, DOWN[BLOCK_FEATURES] = {57, 57, 57};
    // blocks.expand_codes: (code + 24) >> 6 is 1 from 40 on
    template <class Ints>
    static Ints expanded(Ints code, Ints up, Ints down) {
        return code * up + ((code * down + 36 + ((code + 24) >> 6) * 272) >> 8);
    }
    // 0, 21, 43, 64
    template <class Ints>
    static Ints place(Ints code) {
        return code * 43 >> 1;
    }
    // 257 / 2^22 is 1 / WHITE less one part in 65536; the product with it is exact.
    template <class Floats>
    static Floats of_white(Floats x) {
        return x * (257 * 0x1p-22f) + x * (0x1p-16f / float(WHITE));
    }
};

// Kinds of grids. ROW: floats of a unit in each row of its training record; SUM: of a sum of its gradients.
template <int FEATURES>
struct Words {
    static constexpr int ROW = FEATURES, SUM = FEATURES;
    static constexpr bool BLOCKS = false;
    static uint32_t unit(uint32_t texel) { return texel; }
};

// A block's row: first end point, 0, second end point, 0, weights, each of all planes side by side, and zeros up to a
// whole vector. Its sum: of R of its texels, then of G, then of B, likewise.
template <class FORMAT, int P>
struct Blocks {
    using Format = FORMAT;
    static constexpr bool BLOCKS = true;
    static constexpr int PLANES = P, SIDE = Format::SIDE, TEXELS = SIDE * SIDE, PARAMETERS = FIRST_WEIGHT + TEXELS;
    static constexpr int LANES = P == 1 || V < 16 ? 8 : 16;  // of vectors over several parameters of all planes
    static constexpr int ENDS = END_LANES * P, WEIGHTS = int(align_up(TEXELS * P, LANES));  // floats in a row
    static constexpr int ROW = ENDS + WEIGHTS, SUM = BLOCK_FEATURES * WEIGHTS;
    static uint32_t unit(uint32_t texel) { return texel / TEXELS; }
};

}  // namespace nt
