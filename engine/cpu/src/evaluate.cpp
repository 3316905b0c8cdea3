#include "evaluate.h"

#include <algorithm>
#include <cmath>

namespace nt {

Frozen::Frozen(const nt_model& model, const float* const* parameters, const float* weights)
    : shape(model), network(shape) {
    for (int g = 0; g < model.n_grids; g++) grids.push_back({parameters[g]});
    network.pack_all(weights, shape.integer() ? 8 : 32);  // the caller has rounded them
}

Evaluation::Evaluation(const Frozen& model, const Noise* noise)
    : model_(model),
      noise_(noise ? std::vector<Noise>(noise, noise + model.grids.size())
                   : std::vector<Noise>(model.grids.size(), Noise{0, 0})),
      work_(model.shape),
      ones_(BLOCK, 1.0f),
      near_(BLOCK * model.grids.size()),
      far_(BLOCK * model.grids.size()),
      gradient_stride_(align_up(model.shape.feature_columns, V)) {
    for (auto* list : {&u_, &v_, &lod_, &lower_value_, &upper_value_, &blend_, &rest_}) list->resize(BLOCK);
    lower_.resize(BLOCK);
    upper_.resize(BLOCK);
    input_gradient_.resize(BLOCK * gradient_stride_);
}

// The two LODs around each sample, and its distance from the lower one, as in model.NeuralTexture.forward.
void Evaluation::locate_samples(long n, const float* uv, const float* lod) {
    const float last = float(model_.shape.num_lods - 1);
    blending_ = false;
    for (long s = 0; s < n; s++) {
        u_[s] = uv[2 * s] - std::floor(uv[2 * s]);
        v_[s] = uv[2 * s + 1] - std::floor(uv[2 * s + 1]);
        const float lower = std::min(std::max(std::floor(lod[s]), 0.0f), last);
        const float upper = std::min(lower + 1, last);
        lod_[s] = lod[s];
        lower_[s] = int32_t(lower_value_[s] = lower);
        upper_[s] = int32_t(upper_value_[s] = upper);
        blend_[s] = std::min(std::max(lod[s] - lower, 0.0f), 1.0f);
        rest_[s] = 1 - blend_[s];
        blending_ = blending_ || blend_[s] > 0;
    }
}

void Evaluation::fill_inputs(long n, const int32_t* lod, const float* lod_value, std::vector<Corner>& corners,
                             float* inputs) {
    const Shape& shape = model_.shape;
    const long n_grids = long(shape.grids.size());
    encode(shape, u_.data(), v_.data(), lod, lod_value, n, inputs);
    for (long g = 0; g < n_grids; g++) {
        for (long s = 0; s < n; s++) corners[s * n_grids + g] = locate(shape.grids[g].lods[lod[s]], u_[s], v_[s]);
        gather_grid(shape.grids[g], shape.quantized, model_.grids[g], &noise_[g], &corners[g], n_grids, n, inputs,
                    shape.input_stride);
    }
}

// Without learned grids the inputs of two LODs are blended; with one, each LOD passes through the network by itself.
void Evaluation::prepare_inputs(long n, bool upper) {
    const Shape& shape = model_.shape;
    float* inputs = work_.inputs.data();
    if (shape.any_learned) {
        fill_inputs(n, (upper ? upper_ : lower_).data(), (upper ? upper_value_ : lower_value_).data(),
                    upper ? far_ : near_, inputs);
        return;
    }
    fill_inputs(n, lower_.data(), lod_.data(), near_, inputs);
    if (!blending_) return;
    fill_inputs(n, upper_.data(), lod_.data(), far_, work_.other_inputs.data());
    for (long s = 0; s < n; s++) blend_inputs(shape, work_, s, s, blend_[s]);
}

void Evaluation::decode(long n, const float* uv, const float* lod, float* out, bool for_backward) {
    const Shape& shape = model_.shape;
    const long stride = shape.layers.back().out_stride;
    locate_samples(n, uv, lod);
    const int passes = shape.any_learned && blending_ ? 2 : 1;
    for (int pass = 0; pass < passes; pass++) {
        prepare_inputs(n, pass == 1);
        forward(model_.network, work_, n, for_backward);
        for (long s = 0; s < n; s++) {
            const float* from = work_.outputs.back().data() + s * stride;
            float* to = out + s * shape.n_decoded;
            if (pass == 0) std::fill(to, to + shape.n_decoded, 0.0f);
            for (int c = 0; c < shape.n_channels; c++) {
                float& value = to[shape.channels[c]];
                if (pass == 0)
                    value = from[c];
                else
                    value = blend_[s] < 0.5f ? value + blend_[s] * (from[c] - value)
                                             : from[c] - rest_[s] * (from[c] - value);
            }
        }
    }
}

// Adds a sample's gradient to that of the parameters of the blocks around it.
template <class Kind>
void Evaluation::scatter_blocks(int g, const Corner& corner, const float* from, float share, float* to) {
    const Grid& grid = model_.shape.grids[g];
    for (int i = 0; i < 4; i++) {
        const uint32_t block = corner.texel[i] / Kind::TEXELS;
        const float weight = share * (grid.learned ? 1.0f : corner.weight(i));
        float of_texels[Kind::SUM] = {}, row[Kind::ROW], gradient[Kind::ROW];
        for (int f = 0; f < BLOCK_FEATURES; f++)
            of_texels[Kind::WEIGHTS * f + corner.texel[i] % Kind::TEXELS] = weight * from[grid.input(i, f)];
        model_.grids[g].block_row<Kind>(block, row);
        block_gradient<Kind>(model_.shape.quantized, row, block, PlaneNoise(&noise_[g], 1), of_texels, gradient);
        for (int k = 0; k < Kind::PARAMETERS; k++)
            to[size_t(block) * Kind::PARAMETERS + k] += gradient[row_column(grid, 0, k)];
    }
}

void Evaluation::scatter(long n, const std::vector<Corner>& corners, const float* share,
                         float* const* grid_gradients) {
    const Shape& shape = model_.shape;
    const long n_grids = long(shape.grids.size());
    for (long g = 0; g < n_grids; g++) {
        const Grid& grid = shape.grids[g];
        for (long s = 0; s < n; s++) {
            const Corner& corner = corners[s * n_grids + g];
            const float* from = input_gradient_.data() + s * gradient_stride_ + grid.column;
            if (grid.blocks()) {
                with_kind<1>(grid, [&](auto kind) {
                    if constexpr (decltype(kind)::BLOCKS)
                        scatter_blocks<decltype(kind)>(int(g), corner, from, share[s], grid_gradients[g]);
                });
                continue;
            }
            for (int i = 0; i < 4; i++) {
                float* to = grid_gradients[g] + size_t(corner.texel[i]) * grid.features;
                const float weight = share[s] * (grid.learned ? 1.0f : corner.weight(i));
                for (int f = 0; f < grid.features; f++) to[f] += weight * from[grid.input(i, f)];
            }
        }
    }
}

// Backward from `upstream`; with a learned grid, from its share for the upper or lower LOD.
void Evaluation::propagate(long n, const float* upstream, bool upper, float* const* grid_gradients,
                           float* weight_gradient) {
    const Shape& shape = model_.shape;
    for (long s = 0; s < n; s++)
        for (int c = 0; c < shape.n_channels; c++)
            work_.upstream[0][s * shape.widest + c] =
                upstream[s * shape.n_decoded + shape.channels[c]] *
                (shape.any_learned ? (upper ? blend_[s] : rest_[s]) : 1.0f);
    backward(model_.network, work_, n, weight_gradient, false, input_gradient_.data(), gradient_stride_);
    if (shape.any_learned) {
        scatter(n, upper ? far_ : near_, ones_.data(), grid_gradients);
    } else {
        scatter(n, near_, rest_.data(), grid_gradients);
        if (blending_) scatter(n, far_, blend_.data(), grid_gradients);
    }
}

void Evaluation::differentiate(long n, const float* uv, const float* lod, const float* upstream, float* out,
                               float* const* grid_gradients, float* weight_gradient) {
    decode(n, uv, lod, out, true);
    const bool two_passes = model_.shape.any_learned && blending_;
    if (two_passes) {  // the upper LOD's activations are still there
        propagate(n, upstream, true, grid_gradients, weight_gradient);
        prepare_inputs(n, false);
        forward(model_.network, work_, n, true);
    }
    propagate(n, upstream, false, grid_gradients, weight_gradient);
}

}  // namespace nt
