// Block search: improves the end points and indices of blocks, as engine/torch/block_search.py does.
#pragma once

#include "level_search.h"

namespace nt {

// The search of blocks of a format. For each block, weights and then end points are tried in order of what the gradient
// of the squared error promises: one code up or down, against the gradient. What lowers the error stays. Blocks of several
// planes in one place follow one another; the promises of all are of before the first.
template <class Format>
class BlockSearch : public LevelSearch {
  public:
    using LevelSearch::LevelSearch;

  protected:
    int64_t search_unit(int x, int y, Searcher& searcher) const override;

  private:
    using Kind = Blocks<Format, 1>;
    struct Block;
    struct Step;

    Block block_of(int plane, uint32_t block, const Searcher& searcher) const;
    int64_t search_block(int plane, uint32_t block, Searcher& searcher) const;
    void take(int plane, const Step& step, Searcher& searcher) const;
    bool try_step(int plane, const Step& step, Searcher& searcher) const;
};

}  // namespace nt
