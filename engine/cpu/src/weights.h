// Weights of the network as they are exported: quantize.stored_weights and round_weights, bit for bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace nt {

constexpr float MOST_HALF = 65504;     // the largest float16
constexpr float LEAST_PEAK = 1e-30f;   // a row of 8-bit weights none of which is larger is stored as zeros
constexpr float LEAST_NORMAL_HALF = 0x1p-14f;

inline uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float float_of(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// The nearest float16, ties to even; beyond the largest the largest.
inline float round_to_half(float x) {
    x = std::min(std::max(x, -MOST_HALF), MOST_HALF);
    // a float16 that is not normal is a multiple of 2^-24: at 0.75 a float32 is one, too
    if (std::fabs(x) < LEAST_NORMAL_HALF) return std::copysign((std::fabs(x) + 0.75f) - 0.75f, x);
    const uint32_t bits = bits_of(x);
    return float_of((bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu);  // 13 of the 23 bits of the significand go
}

// Rounds the weights of one row of a matrix.
class RowRounding {
  public:
    RowRounding(const float* row, long n, int bits) : bits_(bits) {
        if (bits != 8) return;
        float peak = 0;
        for (long i = 0; i < n; i++) peak = std::max(peak, std::fabs(row[i]));
        if (peak > LEAST_PEAK) scale_ = float_of(bits_of(peak / 127) & ~0xffu);
    }

    float operator()(float weight) const {
        if (bits_ == 32) return weight;
        if (bits_ == 16) return round_to_half(weight);
        return code(weight) * scale_;
    }

    // Of 8 bits.
    float code(float weight) const {
        return scale_ == 0 ? 0.0f : std::min(std::max(std::nearbyint(weight / scale_), -127.0f), 127.0f);
    }
    float scale() const { return scale_; }

  private:
    int bits_;
    float scale_ = 0;
};

}  // namespace nt
