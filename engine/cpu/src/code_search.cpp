#include "code_search.h"

#include <algorithm>

namespace nt {
namespace {

constexpr int TRIED = NT_SEARCH_TRIED, FAILURES = NT_SEARCH_FAILURES;

}  // namespace

// Returns the error after a feature of the texel moves by `step`; leaves the first layer's sums in `tried`.
double CodeSearch::try_step(int feature, float step, Searcher& searcher) const {
    const long stride = shape_.layers[0].out_stride, n_places = long(searcher.places.size());
    double error = 0;
    searcher.tried_inputs = searcher.inputs;
    for (long begin = 0; begin < n_places; begin += BLOCK) {
        const long n = std::min<long>(BLOCK, n_places - begin);
        for (long s = begin; s < begin + n; s++) {
            float* to = searcher.tried.data() + s * stride;
            std::copy_n(searcher.first.data() + s * stride, stride, to);
            for (int i = 0; i < 4; i++) {
                const float share = searcher.places[s].share[i];
                if (share == 0) continue;
                move_input(grid_.column + grid_.input(i, feature), share * step, to,
                           searcher.tried_inputs.data() + s * n_inputs());
            }
        }
        error += error_of(&searcher.all[begin], searcher.tried.data() + begin * stride, n, searcher,
                          &searcher.tried_errors[begin], false);
    }
    return error;
}

int64_t CodeSearch::search_unit(int x, int y, Searcher& searcher) const {
    const uint32_t texel = level_.offset + uint32_t(y) * level_.width + x;
    double least = look(texel, searcher);
    float* const features = parameters(0) + size_t(texel) * grid_.features;
    const float step = 1 / float(1 << grid_.bits), limit = 0.5f - 0.5f * step;
    searcher.order.clear();
    for (int f = 0; f < grid_.features; f++) searcher.order.push_back(f);
    std::stable_sort(searcher.order.begin(), searcher.order.end(), [&](int a, int b) {
        return std::abs(searcher.by_feature[a]) > std::abs(searcher.by_feature[b]);
    });
    int64_t changed = 0;
    int tried = 0, failures = 0;
    for (const int f : searcher.order) {
        if (tried == TRIED || failures == FAILURES || searcher.by_feature[f] == 0) break;
        const float value = round_feature<1>(Lanes<1>::floats{features[f]}, grid_.bits)[0];
        const float direction = searcher.by_feature[f] > 0 ? -step : step;
        if (std::abs(value + direction) > limit) continue;
        tried++;
        const double error = try_step(f, direction, searcher);
        failures++;
        if (!(error < least)) continue;
        failures = 0;
        least = error;
        features[f] = value + direction;
        std::swap(searcher.first, searcher.tried);
        std::swap(searcher.inputs, searcher.tried_inputs);
        changed++;
    }
    return changed;
}

}  // namespace nt
