#include "network.h"

#include <algorithm>

#include "bfloat16.h"
#include "weights.h"

namespace nt {

Network::Network(const Shape& shape_, bool pairs_) : shape(shape_), pairs(pairs_), ranges(shape_.activation_ranges) {
    for (const Layer& layer : shape.layers) {
        PackedLayer packed;
        packed.by_input.resize(size_t(layer.inputs) * layer.out_stride);
        packed.by_output.resize(size_t(layer.outputs) * layer.in_stride);
        if (pairs) packed.output_pairs.resize(size_t(layer.outputs + 1) / 2 * layer.in_stride);
        packed.rows.resize(shape.integer() ? layer.outputs : 0);
        layers.push_back(std::move(packed));
    }
}

void Network::pack(int index, int first, int last, const float* weights, int bits) {
    const Layer& layer = shape.layers[index];
    float* by_input = layers[index].by_input.data();
    float* by_output = layers[index].by_output.data();
    for (int row = first; row < last; row++) {
        const float* from = weights + layer.file_offset + int64_t(layer.file_row[row]) * layer.file_inputs;
        float* to = by_output + row * layer.in_stride;
        for (int i = 0; i < layer.inputs; i++) to[i] = 0;
        const RowRounding rounded(from, layer.file_inputs, bits);
        for (int i = 0; i < layer.file_inputs; i++)
            if (layer.column[i] >= 0) to[layer.column[i]] += rounded(from[i]);
        for (int i = 0; i < layer.inputs; i++) by_input[i * layer.out_stride + row] = to[i];
        if (pairs) {
            uint16_t* halves = reinterpret_cast<uint16_t*>(layers[index].output_pairs.data());
            for (int i = 0; i < layer.inputs; i++) halves[2 * (row / 2 * layer.in_stride + i) + row % 2] = bfloat16_of(to[i]);
        }
        if (!integer_of(bits)) continue;
        CodedRow& coded = layers[index].rows[row];
        coded = {0, 0, 0, rounded.scale()};
        for (int i = 0; i < layer.inputs; i++) by_input[i * layer.out_stride + row] = 0;
        for (int i = 0; i < layer.file_inputs; i++) {
            if (layer.column[i] < 0) continue;
            const float code = rounded.code(from[i]);
            by_input[layer.column[i] * layer.out_stride + row] += code;
            coded.sum += code;
            (code > 0 ? coded.positive : coded.negative) += code;
        }
    }
}

void Network::finish_pack(int bits) {
    integer = integer_of(bits);
    for (size_t l = 0; integer && l < layers.size(); l++)
        layers[l].integer.set(shape.layers[l], layers[l].rows, &ranges[2 * l],
                              l + 1 < layers.size() ? &ranges[2 * l + 2] : nullptr, shape.hard_swish, shape.negative_slope);
}

void Network::pack_all(const float* weights, int bits) {
    for (size_t l = 0; l < layers.size(); l++) pack(int(l), 0, shape.layers[l].outputs, weights, bits);
    finish_pack(bits);
}

Workspace::Workspace(const Shape& shape_) : shape(shape_) {
    inputs.resize(BLOCK * shape.input_stride);
    other_inputs.resize(BLOCK * shape.input_stride);
    for (const Layer& layer : shape.layers) {
        outputs.emplace_back(BLOCK * layer.out_stride);
        arguments.emplace_back(shape.hard_swish || shape.integer() ? BLOCK * layer.out_stride : 0);
    }
    for (auto& buffer : upstream) buffer.resize(BLOCK * shape.widest);
}

void Workspace::use_pairs() {
    pairs = true;
    input_samples.resize((BLOCK + 1) / 2 * shape.widest);
    upstream_samples.resize((BLOCK + 1) / 2 * shape.widest);
    upstream_rows.resize(BLOCK * row_pairs(shape.widest));
}

namespace {

// Triangle waves of period 1: 4 |x - floor(x) - 0.5| - 1, for x >= 0; whole vectors are written.
inline void waves(const float* scale_u, const float* scale_v, const float* shift, long count, float u, float v,
                  float* to) {
    for (long i = 0; i < count; i += V) {
        const vfloat x = (load(scale_u + i) * u + load(scale_v + i) * v) + load(shift + i);
        vfloat part = x - __builtin_convertvector(__builtin_convertvector(x, vint), vfloat) - 0.5f;
        part = part < 0 ? -part : part;
        store(to + i, part * 4.0f - 1.0f);
    }
}

// Sawtooths of period 1: 2 (x - floor(x)) - 1, for x >= -0.5; whole vectors are written.
inline void sawtooths(const float* scale_u, const float* scale_v, const float* shift, long count, float u, float v,
                      float* to) {
    for (long i = 0; i < count; i += V) {
        const vfloat x = (load(scale_u + i) * u + load(scale_v + i) * v) + load(shift + i);
        const vfloat toward_0 = __builtin_convertvector(__builtin_convertvector(x, vint), vfloat);
        store(to + i, (x - (toward_0 > x ? toward_0 - 1.0f : toward_0)) * 2.0f - 1.0f);
    }
}

}  // namespace

void encode(const Shape& shape, const float* u, const float* v, const int32_t* lod, const float* lod_value, long n,
            float* inputs) {
    const float lod_range = shape.num_lods > 1 ? float(shape.num_lods - 1) : 1.0f;
    for (long s = 0; s < n; s++) {
        float* row = inputs + s * shape.input_stride;
        // rows are written from left to right, since a vector may overwrite what follows it, even in the next row
        waves(shape.scale_u.data(), shape.scale_v.data(), shape.shift.data(), shape.n_waves, u[s], v[s],
              row + shape.first_wave);
        row[shape.lod_column] = lod_value[s] / lod_range;
        if (shape.n_texel_waves) {
            const Level& level = shape.grids[0].lods[lod[s]];
            sawtooths(shape.texel_scale_u.data(), shape.texel_scale_v.data(), shape.texel_shift.data(),
                      shape.n_texel_waves, u[s] * float(level.width), v[s] * float(level.height),
                      row + shape.first_texel_wave);
        }
        if (shape.ones_column >= 0) row[shape.ones_column] = 1;
    }
}

void blend_inputs(const Shape& shape, Workspace& work, long near_row, long far_row, float blend) {
    const long count = shape.n_texel_waves ? shape.layers[0].inputs : shape.feature_columns;
    float* near = work.inputs.data() + near_row * shape.input_stride;
    const float* far = work.other_inputs.data() + far_row * shape.input_stride;
    if (blend < 0.5f)  // as torch.lerp
        for (long i = 0; i < count; i++) near[i] += blend * (far[i] - near[i]);
    else
        for (long i = 0; i < count; i++) near[i] = far[i] - (1 - blend) * (far[i] - near[i]);
}

void activate(const Network& network, const float* sums, Workspace& work, long n) {
    const Shape& shape = network.shape;
    const long count = n * shape.layers[0].out_stride;
    float* to = work.outputs[0].data();
    if (network.integer && shape.layers.size() > 1) {
        finish_hidden(network.layers[0].integer, sums, n, shape.layers[0].out_stride, to, work.arguments[0].data());
    } else if (network.integer) {
        std::copy_n(sums, count, to);
        finish_last(network.layers[0].integer, to, n, shape.layers[0].out_stride);
    } else if (shape.layers.size() == 1) {
        std::copy_n(sums, count, to);
    } else if (shape.hard_swish) {
        std::copy_n(sums, count, work.arguments[0].data());
        for (long i = 0; i < count; i += V) store(to + i, hard_swish(load(sums + i)));
    } else {
        for (long i = 0; i < count; i += V) store(to + i, leaky(load(sums + i), shape.negative_slope));
    }
}

void forward(const Network& network, Workspace& work, long n, bool for_backward, const Idle& idle, size_t first) {
    const Shape& shape = network.shape;
    if (network.integer && first == 0) input_bytes(work.inputs.data(), n * shape.input_stride);
    for (size_t l = first; l < shape.layers.size(); l++) {
        const Layer& layer = shape.layers[l];
        Gemm job{};
        job.idle = idle;
        job.a = l == 0 ? work.inputs.data() : work.outputs[l - 1].data();
        job.lda = layer.in_stride;
        job.b = network.layers[l].by_input.data();
        job.ldb = layer.out_stride;
        job.c = work.outputs[l].data();
        job.ldc = layer.out_stride;
        job.rows = n;
        job.depth = layer.inputs;
        job.vectors = layer.out_stride / V;
        if (l + 1 == shape.layers.size() || network.integer) {
            job.finish = Finish::store;
        } else if (shape.hard_swish) {
            job.finish = Finish::hard_swish;
            job.z = for_backward ? work.arguments[l].data() : nullptr;
        } else {
            job.finish = Finish::leaky;
            job.slope = shape.negative_slope;
        }
        gemm(job);
        if (!network.integer) continue;
        if (l + 1 == shape.layers.size())
            finish_last(network.layers[l].integer, job.c, n, layer.out_stride);
        else
            finish_hidden(network.layers[l].integer, job.c, n, layer.out_stride, job.c,
                          for_backward ? work.arguments[l].data() : nullptr);
    }
}

namespace {

// Makes a product that of the same matrices as pairs.
void of_pairs(Gemm& job, const float* a, long lda, const Buffer<float>& b) {
    job.pairs = true;
    job.a = a;
    job.lda = lda;
    job.b = b.data();
    job.depth = (job.depth + 1) / 2;
}

}  // namespace

void backward(const Network& network, Workspace& work, long n, float* gradient, bool set, float* input_gradient,
              long gradient_stride, const Idle& idle) {
    const Shape& shape = network.shape;
    int turn = 0;
    for (int l = int(shape.layers.size()) - 1; l >= 0; l--) {
        const Layer& layer = shape.layers[l];
        float* inputs = l == 0 ? work.inputs.data() : work.outputs[l - 1].data();
        const float* upstream = work.upstream[turn].data();
        Gemm job{};
        job.idle = idle;
        if (gradient && network.integer) activations_of(network.layers[l].integer, inputs, n * layer.in_stride);
        const bool pairs = work.pairs && !network.integer;
        if (pairs) {
            make_pairs(upstream, shape.widest, n, layer.out_stride, work.upstream_rows.data(), work.upstream_samples.data());
            make_pairs(inputs, layer.in_stride, n, layer.in_stride, nullptr, work.input_samples.data());
        }
        if (gradient) {  // by the weights: (outputs, inputs) = sum over samples of upstream x input
            job.a = upstream;
            job.lda = shape.widest;
            job.a_transposed = true;
            job.b = inputs;
            job.ldb = layer.in_stride;
            job.c = gradient + layer.gradient_offset;
            job.ldc = layer.in_stride;
            job.rows = layer.outputs;
            job.depth = n;
            job.vectors = layer.in_stride / V;
            job.finish = set ? Finish::store : Finish::accumulate;
            if (pairs) of_pairs(job, work.upstream_samples.data(), layer.out_stride, work.input_samples);
            gemm(job);
        }
        if (l == 0 && !input_gradient) break;
        job = Gemm{};
        job.idle = idle;
        // by the inputs: (samples, inputs) = upstream x weights
        job.a = upstream;
        job.lda = shape.widest;
        job.b = network.layers[l].by_output.data();
        job.ldb = layer.in_stride;
        job.c = l == 0 ? input_gradient : work.upstream[1 - turn].data();
        job.ldc = l == 0 ? gradient_stride : shape.widest;
        job.rows = n;
        job.depth = layer.outputs;
        job.vectors = align_up(layer.gradient_columns, V) / V;
        if (pairs)
            of_pairs(job, work.upstream_rows.data(), row_pairs(layer.out_stride), network.layers[l].output_pairs);
        if (l > 0) {
            job.finish = network.integer ? Finish::times : shape.hard_swish ? Finish::hard_swish_back : Finish::mask;
            job.slope = shape.negative_slope;
            job.h = shape.hard_swish || network.integer ? work.arguments[l - 1].data() : inputs;
            job.ldh = layer.in_stride;
        }
        gemm(job);
        turn = 1 - turn;
    }
}

void unpack_gradient(const Shape& shape, int index, int first, int last, const float* gradient, float* file_order) {
    const Layer& layer = shape.layers[index];
    for (int row = first; row < last; row++) {
        const float* from = gradient + layer.gradient_offset + row * layer.in_stride;
        float* to = file_order + layer.file_offset + int64_t(layer.file_row[row]) * layer.file_inputs;
        for (int i = 0; i < layer.file_inputs; i++)
            if (layer.column[i] >= 0) to[i] += from[layer.column[i]];
    }
}

}  // namespace nt
