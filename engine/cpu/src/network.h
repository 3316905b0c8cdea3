// The decoder network on blocks of samples: inputs, forward, backward.
#pragma once

#include <vector>

#include "texels.h"
#include "gemm.h"
#include "shape.h"
#include "vec.h"

namespace nt {

// Samples that go through the network together are at most so many, a multiple of the rows of a tile in gemm.cpp; few
// enough that a layer's inputs, outputs and weights stay close to the core, enough to pay for its weight gradients.
constexpr int BLOCK_UNIT = 6, BLOCK = 11 * BLOCK_UNIT;

// A layer's weights in the two orders that the matrix products read.
struct PackedLayer {
    Buffer<float> by_input;   // (inputs, out_stride): forward
    Buffer<float> by_output;  // (outputs, in_stride): backward
};

class Network {
  public:
    explicit Network(const Shape& shape);

    // Take rows first..last of a layer from weights in the file's order.
    void pack(int layer, int first, int last, const float* weights);
    void pack_all(const float* weights);

    const Shape& shape;
    std::vector<PackedLayer> layers;
};

// What one thread needs for a block.
struct Workspace {
    explicit Workspace(const Shape& shape);

    const Shape& shape;
    Buffer<float> inputs;                // (BLOCK, input_stride)
    std::vector<Buffer<float>> outputs;  // per layer (BLOCK, out_stride), after the activation
    std::vector<Buffer<float>> arguments;  // the same before it, where the derivative asks for them
    Buffer<float> upstream[2];           // (BLOCK, widest): gradients of a layer's outputs, by turns
    Buffer<float> other_inputs;          // for blending two LODs
};

// Position waves, LOD and ones of the inputs of `n` samples; u and v in [0, 1].
void encode(const Shape& shape, const float* u, const float* v, const int32_t* lod, const float* lod_value, long n,
            float* inputs);

// outputs.back() of the workspace from its inputs, or from what layer `first` reads; `for_backward` keeps what
// backward() needs.
void forward(const Network& network, Workspace& work, long n, bool for_backward, const Idle& idle = {}, size_t first = 0);

// The first layer's outputs, and arguments, from its sums: rows of its out_stride floats.
void activate(const Shape& shape, const float* sums, Workspace& work, long n);

// From the gradient of the last layer's outputs in work.upstream[0] (rows of widest floats): adds to `gradient` (see
// Layer::gradient_offset), or sets it, and leaves the gradient of the first `feature_columns` inputs in
// `input_gradient` (rows of gradient_stride floats, with room for whole vectors). Either may be null.
void backward(const Network& network, Workspace& work, long n, float* gradient, bool set, float* input_gradient,
              long gradient_stride, const Idle& idle = {});

// A gradient buffer, or a part of its rows, added to weights-shaped memory in the file's order.
void unpack_gradient(const Shape& shape, int layer, int first, int last, const float* gradient, float* file_order);

}  // namespace nt
