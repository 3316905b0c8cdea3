#include "trainer.h"

#include <algorithm>
#include <atomic>

#include "bfloat16.h"

using namespace nt;

namespace {

constexpr int SAMPLES_PER_BAND = 256;  // about; the memory that these touch stays in the second-level cache
constexpr int WEIGHT_ROWS = 16;        // rows of a matrix that are updated together
constexpr long SWEEP_UNITS = 1 << 14;

int band_count(int64_t batch_size) {
    return int(std::min<int64_t>(std::max<int64_t>(batch_size / SAMPLES_PER_BAND, 1), MAX_BANDS));
}

// Blocks of a chunk of n samples: about equally large, in whole tiles of rows.
long block_size(long n) {
    const long blocks = std::max((n + BLOCK - 1) / BLOCK, 1l);
    return std::min(align_up((n + blocks - 1) / blocks, BLOCK_UNIT), n);
}

// The task of each row of units of a level H texels high. A sample at v touches the texels around v H - 0.5, so samples
// that touch texel y lie in ((y - 0.5) / H, (y + 1.5) / H); a quarter of a texel on both sides allows for rounding.
std::vector<uint8_t> tasks_of_rows(const Level& level, int64_t n_bands) {
    const int64_t texels = level.height, height = level.side;
    std::vector<uint8_t> tasks(level.down);
    for (int64_t row = 0; row < level.down; row++) {
        const int64_t first = row * height, band = first * n_bands / texels;
        const bool own = (4 * first - 3) * n_bands >= 4 * band * texels &&
                         (4 * (first + height) + 3) * n_bands <= 4 * (band + 1) * texels;
        tasks[row] = own ? OWN_ROW : uint8_t(band);
    }
    return tasks;
}

}  // namespace

nt_trainer::nt_trainer(const nt_model& model, const nt_material& material_, const nt_settings& settings_)
    : shape(model, settings_.grid_rates),
      material(material_),
      settings(settings_),
      network(shape, HAS_BFLOAT16 && settings_.bfloat16),
      weights(shape.file_weights),
      moments1(shape.file_weights),
      moments2(shape.file_weights),
      fading({settings_.beta1, settings_.beta2, settings_.epsilon}),
      n_looks(settings_.filtered && settings_.fraction_scale > 0 ? 2 : 1),
      feature_stride(align_up(shape.feature_columns, V)),
      slice_size(std::min<int64_t>(std::max<int64_t>(settings_.batch_size / 32, 256), settings_.batch_size)),
      n_slices(int((settings_.batch_size + slice_size - 1) / slice_size)),
      n_bands(band_count(settings_.batch_size)),
      chunks(n_bands),
      noise_(model.n_grids),
      silence_(model.n_grids, Noise{0, 0}) {
    const size_t batch = settings.batch_size, n_grids = shape.grids.size();
    for (int c = 0; settings.light && c < shape.n_channels; c++)
        if (settings.light[c] > 0) light.push_back(c);
    for (size_t g = 0; g < n_grids; g++) {
        const Grid& grid = shape.grids[g];
        grids.push_back(std::make_unique<GridStore>(grid, settings.grid_rates[grid.first], shape.quantized,
                                                      settings.n_threads));
        const GridStore& store = *grids.back();
        any_moving = any_moving || store.moves();
        memory_.push_back({reinterpret_cast<const char*>(store.records.data()), long(sizeof(float)) * store.unit_floats(),
                           store.moves() ? store.stamps.data() : nullptr, uint32_t(grid.unit_texels)});
        row_tasks.emplace_back();
        for (const Level& level : grid.lods) row_tasks.back().push_back(tasks_of_rows(level, n_bands));
    }
    for (Chunk& chunk : chunks) {
        chunk.weight_gradient.resize(shape.gradient_size);
        chunk.border_starts.resize(n_grids * n_bands + 1);
        chunk.cursor.resize(n_grids * n_bands);
    }
    for (size_t l = 0; l < shape.layers.size(); l++)
        for (int row = 0; row < shape.layers[l].outputs; row += WEIGHT_ROWS)
            weight_tasks.push_back({int(l), row, std::min(row + WEIGHT_ROWS, shape.layers[l].outputs)});
    drawn.resize(batch);
    slice_starts.resize(size_t(n_slices) * (n_bands + 1));
    const size_t looks = n_looks * batch;
    for (auto* list : {&u, &v, &lod_value}) list->resize(looks);
    lod.resize(looks);
    if (settings.filtered) {
        drawn_lods.resize(batch);
        lod_share.resize(looks);
        material_corners.resize(looks);
        far_sample.resize(batch);
        far_end.resize(batch);
    }
    target.resize(batch);
    corners.resize(looks * n_grids);
    feature_gradient.resize(batch * feature_stride);
    borders_found.resize(2 * looks * n_grids);
    borders.resize(2 * looks * n_grids);
    border_tasks.resize(2 * looks * n_grids);
}

std::vector<std::unique_ptr<nt_trainer::Thread>> nt_trainer::make_threads() const {
    std::vector<std::unique_ptr<Thread>> threads;
    int64_t most_touched = 0, most_floats[2] = {};  // touched units of a grid, and floats in Thread's sums
    for (const Grid& grid : shape.grids) {
        const int64_t touched = std::min<int64_t>(grid.units, 4 * n_looks * settings.batch_size);
        most_touched = std::max(most_touched, touched);
        with_kind(grid, [&](auto kind) {
            int64_t& most = most_floats[grid.blocks()];
            most = std::max<int64_t>(most, (touched + 1) * decltype(kind)::SUM);
        });
    }
    for (int i = 0; i < settings.n_threads; i++) {
        threads.push_back(std::make_unique<Thread>(*this));
        Thread& thread = *threads.back();
        if (network.pairs) thread.work.use_pairs();
        thread.touched.resize(most_touched + 1);
        thread.targets.resize(BLOCK * (material.columns8 + material.columns16) + PADDED_OUTPUTS);
        thread.word_sums = std::make_unique<ZeroPages>(most_floats[0]);
        thread.block_sums = std::make_unique<ZeroPages>(most_floats[1]);
        thread.sum.resize(shape.widest);
        thread.own_rows.resize(2 * n_looks * size_t(settings.batch_size) + 1);
    }
    return threads;
}

// --- phase 1 -------------------------------------------------------------------------------------------------------

// The network's inputs of n looks; those that are no features only with `waves`.
void nt_trainer::fill_inputs(long first_look, long n, const Noise* noise, bool waves, float* inputs) const {
    const long n_grids = long(grids.size());
    if (waves) encode(shape, &u[first_look], &v[first_look], &lod[first_look], &lod_value[first_look], n, inputs);
    for (long g = 0; g < n_grids; g++)
        grids[g]->with_source([&](const auto& source) {
            gather_grid(shape.grids[g], shape.quantized, source, noise + shape.grids[g].first,
                        &corners[first_look * n_grids + g], n_grids, n, inputs, shape.input_stride);
        });
}

// Blends the inputs of a block's samples between two LODs with those of the upper one.
void nt_trainer::blend_block(const Chunk& chunk, long first, long n, Workspace& work, const Noise* noise) const {
    const long start = first == chunk.first ? first : far_end[first - 1], end = far_end[first + n - 1];
    fill_inputs(long(settings.batch_size) + start, end - start, noise, shape.n_texel_waves > 0,
                work.other_inputs.data());
    for (long far = start; far < end; far++)
        blend_inputs(shape, work, far_sample[far] - first, far - start, lod_share[settings.batch_size + far]);
}

// Sum over samples and channels of the (weighted) squared errors. Their gradient goes to work.upstream[0].
double nt_trainer::loss_block(long n, Thread& thread, bool weighted) const {
    const long columns = material.columns8 + material.columns16;
    const Layer& last = shape.layers.back();
    float share[PADDED_OUTPUTS] = {}, always[PADDED_OUTPUTS] = {};  // always: 1 where coverage does not count
    int32_t column_of[PADDED_OUTPUTS] = {};
    bool in_order = true;
    for (int c = 0; c < shape.n_channels; c++) {
        share[c] = weighted ? settings.channel_weights[c] : 1.0f;
        column_of[c] = material.columns[c];
        in_order = in_order && column_of[c] == c;
        always[c] = !weighted || c == shape.coverage;
    }
    const float scale = 2 / float(settings.batch_size);
    float ordered[PADDED_OUTPUTS] = {}, lit[PADDED_OUTPUTS];
    std::fill_n(lit, PADDED_OUTPUTS, 1.0f);
    double loss = 0;
    for (long s = 0; s < n; s++) {
        float* decoded = thread.work.outputs.back().data() + s * last.out_stride;
        float* gradient = thread.work.upstream[0].data() + s * shape.widest;
        const float* wanted = thread.targets.data() + s * columns;
        if (!in_order) {
            for (int c = 0; c < shape.n_channels; c++) ordered[c] = wanted[column_of[c]];
            wanted = ordered;
        }
        const float weight = shape.weight_of(wanted);
        if (shape.coverage >= 0) {
            const float end = wanted[shape.coverage];
            float& own = decoded[shape.coverage];
            if (end < NT_END && own < end) own = std::min(own + NT_ROOM, end);
            if (end > 1 - NT_END && own > end) own = std::max(own - NT_ROOM, end);
        }
        for (const int c : light) {
            if (wanted[c] < NT_END && decoded[c] < wanted[c]) decoded[c] = std::min(decoded[c] + NT_ROOM, wanted[c]);
            const float square = wanted[c] * wanted[c];
            lit[c] = weighted ? settings.light[c] * (1 + NT_LIGHT_GAIN * square * square) : 1.0f;
        }
        // a vector may extend into the next row, whose values have share 0
        constexpr int W = PADDED_OUTPUTS < V ? PADDED_OUTPUTS : V;
        typename Lanes<W>::floats sum{};
        for (long c = 0; c < last.out_stride; c += W) {
            const auto counts = load<W>(share + c) * (load<W>(always + c) * (1 - weight) + weight) * load<W>(lit + c);
            const auto error = load<W>(decoded + c) - load<W>(wanted + c), weighted_error = error * counts;
            sum += error * weighted_error;
            store<W>(gradient + c, weighted_error * scale);
        }
        float total = 0;
        for (int lane = 0; lane < W; lane++) total += sum[lane];
        loss += total;
    }
    return loss;
}

// Phase 1 for one chunk. The samples of `band` and `upcoming`, the thread's next chunk, must have been placed; memory
// of the first block of `upcoming` is prefetched.
void nt_trainer::train_chunk(int band, int upcoming, Thread& thread) {
    Chunk& chunk = chunks[band];
    chunk.loss = 0;
    const long end = chunk.first + chunk.n;
    if (chunk.n == 0) std::fill_n(chunk.weight_gradient.data(), chunk.weight_gradient.size(), 0.0f);
    Ahead& ahead = thread.ahead;
    const long size = block_size(chunk.n);
    for (long first = chunk.first; first < end; first += size) {
        const long n = std::min(size, end - first), next = first + n;
        if (next < end)
            ahead.begin(next, std::min(next + size, end));
        else if (upcoming < n_bands)
            ahead.begin(chunks[upcoming].first, chunks[upcoming].first + block_size(chunks[upcoming].n));
        fill_inputs(first, n, noise_.data(), true, thread.work.inputs.data());
        if (n_looks == 2) blend_block(chunk, first, n, thread.work, noise_.data());
        forward(network, thread.work, n, true, ahead.idle());
        if (settings.filtered)
            filter_targets(first, n, thread);
        else
            read_targets(first, n, thread);
        chunk.loss += loss_block(n, thread, true);
        backward(network, thread.work, n, chunk.weight_gradient.data(), first == chunk.first,
                 any_moving ? feature_gradient.data() + first * feature_stride : nullptr, feature_stride, ahead.idle());
    }
    ahead.finish();
    uint32_t n_borders = 0;
    for (int g = 0; g < int(grids.size()); g++)
        if (grids[g]->moves()) n_borders = update_own_rows(g, band, n_borders, thread);
    sort_borders(band, n_borders);
}

// --- the loop ------------------------------------------------------------------------------------------------------

void nt_trainer::prepare_iteration(double factor, double strength) {
    factor_ = factor;
    step_size_ = fading.adam.step_size(iteration + 1);
    small_ = fading.adam.small(iteration + 1);
    for (size_t g = 0; g < noise_.size(); g++) {
        const int bits = shape.grid_of(int(g)).bits;
        const double step = shape.quantized && strength > 0 ? strength / double(1 << bits) : 0;
        noise_[g] = {float(step), stream_key(settings.seed, iteration, STREAM_NOISE + uint32_t(g))};
    }
    share_out();
}

void nt_trainer::finish_iteration() {
    iteration++;
    for (auto& grid : grids) grid->advance(fading, iteration, factor_);
    if (!settings.wrap_interval || iteration % settings.wrap_interval) return;
    for (auto& grid : grids) {
        if (!grid->moves()) continue;
        const int levels = settings.wrap_levels ? settings.wrap_levels : grid->grid.n_levels;
        grid->sync_borders(fading, iteration, std::max(grid->grid.n_levels - levels, 0), settings.wrap_strength);
    }
}

double nt_trainer::step(int64_t n, const double* factors, const double* noise, int64_t n_float) {
    if (n == 0) return 0;
    first_rounded_ = iteration + n_float;
    // all memory is allocated here: a thread that failed later would leave the others waiting at the barrier
    const auto threads = make_threads();
    Barrier barrier(settings.n_threads);
    std::atomic<long> next{0};
    const long n_weight_tasks = long(weight_tasks.size()), n_border_tasks = long(grids.size()) * n_bands;
    const auto draw = [&](long slice, int64_t i) {
        settings.filtered ? draw_slice<true>(slice, i) : draw_slice<false>(slice, i);
    };
    const auto place = [&](int band) { settings.filtered ? place_samples<true>(band) : place_samples<false>(band); };
    double total = 0;
    network.pack_all(weights.data(), n_float > 0 ? 32 : settings.weight_bits);
    run_threads(settings.n_threads, [&](int id) {
        Thread& thread = *threads[id];
        for (long slice; (slice = next.fetch_add(1)) < n_slices;) draw(slice, iteration);
        barrier.wait([&] {
            prepare_iteration(factors[0], noise[0]);
            next = 0;
        });
        for (int64_t i = 0; i < n; i++) {
            long band = next.fetch_add(1);
            if (band < n_bands) place(int(band));
            while (band < n_bands) {  // the next chunk is claimed before this one is computed, to prefetch its memory
                const long upcoming = next.fetch_add(1);
                if (upcoming < n_bands) place(int(upcoming));
                train_chunk(int(band), int(std::min<long>(upcoming, n_bands)), thread);
                band = upcoming;
            }
            barrier.wait([&] {
                double loss = 0;
                for (const Chunk& chunk : chunks) loss += chunk.loss;
                total += loss / double(settings.batch_size);
                next = 0;
            });
            const long n_draws = i + 1 < n ? n_slices : 0;
            for (long task; (task = next.fetch_add(1)) < n_weight_tasks + n_border_tasks + n_draws;) {
                const long border = task - n_weight_tasks;
                if (task < n_weight_tasks)
                    update_weights(weight_tasks[task], thread.sum);
                else if (border < n_border_tasks)
                    update_border(int(border / n_bands), int(border % n_bands), thread);
                else
                    draw(border - n_border_tasks, iteration + 1);
            }
            barrier.wait([&] {
                network.finish_pack(bits_of(iteration + 1));
                finish_iteration();
                if (i + 1 < n) prepare_iteration(factors[i + 1], noise[i + 1]);
                next = 0;
            });
            if (iteration % SWEEP_INTERVAL) continue;
            for (auto& grid : grids) {
                if (!grid->moves()) continue;
                const int64_t units = grid->grid.units;
                for (int64_t first; (first = next.fetch_add(SWEEP_UNITS)) < units;)
                    grid->sweep(fading, iteration, first, std::min<int64_t>(first + SWEEP_UNITS, units));
                barrier.wait([&] {
                    grid->clear_drift();
                    next = 0;
                });
            }
        }
    });
    return total / double(n);
}

double nt_trainer::probe(int64_t draw_iteration) {
    const auto threads = make_threads();
    network.pack_all(weights.data(), settings.weight_bits);
    run_tasks(settings.n_threads, n_slices, [&](long slice, int) { draw_slice<false>(slice, draw_iteration); });
    share_out();
    run_tasks(settings.n_threads, n_bands, [&](long band, int id) {
        Chunk& chunk = chunks[band];
        chunk.loss = 0;
        place_samples<false>(int(band));
        const long end = chunk.first + chunk.n;
        for (long first = chunk.first; first < end; first += BLOCK) {
            const long n = std::min<long>(BLOCK, end - first);
            fill_inputs(first, n, silence_.data(), true, threads[id]->work.inputs.data());
            forward(network, threads[id]->work, n, true);
            read_targets(first, n, *threads[id]);
            chunk.loss += loss_block(n, *threads[id], false);
        }
    });
    double sum = 0;
    for (const Chunk& chunk : chunks) sum += chunk.loss;
    return sum / (double(settings.batch_size) * shape.n_channels);
}
