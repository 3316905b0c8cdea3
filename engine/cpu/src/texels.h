// Features of grids: the texels around a sample, and their rounded features, from a model or from training records.
// Those of blocks are in blocks.h.
#pragma once

#include <cmath>
#include <type_traits>

#include "block_formats.h"
#include "random.h"
#include "shape.h"
#include "vec.h"

namespace nt {

// The four texels around a sample, in the order (0,0) (1,0) (0,1) (1,1), and its distance from the first, in texels.
struct Corner {
    uint32_t texel[4];
    float x, y;
    uint16_t row[2];  // of the units of texels 0 and 1, of texels 2 and 3

    float weight(int i) const { return (i < 2 ? 1 - y : y) * (i % 2 ? x : 1 - x); }
};

inline int floor_int(float x) {
    const int i = static_cast<int>(x);
    return i - (x < static_cast<float>(i));
}

// The two texels on an axis of `size` texels, and the distance from the first: p = u * size - 0.5 with repeat
// addressing; u in [0, 1].
struct Neighbours {
    Neighbours(int size, float u) {
        const float p = u * static_cast<float>(size) - 0.5f;
        const int floored = floor_int(p);
        first = floored < 0 ? size - 1 : floored;
        second = floored + 1 == size ? 0 : floored + 1;
        share = p - static_cast<float>(floored);
    }
    uint32_t first, second;
    float share;
};

// Texels of an image whose rows lie one after the other, the first at `offset`.
inline Corner locate_in_image(uint32_t offset, int width, int height, float u, float v) {
    const Neighbours x(width, u), y(height, v);
    const uint32_t row0 = offset + y.first * width, row1 = offset + y.second * width;
    return {{row0 + x.first, row0 + x.second, row1 + x.first, row1 + x.second},
            x.share,
            y.share,
            {uint16_t(y.first), uint16_t(y.second)}};
}

template <int SIDE>
inline Corner locate_in_blocks(const Level& level, float u, float v) {
    constexpr int TEXELS = SIDE * SIDE;
    const Neighbours x(level.width, u), y(level.height, v);
    const auto row = [&](uint32_t y) {
        return level.offset + (y / SIDE * level.across) * TEXELS + y % SIDE * SIDE;
    };
    const auto column = [](uint32_t x) { return x / SIDE * TEXELS + x % SIDE; };
    const uint32_t row0 = row(y.first), row1 = row(y.second), column0 = column(x.first), column1 = column(x.second);
    return {{row0 + column0, row0 + column1, row1 + column0, row1 + column1},
            x.share,
            y.share,
            {uint16_t(y.first / SIDE), uint16_t(y.second / SIDE)}};
}

inline Corner locate_exactly(const Level& level, float u, float v) {
    if (level.side == Bc1::SIDE) return locate_in_blocks<Bc1::SIDE>(level, u, v);
    if (level.side == Astc6x6::SIDE) return locate_in_blocks<Astc6x6::SIDE>(level, u, v);
    return locate_in_image(level.offset, level.width, level.height, u, v);
}

// The distance between two texels as a network in whole numbers is given it, so that blends are exact.
inline float rounded_share(float share) {
    return float(floor_int(share * SHARE_STEPS + 0.5f)) / SHARE_STEPS;
}

inline Corner locate(const Level& level, float u, float v) {
    Corner corner = locate_exactly(level, u, v);
    if (level.rounded_shares) {
        corner.x = rounded_share(corner.x);
        corner.y = rounded_share(corner.y);
    }
    return corner;
}

// Calls function(Words<features>()) or function(Blocks<format, planes>()), for grids of no more than so many planes.
template <int MOST = MOST_PLANES, class Function>
inline void with_kind(const Grid& grid, Function&& function) {
    const auto with_planes = [&](auto format) {
        using Format = decltype(format);
        if constexpr (MOST > 1) {
            switch (grid.planes) {
                case 2: return function(Blocks<Format, 2>());
                case 4: return function(Blocks<Format, 4>());
                case 8: return function(Blocks<Format, 8>());
                default: break;
            }
        }
        function(Blocks<Format, 1>());
    };
    if (grid.side == Bc1::SIDE) return with_planes(Bc1());
    if (grid.side == Astc6x6::SIDE) return with_planes(Astc6x6());
    switch (grid.features) {
        case 1: function(Words<1>()); break;
        case 2: function(Words<2>()); break;
        case 4: function(Words<4>()); break;
        case 8: function(Words<8>()); break;
        case 16: function(Words<16>()); break;
        case 32: function(Words<32>()); break;
        case 64: function(Words<64>()); break;
        default: break;
    }
}

// Where parameter i of a unit of a plane stands in a row.
inline int row_column(const Grid& grid, int plane, int i) {
    return grid.blocks() ? (i + (i >= BLOCK_FEATURES) + (i >= FIRST_WEIGHT)) * grid.planes + plane : i;
}
inline int row_floats(const Grid& grid) {
    int floats = 0;
    with_kind(grid, [&](auto kind) { floats = decltype(kind)::ROW; });
    return floats;
}

// Uniform noise of +- half of `step` on each parameter before rounding; step 0: none.
struct Noise {
    float step;
    uint32_t key;
};

// --- where parameters come from ------------------------------------------------------------------------------------

// Parameters as the model holds them.
struct Stored {
    static constexpr int MOST_PLANES = 1;
    const float* parameters;

    template <int F>
    void ahead(uint32_t) const {}

    // W of a texel's F parameters from `first` on; all of COUNT texels side by side.
    template <int F, int W>
    typename Lanes<W>::floats fetch(uint32_t texel, int first) const {
        return load<W>(parameters + size_t(texel) * F + first);
    }
    template <int F, int COUNT>
    typename Lanes<F * COUNT>::floats fetch_all(const uint32_t* texels) const {
        return joined_rows<F, COUNT>([&](int i) { return parameters + size_t(texels[i]) * F; });
    }

    // Of a block, of the one plane that a model's grid is: its end points as in a row, the weights of a texel and the
    // next, and a whole row.
    template <class Kind>
    void ahead_block(uint32_t) const {}
    template <class Kind, int W>
    typename Lanes<W>::floats ends(uint32_t block, int) const {
        static_assert(Kind::PLANES == 1, "planes of a model are not side by side");
        const float* p = parameters + size_t(block) * Kind::PARAMETERS;
        return Lanes<8>::floats{p[0], p[1], p[2], 0, p[3], p[4], p[5], 0};
    }
    template <class Kind, int W>
    typename Lanes<W>::floats weights(uint32_t texel) const {
        const size_t block = texel / Kind::TEXELS;
        return load<W>(parameters + block * Kind::PARAMETERS + FIRST_WEIGHT + texel % Kind::TEXELS);
    }
    template <class Kind>
    void block_row(uint32_t block, float* row) const {
        store<8>(row, ends<Kind, 8>(block, 0));
        const float* weights = parameters + size_t(block) * Kind::PARAMETERS + FIRST_WEIGHT;
        memcpy(row + Kind::ENDS, weights, Kind::TEXELS * sizeof *weights);
        for (int i = Kind::ENDS + Kind::TEXELS; i < Kind::ROW; i++) row[i] = 0;
    }
};

constexpr int DRIFT_SIZE = NT_DRIFT_SIZE;

// Training records: per unit four rows of floats, parameter | direction | moment 1 | moment 2, of iteration
// stamps[unit]. The unit has had no gradient since, so Adam has moved the parameter along `direction` by a distance
// that depends on the stamp alone: drift[stamp % DRIFT_SIZE].
struct Tracked {
    static constexpr int MOST_PLANES = nt::MOST_PLANES;
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
        return clamped_lanes<W>(value, limit);
    }
    template <int F, int COUNT>
    typename Lanes<F * COUNT>::floats fetch_all(const uint32_t* texels) const {
        const auto row = [&](int index) {
            return joined_rows<F, COUNT>([&](int i) { return records + size_t(texels[i]) * (4 * F) + index * F; });
        };
        const auto moved =
            joined_values<F, COUNT>([&](int i) { return drift[stamps[texels[i]] & (DRIFT_SIZE - 1)]; });
        return clamped_lanes<F * COUNT>(row(0) - row(1) * moved, limit);
    }

    template <class Kind>
    void ahead_block(uint32_t texel) const {
        const float* record = records + size_t(texel / Kind::TEXELS) * (4 * Kind::ROW);
        const float* weights = record + Kind::ENDS + texel % Kind::TEXELS * Kind::PLANES;
        for (const int row : {0, Kind::ROW}) {
            for (int i = 0; i < Kind::ENDS; i += 16) prefetch_next(record + row + i);
            prefetch_next(weights + row);
        }
        prefetch_next(stamps + texel / Kind::TEXELS);
    }
    template <class Kind, int W>
    typename Lanes<W>::floats ends(uint32_t block, int first) const {
        return fetch<Kind::ROW, W>(block, first);
    }
    template <class Kind, int W>
    typename Lanes<W>::floats weights(uint32_t texel) const {
        return fetch<Kind::ROW, W>(texel / Kind::TEXELS, Kind::ENDS + int(texel % Kind::TEXELS) * Kind::PLANES);
    }
};

// Parameters of a grid that is not trained: per unit the first row of a training record.
struct Still {
    static constexpr int MOST_PLANES = nt::MOST_PLANES;
    const float* rows;
    float limit;

    template <int F>
    void ahead(uint32_t texel) const {
        prefetch_next(rows + size_t(texel) * F);
    }

    template <int F, int W>
    typename Lanes<W>::floats fetch(uint32_t texel, int first) const {
        return clamped_lanes<W>(load<W>(rows + size_t(texel) * F + first), limit);
    }
    template <int F, int COUNT>
    typename Lanes<F * COUNT>::floats fetch_all(const uint32_t* texels) const {
        return clamped_lanes<F * COUNT>(
            joined_rows<F, COUNT>([&](int i) { return rows + size_t(texels[i]) * F; }), limit);
    }

    template <class Kind>
    void ahead_block(uint32_t texel) const {
        const float* row = rows + size_t(texel / Kind::TEXELS) * Kind::ROW;
        for (int i = 0; i < Kind::ENDS; i += 16) prefetch_next(row + i);
        prefetch_next(row + Kind::ENDS + texel % Kind::TEXELS * Kind::PLANES);
    }
    template <class Kind, int W>
    typename Lanes<W>::floats ends(uint32_t block, int first) const {
        return fetch<Kind::ROW, W>(block, first);
    }
    template <class Kind, int W>
    typename Lanes<W>::floats weights(uint32_t texel) const {
        return fetch<Kind::ROW, W>(texel / Kind::TEXELS, Kind::ENDS + int(texel % Kind::TEXELS) * Kind::PLANES);
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

// W features as the exported file holds them. index: which parameters of the grid they are.
template <int W, Rounding ROUNDING>
inline typename Lanes<W>::floats rounded(typename Lanes<W>::floats value, typename Lanes<W>::uints index, int bits,
                                         const Noise& noise) {
    using floats = typename Lanes<W>::floats;
    if (ROUNDING == Rounding::none) return value;
    if (ROUNDING == Rounding::noisy) {
        const auto hash = hash24<typename Lanes<W>::uints>(index, noise.key);
        const floats uniform = __builtin_convertvector((typename Lanes<W>::ints)hash, floats) * 0x1p-24f;
        value += (uniform - 0.5f) * noise.step;
    }
    return round_feature<W>(value, bits);
}

// W features of a texel from `first` on.
template <int F, int W, Rounding ROUNDING, class Source>
inline typename Lanes<W>::floats feature(const Source& source, uint32_t texel, int first, int bits, const Noise& noise) {
    typename Lanes<W>::uints index{};
    for (int i = 0; i < W; i++) index[i] = i;
    index += texel * uint32_t(F) + first;
    return rounded<W, ROUNDING>(source.template fetch<F, W>(texel, first), index, bits, noise);
}

// All features of COUNT texels side by side.
template <int F, int COUNT, Rounding ROUNDING, class Source>
inline typename Lanes<F * COUNT>::floats features_of(const Source& source, const uint32_t* texels, int bits,
                                                     const Noise& noise) {
    constexpr int W = F * COUNT;
    typename Lanes<W>::uints lane{};
    for (int i = 0; i < W; i++) lane[i] = i % F;
    const auto first = joined_parts<F, COUNT>([&](int i) {
        return (typename Lanes<F>::floats)(typename Lanes<F>::uints{} + texels[i] * uint32_t(F));
    });
    const auto index = (typename Lanes<W>::uints)first + lane;
    return rounded<W, ROUNDING>(source.template fetch_all<F, COUNT>(texels), index, bits, noise);
}

// --- gathering -----------------------------------------------------------------------------------------------------

constexpr long AHEAD = 4;  // samples between asking for a texel and using it

// Adds the COUNT parts of F lanes of a vector to `sum`, one after the other.
template <int F, int COUNT>
inline void add_parts(typename Lanes<F>::floats& sum, const typename Lanes<F * COUNT>::floats& x) {
    if constexpr (COUNT == 1) {
        sum += x;
    } else {
        add_parts<F, COUNT / 2>(sum, half<F * COUNT / 2>(x, 0));
        add_parts<F, COUNT / 2>(sum, half<F * COUNT / 2>(x, 1));
    }
}

template <int F, Rounding ROUNDING, bool LEARNED, class Source>
void gather(const Grid& grid, const Source& source, const Noise& noise, const Corner* corners, long corner_stride,
            long n, float* inputs, long input_stride) {
    const int bits = grid.bits;
    for (long s = 0; s < n; s++) {
        const Corner& corner = corners[s * corner_stride];
        const Corner& later = corners[(s + AHEAD < n ? s + AHEAD : s) * corner_stride];
        for (int i = 0; i < 4; i++) source.template ahead<F>(later.texel[i]);
        float* to = inputs + s * input_stride + grid.column;
        if constexpr (2 * F <= V) {  // several texels at once
            constexpr int COUNT = 4 * F <= V ? 4 : 2;
            typename Lanes<F>::floats sum{};
#pragma GCC unroll 2
            for (int i = 0; i < 4; i += COUNT) {
                const auto values = features_of<F, COUNT, ROUNDING>(source, corner.texel + i, bits, noise);
                if (LEARNED) {
                    store<F * COUNT>(to + i * F, values);
                } else {
                    const auto shares = joined_values<F, COUNT>([&](int k) { return corner.weight(i + k); });
                    add_parts<F, COUNT>(sum, values * shares);
                }
            }
            if (!LEARNED) store<F>(to, sum);
        } else {
            constexpr int W = F < V ? F : V;
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
}

}  // namespace nt
