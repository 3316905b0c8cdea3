// Loss and gradients of sine networks over a batch, for fused_step.py. Plain C.
#pragma once

#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

// `layers` layers sin(omega (W x + b)) of `hidden` neurons and a linear one, as siren.py has them.
typedef struct {
    int32_t inputs, hidden, layers, outputs;
    float omega;
} lm_network;

// The mean squared error of a batch, and its gradient.
//
// f1: the network of the position, or null; then `inputs` are latents.
// *_parameters, *_gradients: addresses of W_0, b_0, W_1, b_1, ...: row-major (outputs, inputs) and (outputs).
// inputs: (n, f1->inputs), or without f1 (n, channels) with channels = f2->inputs - 2 harmonics.
// hours: (n); targets: (n, f2->outputs).
// input_gradient: (n, channels), or null; only without f1.
// Returns 0, or a status of engine/cpu/src/failure.h. The same bits for the same number of threads.
int32_t lm_gradients(const lm_network* f1, const float* const* f1_parameters, float* const* f1_gradients,
                     const lm_network* f2, const float* const* f2_parameters, float* const* f2_gradients, int64_t n,
                     const float* inputs, const float* hours, int32_t harmonics, const float* targets,
                     float* input_gradient, float* loss, int32_t threads);

const char* nt_failure(void);  // why the last call on this thread failed
int32_t nt_self_test(void);  // 0 when the kernels work on this CPU; the name that engine/cpu/build.py calls

#if defined(__cplusplus)
}
#endif
