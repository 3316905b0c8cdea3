// Decoding at any position and LOD, and gradients at given samples.
#pragma once

#include "texels.h"
#include "network.h"
#include "shape.h"

namespace nt {

// A model with fixed parameters.
struct Frozen {
    Frozen(const nt_model& model, const float* const* parameters, const float* weights);

    const Shape shape;
    Network network;
    std::vector<Stored> grids;
};

// Decodes and differentiates a frozen model, up to BLOCK samples at a time.
class Evaluation {
  public:
    Evaluation(const Frozen& model, const Noise* noise);

    // Decodes samples; lod may be fractional. out: (n, n_decoded).
    void decode(long n, const float* uv, const float* lod, float* out, bool for_backward = false);
    // Decodes, and adds the gradients for `upstream` (n, n_decoded), the derivative by `out`. Layout of weight_gradient:
    // Layer::gradient_offset.
    void differentiate(long n, const float* uv, const float* lod, const float* upstream, float* out,
                       float* const* grid_gradients, float* weight_gradient);

  private:
    void locate_samples(long n, const float* uv, const float* lod);
    void fill_inputs(long n, const int32_t* lod, const float* lod_value, std::vector<Corner>& corners, float* inputs);
    void prepare_inputs(long n, bool upper);
    void propagate(long n, const float* upstream, bool upper, float* const* grid_gradients, float* weight_gradient);
    template <class Kind>
    void scatter_blocks(int g, const Corner& corner, const float* from, float share, float* to);
    void scatter(long n, const std::vector<Corner>& corners, const float* share, float* const* grid_gradients);

    const Frozen& model_;
    const std::vector<Noise> noise_;
    Workspace work_;
    std::vector<float> u_, v_, lod_, lower_value_, upper_value_, blend_, rest_, ones_;
    std::vector<int32_t> lower_, upper_;
    std::vector<Corner> near_, far_;
    Buffer<float> input_gradient_;
    long gradient_stride_;
    bool blending_ = false;
};

}  // namespace nt
