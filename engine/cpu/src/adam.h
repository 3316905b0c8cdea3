// Adam without touching what has no gradient (Kingma & Ba 2015).
//
// A training step sees a few thousand of millions of grid texels, yet Adam moves all of them at each step: a moment
// fades slowly after its gradient. Doing so would cost more memory traffic than all the rest. But as long as no
// gradient comes, the path of a parameter is known: after k more steps from iteration t on,
//
//   moment1 = beta1^k m,  moment2 = beta2^k v,
//   parameter = p - q sum_{j=1..k} c(t+j) r^j,   q = m / (sqrt(v) + e),  r = beta1 / sqrt(beta2),
//   c(s) = rate(s) sqrt(1 - beta2^s) / (1 - beta1^s),  e = epsilon sqrt(1 - beta2^t)
//
// (exact but for epsilon, 1e-12, whose share in the denominator is taken as it was at t). So a texel is brought up to
// date when it is looked at, and the sum is the same for all texels of a grid that were last updated at t: `GridStore::drift`.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "texels.h"
#include "shape.h"
#include "vec.h"

namespace nt {

constexpr int SWEEP_INTERVAL = NT_SWEEP_INTERVAL;
static_assert(SWEEP_INTERVAL < DRIFT_SIZE && (DRIFT_SIZE & (DRIFT_SIZE - 1)) == 0, "an age below DRIFT_SIZE, by masking");

struct AdamConstants {
    double beta1, beta2, epsilon;

    // sqrt(1 - beta2^t), at least that of one step, so that nothing is divided by 0 before the first
    double correction(int64_t t) const { return std::sqrt(1 - std::pow(beta2, double(t < 1 ? 1 : t))); }
    // c(t) for a learning rate of 1
    double step_size(int64_t t) const { return correction(t) / (1 - std::pow(beta1, double(t))); }
    float small(int64_t t) const { return float(epsilon * correction(t)); }
};

// What k iterations without a gradient do to a texel.
struct Fading {
    explicit Fading(const AdamConstants& adam);

    AdamConstants adam;
    float moment1[DRIFT_SIZE], moment2[DRIFT_SIZE];  // beta1^k, beta2^k
    double direction[DRIFT_SIZE];                    // r^k
};

// Parameters, directions and moments of one grid while it is trained; see texels.h, Tracked.
class GridStore {
  public:
    GridStore(const Grid& grid, double rate, bool quantized);

    Tracked tracked() const { return {records.data(), stamps.data(), distance, limit}; }

    // Iteration t has been taken at this factor of the learning rate.
    void advance(const Fading& fading, int64_t t, double factor);
    // Bring texels first..last to iteration `now`; when all are there, no distance is left.
    void sweep(const Fading& fading, int64_t now, int64_t first, int64_t last);
    // Ties opposite borders and corners of the levels from `first_level` on; everything there is brought to `now`.
    void sync_borders(const Fading& fading, int64_t now, int first_level, float strength);

    void load(const Fading& fading, int64_t iteration, const float* parameters, const float* moments1,
              const float* moments2, const int32_t* stamps);
    void save(const Fading& fading, int64_t now, float* parameters, float* moments1, float* moments2,
              int32_t* stamps) const;

    const Grid& grid;
    const double rate;
    bool moves() const { return rate > 0; }  // a grid of rate 0 is given, and takes no time
    const float limit;
    Buffer<float> records;   // (texels, 4, features)
    Buffer<int32_t> stamps;  // (texels)
    // How far a parameter has moved along its direction since its stamp, by stamp % DRIFT_SIZE.
    double drift[DRIFT_SIZE];
    float distance[DRIFT_SIZE];  // the same, rounded
    void load_drift(const double* from);
    void clear_drift();

  private:
    float* record(int64_t texel) { return records.data() + texel * 4 * grid.features; }
    const float* record(int64_t texel) const { return records.data() + texel * 4 * grid.features; }
    void bring_up(const Fading& fading, int64_t now, float small, int64_t texel);
};

inline float clamped(float x, float limit) { return x > limit ? limit : x < -limit ? -limit : x; }

template <int W>
inline typename Lanes<W>::floats clamped_lanes(typename Lanes<W>::floats x, float limit) {
    const typename Lanes<W>::floats zero{};
    x = x > limit ? zero + limit : x;
    return x < -limit ? zero - limit : x;
}

// Adam's direction, m / (sqrt(v) + small).
inline float direction(float m, float v, float small) { return m / (__builtin_sqrtf(v) + small); }

// What Adam's step is the same for in all texels of a grid that were brought up to date at the same time.
struct Follow {
    float distance;      // moved since then, along the direction
    float fade1, fade2;  // of the moments, to the iteration that is being taken
};

struct Step {
    float share1, share2;  // 1 - beta
    float small, size;     // of the denominator; of the step along the direction
    float limit;
};

// One texel's step from the sum of its gradients: first it follows to the iteration before.
template <int F>
inline void update_record(float* record, const float* gradient, const Follow& follow, const Step& step) {
    constexpr int W = F < V ? F : V;
    for (int f = 0; f < F; f += W, record += W, gradient += W) {
        const auto g = load<W>(gradient);
        const auto m = load<W>(record + 2 * F) * follow.fade1 + g * step.share1;
        const auto v = load<W>(record + 3 * F) * follow.fade2 + g * g * step.share2;
        const auto q = m / (square_root<W>(v) + step.small);
        const auto p = clamped_lanes<W>(load<W>(record) - load<W>(record + F) * follow.distance, step.limit);
        store<W>(record, clamped_lanes<W>(p - q * step.size, step.limit));
        store<W>(record + F, q);
        store<W>(record + 2 * F, m);
        store<W>(record + 3 * F, v);
    }
}

}  // namespace nt
