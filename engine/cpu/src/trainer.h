// The training step: samples, forward, loss, backward, scatter and Adam, on all threads.
//
// Who does what, so that nothing races, memory is read once, and the result does not depend on the threads at all:
//   - Samples of an iteration are a function of its number. They are drawn while the iteration before ends, in slices
//     of the batch, and sorted by the band of the texture (a range of v) that they lie in.
//   - Phase 1: a chunk is the samples of one band. One thread takes it from the features to their gradients, then adds
//     these up and takes Adam's step for the grid texels that no other band can reach, while they are in its cache.
//     (Texels without a gradient follow later, see adam.h.) Gradients of the weights go to the chunk's own buffer.
//   - Phase 2: what is left. The rows of texels that two bands share are updated, each by one thread, adding up the
//     chunks in order; the chunks' gradients of the weights are summed in order, too, and the weights updated.
// Chunks and other tasks are handed out first come first served; the order of every sum is fixed by the batch.
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
    uint32_t x, y, lod;
};

constexpr int MAX_BANDS = 128;  // each has a buffer for the gradients of all weights

// Who updates a row of texels: the one band whose samples can touch it, or a task of phase 2.
constexpr uint8_t OWN_ROW = 255;

// The samples of one band.
struct Chunk {
    long first = 0, n = 0;  // in the batch, which is ordered by band
    Buffer<float> weight_gradient;
    std::vector<uint32_t> border_starts;  // (grids * bands + 1): of the border records by grid and task
    std::vector<uint32_t> cursor;         // of their sorting
    double loss = 0;
};

}  // namespace nt

struct nt_trainer {
    nt_trainer(const nt_model& model, const nt_material& material, const nt_settings& settings);

    // n iterations; returns their mean loss
    double step(int64_t n, const double* factors, const double* noise);
    // mean squared error, without noise, of the samples of `iteration`
    double probe(int64_t iteration);

    const nt::Shape shape;
    const nt_material material;
    const nt_settings settings;
    nt::Network network;
    std::vector<float> weights, moments1, moments2;  // in the file's order
    std::vector<std::unique_ptr<nt::GridStore>> grids;
    const nt::Fading fading;
    int64_t iteration = 0;  // updates taken
    bool any_moving = false;  // whether any grid is trained

  private:
    // Asks for the memory of the next block while one is computed, little by little: a core has room for some twenty
    // lines on their way, and drops what goes beyond.
    class Ahead {
      public:
        explicit Ahead(const nt_trainer& trainer) : trainer_(trainer), n_grids_(long(trainer.grids.size())) {}
        void begin(long first, long last);  // samples first..last come next
        void finish();                      // asks for what is left of them
        nt::Idle idle() { return {[](void* self) { static_cast<Ahead*>(self)->some(); }, this}; }

      private:
        void some();

        const nt_trainer& trainer_;
        const long n_grids_;
        long at_ = 0, end_ = 0;  // sample * grids + grid
        long calls_ = 0;         // of some() in a block; all blocks have about the same
        float per_call_ = 0, credit_ = 0;
    };
    struct Touched {
        uint32_t texel;
        int32_t stamp;  // its own
    };
    struct Thread {
        explicit Thread(const nt_trainer& trainer) : work(trainer.shape), ahead(trainer) {}
        nt::Workspace work;
        Ahead ahead;
        nt::Buffer<uint8_t> codes8;     // of a block, (BLOCK, columns8)
        nt::Buffer<uint16_t> codes16;
        nt::Buffer<float> targets;      // of a block, (BLOCK, columns8 + columns16), as stored
        // Texels of one grid that got a gradient, and the sums of these. While they are collected, the stamp of a
        // texel is -1 - its place here.
        std::vector<Touched> touched;  // the first n_touched of them
        size_t n_touched = 0;
        std::unique_ptr<float[]> gradients;
        std::vector<float> sum;         // of a row of weight gradients
    };
    struct WeightTask {
        int layer, first_row, last_row;
    };

    std::vector<std::unique_ptr<Thread>> make_threads() const;
    // samples, in samples.cpp
    void draw_slice(long slice, int64_t draw_iteration);
    void share_out();
    void place_samples(int band);
    void prefetch(long sample, long g) const;
    // phase 1
    void forward_block(long first, long n, nt::Workspace& work, const nt::Noise* noise, const nt::Idle& idle = {}) const;
    double loss_block(long first, long n, Thread& thread, bool weighted) const;
    void train_chunk(int band, int upcoming, Thread& thread);
    template <int F>
    uint32_t update_own_rows(int g, int band, uint32_t n_borders, Thread& thread);
    void sort_borders(int band, uint32_t n_borders);
    // phase 2
    template <int F>
    void update_border(int g, int task, Thread& thread);
    void update_weights(const WeightTask& task, std::vector<float>& sum);
    // both
    template <int F>
    void add_record(int g, long sample, int row, Thread& thread);
    template <int F>
    void update_touched(int g, Thread& thread);
    // alone, between iterations
    void prepare_iteration(double factor, double noise_strength);
    void finish_iteration();

    const long feature_stride;
    const long slice_size;
    const int n_slices, n_bands;
    std::vector<std::vector<std::vector<uint8_t>>> row_tasks;  // per grid, LOD and row: OWN_ROW or a task
    std::vector<nt::Chunk> chunks;                             // per band
    std::vector<WeightTask> weight_tasks;
    // the samples of the iteration that is being drawn: slice after slice, in each ordered by band
    std::vector<nt::Drawn> drawn;
    std::vector<uint32_t> slice_starts;  // (slices, bands + 1) within the slice
    // the samples of the iteration that is being trained, ordered by band, then as drawn
    std::vector<float> u, v, lod_value;
    std::vector<int32_t> lod;
    std::vector<int64_t> target;      // index in the material
    std::vector<nt::Corner> corners;  // (batch, grids)
    nt::Buffer<float> feature_gradient;  // (batch, feature_stride)
    // Border records, 2 * sample + row, as they come and the grid and task of each; then ordered by these.
    std::vector<uint32_t> borders_found, borders;
    std::vector<uint16_t> border_tasks;
    // of this iteration
    std::vector<nt::Noise> noise_;
    double factor_ = 1, step_size_ = 0;
    float small_ = 0;
};
