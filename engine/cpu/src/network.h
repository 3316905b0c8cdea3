// The decoder network on blocks of samples: inputs, forward, backward.
#pragma once

#include <vector>

#include "blocks.h"
#include "gemm.h"
#include "integer.h"
#include "shape.h"
#include "vec.h"

namespace nt {

// Most samples that go through the network together, a multiple of the rows of a tile in gemm.cpp: few enough that a
// layer's inputs, outputs and weights stay in the first caches, and enough to pay for loading its weight gradients.
constexpr int BLOCK_UNIT = 6, BLOCK = 11 * BLOCK_UNIT;

// A layer's weights in the two orders that the matrix products read.
struct PackedLayer {
    Buffer<float> by_input;   // (inputs, out_stride): forward
    Buffer<float> by_output;  // (outputs, in_stride): backward
    std::vector<CodedRow> rows;  // of a network in whole numbers, whose codes are in by_input
    IntegerLayer integer;
    Buffer<float> output_pairs;  // the latter as pairs of outputs, ((outputs + 1) / 2, in_stride), where the network has them
};

class Network {
  public:
    // pairs: also packs weights for Workspace::use_pairs.
    explicit Network(const Shape& shape, bool pairs = false);

    // Packs rows first .. last of a layer from weights in the file's order, rounded to so many bits (32: not at all). Once
    // all are packed, finish_pack() must follow.
    void pack(int layer, int first, int last, const float* weights, int bits);
    void finish_pack(int bits);
    void pack_all(const float* weights, int bits);

    const Shape& shape;
    const bool pairs;
    std::vector<PackedLayer> layers;
    std::vector<float> ranges;  // see Shape::activation_ranges
    bool integer = false;       // whether it computes in whole numbers: with rounded weights of a shape that does

  private:
    bool integer_of(int bits) const { return shape.integer() && bits == 8; }
};

// The memory of one thread for a block.
struct Workspace {
    explicit Workspace(const Shape& shape);

    const Shape& shape;
    Buffer<float> inputs;                // (BLOCK, input_stride)
    std::vector<Buffer<float>> outputs;  // per layer (BLOCK, out_stride), after the activation
    std::vector<Buffer<float>> arguments;  // before the activation, where its derivative needs them; in whole numbers the slope
    Buffer<float> upstream[2];           // (BLOCK, widest): gradients of the outputs of a layer, alternating
    Buffer<float> other_inputs;          // for blending two LODs
    // Products of the gradients are of bfloat16: what they multiply is copied here as pairs, see bfloat16.h.
    void use_pairs();
    bool pairs = false;
    Buffer<float> input_samples, upstream_samples, upstream_rows;
};

// Position waves, LOD and ones of the inputs of `n` samples; u and v in [0, 1].
void encode(const Shape& shape, const float* u, const float* v, const int32_t* lod, const float* lod_value, long n,
            float* inputs);

// Moves row `near` of the workspace's inputs by `blend` towards row `far` of its other ones, which are those at the next
// LOD; with texel waves all inputs, else only the features: the others are the same.
void blend_inputs(const Shape& shape, Workspace& work, long near, long far, float blend);

// Computes outputs.back() of the workspace from its inputs, or from the inputs of layer `first`. for_backward: keeps
// what backward() reads. In whole numbers the inputs become bytes.
void forward(const Network& network, Workspace& work, long n, bool for_backward, const Idle& idle = {}, size_t first = 0);

// Computes the first layer's outputs and arguments from its sums, in rows of out_stride floats.
void activate(const Network& network, const float* sums, Workspace& work, long n);

// Backward from the gradient of the last layer's outputs in work.upstream[0], rows of `widest` floats. Adds the
// gradient of the weights to `gradient` (layout: Layer::gradient_offset), or with `set` stores it. Stores that of the
// first `feature_columns` inputs in `input_gradient`, rows of gradient_stride floats with room for whole vectors. Both
// may be null.
void backward(const Network& network, Workspace& work, long n, float* gradient, bool set, float* input_gradient,
              long gradient_stride, const Idle& idle = {});

// Adds rows first .. last of a layer's gradient buffer to memory in the file's order of the weights.
void unpack_gradient(const Shape& shape, int layer, int first, int last, const float* gradient, float* file_order);

}  // namespace nt
