// Code search: improves the codes of a trained model, as engine/torch/code_search.py does.
#pragma once

#include <vector>

#include "network.h"
#include "nt.h"
#include "shape.h"
#include "texels.h"

namespace nt {

// The search on one level of one grid.
//
// A sweep takes the texels of the level in classes. No texel of the material reads two texels of a class, so any order
// and any thread gives the same result. For each texel, features are tried in order of the size of the gradient of the
// squared error: one code up or down, against the gradient. What lowers the error stays.
class CodeSearch {
  public:
    CodeSearch(const nt_model& model, const nt_material& material, float* const* parameters, const float* weights,
               const float* channel_weights, const float* lod_weights, int grid, int level);

    // Returns the number of changed codes.
    int64_t sweep(int n_threads);

  private:
    // Columns (or rows) of a LOD, grouped by the two neighbouring texels of the level that their centres lie between.
    struct Axis {
        Axis(const Level& level, int size);
        std::vector<int32_t> starts, members;  // of cell c: members[starts[c]] .. members[starts[c + 1]]
    };
    struct Lod {
        int index;
        Axis columns, rows;
    };
    struct Searcher;

    int64_t search_texel(int x, int y, Searcher& searcher) const;
    void collect(int x, int y, Searcher& searcher) const;
    double look(uint32_t texel, Searcher& searcher) const;
    double error_of(long first, long n, Searcher& searcher, bool for_backward) const;
    double try_step(int feature, float step, Searcher& searcher) const;

    const Shape shape_;
    const nt_material& material_;
    Network network_;
    std::vector<Stored> sources_;
    float* const parameters_;
    const std::vector<float> channel_weights_, lod_weights_;
    const Grid& grid_;
    const int grid_index_;
    const Level level_;
    std::vector<Lod> lods_;
};

}  // namespace nt
