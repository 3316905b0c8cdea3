// The samples of an iteration: drawn, ordered by band, placed in the batch, and their memory prefetched.
#include <algorithm>

#include "trainer.h"

using namespace nt;

// Draws one slice of the batch, as TexelSampler.draw of engine/sampling.py does, and orders it by band.
void nt_trainer::draw_slice(long slice, int64_t draw_iteration) {
    const uint32_t lod_key = stream_key(settings.seed, draw_iteration, STREAM_LOD);
    const uint32_t texel_key = stream_key(settings.seed, draw_iteration, STREAM_TEXEL);
    const long first = slice * slice_size, n = std::min<long>(slice_size, long(settings.batch_size) - first);
    uint32_t* starts = &slice_starts[slice * (n_bands + 1)];
    constexpr long PART = 256;
    Drawn sample[PART];
    uint8_t bands[PART];
    uint32_t lods[PART];
    float shares[PART], x_shares[PART], y_shares[PART];
    const auto draw = [&](long from, long count, auto&& use) {
        const uint32_t start = uint32_t(first + from), n_draws = uint32_t(count);
        for (uint32_t i = 0; i < n_draws; i++) {  // compilers vectorise this loop and the next
            shares[i] = hash_uniform(start + i, lod_key);
            x_shares[i] = hash_uniform(2 * (start + i), texel_key);
            y_shares[i] = hash_uniform(2 * (start + i) + 1, texel_key);
            lods[i] = 0;
        }
        for (int l = 0; l + 1 < shape.num_lods; l++) {
            const float boundary = settings.lod_shares[l];
            for (uint32_t i = 0; i < n_draws; i++) lods[i] += shares[i] >= boundary;
        }
        for (long i = 0; i < count; i++) {
            const uint32_t l = lods[i];
            const float height = float(material.heights[l]);
            const uint32_t y = uint32_t(int32_t(y_shares[i] * height));
            sample[i] = {uint32_t(int32_t(x_shares[i] * float(material.widths[l]))), y, l};
            bands[i] = uint8_t((float(y) + 0.5f) / height * float(n_bands));
        }
        for (long i = 0; i < count; i++) use(i);
    };
    std::fill(starts, starts + n_bands + 1, 0u);
    for (long from = 0; from < n; from += PART)
        draw(from, std::min(PART, n - from), [&](long i) { starts[bands[i] + 1]++; });
    for (int band = 0; band < n_bands; band++) starts[band + 1] += starts[band];
    uint32_t at[MAX_BANDS];
    std::copy(starts, starts + n_bands, at);
    if (n <= PART) {  // all samples are still in `sample`
        for (long i = 0; i < n; i++) drawn[first + at[bands[i]]++] = sample[i];
        return;
    }
    for (long from = 0; from < n; from += PART)
        draw(from, std::min(PART, n - from), [&](long i) { drawn[first + at[bands[i]]++] = sample[i]; });
}

// Sets the range of the batch that belongs to each band.
void nt_trainer::share_out() {
    long first = 0;
    for (int band = 0; band < n_bands; band++) {
        Chunk& chunk = chunks[band];
        chunk.first = first;
        for (long slice = 0; slice < n_slices; slice++) {
            const uint32_t* starts = &slice_starts[slice * (n_bands + 1)];
            first += starts[band + 1] - starts[band];
        }
        chunk.n = first - chunk.first;
    }
}

// Collects the samples of a band from all slices, and computes their positions and grid texels.
void nt_trainer::place_samples(int band) {
    const long n_grids = long(grids.size());
    long s = chunks[band].first;
    for (long slice = 0; slice < n_slices; slice++) {
        const uint32_t* starts = &slice_starts[slice * (n_bands + 1)];
        for (uint32_t i = starts[band]; i < starts[band + 1]; i++, s++) {
            const Drawn& sample = drawn[slice * slice_size + i];
            const uint32_t l = sample.lod;
            const float width = float(material.widths[l]), height = float(material.heights[l]);
            lod[s] = int32_t(l);
            lod_value[s] = float(l);
            u[s] = (float(sample.x) + 0.5f) / width;
            v[s] = (float(sample.y) + 0.5f) / height;
            target[s] = material.offsets[l] + int64_t(sample.y) * material.widths[l] + sample.x;
            for (long g = 0; g < n_grids; g++) corners[s * n_grids + g] = locate(shape.grids[g].lods[l], u[s], v[s]);
        }
    }
}

// Prefetches the memory that one sample reads in one grid and, with the first grid, in the material.
inline void nt_trainer::prefetch(long s, long g) const {
    const GridStore& grid = *grids[g];
    const long floats = 4 * grid.row;
    const Corner& corner = corners[s * long(grids.size()) + g];
    const bool blocks = grid.grid.blocks;  // two corners reach all blocks but for one sample in 16
    for (int i = 0; i < 4; i += blocks ? 3 : 1) {
        const size_t unit = blocks ? corner.texel[i] / BLOCK_TEXELS : corner.texel[i];
        for (long f = 0; f < floats; f += 16) prefetch_later(grid.records.data() + unit * floats + f);
        if (blocks || i % 2 == 0) prefetch_later(grid.stamps.data() + unit);
    }
    if (g == 0 && material.columns8) prefetch_later(material.codes8 + target[s] * material.columns8);
    if (g == 0 && material.columns16) prefetch_later(material.codes16 + target[s] * material.columns16);
}

void nt_trainer::Ahead::begin(long first, long last) {
    finish();
    at_ = first * n_grids_;
    end_ = last * n_grids_;
    per_call_ = calls_ ? float(end_ - at_) / float(calls_) : float(end_ - at_);
    calls_ = 0;
    credit_ = 0;
}

void nt_trainer::Ahead::finish() {
    for (; at_ < end_; at_++) trainer_.prefetch(at_ / n_grids_, at_ % n_grids_);
}

void nt_trainer::Ahead::some() {
    calls_++;
    for (credit_ += per_call_; credit_ >= 1 && at_ < end_; credit_ -= 1, at_++)
        trainer_.prefetch(at_ / n_grids_, at_ % n_grids_);
}
