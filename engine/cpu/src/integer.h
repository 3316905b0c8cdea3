// The network in whole numbers: quantized/network.py, number for number. Products of bytes are computed as floats, whose
// sums are exact below 2^24.
#pragma once

#include <vector>

#include "shape.h"
#include "vec.h"

namespace nt {

// What the constants of a layer follow from: the codes of its rows, and their scales.
struct CodedRow {
    double sum = 0, positive = 0, negative = 0;  // of codes, of those above 0, of those below
    float scale = 0;
};

// quantized.network.IntegerLayer without the codes, and the steps of what the layer takes in.
struct IntegerLayer {
    Buffer<float> bias, multipliers;  // (out_stride) whole numbers: int32 in the memory of floats
    Buffer<float> scales;             // of the last layer, (out_stride)
    int32_t pre_shift = 0, shift = 1, top = 0, knee = 0, slope = 0, offset = 0, post_shift = 1;
    float low = 0, step = 1;  // an activation is low + step * (byte + 128)

    // Sets the constants. range, after: lowest and highest that this layer and the next one take in; after is null in the
    // last layer. Numbers that do not fit into 32 bits, which Python refuses to read and to write, become others.
    void set(const Layer& layer, const std::vector<CodedRow>& rows, const float* range, const float* after,
             bool hard_swish, double negative_slope);
};

// An input of the network as a byte.
inline float input_byte(float x) {
    float steps = x * 16384.0f + 0.5f;
    steps = steps > -16384.0f ? steps < 16384.0f ? steps : 16384.0f : -16384.0f;
    const int32_t whole = int32_t(steps);
    return float((255 * (whole - (steps < float(whole)))) >> 15);
}

// Makes inputs bytes, in place.
void input_bytes(float* inputs, long count);
// Makes bytes what they stand for, in place.
void activations_of(const IntegerLayer& layer, float* bytes, long count);
// n rows of a hidden layer's sums of products -> the bytes that the next layer takes in, and, unless null, the slopes of the
// activation, 0 outside the range. `to` may be `sums`.
void finish_hidden(const IntegerLayer& layer, const float* sums, long n, long stride, float* to, float* slopes);
// n rows of the last layer's sums of products -> its outputs, in place.
void finish_last(const IntegerLayer& layer, float* sums, long n, long stride);

}  // namespace nt
