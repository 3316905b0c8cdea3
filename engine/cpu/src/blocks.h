// Grids of blocks, see blocks.py: features of texels from their blocks' parameters, and gradients back to those.
//
// Planes of one shape have their texels in the same places, so everything here is done for P planes at once: what a
// formula names once is a vector with a lane for each plane.
#pragma once

#include <algorithm>

#include "texels.h"

namespace nt {

// What rounding an end point takes, for each of the first lanes of a row.
template <class Kind>
struct EndTables {
    float top[Kind::ENDS] = {}, step[Kind::ENDS] = {};  // largest codes and their inverses
    uint32_t parameter[Kind::ENDS] = {};                // which of the block each lane is
    int32_t up[Kind::ENDS] = {}, down[Kind::ENDS] = {};

    constexpr EndTables() {
        using Format = typename Kind::Format;
        for (int lane = 0; lane < Kind::ENDS; lane++) {
            const int place = lane / Kind::PLANES, f = place % 4;
            parameter[lane] = uint32_t(place / 4 * BLOCK_FEATURES + (f < BLOCK_FEATURES ? f : BLOCK_FEATURES - 1));
            if (f == BLOCK_FEATURES) continue;
            top[lane] = float(Format::TOPS[f]);
            step[lane] = 1 / top[lane];
            up[lane] = Format::UP[f];
            down[lane] = Format::DOWN[f];
        }
    }
};

template <class Kind>
constexpr EndTables<Kind> END_TABLES{};

// The noise of P planes, whose keys repeat along a vector.
struct PlaneNoise {
    PlaneNoise(const Noise* noises, int planes) : step(noises->step) {
        for (int lane = 0; lane < 16; lane++) keys[lane] = noises[lane % planes].key;
    }

    // Uniform in +- half of a step, of parameters `index`.
    template <int W>
    typename Lanes<W>::floats at(typename Lanes<W>::uints index) const {
        typename Lanes<W>::uints lanes_keys;
        memcpy(&lanes_keys, keys, sizeof lanes_keys);
        const auto hash = hash24<typename Lanes<W>::uints>(index, lanes_keys);
        return __builtin_convertvector((typename Lanes<W>::ints)hash, typename Lanes<W>::floats) * 0x1p-24f - 0.5f;
    }

    float step;
    uint32_t keys[16];
};

// feature = (start + place * span) / WHITE - 0.5, where `place` is that of the texel; unrounded, start +
// place * span.
template <int P>
struct Ends {
    typename Lanes<P>::floats start[BLOCK_FEATURES], span[BLOCK_FEATURES];
};

// parameters(first): a vector of the block's end points, from lane `first` of its row on.
template <class Kind, Rounding ROUNDING, class Parameters>
inline Ends<Kind::PLANES> block_ends(const Parameters& parameters, uint32_t block, const PlaneNoise& noise) {
    constexpr int P = Kind::PLANES, W = Kind::LANES;
    constexpr const EndTables<Kind>& tables = END_TABLES<Kind>;
    float lanes[Kind::ENDS];
    for (int first = 0; first < Kind::ENDS; first += W) {
        typename Lanes<W>::floats p = parameters(first);
        if (ROUNDING == Rounding::noisy) {
            typename Lanes<W>::uints index;
            memcpy(&index, tables.parameter + first, sizeof index);
            p += noise.at<W>(index + block * uint32_t(Kind::PARAMETERS)) * (load<W>(tables.step + first) * noise.step);
        }
        if (ROUNDING != Rounding::none) {
            const auto top = load<W>(tables.top + first);
            typename Lanes<W>::ints up, down;
            memcpy(&up, tables.up + first, sizeof up);
            memcpy(&down, tables.down + first, sizeof down);
            typename Lanes<W>::floats x = (p + 0.5f) * top + 0.5f;
            x = x > 0 ? x : typename Lanes<W>::floats{};  // NaN becomes 0
            x = x < top ? x : top;
            const auto code = __builtin_convertvector(x, typename Lanes<W>::ints);
            p = __builtin_convertvector(Kind::Format::expanded(code, up, down), typename Lanes<W>::floats);
        }
        store<W>(lanes + first, p);
    }
    Ends<P> ends;
    for (int f = 0; f < BLOCK_FEATURES; f++) {
        const auto first = load<P>(lanes + f * P);
        ends.start[f] = ROUNDING == Rounding::none ? first : first * float(Kind::Format::LAST_PLACE);
        ends.span[f] = load<P>(lanes + (f + 4) * P) - first;
    }
    return ends;
}

// The places of weights, 0 .. LAST_PLACE; unrounded, from 0 to 1. index: which parameters of the grid they are.
template <class Format, Rounding ROUNDING, int W>
inline typename Lanes<W>::floats places_of(typename Lanes<W>::floats w, typename Lanes<W>::uints index,
                                           const PlaneNoise& noise) {
    using floats = typename Lanes<W>::floats;
    constexpr float TOP = TOP_WEIGHT;
    if (ROUNDING == Rounding::none) return w + 0.5f;
    if (ROUNDING == Rounding::noisy) w += noise.at<W>(index) * (1 / TOP * noise.step);
    floats x = (w + 0.5f) * TOP + 0.5f;
    x = x > 0 ? x : floats{};
    x = x < TOP ? x : floats{} + TOP;
    return __builtin_convertvector(Format::place(__builtin_convertvector(x, typename Lanes<W>::ints)), floats);
}

// The lanes of a vector added up to P.
template <int P, int W>
inline typename Lanes<P>::floats folded(typename Lanes<W>::floats x) {
    if constexpr (W == P) {
        return x;
    } else {
        float lanes[W];
        store<W>(lanes, x);
        return folded<P, W / 2>(load<W / 2>(lanes) + load<W / 2>(lanes + W / 2));
    }
}

// Which parameters the weights of two texels of P planes are.
template <class Kind>
inline typename Lanes<2 * Kind::PLANES>::uints weight_index(uint32_t left, uint32_t right) {
    constexpr int P = Kind::PLANES;
    typename Lanes<2 * P>::uints index;
    for (int lane = 0; lane < 2 * P; lane++) {
        const uint32_t texel = lane < P ? left : right;
        index[lane] = texel / Kind::TEXELS * Kind::PARAMETERS + FIRST_WEIGHT + texel % Kind::TEXELS;
    }
    return index;
}

// Both texels of a row at once. noises: one for each of the grid's planes. For the inputs' order see Grid::input.
template <class Kind, Rounding ROUNDING, bool LEARNED, class Source>
void gather_blocks(const Grid& grid, const Source& source, const Noise* noises, const Corner* corners,
                   long corner_stride, long n, float* inputs, long input_stride) {
    constexpr int P = Kind::PLANES;
    constexpr uint32_t TEXELS = Kind::TEXELS;
    using Format = typename Kind::Format;
    using floats = typename Lanes<2 * P>::floats;
    const PlaneNoise noise(noises, P);
    for (long s = 0; s < n; s++) {
        const Corner& corner = corners[s * corner_stride];
        const Corner& later = corners[(s + AHEAD < n ? s + AHEAD : s) * corner_stride];
        source.template ahead_block<Kind>(later.texel[0]);
        if (later.texel[3] / TEXELS != later.texel[0] / TEXELS)
            source.template ahead_block<Kind>(later.texel[3]);
        float* const to = inputs + s * input_stride + grid.column;
        const bool adjacent = corner.texel[1] == corner.texel[0] + 1 && corner.texel[1] % Kind::SIDE;
        const bool high = corner.texel[2] / TEXELS != corner.texel[0] / TEXELS;
        const auto ends_of = [&](uint32_t block) {
            const auto parameters = [&](int first) { return source.template ends<Kind, Kind::LANES>(block, first); };
            return block_ends<Kind, ROUNDING>(parameters, block, noise);
        };
        floats start[BLOCK_FEATURES], span[BLOCK_FEATURES], sum[BLOCK_FEATURES] = {};
        for (int row = 0; row < 2; row++) {
            const uint32_t left = corner.texel[2 * row], right = corner.texel[2 * row + 1];
            if (row == 0 || high) {
                const Ends<P> ends = ends_of(left / TEXELS);
                const Ends<P> others = adjacent ? ends : ends_of(right / TEXELS);
                for (int f = 0; f < BLOCK_FEATURES; f++) {
                    start[f] = joined<P>(ends.start[f], others.start[f]);
                    span[f] = joined<P>(ends.span[f], others.span[f]);
                }
            }
            floats weights;
            if (adjacent)
                weights = source.template weights<Kind, 2 * P>(left);
            else
                weights = joined<P>(source.template weights<Kind, P>(left), source.template weights<Kind, P>(right));
            const floats places = places_of<Format, ROUNDING, 2 * P>(weights, weight_index<Kind>(left, right), noise);
            const floats share = joined<P>(typename Lanes<P>::floats{} + corner.weight(2 * row),
                                           typename Lanes<P>::floats{} + corner.weight(2 * row + 1));
            for (int f = 0; f < BLOCK_FEATURES; f++) {
                floats feature = start[f] + span[f] * places;
                if (ROUNDING != Rounding::none) feature = Format::of_white(feature) - 0.5f;
                if (LEARNED)
                    store<2 * P>(to + (row * BLOCK_FEATURES + f) * 2 * P, feature);
                else
                    sum[f] += feature * share;
            }
        }
        if (!LEARNED)
            for (int f = 0; f < BLOCK_FEATURES; f++) store<P>(to + f * P, folded<P, 2 * P>(sum[f]));
    }
}

// The inputs from a grid; noises: one for each of its planes.
template <class Source>
inline void gather_grid(const Grid& grid, bool quantized, const Source& source, const Noise* noises,
                        const Corner* corners, long corner_stride, long n, float* inputs, long input_stride) {
    const auto call = [&](auto kind, auto rounding, auto learned) {
        using Kind = decltype(kind);
        constexpr Rounding ROUNDING = decltype(rounding)::value;
        constexpr bool LEARNED = decltype(learned)::value;
        if constexpr (Kind::BLOCKS)
            gather_blocks<Kind, ROUNDING, LEARNED>(grid, source, noises, corners, corner_stride, n, inputs,
                                                   input_stride);
        else
            gather<Kind::ROW, ROUNDING, LEARNED>(grid, source, *noises, corners, corner_stride, n, inputs,
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
    with_kind<Source::MOST_PLANES>(grid, [&](auto kind) {
        if (grid.learned)
            with_rounding(kind, std::true_type());
        else
            with_rounding(kind, std::false_type());
    });
}

// The gradient of P blocks' parameters, a row, from that of the features of their texels, see Blocks::SUM. Rounding
// passes it unchanged; factors are those after rounding, as in blocks.py.
template <class Kind, Rounding ROUNDING>
inline void block_gradient(const float* row, uint32_t block, const PlaneNoise& noise, const float* of_texels,
                           float* gradient) {
    constexpr int P = Kind::PLANES, W = Kind::LANES, TILED = W / P;  // texels in a vector
    using Format = typename Kind::Format;
    using floats = typename Lanes<W>::floats;
    constexpr bool ROUNDED = ROUNDING != Rounding::none;
    constexpr float LAST = ROUNDED ? Format::LAST_PLACE : 1, LEVELS = ROUNDED ? 255 : 1;
    const Ends<P> ends =
        block_ends<Kind, ROUNDING>([&](int first) { return load<W>(row + first); }, block, noise);
    floats span[BLOCK_FEATURES], all[BLOCK_FEATURES] = {}, second[BLOCK_FEATURES] = {};
    for (int f = 0; f < BLOCK_FEATURES; f++) {
        float lanes[W];
        for (int tile = 0; tile < TILED; tile++) store<P>(lanes + tile * P, ends.span[f] * (1 / LEVELS));
        span[f] = load<W>(lanes);
    }
    typename Lanes<W>::uints index;
    for (int lane = 0; lane < W; lane++) index[lane] = block * uint32_t(Kind::PARAMETERS) + FIRST_WEIGHT + lane / P;
    for (int first = 0; first < Kind::WEIGHTS; first += W, index += uint32_t(TILED)) {
        const floats share =
            places_of<Format, ROUNDING, W>(load<W>(row + Kind::ENDS + first), index, noise) * (1 / LAST);
        floats of_weights{};
        for (int f = 0; f < BLOCK_FEATURES; f++) {
            const floats of_texel = load<W>(of_texels + Kind::WEIGHTS * f + first);
            all[f] += of_texel;
            second[f] += of_texel * share;
            of_weights += of_texel * span[f];
        }
        store<W>(gradient + Kind::ENDS + first, of_weights);
    }
    for (int f = 0; f < 4; f++) {
        typename Lanes<P>::floats of_all{}, of_second{};
        if (f < BLOCK_FEATURES) of_all = folded<P, W>(all[f]), of_second = folded<P, W>(second[f]);
        store<P>(gradient + f * P, of_all - of_second);
        store<P>(gradient + (f + 4) * P, of_second);
    }
}

template <class Kind>
inline void block_gradient(bool quantized, const float* row, uint32_t block, const PlaneNoise& noise,
                           const float* of_texels, float* gradient) {
    if (!quantized) return block_gradient<Kind, Rounding::none>(row, block, noise, of_texels, gradient);
    if (noise.step > 0) return block_gradient<Kind, Rounding::noisy>(row, block, noise, of_texels, gradient);
    return block_gradient<Kind, Rounding::plain>(row, block, noise, of_texels, gradient);
}

}  // namespace nt
