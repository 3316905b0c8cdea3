// Adam (Kingma & Ba 2015) with lazy updates of grid texels that have no gradient.
//
// An iteration reads a few thousand of millions of grid texels, yet Adam moves all of them, since moments fade slowly
// after a gradient. Updating all would cost more memory traffic than everything else. But while a parameter has no
// gradient its path is known: k iterations after iteration t,
//
//   moment1 = beta1^k m,  moment2 = beta2^k v,
//   parameter = p - q sum_{j=1..k} c(t+j) r^j,   q = m / (sqrt(v) + e),  r = beta1 / sqrt(beta2),
//   c(s) = rate(s) sqrt(1 - beta2^s) / (1 - beta1^s),  e = epsilon sqrt(1 - beta2^t)
//
// (exact except for epsilon, 1e-12, whose term in the denominator stays as it was at t). So a texel is brought up to
// date when it is read. The sum is the same for all texels of a grid that were last updated at t: `GridStore::drift`.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "blocks.h"
#include "shape.h"
#include "vec.h"

namespace nt {

constexpr int SWEEP_INTERVAL = NT_SWEEP_INTERVAL;
static_assert(SWEEP_INTERVAL < DRIFT_SIZE && (DRIFT_SIZE & (DRIFT_SIZE - 1)) == 0, "see NT_DRIFT_SIZE");

struct AdamConstants {
    double beta1, beta2, epsilon;

    // sqrt(1 - beta2^t); for t = 0 that of t = 1, since it is a divisor
    double correction(int64_t t) const { return std::sqrt(1 - std::pow(beta2, double(t < 1 ? 1 : t))); }
    // c(t) for a learning rate of 1
    double step_size(int64_t t) const { return correction(t) / (1 - std::pow(beta1, double(t))); }
    float small(int64_t t) const { return float(epsilon * correction(t)); }
};

// The factors of moments and directions after k iterations without a gradient.
struct Fading {
    explicit Fading(const AdamConstants& adam);

    AdamConstants adam;
    float moment1[DRIFT_SIZE], moment2[DRIFT_SIZE];  // beta1^k, beta2^k
    double direction[DRIFT_SIZE];                    // r^k
};

// Parameters, directions and moments of one grid while it is trained; see texels.h, Tracked. Its planes share the stamps.
// Of a grid of rate 0, which is not trained, there are the parameters alone, see texels.h, Still; its moments are 0.
class GridStore {
  public:
    // n_threads: for load, save and take_moments.
    GridStore(const Grid& grid, double rate, bool quantized, int n_threads);

    // Calls function(source) with where features come from.
    template <class Function>
    void with_source(Function&& function) const {
        if (moves())
            function(Tracked{records.data(), stamps.data(), distance, limit});
        else
            function(Still{records.data(), limit});
    }
    long unit_floats() const { return (moves() ? 4 : 1) * row; }

    // Adds iteration t, taken at this factor of the learning rate, to the distances.
    void advance(const Fading& fading, int64_t t, double factor);
    // Brings units first .. last up to iteration `now`. Once all are, clear_drift() must follow.
    void sweep(const Fading& fading, int64_t now, int64_t first, int64_t last);
    // Pulls opposite borders and the corners of the levels from `first_level` on together, and brings them up to `now`.
    void sync_borders(const Fading& fading, int64_t now, int first_level, float strength);

    // Of the model's grid that a plane is. Stamps are those of all planes.
    void load(const Fading& fading, int plane, int64_t iteration, const float* parameters, const float* moments1,
              const float* moments2, const int32_t* stamps);
    void save(const Fading& fading, int plane, int64_t now, float* parameters, float* moments1, float* moments2,
              int32_t* stamps) const;
    // The moments of all planes, an array for each, as save() gives them without stamps. The memory goes back to the system
    // on the way: nothing of this grid can be used afterwards.
    void take_moments(const Fading& fading, int64_t now, float* const* moments1, float* const* moments2);

    const Grid& grid;
    const double rate;
    bool moves() const { return rate > 0; }
    const float limit;
    const int row;           // floats of a unit in each row of its record
    Buffer<float> records;   // (units, 4, row); of a grid that does not move (units, row)
    Buffer<int32_t> stamps;  // (units); empty then
    // Distance that parameters have moved along their direction since their stamp, at stamp % DRIFT_SIZE.
    double drift[DRIFT_SIZE];
    float distance[DRIFT_SIZE];  // drift, rounded to float
    void load_drift(const double* from);
    void clear_drift();

  private:
    float* record(int64_t unit) { return records.data() + unit * unit_floats(); }
    const float* record(int64_t unit) const { return records.data() + unit * unit_floats(); }
    void bring_up(const Fading& fading, int64_t now, float small, int64_t unit);
    void tie_blocks(const Fading& fading, int64_t now, const Level& level, float strength);
    void save_units(const Fading& fading, int plane, int64_t now, int64_t first, int64_t last, float* parameters,
                    float* moments1, float* moments2, int32_t* stamps) const;
    // Calls work(first, last) for all units, in bands of them, on all threads.
    template <class Work>
    void in_bands(Work&& work) const;

    const int n_threads_;
    int64_t loaded_at_ = 0;  // iteration
};

inline float clamped(float x, float limit) { return x > limit ? limit : x < -limit ? -limit : x; }

// Adam's direction, m / (sqrt(v) + small).
inline float direction(float m, float v, float small) { return m / (__builtin_sqrtf(v) + small); }

// How units with the same stamp follow Adam up to the current iteration.
struct Follow {
    float distance;      // along the direction
    float fade1, fade2;  // factors of the moments
};

struct Step {
    float share1, share2;  // 1 - beta
    float small, size;     // epsilon's term in the denominator; length of the step along the direction
    float limit;
};

// W parameters of a unit with rows of F floats, brought up to the iteration before.
template <int F, int W>
inline typename Lanes<W>::floats followed(const float* record, const Follow& follow, const Step& step) {
    return clamped_lanes<W>(load<W>(record) - load<W>(record + F) * follow.distance, step.limit);
}

// Takes Adam's step for W of them from `p`, what followed() gave, along the sum `g` of their gradients.
template <int F, int W>
inline void update_lanes(float* record, typename Lanes<W>::floats p, typename Lanes<W>::floats g, const Follow& follow,
                         const Step& step) {
    const auto m = load<W>(record + 2 * F) * follow.fade1 + g * step.share1;
    const auto v = load<W>(record + 3 * F) * follow.fade2 + g * g * step.share2;
    const auto q = m / (square_root<W>(v) + step.small);
    store<W>(record, clamped_lanes<W>(p - q * step.size, step.limit));
    store<W>(record + F, q);
    store<W>(record + 2 * F, m);
    store<W>(record + 3 * F, v);
}

template <int F>
inline void update_record(float* record, const float* gradient, const Follow& follow, const Step& step) {
    constexpr int W = F < V ? F : V;
    for (int f = 0; f < F; f += W)
        update_lanes<F, W>(record + f, followed<F, W>(record + f, follow, step), load<W>(gradient + f), follow, step);
}

// The same for COUNT units of F floats, fewer than fill a vector, at once. follows: of each; gradients: one after the other.
template <int F, int COUNT>
inline void update_records(float* const* records, const float* gradients, const Follow* follows, const Step& step) {
    constexpr int W = F * COUNT;
    using floats = typename Lanes<W>::floats;
    const auto row = [&](int index) {
        return joined_rows<F, COUNT>([&](int i) { return records[i] + index * F; });
    };
    const auto set_row = [&](int index, const floats& x) {
        store_rows<F, COUNT>(x, [&](int i) { return records[i] + index * F; });
    };
    const floats distance = joined_values<F, COUNT>([&](int i) { return follows[i].distance; });
    const floats fade1 = joined_values<F, COUNT>([&](int i) { return follows[i].fade1; });
    const floats fade2 = joined_values<F, COUNT>([&](int i) { return follows[i].fade2; });
    const floats p = clamped_lanes<W>(row(0) - row(1) * distance, step.limit), g = load<W>(gradients);
    const floats m = row(2) * fade1 + g * step.share1;
    const floats v = row(3) * fade2 + g * g * step.share2;
    const floats q = m / (square_root<W>(v) + step.small);
    set_row(0, clamped_lanes<W>(p - q * step.size, step.limit));
    set_row(1, q);
    set_row(2, m);
    set_row(3, v);
}

template <class Kind>
inline void update_block(float* record, uint32_t block, bool quantized, const PlaneNoise& noise, const float* of_texels,
                         const Follow& follow, const Step& step) {
    constexpr int ROW = Kind::ROW, W = Kind::LANES;
    float row[ROW], gradient[ROW];
    for (int i = 0; i < ROW; i += W) store<W>(row + i, followed<ROW, W>(record + i, follow, step));
    block_gradient<Kind>(quantized, row, block, noise, of_texels, gradient);
    for (int i = 0; i < ROW; i += W)
        update_lanes<ROW, W>(record + i, load<W>(row + i), load<W>(gradient + i), follow, step);
}

}  // namespace nt
