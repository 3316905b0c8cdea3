/* The C interface of the fused CPU kernels; engine/cpu/library.py declares the same structures to Python.
 *
 * All arrays belong to the caller. Functions that can fail return a status: 0 for success, -1 when memory has run out,
 * -2 when a thread cannot be started, -3 for any other failure; nt_failure has the reason. Sizes and shapes are not
 * checked here: Python has done so.
 */
#ifndef NT_H
#define NT_H

#include <stdint.h>

#define NT_API __attribute__((visibility("default")))
#define NT_INTERFACE 13 /* to be raised with every change of this file that a caller could notice */

#ifdef __cplusplus
extern "C" {
#endif

/* One grid: see shape.GridSpec. */
typedef struct nt_grid {
    int32_t features; /* per texel */
    int32_t bits;     /* per feature */
    int32_t n_levels;
    int32_t base_width, base_height; /* of the coarsest level, texels */
    int32_t learned; /* 1: the network interpolates; 0: bilinear */
    int32_t block_side;  /* 4: BC1 blocks, 6: ASTC 6x6, see blocks.py; features is 3 and bits 0 then. 0: no blocks */
    int32_t finest_lods; /* LODs, from 0 on, that read the finest level */
} nt_grid;

/* The shape of a model.NeuralTexture. */
typedef struct nt_model {
    const nt_grid* grids;
    int32_t n_grids;
    int32_t n_frequencies;
    int32_t n_texel_frequencies;
    int32_t n_neurons;
    int32_t n_hidden_layers;
    int32_t num_lods;
    int32_t quantized;
    int32_t seamless; /* 1: the first wave of each axis is unused */
    int32_t n_channels;
    const int32_t* channels; /* outputs of the network to compute, ascending; the others are 0 */
    int32_t activation; /* 0: leaky ReLU with negative_slope; 1: hard swish */
    float negative_slope;
    int32_t n_decoded; /* values of a decoded texel: 11, or 16 with extra maps */
    int32_t coverage;  /* which of `channels` says how much the others count in the loss, see NT_COVERAGE_FLOOR; -1: none */
    /* Lowest and highest of what each layer takes in, one pair after the other, for a network in whole numbers as
     * quantized/network.py has it, with weights of 8 bits; null: floats. */
    const float* activation_ranges;
} nt_model;

/* A sample counts NT_COVERAGE_FLOOR + (1 - NT_COVERAGE_FLOOR) * its coverage in all channels but the coverage itself:
 * COVERAGE_FLOOR of engine/sample_loss.py. */
#define NT_COVERAGE_FLOOR 0.05f
/* A wanted coverage within NT_END of 0 or 1, or light of 0, has no error up to NT_ROOM beyond: END and ROOM there. */
#define NT_END (0.5f / 255)
#define NT_ROOM 0.1f
/* LIGHT_GAIN there. */
#define NT_LIGHT_GAIN 4.0f

/* The target, a dataset.Material with the channels of the model, in its order. */
typedef struct nt_material {
    const int32_t* widths;  /* per LOD */
    const int32_t* heights; /* per LOD */
    const int64_t* offsets; /* per LOD: index of its first texel */
    const uint8_t* codes8;  /* (texels, columns8) */
    const uint16_t* codes16;
    int32_t columns8, columns16;
    const int32_t* columns; /* per channel: its column in codes8 | codes16 */
} nt_material;

/* The settings of a training run. */
typedef struct nt_settings {
    int64_t batch_size;
    uint32_t seed;
    int32_t n_threads;
    const float* lod_shares;     /* num_lods - 1, ascending: where on [0, 1) the share of the next LOD begins */
    const float* channel_weights; /* per channel, summing to 1 */
    const float* light;    /* per channel: light of value t counts this * (1 + NT_LIGHT_GAIN t^4); 0: no light. Null: none */
    double network_rate;
    const double* grid_rates; /* per grid */
    double beta1, beta2, epsilon;
    int32_t wrap_interval; /* iterations; 0: borders are never synced */
    int32_t wrap_levels;   /* from the finest; 0: all */
    float wrap_strength;
    int32_t filtered;      /* 1: any uv and LOD against the filtered material; 0: texel centres and whole LODs */
    float fraction_start;  /* filtered: a uniform x is the fraction max(x - start, 0) * scale of a LOD */
    float fraction_scale;  /* 0: whole LODs; it has to be 0 with a learned grid */
    int32_t weight_bits;   /* that weights are rounded to, see quantize.stored_weights; 32: not at all */
    int32_t bfloat16;      /* 1: products of gradients are of bfloat16, where nt_has_bfloat16() */
} nt_settings;

typedef struct nt_trainer nt_trainer;

/* NT_INTERFACE of this build. */
NT_API int32_t nt_interface(void);
/* Why the last function that failed on this thread did so; valid until the next one fails. */
NT_API const char* nt_failure(void);
/* Floats per vector of this build. */
NT_API int32_t nt_vector_width(void);
/* Whether this build multiplies bfloat16: 0 or 1. */
NT_API int32_t nt_has_bfloat16(void);
/* A small training run that has to learn. On a CPU without this build's instructions it ends the process. */
NT_API int32_t nt_self_test(void);
/* Multiply-adds per second of n_threads together with everything in registers, measured for `seconds`. */
NT_API int32_t nt_multiply_add_peak(double seconds, int32_t n_threads, double* per_second);
/* Multiply-adds of the matrix products for one training sample. */
NT_API int32_t nt_work(const nt_model* model, int64_t* per_sample);

/* Training. Material and settings arrays must live as long as the trainer; `model` is copied. */
NT_API int32_t nt_trainer_create(const nt_model* model, const nt_material* material, const nt_settings* settings,
                                 nt_trainer** trainer);
NT_API void nt_trainer_destroy(nt_trainer* trainer);
/* Parameters and Adam's moments of grid `index` after `iteration` updates, each (texels * features) or (blocks *
 * (6 + texels of one)) floats; moments may be null: zeros. `stamps` (texels or blocks): the iteration that each was last brought up to; null:
 * all are at `iteration`. A grid of rate 0 is not trained and has neither: moments are left out, as are older stamps. */
NT_API void nt_trainer_load_grid(nt_trainer* trainer, int32_t index, int64_t iteration, const float* parameters,
                                 const float* moments1, const float* moments2, const int32_t* stamps);
/* The inverse. With `stamps` the numbers are those stored, without (null) they are brought up to date. Any array may be
 * null. Of a grid of rate 0 moments are 0 and stamps the iteration. */
NT_API void nt_trainer_save_grid(nt_trainer* trainer, int32_t index, float* parameters, float* moments1,
                                 float* moments2, int32_t* stamps);
/* Moments of all grids, an array for each, as nt_trainer_save_grid gives them without stamps. The memory of the grids goes
 * back to the system on the way, so that both need no more than one: the trainer can only be destroyed afterwards. */
NT_API void nt_trainer_take_moments(nt_trainer* trainer, float* const* moments1, float* const* moments2);
/* Weights and moments, all layers one after the other, each row-major (outputs, inputs), padded as in the file. */
NT_API void nt_trainer_load_network(nt_trainer* trainer, int64_t iteration, const float* weights,
                                    const float* moments1, const float* moments2);
NT_API void nt_trainer_save_network(nt_trainer* trainer, float* weights, float* moments1, float* moments2);
/* The ranges of a network in whole numbers, as in nt_model. */
NT_API void nt_trainer_load_ranges(nt_trainer* trainer, const float* activation_ranges);
/* All texels are brought up to date after every NT_SWEEP_INTERVAL iterations. */
#define NT_SWEEP_INTERVAL 1000
/* How far texels of grid `index` with older stamps still have to move: NT_DRIFT_SIZE doubles, that of a stamp at the
 * stamp modulo the size, which is a power of two above NT_SWEEP_INTERVAL. Load it after the grid. */
#define NT_DRIFT_SIZE 1024
NT_API void nt_trainer_load_drift(nt_trainer* trainer, int32_t index, const double* drift);
NT_API void nt_trainer_save_drift(nt_trainer* trainer, int32_t index, double* drift);
/* Runs n iterations, with a factor of the learning rates and a noise strength for each. The network of the first
 * n_float has its weights as they are, that of the others rounded ones, and with activation_ranges whole numbers (then
 * n_float is 0 or n). *loss: their mean loss. */
NT_API int32_t nt_trainer_step(nt_trainer* trainer, int64_t n, const double* factors, const double* noise,
                               int64_t n_float, double* loss);
/* Mean squared error over the channels, without noise and with rounded weights, of the texel centres that `iteration`
 * (may be -1) draws. */
NT_API int32_t nt_trainer_probe(nt_trainer* trainer, int64_t iteration, double* mse);

/* Decoding. `parameters`: one array per grid, as in nt_trainer_load_grid. `out`: (n, n_decoded). */
NT_API int32_t nt_decode(const nt_model* model, const float* const* parameters, const float* weights, int64_t n,
                         const float* uv, const float* lod, int32_t n_threads, float* out);
/* Rows first_row .. first_row + rows of a LOD of width x height texels; out: (rows, width, n_decoded). */
NT_API int32_t nt_decode_rows(const nt_model* model, const float* const* parameters, const float* weights, int32_t lod,
                              int32_t width, int32_t height, int32_t first_row, int32_t rows, int32_t n_threads,
                              float* out);

/* Forward and backward of the training kernels at given samples, for tests and experiments.
 *
 * uv (n, 2); lod (n), may be fractional; upstream (n, n_decoded): derivative of the loss by each decoded channel. Per grid,
 * noise_steps: strength / 2^bits, 0 for no noise; noise_keys. out: (n, n_decoded) decoded values; grid_gradients: one array
 * per grid; weight_gradients: as in nt_trainer_load_network. Gradients are added to those arrays. */
NT_API int32_t nt_gradients(const nt_model* model, const float* const* parameters, const float* weights, int64_t n,
                            const float* uv, const float* lod, const float* upstream, const float* noise_steps,
                            const uint32_t* noise_keys, float* out, float* const* grid_gradients,
                            float* weight_gradients);

/* A matrix (rows, inputs) of weights as they are exported, see quantize.round_weights, for tests. */
NT_API void nt_round_weights(const float* weights, int64_t rows, int64_t inputs, int32_t bits, float* out);

/* Code search, with the constants of engine/torch/code_search.py and block_search.py: most features of a texel that are
 * tried, failures in a row that end its search, that of a block's weights, and that of a block's end points, and most texels of
 * the material that may read it. */
#define NT_SEARCH_TRIED 8
#define NT_SEARCH_FAILURES 2
#define NT_SEARCH_WEIGHT_FAILURES 3
#define NT_SEARCH_END_FAILURES 1
#define NT_SEARCH_REACH 4096
/* One sweep over a level of a grid of a quantised model, as engine/torch/code_search.py does it; of blocks, over
 * `planes` successive grids of one shape at once.
 *
 * channel_weights: per channel. lod_weights: per LOD, of one of its texels. New codes are written to `parameters` as
 * what they stand for; *changed is their number. */
NT_API int32_t nt_search_codes(const nt_model* model, const nt_material* material, float* const* parameters,
                               const float* weights, const float* channel_weights, const float* lod_weights,
                               int32_t first_grid, int32_t planes, int32_t level, int32_t n_threads, int64_t* changed);

#ifdef __cplusplus
}
#endif
#endif
