#include "integer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace nt {
namespace {

constexpr double LEVELS = 255, LARGEST = 2147483647.0;
constexpr int SUM_BITS = 17, SLOPE_STEPS = 32768;

inline vint load_ints(const float* from) {
    vint value;
    memcpy(&value, from, sizeof value);
    return value;
}

inline vint least(vint x, int32_t y) {
    const vint other = vint{} + y;
    return x < other ? x : other;
}

inline vint most(vint x, int32_t y) {
    const vint other = vint{} + y;
    return x > other ? x : other;
}

inline vfloat floats(vint x) { return __builtin_convertvector(x, vfloat); }

void put(Buffer<float>& to, long index, double value) {
    const int32_t whole = int32_t(std::min(std::max(value, -LARGEST), LARGEST));
    memcpy(to.data() + index, &whole, sizeof whole);
}

double first_sum(const CodedRow& row, double low) { return std::floor(128 * row.sum + low * row.sum + 0.5); }

// Number of bits of a whole number below 2^53.
int bit_length(double x) { return x < 1 ? 0 : std::ilogb(x) + 1; }

double offset_of(double low, int post_shift) { return std::floor((0.5 - 128 - low) * std::ldexp(1.0, post_shift) + 0.5); }

// The unit of p for hard swish and leaky ReLU, and the constants of y; see quantized/network.py.
double set_hard_swish(IntegerLayer& layer, double low, double high) {
    const double step = (high - low) / LEVELS;
    double unit = 1;
    for (int post_shift = 24; post_shift > 0; post_shift--) {
        unit = std::sqrt(6 * step / std::ldexp(1.0, post_shift));
        const double knee = std::floor(3 / unit + 0.5), offset = offset_of(low / step, post_shift);
        const double top = std::floor((LARGEST - std::max(offset + std::ldexp(128.0, post_shift), 0.0)) / (2 * std::max(knee, 0.5)));
        layer.top = int32_t(std::min(top, std::floor(LARGEST / 2)));
        layer.knee = int32_t(std::min(knee, 46000.0));
        layer.offset = int32_t(std::min(std::max(offset, -LARGEST), LARGEST));
        layer.post_shift = post_shift;
        if (top * unit >= std::max(high + step, 3.0) && knee * knee - std::min(offset, 0.0) <= LARGEST && knee > 0) break;
    }
    return unit;
}

double set_leaky(IntegerLayer& layer, double low, double high, double negative_slope) {
    const double step = (high - low) / LEVELS, steep = std::floor(negative_slope * SLOPE_STEPS + 0.5);
    const double top = std::min(std::floor(LARGEST / std::max(steep, 1.0)), std::floor(LARGEST / 2));
    layer.top = int32_t(top);
    layer.slope = int32_t(steep);
    layer.knee = 0;
    for (int post_shift = 10; post_shift > 0; post_shift--) {
        const double offset = offset_of(low / step, post_shift);
        layer.offset = int32_t(std::min(std::max(offset, -LARGEST), LARGEST));
        layer.post_shift = post_shift;
        if (std::fabs(offset) + std::ldexp(128.0, post_shift) < std::floor(LARGEST / 4) &&
            (steep == 0 || top * negative_slope * (step / std::ldexp(1.0, post_shift)) >= -low))
            break;
    }
    return step / std::ldexp(1.0, layer.post_shift);
}

}  // namespace

void IntegerLayer::set(const Layer& layer, const std::vector<CodedRow>& rows, const float* range, const float* after,
                       bool hard_swish, double negative_slope) {
    const double range_low = range[0], range_step = (double(range[1]) - range_low) / LEVELS, in_steps = range_low / range_step;
    low = range[0];
    step = (range[1] - range[0]) / 255.0f;
    for (auto* list : {&bias, &multipliers, &scales})
        if (!list->size()) list->resize(layer.out_stride);
    if (!after) {
        for (size_t r = 0; r < rows.size(); r++) {
            put(bias, long(r), first_sum(rows[r], in_steps));
            scales.data()[r] = float(double(rows[r].scale) * range_step);
        }
        return;
    }
    const auto most_of = [&](const CodedRow& row, double rounding) {
        const double first = first_sum(row, in_steps) + rounding;
        return std::max(std::fabs(first + 127 * row.positive - 128 * row.negative),
                        std::fabs(first - 128 * row.positive + 127 * row.negative));
    };
    double largest = 0;
    for (const CodedRow& row : rows) largest = std::max(largest, most_of(row, 0));
    pre_shift = std::max(bit_length(largest) - SUM_BITS, 0);
    const double rounding = double((int64_t(1) << pre_shift) >> 1);
    const double unit = hard_swish ? set_hard_swish(*this, after[0], after[1]) : set_leaky(*this, after[0], after[1], negative_slope);
    const auto factor = [&](const CodedRow& row) { return double(row.scale) * range_step * std::ldexp(1.0, pre_shift) / unit; };
    const auto fits = [&](int bits) {
        for (const CodedRow& row : rows) {
            const double sums = std::floor(most_of(row, rounding) / std::ldexp(1.0, pre_shift)) + 1;
            const double multiplier = std::floor(factor(row) * std::ldexp(1.0, bits) + 0.5);
            if (sums * multiplier + std::ldexp(1.0, bits - 1) > LARGEST) return false;
        }
        return true;
    };
    shift = 30;
    while (shift > 1 && !fits(shift)) shift--;
    for (size_t r = 0; r < rows.size(); r++) {
        put(bias, long(r), first_sum(rows[r], in_steps) + rounding);
        put(multipliers, long(r), std::floor(factor(rows[r]) * std::ldexp(1.0, shift) + 0.5));
    }
}

void input_bytes(float* inputs, long count) {
    for (long i = 0; i < count; i += V) {
        const vfloat zero{};
        vfloat steps = load(inputs + i) * 16384.0f + 0.5f;
        steps = steps > zero - 16384.0f ? steps : zero - 16384.0f;
        steps = steps < zero + 16384.0f ? steps : zero + 16384.0f;
        vint whole = __builtin_convertvector(steps, vint);
        whole += floats(whole) > steps;  // true is -1: rounds down below 0
        store(inputs + i, floats((whole * 255) >> 15));
    }
}

void activations_of(const IntegerLayer& layer, float* bytes, long count) {
    for (long i = 0; i < count; i += V) store(bytes + i, (load(bytes + i) + 128.0f) * layer.step + layer.low);
}

void finish_hidden(const IntegerLayer& layer, const float* sums, long n, long stride, float* to, float* slopes) {
    const int32_t half = 1 << (layer.shift - 1), knee = layer.knee;
    const float of_knee = knee ? 1.0f / float(knee) : 0, leaky_slope = float(layer.slope) / SLOPE_STEPS;
    const vfloat zero{}, one = zero + 1.0f;
    for (long s = 0; s < n; s++)
        for (long i = 0; i < stride; i += V) {
            const long at = s * stride + i;
            const vint sum = __builtin_convertvector(load(sums + at), vint) + load_ints(layer.bias.data() + i);
            const vint p = ((sum >> layer.pre_shift) * load_ints(layer.multipliers.data() + i) + half) >> layer.shift;
            vint y;
            if (knee)
                y = least(p, layer.top) * least(most(p + knee, 0), 2 * knee);
            else
                y = p > 0 ? p : (most(p, -layer.top) * layer.slope) >> 15;
            const vint found = (y + layer.offset) >> layer.post_shift;
            store(to + at, floats(least(most(found, -128), 127)));
            if (!slopes) continue;
            vfloat slope;
            if (knee) {
                slope = p > knee ? one : floats(p) * of_knee + 0.5f;
                slope = p < -knee ? zero : slope;
            } else {
                slope = p > 0 ? one : zero + leaky_slope;
            }
            slope = found < -128 ? zero : slope;
            store(slopes + at, found > 127 ? zero : slope);
        }
}

void finish_last(const IntegerLayer& layer, float* sums, long n, long stride) {
    for (long s = 0; s < n; s++)
        for (long i = 0; i < stride; i += V) {
            float* at = sums + s * stride + i;
            const vint sum = __builtin_convertvector(load(at), vint) + load_ints(layer.bias.data() + i);
            store(at, floats(sum) * load(layer.scales.data() + i));
        }
}

}  // namespace nt
