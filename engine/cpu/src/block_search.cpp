#include "block_search.h"

#include <algorithm>
#include <cstdlib>

#include "blocks.h"

namespace nt {
namespace {

int knob(const char* name, int otherwise) {
    const char* v = getenv(name);
    return v ? atoi(v) : otherwise;
}
const int E_TRIED = knob("E_TRIED", 6), E_FAIL = knob("E_FAIL", 2), W_TRIED = knob("W_TRIED", 16), W_FAIL = knob("W_FAIL", 4);
const int MERGED = knob("MERGED", 0), W_FIRST = knob("W_FIRST", 0);

constexpr int TOP[BLOCK_PARAMETERS] = {31, 63, 31, 31, 63, 31, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3};

inline int code_of(float parameter, int top) {
    float x = (parameter + 0.5f) * float(top) + 0.5f;
    x = x > 0 ? x : 0.0f;  // NaN becomes 0
    return int(x < float(top) ? x : float(top));
}

// 0..255 of a code of an end point.
inline int expanded(int code, int top) { return top == 63 ? code << 2 | code >> 4 : code << 3 | code >> 2; }

}  // namespace

// By how much the features of a block's texels move.
struct BlockSearch::Step {
    int first_feature, n_features;
    int texel;  // -1: all
    float by[BLOCK_FEATURES][BLOCK_TEXELS];
};

// Whether the step lowers the error; if so, the first layer's sums and errors are those after it.
bool BlockSearch::try_step(const Step& step, Searcher& searcher) const {
    const long stride = shape_.layers[0].out_stride;
    const float* columns = network_.layers[0].by_input.data() + long(grid_.column) * stride;
    searcher.readers.clear();
    for (int32_t s = 0; s < int32_t(searcher.places.size()); s++) {
        const Place& place = searcher.places[s];
        bool reads = false;
        for (int i = 0; i < 4; i++) reads = reads || (place.share[i] != 0 && (step.texel < 0 || place.texel[i] == step.texel));
        if (reads) searcher.readers.push_back(s);
    }
    double before = 0, after = 0;
    for (const int32_t s : searcher.readers) before += searcher.errors[s];
    const long n_readers = long(searcher.readers.size());
    for (long begin = 0; begin < n_readers; begin += BLOCK) {
        const long n = std::min<long>(BLOCK, n_readers - begin);
        for (long r = begin; r < begin + n; r++) {
            const Place& place = searcher.places[searcher.readers[r]];
            float* to = searcher.tried.data() + r * stride;
            std::copy_n(searcher.first.data() + searcher.readers[r] * stride, stride, to);
            for (int i = 0; i < 4; i++) {
                if (place.share[i] == 0 || (step.texel >= 0 && place.texel[i] != step.texel)) continue;
                for (int f = step.first_feature; f < step.first_feature + step.n_features; f++) {
                    const float* column = columns + ((grid_.learned ? i * BLOCK_FEATURES : 0) + f) * stride;
                    const float by = place.share[i] * step.by[f][place.texel[i]];
                    for (long k = 0; k < stride; k += V) store(to + k, load(to + k) + load(column + k) * by);
                }
            }
        }
        after += error_of(&searcher.readers[begin], searcher.tried.data() + begin * stride, n, searcher,
                          &searcher.tried_errors[begin], false);
    }
    if (!(after < before)) return false;
    for (long r = 0; r < n_readers; r++) {
        const int32_t s = searcher.readers[r];
        std::copy_n(searcher.tried.data() + r * stride, stride, searcher.first.data() + s * stride);
        searcher.errors[s] = searcher.tried_errors[r];
    }
    return true;
}

int64_t BlockSearch::search_unit(int x, int y, Searcher& searcher) const {
    const uint32_t block = level_.offset / BLOCK_TEXELS + uint32_t(y) * level_.across + x;
    look(block * BLOCK_TEXELS, searcher);
    float* const parameters = parameters_ + size_t(block) * BLOCK_PARAMETERS;
    const BlockRow row = {{Stored{parameters_}.ends(block), load<8>(parameters + FIRST_WEIGHT), load<8>(parameters + FIRST_WEIGHT + 8)}};
    const BlockRow found = block_gradient<Rounding::plain>(row, block, Noise{0, 0}, searcher.by_feature.data());
    float lanes[24], gradient[BLOCK_PARAMETERS];
    for (int i = 0; i < 3; i++) store<8>(lanes + 8 * i, found.part[i]);
    int codes[BLOCK_PARAMETERS];
    for (int i = 0; i < BLOCK_PARAMETERS; i++) {
        codes[i] = code_of(parameters[i], TOP[i]);
        gradient[i] = lanes[row_column(grid_, i)] * (1.0f / float(TOP[i]));
    }
    searcher.order.clear();
    for (int i = 0; i < BLOCK_PARAMETERS; i++) searcher.order.push_back(i);
    std::stable_sort(searcher.order.begin(), searcher.order.end(), [&](int a, int b) {
        const bool wa = (a >= FIRST_WEIGHT) != W_FIRST, wb = (b >= FIRST_WEIGHT) != W_FIRST;
        if (!MERGED && wa != wb) return wb;
        return std::abs(gradient[a]) > std::abs(gradient[b]);
    });
    int64_t changed = 0;
    int tried[2] = {}, failures[2] = {};
    for (const int i : searcher.order) {
        const bool weight = i >= FIRST_WEIGHT;
        if (gradient[i] == 0) continue;
        const int kind = MERGED ? 0 : weight;
        if (tried[kind] == (kind ? W_TRIED : E_TRIED) || failures[kind] == (kind ? W_FAIL : E_FAIL)) continue;
        const int moved = codes[i] + (gradient[i] > 0 ? -1 : 1);
        if (moved < 0 || moved > TOP[i]) continue;
        Step step{};
        if (weight) {
            step = {0, BLOCK_FEATURES, i - FIRST_WEIGHT, {}};
            for (int f = 0; f < BLOCK_FEATURES; f++)
                step.by[f][step.texel] = float((expanded(codes[3 + f], TOP[f]) - expanded(codes[f], TOP[f])) * (moved - codes[i])) / 765.0f;
        } else {
            const int f = i % BLOCK_FEATURES;
            step = {f, 1, -1, {}};
            const int by = expanded(moved, TOP[i]) - expanded(codes[i], TOP[i]);
            for (int t = 0; t < BLOCK_TEXELS; t++) {
                const int k = codes[FIRST_WEIGHT + t];
                step.by[f][t] = float((i < BLOCK_FEATURES ? 3 - k : k) * by) / 765.0f;
            }
        }
        tried[kind]++;
        failures[kind]++;
        if (!try_step(step, searcher)) continue;
        failures[kind] = 0;
        codes[i] = moved;
        parameters[i] = float(moved) / float(TOP[i]) - 0.5f;
        changed++;
    }
    return changed;
}

}  // namespace nt
