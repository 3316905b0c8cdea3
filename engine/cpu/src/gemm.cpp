// The matrix products. Only this file is compiled with fused multiply-adds, see build.py.
#include "gemm.h"

#include <array>
#include <utility>

#include "bfloat16.h"
#include "vec.h"

namespace nt {
namespace {

// A tile of ROWS x WIDTH vectors of the result stays in registers during the loop over k. Each k needs WIDTH loads and
// ROWS broadcasts for ROWS * WIDTH multiply-adds. Two of these start per cycle and each takes four cycles, so a tile
// needs at least eight.
constexpr int MAX_WIDTH = NT_REGISTERS >= 32 ? 4 : 2;  // 4 x 3 vectors fill 16 registers to the last, and gcc spills
constexpr int MAX_ROWS = 12;

constexpr int rows_of(int width) {
    if (NT_REGISTERS >= 32) return width == 1 ? 12 : width == 2 ? 12 : width == 3 ? 8 : 6;
    return width == 1 ? 12 : 6;
}

template <bool PAIRS, bool TRANSPOSED, int ROWS, int WIDTH>
void tile(const Gemm& job, long row, long column) {
    const float* a = job.a + (TRANSPOSED ? row : row * job.lda);
    const float* b = job.b + column;
    const long lda = job.lda, ldb = job.ldb, depth = job.depth;
    vfloat sum[ROWS][WIDTH];
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
        for (int w = 0; w < WIDTH; w++) sum[r][w] = vfloat{};
    for (long k = 0; k < depth; k++) {
        vfloat line[WIDTH];
#pragma GCC unroll 16
        for (int w = 0; w < WIDTH; w++) line[w] = load(b + k * ldb + w * V);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++) {
            const float factor = TRANSPOSED ? a[k * lda + r] : a[r * lda + k];
#pragma GCC unroll 16
            for (int w = 0; w < WIDTH; w++) sum[r][w] = PAIRS ? add_pairs(sum[r][w], line[w], factor) : sum[r][w] + line[w] * factor;
        }
    }
    float* c = job.c + row * job.ldc + column;
    const float* h = job.h ? job.h + row * job.ldh + column : nullptr;
    const auto finish = [&](auto&& result) {
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
            for (int w = 0; w < WIDTH; w++) store(c + r * job.ldc + w * V, result(sum[r][w], r, w));
    };
    const float slope = job.slope;
    switch (job.finish) {
        case Finish::store: finish([](vfloat x, int, int) { return x; }); break;
        case Finish::accumulate:
            finish([&](vfloat x, int r, int w) { return load(c + r * job.ldc + w * V) + x; });
            break;
        case Finish::leaky: finish([&](vfloat x, int, int) { return leaky(x, slope); }); break;
        case Finish::mask:
            finish([&](vfloat x, int r, int w) { return load(h + r * job.ldh + w * V) > 0 ? x : x * slope; });
            break;
        case Finish::hard_swish:
            if (job.z) {
                float* z = job.z + row * job.ldc + column;
                finish([&](vfloat x, int r, int w) {
                    store(z + r * job.ldc + w * V, x);
                    return hard_swish(x);
                });
            } else {
                finish([](vfloat x, int, int) { return hard_swish(x); });
            }
            break;
        case Finish::times:
            finish([&](vfloat x, int r, int w) { return x * load(h + r * job.ldh + w * V); });
            break;
        case Finish::hard_swish_back:
            finish([&](vfloat x, int r, int w) {
                const vfloat at = load(h + r * job.ldh + w * V), slope_there = at * (1.0f / 3) + 0.5f;
                const vfloat inside = at <= 3 ? x * slope_there : x;
                return at < -3 ? vfloat{} : inside;
            });
            break;
    }
}

using Tile = void (*)(const Gemm&, long, long);

template <bool PAIRS, bool TRANSPOSED, int WIDTH, int... ROWS>
constexpr std::array<Tile, MAX_ROWS + 1> column_of(std::integer_sequence<int, ROWS...>) {
    return {nullptr, (ROWS < rows_of(WIDTH) ? tile<PAIRS, TRANSPOSED, (ROWS < rows_of(WIDTH) ? ROWS + 1 : 1), WIDTH> : nullptr)...};
}

template <bool PAIRS, bool TRANSPOSED, int... WIDTHS>
constexpr std::array<std::array<Tile, MAX_ROWS + 1>, MAX_WIDTH> table_of(std::integer_sequence<int, WIDTHS...>) {
    return {column_of<PAIRS, TRANSPOSED, WIDTHS + 1>(std::make_integer_sequence<int, MAX_ROWS>())...};
}

template <bool PAIRS, bool TRANSPOSED>
constexpr auto tiles_for = table_of<PAIRS, TRANSPOSED>(std::make_integer_sequence<int, MAX_WIDTH>());

const auto& tiles_of(const Gemm& job) {
    if constexpr (HAS_BFLOAT16)
        if (job.pairs) return job.a_transposed ? tiles_for<true, true> : tiles_for<true, false>;
    return job.a_transposed ? tiles_for<false, true> : tiles_for<false, false>;
}

// The size of part `index` when `total` is cut into `parts` of nearly the same size.
long part(long total, long parts, long index) { return total / parts + (index < total % parts); }

}  // namespace

void gemm(const Gemm& job) {
    const auto& tiles = tiles_of(job);
    const long column_parts = (job.vectors + MAX_WIDTH - 1) / MAX_WIDTH;
    const int widest = int(part(job.vectors, column_parts, 0));
    const long row_parts = (job.rows + rows_of(widest) - 1) / rows_of(widest);
    // the outer loop is over rows: b stays in the first-level cache, and each row of a and c passes through it once
    long row = 0;
    for (long i = 0; i < row_parts; i++) {
        const long rows = part(job.rows, row_parts, i);
        long column = 0;
        for (long j = 0; j < column_parts; j++) {
            const long width = part(job.vectors, column_parts, j);
            tiles[width - 1][rows](job, row, column);
            if (job.idle.work) job.idle.work(job.idle.state);
            column += width * V;
        }
        row += rows;
    }
}

double multiply_add_peak(double seconds) {
    constexpr int CHAINS = NT_REGISTERS >= 32 ? 24 : 12, ROUNDS = 1 << 16;
    vfloat sum[CHAINS];
    for (int i = 0; i < CHAINS; i++)
        for (int lane = 0; lane < V; lane++) sum[i][lane] = float(i + lane);
    vfloat factor = vfloat{} + 0.9999f, shift = vfloat{} + 1e-3f;
    asm volatile("" : "+m"(factor), "+m"(shift));  // the optimiser must not know their values
    double best = 0;
    const double end = seconds_now() + seconds;
    do {
        const double start = seconds_now();
        for (int k = 0; k < ROUNDS; k++)
#pragma GCC unroll 24
            for (int i = 0; i < CHAINS; i++) sum[i] = sum[i] * factor + shift;
        const double took = seconds_now() - start;
        best = best > ROUNDS / took ? best : ROUNDS / took;
    } while (seconds_now() < end);
    for (int i = 0; i < CHAINS; i++) asm volatile("" : : "m"(sum[i]));
    return best * CHAINS * V;
}

}  // namespace nt
