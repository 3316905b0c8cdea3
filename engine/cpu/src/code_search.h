// Better codes for a trained model: each texel of a grid level takes the steps that lower the error around it.
#pragma once

#include <vector>

#include "network.h"
#include "nt.h"
#include "shape.h"
#include "texels.h"

namespace nt {

// One level of one grid, and the texels of the material that read it.
//
// A sweep goes through the texels in classes, none of whose members reach the same texel of the material, so they can
// be looked at in any order and by any thread with the same result. Of each texel the features are tried that the
// gradient of the squared error names first, one code up or down as it says; what lowers the error stays.
class CodeSearch {
  public:
    CodeSearch(const nt_model& model, const nt_material& material, float* const* parameters, const float* weights,
               const float* channel_weights, const float* lod_weights, int grid, int level);

    // Returns how many codes have changed.
    int64_t sweep(int n_threads);

  private:
    // Columns (or rows) of a LOD by the cell between two texels of the level that their centres lie in.
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
