// Pairs of bfloat16 in place of floats: what AVX-512 BF16 multiplies and adds, two products in the time of one.
//
// Each float of a matrix of pairs holds two elements that a product adds up over: the first in its lower half.
#pragma once

#include "vec.h"

#if defined(__AVX512BF16__) && NT_VECTOR_BYTES == 64
#include <immintrin.h>
#endif

namespace nt {

#if defined(__AVX512BF16__) && NT_VECTOR_BYTES == 64
constexpr bool HAS_BFLOAT16 = true;

// sum + the products of both halves of x and `factor`.
static inline vfloat add_pairs(vfloat sum, vfloat x, float factor) {
    return (vfloat)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)(vfloat{} + factor));
}

// Floats to the nearest bfloat16, ties to even: the lanes of x, then those of y.
static inline vfloat narrowed(vfloat x, vfloat y) { return (vfloat)_mm512_cvtne2ps_pbh((__m512)y, (__m512)x); }

// A pair of each lane of x and y.
static inline vfloat paired(vfloat x, vfloat y) {
    alignas(64) static constexpr uint16_t ORDER[32] = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
                                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return (vfloat)_mm512_permutexvar_epi16(_mm512_load_si512(ORDER), (__m512i)narrowed(x, y));
}
#else
constexpr bool HAS_BFLOAT16 = false;
inline vfloat add_pairs(vfloat sum, vfloat, float) { return sum; }
inline vfloat narrowed(vfloat x, vfloat) { return x; }
inline vfloat paired(vfloat x, vfloat) { return x; }
#endif

constexpr long row_pairs(long columns) { return align_up(columns, 2 * V) / 2; }

inline uint16_t bfloat16_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// Makes pairs of n rows of `columns` floats, whole vectors: by_row (n, row_pairs(columns)), of successive columns, and
// by_sample ((n + 1) / 2, columns), of successive rows. Either may be null.
inline void make_pairs(const float* from, long stride, long n, long columns, float* by_row, float* by_sample) {
    for (long s = 0; s < n; s++) {
        const float* row = from + s * stride;
        if (by_row)
            for (long c = 0; c < columns; c += 2 * V)
                store(by_row + s * row_pairs(columns) + c / 2,
                      narrowed(load(row + c), c + V < columns ? load(row + c + V) : vfloat{}));
        if (by_sample && s % 2 == 0)
            for (long c = 0; c < columns; c += V)
                store(by_sample + s / 2 * columns + c,
                      paired(load(row + c), s + 1 < n ? load(row + stride + c) : vfloat{}));
    }
}

}  // namespace nt
