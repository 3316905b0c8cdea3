// The shape of a model for the kernels: levels per LOD, inputs and layers, without constant and unused inputs.
#pragma once

#include <cstdint>
#include <vector>

#include "nt.h"
#include "vec.h"

namespace nt {

constexpr int PADDED_OUTPUTS = 16;  // of the network
constexpr int ALIGNMENT = 16;       // of the network's inputs

constexpr int MOST_PLANES = 8;  // of a Grid
constexpr float SHARE_STEPS = 256;  // of quantized/network.py

struct Level {
    int32_t width, height;  // texels
    uint32_t offset;        // texels before it
    int32_t side;           // of a unit, in texels
    int32_t across, down;   // units
    bool rounded_shares;    // positions between texels are multiples of 1 / SHARE_STEPS
};

// Parameters come in units, a texel or a block. Texels are numbered unit after unit, level after level.
struct Grid {
    int first;   // of the model's grids that it stands for
    int planes;  // how many: 1, 2, 4 or MOST_PLANES
    int features, bits;  // of one of them
    bool learned;
    int side;  // of a unit, in texels
    int unit_texels, unit_parameters;
    int64_t units;
    int inputs;    // of the network
    int column;    // first of them
    bool blocks() const { return side > 1; }
    // Which of its inputs is a feature of a corner, of bilinear grids that of all corners together. In blocks the two
    // corners of a row lie side by side, as their weights do.
    int input(int corner, int feature, int plane = 0) const {
        if (!blocks()) return (learned ? corner * features : 0) + feature;
        return (learned ? (corner / 2 * features + feature) * 2 + corner % 2 : feature) * planes + plane;
    }

    int n_levels;
    std::vector<Level> lods;    // the level that each LOD reads
    std::vector<Level> levels;  // all of them, coarsest first
};

// One weight matrix; rows are outputs. The file's matrix also has padding (inputs of 1, outputs of 0) and unused
// inputs; file_row and column map between the two.
struct Layer {
    int inputs, outputs;
    long in_stride, out_stride;  // rounded up to vectors
    int file_inputs, file_outputs;
    int64_t file_offset;            // floats before it in the file's order
    int64_t gradient_offset;        // ... and in a gradient buffer of (outputs, in_stride) matrices
    std::vector<int> file_row;      // per output
    std::vector<int> column;        // per file input: our column; -1: unused; inputs of 1 share a column
    int gradient_columns;           // the first inputs, whose gradient is needed
};

struct Shape {
    // rates: of the model's grids; successive grids of blocks with one shape and one rate become planes of one grid. Null:
    // each grid stands for itself.
    explicit Shape(const nt_model& model, const double* rates = nullptr);

    const Grid& grid_of(int model_grid) const;

    // How much a sample counts in channels other than the coverage; wanted: (channels) what it should be.
    float weight_of(const float* wanted) const {
        return coverage < 0 ? 1.0f : NT_COVERAGE_FLOOR + (1 - NT_COVERAGE_FLOOR) * wanted[coverage];
    }

    int num_lods, n_channels;
    int n_decoded;  // values of a decoded texel
    int coverage;   // which channel says how much the others count; -1: none
    bool quantized, any_learned;
    bool hard_swish;  // instead of leaky ReLU
    float negative_slope;
    std::vector<float> activation_ranges;  // of nt_model; empty: the network computes with floats
    bool integer() const { return !activation_ranges.empty(); }
    // Whether training leaves a row of weights as it is: model.NeuralTexture.keeps_biases.
    bool keeps_row(int layer, int row) const {
        return row == 0 && integer() && ones_column >= 0 && layer + 1 < int(layers.size());
    }
    std::vector<int> channels;
    std::vector<Grid> grids;
    int feature_columns;           // the first inputs
    int first_wave, n_waves;       // then position waves of u and v
    int lod_column, ones_column;   // then texel waves, then the constant 1 (-1 when the file has no padding)
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
