// Products of small row-major matrices, which apply the operation of a network layer before they store the result.
#pragma once

#include "vec.h"

namespace nt {

// Static, since gemm.cpp is compiled with other flags than the rest.
static inline vfloat leaky(vfloat x, float slope) { return x > 0 ? x : x * slope; }

static inline vfloat hard_swish(vfloat x) {
    const vfloat gate = x + 3.0f;
    const vfloat above = gate > 0 ? gate : vfloat{};
    return x * (above < 6 ? above : vfloat{} + 6.0f) * (1.0f / 6);
}

enum class Finish {
    store,       // c = a b
    accumulate,  // c += a b
    leaky,       // c = x > 0 ? x : slope x, with x = a b
    mask,        // c = h > 0 ? x : slope x, with x = a b: the derivative of `leaky` at its result h
    hard_swish,  // z = x, unless z is null, and c = x min(max(x + 3, 0), 6) / 6, with x = a b
    hard_swish_back,  // c = x times the derivative of `hard_swish` at its argument h, with x = a b
    times,            // c = x h, with x = a b
};

// Called after each tile of a product, every few hundred cycles; serves to prefetch memory.
struct Idle {
    void (*work)(void*) = nullptr;
    void* state = nullptr;
};

struct Gemm {
    const float* a;
    long lda;
    bool a_transposed;  // false: element (row, k) is a[row * lda + k]; true: a[k * lda + row]
    const float* b;     // element (k, column) is b[k * ldb + column]
    long ldb;
    float* c;  // element (row, column) is c[row * ldc + column]
    long ldc;
    long rows, depth;
    long vectors;  // columns in vectors of V floats; b and c have room for all of them
    Finish finish = Finish::store;
    float slope = 0;
    const float* h = nullptr;  // for `mask`, `hard_swish_back` and `times`
    long ldh = 0;
    float* z = nullptr;  // for `hard_swish`; rows as in c
    bool pairs = false;  // a and b hold two successive k in each float, as bfloat16; `depth` counts pairs. See bfloat16.h
    Idle idle = {};
};

void gemm(const Gemm& job);

// Multiply-adds per second of this thread in registers, measured for `seconds`.
double multiply_add_peak(double seconds);

}  // namespace nt
