#include "adam.h"

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <utility>

#include "pool.h"

namespace nt {
namespace {

constexpr int64_t BAND = 1 << 16;  // units that a thread loads or saves at a time

}  // namespace

Fading::Fading(const AdamConstants& adam_) : adam(adam_) {
    for (int age = 0; age < DRIFT_SIZE; age++) {
        direction[age] = std::pow(adam.beta1 / std::sqrt(adam.beta2), age);
        // negligible moments become 0, since arithmetic on denormal numbers is slow
        const double one = std::pow(adam.beta1, age), two = std::pow(adam.beta2, age);
        moment1[age] = one < 1e-22 ? 0.0f : float(one);
        moment2[age] = two < 1e-22 ? 0.0f : float(two);
    }
}

GridStore::GridStore(const Grid& grid_, double rate_, bool quantized, int n_threads)
    : grid(grid_),
      rate(rate_),
      limit(quantized ? 0.5f : std::numeric_limits<float>::infinity()),
      row(row_floats(grid_)),
      records(size_t(grid_.units) * unit_floats()),
      stamps(moves() ? grid_.units : 0),
      n_threads_(n_threads) {
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

void GridStore::bring_up(const Fading& fading, int64_t now, float small, int64_t unit) {
    const int64_t age = now - stamps[unit];
    if (age == 0) return;
    const float moved = distance[stamps[unit] & (DRIFT_SIZE - 1)];
    const float fade1 = fading.moment1[age], fade2 = fading.moment2[age];
    float* p = record(unit);
    const int n = row;
    for (int f = 0; f < n; f++) {
        p[f] = clamped(p[f] - p[n + f] * moved, limit);
        p[2 * n + f] *= fade1;
        p[3 * n + f] *= fade2;
        p[n + f] = direction(p[2 * n + f], p[3 * n + f], small);
    }
    stamps[unit] = int32_t(now);
}

void GridStore::sweep(const Fading& fading, int64_t now, int64_t first, int64_t last) {
    const float small = fading.adam.small(now);
    for (int64_t unit = first; unit < last; unit++) bring_up(fading, now, small, unit);
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
        const int64_t width = level.width, right = width - 1, bottom = level.height - 1;
        if (right < 1 || bottom < 1) continue;
        if (grid.blocks()) {
            tie_blocks(fading, now, level, strength);
            continue;
        }
        const auto at = [&](int64_t x, int64_t y) {
            const int64_t texel = level.offset + y * width + x;
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
        for (int64_t i = 1; i < bottom; i++) tie(at(0, i), at(right, i));
        for (int64_t i = 1; i < right; i++) tie(at(i, 0), at(i, bottom));
        float* corners[4] = {at(0, 0), at(right, 0), at(0, bottom), at(right, bottom)};
        for (int f = 0; f < features; f++) {
            const float mean = (corners[0][f] + corners[1][f] + corners[2][f] + corners[3][f]) / 4;
            for (float* corner : corners) corner[f] = lerp(corner[f], mean, strength);
        }
    }
}

// blocks.tie_borders: moves the weights of border texels.
void GridStore::tie_blocks(const Fading& fading, int64_t now, const Level& level, float strength) {
    constexpr float SHORTEST = 1e-6f;  // as in blocks.py
    const int side = grid.side;
    const float small = fading.adam.small(now);
    const auto tie_plane = [&](int plane, std::initializer_list<std::pair<int, int>> texels) {
        float features[4][BLOCK_FEATURES], spans[4][BLOCK_FEATURES], mean[BLOCK_FEATURES] = {};
        float* weights[4];
        int n = 0;
        for (const auto& [x, y] : texels) {
            const int64_t unit =
                level.offset / grid.unit_texels + int64_t(y / side) * level.across + x / side;
            bring_up(fading, now, small, unit);
            const int texel = y % side * side + x % side;
            weights[n] = record(unit) + row_column(grid, plane, FIRST_WEIGHT + texel);
            for (int f = 0; f < BLOCK_FEATURES; f++) {
                const float first = record(unit)[row_column(grid, plane, f)];
                spans[n][f] = record(unit)[row_column(grid, plane, BLOCK_FEATURES + f)] - first;
                features[n][f] = first + (*weights[n] + 0.5f) * spans[n][f];
                mean[f] += features[n][f] / float(texels.size());
            }
            n++;
        }
        for (int i = 0; i < n; i++) {
            float length = 0, wanted = 0;
            for (int f = 0; f < BLOCK_FEATURES; f++) {
                length += spans[i][f] * spans[i][f];
                wanted += (mean[f] - features[i][f]) * spans[i][f];
            }
            if (length > SHORTEST) *weights[i] = clamped(*weights[i] + strength * wanted / length, 0.5f);
        }
    };
    const auto tie = [&](std::initializer_list<std::pair<int, int>> texels) {
        for (int plane = 0; plane < grid.planes; plane++) tie_plane(plane, texels);
    };
    const int right = level.width - 1, bottom = level.height - 1;
    for (int i = 1; i < bottom; i++) tie({{0, i}, {right, i}});
    for (int i = 1; i < right; i++) tie({{i, 0}, {i, bottom}});
    tie({{0, 0}, {0, bottom}, {right, 0}, {right, bottom}});
}

template <class Work>
void GridStore::in_bands(Work&& work) const {
    const long count = long((grid.units + BAND - 1) / BAND);
    const auto band = [&](long index, int) { work(index * BAND, std::min((index + 1) * BAND, grid.units)); };
    const int32_t status = guarded([&] { run_tasks(int(std::min<long>(n_threads_, count)), count, band); });
    if (status != DONE)  // no thread can be started, and so none has begun
        for (long index = 0; index < count; index++) band(index, 0);
}

void GridStore::load(const Fading& fading, int plane, int64_t iteration, const float* parameters, const float* moments1,
                     const float* moments2, const int32_t* given) {
    const int n = grid.unit_parameters;
    clear_drift();
    loaded_at_ = iteration;
    if (!moves()) {
        return in_bands([&](int64_t first, int64_t last) {
            for (int64_t unit = first; unit < last; unit++)
                for (int i = 0; i < n; i++) record(unit)[row_column(grid, plane, i)] = parameters[unit * n + i];
        });
    }
    // training computes directions from the same function of the stamp, so a resumed run has the same bits
    float small[DRIFT_SIZE] = {};
    for (int64_t t = iteration; t > iteration - DRIFT_SIZE && t >= 0; t--)
        small[t & (DRIFT_SIZE - 1)] = fading.adam.small(t);
    in_bands([&](int64_t first, int64_t last) {
        for (int64_t unit = first; unit < last; unit++) {
            float* to = record(unit);
            stamps[unit] = given ? given[unit] : int32_t(iteration);
            for (int i = 0; i < n; i++) {
                const float m = moments1 ? moments1[unit * n + i] : 0, v = moments2 ? moments2[unit * n + i] : 0;
                const int f = row_column(grid, plane, i);
                to[f] = parameters[unit * n + i];
                to[row + f] = direction(m, v, small[stamps[unit] & (DRIFT_SIZE - 1)]);
                to[2 * row + f] = m;
                to[3 * row + f] = v;
            }
        }
    });
}

void GridStore::save(const Fading& fading, int plane, int64_t now, float* parameters, float* moments1, float* moments2,
                     int32_t* to_stamps) const {
    in_bands([&](int64_t first, int64_t last) {
        save_units(fading, plane, now, first, last, parameters, moments1, moments2, to_stamps);
    });
}

void GridStore::save_units(const Fading& fading, int plane, int64_t now, int64_t first, int64_t last, float* parameters,
                           float* moments1, float* moments2, int32_t* to_stamps) const {
    const int n = grid.unit_parameters;
    if (!moves()) {
        const float most = now > loaded_at_ ? limit : std::numeric_limits<float>::infinity();
        for (int64_t unit = first; parameters && unit < last; unit++)
            for (int i = 0; i < n; i++) parameters[unit * n + i] = clamped(record(unit)[row_column(grid, plane, i)], most);
        for (float* moments : {moments1, moments2})
            if (moments) std::fill(moments + first * n, moments + last * n, 0.0f);
        if (to_stamps) std::fill(to_stamps + first, to_stamps + last, int32_t(now));
        return;
    }
    for (int64_t unit = first; unit < last; unit++) {
        const float* from = record(unit);
        const int64_t age = to_stamps ? 0 : now - stamps[unit];
        const float moved = age ? distance[stamps[unit] & (DRIFT_SIZE - 1)] : 0;
        for (int i = 0; i < n; i++) {
            const int f = row_column(grid, plane, i);
            if (parameters) parameters[unit * n + i] = age ? clamped(from[f] - from[row + f] * moved, limit) : from[f];
            if (moments1) moments1[unit * n + i] = from[2 * row + f] * fading.moment1[age];
            if (moments2) moments2[unit * n + i] = from[3 * row + f] * fading.moment2[age];
        }
        if (to_stamps) to_stamps[unit] = stamps[unit];
    }
}

void GridStore::take_moments(const Fading& fading, int64_t now, float* const* moments1, float* const* moments2) {
    in_bands([&](int64_t first, int64_t last) {
        for (int plane = 0; plane < grid.planes; plane++)
            save_units(fading, plane, now, first, last, nullptr, moments1[plane], moments2[plane], nullptr);
        records.give_back(size_t(first) * unit_floats(), size_t(last) * unit_floats());
    });
}

}  // namespace nt
