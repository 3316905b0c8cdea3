#include "block_search.h"

#include <algorithm>

#include "blocks.h"

namespace nt {
namespace {

constexpr int BLOCK_FAILURES[2] = {NT_SEARCH_END_FAILURES, NT_SEARCH_WEIGHT_FAILURES};  // of end points, of weights

constexpr bool is_weight(int parameter) { return parameter >= FIRST_WEIGHT; }

template <class Format>
constexpr int top_code(int parameter) {
    return is_weight(parameter) ? TOP_WEIGHT : Format::TOPS[parameter % BLOCK_FEATURES];
}

// The code of a parameter as block_ends and places_of round it.
inline int code_of(float parameter, int top) {
    float x = (parameter + 0.5f) * float(top) + 0.5f;
    x = x > 0 ? x : 0.0f;  // NaN becomes 0
    return int(x < float(top) ? x : float(top));
}

// 0 to 255 of a code of an end point's parameter.
template <class Format>
inline int expand(int code, int parameter) {
    return Format::expanded(code, Format::UP[parameter % BLOCK_FEATURES], Format::DOWN[parameter % BLOCK_FEATURES]);
}

}  // namespace

// The codes of a block, and what the gradient of the error promises of a step of each: gradient x distance of two codes.
template <class Format>
struct BlockSearch<Format>::Block {
    int codes[Kind::PARAMETERS];
    float promise[Kind::PARAMETERS];

    int end_point(int parameter) const { return expand<Format>(codes[parameter], parameter); }
};

// How far a try moves the features of a block's texels.
template <class Format>
struct BlockSearch<Format>::Step {
    static constexpr float WHITE = Format::WHITE;

    int first_feature, n_features;
    int texel;  // the only one that moves; -1: all do
    float by[BLOCK_FEATURES][Kind::TEXELS];

    Step(const Block& block, int parameter, int moved) : texel(-1) {
        if (is_weight(parameter)) {
            texel = parameter - FIRST_WEIGHT, first_feature = 0, n_features = BLOCK_FEATURES;
            const int places = Format::place(moved) - Format::place(block.codes[parameter]);
            for (int f = 0; f < BLOCK_FEATURES; f++)
                by[f][texel] = float((block.end_point(BLOCK_FEATURES + f) - block.end_point(f)) * places) / WHITE;
            return;
        }
        first_feature = parameter % BLOCK_FEATURES, n_features = 1;
        const int distance = expand<Format>(moved, parameter) - block.end_point(parameter);
        for (int t = 0; t < Kind::TEXELS; t++) {
            const int place = Format::place(block.codes[FIRST_WEIGHT + t]);
            const int share = parameter < BLOCK_FEATURES ? Format::LAST_PLACE - place : place;
            by[first_feature][t] = float(share * distance) / WHITE;
        }
    }

    bool moves(const Place& place, int corner) const {
        return place.share[corner] != 0 && (texel < 0 || place.texel[corner] == texel);
    }
};

template <class Format>
auto BlockSearch<Format>::block_of(int plane, uint32_t block, const Searcher& searcher) const -> Block {
    const float* of_block = parameters(plane) + size_t(block) * Kind::PARAMETERS;
    const float* by_feature = searcher.by_feature.data() + size_t(plane) * BLOCK_FEATURES * Kind::TEXELS;
    const Noise silence{0, 0};
    float of_texels[Kind::SUM] = {}, row[Kind::ROW], gradient[Kind::ROW];
    for (int f = 0; f < BLOCK_FEATURES; f++)
        std::copy_n(by_feature + f * Kind::TEXELS, Kind::TEXELS, of_texels + f * Kind::WEIGHTS);
    Stored{parameters(plane)}.block_row<Kind>(block, row);
    block_gradient<Kind>(true, row, block, PlaneNoise(&silence, 1), of_texels, gradient);
    Block result;
    for (int i = 0; i < Kind::PARAMETERS; i++) {
        result.codes[i] = code_of(of_block[i], top_code<Format>(i));
        result.promise[i] = gradient[row_column(grid_, 0, i)] / float(top_code<Format>(i));
    }
    return result;
}

// Moves the first layer's sums of the places that the step reaches, and lists those as readers.
template <class Format>
void BlockSearch<Format>::take(int plane, const Step& step, Searcher& searcher) const {
    const long stride = shape_.layers[0].out_stride;
    const long first_input = this->plane(plane).column;
    float *to = searcher.tried.data(), *to_inputs = searcher.tried_inputs.data();
    searcher.readers.clear();
    for (int32_t s = 0; s < int32_t(searcher.places.size()); s++) {
        const Place& place = searcher.places[s];
        bool reads = false;
        for (int i = 0; i < 4; i++) reads = reads || step.moves(place, i);
        if (!reads) continue;
        searcher.readers.push_back(s);
        std::copy_n(searcher.first.data() + s * stride, stride, to);
        std::copy_n(searcher.inputs.data() + s * n_inputs(), n_inputs(), to_inputs);
        for (int i = 0; i < 4; i++) {
            if (!step.moves(place, i)) continue;
            for (int f = step.first_feature; f < step.first_feature + step.n_features; f++)
                move_input(first_input + grid_.input(i, f), place.share[i] * step.by[f][place.texel[i]], to, to_inputs);
        }
        to += stride;
        to_inputs += n_inputs();
    }
}

// Whether the step lowers the error; if so, the first layer's sums and errors are those after it.
template <class Format>
bool BlockSearch<Format>::try_step(int plane, const Step& step, Searcher& searcher) const {
    take(plane, step, searcher);
    const long stride = shape_.layers[0].out_stride, n_readers = long(searcher.readers.size());
    double before = 0, after = 0;
    for (const int32_t s : searcher.readers) before += searcher.errors[s];
    for (long begin = 0; begin < n_readers; begin += BLOCK)
        after += error_of(&searcher.readers[begin], searcher.tried.data() + begin * stride,
                          std::min<long>(BLOCK, n_readers - begin), searcher, &searcher.tried_errors[begin], false);
    if (!(after < before)) return false;
    for (long r = 0; r < n_readers; r++) {
        const int32_t s = searcher.readers[r];
        std::copy_n(searcher.tried.data() + r * stride, stride, searcher.first.data() + s * stride);
        std::copy_n(searcher.tried_inputs.data() + r * n_inputs(), n_inputs(), searcher.inputs.data() + s * n_inputs());
        searcher.errors[s] = searcher.tried_errors[r];
    }
    return true;
}

template <class Format>
int64_t BlockSearch<Format>::search_unit(int x, int y, Searcher& searcher) const {
    const uint32_t block = level_.offset / Kind::TEXELS + uint32_t(y) * level_.across + x;
    look(block * Kind::TEXELS, searcher);
    int64_t changed = 0;
    for (int plane = 0; plane < planes_; plane++) changed += search_block(plane, block, searcher);
    return changed;
}

template <class Format>
int64_t BlockSearch<Format>::search_block(int plane, uint32_t number, Searcher& searcher) const {
    float* const of_block = parameters(plane) + size_t(number) * Kind::PARAMETERS;
    Block block = block_of(plane, number, searcher);
    searcher.order.clear();
    for (int i = 0; i < Kind::PARAMETERS; i++) searcher.order.push_back(i);
    std::stable_sort(searcher.order.begin(), searcher.order.end(), [&](int a, int b) {
        if (is_weight(a) != is_weight(b)) return is_weight(a);
        return std::abs(block.promise[a]) > std::abs(block.promise[b]);
    });
    int64_t changed = 0;
    int failures[2] = {};
    for (const int i : searcher.order) {
        const int top = top_code<Format>(i), moved = block.codes[i] + (block.promise[i] > 0 ? -1 : 1);
        if (block.promise[i] == 0 || moved < 0 || moved > top || failures[is_weight(i)] == BLOCK_FAILURES[is_weight(i)]) continue;
        failures[is_weight(i)]++;
        if (!try_step(plane, Step(block, i, moved), searcher)) continue;
        failures[is_weight(i)] = 0;
        block.codes[i] = moved;
        of_block[i] = float(moved) / float(top) - 0.5f;
        changed++;
    }
    return changed;
}

template class BlockSearch<Bc1>;
template class BlockSearch<Astc6x6>;

}  // namespace nt
