#include "block_search.h"

#include <algorithm>

#include "blocks.h"

namespace nt {
namespace {

constexpr int BLOCK_FAILURES[2] = {NT_SEARCH_END_FAILURES, NT_SEARCH_WEIGHT_FAILURES};  // of end points, of weights
constexpr int END_TOP_CODES[BLOCK_FEATURES] = {31, 63, 31};

constexpr bool is_weight(int parameter) { return parameter >= FIRST_WEIGHT; }
constexpr int top_code(int parameter) { return is_weight(parameter) ? 3 : END_TOP_CODES[parameter % BLOCK_FEATURES]; }

// The code of a parameter as block_ends and weight_codes round it.
inline int code_of(float parameter, int top) {
    float x = (parameter + 0.5f) * float(top) + 0.5f;
    x = x > 0 ? x : 0.0f;  // NaN becomes 0
    return int(x < float(top) ? x : float(top));
}

inline int expand(int code, int top) { return top == 63 ? code << 2 | code >> 4 : code << 3 | code >> 2; }

}  // namespace

// The codes of a block, and what the gradient of the error promises of a step of each: gradient x distance of two codes.
struct BlockSearch::Block {
    int codes[BLOCK_PARAMETERS];
    float promise[BLOCK_PARAMETERS];

    int end_point(int parameter) const { return expand(codes[parameter], top_code(parameter)); }
};

// How far a try moves the features of a block's texels.
struct BlockSearch::Step {
    int first_feature, n_features;
    int texel;  // the only one that moves; -1: all do
    float by[BLOCK_FEATURES][BLOCK_TEXELS];

    Step(const Block& block, int parameter, int moved) : texel(-1) {
        if (is_weight(parameter)) {
            texel = parameter - FIRST_WEIGHT, first_feature = 0, n_features = BLOCK_FEATURES;
            const int codes = moved - block.codes[parameter];
            for (int f = 0; f < BLOCK_FEATURES; f++)
                by[f][texel] = float((block.end_point(BLOCK_FEATURES + f) - block.end_point(f)) * codes) / 765.0f;
            return;
        }
        first_feature = parameter % BLOCK_FEATURES, n_features = 1;
        const int distance = expand(moved, top_code(parameter)) - block.end_point(parameter);
        for (int t = 0; t < BLOCK_TEXELS; t++) {
            const int code = block.codes[FIRST_WEIGHT + t];
            by[first_feature][t] = float((parameter < BLOCK_FEATURES ? 3 - code : code) * distance) / 765.0f;
        }
    }

    bool moves(const Place& place, int corner) const {
        return place.share[corner] != 0 && (texel < 0 || place.texel[corner] == texel);
    }
};

BlockSearch::Block BlockSearch::block_of(int plane, uint32_t block, const Searcher& searcher) const {
    const float* of_block = parameters(plane) + size_t(block) * BLOCK_PARAMETERS;
    const float* by_feature = searcher.by_feature.data() + size_t(plane) * BLOCK_FEATURES * BLOCK_TEXELS;
    const Noise silence{0, 0};
    float row[Blocks<1>::ROW], gradient[Blocks<1>::ROW];
    Stored{parameters(plane)}.block_row(block, row);
    block_gradient<1>(true, row, block, PlaneNoise(&silence, 1), by_feature, gradient);
    Block result;
    for (int i = 0; i < BLOCK_PARAMETERS; i++) {
        result.codes[i] = code_of(of_block[i], top_code(i));
        result.promise[i] = gradient[row_column(grid_, 0, i)] / float(top_code(i));
    }
    return result;
}

// Moves the first layer's sums of the places that the step reaches, and lists those as readers.
void BlockSearch::take(int plane, const Step& step, Searcher& searcher) const {
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
bool BlockSearch::try_step(int plane, const Step& step, Searcher& searcher) const {
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

int64_t BlockSearch::search_unit(int x, int y, Searcher& searcher) const {
    const uint32_t block = level_.offset / BLOCK_TEXELS + uint32_t(y) * level_.across + x;
    look(block * BLOCK_TEXELS, searcher);
    int64_t changed = 0;
    for (int plane = 0; plane < planes_; plane++) changed += search_block(plane, block, searcher);
    return changed;
}

int64_t BlockSearch::search_block(int plane, uint32_t number, Searcher& searcher) const {
    float* const of_block = parameters(plane) + size_t(number) * BLOCK_PARAMETERS;
    Block block = block_of(plane, number, searcher);
    searcher.order.clear();
    for (int i = 0; i < BLOCK_PARAMETERS; i++) searcher.order.push_back(i);
    std::stable_sort(searcher.order.begin(), searcher.order.end(), [&](int a, int b) {
        if (is_weight(a) != is_weight(b)) return is_weight(a);
        return std::abs(block.promise[a]) > std::abs(block.promise[b]);
    });
    int64_t changed = 0;
    int failures[2] = {};
    for (const int i : searcher.order) {
        const int top = top_code(i), moved = block.codes[i] + (block.promise[i] > 0 ? -1 : 1);
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

}  // namespace nt
