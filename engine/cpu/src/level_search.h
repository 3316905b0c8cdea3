// What the searches of code_search.h and block_search.h share: the texels of the material that read a unit of a level,
// a texel or a block, and their error.
#pragma once

#include <vector>

#include "network.h"
#include "nt.h"
#include "shape.h"
#include "texels.h"

namespace nt {

// The search on one level of a grid, or of successive grids of one shape, planes: a material's texel reads the same units
// of all of them, so that one look at a unit's place serves them all.
//
// A sweep takes the units of the level in classes. No texel of the material reads two units of a class, so any order
// and any thread gives the same result.
class LevelSearch {
  public:
    LevelSearch(const nt_model& model, const nt_material& material, float* const* parameters, const float* weights,
                const float* channel_weights, const float* lod_weights, int first_grid, int planes, int level);
    virtual ~LevelSearch() = default;

    // Returns the number of changed codes.
    int64_t sweep(int n_threads);

  protected:
    // A texel of the material that reads the searched unit.
    struct Place {
        int32_t x, y, lod;
        float share[4];    // of each corner in the inputs of the network that it has; 0: the corner is in another unit
        uint8_t texel[4];  // of the unit
    };
    // The memory of one thread for the unit that it searches.
    struct Searcher {
        explicit Searcher(const Shape& shape);

        Workspace work;
        std::vector<Corner> corners;
        Buffer<float> gradient;           // of a block's features
        std::vector<Place> places;
        std::vector<int32_t> all;         // 0, 1, ... for all places
        std::vector<float> targets;       // (places, channels)
        std::vector<double> errors;       // of each place
        std::vector<float> first, tried;  // (places, out_stride of the first layer): the arguments of its activation
        // In whole numbers, (places, inputs from all planes): what the bytes of the first layer's sums stand for.
        std::vector<float> inputs, tried_inputs;
        std::vector<float> by_feature;    // gradient of the error: (planes, features, texels of the unit)
        std::vector<int> order;
        std::vector<int32_t> readers;     // places of a try
        std::vector<double> tried_errors;
    };

    // Searches the unit in column x of row y of each plane, whose places are listed; returns the number of changed codes.
    virtual int64_t search_unit(int x, int y, Searcher& searcher) const = 0;

    // Returns the current error of all places. Stores the first layer's sums there, the unit's share of each corner, and
    // the gradient of the error by its features in each plane. first_texel: of the unit.
    double look(uint32_t first_texel, Searcher& searcher) const;
    // Returns the error of n places, at most a block, from the first layer's sums of each, and stores that of each.
    double error_of(const int32_t* places, const float* sums, long n, Searcher& searcher, double* errors,
                    bool for_backward) const;

    // Moves input `column` of a place by so much: its first layer's sums `sums`, and `inputs`, as Searcher has them.
    void move_input(long column, float by, float* sums, float* inputs) const;
    long n_inputs() const { return network_.integer ? long(planes_) * grid_.inputs : 0; }  // of Searcher::inputs

    const Shape shape_;
    Network network_;
    const int planes_;
    const Grid& grid_;  // the first plane
    const Level level_;
    float* parameters(int plane) const { return parameters_[first_grid_ + plane]; }
    const Grid& plane(int index) const { return shape_.grids[first_grid_ + index]; }

  private:
    // Columns (or rows) of a LOD, grouped by the two neighbouring texels of the level that their centres lie between.
    struct Axis {
        Axis(int cells, int size);  // of the level and of the LOD, along this axis
        std::vector<int32_t> starts, members;  // of cell c: members[starts[c]] .. members[starts[c + 1]]
    };
    struct Lod {
        int index;
        Axis columns, rows;
    };

    std::vector<int> cells(int unit, int texels) const;
    void collect(int x, int y, Searcher& searcher) const;

    const int first_grid_;
    float* const* const parameters_;
    const nt_material& material_;
    std::vector<Stored> sources_;
    const std::vector<float> channel_weights_, lod_weights_;
    std::vector<Lod> lods_;
};

inline void LevelSearch::move_input(long column, float by, float* sums, float* inputs) const {
    const long stride = shape_.layers[0].out_stride;
    const float* weights = network_.layers[0].by_input.data() + column * stride;
    if (network_.integer) {
        float& input = inputs[column - grid_.column];
        const float before = input_byte(input);
        input += by;
        by = input_byte(input) - before;
        if (by == 0) return;
    }
    for (long k = 0; k < stride; k += V) store(sums + k, load(sums + k) + load(weights + k) * by);
}

}  // namespace nt
