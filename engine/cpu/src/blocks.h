// Grids of BC1 blocks, see blocks.py: features of a texel from its block's parameters, and gradients back to those.
#pragma once

#include <algorithm>

#include "texels.h"

namespace nt {

constexpr int BLOCK_FEATURES = 3;
using four = Lanes<4>::floats;
using eight = Lanes<8>::floats;

// Both end points as in a record's row: R, G, B, 0.
constexpr eight END_TOP = {31, 63, 31, 0, 31, 63, 31, 0};  // largest codes
constexpr eight END_STEP = {1 / 31.0f, 1 / 63.0f, 1 / 31.0f, 0, 1 / 31.0f, 1 / 63.0f, 1 / 31.0f, 0};
constexpr Lanes<8>::uints END_PARAMETER = {0, 1, 2, 2, 3, 4, 5, 5};  // which parameter of the block each lane is
// v << 3 | v >> 2 of 5 bits and v << 2 | v >> 4 of 6, as products: v * UP + (v * DOWN >> 8)
constexpr Lanes<8>::ints EXPAND_UP = {8, 4, 8, 0, 8, 4, 8, 0}, EXPAND_DOWN = {64, 16, 64, 0, 64, 16, 64, 0};

// feature = (start + code * span) / 765 - 0.5, where `code` is that of the texel's weight; unrounded, without the latter.
struct Ends {
    four start, span;
};

template <int W>
inline typename Lanes<W>::floats uniform_noise(typename Lanes<W>::uints index, const Noise& noise) {
    const auto hash = hash24<typename Lanes<W>::uints>(index, noise.key);
    return __builtin_convertvector((typename Lanes<W>::ints)hash, typename Lanes<W>::floats) * 0x1p-24f - 0.5f;
}

template <Rounding ROUNDING>
inline Ends block_ends(eight p, uint32_t block, const Noise& noise) {
    if (ROUNDING == Rounding::noisy)
        p += uniform_noise<8>(END_PARAMETER + block * uint32_t(BLOCK_PARAMETERS), noise) * (END_STEP * noise.step);
    if (ROUNDING != Rounding::none) {
        eight x = (p + 0.5f) * END_TOP + 0.5f;
        x = x > 0 ? x : eight{};  // NaN becomes 0
        x = x < END_TOP ? x : END_TOP;
        const auto code = __builtin_convertvector(x, Lanes<8>::ints);
        p = __builtin_convertvector(code * EXPAND_UP + (code * EXPAND_DOWN >> 8), eight);
    }
    float lanes[8];
    store<8>(lanes, p);
    const four first = load<4>(lanes), second = load<4>(lanes + 4);
    return {ROUNDING == Rounding::none ? first : first * 3.0f, second - first};
}

// Codes 0 .. 3 of weights as floats; unrounded, from 0 to 1. index: which parameters of the grid they are.
template <Rounding ROUNDING, int W>
inline typename Lanes<W>::floats weight_codes(typename Lanes<W>::floats w, typename Lanes<W>::uints index,
                                              const Noise& noise) {
    using floats = typename Lanes<W>::floats;
    if (ROUNDING == Rounding::none) return w + 0.5f;
    if (ROUNDING == Rounding::noisy) w += uniform_noise<W>(index, noise) * (1 / 3.0f * noise.step);
    floats x = (w + 0.5f) * 3.0f + 0.5f;
    x = x > 0 ? x : floats{};
    x = x < 3.0f ? x : floats{} + 3.0f;
    return __builtin_convertvector(__builtin_convertvector(x, typename Lanes<W>::ints), floats);
}

// sources, noises: one for each of the grid's planes.
template <Rounding ROUNDING, bool LEARNED, class Source>
void gather_blocks(const Grid& grid, const Source* sources, const Noise* noises, const Corner* corners,
                   long corner_stride, long n, float* inputs, long input_stride) {
    constexpr float SCALE = ROUNDING == Rounding::none ? 1 : 1 / 765.0f, SHIFT = ROUNDING == Rounding::none ? 0 : 0.5f;
    for (long s = 0; s < n; s++) {
        const Corner& corner = corners[s * corner_stride];
        const Corner& later = corners[(s + AHEAD < n ? s + AHEAD : s) * corner_stride];
        for (int plane = 0; plane < grid.planes; plane++) {
            sources[plane].ahead_block(later.texel[0] / BLOCK_TEXELS);
            sources[plane].ahead_block(later.texel[3] / BLOCK_TEXELS);
        }
        float* to = inputs + s * input_stride + grid.column;
        Lanes<4>::uints block, place;
        memcpy(&block, corner.texel, sizeof block);
        place = block % BLOCK_TEXELS;
        block /= BLOCK_TEXELS;
        for (int plane = 0; plane < grid.planes; plane++) {
            const Source& source = sources[plane];
            const Noise& noise = noises[plane];
            const four codes = weight_codes<ROUNDING, 4>(source.weights(block, place),
                                                         block * BLOCK_PARAMETERS + FIRST_WEIGHT + place, noise);
            Ends ends{};
            four sum{};
            for (int i = 0; i < 4; i++) {
                if (i == 0 || block[i] != block[i - 1])
                    ends = block_ends<ROUNDING>(source.ends(block[i]), block[i], noise);
                const four feature = (ends.start + ends.span * codes[i]) * SCALE - SHIFT;
                if (LEARNED)
                    for (int f = 0; f < BLOCK_FEATURES; f++) *to++ = feature[f];
                else
                    sum += feature * corner.weight(i);
            }
            if (!LEARNED)
                for (int f = 0; f < BLOCK_FEATURES; f++) *to++ = sum[f];
        }
    }
}

// The inputs from a grid; sources, noises: one for each of its planes.
template <class Source>
inline void gather_planes(const Grid& grid, bool quantized, const Source* sources, const Noise* noises,
                          const Corner* corners, long corner_stride, long n, float* inputs, long input_stride) {
    const auto call = [&](auto kind, auto rounding, auto learned) {
        using Kind = decltype(kind);
        constexpr Rounding ROUNDING = decltype(rounding)::value;
        constexpr bool LEARNED = decltype(learned)::value;
        if constexpr (Kind::BLOCKS)
            gather_blocks<ROUNDING, LEARNED>(grid, sources, noises, corners, corner_stride, n, inputs, input_stride);
        else
            gather<Kind::ROW, ROUNDING, LEARNED>(grid, *sources, *noises, corners, corner_stride, n, inputs,
                                                 input_stride);
    };
    const auto with_rounding = [&](auto kind, auto learned) {
        if (!quantized)
            call(kind, std::integral_constant<Rounding, Rounding::none>(), learned);
        else if (noises->step > 0)
            call(kind, std::integral_constant<Rounding, Rounding::noisy>(), learned);
        else
            call(kind, std::integral_constant<Rounding, Rounding::plain>(), learned);
    };
    with_kind(grid, [&](auto kind) {
        if (grid.learned)
            with_rounding(kind, std::true_type());
        else
            with_rounding(kind, std::false_type());
    });
}

// The same for a grid of one plane.
template <class Source>
inline void gather_grid(const Grid& grid, bool quantized, const Source& source, const Noise& noise,
                        const Corner* corners, long corner_stride, long n, float* inputs, long input_stride) {
    gather_planes(grid, quantized, &source, &noise, corners, corner_stride, n, inputs, input_stride);
}

// A block's row in registers: end points, then the weights of the upper and the lower half.
struct BlockRow {
    eight part[3];
};

// The sums of the lanes of three vectors, and 0.
inline four lane_sums(eight a, eight b, eight c) {
    float lanes[3][8], halves[3][4];
    store<8>(lanes[0], a);
    store<8>(lanes[1], b);
    store<8>(lanes[2], c);
    for (int f = 0; f < 3; f++) store<4>(halves[f], load<4>(lanes[f]) + load<4>(lanes[f] + 4));
    four sum{};
    for (int i = 0; i < 4; i++) sum += four{halves[0][i], halves[1][i], halves[2][i], 0};
    return sum;
}

// The gradient of a block's parameters from that of the features of its texels, see Blocks::SUM. Rounding passes it
// unchanged; factors are those after rounding, as in blocks.py.
template <Rounding ROUNDING>
inline BlockRow block_gradient(const BlockRow& row, uint32_t block, const Noise& noise, const float* of_texels) {
    constexpr float CODES = ROUNDING == Rounding::none ? 1 : 3;
    const four span = block_ends<ROUNDING>(row.part[0], block, noise).span * (ROUNDING == Rounding::none ? 1 : 1 / 255.0f);
    eight all[BLOCK_FEATURES] = {}, second[BLOCK_FEATURES] = {};
    BlockRow found{};
    for (int half = 0; half < 2; half++) {
        const auto index = block * BLOCK_PARAMETERS + FIRST_WEIGHT + 8 * half + Lanes<8>::uints{0, 1, 2, 3, 4, 5, 6, 7};
        const eight share = weight_codes<ROUNDING, 8>(row.part[1 + half], index, noise) * (1 / CODES);
        for (int f = 0; f < BLOCK_FEATURES; f++) {
            const eight gradient = load<8>(of_texels + BLOCK_TEXELS * f + 8 * half);
            all[f] += gradient;
            second[f] += gradient * share;
            found.part[1 + half] += gradient * span[f];
        }
    }
    float ends[8];
    const four of_second = lane_sums(second[0], second[1], second[2]);
    store<4>(ends, lane_sums(all[0], all[1], all[2]) - of_second);
    store<4>(ends + 4, of_second);
    found.part[0] = load<8>(ends);
    return found;
}

inline BlockRow block_gradient(bool quantized, const BlockRow& row, uint32_t block, const Noise& noise,
                               const float* of_texels) {
    if (!quantized) return block_gradient<Rounding::none>(row, block, noise, of_texels);
    if (noise.step > 0) return block_gradient<Rounding::noisy>(row, block, noise, of_texels);
    return block_gradient<Rounding::plain>(row, block, noise, of_texels);
}

}  // namespace nt
