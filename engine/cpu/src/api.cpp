// The C interface, see nt.h.
#include "nt.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "bfloat16.h"
#include "block_search.h"
#include "code_search.h"
#include "evaluate.h"
#include "failure.h"
#include "gemm.h"
#include "pool.h"
#include "trainer.h"
#include "weights.h"

using namespace nt;

namespace {

constexpr long DECODE_TASK = 32 * BLOCK;  // samples of a task

// Decodes n samples on n_threads threads; position(first, count, uv, lod) writes the positions of some of them.
template <class Position>
void decode_all(const Frozen& model, int64_t n, int32_t n_threads, float* out, Position&& position) {
    std::vector<std::unique_ptr<Evaluation>> evaluations(n_threads);
    run_tasks(n_threads, long((n + DECODE_TASK - 1) / DECODE_TASK), [&](long task, int thread) {
        auto& evaluation = evaluations[thread];
        if (!evaluation) evaluation = std::make_unique<Evaluation>(model, nullptr);
        float uv[2 * BLOCK], lod[BLOCK];
        const int64_t end = std::min<int64_t>((task + 1) * DECODE_TASK, n);
        for (int64_t first = task * DECODE_TASK; first < end; first += BLOCK) {
            const long count = long(std::min<int64_t>(BLOCK, end - first));
            position(first, count, uv, lod);
            evaluation->decode(count, uv, lod, out + first * model.shape.n_decoded);
        }
    });
}

}  // namespace

extern "C" {

int32_t nt_interface(void) { return NT_INTERFACE; }

int32_t nt_vector_width(void) { return V; }

int32_t nt_has_bfloat16(void) { return HAS_BFLOAT16; }

const char* nt_failure(void) { return failure_text; }

int32_t nt_multiply_add_peak(double seconds, int32_t n_threads, double* per_second) {
    return guarded([&] {
        std::vector<double> peaks(n_threads);
        run_threads(n_threads, [&](int thread) { peaks[thread] = multiply_add_peak(seconds); });
        *per_second = 0;
        for (double peak : peaks) *per_second += peak;
    });
}

int32_t nt_work(const nt_model* model, int64_t* per_sample) {
    return guarded([&] {
        const Shape shape(*model);
        *per_sample = 0;
        for (const Layer& layer : shape.layers)
            *per_sample += int64_t(2 * layer.inputs + layer.gradient_columns) * layer.outputs;
    });
}

int32_t nt_trainer_create(const nt_model* model, const nt_material* material, const nt_settings* settings,
                          nt_trainer** trainer) {
    return guarded([&] { *trainer = new nt_trainer(*model, *material, *settings); });
}

void nt_trainer_destroy(nt_trainer* trainer) { delete trainer; }

void nt_trainer_load_grid(nt_trainer* trainer, int32_t index, int64_t iteration, const float* parameters,
                          const float* moments1, const float* moments2, const int32_t* stamps) {
    trainer->iteration = iteration;
    GridStore& store = trainer->store_of(index);
    store.load(trainer->fading, index - store.grid.first, iteration, parameters, moments1, moments2, stamps);
}

void nt_trainer_save_grid(nt_trainer* trainer, int32_t index, float* parameters, float* moments1, float* moments2,
                          int32_t* stamps) {
    const GridStore& store = trainer->store_of(index);
    const int plane = index - store.grid.first;
    store.save(trainer->fading, plane, trainer->iteration, parameters, moments1, moments2, stamps);
}

void nt_trainer_take_moments(nt_trainer* trainer, float* const* moments1, float* const* moments2) {
    for (auto& store : trainer->grids)
        store->take_moments(trainer->fading, trainer->iteration, moments1 + store->grid.first,
                            moments2 + store->grid.first);
}

void nt_trainer_load_network(nt_trainer* trainer, int64_t iteration, const float* weights, const float* moments1,
                             const float* moments2) {
    const size_t n = trainer->weights.size();
    trainer->iteration = iteration;
    std::copy(weights, weights + n, trainer->weights.begin());
    std::fill(trainer->moments1.begin(), trainer->moments1.end(), 0.0f);
    std::fill(trainer->moments2.begin(), trainer->moments2.end(), 0.0f);
    if (moments1) std::copy(moments1, moments1 + n, trainer->moments1.begin());
    if (moments2) std::copy(moments2, moments2 + n, trainer->moments2.begin());
}

void nt_trainer_save_network(nt_trainer* trainer, float* weights, float* moments1, float* moments2) {
    if (weights) std::copy(trainer->weights.begin(), trainer->weights.end(), weights);
    if (moments1) std::copy(trainer->moments1.begin(), trainer->moments1.end(), moments1);
    if (moments2) std::copy(trainer->moments2.begin(), trainer->moments2.end(), moments2);
}

void nt_trainer_load_ranges(nt_trainer* trainer, const float* activation_ranges) {
    std::copy_n(activation_ranges, trainer->network.ranges.size(), trainer->network.ranges.begin());
}

void nt_trainer_load_drift(nt_trainer* trainer, int32_t index, const double* drift) {
    trainer->store_of(index).load_drift(drift);
}

void nt_trainer_save_drift(nt_trainer* trainer, int32_t index, double* drift) {
    const GridStore& store = trainer->store_of(index);
    std::copy(store.drift, store.drift + DRIFT_SIZE, drift);
}

int32_t nt_trainer_step(nt_trainer* trainer, int64_t n, const double* factors, const double* noise, int64_t n_float,
                        double* loss) {
    return guarded([&] { *loss = trainer->step(n, factors, noise, n_float); });
}

int32_t nt_trainer_probe(nt_trainer* trainer, int64_t iteration, double* mse) {
    return guarded([&] { *mse = trainer->probe(iteration); });
}

int32_t nt_decode(const nt_model* model, const float* const* parameters, const float* weights, int64_t n,
                  const float* uv, const float* lod, int32_t n_threads, float* out) {
    return guarded([&] {
        const Frozen frozen(*model, parameters, weights);
        decode_all(frozen, n, n_threads, out, [&](int64_t first, long count, float* to_uv, float* to_lod) {
            std::copy(uv + 2 * first, uv + 2 * (first + count), to_uv);
            std::copy(lod + first, lod + first + count, to_lod);
        });
    });
}

int32_t nt_decode_rows(const nt_model* model, const float* const* parameters, const float* weights, int32_t lod,
                       int32_t width, int32_t height, int32_t first_row, int32_t rows, int32_t n_threads, float* out) {
    return guarded([&] {
        const Frozen frozen(*model, parameters, weights);
        const int64_t start = int64_t(first_row) * width;
        decode_all(frozen, int64_t(rows) * width, n_threads, out,
                   [&](int64_t first, long count, float* to_uv, float* to_lod) {
                       for (long i = 0; i < count; i++) {
                           const int64_t texel = start + first + i;
                           to_uv[2 * i] = (float(texel % width) + 0.5f) / float(width);
                           to_uv[2 * i + 1] = (float(texel / width) + 0.5f) / float(height);
                           to_lod[i] = float(lod);
                       }
                   });
    });
}

int32_t nt_gradients(const nt_model* model, const float* const* parameters, const float* weights, int64_t n,
                     const float* uv, const float* lod, const float* upstream, const float* noise_steps,
                     const uint32_t* noise_keys, float* out, float* const* grid_gradients, float* weight_gradients) {
    return guarded([&] {
        const Frozen frozen(*model, parameters, weights);
        std::vector<Noise> noise;
        for (int g = 0; g < model->n_grids; g++) noise.push_back({noise_steps[g], noise_keys[g]});
        Evaluation evaluation(frozen, noise.data());
        Buffer<float> weight_gradient(frozen.shape.gradient_size);
        for (int64_t first = 0; first < n; first += BLOCK) {
            const long count = long(std::min<int64_t>(BLOCK, n - first));
            const int64_t value = first * frozen.shape.n_decoded;
            evaluation.differentiate(count, uv + 2 * first, lod + first, upstream + value, out + value, grid_gradients,
                                     weight_gradient.data());
        }
        for (size_t l = 0; l < frozen.shape.layers.size(); l++)
            unpack_gradient(frozen.shape, int(l), 0, frozen.shape.layers[l].outputs, weight_gradient.data(),
                            weight_gradients);
    });
}

void nt_round_weights(const float* weights, int64_t rows, int64_t inputs, int32_t bits, float* out) {
    for (const float* row = weights; row < weights + rows * inputs; row += inputs) {
        const RowRounding rounded(row, inputs, bits);
        for (int64_t i = 0; i < inputs; i++) *out++ = rounded(row[i]);
    }
}

int32_t nt_search_codes(const nt_model* model, const nt_material* material, float* const* parameters,
                        const float* weights, const float* channel_weights, const float* lod_weights, int32_t first_grid,
                        int32_t planes, int32_t level, int32_t n_threads, int64_t* changed) {
    return guarded([&] {
        const auto sweep = [&](auto&& search) { *changed = search.sweep(n_threads); };
        const auto sweep_blocks = [&](auto format) {
            sweep(BlockSearch<decltype(format)>(*model, *material, parameters, weights, channel_weights, lod_weights,
                                                first_grid, planes, level));
        };
        const int32_t side = model->grids[first_grid].block_side;
        if (side == Bc1::SIDE)
            sweep_blocks(Bc1());
        else if (side == Astc6x6::SIDE)
            sweep_blocks(Astc6x6());
        else
            sweep(CodeSearch(*model, *material, parameters, weights, channel_weights, lod_weights, first_grid, 1, level));
    });
}

int32_t nt_self_test(void) {
    const nt_grid grids[4] = {
        {8, 4, 2, 4, 4, 0, 0, 1}, {2, 8, 1, 3, 5, 1, 0, 1}, {3, 0, 1, 6, 6, 0, 4, 1}, {3, 0, 1, 6, 7, 0, 6, 1}};
    const int32_t channels[2] = {0, 4}, columns[2] = {0, 1}, widths[2] = {5, 2}, heights[2] = {3, 1};
    const int64_t offsets[2] = {0, 15};
    uint8_t codes[17 * 2];
    for (int i = 0; i < 34; i++) codes[i] = uint8_t(80 + 5 * (i % 13));
    const float shares[1] = {0.8f}, channel_weights[2] = {0.5f, 0.5f};
    const double rates[4] = {0.01, 0.01, 0.01, 0.01};
    const float ranges[4] = {-1, 1, -0.25f, 4};
    nt_model model = {grids, 4, 3, 2, 16, 1, 2, 1, 1, 2, channels, 0, 0.01f, 11, -1, nullptr};
    nt_material material = {widths, heights, offsets, codes, nullptr, 2, 0, columns};
    nt_settings settings = {100, 1, 2, shares, channel_weights, nullptr, 0.01, rates, 0.9, 0.99, 1e-12, 10, 0, 0.1f, 0, 0, 0, 8, 0};
    const auto learn = [&] {
        nt_trainer trainer(model, material, settings);
        for (size_t i = 0; i < trainer.weights.size(); i++)
            trainer.weights[i] = hash_uniform(uint32_t(i), 7) * 0.5f - 0.25f;
        std::fill(trainer.weights.begin() + trainer.shape.layers.back().file_offset, trainer.weights.end(), 0.0f);
        std::vector<double> factors(60, 1.0), noise(60, 0.5);
        const double before = trainer.probe(-1);
        trainer.step(30, factors.data(), noise.data(), 30);
        trainer.step(30, factors.data() + 30, noise.data() + 30, 0);
        const double after = trainer.probe(-1);
        if (!(after < 0.5 * before) || !std::isfinite(after)) fail(FAILED, "a small run does not learn");
    };
    return guarded([&] {
        learn();
        settings.bfloat16 = 1;
        learn();
        model.activation_ranges = ranges;
        learn();
    });
}

}  // extern "C"
