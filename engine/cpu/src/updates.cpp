// What a training step changes: gradients are added up for each unit of the grids, Adam's step is taken, and the weights
// of the network follow.
#include <algorithm>

#include "trainer.h"

using namespace nt;

namespace {

constexpr long RECORDS_AHEAD = 16;  // distance of prefetching, in border records or texels

}  // namespace

// Adds up gradients per unit of a grid. It has what that takes at hand, since the compiler would read it again for each.
template <class Kind>
class nt_trainer::Adder {
  public:
    Adder(const nt_trainer& trainer, int g, Thread& thread)
        : thread_(thread),
          grid_(trainer.grids[g]->grid),
          corners_(trainer.corners.data() + g),
          n_grids_(long(trainer.grids.size())),
          gradient_(trainer.feature_gradient.data() + grid_.column),
          stride_(trainer.feature_stride),
          batch_(long(trainer.settings.batch_size)),
          far_sample_(trainer.far_sample.data()),
          lod_share_(trainer.n_looks == 2 ? trainer.lod_share.data() : nullptr),
          learned_(grid_.learned),
          stamps_(trainer.grids[g]->stamps.data()),
          touched_(thread.touched.data()),
          sums_(thread.sums<Kind>()) {}

    void finish() { thread_.n_touched = n_touched_; }

    // Adds a look's share of its sample's gradient to the two texels of one of its rows; record: 2 * look + row.
    void add(uint32_t record) {
        const long look = record / 2;
        const int row = int(record % 2);
        const Corner& corner = corners_[look * n_grids_];
        const float* gradient = gradient_ + (look < batch_ ? look : long(far_sample_[look - batch_])) * stride_;
        const float look_share = lod_share_ ? lod_share_[look] : 1.0f;
        if constexpr (Kind::BLOCKS) {
            constexpr int P = Kind::PLANES;
            const uint32_t left = corner.texel[2 * row], right = corner.texel[2 * row + 1];
            float both[BLOCK_FEATURES][2 * P];  // of left and right
            for (int f = 0; f < BLOCK_FEATURES; f++) {
                const float* from = gradient + grid_.input(2 * row, f);
                for (int side = 0; side < 2; side++) {
                    const float share = learned_ ? 1.0f : corner.weight(2 * row + side) * look_share;
                    store<P>(both[f] + side * P, load<P>(from + (learned_ ? side * P : 0)) * share);
                }
            }
            if (right == left + 1 && right % Kind::SIDE) {
                add_texels<2 * P>(left, both[0]);
            } else {
                add_texels<P>(left, both[0]);
                add_texels<P>(right, both[0] + P);
            }
        } else {
            constexpr int F = Kind::SUM, W = F < V ? F : V;
            for (int j = 2 * row; j < 2 * row + 2; j++) {
                const float* from = learned_ ? gradient + j * F : gradient;
                const float share = learned_ ? 1.0f : corner.weight(j) * look_share;
                const Sum sum = sum_of(corner.texel[j]);
                const typename Lanes<W>::ints kept = typename Lanes<W>::ints{} + (sum.fresh ? 0 : -1);
                for (int f = 0; f < F; f += W) {
                    const auto before = (typename Lanes<W>::floats)((typename Lanes<W>::ints)load<W>(sum.values + f) & kept);
                    store<W>(sum.values + f, before + load<W>(from + f) * share);
                }
            }
        }
    }

  private:
    struct Sum {
        float* values;
        bool fresh;  // whether nothing has been added to it
    };

    // Where the sum of the gradients of a unit is; lists it if it is new.
    Sum sum_of(uint32_t unit) {
        // without a branch, which could not be predicted: units are touched again at random
        const int32_t stamp = stamps_[unit];
        const bool fresh = stamp >= 0;
        const size_t place = fresh ? n_touched_ : size_t(-1 - stamp);
        touched_[n_touched_] = {unit, stamp};
        n_touched_ += fresh;
        stamps_[unit] = -1 - int32_t(place);
        return {sums_ + place * Kind::SUM, fresh};
    }

    // Adds W / planes texels side by side in a block: rows of 2 * planes floats for each feature.
    template <int W>
    void add_texels(uint32_t texel, const float* values) {
        constexpr int P = Kind::PLANES;
        float* to = sum_of(Kind::unit(texel)).values + texel % Kind::TEXELS * P;
        for (int f = 0; f < BLOCK_FEATURES; f++, to += Kind::WEIGHTS)
            store<W>(to, load<W>(to) + load<W>(values + f * 2 * P));
    }

    Thread& thread_;
    const Grid& grid_;
    const Corner* const corners_;
    const long n_grids_;
    const float* const gradient_;
    const long stride_, batch_;
    const uint32_t* const far_sample_;
    const float* const lod_share_;
    const bool learned_;
    int32_t* const stamps_;
    Touched* const touched_;
    float* const sums_;
    size_t n_touched_ = 0;
};

// Updates the rows that no other band touches and lists the border records of the others; returns their new number.
uint32_t nt_trainer::update_own_rows(int g, int band, uint32_t n_borders, Thread& thread) {
    with_kind(shape.grids[g], [&](auto kind) {
        n_borders = update_own_rows_of<decltype(kind)>(g, band, n_borders, thread);
    });
    return n_borders;
}

template <class Kind>
inline uint32_t nt_trainer::update_own_rows_of(int g, int band, uint32_t n_borders, Thread& thread) {
    const Chunk& chunk = chunks[band];
    const long n_grids = long(grids.size());
    uint32_t* const found = borders_found.data() + 2 * n_looks * n_grids * chunk.first;
    uint16_t* const tasks = border_tasks.data() + 2 * n_looks * n_grids * chunk.first;
    uint32_t* const own = thread.own_rows.data();
    size_t n_own = 0;
    for (int k = 0; k < n_looks; k++) {
        const long first = k * long(settings.batch_size) + chunk.first, end = first + (k ? chunk.n_far : chunk.n);
        for (long look = first; look < end; look++) {
            const Corner& corner = corners[look * n_grids + g];
            const uint8_t* row_task = row_tasks[g][lod[look]].data();
            for (int row = 0; row < 2; row++) {  // to both lists, without a branch, which could not be predicted
                const uint8_t task = row_task[corner.row[row]];
                const bool is_own = task == OWN_ROW;
                own[n_own] = found[n_borders] = uint32_t(2 * look + row);
                tasks[n_borders] = uint16_t(g * n_bands + task);
                n_own += is_own;
                n_borders += !is_own;
            }
        }
    }
    Adder<Kind> adder(*this, g, thread);
    for (size_t i = 0; i < n_own; i++) adder.add(own[i]);
    adder.finish();
    update_touched<Kind>(g, thread);
    return n_borders;
}

void nt_trainer::sort_borders(int band, uint32_t n_borders) {
    Chunk& chunk = chunks[band];
    const size_t offset = 2 * n_looks * grids.size() * chunk.first;
    std::vector<uint32_t>& starts = chunk.border_starts;
    std::fill(starts.begin(), starts.end(), 0u);
    for (uint32_t i = 0; i < n_borders; i++) starts[border_tasks[offset + i] + 1]++;
    for (size_t i = 0; i + 1 < starts.size(); i++) starts[i + 1] += starts[i];
    std::copy(starts.begin(), starts.end() - 1, chunk.cursor.begin());
    for (uint32_t i = 0; i < n_borders; i++)
        borders[offset + chunk.cursor[border_tasks[offset + i]]++] = borders_found[offset + i];
}

// --- phase 2 -------------------------------------------------------------------------------------------------------

void nt_trainer::update_border(int g, int task, Thread& thread) {
    with_kind(shape.grids[g], [&](auto kind) { update_border_of<decltype(kind)>(g, task, thread); });
}

template <class Kind>
inline void nt_trainer::update_border_of(int g, int task, Thread& thread) {
    const long n_grids = long(grids.size());
    const GridStore& store = *grids[g];
    Adder<Kind> adder(*this, g, thread);
    for (const Chunk& chunk : chunks) {
        const uint32_t* records = borders.data() + 2 * n_looks * n_grids * chunk.first;
        const long begin = chunk.border_starts[g * n_bands + task];
        const long end = chunk.border_starts[g * n_bands + task + 1];
        for (long i = begin; i < end; i++) {
            if (i + 2 * RECORDS_AHEAD < end) {  // they may be in the cache of another core
                const uint32_t later = records[i + 2 * RECORDS_AHEAD];
                prefetch_later(&corners[(later / 2) * n_grids + g]);
                prefetch_later(feature_gradient.data() + sample_of(later / 2) * feature_stride + store.grid.column);
            }
            if (i + RECORDS_AHEAD < end) {
                const uint32_t later = records[i + RECORDS_AHEAD];
                const uint32_t texel = corners[(later / 2) * n_grids + g].texel[2 * (later % 2)];
                prefetch_to_write(store.stamps.data() + Kind::unit(texel));
            }
            adder.add(records[i]);
        }
    }
    adder.finish();
    update_touched<Kind>(g, thread);
}

// Takes Adam's step for the units with a gradient.
template <class Kind>
inline void nt_trainer::update_touched(int g, Thread& thread) {
    constexpr int ROW = Kind::ROW;
    GridStore& store = *grids[g];
    constexpr long UNIT = 4 * ROW;
    const int32_t now = int32_t(iteration + 1);
    const Step step = {float(1 - settings.beta1), float(1 - settings.beta2), small_,
                       float(store.rate * factor_ * step_size_), store.limit};
    const PlaneNoise noise(&noise_[store.grid.first], store.grid.planes);
    const size_t count = thread.n_touched;
    const auto follow_of = [&](const Touched& touched) {
        return Follow{store.distance[touched.stamp & (DRIFT_SIZE - 1)], fading.moment1[now - touched.stamp],
                      fading.moment2[now - touched.stamp]};
    };
    const auto visit = [&](size_t i) {  // returns the record
        if (i + RECORDS_AHEAD < count) {
            const float* later = store.records.data() + size_t(thread.touched[i + RECORDS_AHEAD].unit) * UNIT;
            for (long f = 0; f < UNIT; f += 16) prefetch_to_write(later + f);
        }
        const uint32_t unit = thread.touched[i].unit;
        store.stamps[unit] = now;
        return store.records.data() + size_t(unit) * UNIT;
    };
    size_t i = 0;
    if constexpr (!Kind::BLOCKS && ROW < V) {
        constexpr int COUNT = V / ROW;
        for (; i + COUNT <= count; i += COUNT) {
            float* records[COUNT];
            Follow follows[COUNT];
            for (int k = 0; k < COUNT; k++) {
                follows[k] = follow_of(thread.touched[i + k]);
                records[k] = visit(i + k);
            }
            update_records<ROW, COUNT>(records, thread.sums<Kind>() + i * Kind::SUM, follows, step);
        }
    }
    for (; i < count; i++) {
        const Touched touched = thread.touched[i];
        const Follow follow = follow_of(touched);
        float* gradient = thread.sums<Kind>() + i * Kind::SUM;
        float* record = visit(i);
        if constexpr (Kind::BLOCKS) {
            update_block<Kind>(record, touched.unit, shape.quantized, noise, gradient, follow, step);
            std::fill(gradient, gradient + Kind::SUM, 0.0f);
        } else
            update_record<ROW>(record, gradient, follow, step);
    }
    thread.n_touched = 0;
}

void nt_trainer::update_weights(const WeightTask& task, std::vector<float>& sum) {
    const Layer& layer = shape.layers[task.layer];
    const float rate = float(settings.network_rate * factor_ * step_size_);
    const float share1 = float(1 - settings.beta1), share2 = float(1 - settings.beta2);
    const float keep1 = float(settings.beta1), keep2 = float(settings.beta2);
    for (int row = task.first_row; row < task.last_row; row++) {
        if (shape.keeps_row(task.layer, row)) continue;
        std::fill(sum.begin(), sum.end(), 0.0f);
        const int64_t offset = layer.gradient_offset + row * layer.in_stride;
        for (const Chunk& chunk : chunks) {
            const float* from = chunk.weight_gradient.data() + offset;
            for (long i = 0; i < layer.in_stride; i++) sum[i] += from[i];
        }
        const int64_t at = layer.file_offset + int64_t(layer.file_row[row]) * layer.file_inputs;
        for (int i = 0; i < layer.file_inputs; i++) {
            if (layer.column[i] < 0) continue;
            const float g = sum[layer.column[i]];
            float& m = moments1[at + i];
            float& v2 = moments2[at + i];
            m = keep1 * m + share1 * g;
            v2 = keep2 * v2 + share2 * g * g;
            weights[at + i] -= rate * direction(m, v2, small_);
        }
    }
    network.pack(task.layer, task.first_row, task.last_row, weights.data(), bits_of(iteration + 1));
}
