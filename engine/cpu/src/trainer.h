// The training step: samples, forward, loss, backward, scatter and Adam, on all threads.
//
// The division of work avoids races, reads memory once, and makes the result independent of the number of threads:
//   - The samples of an iteration are a function of its number. They are drawn while the previous iteration ends, in
//     slices of the batch, and sorted by band (a range of v of the texture).
//   - Phase 1: a chunk is the samples of one band. One thread computes the gradients of its features, adds them up per
//     texel and takes Adam's step for the grid texels that no other band can reach, while they are in its cache.
//     (Texels without a gradient follow later, see adam.h.) Gradients of the weights go to a buffer of the chunk.
//   - Phase 2: the rows of texels that two bands share are updated, each by one thread, which adds up the chunks in
//     order; the chunks' gradients of the weights are summed in order, too, and the weights updated.
// Any thread takes the next chunk or task; the batch alone fixes the order of every sum.
#pragma once

#include <memory>
#include <vector>

#include "adam.h"
#include "network.h"
#include "nt.h"
#include "pool.h"
#include "shape.h"

namespace nt {

struct Drawn {
    uint32_t x, y, lod;  // x and y: of a texel, or of a position in units of 1 / POSITIONS
};

constexpr float POSITIONS = 0x1p24f;  // that can be drawn on an axis

constexpr int MAX_BANDS = 128;  // each has a buffer for the gradients of all weights

// Marks a row of units that the samples of one band alone can touch; other rows have the number of a phase-2 task.
constexpr uint8_t OWN_ROW = 255;

// The samples of one band.
struct Chunk {
    long first = 0, n = 0;  // in the batch, which is ordered by band
    long n_far = 0;         // far looks, see nt_trainer::sample_of
    Buffer<float> weight_gradient;
    std::vector<uint32_t> border_starts;  // (grids * bands + 1): first border record of each grid and task
    std::vector<uint32_t> cursor;         // while they are sorted
    double loss = 0;
};

}  // namespace nt

struct nt_trainer {
    nt_trainer(const nt_model& model, const nt_material& material, const nt_settings& settings);

    // Runs n iterations, the first n_float with weights that are not rounded; returns their mean loss.
    double step(int64_t n, const double* factors, const double* noise, int64_t n_float);
    // Mean squared error, without noise and with rounded weights, of the texel centres that `iteration` draws.
    double probe(int64_t iteration);

    const nt::Shape shape;
    const nt_material material;
    const nt_settings settings;
    std::vector<int> light;  // the channels that have it, see nt_settings
    nt::Network network;
    std::vector<float> weights, moments1, moments2;  // in the file's order
    std::vector<std::unique_ptr<nt::GridStore>> grids;
    const nt::Fading fading;
    // The store of a grid of the model.
    nt::GridStore& store_of(int model_grid) const { return *grids[&shape.grid_of(model_grid) - shape.grids.data()]; }
    int64_t iteration = 0;  // updates done
    bool any_moving = false;  // whether any grid is trained

  private:
    // Prefetches the memory of the next block in small portions while a block is computed: a core keeps track of some
    // twenty cache lines at a time and drops further requests.
    class Ahead {
      public:
        explicit Ahead(const nt_trainer& trainer) : trainer_(trainer), n_grids_(long(trainer.grids.size())) {}
        void begin(long first, long last);  // samples first .. last come next
        void finish();                      // prefetches the rest of them
        nt::Idle idle() { return {[](void* self) { static_cast<Ahead*>(self)->some(); }, this}; }

      private:
        void some();
        void next();

        const nt_trainer& trainer_;
        const long n_grids_;
        long sample_ = 0, grid_ = 0, left_ = 0;  // the next one, and how many pairs of both remain
        long calls_ = 0;         // of some() in a block, about the same for all blocks
        float per_call_ = 0, credit_ = 0;
    };
    struct Touched {
        uint32_t unit;
        int32_t stamp;  // before it was touched
    };
    struct Thread {
        explicit Thread(const nt_trainer& trainer) : work(trainer.shape), ahead(trainer) {}
        nt::Workspace work;
        Ahead ahead;
        nt::Buffer<float> targets;      // of a block, (BLOCK, columns8 + columns16), as stored
        // Units of one grid with a gradient, and the sums of their gradients. While they are collected, the stamp of
        // such a unit is -1 minus its index here.
        std::vector<Touched> touched;  // the first n_touched are in use
        size_t n_touched = 0;
        std::unique_ptr<nt::ZeroPages> word_sums, block_sums;  // the latter of touched units only differ from 0
        template <class Kind>
        float* sums() const {
            return (Kind::BLOCKS ? block_sums : word_sums)->data();
        }
        std::vector<float> sum;         // of a row of weight gradients
        std::vector<uint32_t> own_rows;  // of a chunk: 2 * look + row, those that no other band touches
    };
    struct WeightTask {
        int layer, first_row, last_row;
    };

    std::vector<std::unique_ptr<Thread>> make_threads() const;
    // samples, in samples.cpp
    template <bool FILTERED>
    void draw_slice(long slice, int64_t draw_iteration);
    void share_out();
    template <bool FILTERED>
    void place_samples(int band);
    void place_anywhere(long sample, const nt::Drawn& drawn, float drawn_lod, nt::Chunk& chunk);
    void place_look(long look, int l);
    void read_targets(long first, long n, Thread& thread) const;
    void filter_targets(long first, long n, Thread& thread) const;
    void prefetch(long sample, long g) const;
    void prefetch_look(long look, long g, uint64_t texel) const;
    void prefetch_target(uint64_t texel) const;
    // A look is a sample at one LOD. Look s is that of sample s at its own or its lower LOD; those at the upper LODs,
    // of the samples between two, lie from batch_size on: of a chunk one after the other from batch_size + first.
    bool blends(long sample) const { return n_looks == 2 && lod_share[sample] < 1; }
    long far_look(long sample) const { return long(settings.batch_size) + far_end[sample] - 1; }
    long sample_of(long look) const {
        const long batch = long(settings.batch_size);
        return look < batch ? look : long(far_sample[look - batch]);
    }
    struct Memory {  // of a grid, for prefetching
        const char* records;
        long bytes;  // of a unit
        const int32_t* stamps;  // null: none
        uint32_t unit_texels;
    };
    std::vector<Memory> memory_;
    // phase 1
    void fill_inputs(long first_look, long n, const nt::Noise* noise, bool waves, float* inputs) const;
    void blend_block(const nt::Chunk& chunk, long first, long n, nt::Workspace& work, const nt::Noise* noise) const;
    double loss_block(long n, Thread& thread, bool weighted) const;
    void train_chunk(int band, int upcoming, Thread& thread);
    // updates, in updates.cpp: of phase 1
    uint32_t update_own_rows(int g, int band, uint32_t n_borders, Thread& thread);
    template <class Kind>
    uint32_t update_own_rows_of(int g, int band, uint32_t n_borders, Thread& thread);
    void sort_borders(int band, uint32_t n_borders);
    // of phase 2
    void update_border(int g, int task, Thread& thread);
    template <class Kind>
    void update_border_of(int g, int task, Thread& thread);
    void update_weights(const WeightTask& task, std::vector<float>& sum);
    // of both
    template <class Kind>
    class Adder;
    template <class Kind>
    void update_touched(int g, Thread& thread);
    // alone, between iterations
    void prepare_iteration(double factor, double noise_strength);
    void finish_iteration();
    int bits_of(int64_t at) const { return at < first_rounded_ ? 32 : settings.weight_bits; }  // of weights

    const int n_looks;  // most of a sample while training
    const long feature_stride;
    const long slice_size;
    const int n_slices, n_bands;
    std::vector<std::vector<std::vector<uint8_t>>> row_tasks;  // per grid, LOD and row: OWN_ROW or a task of phase 2
    std::vector<nt::Chunk> chunks;                             // per band
    std::vector<WeightTask> weight_tasks;
    // samples of the iteration being drawn: slice after slice, each ordered by band
    std::vector<nt::Drawn> drawn;
    std::vector<float> drawn_lods;  // filtered only, as the next two of looks
    std::vector<uint32_t> slice_starts;  // (slices, bands + 1) within the slice
    // samples of the iteration being trained, ordered by band, then as drawn
    std::vector<float> u, v, lod_value;  // of looks, as all until `corners`
    std::vector<int32_t> lod;
    std::vector<float> lod_share;
    std::vector<nt::Corner> material_corners;
    std::vector<uint32_t> far_sample, far_end;  // of far looks; of samples: far looks until then, from the batch's first
    std::vector<int64_t> target;      // of samples: index in the material; filtered: only in probe()
    std::vector<nt::Corner> corners;  // (looks, grids)
    nt::Buffer<float> feature_gradient;  // (batch, feature_stride)
    // Border records, 2 * look + row: as found, with the grid and task of each; then ordered by grid and task.
    std::vector<uint32_t> borders_found, borders;
    std::vector<uint16_t> border_tasks;
    int64_t first_rounded_ = 0;  // the first iteration whose weights are rounded
    // of the current iteration
    std::vector<nt::Noise> noise_;  // per grid of the model, as the next
    const std::vector<nt::Noise> silence_;
    double factor_ = 1, step_size_ = 0;
    float small_ = 0;
};
