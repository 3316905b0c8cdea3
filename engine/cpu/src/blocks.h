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

// feature = (start + code * span) * scale - shift, where `code` is that of the texel's weight.
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

// Codes 0 .. 3 of W weights from `place` on as floats; unrounded, from 0 to 1.
template <Rounding ROUNDING, int W>
inline typename Lanes<W>::floats weight_codes(typename Lanes<W>::floats w, uint32_t block, int place, const Noise& noise) {
    using floats = typename Lanes<W>::floats;
    if (ROUNDING == Rounding::none) return w + 0.5f;
    if (ROUNDING == Rounding::noisy) {
        typename Lanes<W>::uints index{};
        for (int i = 0; i < W; i++) index[i] = block * uint32_t(BLOCK_PARAMETERS) + FIRST_WEIGHT + uint32_t(place + i);
        w += uniform_noise<W>(index, noise) * (1 / 3.0f * noise.step);
    }
    floats x = (w + 0.5f) * 3.0f + 0.5f;
    x = x > 0 ? x : floats{};
    x = x < 3.0f ? x : floats{} + 3.0f;
    return __builtin_convertvector(__builtin_convertvector(x, typename Lanes<W>::ints), floats);
}

template <Rounding ROUNDING, class Source>
inline four block_feature(const Source& source, uint32_t texel, const Ends& ends, const Noise& noise) {
    const uint32_t block = texel / BLOCK_TEXELS;
    const int place = int(texel % BLOCK_TEXELS);
    const Lanes<1>::floats weight = {source.weight(block, place)};
    const float code = weight_codes<ROUNDING, 1>(weight, block, place, noise)[0];
    const four whole = ends.start + ends.span * code;
    return ROUNDING == Rounding::none ? whole : whole * (1 / 765.0f) - 0.5f;
}

template <Rounding ROUNDING, bool LEARNED, class Source>
void gather_blocks(const Grid& grid, const Source& source, const Noise& noise, const Corner* corners,
                   long corner_stride, long n, float* inputs, long input_stride) {
    for (long s = 0; s < n; s++) {
        const Corner& corner = corners[s * corner_stride];
        const Corner& later = corners[(s + AHEAD < n ? s + AHEAD : s) * corner_stride];
        source.ahead_block(later.texel[0] / BLOCK_TEXELS);
        source.ahead_block(later.texel[3] / BLOCK_TEXELS);
        float* to = inputs + s * input_stride + grid.column;
        uint32_t current = ~0u;
        Ends ends{};
        four sum{};
        for (int i = 0; i < 4; i++) {
            const uint32_t block = corner.texel[i] / BLOCK_TEXELS;
            if (block != current) ends = block_ends<ROUNDING>(source.ends(current = block), block, noise);
            const four feature = block_feature<ROUNDING>(source, corner.texel[i], ends, noise);
            if (LEARNED)
                for (int f = 0; f < BLOCK_FEATURES; f++) to[i * BLOCK_FEATURES + f] = feature[f];
            else
                sum += feature * corner.weight(i);
        }
        if (!LEARNED)
            for (int f = 0; f < BLOCK_FEATURES; f++) to[f] = sum[f];
    }
}

template <class Source>
inline void gather_grid(const Grid& grid, bool quantized, const Source& source, const Noise& noise,
                        const Corner* corners, long corner_stride, long n, float* inputs, long input_stride) {
    const auto call = [&](auto kind, auto rounding, auto learned) {
        using Kind = decltype(kind);
        constexpr Rounding ROUNDING = decltype(rounding)::value;
        constexpr bool LEARNED = decltype(learned)::value;
        if constexpr (Kind::BLOCKS)
            gather_blocks<ROUNDING, LEARNED>(grid, source, noise, corners, corner_stride, n, inputs, input_stride);
        else
            gather<Kind::ROW, ROUNDING, LEARNED>(grid, source, noise, corners, corner_stride, n, inputs, input_stride);
    };
    const auto with_rounding = [&](auto kind, auto learned) {
        if (!quantized)
            call(kind, std::integral_constant<Rounding, Rounding::none>(), learned);
        else if (noise.step > 0)
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

// The gradient of a block's parameters, in a record's row, from that of the features of its texels, (16, 4).
// Rounding passes it unchanged; factors are those after rounding, as in blocks.py.
template <Rounding ROUNDING>
inline void block_gradient(const float* row, uint32_t block, const Noise& noise, const float* of_texels, float* to) {
    constexpr float CODES = ROUNDING == Rounding::none ? 1 : 3;
    const Ends ends = block_ends<ROUNDING>(load<8>(row), block, noise);
    const four span = ROUNDING == Rounding::none ? ends.span : ends.span * (1 / 255.0f);
    four all{}, second{};
    for (int half = 0; half < 2; half++) {
        const eight share = weight_codes<ROUNDING, 8>(load<8>(row + 8 + 8 * half), block, 8 * half, noise) * (1 / CODES);
        for (int t = 0; t < 8; t++) {
            const four gradient = load<4>(of_texels + 4 * (8 * half + t));
            all += gradient;
            second += gradient * share[t];
            const four product = gradient * span;
            to[8 + 8 * half + t] = product[0] + product[1] + product[2];
        }
    }
    store<4>(to, all - second);
    store<4>(to + 4, second);
}

inline void block_gradient(bool quantized, const float* row, uint32_t block, const Noise& noise, const float* of_texels,
                           float* to) {
    if (!quantized)
        block_gradient<Rounding::none>(row, block, noise, of_texels, to);
    else if (noise.step > 0)
        block_gradient<Rounding::noisy>(row, block, noise, of_texels, to);
    else
        block_gradient<Rounding::plain>(row, block, noise, of_texels, to);
}

}  // namespace nt
