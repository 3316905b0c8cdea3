// Features of grids: the texels around a sample, and their rounded features, from a model or from training records.
#pragma once

#include <cmath>
#include <type_traits>

#include "random.h"
#include "shape.h"
#include "vec.h"

namespace nt {

// The four texels around a sample, in the order (0,0) (1,0) (0,1) (1,1), and its distance from the first, in texels.
struct Corner {
    uint32_t texel[4];
    float x, y;
    uint16_t row[2];  // of texels 0 and 1, of texels 2 and 3

    float weight(int i) const { return (i < 2 ? 1 - y : y) * (i % 2 ? x : 1 - x); }
};

inline int floor_int(float x) {
    const int i = static_cast<int>(x);
    return i - (x < static_cast<float>(i));
}

// p = uv * R - 0.5 with repeat addressing; u and v in [0, 1].
inline Corner locate(const Level& level, float u, float v) {
    const int r = level.resolution;
    const float px = u * static_cast<float>(r) - 0.5f, py = v * static_cast<float>(r) - 0.5f;
    const int left = floor_int(px), top = floor_int(py);
    const uint32_t x0 = left < 0 ? r - 1 : left, x1 = left + 1 == r ? 0 : left + 1;
    const uint32_t y0 = top < 0 ? r - 1 : top, y1 = top + 1 == r ? 0 : top + 1;
    const uint32_t row0 = level.offset + y0 * r, row1 = level.offset + y1 * r;
    return {{row0 + x0, row0 + x1, row1 + x0, row1 + x1},
            px - static_cast<float>(left),
            py - static_cast<float>(top),
            {uint16_t(y0), uint16_t(y1)}};
}

// Uniform noise of +- half of `step` on each parameter before rounding; step 0: none.
struct Noise {
    float step;
    uint32_t key;
};

// --- where parameters come from ------------------------------------------------------------------------------------

// Parameters as the model holds them.
struct Stored {
    const float* parameters;

    template <int F>
    void ahead(uint32_t) const {}

    template <int F, int W>
    typename Lanes<W>::floats fetch(uint32_t texel, int first) const {
        return load<W>(parameters + size_t(texel) * F + first);
    }
};

constexpr int DRIFT_SIZE = NT_DRIFT_SIZE;

// Training records: per texel four rows of F floats, parameter | direction | moment 1 | moment 2, of iteration
// stamps[texel]. The texel has had no gradient since, so Adam has moved the parameter along `direction` by a distance
// that depends on the stamp alone: drift[stamp % DRIFT_SIZE].
struct Tracked {
    const float* records;
    const int32_t* stamps;
    const float* drift;
    float limit;  // features stay within +- limit

    // Prefetches a texel that is needed soon.
    template <int F>
    void ahead(uint32_t texel) const {
        prefetch_next(records + size_t(texel) * (4 * F));
        prefetch_next(stamps + texel);
    }

    template <int F, int W>
    typename Lanes<W>::floats fetch(uint32_t texel, int first) const {
        const float* record = records + size_t(texel) * (4 * F) + first;
        auto value = load<W>(record) - load<W>(record + F) * drift[stamps[texel] & (DRIFT_SIZE - 1)];
        value = value > limit ? (typename Lanes<W>::floats{} + limit) : value;
        return value < -limit ? (typename Lanes<W>::floats{} - limit) : value;
    }
};

// --- rounding ------------------------------------------------------------------------------------------------------

template <int W>
inline typename Lanes<W>::floats round_feature(typename Lanes<W>::floats x, int bits) {
    const float n = static_cast<float>(1 << bits);
    const auto zero = typename Lanes<W>::floats{};
    x = x * n + 0.5f * n;
    x = x > zero ? x : zero;  // NaN becomes 0
    x = x < n - 1 ? x : zero + (n - 1);
    const auto code = __builtin_convertvector(__builtin_convertvector(x, typename Lanes<W>::ints),
                                              typename Lanes<W>::floats);
    return (code - 0.5f * (n - 1)) * (1 / n);
}

enum class Rounding { none, plain, noisy };

// W features of a texel from `first` on, as the exported file holds them.
template <int F, int W, Rounding ROUNDING, class Source>
inline typename Lanes<W>::floats feature(const Source& source, uint32_t texel, int first, int bits, const Noise& noise) {
    using floats = typename Lanes<W>::floats;
    using uints = typename Lanes<W>::uints;
    floats value = source.template fetch<F, W>(texel, first);
    if (ROUNDING == Rounding::none) return value;
    if (ROUNDING == Rounding::noisy) {
        uints index{};
        for (int i = 0; i < W; i++) index[i] = i;
        const uints hash = hash24<uints>(index + (texel * uint32_t(F) + first), noise.key);
        const floats uniform = __builtin_convertvector((typename Lanes<W>::ints)hash, floats) * 0x1p-24f;
        value += (uniform - 0.5f) * noise.step;
    }
    return round_feature<W>(value, bits);
}

// --- gathering -----------------------------------------------------------------------------------------------------

constexpr long AHEAD = 4;  // samples between asking for a texel and using it

template <int F, Rounding ROUNDING, bool LEARNED, class Source>
void gather(const Grid& grid, const Source& source, const Noise& noise, const Corner* corners, long corner_stride,
            long n, float* inputs, long input_stride) {
    constexpr int W = F < V ? F : V;
    const int bits = grid.bits;
    for (long s = 0; s < n; s++) {
        const Corner& corner = corners[s * corner_stride];
        const Corner& later = corners[(s + AHEAD < n ? s + AHEAD : s) * corner_stride];
        for (int i = 0; i < 4; i++) source.template ahead<F>(later.texel[i]);
        float* to = inputs + s * input_stride + grid.column;
        for (int first = 0; first < F; first += W) {
            typename Lanes<W>::floats sum{};
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                const auto value = feature<F, W, ROUNDING>(source, corner.texel[i], first, bits, noise);
                if (LEARNED)
                    store<W>(to + i * F + first, value);
                else
                    sum += value * corner.weight(i);
            }
            if (!LEARNED) store<W>(to + first, sum);
        }
    }
}

// Calls function(std::integral_constant<int, features>()).
template <class Function>
inline void with_features(int features, Function&& function) {
    switch (features) {
        case 1: function(std::integral_constant<int, 1>()); break;
        case 2: function(std::integral_constant<int, 2>()); break;
        case 4: function(std::integral_constant<int, 4>()); break;
        case 8: function(std::integral_constant<int, 8>()); break;
        case 16: function(std::integral_constant<int, 16>()); break;
        case 32: function(std::integral_constant<int, 32>()); break;
        case 64: function(std::integral_constant<int, 64>()); break;
        default: break;
    }
}

template <class Source>
inline void gather_grid(const Grid& grid, bool quantized, const Source& source, const Noise& noise,
                        const Corner* corners, long corner_stride, long n, float* inputs, long input_stride) {
    const auto call = [&](auto features, auto rounding, auto learned) {
        gather<decltype(features)::value, decltype(rounding)::value, decltype(learned)::value>(
            grid, source, noise, corners, corner_stride, n, inputs, input_stride);
    };
    const auto with_rounding = [&](auto features, auto learned) {
        if (!quantized)
            call(features, std::integral_constant<Rounding, Rounding::none>(), learned);
        else if (noise.step > 0)
            call(features, std::integral_constant<Rounding, Rounding::noisy>(), learned);
        else
            call(features, std::integral_constant<Rounding, Rounding::plain>(), learned);
    };
    with_features(grid.features, [&](auto features) {
        if (grid.learned)
            with_rounding(features, std::true_type());
        else
            with_rounding(features, std::false_type());
    });
}

}  // namespace nt
