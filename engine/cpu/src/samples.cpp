// The samples of an iteration: drawn, ordered by band, placed in the batch, and their memory prefetched.
#include <algorithm>

#include "trainer.h"

using namespace nt;

// Draws one slice of the batch, as TexelSampler.draw of engine/sampling.py does or, FILTERED, as
// FilteredSampler.draw_positions, and orders it by band.
template <bool FILTERED>
void nt_trainer::draw_slice(long slice, int64_t draw_iteration) {
    const uint32_t lod_key = stream_key(settings.seed, draw_iteration, STREAM_LOD);
    const uint32_t texel_key = stream_key(settings.seed, draw_iteration, STREAM_TEXEL);
    const uint32_t fraction_key = stream_key(settings.seed, draw_iteration, STREAM_FRACTION);
    const long first = slice * slice_size, n = std::min<long>(slice_size, long(settings.batch_size) - first);
    uint32_t* starts = &slice_starts[slice * (n_bands + 1)];
    constexpr long PART = 256;
    Drawn sample[PART];
    uint8_t bands[PART];
    uint32_t lods[PART];
    float shares[PART], x_shares[PART], y_shares[PART], lod_values[PART];
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
            const float width = FILTERED ? POSITIONS : float(material.widths[l]);
            const float height = FILTERED ? POSITIONS : float(material.heights[l]);
            const uint32_t y = uint32_t(int32_t(y_shares[i] * height));
            sample[i] = {uint32_t(int32_t(x_shares[i] * width)), y, l};
            bands[i] = uint8_t((float(y) + (FILTERED ? 0.0f : 0.5f)) / height * float(n_bands));
            if (!FILTERED) continue;
            const float drawn_fraction = hash_uniform(start + uint32_t(i), fraction_key);
            const float fraction = std::max(drawn_fraction - settings.fraction_start, 0.0f) * settings.fraction_scale;
            lod_values[i] = float(l) + (int(l) + 1 < shape.num_lods ? fraction : 0.0f);
        }
        for (long i = 0; i < count; i++) use(i);
    };
    std::fill(starts, starts + n_bands + 1, 0u);
    for (long from = 0; from < n; from += PART)
        draw(from, std::min(PART, n - from), [&](long i) { starts[bands[i] + 1]++; });
    for (int band = 0; band < n_bands; band++) starts[band + 1] += starts[band];
    uint32_t at[MAX_BANDS];
    std::copy(starts, starts + n_bands, at);
    const auto put = [&](long i) {
        const long to = first + at[bands[i]]++;
        drawn[to] = sample[i];
        if (FILTERED) drawn_lods[to] = lod_values[i];
    };
    if (n <= PART) {  // all samples are still in `sample`
        for (long i = 0; i < n; i++) put(i);
        return;
    }
    for (long from = 0; from < n; from += PART) draw(from, std::min(PART, n - from), put);
}

template void nt_trainer::draw_slice<false>(long, int64_t);
template void nt_trainer::draw_slice<true>(long, int64_t);

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
template <bool FILTERED>
void nt_trainer::place_samples(int band) {
    const long n_grids = long(grids.size());
    Chunk& chunk = chunks[band];
    chunk.n_far = 0;
    long s = chunk.first;
    for (long slice = 0; slice < n_slices; slice++) {
        const uint32_t* starts = &slice_starts[slice * (n_bands + 1)];
        for (uint32_t i = starts[band]; i < starts[band + 1]; i++, s++) {
            const Drawn& sample = drawn[slice * slice_size + i];
            if (FILTERED) {
                place_anywhere(s, sample, drawn_lods[slice * slice_size + i], chunk);
                continue;
            }
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

template void nt_trainer::place_samples<false>(int);
template void nt_trainer::place_samples<true>(int);

// A sample at any position and LOD: a look at each LOD around it.
void nt_trainer::place_anywhere(long s, const Drawn& sample, float drawn_lod, Chunk& chunk) {
    const int lower = int(drawn_lod);
    const float blend = drawn_lod - float(lower);
    u[s] = float(sample.x) / POSITIONS;
    v[s] = float(sample.y) / POSITIONS;
    lod_value[s] = drawn_lod;
    lod_share[s] = 1 - blend;
    place_look(s, lower);
    if (n_looks == 1) return;
    if (blend > 0) {
        const long far = chunk.first + chunk.n_far++, look = long(settings.batch_size) + far;
        far_sample[far] = uint32_t(s);
        u[look] = u[s];
        v[look] = v[s];
        lod_value[look] = drawn_lod;
        lod_share[look] = blend;
        place_look(look, lower + 1);
    }
    far_end[s] = uint32_t(chunk.first + chunk.n_far);
}

inline void nt_trainer::place_look(long look, int l) {
    const long n_grids = long(grids.size());
    lod[look] = l;
    material_corners[look] =
        locate_in_image(uint32_t(material.offsets[l]), material.widths[l], material.heights[l], u[look], v[look]);
    for (long g = 0; g < n_grids; g++)
        corners[look * n_grids + g] = locate(shape.grids[g].lods[l], u[look], v[look]);
}

namespace {

// n <= 16 bytes into 16, by few loads that reach no further: what follows would have to come from memory.
inline void copy_short(uint8_t* to, const uint8_t* from, long n) {
    uint64_t parts[2] = {};
    if (n >= 8) {
        memcpy(&parts[0], from, 8);
        memcpy(&parts[1], from + n - 8, 8);
        parts[1] = parts[1] >> 4 * (16 - n) >> 4 * (16 - n);  // twice, as 64 places at once are none
    } else {
        for (long i = 0; i < n; i++) parts[0] |= uint64_t(from[i]) << 8 * i;
    }
    memcpy(to, parts, sizeof parts);
}

}  // namespace

// The values of the material at the texels of a block, as stored: 16-bit columns follow the 8-bit ones in each row.
void nt_trainer::read_targets(long first, long n, Thread& thread) const {
    const long columns8 = material.columns8, columns16 = material.columns16, columns = columns8 + columns16;
    float* to = thread.targets.data();
    if (columns16 == 0 && columns8 <= PADDED_OUTPUTS) {  // mostly all maps have 8 bits
        for (long s = 0; s < n; s++, to += columns8) {
            uint8_t codes[PADDED_OUTPUTS];
            copy_short(codes, material.codes8 + target[first + s] * columns8, columns8);
            // a vector reaches into the next row, which is written after it
            for (int i = 0; i < PADDED_OUTPUTS; i++) to[i] = float(codes[i]) / 255.0f;
        }
        return;
    }
    for (long s = 0; s < n; s++, to += columns) {
        const uint8_t* codes8 = material.codes8 + target[first + s] * columns8;
        const uint16_t* codes16 = material.codes16 + target[first + s] * columns16;
        for (long i = 0; i < columns8; i++) to[i] = float(codes8[i]) / 255.0f;
        for (long i = 0; i < columns16; i++) to[columns8 + i] = float(codes16[i]) / 65535.0f;
    }
}

// The same at positions anywhere, filtered: dataset.Material.filtered.
void nt_trainer::filter_targets(long first, long n, Thread& thread) const {
    const long columns8 = material.columns8, columns16 = material.columns16;
    for (long s = first; s < first + n; s++) {
        float* const target8 = thread.targets.data() + (s - first) * (columns8 + columns16);
        float* const target16 = target8 + columns8;
        std::fill(target8, target16 + columns16, 0.0f);
        const auto add = [&](long look) {
            const Corner& corner = material_corners[look];
            for (int i = 0; i < 4; i++) {
                const float share = lod_share[look] * corner.weight(i);
                const uint8_t* codes8 = material.codes8 + size_t(corner.texel[i]) * columns8;
                const uint16_t* codes16 = material.codes16 + size_t(corner.texel[i]) * columns16;
                for (long c = 0; c < columns8; c++) target8[c] += share * float(codes8[c]);
                for (long c = 0; c < columns16; c++) target16[c] += share * float(codes16[c]);
            }
        };
        add(s);
        if (blends(s)) add(far_look(s));
        for (long c = 0; c < columns8; c++) target8[c] /= 255.0f;
        for (long c = 0; c < columns16; c++) target16[c] /= 65535.0f;
    }
}

// Prefetches the memory that one sample reads in one grid and, with the first grid, in the material.
inline void nt_trainer::prefetch(long s, long g) const {
    if (!settings.filtered) return prefetch_look(s, g, uint64_t(target[s]));
    prefetch_look(s, g, material_corners[s].texel[0]);
    if (g == 0) prefetch_target(material_corners[s].texel[2]);
    if (!blends(s)) return;
    const long far = far_look(s);
    prefetch_look(far, g, material_corners[far].texel[0]);
    if (g == 0) prefetch_target(material_corners[far].texel[2]);
}

inline void nt_trainer::prefetch_target(uint64_t texel) const {
    const auto prefetch_both = [](const auto* first, long columns) {  // ends: a texel may lie in two cache lines
        if (columns) prefetch_later(first), prefetch_later(first + columns - 1);
    };
    prefetch_both(material.codes8 + texel * material.columns8, material.columns8);
    prefetch_both(material.codes16 + texel * material.columns16, material.columns16);
}

inline void nt_trainer::prefetch_look(long look, long g, uint64_t texel) const {
    const Memory& grid = memory_[g];
    const Corner& corner = corners[look * long(grids.size()) + g];
    const auto prefetch_unit = [&](size_t unit, bool stamp) {
        const char* record = grid.records + unit * grid.bytes;
        prefetch_to_write(record);
        for (long byte = 64; byte < grid.bytes; byte += 64) prefetch_to_write(record + byte);
        if (stamp && grid.stamps) prefetch_to_write(grid.stamps + unit);
    };
    if (grid.unit_texels > 1) {  // two corners reach all blocks but for one sample in 16 at most
        const size_t first = corner.texel[0] / grid.unit_texels, last = corner.texel[3] / grid.unit_texels;
        prefetch_unit(first, true);
        if (last != first) prefetch_unit(last, true);
    } else {
        for (int i = 0; i < 4; i++) prefetch_unit(corner.texel[i], i % 2 == 0);
    }
    if (g == 0) prefetch_target(texel);
}

void nt_trainer::Ahead::begin(long first, long last) {
    finish();
    sample_ = first;
    left_ = (last - first) * n_grids_;
    per_call_ = calls_ ? float(left_) / float(calls_) : float(left_);
    calls_ = 0;
    credit_ = 0;
}

inline void nt_trainer::Ahead::next() {
    trainer_.prefetch(sample_, grid_);
    left_--;
    if (++grid_ < n_grids_) return;
    grid_ = 0;
    sample_++;
}

void nt_trainer::Ahead::finish() {
    while (left_) next();
}

void nt_trainer::Ahead::some() {
    calls_++;
    for (credit_ += per_call_; credit_ >= 1 && left_; credit_ -= 1) next();
}
