#include "siren.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "../../engine/cpu/src/failure.h"
#include "../../engine/cpu/src/gemm.h"
#include "../../engine/cpu/src/pool.h"
#include "../../engine/cpu/src/vec.h"

#define API extern "C" __attribute__((visibility("default")))

namespace {

using namespace nt;

constexpr long TILE = 64;  // samples that go through both networks at a time: what they leave behind fits into L2
constexpr float TWO_PI = 6.283185307179586f;

struct SineCosine {
    vfloat sine, cosine;
};

// sin and cos of 2 pi `turns`, to 1e-7 of exact for what float32 knows of the turns. |turns| < 2^20.
inline SineCosine sine_cosine(vfloat turns) {
    const vfloat magic = vfloat{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to whole numbers, kept in the low bits
    const vfloat shifted = turns * 2.0f + magic;
    const vfloat x = (turns - (shifted - magic) * 0.5f) * TWO_PI;  // -pi/2 .. pi/2 after half turns are taken away
    vint odd;
    memcpy(&odd, &shifted, sizeof odd);
    const vint sign = odd << 31;
    const vfloat y = x * x;
    // Taylor: the next terms are below 6e-8 at pi/2
    vfloat s = x * (1.0f + y * (-1.0f / 6 + y * (1.0f / 120 + y * (-1.0f / 5040 + y * (1.0f / 362880 + y * (-1.0f / 39916800))))));
    vfloat c = 1.0f + y * (-0.5f + y * (1.0f / 24 + y * (-1.0f / 720 + y * (1.0f / 40320 + y * (-1.0f / 3628800 + y * (1.0f / 479001600))))));
    vint bits;
    memcpy(&bits, &s, sizeof bits);
    bits ^= sign;
    memcpy(&s, &bits, sizeof bits);
    memcpy(&bits, &c, sizeof bits);
    bits ^= sign;
    memcpy(&c, &bits, sizeof bits);
    return {s, c};
}

// One layer, padded to whole vectors. Sine layers are scaled by omega / (2 pi), so that products count turns.
struct Layer {
    long inputs, outputs, in_stride, out_stride;
    bool sine;
    float scale;
    Buffer<float> by_input;   // (inputs, out_stride)
    Buffer<float> by_output;  // (outputs, in_stride)
    Buffer<float> bias;       // (out_stride)
};

struct Network {
    std::vector<Layer> layers;
    long widest = 0;

    Network(const lm_network& shape, const float* const* parameters) {
        for (int l = 0; l <= shape.layers; l++) {
            Layer layer{};
            layer.inputs = l == 0 ? shape.inputs : shape.hidden;
            layer.outputs = l == shape.layers ? shape.outputs : shape.hidden;
            layer.in_stride = align_up(layer.inputs, V);
            layer.out_stride = align_up(layer.outputs, V);
            layer.sine = l < shape.layers;
            layer.scale = layer.sine ? shape.omega / TWO_PI : 1.0f;
            layer.by_input.resize(layer.inputs * layer.out_stride);
            layer.by_output.resize(layer.outputs * layer.in_stride);
            layer.bias.resize(layer.out_stride);
            const float *weight = parameters[2 * l], *bias = parameters[2 * l + 1];
            for (long o = 0; o < layer.outputs; o++) {
                for (long i = 0; i < layer.inputs; i++) {
                    const float value = weight[o * layer.inputs + i] * layer.scale;
                    layer.by_input[i * layer.out_stride + o] = layer.by_output[o * layer.in_stride + i] = value;
                }
                layer.bias[o] = bias[o] * layer.scale;
            }
            widest = std::max({widest, layer.in_stride, layer.out_stride});
            layers.push_back(std::move(layer));
        }
    }
};

// What one thread needs of one network: a tile's values and slopes, and the sums of the gradients so far.
struct Work {
    const Network& network;
    Buffer<float> inputs;
    std::vector<Buffer<float>> values, slopes, weights, biases;
    Buffer<float> upstream[2];

    explicit Work(const Network& of) : network(of), inputs(TILE * of.layers[0].in_stride) {
        for (const Layer& layer : of.layers) {
            values.emplace_back(TILE * layer.out_stride);
            slopes.emplace_back(layer.sine ? TILE * layer.out_stride : 0);
            weights.emplace_back(layer.outputs * layer.in_stride);
            biases.emplace_back(layer.out_stride);
        }
        for (auto& buffer : upstream) buffer.resize(TILE * of.widest);
    }

    const float* inputs_of(size_t l) const { return l == 0 ? inputs.data() : values[l - 1].data(); }

    void forward(long n) {
        for (size_t l = 0; l < network.layers.size(); l++) {
            const Layer& layer = network.layers[l];
            Gemm job{};
            job.a = inputs_of(l);
            job.lda = layer.in_stride;
            job.b = layer.by_input.data();
            job.ldb = job.ldc = layer.out_stride;
            job.c = values[l].data();
            job.rows = n;
            job.depth = layer.inputs;
            job.vectors = layer.out_stride / V;
            gemm(job);
            for (long s = 0; s < n; s++)
                for (long i = 0; i < layer.out_stride; i += V) {
                    float* at = values[l].data() + s * layer.out_stride + i;
                    const vfloat sum = load(at) + load(layer.bias.data() + i);
                    if (layer.sine) {
                        const SineCosine both = sine_cosine(sum);
                        store(at, both.sine);
                        store(slopes[l].data() + s * layer.out_stride + i, both.cosine * TWO_PI);
                    } else {
                        store(at, sum);
                    }
                }
        }
    }

    // upstream[0] holds the gradient by the outputs, rows of the last layer's out_stride; returns that by the inputs,
    // rows of the first layer's in_stride, or null where it is not wanted.
    const float* backward(long n, bool by_inputs) {
        int turn = 0;
        for (long l = long(network.layers.size()) - 1; l >= 0; l--) {
            const Layer& layer = network.layers[l];
            float* up = upstream[turn].data();
            for (long s = 0; s < n; s++)
                for (long i = 0; i < layer.out_stride; i += V) {
                    float *at = up + s * layer.out_stride + i, *bias = biases[l].data() + i;
                    vfloat value = load(at);
                    if (layer.sine) {
                        value *= load(slopes[l].data() + s * layer.out_stride + i);
                        store(at, value);
                    }
                    store(bias, load(bias) + value);
                }
            Gemm job{};
            job.a = up;
            job.lda = layer.out_stride;
            job.a_transposed = true;
            job.b = inputs_of(l);
            job.ldb = job.ldc = layer.in_stride;
            job.c = weights[l].data();
            job.rows = layer.outputs;
            job.depth = n;
            job.vectors = layer.in_stride / V;
            job.finish = Finish::accumulate;
            gemm(job);
            if (l == 0 && !by_inputs) return nullptr;
            job = Gemm{};
            job.a = up;
            job.lda = layer.out_stride;
            job.b = layer.by_output.data();
            job.ldb = job.ldc = layer.in_stride;
            job.c = upstream[1 - turn].data();
            job.rows = n;
            job.depth = layer.outputs;
            job.vectors = layer.in_stride / V;
            gemm(job);
            turn = 1 - turn;
        }
        return upstream[turn].data();
    }
};

// Sums over the threads, in their order, as the gradients of what the caller knows.
void collect(const std::vector<std::vector<Work>>& works, size_t which, float* const* gradients) {
    const Network& network = works[0][which].network;
    for (size_t l = 0; l < network.layers.size(); l++) {
        const Layer& layer = network.layers[l];
        for (long o = 0; o < layer.outputs; o++) {
            for (long i = 0; i < layer.inputs; i++) {
                float sum = 0;
                for (const auto& work : works) sum += work[which].weights[l][o * layer.in_stride + i];
                gradients[2 * l][o * layer.inputs + i] = sum * layer.scale;
            }
            float sum = 0;
            for (const auto& work : works) sum += work[which].biases[l][o];
            gradients[2 * l + 1][o] = sum * layer.scale;
        }
    }
}

// sin and cos of the harmonics of one hour into `to`, interleaved.
void time_features(float hours, int harmonics, float* to) {
    for (int k = 1; k <= harmonics; k++) {
        const SineCosine both = sine_cosine(vfloat{} + hours / 24.0f * float(k));
        to[2 * k - 2] = both.sine[0];
        to[2 * k - 1] = both.cosine[0];
    }
}

struct Batch {
    int64_t n;
    const float *inputs, *hours, *targets;
    int harmonics;
    float* input_gradient;
};

// One tile through the networks and back; works: F1's (if there is one) and F2's. Returns the sum of squared errors.
double tile(std::vector<Work>& works, const Batch& batch, long first, long n) {
    Work& f2 = works.back();
    const bool has_f1 = works.size() == 2;
    const Layer &start = f2.network.layers[0], &end = f2.network.layers.back();
    const long channels = start.inputs - 2 * batch.harmonics;
    const float* latents = batch.inputs + first * channels;
    long latent_stride = channels;
    if (has_f1) {
        Work& f1 = works.front();
        const Layer& in = f1.network.layers[0];
        for (long s = 0; s < n; s++)
            memcpy(f1.inputs.data() + s * in.in_stride, batch.inputs + (first + s) * in.inputs, in.inputs * sizeof(float));
        f1.forward(n);
        latents = f1.values.back().data();
        latent_stride = f1.network.layers.back().out_stride;
    }
    for (long s = 0; s < n; s++) {
        float* row = f2.inputs.data() + s * start.in_stride;
        memcpy(row, latents + s * latent_stride, channels * sizeof(float));
        time_features(batch.hours[first + s], batch.harmonics, row + channels);
    }
    f2.forward(n);
    double squares = 0;
    const float factor = 2.0f / (float(batch.n) * float(end.outputs));
    for (long s = 0; s < n; s++)
        for (long o = 0; o < end.out_stride; o++) {
            const long at = s * end.out_stride + o;
            const float error = o < end.outputs ? f2.values.back()[at] - batch.targets[(first + s) * end.outputs + o] : 0;
            squares += double(error) * error;
            f2.upstream[0][at] = error * factor;
        }
    const float* down = f2.backward(n, has_f1 || batch.input_gradient);
    if (!down) return squares;
    float* to = has_f1 ? works.front().upstream[0].data() : batch.input_gradient + first * channels;
    const long stride = has_f1 ? latent_stride : channels;
    for (long s = 0; s < n; s++)
        for (long i = 0; i < stride; i++) to[s * stride + i] = i < channels ? down[s * start.in_stride + i] : 0;
    if (has_f1) works.front().backward(n, false);
    return squares;
}

}  // namespace

API int32_t lm_gradients(const lm_network* f1, const float* const* f1_parameters, float* const* f1_gradients,
                         const lm_network* f2, const float* const* f2_parameters, float* const* f2_gradients, int64_t n,
                         const float* inputs, const float* hours, int32_t harmonics, const float* targets,
                         float* input_gradient, float* loss, int32_t threads) {
    return guarded([&] {
        std::vector<Network> networks;
        if (f1) networks.emplace_back(*f1, f1_parameters);
        networks.emplace_back(*f2, f2_parameters);
        const Batch batch{n, inputs, hours, targets, harmonics, input_gradient};
        const long tiles = (n + TILE - 1) / TILE;
        std::vector<std::vector<Work>> works(threads);
        std::vector<double> squares(threads);
        run_threads(threads, [&](int thread) {
            for (const Network& network : networks) works[thread].emplace_back(network);
            for (long t = tiles * thread / threads; t < tiles * (thread + 1) / threads; t++)
                squares[thread] += tile(works[thread], batch, t * TILE, std::min<long>(TILE, n - t * TILE));
        });
        double sum = 0;
        for (double part : squares) sum += part;
        *loss = float(sum / (double(n) * f2->outputs));
        if (f1) collect(works, 0, f1_gradients);
        collect(works, networks.size() - 1, f2_gradients);
    });
}

API const char* nt_failure(void) { return failure_text; }

API int32_t nt_self_test(void) {
    for (float turns : {0.0f, 0.1f, -0.37f, 7.25f, -1000.4f}) {
        const SineCosine both = sine_cosine(vfloat{} + turns);
        const double angle = 2 * 3.141592653589793 * double(turns);
        for (int lane = 0; lane < V; lane++) {
            if (std::fabs(both.sine[lane] - std::sin(angle)) > 1e-6) return 1;
            if (std::fabs(both.cosine[lane] - std::cos(angle)) > 1e-6) return 2;
        }
    }
    const float w0[] = {0.5f, -1, 2, 0.25f}, b0[] = {0.1f, 0.2f}, w1[] = {1, -1}, b1[] = {0.5f};
    const float* parameters[] = {w0, b0, w1, b1};
    float g0[4], h0[2], g1[2], h1[1], loss = -1;
    float* gradients[] = {g0, h0, g1, h1};
    const lm_network network{2, 2, 1, 1, 3};
    const float inputs[] = {0.25f, -0.5f}, hours[] = {0}, targets[] = {0.25f};
    if (lm_gradients(nullptr, nullptr, nullptr, &network, parameters, gradients, 1, inputs, hours, 0, targets, nullptr,
                     &loss, 1)) return 3;
    const double y = std::sin(3 * (0.5 * 0.25 + 0.5 + 0.1)) - std::sin(3 * (0.5 - 0.125 + 0.2)) + 0.5, error = y - 0.25;
    if (std::fabs(loss - error * error) > 1e-5 || std::fabs(h1[0] - 2 * error) > 1e-5) return 4;
    return std::fabs(h0[0] - 2 * error * 3 * std::cos(3 * 0.725)) > 1e-4 ? 5 : 0;
}
