#include "adam.h"

#include <algorithm>
#include <limits>

namespace nt {

Fading::Fading(const AdamConstants& adam_) : adam(adam_) {
    for (int age = 0; age < DRIFT_SIZE; age++) {
        direction[age] = std::pow(adam.beta1 / std::sqrt(adam.beta2), age);
        // negligible moments become 0, since arithmetic on denormal numbers is slow
        const double one = std::pow(adam.beta1, age), two = std::pow(adam.beta2, age);
        moment1[age] = one < 1e-22 ? 0.0f : float(one);
        moment2[age] = two < 1e-22 ? 0.0f : float(two);
    }
}

GridStore::GridStore(const Grid& grid_, double rate_, bool quantized)
    : grid(grid_),
      rate(rate_),
      limit(quantized ? 0.5f : std::numeric_limits<float>::infinity()),
      records(size_t(grid_.texels) * 4 * grid_.features),
      stamps(grid_.texels) {
    clear_drift();
}

void GridStore::advance(const Fading& fading, int64_t t, double factor) {
    const double step = rate * factor * fading.adam.step_size(t);
    for (int64_t age = 1; age <= SWEEP_INTERVAL && age <= t; age++)
        drift[(t - age) & (DRIFT_SIZE - 1)] += step * fading.direction[age];
    drift[t & (DRIFT_SIZE - 1)] = 0;
    for (int i = 0; i < DRIFT_SIZE; i++) distance[i] = float(drift[i]);
}

void GridStore::clear_drift() {
    std::fill(drift, drift + DRIFT_SIZE, 0.0);
    std::fill(distance, distance + DRIFT_SIZE, 0.0f);
}

void GridStore::load_drift(const double* from) {
    for (int i = 0; i < DRIFT_SIZE; i++) distance[i] = float(drift[i] = from[i]);
}

void GridStore::bring_up(const Fading& fading, int64_t now, float small, int64_t texel) {
    const int64_t age = now - stamps[texel];
    if (age == 0) return;
    const float moved = distance[stamps[texel] & (DRIFT_SIZE - 1)];
    const float fade1 = fading.moment1[age], fade2 = fading.moment2[age];
    float* p = record(texel);
    const int n = grid.features;
    for (int f = 0; f < n; f++) {
        p[f] = clamped(p[f] - p[n + f] * moved, limit);
        p[2 * n + f] *= fade1;
        p[3 * n + f] *= fade2;
        p[n + f] = direction(p[2 * n + f], p[3 * n + f], small);
    }
    stamps[texel] = int32_t(now);
}

void GridStore::sweep(const Fading& fading, int64_t now, int64_t first, int64_t last) {
    const float small = fading.adam.small(now);
    for (int64_t texel = first; texel < last; texel++) bring_up(fading, now, small, texel);
}

namespace {

// torch.lerp, which is exact at the nearer end
inline float lerp(float a, float b, float weight) {
    return weight < 0.5f ? a + weight * (b - a) : b - (b - a) * (1 - weight);
}

}  // namespace

void GridStore::sync_borders(const Fading& fading, int64_t now, int first_level, float strength) {
    const int features = grid.features;
    const float small = fading.adam.small(now);
    for (int l = first_level; l < grid.n_levels; l++) {
        const Level& level = grid.levels[l];
        const int64_t r = level.resolution, last = r - 1;
        if (r < 2) continue;
        const auto at = [&](int64_t x, int64_t y) {
            const int64_t texel = level.offset + y * r + x;
            bring_up(fading, now, small, texel);
            return record(texel);
        };
        const auto tie = [&](float* one, float* other) {
            for (int f = 0; f < features; f++) {
                const float mean = (one[f] + other[f]) / 2;
                one[f] = lerp(one[f], mean, strength);
                other[f] = lerp(other[f], mean, strength);
            }
        };
        for (int64_t i = 1; i < last; i++) tie(at(0, i), at(last, i));
        for (int64_t i = 1; i < last; i++) tie(at(i, 0), at(i, last));
        float* corners[4] = {at(0, 0), at(last, 0), at(0, last), at(last, last)};
        for (int f = 0; f < features; f++) {
            const float mean = (corners[0][f] + corners[1][f] + corners[2][f] + corners[3][f]) / 4;
            for (float* corner : corners) corner[f] = lerp(corner[f], mean, strength);
        }
    }
}

void GridStore::load(const Fading& fading, int64_t iteration, const float* parameters, const float* moments1,
                     const float* moments2, const int32_t* given) {
    const int n = grid.features;
    clear_drift();
    // training computes directions from the same function of the stamp, so a resumed run has the same bits
    float small[DRIFT_SIZE] = {};
    for (int64_t t = iteration; t > iteration - DRIFT_SIZE && t >= 0; t--)
        small[t & (DRIFT_SIZE - 1)] = fading.adam.small(t);
    for (int64_t texel = 0; texel < grid.texels; texel++) {
        float* to = record(texel);
        stamps[texel] = given ? given[texel] : int32_t(iteration);
        for (int f = 0; f < n; f++) {
            const float m = moments1 ? moments1[texel * n + f] : 0, v = moments2 ? moments2[texel * n + f] : 0;
            to[f] = parameters[texel * n + f];
            to[n + f] = direction(m, v, small[stamps[texel] & (DRIFT_SIZE - 1)]);
            to[2 * n + f] = m;
            to[3 * n + f] = v;
        }
    }
}

void GridStore::save(const Fading& fading, int64_t now, float* parameters, float* moments1, float* moments2,
                     int32_t* to_stamps) const {
    const int n = grid.features;
    for (int64_t texel = 0; texel < grid.texels; texel++) {
        const float* from = record(texel);
        const int64_t age = to_stamps ? 0 : now - stamps[texel];
        const float moved = age ? distance[stamps[texel] & (DRIFT_SIZE - 1)] : 0;
        for (int f = 0; f < n; f++) {
            if (parameters) parameters[texel * n + f] = age ? clamped(from[f] - from[n + f] * moved, limit) : from[f];
            if (moments1) moments1[texel * n + f] = from[2 * n + f] * fading.moment1[age];
            if (moments2) moments2[texel * n + f] = from[3 * n + f] * fading.moment2[age];
        }
        if (to_stamps) to_stamps[texel] = stamps[texel];
    }
}

}  // namespace nt
