// The shape of a model as the kernels see it: levels per LOD, inputs and layers without what is constant or unused.
#pragma once

#include <cstdint>
#include <vector>

#include "nt.h"
#include "vec.h"

namespace nt {

constexpr int CHANNELS = 11;        // of a decoded texel
constexpr int PADDED_OUTPUTS = 16;  // of the network
constexpr int ALIGNMENT = 16;       // of the network's inputs

struct Level {
    int32_t resolution;
    uint32_t offset;  // texels before it
};

struct Grid {
    int features, bits;
    bool learned;
    int inputs;    // of the network
    int column;    // where they start
    int n_levels, base_resolution;
    int64_t texels;
    std::vector<Level> lods;    // the level that each LOD reads
    std::vector<Level> levels;  // all of them, coarsest first
};

// One matrix. Rows are outputs. The network's file pads inputs with ones and outputs with zeros and has inputs that
// are not used; here only what matters is left. source_row and source_columns lead back.
struct Layer {
    int inputs, outputs;
    long in_stride, out_stride;  // rounded up to vectors
    int file_inputs, file_outputs;
    int64_t file_offset;            // floats before it in the file's order
    int64_t gradient_offset;        // ... and in a gradient buffer of (outputs, in_stride) matrices
    std::vector<int> file_row;      // per output
    std::vector<int> column;        // per file input: our column, -1 for unused; several are one: the ones
    int gradient_columns;           // inputs from the first on that want a gradient
};

struct Shape {
    explicit Shape(const nt_model& model);

    int num_lods, n_channels;
    bool quantized, any_learned;
    bool hard_swish;  // instead of leaky ReLU
    float negative_slope;
    std::vector<int> channels;
    std::vector<Grid> grids;
    int feature_columns;           // the first inputs
    int first_wave, n_waves;       // then position waves of u and v
    int lod_column, ones_column;   // then the LOD, then 1 (-1 when the file has no padding)
    int first_texel_wave, n_texel_waves;
    // per wave: value = triangle(u * scale_u + v * scale_v + shift), with (u, v) in texels for the second kind;
    // padded with zeros to whole vectors
    std::vector<float> scale_u, scale_v, shift, texel_scale_u, texel_scale_v, texel_shift;
    std::vector<Layer> layers;
    int64_t file_weights, gradient_size;
    long input_stride;
    long widest;  // of all strides
};

}  // namespace nt
